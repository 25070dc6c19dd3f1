//! What the commands that show orders and events have in common.
//!
//! Text from outside passes through [`plain`] before it reaches a terminal.

use std::io::{self, Write};

use serde::Serialize;

use crate::base::id::UnixSeconds;
use crate::base::{plain, time};
use crate::command::exit::Failure;

/// `2026-11-24 05:46:26`.
pub(crate) fn when(at: UnixSeconds) -> String {
    time::rfc3339(at).trim_end_matches('Z').replace('T', " ")
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

/// Writes the rows under their headings, each column as wide as its widest cell; nothing when there are
/// no rows.
pub(crate) fn write_table<const N: usize>(
    heads: [&str; N],
    rows: Vec<[String; N]>,
    out: &mut dyn Write,
) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let rows: Vec<[String; N]> = std::iter::once(heads.map(str::to_owned))
        .chain(rows)
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in &rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
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
    use crate::store::Store;
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

    #[test]
    fn the_story_of_an_order_is_told_step_by_step() {
        let mut shop = Shop::open();
        shop.pay("ord_1", "1");
        shop.pay("ord_1", "2");
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
  created  2026-11-24 06:00:59 UTC, changed 2026-11-24 06:04:00 UTC
  ! dispute open: The buyer's bank contests the payment, and the money may be withheld.
    Answer before the deadline: Dashboard → Payments → Disputes.

  2026-11-24 06:01:00  new → paid                      25.00 EUR
    checkout.session.completed     evt_1  request request-1
  2026-11-24 06:02:00  paid, double_payment            50.00 EUR
    checkout.session.completed     evt_2  request request-2
  2026-11-24 06:03:00  paid, double_payment settled    25.00 EUR
    refund.created                 evt_3  request request-3
  2026-11-24 06:04:00  paid, dispute open              25.00 EUR
    charge.dispute.created         evt_4  request request-4
";
        assert_eq!(shop.story("ord_1"), expected);
        for id in ["cs_2", "pi_1", "ch_1", "re_1", "du_1"] {
            assert_eq!(shop.story(id), expected, "{id} finds it as well");
        }
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
        let list = shop.shown(|store, out| orders::list(store, None, 9, false, out));
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
        let empty = shop.shown(|store, out| orders::list(store, None, 2, false, out));
        assert!(empty.starts_with("There is no order yet."), "{empty}");
        let empty = shop.shown(|store, out| events::list(store, None, 2, true, out));
        assert_eq!(empty, "");
        for number in ["1", "2", "3"] {
            shop.pay(&format!("ord_{number}"), number);
        }
        let expected = "\
ORDER  STATUS  AMOUNT     CHANGED (UTC)        LOOK AT
ord_3  paid    25.00 EUR  2026-11-24 06:03:00
ord_2  paid    25.00 EUR  2026-11-24 06:02:00
There are more: --limit N shows them.
";
        assert_eq!(
            shop.shown(|store, out| orders::list(store, None, 2, false, out)),
            expected
        );
        let lines = shop.shown(|store, out| orders::list(store, Some(Status::Paid), 2, true, out));
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
