//! Turns command-line words into a [`Command`], and holds the help. Words in, a command or a usage
//! error out; nothing is read and nothing is written here.
//!
//! A command is one row of `TOPICS`, which is both its grammar and its help, one variant of
//! [`Command`], and one arm in `main.rs`.

use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use lexopt::Arg;

use crate::base::id::OrderId;
use crate::base::near::nearest;
use crate::base::plain;
use crate::command::backup;
use crate::command::db;
use crate::command::exit::Exit;
use crate::command::{install, reconcile, send_test};
use crate::truth::kind::{KINDS, Kind};
use crate::truth::order::Status;

/// What the words ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// What to do.
    pub command: Command,
    /// The systemd `EnvironmentFile` whose variables count more than those of the environment.
    pub env_file: Option<PathBuf>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each variant is explained by its help in `TOPICS`"
)]
pub enum Command {
    Serve,
    Check {
        json: bool,
    },
    OrdersList {
        status: Option<Status>,
        limit: u32,
        json: bool,
    },
    OrdersShow {
        id: String,
        json: bool,
    },
    EventsList {
        order: Option<String>,
        limit: u32,
        json: bool,
    },
    EventsShow {
        id: String,
        json: bool,
    },
    SendTest(send_test::Options),
    Backup(backup::Target),
    Restore {
        file: PathBuf,
    },
    DbCheck {
        json: bool,
    },
    DbInfo {
        json: bool,
    },
    DbPrune {
        days: u32,
    },
    RotateAdd {
        secret_file: Option<PathBuf>,
        from: Option<PathBuf>,
        restart: bool,
    },
    RotateVerify {
        secret_file: Option<PathBuf>,
    },
    RotateFinish {
        secret_file: Option<PathBuf>,
        restart: bool,
    },
    Demo,
    Doctor {
        json: bool,
    },
    Reconcile(reconcile::Options),
    Api,
    GenToken,
    Install(install::Options),
    Uninstall {
        options: install::Options,
        purge: bool,
    },
    Version,
    /// Help on the command of that name, on all that begin with that word, or, when it is empty, on
    /// everything.
    Help(String),
}

/// Why the words make no command. Its `Display` says where to read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError {
    what: String,
    /// The command that it is about, or nothing.
    about: &'static str,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blank = if self.about.is_empty() { "" } else { " " };
        write!(f, "{}\nRead: paidup help{blank}{}", self.what, self.about)
    }
}

impl std::error::Error for UsageError {}

/// Reads the words that follow the program's name.
///
/// # Errors
/// [`UsageError`] when they make no command.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Invocation, UsageError> {
    let mut parser = lexopt::Parser::from_args(words);
    let topic = match topic_of(&mut parser)? {
        Start::Topic(topic) => topic,
        Start::Done(command) => {
            return Ok(Invocation {
                command,
                env_file: None,
            });
        }
    };
    let mut given = Given {
        topic,
        words: Vec::new(),
        options: Vec::new(),
    };
    let is_wrong = |error: lexopt::Error| topic.error(plain::text(&error.to_string()));
    while let Some(arg) = parser.next().map_err(is_wrong)? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => {
                let command = Command::Help(topic.name.to_owned());
                return Ok(Invocation {
                    command,
                    env_file: None,
                });
            }
            Arg::Value(word) => given.words.push(text(word, topic)?),
            Arg::Short(letter) => {
                return Err(topic.no_option(&format!("-{letter}")));
            }
            Arg::Long(name) => {
                let choice = topic.options.iter().find(|choice| choice.name == name);
                let choice = choice.ok_or_else(|| topic.no_option(&format!("--{name}")))?;
                let value = match choice.value {
                    "" => String::new(),
                    _ => text(parser.value().map_err(is_wrong)?, topic)?,
                };
                given.take(choice, value)?;
            }
        }
    }
    Ok(Invocation {
        command: (topic.build)(&given)?,
        env_file: given.path("env-file"),
    })
}

/// The help on the command of that name, on all that begin with that word, or, when it is empty, on
/// everything.
#[must_use]
pub fn help(name: &str) -> String {
    if name.is_empty() {
        return overview();
    }
    let pages: Vec<String> = TOPICS
        .iter()
        .filter(|topic| topic.is_meant_by(name))
        .map(Topic::page)
        .collect();
    pages.join("\n")
}

/// One command: its grammar and its help.
struct Topic {
    /// As it is written, with one blank where it has two words.
    name: &'static str,
    /// What follows it besides options.
    arguments: &'static str,
    /// One line for the overview.
    summary: &'static str,
    /// What else to know.
    details: &'static str,
    options: &'static [Choice],
    exits: &'static [Exit],
    examples: &'static [&'static str],
    build: fn(&Given) -> Result<Command, UsageError>,
}

/// One option.
struct Choice {
    name: &'static str,
    /// The name of its value; empty when it takes none.
    value: &'static str,
    help: &'static str,
}

