//! Which page an address is.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::door::{Door, Refusal};
use super::texts::{self, Lang};
use super::views::{FindingView, Findings, HealthPage, MoneyPage};
use super::visit::{CSV_HEAD, STYLE_HEAD, Site, Sources, Trouble, Visit, add_head, page};
use crate::base::log_line::{ErrorCode, LogFields, Message};
use crate::base::plain;
use crate::host::clock::Now;
use crate::http::exchange::{App, Body, Page, Reply, Request};
use crate::http::metrics::OTHER;
use crate::store::Period;

const STYLE: &str = include_str!("page.css");
const ICON: &str = include_str!("icon.svg");

/// All pages, behind their door.
pub(super) struct Pages {
    door: Door,
    site: Site,
}

enum Route<'a> {
    Home,
    Orders,
    Order(&'a str),
    Money,
    Csv,
    Health,
    Style,
    Icon,
    Other,
}

impl App for Pages {
    fn route(&self, path: &str) -> &'static str {
        match Route::of(path, &self.site.style) {
            Route::Home => "/",
            Route::Orders => "/orders",
            Route::Order(_) => "/orders/{id}",
            Route::Money => "/money",
            Route::Csv => "/money.csv",
            Route::Health => "/health",
            Route::Style | Route::Icon | Route::Other => OTHER,
        }
    }

    fn answer(&self, request: &Request<'_>, now: Now, fields: &mut LogFields) -> Reply {
        let lang = Lang::accepted(&request.header("accept-language").unwrap_or_default());
        let visit = Visit {
            site: &self.site,
            lang,
            now,
        };
        match self.door.admit(request, now) {
            Ok(()) => visit
                .answer(request, fields)
                .unwrap_or_else(|trouble| visit.sorry(&trouble)),
            Err(refusal) => visit.refuse(refusal),
        }
    }
}

impl Pages {
    pub(super) fn new(door: Door, database: PathBuf, sources: Sources) -> Pages {
        let mut hash = hex::encode(Sha256::digest(STYLE));
        hash.truncate(12);
        let site = Site {
            database,
            sources,
            style: format!("/{hash}.css"),
        };
        Pages { door, site }
    }
}

