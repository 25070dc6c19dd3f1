//! The same worlds, asked by the real program over the network: what deliveries did not bring,
//! `paidup reconcile` finds, by the list of events or by asking for each payment.

use std::collections::BTreeMap;
use std::process::Command;

use crate::driver::{Shop, delivered};
use crate::fake_stripe::{FakeStripe, KEY};
use crate::story::{Dice, Step, Story, happen};
use crate::stripe::{BEGIN, DAY, Habits, World};
use crate::truth;

/// Each asks some twenty times.
const WORLDS: u64 = 40;

#[test]
fn the_program_itself_finds_what_was_lost() {
    let mut wrong = Vec::new();
    for seed in 0..WORLDS {
        let story = Story::new(seed);
        let lasted = live(&story, BEGIN).now - BEGIN;
        // The program has a clock of its own.
        let now = paidup::host::clock::unix_millis().div_euclid(1000);
        let world = live(&story, now - lasted - 1);
        let by_list = seed.is_multiple_of(2) && lasted < 30 * DAY
            || world.payments.iter().any(|payment| payment.unaskable);
        if by_list && lasted >= 30 * DAY {
            continue;
        }
        let lines = match ask(&world, &mut Dice::new(seed), by_list) {
            Ok(said) => truth::differences(&truth::expected(&world), &said),
            Err(refusal) => vec![refusal],
        };
        wrong.extend(lines.into_iter().map(|line| format!("seed {seed}: {line}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What happens in a story, without anybody who hears of it.
fn live(story: &Story, begin: i64) -> World {
    let mut dice = Dice::new(story.seed);
    let mut world = World::new("r", Habits::of(dice.next()), begin);
    for step in &story.steps {
        match step {
            Step::Happens(step) => drop(happen(&mut world, *step)),
            Step::Heard(_) => {}
        }
    }
    world
}

fn ask(
    world: &World,
    dice: &mut Dice,
    by_list: bool,
) -> Result<BTreeMap<String, truth::Said>, String> {
    let stripe = FakeStripe::start();
    for object in world.objects_of_all() {
        stripe.put(object);
    }
    for event in &world.events {
        stripe.put_event(&event.text);
    }
    let mut shop = Shop::open();
    let came = world.events.iter().filter(|_| dice.below(3) == 0);
    let batch: Vec<_> = came.map(|event| delivered(&event.text)).collect();
    shop.ask_for(world);
    shop.record(&batch).unwrap();
    shop.close();
    let run = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paidup"));
        command
            .args(words)
            .env_clear()
            .env("DATABASE_PATH", shop.path())
            .env("STRIPE_WEBHOOK_SECRET", "whsec_1")
            .env("STRIPE_SECRET_KEY", KEY)
            .env("STRIPE_API_BASE", stripe.base())
            .env("STRIPE_MODE", "test")
            .env("ADMIN_ADDR", "off");
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let is_done = output.status.success();
        is_done.then_some(()).ok_or(format!("{words:?}: {text}"))
    };
    if by_list {
        run(&["reconcile", "--since", "30d"])?;
    } else {
        for payment in &world.payments {
            let session = payment.session.as_ref().map(|session| &session.id);
            let invoice = payment.invoice.as_ref().map(|invoice| &invoice.id);
            let intent = payment.intent.as_ref().map(|intent| &intent.id);
            if let Some(root) = session.or(invoice).or(intent) {
                run(&["reconcile", "--order", root])?;
            }
        }
    }
    shop.reopen();
    Ok(shop.said())
}
