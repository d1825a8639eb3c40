//! Reads the times in the cells of a CSV. Times without an offset are in the time zone of the mapping.

use std::str::FromStr;

use chrono::{DateTime, Duration, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone};
use chrono_tz::{OffsetName, Tz};
use domain::instant;

use super::fold::Fold;
use super::header::shorten_name;
use super::offset;
use super::pattern::{ParsedTime, Pattern, WrittenZone};

const NO_TIME: &str =
    "is no time: RFC 3339, YYYY-MM-DD or YYYY-MM-DD HH:MM[:SS[.fff]], and perhaps an offset";
const NO_OFFSET: &str = "has no offset, and the mapping has no timeZone";
const SKIPPED_TIME: &str = "does not exist in the timeZone of the mapping: the clocks go forward and skip it";
const SKIPPED_DAY: &str = "does not exist in the timeZone of the mapping: the calendar skips this day";

/// How the times in the cells of a CSV are read: their notation, and the time zone of the mapping.
#[derive(Debug, Clone)]
pub(super) struct Times {
    notation: Notation,
    zone: Option<Tz>,
    /// Computed once, because every row needs it and computing it takes up to 28 µs.
    needs_order: bool,
}

#[derive(Debug, Clone)]
enum Notation {
    /// RFC 3339, `YYYY-MM-DD`, or `YYYY-MM-DD HH:MM[:SS]` with a blank or `T` and optionally an offset.
    Common,
    /// A number of units since 1970. The value is the milliseconds of one unit: 1 000 or 1.
    Unix(i64),
    /// The notation of a pattern.
    Pattern(Pattern),
}

impl Times {
    /// Checks the time format and the time zone of a mapping. `None` as the format stands for RFC 3339 and
    /// similar times.
    ///
    /// # Errors
    /// The detail of a problem if the format is wrong or the time zone is unknown.
    pub(super) fn new(format: Option<&str>, zone: Option<&str>) -> Result<Self, String> {
        let notation = match format {
            None => Notation::Common,
            Some("unix_s") => Notation::Unix(1_000),
            Some("unix_ms") => Notation::Unix(1),
            Some(pattern) => Notation::Pattern(Pattern::new(pattern)?),
        };
        let zone = zone.map(Tz::from_str).transpose().map_err(|_| "is not a known zone")?;
        let always_has_offset = match &notation {
            Notation::Common => false,
            Notation::Unix(_) => true,
            Notation::Pattern(pattern) => pattern.always_has_offset(),
        };
        let needs_order = !always_has_offset && zone.is_some_and(has_offset_changes);
        Ok(Self { notation, zone, needs_order })
    }

    /// Whether the order of the rows may decide which of two instants a time means. That is so if times may
    /// have no offset, and the offset of the time zone of the mapping changes.
    pub(super) fn needs_row_order(&self) -> bool {
        self.needs_order
    }

    /// The local time in a cell without an offset or a zone, and whether it is ambiguous in the time zone of
    /// the mapping. `None` for any other cell, or if the mapping has no time zone.
    pub(super) fn parse_local_time_and_ambiguity(&self, cell: &str) -> Option<(NaiveDateTime, bool)> {
        let zone = self.zone?;
        let Ok(ParsedTime::Local { date, time, zone: WrittenZone::None }) =
            self.parse_time(cell.trim_ascii())
        else {
            return None;
        };
        let local = date.and_time(time.unwrap_or(NaiveTime::MIN));
        // A date alone means the first of two midnights.
        let is_ambiguous =
            time.is_some() && matches!(zone.from_local_datetime(&local), chrono::LocalResult::Ambiguous(..));
        Some((local, is_ambiguous))
    }

    /// Reads a cell as epoch milliseconds. `fold` decides which instant an ambiguous local time means.
    ///
    /// # Errors
    /// The detail of a problem if the cell is not a time, or its instant cannot be determined.
    pub(super) fn read_epoch_ms(&self, cell: &str, fold: Fold) -> Result<i64, String> {
        let ms = match self.parse_time(cell.trim_ascii())? {
            ParsedTime::Instant(ms) => ms,
            ParsedTime::Local { date, time, zone: WrittenZone::Offset(seconds) } => {
                let local = date.and_time(time.unwrap_or(NaiveTime::MIN));
                local.and_utc().timestamp_millis() - i64::from(seconds) * 1_000
            }
            ParsedTime::Local { date, time, zone: WrittenZone::Named(zone) } => {
                epoch_ms_of_local_time(zone, date, time, fold)?
            }
            ParsedTime::Local { date, time, zone: WrittenZone::Abbreviation(name) } => {
                epoch_ms_of_abbreviated_zone(self.zone, date.and_time(time.unwrap_or(NaiveTime::MIN)), &name)?
            }
            ParsedTime::Local { date, time, zone: WrittenZone::None } => {
                epoch_ms_of_local_time(self.zone.ok_or(NO_OFFSET)?, date, time, fold)?
            }
        };
        if instant::is_in_range(ms) { Ok(ms) } else { Err(instant::RULE.to_owned()) }
    }

    fn parse_time(&self, cell: &str) -> Result<ParsedTime, String> {
        match &self.notation {
            Notation::Common => {
                let rfc_3339 = || instant::parse(cell).map(|written| ParsedTime::Instant(written.ms));
                parse_common_notation(cell).or_else(rfc_3339).ok_or_else(|| NO_TIME.to_owned())
            }
            Notation::Unix(unit_ms) => {
                let name = if *unit_ms == 1 { "milliseconds" } else { "seconds" };
                let read = parse_unix_time(cell, *unit_ms).map(ParsedTime::Instant);
                read.ok_or_else(|| format!("is no number of {name} since 1970"))
            }
            Notation::Pattern(pattern) => pattern.read_time(cell),
        }
    }
}

