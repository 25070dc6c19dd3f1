//! The alert rules fire when they should, and ask for what paidup tells.

use std::path::Path;
use std::process::Command;

use crate::harness::Setup;
use crate::tools;

const RULES: &str = include_str!("../../systemd/alerts.yml");

#[test]
fn the_alerts_fire_in_the_incident_and_not_on_a_normal_day() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    for words in [
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
    ] {
        let mut promtool = Command::new("promtool");
        promtool.current_dir(&folder).args(words);
        let output = tools::run(promtool, "");
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn the_alerts_ask_for_metrics_that_a_running_server_has() {
    let metrics = Setup::new().start().admin_get("/metrics").body;
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = RULES.split(|c| !is_name(c));
    let names: Vec<&str> = words.filter(|word| word.starts_with("paidup_")).collect();
    assert!(names.len() >= 5, "{names:?}");
    for name in names {
        let family = format!("# TYPE {name} ");
        assert!(metrics.contains(&family), "{name} is not in {metrics}");
    }
    let labels = r#"paidup_http_requests_total{route="/stripe/webhook",method="POST",status="#;
    for status in ["200", "400", "429", "503"] {
        assert!(
            metrics.contains(&format!("{labels}\"{status}\"}} 0")),
            "{status}"
        );
    }
}
