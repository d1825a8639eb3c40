//! Tests instants: which RFC 3339 texts are accepted, and that they are exact to the millisecond.

use domain::instant::{MAX_MS, MIN_MS, format, parse};
use proptest::prelude::*;

const START_MS: i64 = 1_709_210_096_789;

#[test]
fn instants_are_parsed_as_documented() {
    let table = [
        ("2024-02-29T12:34:56.789Z", Some(START_MS)),
        ("2024-02-29T12:34:56.789999Z", Some(START_MS)),
        ("2024-02-29T12:34:56.7890000000001Z", Some(START_MS)),
        ("2024-02-29T13:34:56.789+01:00", Some(START_MS)),
        ("2024-02-29T07:04:56.789-05:30", Some(START_MS)),
        ("2024-02-29t12:34:56.789z", Some(START_MS)),
        ("1969-12-31T23:59:59.9999Z", Some(-1)),
        ("0001-01-01T00:00:00Z", Some(MIN_MS)),
        ("9999-12-31T23:59:59.999Z", Some(MAX_MS)),
        ("0000-12-31T23:00:00-01:00", Some(MIN_MS)),
        ("9999-12-31T23:59:59.999+01:00", Some(MAX_MS - 3_600_000)),
        ("0001-01-01T00:59:59+01:00", None),
        ("9999-12-31T23:59:59-00:01", None),
        ("0000-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:60Z", None),
        ("10000-01-01T00:00:00Z", None),
        ("+2024-01-01T00:00:00Z", None),
        ("-0001-01-01T00:00:00Z", None),
        ("2016-12-31T23:59:60Z", Some(1_483_228_800_000)),
        ("2017-01-01T00:59:60.5+01:00", Some(1_483_228_800_500)),
        ("2016-12-31T18:59:60-05:00", Some(1_483_228_800_000)),
        ("2016-12-31T22:59:60Z", None),
        ("2016-12-31T23:59:60+01:00", None),
        ("2016-12-31T23:59:61Z", None),
        ("2024-02-29", None),
        ("2024-02-29T12:34:56", None),
        ("2024-02-29T12:34Z", None),
        ("2024-02-29T24:00:00Z", None),
        ("2023-02-29T00:00:00Z", None),
        ("2024-02-29T12:34:56+0100", None),
        ("2024-02-29T12:34:56+01", None),
        ("2024-02-29T12:34:56\u{2212}01:00", None),
        ("2024-02-29T12:34:56+24:00", None),
        ("2024-02-29T12:34:56,5Z", None),
        ("2024-02-29T12:34:56.Z", None),
        ("2024-02-29T12:34:56 Z", None),
        (" 2024-02-29T12:34:56Z", None),
        ("2024-02-29T12:34:56Z ", None),
        ("2024-2-29T12:34:56Z", None),
        ("1709210096", None),
        ("", None),
    ];
    let wrong: Vec<_> = table
        .into_iter()
        .map(|(written, expected)| (written, parse(written).map(|read| read.ms), expected))
        .filter(|(_, read, expected)| read != expected)
        .collect();
    assert_eq!(wrong, [], "(text, parsed, expected)");
}

proptest! {
    #[test]
    fn a_formatted_instant_is_parsed_as_the_same(ms in MIN_MS..=MAX_MS) {
        prop_assert_eq!(parse(&format(ms)).map(|read| read.ms), Some(ms));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[0-9TtZz:.+ -]{0,35}|.*") {
        if let Some(read) = parse(&text) {
            prop_assert!((MIN_MS..=MAX_MS).contains(&read.ms));
        }
    }
}
