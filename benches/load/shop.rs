//! A shop with a history.

use std::ops::Range;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use paidup::base::id::UnixSeconds;
use paidup::store::Store;
use paidup::truth::delivery::Delivery;
use paidup::truth::event::Event;
use paidup::truth::reading::Reading;

pub(crate) const BATCH: usize = 1_000;

/// Stores the events of these numbers, as a server would with every client waiting.
pub(crate) fn fill(
    database: &Path,
    numbers: Range<usize>,
    event: impl Fn(usize) -> String + Send + 'static,
) -> Duration {
    let mut store = Store::open(database).unwrap();
    let (give, take) = mpsc::sync_channel(4);
    let began = Instant::now();
    let reading = thread::spawn(move || {
        let numbers: Vec<usize> = numbers.collect();
        for batch in numbers.chunks(BATCH) {
            let batch: Vec<Delivery> = batch
                .iter()
                .map(|number| delivery(&event(*number)))
                .collect();
            give.send(batch).unwrap();
        }
    });
    for batch in take {
        assert!(store.record(&batch).unwrap().iter().all(Result::is_ok));
    }
    reading.join().unwrap();
    began.elapsed()
}

fn delivery(event: &str) -> Delivery {
    Delivery {
        event: Event::from_json(event, &Reading::default()).unwrap(),
        sha256: [7; 32],
        request_id: None,
        received: UnixSeconds(1_792_999_990),
    }
}

/// Of the order that was stored last.
pub(crate) fn number_of_last(database: &Path) -> usize {
    let orders = Store::open(database).unwrap().orders(None, 1).unwrap();
    let name = orders[0].name.as_str();
    name.strip_prefix("ord_").unwrap().parse::<usize>().unwrap() - 100_000
}