const ENV_FILE: Choice = Choice {
    name: "env-file",
    value: "FILE",
    help: "read variables from a systemd EnvironmentFile as well; they count more than the\nenvironment's own, as under systemd",
};
const JSON: Choice = Choice {
    name: "json",
    value: "",
    help: "JSON for programs",
};
const JSON_LINES: Choice = Choice {
    name: "json",
    value: "",
    help: "JSON for programs, one object a line",
};
const DRY_RUN: Choice = Choice {
    name: "dry-run",
    value: "",
    help: "show each step and take none",
};
const ROOT: Choice = Choice {
    name: "root",
    value: "DIR",
    help: "DIR stands for /, as when an image is made; commands are shown, not run",
};
const LIMIT: Choice = Choice {
    name: "limit",
    value: "N",
    help: "at most so many, newest first; 50 unless given",
};

const UNIT_ENV_FILE: Choice = Choice {
    name: "env-file",
    value: "FILE",
    help: "the service's EnvironmentFile; /etc/paidup/paidup.env unless given",
};
const SECRET_FILE: Choice = Choice {
    name: "secret-file",
    value: "FILE",
    help: "the file that LoadCredential= of the unit reads, when the secrets are a\ncredential",
};
const RESTART: Choice = Choice {
    name: "restart",
    value: "",
    help: "then systemctl reload paidup, and ask the server",
};

/// Rows that a list may show.
const LIMIT_RANGE: RangeInclusive<u32> = 1..=1_000_000;
const LIMIT_DEFAULT: u32 = 50;
/// Stripe takes amounts of up to eight digits: <https://docs.stripe.com/currencies>.
const AMOUNT_RANGE: RangeInclusive<i64> = 1..=99_999_999;
/// How far back `reconcile` may look: Stripe keeps events for 30 days.
const SINCE_RANGE: RangeInclusive<i64> = 60..=30 * 24 * 3600;
/// How often `send-test` may send one event.
const COPIES_RANGE: RangeInclusive<u32> = 1..=100;
/// Backups that `backup --dir` may keep.
const KEEP_RANGE: RangeInclusive<NonZeroUsize> = NonZeroUsize::MIN..=NonZeroUsize::MAX;

