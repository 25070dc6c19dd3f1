//! Which events an endpoint lacks: what `paidup doctor` finds, and what `paidup connect` adds.

use std::collections::BTreeSet;

use crate::store::Store;
use crate::stripe::client::{EventsQuery, StripeApi};
use crate::truth::kind::{KINDS, Kind, Need};

/// Arrivals in the ledger among which types are looked for.
const ARRIVALS: u32 = 1_000;

/// The types that an endpoint with these events lacks: those that every shop needs, and those that only
/// some need where `has_seen` says that there are such events.
pub(crate) fn missing(enabled: &[&str], has_seen: impl Fn(&[&str]) -> bool) -> Vec<&'static Kind> {
    let has = |kind: &&Kind| enabled.contains(&kind.name) || enabled.contains(&"*");
    let every = |kind: &&Kind| matches!(kind.need, Need::Every { .. });
    let mut missing: Vec<&Kind> = KINDS.iter().filter(every).collect();
    missing.retain(|kind| !has(kind));
    for need in [Need::Invoices, Need::ManualCapture] {
        let lacking: Vec<&Kind> = need.kinds().filter(|kind| !has(kind)).collect();
        let types: Vec<&str> = need.kinds().map(|kind| kind.name).collect();
        if !lacking.is_empty() && has_seen(&types) {
            missing.extend(lacking);
        }
    }
    missing
}

/// The types of the last arrivals.
pub(crate) fn seen(store: &Store) -> BTreeSet<Box<str>> {
    let arrivals = store.events(None, ARRIVALS).unwrap_or_default();
    arrivals
        .into_iter()
        .map(|event| event.kind.into())
        .collect()
}

/// Whether there are events of one of these types: among the arrivals, or at Stripe.
pub(crate) fn has_seen(arrivals: &BTreeSet<Box<str>>, api: &StripeApi, types: &[&str]) -> bool {
    let query = EventsQuery {
        types,
        ..EventsQuery::default()
    };
    types.iter().any(|kind| arrivals.contains(*kind))
        || api.events(&query).is_ok_and(|page| !page.data.is_empty())
}
