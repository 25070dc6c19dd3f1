//! The `paidup` command.
#![expect(
    clippy::disallowed_methods,
    reason = "the environment is read here, once"
)]
#![expect(clippy::print_stderr, reason = "errors are for the operator")]
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use paidup::domain::config::Config;
use paidup::{check, finding, serve};

fn main() -> ExitCode {
    let vars: BTreeMap<String, String> = std::env::vars().collect();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let config = Config::parse(&vars, &|path: &Path| std::fs::read_to_string(path));
    match words.first().map_or("serve", String::as_str) {
        "check" => run_check(&config),
        _ => run_serve(config, &vars),
    }
}

fn run_check(config: &Result<Config, Vec<paidup::domain::config::ConfigError>>) -> ExitCode {
    let mut findings = check::configuration(config);
    if let Ok(config) = config {
        findings.extend(check::database(&config.database));
    }
    let _ = finding::write(&findings, false, &mut std::io::stdout());
    ExitCode::from(u8::from(finding::has_problems(&findings)) * 3)
}

fn run_serve(
    config: Result<Config, Vec<paidup::domain::config::ConfigError>>,
    vars: &BTreeMap<String, String>,
) -> ExitCode {
    let config = match config {
        Ok(config) => config,
        Err(errors) => {
            for error in errors {
                eprintln!("{error}");
            }
            return ExitCode::from(78);
        }
    };
    paidup::logger::start(config.log_level);
    let running = match serve::start_under_manager(&config, vars) {
        Ok(running) => running,
        Err(error) => {
            eprintln!("paidup: {error}");
            return ExitCode::from(1);
        }
    };
    let _ = running.stop_on_signals();
    let _ = std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("{}\n", running.notice()),
    );
    let why = running.wait();
    running.stop(&why);
    if why == paidup::serve::Stop::Asked {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}
