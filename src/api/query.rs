//! What follows the `?` of an address.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::http::exchange::Request;
use crate::truth::new_order::FieldError;

/// Orders in an answer.
const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 100;

pub(super) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Reads the query. A name that is not in `known` is an error: a typo must not widen a list.
    pub(super) fn parse(request: &Request<'a>, known: &[&str]) -> Result<Query<'a>, FieldError> {
        let pairs = request.query.unwrap_or_default().split('&');
        let mut query = Vec::new();
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = decoded(name).zip(decoded(value)).unwrap_or_default();
            if !known.contains(&name.as_ref()) {
                return Err(FieldError {
                    field: name.into_owned(),
                    message: format!("is not known here; known are {}", known.join(", ")),
                });
            }
            query.push((name, value));
        }
        Ok(Query(query))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(one, _)| one == name);
        values.next().map(|(_, value)| value.as_ref())
    }

    /// The most orders that the answer may have.
    pub(super) fn limit(&self) -> Result<usize, FieldError> {
        let limit = self.read("limit", "must be a whole number from 1 to 100", |text| {
            let limit = text.parse().ok();
            limit.filter(|limit| (1..=LIMIT_MAX).contains(limit))
        });
        Ok(limit?.unwrap_or(LIMIT_DEFAULT))
    }

    /// The value of `name`, if it is there; `message` says what it must be.
    pub(super) fn read<T>(
        &self,
        name: &str,
        message: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, FieldError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        match parse(text) {
            Some(value) => Ok(Some(value)),
            None => Err(FieldError {
                field: name.to_owned(),
                message: message.to_owned(),
            }),
        }
    }
}

/// Part of an address, percent-decoded; none when it is not UTF-8.
pub(super) fn decoded(text: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(text).decode_utf8().ok()
}
