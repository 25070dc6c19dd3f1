//! Tells a destination what is due, one request at a time.
//!
//! What it has heard is written after the fact, several at once: whoever is killed in between tells the
//! same again under the same id.

use std::time::{Duration, Instant};

use super::course::{Course, Reaction, Why, due_times};
use super::message::Notice;
use crate::base::id::UnixSeconds;
use crate::base::log_line::{self, ErrorCode, LogFields, LogText};
use crate::host::clock::Now;
use crate::host::logger;
use crate::store::{Destination, Due, Store, StoreError, Tale, Told};

/// Orders looked for at a time.
const BATCH: u32 = 50;
/// What was heard is written after this time at the latest.
const WRITE_AFTER: Duration = Duration::from_millis(250);

/// What a round needs of the world.
pub(crate) struct World<'a> {
    /// Both clocks.
    pub(crate) now: &'a dyn Fn() -> Now,
    /// Sends a message.
    pub(crate) send: &'a dyn Fn(&Notice, UnixSeconds) -> Reaction,
    /// Whether it is time to end.
    pub(crate) is_over: &'a dyn Fn() -> bool,
}

/// One destination and its database.
#[derive(Debug)]
pub(crate) struct Teller {
    store: Store,
    course: Course,
    /// The destination as it stands in the file.
    written: Destination,
    /// Heard or refused, and not written yet.
    told: Vec<Told>,
    /// Since when there are such.
    told_since: Option<Instant>,
}

impl Teller {
    /// The destination goes on where it was left, or begins now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn new(mut store: Store, name: &str) -> Result<Teller, StoreError> {
        let destination = store.begin_to_tell(name)?;
        let quiet = store.last_number()?;
        Ok(Teller {
            store,
            course: Course::new(destination.clone(), quiet),
            written: destination,
            told: Vec::new(),
            told_since: None,
        })
    }

    /// The database.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Tells what is due of the changes up to the number `quiet`, and whether there may be more already.
    ///
    /// # Errors
    /// [`StoreError`]; what was heard is kept until it can be written.
    pub(crate) fn round(&mut self, quiet: i64, world: &World<'_>) -> Result<bool, StoreError> {
        self.write()?;
        // An operator may have changed it.
        if let Some(destination) = self.store.destination(&self.written.name)? {
            self.course.destination.clone_from(&destination);
            self.written = destination;
        }
        let now = (world.now)().unix;
        let due = match self.course.is_down() {
            true if !self.course.may_try(quiet, now) => return Ok(false),
            true => self.probe(quiet)?,
            false => self.due(quiet, now)?,
        };
        let mut is_more = !due.is_empty();
        for due in due {
            if (world.is_over)() {
                is_more = false;
                break;
            }
            let was_down = self.course.is_down();
            self.tell(due, quiet, world)?;
            if self.course.is_down() {
                is_more = false;
                break;
            }
            if was_down {
                logger::write(log_line::Message::DestinationUp, &LogFields::default());
            }
            let now = (world.now)().instant;
            if self
                .told_since
                .is_some_and(|since| now - since >= WRITE_AFTER)
            {
                self.write()?;
            }
        }
        self.write()?;
        Ok(is_more)
    }

    /// What is due: what has changed, oldest change first, and then what was refused before.
    fn due(&self, quiet: i64, now: UnixSeconds) -> Result<Vec<Due>, StoreError> {
        let destination = &self.course.destination;
        let mut due = self.store.due_by_change(destination.cursor, quiet, BATCH)?;
        due.extend(self.store.due_again(destination, due_times(now), BATCH)?);
        Ok(due)
    }

    /// One order to try a destination with that is down: one that it has not refused, if there is one.
    /// When it refuses one after the other, those that come next are perhaps of the same kind.
    fn probe(&self, quiet: i64) -> Result<Vec<Due>, StoreError> {
        let destination = &self.course.destination;
        if self.course.is_refusing()
            && let Some(due) = self.store.any_due(destination, quiet)?
        {
            return Ok(vec![due]);
        }
        let due = self.store.due_by_change(destination.cursor, quiet, 1)?;
        if !due.is_empty() {
            return Ok(due);
        }
        self.store.due_again(destination, (i64::MAX, i64::MAX), 1)
    }

    fn tell(&mut self, due: Due, quiet: i64, world: &World<'_>) -> Result<(), StoreError> {
        let name = &self.course.destination.name;
        let tale = self.store.tale(due.order, name)?;
        // One that has changed meanwhile is told when it is quiet again.
        let Some(tale) = tale.filter(|tale| tale.order.changed <= quiet) else {
            self.pass(due);
            return Ok(());
        };
        let message = Notice::of_order(name, &tale);
        let answer = (world.send)(&message, (world.now)().unix);
        let now = (world.now)();
        log_answer(&tale, answer);
        let was_down = self.course.is_down();
        let dice = getrandom::u32().unwrap_or_default();
        let state = (tale.order.changed, &tale.told);
        let told = self.course.take(state, answer, (quiet, now.unix), dice);
        self.pass(due);
        if self.course.is_down() && !was_down {
            let fields = LogFields {
                status: status(answer),
                error_code: error_code(answer),
                ..LogFields::default()
            };
            logger::write(log_line::Message::DestinationDown, &fields);
        }
        self.told.push(told);
        self.told_since.get_or_insert(now.instant);
        Ok(())
    }

    /// The order was looked at, whatever came of it.
    fn pass(&mut self, due: Due) {
        let cursor = &mut self.course.destination.cursor;
        *cursor = due.cursor.max(*cursor);
    }

    /// Writes what was heard.
    fn write(&mut self) -> Result<(), StoreError> {
        if self.told.is_empty() && self.course.destination == self.written {
            return Ok(());
        }
        let after = &self.course.destination;
        self.store.write_told(&self.written, after, &self.told)?;
        self.written.clone_from(after);
        self.told.clear();
        self.told_since = None;
        Ok(())
    }
}

