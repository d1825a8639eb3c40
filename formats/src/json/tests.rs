//! Tests how a line of NDJSON becomes a draft: each field at most once, null as absent, and wrong kinds
//! marked as such.

use domain::draft::{EventDraft, LocationDraft, Sent};
use domain::problem::Code;
use proptest::prelude::*;

use super::record::{draft_to_ndjson_line, parse_record};
use crate::record_excerpt;

fn problems(line: &[u8]) -> Vec<(String, Code)> {
    let errors = parse_record(line).expect_err("the line is wrong");
    errors.into_iter().map(|error| (error.pointer, error.code)).collect()
}

fn draft(line: &str) -> EventDraft {
    parse_record(line.as_bytes()).unwrap_or_else(|errors| panic!("{line}: {errors:?}"))
}

fn text(value: &str) -> Sent<String> {
    Sent::Value(value.to_owned())
}

#[test]
fn a_line_with_all_fields_is_a_draft_with_all_fields() {
    let line = r#" {"id":"i","eventTypeId":"t","eventType":"n","timestamp":"s","endDate":"e","isAllDay":true,
        "timeZone":"z","notes":"o","sourceType":"c","externalId":"x",
        "location":{"latitude":1,"longitude":-2.5,"name":"p"},"properties":{ "b":1.0, "a":[ ] }} "#;
    let place = LocationDraft { latitude: Sent::Value(1.0), longitude: Sent::Value(-2.5), name: text("p") };
    let expected = EventDraft {
        id: text("i"),
        event_type_id: text("t"),
        event_type: text("n"),
        timestamp: text("s"),
        end_date: text("e"),
        is_all_day: Sent::Value(true),
        time_zone: text("z"),
        notes: text("o"),
        source_type: text("c"),
        external_id: text("x"),
        location: Sent::Value(place),
        properties: text(r#"{ "b":1.0, "a":[ ] }"#),
    };
    assert_eq!(draft(line), expected);
}

#[test]
fn null_and_a_missing_field_are_absent() {
    let line = r#"{"id":null,"eventTypeId":null,"eventType":null,"timestamp":null,"endDate":null,
        "isAllDay":null,"timeZone":null,"notes":null,"sourceType":null,"externalId":null,"location":null,
        "properties": null }"#;
    assert_eq!(draft(line), EventDraft::default());
    assert_eq!(draft("{}"), EventDraft::default());
    let place = r#"{"location":{"latitude":null,"longitude":null,"name":null}}"#;
    assert_eq!(draft(place).location, Sent::Value(LocationDraft::default()));
}

