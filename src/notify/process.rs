//! `paidup notify`: tells one destination of orders that changed, until it is asked to stop.
//!
//! A process of its own: it has a network and none of Stripe's secrets, and a destination that is slow
//! holds up nobody else.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::course::{Reaction, Why};
use super::message;
use super::send::Sender;
use super::teller::{Teller, World};
use crate::base::id::UnixSeconds;
use crate::base::log_line::{LogFields, Message};
use crate::config::notify::NotifyConfig;
use crate::host::clock::Now;
use crate::host::logger;
use crate::host::systemd::{Manager, Systemd};
use crate::host::turns::{LastLook, Turns};
use crate::http::server::{StartError, Stop, reasons_to_stop};
use crate::store::{Store, StoreError, TellLock};

/// How often it looks whether something has changed.
const LOOK: Duration = Duration::from_millis(200);
/// How long an order must not have changed: Stripe tells of one payment in several events.
const QUIET: Duration = Duration::from_secs(1);
/// Beyond the time for one message: whoever takes longer hangs.
const HUNG_AFTER: Duration = Duration::from_secs(20);
/// After an error of the database that may pass.
const REST: Duration = Duration::from_secs(1);

/// Tells until SIGTERM or SIGINT, and says why it stopped. `tell` gets one line for people.
///
/// # Errors
/// [`StartError`] when it cannot start.
pub fn run(
    config: &NotifyConfig,
    systemd: Systemd,
    tell: &dyn Fn(&str),
) -> Result<Stop, StartError> {
    let manager = systemd.into_manager();
    let (stop, stops) = reasons_to_stop(&manager)?;
    let _lock = lock(config)?;
    let store = Store::open_to_tell(&config.database).map_err(StartError::database)?;
    let teller = Teller::new(store, &config.name).map_err(StartError::database)?;
    let worker = Worker::start(teller, Sender::new(config), move |error| {
        let _ = stop.send(Stop::Broken(error.to_string()));
    })
    .map_err(StartError::System)?;
    logger::write(Message::Ready, &LogFields::default());
    tell(&format!(
        "paidup {} tells {} at {} of changed orders",
        env!("CARGO_PKG_VERSION"),
        config.name,
        config.origin()
    ));
    manager.ready("Telling the shop");
    let why = wait(&stops, &manager, &worker.turns, config.timeout + HUNG_AFTER);
    manager.stopping("Finishing the message under way");
    logger::write(Message::Stopping, &LogFields::default());
    worker.stop();
    logger::write(Message::Stopped, &LogFields::default());
    Ok(why)
}

fn lock(config: &NotifyConfig) -> Result<TellLock, StartError> {
    let path = TellLock::path(&config.database, &config.name);
    let path = path.display();
    match TellLock::take(&config.database, &config.name) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(StartError::Database(format!(
            "another paidup tells this destination already ({path} is locked). Everything would be told \
             twice: stop the other one, or give this one its own NOTIFY_NAME"
        ))),
        Err(error) => Err(StartError::Database(format!(
            "{path} cannot be locked: {error}. Check that the folder belongs to the user that paidup runs \
             as"
        ))),
    }
}

/// Sleeps until there is a reason to stop. The manager gets signs of life as long as the worker moves.
fn wait(stops: &Receiver<Stop>, manager: &Manager, turns: &Turns, hung_after: Duration) -> Stop {
    let Some(patience) = manager.patience() else {
        return stops.recv().unwrap_or(Stop::Asked);
    };
    let mut seen = LastLook::new(Now::read().instant);
    loop {
        match stops.recv_timeout(patience / 2) {
            Ok(stop) => return stop,
            Err(RecvTimeoutError::Disconnected) => return Stop::Asked,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if seen.standstill(turns, Now::read().instant) < hung_after {
            manager.alive("Telling the shop");
        }
    }
}

/// The thread that tells.
struct Worker {
    thread: JoinHandle<()>,
    is_over: Arc<AtomicBool>,
    turns: Arc<Turns>,
}

impl Worker {
    fn start(
        teller: Teller,
        sender: Sender,
        broken: impl FnOnce(StoreError) + Send + 'static,
    ) -> io::Result<Worker> {
        let is_over = Arc::new(AtomicBool::new(false));
        let turns = Arc::new(Turns::default());
        let (over, inside) = (Arc::clone(&is_over), Arc::clone(&turns));
        let work = move || {
            let mut teller = teller;
            if let Err(error) = work(&mut teller, &sender, &over, &inside) {
                // What is on disk is not known: it is not touched again.
                std::mem::forget(teller);
                broken(error);
            }
        };
        let thread = thread::Builder::new().name("notify".to_owned());
        Ok(Worker {
            thread: thread.spawn(work)?,
            is_over,
            turns,
        })
    }

    fn stop(self) {
        self.is_over.store(true, SeqCst);
        self.thread.thread().unpark();
        let _ = self.thread.join();
    }
}

/// Tells until it is over, or until the database breaks for good.
fn work(
    teller: &mut Teller,
    sender: &Sender,
    is_over: &AtomicBool,
    turns: &Turns,
) -> Result<(), StoreError> {
    let world = World {
        now: &Now::read,
        send: &|message, now| {
            let _turn = turns.begin();
            sender.send(message, now)
        },
        is_over: &|| is_over.load(SeqCst),
    };
    let mut changes = QuietChanges::default();
    let mut is_failing = false;
    while !is_over.load(SeqCst) {
        let turn = turns.begin();
        let round = changes
            .quiet(teller.store(), Now::read().instant)
            .and_then(|quiet| quiet.map_or(Ok(false), |quiet| teller.round(quiet, &world)));
        drop(turn);
        match round {
            Ok(is_more) => {
                if std::mem::take(&mut is_failing) {
                    logger::write(Message::DestinationUp, &LogFields::default());
                }
                if !is_more {
                    thread::park_timeout(LOOK);
                }
            }
            Err(error) if error.is_fatal() || error == StoreError::Replaced => return Err(error),
            // Another process writes, or the disk is full: what was heard is kept for when that is over.
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    let fields = LogFields {
                        error_code: Some(error.code()),
                        ..LogFields::default()
                    };
                    logger::write(Message::DestinationDown, &fields);
                }
                thread::park_timeout(REST);
            }
        }
    }
    Ok(())
}

/// What has changed lately, and when that was seen.
#[derive(Debug, Default)]
struct QuietChanges {
    data_version: Option<i64>,
    seen: VecDeque<(Instant, i64)>,
    quiet: Option<i64>,
}

impl QuietChanges {
    /// The number of the last change that has been there for [`QUIET`]: an order with a greater one has
    /// changed since.
    fn quiet(&mut self, store: &Store, now: Instant) -> Result<Option<i64>, StoreError> {
        let version = Some(store.data_version()?);
        if version != self.data_version {
            self.seen.push_back((now, store.last_number()?));
            self.data_version = version;
        }
        while let Some((at, number)) = self.seen.front() {
            if now.saturating_duration_since(*at) < QUIET {
                break;
            }
            self.quiet = Some(*number);
            self.seen.pop_front();
        }
        Ok(self.quiet)
    }
}

/// Sends one message that is about no order.
///
/// # Errors
/// What came of it, in a few words.
pub(crate) fn test(config: &NotifyConfig, now: UnixSeconds) -> Result<u16, String> {
    match Sender::new(config).send(&message::Notice::test(&config.name, now), now) {
        Reaction::Heard(status) => Ok(status),
        Reaction::Refused(status, _) => Err(Why::Status(status).to_string()),
        Reaction::Down(why, _) => Err(why.to_string()),
    }
}
