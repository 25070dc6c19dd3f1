//! `paidup page` over real sockets: who is let in, what is shown, and what it survives.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Connection;
use serde_json::json;

use crate::harness::{Answer, PATIENCE, Raise, SECRET, Service, Setup, changed, eventually, paid};

const PASSWORD: &str = "the-password-of-the-tests";
const SECURE: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

// ── Who is let in ──

#[test]
fn a_host_that_is_not_ours_is_refused_on_a_port_and_on_a_socket() {
    let shop = Shop::open();
    let port = shop.on_a_port(&[("PAGE_HOSTS", "Orders.example.com")]);
    let socket = shop.on_a_socket(&[]);
    for (host, by_port, by_socket) in [
        ("localhost", 200, 200),
        ("LOCALHOST:4245", 200, 200),
        ("127.0.0.1:4245", 200, 200),
        ("[::1]:4245", 200, 200),
        ("orders.example.com", 200, 421),
        ("orders.example.com:443", 200, 421),
        ("evil.example", 421, 421),
        ("127.0.0.1.evil.example", 421, 421),
        ("localhost.evil.example:4245", 421, 421),
        ("", 421, 421),
    ] {
        let host = [("Host", host)];
        assert_eq!(port.get_with("/", &host).status, by_port, "{host:?}");
        assert_eq!(socket.get_with("/", &host).status, by_socket, "{host:?}");
    }
    for page in [&port, &socket] {
        assert_eq!(page.ask("GET / HTTP/1.1\r\n\r\n").status, 421, "no Host");
        let two = "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n";
        assert_eq!(page.ask(two).status, 421);
        let refused = page.get_with("/", &[("Host", "evil.example")]);
        assert!(refused.body.contains("PAGE_HOSTS") && !refused.body.contains("ord_"));
    }
}

/// A key that we made would be in the journal, for whoever reads that.
#[test]
fn a_port_of_systemd_needs_a_password() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pass = "exec 3<&0; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=page exec \"$@\"";
    let setup = Setup::new();
    drop(setup.start());
    let setup = setup.under(&["sh", "-c", pass, "sh"]);
    let refused = setup
        .command(&["page"])
        .stdin(OwnedFd::from(listener))
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(78), "{said}");
    assert!(
        said.contains("PAGE_PASSWORD is not set") && !said.contains("http://"),
        "{said}"
    );
}

