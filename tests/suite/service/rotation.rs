//! A signing secret is rotated as the runbook says, and no valid delivery is refused.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

use paidup::truth::order::Status;
use rustix::fs::OFlags;
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::harness::{Answer, PATIENCE, Service, Setup, eventually, paid, post, sign};
use crate::hints;

const OLD: &str = "whsec_old_secret_of_the_endpoint";
const NEW: &str = "whsec_new_secret_of_the_endpoint";

/// A test that has no terminal must not get this one.
const NO_CONTROLLING_TERMINAL: i32 = OFlags::NOCTTY.bits().cast_signed();

/// What Stripe signs with: the old secret, both during a roll with an overlap, then the new one.
/// <https://docs.stripe.com/webhooks/signatures>
const PHASES: [&[&str]; 3] = [&[OLD], &[OLD, NEW], &[NEW]];

#[test]
fn a_rotation_under_load_refuses_no_valid_delivery() {
    let shop = Shop::new(&format!(
        "LISTEN_ADDR=127.0.0.1:0\nSTRIPE_WEBHOOK_SECRET={OLD}\n"
    ));
    let mut service = shop.start();
    // Where it is from now on, also after a restart.
    let edge = service.edge;
    let text = shop.text().replace("127.0.0.1:0", &edge.to_string());
    fs::write(shop.env_file(), text).unwrap();
    let stripe = Stripe::start(edge);
    stripe.is_served();

    // Dashboard → Roll secret, with an overlap.
    stripe.sign_as(1);
    let (code, said) = shop.add(NEW);
    assert!(code == 0 && said.contains("number 2 of 2"), "{said}");
    assert!(
        said.contains(
            "Next: `sudo systemctl reload paidup`, then `sudo paidup rotate verify --env-file "
        ),
        "{said}"
    );
    stripe.is_served();
    let (code, said) = shop.rotate("verify");
    assert!(
        code == 1 && said.contains("secret 1 of 2: accepted"),
        "{said}"
    );
    assert!(said.contains("secret 2 of 2: REFUSED"), "{said}");
    assert_eq!(
        shop.rotate("finish").0,
        1,
        "not while the server does not know the new one"
    );
    shop.restart(&mut service);
    let (code, said) = shop.rotate("verify");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("secret 2 of 2: accepted"), "{said}");
    stripe.is_served();

    // The old one has expired.
    stripe.sign_as(2);
    stripe.is_served();
    let (code, said) = shop.rotate("finish");
    assert!(code == 0 && said.contains("1 older one dropped"), "{said}");
    shop.restart(&mut service);
    stripe.is_served();
    let (code, said) = shop.rotate("verify");
    assert!(
        code == 0 && said.contains("secret 1 of 1: accepted"),
        "{said}"
    );

    let delivered = stripe.stop();
    for name in 0..delivered {
        assert_eq!(
            service.status_of(&format!("ord_{name}")),
            Some(Status::Paid),
            "{name}"
        );
    }
    let orders = service.store().orders(None, u32::MAX).unwrap();
    assert_eq!(
        orders.len(),
        delivered,
        "the tests of the secrets made no order"
    );
    let body = paid("late");
    let old = service.post(
        &[("Stripe-Signature", &sign(OLD, body.as_bytes(), 0))],
        body,
    );
    assert_eq!(old.status, 400, "the old one is gone");
    let shown = String::from_utf8(service.written()).unwrap();
    assert!(!shown.contains(OLD) && !shown.contains(NEW));
}

