//! The `paidup` command.
#![expect(
    clippy::disallowed_methods,
    reason = "the environment is read here, once"
)]
use std::process::ExitCode;

fn main() -> ExitCode {
    let vars = std::env::vars().collect();
    let config = match paidup::domain::config::Config::parse(&vars, &|path: &std::path::Path| {
        std::fs::read_to_string(path)
    }) {
        Ok(config) => config,
        Err(_) => return ExitCode::from(78),
    };
    paidup::logger::start(config.log_level);
    let Ok(running) = paidup::serve::start(&config) else {
        return ExitCode::from(1);
    };
    let _ = running.stop_on_signals();
    match running.wait() {
        paidup::serve::Stop::Asked => running.stop(),
        paidup::serve::Stop::Broken(_) => return ExitCode::from(1),
    }
    ExitCode::SUCCESS
}
