//! Durations as people write them: a whole number and one unit.

use std::time::Duration;

use anyhow::{Context, bail};

/// Reads `250ms`, `5s`, `10m`, `24h` or `7d`; a bare `0` is none at all.
///
/// # Errors
/// When the unit is missing or unknown, the number is not whole, or it is more milliseconds than an i64.
pub fn parse_duration(text: &str) -> anyhow::Result<Duration> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms: u64 = match unit.trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => bail!("`{text}` is no duration: write a number and ms, s, m, h or d, as in `5s`"),
    };
    let number: u64 = number.parse().with_context(|| format!("`{text}` has no whole number"))?;
    let ms = number.checked_mul(unit_ms).filter(|ms| i64::try_from(*ms).is_ok());
    Ok(Duration::from_millis(ms.with_context(|| format!("`{text}` is too long"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit_are_a_duration() -> anyhow::Result<()> {
        for (text, ms) in [
            ("250ms", 250),
            ("5s", 5_000),
            ("10m", 600_000),
            ("24h", 86_400_000),
            (" 7d ", 604_800_000),
            ("1 s", 1_000),
            ("0s", 0),
            ("0", 0),
        ] {
            assert_eq!(parse_duration(text)?, Duration::from_millis(ms), "{text}");
        }
        Ok(())
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", "5", "s", "-5s", "1.5h", "5 weeks", "5S", "99999999999999999999s", "9223372036854775807d"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
