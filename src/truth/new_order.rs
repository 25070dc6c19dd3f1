//! What a shop sends to `POST /orders`, read strictly. All mistakes are reported at once, each with the
//! path of its field.
//!
//! The limits are Stripe's (<https://docs.stripe.com/api/checkout/sessions/create>), so Stripe
//! accepts what we accept, except that only Stripe knows whether a price exists.

use serde::Serialize;
use serde_json::{Map, Value};

use super::money::Money;
use crate::base::id::{OrderId, StripeId, UnixSeconds};
use crate::base::time;

/// An order to be paid on Stripe's page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NewOrder {
    /// The shop's id for it; one is made if there is none.
    pub order: Option<OrderId>,
    /// What is bought, 1 to 100 lines.
    pub lines: Vec<Line>,
    /// The shop's own notes, sorted by name.
    pub metadata: Vec<(Box<str>, Box<str>)>,
    /// Where the buyer goes after paying.
    pub success_url: Option<Box<str>>,
    /// Where the buyer goes when leaving the page.
    pub cancel_url: Option<Box<str>>,
    /// When the page expires.
    pub expires_at: Option<UnixSeconds>,
}

/// One line of what is bought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What it is, and what one of it costs.
    pub item: Item,
    /// How many, at least one.
    pub quantity: u32,
}

/// What is bought in a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Item {
    /// A price from the Dashboard.
    Price(StripeId),
    /// A name and an amount.
    Named {
        /// As the buyer reads it.
        name: Box<str>,
        /// What one of it costs.
        amount: Money,
    },
}

/// A mistake in what a shop sent. It quotes nothing that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FieldError {
    /// Where, such as `lineItems[0].quantity`; empty for the whole.
    pub(crate) field: String,
    /// What it must be.
    pub message: String,
}

/// How far ahead a page may expire at Stripe, in seconds.
const EXPIRES_MIN_SECONDS: i64 = 30 * 60;
const EXPIRES_MAX_SECONDS: i64 = 24 * 3600;

impl NewOrder {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// Every mistake.
    pub(crate) fn parse(body: &[u8]) -> Result<NewOrder, Vec<FieldError>> {
        let mut reader = BodyReader::default();
        let order = reader.order(body);
        match order {
            Some(order) if reader.errors.is_empty() => Ok(order),
            Some(_) | None => Err(reader.errors),
        }
    }

