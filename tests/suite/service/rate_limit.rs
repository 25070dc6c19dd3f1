//! Who asks too often gets 429 and the exact line that the alert looks for, and nobody else does.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::harness::{Answer, PATIENCE, SECRET, Service, Setup, event, paid, post, sign};

#[test]
fn over_the_limit_each_request_is_a_429_with_its_own_line() {
    let service = Setup::new().set("RATE_LIMIT_WEBHOOK_MAX", "3").start();
    let answers: Vec<_> = (0..8)
        .map(|n| service.deliver(paid(&n.to_string())))
        .collect();
    let (taken, refused) = answers.split_at(3);
    assert!(taken.iter().all(|answer| answer.status == 200));
    for answer in refused {
        let id = answer.request_id();
        assert_eq!(answer.status, 429);
        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!(
            (1..=20).contains(&seconds),
            "a third of a minute at most: {seconds}"
        );
        assert_eq!(
            answer.json(),
            json!({"error": "Too many requests", "errorCode": "rate_limited", "requestId": id})
        );
        let lines = service.lines_of(id);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["message"], "Webhook rate limit exceeded (429)");
        assert_eq!(lines[0]["errorCode"], "rate_limited");
        assert_eq!(
            (&lines[0]["level"], &lines[0]["status"]),
            (&json!("warn"), &json!(429))
        );
    }
    assert_eq!(alerts(&service, &answers), refused.len());
    let metrics = service.admin_get("/metrics").body;
    assert!(
        metrics.contains("\npaidup_webhook_rate_limited_total 5\n"),
        "{metrics}"
    );
    assert_eq!(
        service.status_of("ord_3"),
        None,
        "what is refused is not stored"
    );
    assert_eq!(
        service.get("/healthz").status,
        200,
        "only the webhook is limited"
    );
}

#[test]
fn exempt_addresses_are_never_limited() {
    let service = Setup::new()
        .set("RATE_LIMIT_WEBHOOK_MAX", "1")
        .set(
            "RATE_LIMIT_WEBHOOK_EXEMPT",
            "203.0.113.7,198.51.100.0/24,2001:db8:1::/48",
        )
        .start();
    for client in ["203.0.113.7", "198.51.100.200", "2001:db8:1:2::3"] {
        for _ in 0..10 {
            assert_eq!(from(&service, client), 200, "{client}");
        }
    }
    for client in ["203.0.113.8", "198.51.101.1", "2001:db8:2::3"] {
        assert_eq!(from(&service, client), 200);
        assert_eq!(from(&service, client), 429, "{client}");
    }
}

#[test]
fn a_trusted_proxy_tells_clients_apart() {
    let service = Setup::new().set("RATE_LIMIT_WEBHOOK_MAX", "2").start();
    assert_eq!(from(&service, "203.0.113.7"), 200);
    assert_eq!(from(&service, "6.6.6.6, 203.0.113.7"), 200);
    assert_eq!(
        from(&service, "7.7.7.7, 203.0.113.7"),
        429,
        "what the client says is not believed"
    );
    assert_eq!(from(&service, "203.0.113.8"), 200, "another client");
    assert_eq!(service.deliver(event("1")).status, 200, "the proxy itself");
}

#[test]
fn an_ipv6_network_is_one_client() {
    let service = Setup::new().set("RATE_LIMIT_WEBHOOK_MAX", "2").start();
    assert_eq!(from(&service, "2001:db8::1"), 200);
    assert_eq!(from(&service, "2001:db8::ffff:2"), 200);
    assert_eq!(from(&service, "2001:db8::3"), 429);
    assert_eq!(from(&service, "2001:db8:0:1::1"), 200, "another network");
}

#[test]
fn a_stranger_cannot_choose_its_address() {
    let service = Setup::new()
        .set("RATE_LIMIT_WEBHOOK_MAX", "2")
        .set("TRUSTED_PROXIES", "127.0.0.1")
        .start();
    let forged = |number: u8| forwarded(&format!("203.0.113.{number}"));
    let stranger = SocketAddr::from(([127, 0, 0, 2], 0));
    let statuses: Vec<_> = (0..4)
        .map(|n| ask_from(&service, stranger, &forged(n)).status)
        .collect();
    assert_eq!(statuses, [200, 200, 429, 429]);
    assert_eq!(service.ask(forged(0)).status, 200, "the proxy is believed");

    let service = Setup::new()
        .set("RATE_LIMIT_WEBHOOK_MAX", "2")
        .set("TRUSTED_PROXIES", "none")
        .start();
    let statuses: Vec<_> = (0..4).map(|n| service.ask(forged(n)).status).collect();
    assert_eq!(statuses, [200, 200, 429, 429]);
}