#[test]
fn a_value_of_the_wrong_kind_is_marked_in_its_field() {
    for wrong in ["1", "true", "[]", "{}"] {
        let line = format!(
            r#"{{"id":{wrong},"eventTypeId":{wrong},"eventType":{wrong},"timestamp":{wrong},"endDate":{wrong},
                "timeZone":{wrong},"notes":{wrong},"sourceType":{wrong},"externalId":{wrong}}}"#
        );
        let read = draft(&line);
        let kinds = [
            &read.id,
            &read.event_type_id,
            &read.event_type,
            &read.timestamp,
            &read.end_date,
            &read.time_zone,
            &read.notes,
            &read.source_type,
            &read.external_id,
        ];
        assert!(kinds.into_iter().all(|field| *field == Sent::WrongType), "{wrong}: {read:?}");
    }
    for wrong in ["1", "\"true\"", "[]", "{}"] {
        assert_eq!(draft(&format!(r#"{{"isAllDay":{wrong}}}"#)).is_all_day, Sent::WrongType, "{wrong}");
    }
    for wrong in ["1", "true", "\"Berlin\"", "[]", "[1,2]", "[1,2,\"Berlin\"]"] {
        assert_eq!(draft(&format!(r#"{{"location":{wrong}}}"#)).location, Sent::WrongType, "{wrong}");
    }
    for wrong in
        [r#"{"latitude":1,"longitude":2,"altitude":3}"#, r#"{"latitude":1,"latitude":1,"longitude":2}"#]
    {
        assert_eq!(draft(&format!(r#"{{"location":{wrong}}}"#)).location, Sent::WrongType, "{wrong}");
    }
    let place = draft(r#"{"location":{"latitude":"1","longitude":[],"name":5}}"#).location;
    let expected =
        LocationDraft { latitude: Sent::WrongType, longitude: Sent::WrongType, name: Sent::WrongType };
    assert_eq!(place, Sent::Value(expected));
}

#[test]
fn a_value_of_the_wrong_kind_is_written_as_another_such_value() {
    for line in [
        r#"{"id":1,"isAllDay":"true","location":{"latitude":"1","longitude":[],"name":5}}"#,
        r#"{"notes":{},"isAllDay":1,"location":[1,2]}"#,
    ] {
        assert_eq!(draft(&draft_to_ndjson_line(&draft(line))), draft(line), "{line}");
    }
}

#[test]
fn values_that_cannot_be_read_stay_in_their_fields() {
    let read =
        draft(r#"{"notes":"cut \ud83d","timestamp":"\udc00","location":{"latitude":-1e400,"longitude":2}}"#);
    assert_eq!((read.notes, read.timestamp), (text("cut \0\u{fdd0}"), text("\0\u{fdd0}")));
    let Sent::Value(place) = read.location else { panic!("a location") };
    let Sent::Value(latitude) = place.latitude else { panic!("a number") };
    assert!(latitude < -90.0, "{latitude}");
}

#[test]
fn properties_of_any_kind_are_kept_as_text() {
    for value in ["1", "\"a\"", "[]", "{\"a\":1,\"a\":2}", "true"] {
        assert_eq!(draft(&format!(r#"{{"properties":{value}}}"#)).properties, text(value));
    }
}

#[test]
fn each_unknown_field_is_a_problem_with_its_pointer() {
    let line = br#"{"timestamp":"x","Notes":1,"a/b~c":{},"\u0065vent":null,"":2}"#;
    let expected: Vec<_> =
        ["/Notes", "/a~1b~0c", "/event", "/"].map(|at| (at.to_owned(), Code::InvalidValue)).into();
    assert_eq!(problems(line), expected);
}

#[test]
fn a_field_named_with_escapes_is_that_field() {
    assert_eq!(draft(r#"{"n\u006ftes":"x"}"#).notes, text("x"));
}

#[test]
fn anything_but_one_object_with_each_field_once_is_invalid() {
    let table: [&[u8]; 18] = [
        b"",
        b" ",
        b"null",
        b"true",
        b"1",
        b"\"a\"",
        b"[]",
        b"[{}]",
        b"{",
        b"{}{}",
        b"{} x",
        b"{\"notes\":}",
        b"{\"notes\":\"a\",}",
        br#"{"notes":"a","notes":"a"}"#,
        br#"{"notes":"a","n\u006ftes":"b"}"#,
        br#"{"notes":null,"notes":"a"}"#,
        b"{\"notes\":\"\xff\"}",
        b"\xff\xfe{\0}\0",
    ];
    for line in table {
        let shown = String::from_utf8_lossy(line);
        assert_eq!(problems(line), [(String::new(), Code::InvalidJson)], "{shown}");
    }
}

#[test]
fn an_excerpt_has_no_characters_that_a_database_refuses() {
    assert_eq!(record_excerpt(b""), "");
    assert_eq!(record_excerpt(b"{\"a\":1}"), "{\"a\":1}");
    assert_eq!(record_excerpt(b"a\0b\xffc"), "a\u{fffd}b\u{fffd}c");
    assert_eq!(record_excerpt("é".repeat(1_000).as_bytes()), "é".repeat(200));
    assert_eq!(record_excerpt("\u{1d11e}".repeat(1_000).as_bytes()), "\u{1d11e}".repeat(200));
    assert_eq!(record_excerpt(&[b'x'; 1 << 20]).len(), 200);
}

proptest! {
    #[test]
    fn no_line_makes_the_reader_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_record(&line);
        let kept = record_excerpt(&line);
        prop_assert!(kept.chars().count() <= 200 && !kept.contains('\0'));
    }

    #[test]
    fn any_text_survives_its_escapes(notes in ".*", id in ".*") {
        let quote = |value: &str| serde_json::to_string(value).expect("text is JSON");
        let read = draft(&format!("{{\"notes\":{},\"id\":{}}}", quote(&notes), quote(&id)));
        prop_assert_eq!((read.notes, read.id), (Sent::Value(notes), Sent::Value(id)));
    }
}

#[test]
fn invalid_json_is_reported_with_its_place() {
    for (line, detail) in [
        (&br#"{"eventType":"run","notes":"cu"#[..], "is cut: it ends at column 30 in the middle of a value"),
        (br#"{"eventType":run}"#, "is not valid JSON at column 14"),
        (b"{\n  'a': 1}", "is not valid JSON at line 2, column 3 of the record"),
        (b"[1]", "is not a JSON object with each field once"),
    ] {
        let problems = parse_record(line).expect_err("the line is wrong");
        assert_eq!(problems[0].detail, detail, "{}", String::from_utf8_lossy(line));
    }
}
