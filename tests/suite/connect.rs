//! `paidup connect`, the real binary, against the stand-in for Stripe.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use paidup::store::Store;
use paidup::truth::kind::wanted;
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fake_stripe::{FakeStripe, Fault, KEY};
use crate::harness::{Service, Setup, delivery, event, eventually, paid, post, sign};
use crate::hints;

const URL: &str = "https://shop.example.com/stripe/webhook";
const CREATE: &str = "POST /v1/webhook_endpoints";
const DELETE: &str = "DELETE /v1/webhook_endpoints/{id}";
const EVERY: [&str; 13] = [
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
    "charge.refunded",
    "refund.created",
    "refund.updated",
    "refund.failed",
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.closed",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
];

// ── A new endpoint ──────────────────────────────────────────────────────────────────────────────

#[test]
fn a_new_shop_gets_an_endpoint_and_a_server_that_verifies_what_it_delivers() {
    let shop = Shop::open("");
    let before = shop.text();
    let (code, shown) = shop.run(&["connect", "--dry-run"]);
    assert_eq!(code, 0, "{shown}");
    for expected in [
        URL,
        "test mode",
        "2026-10-28.endive",
        "charge.refunded",
        "STRIPE_MODE=test",
    ] {
        assert!(shown.contains(expected), "{expected} not in {shown}");
    }
    let (code, said) = shop.run(&["connect"]);
    assert!(code == 1 && said.contains("--yes"), "{said}");
    assert_eq!((shop.text(), shop.endpoints()), (before, vec![]));

    let said = shop.does(&["connect", "--yes"]);
    let [endpoint] = &shop.endpoints()[..] else {
        panic!("{said}");
    };
    assert_eq!(endpoint["url"], URL);
    assert_eq!(endpoint["api_version"], "2026-10-28.endive");
    assert_eq!(endpoint["enabled_events"], json!(wanted()));
    assert!(said.contains(endpoint["id"].as_str().unwrap()), "{said}");
    assert!(said.contains("a restricted key is enough"), "{said}");
    let secret = shop.stripe.secret_of(endpoint["id"].as_str().unwrap());
    let text = shop.text();
    assert!(
        text.contains(&format!("\nSTRIPE_WEBHOOK_SECRET={secret}\n")),
        "{text}"
    );
    assert!(text.contains("\nSTRIPE_MODE=test\n"), "{text}");
    assert!(text.contains("# a comment\n"), "{text}");

    let service = shop.serve();
    assert_eq!(deliver(&service, &secret, "1"), 200);
    let doctor = shop.run(&["doctor"]).1;
    assert!(
        doctor.contains("has every event that is needed"),
        "{doctor}"
    );
    assert!(!doctor.contains("PROBLEM  endpoint"), "{doctor}");

    // Once more: there is nothing to do.
    let said = shop.does(&["connect"]);
    assert!(said.contains("has every event that is needed"), "{said}");
    assert_eq!(shop.endpoints().len(), 1);
}

#[test]
fn a_key_that_is_typed_is_used_once_and_neither_shown_nor_stored() {
    let shop = Shop::open("");
    let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&keyboard).unwrap();
    unlockpt(&keyboard).unwrap();
    let name = ptsname(&keyboard, Vec::new()).unwrap();
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options.custom_flags(OFlags::NOCTTY.bits().cast_signed());
    let terminal = options.open(name.to_str().unwrap()).unwrap();
    let mut command = shop.command(&["connect"]);
    command.env_remove("STRIPE_SECRET_KEY").stdin(terminal);
    let mut child = command.spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let mut asks = |question: &str| {
        let mut asked = vec![0; question.len()];
        stderr.read_exact(&mut asked).unwrap();
        assert_eq!(String::from_utf8(asked).unwrap(), question);
    };
    let mut keyboard = File::from(keyboard);
    asks("Stripe key with Webhook Endpoints: Write (not shown, not stored; Enter ends it): ");
    writeln!(keyboard, "{KEY}").unwrap();
    asks("\nDo it? [y/N] ");
    assert_eq!(shop.endpoints(), Vec::<Value>::new());
    keyboard.write_all(b"y\n").unwrap();
    let said = said(&child.wait_with_output().unwrap());
    assert!(said.contains("The key was not stored"), "{said}");
    assert_eq!(shop.endpoints().len(), 1);
    assert!(
        !said.contains("sk_test") && !shop.text().contains("sk_test"),
        "{said}"
    );
}

