//! A story is a list of steps: what happens in the world, and what paidup hears of it. It is made
//! from a seed, can be told again, and can be made shorter as long as it still goes wrong.

use std::collections::BTreeSet;

use paidup::truth::delivery::Delivery;
use serde_json::Value;

use crate::driver::{Files, Shop, delivered, fetched};
use crate::objects::brief;
use crate::stripe::{BEGIN, DAY, Habits, Kind, Method, Part, WHOLE, World};
use crate::truth;

/// A small generator: the same seed, the same numbers.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    pub fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % end.max(1)
    }
}

/// Numbers choose among what there is, so a step means something in any story.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Happens(Move),
    Heard(Hear),
}

/// What happens at Stripe.
#[derive(Clone, Copy, Debug)]
pub enum Move {
    Wait(i64),
    Sell(Kind, i64, bool),
    SellAgain(usize, Method),
    Decline(usize),
    Pay(usize),
    Settle(usize),
    Fail(usize),
    ComeBack(usize),
    Cancel(usize),
    Expire(usize),
    Capture(usize, Part),
    Release(usize, bool),
    Refund(usize, i64, &'static str),
    RefundGoesOn(usize, usize, &'static str),
    Dispute(usize, i64, bool),
    DisputeGoesOn(usize, usize, usize),
    Review(usize),
    Warn(usize),
    Renew(usize, usize),
    EndInvoice(usize, usize),
}

/// What paidup hears of it.
#[derive(Clone, Copy, Debug)]
pub enum Hear {
    /// So many events come together.
    Deliver(usize, usize),
    /// An event never comes.
    Lose(usize),
    /// An event that has come comes again.
    Repeat(usize),
    /// An object is asked for, and what it says is recorded at once or after other things.
    Fetch(usize, bool),
    /// All of one payment is asked for.
    Refresh(usize),
    /// An event of another account, another mode, another type, or a thin one.
    Noise(usize),
    Crash,
    Save,
    Restore,
}

/// How what was lost is found at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It comes after all.
    Late,
    /// `reconcile` lists the events; what is older than 30 days is asked for as objects.
    Listed,
    /// `reconcile --order` asks for the objects of every payment.
    Asked,
}

#[derive(Clone, Debug)]
pub struct Story {
    pub seed: u64,
    pub steps: Vec<Step>,
    pub end: End,
}

const METHODS: [Method; 4] = [Method::Card, Method::Hold, Method::Debit, Method::Voucher];

impl Story {
    pub fn new(seed: u64) -> Story {
        let mut dice = Dice::new(seed);
        let count = 10 + dice.below(70);
        let mut steps = vec![Step::Happens(sale(&mut dice))];
        for _ in 0..count {
            steps.push(step(&mut dice));
        }
        let end = [End::Late, End::Listed, End::Asked][dice.below(3)];
        Story { seed, steps, end }
    }

