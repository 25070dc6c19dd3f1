//! Amounts: in minor units for machines, and as people write them; and when they moved.

use serde::{Deserialize, Serialize};

use crate::base::id::{StripeId, UnixSeconds};

/// An amount with its currency.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Money {
    /// In the currency's smallest unit (cents; yen as they are). Never negative.
    #[serde(rename = "amount")]
    pub minor: i64,
    /// Lower-case ISO code, as Stripe writes it.
    pub currency: Box<str>,
}

/// Currencies without decimals, as Stripe sends them:
/// <https://docs.stripe.com/currencies#zero-decimal>.
const WITHOUT_DECIMALS: [&str; 15] = [
    "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf",
    "xof", "xpf",
];
/// Currencies with three: <https://docs.stripe.com/currencies#three-decimal>.
const WITH_THREE: [&str; 5] = ["bhd", "jod", "kwd", "omr", "tnd"];
/// Currencies without decimals that are sent with two, always zero:
/// <https://docs.stripe.com/currencies#special-cases>.
const SENT_WITH_TWO: [&str; 2] = ["isk", "ugx"];

/// `25.00 EUR`, `2500 JPY`, `2.500 KWD`, from an amount in minor units and Stripe's lower-case
/// code. An unknown currency is named as such.
#[must_use]
pub fn written(minor: i64, currency: Option<&str>) -> String {
    let Some(currency) = currency else {
        return match minor {
            0 => "amount not known yet".to_owned(),
            _ => format!("{minor} (minor units, currency not known yet)"),
        };
    };
    format!(
        "{} {}",
        decimal(minor, currency),
        currency.to_ascii_uppercase()
    )
}

/// The amount alone: `25.00`, `2500`, `2.500`.
#[must_use]
pub fn decimal(minor: i64, currency: &str) -> String {
    let has = |list: &[&str]| list.contains(&currency);
    if has(&WITHOUT_DECIMALS) {
        return minor.to_string();
    }
    if has(&SENT_WITH_TWO) && minor % 100 == 0 {
        return (minor / 100).to_string();
    }
    let decimals: usize = if has(&WITH_THREE) { 3 } else { 2 };
    let sign = if minor < 0 { "-" } else { "" };
    let digits = format!("{:0width$}", minor.unsigned_abs(), width = decimals + 1);
    let (whole, rest) = digits.split_at(digits.len() - decimals);
    format!("{sign}{whole}.{rest}")
}

/// How money moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Move {
    /// From the buyer to the shop.
    Taken,
    /// Back to the buyer; less than nothing when a refund failed and came back.
    Refunded,
    /// Back to the buyer by a dispute that the shop has lost.
    Lost,
}

impl Move {
    /// The word for it, everywhere.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Move::Taken => "taken",
            Move::Refunded => "refunded",
            Move::Lost => "lost",
        }
    }
}

/// One movement of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Movement<'a> {
    pub(crate) at: UnixSeconds,
    pub(crate) way: Move,
    /// In minor units.
    pub(crate) minor: i64,
    /// The charge, intent, refund or dispute that it is, if that is known.
    pub(crate) object: Option<&'a StripeId>,
}

/// Cuts what goes beyond `total`: what moved first counts first.
pub(super) fn up_to(total: i64, mut movements: Vec<Movement<'_>>) -> Vec<Movement<'_>> {
    movements.sort_by_key(|movement| (movement.at, movement.object));
    let mut left = total;
    for movement in &mut movements {
        movement.minor = movement.minor.min(left);
        left -= movement.minor;
    }
    movements.retain(|movement| movement.minor > 0);
    movements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_currency_has_its_own_decimals() {
        for (minor, currency, expected) in [
            (2500, "eur", "25.00 EUR"),
            (5, "usd", "0.05 USD"),
            (0, "usd", "0.00 USD"),
            (123_456_789, "gbp", "1234567.89 GBP"),
            (2500, "jpy", "2500 JPY"),
            (0, "krw", "0 KRW"),
            (5120, "kwd", "5.120 KWD"),
            (7, "tnd", "0.007 TND"),
            (500, "isk", "5 ISK"),
            (500, "ugx", "5 UGX"),
            (537, "isk", "5.37 ISK"),
            (1000, "huf", "10.00 HUF"),
            (1000, "twd", "10.00 TWD"),
            (2500, "usdc", "25.00 USDC"),
            (-150, "eur", "-1.50 EUR"),
            (-5, "eur", "-0.05 EUR"),
            (i64::MIN, "eur", "-92233720368547758.08 EUR"),
        ] {
            assert_eq!(written(minor, Some(currency)), expected);
        }
    }

    #[test]
    fn an_unknown_currency_is_said_to_be_unknown() {
        assert_eq!(written(0, None), "amount not known yet");
        assert_eq!(
            written(2500, None),
            "2500 (minor units, currency not known yet)"
        );
    }
}