#[test]
fn a_secret_that_is_pasted_into_a_terminal_is_not_shown() {
    let shop = Shop::new(&format!("STRIPE_WEBHOOK_SECRET={OLD}\n"));
    let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&keyboard).unwrap();
    unlockpt(&keyboard).unwrap();
    let terminal = ptsname(&keyboard, Vec::new()).unwrap();
    let terminal = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        options
            .custom_flags(NO_CONTROLLING_TERMINAL)
            .open(terminal.to_str().unwrap())
            .unwrap()
    };
    let env_file = shop.env_file();
    let words = ["rotate", "add", "--env-file", env_file.to_str().unwrap()];
    let mut command = shop.setup.command(&words);
    let screen = terminal();
    let mut child = command.stdin(terminal()).spawn().unwrap();
    let mut said = child.stderr.take().unwrap();
    let mut asked = [0; "New signing secret".len()];
    said.read_exact(&mut asked).unwrap();
    let mut keyboard = File::from(keyboard);
    keyboard.write_all(format!("{NEW}\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(shop.text().contains(NEW));
    // The terminal is as it was: what is typed now is shown, and nothing was before.
    keyboard.write_all(b"shown").unwrap();
    let mut shown = [0; "shown".len()];
    keyboard.read_exact(&mut shown).unwrap();
    assert_eq!(shown, *b"shown");
    drop(screen);
}

#[test]
fn everything_but_the_secret_stays_as_it_was() {
    let before = format!(
        "# the shop's own words, STRIPE_WEBHOOK_SECRET={OLD}\r\n\n  STRIPE_WEBHOOK_SECRET = \"{OLD}\"  \n\
         ; more\nLOG_LEVEL='info'\nno newline at the end=1"
    );
    let shop = Shop::new(&before);
    fs::set_permissions(shop.env_file(), fs::Permissions::from_mode(0o640)).unwrap();
    let after = before.replace(&format!(" \"{OLD}\"  "), &format!("{OLD},{NEW}"));
    for _ in 0..2 {
        let (code, said) = shop.add(NEW);
        assert_eq!(code, 0, "{said}");
        assert_eq!(shop.text(), after);
    }
    let mode = fs::metadata(shop.env_file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    let files = fs::read_dir(shop.setup.folder()).unwrap().count();
    assert_eq!(files, 1, "no copies of secrets");
}

#[test]
fn what_the_server_could_not_start_with_never_replaces_a_good_file() {
    let good = format!("STRIPE_WEBHOOK_SECRET={OLD}\n");
    let shop = Shop::new(&good);
    for (secret, why) in [
        ("", "empty"),
        ("sk_live_0123456789012345678901234567", "an API key"),
        ("whsec_short", "cut off"),
        ("whsec_with\"a quote in the middle of it", "quote"),
        (
            "whsec_first_one_0123456789,whsec_second_one_0123456789",
            "two",
        ),
        (
            "whsec_first_one_0123456789\nwhsec_second_one_0123456789",
            "two lines",
        ),
        ("whsec_$(reboot)_0123456789012345", "shell"),
        (
            "\u{feff}whsec_0123456789012345678901234567",
            "a mark of the clipboard",
        ),
    ] {
        let (code, said) = shop.add(secret);
        assert_eq!(code, 1, "{why}: {said}");
        assert!(said.contains("no signing secret"), "{why}: {said}");
        assert!(secret.is_empty() || !said.contains(secret), "{why}: {said}");
        assert_eq!(shop.text(), good);
    }
    for (text, code, words) in [
        (
            format!("{good}LOG_LEVEL=loud\n"),
            78,
            "has to be repaired first",
        ),
        (
            format!("STRIPE_WEBHOOK_SECRET={OLD}\\\n_more\n"),
            1,
            "cannot be changed safely",
        ),
        (
            "STRIPE_WEBHOOK_SECRET_FILE=%d/whsec\n".to_owned(),
            1,
            "--secret-file",
        ),
        (
            format!("{good}STRIPE_WEBHOOK_SECRET_FILE=/nowhere\n"),
            78,
            "/nowhere cannot be read",
        ),
    ] {
        fs::write(shop.env_file(), &text).unwrap();
        let (exit, said) = shop.add(NEW);
        assert_eq!(exit, code, "{text}: {said}");
        assert!(said.contains(words), "{text}: {said}");
        assert_eq!(shop.text(), text);
    }
    // The first one has nothing beside it.
    fs::write(shop.env_file(), "LOG_LEVEL=info\n").unwrap();
    let (code, said) = shop.add(NEW);
    assert!(code == 0 && said.contains("number 1 of 1"), "{said}");
    let first = format!("LOG_LEVEL=info\nSTRIPE_WEBHOOK_SECRET={NEW}\n");
    assert_eq!(shop.text(), first);
    let many: Vec<String> = (10..26).map(|n| format!("{OLD}_{n}")).collect();
    let full = format!("STRIPE_WEBHOOK_SECRET={}\n", many.join(","));
    fs::write(shop.env_file(), &full).unwrap();
    let (code, said) = shop.add(NEW);
    assert!(code == 78 && said.contains("would not start"), "{said}");
    assert_eq!(shop.text(), full);
}

#[test]
fn secrets_in_a_file_of_their_own_are_rotated_there() {
    let shop = Shop::new("");
    let whsec = shop.setup.folder().join("whsec");
    fs::write(&whsec, OLD).unwrap();
    let secret_file = ["--secret-file", whsec.to_str().unwrap()];
    for (text, words) in [
        (
            format!("STRIPE_WEBHOOK_SECRET_FILE={}\n", whsec.display()),
            &[][..],
        ),
        (
            "STRIPE_WEBHOOK_SECRET_FILE=%d/whsec\n".to_owned(),
            &secret_file[..],
        ),
        // The unit itself sets the variable.
        ("LOG_LEVEL=info\n".to_owned(), &secret_file[..]),
    ] {
        fs::write(shop.env_file(), &text).unwrap();
        fs::write(&whsec, OLD).unwrap();
        let (code, said) = shop.rotate_with("add", words, NEW);
        assert_eq!(code, 0, "{said}");
        assert_eq!(
            fs::read_to_string(&whsec).unwrap(),
            format!("{OLD}\n{NEW}\n")
        );
        assert_eq!(shop.text(), text);
    }
}

#[test]
fn a_unix_socket_is_asked_as_well() {
    let shop = Shop::new("");
    let socket = shop.setup.folder().join("http.sock");
    let text = format!(
        "LISTEN_ADDR=unix:{}\nSTRIPE_WEBHOOK_SECRET={OLD}\n",
        socket.display()
    );
    fs::write(shop.env_file(), text).unwrap();
    let (code, said) = shop.rotate("verify");
    assert!(
        code == 1 && said.contains("nobody answers at LISTEN_ADDR"),
        "{said}"
    );
    let env_file = shop.env_file();
    let words = ["serve", "--env-file", env_file.to_str().unwrap()];
    let mut server = shop.setup.command(&words).spawn().unwrap();
    eventually("the socket is there", || socket.exists());
    let (code, said) = shop.rotate("verify");
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!((code, said.as_str()), (0, "secret 1 of 1: accepted\n"));
}

/// `systemctl` is played by a script that writes down what it was asked.
#[test]
fn the_server_is_reloaded_and_asked_when_that_is_wished() {
    let shop = Shop::new(&format!("STRIPE_WEBHOOK_SECRET={OLD}\n"));
    let service = shop.start();
    fs::write(
        shop.env_file(),
        format!(
            "LISTEN_ADDR={}\nSTRIPE_WEBHOOK_SECRET={OLD}\n",
            service.edge
        ),
    )
    .unwrap();
    let script = shop.setup.folder().join("systemctl");
    let asked = shop.setup.folder().join("asked");
    for (exit, words) in [(1, "did not work"), (0, "secret 1 of 2: accepted")] {
        let text = format!(
            "#!/bin/sh\necho \"$@\" > {}\nexit {exit}\n",
            asked.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        // The server was not really started anew, so it refuses the new one, and that shows.
        let (code, said) = shop.rotate_with("add", &["--restart"], NEW);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(words), "{said}");
        assert_eq!(
            fs::read_to_string(&asked).unwrap(),
            "reload paidup.service\n"
        );
    }
}

// ── Helpers ──

struct Shop {
    setup: Setup,
}

impl Shop {
    fn new(env_file: &str) -> Shop {
        let setup = Setup::new();
        let path = format!("{}:/usr/bin:/bin", setup.folder().display());
        let shop = Shop {
            setup: setup.set("PATH", &path),
        };
        fs::write(shop.env_file(), env_file).unwrap();
        shop
    }

    fn env_file(&self) -> PathBuf {
        self.setup.folder().join("paidup.env")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.env_file()).unwrap()
    }

    fn start(&self) -> Service {
        let env_file = self.env_file();
        self.setup
            .start_with(&["serve", "--env-file", env_file.to_str().unwrap()])
    }

    fn restart(&self, service: &mut Service) {
        service.signal(Signal::TERM);
        assert!(service.wait().success());
        *service = self.start();
    }

    fn add(&self, secret: &str) -> (i32, String) {
        self.rotate_with("add", &[], secret)
    }

    fn rotate(&self, word: &str) -> (i32, String) {
        self.rotate_with(word, &[], "")
    }

    /// Runs `paidup rotate` and checks that it shows no secret.
    fn rotate_with(&self, word: &str, options: &[&str], input: &str) -> (i32, String) {
        let env_file = self.env_file();
        let words = ["rotate", word, "--env-file", env_file.to_str().unwrap()];
        let mut command = self.setup.command(&[&words, options].concat());
        let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
        // Who does not read it closes it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!said.contains(OLD) && !said.contains(NEW), "{said}");
        hints::paste(&said);
        (output.status.code().unwrap(), said)
    }
}

/// Delivers one event after another, each until it is taken, as Stripe does.
struct Stripe {
    phase: Arc<AtomicU8>,
    served: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Stripe {
    fn start(edge: SocketAddr) -> Stripe {
        let (phase, served): (Arc<AtomicU8>, Arc<AtomicUsize>) = Default::default();
        let is_over = Arc::new(AtomicBool::new(false));
        let parts = (
            Arc::clone(&phase),
            Arc::clone(&served),
            Arc::clone(&is_over),
        );
        let thread = thread::spawn(move || {
            let (phase, served, is_over) = parts;
            let began = Instant::now();
            while !is_over.load(SeqCst) {
                assert!(began.elapsed() < PATIENCE * 4);
                let body = paid(&served.load(SeqCst).to_string());
                let secrets = PHASES[usize::from(phase.load(SeqCst))];
                match deliver(edge, &body, secrets) {
                    Some(answer) => {
                        assert_eq!(answer.status, 200, "{answer:?}");
                        served.fetch_add(1, SeqCst);
                    }
                    // Between two servers; without systemd's socket that shows.
                    None => thread::yield_now(),
                }
            }
        });
        Stripe {
            phase,
            served,
            is_over,
            thread,
        }
    }

    /// From now on. What is under way was signed before.
    fn sign_as(&self, phase: u8) {
        self.phase.store(phase, SeqCst);
        self.is_served();
    }

    fn is_served(&self) {
        let target = self.served.load(SeqCst) + 20;
        eventually("deliveries are taken", || {
            assert!(!self.thread.is_finished(), "one was refused");
            self.served.load(SeqCst) >= target
        });
    }

    /// How many were delivered.
    fn stop(self) -> usize {
        self.is_over.store(true, SeqCst);
        self.thread.join().unwrap();
        self.served.load(SeqCst)
    }
}

/// `None` when the server is gone.
fn deliver(edge: SocketAddr, body: &str, secrets: &[&str]) -> Option<Answer> {
    let signature = signature(body, secrets);
    let mut stream = TcpStream::connect(edge).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = post(
        "/stripe/webhook",
        &[("Stripe-Signature", &signature)],
        body.as_bytes(),
    );
    let mut bytes = Vec::new();
    stream.write_all(&request).ok()?;
    stream.read_to_end(&mut bytes).ok()?;
    Answer::parse(&bytes)
}

/// `t=…,v1=…`, and one more v1 for each secret more, all of the same second.
fn signature(body: &str, secrets: &[&str]) -> String {
    let (first, more) = secrets.split_first().unwrap();
    loop {
        let mut header = sign(first, body.as_bytes(), 0);
        let time = header.split_once(',').unwrap().0.to_owned();
        let more = more.iter().map(|secret| sign(secret, body.as_bytes(), 0));
        for one in more {
            if let Some(v1) = one.strip_prefix(&time) {
                header += v1;
            }
        }
        if header.matches("v1=").count() == secrets.len() {
            return header;
        }
    }
}