    /// The shortest story found that still goes wrong.
    pub fn shrunk(mut self) -> Story {
        let goes_wrong = |story: &Story| !run(story, None).wrong.is_empty();
        let mut size = self.steps.len().div_ceil(2);
        while size > 0 {
            let mut from = 0;
            let mut is_shorter = false;
            while from < self.steps.len() {
                let mut shorter = self.clone();
                let to = (from + size).min(shorter.steps.len());
                shorter.steps.drain(from..to);
                if goes_wrong(&shorter) {
                    self = shorter;
                    is_shorter = true;
                } else {
                    from += size;
                }
            }
            if !is_shorter {
                size /= 2;
            }
        }
        self
    }
}

fn sale(dice: &mut Dice) -> Move {
    let method = METHODS[dice.below(4)];
    let no_voucher = METHODS[dice.below(3)];
    let of_invoice = [Method::Card, Method::Card, Method::Debit][dice.below(3)];
    let kind = match dice.below(24) {
        20 => Kind::AskedFor(method),
        21..24 => Kind::Stranger(method),
        0..5 => Kind::Named(method),
        5..7 => Kind::Referred(method),
        7 => Kind::Customer(method),
        8 => Kind::Nameless(method),
        9 => Kind::Link { own: false },
        10 => Kind::Link { own: true },
        11 => [Kind::Free, Kind::Setup][dice.below(2)],
        12..15 => Kind::Subscription {
            trial: dice.below(4) == 0,
            method: of_invoice,
        },
        15..17 => Kind::Intent {
            named: dice.below(4) > 0,
            method: no_voucher,
        },
        _ => Kind::Invoice {
            named: dice.below(2) == 0,
            method: of_invoice,
        },
    };
    let amount = [2500, 1500, 100, 999_999, 4][dice.below(5)];
    Move::Sell(kind, amount, dice.below(2) == 0)
}

fn step(dice: &mut Dice) -> Step {
    let n = dice.below(1000);
    let m = dice.below(1000);
    let share = [WHOLE, WHOLE, WHOLE / 2, WHOLE / 3, WHOLE / 5][dice.below(5)];
    Step::Happens(match dice.below(100) {
        0..10 => Move::Wait([1, 1, 1, 7, 600, DAY, 3 * DAY, 20 * DAY][n % 8]),
        10..13 => sale(dice),
        13..16 => Move::SellAgain(n, METHODS[m % 4]),
        16..18 => Move::Decline(n),
        18..28 => Move::Pay(n),
        28..31 => Move::Settle(n),
        31..33 => Move::Fail(n),
        33 => Move::ComeBack(n),
        34 => Move::Cancel(n),
        35..37 => Move::Expire(n),
        37..41 => Move::Capture(n, [Part::All, Part::Most, Part::Tip, Part::Step][m % 4]),
        41 => Move::Release(n, m.is_multiple_of(2)),
        42..47 => {
            let status = ["succeeded", "succeeded", "pending", "requires_action"][m % 4];
            Move::Refund(n, share, status)
        }
        47..51 => Move::RefundGoesOn(n, m, ["succeeded", "failed", "canceled"][dice.below(3)]),
        51..53 => Move::Dispute(n, share, m.is_multiple_of(3)),
        53..57 => Move::DisputeGoesOn(n, m, dice.below(4)),
        57..59 => Move::Review(n),
        59 => Move::Warn(n),
        60..62 => Move::Renew(n, m),
        62..64 => Move::EndInvoice(n, m),
        _ => return Step::Heard(hearing(dice, n, m)),
    })
}

fn hearing(dice: &mut Dice, n: usize, m: usize) -> Hear {
    match dice.below(36) {
        0..12 => Hear::Deliver(n, 1),
        12..16 => Hear::Deliver(n, 1 + m % 6),
        16..20 => Hear::Lose(n),
        20..23 => Hear::Repeat(n),
        23..28 => Hear::Fetch(n, m.is_multiple_of(2)),
        28..30 => Hear::Refresh(n),
        30 => Hear::Noise(n),
        31..33 => Hear::Crash,
        33..35 => Hear::Save,
        _ => Hear::Restore,
    }
}

/// What came of a story.
pub struct Outcome {
    pub wrong: Vec<String>,
    pub kinds: BTreeSet<&'static str>,
}

/// paidup, and what is on its way to it. Events are known by their place in the world's list.
struct Listener {
    shop: Shop,
    waiting: Vec<usize>,
    /// Facts that were read and are not recorded yet.
    read: Vec<Delivery>,
    lost: Vec<usize>,
    came: Vec<usize>,
    saved: Option<Saved>,
    /// What happened to it.
    kinds: BTreeSet<&'static str>,
}

/// A backup, and how many events had come by then.
struct Saved {
    files: Files,
    came: usize,
}

/// Tells a story; with `aloud`, writes what happens there.
pub fn run(story: &Story, mut aloud: Option<&mut String>) -> Outcome {
    let mut dice = Dice::new(story.seed ^ 0x5EED);
    let mut world = World::new("w", Habits::of(dice.next()), BEGIN);
    let mut listener = Listener::new();
    let mut say = |line: &str| {
        if let Some(aloud) = &mut aloud {
            aloud.push_str(line);
            aloud.push('\n');
        }
    };
    say(&format!("{:?}", world.habits));
    let mut result = Ok(());
    for step in &story.steps {
        let before = world.events.len();
        let told = match step {
            Step::Happens(step) => {
                let is_done = happen(&mut world, *step);
                if is_done && matches!(step, Move::Sell(..)) {
                    listener.shop.ask_for(&world);
                }
                Ok(is_done.then(|| format!("{step:?}")))
            }
            Step::Heard(step) => listener.hear(&world, *step),
        };
        match told {
            Ok(None) => {}
            Ok(Some(told)) => {
                say(&format!("{} {told}", world.now));
                for event in &world.events[before..] {
                    say(&format!("    {}", event.brief()));
                }
                listener.waiting.extend(before..world.events.len());
            }
            Err(error) => {
                result = Err(format!("{step:?}: {error}"));
                break;
            }
        }
    }
    truth::check_sanity(&world);
    let result = result.and_then(|()| listener.hear_the_rest(&mut world, story));
    let wrong = match result {
        Err(error) => vec![error],
        Ok(told) => {
            say(&told);
            let mut wrong = truth::differences(&truth::expected(&world), &listener.shop.said());
            wrong.extend(listener.shop.disagreements());
            wrong
        }
    };
    let mut kinds = world.kinds;
    kinds.extend(listener.kinds);
    Outcome { wrong, kinds }
}

/// Something happens, to the first that it can happen to; answers whether there was one.
pub fn happen(world: &mut World, step: Move) -> bool {
    let mut any = |n: usize, act: &mut dyn FnMut(&mut World, usize) -> bool| {
        let count = world.payments.len();
        (0..count).any(|next| act(world, (n + next) % count))
    };
    match step {
        Move::Wait(seconds) => {
            world.now += seconds;
            true
        }
        Move::Sell(kind, amount, odd) => {
            let may = world.payments.len() < 6;
            if may {
                world.sell(tied(kind, world), amount, odd);
            }
            may
        }
        Move::SellAgain(n, method) => any(n, &mut |world, place| {
            let sale = world.payments[place].sale;
            sale.is_some_and(|sale| world.sell_again(sale, method))
        }),
        Move::Decline(n) => any(n, &mut World::decline),
        Move::Pay(n) => any(n, &mut World::pay),
        Move::Settle(n) => any(n, &mut World::settle),
        Move::Fail(n) => any(n, &mut World::fail),
        Move::ComeBack(n) => any(n, &mut World::come_back),
        Move::Cancel(n) => any(n, &mut World::cancel),
        Move::Expire(n) => any(n, &mut World::expire),
        Move::Capture(n, part) => any(n, &mut |world, place| world.capture(place, part)),
        Move::Release(n, by_time) => any(n, &mut |world, place| world.release(place, by_time)),
        Move::Refund(n, share, status) => {
            any(n, &mut |world, place| world.refund(place, share, status))
        }
        Move::RefundGoesOn(n, m, to) => any(n, &mut |world, place| {
            let count = world.payments[place].refunds.len();
            (0..count).any(|next| world.refund_goes_on(place, (m + next) % count, to))
        }),
        Move::Dispute(n, share, inquiry) => {
            any(n, &mut |world, place| world.dispute(place, share, inquiry))
        }
        Move::DisputeGoesOn(n, m, way) => any(n, &mut |world, place| {
            let count = world.payments[place].disputes.len();
            (0..count).any(|next| world.dispute_goes_on(place, (m + next) % count, way))
        }),
        Move::Review(n) => any(n, &mut World::review),
        Move::Warn(n) => any(n, &mut World::warn),
        Move::Renew(n, way) => {
            let count = world.subscriptions.len();
            (0..count).any(|next| world.renew((n + next) % count, way))
        }
        Move::EndInvoice(n, way) => any(n, &mut |world, place| world.end_invoice(place, way)),
    }
}

/// A debit of an invoice is told by nothing that names the invoice, where intents do not.
fn tied(kind: Kind, world: &World) -> Kind {
    let is_tied = world.habits.old || world.habits.reference;
    match kind {
        Kind::Invoice {
            named,
            method: Method::Debit,
        } if !is_tied => Kind::Invoice {
            named,
            method: Method::Card,
        },
        Kind::Subscription {
            trial,
            method: Method::Debit,
        } if !is_tied => Kind::Subscription {
            trial,
            method: Method::Card,
        },
        Kind::Named(_)
        | Kind::Referred(_)
        | Kind::Customer(_)
        | Kind::Nameless(_)
        | Kind::AskedFor(_)
        | Kind::Stranger(_)
        | Kind::Link { .. }
        | Kind::Free
        | Kind::Setup
        | Kind::Subscription { .. }
        | Kind::Intent { .. }
        | Kind::Invoice { .. } => kind,
    }
}

impl Listener {
    fn new() -> Listener {
        Listener {
            shop: Shop::open(),
            waiting: Vec::new(),
            read: Vec::new(),
            lost: Vec::new(),
            came: Vec::new(),
            saved: None,
            kinds: BTreeSet::new(),
        }
    }