const TOPICS: &[Topic] = &[
    Topic {
        name: "serve",
        arguments: "",
        summary: "Receive webhooks until SIGTERM or SIGINT",
        details: "Listens on LISTEN_ADDR for Stripe and on ADMIN_ADDR for this machine (health, metrics), keeps\n\
                  orders in DATABASE_PATH, and logs one JSON line a request on stdout.",
        options: &[ENV_FILE],
        exits: &[
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::LogLost,
            Exit::Configuration,
        ],
        examples: &["STRIPE_WEBHOOK_SECRET=whsec_... paidup serve"],
        build: |given| given.no_words(Command::Serve),
    },
    Topic {
        name: "check",
        arguments: "",
        summary: "Say whether `serve` could work here: configuration, files, database, disk",
        details: "Every mistake at once, each with its remedy. Nothing is changed and no server is needed: run it\n\
                  before each restart. One that runs is asked whether the proxy names its clients.",
        options: &[ENV_FILE, JSON_LINES],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Problems],
        examples: &["paidup check --env-file /etc/paidup/paidup.env"],
        build: |given| {
            given.no_words(Command::Check {
                json: given.has("json"),
            })
        },
    },
    Topic {
        name: "orders list",
        arguments: "",
        summary: "List orders",
        details: "Needs DATABASE_PATH alone; the server may run meanwhile.",
        options: &[
            Choice {
                name: "status",
                value: "STATUS",
                help: "only orders of this status: pending, processing, paid, partially_refunded,\nrefunded, failed, canceled, expired",
            },
            LIMIT,
            JSON_LINES,
            ENV_FILE,
        ],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
        examples: &["paidup orders list --status refunded --limit 20"],
        build: |given| {
            given.no_words(Command::OrdersList {
                status: given.status()?,
                limit: given.limit()?,
                json: given.has("json"),
            })
        },
    },
    Topic {
        name: "orders show",
        arguments: "ID",
        summary: "Tell the story of one order",
        details: "ID is the shop's order id, or the id of its session (cs_...), intent (pi_...), charge (ch_...),\n\
                  refund (re_...) or dispute (du_...). Times are UTC. In JSON amounts are minor units.\n\
                  Needs DATABASE_PATH alone; the server may run meanwhile.",
        options: &[JSON, ENV_FILE],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
        examples: &[
            "paidup orders show ord_1001",
            "paidup orders show pi_3D93AHdKHY7pQ2eZvKY0MdCCkvP --json",
        ],
        build: |given| {
            Ok(Command::OrdersShow {
                id: given.one_word()?,
                json: given.has("json"),
            })
        },
    },
    Topic {
        name: "events list",
        arguments: "",
        summary: "List the events that Stripe has sent",
        details: "Needs DATABASE_PATH alone; the server may run meanwhile.",
        options: &[
            Choice {
                name: "order",
                value: "ID",
                help: "only events of this order",
            },
            LIMIT,
            JSON_LINES,
            ENV_FILE,
        ],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
        examples: &["paidup events list --order ord_1001"],
        build: |given| {
            given.no_words(Command::EventsList {
                order: given.value("order").map(str::to_owned),
                limit: given.limit()?,
                json: given.has("json"),
            })
        },
    },
    Topic {
        name: "events show",
        arguments: "ID",
        summary: "Tell what came of one event",
        details: "ID is the event's id (evt_...), as in the log and in the Dashboard.",
        options: &[JSON, ENV_FILE],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
        examples: &["paidup events show evt_1j0WIj3KHY7pQ2eZvKY9LEnEDln"],
        build: |given| {
            Ok(Command::EventsShow {
                id: given.one_word()?,
                json: given.has("json"),
            })
        },
    },
    Topic {
        name: "send-test",
        arguments: "[TYPE...]",
        summary: "Send signed test events to a running server and say what came back",
        details: "Makes events as Stripe would, signs them with the (first) configured signing secret and posts\n\
                  them: the proof that the server runs, can be reached and has this secret. TYPE is one of the\n\
                  types that paidup knows; checkout.session.completed unless given. The events of one order\n\
                  belong to one payment, also over several calls with the same --order.\n\
                  It makes a test order, which counts as one. Never name a customer's order: it would count as\n\
                  paid again. All events are of test mode: in a live shop they change nothing.",
        options: &[
            Choice {
                name: "order",
                value: "ID",
                help: "the order; a new one, test_..., unless given",
            },
            Choice {
                name: "amount",
                value: "N",
                help: "in minor units; 2500 unless given",
            },
            Choice {
                name: "currency",
                value: "CODE",
                help: "eur unless given",
            },
            Choice {
                name: "url",
                value: "URL",
                help: "where to; LISTEN_ADDR/stripe/webhook unless given",
            },
            Choice {
                name: "all",
                value: "",
                help: "a whole life: declined, paid, refunded in part, disputed, won, refund failed",
            },
            Choice {
                name: "duplicate",
                value: "N",
                help: "every event N times, as Stripe may",
            },
            Choice {
                name: "shuffle",
                value: "",
                help: "in a random order, as Stripe may",
            },
            Choice {
                name: "forged",
                value: "",
                help: "signed with another secret: must be refused",
            },
            Choice {
                name: "stale",
                value: "",
                help: "signed too long ago: must be refused",
            },
            ENV_FILE,
        ],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
        examples: &[
            "paidup send-test",
            "paidup send-test checkout.session.completed charge.refunded --order test_1 --amount 1999",
            "paidup send-test --all --shuffle --duplicate 2",
            "paidup send-test --url https://shop.example.com/stripe/webhook",
        ],
        build: |given| Ok(Command::SendTest(given.send_test()?)),
    },
    Topic {
        name: "backup",
        arguments: "[FILE]",
        summary: "Copy the database to one verified file while the server goes on",
        details: "The copy is the database as it is at this moment. It gets its name only when it is whole, checked\n\
                  and on disk; it is readable by its owner only, and there is nothing beside it. A backup on the\n\
                  same disk does not survive that disk: copy it away, too.\n\
                  Give FILE, or --dir with --keep. Files in the folder that we did not name are left alone.",
        options: &[
            Choice {
                name: "force",
                value: "",
                help: "replace FILE, if it is there, by the new one",
            },
            Choice {
                name: "dir",
                value: "FOLDER",
                help: "a new file paidup-TIME.db in this folder",
            },
            Choice {
                name: "keep",
                value: "N",
                help: "and then remove all but the newest N of them",
            },
            ENV_FILE,
        ],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
        examples: &[
            "paidup backup before-the-sale.db",
            "paidup backup --dir /var/lib/paidup/backup --keep 14",
        ],
        build: |given| Ok(Command::Backup(given.backup_target()?)),
    },
    Topic {
        name: "restore",
        arguments: "FILE",
        summary: "Put a backup in the place of the database",
        details: "Checks FILE first. The server, and whatever else has the database open, must be stopped. The\n\
                  database of before is kept beside the new one, as paidup.db.replaced-TIME. FILE stays as it is.",
        options: &[ENV_FILE],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
        examples: &["paidup restore /var/lib/paidup/backup/paidup-20261124T054626Z.db"],
        build: |given| {
            Ok(Command::Restore {
                file: given.one_word()?.into(),
            })
        },
    },
    Topic {
        name: "db check",
        arguments: "",
        summary: "Check the whole database: every page, and every order against its facts",
        details: "The server may run meanwhile. Reads all of the file.",
        options: &[JSON_LINES, ENV_FILE],
        exits: &[
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Problems,
            Exit::Configuration,
        ],
        examples: &["paidup db check"],
        build: |given| {
            given.no_words(Command::DbCheck {
                json: given.has("json"),
            })
        },
    },
    Topic {
        name: "db info",
        arguments: "",
        summary: "Say what the database holds, and when it was last backed up and checked",
        details: "The server may run meanwhile.",
        options: &[JSON, ENV_FILE],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
        examples: &["paidup db info", "paidup db info --json"],
        build: |given| {
            given.no_words(Command::DbInfo {
                json: given.has("json"),
            })
        },
    },
    Topic {
        name: "db prune",
        arguments: "",
        summary: "Remove old events from the ledger",
        details: "Orders, what is known of their payments, and their stories stay. An event that was removed and comes\n\
                  again changes nothing. The server may run meanwhile. The file does not shrink: the room is used\n\
                  for new events.",
        options: &[
            Choice {
                name: "older-than",
                value: "DAYS",
                help: "such as 90d; at least 35d, because Stripe may send events again for 30 days",
            },
            ENV_FILE,
        ],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
        examples: &["paidup db prune --older-than 90d"],
        build: |given| {
            given.no_words(Command::DbPrune {
                days: given.prune_days()?,
            })
        },
    },
    Topic {
        name: "rotate add",
        arguments: "",
        summary: "Put a new signing secret beside the old one",
        details: "Reads the secret from standard input (on a terminal: paste it, then Enter; it is not shown) or\n\
                  a file, never from the command line. The file with it is checked as the service would read\n\
                  it before it takes the place of the present one; every other byte, owner and mode stay. No\n\
                  secret is shown.",
        options: &[
            Choice {
                name: "from",
                value: "FILE",
                help: "read the secret from there instead",
            },
            RESTART,
            UNIT_ENV_FILE,
            SECRET_FILE,
        ],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
        examples: &[
            "paidup rotate add --restart",
            "paidup rotate add --from new-secret.txt --env-file paidup.env",
        ],
        build: |given| {
            given.no_words(Command::RotateAdd {
                secret_file: given.path("secret-file"),
                from: given.path("from"),
                restart: given.has("restart"),
            })
        },
    },
    Topic {
        name: "rotate verify",
        arguments: "",
        summary: "Ask the running server whether it accepts each secret of the file",
        details: "Sends it one signed event for each, of a type that changes no order. Secrets are told apart by\n\
                  their place in the file; the newest is the last.",
        options: &[UNIT_ENV_FILE, SECRET_FILE],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
        examples: &["paidup rotate verify"],
        build: |given| {
            given.no_words(Command::RotateVerify {
                secret_file: given.path("secret-file"),
            })
        },
    },
    Topic {
        name: "rotate finish",
        arguments: "",
        summary: "Drop all signing secrets but the newest",
        details: "Once the old one has expired in the Dashboard: Stripe signs with both until then, for up to 24 hours\n\
                  after a roll. Refused while the running server does not accept the newest.",
        options: &[RESTART, UNIT_ENV_FILE, SECRET_FILE],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
        examples: &["paidup rotate finish --restart"],
        build: |given| {
            given.no_words(Command::RotateFinish {
                secret_file: given.path("secret-file"),
                restart: given.has("restart"),
            })
        },
    },
    Topic {
        name: "demo",
        arguments: "",
        summary: "Show it all in a few seconds: no account, no configuration",
        details: "Starts a real server on free ports of 127.0.0.1 with a real SQLite file in a temporary folder\n\
                  and a throw-away secret, sends it the life of two orders, and shows every answer and what\n\
                  became of the orders. Leaves nothing behind.",
        options: &[],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage],
        examples: &["paidup demo"],
        build: |given| given.no_words(Command::Demo),
    },
    Topic {
        name: "doctor",
        arguments: "",
        summary: "Ask Stripe about the endpoint: what is wrong, why it matters, what to do",
        details: "`check`, and then: key, mode, endpoint (PUBLIC_URL), subscriptions, versions, undelivered\n\
                  events, clock, last delivery, and what the running server has refused. Needs\n\
                  STRIPE_SECRET_KEY; a restricted key with Webhook Endpoints: Read and Events: Read is enough.\n\
                  Nothing is changed.",
        options: &[ENV_FILE, JSON_LINES],
        exits: &[
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Problems,
            Exit::Configuration,
        ],
        examples: &["paidup doctor --env-file /etc/paidup/paidup.env"],
        build: |given| {
            given.no_words(Command::Doctor {
                json: given.has("json"),
            })
        },
    },
    Topic {
        name: "reconcile",
        arguments: "",
        summary: "Fetch from Stripe what deliveries did not bring",
        details: "What is missing goes the very way of a delivery: safe beside a running server, safe to repeat,\n\
                  and a run that was cut off is repeated. Needs STRIPE_SECRET_KEY; a restricted key with\n\
                  Events: Read is enough, with --order also Checkout Sessions, PaymentIntents, Charges and\n\
                  Refunds, Disputes, Invoices, Reviews: Read. What Stripe refuses is told, the rest is stored.",
        options: &[
            Choice {
                name: "since",
                value: "TIME",
                help: "how far back: 90m, 12h or 3d; 3d unless given, 30d at most",
            },
            Choice {
                name: "undelivered",
                value: "",
                help: "only events that Stripe could not deliver",
            },
            Choice {
                name: "order",
                value: "ID",
                help: "not events but the objects of one order, by its id or that of any Stripe object\nof it: also repairs what was never subscribed to",
            },
            DRY_RUN,
            JSON_LINES,
            ENV_FILE,
        ],
        exits: &[
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Problems,
            Exit::Configuration,
        ],
        examples: &[
            "paidup reconcile --since 3d --dry-run",
            "paidup reconcile --order ord_1001",
        ],
        build: |given| given.no_words(Command::Reconcile(given.reconcile()?)),
    },
    Topic {
        name: "api",
        arguments: "",
        summary: "Answer the shop's own back end: make orders, tell how they stand",
        details: "POST /orders makes an order with a Stripe Checkout Session, GET /orders/{id} tells how it stands,\n\
                  GET /orders what has changed. Listens on API_ADDR, for this machine alone. Needs API_TOKEN,\n\
                  STRIPE_SECRET_KEY (a restricted key with Checkout Sessions: Write is enough to make orders)\n\
                  and the database of `paidup serve`.",
        options: &[ENV_FILE],
        exits: &[
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::LogLost,
            Exit::Configuration,
        ],
        examples: &["paidup api --env-file /etc/paidup/paidup.env"],
        build: |given| given.no_words(Command::Api),
    },
    Topic {
        name: "gen-token",
        arguments: "",
        summary: "Make a token for API_TOKEN",
        details: "256 random bits in hexadecimal, from the operating system.",
        options: &[],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage],
        examples: &["paidup gen-token"],
        build: |given| given.no_words(Command::GenToken),
    },
    Topic {
        name: "install",
        arguments: "",
        summary: "Make this machine a server: binary, systemd units, user, settings, nightly backup",
        details: "Shows each step, and what it is for. What is there and right is left alone, and settings are\n\
                  never overwritten: to upgrade, give the same command to the new binary. Needs root and\n\
                  systemd 249 or newer.",
        options: &[DRY_RUN, ROOT],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage],
        examples: &["paidup install --dry-run", "sudo ./paidup install"],
        build: |given| given.no_words(Command::Install(given.install())),
    },
    Topic {
        name: "uninstall",
        arguments: "",
        summary: "Stop paidup and remove what `install` has put in place",
        details: "Settings, orders, backups and logs stay, unless --purge is given.",
        options: &[
            Choice {
                name: "purge",
                value: "",
                help: "remove settings, orders, backups, logs and the user as well: for ever",
            },
            DRY_RUN,
            ROOT,
        ],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage],
        examples: &[
            "sudo paidup uninstall",
            "paidup uninstall --purge --dry-run",
        ],
        build: |given| {
            given.no_words(Command::Uninstall {
                options: given.install(),
                purge: given.has("purge"),
            })
        },
    },
    Topic {
        name: "version",
        arguments: "",
        summary: "Print the version",
        details: "",
        options: &[],
        exits: &[Exit::Done, Exit::Usage],
        examples: &["paidup version"],
        build: |given| given.no_words(Command::Version),
    },
    Topic {
        name: "help",
        arguments: "[COMMAND]",
        summary: "Print this, or the options and examples of one command",
        details: "",
        options: &[],
        exits: &[Exit::Done, Exit::Usage],
        examples: &["paidup help send-test"],
        build: |given| {
            let name = given.words.join(" ");
            if name.is_empty() || TOPICS.iter().any(|topic| topic.is_meant_by(&name)) {
                return Ok(Command::Help(name));
            }
            Err(no_command(&name))
        },
    },
];

