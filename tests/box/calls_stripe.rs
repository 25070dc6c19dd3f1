//! The units that call Stripe, in their sandbox: the database, the network and TLS work there.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};

use crate::fake_stripe::{FakeStripe, KEY};
use crate::load;
use crate::machine::{self, Machine, PATIENCE, said};
use crate::order_status;

pub(crate) const TOKEN: &str = "token_in_the_box_0123456789abcdefgh";

#[test]
fn lost_deliveries_are_fetched_by_the_nightly_comparison() {
    let machine = Machine::serving("reconcile", "");
    let stripe = machine.inside(FakeStripe::start).join().unwrap();
    let session = stripe.create_session("ord_1", 2500);
    stripe.pay(&session);
    machine.set(&format!(
        "STRIPE_WEBHOOK_SECRET={}\n{}",
        machine::SECRET,
        settings(&stripe.base())
    ));
    machine.does("systemctl start paidup-reconcile.service");
    assert_eq!(order_status(&machine, "ord_1"), "paid");
}

#[test]
fn the_shop_makes_an_order_through_the_unit() {
    let machine = Machine::serving("api", "");
    let stripe = machine.inside(FakeStripe::start).join().unwrap();
    machine.set(&format!(
        "STRIPE_WEBHOOK_SECRET={}\n{}",
        machine::SECRET,
        settings(&stripe.base())
    ));
    machine.does("systemctl enable --now paidup-api.service");
    let body = r#"{"orderId":"ord_1","lineItems":[{"name":"Coffee","amount":1250,"currency":"eur","quantity":2}]}"#;
    let request = format!(
        "POST /orders HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = machine.inside(move || load::ask("127.0.0.1:4244", request.as_bytes()));
    let answer = answer.join().unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(order_status(&machine, "ord_1"), "pending");
    in_a_container(&machine);
    // The webhook server was not told what it must not know.
    machine.does("systemctl restart paidup.service");
    let pid = machine.property("MainPID");
    let environment = machine.does(&format!("cat /proc/{pid}/environ"));
    assert!(!environment.contains(KEY) && !environment.contains(TOKEN));
}

/// A shop's back end in a container: other mounts, another user, no way to 127.0.0.1 of the machine, and the
/// folder of the socket mounted into it.
fn in_a_container(machine: &Machine) {
    let settings = fs::read_to_string(machine.path(machine::ENV_FILE)).unwrap();
    let unix = "API_ADDR=unix:/run/paidup-api/api.sock\nSOCKET_GROUP=paidup\n";
    fs::write(machine.path(machine::ENV_FILE), settings + unix).unwrap();
    machine.does("systemctl restart paidup-api.service");
    let group = machine.shell("getent group paidup | cut -d: -f3");
    let folder = machine.path("/run/paidup-api");
    let request = format!(
        "GET /orders/ord_1 HTTP/1.0\\r\\nHost: localhost\\r\\nAuthorization: Bearer {TOKEN}\\r\\n\\r\\n"
    );
    let script = format!(
        "mount --bind /run/paidup-api /mnt && exec setpriv --reuid=1234 --regid=1234 \"$1\" perl -MIO::Socket::UNIX -e \
         'my $s = IO::Socket::UNIX->new(Peer => \"/mnt/api.sock\") or die \"no way in: $!\\n\"; print $s \"{request}\"; \
         print while <$s>'"
    );
    fs::write(machine.path("/root/container"), script).unwrap();
    let ask = |groups: &str| {
        let unshare = "unshare --mount --net --pid --fork sh /root/container";
        said(&machine.tries(&format!("{unshare} {groups}")))
    };
    let told = ask(&format!("--groups={group}"));
    assert!(told.contains("\"orderId\":\"ord_1\""), "{told}");
    let refused = ask("--clear-groups");
    assert!(
        refused.contains("no way in: Permission denied"),
        "{refused}"
    );
    // The folder that a container has is still the one, after a restart.
    let before = fs::metadata(&folder).unwrap();
    machine.does("systemctl restart paidup-api.service");
    let after = fs::metadata(&folder).unwrap();
    assert_eq!(before.ino(), after.ino());
}

/// A server that cannot prove to be Stripe is not told the key: so the handshake was made.
#[test]
fn tls_works_in_the_sandbox() {
    let machine = Machine::serving("tls", "");
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("tls.pem");
    let pem = pem.to_str().unwrap();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ])
        .args([
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            pem,
            "-out",
        ])
        .arg(folder.path().join("certificate.pem"))
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    let both = [
        fs::read_to_string(pem).unwrap(),
        fs::read_to_string(folder.path().join("certificate.pem")).unwrap(),
    ];
    fs::write(pem, both.concat()).unwrap();
    let log = folder.path().join("log");
    let server = Ended(
        machine
            .command_in_its_network("openssl")
            .args([
                "s_server",
                "-accept",
                "127.0.0.1:8443",
                "-cert",
                pem,
                "-www",
                "-state",
            ])
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap(),
    );
    machine.until("the other end listens", || {
        machine
            .inside(|| std::net::TcpStream::connect("127.0.0.1:8443").is_ok())
            .join()
            .unwrap()
    });
    machine.set(&format!(
        "STRIPE_WEBHOOK_SECRET={}\n{}",
        machine::SECRET,
        settings("https://127.0.0.1:8443")
    ));
    assert!(
        !machine
            .tries("systemctl start paidup-reconcile.service")
            .status
            .success()
    );
    machine.until("it says why", || {
        machine
            .journal()
            .contains("no trustworthy encrypted connection")
    });
    let seen = fs::read_to_string(&log).unwrap();
    assert!(seen.contains("read client hello"), "{seen}");
    drop(server);
}

/// What the commands that call Stripe need.
pub(crate) fn settings(base: &str) -> String {
    let patience = PATIENCE.as_secs() / 4;
    format!(
        "STRIPE_SECRET_KEY={KEY}\nSTRIPE_API_BASE={base}\nSTRIPE_API_TIMEOUT_SECONDS={patience}\n\
         API_TOKEN={TOKEN}\nCHECKOUT_SUCCESS_URL=https://shop.example/thanks"
    )
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