#[test]
fn pages_can_only_be_read() {
    let shop = Shop::open();
    let page = shop.on_a_socket(&[]);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW", "get"] {
        let answer = page.ask(format!(
            "{method} / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        ));
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    }
    let head = page.ask("HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let long = format!("/orders?id={}", "x".repeat(3_000));
    assert_eq!(page.get(&long).status, 414);
}

#[test]
fn a_port_wants_the_key_and_a_socket_the_permission_to_open_it() {
    let shop = Shop::open();
    let port = shop.on_a_port(&[]);
    let refused = port.bare("/", &[]);
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.header("www-authenticate"),
        Some("Basic realm=\"paidup\", charset=\"UTF-8\"")
    );
    assert!(!refused.body.contains("ord_"), "{}", refused.body);
    assert_eq!(port.get("/").status, 200);
    let again = shop.on_a_port(&[]);
    assert_ne!(port.password, again.password, "a new key each time");
    let socket = shop.on_a_socket(&[]);
    assert_eq!(socket.bare("/", &[]).status, 200);
    assert_eq!(
        socket.mode(),
        0o600,
        "only our own user may open it, unless SOCKET_GROUP is set"
    );
    let both = shop.on_a_socket(&[("PAGE_PASSWORD", PASSWORD)]);
    assert_eq!(both.bare("/", &[]).status, 401);
    assert_eq!(both.get("/").status, 200);
}

#[test]
fn wrong_passwords_are_limited_and_the_right_one_never_is() {
    let shop = Shop::open();
    let page = shop.on_a_port(&[("PAGE_PASSWORD", PASSWORD)]);
    let give = |text: &str| {
        let code = STANDARD.encode(text);
        page.bare("/", &[("Authorization", &format!("Basic {code}"))])
    };
    let wrong = [
        format!("paidup:{PASSWORD}x"),
        format!("other:{PASSWORD}"),
        format!("paidup{PASSWORD}"),
        ":".to_owned(),
    ];
    for (number, text) in wrong.iter().cycle().take(10).enumerate() {
        assert_eq!(give(text).status, 401, "{number}");
        assert_eq!(page.bare("/", &[]).status, 401, "no guess");
    }
    let limited = give(&wrong[0]);
    assert_eq!(limited.status, 429);
    assert!(limited.header("retry-after").is_some());
    assert_eq!(give(&format!("paidup:{PASSWORD}")).status, 200);
    let line = page.process.line_of(limited.request_id());
    assert_eq!(line["errorCode"], "rate_limited");
}

#[test]
fn another_site_gets_nothing_but_a_visitor() {
    let shop = Shop::open();
    let page = shop.on_a_socket(&[]);
    for (site, mode, dest, status) in [
        ("none", "navigate", "document", 200),
        ("same-origin", "no-cors", "style", 200),
        ("cross-site", "navigate", "document", 200),
        ("cross-site", "navigate", "iframe", 403),
        ("cross-site", "no-cors", "image", 403),
        ("cross-site", "cors", "empty", 403),
        ("same-site", "no-cors", "script", 403),
    ] {
        let headers = [
            ("Sec-Fetch-Site", site),
            ("Sec-Fetch-Mode", mode),
            ("Sec-Fetch-Dest", dest),
        ];
        assert_eq!(page.get_with("/", &headers).status, status, "{headers:?}");
    }
}

// ── What is shown ──

#[test]
fn every_page_is_html_without_a_script_under_strict_headers() {
    let shop = Shop::open();
    let page = shop.on_a_socket(&[]);
    let mut style = None;
    for (path, status) in [
        ("/", 200),
        ("/orders", 200),
        ("/orders/ord_1", 200),
        ("/money", 200),
        ("/money?by=month", 200),
        ("/health", 200),
        ("/nothing", 404),
        ("/orders/nothing", 404),
        ("/orders?stauts=paid", 400),
        ("/orders?status=payed", 400),
        ("/orders?begins=%ff", 400),
    ] {
        let answer = page.get(path);
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        for (name, value) in SECURE {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        let body = answer.body.to_ascii_lowercase();
        for no in ["<script", "javascript:", " style=", " on", "http-equiv"] {
            let found = body
                .match_indices(no)
                .find(|(at, _)| *no != *" on" || body[at + 3..].starts_with("click"));
            assert!(found.is_none(), "{path} has {no}");
        }
        let (_, rest) = answer.body.split_once("stylesheet\" href=\"").unwrap();
        style = rest.split('"').next().map(str::to_owned);
    }
    let style = page.get(&style.unwrap());
    assert_eq!(style.status, 200);
    assert_eq!(
        style.header("content-type"),
        Some("text/css; charset=utf-8")
    );
    assert!(style.header("cache-control").unwrap().contains("immutable"));
    for (name, value) in SECURE {
        assert_eq!(style.header(name), Some(value));
    }
}

#[test]
fn what_a_stranger_may_write_into_an_order_id_is_text() {
    let names = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "&lt;b&gt;&amp;",
        "a\u{202e}gnp.exe",
        "line\nbreak\ttab",
        "../../etc/passwd",
        "100% ?a=b#c;d /e",
        "`code`",
        "日本 ü",
    ];
    let shop = Shop::with(names.iter().enumerate().map(|(number, name)| {
        changed(&format!("h{number}"), |event| {
            event["data"]["object"]["client_reference_id"] = json!(null);
            event["data"]["object"]["metadata"] = json!({"order_id": name});
        })
    }));
    let page = shop.on_a_socket(&[]);
    let list = page.get("/orders").body;
    for no in ["<script>", "<img", "\u{202e}", "' onmouseover='"] {
        assert!(!list.contains(no), "{no}");
    }
    let links: Vec<&str> = list
        .split("<a href=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .filter(|href| href.starts_with("/orders/"))
        .collect();
    assert_eq!(links.len(), names.len(), "{list}");
    for link in links {
        let order = page.get(link);
        assert_eq!(order.status, 200, "{link}");
        for no in [
            "<script>",
            "<img",
            "\u{202e}",
            "' onmouseover='",
            "<code>code",
        ] {
            assert!(!order.body.contains(no), "{link}: {no}");
        }
    }
}

#[test]
fn no_secret_and_nothing_personal_is_on_any_page_or_in_its_log() {
    let canary = "canary@example.com";
    let shop = Shop::with([changed("1", |event| {
        let session = &mut event["data"]["object"];
        session["customer_details"] = json!({"email": canary, "name": "Canary Bird"});
        session["metadata"] = json!({"note": canary});
    })]);
    let page = shop.on_a_port(&[
        ("PAGE_PASSWORD", PASSWORD),
        ("STRIPE_SECRET_KEY", "rk_test_canary"),
        ("API_TOKEN", "canary-canary-canary-canary-canary-canary"),
    ]);
    let mut seen = String::new();
    for path in ["/", "/orders", "/orders/ord_1", "/health", "/nothing"] {
        seen += &page.get(path).body;
    }
    page.bare("/", &[("Authorization", "Basic canary")]);
    seen += &page.process.words();
    for no in ["canary", "Canary", SECRET, PASSWORD, "whsec_"] {
        assert!(!seen.contains(no), "{no} is in\n{seen}");
    }
    assert!(seen.contains("ord_1"));
}

#[test]
fn lists_are_filtered_and_turned_page_by_page() {
    let events = (0..120).flat_map(|number| {
        let name = format!("{number:03}");
        let other = changed(&format!("{name}b"), |event| {
            event["data"]["object"]["client_reference_id"] = json!(format!("ord_{name}"));
        });
        // Every third is paid twice.
        std::iter::once(paid(&name)).chain((number % 3 == 0).then_some(other))
    });
    let shop = Shop::with(events);
    let page = shop.on_a_socket(&[]);
    let all: Vec<String> = (0..120).map(|number| format!("ord_{number:03}")).collect();
    let thirds: Vec<String> = all.iter().step_by(3).cloned().collect();
    let newest = |names: &[String]| names.iter().rev().cloned().collect::<Vec<_>>();
    assert_eq!(page.listed("/orders"), newest(&all));
    assert_eq!(page.listed("/orders?status=paid"), newest(&all));
    assert_eq!(page.listed("/orders?status=failed"), [""; 0]);
    assert_eq!(page.listed("/orders?attention=1"), newest(&thirds));
    assert_eq!(
        page.listed("/orders?attention=1&status=paid&begins="),
        newest(&thirds)
    );
    assert_eq!(page.listed("/orders?begins=ord_0"), all[..100]);
    assert_eq!(page.listed("/orders?begins=ord_0&status=paid"), all[..100]);
    assert_eq!(
        page.listed("/orders?begins=ord_01&attention=1"),
        ["ord_012", "ord_015", "ord_018"]
    );
    assert_eq!(page.listed("/orders?begins=x"), [""; 0]);
    for id in ["ord_007", "pi_007", "cs_test_007", "+pi_007+"] {
        let found = page.get(&format!("/orders?id={id}&status="));
        assert_eq!(found.status, 303, "{id}");
        assert_eq!(found.header("location"), Some("/orders/ord_007"));
    }
    assert!(page.get("/orders?id=pi_none").body.contains("has this id"));
    let overview = page.get("/").body;
    assert!(overview.contains("ord_117") && overview.contains("Refund one of them"));
    assert!(overview.contains("/orders?attention=1"));
}

#[test]
fn the_health_says_that_times_are_not_of_the_zone_that_was_meant() {
    let shop = Shop::open();
    for (zone, is_said) in [("Europe/Belrin", true), ("Europe/Berlin", false)] {
        let health = shop.on_a_socket(&[("TZ", zone)]).get("/health").body;
        let said = "TZ is no time zone that this machine knows";
        assert_eq!(health.contains(said), is_said, "{health}");
    }
}

#[test]
fn the_money_on_the_page_is_that_of_the_report() {
    const DAY: i64 = 24 * 60 * 60;
    let now = paidup::host::clock::Now::read().unix.0;
    let sale = |name: &str, days: i64, amount: i64| {
        changed(name, |event| {
            event["created"] = json!(now - days * DAY);
            event["data"]["object"]["amount_total"] = json!(amount);
        })
    };
    let shop = Shop::with([sale("1", 0, 1_234), sale("2", 40, 200), sale("3", 400, 7)]);
    let zone = ("TZ", "Asia/Kathmandu");
    let page = shop.on_a_socket(&[zone]);
    let (code, report) = shop.setup(&[zone]).run(&["report", "--csv"]);
    assert_eq!(code, 0, "{report}");
    assert_eq!(report.lines().count(), 4, "{report}");
    assert_eq!(page.get("/money.csv?by=month").body, report);
    for (path, amounts) in [
        ("/money?by=month", &["12.34", "2.00", "0.07"][..]),
        ("/money", &["12.34", "2.00"]),
        ("/", &["12.34\u{a0}EUR", "1 order"]),
    ] {
        let body = page.get(path).body;
        for amount in amounts {
            assert!(body.contains(amount), "{path} {amount}: {body}");
        }
    }
    assert!(
        !page.get("/money").body.contains("0.07"),
        "that is long ago"
    );
}

/// Somebody paid, and no order says for what.
#[test]
fn a_payment_of_no_order_for_over_a_day_needs_somebody() {
    const DAY: i64 = 24 * 60 * 60;
    let now = paidup::host::clock::Now::read().unix.0;
    let lone = |name: &str, ago: i64| {
        changed(name, |event| {
            event["type"] = json!("payment_intent.succeeded");
            event["created"] = json!(now - ago);
            event["data"]["object"] = json!({"id": format!("pi_{name}"), "object": "payment_intent",
                "amount": 500, "amount_received": 500, "currency": "eur", "created": now - ago,
                "status": "succeeded", "metadata": {}});
        })
    };
    let shop = Shop::open();
    let serve = shop.setup.start();
    let page = shop.on_a_socket(&[]);
    let parked = |payments: &str| {
        let said = format!("Payments without an order, for over a day: {payments}, since");
        page.get("/").body.contains(&said)
    };
    serve.accepts(lone("young", DAY / 2), "parked");
    assert!(!parked("1"), "it may still come");
    serve.accepts(lone("old", DAY + 60), "parked");
    serve.accepts(lone("older", 3 * DAY), "parked");
    assert!(parked("2"), "{}", page.get("/").body);
    serve.accepts(
        changed("late", |event| {
            event["data"]["object"]["payment_intent"] = json!("pi_older");
        }),
        "applied",
    );
    assert!(parked("1"), "one has its order now");
}

#[test]
fn each_payment_of_an_order_that_was_paid_twice_leads_to_the_dashboard() {
    let again = changed("2", |event| {
        event["data"]["object"]["client_reference_id"] = json!("ord_1");
        event["data"]["object"]["amount_total"] = json!(2_600);
    });
    let shop = Shop::with([paid("1"), again, paid("3")]);
    let page = shop.on_a_socket(&[]);
    let twice = page.get("/orders/ord_1").body;
    for (intent, amount) in [("pi_1", "25.00\u{a0}EUR"), ("pi_2", "26.00\u{a0}EUR")] {
        let link = format!("href=\"https://dashboard.stripe.com/test/payments/{intent}\"");
        assert!(twice.contains(&link), "{twice}");
        let shown = format!("{intent} <span class=\"amount\">{amount}</span>");
        assert!(twice.contains(&shown), "{twice}");
    }
    let once = page.get("/orders/ord_3").body;
    assert_eq!(once.matches("https://dashboard").count(), 1);
    assert!(once.contains("<dd>pi_3\n"), "{once}");
}

#[test]
fn the_browser_says_whether_it_is_english_or_french() {
    let shop = Shop::open();
    let page = shop.on_a_socket(&[]);
    let french = [("Accept-Language", "fr-CH, fr;q=0.9, en;q=0.8")];
    for (path, en, fr) in [
        ("/", "Newest orders", "Dernières commandes"),
        ("/orders", "Name begins with", "Le nom commence par"),
        ("/orders/ord_1", "25.00\u{a0}EUR", "25,00\u{a0}EUR"),
        ("/health", "Database and disk", "Base et disque"),
        ("/nothing", "no such page", "n’existe pas"),
    ] {
        let english = page.get(path).body;
        assert!(
            english.contains(en) && english.contains("<html lang=\"en\">"),
            "{english}"
        );
        let french = page.get_with(path, &french).body;
        assert!(
            french.contains(fr) && french.contains("<html lang=\"fr\">"),
            "{french}"
        );
    }
}

// ── What it survives ──

#[test]
fn a_look_that_takes_two_seconds_is_ended_with_a_hint() {
    let shop = Shop::open();
    // As if there were orders without end.
    let db = Connection::open(shop.setup.database()).unwrap();
    let slow = "ALTER TABLE orders RENAME TO few;
        CREATE VIEW orders AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
        SELECT few.* FROM n CROSS JOIN few ON few.amount < 0;";
    db.execute_batch(slow).unwrap();
    let page = shop.on_a_socket(&[]);
    let ended = page.get("/orders?begins=o&status=failed");
    assert_eq!(ended.status, 503, "{}", ended.body);
    assert!(
        ended.body.contains("Leave one filter out"),
        "{}",
        ended.body
    );
    let line = page.process.line_of(ended.request_id());
    assert_eq!(line["errorCode"], "query_timeout");
}

#[test]
fn without_a_database_the_page_says_so() {
    let setup = Setup::new();
    let page = Page::start(&setup.again().set("PAGE_ADDR", "127.0.0.1:0"));
    let answer = page.get("/");
    assert_eq!(answer.status, 503);
    assert!(
        answer
            .body
            .contains("<code>paidup serve</code> makes the file"),
        "{}",
        answer.body
    );
    assert!(!setup.database().exists());
}

#[test]
fn it_leaves_when_nobody_asks() {
    let shop = Shop::open();
    let mut page = shop.on_a_socket_with(&["page", "--leave-after", "1"], &[]);
    assert_eq!(page.get("/").status, 200);
    assert!(page.process.wait().success());
}

/// tests/box does the same under systemd, which starts it again; here this test does.
#[test]
fn what_brings_tiny_http_down_ends_the_page_at_most_and_harms_no_delivery() {
    let shop = Shop::open();
    let serve = shop.setup.start();
    let over = AtomicBool::new(false);
    let delivered = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                let number = delivered.fetch_add(1, SeqCst);
                serve.accepts(paid(&format!("flow{number}")), "applied");
            }
        });
        let _over = Raise(&over);
        // Few descriptors: what leaks shows soon.
        let few = ["sh", "-c", "ulimit -n 80; exec \"$@\"", "sh"];
        let path = shop.setup.folder().join("page.sock");
        let address = format!("unix:{}", path.display());
        let setup = shop.setup.again().set("PAGE_ADDR", &address).under(&few);
        let mut page = Page::at(setup.start_with(&["page"]), &path);
        for attack in ATTACKS {
            let kept = (attack.act)(&path);
            eventually(attack.name, || {
                if page.process.has_ended() {
                    page = Page::at(setup.start_with(&["page"]), &path);
                }
                page.try_get("/orders")
                    .is_some_and(|answer| answer.status == 200)
            });
            drop(kept);
            let before = delivered.load(SeqCst);
            eventually("deliveries go on", || delivered.load(SeqCst) > before + 5);
        }
    });
    assert_eq!(serve.get("/healthz").status, 200);
    let store = serve.store();
    for number in 0..delivered.load(SeqCst) {
        let name = format!("ord_flow{number}");
        assert!(store.order(&name).unwrap().is_some(), "{name}");
    }
}

