//! `paidup page`.

use std::path::Path;
use std::time::Duration;

use crate::command::environment::Environment;
use crate::command::exit::{Exit, Failure, tell};
use crate::command::serve::{begin, ended, not_started};
use crate::command::words::{CliOption, Command, ENV_FILE, does};
use crate::command::{check, report};
use crate::host::zone::Zone;
use crate::page::process::{self, Options};
use crate::page::visit::Sources;

pub(crate) const COMMAND: Command = Command {
    name: "page",
    arguments: "",
    summary: "Show orders, money and health in a browser, read-only",
    details: "Listens on PAGE_ADDR, for this machine alone, and prints where to look: on a port with a new key\n\
              each time, unless PAGE_PASSWORD is set; on a Unix socket for whoever may open it. Needs the\n\
              database of `paidup serve` and no secret of Stripe's.",
    options: &[
        CliOption {
            name: "leave-after",
            value: "SECONDS",
            help: "end when nobody has asked for that long; the socket of systemd\nstarts it again",
        },
        ENV_FILE,
    ],
    exits: Exit::OF_PROCESSES,
    examples: &["paidup page", "PAGE_ADDR=unix:/tmp/page.sock paidup page"],
    run: |words| {
        let seconds = words.number("leave-after", &(0..=86_400), 0)?;
        let leave_after = (seconds > 0).then(|| Duration::from_secs(seconds));
        does(move |env_file, _| run(env_file, leave_after))
    },
};

fn run(env_file: Option<&Path>, leave_after: Option<Duration>) -> Result<Exit, Failure> {
    let (mut zone, mut odd) = (Zone::default(), None);
    let read = |environment: &Environment| {
        zone = environment.zone();
        odd = check::zone(environment);
        environment.page()
    };
    let (config, systemd) = begin(env_file, read, |it| (&it.database, it.log_level))?;
    let mut options = options(&config.database, zone, leave_after);
    let stored = options.sources.check;
    options.sources.check =
        Box::new(move |store| odd.iter().cloned().chain(stored(store)).collect());
    let why = process::run(config, systemd, options, &|line| tell(&line)).map_err(not_started)?;
    ended(why)
}

/// What the page needs beside its configuration.
pub(crate) fn options(database: &Path, zone: Zone, leave_after: Option<Duration>) -> Options {
    let database = database.to_owned();
    Options {
        leave_after,
        sources: Sources {
            check: Box::new(move |store| check::stored(&database, store, None)),
            csv: Box::new({
                let zone = zone.clone();
                move |by, rows| report::csv(by, rows, &zone)
            }),
            zone,
        },
    }
}