impl Topic {
    /// `name` is this command's name, or the first of its two words.
    fn is_meant_by(&self, name: &str) -> bool {
        self.name == name || self.group() == Some(name)
    }

    fn group(&self) -> Option<&'static str> {
        self.name.split_once(' ').map(|(group, _)| group)
    }

    fn page(&self) -> String {
        let mut page = format!("paidup {}", self.name);
        for part in [
            self.arguments,
            if self.options.is_empty() {
                ""
            } else {
                "[OPTIONS]"
            },
        ] {
            if !part.is_empty() {
                page.push_str(&format!(" {part}"));
            }
        }
        page.push_str(&format!("\n\n{}.\n", self.summary));
        if !self.details.is_empty() {
            page.push_str(&format!("{}\n", self.details));
        }
        if !self.options.is_empty() {
            page.push_str("\nOptions\n");
        }
        for choice in self.options {
            let words = format!("--{} {}", choice.name, choice.value);
            let help = choice.help.replace('\n', &format!("\n{:20}", ""));
            page.push_str(&format!("  {words:<16}  {help}\n"));
        }
        if self.name == "send-test" {
            page.push_str("\nTypes\n");
            page.extend(KINDS.iter().map(|kind| format!("  {}\n", kind.name)));
        }
        page.push_str("\nExit codes\n");
        let exits = self.exits.iter();
        page.extend(exits.map(|exit| format!("  {:<3} {}\n", exit.code(), exit.meaning())));
        page.push_str("\nExamples\n");
        page.extend(self.examples.iter().map(|example| format!("  {example}\n")));
        page
    }

    fn error(&self, what: impl Into<String>) -> UsageError {
        UsageError {
            what: format!("paidup {}: {}", self.name, what.into()),
            about: self.name,
        }
    }

    fn no_option(&self, word: &str) -> UsageError {
        let known = self
            .options
            .iter()
            .map(|choice| format!("--{}", choice.name));
        self.error(format!(
            "there is no option {}{}",
            plain::text(word),
            nearest(word, known)
        ))
    }
}

