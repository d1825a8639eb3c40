//! Tests patterns against the examples of the reference page, and patterns and cells that are refused.

use chrono_tz::Tz;
use domain::instant;
use proptest::prelude::*;

use super::specifiers::specifier_length;
use super::*;
use crate::csv::fold::Fold;
use crate::csv::times::Times;

const REFERENCE: &str = include_str!("../../../../docs/reference/time-patterns.md");

fn read_in(zone: Tz, pattern: &str, cell: &str) -> Result<String, String> {
    let times = Times::new(Some(pattern), Some(zone.name()))?;
    times.read_epoch_ms(cell, Fold::Earlier).map(instant::format)
}

fn read(pattern: &str, cell: &str) -> Result<String, String> {
    read_in(Tz::UTC, pattern, cell)
}

fn refused(pattern: &str) -> String {
    Pattern::new(pattern).expect_err(pattern)
}

#[test]
fn every_specifier_reads_what_the_reference_says() {
    let mut rows = 0;
    for row in REFERENCE.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let code = |at: usize| {
            let cell: &str = cells[at];
            cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')).unwrap_or_else(|| panic!("{row}"))
        };
        let (pattern, cell, expected) = (code(2), code(3), code(4));
        assert_eq!(read(pattern, cell).as_deref(), Ok(expected), "{row}");
        rows += 1;
    }
    assert!(rows > 20, "{rows} rows");
    // Every supported letter has a row in the reference.
    for letter in ('a'..='z').chain('A'..='Z') {
        let is_read = specifier_length(&format!("%{letter}")).is_ok();
        assert_eq!(is_read, REFERENCE.contains(&format!("`%{letter}`")), "%{letter}");
    }
}

#[test]
fn unsupported_specifiers_are_refused_with_their_alternative() {
    let table = [
        ("%Y-%m-%d %H:%M:%S.%L", "%L; %f reads"),
        ("%Y-%m-%d %H:%i:%s", "%i; %M reads minutes"),
        ("%Q", "%Q; unix_ms reads"),
        ("%Ey-%m-%d", "%E; write it without E"),
        ("%Y-%m-%d %q", "%q; %m reads"),
        ("%Y-%m-%d %", "ends within a specifier"),
        ("%C%y-%m-%d", "%C; %Y reads"),
        ("", "is empty"),
        ("%m/%d", "has no year"),
        ("%Y", "has no day"),
        ("%Y-%m", "has no day"),
        ("%Y %U", "has no day"),
        ("%H:%M", "has no year"),
        ("%F %M", "%M needs %H"),
        ("%F %H:%S", "%S needs %M"),
        ("%F %R.%f", "%f needs %S"),
        ("%F %I:%M", "%I needs %p"),
        ("%F %p", "%p needs %I"),
    ];
    for (pattern, expected) in table {
        assert!(refused(pattern).contains(expected), "{pattern}: {}", refused(pattern));
    }
    assert!(refused(&"%Y".repeat(5_000)).contains("characters"));
}

#[test]
fn years_of_two_digits_never_become_the_first_century() {
    let detail = "has a year of two digits, which %y reads; %Y reads four";
    assert_eq!(read("%m/%d/%Y", "03/01/24"), Err(detail.to_owned()));
    assert_eq!(read("%Y-%m-%d", "24-03-01"), Err(detail.to_owned()));
    assert!(read("%G-W%V-%u", "24-W09-5").is_err());
    for (cell, year) in [("68", "2068"), ("69", "1969"), ("99", "1999"), ("00", "2000")] {
        assert_eq!(read("%d.%m.%y", &format!("01.03.{cell}")), Ok(format!("{year}-03-01T00:00:00.000Z")));
    }
    assert!(read("%d.%m.%y", "01.03.2024").is_err(), "not the year 20, and then 24");
    assert!(read("%Y-%m-%d", "12024-03-01").is_err());
}