#[test]
fn an_answer_that_is_cut_off_makes_one_endpoint_all_the_same() {
    let shop = Shop::open("");
    shop.stripe.fault_of(CREATE, 1, Fault::Cut);
    shop.does(&["connect", "--yes"]);
    let [endpoint] = &shop.endpoints()[..] else {
        panic!("{:?}", shop.endpoints());
    };
    let secret = shop.stripe.secret_of(endpoint["id"].as_str().unwrap());
    assert!(shop.text().contains(&secret));
}

#[test]
fn a_credential_gets_the_secret() {
    let shop = Shop::open("");
    let credential = shop.folder.path().join("webhook_secret");
    fs::write(&credential, "").unwrap();
    let name = credential.to_str().unwrap();
    fs::write(
        shop.env_file(),
        shop.text() + &format!("STRIPE_WEBHOOK_SECRET_FILE={name}\n"),
    )
    .unwrap();
    shop.does(&["connect", "--yes"]);
    let id = shop.endpoints()[0]["id"].as_str().unwrap().to_owned();
    let secret = shop.stripe.secret_of(&id);
    assert_eq!(
        fs::read_to_string(&credential).unwrap(),
        format!("{secret}\n")
    );
    assert!(!shop.text().contains(&secret));
}

// ── An endpoint that is there ───────────────────────────────────────────────────────────────────

#[test]
fn an_endpoint_gets_the_events_that_doctor_misses_and_keeps_its_own() {
    let lacking = [
        "charge.refunded",
        "refund.created",
        "invoice.paid",
        "charge.captured",
    ];
    let has: Vec<&str> = EVERY
        .iter()
        .copied()
        .filter(|kind| !lacking.contains(kind))
        .collect();
    for (has, subscribes, is_enabled) in [
        (&EVERY[..], false, true),
        (&EVERY[..], true, true),
        (&has[..], false, false),
        (&has[..], true, true),
        (&["*"], true, true),
        (&["charge.refunded"], true, true),
    ] {
        let shop = Shop::open("STRIPE_WEBHOOK_SECRET=whsec_that_is_known_already\n");
        let events = [has, &["customer.created"]].concat();
        let id = shop.stripe.add_endpoint(URL, &events);
        if !is_enabled {
            shop.stripe.change(&id, json!({"status": "disabled"}));
        }
        let session = shop.stripe.create_session("ord_1", 2500);
        match subscribes {
            true => drop(shop.stripe.subscribe(&session)),
            false => shop.stripe.pay(&session),
        }
        let missing = shop.missing_says_doctor();
        let (code, said) = shop.run(&["connect", "--yes"]);
        assert_eq!(code, 0, "{said}");
        let endpoint = shop.stripe.object(&id);
        let enabled: Vec<String> =
            serde_json::from_value(endpoint["enabled_events"].clone()).unwrap();
        assert_eq!(enabled[..events.len()], events[..]);
        assert_eq!(enabled[events.len()..], missing[..], "{said}");
        assert_eq!(endpoint["status"], "enabled");
        assert_eq!(shop.endpoints().len(), 1);
        assert!(shop.missing_says_doctor().is_empty());
        assert_eq!(
            missing.is_empty() && is_enabled,
            said.contains("every event that is needed"),
            "{said}"
        );
        assert_eq!(
            missing.is_empty(),
            has.len() == 13 && !subscribes || has == ["*"]
        );
    }
}

#[test]
fn an_endpoint_whose_secret_nobody_has_is_named_with_the_ways_out() {
    let shop = Shop::open("");
    let old = shop.stripe.add_endpoint(URL, &["*"]);
    let (code, said) = shop.run(&["connect", "--yes"]);
    assert_eq!(code, 1, "{said}");
    for expected in [
        &*old,
        "has no signing secret",
        "connect --roll",
        "rotate add",
    ] {
        assert!(said.contains(expected), "{expected} not in {said}");
    }
    assert_eq!(shop.endpoints().len(), 1);
}

