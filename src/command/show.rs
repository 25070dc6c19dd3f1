//! Shows orders and events: in words for people, in JSON for programs.
//!
//! Whatever came from outside passes through [`plain`] before it reaches a terminal.

use std::io::{self, Write};

use serde::Serialize;

use crate::base::id::UnixSeconds;
use crate::base::{plain, time};
use crate::command::exit::{Exit, Failure};
use crate::store::json::OrderJson;
use crate::store::{Change, Store, StoredEvent, StoredOrder};
use crate::truth::money;
use crate::truth::order::{Dispute, Flag, State, Status};

/// `paidup orders list`: newest first, at most `limit`.
///
/// # Errors
/// [`Failure`] when the database cannot be read or the output not be written.
pub fn orders_list(
    store: &Store,
    status: Option<Status>,
    limit: u32,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let mut orders = store.orders(status, limit.saturating_add(1))?;
    let has_more = cut(&mut orders, limit);
    write_orders(&orders, json, out)?;
    if orders.is_empty() && !json {
        let which = status.map_or("", Status::as_str);
        let blank = if which.is_empty() { "" } else { " " };
        writeln!(
            out,
            "There is no {which}{blank}order yet. `paidup send-test` sends one for a test."
        )?;
    }
    write_has_more(has_more && !json, out)?;
    Ok(Exit::Done)
}

fn write_orders(orders: &[StoredOrder], json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if json {
        for order in orders {
            write_json(&OrderJson::new(order, None), out)?;
        }
        return Ok(());
    }
    let rows = orders.iter().map(|order| {
        let state = &order.state;
        let mut notes: Vec<&str> = state.flags.iter().map(|flag| flag.as_str()).collect();
        if state.dispute != Dispute::None {
            notes.insert(0, dispute_word(state.dispute));
        }
        [
            plain::text(order.name.as_str()),
            state.status.as_str().to_owned(),
            amounts(state.amount, state.refunded, state.currency.as_deref()),
            when(order.updated_at),
            notes.join(", "),
        ]
    });
    write_table(
        ["ORDER", "STATUS", "AMOUNT", "CHANGED (UTC)", "LOOK AT"],
        rows.collect(),
        out,
    )?;
    Ok(())
}

/// Orders shown of those that say that they are for one name.
const REFERENCES: usize = 50;

/// `paidup orders show ID`. Where neither an order nor a Stripe object has that name, the order that says
/// that it is for it, or a list when several do.
///
/// # Errors
/// [`Failure`] when the database cannot be read or the output not be written.
pub fn orders_show(
    store: &Store,
    id: &str,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let order = match store.order(id)? {
        Some(order) => order,
        None => {
            let mut orders = store.orders_for(id, REFERENCES + 1)?;
            if orders.len() > 1 {
                let has_more = orders.len() > REFERENCES;
                orders.truncate(REFERENCES);
                write_orders(&orders, json, out)?;
                if has_more && !json {
                    writeln!(out, "There are more than the newest {REFERENCES}.")?;
                }
                return Ok(Exit::Done);
            }
            orders.pop().ok_or_else(|| no_order(id))?
        }
    };
    let changes = store.changes(&order)?;
    if json {
        write_json(&OrderJson::new(&order, Some(&changes)), out)?;
    } else {
        write_story(&order, &changes, out)?;
    }
    Ok(Exit::Done)
}

/// `paidup events list`: newest arrival first, at most `limit`; only those of the order `of`.
///
/// # Errors
/// [`Failure`] when the database cannot be read, has no such order, or the output cannot be written.
pub fn events_list(
    store: &Store,
    of: Option<&str>,
    limit: u32,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let order = match of {
        Some(id) => Some(store.order(id)?.ok_or_else(|| no_order(id))?),
        None => None,
    };
    let mut events = store.events(order.as_ref(), limit.saturating_add(1))?;
    let has_more = cut(&mut events, limit);
    if json {
        for event in &events {
            write_json(&EventJson::new(event), out)?;
        }
        return Ok(Exit::Done);
    }
    let rows = events.iter().map(|event| {
        [
            when(event.received_at),
            plain::text(&event.kind),
            outcome_words(event),
            event.order.as_deref().map(plain::text).unwrap_or_default(),
            event.id.clone(),
        ]
    });
    write_table(
        ["RECEIVED (UTC)", "TYPE", "OUTCOME", "ORDER", "EVENT"],
        rows.collect(),
        out,
    )?;
    if events.is_empty() {
        writeln!(
            out,
            "No event has come yet. `paidup send-test` sends one for a test."
        )?;
    }
    write_has_more(has_more, out)?;
    Ok(Exit::Done)
}

