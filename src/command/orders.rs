//! `paidup orders`: lists orders, and tells the story of one.

use std::io::{self, Write};

use crate::base::plain;
use crate::command::environment::Environment;
use crate::command::exit::{Exit, Failure};
use crate::command::notify;
use crate::command::screen::{Tone, painted};
use crate::command::show::{cut, pasted, when, write_json, write_table};
use crate::command::wanted::{self, Asked};
use crate::command::words::{
    CliOption, Command, ENV_FILE, JSON, JSON_LINES, LIMIT, UsageError, Words, does,
};
use crate::host::clock::Now;
use crate::page::texts::{self, Lang};
use crate::store::json::OrderJson;
use crate::store::{Change, Place, Store, StoreError, StoredOrder, Wanted};
use crate::truth::money;
use crate::truth::order::{DisputeState, Flag, State, Status};
use crate::truth::payment::Payment;

pub(crate) const LIST: Command = Command {
    name: "orders list",
    arguments: "",
    summary: "List orders",
    details: "Newest first, by Stripe's time of an order's first event; --since and --until are of that time, too.\n\
              Needs DATABASE_PATH alone; the server may run meanwhile.",
    options: &[
        wanted::STATUS,
        wanted::FLAGGED,
        wanted::SINCE,
        wanted::UNTIL,
        wanted::NAME,
        CliOption {
            name: "before",
            value: "PLACE",
            help: "go on where the list before ended, which says so",
        },
        LIMIT,
        JSON_LINES,
        ENV_FILE,
    ],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &[
        "paidup orders list --status refunded --limit 20",
        "paidup orders list --flagged --since 30d",
        "paidup orders list --name ord_10",
    ],
    run: |words| {
        let list = List {
            asked: Asked::read(words)?,
            before: before(words)?,
            limit: words.limit()?,
            json: words.has("json"),
            again: again(words),
        };
        does(move |env_file, out| {
            let environment = Environment::read(env_file)?;
            let wanted = list.asked.wanted(&environment.zone(), Now::read().unix);
            list.write(&environment.store_to_read()?, &wanted, out)
        })
    },
};

pub(crate) const SHOW: Command = Command {
    name: "orders show",
    arguments: "ID",
    summary: "Tell the story of one order",
    details: "ID is the shop's order id, or the id of its session (cs_...), intent (pi_...), charge (ch_...),\n\
              refund (re_...) or dispute (du_...). Times are of TZ, in JSON of UTC. In JSON amounts are minor\n\
              units.\n\
              Needs DATABASE_PATH alone; the server may run meanwhile.",
    options: &[JSON, ENV_FILE],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &[
        "paidup orders show ord_1001",
        "paidup orders show pi_3D93AHdKHY7pQ2eZvKY0MdCCkvP --json",
    ],
    run: |words| {
        let (id, json) = (words.argument()?, words.has("json"));
        does(move |env_file, out| {
            show(
                &Environment::read(env_file)?.store_to_read()?,
                &id,
                json,
                out,
            )
        })
    },
};

/// What is to be listed.
#[derive(Default)]
pub(crate) struct List {
    pub(crate) asked: Asked,
    pub(crate) before: Option<Place>,
    pub(crate) limit: u32,
    pub(crate) json: bool,
    /// The same command without `--before`, to be pasted.
    pub(crate) again: String,
}

fn before(words: &Words) -> Result<Option<Place>, UsageError> {
    let Some(text) = words.value("before") else {
        return Ok(None);
    };
    if words.has(wanted::NAME.name) {
        return Err(
            words.error("--before goes with a list by time, not with --name: write more of the id")
        );
    }
    let place = Place::parse(text);
    let wrong =
        || words.error("--before is what the list before ended with, such as 1795500000-17");
    place.map(Some).ok_or_else(wrong)
}

fn again(words: &Words) -> String {
    let mut again = format!("paidup {}", words.command.name);
    for (name, value) in words.options().iter().filter(|(name, _)| *name != "before") {
        again.push_str(&format!(" --{name}"));
        if !value.is_empty() {
            again.push_str(&format!(" {}", pasted(value)));
        }
    }
    again
}

