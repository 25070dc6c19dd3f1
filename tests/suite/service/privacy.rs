//! What a request holds of a person or of a secret is in no byte that the process writes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Answer, SECRET, Service, Setup, ask, changed, delivery, paid, post, sign};

/// A person's data and credentials, each of which must not be found anywhere.
const CANARIES: [&str; 8] = [
    "ada.lovelace@example.com",
    "Ada-Lovelace-Canary",
    "4242424242424242",
    "tok_canary1234567890",
    "session-cookie-canary",
    "Bearer-canary-0987654321",
    "sk_live_canary51H",
    SECRET,
];

/// The only keys that a line may have.
const KEYS: [&str; 9] = [
    "time",
    "level",
    "message",
    "requestId",
    "orderId",
    "stripeSessionId",
    "stripeEventId",
    "status",
    "errorCode",
];

#[test]
fn no_part_of_a_request_is_written_anywhere() {
    for level in ["info", "debug"] {
        // A stranger's X-Request-Id is not taken, however plain it is.
        let setup = Setup::new()
            .set("LOG_LEVEL", level)
            .set("TRUSTED_PROXIES", "none");
        let mut service = setup.start();
        let mut answers = Vec::new();
        for canary in CANARIES {
            answers.extend(in_the_request(&service, canary));
            answers.extend(in_the_headers(&service, canary));
            answers.extend(in_the_body(&service, canary));
        }
        for answer in &answers {
            assert!(!has_canary(answer.body.as_bytes()), "{answer:?}");
        }
        service.signal(rustix::process::Signal::TERM);
        assert!(service.wait().success());
        assert_no_canary("the process", &service.written());
        assert_only_known_keys(&service.log());
        for file in std::fs::read_dir(setup.folder()).unwrap().flatten() {
            let bytes = std::fs::read(file.path()).unwrap();
            assert_no_canary(&file.path().display().to_string(), &bytes);
        }
    }
}

#[test]
fn not_even_a_trusted_proxy_puts_a_person_into_the_log() {
    let mut service = Setup::new().start();
    for id in [
        "ada.lovelace@example.com",
        "Ada Lovelace 1815",
        "4242 4242 4242 4242",
        "ada",
    ] {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: {id}\r\n\r\n");
        assert_ne!(service.ask(request).request_id(), id);
    }
    service.kill();
    service.wait();
    let written = String::from_utf8(service.written()).unwrap();
    assert!(!written.contains("ovelace") && !written.contains("4242 "));
}

#[test]
fn nothing_personal_is_in_the_files_of_a_server_that_runs() {
    let setup = Setup::new();
    let service = setup.start();
    for canary in CANARIES {
        in_the_body(&service, canary);
    }
    let files: Vec<_> = std::fs::read_dir(setup.folder())
        .unwrap()
        .flatten()
        .collect();
    assert!(
        files.len() >= 3,
        "the file, its log and its index: {files:?}"
    );
    for file in files {
        let bytes = std::fs::read(file.path()).unwrap();
        assert_no_canary(&file.path().display().to_string(), &bytes);
    }
}

#[test]
fn an_order_id_that_could_be_personal_is_stored_and_logged_as_a_digest() {
    let mut service = Setup::new().start();
    let long = "x".repeat(65);
    for (number, order) in [
        "ada.lovelace@example.com",
        "Ada Lovelace",
        "añada",
        "a\nb",
        &long,
    ]
    .iter()
    .enumerate()
    {
        let body = changed(&number.to_string(), |event| {
            event["data"]["object"]["client_reference_id"] = json!(order);
        });
        let answer = service.accepts(body, "applied");
        assert!(service.store().order(order).unwrap().is_some(), "{order}");
        for line in service.lines_of(answer.request_id()) {
            let shown = line["orderId"].as_str().unwrap();
            assert!(shown.starts_with("sha256:") && shown.len() == 19, "{shown}");
        }
    }
    service.kill();
    service.wait();
    let written = String::from_utf8(service.written()).unwrap();
    for order in ["ada.lovelace", "Ada Lovelace", "añada", &long] {
        assert!(!written.contains(order), "{order}");
    }
}

#[test]
fn an_id_that_is_no_id_is_refused_and_not_written() {
    let mut service = Setup::new().start();
    for id in ["ada.lovelace@example.com", "evt ada.lovelace", "evt_añada"] {
        let body = changed("1", |event| event["id"] = json!(id));
        assert_eq!(service.deliver(body).status, 400);
        let body = changed("1", |event| event["data"]["object"]["id"] = json!(id));
        assert_eq!(service.deliver(body).status, 400);
    }
    service.kill();
    service.wait();
    let written = String::from_utf8(service.written()).unwrap();
    assert!(!written.contains("lovelace") && !written.contains("añada"));
}

#[test]
fn the_words_of_start_and_of_a_refusal_to_start_hold_no_secret() {
    for secret in [
        "sk_live_canary51H",
        "pk_test_canary,",
        "whsec_canary\u{e9}\n",
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_paidup"))
            .arg("serve")
            .env_clear()
            .env("STRIPE_WEBHOOK_SECRET", secret)
            .env("LISTEN_ADDR", "nowhere")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(78));
        let written = [output.stdout, output.stderr].concat();
        assert!(!contains(&written, b"canary"), "{secret}");
    }
}

