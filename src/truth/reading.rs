//! The shop's settings for reading events: which mode, which orders are ours, and where their ids are.

use std::fmt;

use crate::base::id::OrderId;

/// Stripe's two modes. <https://docs.stripe.com/keys#test-live-modes>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Real money.
    Live,
    /// Test cards; sandboxes too.
    Test,
}

impl Mode {
    /// The word for it, as in `STRIPE_MODE`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Live => "live",
            Mode::Test => "test",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Mode> {
        [Mode::Live, Mode::Test]
            .into_iter()
            .find(|mode| mode.as_str() == text)
    }
}

/// Settings that decide what an event means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// `STRIPE_MODE`: events of the other mode are ignored.
    pub mode: Option<Mode>,
    /// `ORDER_ID_FROM`: where order ids are looked for.
    pub names: NamePlaces,
    /// `OUR_ORDERS`: which orders are this shop's; all if it is not set.
    pub ours: Option<Ours>,
}

/// Where an object may carry the shop's order id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `metadata` has it under this key.
    Metadata(Box<str>),
    /// `client_reference_id` of the session.
    Reference,
}

/// The places where order ids are looked for, best first, each with its rank. Neighbouring metadata keys
/// share a rank: then the kind of object decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePlaces {
    shop: Vec<(u8, Place)>,
    link: Vec<(u8, Place)>,
}

/// The most places of a list.
const PLACES_MAX: usize = 16;
/// The longest metadata key. <https://docs.stripe.com/metadata>
const KEY_MAX_CHARS: usize = 40;

impl Default for NamePlaces {
    fn default() -> NamePlaces {
        let key = |key: &str| (0, Place::Metadata(key.into()));
        NamePlaces {
            shop: vec![key("order_id"), key("orderId"), (1, Place::Reference)],
            link: Vec::new(),
        }
    }
}

impl NamePlaces {
    /// The default, as it is written in `ORDER_ID_FROM`.
    pub(crate) const DEFAULT: &str = "metadata.order_id,metadata.orderId,client_reference_id";

    /// Reads a list such as `metadata.order_number,client_reference_id`.
    ///
    /// # Errors
    /// An entry is not valid, or there are too many or none.
    pub fn parse(text: &str) -> Result<NamePlaces, BadPlace> {
        let mut places = NamePlaces {
            shop: Vec::new(),
            link: Vec::new(),
        };
        for entry in text
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
        {
            let (list, place) = match entry.strip_prefix("payment_link.") {
                Some(place) => (&mut places.link, place),
                None => (&mut places.shop, entry),
            };
            let place = Place::parse(place).ok_or(BadPlace::Entry)?;
            let last = list.last();
            let rank = match last {
                Some((rank, Place::Metadata(_))) if place != Place::Reference => *rank,
                Some((rank, _)) => rank + 1,
                None => 0,
            };
            list.push((rank, place));
            if list.len() > PLACES_MAX {
                return Err(BadPlace::TooMany);
            }
        }
        if places.shop.is_empty() {
            return Err(BadPlace::Empty);
        }
        Ok(places)
    }

    /// Where an order id is looked for.
    #[must_use]
    pub(crate) fn places(&self) -> &[(u8, Place)] {
        &self.shop
    }

    /// Where the order id of a Payment Link's session is looked for; nowhere by default.
    #[must_use]
    pub(crate) fn link_places(&self) -> &[(u8, Place)] {
        &self.link
    }
}

impl Place {
    fn parse(text: &str) -> Option<Place> {
        if text == "client_reference_id" {
            return Some(Place::Reference);
        }
        let key = text.strip_prefix("metadata.")?;
        let is_key =
            (1..=KEY_MAX_CHARS).contains(&key.chars().count()) && !key.contains(['[', ']']);
        is_key.then(|| Place::Metadata(key.into()))
    }
}

/// Why a list of places is not valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadPlace {
    /// An entry is not a place.
    Entry,
    /// There are over 16.
    TooMany,
    /// There is no place for the shop's own sessions.
    Empty,
}

impl fmt::Display for BadPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadPlace::Entry => f.write_str(
                "has an entry that is neither client_reference_id nor metadata.KEY, with or without \
                 payment_link. before it",
            ),
            BadPlace::TooMany => write!(f, "names more than {PLACES_MAX} places"),
            BadPlace::Empty => f.write_str("names no place for the shop's own sessions"),
        }
    }
}

/// What marks this shop's orders when others share the Stripe account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ours {
    /// `metadata.KEY=VALUE`.
    Mark(Box<str>, Box<str>),
    /// `BEGINNING*` of the order id.
    Beginning(Box<str>),
}

impl Ours {
    /// Reads `metadata.shop=coffee` or `CF-*`; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Ours> {
        if let Some(mark) = text.strip_prefix("metadata.") {
            let (key, value) = mark.split_once('=')?;
            let is_plain =
                !key.is_empty() && key.chars().count() <= KEY_MAX_CHARS && !value.is_empty();
            return is_plain.then(|| Ours::Mark(key.into(), value.into()));
        }
        let beginning = text.strip_suffix('*')?;
        let is_plain = !beginning.trim().is_empty() && !beginning.contains('*');
        is_plain.then(|| Ours::Beginning(beginning.into()))
    }

    /// Whether an object with these metadata and names carries the mark.
    #[must_use]
    pub(crate) fn is_marked<'a>(
        &self,
        metadata: &dyn Fn(&str) -> Option<&'a str>,
        mut names: impl Iterator<Item = &'a OrderId>,
    ) -> bool {
        match self {
            Ours::Mark(key, value) => metadata(key) == Some(value),
            Ours::Beginning(beginning) => {
                names.any(|name| name.as_str().starts_with(beginning.as_ref()))
            }
        }
    }
}
