//! Rates and durations as an operator writes them: `10/second`, `5d`, `1h30m`.

use std::str::FromStr;
use std::time::Duration;

use crate::decode::number;
use crate::diagnostics::ValueError;

/// The unit of a [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RateUnit {
    /// Each second.
    Second,
    /// Each minute.
    Minute,
    /// Each hour.
    Hour,
    /// Each day.
    Day,
}

impl RateUnit {
    /// The unit's length.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86400,
        })
    }

    /// The word written behind the slash.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// So many packets (or messages) in a unit of time; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In what time.
    pub unit: RateUnit,
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.count, self.unit.name())
    }
}

impl FromStr for Rate {
    type Err = ValueError;

    /// Reads `10/second`; the unit may be cut short as in iptables, down to `10/s`.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error =
            || ValueError::new(format!("`{text}` is no rate; write it as 10/second (or minute, hour, day)"));
        let (count, unit) = text.split_once('/').ok_or_else(error)?;
        let (count, unit) = (count.trim(), unit.trim());
        let units = [RateUnit::Second, RateUnit::Minute, RateUnit::Hour, RateUnit::Day];
        let known = units.into_iter().find(|u| !unit.is_empty() && u.name().starts_with(unit));
        match (number(count), known) {
            (Some(0), Some(_)) => Err(ValueError::new(format!("`{text}` would never let anything pass"))),
            (Some(count), Some(unit)) => Ok(Self { count, unit }),
            _ => Err(error()),
        }
    }
}

/// Reads a duration: a number of seconds, or numbers with units (`w d h m s`) as in `1h30m`. Whole seconds, at most
/// 2^31 - 1, which is what the kernel's timeouts hold.
pub fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    let error = || {
        ValueError::new(format!("`{text}` is no duration; write it as 30s, 10m, 1h30m or 5d, or in seconds"))
    };
    let mut seconds: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (count, tail) = rest.split_at(digits);
        let count = u64::from(number(count).ok_or_else(error)?);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let factor = match unit {
            "" if seconds == 0 && tail.is_empty() && digits == text.len() => 1,
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86400,
            "w" => 604_800,
            _ => return Err(error()),
        };
        seconds = seconds.saturating_add(count.saturating_mul(factor));
        rest = tail;
    }
    match seconds {
        _ if text.is_empty() => Err(error()),
        0..=0x7fff_ffff => Ok(Duration::from_secs(seconds)),
        _ => Err(ValueError::new(format!("`{text}` is too long (limit {} seconds)", i32::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            ("30", Some(30)),
            ("0", Some(0)),
            ("30s", Some(30)),
            ("1h30m", Some(5400)),
            ("5d", Some(432_000)),
            ("1w", Some(604_800)),
            ("", None),
            ("s", None),
            ("1h30", None),
            ("30 s", None),
            ("1.5h", None),
            ("-3", None),
            ("99999999999d", None),
            ("4000w", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text).ok().map(|d| d.as_secs()), expected, "{text}");
        }
    }

    #[test]
    fn rates() {
        let cases = [
            ("10/second", Some((10, RateUnit::Second))),
            ("1/m", Some((1, RateUnit::Minute))),
            ("3 / hour", Some((3, RateUnit::Hour))),
            ("7/day", Some((7, RateUnit::Day))),
            ("0/second", None),
            ("10", None),
            ("10/", None),
            ("10/week", None),
            ("/second", None),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse().ok(), expected.map(|(count, unit)| Rate { count, unit }), "{text}");
        }
    }
}
