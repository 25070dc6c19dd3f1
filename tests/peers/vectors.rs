//! The public signature vectors, sent to a server whose clock stands still at their `now`.

use std::path::Path;

use serde_json::Value;

use crate::harness::Setup;

#[test]
fn each_public_vector_has_its_status_and_its_reason() {
    let text = include_str!("../fixtures/signature_vectors.json");
    let document: Value = serde_json::from_str(text).unwrap();
    let vectors = document["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 10);
    for vector in vectors {
        let word = |name: &str| vector[name].as_str().unwrap();
        let service = Setup::new()
            .set("STRIPE_WEBHOOK_SECRET", word("secret"))
            .set(
                "WEBHOOK_TOLERANCE_SECONDS",
                &vector["tolerance"].to_string(),
            )
            .set("LD_PRELOAD", faketime())
            .set("FAKETIME_FMT", "%s")
            .set("FAKETIME", &vector["now"].to_string())
            .set("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .start();
        let header = vector["header"].as_str();
        let header = header.map(|header| ("Stripe-Signature", header));
        let answer = service.post(header.as_slice(), word("body"));
        assert_eq!(answer.status, vector["http_status"], "{}", word("name"));
        let code = match vector["reason"].as_str() {
            None => Value::Null,
            Some("no_header") => "Invalid signature (no header)".into(),
            Some("bad_header" | "no_v1") => "Invalid signature (malformed header)".into(),
            Some("no_match") => "Invalid signature (no match)".into(),
            Some("too_old") => "Invalid signature (too old)".into(),
            Some(other) => panic!("{other}"),
        };
        let line = service.line_of(answer.request_id());
        assert_eq!(line["errorCode"], code, "{}", word("name"));
        let day = line["time"].as_str().unwrap();
        assert!(
            day.starts_with("2026-10-26T"),
            "the clock stands still: {day}"
        );
    }
}

/// Debian's package `faketime`, in its variant for programs with threads.
fn faketime() -> &'static str {
    let places = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib64/faketime/libfaketimeMT.so.1",
        "/usr/lib/faketime/libfaketimeMT.so.1",
    ];
    let found = places.iter().find(|place| Path::new(place).exists());
    found.expect("libfaketime is not there: apt-get install faketime")
}
