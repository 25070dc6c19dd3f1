//! Values of JSON of any type, of which we keep what we can use.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::reading::Mode;
use crate::base::id::StripeId;

/// A value of any type, of which we keep what we can use.
#[derive(Default)]
pub(super) enum Field<'a> {
    /// Missing or null.
    #[default]
    Null,
    Flag(bool),
    Whole(i64),
    Text(Cow<'a, str>),
    Object(Box<Inner<'a>>),
    /// A list, a fraction, a number beyond `i64`.
    Other,
}

/// What we read of an object inside an object: the id of an expanded one, the session or invoice in
/// `payment_details`, what paid an invoice.
#[derive(Default)]
pub(super) struct Inner<'a> {
    pub(super) id: Field<'a>,
    pub(super) order_reference: Field<'a>,
    pub(super) payment_intent: Field<'a>,
    pub(super) charge: Field<'a>,
}

/// The shop's own texts on an object.
/// <https://docs.stripe.com/metadata>
#[derive(Default)]
pub(super) struct Metadata<'a>(Vec<(Cow<'a, str>, Field<'a>)>);

impl Metadata<'_> {
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(known, _)| known == key);
        found.find_map(|(_, value)| value.text())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Metadata<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Metadata<'a>, D::Error> {
        deserializer.deserialize_any(MetadataVisitor)
    }
}

struct MetadataVisitor;

/// Anything but an object has no texts.
impl<'de> Visitor<'de> for MetadataVisitor {
    type Value = Metadata<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Metadata<'de>, E> {
        Ok(Metadata::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Metadata<'de>, E> {
        Ok(Metadata::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Metadata<'de>, E> {
        Ok(Metadata::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Metadata<'de>, E> {
        Ok(Metadata::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Metadata<'de>, E> {
        Ok(Metadata::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Metadata<'de>, E> {
        Ok(Metadata::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Metadata<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Metadata::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Metadata(entries))
    }
}

impl<'a> Field<'a> {
    pub(super) fn is_null(&self) -> bool {
        matches!(self, Field::Null)
    }

    pub(super) fn flag(&self) -> Option<bool> {
        if let Field::Flag(flag) = self {
            Some(*flag)
        } else {
            None
        }
    }

    pub(super) fn mode(&self) -> Option<Mode> {
        self.flag()
            .map(|is_live| if is_live { Mode::Live } else { Mode::Test })
    }

    pub(super) fn whole(&self) -> Option<i64> {
        if let Field::Whole(number) = self {
            Some(*number)
        } else {
            None
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Field::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }

    pub(super) fn inner(&self) -> Option<&Inner<'a>> {
        if let Field::Object(inner) = self {
            Some(inner)
        } else {
            None
        }
    }

    /// An id, written as text or expanded to its object.
    pub(super) fn id(&self) -> Option<StripeId> {
        let text = self
            .text()
            .or_else(|| self.inner().and_then(|inner| inner.id.text()))?;
        StripeId::parse(text).ok()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Field<'a>, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Field<'de>, E> {
        Ok(Field::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Field<'de>, E> {
        Ok(Field::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Field<'de>, E> {
        Ok(Field::Whole(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Field<'de>, E> {
        Ok(i64::try_from(number).map_or(Field::Other, Field::Whole))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Field<'de>, E> {
        Ok(Field::Other)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Field<'de>, E> {
        Ok(Field::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Field<'de>, E> {
        Ok(Field::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field<'de>, A::Error> {
        let mut inner = Box::new(Inner::default());
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "id" => inner.id = map.next_value()?,
                "order_reference" => inner.order_reference = map.next_value()?,
                "payment_intent" => inner.payment_intent = map.next_value()?,
                "charge" => inner.charge = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Field::Object(inner))
    }
}