/// `paidup events show ID`.
///
/// # Errors
/// [`Failure`] when the database cannot be read, has no such event, or the output cannot be written.
pub fn events_show(
    store: &Store,
    id: &str,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let Some(event) = store.event(id)? else {
        return Err(Failure::Other(format!(
            "There is no event {:?}. Either it never arrived or it was refused: look for 400, 429 and 503 in \
             Dashboard → Webhooks → your endpoint, and in the log.\n`paidup events list` shows what arrived.",
            plain::text(id)
        )));
    };
    if json {
        write_json(&EventJson::new(&event), out)?;
    } else {
        write_event(&event, out)?;
    }
    Ok(Exit::Done)
}

/// Tells an order and its story to a person.
///
/// # Errors
/// Those of `out`.
pub fn write_story(order: &StoredOrder, changes: &[Change], out: &mut dyn Write) -> io::Result<()> {
    let state = &order.state;
    let currency = state.currency.as_deref();
    writeln!(
        out,
        "Order {} is {}",
        plain::text(order.name.as_str()),
        state.status.as_str()
    )?;
    writeln!(out, "  money    {}", money_sentence(state))?;
    if let Some(reference) = &state.reference {
        writeln!(out, "  says     {}", plain::text(reference.as_str()))?;
    }
    for (label, id) in [("session", &state.session), ("intent", &state.intent)] {
        if let Some(id) = id {
            writeln!(out, "  {label:<8} {}", id.as_str())?;
        }
    }
    writeln!(
        out,
        "  created  {} UTC, changed {} UTC",
        when(state.since),
        when(order.updated_at)
    )?;
    for (word, what, next) in to_look_at(state.dispute, &state.flags) {
        writeln!(out, "  ! {word}: {what}\n    {next}")?;
    }
    writeln!(out)?;
    let mut before: Option<&Change> = None;
    for change in changes {
        writeln!(
            out,
            "  {}  {:<30}  {}",
            when(change.at),
            step(before, change),
            amounts(change.amount, change.refunded, currency)
        )?;
        let request = change.request_id.as_deref().map(plain::text);
        writeln!(
            out,
            "    {:<29}  {}  {}",
            plain::text(&change.event_type),
            plain::text(&change.event_id),
            request.map_or_else(|| "fetched".to_owned(), |id| format!("request {id}")),
        )?;
        before = Some(change);
    }
    Ok(())
}

/// `2026-11-24 05:46:26`.
fn when(at: UnixSeconds) -> String {
    time::rfc3339(at).trim_end_matches('Z').replace('T', " ")
}

/// `25.00 EUR`, and what of it was given back.
fn amounts(amount: i64, refunded: i64, currency: Option<&str>) -> String {
    let all = money::written(amount, currency);
    match refunded {
        0 => all,
        _ => format!("{all}, {} back", money::written(refunded, currency)),
    }
}

/// What became of the money: each part is told once, and `kept` is what is left.
fn money_sentence(state: &State) -> String {
    let written = |minor| money::written(minor, state.currency.as_deref());
    let all = written(state.amount);
    if !state.status.is_paid() {
        return match state.status {
            Status::Authorized => format!("{all} held, nothing taken"),
            Status::Pending
            | Status::Processing
            | Status::Failed
            | Status::Canceled
            | Status::Expired
            | Status::Paid
            | Status::PartiallyRefunded
            | Status::Refunded => format!("{all} asked for, nothing taken"),
        };
    }
    let mut words = format!("{all} taken");
    match state.refunded {
        0 => {}
        given if given >= state.amount => words.push_str(", all of it given back"),
        given => words.push_str(&format!(", {} given back", written(given))),
    }
    if state.pending > 0 {
        words.push_str(&format!(
            " ({} of that not through yet)",
            written(state.pending)
        ));
    }
    if state.disputed > state.lost {
        words.push_str(&format!(
            ", {} disputed",
            written(state.disputed - state.lost)
        ));
    }
    if state.lost > 0 {
        words.push_str(&format!(", {} lost to a dispute", written(state.lost)));
    }
    if state.kept() < state.amount && state.refunded < state.amount {
        words.push_str(&format!(", {} kept", written(state.kept())));
    }
    words
}

