//! `paidup report`: what was taken, given back, lost and kept, by month or day.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;

use serde::Serialize;

use crate::base::plain;
use crate::base::time::{self, Date};
use crate::command::csv;
use crate::command::environment::Environment;
use crate::command::exit::{Exit, Failure};
use crate::command::export::CSV;
use crate::command::show::{when, write_json, write_table};
use crate::command::words::{CliOption, Command, ENV_FILE, JSON_LINES, UsageError, Words, does};
use crate::host::zone::Zone;
use crate::store::{Period, Store};
use crate::truth::money;
use crate::truth::reading::Mode;
use crate::truth::takings::Takings;

pub(crate) const COMMAND: Command = Command {
    name: "report",
    arguments: "",
    summary: "Sum up what was taken, given back, lost and kept",
    details: "By month, or by day of one month, of the time zone TZ. Money counts when Stripe says that it moved:\n\
              a refund in the month in which it was made, whenever the order was paid. A refund that failed comes\n\
              off when it failed. An order counts when its money was taken. `paidup orders export` has the\n\
              movements that add up to this. Needs DATABASE_PATH alone; the server may run meanwhile.",
    options: &[
        CliOption {
            name: "month",
            value: "MONTH",
            help: "one month by day, such as 2026-11",
        },
        CliOption {
            name: "by",
            value: "PERIOD",
            help: "day or month",
        },
        CSV,
        JSON_LINES,
        ENV_FILE,
    ],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &["paidup report", "paidup report --month 2026-11 --csv"],
    run: |words| {
        let (month, form) = (month(words)?, form(words)?);
        let by = by(words, month)?;
        does(move |env_file, out| {
            let environment = Environment::read(env_file)?;
            let zone = environment.zone();
            let days = match month {
                Some(month) => month..month.next_month(),
                None => Date::FIRST..Date::LAST,
            };
            report(&environment.store_to_read()?, by, days, &zone, form, out)
        })
    },
};

fn month(words: &Words) -> Result<Option<Date>, UsageError> {
    let Some(text) = words.value("month") else {
        return Ok(None);
    };
    let month = Date::parse(&format!("{text}-01"));
    month.map(Some).ok_or_else(|| {
        let text = plain::text(text);
        words.error(format!("--month is one such as 2026-11, not {text:?}"))
    })
}

fn by(words: &Words, month: Option<Date>) -> Result<Period, UsageError> {
    match (words.value("by"), month) {
        (Some("day"), _) | (None, Some(_)) => Ok(Period::Day),
        (Some("month"), _) | (None, None) => Ok(Period::Month),
        (Some(text), _) => {
            let text = plain::text(text);
            Err(words.error(format!("--by is day or month, not {text:?}")))
        }
    }
}

#[derive(Clone, Copy)]
enum Form {
    Text,
    Csv,
    Json,
}

fn form(words: &Words) -> Result<Form, UsageError> {
    match (words.has(CSV.name), words.has("json")) {
        (true, true) => Err(words.error("either --csv or --json")),
        (true, false) => Ok(Form::Csv),
        (false, true) => Ok(Form::Json),
        (false, false) => Ok(Form::Text),
    }
}

fn report(
    store: &Store,
    by: Period,
    days: Range<Date>,
    zone: &Zone,
    form: Form,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let rows = store.takings_by(by, days, zone)?;
    let rows = named_rows(by, rows);
    match form {
        Form::Text => write_text(&rows, by, zone, store.mode()?, out)?,
        Form::Csv => write_csv(&rows, zone, out)?,
        Form::Json => {
            for row in &rows {
                write_json(&RowJson::new(row, zone), out)?;
            }
        }
    }
    Ok(Exit::Done)
}

