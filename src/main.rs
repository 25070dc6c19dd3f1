//! The `paidup` command: runs what the words ask for, and ends with its exit code.

use std::env;
use std::process::ExitCode;
use std::sync::Arc;

use paidup::command::exit::{Exit, tell};
use paidup::command::screen::Screen;
use paidup::command::table;
use paidup::host::logger;
use signal_hook::consts::SIGXFSZ;

fn main() -> ExitCode {
    // A file that would grow beyond a limit is an error like a full disk, not the end of us.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
    let exit = match table::parse(env::args_os().skip(1)) {
        Ok(invocation) => {
            let mut screen = Screen::of_stdout(invocation.color);
            match invocation.run(&mut screen) {
                Ok(exit) => exit,
                Err(failure) => {
                    let exit = failure.exit();
                    if exit != Exit::Done {
                        tell(&failure);
                    }
                    exit
                }
            }
        }
        Err(error) => {
            tell(&error);
            Exit::Usage
        }
    };
    logger::flush(logger::END_PATIENCE);
    ExitCode::from(exit.code())
}
