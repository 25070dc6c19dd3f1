//! Which page an address is, and what it shows.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use askama::Template;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};

use super::door::{Door, Refusal};
use super::moment::{date, moment};
use super::texts::{self, Lang};
use super::views::{
    Advice, FilterView, FindingView, Findings, Frame, HealthPage, Home, MessagePage, MoneyRow,
    Need, OrderPage, Orders, Row, StatusView, Step, ToldView,
};
use crate::base::finding::{Finding, Severity};
use crate::base::id::{StripeId, UnixSeconds};
use crate::base::log_line::{ErrorCode, LogFields, LogText, Message};
use crate::base::plain;
use crate::host::clock::Now;
use crate::host::files;
use crate::http::exchange::{App, Body, Reply, Request};
use crate::http::metrics::OTHER;
use crate::store::{Change, Chore, Destination, Find, Store, StoreError, StoredOrder, Told};
use crate::truth::money;
use crate::truth::order::{DisputeState, State, Status};
use crate::truth::reading::Mode;

/// How long one page may read the database.
const LOOK: Duration = Duration::from_secs(2);
/// Orders on a page of the list.
const PAGE: usize = 50;
/// Of those that need somebody, on the overview.
const NEEDS: usize = 10;
/// Of the newest, on the overview.
const NEWEST: usize = 10;
/// Orders that one reference may have, on a page.
const REFERENCES: usize = 50;
const DAY: i64 = 24 * 60 * 60;
/// As in systemd/alerts.yml: a nightly backup that was missed.
const BACKUP_OLD: i64 = 26 * 60 * 60;
/// An order that the shop has not heard of for so long.
const UNTOLD: i64 = 10 * 60;
/// As `paidup check`: with less free, the next busy day may fill the disk.
const FREE_BYTES: u64 = 256 * 1024 * 1024;

/// In an address, everything else is encoded.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

const STYLE: &str = include_str!("page.css");
/// Nothing but our own style sheet is loaded or run, nobody frames us, and nothing is told to others.
macro_rules! secure {
    () => {
        "Content-Security-Policy: default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'\r\n\
         X-Content-Type-Options: nosniff\r\n\
         Referrer-Policy: no-referrer\r\n\
         Cross-Origin-Opener-Policy: same-origin\r\n\
         Cross-Origin-Resource-Policy: same-origin\r\n"
    };
}
const PAGE_HEAD: &str = concat!(
    secure!(),
    "Cache-Control: no-store\r\nVary: Accept-Language\r\n"
);
/// The hash is in its address.
const STYLE_HEAD: &str = concat!(
    secure!(),
    "Cache-Control: private, max-age=31536000, immutable\r\n"
);

/// What `paidup check` finds of database and disk, for the page of the health.
pub(crate) type Check = Box<dyn Fn(&Store) -> Vec<Finding> + Send + Sync>;

/// All pages.
pub(super) struct Site {
    door: Door,
    database: PathBuf,
    check: Check,
    style: String,
}

enum Route<'a> {
    Home,
    Orders,
    Order(&'a str),
    Health,
    Style,
    Other,
}

impl App for Site {
    fn route(&self, path: &str) -> &'static str {
        match self.find(path) {
            Route::Home => "/",
            Route::Orders => "/orders",
            Route::Order(_) => "/orders/{id}",
            Route::Health => "/health",
            Route::Style | Route::Other => OTHER,
        }
    }

    fn answer(&self, request: &Request<'_>, now: Now, fields: &mut LogFields) -> Reply {
        let lang = Lang::accepted(&request.header("accept-language").unwrap_or_default());
        let visit = Visit {
            site: self,
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

impl Site {
    pub(super) fn new(door: Door, database: PathBuf, check: Check) -> Site {
        let mut hash = hex::encode(Sha256::digest(STYLE));
        hash.truncate(12);
        Site {
            door,
            database,
            check,
            style: format!("/{hash}.css"),
        }
    }

    fn find<'a>(&self, path: &'a str) -> Route<'a> {
        match path {
            "/" => Route::Home,
            "/orders" => Route::Orders,
            "/health" => Route::Health,
            style if style == self.style => Route::Style,
            path => path
                .strip_prefix("/orders/")
                .map_or(Route::Other, Route::Order),
        }
    }
}

