//! Lists of orders, fifty at a time.

use percent_encoding::{percent_decode_str, utf8_percent_encode};

use super::texts;
use super::views::{FilterView, Orders};
use super::visit::{IN_PATH, Trouble, Visit, href, page, see};
use crate::http::exchange::{Reply, Request};
use crate::store::Find;
use crate::truth::order::Status;

/// Orders on a page of the list.
const PAGE: usize = 50;
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
            let find = query.find();
            let mut orders = store.find(&find, PAGE + 1)?;
            if orders.len() > PAGE {
                orders.truncate(PAGE);
                let last = orders.last().map(|order| order.place(&find));
                next = last.map(|last| query.address(&last));
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

    fn find(&self) -> Find<'_> {
        Find {
            status: self.status,
            to_look_at: self.attention,
            beginning: &self.begins,
            after: self.after.as_deref(),
        }
    }

    /// The same list behind its order at `after`.
    fn address(&self, after: &str) -> String {
        let status = self.status.map_or("", Status::as_str);
        let attention = if self.attention { "1" } else { "" };
        let pairs = [
            ("begins", self.begins.as_str()),
            ("status", status),
            ("attention", attention),
            ("after", after),
        ];
        let pairs = pairs.iter().filter(|(_, value)| !value.is_empty());
        let pairs =
            pairs.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, IN_PATH)));
        format!("/orders?{}", pairs.collect::<Vec<_>>().join("&"))
    }
}
