//! What the commands that show orders and events have in common.
//!
//! Text from outside passes through [`plain`] before it reaches a terminal.

use std::io::{self, Write};
use std::iter;
use std::ops::Range;
use std::sync::OnceLock;

use serde::Serialize;

use crate::base::id::UnixSeconds;
use crate::base::plain;
use crate::command::exit::Failure;
use crate::command::screen::{self, Tone, columns, painted};
use crate::host::zone::Zone;

/// The time zone in which people read: set once, before a command shows anything.
static ZONE: OnceLock<Zone> = OnceLock::new();

/// Shows times in that zone from now on.
pub(crate) fn read_in(zone: Zone) {
    let _ = ZONE.set(zone);
}

/// `2026-11-24 06:46:26 +01:00`: how people read a time, in every command.
pub(crate) fn when(at: UnixSeconds) -> String {
    match ZONE.get() {
        Some(zone) => zone.written(at),
        None => Zone::default().written(at),
    }
}

/// An id as it is pasted into a shell.
pub(crate) fn pasted(id: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
    let text = plain::text(id);
    match !id.starts_with('-') && id.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// `1 event`, `2 events`.
pub(crate) fn counted(count: usize, one: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {one}{s}")
}

/// `12.5 MiB`, or `40 KiB` of what is smaller: never nothing of something.
pub(crate) fn size(bytes: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    const GIB: u64 = 1024 * MIB;
    match bytes {
        0 => "0 bytes".to_owned(),
        _ if bytes < MIB => format!("{} KiB", bytes.div_ceil(1024)),
        _ if bytes < GIB => format!("{}.{} MiB", bytes / MIB, bytes % MIB * 10 / MIB),
        _ => format!("{}.{} GiB", bytes / GIB, bytes % GIB * 10 / GIB),
    }
}

/// Cuts `rows` to `limit` and says whether there were more.
pub(crate) fn cut<T>(rows: &mut Vec<T>, limit: u32) -> bool {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    has_more
}

pub(crate) fn write_has_more(has_more: bool, out: &mut dyn Write) -> io::Result<()> {
    match has_more {
        true => writeln!(out, "There are more: --limit N shows them."),
        false => Ok(()),
    }
}

/// Columns of ids, which a terminal may shorten: `--json` has them whole.
const SHORTENED: [&str; 2] = ["ORDER", "EVENT"];
/// What is left of an id at least.
const SHORTENED_MIN: usize = 12;

/// Writes the rows under their headings, each column as wide as its widest cell; nothing when there are
/// no rows. On a terminal that is too narrow, long ids are shortened, and then what still does not
/// fit stands on a line below.
pub(crate) fn write_table<const N: usize>(
    heads: [&str; N],
    rows: Vec<[String; N]>,
    out: &mut dyn Write,
) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut rows: Vec<Vec<String>> = rows.into_iter().map(Vec::from).collect();
    rows.insert(0, heads.map(str::to_owned).to_vec());
    let screen = screen::width();
    if let Some(screen) = screen {
        shorten(&heads, &mut rows, screen);
    }
    let widths = widths(&rows);
    let lines = lines(&widths, screen.unwrap_or(usize::MAX));
    for (row, is_head) in rows.iter().zip(iter::once(true).chain(iter::repeat(false))) {
        for (number, line) in lines.iter().enumerate() {
            let cells = row.iter().zip(&widths).skip(line.start).take(line.len());
            let cells = cells.map(|(cell, width)| {
                let gap = width.saturating_sub(columns(cell));
                format!("{cell}{:gap$}", "")
            });
            let text = cells.collect::<Vec<_>>().join("  ");
            let indent = if number == 0 { "" } else { BELOW };
            let tone = if is_head { Tone::Head } else { Tone::Plain };
            match text.trim_end() {
                "" => {}
                text => writeln!(out, "{indent}{}", painted(text, tone))?,
            }
        }
    }
    Ok(())
}

const BELOW: &str = "  ";

fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let count = rows.first().map_or(0, Vec::len);
    let cells = |column: usize| rows.iter().filter_map(move |row| row.get(column));
    let width = |column| cells(column).map(|cell| columns(cell)).max();
    (0..count)
        .map(|column| width(column).unwrap_or_default())
        .collect()
}

/// Which columns stand on one line.
fn lines(widths: &[usize], screen: usize) -> Vec<Range<usize>> {
    let (mut lines, mut start, mut used) = (Vec::new(), 0, 0);
    for (column, width) in widths.iter().enumerate() {
        if column > start && used + 2 + width > screen {
            lines.push(start..column);
            (start, used) = (column, BELOW.len() + width);
        } else {
            used += width + if column > start { 2 } else { 0 };
        }
    }
    lines.push(start..widths.len());
    lines
}