/// What one step changed, in words.
fn step(before: Option<&Change>, change: &Change) -> String {
    let to = change.to.as_str();
    let mut words = match change.from {
        None => format!("new → {to}"),
        Some(from) if from == change.to => to.to_owned(),
        Some(from) => format!("{} → {to}", from.as_str()),
    };
    let old_dispute = before.map_or(Dispute::None, |before| before.dispute);
    if old_dispute != change.dispute {
        words.push_str(&format!(", {}", dispute_word(change.dispute)));
    }
    let had = |flag: &Flag| before.is_some_and(|before| before.flags.contains(flag));
    for flag in change.flags.iter().filter(|flag| !had(flag)) {
        words.push_str(&format!(", {}", flag.as_str()));
    }
    let settled = before.into_iter().flat_map(|before| &before.flags);
    for flag in settled.filter(|flag| !change.flags.contains(flag)) {
        words.push_str(&format!(", {} settled", flag.as_str()));
    }
    words
}

fn dispute_word(dispute: Dispute) -> &'static str {
    match dispute {
        Dispute::None => "dispute closed",
        Dispute::Open => "dispute open",
        Dispute::Won => "dispute won",
        Dispute::Lost => "dispute lost",
    }
}

/// What a human should know or do: the word, what it means, what to do.
fn to_look_at(
    dispute: Dispute,
    flags: &[Flag],
) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let disputed = match dispute {
        Dispute::None => None,
        Dispute::Open => Some((
            "The buyer's bank contests the payment, and the money may be withheld.",
            "Answer before the deadline: Dashboard → Payments → Disputes.",
        )),
        Dispute::Won => Some((
            "The buyer's bank contested the payment and the shop kept the money.",
            "Nothing is to do.",
        )),
        Dispute::Lost => Some((
            "The buyer has the money back through the bank; that is no refund, so the status stays.",
            "Do not refund it as well. Dashboard → Payments → Disputes has the reason.",
        )),
    };
    let disputed = disputed.map(|(what, next)| (dispute_word(dispute), what, next));
    disputed.into_iter().chain(flags.iter().map(|flag| {
        let (what, next) = flag_words(*flag);
        (flag.as_str(), what, next)
    }))
}

fn flag_words(flag: Flag) -> (&'static str, &'static str) {
    match flag {
        Flag::DoublePayment => (
            "Two payments of this order took money that was not given back.",
            "Refund one of them: Dashboard → Payments. The flag goes when its refund arrives.",
        ),
        Flag::AmountMismatch => (
            "What was taken is not what the session asked for.",
            "Compare the payment with the order before it ships: Dashboard → Payments.",
        ),
        Flag::CurrencyMismatch => (
            "What was taken is in another currency than the session asked for.",
            "Compare the payment with the order before it ships: Dashboard → Payments.",
        ),
        Flag::NameConflict => (
            "A payment names two orders, or an order that another session was made for.",
            "Check where the shop makes its sessions, and the other order; `paidup orders show` finds it by \
             the name.",
        ),
        Flag::FraudWarning => (
            "The card's issuer takes the payment for a fraud. A dispute is likely to follow.",
            "Do not ship. Refund it before it is disputed: Dashboard → Payments.",
        ),
        Flag::InReview => (
            "The payment is in review: nobody has decided yet whether it is honest.",
            "Approve or refund it before the order ships: Dashboard → Radar → Reviews.",
        ),
        Flag::FailedAfterPaid => (
            "A debit that had succeeded has come back: the money is gone.",
            "Ask the buyer to pay again, and do not ship meanwhile: Dashboard → Payments.",
        ),
    }
}

