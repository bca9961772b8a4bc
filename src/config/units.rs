//! Durations and sizes as people write them: `"250ms"`, `"5s"`, `"2min"`; `"64KiB"`, `"16MB"`.
//!
//! A bare number is refused (its unit would be a guess), except 0. Units of size are PostgreSQL's: kB, MB and GB are
//! powers of 1024, as in `postgresql.conf`; the same with an `i` is accepted.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// What a duration may look like, for messages.
pub const DURATION_FORM: &str = r#"a duration with its unit, like "250ms", "5s", "2min" or "1h""#;
/// What a size may look like, for messages.
pub const SIZE_FORM: &str = r#"a size with its unit, like "512B", "64KiB" or "16MB""#;

const DURATION_UNITS: [(&str, u64); 6] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("min", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];
const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1 << 10),
    ("KB", 1 << 10),
    ("KiB", 1 << 10),
    ("MB", 1 << 20),
    ("MiB", 1 << 20),
    ("GB", 1 << 30),
    ("GiB", 1 << 30),
    ("TB", 1 << 40),
];

/// Reads a duration; `None` where it has not that form.
pub fn parse_duration(text: &str) -> Option<Duration> {
    scaled(text, &DURATION_UNITS).map(Duration::from_micros)
}

/// Reads a size in bytes; `None` where it has not that form.
pub fn parse_size(text: &str) -> Option<u64> {
    scaled(text, &SIZE_UNITS)
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit = unit.trim_start();
    if unit.is_empty() {
        return (number == 0).then_some(0);
    }
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

/// A duration in the largest unit that shows it whole.
pub fn show_duration(duration: Duration) -> String {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    show_scaled(micros, &DURATION_UNITS[..5], "0s")
}

/// A size in the largest unit that shows it whole.
pub fn show_size(bytes: u64) -> String {
    show_scaled(bytes, &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)], "0B")
}

fn show_scaled(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    if value == 0 {
        return zero.to_owned();
    }
    let whole = units.iter().rev().find(|(_, factor)| value.is_multiple_of(*factor));
    whole.map_or_else(|| value.to_string(), |(name, factor)| format!("{}{name}", value / factor))
}

/// A duration as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenDuration(pub Duration);

impl<'de> Deserialize<'de> for WrittenDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let micros = deserializer.deserialize_any(Scaled { form: DURATION_FORM, units: &DURATION_UNITS })?;
        Ok(Self(Duration::from_micros(micros)))
    }
}

/// A size as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenSize(pub u64);

impl<'de> Deserialize<'de> for WrittenSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Scaled { form: SIZE_FORM, units: &SIZE_UNITS }).map(Self)
    }
}

/// Reads a number with a unit; the base unit is the first one's.
struct Scaled {
    form: &'static str,
    units: &'static [(&'static str, u64)],
}

impl Visitor<'_> for Scaled {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.form)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        scaled(text, self.units).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
        if number == 0 { Ok(0) } else { Err(E::invalid_value(de::Unexpected::Signed(number), &self)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown() {
        for (text, micros, shown) in [
            ("250us", 250, "250us"),
            ("10ms", 10_000, "10ms"),
            ("5s", 5_000_000, "5s"),
            ("90 s", 90_000_000, "90s"),
            ("2min", 120_000_000, "2min"),
            ("1h", 3_600_000_000, "1h"),
            ("0", 0, "0s"),
        ] {
            let duration = parse_duration(text);
            assert_eq!(duration, Some(Duration::from_micros(micros)), "{text}");
            assert_eq!(show_duration(duration.unwrap_or_default()), shown);
        }
    }

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, bytes, shown) in [
            ("512B", 512, "512B"),
            ("64KiB", 65_536, "64KiB"),
            ("64kB", 65_536, "64KiB"),
            ("16MB", 16 << 20, "16MiB"),
            ("1GiB", 1 << 30, "1GiB"),
            ("0", 0, "0B"),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(show_size(bytes), shown);
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in
            ["", "5", "s", "-5s", "5 parsecs", "1.5s", "5S", "99999999999999999999s", "18446744073709551615d"]
        {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
        for text in ["", "5", "kb", "5mb", "5 K", "-1B"] {
            assert_eq!(parse_size(text), None, "{text:?}");
        }
    }
}
