//! One delivery on its way into the database, and what came of it.

use super::event::{Event, Ignored};
use crate::base::id::{OrderId, RequestId, StripeId, UnixSeconds};
use crate::base::log_line::{LogFields, LogText, Message};

/// A verified event, ready to be recorded.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What Stripe sent.
    pub event: Event,
    /// Of the whole body: tells later whether two deliveries were the same.
    pub sha256: [u8; 32],
    /// The request that brought it; `None` if we fetched it ourselves.
    pub request_id: Option<RequestId>,
    /// When it came, by this host's clock.
    pub received: UnixSeconds,
}

/// What a delivery did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It told something new of an order.
    Applied,
    /// It told nothing new: the same event again, or the same fact under another event id.
    Duplicate,
    /// It told something new of a payment whose order is not known yet.
    Parked,
    /// It changes no order.
    Ignored(Ignored),
}

impl Outcome {
    /// The word for it in the ledger, the answer and the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Applied => "applied",
            Outcome::Duplicate => "duplicate",
            Outcome::Parked => "parked",
            Outcome::Ignored(_) => "ignored",
        }
    }

    /// Why it was ignored, if it was.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Outcome::Ignored(why) => Some(why.as_str()),
            Outcome::Applied | Outcome::Duplicate | Outcome::Parked => None,
        }
    }
}

/// The order that a log line is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The order's current id.
    pub order: OrderId,
    /// Its Checkout Session.
    pub session: Option<StripeId>,
}

impl About {
    /// The order's id as the log may show it. A session's id is Stripe's and is shown as it is.
    #[must_use]
    pub(crate) fn log_text(&self) -> LogText {
        match &self.session {
            Some(session) if session.as_str() == self.order.as_str() => LogText::from(session),
            Some(_) | None => LogText::order(&self.order),
        }
    }
}

/// Something notable that a delivery did to an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The order.
    pub(crate) about: About,
    /// What happened.
    pub message: Message,
}

/// The log lines that tell `news`: the fields of the request, with each order's in place.
pub(crate) fn log_lines(news: &[News], request: &LogFields) -> Vec<(Message, LogFields)> {
    let line = |news: &News| {
        let fields = LogFields {
            order_id: Some(news.about.log_text()),
            stripe_session_id: news.about.session.as_ref().map(LogText::from),
            ..request.clone()
        };
        (news.message, fields)
    };
    news.iter().map(line).collect()
}

/// What was recorded. Whoever holds one may answer 200: it is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What the delivery did.
    pub outcome: Outcome,
    /// The order that it is about, if one is known.
    pub(crate) about: Option<About>,
    /// What it changed.
    pub(crate) news: Vec<News>,
}