fn write_event(event: &StoredEvent, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "Event {} is {}",
        plain::text(&event.id),
        plain::text(&event.kind)
    )?;
    let order = event.order.as_deref().map(plain::text);
    let created = event
        .created
        .map(|at| format!("{} UTC, by Stripe", when(at)));
    for (label, value) in [
        ("about", event.object.as_deref().map(plain::text)),
        ("order", order),
        ("created", created),
        ("received", Some(format!("{} UTC", when(event.received_at)))),
        ("request", event.request_id.as_deref().map(plain::text)),
        ("sha256", Some(event.sha256.clone())),
    ] {
        if let Some(value) = value {
            writeln!(out, "  {label:<8} {value}")?;
        }
    }
    writeln!(
        out,
        "  {}: {}",
        outcome_words(event),
        outcome_meaning(event)
    )
}

fn outcome_words(event: &StoredEvent) -> String {
    match &event.reason {
        Some(reason) => format!("{} ({})", plain::text(&event.outcome), plain::text(reason)),
        None => plain::text(&event.outcome),
    }
}

/// What came of an event. The words are those of `Outcome` and `Ignored`, from the ledger.
fn outcome_meaning(event: &StoredEvent) -> &'static str {
    match (event.outcome.as_str(), event.reason.as_deref()) {
        ("applied", _) => "it told something new of the order.",
        ("duplicate", _) => {
            "another event had told the same before; nothing changed. Stripe does that."
        }
        ("parked", _) if event.order.is_some() => {
            "its order was not known when it came; since then it was joined."
        }
        ("parked", _) => {
            "its order is not known yet. It is joined when an event names both: look whether \
             checkout.session.completed is subscribed and carries client_reference_id."
        }
        ("ignored", Some("account")) => "it is of a connected account, and a shop is no platform.",
        ("ignored", Some("thin")) => {
            "it is a thin event, without an object. The destination must send snapshots: \
             Dashboard → Webhooks → your endpoint."
        }
        ("ignored", Some("mode")) => "it is of the other mode than the database.",
        ("ignored", Some("no_sale")) => {
            "it sells nothing: a session that only saves a card, or an invoice of zero."
        }
        ("ignored", Some("other_shop")) => {
            "it is of another shop that shares the account: OUR_ORDERS says whose orders are ours."
        }
        ("ignored", _) => "events of this type tell nothing of orders.",
        _ => "a newer paidup knows what this means.",
    }
}

fn no_order(id: &str) -> Failure {
    Failure::Other(format!(
        "There is no order {:?}, no order says that it is for it, and no session, intent, invoice, charge, \
         refund or dispute of that id is known.\n\
         `paidup orders list` shows the newest orders, `paidup events list` what Stripe has sent.",
        plain::text(id)
    ))
}

/// Cuts `rows` to `limit` and says whether there were more.
fn cut<T>(rows: &mut Vec<T>, limit: u32) -> bool {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    has_more
}

fn write_has_more(has_more: bool, out: &mut dyn Write) -> io::Result<()> {
    match has_more {
        true => writeln!(out, "There are more: --limit N shows them."),
        false => Ok(()),
    }
}

/// Writes the rows under their heads, each column as wide as its widest cell. Nothing when there
/// are no rows.
fn write_table<const N: usize>(
    heads: [&str; N],
    rows: Vec<[String; N]>,
    out: &mut dyn Write,
) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let rows: Vec<[String; N]> = std::iter::once(heads.map(str::to_owned))
        .chain(rows)
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in &rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

fn write_json(value: &impl Serialize, out: &mut dyn Write) -> Result<(), Failure> {
    let json = serde_json::to_string(value).map_err(io::Error::from)?;
    writeln!(out, "{}", plain::json(&json))?;
    Ok(())
}

/// An event for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventJson<'a> {
    event_id: &'a str,
    event_type: &'a str,
    created_at: Option<String>,
    received_at: String,
    object_id: Option<&'a str>,
    order_id: Option<&'a str>,
    outcome: &'a str,
    reason: Option<&'a str>,
    request_id: Option<&'a str>,
    sha256: &'a str,
}