/// Makes ids shorter, the longest first, until all fits. Where it does not even then, an id gets what its
/// line has room for.
fn shorten(heads: &[&str], rows: &mut [Vec<String>], screen: usize) {
    let whole = rows.to_vec();
    shorten_all(heads, rows, screen);
    let widths = widths(rows);
    let lines = lines(&widths, screen);
    if lines.len() == 1 {
        return;
    }
    for (number, line) in lines.iter().enumerate() {
        let indent = if number == 0 { 0 } else { BELOW.len() };
        let used = widths
            .iter()
            .skip(line.start)
            .take(line.len())
            .map(|width| width + 2);
        let used = indent + used.sum::<usize>().saturating_sub(2);
        let mut columns = heads
            .iter()
            .zip(&widths)
            .enumerate()
            .skip(line.start)
            .take(line.len());
        let id = columns.find(|(_, (head, _))| SHORTENED.contains(head));
        if let Some((column, (_, width))) = id {
            let to = width + screen.saturating_sub(used);
            for (row, whole) in rows.iter_mut().zip(&whole) {
                if let (Some(cell), Some(whole)) = (row.get_mut(column), whole.get(column)) {
                    *cell = shortened(whole, to);
                }
            }
        }
    }
}

fn shorten_all(heads: &[&str], rows: &mut [Vec<String>], screen: usize) {
    loop {
        let widths = widths(rows);
        let all = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
        let ids = heads.iter().zip(&widths).enumerate();
        let ids =
            ids.filter(|(_, (head, width))| SHORTENED.contains(head) && **width > SHORTENED_MIN);
        let Some((column, (_, width))) = ids.max_by_key(|(_, (_, width))| **width) else {
            return;
        };
        if all <= screen {
            return;
        }
        let to = width.saturating_sub(all - screen).max(SHORTENED_MIN);
        for cell in rows.iter_mut().filter_map(|row| row.get_mut(column)) {
            *cell = shortened(cell, to);
        }
    }
}

/// Both ends of it: the ids of one kind begin alike.
fn shortened(id: &str, to: usize) -> String {
    let count = id.chars().count();
    if count <= to {
        return id.to_owned();
    }
    let end = (to - 1) / 2;
    let start: String = id.chars().take(to - 1 - end).collect();
    let end: String = id.chars().skip(count - end).collect();
    format!("{start}…{end}")
}

