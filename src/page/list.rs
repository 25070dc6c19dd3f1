//! Lists of orders, fifty at a time.

use percent_encoding::{percent_decode_str, utf8_percent_encode};

use super::texts;
use super::views::{FilterView, Orders};
use super::visit::{IN_PATH, Trouble, Visit, href, page, see};
use crate::http::exchange::{Reply, Request};
use crate::store::{Place, StoredOrder, Wanted};
use crate::truth::order::Status;

/// Orders on a page of the list.
const PAGE: u32 = 50;
/// Orders that one reference may have, on a page.
const REFERENCES: usize = 50;

impl Visit<'_> {
    pub(super) fn orders(&self, request: &Request<'_>) -> Result<Reply, Trouble> {
        let t = self.lang.texts();
        let query = Query::read(request.query.unwrap_or_default()).ok_or(Trouble::BadQuery)?;
        let store = self.store()?;
        let mode = store.mode()?;
        let mut note = None;
        let found;
        let mut next = None;
        if query.id.is_empty() {
            let wanted = query.wanted();
            let mut orders = match wanted.name {
                Some(_) => store.named(
                    &wanted,
                    query.after.as_deref().unwrap_or_default(),
                    PAGE + 1,
                )?,
                None => store.wanted(&wanted, query.place()?, PAGE + 1)?,
            };
            if orders.len() > PAGE as usize {
                orders.truncate(PAGE as usize);
                next = orders.last().map(|last| query.address(last));
            }
            found = orders;
        } else if let Some(order) = store.order(&query.id)? {
            return Ok(see(&href(&order)));
        } else {
            found = store.orders_for(&query.id, REFERENCES)?;
            if let [only] = found.as_slice() {
                return Ok(see(&href(only)));
            }
            note = Some(if found.is_empty() {
                t.no_such_order
            } else {
                t.several
            });
        }
        let statuses = Status::ALL.map(|it| (it.as_str(), texts::status(it, self.lang)));
        let orders = Orders {
            frame: self.frame("/orders", t.orders, mode),
            statuses: statuses.to_vec(),
            note,
            rows: found.iter().map(|order| self.row(order)).collect(),
            next,
            filter: FilterView {
                status: query.status.map_or("", Status::as_str),
                attention: query.attention,
                id: query.id,
                begins: query.begins,
            },
        };
        page(200, &orders)
    }
}

/// What the list's address asks for.
#[derive(Default)]
struct Query {
    id: String,
    begins: String,
    status: Option<Status>,
    attention: bool,
    after: Option<String>,
}

impl Query {
    /// `None` when it asks for something that does not exist: a typo must not widen a list.
    fn read(text: &str) -> Option<Query> {
        let mut query = Query::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // A form writes a blank as +.
            let value = value.replace('+', " ");
            let value = percent_decode_str(&value).decode_utf8().ok()?;
            match name {
                "id" => query.id = value.trim().to_owned(),
                "begins" => query.begins = value.trim().to_owned(),
                "status" if value.is_empty() => {}
                "status" => query.status = Some(Status::parse(&value)?),
                "attention" => query.attention = value == "1",
                "after" => query.after = Some(value.into_owned()),
                _ => return None,
            }
        }
        Some(query)
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            status: self.status,
            flagged: self.attention,
            name: (!self.begins.is_empty()).then(|| self.begins.clone()),
            ..Wanted::default()
        }
    }

    /// The last order of the page before.
    fn place(&self) -> Result<Option<Place>, Trouble> {
        let after = self.after.as_deref();
        after
            .map(|after| Place::parse(after).ok_or(Trouble::BadQuery))
            .transpose()
    }

    /// The same list behind that order.
    fn address(&self, last: &StoredOrder) -> String {
        let after = match self.begins.as_str() {
            "" => last.place().to_string(),
            _ => last.name.as_str().to_owned(),
        };
        let status = self.status.map_or("", Status::as_str);
        let attention = if self.attention { "1" } else { "" };
        let pairs = [
            ("begins", self.begins.as_str()),
            ("status", status),
            ("attention", attention),
            ("after", after.as_str()),
        ];
        let pairs = pairs.iter().filter(|(_, value)| !value.is_empty());
        let pairs =
            pairs.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, IN_PATH)));
        format!("/orders?{}", pairs.collect::<Vec<_>>().join("&"))
    }
}
