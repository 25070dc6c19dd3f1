//! The public signature vectors, sent to a server whose clock stands still at their `now`.

use std::path::Path;

use paidup::host::clock::Now;
use paidup::truth::order::Status;
use serde_json::Value;

use crate::harness::{Setup, eventually, paid};

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

/// 1970 at boot, then now, a year back, now again, a year ahead, and now again.
#[test]
fn a_clock_that_jumps_loses_nothing_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let clock = folder.path().join("clock");
    let set = |seconds: i64| std::fs::write(&clock, seconds.to_string()).unwrap();
    let now = Now::read().unix.0;
    let year = 365 * 24 * 3600;
    set(1000);
    let service = Setup::new()
        .set("LD_PRELOAD", faketime())
        .set("FAKETIME_FMT", "%s")
        .set("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap())
        .set("FAKETIME_NO_CACHE", "1")
        .set("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .start();
    let named = || {
        let is = |line: &Value| line["message"] == "Clock is behind Stripe's: check timedatectl";
        service.log().iter().any(is)
    };
    service.accepts(paid("at_boot_in_1970"), "applied");
    eventually("the clock is named", named);
    for (name, jump) in [("now", 0), ("back", -year), ("now_again", 0)] {
        set(now + jump);
        service.accepts(paid(name), "applied");
        assert_eq!(
            service.status_of(&format!("ord_{name}")),
            Some(Status::Paid)
        );
        service.accepts(paid(name), "duplicate");
    }
    // Ahead, Stripe's signatures are too old, and are taken when Stripe tries again.
    set(now + year);
    let refused = service.deliver(paid("ahead"));
    assert_eq!(refused.status, 400);
    assert_eq!(
        service.line_of(refused.request_id())["errorCode"],
        "Invalid signature (too old)"
    );
    set(now);
    service.accepts(paid("ahead"), "applied");
    assert!(!String::from_utf8_lossy(&service.written()).contains("Panic"));
    let stale = service.admin_get("/metrics").body;
    let last = stale
        .lines()
        .find_map(|line| line.strip_prefix("paidup_webhook_last_verified_timestamp_seconds "));
    assert_eq!(last, Some(now.to_string().as_str()));
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
