//! Whose a payment is: the order ids that its objects carry, and the shop's mark.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::id::OrderId;

/// Where an object carries the shop's order id. The smallest source is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Source(u8);

/// What carries an order id, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Carrier {
    /// `metadata` of the session.
    Session,
    /// `metadata` of the intent.
    Intent,
    /// `metadata` of the charge.
    Charge,
    /// `metadata` of the invoice.
    Invoice,
    /// `client_reference_id` of the session.
    Reference,
}

impl Source {
    /// More than there are [`Carrier`]s.
    const CARRIERS: u8 = 8;
    /// The greatest rank of a source.
    pub(crate) const RANK_MAX: u8 = u8::MAX / Source::CARRIERS - 1;

    /// The place of rank `rank`, with the `carrier` that the order id was found in.
    #[must_use]
    pub(crate) fn new(rank: u8, carrier: Carrier) -> Source {
        Source(rank.min(Source::RANK_MAX) * Source::CARRIERS + carrier as u8)
    }

    /// A reference may be a customer's id, so it contradicts nothing.
    pub(super) fn is_reference(self) -> bool {
        self.0 % Source::CARRIERS == Carrier::Reference as u8
    }
}

/// The order ids that the objects of a payment carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Names {
    /// For each source the smallest id that it gave.
    pub(super) best: BTreeMap<Source, OrderId>,
    /// One source gave two ids.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) several: bool,
}

impl Names {
    pub(super) fn is_empty(&self) -> bool {
        self.best.is_empty()
    }

    pub(super) fn add(&mut self, source: Source, name: OrderId) {
        let known = self.best.entry(source).or_insert_with(|| name.clone());
        if *known != name {
            self.several = true;
            if name < *known {
                *known = name;
            }
        }
    }

    pub(super) fn join(&mut self, other: Names) {
        for (source, name) in other.best {
            self.add(source, name);
        }
        self.several |= other.several;
    }
}

/// Whose a payment is, when several shops share one Stripe account (`OUR_ORDERS`). Of two answers the
/// greater stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Belongs {
    /// No object that must carry the mark is known.
    Unknown,
    /// The session or invoice of the sale does not carry the mark.
    Other,
    /// One of its objects carries the mark.
    Ours,
}

/// The metadata key that marks a session made by `paidup api`. Its value is the attempt.
pub(crate) const MADE_HERE: &str = "paidup_attempt";