impl List {
    /// Newest first, at most `limit`.
    ///
    /// # Errors
    /// [`Failure`] when the database cannot be read or the output not be written.
    pub(crate) fn write(
        &self,
        store: &Store,
        wanted: &Wanted,
        out: &mut dyn Write,
    ) -> Result<Exit, Failure> {
        let mut orders = store.wanted(wanted, self.before, self.limit.saturating_add(1))?;
        let has_more = cut(&mut orders, self.limit);
        write_orders(&orders, self.json, out)?;
        if self.json {
            return Ok(Exit::Done);
        }
        match orders.last() {
            None => writeln!(out, "{}", none(wanted, self.before))?,
            Some(_) if has_more && wanted.name.is_some() => writeln!(
                out,
                "There are more: write more of the id, or --limit N shows them."
            )?,
            Some(last) if has_more => writeln!(
                out,
                "There are more: `{} --before {}`",
                self.again,
                last.place()
            )?,
            Some(_) => {}
        }
        Ok(Exit::Done)
    }
}

/// Why the list is empty.
fn none(wanted: &Wanted, before: Option<Place>) -> String {
    let of_status = |status| Wanted {
        status: Some(status),
        ..Wanted::default()
    };
    match (wanted.status, before) {
        (None, None) if *wanted == Wanted::default() => {
            "There is no order yet. `paidup send-test` sends one for a test.".to_owned()
        }
        (Some(status), None) if *wanted == of_status(status) => format!(
            "There is no {} order. `paidup orders list` shows those of every status.",
            status.as_str()
        ),
        (_, None) => "There is no such order. `paidup orders list` shows all.".to_owned(),
        (_, Some(_)) => "There are no more.".to_owned(),
    }
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
        if matches!(state.dispute, DisputeState::Open | DisputeState::Lost) {
            notes.insert(0, dispute_word(state.dispute));
        }
        [
            plain::text(order.name.as_str()),
            painted(state.status.as_str(), tone(state.status)),
            amounts(state.amount, state.refunded, state.currency.as_deref()),
            when(state.since),
            painted(&notes.join(", "), Tone::Warning),
        ]
    });
    write_table(
        ["ORDER", "STATUS", "AMOUNT", "CREATED", "LOOK AT"],
        rows.collect(),
        out,
    )?;
    Ok(())
}

/// How many orders with one reference are shown.
const REFERENCES: usize = 50;

/// How many payments of an order that was paid twice are shown.
const PAYMENTS: usize = 50;

/// The order with that id or with a Stripe object of that id. When there is none, the order with that
/// reference, or a list when there are several.
///
/// # Errors
/// [`Failure`] when the database cannot be read or the output not be written.
pub(crate) fn show(
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
            match orders.pop() {
                Some(order) => order,
                None => return Err(no_order(id, store)?),
            }
        }
    };
    let changes = store.changes(&order)?;
    let told = store.told_of(&order)?;
    if json {
        write_json(&notify::with_told(&order, &changes, &told), out)?;
    } else {
        write_story(&order, &changes, out)?;
        if order.state.flags.contains(&Flag::DoublePayment) {
            write_payments(
                &store.few_payments(&order, PAYMENTS)?.unwrap_or_default(),
                out,
            )?;
        }
        notify::write_told(&order, &told, out)?;
    }
    Ok(Exit::Done)
}

