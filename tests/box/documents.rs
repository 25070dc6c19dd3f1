//! Every command that the documents show is run, as root on a machine where paidup is installed.

use crate::documented::{self, ELSEWHERE, TYPED};
use crate::fake_stripe::{FakeStripe, Target};
use crate::load::{EDGE, send};
use crate::machine::{self, Machine};
use crate::{calls_stripe, order_status};

#[test]
fn every_command_of_the_documents_does_what_it_says() {
    documented::compare();
    let machine = Machine::serving("documents", "");
    let stripe = machine.inside(FakeStripe::start).join().unwrap();
    stripe.add_endpoint("https://shop.example.com/stripe/webhook", &["*"]);
    let settings = calls_stripe::settings(&stripe.base());
    let public = "PUBLIC_URL=https://shop.example.com";
    machine.set(&format!(
        "STRIPE_WEBHOOK_SECRET={}\n{settings}\n{public}",
        machine::SECRET
    ));
    machine.does("systemctl restart paidup.service");
    let stripe = pay(&machine, stripe);
    // More than a minute's worth: the last of them are 429.
    let forged = b"POST /stripe/webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
    let burst = machine.inside(move || {
        (0..120)
            .filter(|_| send(EDGE, forged).unwrap() == 429)
            .count()
    });
    assert!(burst.join().unwrap() > 0);
    machine.does("systemctl restart paidup.service");

    for (text, typed) in TYPED {
        run(&machine, text, typed);
    }
    assert_eq!(order_status(&machine, "ord_1"), "paid");
    drop(stripe);
    eprintln!("{} commands, {} elsewhere", TYPED.len(), ELSEWHERE.len());
}

fn pay(machine: &Machine, stripe: FakeStripe) -> FakeStripe {
    let target = Target {
        address: EDGE.parse().unwrap(),
        path: "/stripe/webhook".to_owned(),
        secret: machine::SECRET.to_owned(),
    };
    let paid = machine.inside(move || {
        let session = stripe.create_session("ord_1", 2500);
        stripe.pay(&session);
        assert!(
            stripe
                .deliver_all(&target)
                .unwrap()
                .iter()
                .all(|status| *status == 200)
        );
        stripe
    });
    paid.join().unwrap()
}

fn run(machine: &Machine, text: &str, typed: &str) {
    let typed = if typed.is_empty() { text } else { typed };
    let mut line = typed
        .strip_prefix("sudo ")
        .unwrap_or(typed)
        .replace("[--since 3d]", "--since 3d");
    line = line
        .replace("show ID", "show ord_1")
        .replace("--order ID", "--order ord_1");
    line = line
        .replace("restore FILE", "restore /root/two.db")
        .replace("FILE", machine::ENV_FILE);
    let output = if line.starts_with("curl") {
        let mut shell = machine.command_in_its_network("sh");
        shell.args(["-c", &line.replace("curl", "curl --fail-with-body -sS")]);
        shell
            .env("API_TOKEN", calls_stripe::TOKEN)
            .output()
            .unwrap()
    } else {
        machine.tries_in_shell(&line)
    };
    let code = output.status.code().unwrap();
    // The doctor's job is to find something, such as events that nobody delivered.
    let is_well = code == 0 || text.starts_with("paidup doctor") && code == 3;
    assert!(is_well, "{line}\nexit {code}\n{}", machine::said(&output));
}
