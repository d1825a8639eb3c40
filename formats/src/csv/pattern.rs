//! Reads times by a strptime pattern.
//!
//! The specifiers are those of POSIX `strptime` (IEEE Std 1003.1-2017) and the usual extensions of C
//! libraries, Python and chrono. chrono reads most of them.
//!
//! This module reads the specifiers that chrono reads in another way than users of strptime expect. chrono
//! takes `%f` for nanoseconds, skips any text at `%Z`, and reads `24` as the year 24 with `%Y`. It has
//! another pivot for `%y`, requires minutes with `%z`, and allows no sign with `%s`.

mod specifiers;

use std::str::FromStr;

use chrono::format::{Item, ParseErrorKind, Parsed, StrftimeItems, parse_and_remainder};
use chrono::{NaiveDate, NaiveTime};
use chrono_tz::Tz;
use domain::limits::CSV_PATTERN_CHARS_MAX;

use super::offset;
use specifiers::{SpecifierLetters, expand_composites, specifier_letter, split_into_tokens};

/// A strptime pattern for the times in a CSV. It was checked when it was created.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    parts: Vec<Part>,
    /// The pattern as it was given.
    text: String,
}

/// One part of a strptime pattern.
#[derive(Debug, Clone)]
enum Part {
    /// Literal text and all other specifiers, which chrono reads.
    Items(Vec<Item<'static>>),
    /// `%Y`: four digits.
    Year,
    /// `%G`: four digits.
    WeekYear,
    /// `%y`: two digits; 69 to 99 are 1969 to 1999, 00 to 68 are 2000 to 2068.
    ShortYear,
    /// `%g`: like `%y`.
    ShortWeekYear,
    /// `%f`: the digits after a decimal point.
    Fraction,
    /// `%s`: seconds since 1970. chrono reads them only without a sign.
    Epoch,
    /// `%z`: `Z`, `+01`, `+0100` or `+01:00`.
    Offset,
    /// `%Z`: the name of a time zone.
    Zone,
}

/// The time in a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ParsedTime {
    /// An instant, in epoch milliseconds.
    Instant(i64),
    /// A local date, with or without a time.
    Local { date: NaiveDate, time: Option<NaiveTime>, zone: WrittenZone },
}

/// The time zone in a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WrittenZone {
    /// The cell has no zone.
    None,
    /// An offset from UTC, in seconds. UTC and GMT are the offset 0.
    Offset(i32),
    /// A time zone of the IANA database.
    Named(Tz),
    /// An abbreviation such as `PST`, which several time zones may use.
    Abbreviation(String),
}

