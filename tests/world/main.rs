//! A small Stripe that lives by itself, and paidup beside it: whatever happens there and however
//! paidup hears of it, in the end every order is what the money really did.
//!
//! `WORLDS=100000 SEED=1 cargo test --release --test world` for more; a story that goes wrong is
//! printed with its seed, made as short as it goes wrong.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test that fails panics"
)]

mod cases;
mod driver;
#[path = "../fake_stripe/mod.rs"]
mod fake_stripe;
mod objects;
mod real;
mod story;
mod stripe;
mod truth;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use story::{Story, run};

/// As many as take some seconds.
const WORLDS: u64 = 2_000;

#[test]
fn every_order_is_what_the_money_did() {
    let number = |name: &str| {
        let text = std::env::var_os(name)?;
        Some(text.to_str()?.parse::<u64>().unwrap())
    };
    let (worlds, seed) = (
        number("WORLDS").unwrap_or(WORLDS),
        number("SEED").unwrap_or(1),
    );
    let next = AtomicU64::new(0);
    let lives: Mutex<BTreeMap<&str, u64>> = Mutex::default();
    let wrong: Mutex<Vec<(u64, Vec<String>)>> = Mutex::default();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= worlds {
                        break;
                    }
                    let seed = seed.wrapping_mul(1_000_003).wrapping_add(number);
                    let outcome = run(&Story::new(seed), None);
                    let mut lives = lives.lock().unwrap();
                    for kind in outcome.kinds {
                        *lives.entry(kind).or_default() += 1;
                    }
                    if !outcome.wrong.is_empty() {
                        wrong.lock().unwrap().push((seed, outcome.wrong));
                    }
                }
            });
        }
    });
    println!("{worlds} worlds");
    for (kind, count) in lives.into_inner().unwrap() {
        println!("{count:>8} {kind}");
    }
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort_unstable();
    let mut ways: BTreeMap<String, usize> = BTreeMap::new();
    for line in wrong.iter().flat_map(|(_, lines)| lines) {
        let way = line.split_once(": ").map_or(line.as_str(), |(_, way)| way);
        *ways.entry(way.replace(char::is_numeric, "")).or_default() += 1;
    }
    println!("{ways:#?}");
    for (seed, _) in wrong
        .iter()
        .take(number("STORIES").map_or(1, |count| usize::try_from(count).unwrap()))
    {
        let story = Story::new(*seed).shrunk();
        let mut told = String::new();
        let outcome = run(&story, Some(&mut told));
        println!("seed {seed}: {told}=> {:#?}\n", outcome.wrong);
    }
    assert!(
        wrong.is_empty(),
        "{} of {worlds} worlds went wrong",
        wrong.len()
    );
}
