//! `paidup notify`: tells the shop of changed orders, and says what it has not heard.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::base::id::UnixSeconds;
use crate::base::{plain, time};
use crate::command::environment::{Environment, all_of};
use crate::command::exit::{Exit, Failure, tell};
use crate::command::finding::Finding;
use crate::command::reconcile::since;
use crate::command::serve::{begin, ended, not_started};
use crate::command::show::{when, write_json};
use crate::command::words::{CliOption, Command, ENV_FILE, JSON_LINES, UsageError, Words, does};
use crate::config::notify::destination_name;
use crate::host::clock::Now;
use crate::notify::process;
use crate::store::json::order_json;
use crate::store::{Change, Destination, Store, StoredOrder, TellLock, Told, Unheard};

pub(crate) const NOTIFY: Command = Command {
    name: "notify",
    arguments: "",
    summary: "Tell the shop how an order stands whenever that changes, until SIGTERM or SIGINT",
    details: "Sends the order of GET /orders/ID to NOTIFY_URL, signed as Standard Webhooks, and tries on until a\n\
              2xx comes back: at least once, newest state only. Needs NOTIFY_SECRET and the database of\n\
              `paidup serve`. The first start tells what changes from then on. One process is one destination\n\
              (NOTIFY_NAME).",
    options: &[ENV_FILE],
    exits: Exit::OF_PROCESSES,
    examples: &["paidup notify --env-file /etc/paidup/paidup.env"],
    run: |_| does(|env_file, _| run(env_file)),
};

pub(crate) const TEST: Command = Command {
    name: "notify test",
    arguments: "",
    summary: "Send one signed message that is about no order, and say what came back",
    details: "Its type is paidup.test. A receiver answers 2xx to types that it does not know.",
    options: &[ENV_FILE],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &["paidup notify test --env-file /etc/paidup/paidup.env"],
    run: |_| does(test),
};

pub(crate) const STATUS: Command = Command {
    name: "notify status",
    arguments: "",
    summary: "Say what each destination has not heard, and why",
    details: "Needs DATABASE_PATH alone; everything may run meanwhile.",
    options: &[JSON_LINES, ENV_FILE],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &["paidup notify status", "paidup notify status --json"],
    run: |words| {
        let json = words.has("json");
        does(move |env_file, out| status(&Environment::read(env_file)?.store_to_read()?, json, out))
    },
};

pub(crate) const RETRY: Command = Command {
    name: "notify retry",
    arguments: "",
    summary: "Tell everything that waits at once, as after the shop was mended",
    details: "The running `paidup notify` does it. Needs DATABASE_PATH and NOTIFY_NAME alone.",
    options: &[ENV_FILE],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &["paidup notify retry"],
    run: |_| does(retry),
};

pub(crate) const REPLAY: Command = Command {
    name: "notify replay",
    arguments: "",
    summary: "Tell orders again, whether they were heard or not",
    details: "Each is told as it stands now, under the id that it had before: a receiver that keeps the greatest\n\
              version of each order does nothing twice. The running `paidup notify` does it.",
    options: &[
        CliOption {
            name: "since",
            value: "TIME",
            help: "orders that changed within this time: 90m, 12h or 3d, 30d at most",
        },
        CliOption {
            name: "order",
            value: "ID",
            help: "one order, by its id or that of any Stripe object of it",
        },
        CliOption {
            name: "all",
            value: "",
            help: "every order that there is",
        },
        ENV_FILE,
    ],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &[
        "paidup notify replay --since 3d",
        "paidup notify replay --order ord_1001",
    ],
    run: |words| {
        let which = Which::read(words)?;
        does(move |env_file, out| replay(env_file, &which, out))
    },
};

pub(crate) const FORGET: Command = Command {
    name: "notify forget",
    arguments: "NAME",
    summary: "Forget a destination that is no longer wanted, and what it has heard",
    details: "Its process must have ended. Until then `check`, the metrics and the alert go on naming what it has\n\
              not heard. Started again under that name, it begins like a new one.",
    options: &[ENV_FILE],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &["paidup notify forget phone"],
    run: |words| {
        let name = words.argument()?;
        does(move |env_file, out| forget(env_file, &name, out))
    },
};

/// What is told again.
enum Which {
    Since(i64),
    Order(String),
    All,
}

impl Which {
    fn read(words: &Words) -> Result<Which, UsageError> {
        match (words.value("since"), words.value("order"), words.has("all")) {
            (Some(_), None, false) => Ok(Which::Since(since(words)?)),
            (None, Some(order), false) => Ok(Which::Order(order.to_owned())),
            (None, None, true) => Ok(Which::All),
            (_, _, _) => Err(words.error("one of --since, --order and --all says what")),
        }
    }
}

fn run(env_file: Option<&Path>) -> Result<Exit, Failure> {
    let (config, systemd) = begin(env_file, Environment::notify, |it| {
        (&it.database, it.log_level)
    })?;
    let why = process::run(&config, systemd, &|line| tell(&line)).map_err(not_started)?;
    ended(why)
}

