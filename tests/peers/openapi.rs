//! docs/openapi.yaml is held against what `paidup api` answers and `paidup notify` sends, by a validator that is not
//! ours, both ways: each answer is as documented, and each documented answer is seen.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::fake_stripe::{FakeStripe, Fault, KEY, Target};
use crate::harness::receiver::{Receiver, Reply};
use crate::harness::{Answer, SECRET, Service, Setup, ask, eventually};
use crate::tools;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const NOTIFY_KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[test]
fn the_openapi_file_says_what_the_api_answers_and_nothing_else() {
    let stripe = FakeStripe::start();
    let receiver = Receiver::start(|_| Reply::Status(204));
    let setup = Setup::new()
        .set("API_ADDR", "127.0.0.1:0")
        .set("API_TOKEN", TOKEN)
        .set("STRIPE_SECRET_KEY", KEY)
        .set("STRIPE_API_BASE", &stripe.base())
        .set("STRIPE_API_TIMEOUT_SECONDS", "2")
        .set("CHECKOUT_SUCCESS_URL", "https://shop.example/thanks")
        .set("NOTIFY_URL", &receiver.url())
        .set("NOTIFY_SECRET", NOTIFY_KEY);
    let serve = setup.start();
    let _notify = setup.start_with(&["notify"]);
    let mut shop = Shop {
        api: setup.start_with(&["api"]),
        answers: Vec::new(),
    };

    let made = shop.post(&coffee("ord_1"), 201).json();
    shop.post(&coffee("ord_1"), 200);
    let target = Target {
        address: serve.edge,
        path: "/stripe/webhook".to_owned(),
        secret: SECRET.to_owned(),
    };
    let session = made["stripeSessionId"].as_str().unwrap();
    stripe.pay(session);
    stripe.refund(session, Some(500));
    stripe.open_dispute(session);
    stripe.pay(&stripe.create_session("ord_2", 900));
    stripe.deliver_all(&target).unwrap();
    for (route, path, status) in [
        ("/orders/{id}", "/orders/ord_1", 200),
        ("/orders/{id}", "/orders/ord_2?refresh=1", 200),
        ("/orders/{id}", "/orders/nobody", 404),
        ("/orders/{id}", "/orders/ord_1?page=2", 400),
        ("/orders", "/orders", 200),
        ("/orders", "/orders?status=paid&limit=1", 200),
        ("/orders", "/orders?reference=cart_7", 200),
        ("/orders", "/orders?limit=0", 400),
        ("/healthz", "/healthz", 200),
        ("/metrics", "/metrics", 200),
    ] {
        shop.get(route, path, status);
    }
    shop.post(&json!({"lineItems": []}), 400);
    let mut other = coffee("ord_1");
    other["lineItems"][0]["quantity"] = json!(3);
    shop.post(&other, 409);
    shop.post(
        &json!({"orderId": "ord_3", "lineItems": [{"price": "price_none", "quantity": 1}]}),
        422,
    );
    for (fault, status) in [
        (Fault::Status(401), 502),
        (Fault::Status(403), 502),
        (Fault::Status(429), 503),
        (Fault::Hang, 504),
    ] {
        stripe.fault(20, fault);
        shop.post(&coffee("ord_4"), status);
        if status == 503 {
            shop.get("/orders/{id}", "/orders/ord_1?refresh=1", 200);
        }
        stripe.heal();
    }
    let head = "POST /orders HTTP/1.1\r\nHost: localhost\r\n";
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    shop.tell("POST", "/orders", &format!("{head}{token}\r\n"), 411);
    let large = format!("{head}{token}Content-Length: 99999999\r\n\r\n");
    shop.tell("POST", "/orders", &large, 413);
    for (route, path) in [("/orders", "/orders"), ("/orders/{id}", "/orders/ord_1")] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        shop.tell("GET", route, &request, 401);
    }
    let wrong = format!("{head}Authorization: Bearer nobody\r\nContent-Length: 2\r\n\r\n{{}}");
    shop.tell("POST", "/orders", &wrong, 401);
    for _ in 0..12 {
        ask(shop.api.edge, &wrong);
    }
    shop.tell("POST", "/orders", &wrong, 429);
    eventually("the shop has heard", || receiver.shop.heard().len() >= 2);
    // Nothing of the database can be opened any more.
    std::fs::rename(setup.database(), setup.folder().join("away")).unwrap();
    shop.get("/orders", "/orders", 503);
    shop.get("/orders/{id}", "/orders/ord_1", 503);

    let messages = receiver.shop.heard().into_iter();
    let messages = messages.map(|heard| json!({"kind": "message", "body": heard.json()}));
    let lines: Vec<String> = shop
        .answers
        .into_iter()
        .chain(messages)
        .map(|it| it.to_string())
        .collect();
    let verdict = validate(&lines.join("\n"));
    assert_eq!(verdict["problems"], json!([]), "{verdict:#}");
    eprintln!(
        "{} answers and messages, {} kinds",
        lines.len(),
        verdict["seen"].as_array().unwrap().len()
    );

    // What is not documented is told, so the verdict above means something.
    let odd = json!({"kind": "answer", "method": "GET", "route": "/healthz", "status": 200, "body": "{\"status\":\"ok\",\"x\":1}"});
    let verdict = validate(&odd.to_string());
    let problems = verdict["problems"].to_string();
    assert!(
        problems.contains("'x' was unexpected") && problems.contains("was never seen"),
        "{problems}"
    );
}

pub(crate) fn validate(lines: &str) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = tools::pypi("openapi-spec-validator", "0.9.0");
    let mut python = Command::new("python3");
    python
        .arg(root.join("tests/peers/openapi.py"))
        .arg(root.join("docs/openapi.yaml"))
        .env("PYTHONPATH", library);
    let output = tools::run(python, lines);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

struct Shop {
    api: Service,
    answers: Vec<Value>,
}

impl Shop {
    fn post(&mut self, order: &Value, status: u16) -> Answer {
        let body = order.to_string();
        let request = format!(
            "POST /orders HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.tell("POST", "/orders", &request, status)
    }

    fn get(&mut self, route: &str, path: &str, status: u16) -> Answer {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        );
        self.tell("GET", route, &request, status)
    }

    fn tell(&mut self, method: &str, route: &str, request: &str, status: u16) -> Answer {
        let answer = ask(self.api.edge, request);
        assert_eq!(answer.status, status, "{request}: {answer:?}");
        if status >= 400 {
            let line = self.api.line_of(answer.request_id());
            assert_eq!(answer.json()["errorCode"], line["errorCode"], "{line}");
        }
        let (body, route) = (&answer.body, route);
        self.answers.push(json!({"kind": "answer", "method": method, "route": route, "status": status, "body": body}));
        answer
    }
}

fn coffee(order: &str) -> Value {
    json!({"orderId": order,
        "lineItems": [{"name": "Coffee", "amount": 1250, "currency": "eur", "quantity": 2}]})
}
