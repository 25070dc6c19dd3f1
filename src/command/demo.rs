//! `paidup demo`: a real server, a real file, a real log; only Stripe is played.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::base::id::UnixSeconds;
use crate::base::secret::Secret;
use crate::command::environment::{Environment, all_of};
use crate::command::exit::{Exit, Failure, tell};
use crate::command::sample::{Details, Document, SamplePayment};
use crate::command::send_test::{self, Target};
use crate::command::serve::not_started;
use crate::command::words::{CliOption, Command, does};
use crate::command::{backup, orders, page, show};
use crate::config::Address;
use crate::config::page::PageConfig;
use crate::config::serve::Config;
use crate::host::clock::Now;
use crate::host::logger;
use crate::host::systemd::Systemd;
use crate::http::server::Stop;
use crate::page::process;
use crate::serve::process as server;
use crate::store::Store;
use crate::truth::signature::SigningSecret;

pub(crate) const COMMAND: Command = Command {
    name: "demo",
    arguments: "",
    summary: "Show everything in a few seconds: no account, no configuration",
    details: "Starts a real server on free ports of 127.0.0.1 with a real SQLite file in a temporary folder\n\
              and a throw-away secret, sends it the life of two orders, and shows every answer and what\n\
              became of the orders. Leaves nothing behind. With --page it sells for a month before, and the\n\
              orders stay to look at in a browser until SIGTERM or SIGINT (Ctrl-C).",
    options: &[CliOption {
        name: "page",
        value: "",
        help: "show the orders in a browser, until Ctrl-C",
    }],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage],
    examples: &["paidup demo", "paidup demo --page"],
    run: |words| {
        let with_page = words.has("page");
        does(move |_, out| run(&env::temp_dir(), with_page, out))
    },
};

/// Runs the demo in a folder of its own below `temporary`, and removes it.
///
/// # Errors
/// [`Failure`] when the server cannot start or the output cannot be written. An answer that is not
/// as expected is no error but [`Exit::Failed`].
fn run(temporary: &Path, with_page: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let folder = Folder::make(temporary)?;
    let database = folder.0.join("paidup.db");
    let secret = Secret::new(&format!("whsec_{}", random_hex()?));
    let config = config(&database, &secret)?;
    let log = Transcript::default();
    logger::start_into(config.log_level, Box::new(log.clone()))?;
    let server = server::start(&config).map_err(|error| Failure::Other(error.to_string()))?;
    let Some(address) = server.edge_address() else {
        return Err(Failure::Other(
            "The demo's server has no address.".to_owned(),
        ));
    };
    writeln!(
        out,
        "A real server on {address}, a real SQLite file, a throw-away secret. Stripe is played by us.\n"
    )?;

    let sender = Target::Here(Address::Tcp(address));
    let mut is_as_expected = send_all(&sender, &secret, &config.api_version, &stop, out)?;
    if with_page {
        is_as_expected &= send_month(&sender, &secret, &config.api_version)?;
    }
    let store = Store::open_existing(&database)?;
    show::read_in(Environment::read(None)?.zone());
    writeln!(
        out,
        "\nWhat became of it: `paidup orders show ID`, while the server runs\n"
    )?;
    for name in [PAID.0, EARLY.0] {
        orders::show(&store, name, false, out)?;
        writeln!(out)?;
    }
    drop(store);
    server.stop(&Stop::Asked);
    logger::flush(logger::END_PATIENCE);
    writeln!(
        out,
        "What the log says: one JSON line a request and a change, six fields, no personal data\n"
    )?;
    for wanted in ["Order paid", "Invalid signature (no match)"] {
        writeln!(out, "  {}", log.first_line_with(wanted))?;
    }
    writeln!(out, "\n{NEXT}")?;
    if with_page {
        show_page(&database, out)?;
    }
    Ok(if is_as_expected {
        Exit::Done
    } else {
        Exit::Failed
    })
}

/// The orders in a browser, on a free port, until somebody has seen enough.
fn show_page(database: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let vars = [
        ("PAGE_ADDR", "127.0.0.1:0"),
        ("DATABASE_PATH", &database.to_string_lossy()),
    ];
    let config = PageConfig::parse(&owned(&vars), &no_file).map_err(|errors| all_of(&errors))?;
    writeln!(
        out,
        "\nLook at it in a browser; Ctrl-C ends it and leaves nothing behind"
    )?;
    out.flush()?;
    // Whoever closes the terminal has seen enough as well.
    let mut hangup = Signals::new([SIGHUP])?;
    thread::spawn(move || {
        let _ = hangup.forever().next();
        signal_hook::low_level::raise(SIGTERM)
    });
    let copy = backup::Target::File {
        path: database.with_extension("copy"),
        may_replace: false,
    };
    backup::backup(database, &copy, Now::read().unix, &mut io::sink())?;
    let options = page::options(database, Environment::read(None)?.zone(), None);
    let tell = |line: &str| tell(&format!("  {line}"));
    process::run(config, Systemd::default(), options, &tell).map_err(not_started)?;
    Ok(())
}