fn test(env_file: Option<&Path>, out: &mut dyn Write) -> Result<Exit, Failure> {
    let config = Environment::read(env_file)?.notify();
    let config = config.map_err(|errors| all_of(&errors))?;
    let (name, origin) = (&config.name, config.origin());
    match process::test(&config, Now::read().unix) {
        Ok(status) => {
            writeln!(out, "{name} at {origin} took a signed message: {status}.")?;
            Ok(Exit::Done)
        }
        Err(why) => Err(Failure::Other(format!(
            "{name} at {origin} did not take a signed message: {why}. Orders would wait and be told again. Check \
             NOTIFY_URL, that the receiver has the same NOTIFY_SECRET, and its own log; it must answer 2xx itself, \
             without a redirect, to types that it does not know as well."
        ))),
    }
}

fn status(store: &Store, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let all = store.unheard()?;
    if all.is_empty() && !json {
        writeln!(
            out,
            "Nobody is told yet: set NOTIFY_URL and NOTIFY_SECRET and start `paidup notify`."
        )?;
    }
    for unheard in &all {
        let refused = store.refused_by(&unheard.destination.name, REFUSED_SHOWN)?;
        let refused = refused
            .iter()
            .map(|(order, told)| (order.name.as_str(), told));
        if json {
            write_json(&status_json(unheard), out)?;
            continue;
        }
        writeln!(out, "{}: {}", unheard.destination.name, summary(unheard))?;
        for (order, told) in refused {
            let why = told.why.as_deref().unwrap_or_default();
            let next = told.next_try.map(when).unwrap_or_default();
            let (order, tried) = (plain::text(order), times(told.tries));
            writeln!(out, "  {order}: {why}, tried {tried}, next {next}")?;
        }
    }
    Ok(Exit::Done)
}

fn times(count: u32) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

/// Refused orders that are shown of each destination.
const REFUSED_SHOWN: u32 = 20;

fn status_json(unheard: &Unheard) -> Value {
    let Destination {
        name,
        failing_since,
        tries,
        next_try,
        why,
        ..
    } = &unheard.destination;
    json!({
        "destination": name,
        "waiting": unheard.waiting,
        "refused": unheard.refused,
        "oldestAt": unheard.oldest.map(time::rfc3339),
        "failingSince": failing_since.map(time::rfc3339),
        "tries": tries,
        "nextTryAt": next_try.map(time::rfc3339),
        "why": why,
    })
}

/// `has heard everything`, or what it has not and why.
fn summary(unheard: &Unheard) -> String {
    let Some(oldest) = unheard.oldest else {
        return "has heard everything".to_owned();
    };
    let orders = if unheard.waiting == 1 {
        "order"
    } else {
        "orders"
    };
    let mut text = format!(
        "{} {orders} not heard, the first since {}",
        unheard.waiting,
        when(oldest)
    );
    let destination = &unheard.destination;
    if let (Some(since), Some(why)) = (destination.failing_since, &destination.why) {
        let next = destination.next_try.map(when).unwrap_or_default();
        text += &format!("; failing since {}: {why}, next try {next}", when(since));
    } else if unheard.refused > 0 {
        text += &format!("; {} of them refused", unheard.refused);
    }
    text
}

/// The order as `orders show --json` has it: that of `GET /orders/ID`, and whether each destination
/// has heard.
pub(crate) fn with_told(
    order: &StoredOrder,
    changes: &[Change],
    told: &[(Destination, Told)],
) -> Value {
    let mut shown = order_json(order, Some(changes));
    let told = told.iter().map(|(destination, told)| {
        json!({
            "destination": destination.name,
            "isCurrent": told.version == Some(order.changed),
            "heardAt": told.at.map(time::rfc3339),
            "tries": told.tries,
            "nextTryAt": told.next_try.map(time::rfc3339),
            "why": told.why,
        })
    });
    let told: Vec<Value> = told.collect();
    if let (Value::Object(fields), false) = (&mut shown, told.is_empty()) {
        fields.insert("told".to_owned(), Value::Array(told));
    }
    shown
}

/// The same for people: nothing where nobody is told.
pub(crate) fn write_told(
    order: &StoredOrder,
    told: &[(Destination, Told)],
    out: &mut dyn Write,
) -> io::Result<()> {
    for (destination, told) in told {
        let heard = told.at.map(when).unwrap_or_default();
        let words = match (told.version, &told.why) {
            (_, Some(why)) => format!("has not heard of it: {why}, tried {}", times(told.tries)),
            (Some(version), None) if version == order.changed => {
                format!("heard of it as it stands, {heard}")
            }
            (Some(_) | None, None) if order.changed > destination.cursor => {
                "is about to hear of it".to_owned()
            }
            (Some(_), None) => format!("heard of it before it changed, {heard}"),
            (None, None) => "was not told: the order is older than the destination".to_owned(),
        };
        writeln!(out, "  {} {words}", destination.name)?;
    }
    Ok(())
}