impl<'a> EventJson<'a> {
    fn new(event: &'a StoredEvent) -> EventJson<'a> {
        EventJson {
            event_id: &event.id,
            event_type: &event.kind,
            created_at: event.created.map(time::rfc3339),
            received_at: time::rfc3339(event.received_at),
            object_id: event.object.as_deref(),
            order_id: event.order.as_deref(),
            outcome: &event.outcome,
            reason: event.reason.as_deref(),
            request_id: event.request_id.as_deref(),
            sha256: &event.sha256,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;
    use crate::base::id::RequestId;
    use crate::truth::delivery::Delivery;
    use crate::truth::event::Event;
    use crate::truth::reading::Reading;

    /// 2026-11-24T06:00:00Z
    const START: i64 = 1_795_500_000;

    /// A database in which each event came a minute after the one before.
    struct Shop {
        store: Store,
        events: i64,
        _folder: TempDir,
    }

    impl Shop {
        fn open() -> Shop {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(&folder.path().join("paidup.db")).unwrap();
            Shop {
                store,
                events: 0,
                _folder: folder,
            }
        }

        fn tell(&mut self, kind: &str, object: &Value) {
            self.events += 1;
            let number = self.events;
            let at = START + 60 * number;
            let event = json!({"id": format!("evt_{number}"), "type": kind, "created": at - 1,
                               "data": {"object": object}});
            let delivery = Delivery {
                event: Event::from_json(&event.to_string(), &Reading::default()).unwrap(),
                sha256: [7; 32],
                request_id: RequestId::parse(&format!("request-{number}")).ok(),
                received: UnixSeconds(at),
            };
            self.store.record(&[delivery]).unwrap().remove(0).unwrap();
        }

        fn pay(&mut self, order: &str, number: &str) {
            let session = json!({"id": format!("cs_{number}"), "mode": "payment",
                "payment_status": "paid", "client_reference_id": order, "amount_total": 2500,
                "currency": "eur", "payment_intent": format!("pi_{number}")});
            self.tell("checkout.session.completed", &session);
        }

        fn shown(&self, show: impl Fn(&Store, &mut dyn Write) -> Result<Exit, Failure>) -> String {
            let mut out = Vec::new();
            assert_eq!(show(&self.store, &mut out).unwrap(), Exit::Done);
            String::from_utf8(out).unwrap()
        }

        fn story(&self, id: &str) -> String {
            self.shown(|store, out| orders_show(store, id, false, out))
        }
    }

    #[test]
    fn the_story_of_an_order_is_told_step_by_step() {
        let mut shop = Shop::open();
        shop.pay("ord_1", "1");
        shop.pay("ord_1", "2");
        let refund = json!({"id": "re_1", "amount": 2500, "status": "succeeded", "charge": "ch_2",
            "payment_intent": "pi_2", "created": START});
        shop.tell("refund.created", &refund);
        let dispute = json!({"id": "du_1", "status": "needs_response", "charge": "ch_1",
            "payment_intent": "pi_1"});
        shop.tell("charge.dispute.created", &dispute);
        let expected = "\
Order ord_1 is paid
  money    25.00 EUR taken, 25.00 EUR disputed
  session  cs_1
  intent   pi_1
  created  2026-11-24 06:00:59 UTC, changed 2026-11-24 06:04:00 UTC
  ! dispute open: The buyer's bank contests the payment, and the money may be withheld.
    Answer before the deadline: Dashboard → Payments → Disputes.

  2026-11-24 06:01:00  new → paid                      25.00 EUR
    checkout.session.completed     evt_1  request request-1
  2026-11-24 06:02:00  paid, double_payment            50.00 EUR
    checkout.session.completed     evt_2  request request-2
  2026-11-24 06:03:00  paid, double_payment settled    25.00 EUR
    refund.created                 evt_3  request request-3
  2026-11-24 06:04:00  paid, dispute open              25.00 EUR
    charge.dispute.created         evt_4  request request-4
";
        assert_eq!(shop.story("ord_1"), expected);
        for id in ["cs_2", "pi_1", "ch_1", "re_1", "du_1"] {
            assert_eq!(shop.story(id), expected, "{id} finds it as well");
        }
    }

    #[test]
    fn every_flag_says_what_it_means_and_what_to_do() {
        for flag in Flag::ALL {
            let (what, next) = flag_words(flag);
            assert!(what.ends_with('.') && next.ends_with('.'), "{flag:?}");
        }
        let mut shop = Shop::open();
        shop.pay("ord_1", "1");
        let charge = json!({"id": "ch_1", "amount": 2000, "amount_refunded": 0, "captured": true,
            "currency": "eur", "payment_intent": "pi_1"});
        shop.tell("charge.succeeded", &charge);
        assert!(
            shop.story("ord_1")
                .contains("! amount_mismatch: What was taken is not")
        );
        let list = shop.shown(|store, out| orders_list(store, None, 9, false, out));
        assert_eq!(
            list.lines().nth(1).unwrap().split("  ").last(),
            Some("amount_mismatch")
        );
    }

    #[test]
    fn json_has_exactly_the_promised_fields() {
        let mut shop = Shop::open();
        shop.pay("ord_1", "1");
        let text = shop.shown(|store, out| orders_show(store, "ord_1", true, out));
        let order: Value = serde_json::from_str(&text).unwrap();
        let expected = json!({"orderId": "ord_1", "status": "paid", "dispute": "none",
            "amount": 2500, "amountRefunded": 0, "amountRefundPending": 0, "amountDisputed": 0, "amountKept": 2500, "reference": null, "currency": "eur", "stripeSessionId": "cs_1",
            "stripePaymentIntentId": "pi_1", "flags": [], "createdAt": "2026-11-24T06:00:59Z",
            "updatedAt": "2026-11-24T06:01:00Z", "history": [{"at": "2026-11-24T06:01:00Z",
                "from": null, "to": "paid", "dispute": "none", "amount": 2500, "amountRefunded": 0,
                "flags": [], "eventId": "evt_1", "eventType": "checkout.session.completed",
                "requestId": "request-1"}]});
        assert_eq!(order, expected);

        let text = shop.shown(|store, out| events_show(store, "evt_1", true, out));
        let event: Value = serde_json::from_str(&text).unwrap();
        let expected = json!({"eventId": "evt_1", "eventType": "checkout.session.completed",
            "createdAt": "2026-11-24T06:00:59Z", "receivedAt": "2026-11-24T06:01:00Z",
            "objectId": "cs_1", "orderId": "ord_1", "outcome": "applied", "reason": null,
            "requestId": "request-1", "sha256": "07".repeat(32)});
        assert_eq!(event, expected);
    }

    #[test]
    fn lists_are_cut_newest_first_and_say_so() {
        let mut shop = Shop::open();
        let empty = shop.shown(|store, out| orders_list(store, None, 2, false, out));
        assert!(empty.starts_with("There is no order yet."), "{empty}");
        let empty = shop.shown(|store, out| events_list(store, None, 2, true, out));
        assert_eq!(empty, "");
        for number in ["1", "2", "3"] {
            shop.pay(&format!("ord_{number}"), number);
        }
        let expected = "\
ORDER  STATUS  AMOUNT     CHANGED (UTC)        LOOK AT
ord_3  paid    25.00 EUR  2026-11-24 06:03:00
ord_2  paid    25.00 EUR  2026-11-24 06:02:00
There are more: --limit N shows them.
";
        assert_eq!(
            shop.shown(|store, out| orders_list(store, None, 2, false, out)),
            expected
        );
        let lines = shop.shown(|store, out| orders_list(store, Some(Status::Paid), 2, true, out));
        assert_eq!(lines.lines().count(), 2);
        let events = shop.shown(|store, out| events_list(store, Some("pi_2"), 9, false, out));
        assert_eq!(events.lines().count(), 2, "{events}");
        assert!(
            events.contains("checkout.session.completed  applied  ord_2  evt_2"),
            "{events}"
        );
        let story = shop.shown(|store, out| events_show(store, "evt_2", false, out));
        assert!(story.contains("applied: it told something new"), "{story}");
    }

    #[test]
    fn what_is_not_there_is_said_with_a_hint() {
        let shop = Shop::open();
        let mut out = Vec::new();
        let failure = orders_show(&shop.store, "\u{1b}[2J", false, &mut out).unwrap_err();
        assert!(
            failure.to_string().contains("`paidup orders list`"),
            "{failure}"
        );
        assert!(!failure.to_string().contains('\u{1b}'));
        assert_eq!(failure.exit(), Exit::Failed);
        assert!(events_show(&shop.store, "evt_0", true, &mut out).is_err());
        assert!(events_list(&shop.store, Some("ord_0"), 9, true, &mut out).is_err());
        assert_eq!(out, b"");
    }
}