#[test]
fn a_roll_replaces_the_endpoint_and_refuses_no_delivery() {
    const OLD: &str = "whsec_old_secret_of_the_endpoint";
    let shop = Shop::open(&format!("STRIPE_WEBHOOK_SECRET={OLD}\n"));
    let old = shop
        .stripe
        .add_endpoint(URL, &[&EVERY[..], &["customer.created"]].concat());
    let mut service = shop.serve();
    let mut roll = shop
        .command(&["connect", "--roll", "--yes"])
        .spawn()
        .unwrap();
    eventually("there is a second endpoint", || {
        shop.endpoints().len() == 2 && shop.text().contains("FakeCanary")
    });
    let new = shop.endpoints()[0]["id"].as_str().unwrap().to_owned();
    let secret = shop.stripe.secret_of(&new);
    assert!(
        shop.text().contains(&format!("{OLD},{secret}")),
        "{}",
        shop.text()
    );
    // Not before the server knows the new one.
    assert_eq!(deliver(&service, OLD, "1"), 200);
    thread::sleep(Duration::from_millis(1200));
    assert!(roll.try_wait().unwrap().is_none());
    assert_eq!(shop.endpoints().len(), 2);

    service.kill();
    let service = shop.serve();
    let said = said(&roll.wait_with_output().unwrap());
    assert!(!said.contains("Canary"), "{said}");
    assert!(said.contains("accepts the new secret"), "{said}");
    assert!(said.contains("reconcile --since 3d"), "{said}");
    let [endpoint] = &shop.endpoints()[..] else {
        panic!("{said}");
    };
    assert!(said.contains(&format!("deleted {old}")), "{said}");
    assert_eq!(endpoint["id"], *new);
    let events = endpoint["enabled_events"].as_array().unwrap();
    assert!(events.contains(&json!("customer.created")), "{endpoint}");
    for (secret, name) in [(OLD, "2"), (&secret, "3")] {
        assert_eq!(deliver(&service, secret, name), 200);
    }
    let (code, said) = shop.run(&["rotate", "finish"]);
    assert!(code == 0 && said.contains("1 older one dropped"), "{said}");
}

// ── What goes wrong ─────────────────────────────────────────────────────────────────────────────

#[test]
fn an_endpoint_whose_secret_cannot_be_stored_is_deleted_again() {
    for is_stuck in [false, true] {
        let shop = Shop::open("");
        shop.stripe
            .fault_of(CREATE, 1, Fault::Slow(Duration::from_secs(1)));
        if is_stuck {
            shop.stripe.fault_of(DELETE, 9, Fault::Status(403));
        }
        let child = shop.command(&["connect", "--yes"]).spawn().unwrap();
        eventually("Stripe is asked", || {
            shop.stripe
                .requests()
                .iter()
                .any(|request| request.call() == CREATE)
        });
        // Where the new file is written before it takes the place of the old one.
        fs::create_dir(shop.folder.path().join("paidup.env.new")).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("was left as it is"), "{said}");
        assert!(!said.contains("Canary"), "{said}");
        match shop.endpoints().first() {
            Some(endpoint) => {
                let id = endpoint["id"].as_str().unwrap();
                let expected = format!("Dashboard → Webhooks → {id} → Delete");
                assert!(is_stuck && said.contains(&expected), "{said}");
            }
            None => assert!(!is_stuck && said.contains("deleted again"), "{said}"),
        }
        assert!(!shop.text().contains("whsec_"), "{}", shop.text());
    }
}

#[test]
fn a_file_that_cannot_be_changed_keeps_stripe_from_being_asked() {
    let shop = Shop::open("");
    fs::create_dir(shop.folder.path().join("paidup.env.new")).unwrap();
    let (code, said) = shop.run(&["connect", "--yes"]);
    assert!(code == 1 && said.contains("was left as it is"), "{said}");
    assert_eq!(shop.endpoints(), Vec::<Value>::new());
    assert!(
        !shop
            .stripe
            .requests()
            .iter()
            .any(|request| request.call() == CREATE)
    );
}

#[test]
fn test_and_live_are_told_apart_by_name() {
    let shop = Shop::open("STRIPE_MODE=live\n");
    let (code, said) = shop.run(&["connect", "--yes"]);
    assert!(code == 78 && said.contains("STRIPE_MODE is live"), "{said}");
    let shop = Shop::open("");
    let service = Setup::new()
        .set("DATABASE_PATH", shop.database().to_str().unwrap())
        .start();
    let live = paid("1").replace("\"livemode\":false", "\"livemode\":true");
    assert_eq!(service.ask(delivery(live)).status, 200);
    drop(service);
    let (code, said) = shop.run(&["connect", "--yes"]);
    assert!(
        code == 78 && said.contains("the database is of live mode"),
        "{said}"
    );
    assert_eq!(shop.stripe.requests().len(), 0);
}