/// What `check` and `doctor` say of the destinations.
pub(crate) fn findings(store: &Store) -> Vec<Finding> {
    let unheard = store.unheard().unwrap_or_default();
    unheard
        .iter()
        .map(|unheard| finding(store, unheard))
        .collect()
}

/// An order that has waited for so long is no longer on its way.
const WAITING_SECONDS: i64 = 15 * 60;

fn finding(store: &Store, unheard: &Unheard) -> Finding {
    let name = &unheard.destination.name;
    let what = format!("{name}: {}", summary(unheard));
    let refused = store.refused_by(name, 1).unwrap_or_default();
    let whys = [&unheard.destination.why]
        .into_iter()
        .chain(refused.iter().map(|(_, told)| &told.why));
    let now = Now::read().unix.0;
    let is_late = |oldest: UnixSeconds| now - oldest.0 > WAITING_SECONDS;
    if whys.flatten().any(|why| why == GONE) {
        return Finding::warning(
            "notify",
            format!("{what}; it answers 410, gone"),
            "paidup tries on for ever, and the shop does not learn what is paid.",
            "Set NOTIFY_URL to where the receiver is now, and restart paidup-notify.",
        );
    }
    let is_failing = unheard.destination.failing_since.is_some() || unheard.refused > 0;
    match unheard.oldest {
        Some(oldest) if is_failing || is_late(oldest) => Finding::warning(
            "notify",
            what,
            "The shop does not know how these orders stand.",
            format!(
                "`paidup notify status` names them; mend the receiver, then `paidup notify retry`. With nothing \
                 wrong there: is paidup-notify running? One that is no longer wanted: `paidup notify forget \
                 {name}`."
            ),
        ),
        Some(_) | None => Finding::good("notify", what),
    }
}

const GONE: &str = "status 410";

fn no_order(id: &str) -> Failure {
    let id = plain::text(id);
    Failure::Other(format!(
        "There is no order {id:?}. `paidup orders list` has those that there are."
    ))
}

/// The database, and the destination that the variables name.
fn destination(env_file: Option<&Path>) -> Result<(Store, Box<str>), Failure> {
    let environment = Environment::read(env_file)?;
    let name = destination_name(&environment.vars).map_err(|error| all_of(&[error]))?;
    let store = environment.store()?;
    if store.destination(&name)?.is_none() {
        return Err(Failure::Other(format!(
            "There is no destination {name:?} yet: start `paidup notify` with this NOTIFY_NAME once. `paidup notify \
             status` lists those that there are."
        )));
    }
    Ok((store, name))
}

fn forget(env_file: Option<&Path>, name: &str, out: &mut dyn Write) -> Result<Exit, Failure> {
    let environment = Environment::read(env_file)?;
    let database = environment.database()?;
    let mut store = environment.store()?;
    let name = plain::text(name);
    if store.destination(&name)?.is_none() {
        return Err(Failure::Other(format!(
            "There is no destination {name:?}. `paidup notify status` lists those that there are."
        )));
    }
    let Some(_lock) = TellLock::take(&database, &name)? else {
        return Err(Failure::Other(format!(
            "{name} is being told now, and would begin anew. Stop its process first: `systemctl list-units \
             'paidup-notify*'` shows its unit, `sudo systemctl disable --now UNIT` stops it for good."
        )));
    };
    store.forget(&name)?;
    writeln!(out, "{name} is forgotten, with all that it has heard.")?;
    Ok(Exit::Done)
}

fn retry(env_file: Option<&Path>, out: &mut dyn Write) -> Result<Exit, Failure> {
    let (mut store, name) = destination(env_file)?;
    store.tell_at_once(&name, Now::read().unix)?;
    writeln!(out, "Everything that waits for {name} is due now. {WATCH}")?;
    Ok(Exit::Done)
}

const WATCH: &str = "`paidup notify status` shows what becomes of it; `paidup notify` must run.";

fn replay(env_file: Option<&Path>, which: &Which, out: &mut dyn Write) -> Result<Exit, Failure> {
    let (mut store, name) = destination(env_file)?;
    let now = Now::read().unix;
    let what = match which {
        Which::All => {
            store.tell_again_since(&name, None)?;
            "Every order".to_owned()
        }
        Which::Since(seconds) => {
            let since = UnixSeconds(now.0.saturating_sub(*seconds));
            store.tell_again_since(&name, Some(since))?;
            format!("Every order that changed since {}", when(since))
        }
        Which::Order(id) => {
            let order = store.order(id)?;
            let order = order.ok_or_else(|| no_order(id))?;
            store.tell_again(&name, &order, now)?;
            format!("Order {}", plain::text(order.name.as_str()))
        }
    };
    writeln!(out, "{what} is told to {name} again. {WATCH}")?;
    Ok(Exit::Done)
}