fn log_answer(tale: &Tale, answer: Reaction) {
    let message = match answer {
        Reaction::Heard(_) => log_line::Message::OrderTold,
        Reaction::Refused(..) | Reaction::Down(..) => log_line::Message::OrderNotTold,
    };
    let fields = LogFields {
        order_id: Some(LogText::order(&tale.order.name)),
        stripe_session_id: tale.order.state.session.as_ref().map(LogText::from),
        status: status(answer),
        error_code: error_code(answer),
        ..LogFields::default()
    };
    logger::write(message, &fields);
}

fn status(answer: Reaction) -> Option<u16> {
    match answer {
        Reaction::Heard(status) | Reaction::Refused(status, _) => Some(status),
        Reaction::Down(Why::Status(status), _) => Some(status),
        Reaction::Down(Why::Name | Why::Connect | Why::Timeout | Why::Tls | Why::Broken, _) => None,
    }
}

fn error_code(answer: Reaction) -> Option<ErrorCode> {
    match answer {
        Reaction::Heard(_) => None,
        Reaction::Refused(..) => Some(ErrorCode::NotifyRefused),
        Reaction::Down(why, _) => Some(match why {
            Why::Status(_) => ErrorCode::NotifyBusy,
            Why::Name | Why::Connect | Why::Broken => ErrorCode::NotifyUnreachable,
            Why::Timeout => ErrorCode::NotifyTimeout,
            Why::Tls => ErrorCode::NotifyTls,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

    use serde_json::{Value, json};
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::truth::delivery::Delivery;
    use crate::truth::event::Event;
    use crate::truth::reading::Reading;

    const START: i64 = 1_793_000_000;

    /// A shop that answers as it is told, and keeps what it heard as the README says it should.
    struct Shop {
        _folder: tempfile::TempDir,
        server: Store,
        teller: RefCell<Teller>,
        clock: Cell<i64>,
        began: Instant,
        answer: Box<dyn Fn(&Value) -> Reaction>,
        asked: Cell<u32>,
        rows: RefCell<BTreeMap<String, (i64, String)>>,
        ids: RefCell<BTreeMap<String, String>>,
    }

    impl Shop {
        fn new(answer: impl Fn(&Value) -> Reaction + 'static) -> Shop {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("paidup.db");
            let server = Store::open(&path).unwrap();
            let teller = Teller::new(Store::open_to_tell(&path).unwrap(), "shop").unwrap();
            Shop {
                _folder: folder,
                server,
                teller: RefCell::new(teller),
                clock: Cell::new(START),
                began: Now::read().instant,
                answer: Box::new(answer),
                asked: Cell::new(0),
                rows: RefCell::default(),
                ids: RefCell::default(),
            }
        }

        fn happens(&mut self, event: &Value) {
            let body = event.to_string();
            let delivery = Delivery {
                event: Event::from_json(&body, &Reading::default()).unwrap(),
                sha256: Sha256::digest(&body).into(),
                request_id: None,
                received: UnixSeconds(self.clock.get()),
            };
            let answers = self.server.record(&[delivery]).unwrap();
            assert!(answers[0].is_ok());
        }

        /// Lets `seconds` go by, with a look in each.
        fn passes(&self, seconds: i64) {
            for _ in 0..seconds {
                self.clock.set(self.clock.get() + 1);
                let quiet = self.server.last_number().unwrap();
                while self.round(quiet) {}
            }
        }

        fn round(&self, quiet: i64) -> bool {
            let now = || Now {
                instant: self.began
                    + Duration::from_secs((self.clock.get() - START).unsigned_abs()),
                unix: UnixSeconds(self.clock.get()),
            };
            let world = World {
                now: &now,
                send: &|message, _| self.hears(message),
                is_over: &|| false,
            };
            self.teller.borrow_mut().round(quiet, &world).unwrap()
        }

        fn hears(&self, message: &Notice) -> Reaction {
            self.asked.set(self.asked.get() + 1);
            let mut ids = self.ids.borrow_mut();
            let known = ids.insert(message.id.clone(), message.body.clone());
            assert!(
                known.is_none_or(|body| body == message.body),
                "one id, two contents"
            );
            let body: Value = serde_json::from_str(&message.body).unwrap();
            let answer = (self.answer)(&body);
            if let Reaction::Heard(_) = answer {
                let data = &body["data"];
                let (version, order) = (data["version"].as_i64().unwrap(), &data["order"]);
                let mut rows = self.rows.borrow_mut();
                for other in data["alsoKnownAs"].as_array().unwrap() {
                    rows.remove(other.as_str().unwrap());
                }
                let name = order["orderId"].as_str().unwrap().to_owned();
                let status = order["status"].as_str().unwrap().to_owned();
                let row = rows.entry(name).or_default();
                if row.0 < version {
                    *row = (version, status);
                }
            }
            answer
        }

        fn status_of(&self, order: &str) -> Option<String> {
            Some(self.rows.borrow().get(order)?.1.clone())
        }
    }

    fn paid(name: &str) -> Value {
        session(name, "complete", "paid")
    }

    fn session(name: &str, status: &str, payment: &str) -> Value {
        json!({
            "id": format!("evt_{name}_{payment}"), "object": "event", "created": START,
            "type": "checkout.session.completed", "api_version": "2026-10-28.endive", "livemode": false,
            "data": {"object": {
                "id": format!("cs_test_{name}"), "object": "checkout.session", "mode": "payment",
                "status": status, "payment_status": payment, "client_reference_id": format!("ord_{name}"),
                "payment_intent": format!("pi_{name}"), "amount_total": 2500, "currency": "eur",
            }},
        })
    }

    fn refund(name: &str) -> Value {
        json!({
            "id": format!("evt_{name}_refund"), "object": "event", "created": START + 9,
            "type": "charge.refunded", "api_version": "2026-10-28.endive", "livemode": false,
            "data": {"object": {
                "id": format!("ch_{name}"), "object": "charge", "payment_intent": format!("pi_{name}"),
                "amount": 2500, "amount_captured": 2500, "amount_refunded": 2500, "currency": "eur",
                "captured": true, "paid": true, "refunded": true, "status": "succeeded",
            }},
        })
    }

    #[test]
    fn what_was_there_before_the_first_start_is_not_told_but_can_be() {
        let mut shop = Shop::new(|_| Reaction::Heard(200));
        shop.happens(&paid("old"));
        let path = shop._folder.path().join("paidup.db");
        let phone = Store::open_to_tell(&path).unwrap();
        *shop.teller.borrow_mut() = Teller::new(phone, "phone").unwrap();
        shop.passes(3);
        assert_eq!(shop.asked.get(), 0);
        shop.happens(&paid("new"));
        shop.passes(3);
        assert_eq!(shop.rows.borrow().len(), 1);
        assert_eq!(shop.status_of("ord_new").as_deref(), Some("paid"));
        shop.server.tell_again_since("phone", None).unwrap();
        shop.passes(3);
        assert_eq!(shop.status_of("ord_old").as_deref(), Some("paid"));
        assert_eq!(shop.asked.get(), 3);
    }

    #[test]
    fn a_shop_that_was_away_for_ten_days_hears_the_last_state_of_every_order() {
        let away = START + 10 * 86_400;
        let clock = std::rc::Rc::new(Cell::new(START));
        let seen = std::rc::Rc::clone(&clock);
        let mut shop = Shop::new(move |_| match seen.get() < away {
            true => Reaction::Down(Why::Connect, None),
            false => Reaction::Heard(200),
        });
        for day in 0..10 {
            shop.happens(&paid(&format!("d{day}")));
            for _ in 0..86_400 / 60 {
                shop.clock.set(shop.clock.get() + 60);
                clock.set(shop.clock.get());
                shop.round(shop.server.last_number().unwrap());
            }
        }
        let asked = shop.asked.get();
        assert!((240..320).contains(&asked), "{asked}");
        shop.happens(&refund("d3"));
        // Something new: within seconds of its return.
        for _ in 0..10 {
            clock.set(shop.clock.get());
            shop.passes(1);
        }
        assert_eq!(shop.rows.borrow().len(), 10);
        for day in 0..10 {
            let expected = if day == 3 { "refunded" } else { "paid" };
            assert_eq!(
                shop.status_of(&format!("ord_d{day}")).as_deref(),
                Some(expected)
            );
        }
        let unheard = shop.server.unheard().unwrap();
        assert_eq!((unheard[0].waiting, unheard[0].oldest), (0, None));
    }

    #[test]
    fn one_order_that_is_always_refused_does_not_keep_99_others() {
        let mut shop = Shop::new(|body| match body["data"]["order"]["orderId"] == "ord_7" {
            true => Reaction::Refused(500, None),
            false => Reaction::Heard(200),
        });
        for order in 0..100 {
            shop.happens(&paid(&order.to_string()));
        }
        shop.passes(2);
        assert_eq!(shop.rows.borrow().len(), 99);
        shop.passes(86_400);
        let asked = shop.asked.get() - 99;
        assert!((24..34).contains(&asked), "tried {asked} times in a day");
        let unheard = &shop.server.unheard().unwrap()[0];
        assert_eq!((unheard.waiting, unheard.refused), (1, 1));
        assert_eq!(unheard.oldest, Some(UnixSeconds(START)));
        let refused = shop.server.refused_by("shop", 9).unwrap();
        assert_eq!(refused[0].0.name.as_str(), "ord_7");
        assert_eq!(refused[0].1.why.as_deref(), Some("status 500"));
    }

    #[test]
    fn three_that_are_refused_do_not_keep_those_behind_them() {
        let mut shop = Shop::new(|body| {
            match ["ord_0", "ord_1", "ord_2", "ord_3"]
                .contains(&body["data"]["order"]["orderId"].as_str().unwrap())
            {
                true => Reaction::Refused(410, None),
                false => Reaction::Heard(204),
            }
        });
        for order in 0..50 {
            shop.happens(&paid(&order.to_string()));
        }
        shop.passes(120);
        assert_eq!(shop.rows.borrow().len(), 46);
        shop.passes(86_400);
        let asked = shop.asked.get();
        assert!(asked < 46 + 4 * 45, "{asked}");
        shop.happens(&paid("late"));
        shop.passes(8);
        assert_eq!(shop.status_of("ord_late").as_deref(), Some("paid"));
    }

    /// Whoever refuses orders whose name begins with `ord_bad`, whatever else happens.
    fn picky() -> Shop {
        Shop::new(|body| {
            let order = body["data"]["order"]["orderId"].as_str().unwrap();
            match order.starts_with("ord_bad") {
                true => Reaction::Refused(500, None),
                false => Reaction::Heard(200),
            }
        })
    }

    #[test]
    fn however_many_are_refused_in_a_row_those_behind_them_are_told_within_a_few_steps() {
        for bad in [4, 30, 100] {
            let mut shop = picky();
            for order in 0..bad {
                shop.happens(&paid(&format!("bad{order}")));
            }
            for order in 0..95 {
                shop.happens(&paid(&format!("good{order}")));
            }
            // Chance chooses whom to try it with: minutes, where in turn it would be days.
            let is_done = |shop: &Shop| shop.rows.borrow().len() == 95;
            for _ in 0..24 * 60 {
                if !is_done(&shop) {
                    shop.passes(60);
                }
            }
            assert!(is_done(&shop), "{bad}");
        }
    }

    /// A receiver that crashes on one order, or a proxy that gives up on it, looks as if it were away.
    #[test]
    fn one_order_that_brings_the_receiver_down_does_not_keep_the_others() {
        let mut shop = Shop::new(|body| match body["data"]["order"]["orderId"] == "ord_7" {
            true => Reaction::Down(Why::Timeout, None),
            false => Reaction::Heard(200),
        });
        for order in 0..100 {
            shop.happens(&paid(&order.to_string()));
        }
        shop.passes(10);
        assert_eq!(shop.rows.borrow().len(), 99);
        shop.passes(3_600);
        let asked = shop.asked.get() - 99;
        assert!((5..8).contains(&asked), "tried {asked} times in an hour");
    }

    #[test]
    fn orders_that_were_refused_before_never_hold_up_the_others_when_their_time_comes() {
        let mut shop = picky();
        for order in 0..20 {
            shop.happens(&paid(&format!("bad{order}")));
            shop.happens(&paid(&format!("good{order}")));
        }
        shop.passes(60);
        for order in 20..200 {
            let now = UnixSeconds(shop.clock.get());
            shop.server.tell_at_once("shop", now).unwrap();
            shop.passes(2);
            shop.happens(&paid(&format!("good{order}")));
            shop.passes(2);
            let name = format!("ord_good{order}");
            assert_eq!(shop.status_of(&name).as_deref(), Some("paid"));
        }
    }

    #[test]
    fn an_order_that_was_refused_while_the_clock_was_wrong_does_not_wait_for_that_time() {
        let is_mended = std::rc::Rc::new(Cell::new(false));
        let mended = std::rc::Rc::clone(&is_mended);
        let mut shop = Shop::new(move |_| match mended.get() {
            false => Reaction::Refused(500, None),
            true => Reaction::Heard(200),
        });
        shop.happens(&paid("a"));
        shop.clock.set(START + 365 * 86_400);
        shop.passes(3);
        assert_eq!(shop.asked.get(), 1);
        shop.clock.set(START + 60);
        is_mended.set(true);
        shop.passes(3);
        assert_eq!(shop.status_of("ord_a").as_deref(), Some("paid"));
    }

    #[test]
    fn two_orders_that_turn_out_to_be_one_are_one_at_the_shop() {
        let mut shop = Shop::new(|_| Reaction::Heard(200));
        let mut unnamed = paid("a");
        unnamed["data"]["object"]["client_reference_id"] = Value::Null;
        shop.happens(&unnamed);
        let mut charge = refund("a");
        charge["data"]["object"]["metadata"] = json!({"order_id": "ord_a"});
        let mut alone = charge.clone();
        alone["id"] = json!("evt_alone");
        alone["data"]["object"]["payment_intent"] = Value::Null;
        shop.happens(&alone);
        shop.passes(2);
        assert_eq!(shop.rows.borrow().len(), 2);
        shop.happens(&charge);
        shop.passes(2);
        assert_eq!(shop.rows.borrow().len(), 1);
        assert_eq!(shop.status_of("ord_a").as_deref(), Some("refunded"));
    }

    #[test]
    fn a_name_that_a_better_source_replaces_is_one_of_the_others() {
        let mut shop = Shop::new(|_| Reaction::Heard(200));
        shop.happens(&paid("a"));
        shop.passes(2);
        assert_eq!(shop.status_of("ord_a").as_deref(), Some("paid"));
        let mut charge = refund("a");
        charge["data"]["object"]["metadata"] = json!({"order_id": "ord_b"});
        shop.happens(&charge);
        shop.passes(2);
        assert_eq!(shop.rows.borrow().len(), 1);
        assert_eq!(shop.status_of("ord_b").as_deref(), Some("refunded"));
    }

    #[test]
    fn many_that_are_refused_do_not_slow_down_the_others() {
        let mut shop = Shop::new(|body| {
            let order = body["data"]["order"]["orderId"].as_str().unwrap();
            match order.starts_with("ord_bad") {
                true => Reaction::Refused(500, None),
                false => Reaction::Heard(200),
            }
        });
        for order in 0..60 {
            shop.happens(&paid(&format!("bad{order}")));
            shop.happens(&paid(&format!("good{order}")));
        }
        shop.passes(600);
        assert_eq!(shop.rows.borrow().len(), 60);
        let now = UnixSeconds(shop.clock.get());
        shop.server.tell_at_once("shop", now).unwrap();
        for order in 60..120 {
            shop.happens(&paid(&format!("good{order}")));
        }
        shop.passes(20);
        assert_eq!(shop.rows.borrow().len(), 120);
    }

    #[test]
    fn an_order_has_one_row_at_the_shop_whatever_it_was_called() {
        let mut shop = Shop::new(|_| Reaction::Heard(200));
        let mut unnamed = paid("a");
        unnamed["data"]["object"]["client_reference_id"] = Value::Null;
        shop.happens(&unnamed);
        shop.passes(2);
        assert_eq!(shop.status_of("cs_test_a").as_deref(), Some("paid"));
        let mut named = refund("a");
        named["data"]["object"]["metadata"] = json!({"order_id": "ord_a"});
        shop.happens(&named);
        shop.passes(2);
        assert_eq!(shop.rows.borrow().len(), 1);
        assert_eq!(shop.status_of("ord_a").as_deref(), Some("refunded"));
    }
}