    /// paidup hears something; answers what, if anything.
    fn hear(&mut self, world: &World, step: Hear) -> Result<Option<String>, String> {
        let id = |place: usize| world.events[place].id.clone();
        let event = |place: usize| delivered(&world.events[place].text);
        Ok(Some(match step {
            Hear::Deliver(n, count) => {
                let mut ids = Vec::new();
                let mut batch = std::mem::take(&mut self.read);
                for _ in 0..count.min(self.waiting.len()) {
                    let place = self.waiting.remove(n % self.waiting.len());
                    batch.push(event(place));
                    ids.push(id(place));
                    self.came.push(place);
                }
                self.shop.record(&batch)?;
                format!("→ paidup hears {ids:?}")
            }
            Hear::Lose(_) if self.waiting.is_empty() => return Ok(None),
            Hear::Lose(n) => {
                let place = self.waiting.remove(n % self.waiting.len());
                self.lost.push(place);
                self.kinds.insert("an event is lost");
                format!("→ {} is lost", id(place))
            }
            Hear::Repeat(_) if self.came.is_empty() => return Ok(None),
            Hear::Repeat(n) => {
                let place = self.came[n % self.came.len()];
                self.shop.record(&[event(place)])?;
                self.kinds.insert("an event comes again");
                format!("→ paidup hears {} again", id(place))
            }
            Hear::Fetch(n, at_once) => {
                let answers = world.answers();
                let Some(answer) = answers.get(n % answers.len().max(1)) else {
                    return Ok(None);
                };
                let facts = answer
                    .iter()
                    .filter_map(|object| fetched(object, world.now));
                self.read.extend(facts);
                if at_once {
                    let batch = std::mem::take(&mut self.read);
                    self.shop.record(&batch)?;
                }
                self.kinds.insert("an object is asked for in between");
                let what: Vec<String> = answer.iter().map(brief).collect();
                format!("→ paidup asks, and records at once, {at_once}: {what:?}")
            }
            Hear::Refresh(_) if world.payments.is_empty() => return Ok(None),
            Hear::Refresh(n) => {
                let payment = n % world.payments.len();
                self.shop.record(&walk(world, payment))?;
                self.kinds.insert("a payment is asked for in between");
                format!("→ paidup asks for all of payment {payment}")
            }
            Hear::Noise(n) => {
                self.shop.record(&[delivered(&noise(world, n))])?;
                self.kinds.insert("events of others");
                "→ paidup hears an event that is not for it".to_owned()
            }
            Hear::Crash => {
                self.shop.crash();
                self.kinds.insert("a crash");
                "→ paidup is killed and starts again".to_owned()
            }
            Hear::Save => {
                let (files, came) = (self.shop.files(), self.came.len());
                self.saved = Some(Saved { files, came });
                "→ the database is copied away".to_owned()
            }
            Hear::Restore => {
                let Some(saved) = self.saved.take() else {
                    return Ok(None);
                };
                self.shop.put_back(&saved.files);
                self.shop.ask_for(world);
                self.lost.extend(self.came.split_off(saved.came));
                self.kinds.insert("a backup is put back");
                "→ the copy is put back: what came since is lost".to_owned()
            }
        }))
    }