impl Route<'_> {
    fn of<'a>(path: &'a str, style: &str) -> Route<'a> {
        match path {
            "/" => Route::Home,
            "/orders" => Route::Orders,
            "/money" => Route::Money,
            "/money.csv" => Route::Csv,
            "/health" => Route::Health,
            "/favicon.ico" => Route::Icon,
            path if path == style => Route::Style,
            path => path
                .strip_prefix("/orders/")
                .map_or(Route::Other, Route::Order),
        }
    }
}
impl Visit<'_> {
    fn answer(&self, request: &Request<'_>, fields: &mut LogFields) -> Result<Reply, Trouble> {
        match Route::of(request.path, &self.site.style) {
            Route::Style => Ok(constant("text/css; charset=utf-8", STYLE)),
            Route::Icon => Ok(constant("image/svg+xml", ICON)),
            Route::Home => self.home(),
            Route::Orders => self.orders(request),
            Route::Order(id) => {
                let id = percent_decode_str(id).decode_utf8();
                let id = id.map_err(|_| Trouble::NoSuchOrder)?;
                self.order(&id, fields)
            }
            Route::Money => self.money(request),
            Route::Csv => self.csv(request),
            Route::Health => self.health(),
            Route::Other => Err(Trouble::NotFound),
        }
    }

    fn money(&self, request: &Request<'_>) -> Result<Reply, Trouble> {
        let by = period(request)?;
        let store = self.store()?;
        let shown = MoneyPage {
            frame: self.frame("/money", self.lang.texts().money, store.mode()?),
            by_month: by == Period::Month,
            csv: match by {
                Period::Day => "/money.csv?by=day",
                Period::Month => "/money.csv?by=month",
            },
            currencies: self.sums(&store).by(by)?,
        };
        page(200, &shown)
    }

    fn csv(&self, request: &Request<'_>) -> Result<Reply, Trouble> {
        let by = period(request)?;
        let store = self.store()?;
        let days = self.sums(&store).range(by);
        let rows = store.takings_by(by, days, &self.site.sources.zone)?;
        let text = (self.site.sources.csv)(by, rows);
        Ok(Reply {
            body: Body::Page(Box::new(Page {
                kind: "text/csv; charset=utf-8",
                head: CSV_HEAD.into(),
                text: text.into(),
            })),
            ..Reply::json(200, Message::RequestServed, "")
        })
    }

    fn health(&self) -> Result<Reply, Trouble> {
        let t = self.lang.texts();
        let store = self.store()?;
        let now = (self.site.sources.check)(&store);
        let now: Vec<Value> = now
            .iter()
            .filter_map(|it| serde_json::to_value(it).ok())
            .collect();
        let (when, last) = match store.examination()? {
            Some((at, last)) => {
                let age = texts::age(self.now.unix.0 - at.0, self.lang);
                (format!("{} ({age})", self.minute(at).text), last)
            }
            None => (String::new(), Vec::new()),
        };
        let part = |id, title, when, findings: &[Value], none| Findings {
            id,
            title,
            when,
            findings: findings
                .iter()
                .map(|finding| self.finding(finding))
                .collect(),
            none,
        };
        let shown = HealthPage {
            frame: self.frame("/health", t.health, store.mode()?),
            parts: vec![
                part("now", t.database_and_disk, String::new(), &now, ""),
                part("doctor", t.doctor, when, &last, t.no_doctor),
            ],
        };
        page(200, &shown)
    }

    /// A finding as `paidup check --json` has it.
    fn finding(&self, finding: &Value) -> FindingView {
        let t = self.lang.texts();
        let text = |name: &str| {
            plain::text(
                finding
                    .get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default(),
            )
        };
        let (class, glyph, word) = match &*text("severity") {
            "good" => ("good", "✓", t.good),
            "warning" => ("warning", "△", t.warning),
            _ => ("problem", "✕", t.problem),
        };
        FindingView {
            class,
            glyph,
            word,
            subject: text("subject"),
            what: text("what"),
            why: text("why"),
            next: text("next"),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Reply {
        let t = self.lang.texts();
        let (status, code, text) = match refusal {
            Refusal::Host => (421, ErrorCode::HostNotLocal, t.wrong_host),
            Refusal::Method => (405, ErrorCode::MethodNotAllowed, t.wrong_method),
            Refusal::Length => (414, ErrorCode::HeadTooLarge, t.too_long),
            Refusal::OtherSite => (403, ErrorCode::CrossSite, t.cross_site),
            Refusal::Login => (401, ErrorCode::PasswordWrong, t.needs_login),
            Refusal::TooMany(_) => (429, ErrorCode::RateLimited, t.too_many),
        };
        let mut reply = self.message(status, code, (vec![text], String::new()), false);
        match refusal {
            Refusal::TooMany(seconds) => reply.retry_after = Some(seconds),
            Refusal::Method => reply.allow = Some("GET, HEAD"),
            Refusal::Login => add_head(
                &mut reply,
                "WWW-Authenticate: Basic realm=\"paidup\", charset=\"UTF-8\"\r\n",
            ),
            Refusal::Host | Refusal::Length | Refusal::OtherSite => {}
        }
        reply
    }
}

/// What never changes under its address, or hardly ever.
fn constant(kind: &'static str, text: &'static str) -> Reply {
    Reply {
        body: Body::Page(Box::new(Page {
            kind,
            head: STYLE_HEAD.into(),
            text: text.into(),
        })),
        ..Reply::json(200, Message::HealthServed, "")
    }
}

/// What a page of money is to be by.
fn period(request: &Request<'_>) -> Result<Period, Trouble> {
    match request.query {
        None | Some("" | "by=day") => Ok(Period::Day),
        Some("by=month") => Ok(Period::Month),
        Some(_) => Err(Trouble::BadQuery),
    }
}
