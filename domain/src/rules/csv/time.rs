//! Times as cells write them, with the zone of the mapping where they tell no offset.

use std::fmt::Write as _;
use std::str::FromStr;

use chrono::format::{Item, Parsed, StrftimeItems, parse};
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};
use chrono_tz::Tz;

use crate::limits::CSV_PATTERN_CHARS_MAX;
use crate::rules::instant;

const NO_TIME: &str = "is no time in the format of the mapping";
const NO_OFFSET: &str = "tells no offset, and the mapping no timeZone";
const SKIPPED: &str = "does not exist in the timeZone of the mapping: the clocks go forward over it";

/// How the times of a file are written.
#[derive(Debug, Clone)]
pub(super) struct Times {
    notation: Notation,
    zone: Option<Tz>,
}

#[derive(Debug, Clone)]
enum Notation {
    /// RFC 3339, or `YYYY-MM-DD`, or `YYYY-MM-DD HH:MM[:SS]`, with a blank or `T`.
    Common,
    /// Of so many milliseconds, since 1970.
    Unix(i64),
    /// What the items of a pattern say.
    Pattern(Vec<Item<'static>>),
}

impl Times {
    /// Times in this format and zone; none when either is not known.
    pub(super) fn new(format: Option<&str>, zone: Option<&str>) -> Option<Self> {
        let notation = match format {
            None => Notation::Common,
            Some("unix_s") => Notation::Unix(1_000),
            Some("unix_ms") => Notation::Unix(1),
            Some(pattern) => Notation::Pattern(items(pattern)?),
        };
        let zone = zone.map(Tz::from_str).transpose().ok()?;
        Some(Self { notation, zone })
    }

    /// Reads a cell as RFC 3339. A local time that the clocks show twice is the earlier of the two.
    pub(super) fn read(&self, cell: &str) -> Result<String, &'static str> {
        let cell = cell.trim_ascii();
        let ms = match &self.notation {
            Notation::Common => match common(cell) {
                Some(local) => self.at(local)?,
                None if instant::parse(cell).is_some() => return Ok(cell.to_owned()),
                None => return Err(NO_TIME),
            },
            Notation::Unix(unit_ms) => unix(cell, *unit_ms).ok_or(NO_TIME)?,
            Notation::Pattern(items) => self.by_pattern(cell, items)?,
        };
        if instant::is_in_range(ms) { Ok(instant::format(ms)) } else { Err(instant::RULE) }
    }

    fn by_pattern(&self, cell: &str, items: &[Item<'static>]) -> Result<i64, &'static str> {
        let mut parsed = Parsed::new();
        parse(&mut parsed, cell, items.iter()).map_err(|_| NO_TIME)?;
        if let Some(seconds) = parsed.timestamp() {
            let nanos = i64::from(parsed.nanosecond().unwrap_or_default());
            return seconds.checked_mul(1_000).map(|ms| ms + nanos / 1_000_000).ok_or(NO_TIME);
        }
        let date = parsed.to_naive_date().map_err(|_| NO_TIME)?;
        let tells_no_time = parsed.hour_div_12().is_none()
            && parsed.hour_mod_12().is_none()
            && parsed.minute().is_none()
            && parsed.second().is_none();
        let time =
            if tells_no_time { NaiveTime::MIN } else { parsed.to_naive_time().map_err(|_| NO_TIME)? };
        let local = date.and_time(time);
        match parsed.offset() {
            Some(seconds) => Ok(local.and_utc().timestamp_millis() - i64::from(seconds) * 1_000),
            None => self.at(local),
        }
    }

    /// The instant of a local time.
    fn at(&self, local: NaiveDateTime) -> Result<i64, &'static str> {
        let zone = self.zone.ok_or(NO_OFFSET)?;
        let instant = zone.from_local_datetime(&local).earliest().ok_or(SKIPPED)?;
        Ok(instant.timestamp_millis())
    }
}

/// The items of a pattern that can be read, and that tell a date at least.
fn items(pattern: &str) -> Option<Vec<Item<'static>>> {
    if pattern.is_empty() || pattern.chars().count() > CSV_PATTERN_CHARS_MAX {
        return None;
    }
    let items = StrftimeItems::new(pattern).parse_to_owned().ok()?;
    let sample = DateTime::from_timestamp(981_173_106, 0)?.fixed_offset();
    let mut written = String::new();
    write!(written, "{}", sample.format_with_items(items.iter())).ok()?;
    let times = Times { notation: Notation::Common, zone: Some(Tz::UTC) };
    times.by_pattern(&written, &items).ok()?;
    Some(items)
}

/// `YYYY-MM-DD`, or with a blank or `T` and `HH:MM[:SS[.f…]]` behind it.
fn common(text: &str) -> Option<NaiveDateTime> {
    let bytes = text.as_bytes();
    let number = |from: usize, length: usize| {
        bytes
            .get(from..from + length)?
            .iter()
            .try_fold(0_u32, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
    };
    let is = |at: usize, what: &[u8]| bytes.get(at).is_some_and(|byte| what.contains(byte));
    if !(is(4, b"-") && is(7, b"-")) {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(i32::try_from(number(0, 4)?).ok()?, number(5, 2)?, number(8, 2)?)?;
    if bytes.len() == 10 {
        return Some(date.and_time(NaiveTime::MIN));
    }
    if !(is(10, b" Tt") && is(13, b":")) {
        return None;
    }
    let (hour, minute) = (number(11, 2)?, number(14, 2)?);
    if bytes.len() == 16 {
        return date.and_hms_opt(hour, minute, 0);
    }
    let second = if is(16, b":") { number(17, 2)? } else { return None };
    let ms = match bytes.get(19..)? {
        [] => 0,
        [b'.', digits @ ..] => thousandths(digits)?,
        _ => return None,
    };
    date.and_hms_milli_opt(hour, minute, second, ms)
}

/// Milliseconds of the digits behind a decimal point, truncated.
fn thousandths(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| digits.get(at).map_or(0, |byte| u32::from(byte - b'0'));
    Some(digit(0) * 100 + digit(1) * 10 + digit(2))
}

/// A number of units of so many milliseconds, truncated to milliseconds.
fn unix(text: &str, unit_ms: i64) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, thousandths(fraction.as_bytes())?),
        None => (digits, 0),
    };
    if !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let ms = whole.parse::<i64>().ok()?.checked_mul(unit_ms)?;
    Some(sign * ms.checked_add(i64::from(fraction) * unit_ms / 1_000)?)
}