/// Whether the offset of a time zone ever changes, judged by its offset in each month.
fn has_offset_changes(zone: Tz) -> bool {
    let month = |n: i64| DateTime::from_timestamp((n - 840) * 2_629_746, 0).unwrap_or_default();
    let offset = |n| zone.offset_from_utc_datetime(&month(n).naive_utc()).fix();
    (1..1_680).any(|n| offset(n) != offset(0))
}

/// The instant of a local time in a time zone, in epoch milliseconds. Without a time, it is the first instant
/// of the day. `fold` decides if the time is ambiguous.
///
/// # Errors
/// The detail of a problem if the time zone skips that time or day.
fn epoch_ms_of_local_time(
    zone: Tz,
    date: NaiveDate,
    time: Option<NaiveTime>,
    fold: Fold,
) -> Result<i64, &'static str> {
    let local = date.and_time(time.unwrap_or(NaiveTime::MIN));
    let instant = match (zone.from_local_datetime(&local), fold, time) {
        (chrono::LocalResult::Ambiguous(_, later), Fold::Later, Some(_)) => later,
        (chrono::LocalResult::Single(one) | chrono::LocalResult::Ambiguous(one, _), ..) => one,
        (chrono::LocalResult::None, _, Some(_)) => return Err(SKIPPED_TIME),
        (chrono::LocalResult::None, _, None) => {
            first_instant_after(zone, local).filter(|first| first.date_naive() == date).ok_or(SKIPPED_DAY)?
        }
    };
    Ok(instant.timestamp_millis())
}

/// The first instant at which the local time is later than `local`, which the time zone skips.
fn first_instant_after(zone: Tz, local: NaiveDateTime) -> Option<DateTime<Tz>> {
    // The offset of any time zone is at most 26 hours from UTC, including a day that it skips.
    let local_at =
        |seconds: i64| Some(zone.from_utc_datetime(&DateTime::from_timestamp(seconds, 0)?.naive_utc()));
    let around = Duration::hours(26).num_seconds();
    let (mut before, mut after) =
        (local.and_utc().timestamp() - around, local.and_utc().timestamp() + around);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if local_at(middle)?.naive_local() < local {
            before = middle;
        } else {
            after = middle;
        }
    }
    local_at(after)
}

/// The instant, in epoch milliseconds, of a local time with a zone abbreviation such as `PST`. The time zone
/// of the mapping must use the abbreviation at that time.
///
/// # Errors
/// The detail of a problem if it does not, or if it skips that time.
fn epoch_ms_of_abbreviated_zone(zone: Option<Tz>, local: NaiveDateTime, name: &str) -> Result<i64, String> {
    let unknown = || {
        format!(
            "has the zone {:?}, whose offset is not known: several time zones use that abbreviation, and the \
             timeZone of the mapping does not use it at that time",
            shorten_name(name)
        )
    };
    let zone = zone.ok_or_else(unknown)?;
    let candidates = match zone.from_local_datetime(&local) {
        chrono::LocalResult::None => return Err(SKIPPED_TIME.to_owned()),
        chrono::LocalResult::Single(one) => [Some(one), None],
        chrono::LocalResult::Ambiguous(earlier, later) => [Some(earlier), Some(later)],
    };
    let named = candidates.into_iter().flatten().find(|at| at.offset().abbreviation() == Some(name));
    named.map(|at| at.timestamp_millis()).ok_or_else(unknown)
}

/// Reads `YYYY-MM-DD`, or the same with a blank or `T`, `HH:MM[:SS[.f…]]`, and optionally an offset. `None`
/// if the text is of another form.
fn parse_common_notation(text: &str) -> Option<ParsedTime> {
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
        return Some(ParsedTime::Local { date, time: None, zone: WrittenZone::None });
    }
    if !(is(10, b" Tt") && is(13, b":")) {
        return None;
    }
    let (hour, minute) = (number(11, 2)?, number(14, 2)?);
    let (second, ms, end) = if is(16, b":") {
        let digits = if is(19, b".,") {
            bytes[20..].iter().take_while(|byte| byte.is_ascii_digit()).count()
        } else {
            0
        };
        match (digits, is(19, b".,")) {
            (0, true) => return None,
            (0, false) => (number(17, 2)?, 0, 19),
            _ => (number(17, 2)?, fraction_to_milliseconds(&bytes[20..20 + digits])?, 20 + digits),
        }
    } else {
        (0, 0, 16)
    };
    let time = NaiveTime::from_hms_milli_opt(hour, minute, second, ms)?;
    let zone = match text.get(end..)?.trim_start() {
        "" => WrittenZone::None,
        rest => match offset::read_utc_offset(rest)? {
            (seconds, "") => WrittenZone::Offset(seconds),
            _ => return None,
        },
    };
    Some(ParsedTime::Local { date, time: Some(time), zone })
}

/// Milliseconds of the digits of a fraction of a second; `None` if they are not digits. Digits after the
/// third are dropped.
fn fraction_to_milliseconds(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| digits.get(at).map_or(0, |byte| u32::from(byte - b'0'));
    Some(digit(0) * 100 + digit(1) * 10 + digit(2))
}

/// Reads a number of units since 1970, and returns it in milliseconds. One unit has `unit_ms` milliseconds.
/// Fractions of a millisecond are dropped.
fn parse_unix_time(text: &str, unit_ms: i64) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, fraction_to_milliseconds(fraction.as_bytes())?),
        None => (digits, 0),
    };
    if !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let ms = whole.parse::<i64>().ok()?.checked_mul(unit_ms)?;
    Some(sign * ms.checked_add(i64::from(fraction) * unit_ms / 1_000)?)
}
