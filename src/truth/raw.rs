//! Reads a Stripe object to the [`Fact`] that it tells.
//!
//! Only the fields named here are read, and all but the object's own id may be missing, of another type,
//! or an expanded object. So an object of an unknown API version is read as far as possible.

use serde::Deserialize;

use super::fact::{
    Attempt, Charge, ChargeStatus, Dispute, DisputeStatus, Fact, Intent, Invoice, InvoiceStatus,
    KnownCharge, Object, Refund, RefundStatus, Review, Session, Since, Wait,
};
use super::field::{Field, Metadata};
use super::money::Money;
use super::names::{Belongs, Carrier, MADE_HERE, Source};
use super::reading::{Place, Reading};
use crate::base::id::{OrderId, StripeId, UnixSeconds};

/// The name of a field that is missing or not valid.
pub(super) struct Unusable(pub(super) &'static str);

/// Where an object comes from.
pub(super) struct Origin<'a> {
    /// When Stripe made the event, or when Stripe was asked.
    pub(super) at: UnixSeconds,
    /// Stripe was asked: what is true now was true before.
    pub(super) is_asked: bool,
    pub(super) reading: &'a Reading,
}

impl Origin<'_> {
    /// When what it tells became true, as far as is known.
    fn since(&self) -> Since {
        if self.is_asked {
            Since::Found(UnixSeconds(self.at.0.saturating_sub(1)))
        } else {
            Since::Told(self.at)
        }
    }
}

/// Largest amount taken, in minor units: no sum of a payment's amounts can overflow.
const AMOUNT_MAX: i64 = 1_000_000_000_000_000;

/// The fields of all the objects that we read.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Raw<'a> {
    id: Field<'a>,
    pub(super) object: Field<'a>,
    mode: Field<'a>,
    payment_status: Field<'a>,
    pub(super) status: Field<'a>,
    client_reference_id: Field<'a>,
    metadata: Metadata<'a>,
    payment_details: Field<'a>,
    payment_link: Field<'a>,
    invoice: Field<'a>,
    /// What an invoice payment was paid with.
    payment: Field<'a>,
    capture_method: Field<'a>,
    livemode: Field<'a>,
    paid: Field<'a>,
    open: Field<'a>,
    amount_due: Field<'a>,
    amount_paid: Field<'a>,
    payment_intent: Field<'a>,
    charge: Field<'a>,
    latest_charge: Field<'a>,
    currency: Field<'a>,
    amount: Field<'a>,
    amount_total: Field<'a>,
    amount_received: Field<'a>,
    amount_captured: Field<'a>,
    amount_refunded: Field<'a>,
    captured: Field<'a>,
    created: Field<'a>,
}

