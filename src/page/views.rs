//! What the pages show, and their templates, which are checked when they are compiled.

use askama::Template;

use super::moment::Moment;
use super::plot::Plot;
use super::texts::{Lang, Texts};
use crate::truth::reading::Mode;

/// What stands around every page.
pub(super) struct Frame {
    pub(super) t: &'static Texts,
    pub(super) lang: Lang,
    pub(super) title: String,
    /// The address of the style sheet.
    pub(super) style: String,
    /// Where this is in the navigation; nothing for whoever was not let in.
    pub(super) here: &'static str,
    /// Whether the reader was let in.
    pub(super) is_in: bool,
    pub(super) mode: Option<Mode>,
    pub(super) now: String,
    pub(super) version: &'static str,
}

impl Frame {
    fn at(&self, path: &str) -> bool {
        self.here == path
    }
}

/// A status, told by word, shape and colour.
pub(super) struct StatusView {
    pub(super) class: &'static str,
    pub(super) glyph: &'static str,
    pub(super) word: &'static str,
}

/// An order in a list.
pub(super) struct Row {
    pub(super) href: String,
    pub(super) name: String,
    pub(super) status: StatusView,
    pub(super) amount: String,
    /// Empty when nothing was.
    pub(super) back: String,
    pub(super) since: Moment,
    pub(super) notes: Vec<&'static str>,
}

/// Something that needs a human.
pub(super) struct Need {
    pub(super) href: Option<String>,
    pub(super) what: String,
    pub(super) notes: Vec<&'static str>,
    pub(super) next: String,
}

/// What was taken in a time.
pub(super) struct Figure {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) lines: Vec<FigureLine>,
}

/// The same of one currency.
pub(super) struct FigureLine {
    pub(super) amount: String,
    pub(super) under: String,
}

/// Thirty days of one currency.
pub(super) struct Days {
    pub(super) currency: String,
    pub(super) plot: Plot,
    pub(super) rows: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "home.html", config = "src/page/askama.toml")]
pub(super) struct Home {
    pub(super) frame: Frame,
    pub(super) needs: Vec<Need>,
    /// More orders need attention than are shown.
    pub(super) more: bool,
    pub(super) figures: Vec<Figure>,
    pub(super) plots: Vec<Days>,
    pub(super) newest: Vec<Row>,
}

/// What the form says.
#[derive(Default)]
pub(super) struct FilterView {
    pub(super) id: String,
    pub(super) begins: String,
    pub(super) status: &'static str,
    pub(super) attention: bool,
}

#[derive(Template)]
#[template(path = "orders.html", config = "src/page/askama.toml")]
pub(super) struct Orders {
    pub(super) frame: Frame,
    pub(super) filter: FilterView,
    pub(super) statuses: Vec<(&'static str, &'static str)>,
    pub(super) note: Option<&'static str>,
    pub(super) rows: Vec<Row>,
    /// The next page, if there is one.
    pub(super) next: Option<String>,
}

/// What a flag or a dispute means.
pub(super) struct Advice {
    pub(super) word: &'static str,
    pub(super) what: &'static str,
    pub(super) next: &'static str,
}

/// A line of an order's money.
pub(super) struct MoneyRow {
    pub(super) class: &'static str,
    pub(super) word: &'static str,
    pub(super) amount: String,
}

/// A step of an order's story.
pub(super) struct Step {
    pub(super) at: Moment,
    pub(super) what: String,
    pub(super) amount: String,
    pub(super) kind: String,
    pub(super) event: String,
    pub(super) request: String,
}

/// A payment at Stripe.
pub(super) struct PaymentView {
    pub(super) id: String,
    /// What it took and what was given back; empty when there is no other.
    pub(super) amounts: String,
    /// Where Stripe shows it.
    pub(super) href: String,
}

/// What one destination has heard of an order.
pub(super) struct ToldView {
    pub(super) name: String,
    pub(super) what: &'static str,
    pub(super) at: Option<Moment>,
    pub(super) why: String,
    pub(super) next_try: Option<Moment>,
}

#[derive(Template)]
#[template(path = "order.html", config = "src/page/askama.toml")]
pub(super) struct OrderPage {
    pub(super) frame: Frame,
    pub(super) name: String,
    pub(super) status: StatusView,
    /// What the status means, where it does not say so itself.
    pub(super) means: &'static str,
    pub(super) changed: Moment,
    pub(super) advice: Vec<Advice>,
    pub(super) money: Vec<MoneyRow>,
    pub(super) story: Vec<Step>,
    pub(super) told: Vec<ToldView>,
    pub(super) reference: String,
    pub(super) session: String,
    pub(super) payments: Vec<PaymentView>,
}

/// A day or a month of one currency.
pub(super) struct Period {
    pub(super) when: String,
    pub(super) orders: String,
    pub(super) taken: String,
    pub(super) back: String,
    pub(super) lost: String,
    pub(super) kept: String,
}

/// One currency.
pub(super) struct CurrencyView {
    pub(super) currency: String,
    pub(super) plot: Plot,
    pub(super) rows: Vec<Period>,
}

#[derive(Template)]
#[template(path = "money.html", config = "src/page/askama.toml")]
pub(super) struct MoneyPage {
    pub(super) frame: Frame,
    pub(super) by_month: bool,
    pub(super) csv: &'static str,
    pub(super) currencies: Vec<CurrencyView>,
}

/// What was found at one time.
pub(super) struct Findings {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// How long ago; empty for now.
    pub(super) when: String,
    pub(super) findings: Vec<FindingView>,
    /// What to say when there are none.
    pub(super) none: &'static str,
}

/// One finding.
pub(super) struct FindingView {
    pub(super) class: &'static str,
    pub(super) glyph: &'static str,
    pub(super) word: &'static str,
    pub(super) subject: String,
    pub(super) what: String,
    pub(super) why: String,
    pub(super) next: String,
}

#[derive(Template)]
#[template(path = "health.html", config = "src/page/askama.toml")]
pub(super) struct HealthPage {
    pub(super) frame: Frame,
    pub(super) parts: Vec<Findings>,
}

#[derive(Template)]
#[template(path = "message.html", config = "src/page/askama.toml")]
pub(super) struct MessagePage {
    pub(super) frame: Frame,
    pub(super) lines: Vec<&'static str>,
    /// What the store says, in English.
    pub(super) said: String,
}

#[expect(unreachable_pub, reason = "the macro's own")]
mod filters {
    use std::fmt::Display;

    use askama::Values;
    use askama::filters::{Html, escape};

    /// What stands between backticks as code; all of it escaped.
    #[askama::filter_fn]
    pub(super) fn code(text: impl Display, _: &dyn Values) -> askama::Result<String> {
        let text = escape(text.to_string(), Html)?.to_string();
        let mut html = String::with_capacity(text.len());
        for (index, part) in text.split('`').enumerate() {
            if index > 0 {
                html.push_str(if index % 2 == 1 { "<code>" } else { "</code>" });
            }
            html.push_str(part);
        }
        Ok(html)
    }
}