    /// Checks when the page expires, for a page that is made now. One that was made before may be asked
    /// for again later.
    ///
    /// # Errors
    /// The mistake.
    pub(crate) fn check_expiry(&self, now: UnixSeconds) -> Result<(), FieldError> {
        let ahead = self.expires_at.map(|at| at.0.saturating_sub(now.0));
        match ahead {
            Some(ahead) if !(EXPIRES_MIN_SECONDS..=EXPIRES_MAX_SECONDS).contains(&ahead) => {
                Err(FieldError {
                    field: "expiresAt".to_owned(),
                    message: "must be 30 minutes to 24 hours ahead".to_owned(),
                })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether a buyer's browser can be sent to this address.
#[must_use]
pub(crate) fn is_page(url: &str) -> bool {
    let rest = url.strip_prefix("https://");
    let rest = rest.or_else(|| url.strip_prefix("http://"));
    let fits = |byte: u8| byte.is_ascii_graphic();
    rest.is_some_and(|rest| !rest.is_empty()) && url.len() <= URL_MAX_BYTES && url.bytes().all(fits)
}

const LINES_MAX: usize = 100;
const QUANTITY_MAX: u64 = 999_999;
/// Stripe takes amounts of up to eight digits, and of more in currencies whose unit is worth little:
/// <https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts>. The smallest depend on the
/// currency of the shop's bank account and on the buyer's way to pay: they are left to Stripe.
fn amount_max(currency: &str) -> u64 {
    match currency {
        "idr" => 999_999_999_999,
        "lbp" => 99_999_999_999,
        "cop" | "huf" | "jpy" => 9_999_999_999,
        "inr" => 999_999_999,
        _ => 99_999_999,
    }
}

/// Amounts must be a multiple of this: <https://docs.stripe.com/currencies#three-decimal> and its
/// special cases, which are sent with two decimals that are always 00.
fn amount_step(currency: &str) -> u64 {
    match currency {
        "bhd" | "jod" | "kwd" | "omr" | "tnd" => 10,
        "isk" | "ugx" => 100,
        _ => 1,
    }
}

const NAME_MAX_CHARS: usize = 250;
/// Stripe's 50 less those that carry our order id, the shop's name for it (`ORDER_ID_FROM`) and the
/// mark of its orders (`OUR_ORDERS`): <https://docs.stripe.com/metadata>.
const NOTES_MAX: usize = 47;
const NOTE_NAME_MAX_CHARS: usize = 40;
const NOTE_MAX_CHARS: usize = 500;
const URL_MAX_BYTES: usize = 2048;

/// Reads field after field and collects the mistakes.
#[derive(Default)]
struct BodyReader {
    errors: Vec<FieldError>,
}

type Fields = Map<String, Value>;

impl BodyReader {
    fn order(&mut self, body: &[u8]) -> Option<NewOrder> {
        let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
            return self.refuse("", "the body must be a JSON object");
        };
        let known = [
            "orderId",
            "lineItems",
            "metadata",
            "successUrl",
            "cancelUrl",
            "expiresAt",
        ];
        self.refuse_unknown("", &fields, &known);
        let order = self.optional(&fields, "orderId", BodyReader::order_id);
        let lines = self.lines(&fields);
        let metadata = self.optional(&fields, "metadata", BodyReader::notes);
        let success_url = self.optional(&fields, "successUrl", BodyReader::page);
        let cancel_url = self.optional(&fields, "cancelUrl", BodyReader::page);
        let expires_at = self.optional(&fields, "expiresAt", BodyReader::time);
        Some(NewOrder {
            order,
            lines: lines?,
            metadata: metadata.unwrap_or_default(),
            success_url,
            cancel_url,
            expires_at,
        })
    }

    /// A field that may be missing or null.
    fn optional<T>(
        &mut self,
        fields: &Fields,
        name: &str,
        read: fn(&mut BodyReader, &str, &Value) -> Option<T>,
    ) -> Option<T> {
        let value = fields.get(name).filter(|value| !value.is_null())?;
        read(self, name, value)
    }

    fn order_id(&mut self, path: &str, value: &Value) -> Option<OrderId> {
        let order = value.as_str().map(OrderId::parse);
        match order {
            Some(Ok(order)) => Some(order),
            Some(Err(_)) | None => self.refuse(path, "must be a text of 1 to 200 characters"),
        }
    }

    fn page(&mut self, path: &str, value: &Value) -> Option<Box<str>> {
        match value.as_str().filter(|url| is_page(url)) {
            Some(url) => Some(url.into()),
            None => self.refuse(
                path,
                "must be an address that begins with https:// or http://",
            ),
        }
    }

    fn time(&mut self, path: &str, value: &Value) -> Option<UnixSeconds> {
        let seconds = value.as_i64().map(UnixSeconds);
        match seconds.or_else(|| time::parse_rfc3339(value.as_str()?)) {
            Some(time) => Some(time),
            None => self.refuse(
                path,
                "must be a time such as 2026-11-24T18:00:00Z, or seconds since 1970",
            ),
        }
    }

    fn notes(&mut self, path: &str, value: &Value) -> Option<Vec<(Box<str>, Box<str>)>> {
        let Some(fields) = value.as_object() else {
            return self.refuse(path, "must be an object of texts");
        };
        if fields.len() > NOTES_MAX {
            self.refuse::<()>(path, "may have at most 47 entries");
        }
        let mut notes = Vec::new();
        for (name, value) in fields {
            let path = format!("{path}.{name}");
            if matches!(name.as_str(), "order_id" | "orderId") {
                self.refuse::<()>(&path, "is where the order's own id goes: use orderId");
            } else if name.is_empty()
                || name.chars().count() > NOTE_NAME_MAX_CHARS
                || name.contains(['[', ']'])
            {
                self.refuse::<()>(
                    &path,
                    "must have a name of 1 to 40 characters without brackets",
                );
            }
            match value.as_str() {
                Some(text) if text.chars().count() <= NOTE_MAX_CHARS => {
                    notes.push((name.as_str().into(), text.into()));
                }
                Some(_) | None => {
                    self.refuse::<()>(&path, "must be a text of at most 500 characters");
                }
            }
        }
        Some(notes)
    }

    fn lines(&mut self, fields: &Fields) -> Option<Vec<Line>> {
        let items = fields.get("lineItems").and_then(Value::as_array);
        let Some(items) = items.filter(|items| (1..=LINES_MAX).contains(&items.len())) else {
            return self.refuse("lineItems", "must be a list of 1 to 100 lines");
        };
        let lines: Vec<Option<Line>> = (0..)
            .zip(items)
            .map(|(index, item)| self.line(&format!("lineItems[{index}]"), item))
            .collect();
        let lines: Vec<Line> = lines.into_iter().collect::<Option<_>>()?;
        let mut currencies = lines.iter().filter_map(|line| match &line.item {
            Item::Named { amount, .. } => Some(&amount.currency),
            Item::Price(_) => None,
        });
        let first = currencies.next();
        if currencies.any(|currency| Some(currency) != first) {
            return self.refuse("lineItems", "must all be in one currency");
        }
        Some(lines)
    }

    fn line(&mut self, path: &str, value: &Value) -> Option<Line> {
        let Some(fields) = value.as_object() else {
            return self.refuse(path, "must be an object");
        };
        let at = |name: &str| format!("{path}.{name}");
        let quantity = self.whole(&at("quantity"), fields.get("quantity"), 1..=QUANTITY_MAX);
        let item = if fields.contains_key("price") {
            self.refuse_unknown(path, fields, &["price", "quantity"]);
            let price = fields.get("price").and_then(Value::as_str);
            match price.map(StripeId::parse) {
                Some(Ok(price)) => Some(Item::Price(price)),
                Some(Err(_)) | None => {
                    self.refuse(&at("price"), "must be the id of a price, price_…")
                }
            }
        } else {
            self.refuse_unknown(path, fields, &["name", "amount", "currency", "quantity"]);
            self.named(path, fields)
        };
        Some(Line {
            item: item?,
            quantity: u32::try_from(quantity?).ok()?,
        })
    }

    fn named(&mut self, path: &str, fields: &Fields) -> Option<Item> {
        let at = |name: &str| format!("{path}.{name}");
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        let name = text("name")
            .filter(|name| !name.trim().is_empty() && name.chars().count() <= NAME_MAX_CHARS);
        if name.is_none() {
            self.refuse::<()>(
                &at("name"),
                "must be a text of 1 to 250 characters, unless the line has a price",
            );
        }
        let currency = text("currency").map(str::to_ascii_lowercase);
        let is_code =
            |code: &String| code.len() == 3 && code.bytes().all(|b| b.is_ascii_lowercase());
        let currency = currency.filter(is_code);
        let of = currency.as_deref().unwrap_or_default();
        let minor = self.whole(&at("amount"), fields.get("amount"), 0..=amount_max(of));
        let step = amount_step(of);
        if minor.is_some_and(|minor| !minor.is_multiple_of(step)) {
            let message = format!("must be a multiple of {step} in this currency");
            self.refuse::<()>(&at("amount"), &message);
        }
        if currency.is_none() {
            self.refuse::<()>(
                &at("currency"),
                "must be a currency of three letters, such as eur",
            );
        }
        let amount = Money {
            minor: i64::try_from(minor?).ok()?,
            currency: currency?.into(),
        };
        let name = name?.into();
        Some(Item::Named { name, amount })
    }

    fn whole(
        &mut self,
        path: &str,
        value: Option<&Value>,
        range: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let number = value.and_then(Value::as_u64);
        if let Some(number) = number.filter(|number| range.contains(number)) {
            return Some(number);
        }
        let (least, most) = (range.start(), range.end());
        let message = format!("must be a whole number from {least} to {most}");
        self.refuse(path, &message)
    }

    /// A misspelt field would otherwise be ignored without a word.
    fn refuse_unknown(&mut self, path: &str, fields: &Fields, known: &[&str]) {
        for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
            let dot = if path.is_empty() { "" } else { "." };
            let message = format!("is not known here; known are {}", known.join(", "));
            self.refuse::<()>(&format!("{path}{dot}{name}"), &message);
        }
    }

    fn refuse<T>(&mut self, field: &str, message: &str) -> Option<T> {
        self.errors.push(FieldError {
            field: field.to_owned(),
            message: message.to_owned(),
        });
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: &Value) -> Result<NewOrder, Vec<FieldError>> {
        NewOrder::parse(body.to_string().as_bytes())
    }

    fn wrong(body: &Value) -> Vec<String> {
        let errors = parse(body).unwrap_err();
        errors.into_iter().map(|error| error.field).collect()
    }

    fn coffee() -> Value {
        json!({"name": "Café & thé", "amount": 1250, "currency": "EUR", "quantity": 2})
    }

    #[test]
    fn a_whole_order_is_read() {
        let body = json!({"orderId": "ord_1", "lineItems": [coffee(), {"price": "price_1", "quantity": 1}],
            "metadata": {"cart": "7"}, "successUrl": "https://shop.example/?s={CHECKOUT_SESSION_ID}",
            "cancelUrl": null, "expiresAt": "2026-11-24T18:00:00Z"});
        let order = parse(&body).unwrap();
        assert_eq!(order.order, OrderId::parse("ord_1").ok());
        let Item::Named { amount, .. } = &order.lines[0].item else {
            panic!("{order:?}")
        };
        assert_eq!(
            (amount.minor, &*amount.currency, order.lines[0].quantity),
            (1250, "eur", 2)
        );
        assert_eq!(order.metadata, [("cart".into(), "7".into())]);
        assert_eq!(order.cancel_url, None);
        assert_eq!(order.expires_at, Some(UnixSeconds(1_795_543_200)));
    }

    #[test]
    fn amounts_have_the_limits_of_their_currency() {
        for (currency, amount, fits) in [
            ("eur", 99_999_999_u64, true),
            ("eur", 100_000_000, false),
            ("jpy", 1, true),
            ("IDR", 999_999_999_999, true),
            ("idr", 1_000_000_000_000, false),
            ("huf", 100_000_000, true),
            ("inr", 999_999_999, true),
            ("inr", 1_000_000_000, false),
            ("kwd", 5_120, true),
            ("KWD", 5_124, false),
            ("tnd", 5, false),
            ("isk", 500, true),
            ("isk", 550, false),
            ("krw", 501, true),
        ] {
            let line = json!({"name": "x", "amount": amount, "currency": currency, "quantity": 1});
            let body = json!({"lineItems": [line]});
            let told = parse(&body).err().unwrap_or_default();
            let fields: Vec<&str> = told.iter().map(|error| &*error.field).collect();
            let expected: &[&str] = if fits { &[] } else { &["lineItems[0].amount"] };
            assert_eq!(fields, expected, "{currency} {amount}");
        }
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_path() {
        let body = json!({"orderId": " ", "lineItem": [], "metadata": {"order_id": "x", "n": 1},
            "lineItems": [{"quantity": 0}, {"price": "a b", "quantity": 1, "amount": 5},
                {"name": "x", "amount": 2.5, "currency": "euro", "quantity": -1}, 7],
            "successUrl": "javascript:alert(1)", "expiresAt": "soon"});
        assert_eq!(
            wrong(&body),
            [
                "lineItem",
                "orderId",
                "lineItems[0].quantity",
                "lineItems[0].name",
                "lineItems[0].amount",
                "lineItems[0].currency",
                "lineItems[1].amount",
                "lineItems[1].price",
                "lineItems[2].quantity",
                "lineItems[2].amount",
                "lineItems[2].currency",
                "lineItems[3]",
                "metadata.n",
                "metadata.order_id",
                "successUrl",
                "expiresAt"
            ]
        );
        for body in [json!([]), json!("x"), Value::Null] {
            assert_eq!(wrong(&body), [""]);
        }
        assert!(NewOrder::parse(b"{").is_err());
    }

    #[test]
    fn stripes_limits_are_ours() {
        let lines = |count: usize| json!({"lineItems": vec![coffee(); count]});
        assert!(parse(&lines(100)).is_ok());
        assert_eq!(wrong(&lines(101)), ["lineItems"]);
        assert_eq!(wrong(&lines(0)), ["lineItems"]);
        let mixed = json!({"lineItems": [coffee(),
            {"name": "x", "amount": 1, "currency": "usd", "quantity": 1}]});
        assert_eq!(wrong(&mixed), ["lineItems"]);
        let notes: Map<String, Value> = (0..50).map(|n| (n.to_string(), json!(""))).collect();
        assert_eq!(
            wrong(&json!({"lineItems": [coffee()], "metadata": notes})),
            ["metadata"]
        );
        let note =
            |name: String, text: String| json!({"lineItems": [coffee()], "metadata": {name: text}});
        assert!(parse(&note("é".repeat(40), "é".repeat(500))).is_ok());
        assert_eq!(
            wrong(&note("a[b]".to_owned(), String::new())),
            ["metadata.a[b]"]
        );
        assert_eq!(
            wrong(&note("a".to_owned(), "é".repeat(501))),
            ["metadata.a"]
        );
    }

    #[test]
    fn a_page_ends_in_30_minutes_to_24_hours() {
        let order = |at: i64| parse(&json!({"lineItems": [coffee()], "expiresAt": at})).unwrap();
        let now = UnixSeconds(1_000_000);
        for (ahead, fits) in [
            (1799, false),
            (1800, true),
            (86_400, true),
            (86_401, false),
            (-5, false),
        ] {
            assert_eq!(
                order(now.0 + ahead).check_expiry(now).is_ok(),
                fits,
                "{ahead}"
            );
        }
    }
}
