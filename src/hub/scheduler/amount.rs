//! A number of agents, or a share of them. Pure.

use serde::{Deserialize, Serialize};

/// A number of agents, or a share of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "AmountForm", into = "AmountForm")]
pub enum Amount {
    /// So many.
    Number(u32),
    /// So many of a hundred.
    Percent(u8),
}

/// An amount in JSON: a number, or a text such as `"5%"`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "expected a number of agents, or a share of them such as \"5%\"")]
pub enum AmountForm {
    /// So many.
    Number(u32),
    /// A share, from `0%` to `100%`.
    Percent(Share),
}

/// The text of a share.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(pattern = "^([0-9]{1,9}|0*(100|[0-9]{1,2})%)$")]
pub struct Share(String);

/// A text that is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no amount: write a number of agents, or a share of them from \"0%\" to \"100%\"")]
pub struct BadAmount(String);

impl TryFrom<AmountForm> for Amount {
    type Error = BadAmount;

    fn try_from(form: AmountForm) -> Result<Self, BadAmount> {
        match form {
            AmountForm::Number(number) => Ok(Self::Number(number)),
            AmountForm::Percent(Share(text)) => text.parse(),
        }
    }
}

impl From<Amount> for AmountForm {
    fn from(amount: Amount) -> Self {
        match amount {
            Amount::Number(number) => Self::Number(number),
            Amount::Percent(_) => Self::Percent(Share(amount.to_string())),
        }
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl std::str::FromStr for Amount {
    type Err = BadAmount;

    fn from_str(text: &str) -> Result<Self, BadAmount> {
        let bad = || BadAmount(text.to_owned());
        let digits = text.strip_suffix('%').unwrap_or(text);
        // `parse` takes a sign.
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad());
        }
        match text.ends_with('%') {
            true => digits.parse().ok().filter(|percent| *percent <= 100).map(Self::Percent).ok_or_else(bad),
            false => digits.parse().map(Self::Number).map_err(|_| bad()),
        }
    }
}

impl Amount {
    /// Returns how many of `total` that is: no more than all; a share is rounded down.
    pub fn of(self, total: u32) -> u32 {
        match self {
            Self::Number(number) => number.min(total),
            Self::Percent(percent) => {
                let share = u64::from(total) * u64::from(percent) / 100;
                u32::try_from(share).unwrap_or(total)
            }
        }
    }

    /// Returns the same, but at least one.
    pub fn at_least_one_of(self, total: u32) -> u32 {
        self.of(total).max(1)
    }

    /// Returns the smallest total of which it is at least `number`; `u32::MAX` where there is none.
    pub fn total_for(self, number: u32) -> u32 {
        match self {
            Self::Number(own) if own >= number => number,
            Self::Number(_) | Self::Percent(0) => u32::MAX,
            Self::Percent(percent) => {
                let total = (u64::from(number) * 100).div_ceil(u64::from(percent));
                u32::try_from(total).unwrap_or(u32::MAX)
            }
        }
    }

    /// Returns whether that is none, whatever the total.
    pub const fn is_none(self) -> bool {
        matches!(self, Self::Number(0) | Self::Percent(0))
    }

    /// Returns whether it is more than another one, whatever the total; `None` if that depends on the total.
    pub const fn is_more_than(self, other: Self) -> Option<bool> {
        match (self, other) {
            (Self::Number(one), Self::Number(other)) => Some(one > other),
            (Self::Percent(one), Self::Percent(other)) => Some(one > other),
            (Self::Number(_), Self::Percent(_)) | (Self::Percent(_), Self::Number(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_down_and_a_number_is_at_most_all() {
        let of = |text: &str, total| text.parse::<Amount>().unwrap().of(total);
        assert_eq!([of("5%", 99), of("100%", 7), of("3", 2), of("0%", 9)], [4, 7, 2, 0]);
        assert_eq!("5%".parse::<Amount>().unwrap().at_least_one_of(3), 1);
    }

    #[test]
    fn the_total_for_a_number_is_the_smallest_that_has_it() {
        for amount in ["3%", "10%", "33%", "100%", "0%", "4"].map(|text| text.parse::<Amount>().unwrap()) {
            for number in 1..60 {
                let total = amount.total_for(number);
                let is_none = (1..5_000).all(|total| amount.of(total) < number);
                assert_eq!(total == u32::MAX, is_none, "{amount} {number}");
                assert!(is_none || (amount.of(total) >= number && amount.of(total - 1) < number), "{amount} {number}");
            }
        }
    }

    #[test]
    fn what_is_no_amount_is_refused_with_what_is_expected() {
        for text in ["\"101%\"", "\"\"", "\"%\"", "\"+5%\"", "-1", "true", "1.5"] {
            let refused = serde_json::from_str::<Amount>(text).unwrap_err().to_string();
            assert!(refused.contains("share of them"), "{text}: {refused}");
        }
        let percent: Amount = serde_json::from_str("\"5%\"").unwrap();
        assert_eq!(serde_json::to_string(&[percent, Amount::Number(2)]).unwrap(), "[\"5%\",2]");
    }
}