fn overview() -> String {
    let mut text = "paidup receives Stripe webhooks, proves that Stripe sent them, and keeps every order in one\n\
                    SQLite file truthful.\n\nUsage: paidup COMMAND [OPTIONS]\n\n"
        .to_owned();
    for topic in TOPICS {
        text.push_str(&format!("  {:<12} {}\n", topic.name, topic.summary));
    }
    text.push_str(
        "\nThe configuration is the environment; .env.example explains each variable. Reading orders and\n\
         events needs DATABASE_PATH alone. `paidup help COMMAND` has options, exit codes and examples.\n",
    );
    text
}

/// What the first words come to.
enum Start {
    Topic(&'static Topic),
    Done(Command),
}

fn topic_of(parser: &mut lexopt::Parser) -> Result<Start, UsageError> {
    let first = match parser.next() {
        Ok(Some(Arg::Value(word))) => word.to_string_lossy().into_owned(),
        Ok(Some(Arg::Short('h') | Arg::Long("help"))) => {
            return Ok(Start::Done(Command::Help(String::new())));
        }
        Ok(Some(Arg::Short('V') | Arg::Long("version"))) => {
            return Ok(Start::Done(Command::Version));
        }
        Ok(Some(Arg::Short(_) | Arg::Long(_))) => {
            return Err(general("an option stands after its command"));
        }
        Ok(None) => return Err(general("a command is missing")),
        Err(error) => return Err(general(plain::text(&error.to_string()))),
    };
    let mut seconds = TOPICS
        .iter()
        .filter(|topic| topic.group() == Some(&first))
        .peekable();
    let Some(topic) = seconds.peek() else {
        let topic = TOPICS.iter().find(|topic| topic.name == first);
        return topic.map(Start::Topic).ok_or_else(|| no_command(&first));
    };
    let group = topic.group().unwrap_or_default();
    match parser.next() {
        Ok(Some(Arg::Value(word))) => {
            let name = format!("{first} {}", word.to_string_lossy());
            let topic = TOPICS.iter().find(|topic| topic.name == name);
            topic.map(Start::Topic).ok_or_else(|| no_command(&name))
        }
        Ok(Some(Arg::Short('h') | Arg::Long("help"))) => Ok(Start::Done(Command::Help(first))),
        Ok(Some(Arg::Short(_) | Arg::Long(_)) | None) | Err(_) => {
            let names: Vec<_> = seconds
                .map(|topic| format!("paidup {}", topic.name))
                .collect();
            let what = format!("a word is missing: {}", names.join(" or "));
            Err(UsageError { what, about: group })
        }
    }
}

/// The words of one command, taken apart.
struct Given {
    topic: &'static Topic,
    words: Vec<String>,
    options: Vec<(&'static str, String)>,
}

impl Given {
    fn take(&mut self, choice: &Choice, value: String) -> Result<(), UsageError> {
        if self.value(choice.name).is_some() {
            return Err(self
                .topic
                .error(format!("--{} is given twice", choice.name)));
        }
        self.options.push((choice.name, value));
        Ok(())
    }