/// Tells an order and its story to a person.
///
/// # Errors
/// Those of `out`.
fn write_story(order: &StoredOrder, changes: &[Change], out: &mut dyn Write) -> io::Result<()> {
    let state = &order.state;
    let currency = state.currency.as_deref();
    writeln!(
        out,
        "Order {} is {}",
        plain::text(order.name.as_str()),
        painted(state.status.as_str(), tone(state.status))
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
        "  created  {}, changed {}",
        when(state.since),
        when(order.updated_at)
    )?;
    for (word, what, next) in to_look_at(state.dispute, &state.flags) {
        writeln!(
            out,
            "  {} {}: {what}\n    {next}",
            painted("!", Tone::Warning),
            painted(word, Tone::Warning)
        )?;
    }
    if state.dispute == DisputeState::Won {
        writeln!(
            out,
            "  dispute  won: the buyer's bank contested the payment and the shop kept the money"
        )?;
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

/// The colour of a status: whether money was taken.
pub(crate) fn tone(status: Status) -> Tone {
    match status {
        Status::Paid => Tone::Good,
        Status::Pending | Status::Authorized | Status::Processing => Tone::Open,
        Status::Failed => Tone::Problem,
        Status::PartiallyRefunded | Status::Refunded | Status::Canceled | Status::Expired => {
            Tone::Plain
        }
    }
}

/// Each payment that took money, so that it can be found in the Dashboard and one be refunded.
fn write_payments(payments: &[Payment], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n  payments")?;
    for payment in payments.iter().filter(|payment| payment.is_paid()) {
        let Some(taken) = payment.taken().or_else(|| payment.asked()) else {
            continue;
        };
        let refunded = payment.refunded(taken.minor).all;
        let intent = payment
            .intents()
            .next()
            .or_else(|| payment.charges().next());
        let session = payment.sessions().next();
        writeln!(
            out,
            "    {}  {}  {}",
            intent.map_or("no intent known", |id| id.as_str()),
            amounts(taken.minor, refunded, Some(&taken.currency)),
            session.map_or_else(String::new, |id| format!("session {}", id.as_str())),
        )?;
    }
    Ok(())
}

/// `25.00 EUR`, and how much of it was given back.
pub(crate) fn amounts(amount: i64, refunded: i64, currency: Option<&str>) -> String {
    let all = money::written(amount, currency);
    match refunded {
        0 => all,
        _ => format!("{all}, {} back", money::written(refunded, currency)),
    }
}

/// What became of the money: each part is named once, and `kept` is what is left.
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
    let old_dispute = before.map_or(DisputeState::None, |before| before.dispute);
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

fn dispute_word(dispute: DisputeState) -> &'static str {
    match dispute {
        DisputeState::None => "dispute closed",
        DisputeState::Open => "dispute open",
        DisputeState::Won => "dispute won",
        DisputeState::Lost => "dispute lost",
    }
}

/// What needs somebody: the word, what it means, what to do.
fn to_look_at(
    dispute: DisputeState,
    flags: &[Flag],
) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let disputed = texts::dispute_advice(dispute, Lang::En);
    let disputed = disputed.map(|(what, next)| (dispute_word(dispute), what, next));
    disputed.into_iter().chain(flags.iter().map(|flag| {
        let (what, next) = texts::flag_advice(*flag, Lang::En);
        (flag.as_str(), what, next)
    }))
}

/// Nothing is called `id`, unless it is that of an event.
pub(crate) fn no_order(id: &str, store: &Store) -> Result<Failure, StoreError> {
    if store.event(id)?.is_some() {
        let id = pasted(id);
        return Ok(Failure::Other(format!(
            "{id} is an event, not an order: `paidup events show {id}` tells its order."
        )));
    }
    Ok(Failure::Other(format!(
        "There is no order {:?}, no order has it as its reference, and no session, intent, invoice, charge, \
         refund or dispute with that id is known.\n\
         `paidup orders list` shows the newest orders, `paidup events list` what Stripe has sent.",
        plain::text(id)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table::words_of;

    #[test]
    fn words_say_which_orders() {
        let read = |line| {
            let words = words_of(line);
            (words.limit().unwrap(), words.has("json"), again(&words))
        };
        let again = |text: &str| text.to_owned();
        assert_eq!(
            read("orders list"),
            (50, false, again("paidup orders list"))
        );
        let all = "orders list --status=refunded --before 5-1 --limit 3 --json";
        let without = again("paidup orders list --status refunded --limit 3 --json");
        assert_eq!(read(all), (3, true, without));
        let place = before(&words_of("orders list --before 1795500000-17")).unwrap();
        assert_eq!(place.unwrap().to_string(), "1795500000-17");
        assert!(before(&words_of("orders list --before 17")).is_err());
        assert!(before(&words_of("orders list --before 5-1 --name a")).is_err());
        let words = words_of("orders show --json -- -1");
        assert_eq!(words.argument().unwrap(), "-1");
        assert!(words.has("json"));
        let words = words_of("events list --order ord_1");
        assert_eq!(
            (words.value("order"), words.limit()),
            (Some("ord_1"), Ok(50))
        );
    }
}