// ── Where a request has room for a canary ──

fn in_the_request(service: &Service, canary: &str) -> Vec<Answer> {
    let requests = [
        format!("GET /{canary} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET /healthz?q={canary} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!(
            "POST /stripe/webhook?email={canary} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}"
        ),
        format!("GET /healthz#{canary} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET {canary} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("{canary} / HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET / {canary}\r\nHost: x\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{canary}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: {canary}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: x\r\nExpect: {canary}\r\n\r\n"),
    ];
    let answers = requests.iter().map(|request| service.ask(request));
    let admin = requests[..3].iter().map(|request| {
        let request = request.replace("Host: x", &format!("Host: {canary}\r\nConnection: close"));
        ask(service.admin(), request)
    });
    answers.chain(admin).collect()
}

fn in_the_headers(service: &Service, canary: &str) -> Vec<Answer> {
    let names = [
        "X-Request-Id",
        "User-Agent",
        "Host",
        "Cookie",
        "Authorization",
        "Referer",
        "X-Forwarded-For",
        "Forwarded",
        "X-Real-Ip",
        "Stripe-Signature",
        "Content-Type",
        "Idempotency-Key",
        "Traceparent",
        canary,
    ];
    let body = paid("1");
    let signature = sign(SECRET, body.as_bytes(), 0);
    let mut answers = Vec::new();
    for name in names {
        let headers = [("Stripe-Signature", signature.as_str()), (name, canary)];
        answers.push(service.post(&headers, &body));
        answers.push(service.post(&headers[1..], &body));
    }
    let forged = format!("t=1793000000,v1={canary},{canary}=1");
    answers.push(service.post(&[("Stripe-Signature", &forged)], &body));
    answers
}

/// In each field that we do not read, and in each that we do, in a place where it has no meaning.
fn in_the_body(service: &Service, canary: &str) -> Vec<Answer> {
    let name = format!(
        "c{}",
        CANARIES.iter().position(|one| *one == canary).unwrap()
    );
    let everywhere = changed(&name, |event| {
        let object = &mut event["data"]["object"];
        object["customer_details"] = json!({"email": canary, "name": canary, "phone": canary});
        object["customer_email"] = json!(canary);
        object["metadata"] = json!({"email": canary, "note": canary});
        object["shipping_details"] = json!({"address": {"line1": canary}});
        object["url"] = json!(canary);
        object["payment_intent"] = json!({"id": format!("pi_{name}"), "description": canary});
        event["request"] = json!({"id": canary, "idempotency_key": canary});
        event["data"]["previous_attributes"] = json!({"email": canary});
        event["api_version"] = json!(canary);
        event[canary] = json!(canary);
    });
    let of_other_types = [
        "charge.succeeded",
        "payment_intent.succeeded",
        "refund.created",
        "customer.created",
    ]
    .into_iter()
    .enumerate()
    .map(|(number, kind)| {
        changed(&format!("{name}{number}"), |event| {
            event["type"] = json!(kind);
            event["data"]["object"] = json!({
                "id": format!("xx_{name}{number}"), "amount": 2500, "currency": canary,
                "status": canary, "description": canary, "receipt_email": canary,
                "metadata": {"customer": canary}, "billing_details": {"email": canary},
                "payment_method_details": {"card": {"number": canary}},
            });
        })
    });
    let malformed = [
        format!(r#"{{"id":"evt_1","email":"{canary}""#),
        canary.to_owned(),
        json!(canary).to_string(),
        json!([canary]).to_string(),
        json!({"id": "evt_1", "type": "charge.refunded", "data": canary}).to_string(),
        json!({"id": "evt_1", "type": "charge.refunded", "data": {"object": canary}}).to_string(),
        json!({"id": canary.repeat(40), "type": "charge.refunded"}).to_string(),
    ];
    let bodies = of_other_types.chain(malformed).chain([everywhere]);
    let mut answers = Vec::new();
    for body in bodies {
        answers.push(service.deliver(&body));
        answers.push(service.post(&[], &body));
        let request = delivery(&body);
        // Cut off in its body.
        let mut stream = service.connect();
        std::io::Write::write_all(&mut stream, &request[..request.len() - 1]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        answers.push(Answer::read(&mut stream));
        answers.push(service.ask(post(&format!("/{name}"), &[], body.as_bytes())));
    }
    answers
}

// ── What must not be found ──

fn assert_no_canary(place: &str, bytes: &[u8]) {
    for canary in CANARIES {
        assert!(
            !contains(bytes, canary.as_bytes()),
            "{canary} is in {place}"
        );
    }
}

fn has_canary(bytes: &[u8]) -> bool {
    CANARIES
        .iter()
        .any(|canary| contains(bytes, canary.as_bytes()))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn assert_only_known_keys(lines: &[Value]) {
    let mut found = BTreeSet::new();
    for line in lines {
        let line = line.as_object().unwrap();
        found.extend(line.keys().map(String::as_str));
        for due in ["time", "level", "message"] {
            assert!(line[due].is_string());
        }
        assert!(line.get("status").is_none_or(Value::is_u64));
    }
    assert_eq!(found, KEYS.into_iter().collect());
}