struct Attack {
    name: &'static str,
    /// What it returns is kept open until the page is back.
    act: fn(&PathBuf) -> Vec<UnixStream>,
}

/// Those of the report on `tiny_http` 0.12 that a client of a Unix socket can make.
const ATTACKS: &[Attack] = &[
    Attack {
        name: "the page is back after a body of 100 TB is promised",
        act: |path| {
            send(
                path,
                1,
                "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000000000\r\n\r\n",
            )
        },
    },
    Attack {
        name: "the page is back after a length beyond all memory",
        act: |path| {
            send(
                path,
                40,
                "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9223372036854775808\r\n\r\n",
            )
        },
    },
    Attack {
        name: "the page is back after bodies that never come",
        act: |path| {
            send(
                path,
                60,
                "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n",
            )
        },
    },
    Attack {
        name: "the page is back after HTTP/2 prefaces",
        act: |path| {
            drop(send(path, 60, "GET / HTTP/2.0\r\n\r\n"));
            Vec::new()
        },
    },
    Attack {
        name: "the page is back after clients that say nothing",
        act: |path| send(path, 100, ""),
    },
    Attack {
        name: "the page is back after half heads",
        act: |path| send(path, 60, "GET / HTTP/1.1\r\nHost: loc"),
    },
    Attack {
        name: "the page is back after clients that do not read",
        act: |path| {
            send(
                path,
                40,
                &"GET /orders HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(500),
            )
        },
    },
    Attack {
        name: "the page is back after clients that leave at once",
        act: |path| {
            for _ in 0..100 {
                drop(send(path, 1, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            }
            Vec::new()
        },
    },
    Attack {
        name: "the page is back after an endless header",
        act: |path| {
            send(
                path,
                1,
                &format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(32 << 20)),
            )
        },
    },
    Attack {
        name: "the page is back after what is no request",
        act: |path| {
            send(
                path,
                5,
                "\r\n\0\u{ff}nonsense\r\nTransfer-Encoding: chunked\r\n\r\n",
            )
        },
    },
];

/// Opens so many connections and writes the same on each, as far as it is taken.
fn send(path: &PathBuf, count: usize, text: &str) -> Vec<UnixStream> {
    let mut open = Vec::new();
    for _ in 0..count {
        let Ok(mut stream) = UnixStream::connect(path) else {
            break;
        };
        stream
            .set_write_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let _ = stream.write_all(text.as_bytes());
        open.push(stream);
    }
    open
}

// ── Helpers ──

/// A database with orders in it.
struct Shop {
    setup: Setup,
}

impl Shop {
    fn open() -> Shop {
        Shop::with([paid("1")])
    }

    fn with(events: impl IntoIterator<Item = String>) -> Shop {
        let setup = Setup::new();
        let serve = setup.start();
        for event in events {
            serve.accepts(event, "applied");
        }
        Shop { setup }
    }

    fn setup(&self, vars: &[(&str, &str)]) -> Setup {
        let setup = self.setup.again();
        vars.iter()
            .fold(setup, |setup, (name, value)| setup.set(name, value))
    }

    fn on_a_port(&self, vars: &[(&str, &str)]) -> Page {
        let hosted = vars.iter().any(|(name, _)| *name == "PAGE_HOSTS");
        let setup = self.setup(vars).set("PAGE_ADDR", "127.0.0.1:0");
        Page::start(&if hosted {
            setup.set("PAGE_PASSWORD", PASSWORD)
        } else {
            setup
        })
    }

    fn on_a_socket(&self, vars: &[(&str, &str)]) -> Page {
        self.on_a_socket_with(&["page"], vars)
    }

    fn on_a_socket_with(&self, words: &[&str], vars: &[(&str, &str)]) -> Page {
        static SOCKETS: AtomicUsize = AtomicUsize::new(0);
        let name = format!("page{}.sock", SOCKETS.fetch_add(1, SeqCst));
        let path = self.setup.folder().join(name);
        let setup = self
            .setup(vars)
            .set("PAGE_ADDR", &format!("unix:{}", path.display()));
        Page::at(setup.start_with(words), &path)
    }
}

/// A running `paidup page`.
struct Page {
    process: Service,
    path: Option<PathBuf>,
    password: String,
}

impl Page {
    fn start(setup: &Setup) -> Page {
        let process = setup.start_with(&["page"]);
        let words = process.words();
        let key = words
            .split_once("http://paidup:")
            .and_then(|(_, rest)| rest.split_once('@'));
        let password = key.map_or(PASSWORD, |(key, _)| key).to_owned();
        Page {
            process,
            path: None,
            password,
        }
    }

    fn at(process: Service, path: &std::path::Path) -> Page {
        Page {
            process,
            path: Some(path.to_owned()),
            password: PASSWORD.to_owned(),
        }
    }

    fn mode(&self) -> u32 {
        use std::os::unix::fs::PermissionsExt;
        let metadata = std::fs::metadata(self.path.as_ref().unwrap()).unwrap();
        metadata.permissions().mode() & 0o777
    }

    /// The answer to exactly these bytes.
    fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        self.try_to_ask(request.as_ref()).unwrap()
    }

    fn try_to_ask(&self, request: &[u8]) -> Option<Answer> {
        let mut bytes = Vec::new();
        match &self.path {
            Some(path) => {
                let mut stream = UnixStream::connect(path).ok()?;
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                exchange(&mut stream, request, &mut bytes)?;
            }
            None => {
                let mut stream = TcpStream::connect(self.process.edge).ok()?;
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                exchange(&mut stream, request, &mut bytes)?;
            }
        }
        Answer::parse(&bytes)
    }

    fn bare(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(request(path, headers))
    }

    /// With the password.
    fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let code = STANDARD.encode(format!("paidup:{}", self.password));
        let login = format!("Basic {code}");
        let mut all = vec![("Authorization", login.as_str())];
        all.extend(headers);
        self.bare(path, &all)
    }

    fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    fn try_get(&self, path: &str) -> Option<Answer> {
        self.try_to_ask(request(path, &[]).as_bytes())
    }

    /// The names on this page of the list and all that follow it.
    fn listed(&self, path: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(path) = next {
            let answer = self.get(&path);
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            let rows = answer.body.split("<th scope=\"row\">").skip(1);
            let name = |row: &str| {
                row.split_once("<bdi>")
                    .unwrap()
                    .1
                    .split('<')
                    .next()
                    .unwrap()
                    .to_owned()
            };
            let before = names.len();
            names.extend(rows.map(name));
            assert!(names.len() - before <= 50, "{path}");
            let link = answer.body.split_once("rel=\"next\" href=\"");
            next = link.map(|(_, rest)| rest.split('"').next().unwrap().replace("&#38;", "&"));
        }
        names
    }
}

fn request(path: &str, headers: &[(&str, &str)]) -> String {
    let has_host = headers.iter().any(|(name, _)| *name == "Host");
    let host = if has_host { "" } else { "Host: localhost\r\n" };
    let mut text = format!("GET {path} HTTP/1.1\r\n{host}");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text + "\r\n"
}

/// Reads one answer: like a browser, by its length.
fn exchange(stream: &mut (impl Read + Write), request: &[u8], bytes: &mut Vec<u8>) -> Option<()> {
    stream.write_all(request).ok()?;
    let mut buffer = [0; 64 * 1024];
    let is_head = request.starts_with(b"HEAD");
    loop {
        let got = match stream.read(&mut buffer) {
            Ok(0) => return (!bytes.is_empty()).then_some(()),
            Ok(got) => got,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("{error}"),
        };
        bytes.extend_from_slice(&buffer[..got]);
        let text = String::from_utf8_lossy(bytes);
        let Some((head, _)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.split("Content-Length: ").nth(1).unwrap();
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        let body = if is_head { 0 } else { length };
        if bytes.len() >= head.len() + 4 + body {
            return Some(());
        }
    }
}