#[test]
fn a_trusted_proxy_that_names_nobody_is_told_of() {
    let nameless = |service: &Service| {
        let told = |line: &&Value| {
            line["message"]
                == "Proxy names no client: all share one rate limit, so set X-Forwarded-For there"
        };
        service.log().iter().filter(told).count()
    };
    let counted = |service: &Service, count: u32| {
        let metrics = service.admin_get("/metrics").body;
        metrics.contains(&format!("\npaidup_webhook_unnamed_total {count}\n"))
    };
    let setup = Setup::new().set("RATE_LIMIT_WEBHOOK_MAX", "5");
    let service = setup.start();
    let setup = setup.set("ADMIN_ADDR", &service.admin().to_string());
    assert_eq!(from(&service, "203.0.113.7"), 200);
    let listen = service.edge.to_string();
    let tried = setup
        .command(&["send-test"])
        .env("LISTEN_ADDR", &listen)
        .output();
    assert!(tried.unwrap().status.success());
    let (_, said) = setup.run(&["check"]);
    assert!(!said.contains("X-Forwarded-For"), "{said}");
    assert!(nameless(&service) == 0 && counted(&service, 0));
    // The attack: forgeries of a stranger, and then a delivery of Stripe's.
    for _ in 0..5 {
        service.post(&[("Stripe-Signature", "t=1,v1=00")], "{}");
    }
    let refused = service.deliver(event("1"));
    assert_eq!(refused.status, 429);
    service.line_of(refused.request_id());
    assert!(nameless(&service) == 1 && counted(&service, 6));
    let (code, said) = setup.run(&["check"]);
    assert!(
        code == 0 && said.contains("6 deliveries") && said.contains("X-Forwarded-For"),
        "{said}"
    );

    let service = Setup::new().set("TRUSTED_PROXIES", "none").start();
    let answer = service.deliver(event("2"));
    service.line_of(answer.request_id());
    assert!(nameless(&service) == 0 && counted(&service, 0));
}

#[test]
fn a_strangers_request_id_is_not_taken() {
    let service = Setup::new().set("TRUSTED_PROXIES", "none").start();
    let body = event("1");
    let signature = sign(SECRET, body.as_bytes(), 0);
    let headers = [
        ("Stripe-Signature", signature.as_str()),
        ("X-Request-Id", "stranger-0001"),
    ];
    assert_ne!(service.post(&headers, &body).request_id(), "stranger-0001");
}

#[test]
fn when_only_forgeries_count_a_burst_of_true_events_is_never_refused() {
    let service = Setup::new()
        .set("RATE_LIMIT_WEBHOOK_MAX", "5")
        .set("RATE_LIMIT_WEBHOOK_COUNT", "unverified")
        .start();
    for number in 0..300 {
        assert_eq!(service.deliver(paid(&number.to_string())).status, 200);
    }
    let forge = || service.post(&[("Stripe-Signature", "t=1,v1=00")], "{}");
    let mut forged: Vec<_> = (0..10).map(|_| forge()).collect();
    service.accepts(paid("last"), "applied");
    forged.push(forge());
    let statuses: Vec<_> = forged.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses[..5], [400; 5]);
    assert_eq!(statuses[5..], [429; 6], "a true event gives no token back");
    assert_eq!(alerts(&service, &forged), 6);
}

/// Whatever is refused: by us, by the limit, by HTTP's own rules, and what is none of the webhook's.
#[test]
fn the_runbooks_query_of_the_journal_counts_what_the_rule_counts() {
    let service = Setup::new()
        .set("RATE_LIMIT_WEBHOOK_MAX", "9")
        .set("REQUEST_TIMEOUT_SECONDS", "1")
        .start();
    service.accepts(paid("1"), "applied");
    service.deliver("[]");
    let head = "POST /stripe/webhook HTTP/1.1\r\nHost: x\r\n";
    for rest in [
        "Content-Length: 9999999\r\n\r\n",
        "Content-Length: 9\r\n\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "\r\n",
    ] {
        assert!(service.ask(format!("{head}{rest}")).status >= 400, "{rest}");
    }
    assert_eq!(service.get("/stripe/webhook").status, 405);
    assert_eq!(service.get("/nowhere").status, 404);
    let last: Vec<Answer> = (0..12).map(|_| service.post(&[], "{}")).collect();
    assert!(alerts(&service, &last) > 0);

    let of_post = |line: &&str| {
        line.starts_with("paidup_http_requests_total{route=\"/stripe/webhook\",method=\"POST\"")
            && !line.contains("status=\"200\"")
    };
    let metrics = service.admin_get("/metrics").body;
    let counted: Vec<&str> = metrics.lines().filter(of_post).collect();
    let number = |line: &&str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    let rule: u64 = counted.iter().map(number).sum();
    assert!(rule > 12, "{counted:?}");

    let runbook = include_str!("../../../docs/RUNBOOK.md");
    let (_, query) = runbook.split_once(" -g '").unwrap();
    let (query, _) = query.split_once('\'').unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(log.path(), service.words()).unwrap();
    let found = Command::new("grep")
        .args(["-cE", query])
        .arg(log.path())
        .output();
    let found = String::from_utf8(found.unwrap().stdout).unwrap();
    assert_eq!(
        found.trim(),
        rule.to_string(),
        "{counted:?}: {}",
        service.words()
    );
}

// ── Helpers ──

/// The answer to an event whose `X-Forwarded-For` is this.
fn from(service: &Service, hops: &str) -> u16 {
    service.ask(forwarded(hops)).status
}

fn forwarded(hops: &str) -> Vec<u8> {
    let body = event("1");
    let signature = sign(SECRET, body.as_bytes(), 0);
    let headers = [
        ("Stripe-Signature", signature.as_str()),
        ("X-Forwarded-For", hops),
    ];
    post("/stripe/webhook", &headers, body.as_bytes())
}

fn ask_from(service: &Service, source: SocketAddr, request: &[u8]) -> Answer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&source.into()).unwrap();
    socket.connect(&service.edge.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    std::io::Write::write_all(&mut stream, request).unwrap();
    Answer::read(&mut stream)
}

/// How often the alert would have fired, once these are logged.
fn alerts(service: &Service, answers: &[Answer]) -> usize {
    for answer in answers {
        service.line_of(answer.request_id());
    }
    let fires = |line: &&Value| line["message"] == "Webhook rate limit exceeded (429)";
    service.log().iter().filter(fires).count()
}
