//! A success page learns one word, if the shop wants so, and strangers learn nothing.

use serde_json::json;

use crate::harness::{Answer, Service, Setup, changed, paid};

const SHOP: &str = "https://shop.example";

fn open() -> Setup {
    Setup::new().set("PUBLIC_CHECKOUT_STATUS", "on")
}

fn from(service: &Service, origin: &str, path: &str) -> Answer {
    service.ask(format!(
        "GET {path} HTTP/1.1\r\nHost: paidup\r\nOrigin: {origin}\r\n\r\n"
    ))
}

#[test]
fn the_session_of_an_order_tells_its_status_and_nothing_else() {
    let service = open().start();
    assert_eq!(service.get("/checkout/cs_test_1").status, 404);
    let open = |event: &mut serde_json::Value| {
        event["data"]["object"]["status"] = json!("open");
        event["data"]["object"]["payment_status"] = json!("unpaid");
        event["id"] = json!("evt_0");
        event["created"] = json!(1_792_999_980);
        event["type"] = json!("checkout.session.async_payment_failed");
    };
    service.accepts(changed("1", open), "applied");
    let before = service.get("/checkout/cs_test_1?now").json();
    assert_ne!(before, json!({"status": "paid"}));
    service.accepts(paid("1"), "applied");
    let answer = service.get("/checkout/cs_test_1");
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, r#"{"status":"paid"}"#)
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let line = service.line_of(answer.request_id());
    assert_eq!(line["stripeSessionId"], "cs_test_1");
    assert_eq!(line["message"], "Request served");
    let metrics = service.admin_get("/metrics").body;
    assert!(metrics.contains(r#"route="/checkout/{id}""#), "{metrics}");
}

#[test]
fn only_the_id_of_a_session_is_a_permission_to_ask() {
    let service = open().start();
    service.accepts(paid("1"), "applied");
    for path in [
        "/checkout/ord_1",
        "/checkout/pi_1",
        "/checkout/",
        "/checkout",
        "/checkout/cs_test_1/",
        "/checkout/cs_test_1%20",
        "/checkout/cs_%",
        "/checkout/cs_",
        "/CHECKOUT/cs_test_1",
    ] {
        assert_eq!(service.get(path).status, 404, "{path}");
    }
    let posted =
        service.ask("POST /checkout/cs_test_1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(posted.status, 405);
    assert_eq!(posted.header("allow"), Some("GET, HEAD"));
}

#[test]
fn it_is_off_unless_it_is_switched_on() {
    let service = Setup::new().start();
    service.accepts(paid("1"), "applied");
    assert_eq!(service.get("/checkout/cs_test_1").status, 404);
}

#[test]
fn pages_of_the_listed_sites_may_read_every_answer_and_no_others() {
    let sites = format!("http://localhost:8000, {SHOP}");
    let service = open()
        .set("PUBLIC_CHECKOUT_ORIGINS", &sites)
        .set("RATE_LIMIT_CHECKOUT_MAX", "6")
        .start();
    service.accepts(paid("1"), "applied");
    let allowed = |origin: &str, path: &str| {
        let answer = from(&service, origin, path);
        let header = answer.header("access-control-allow-origin");
        (answer.status, header.map(str::to_owned))
    };
    let shop = Some(SHOP.to_owned());
    assert_eq!(allowed(SHOP, "/checkout/cs_test_1"), (200, shop.clone()));
    assert_eq!(allowed(SHOP, "/checkout/cs_test_2"), (404, shop.clone()));
    for other in [
        "https://shop.example.evil.example",
        "null",
        "*",
        "https://SHOP.example",
    ] {
        assert_eq!(
            allowed(other, "/checkout/cs_test_1"),
            (200, None),
            "{other}"
        );
    }
    assert_eq!(allowed(SHOP, "/checkout/cs_test_1"), (429, shop));
    assert_eq!(
        from(&service, SHOP, "/healthz").header("access-control-allow-origin"),
        None
    );
}

#[test]
fn who_asks_too_often_waits_and_deliveries_do_not() {
    let service = open()
        .set("RATE_LIMIT_CHECKOUT_MAX", "2")
        .set("RATE_LIMIT_WEBHOOK_MAX", "1")
        .start();
    let statuses: Vec<u16> = (0..3)
        .map(|_| service.get("/checkout/cs_test_1").status)
        .collect();
    assert_eq!(statuses, [404, 404, 429]);
    let refused = service.get("/checkout/cs_test_1");
    assert!(refused.header("retry-after").is_some());
    // The alert on refused webhooks does not hear of it.
    assert_eq!(
        service.line_of(refused.request_id())["message"],
        "Request refused"
    );
    service.accepts(paid("1"), "applied");
}

#[test]
fn an_origin_that_no_browser_sends_is_a_mistake() {
    for bad in [
        "shop.example",
        "https://shop.example/",
        "*",
        "https://Shop.example",
        "https://",
    ] {
        let setup = open().set("PUBLIC_CHECKOUT_ORIGINS", bad);
        let (code, said) = setup.run(&["serve"]);
        assert_eq!(code, 78, "{bad}");
        assert!(said.contains("PUBLIC_CHECKOUT_ORIGINS has "), "{said}");
    }
    let (_, said) = Setup::new()
        .set("PUBLIC_CHECKOUT_ORIGINS", SHOP)
        .run(&["check"]);
    assert!(
        said.contains("PUBLIC_CHECKOUT_ORIGINS is set, and PUBLIC_CHECKOUT_STATUS is off"),
        "{said}"
    );
}