impl Pattern {
    /// Checks a strptime pattern, which must give at least a date.
    ///
    /// # Errors
    /// The detail of a problem: an unknown specifier and its alternative, or the part of a date that is
    /// missing.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if text.chars().count() > CSV_PATTERN_CHARS_MAX {
            return Err(format!("has more than {CSV_PATTERN_CHARS_MAX} characters"));
        }
        let mut parts = PartsBuilder::default();
        let mut letters = SpecifierLetters::default();
        for token in split_into_tokens(&expand_composites(text)?)? {
            letters.add_letter_of_token(token);
            parts.push_token(token);
        }
        letters.check_date_and_time_complete()?;
        Ok(Self { parts: parts.into_parts(), text: text.to_owned() })
    }

    /// Reads a cell by the pattern. A cell without a time gives a local date.
    ///
    /// # Errors
    /// The detail of a problem if the cell does not match the pattern, or is not a time.
    pub(super) fn read_time(&self, cell: &str) -> Result<ParsedTime, String> {
        let mut parsed = Parsed::new();
        let mut zone = WrittenZone::None;
        let mut is_negative = false;
        let mut rest = cell;
        for part in &self.parts {
            rest = match part {
                Part::Items(items) => parse_and_remainder(&mut parsed, rest, items.iter())
                    .map_err(|error| self.mismatch_detail(error.kind()))?,
                Part::Year | Part::WeekYear => {
                    let (year, rest) = read_digits(rest.trim_start(), 4..=4)
                        .ok_or_else(|| self.year_mismatch_detail(rest))?;
                    let set = if matches!(part, Part::Year) { Parsed::set_year } else { Parsed::set_isoyear };
                    set(&mut parsed, year).map_err(|error| self.mismatch_detail(error.kind()))?;
                    rest
                }
                Part::ShortYear | Part::ShortWeekYear => {
                    let read = read_digits(rest.trim_start(), 1..=2);
                    let (year, rest) = read.ok_or_else(|| self.mismatch_detail(ParseErrorKind::Invalid))?;
                    let year = year + if year < 69 { 2_000 } else { 1_900 };
                    let is_year = matches!(part, Part::ShortYear);
                    let set = if is_year { Parsed::set_year } else { Parsed::set_isoyear };
                    set(&mut parsed, year).map_err(|error| self.mismatch_detail(error.kind()))?;
                    rest
                }
                Part::Fraction => {
                    let length = rest.bytes().take_while(u8::is_ascii_digit).count();
                    let (fraction, rest) = rest.split_at(length);
                    let nanos = fraction_to_nanoseconds(fraction)
                        .ok_or_else(|| self.mismatch_detail(ParseErrorKind::Invalid))?;
                    parsed.set_nanosecond(nanos).map_err(|error| self.mismatch_detail(error.kind()))?;
                    rest
                }
                Part::Epoch => {
                    let end = rest.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(rest.len());
                    let (seconds, rest) = rest.split_at(end);
                    is_negative = seconds.starts_with('-');
                    let seconds =
                        seconds.parse().map_err(|_| self.mismatch_detail(ParseErrorKind::Invalid))?;
                    parsed.set_timestamp(seconds).map_err(|error| self.mismatch_detail(error.kind()))?;
                    rest
                }
                Part::Offset => {
                    let read = offset::read_utc_offset(rest.trim_start());
                    let (seconds, rest) = read.ok_or_else(|| offset_mismatch_detail(rest))?;
                    zone = WrittenZone::Offset(seconds);
                    rest
                }
                Part::Zone => {
                    let (read, rest) = read_zone_or_offset(rest.trim_start())
                        .ok_or("has no known time zone at the place of %Z")?;
                    // An offset is more precise than the name next to it.
                    if !matches!(zone, WrittenZone::Offset(_)) {
                        zone = read;
                    }
                    rest
                }
            };
        }
        if !rest.is_empty() {
            return Err(self.mismatch_detail(ParseErrorKind::TooLong));
        }
        if is_negative && parsed.nanosecond().is_some() {
            return Err("has a fraction after a negative number of seconds, which unix_s reads".to_owned());
        }
        self.to_parsed_time(&mut parsed, zone)
    }

    /// Whether every time that the pattern reads has an offset or needs none.
    pub(super) fn always_has_offset(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Offset | Part::Epoch))
    }

    fn to_parsed_time(&self, parsed: &mut Parsed, zone: WrittenZone) -> Result<ParsedTime, String> {
        if let Some(seconds) = parsed.timestamp() {
            let nanos = i64::from(parsed.nanosecond().unwrap_or_default());
            let ms = seconds.checked_mul(1_000).and_then(|ms| ms.checked_add(nanos / 1_000_000));
            return ms
                .map(ParsedTime::Instant)
                .ok_or_else(|| self.mismatch_detail(ParseErrorKind::OutOfRange));
        }
        let date = parsed.to_naive_date().map_err(|error| self.mismatch_detail(error.kind()))?;
        let has_hour = parsed.hour_div_12().is_some() || parsed.hour_mod_12().is_some();
        if has_hour && parsed.minute().is_none() {
            parsed.set_minute(0).map_err(|error| self.mismatch_detail(error.kind()))?;
        }
        let time = if has_hour {
            Some(parsed.to_naive_time().map_err(|error| self.mismatch_detail(error.kind()))?)
        } else {
            None
        };
        Ok(ParsedTime::Local { date, time, zone })
    }

    /// The text of the error for a cell that does not match the pattern.
    fn mismatch_detail(&self, kind: ParseErrorKind) -> String {
        let reason = match kind {
            ParseErrorKind::Impossible => ": its parts contradict each other",
            ParseErrorKind::OutOfRange => ": a part of it is out of range",
            ParseErrorKind::TooLong => ": something follows it",
            _ => "",
        };
        format!("is no time of the form {:?}{reason}", self.text)
    }

    fn year_mismatch_detail(&self, rest: &str) -> String {
        let length = rest.trim_start().bytes().take_while(u8::is_ascii_digit).count();
        if length == 2 {
            return "has a year of two digits, which %y reads; %Y reads four".to_owned();
        }
        self.mismatch_detail(ParseErrorKind::Invalid)
    }
}

