//! Prometheus' own tool reads our metrics and has nothing to say.

use std::process::Command;

use serde_json::json;

use crate::harness::{Setup, changed, event, paid};
use crate::tools;

#[test]
fn promtool_has_no_complaint_before_and_after_traffic() {
    let service = Setup::new().set("RATE_LIMIT_WEBHOOK_MAX", "6").start();
    let check = || {
        let metrics = service.admin_get("/metrics").body;
        let mut promtool = Command::new("promtool");
        promtool.args(["check", "metrics"]);
        let output = tools::run(promtool, &metrics);
        assert!(output.status.success(), "{output:?}\n{metrics}");
        assert!(
            output.stdout.is_empty() && output.stderr.is_empty(),
            "{output:?}"
        );
        metrics
    };
    check();

    let refund = changed("refund", |event| {
        event["type"] = json!("refund.created");
        event["data"]["object"] = json!({"id": "re_1", "amount": 1, "payment_intent": "pi_x"});
    });
    service.accepts(paid("1"), "applied");
    service.accepts(paid("1"), "duplicate");
    service.accepts(event("other"), "ignored");
    service.accepts(refund, "parked");
    service.post(&[], "{}");
    service.deliver("{");
    assert_eq!(service.deliver(paid("2")).status, 429);
    service.get("/healthz");
    service.get("/no/such/path");
    service.ask("BREW / HTTP/1.1\r\nHost: x\r\n\r\n");
    service.ask("nonsense\r\n\r\n");
    service.admin_get("/readyz");
    let metrics = check();
    for line in [
        "paidup_orders{status=\"paid\"} 1",
        "paidup_webhook_rate_limited_total 1",
    ] {
        assert!(
            metrics.contains(&format!("\n{line}\n")),
            "{line} is not in {metrics}"
        );
    }
}
