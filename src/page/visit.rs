//! One look at one page: what it needs of the database, and the answer that it becomes.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use askama::Template;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::moment::{Moment, minute};
use super::sums::Sums;
use super::texts::{self, Lang};
use super::views::{Frame, MessagePage, Row, StatusView};
use crate::base::finding::Finding;
use crate::base::id::UnixSeconds;
use crate::base::log_line::{ErrorCode, Message};
use crate::base::plain;
use crate::base::time::Date;
use crate::host::clock::Now;
use crate::host::zone::Zone;
use crate::http::exchange::{Body, Page, Reply};
use crate::store::{Period, Store, StoreError, StoredOrder};
use crate::truth::money;
use crate::truth::order::{DisputeState, State, Status};
use crate::truth::reading::Mode;
use crate::truth::takings::Takings;

/// How long one page may read the database.
const LOOK: Duration = Duration::from_secs(2);

/// In an address, everything else is encoded.
pub(super) const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
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
pub(super) const CSV_HEAD: &str = concat!(
    secure!(),
    "Cache-Control: no-store\r\nContent-Disposition: attachment; filename=\"paidup-money.csv\"\r\n"
);
/// The hash is in its address.
pub(super) const STYLE_HEAD: &str = concat!(
    secure!(),
    "Cache-Control: private, max-age=31536000, immutable\r\n"
);

/// What `paidup check` finds of database and disk, for the page of the health.
pub(crate) type Check = Box<dyn Fn(&Store) -> Vec<Finding> + Send + Sync>;

/// Takings as `paidup report --csv` writes them.
pub(crate) type Csv = Box<dyn Fn(Period, Vec<(Date, Box<str>, Takings)>) -> String + Send + Sync>;

/// What the pages take from the commands of the same names.
pub(crate) struct Sources {
    /// In which people read.
    pub(crate) zone: Zone,
    pub(crate) check: Check,
    pub(crate) csv: Csv,
}

/// What all pages are of.
pub(super) struct Site {
    pub(super) database: PathBuf,
    pub(super) sources: Sources,
    /// The address of the style sheet.
    pub(super) style: String,
}

/// Why there is no page.
pub(super) enum Trouble {
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
pub(super) struct Visit<'a> {
    pub(super) site: &'a Site,
    pub(super) lang: Lang,
    pub(super) now: Now,
}

impl Visit<'_> {
    /// The database, for a look that has to be over soon.
    pub(super) fn store(&self) -> Result<Store, Trouble> {
        let deadline = self.now.instant + LOOK;
        Ok(Store::open_to_look(&self.site.database, deadline)?)
    }

    pub(super) fn frame(
        &self,
        here: &'static str,
        title: impl Into<String>,
        mode: Option<Mode>,
    ) -> Frame {
        let now = self.minute(self.now.unix);
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

    pub(super) fn sums<'a>(&'a self, store: &'a Store) -> Sums<'a> {
        Sums {
            store,
            zone: &self.site.sources.zone,
            lang: self.lang,
            today: self.today(),
        }
    }

    pub(super) fn today(&self) -> Date {
        self.site.sources.zone.date(self.now.unix)
    }

    pub(super) fn minute(&self, at: UnixSeconds) -> Moment {
        minute(at, &self.site.sources.zone, self.lang)
    }

    pub(super) fn row(&self, order: &StoredOrder) -> Row {
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
            since: self.minute(state.since),
            notes: notes(state, self.lang),
        }
    }

    pub(super) fn status(&self, status: Status) -> StatusView {
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

    pub(super) fn amount(&self, minor: i64, state: &State) -> String {
        self.amount_in(minor, state.currency.as_deref())
    }

    pub(super) fn amount_in(&self, minor: i64, currency: Option<&str>) -> String {
        match currency {
            Some(_) => texts::amount(&money::written(minor, currency), self.lang),
            None => "–".to_owned(),
        }
    }

    // ── When there is no page ──

    pub(super) fn sorry(&self, trouble: &Trouble) -> Reply {
        let t = self.lang.texts();
        let mut said = String::new();
        let (status, code, lines) = match trouble {
            Trouble::NotFound => (404, ErrorCode::NotFound, vec![t.not_found]),
            Trouble::NoSuchOrder => (404, ErrorCode::NotFound, vec![t.no_such_order]),
            Trouble::BadQuery => (400, ErrorCode::FieldInvalid, vec![t.bad_query]),
            Trouble::Store(error @ StoreError::TookLong) => {
                (503, error.code(), vec![t.took_long, t.took_long_next])
            }
            Trouble::Store(error) => {
                said = format!("{error}.");
                (503, error.code(), vec![t.no_database, t.check_next])
            }
            Trouble::Failed => (500, ErrorCode::InternalError, vec![t.failed]),
        };
        self.message(status, code, (lines, said), true)
    }

    /// `lines` are in the reader's language, and what follows them in English.
    pub(super) fn message(
        &self,
        status: u16,
        code: ErrorCode,
        (lines, said): (Vec<&'static str>, String),
        is_in: bool,
    ) -> Reply {
        let shown = MessagePage {
            frame: Frame {
                is_in,
                ..self.frame("", status.to_string(), None)
            },
            lines,
            said,
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

/// Flags, and a dispute.
pub(super) fn notes(state: &State, lang: Lang) -> Vec<&'static str> {
    let dispute =
        (state.dispute != DisputeState::None).then(|| texts::dispute(state.dispute, lang));
    let flags = state.flags.iter().map(|flag| texts::flag(*flag, lang));
    dispute.into_iter().chain(flags).collect()
}

/// The address of an order's page.
pub(super) fn href(order: &StoredOrder) -> String {
    let name = utf8_percent_encode(order.name.as_str(), IN_PATH);
    format!("/orders/{name}")
}

/// Sends the browser to an address of ours.
pub(super) fn see(href: &str) -> Reply {
    let mut reply = html(303, String::new());
    add_head(&mut reply, &format!("Location: {href}\r\n"));
    reply
}

pub(super) fn page(status: u16, template: &impl Template) -> Result<Reply, Trouble> {
    Ok(html(status, template.render()?))
}

pub(super) fn html(status: u16, text: String) -> Reply {
    Reply {
        body: Body::Page(Box::new(Page {
            kind: "text/html; charset=utf-8",
            head: Cow::Borrowed(PAGE_HEAD),
            text: text.into(),
        })),
        ..Reply::json(status, Message::RequestServed, "")
    }
}

pub(super) fn add_head(reply: &mut Reply, line: &str) {
    if let Body::Page(page) = &mut reply.body {
        page.head.to_mut().push_str(line);
    }
}