/// Collects the parts of a pattern.
#[derive(Default)]
struct PartsBuilder {
    parts: Vec<Part>,
    /// Specifiers and text for the next part that chrono reads.
    pending: String,
}

impl PartsBuilder {
    fn push_token(&mut self, token: &str) {
        let part = match specifier_letter(token) {
            Some('Y') => Part::Year,
            Some('G') => Part::WeekYear,
            Some('y') => Part::ShortYear,
            Some('g') => Part::ShortWeekYear,
            Some('f') if token == "%f" => Part::Fraction,
            Some('s') => Part::Epoch,
            Some('z') => Part::Offset,
            Some('Z') => Part::Zone,
            // With `%B` and `%A` chrono also reads short names. With `%b` and `%a` it reads short names only.
            Some('b' | 'h') => return self.pending.push_str("%B"),
            Some('a') => return self.pending.push_str("%A"),
            _ => return self.pending.push_str(token),
        };
        self.flush_pending();
        self.parts.push(part);
    }

    fn flush_pending(&mut self) {
        let text = std::mem::take(&mut self.pending);
        if let Ok(items) = StrftimeItems::new(&text).parse_to_owned()
            && !items.is_empty()
        {
            self.parts.push(Part::Items(items));
        }
    }

    fn into_parts(mut self) -> Vec<Part> {
        self.flush_pending();
        self.parts
    }
}

/// Reads a number of this many digits at the beginning of a text. Returns it and the text after it.
fn read_digits(text: &str, count: std::ops::RangeInclusive<usize>) -> Option<(i64, &str)> {
    let length = text.bytes().take(*count.end()).take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(length);
    if count.contains(&length) { digits.parse().ok().map(|number| (number, rest)) } else { None }
}

/// The text of the error for a cell that has no UTC offset at the place of `%z`.
fn offset_mismatch_detail(rest: &str) -> &'static str {
    if rest.starts_with(['.', ',']) {
        "has a fraction of a second before its offset, which %.f reads"
    } else {
        "has no offset such as +01:00 or Z at the place of %z"
    }
}

/// Nanoseconds of the digits of a fraction of a second; `None` without digits. Digits after the ninth are
/// dropped.
fn fraction_to_nanoseconds(digits: &str) -> Option<i64> {
    if digits.is_empty() {
        return None;
    }
    let nine = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
    Some(nine.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
}

/// Reads the UTC offset, time zone name or abbreviation with which a text begins. Returns it and the text
/// after it. `None` if there is none, or if a name with a slash is not known.
fn read_zone_or_offset(text: &str) -> Option<(WrittenZone, &str)> {
    if let Some((seconds, rest)) = offset::read_utc_offset(text).filter(|_| !text.starts_with(['Z', 'z'])) {
        return Some((WrittenZone::Offset(seconds), rest));
    }
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '+' | '-');
    let length = text.find(|c: char| !is_in_name(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(length);
    let zone = match name.to_ascii_uppercase().as_str() {
        "" => return None,
        "UTC" | "GMT" | "UT" | "Z" | "ZULU" => WrittenZone::Offset(0),
        // Without a slash it may be an abbreviation: EST means different offsets in New York and in Sydney.
        _ if name.contains('/') => WrittenZone::Named(Tz::from_str(name).ok()?),
        _ => WrittenZone::Abbreviation(name.to_owned()),
    };
    Some((zone, rest))
}

#[cfg(test)]
mod tests;
