//! Reads times by a strptime pattern.
//!
//! The specifiers are those of POSIX `strptime` (IEEE Std 1003.1-2017) and the usual extensions of C libraries, Python
//! and chrono. chrono reads most of them. Some it reads in another way than the users of strptime mean, so they are read
//! here: it takes `%f` for nanoseconds, passes over whatever stands at `%Z`, reads `24` as the year 24 with `%Y`, has
//! another pivot for `%y`, wants minutes with `%z`, and no sign with `%s`.

mod specifiers;

use std::str::FromStr;

use chrono::format::{Item, ParseErrorKind, Parsed, StrftimeItems, parse_and_remainder};
use chrono::{NaiveDate, NaiveTime};
use chrono_tz::Tz;
use domain::limits::CSV_PATTERN_CHARS_MAX;

use super::offset;
use specifiers::{Fields, bare, expand, tokens};

/// A pattern that can be read with.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    parts: Vec<Part>,
    /// As it was given.
    text: String,
}

/// What a pattern reads, one after the other.
#[derive(Debug, Clone)]
enum Part {
    /// What chrono reads: literal text, and all other specifiers.
    Items(Vec<Item<'static>>),
    /// `%Y`: four digits.
    Year,
    /// `%G`: four digits.
    WeekYear,
    /// `%y`: two digits; 69 to 99 are 1969 to 1999, 00 to 68 are 2000 to 2068.
    ShortYear,
    /// `%g`: as `%y`.
    ShortWeekYear,
    /// `%f`: the digits after a decimal point.
    Fraction,
    /// `%s`: seconds since 1970, which chrono reads without a sign only.
    Epoch,
    /// `%z`: `Z`, `+01`, `+0100` or `+01:00`.
    Offset,
    /// `%Z`: a zone by its name.
    Zone,
}

/// What a cell tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ParsedTime {
    /// An instant, in epoch milliseconds.
    Instant(i64),
    /// A date and perhaps a time, as clocks show them.
    Local { date: NaiveDate, time: Option<NaiveTime>, zone: WrittenZone },
}

/// What a cell tells of its zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WrittenZone {
    /// Nothing.
    None,
    /// An offset from UTC, in seconds.
    Offset(i32),
    /// An IANA zone.
    Named(Tz),
    /// An abbreviation such as `PST`, which several zones may have.
    Abbreviation(String),
}

impl Pattern {
    /// Checks a pattern.
    ///
    /// # Errors
    /// What is wrong with it: a specifier that is not known, with its alternative, or what it does not tell.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if text.chars().count() > CSV_PATTERN_CHARS_MAX {
            return Err(format!("has more than {CSV_PATTERN_CHARS_MAX} characters"));
        }
        let mut parts = Parts::default();
        let mut fields = Fields::default();
        for token in tokens(&expand(text)?)? {
            fields.add(token);
            parts.push(token);
        }
        fields.check()?;
        Ok(Self { parts: parts.end(), text: text.to_owned() })
    }

    /// Reads a cell.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(&self, cell: &str) -> Result<ParsedTime, String> {
        let mut parsed = Parsed::new();
        let mut zone = WrittenZone::None;
        let mut is_negative = false;
        let mut rest = cell;
        for part in &self.parts {
            rest = match part {
                Part::Items(items) => parse_and_remainder(&mut parsed, rest, items.iter())
                    .map_err(|error| self.unfit(error.kind()))?,
                Part::Year | Part::WeekYear => {
                    let (year, rest) = digits(rest.trim_start(), 4..=4).ok_or_else(|| self.no_year(rest))?;
                    let set = if matches!(part, Part::Year) { Parsed::set_year } else { Parsed::set_isoyear };
                    set(&mut parsed, year).map_err(|error| self.unfit(error.kind()))?;
                    rest
                }
                Part::ShortYear | Part::ShortWeekYear => {
                    let read = digits(rest.trim_start(), 1..=2);
                    let (year, rest) = read.ok_or_else(|| self.unfit(ParseErrorKind::Invalid))?;
                    let year = year + if year < 69 { 2_000 } else { 1_900 };
                    let is_year = matches!(part, Part::ShortYear);
                    let set = if is_year { Parsed::set_year } else { Parsed::set_isoyear };
                    set(&mut parsed, year).map_err(|error| self.unfit(error.kind()))?;
                    rest
                }
                Part::Fraction => {
                    let length = rest.bytes().take_while(u8::is_ascii_digit).count();
                    let (fraction, rest) = rest.split_at(length);
                    let nanos = nanoseconds(fraction).ok_or_else(|| self.unfit(ParseErrorKind::Invalid))?;
                    parsed.set_nanosecond(nanos).map_err(|error| self.unfit(error.kind()))?;
                    rest
                }
                Part::Epoch => {
                    let end = rest.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(rest.len());
                    let (seconds, rest) = rest.split_at(end);
                    is_negative = seconds.starts_with('-');
                    let seconds = seconds.parse().map_err(|_| self.unfit(ParseErrorKind::Invalid))?;
                    parsed.set_timestamp(seconds).map_err(|error| self.unfit(error.kind()))?;
                    rest
                }
                Part::Offset => {
                    let read = offset::read(rest.trim_start());
                    let (seconds, rest) = read.ok_or_else(|| no_offset(rest))?;
                    zone = WrittenZone::Offset(seconds);
                    rest
                }
                Part::Zone => {
                    let (read, rest) =
                        written_zone(rest.trim_start()).ok_or("has no zone that is known where %Z stands")?;
                    // An offset tells more than the name beside it.
                    if !matches!(zone, WrittenZone::Offset(_)) {
                        zone = read;
                    }
                    rest
                }
            };
        }
        if !rest.is_empty() {
            return Err(self.unfit(ParseErrorKind::TooLong));
        }
        if is_negative && parsed.nanosecond().is_some() {
            return Err("has a fraction after a negative number of seconds, which unix_s reads".to_owned());
        }
        self.reading(&mut parsed, zone)
    }

    /// Whether each time that it reads tells its offset, or needs none.
    pub(super) fn tells_offsets(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Offset | Part::Epoch))
    }

    fn reading(&self, parsed: &mut Parsed, zone: WrittenZone) -> Result<ParsedTime, String> {
        if let Some(seconds) = parsed.timestamp() {
            let nanos = i64::from(parsed.nanosecond().unwrap_or_default());
            let ms = seconds.checked_mul(1_000).and_then(|ms| ms.checked_add(nanos / 1_000_000));
            return ms.map(ParsedTime::Instant).ok_or_else(|| self.unfit(ParseErrorKind::OutOfRange));
        }
        let date = parsed.to_naive_date().map_err(|error| self.unfit(error.kind()))?;
        let has_hour = parsed.hour_div_12().is_some() || parsed.hour_mod_12().is_some();
        if has_hour && parsed.minute().is_none() {
            parsed.set_minute(0).map_err(|error| self.unfit(error.kind()))?;
        }
        let time = if has_hour {
            Some(parsed.to_naive_time().map_err(|error| self.unfit(error.kind()))?)
        } else {
            None
        };
        Ok(ParsedTime::Local { date, time, zone })
    }

    /// Why a cell is not of this form.
    fn unfit(&self, kind: ParseErrorKind) -> String {
        let reason = match kind {
            ParseErrorKind::Impossible => ": its parts contradict each other",
            ParseErrorKind::OutOfRange => ": a part of it is out of range",
            ParseErrorKind::TooLong => ": something follows it",
            _ => "",
        };
        format!("is no time of the form {:?}{reason}", self.text)
    }

    fn no_year(&self, rest: &str) -> String {
        let length = rest.trim_start().bytes().take_while(u8::is_ascii_digit).count();
        if length == 2 {
            return "has a year of two digits, which %y reads; %Y reads four".to_owned();
        }
        self.unfit(ParseErrorKind::Invalid)
    }
}