    fn value(&self, name: &str) -> Option<&str> {
        let option = self.options.iter().find(|(known, _)| *known == name);
        option.map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    fn no_words(&self, command: Command) -> Result<Command, UsageError> {
        match self.words.first() {
            Some(word) => {
                let what = format!("takes no {:?}", plain::text(word));
                Err(self.topic.error(what))
            }
            None => Ok(command),
        }
    }

    fn one_word(&self) -> Result<String, UsageError> {
        match self.words.as_slice() {
            [word] => Ok(word.clone()),
            [] => Err(self
                .topic
                .error(format!("{} is missing", self.topic.arguments))),
            [_, ..] => Err(self.topic.error(format!(
                "takes one {}; put quotes around one that has blanks",
                self.topic.arguments
            ))),
        }
    }

    fn number<N>(&self, name: &str, range: &RangeInclusive<N>, default: N) -> Result<N, UsageError>
    where
        N: std::str::FromStr + PartialOrd + fmt::Display,
    {
        let Some(text) = self.value(name) else {
            return Ok(default);
        };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let (from, to) = (range.start(), range.end());
            let what = format!(
                "--{name} is a number from {from} to {to}, not {:?}",
                plain::text(text)
            );
            self.topic.error(what)
        })
    }

    fn limit(&self) -> Result<u32, UsageError> {
        self.number("limit", &LIMIT_RANGE, LIMIT_DEFAULT)
    }

    fn reconcile(&self) -> Result<reconcile::Options, UsageError> {
        Ok(reconcile::Options {
            since_seconds: self.since()?,
            undelivered: self.has("undelivered"),
            order: self.value("order").map(str::to_owned),
            dry_run: self.has("dry-run"),
            json: self.has("json"),
        })
    }

    /// `90m`, `12h` or `3d`, in seconds.
    fn since(&self) -> Result<i64, UsageError> {
        let text = self.value("since").unwrap_or("3d");
        let unit = match text.chars().last() {
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 24 * 3600,
            Some(_) | None => 0,
        };
        let number = text.get(..text.len().saturating_sub(1)).unwrap_or_default();
        let seconds = number
            .parse::<i64>()
            .ok()
            .and_then(|number| number.checked_mul(unit));
        seconds
            .filter(|seconds| SINCE_RANGE.contains(seconds))
            .ok_or_else(|| {
                let what = format!(
                    "--since is 1m to 30d, such as 12h, not {:?}",
                    plain::text(text)
                );
                self.topic.error(what)
            })
    }

    fn install(&self) -> install::Options {
        install::Options {
            root: PathBuf::from(self.value("root").unwrap_or("/")),
            dry_run: self.has("dry-run"),
        }
    }

    fn status(&self) -> Result<Option<Status>, UsageError> {
        let Some(text) = self.value("status") else {
            return Ok(None);
        };
        let words = || Status::ALL.iter().map(|status| status.as_str().to_owned());
        Status::parse(text).map(Some).ok_or_else(|| {
            let near = nearest(text, words());
            let all = words().collect::<Vec<_>>().join(", ");
            let text = plain::text(text);
            self.topic.error(format!(
                "there is no status {text:?}{near} There are: {all}"
            ))
        })
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.value(name).map(PathBuf::from)
    }