/// The orders before them have smaller numbers.
const PAID_BEFORE: i64 = 950;
/// The orders: id, amount, currency.
const PAID: (&str, i64, &str) = ("ord_1001", 2500, "eur");
const EARLY: (&str, i64, &str) = ("ord_1002", 4200, "jpy");

const NEXT: &str = "What next
  cp .env.example paidup.env && chmod 600 paidup.env    then set STRIPE_WEBHOOK_SECRET in it
  paidup check --env-file paidup.env                    says what is wrong before the server does
  paidup serve --env-file paidup.env                    receives webhooks on 127.0.0.1:4242
  paidup send-test --env-file paidup.env                sends it signed test events
  paidup orders list                                    shows what it keeps; `paidup help` has the rest";

/// One thing that happens.
#[derive(Clone, Copy)]
struct Scene {
    /// Scenes of one number send the same event.
    event: u64,
    of: (&'static str, i64, &'static str),
    kind: &'static str,
    /// The status of its object, where it has one.
    status: &'static str,
    /// Which refund, and its amount or the charge's running total.
    refund: (u8, i64),
    what: &'static str,
    by: By,
    expected: &'static str,
}

/// Who signs.
#[derive(Clone, Copy)]
enum By {
    Stripe,
    Stranger,
    StripeLongAgo,
}

const PAYMENT: Scene = Scene {
    event: 1,
    of: PAID,
    kind: "checkout.session.completed",
    status: "paid",
    refund: (0, 0),
    what: "ord_1001 is paid: 25.00 EUR",
    by: By::Stripe,
    expected: "200 applied",
};

#[rustfmt::skip] // A table is easier to compare.
const SCENES: [Scene; 10] = [
    PAYMENT,
    Scene { what: "the same event once more", expected: "200 duplicate", ..PAYMENT },
    Scene { event: 2, kind: "refund.created", status: "succeeded", refund: (1, 1000),
            what: "10.00 EUR go back", ..PAYMENT },
    Scene { event: 3, kind: "charge.refunded", refund: (0, 1000),
            what: "the same refund, told by its charge", ..PAYMENT },
    Scene { event: 4, kind: "refund.created", status: "pending", refund: (2, 1500),
            what: "the other 15.00 EUR go back", ..PAYMENT },
    Scene { event: 5, kind: "refund.failed", status: "failed", refund: (2, 1500),
            what: "the bank returns those 15.00 EUR", ..PAYMENT },
    Scene { event: 6, kind: "charge.refunded", refund: (0, 2500), by: By::Stranger,
            what: "forged: signed by a stranger", expected: REFUSED, ..PAYMENT },
    Scene { event: 7, kind: "charge.refunded", refund: (0, 2500), by: By::StripeLongAgo,
            what: "replayed: signed an hour ago", expected: REFUSED, ..PAYMENT },
    Scene { event: 8, of: EARLY, kind: "refund.created", status: "succeeded", refund: (1, 1200),
            what: "a refund comes before its payment", expected: "200 parked", ..PAYMENT },
    Scene { event: 9, of: EARLY, what: "now the payment: ord_1002, 4200 JPY", ..PAYMENT },
];
const REFUSED: &str = "400 Invalid signature";

/// Sends every scene, and says whether each answer was as expected.
fn send_all(
    sender: &Target,
    secret: &Secret,
    api_version: &str,
    stop: &AtomicBool,
    out: &mut dyn Write,
) -> Result<bool, Failure> {
    let stripe = SigningSecret::new(secret);
    let stranger = SigningSecret::new(&Secret::new(&format!("whsec_{}", random_hex()?)));
    let start = getrandom::u64().map_err(io::Error::from)? << 8;
    writeln!(out, "  {:<65} What paidup answers", "What Stripe sends")?;
    let mut is_as_expected = true;
    for scene in &SCENES {
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::Other(
                "Stopped. Nothing is left behind.".to_owned(),
            ));
        }
        let now = Now::read().unix;
        let document = scene.document(api_version, start, now);
        let body = document.text.as_bytes();
        let signature = match scene.by {
            By::Stripe => stripe.sign(body, now),
            By::Stranger => stranger.sign(body, now),
            By::StripeLongAgo => stripe.sign(body, UnixSeconds(now.0 - 3600)),
        };
        let answer = sender.post(&document, &signature);
        let words = send_test::outcome_and_time(&answer);
        write!(out, "  {:<27} {:<37} {words}", scene.kind, scene.what)?;
        let got = answer
            .as_ref()
            .map(|answer| format!("{} {}", answer.status, answer.word));
        if got.is_ok_and(|got| got == scene.expected) {
            writeln!(out)?;
        } else {
            is_as_expected = false;
            writeln!(out, "  EXPECTED {}", scene.expected)?;
        }
    }
    Ok(is_as_expected)
}