    /// All that has not come by now is found.
    fn hear_the_rest(&mut self, world: &mut World, story: &Story) -> Result<String, String> {
        let mut dice = Dice::new(story.seed ^ 0xE4D);
        let is_unaskable = world.payments.iter().any(|payment| payment.unaskable);
        let mut batch = std::mem::take(&mut self.read);
        let mut late = std::mem::take(&mut self.waiting);
        let since = world.now - 30 * DAY;
        let (found, asks) = match story.end {
            End::Asked if !is_unaskable => (Vec::new(), true),
            End::Listed if !is_unaskable => {
                let is_listed = |place: &usize| world.events[*place].created >= since;
                let listed: Vec<usize> = self.lost.iter().copied().filter(is_listed).collect();
                let asks = listed.len() < self.lost.len();
                (listed, asks)
            }
            End::Late | End::Listed | End::Asked => (self.lost.clone(), false),
        };
        late.extend(found);
        for index in (1..late.len()).rev() {
            late.swap(index, dice.below(index + 1));
        }
        batch.extend(
            late.iter()
                .map(|place| delivered(&world.events[*place].text)),
        );
        if asks {
            world.is_asked_for_at_the_end();
            world.now += i64::try_from(dice.below(2)).unwrap();
            for payment in 0..world.payments.len() {
                let place = dice.below(batch.len() + 1);
                batch.splice(place..place, walk(world, payment));
            }
        }
        self.shop.record(&batch)?;
        let ids = late.iter().map(|place| &world.events[*place].id);
        Ok(format!(
            "{} the end, {:?}: {:?}, asks: {asks}",
            world.now,
            story.end,
            ids.collect::<Vec<_>>()
        ))
    }
}

/// An event that says something of a real order and is not for this shop, or of a type that says
/// nothing.
fn noise(world: &World, n: usize) -> String {
    let known = (!world.events.is_empty()).then(|| &world.events[n % world.events.len()]);
    let mut event: Value = known.map_or_else(
        || {
            serde_json::json!({"id": "evt_n", "object": "event", "created": 1, "livemode": false,
                              "type": "customer.created", "data": {"object": {"id": "cus_1"}}})
        },
        |known| serde_json::from_str(&known.text).unwrap(),
    );
    event["id"] = serde_json::json!(format!("evt_noise{n}"));
    match n % 3 {
        0 => event["account"] = serde_json::json!("acct_1"),
        1 => event["livemode"] = serde_json::json!(true),
        _ => event["type"] = serde_json::json!("customer.created"),
    }
    // Whatever is in it would change the order.
    event["data"]["object"]["amount_refunded"] = serde_json::json!(4);
    event["data"]["object"]["status"] = serde_json::json!("failed");
    event.to_string()
}

/// What `reconcile --order` asks for, from the session, the invoice or the intent on.
pub fn walk(world: &World, payment: usize) -> Vec<Delivery> {
    let payment = &world.payments[payment];
    let now = world.now;
    let session = world.session_object(payment, false);
    let invoice = payment.invoice.as_ref().filter(|_| {
        session
            .as_ref()
            .is_none_or(|session| !session["invoice"].is_null())
    });
    let mut objects: Vec<Value> = Vec::new();
    // A session that is not finished names neither; an invoice names its intent by its payments.
    let by_session = session
        .as_ref()
        .is_some_and(|s| !s["payment_intent"].is_null());
    let by_invoice = invoice.is_some_and(|invoice| invoice.payment.is_some());
    let alone = session.is_none() && payment.invoice.is_none();
    objects.extend(session);
    if invoice.is_some() {
        objects.extend(world.invoice_object(payment, false));
        objects.extend(world.invoice_payment_object(payment));
    }
    if by_session || by_invoice || alone {
        objects.extend(world.intent_object(payment, false));
        let charges = 0..payment.charges.len();
        objects.extend(charges.map(|n| world.charge_object(payment, n, false)));
        let refunds = 0..payment.refunds.len();
        objects.extend(refunds.map(|n| world.refund_object(payment, n)));
        let disputes = 0..payment.disputes.len();
        objects.extend(disputes.map(|n| world.dispute_object(payment, n)));
        objects.extend(world.review_object(payment));
        objects.extend(world.warning_object(payment));
    }
    objects
        .iter()
        .filter_map(|object| fetched(object, now))
        .collect()
}