    fn backup_target(&self) -> Result<backup::Target, UsageError> {
        let Some(folder) = self.value("dir") else {
            if self.has("keep") {
                return Err(self.topic.error("--keep goes with --dir"));
            }
            return Ok(backup::Target::File {
                path: self.one_word()?.into(),
                may_replace: self.has("force"),
            });
        };
        if self.has("force") || !self.words.is_empty() {
            return Err(self.topic.error("FILE (and --force) or --dir, not both"));
        }
        if !self.has("keep") {
            return Err(self
                .topic
                .error("--keep N is missing: how many are to stay"));
        }
        Ok(backup::Target::Folder {
            path: folder.into(),
            keep: self.number("keep", &KEEP_RANGE, NonZeroUsize::MIN)?,
        })
    }

    fn prune_days(&self) -> Result<u32, UsageError> {
        let text = self.value("older-than").unwrap_or_default();
        let days = db::parse_days(text).filter(|days| *days >= db::PRUNE_DAYS_MIN);
        days.ok_or_else(|| {
            self.topic.error(format!(
                "--older-than is a number of days such as 90d, at least {}d, not {:?}",
                db::PRUNE_DAYS_MIN,
                plain::text(text)
            ))
        })
    }

    fn send_test(&self) -> Result<send_test::Options, UsageError> {
        let order = self.value("order").map(OrderId::parse).transpose();
        let order = order.map_err(|bad| self.topic.error(format!("--order: {bad}")))?;
        let currency = self.value("currency").unwrap_or("eur").to_ascii_lowercase();
        if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Err(self
                .topic
                .error("--currency is a code of three letters, such as eur"));
        }
        if self.has("all") && !self.words.is_empty() {
            return Err(self
                .topic
                .error("--all sends its own types: leave out either"));
        }
        if self.has("forged") && self.has("stale") {
            return Err(self.topic.error("--forged or --stale, not both"));
        }
        let types = self.words.iter().map(|word| self.event_type(word));
        Ok(send_test::Options {
            types: types.collect::<Result<_, _>>()?,
            order,
            amount: self.number("amount", &AMOUNT_RANGE, 2500)?,
            currency,
            url: self.value("url").map(str::to_owned),
            all: self.has("all"),
            copies: self.number("duplicate", &COPIES_RANGE, 1)?,
            shuffle: self.has("shuffle"),
            forged: self.has("forged"),
            stale: self.has("stale"),
        })
    }

    fn event_type(&self, word: &str) -> Result<&'static str, UsageError> {
        let known = Kind::find(word).map(|kind| kind.name);
        known.ok_or_else(|| {
            let near = nearest(word, KINDS.iter().map(|kind| kind.name.to_owned()));
            self.topic
                .error(format!("there is no type {:?}{near}", plain::text(word)))
        })
    }
}

fn text(word: OsString, topic: &Topic) -> Result<String, UsageError> {
    word.into_string().map_err(|word| {
        let word = plain::text(&word.to_string_lossy());
        topic.error(format!("{word:?} is not UTF-8"))
    })
}

fn general(what: impl Into<String>) -> UsageError {
    UsageError {
        what: format!("paidup: {}", what.into()),
        about: "",
    }
}

