//! Reads durations as people write them, such as `5s` or `1h 30m`.

use std::time::Duration;

use anyhow::{Context, ensure};

/// Reads a duration in the notation of the humantime crate: numbers with units, such as `250ms`, `5s`,
/// `10m`, `24h`, `7d` or `1h 30m`. A bare `0` is zero.
///
/// # Errors
/// If a unit is missing or unknown, or the duration is more milliseconds than an i64 holds.
pub fn parse_duration(text: &str) -> anyhow::Result<Duration> {
    let text = text.trim();
    let duration = humantime::parse_duration(text).with_context(|| {
        format!("`{text}` is not a duration: write a number and ms, s, m, h or d, for example `5s`")
    })?;
    ensure!(i64::try_from(duration.as_millis()).is_ok(), "`{text}` is too long");
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_are_a_duration() -> anyhow::Result<()> {
        for (text, ms) in [
            ("250ms", 250),
            ("5s", 5_000),
            ("10m", 600_000),
            ("24h", 86_400_000),
            (" 7d ", 604_800_000),
            ("1 s", 1_000),
            ("1h 30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("0s", 0),
            ("0", 0),
        ] {
            assert_eq!(parse_duration(text)?, Duration::from_millis(ms), "{text}");
        }
        Ok(())
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "5", "s", "-5s", "5 moons", "5S", "99999999999999999999s", "9223372036854775807d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