pub(crate) fn write_json(value: &impl Serialize, out: &mut dyn Write) -> Result<(), Failure> {
    let json = serde_json::to_string(value).map_err(io::Error::from)?;
    writeln!(out, "{}", plain::json(&json))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;
    use crate::base::id::RequestId;
    use crate::command::exit::Exit;
    use crate::command::{events, orders};
    use crate::page::texts::{self, Lang};
    use crate::store::{Store, Wanted};
    use crate::truth::delivery::Delivery;
    use crate::truth::event::Event;
    use crate::truth::order::{Flag, Status};
    use crate::truth::reading::Reading;

    /// 2026-11-24T06:00:00Z
    const START: i64 = 1_795_500_000;

    /// A database in which each event came a minute after the one before.
    struct Shop {
        store: Store,
        events: i64,
        _folder: TempDir,
    }

    impl Shop {
        fn open() -> Shop {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(&folder.path().join("paidup.db")).unwrap();
            Shop {
                store,
                events: 0,
                _folder: folder,
            }
        }

        fn tell(&mut self, kind: &str, object: &Value) {
            self.events += 1;
            let number = self.events;
            let at = START + 60 * number;
            let event = json!({"id": format!("evt_{number}"), "type": kind, "created": at - 1,
                               "data": {"object": object}});
            let delivery = Delivery {
                event: Event::from_json(&event.to_string(), &Reading::default()).unwrap(),
                sha256: [7; 32],
                request_id: RequestId::parse(&format!("request-{number}")).ok(),
                received: UnixSeconds(at),
            };
            self.store.record(&[delivery]).unwrap().remove(0).unwrap();
        }

        fn pay(&mut self, order: &str, number: &str) {
            let session = json!({"id": format!("cs_{number}"), "mode": "payment",
                "payment_status": "paid", "client_reference_id": order, "amount_total": 2500,
                "currency": "eur", "payment_intent": format!("pi_{number}")});
            self.tell("checkout.session.completed", &session);
        }

        fn shown(&self, show: impl Fn(&Store, &mut dyn Write) -> Result<Exit, Failure>) -> String {
            let mut out = Vec::new();
            assert_eq!(show(&self.store, &mut out).unwrap(), Exit::Done);
            String::from_utf8(out).unwrap()
        }

        fn story(&self, id: &str) -> String {
            self.shown(|store, out| orders::show(store, id, false, out))
        }
    }

    fn listed(
        store: &Store,
        status: Option<Status>,
        limit: u32,
        json: bool,
        out: &mut dyn Write,
    ) -> Result<Exit, Failure> {
        let list = orders::List {
            limit,
            json,
            again: "paidup orders list".to_owned(),
            ..orders::List::default()
        };
        let wanted = Wanted {
            status,
            ..Wanted::default()
        };
        list.write(store, &wanted, out)
    }

    #[test]
    fn the_story_of_an_order_is_told_step_by_step() {
        let mut shop = Shop::open();
        shop.pay("ord_1", "1");
        shop.pay("ord_1", "2");
        let twice = shop.story("ord_1");
        let payments =
            "\n  payments\n    pi_1  25.00 EUR  session cs_1\n    pi_2  25.00 EUR  session cs_2\n";
        assert!(twice.contains(payments), "{twice}");
        let refund = json!({"id": "re_1", "amount": 2500, "status": "succeeded", "charge": "ch_2",
            "payment_intent": "pi_2", "created": START});
        shop.tell("refund.created", &refund);
        let dispute = json!({"id": "du_1", "status": "needs_response", "charge": "ch_1",
            "payment_intent": "pi_1"});
        shop.tell("charge.dispute.created", &dispute);
        let expected = "\
Order ord_1 is paid
  money    25.00 EUR taken, 25.00 EUR disputed
  session  cs_1
  intent   pi_1
  created  2026-11-24 06:00:59 +00:00, changed 2026-11-24 06:04:00 +00:00
  ! dispute open: The buyer's bank contests the payment, and the money may be withheld.
    Answer before the deadline: Dashboard → Payments → Disputes.

  2026-11-24 06:01:00 +00:00  new → paid                      25.00 EUR
    checkout.session.completed     evt_1  request request-1
  2026-11-24 06:02:00 +00:00  paid, double_payment            50.00 EUR
    checkout.session.completed     evt_2  request request-2
  2026-11-24 06:03:00 +00:00  paid, double_payment settled    25.00 EUR
    refund.created                 evt_3  request request-3
  2026-11-24 06:04:00 +00:00  paid, dispute open              25.00 EUR
    charge.dispute.created         evt_4  request request-4
";
        assert_eq!(shop.story("ord_1"), expected);
        for id in ["cs_2", "pi_1", "ch_1", "re_1", "du_1"] {
            assert_eq!(shop.story(id), expected, "{id} finds it as well");
        }
        let won =
            json!({"id": "du_1", "status": "won", "charge": "ch_1", "payment_intent": "pi_1"});
        shop.tell("charge.dispute.closed", &won);
        let story = shop.story("ord_1");
        assert!(
            story.contains("\n  dispute  won: ") && !story.contains('!'),
            "{story}"
        );
        let list = shop.shown(|store, out| listed(store, None, 9, false, out));
        assert!(!list.contains("dispute"), "{list}");
    }

    #[test]
    fn every_flag_says_what_it_means_and_what_to_do() {
        for flag in Flag::ALL {
            let (what, next) = texts::flag_advice(flag, Lang::En);
            assert!(what.ends_with('.') && next.ends_with('.'), "{flag:?}");
        }
        let mut shop = Shop::open();
        shop.pay("ord_1", "1");
        let charge = json!({"id": "ch_1", "amount": 2000, "amount_refunded": 0, "captured": true,
            "currency": "eur", "payment_intent": "pi_1"});
        shop.tell("charge.succeeded", &charge);
        assert!(
            shop.story("ord_1")
                .contains("! amount_mismatch: What was taken is not")
        );
        let list = shop.shown(|store, out| listed(store, None, 9, false, out));
        assert_eq!(
            list.lines().nth(1).unwrap().split("  ").last(),
            Some("amount_mismatch")
        );
    }

    #[test]
    fn json_has_exactly_the_promised_fields() {
        let mut shop = Shop::open();
        shop.pay("ord_1", "1");
        let text = shop.shown(|store, out| orders::show(store, "ord_1", true, out));
        let order: Value = serde_json::from_str(&text).unwrap();
        let expected = json!({"orderId": "ord_1", "status": "paid", "dispute": "none",
            "amount": 2500, "amountRefunded": 0, "amountRefundPending": 0, "amountDisputed": 0, "amountKept": 2500, "reference": null, "currency": "eur", "stripeSessionId": "cs_1",
            "stripePaymentIntentId": "pi_1", "flags": [], "createdAt": "2026-11-24T06:00:59Z",
            "updatedAt": "2026-11-24T06:01:00Z", "history": [{"at": "2026-11-24T06:01:00Z",
                "from": null, "to": "paid", "dispute": "none", "amount": 2500, "amountRefunded": 0,
                "flags": [], "eventId": "evt_1", "eventType": "checkout.session.completed",
                "requestId": "request-1"}]});
        assert_eq!(order, expected);

        let text = shop.shown(|store, out| events::show(store, "evt_1", true, out));
        let event: Value = serde_json::from_str(&text).unwrap();
        let expected = json!({"eventId": "evt_1", "eventType": "checkout.session.completed",
            "createdAt": "2026-11-24T06:00:59Z", "receivedAt": "2026-11-24T06:01:00Z",
            "objectId": "cs_1", "orderId": "ord_1", "outcome": "applied", "reason": null,
            "requestId": "request-1", "sha256": "07".repeat(32)});
        assert_eq!(event, expected);
    }

    #[test]
    fn lists_are_cut_newest_first_and_say_so() {
        let mut shop = Shop::open();
        let empty = shop.shown(|store, out| listed(store, None, 2, false, out));
        assert!(empty.starts_with("There is no order yet."), "{empty}");
        let empty = shop.shown(|store, out| events::list(store, None, 2, true, out));
        assert_eq!(empty, "");
        for number in ["1", "2", "3"] {
            shop.pay(&format!("ord_{number}"), number);
        }
        let expected = "\
ORDER  STATUS  AMOUNT     CREATED                     LOOK AT
ord_3  paid    25.00 EUR  2026-11-24 06:02:59 +00:00
ord_2  paid    25.00 EUR  2026-11-24 06:01:59 +00:00
There are more: `paidup orders list --before 1795500119-2`
";
        assert_eq!(
            shop.shown(|store, out| listed(store, None, 2, false, out)),
            expected
        );
        let lines = shop.shown(|store, out| listed(store, Some(Status::Paid), 2, true, out));
        assert_eq!(lines.lines().count(), 2);
        let events = shop.shown(|store, out| events::list(store, Some("pi_2"), 9, false, out));
        assert_eq!(events.lines().count(), 2, "{events}");
        assert!(
            events.contains("checkout.session.completed  applied  ord_2  evt_2"),
            "{events}"
        );
        let story = shop.shown(|store, out| events::show(store, "evt_2", false, out));
        assert!(story.contains("applied: it told something new"), "{story}");
    }

    #[test]
    fn numbers_have_their_words() {
        for (count, words) in [(0, "0 events"), (1, "1 event"), (2, "2 events")] {
            assert_eq!(counted(count, "event"), words);
        }
        for (bytes, words) in [
            (0, "0 bytes"),
            (1, "1 KiB"),
            (40_960, "40 KiB"),
            (1_048_575, "1024 KiB"),
            (1_048_576, "1.0 MiB"),
            (13_107_200, "12.5 MiB"),
            (37_357_614_080, "34.7 GiB"),
        ] {
            assert_eq!(size(bytes), words);
        }
    }

    #[test]
    fn a_table_fits_its_terminal() {
        assert_eq!(
            shortened("evt_1j0WIj3KHY7pQ2eZvKY9LEnEDln", 12),
            "evt_1j…nEDln"
        );
        assert_eq!(shortened("ord_1", 12), "ord_1");
        let row = |order: &str| vec![order.to_owned(), "paid".to_owned(), "x".repeat(20)];
        let mut rows = vec![row("ORDER"), row(&"o".repeat(40)), row("ord_1")];
        shorten(&["ORDER", "STATUS", "LOOK AT"], &mut rows, 50);
        assert_eq!(widths(&rows), [22, 4, 20]);
        assert_eq!(rows[2][0], "ord_1");
        shorten_all(&["ORDER", "STATUS", "LOOK AT"], &mut rows, 20);
        assert_eq!(widths(&rows), [12, 4, 20]);
        let mut rows = vec![row("ORDER"), row(&"o".repeat(40)), row("ord_1")];
        shorten(&["ORDER", "STATUS", "LOOK AT"], &mut rows, 30);
        assert_eq!(widths(&rows), [24, 4, 20], "its line has room");
        assert_eq!(lines(&[12, 4, 20], 40).len(), 1);
        assert_eq!(lines(&[12, 4, 20], 30), [0..2, 2..3]);
        assert_eq!(lines(&[12, 4, 20], 5), [0..1, 1..2, 2..3]);
    }

    #[test]
    fn what_is_not_there_is_said_with_a_hint() {
        let shop = Shop::open();
        let mut out = Vec::new();
        let failure = orders::show(&shop.store, "\u{1b}[2J", false, &mut out).unwrap_err();
        assert!(
            failure.to_string().contains("`paidup orders list`"),
            "{failure}"
        );
        assert!(!failure.to_string().contains('\u{1b}'));
        assert_eq!(failure.exit(), Exit::Failed);
        assert!(events::show(&shop.store, "evt_0", true, &mut out).is_err());
        assert!(events::list(&shop.store, Some("ord_0"), 9, true, &mut out).is_err());
        assert_eq!(out, b"");
    }
}