fn no_command(name: &str) -> UsageError {
    // Of two words, the first may be the one that is wrong, or there may be none to begin with.
    let names = TOPICS.iter().map(|topic| topic.name.to_owned());
    let groups = TOPICS.iter().filter_map(Topic::group).map(str::to_owned);
    let near = nearest(name, names.chain(groups));
    general(format!("there is no command {:?}{near}", plain::text(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Invocation, UsageError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn command(line: &str) -> Command {
        parsed(line).unwrap().command
    }

    fn wrong(line: &str) -> String {
        parsed(line).unwrap_err().to_string()
    }

    #[test]
    fn words_become_commands() {
        assert_eq!(command("serve"), Command::Serve);
        assert_eq!(command("check --json"), Command::Check { json: true });
        let list = |status, limit, json| Command::OrdersList {
            status,
            limit,
            json,
        };
        assert_eq!(command("orders list"), list(None, 50, false));
        let all = "orders list --status=refunded --limit 3 --json";
        assert_eq!(command(all), list(Some(Status::Refunded), 3, true));
        let show = Command::OrdersShow {
            id: "-1".to_owned(),
            json: true,
        };
        assert_eq!(command("orders show --json -- -1"), show);
        let order = Some("ord_1".to_owned());
        let events = Command::EventsList {
            order,
            limit: 50,
            json: false,
        };
        assert_eq!(command("events list --order ord_1"), events);
        let event = Command::EventsShow {
            id: "evt_1".to_owned(),
            json: false,
        };
        assert_eq!(command("events show evt_1"), event);
        assert_eq!(command("demo"), Command::Demo);
        let uninstall = Command::Uninstall {
            options: install::Options {
                root: "/mnt".into(),
                dry_run: true,
            },
            purge: true,
        };
        assert_eq!(
            command("uninstall --purge --dry-run --root /mnt"),
            uninstall
        );
        for line in ["version", "--version", "-V"] {
            assert_eq!(command(line), Command::Version);
        }
        let with_file = parsed("serve --env-file /etc/paidup.env").unwrap();
        assert_eq!(with_file.env_file, Some("/etc/paidup.env".into()));
    }

    #[test]
    fn send_test_has_sensible_defaults_and_every_option() {
        let Command::SendTest(plain) = command("send-test") else {
            panic!("another command");
        };
        assert_eq!(
            (plain.amount, plain.currency.as_str(), plain.copies),
            (2500, "eur", 1)
        );
        assert_eq!((plain.order, plain.url, plain.types), (None, None, vec![]));
        let line = "send-test charge.refunded refund.failed --order test_1 --amount 1999 \
                    --currency JPY --url http://[::1]:1/x --duplicate 3 --shuffle --stale";
        let Command::SendTest(full) = command(line) else {
            panic!("another command");
        };
        let expected = send_test::Options {
            types: vec!["charge.refunded", "refund.failed"],
            order: OrderId::parse("test_1").ok(),
            amount: 1999,
            currency: "jpy".to_owned(),
            url: Some("http://[::1]:1/x".to_owned()),
            all: false,
            copies: 3,
            shuffle: true,
            forged: false,
            stale: true,
        };
        assert_eq!(full, expected);
    }

    #[test]
    fn a_usage_error_names_the_nearest_word_and_where_to_read_on() {
        for (line, what, read) in [
            ("", "a command is missing", "paidup help"),
            (
                "serv",
                "there is no command \"serv\". Did you mean serve?",
                "paidup help",
            ),
            (
                "order list",
                "\"order\". Did you mean orders?",
                "paidup help",
            ),
            (
                "orders lst",
                "\"orders lst\". Did you mean orders list?",
                "paidup help",
            ),
            (
                "bananas",
                "there is no command \"bananas\".\n",
                "paidup help",
            ),
            ("help sendtest", "Did you mean send-test?", "paidup help"),
            (
                "orders",
                "paidup orders list or paidup orders show",
                "paidup help orders",
            ),
            (
                "--json orders list",
                "an option stands after its command",
                "paidup help",
            ),
            (
                "orders list --jsn",
                "--jsn. Did you mean --json?",
                "paidup help orders list",
            ),
            (
                "orders list -j",
                "there is no option -j",
                "paidup help orders list",
            ),
            (
                "orders list --limit",
                "missing argument for option '--limit'",
                "help orders list",
            ),
            (
                "orders list --limit 0",
                "a number from 1 to 1000000, not \"0\"",
                "help orders list",
            ),
            ("orders list --limit -5", "not \"-5\"", "help orders list"),
            (
                "orders list --json --json",
                "--json is given twice",
                "help orders list",
            ),
            (
                "orders list --json=yes",
                "unexpected argument for option '--json'",
                "help orders list",
            ),
            (
                "orders list --status payed",
                "Did you mean paid?",
                "help orders list",
            ),
            (
                "orders list ord_1",
                "takes no \"ord_1\"",
                "help orders list",
            ),
            ("orders show", "ID is missing", "help orders show"),
            (
                "orders show two words",
                "takes one ID; put quotes",
                "help orders show",
            ),
            (
                "send-test charge.refund",
                "Did you mean charge.refunded?",
                "help send-test",
            ),
            ("send-test --amount 2.50", "not \"2.50\"", "help send-test"),
            (
                "send-test --currency euro",
                "three letters",
                "help send-test",
            ),
            (
                "send-test --all charge.refunded",
                "leave out either",
                "help send-test",
            ),
            ("send-test --forged --stale", "not both", "help send-test"),
            (
                "send-test --duplicate 101",
                "from 1 to 100",
                "help send-test",
            ),
        ] {
            let error = wrong(line);
            assert!(
                error.contains(what) && error.ends_with(read),
                "{line}: {error}"
            );
        }
    }

    #[test]
    fn hostile_words_are_not_echoed_raw() {
        for line in [
            "\u{1b}[2J",
            "orders list --\u{1b}[2J",
            "orders list --limit \u{1b}[2J",
        ] {
            assert!(!wrong(line).contains('\u{1b}'), "{line:?}");
        }
    }

    #[test]
    fn every_command_has_a_page_that_names_its_options_exit_codes_and_examples() {
        for topic in TOPICS {
            let page = help(topic.name);
            assert!(help("").contains(topic.summary));
            for choice in topic.options {
                assert!(page.contains(&format!("--{}", choice.name)), "{page}");
            }
            assert!(page.contains("Exit codes\n  0   done\n"), "{page}");
            for line in page.lines().chain(help("").lines()) {
                assert!(line.chars().count() <= 100, "{line}");
            }
            for name in [topic.name, &format!("{} --help", topic.name)] {
                let asked = if name == topic.name {
                    format!("help {name}")
                } else {
                    name.into()
                };
                assert_eq!(command(&asked), Command::Help(topic.name.to_owned()));
            }
            for example in topic.examples {
                let line = example.split_once("paidup ").unwrap().1;
                assert!(parsed(line).is_ok(), "{example}");
            }
        }
        assert_eq!(command("orders --help"), Command::Help("orders".to_owned()));
        assert!(
            help("orders").contains("paidup orders list") && help("orders").contains("show ID")
        );
    }
}