#[test]
fn each_refusal_says_what_to_do() {
    let shop = Shop::open("");
    shop.stripe.take_permission("rak_webhook_write");
    let (code, said) = shop.run(&["connect", "--yes"]);
    assert!(
        code == 1 && said.contains("tick Webhook Endpoints: Write"),
        "{said}"
    );

    let shop = Shop::open("");
    for number in 0..16 {
        shop.stripe
            .add_endpoint(&format!("https://other{number}.example.com/"), &["*"]);
    }
    let (code, said) = shop.run(&["connect", "--yes"]);
    assert!(
        code == 1 && said.contains("16 endpoints in test mode"),
        "{said}"
    );

    let shop = Shop::open("");
    shop.stripe.fault_of(CREATE, 9, Fault::Cut);
    let (code, said) = shop.run(&["connect", "--yes"]);
    assert!(
        code == 1 && said.contains("may have been made all the same"),
        "{said}"
    );
    assert!(!said.contains("Canary"), "{said}");

    let shop = Shop::open("");
    fs::write(
        shop.env_file(),
        shop.text().replace("PUBLIC_URL=", "#PUBLIC_URL="),
    )
    .unwrap();
    let (code, said) = shop.run(&["connect", "--yes"]);
    assert!(
        code == 78 && said.contains("PUBLIC_URL is not set"),
        "{said}"
    );
}

// ── The shop ────────────────────────────────────────────────────────────────────────────────────

/// An environment file, and an account of the stand-in.
struct Shop {
    stripe: FakeStripe,
    folder: TempDir,
}

impl Shop {
    /// `more` are lines for the environment file.
    fn open(more: &str) -> Shop {
        let shop = Shop {
            stripe: FakeStripe::start(),
            folder: tempfile::tempdir().unwrap(),
        };
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = address.local_addr().unwrap();
        let (database, base) = (shop.database(), shop.stripe.base());
        let text = format!(
            "# a comment\nDATABASE_PATH={}\nLISTEN_ADDR={address}\nADMIN_ADDR=off\nPUBLIC_URL=https://shop.example.com\n\
             STRIPE_API_BASE={base}\nSTRIPE_API_TIMEOUT_SECONDS=10\n{more}",
            database.display()
        );
        fs::write(shop.env_file(), text).unwrap();
        shop
    }

    fn env_file(&self) -> PathBuf {
        self.folder.path().join("paidup.env")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.env_file()).unwrap()
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("paidup.db")
    }

    fn endpoints(&self) -> Vec<Value> {
        self.stripe.objects("webhook_endpoint")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paidup"));
        command
            .args(words)
            .arg("--env-file")
            .arg(self.env_file())
            .env_clear()
            .env("STRIPE_SECRET_KEY", KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, words: &[&str]) -> (i32, String) {
        let output = self.command(words).output().unwrap();
        (output.status.code().unwrap(), said(&output))
    }

    /// Must succeed, and shows no secret.
    fn does(&self, words: &[&str]) -> String {
        let (code, said) = self.run(words);
        assert_eq!(code, 0, "{said}");
        assert!(!said.contains("Canary"), "{said}");
        said
    }

    /// A server with the variables of the file.
    fn serve(&self) -> Service {
        let file = self.env_file();
        let words = ["serve", "--env-file", file.to_str().unwrap()];
        Setup::new().start_with(&words)
    }

    /// The events that `paidup doctor` names, in its order.
    fn missing_says_doctor(&self) -> Vec<String> {
        if !self.database().exists() {
            drop(Store::open(&self.database()).unwrap());
        }
        let told = self.run(&["doctor", "--json"]).1;
        let findings = told.lines().flat_map(serde_json::from_str::<Value>);
        let mut missing = Vec::new();
        for finding in findings.filter(|one| one["subject"] == "subscription") {
            let what = finding["what"].as_str().unwrap();
            let types = what.strip_prefix("the endpoint does not have ");
            missing.extend(
                types
                    .iter()
                    .flat_map(|types| types.split(", "))
                    .map(str::to_owned),
            );
        }
        missing
    }
}

fn deliver(service: &Service, secret: &str, name: &str) -> u16 {
    let body = event(name);
    let headers = [("Stripe-Signature", &*sign(secret, body.as_bytes(), 0))];
    service
        .ask(post("/stripe/webhook", &headers, body.as_bytes()))
        .status
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    let both = String::from_utf8(both).unwrap();
    hints::paste(&both);
    both
}