impl Raw<'_> {
    /// There is nothing to pay: a session that only saves a card, an invoice that asks for nothing.
    pub(super) fn sells_nothing(&self, object: &str) -> bool {
        match object {
            "checkout.session" => self.mode.text() == Some("setup"),
            "invoice" => {
                self.amount_due.whole() == Some(0) && self.amount_paid.whole().unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// What this `object` tells. `news` is the last word of the event's type or, if Stripe was asked, the
    /// object's own status.
    pub(super) fn fact(
        &self,
        object: &str,
        news: &str,
        origin: &Origin<'_>,
    ) -> Result<Fact, Unusable> {
        let id = self.id.id().ok_or(Unusable("data.object.id"))?;
        let mut fact = Fact::new(origin.at, id, Object::InvoicePayment);
        fact.made = self.created.whole().map_or(origin.at, UnixSeconds);
        fact.mode = self.livemode.mode();
        fact.intent = self.payment_intent.id();
        fact.charge = self.charge.id();
        fact.invoice = self.invoice.id();
        match object {
            "checkout.session" => {
                fact.object = Object::Session(self.session(news, origin)?);
                self.name(&mut fact, Carrier::Session, origin.reading);
            }
            "payment_intent" => {
                fact.object = Object::Intent(self.intent(news, origin)?);
                fact.intent = None;
                fact.charge = self.latest_charge.id();
                self.name(&mut fact, Carrier::Intent, origin.reading);
                fact.session = self.order_reference("cs_");
                fact.invoice = fact.invoice.or_else(|| self.order_reference("in_"));
            }
            "charge" => {
                fact.object = Object::Charge(self.charge(news, origin)?);
                fact.charge = None;
                self.name(&mut fact, Carrier::Charge, origin.reading);
            }
            "refund" => fact.object = Object::Refund(self.refund(news, origin)?),
            "dispute" => fact.object = Object::Dispute(self.dispute(news, origin.at)?),
            "invoice" => {
                fact.object = Object::Invoice(self.invoice(news, origin.at)?);
                fact.invoice = None;
                self.name(&mut fact, Carrier::Invoice, origin.reading);
            }
            "invoice_payment" => {
                let payment = self.payment.inner();
                fact.intent = payment.and_then(|payment| payment.payment_intent.id());
                fact.charge = payment.and_then(|payment| payment.charge.id());
            }
            "review" => fact.object = Object::Review(self.review(news)),
            "radar.early_fraud_warning" => fact.object = Object::FraudWarning,
            _ => return Err(Unusable("object")),
        }
        Ok(fact)
    }

    /// The session or invoice that an intent is for: Checkout and billing put its id into
    /// `order_reference`. Stripe does not promise that, and a shop may put its own text there, so the
    /// prefix decides. No other id's prefix is looked at.
    fn order_reference(&self, prefix: &str) -> Option<StripeId> {
        let details = self.payment_details.inner()?;
        let reference = details.order_reference.id();
        reference.filter(|id| id.as_str().starts_with(prefix))
    }

    fn session(&self, news: &str, origin: &Origin<'_>) -> Result<Session, Unusable> {
        let status = self.payment_status.text();
        let is_complete = news == "completed" || news == "complete";
        // A session with nothing to pay is paid once the buyer has finished.
        let is_free = is_complete && status == Some("no_payment_required");
        let is_paid = is_free || status == Some("paid") || news == "async_payment_succeeded";
        Ok(Session {
            completed: is_complete.then(|| origin.since()),
            paid: is_paid.then(|| origin.since()),
            async_failed: news == "async_payment_failed",
            expired: news == "expired",
            of_link: !self.payment_link.is_null(),
            made_here: self.metadata.get(MADE_HERE).is_some(),
            total: self
                .money(&self.amount_total, "data.object.amount_total")?
                .map(|total| (origin.at, total)),
        })
    }

    fn intent(&self, news: &str, origin: &Origin<'_>) -> Result<Intent, Unusable> {
        let attempt = attempt(news, origin.is_asked);
        let has_succeeded = attempt == Some(Attempt::Succeeded);
        let received = self.money(&self.amount_received, "data.object.amount_received")?;
        let asked = self.money(&self.amount, "data.object.amount")?;
        Ok(Intent {
            attempt: attempt.map(|attempt| (origin.at, attempt)),
            succeeded: has_succeeded.then(|| origin.since()),
            delayed: attempt == Some(Attempt::Processing),
            canceled: news == "canceled",
            manual: self.capture_method.text() == Some("manual") || attempt == Some(Attempt::Held),
            refunded: (news == "refunded").then_some(origin.at),
            // A capture in steps is received before the intent has succeeded.
            received: match received {
                Some(received) if received.minor > 0 => Some(received),
                Some(_) | None if has_succeeded => asked.clone(),
                Some(_) | None => None,
            },
            asked,
        })
    }

    fn charge(&self, news: &str, origin: &Origin<'_>) -> Result<KnownCharge, Unusable> {
        let amount = self.required(&self.amount, "data.object.amount")?;
        let has_expired = news == "expired";
        let is_captured = self.captured.flag() != Some(false) && !has_expired;
        let captured = self.amount(&self.amount_captured, "data.object.amount_captured")?;
        let refunded = self.amount(&self.amount_refunded, "data.object.amount_refunded")?;
        // A hold that expires is released, whether its object shows that already or not.
        let refunded = if has_expired { Some(amount) } else { refunded };
        let status = self.charge_status(news);
        // Stripe, when asked, does not say when a charge failed: at the earliest when it was made.
        let failed = if origin.is_asked {
            self.created.whole().map_or(origin.at, UnixSeconds)
        } else {
            origin.at
        };
        let version = Charge {
            status,
            at: origin.at,
            is_captured,
            captured: captured.filter(|_| is_captured),
            refunded: refunded.unwrap_or(0),
            amount,
            currency: self.currency(),
            is_asked: origin.is_asked,
        };
        // Stripe shows what is released as refunded, too.
        let left = version
            .captured
            .map_or(0, |captured| amount.saturating_sub(captured));
        let is_released = version.takes() && left > 0 && version.refunded >= left;
        Ok(KnownCharge {
            version: Some(version),
            released: is_released.then_some(origin.at),
            failed: (status == ChargeStatus::Failed).then_some(failed),
            waited: match status {
                ChargeStatus::Pending => Some(Wait::Bank),
                ChargeStatus::Succeeded if !is_captured => Some(Wait::Capture),
                ChargeStatus::Succeeded | ChargeStatus::Failed => None,
            },
            created: self.created.whole().map(UnixSeconds),
            taken: (status == ChargeStatus::Succeeded && is_captured).then(|| origin.since()),
            intent: None,
        })
    }

    /// The oldest versions have no status: `paid` says it there.
    fn charge_status(&self, news: &str) -> ChargeStatus {
        match (self.status.text(), news, self.paid.flag()) {
            (Some("succeeded"), _, _) => ChargeStatus::Succeeded,
            (Some("failed"), _, _) | (None, "failed", _) => ChargeStatus::Failed,
            (Some(_), _, _) | (None, "pending", _) => ChargeStatus::Pending,
            (None, _, Some(false)) => ChargeStatus::Failed,
            (None, _, Some(true) | None) => ChargeStatus::Succeeded,
        }
    }

    fn refund(&self, news: &str, origin: &Origin<'_>) -> Result<Refund, Unusable> {
        let status = match (self.status.text(), news) {
            (Some(status), _) => RefundStatus::parse(status),
            (None, "failed") => RefundStatus::Failed,
            (None, _) => RefundStatus::Pending,
        };
        let at = origin.at;
        Ok(Refund {
            status,
            at,
            created: self.created.whole().map_or(at, UnixSeconds),
            amount: self.required(&self.amount, "data.object.amount")?,
            charge: self.charge.id(),
            intent: self.payment_intent.id(),
            listed: origin.is_asked.then_some(at),
        })
    }

    fn dispute(&self, news: &str, at: UnixSeconds) -> Result<Dispute, Unusable> {
        // An unknown status must not keep a closed dispute open.
        let unknown = match news {
            "closed" => DisputeStatus::Closed,
            _ => DisputeStatus::Open,
        };
        let status = self.status.text().and_then(DisputeStatus::parse);
        let status = status.unwrap_or(unknown);
        Ok(Dispute {
            at,
            status,
            lost: (status == DisputeStatus::Lost).then_some(at),
            amount: self.amount(&self.amount, "data.object.amount")?,
            currency: self.currency(),
        })
    }

    fn invoice(&self, news: &str, at: UnixSeconds) -> Result<Invoice, Unusable> {
        let status = match (self.status.text(), news) {
            (_, "paid") | (Some("paid"), _) => InvoiceStatus::Paid,
            (_, "voided") | (Some("void"), _) => InvoiceStatus::Void,
            (_, "marked_uncollectible") | (Some("uncollectible"), _) => {
                InvoiceStatus::Uncollectible
            }
            (Some(_) | None, _) => InvoiceStatus::Open,
        };
        let due = self.money(&self.amount_due, "data.object.amount_due")?;
        let paid = self.money(&self.amount_paid, "data.object.amount_paid")?;
        // `amount_paid` may lack what was paid outside of Stripe.
        let paid = match paid {
            Some(paid) if paid.minor == 0 => due.clone(),
            paid => paid,
        };
        Ok(Invoice {
            status,
            at,
            due,
            paid: paid.filter(|_| status == InvoiceStatus::Paid),
            paid_at: (status == InvoiceStatus::Paid).then_some(at),
        })
    }

    fn review(&self, news: &str) -> Review {
        match (self.open.flag(), news) {
            (Some(false), _) | (None, "closed") => Review::Closed,
            (Some(true) | None, _) => Review::Open,
        }
    }

    /// Notes the names that this object gives its order, and whether it is of this shop.
    fn name(&self, fact: &mut Fact, carrier: Carrier, reading: &Reading) {
        (fact.names, fact.name_too_long) = self.names(reading.names.places(), carrier);
        (fact.link_names, _) = self.names(reading.names.link_places(), carrier);
        let Some(ours) = &reading.ours else { return };
        let metadata = |key: &str| self.metadata.get(key);
        let is_ours = ours.is_marked(&metadata, fact.names.iter().map(|(_, name)| name));
        // A session or invoice must carry the mark; an intent or a charge need not.
        let must = matches!(carrier, Carrier::Session | Carrier::Invoice);
        fact.belongs = Some(match (is_ours, must) {
            (true, _) => Belongs::Ours,
            (false, true) => Belongs::Other,
            (false, false) => Belongs::Unknown,
        });
    }

    /// The names in these places, and whether one was too long. A blank name is skipped; one that is too
    /// long is not used, and the log says so.
    fn names(&self, places: &[(u8, Place)], carrier: Carrier) -> (Vec<(Source, OrderId)>, bool) {
        let mut names: Vec<(Source, OrderId)> = Vec::new();
        let mut is_too_long = false;
        for (rank, place) in places {
            let (carrier, text) = match place {
                Place::Metadata(key) => (carrier, self.metadata.get(key)),
                Place::Reference if carrier == Carrier::Session => {
                    (Carrier::Reference, self.client_reference_id.text())
                }
                Place::Reference => continue,
            };
            let source = Source::new(*rank, carrier);
            let text = text.filter(|text| !text.trim().is_empty());
            match text.map(OrderId::parse) {
                Some(Ok(name)) if names.iter().all(|(known, _)| *known != source) => {
                    names.push((source, name));
                }
                Some(Err(_)) => is_too_long = true,
                Some(Ok(_)) | None => {}
            }
        }
        (names, is_too_long)
    }

    fn currency(&self) -> Option<Box<str>> {
        let text = self.currency.text()?;
        let plain =
            (3..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        plain.then(|| text.to_ascii_lowercase().into())
    }

    fn money(&self, field: &Field<'_>, name: &'static str) -> Result<Option<Money>, Unusable> {
        let minor = self.amount(field, name)?;
        Ok(minor
            .zip(self.currency())
            .map(|(minor, currency)| Money { minor, currency }))
    }

    fn required(&self, field: &Field<'_>, name: &'static str) -> Result<i64, Unusable> {
        self.amount(field, name)?.ok_or(Unusable(name))
    }

    /// An amount in minor units, `None` when the field is missing or null.
    fn amount(&self, field: &Field<'_>, name: &'static str) -> Result<Option<i64>, Unusable> {
        match field.whole() {
            Some(minor) if (0..=AMOUNT_MAX).contains(&minor) => Ok(Some(minor)),
            None if field.is_null() => Ok(None),
            Some(_) | None => Err(Unusable(name)),
        }
    }
}

/// How an intent's latest attempt stands.
fn attempt(news: &str, is_asked: bool) -> Option<Attempt> {
    match news {
        "succeeded" => Some(Attempt::Succeeded),
        "payment_failed" => Some(Attempt::Failed),
        "processing" => Some(Attempt::Processing),
        "amount_capturable_updated" | "requires_capture" => Some(Attempt::Held),
        "requires_payment_method" if is_asked => Some(Attempt::Idle),
        _ if is_asked && news.starts_with("requires_") => Some(Attempt::Waiting),
        _ => None,
    }
}