/// The same as text, for `paidup page`.
pub(crate) fn csv(by: Period, rows: Vec<Sum>, zone: &Zone) -> String {
    let mut out = Vec::new();
    // Writing to memory cannot fail.
    let _ = write_csv(&named_rows(by, rows), zone, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// What [`Store::takings_by`] gives.
type Sum = (Date, Box<str>, Takings);

fn named_rows(by: Period, rows: Vec<Sum>) -> Vec<Row> {
    let row = |(date, currency, takings)| Row {
        begins: date,
        period: named(by, date),
        currency,
        takings,
    };
    rows.into_iter().map(row).collect()
}

/// `2026-11-24`, or `2026-11`.
fn named(by: Period, date: Date) -> String {
    let day = date.to_string();
    match by {
        Period::Day => day,
        Period::Month => day
            .rsplit_once('-')
            .map_or(day.clone(), |(month, _)| month.to_owned()),
    }
}

struct Row {
    begins: Date,
    period: String,
    currency: Box<str>,
    takings: Takings,
}

fn write_text(
    rows: &[Row],
    by: Period,
    zone: &Zone,
    mode: Option<Mode>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let Some(first) = rows.first() else {
        writeln!(
            out,
            "No money has moved in that time. `paidup report` shows each month in which some has."
        )?;
        return Ok(());
    };
    let mut sums: BTreeMap<&str, Takings> = BTreeMap::new();
    for row in rows {
        sums.entry(&row.currency).or_default().add(&row.takings);
    }
    let mut cells: Vec<_> = rows
        .iter()
        .map(|row| cells(&row.period, &row.currency, &row.takings))
        .collect();
    if rows.len() > sums.len() {
        cells.extend(
            sums.iter()
                .map(|(currency, takings)| self::cells("all", currency, takings)),
        );
    }
    let period = match by {
        Period::Day => "DAY",
        Period::Month => "MONTH",
    };
    let heads = [period, "ORDERS", "TAKEN", "GIVEN BACK", "LOST", "KEPT"];
    write_table(heads, cells, out)?;
    if mode == Some(Mode::Test) {
        writeln!(out, "Test mode: no real money.")?;
    }
    let begins = when(zone.start_of(first.begins));
    writeln!(
        out,
        "By Stripe's time; {} begins at {begins}.",
        first.period
    )?;
    Ok(())
}

fn cells(period: &str, currency: &str, takings: &Takings) -> [String; 6] {
    let written = |minor| money::written(minor, Some(currency));
    [
        period.to_owned(),
        takings.orders.to_string(),
        written(takings.taken),
        written(takings.refunded),
        written(takings.lost),
        written(takings.kept()),
    ]
}

fn write_csv(rows: &[Row], zone: &Zone, out: &mut dyn Write) -> Result<(), Failure> {
    const HEADINGS: [&str; 12] = [
        "period",
        "begins",
        "currency",
        "orders",
        "taken",
        "refunded",
        "lost",
        "kept",
        "takenMinor",
        "refundedMinor",
        "lostMinor",
        "keptMinor",
    ];
    csv::write_row(&HEADINGS, out)?;
    for row in rows {
        let takings = &row.takings;
        let amounts = [
            takings.taken,
            takings.refunded,
            takings.lost,
            takings.kept(),
        ];
        let mut cells = vec![
            row.period.clone(),
            zone.rfc3339(zone.start_of(row.begins)),
            row.currency.to_ascii_uppercase(),
            takings.orders.to_string(),
        ];
        cells.extend(amounts.map(|minor| money::decimal(minor, &row.currency)));
        cells.extend(amounts.map(|minor| minor.to_string()));
        let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
        csv::write_row(&cells, out)?;
    }
    Ok(())
}

/// A row for programs, in minor units.
#[derive(Serialize)]
struct RowJson<'a> {
    period: &'a str,
    begins: String,
    currency: &'a str,
    orders: i64,
    taken: i64,
    refunded: i64,
    lost: i64,
    kept: i64,
}

impl<'a> RowJson<'a> {
    fn new(row: &'a Row, zone: &Zone) -> RowJson<'a> {
        let takings = &row.takings;
        RowJson {
            period: &row.period,
            begins: time::rfc3339(zone.start_of(row.begins)),
            currency: &row.currency,
            orders: takings.orders,
            taken: takings.taken,
            refunded: takings.refunded,
            lost: takings.lost,
            kept: takings.kept(),
        }
    }
}
