//! Stripe's official SDKs sign deliveries, and the server takes them.

use std::process::Command;

use paidup::truth::order::Status;

use crate::harness::{SECRET, Service, Setup, paid, post};
use crate::tools;

#[test]
fn what_the_official_node_sdk_signs_is_accepted() {
    let folder = tools::npm("stripe", "23.1.0");
    takes_what_is_signed(|body, secret| {
        let script = "
            const stripe = require('stripe')('sk_test_of_nobody');
            const payload = require('fs').readFileSync(0, 'utf8');
            const secret = process.env.SECRET;
            process.stdout.write(stripe.webhooks.generateTestHeaderString({ payload, secret }));
        ";
        let mut node = Command::new("node");
        node.args(["-e", script])
            .env("SECRET", secret)
            .current_dir(&folder);
        text_of(node, body)
    });
}

#[test]
fn what_the_official_python_sdk_signs_is_accepted() {
    let folder = tools::pypi("stripe", "16.1.0");
    takes_what_is_signed(|body, secret| {
        let script = "
import os, sys
from stripe import WebhookSignature
payload = sys.stdin.buffer.read().decode('utf-8')
sys.stdout.write(WebhookSignature.generate_signature_header(payload, os.environ['SECRET']))
";
        let mut python = Command::new("python3");
        python
            .args(["-c", script])
            .env("SECRET", secret)
            .env("PYTHONPATH", &folder);
        text_of(python, body)
    });
}

/// With the right secret, and not with another; text beyond ASCII included.
fn takes_what_is_signed(sign: impl Fn(&str, &str) -> String) {
    let service = Setup::new().start();
    for (name, order) in [("plain", "ord_plain"), ("text", "Café & thé 🫖")] {
        let body = paid(name).replace("ord_text", order);
        let refused = deliver(&service, &body, &sign(&body, "whsec_another"));
        assert_eq!(refused, 400);
        assert_eq!(service.status_of(order), None);
        assert_eq!(deliver(&service, &body, &sign(&body, SECRET)), 200);
        assert_eq!(service.status_of(order), Some(Status::Paid));
    }
}

fn deliver(service: &Service, body: &str, signature: &str) -> u16 {
    let headers = [("Stripe-Signature", signature)];
    service
        .ask(post("/stripe/webhook", &headers, body.as_bytes()))
        .status
}

fn text_of(command: Command, input: &str) -> String {
    let output = tools::run(command, input);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