/// Why there is no page.
enum Trouble {
    NotFound,
    NoSuchOrder,
    BadQuery,
    Store(StoreError),
    /// A template failed.
    Failed,
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Trouble {
        Trouble::Store(error)
    }
}

impl From<askama::Error> for Trouble {
    fn from(_: askama::Error) -> Trouble {
        Trouble::Failed
    }
}

/// One look at one page.
struct Visit<'a> {
    site: &'a Site,
    lang: Lang,
    now: Now,
}

impl Visit<'_> {
    fn answer(&self, request: &Request<'_>, fields: &mut LogFields) -> Result<Reply, Trouble> {
        match self.site.find(request.path) {
            Route::Style => Ok(Reply {
                body: Body::Page {
                    kind: "text/css; charset=utf-8",
                    head: STYLE_HEAD.into(),
                    text: STYLE.into(),
                },
                ..Reply::json(200, Message::HealthServed, "")
            }),
            Route::Home => self.home(),
            Route::Orders => self.orders(request),
            Route::Order(id) => {
                let id = percent_decode_str(id).decode_utf8();
                let id = id.map_err(|_| Trouble::NoSuchOrder)?;
                self.order(&id, fields)
            }
            Route::Health => self.health(),
            Route::Other => Err(Trouble::NotFound),
        }
    }

    /// The database, for a look that has to be over soon.
    fn store(&self) -> Result<Store, Trouble> {
        let deadline = self.now.instant + LOOK;
        Ok(Store::open_to_look(&self.site.database, deadline)?)
    }

    fn frame(&self, here: &'static str, title: impl Into<String>, mode: Option<Mode>) -> Frame {
        let now = moment(self.now.unix, self.lang);
        Frame {
            t: self.lang.texts(),
            lang: self.lang,
            title: title.into(),
            style: self.site.style.clone(),
            here,
            is_in: true,
            mode,
            now: format!("{} {}", now.text, now.offset),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    // ── The overview ──

    fn home(&self) -> Result<Reply, Trouble> {
        let store = self.store()?;
        let home = store.at_one_moment(|store| {
            let to_look_at = Find {
                to_look_at: true,
                ..Find::default()
            };
            let mut orders = store.find(&to_look_at, NEEDS + 1)?;
            let more = orders.len() > NEEDS;
            orders.truncate(NEEDS);
            let mut needs: Vec<Need> = orders.iter().map(|order| self.order_need(order)).collect();
            needs.extend(self.parked(store)?);
            needs.extend(self.untold(store)?);
            needs.extend(self.stale(store)?);
            needs.extend(self.backup(store)?);
            needs.extend(self.disk());
            let newest = store.find(&Find::default(), NEWEST)?;
            let frame = self.frame("/", date(self.now.unix, self.lang), store.mode()?);
            Ok(Home {
                frame,
                needs,
                more,
                figures: Vec::new(),
                plots: Vec::new(),
                newest: newest.iter().map(|order| self.row(order)).collect(),
            })
        })?;
        page(200, &home)
    }

    fn order_need(&self, order: &StoredOrder) -> Need {
        let advice = self.advice(&order.state);
        let next = advice.first().map_or("", |advice| advice.next);
        Need {
            href: Some(href(order)),
            what: plain::text(order.name.as_str()),
            notes: notes(&order.state, self.lang),
            next: next.to_owned(),
        }
    }

    fn parked(&self, store: &Store) -> Result<Option<Need>, StoreError> {
        let t = self.lang.texts();
        let parked = store.parked(UnixSeconds(self.now.unix.0 - DAY))?;
        Ok(parked.map(|parked| {
            let since = date(parked.since, self.lang);
            let what = format!("{}: {}, {} {since}", t.parked, parked.payments, t.since);
            need(what, t.parked_next)
        }))
    }

    fn untold(&self, store: &Store) -> Result<Option<Need>, StoreError> {
        let t = self.lang.texts();
        let mut names = Vec::new();
        for unheard in store.unheard()? {
            let is_old = |oldest: UnixSeconds| oldest.0 < self.now.unix.0 - UNTOLD;
            if unheard.oldest.is_some_and(is_old) {
                names.push(format!(
                    "{} ({})",
                    unheard.destination.name, unheard.waiting
                ));
            }
        }
        let what = format!("{}: {}", t.untold, names.join(", "));
        Ok((!names.is_empty()).then(|| need(what, t.untold_next)))
    }

    fn stale(&self, store: &Store) -> Result<Option<Need>, StoreError> {
        let t = self.lang.texts();
        let Some(at) = store.last_event_at()? else {
            return Ok(Some(need(t.no_event.to_owned(), t.stale_next)));
        };
        let age = self.now.unix.0 - at.0;
        let what = format!("{} {} {}", t.stale, t.since, moment(at, self.lang).text);
        Ok((age > DAY).then(|| need(what, t.stale_next)))
    }

    fn backup(&self, store: &Store) -> Result<Option<Need>, StoreError> {
        let t = self.lang.texts();
        let what = match store.noted(Chore::Backup)? {
            None => t.backup_none.to_owned(),
            Some(at) if self.now.unix.0 - at.0 > BACKUP_OLD => {
                format!("{}: {}", t.backup_old, moment(at, self.lang).text)
            }
            Some(_) => return Ok(None),
        };
        Ok(Some(need(what, t.backup_next)))
    }

    fn disk(&self) -> Option<Need> {
        let t = self.lang.texts();
        let free = files::free_bytes(files::folder_of(&self.site.database)).ok()?;
        let what = format!("{}: {} MiB {}", t.disk, free / (1024 * 1024), t.free);
        (free < FREE_BYTES).then(|| need(what, t.disk_next))
    }

    // ── Lists of orders ──

    fn orders(&self, request: &Request<'_>) -> Result<Reply, Trouble> {
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

    fn row(&self, order: &StoredOrder) -> Row {
        let state = &order.state;
        Row {
            href: href(order),
            name: plain::text(order.name.as_str()),
            status: self.status(state.status),
            amount: self.amount(state.amount, state),
            back: match state.refunded {
                0 => String::new(),
                refunded => self.amount(refunded, state),
            },
            since: moment(state.since, self.lang),
            notes: notes(state, self.lang),
        }
    }

    fn status(&self, status: Status) -> StatusView {
        let glyph = match status {
            Status::Pending => "○",
            Status::Authorized => "◔",
            Status::Processing => "◑",
            Status::Paid => "●",
            Status::PartiallyRefunded => "◐",
            Status::Refunded => "↩",
            Status::Failed => "✕",
            Status::Canceled => "–",
            Status::Expired => "◌",
        };
        StatusView {
            class: status.as_str(),
            glyph,
            word: texts::status(status, self.lang),
        }
    }

    fn amount(&self, minor: i64, state: &State) -> String {
        match &state.currency {
            Some(currency) => {
                texts::amount(&money::written(minor, Some(currency.as_ref())), self.lang)
            }
            None => "–".to_owned(),
        }
    }

    // ── One order ──

    fn order(&self, id: &str, fields: &mut LogFields) -> Result<Reply, Trouble> {
        let store = self.store()?;
        let order = store.order(id)?.ok_or(Trouble::NoSuchOrder)?;
        if order.name.as_str() != id {
            return Ok(see(&href(&order)));
        }
        fields.order_id = Some(LogText::order(&order.name));
        let shown = store.at_one_moment(|store| {
            let (changes, told, mode) = (
                store.changes(&order)?,
                store.told_of(&order)?,
                store.mode()?,
            );
            Ok(self.order_page(&order, &changes, &told, mode))
        })?;
        page(200, &shown)
    }

    fn order_page(
        &self,
        order: &StoredOrder,
        changes: &[Change],
        told: &[(Destination, Told)],
        mode: Option<Mode>,
    ) -> OrderPage {
        let state = &order.state;
        let name = plain::text(order.name.as_str());
        let t = self.lang.texts();
        let text = |id: &Option<StripeId>| id.as_ref().map_or("", StripeId::as_str).to_owned();
        let intent = text(&state.intent);
        let test = match mode {
            Some(Mode::Live) => "",
            Some(Mode::Test) | None => "test/",
        };
        let payment = || format!("https://dashboard.stripe.com/{test}payments/{intent}");
        OrderPage {
            frame: self.frame("/orders", format!("{} {name}", t.order), mode),
            status: self.status(state.status),
            changed: moment(order.updated_at, self.lang),
            advice: self.advice(state),
            money: self.money_of(state),
            story: self.story(changes, state),
            told: told
                .iter()
                .map(|(to, told)| self.told(order, to, told))
                .collect(),
            reference: state
                .reference
                .as_ref()
                .map_or_else(String::new, |it| plain::text(it.as_str())),
            session: text(&state.session),
            dashboard: (!intent.is_empty()).then(payment),
            intent,
            name,
        }
    }

    fn advice(&self, state: &State) -> Vec<Advice> {
        let dispute = texts::dispute_advice(state.dispute, self.lang);
        let dispute = dispute.map(|(what, next)| Advice {
            word: texts::dispute(state.dispute, self.lang),
            what,
            next,
        });
        let flags = state.flags.iter().map(|flag| {
            let (what, next) = texts::flag_advice(*flag, self.lang);
            Advice {
                word: texts::flag(*flag, self.lang),
                what,
                next,
            }
        });
        // An open dispute has a deadline; one that is over can wait.
        match state.dispute {
            DisputeState::Open => dispute.into_iter().chain(flags).collect(),
            DisputeState::None | DisputeState::Won | DisputeState::Lost => {
                flags.chain(dispute).collect()
            }
        }
    }

    fn money_of(&self, state: &State) -> Vec<MoneyRow> {
        let t = self.lang.texts();
        let row = |class, word, minor| MoneyRow {
            class,
            word,
            amount: self.amount(minor, state),
        };
        if !state.status.is_paid() {
            let word = match state.status {
                Status::Authorized => t.held,
                Status::Pending
                | Status::Processing
                | Status::Failed
                | Status::Canceled
                | Status::Expired
                | Status::Paid
                | Status::PartiallyRefunded
                | Status::Refunded => t.asked,
            };
            return vec![row("", word, state.amount)];
        }
        let mut rows = vec![
            row("", t.taken, state.amount),
            row("", t.back, state.refunded),
        ];
        if state.pending > 0 {
            rows.push(row("part", t.pending_back, state.pending));
        }
        if state.disputed > state.lost {
            rows.push(row("", t.disputed, state.disputed - state.lost));
        }
        if state.lost > 0 {
            rows.push(row("", t.lost, state.lost));
        }
        rows.push(row("total", t.kept, state.kept()));
        rows
    }

    fn story(&self, changes: &[Change], state: &State) -> Vec<Step> {
        let t = self.lang.texts();
        let befores = std::iter::once(None).chain(changes.iter().map(Some));
        let step = |(change, before): (&Change, Option<&Change>)| Step {
            at: moment(change.at, self.lang),
            what: self.what(before, change),
            amount: self.amounts(change, state),
            kind: plain::text(&change.event_type),
            event: plain::text(&change.event_id),
            request: match &change.request_id {
                Some(id) => format!("{} {}", t.request, plain::text(id)),
                None => t.fetched.to_owned(),
            },
        };
        changes.iter().zip(befores).map(step).collect()
    }

    /// What one step changed.
    fn what(&self, before: Option<&Change>, change: &Change) -> String {
        let t = self.lang.texts();
        let to = texts::status(change.to, self.lang);
        let mut words = match change.from {
            None => format!("{} → {to}", t.new),
            Some(from) if from == change.to => to.to_owned(),
            Some(from) => format!("{} → {to}", texts::status(from, self.lang)),
        };
        let old = before.map_or(DisputeState::None, |before| before.dispute);
        if old != change.dispute {
            words += ", ";
            words += texts::dispute(change.dispute, self.lang);
        }
        let old = before.map_or(&[][..], |before| &before.flags);
        for flag in change.flags.iter().filter(|flag| !old.contains(flag)) {
            words += ", ";
            words += texts::flag(*flag, self.lang);
        }
        for flag in old.iter().filter(|flag| !change.flags.contains(flag)) {
            words += &format!(", {} ({})", texts::flag(*flag, self.lang), t.settled);
        }
        words
    }

    fn amounts(&self, change: &Change, state: &State) -> String {
        let all = self.amount(change.amount, state);
        match change.refunded {
            0 => all,
            refunded => format!("{all}, −{}", self.amount(refunded, state)),
        }
    }

    fn told(&self, order: &StoredOrder, to: &Destination, told: &Told) -> ToldView {
        let t = self.lang.texts();
        let what = match told.version {
            Some(version) if version >= order.changed => t.told_now,
            Some(_) => t.told_earlier,
            None => t.told_not,
        };
        ToldView {
            name: to.name.clone(),
            what,
            at: told.at.map(|at| moment(at, self.lang)),
            why: plain::text(told.why.as_deref().unwrap_or_default()),
            next_try: told.next_try.map(|at| moment(at, self.lang)),
        }
    }

    // ── Health ──

    fn health(&self) -> Result<Reply, Trouble> {
        let t = self.lang.texts();
        let store = self.store()?;
        let mode = store.mode()?;
        let now = (self.site.check)(&store);
        let view = |finding: &Finding| self.finding(finding);
        let shown = HealthPage {
            frame: self.frame("/health", t.health, mode),
            parts: vec![
                Findings {
                    id: "now",
                    title: t.database_and_disk,
                    when: String::new(),
                    findings: now.iter().map(view).collect(),
                    none: "",
                },
                Findings {
                    id: "doctor",
                    title: t.doctor,
                    when: String::new(),
                    findings: Vec::new(),
                    none: t.no_doctor,
                },
            ],
        };
        page(200, &shown)
    }

    fn finding(&self, finding: &Finding) -> FindingView {
        let t = self.lang.texts();
        let (class, glyph, word) = match finding.severity {
            Severity::Good => ("good", "✓", t.good),
            Severity::Warning => ("warning", "△", t.warning),
            Severity::Problem => ("problem", "✕", t.problem),
        };
        FindingView {
            class,
            glyph,
            word,
            subject: finding.subject.to_owned(),
            what: plain::text(&finding.what),
            why: plain::text(&finding.why),
            next: plain::text(&finding.next),
        }
    }

    // ── When there is no page ──

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
        let mut reply = self.message(status, code, vec![text.to_owned()], false);
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

    fn sorry(&self, trouble: &Trouble) -> Reply {
        let t = self.lang.texts();
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        let (status, code, lines) = match trouble {
            Trouble::NotFound => (404, ErrorCode::NotFound, lines(&[t.not_found])),
            Trouble::NoSuchOrder => (404, ErrorCode::NotFound, lines(&[t.no_such_order])),
            Trouble::BadQuery => (400, ErrorCode::FieldInvalid, lines(&[t.bad_query])),
            Trouble::Store(error @ StoreError::TookLong) => {
                (503, error.code(), lines(&[t.took_long, t.took_long_next]))
            }
            Trouble::Store(error) => (
                503,
                error.code(),
                vec![
                    t.no_database.to_owned(),
                    format!("{error}."),
                    t.check_next.to_owned(),
                ],
            ),
            Trouble::Failed => (500, ErrorCode::InternalError, lines(&[t.failed])),
        };
        self.message(status, code, lines, true)
    }

    fn message(&self, status: u16, code: ErrorCode, lines: Vec<String>, is_in: bool) -> Reply {
        let shown = MessagePage {
            frame: Frame {
                is_in,
                ..self.frame("", status.to_string(), None)
            },
            lines,
        };
        let message = match status {
            500.. => Message::RequestFailed,
            _ => Message::RequestRefused,
        };
        Reply {
            error_code: Some(code),
            message,
            ..html(status, shown.render().unwrap_or_default())
        }
    }
}

fn need(what: String, next: &str) -> Need {
    Need {
        href: None,
        what,
        notes: Vec::new(),
        next: next.to_owned(),
    }
}

/// Flags, and a dispute.
fn notes(state: &State, lang: Lang) -> Vec<&'static str> {
    let dispute =
        (state.dispute != DisputeState::None).then(|| texts::dispute(state.dispute, lang));
    let flags = state.flags.iter().map(|flag| texts::flag(*flag, lang));
    dispute.into_iter().chain(flags).collect()
}

/// The address of an order's page.
fn href(order: &StoredOrder) -> String {
    let name = utf8_percent_encode(order.name.as_str(), IN_PATH);
    format!("/orders/{name}")
}

/// Sends the browser to an address of ours.
fn see(href: &str) -> Reply {
    let mut reply = html(303, String::new());
    add_head(&mut reply, &format!("Location: {href}\r\n"));
    reply
}

fn page(status: u16, template: &impl Template) -> Result<Reply, Trouble> {
    Ok(html(status, template.render()?))
}

fn html(status: u16, text: String) -> Reply {
    Reply {
        body: Body::Page {
            kind: "text/html; charset=utf-8",
            head: Cow::Borrowed(PAGE_HEAD),
            text: text.into(),
        },
        ..Reply::json(status, Message::RequestServed, "")
    }
}

fn add_head(reply: &mut Reply, line: &str) {
    if let Body::Page { head, .. } = &mut reply.body {
        head.to_mut().push_str(line);
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