/// Sells for a month, so that the pages have something to show: some sessions expire, some orders are given
/// back, and one payment is disputed. Says whether each answer was as expected.
fn send_month(sender: &Target, secret: &Secret, api_version: &str) -> Result<bool, Failure> {
    const DAYS: i64 = 29;
    const DAY: i64 = 24 * 60 * 60;
    const PAYS: &str = "checkout.session.completed";
    let now = Now::read().unix;
    let secret = SigningSecret::new(secret);
    let start = getrandom::u64().map_err(io::Error::from)? << 8;
    let mut sent = 0;
    let mut send = |order: i64, kind, ago: i64| -> Result<bool, Failure> {
        let amount = 1_200 + order * 1_370 % 7_400;
        let payment = SamplePayment::new(&format!("ord_{order}"), amount, "eur", api_version);
        let at = UnixSeconds(now.0 - ago);
        sent += 1;
        let document = payment.event(kind, payment.usual(kind), at, start.wrapping_add(sent));
        let answer = sender.post(&document, &secret.sign(document.text.as_bytes(), now))?;
        Ok((answer.status, &*answer.word) == (200, "applied"))
    };
    let mut is_as_expected = true;
    let mut order = PAID_BEFORE;
    for day in (1..=DAYS).rev() {
        for sale in 0..(day * 5 % 4) {
            order += 1;
            let ago = day * DAY - sale * DAY / 12;
            let kind = match order % 9 {
                4 => "checkout.session.expired",
                _ => PAYS,
            };
            is_as_expected &= send(order, kind, ago)?;
            if order % 11 == 5 {
                is_as_expected &= send(order, "refund.created", ago - DAY / 2)?;
            }
        }
    }
    Ok(is_as_expected & send(order, "charge.dispute.created", DAY / 3)?)
}

impl Scene {
    /// Events are a minute apart and end now, so that what happens later was made later.
    fn document(&self, api_version: &str, start: u64, now: UnixSeconds) -> Document {
        let (order, amount, currency) = self.of;
        let payment = SamplePayment::new(order, amount, currency, api_version);
        let minutes_ago = SCENES
            .iter()
            .filter(|scene| scene.event > self.event)
            .count();
        let ago = i64::try_from(minutes_ago).unwrap_or_default() * 60;
        let (refund, refunded) = self.refund;
        let age_seconds = if self.kind == "refund.failed" { 60 } else { 0 };
        let status = self.status;
        let told = Details {
            status,
            refunded,
            refund,
            age_seconds,
        };
        let at = UnixSeconds(now.0 - ago);
        payment.event(self.kind, told, at, start.wrapping_add(self.event))
    }
}

/// The configuration of a server that is like any other, on free ports.
fn config(database: &Path, secret: &Secret) -> Result<Config, Failure> {
    let vars = [
        ("LISTEN_ADDR", "127.0.0.1:0"),
        ("ADMIN_ADDR", "127.0.0.1:0"),
        ("DATABASE_PATH", &database.to_string_lossy()),
        ("STRIPE_WEBHOOK_SECRET", secret.expose()),
    ];
    Config::parse(&owned(&vars), &no_file).map_err(|errors| all_of(&errors))
}

fn owned(vars: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    vars.iter().map(own).collect()
}

fn no_file(_: &Path) -> io::Result<String> {
    Err(io::ErrorKind::NotFound.into())
}

fn random_hex() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::from)?;
    Ok(hex::encode(bytes))
}

/// A folder that goes when this value does.
struct Folder(PathBuf);

impl Folder {
    fn make(temporary: &Path) -> Result<Folder, Failure> {
        let path = temporary.join(format!("paidup-demo-{}", random_hex()?));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| {
                Failure::Other(format!(
                    "{} cannot be made: {error}. Set TMPDIR",
                    path.display()
                ))
            })?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The log, kept in memory.
#[derive(Clone, Default)]
struct Transcript(Arc<Mutex<Vec<u8>>>);

impl Transcript {
    fn first_line_with(&self, wanted: &str) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&bytes);
        let line = text.lines().find(|line| line.contains(wanted));
        line.unwrap_or_default().to_owned()
    }
}

impl Write for Transcript {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
