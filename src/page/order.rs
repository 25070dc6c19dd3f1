//! One order: its money, its story, what the shop has heard.

use super::moment::second;
use super::texts;
use super::views::{Advice, MoneyRow, OrderPage, PaymentView, Step, ToldView};
use super::visit::{Trouble, Visit, href, page, see};
use crate::base::id::StripeId;
use crate::base::log_line::{LogFields, LogText};
use crate::base::plain;
use crate::http::exchange::Reply;
use crate::store::{Change, Destination, StoredOrder, Told};
use crate::truth::order::{DisputeState, Flag, State, Status};
use crate::truth::payment::Payment;
use crate::truth::reading::Mode;

/// Payments of an order that was paid several times, at most.
const PAYMENTS: usize = 50;

impl Visit<'_> {
    pub(super) fn order(&self, id: &str, fields: &mut LogFields) -> Result<Reply, Trouble> {
        let store = self.store()?;
        let order = store.order(id)?.ok_or(Trouble::NoSuchOrder)?;
        if order.name.as_str() != id {
            return Ok(see(&href(&order)));
        }
        fields.order_id = Some(LogText::order(&order.name));
        let shown = store.at_one_moment(|store| {
            let (changes, told) = (store.changes(&order)?, store.told_of(&order)?);
            let payments = match order.state.flags.contains(&Flag::DoublePayment) {
                true => store.few_payments(&order, PAYMENTS)?.unwrap_or_default(),
                false => Vec::new(),
            };
            Ok(self.order_page(&order, &changes, &told, &payments, store.mode()?))
        })?;
        page(200, &shown)
    }

    fn order_page(
        &self,
        order: &StoredOrder,
        changes: &[Change],
        told: &[(Destination, Told)],
        payments: &[Payment],
        mode: Option<Mode>,
    ) -> OrderPage {
        let state = &order.state;
        let name = plain::text(order.name.as_str());
        let t = self.lang.texts();
        let only = |intent: &StripeId| payment_at(intent, String::new(), mode);
        let payments = match payments {
            [] => state.intent.iter().map(only).collect(),
            several => several
                .iter()
                .filter_map(|payment| self.payment(payment, mode))
                .collect(),
        };
        OrderPage {
            frame: self.frame("/orders", format!("{} {name}", t.order), mode),
            status: self.status(state.status),
            means: texts::status_means(state.status, self.lang),
            changed: self.minute(order.updated_at),
            advice: self.advice(state),
            money: self.money_of(state),
            story: self.story(changes, state),
            told: told
                .iter()
                .map(|(to, told)| self.told(order, to, told))
                .collect(),
            reference: state
                .reference
                .as_ref()
                .map_or_else(String::new, |it| plain::text(it.as_str())),
            session: state
                .session
                .as_ref()
                .map_or_else(String::new, |it| it.as_str().to_owned()),
            payments,
            name,
        }
    }

    /// One of several that took money, so that it can be found and be given back.
    fn payment(&self, payment: &Payment, mode: Option<Mode>) -> Option<PaymentView> {
        let id = payment
            .intents()
            .next()
            .or_else(|| payment.charges().next())?;
        let taken = payment.taken().or_else(|| payment.asked())?;
        let back = payment.refunded(taken.minor).all;
        let amounts = self.amounts(taken.minor, back, Some(&taken.currency));
        payment.is_paid().then(|| payment_at(id, amounts, mode))
    }

    pub(super) fn advice(&self, state: &State) -> Vec<Advice> {
        let dispute = texts::dispute_advice(state.dispute, self.lang);
        let dispute = dispute.map(|(what, next)| Advice {
            word: texts::dispute(state.dispute, self.lang),
            what,
            next,
        });
        let flags = state.flags.iter().map(|flag| {
            let (what, next) = texts::flag_advice(*flag, self.lang);
            Advice {
                word: texts::flag(*flag, self.lang),
                what,
                next,
            }
        });
        // An open dispute has a deadline; one that is over can wait.
        match state.dispute {
            DisputeState::Open => dispute.into_iter().chain(flags).collect(),
            DisputeState::None | DisputeState::Won | DisputeState::Lost => {
                flags.chain(dispute).collect()
            }
        }
    }

    fn money_of(&self, state: &State) -> Vec<MoneyRow> {
        let t = self.lang.texts();
        let row = |class, word, minor| MoneyRow {
            class,
            word,
            amount: self.amount(minor, state),
        };
        if !state.status.is_paid() {
            let word = match state.status {
                Status::Authorized => t.held,
                Status::Pending
                | Status::Processing
                | Status::Failed
                | Status::Canceled
                | Status::Expired
                | Status::Paid
                | Status::PartiallyRefunded
                | Status::Refunded => t.asked,
            };
            return vec![row("", word, state.amount)];
        }
        let mut rows = vec![
            row("", t.taken, state.amount),
            row("", t.back, state.refunded),
        ];
        if state.pending > 0 {
            rows.push(row("part", t.pending_back, state.pending));
        }
        if state.disputed > state.lost {
            rows.push(row("", t.disputed, state.disputed - state.lost));
        }
        if state.lost > 0 {
            rows.push(row("", t.lost, state.lost));
        }
        rows.push(row("total", t.kept, state.kept()));
        rows
    }

    fn story(&self, changes: &[Change], state: &State) -> Vec<Step> {
        let t = self.lang.texts();
        let befores = std::iter::once(None).chain(changes.iter().map(Some));
        let step = |(change, before): (&Change, Option<&Change>)| Step {
            at: second(change.at, &self.site.sources.zone, self.lang),
            what: self.what(before, change),
            amount: self.amounts(change.amount, change.refunded, state.currency.as_deref()),
            kind: plain::text(&change.event_type),
            event: plain::text(&change.event_id),
            request: match &change.request_id {
                Some(id) => format!("{} {}", t.request, plain::text(id)),
                None => t.fetched.to_owned(),
            },
        };
        changes.iter().zip(befores).map(step).collect()
    }

    /// What one step changed.
    fn what(&self, before: Option<&Change>, change: &Change) -> String {
        let t = self.lang.texts();
        let to = texts::status(change.to, self.lang);
        let mut words = match change.from {
            None => format!("{} → {to}", t.new),
            Some(from) if from == change.to => to.to_owned(),
            Some(from) => format!("{} → {to}", texts::status(from, self.lang)),
        };
        let old = before.map_or(DisputeState::None, |before| before.dispute);
        if old != change.dispute {
            words += ", ";
            words += texts::dispute(change.dispute, self.lang);
        }
        let old = before.map_or(&[][..], |before| &before.flags);
        for flag in change.flags.iter().filter(|flag| !old.contains(flag)) {
            words += ", ";
            words += texts::flag(*flag, self.lang);
        }
        for flag in old.iter().filter(|flag| !change.flags.contains(flag)) {
            words += &format!(", {} ({})", texts::flag(*flag, self.lang), t.settled);
        }
        words
    }

    /// What was taken, and how much of it was given back.
    fn amounts(&self, amount: i64, refunded: i64, currency: Option<&str>) -> String {
        let all = self.amount_in(amount, currency);
        match refunded {
            0 => all,
            refunded => {
                let back = self.lang.texts().back.to_lowercase();
                format!("{all}, {} {back}", self.amount_in(refunded, currency))
            }
        }
    }

    fn told(&self, order: &StoredOrder, to: &Destination, told: &Told) -> ToldView {
        let t = self.lang.texts();
        let what = match told.version {
            Some(version) if version >= order.changed => t.told_now,
            Some(_) => t.told_earlier,
            None => t.told_not,
        };
        ToldView {
            name: to.name.clone(),
            what,
            at: told.at.map(|at| self.minute(at)),
            why: plain::text(told.why.as_deref().unwrap_or_default()),
            next_try: told.next_try.map(|at| self.minute(at)),
        }
    }
}

/// A payment, and where Stripe shows it.
fn payment_at(id: &StripeId, amounts: String, mode: Option<Mode>) -> PaymentView {
    let test = match mode {
        Some(Mode::Live) => "",
        Some(Mode::Test) | None => "test/",
    };
    PaymentView {
        id: id.as_str().to_owned(),
        amounts,
        href: format!(
            "https://dashboard.stripe.com/{test}payments/{}",
            id.as_str()
        ),
    }
}