/// Puts the parts of a pattern together.
#[derive(Default)]
struct Parts {
    parts: Vec<Part>,
    /// What chrono reads next.
    text: String,
}

impl Parts {
    fn push(&mut self, token: &str) {
        let own = match bare(token) {
            Some('Y') => Part::Year,
            Some('G') => Part::WeekYear,
            Some('y') => Part::ShortYear,
            Some('g') => Part::ShortWeekYear,
            Some('f') if token == "%f" => Part::Fraction,
            Some('s') => Part::Epoch,
            Some('z') => Part::Offset,
            Some('Z') => Part::Zone,
            // Of these chrono reads the short names as well, of those only the short ones.
            Some('b' | 'h') => return self.text.push_str("%B"),
            Some('a') => return self.text.push_str("%A"),
            _ => return self.text.push_str(token),
        };
        self.flush();
        self.parts.push(own);
    }

    fn flush(&mut self) {
        let text = std::mem::take(&mut self.text);
        if let Ok(items) = StrftimeItems::new(&text).parse_to_owned()
            && !items.is_empty()
        {
            self.parts.push(Part::Items(items));
        }
    }

    fn end(mut self) -> Vec<Part> {
        self.flush();
        self.parts
    }
}

/// So many digits as a number, and what follows.
fn digits(text: &str, count: std::ops::RangeInclusive<usize>) -> Option<(i64, &str)> {
    let length = text.bytes().take(*count.end()).take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(length);
    if count.contains(&length) { digits.parse().ok().map(|number| (number, rest)) } else { None }
}

/// What stands where an offset is to be.
fn no_offset(rest: &str) -> &'static str {
    if rest.starts_with(['.', ',']) {
        "has a fraction of a second before its offset, which %.f reads"
    } else {
        "has no offset such as +01:00 or Z where %z stands"
    }
}

/// Nanoseconds of the digits of a fraction; those after the ninth are cut.
fn nanoseconds(digits: &str) -> Option<i64> {
    if digits.is_empty() {
        return None;
    }
    let nine = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
    Some(nine.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
}

/// A zone as it is written, and what follows.
fn written_zone(text: &str) -> Option<(WrittenZone, &str)> {
    if let Some((seconds, rest)) = offset::read(text).filter(|_| !text.starts_with(['Z', 'z'])) {
        return Some((WrittenZone::Offset(seconds), rest));
    }
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '+' | '-');
    let length = text.find(|c: char| !is_of_name(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(length);
    let zone = match name.to_ascii_uppercase().as_str() {
        "" => return None,
        "UTC" | "GMT" | "UT" | "Z" | "ZULU" => WrittenZone::Offset(0),
        // Without a slash it may be an abbreviation: EST is not the same in New York and in Sydney.
        _ if name.contains('/') => WrittenZone::Named(Tz::from_str(name).ok()?),
        _ => WrittenZone::Abbreviation(name.to_owned()),
    };
    Some((zone, rest))
}

#[cfg(test)]
mod tests;