#[test]
fn a_zone_is_read_as_it_is_written_or_refused() {
    let berlin = |cell: &str| read_in(Tz::Europe__Berlin, "%F %T %Z", &format!("2024-07-01 10:00:00 {cell}"));
    for (zone, hour) in [
        ("UTC", "10:00"),
        ("GMT", "10:00"),
        ("Z", "10:00"),
        ("+05:30", "04:30"),
        ("-0800", "18:00"),
        ("America/New_York", "14:00"),
        ("Asia/Kolkata", "04:30"),
        ("CEST", "08:00"),
    ] {
        assert_eq!(berlin(zone), Ok(format!("2024-07-01T{hour}:00.000Z")), "{zone}");
    }
    for zone in ["PST", "CET", "EST", "Europe/Atlantis", "?"] {
        assert!(berlin(zone).is_err(), "{zone}");
    }
    assert!(berlin("PST").expect_err("another zone").contains("\"PST\""));
    assert!(berlin(&"A".repeat(200_000)).expect_err("no zone").len() < 400, "what is quoted is bounded");
    // An abbreviation decides what an ambiguous time means.
    let fall = |zone: &str| read_in(Tz::America__New_York, "%F %R %Z", &format!("2024-11-03 01:30 {zone}"));
    assert_eq!(fall("EDT").as_deref(), Ok("2024-11-03T05:30:00.000Z"));
    assert_eq!(fall("EST").as_deref(), Ok("2024-11-03T06:30:00.000Z"));
    // An offset takes precedence over the name next to it.
    let script = read("%a %b %d %Y %T GMT%z (%Z)", "Fri Mar 01 2024 10:00:00 GMT+0100 (CET)");
    assert_eq!(script.as_deref(), Ok("2024-03-01T09:00:00.000Z"));
}

#[test]
fn offsets_are_read_in_every_notation() {
    for (offset, hour) in [
        ("Z", "10:00:00"),
        ("+01", "09:00:00"),
        ("+0100", "09:00:00"),
        ("+01:00", "09:00:00"),
        ("-03:30", "13:30:00"),
        ("\u{2212}01", "11:00:00"),
        ("+00:00:30", "09:59:30"),
    ] {
        for directive in ["%z", "%:z", "%#z", "%::z"] {
            let cell = format!("2024-03-01 10:00:00{offset}");
            let expected = format!("2024-03-01T{hour}.000Z");
            assert_eq!(read(&format!("%F %T{directive}"), &cell), Ok(expected), "{directive} {offset}");
        }
    }
    for offset in ["", "1", "+1", "+0160", "+24:00", "+01000", "zulu"] {
        assert!(read("%F %T%z", &format!("2024-03-01 10:00:00{offset}")).is_err(), "{offset}");
    }
}

#[test]
fn a_mismatch_is_reported_with_the_pattern() {
    for (pattern, cell, expected) in [
        ("%d.%m.%Y", "2024-03-01", "is no time of the form \"%d.%m.%Y\""),
        ("%F", "2024-02-30", "out of range"),
        ("%a %F", "Mon 2024-03-01", "contradict"),
        ("%F", "2024-03-01 10:00", "something follows it"),
        ("%F %T.%f", "2024-03-01 10:00:00.", "is no time"),
        ("%F %H", "2024-03-01 25", "out of range"),
        ("%F %T%z", "2024-03-01 10:00:00.5+01", "which %.f reads"),
        ("%s.%f", "-1.5", "which unix_s reads"),
    ] {
        let detail = read(pattern, cell).expect_err(cell);
        assert!(detail.contains(expected), "{pattern} {cell}: {detail}");
    }
}

proptest! {
    #[test]
    fn any_pattern_is_accepted_or_refused(pattern in "[%A-Za-z0-9:./ #_-]{0,20}", cell in "\\PC{0,24}") {
        if let Ok(pattern) = Pattern::new(&pattern) {
            let _either = pattern.read_time(&cell);
        }
    }

    #[test]
    fn an_instant_comes_back_through_every_pattern(seconds in -2_000_000_000_i64..4_000_000_000, micros in 0_u32..1_000_000) {
        let time = chrono::DateTime::from_timestamp(seconds, micros * 1_000).expect("in range");
        let ms = time.timestamp_millis();
        for pattern in ["%Y-%m-%d %H:%M:%S.%f", "%d/%b/%Y:%I:%M:%S%.6f %p", "%j %G-W%V-%u %Y %T,%6f", "%s.%6f"] {
            // There is no agreed notation for a fraction before 1970.
            if seconds < 0 && pattern.starts_with("%s") {
                continue;
            }
            let cell = time.format(&pattern.replace(".%f", ".%6f")).to_string();
            prop_assert_eq!(read(pattern, &cell), Ok(instant::format(ms)), "{} {}", pattern, cell);
        }
    }
}
