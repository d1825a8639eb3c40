//! Tests the parsing of events and event types: defaults, problems with their pointers, and derived ids.

use domain::draft::{
    EventDraft, EventTypeDraft, IdOrigin, LocationDraft, MissingId, NewEvent, Sent, TypeRef, parse_client_id,
    parse_event, parse_event_type,
};
use domain::event_id::{is_v7, time_ms};
use domain::instant;
use domain::problem::Code;
use proptest::prelude::*;
use uuid::Uuid;

const MADE: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_00aa);
const FRESH: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_00bb);
const TYPE: &str = "01900000-0000-7000-8000-000000000001";
const START: &str = "2024-02-29T12:34:56.789Z";
const START_MS: i64 = 1_709_210_096_789;

fn text(value: &str) -> Sent<String> {
    Sent::Value(value.to_owned())
}

fn minimal() -> EventDraft {
    EventDraft { event_type_id: text(TYPE), timestamp: text(START), ..EventDraft::default() }
}

fn parsed(draft: EventDraft) -> NewEvent {
    parse_event(draft, MissingId::Generated(MADE), FRESH).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn problems(draft: EventDraft) -> Vec<(String, Code)> {
    let errors = parse_event(draft, MissingId::Generated(MADE), FRESH).err().unwrap_or_default();
    errors.into_iter().map(|error| (error.pointer, error.code)).collect()
}

/// The only problem of the minimal event with a change.
fn problem(change: impl FnOnce(&mut EventDraft)) -> Option<(String, Code)> {
    let mut draft = minimal();
    change(&mut draft);
    let mut found = problems(draft);
    assert!(found.len() < 2, "{found:?}");
    found.pop()
}

fn at(pointer: &str, code: Code) -> Option<(String, Code)> {
    Some((pointer.to_owned(), code))
}

#[test]
fn missing_fields_have_defaults() {
    let new = parsed(minimal());
    assert_eq!((new.id, new.origin), (MADE, IdOrigin::Generated));
    assert_eq!(new.type_ref, TypeRef::Id(TYPE.parse().expect("an id")));
    assert_eq!((new.source_type.as_str(), new.external_id), ("manual", None));
    assert_eq!((new.body.timestamp, new.body.end_date, new.body.is_all_day), (START_MS, None, false));
    assert_eq!((new.body.time_zone, new.body.notes, new.body.location), (None, None, None));
    assert_eq!(new.body.properties, "{}");
}

#[test]
fn a_sent_id_is_kept_and_marked_as_sent() {
    let new = parsed(EventDraft { id: text("01900000-0000-7000-8000-0000000000CC"), ..minimal() });
    assert_eq!(new.id.to_string(), "01900000-0000-7000-8000-0000000000cc");
    assert_eq!(new.origin, IdOrigin::Sent);
}

#[test]
fn the_name_of_the_type_is_used_only_without_its_id() {
    let named =
        EventDraft { event_type_id: Sent::Absent, event_type: text("  Cafe\u{301}\u{a0}"), ..minimal() };
    assert_eq!(parsed(named).type_ref, TypeRef::Name { name: "Café".to_owned(), fresh_id: FRESH });
    let both = EventDraft { event_type: text("Walk"), ..minimal() };
    assert_eq!(parsed(both).type_ref, parsed(minimal()).type_ref);
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_the_schema() {
    let location = LocationDraft { latitude: Sent::Value(90.5), longitude: Sent::Absent, name: text("\0") };
    let draft = EventDraft {
        id: text("x"),
        event_type_id: Sent::Absent,
        event_type: Sent::Absent,
        timestamp: text("yesterday"),
        end_date: Sent::WrongType,
        is_all_day: Sent::WrongType,
        time_zone: text("Mars/Olympus"),
        notes: text(&"x".repeat(10_001)),
        source_type: text("Manual"),
        external_id: text(""),
        location: Sent::Value(location),
        properties: text("[]"),
    };
    let expected = [
        ("/id", Code::InvalidUuid),
        ("/eventTypeId", Code::Required),
        ("/timestamp", Code::InvalidDatetime),
        ("/endDate", Code::InvalidDatetime),
        ("/isAllDay", Code::InvalidValue),
        ("/timeZone", Code::UnknownTimeZone),
        ("/notes", Code::TooLong),
        ("/sourceType", Code::InvalidValue),
        ("/externalId", Code::InvalidValue),
        ("/location/latitude", Code::OutOfRange),
        ("/location/longitude", Code::Required),
        ("/location/name", Code::NulCharacter),
        ("/properties", Code::InvalidJson),
    ];
    assert_eq!(problems(draft), expected.map(|(pointer, code)| (pointer.to_owned(), code)));
    let nothing = problems(EventDraft::default());
    assert_eq!(nothing, ["/eventTypeId", "/timestamp"].map(|pointer| (pointer.to_owned(), Code::Required)));
}

#[test]
fn a_value_of_the_wrong_json_type_has_the_code_of_its_scalar() {
    assert_eq!(problem(|e| e.id = Sent::WrongType), at("/id", Code::InvalidUuid));
    assert_eq!(problem(|e| e.event_type_id = Sent::WrongType), at("/eventTypeId", Code::InvalidUuid));
    assert_eq!(problem(|e| e.timestamp = Sent::WrongType), at("/timestamp", Code::InvalidDatetime));
    assert_eq!(problem(|e| e.properties = Sent::WrongType), at("/properties", Code::InvalidJson));
    assert_eq!(problem(|e| e.is_all_day = Sent::WrongType), at("/isAllDay", Code::InvalidValue));
    assert_eq!(problem(|e| e.time_zone = Sent::WrongType), at("/timeZone", Code::InvalidValue));
    assert_eq!(problem(|e| e.notes = Sent::WrongType), at("/notes", Code::InvalidValue));
    assert_eq!(problem(|e| e.source_type = Sent::WrongType), at("/sourceType", Code::InvalidValue));
    assert_eq!(problem(|e| e.external_id = Sent::WrongType), at("/externalId", Code::InvalidValue));
    assert_eq!(problem(|e| e.location = Sent::WrongType), at("/location", Code::InvalidValue));
    let named = EventDraft { event_type_id: Sent::Absent, event_type: Sent::WrongType, ..minimal() };
    assert_eq!(problems(named), [("/eventType".to_owned(), Code::InvalidValue)]);
}

#[test]
fn lengths_count_unicode_characters() {
    for unit in ["x", "é", "\u{1d11e}"] {
        assert_eq!(problem(|e| e.notes = text(&unit.repeat(10_000))), None);
        assert_eq!(problem(|e| e.notes = text(&unit.repeat(10_001))), at("/notes", Code::TooLong));
        assert_eq!(problem(|e| e.external_id = text(&unit.repeat(255))), None);
        assert_eq!(problem(|e| e.external_id = text(&unit.repeat(256))), at("/externalId", Code::TooLong));
        let location = |chars| LocationDraft {
            latitude: Sent::Value(0.0),
            longitude: Sent::Value(0.0),
            name: text(&unit.repeat(chars)),
        };
        assert_eq!(problem(|e| e.location = Sent::Value(location(255))), None);
        assert_eq!(problem(|e| e.location = Sent::Value(location(256))), at("/location/name", Code::TooLong));
    }
    assert_eq!(problem(|e| e.external_id = text("x")), None);
    assert_eq!(problem(|e| e.notes = text("")), None);
}

#[test]
fn a_nul_character_is_refused_in_every_text() {
    assert_eq!(problem(|e| e.time_zone = text("UTC\0")), at("/timeZone", Code::NulCharacter));
    assert_eq!(problem(|e| e.notes = text("a\0b")), at("/notes", Code::NulCharacter));
    assert_eq!(problem(|e| e.source_type = text("a\0")), at("/sourceType", Code::NulCharacter));
    assert_eq!(problem(|e| e.external_id = text("\0")), at("/externalId", Code::NulCharacter));
    assert_eq!(problem(|e| e.properties = text(r#"{"a":"\u0000"}"#)), at("/properties", Code::NulCharacter));
    assert_eq!(problem(|e| e.id = text("\0")), at("/id", Code::InvalidUuid));
    assert_eq!(problem(|e| e.timestamp = text("\0")), at("/timestamp", Code::InvalidDatetime));
}

#[test]
fn properties_have_their_own_codes() {
    let deep = format!("{{\"k\":{}{}}}", "[".repeat(8), "]".repeat(8));
    let large = format!("{{\"k\":\"{}\"}}", "x".repeat(16_384));
    assert_eq!(problem(|e| e.properties = text(&deep)), at("/properties", Code::TooDeep));
    assert_eq!(problem(|e| e.properties = text(&large)), at("/properties", Code::TooLarge));
    assert_eq!(problem(|e| e.properties = text(r#"{"a":1,"a":2}"#)), at("/properties", Code::InvalidJson));
    assert_eq!(
        parsed(EventDraft { properties: text(r#"{"b":1.0,"a":2}"#), ..minimal() }).body.properties,
        r#"{"a":2,"b":1}"#
    );
}

#[test]
fn a_wrong_instant_is_reported_at_its_field() {
    for wrong in ["", "2024-02-29", "10000-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00"] {
        assert_eq!(problem(|e| e.timestamp = text(wrong)), at("/timestamp", Code::InvalidDatetime));
        assert_eq!(problem(|e| e.end_date = text(wrong)), at("/endDate", Code::InvalidDatetime));
    }
}

#[test]
fn an_all_day_event_takes_the_date_as_it_was_written() {
    let table = [
        ("2024-02-29T23:30:00-11:00", Some("2024-02-29T00:00:00.000Z")),
        ("2024-02-29T00:30:00+14:00", Some("2024-02-29T00:00:00.000Z")),
        ("2016-12-31T23:59:60Z", Some("2016-12-31T00:00:00.000Z")),
        ("1969-12-31T12:00:00Z", Some("1969-12-31T00:00:00.000Z")),
        ("0001-01-01T00:00:00Z", Some("0001-01-01T00:00:00.000Z")),
        ("9999-12-31T12:00:00Z", Some("9999-12-31T00:00:00.000Z")),
        ("0000-12-31T23:30:00-01:00", None),
    ];
    for (written, expected) in table {
        let draft = EventDraft { is_all_day: Sent::Value(true), timestamp: text(written), ..minimal() };
        let read = parse_event(draft, MissingId::Generated(MADE), FRESH)
            .map(|new| instant::format(new.body.timestamp));
        assert_eq!(read.ok().as_deref(), expected, "{written}");
    }
}

#[test]
fn an_end_before_its_start_is_refused_as_instants_or_as_dates() {
    let end = |is_all_day, start, end| {
        problem(|e| {
            e.is_all_day = Sent::Value(is_all_day);
            e.timestamp = text(start);
            e.end_date = text(end);
        })
    };
    let refused = at("/endDate", Code::EndBeforeStart);
    assert_eq!(end(false, START, START), None);
    assert_eq!(end(false, "2024-01-01T00:00:00.001Z", "2024-01-01T00:00:00.0009Z"), refused);
    assert_eq!(end(false, "2024-01-01T01:00:00+01:00", "2024-01-01T00:00:00Z"), None);
    assert_eq!(end(false, "2024-01-01T01:00:00Z", "2024-01-01T01:59:59+01:00"), refused);
    assert_eq!(end(true, "2024-01-01T20:00:00Z", "2024-01-01T10:00:00Z"), None);
    assert_eq!(end(true, "2024-01-02T00:00:00+14:00", "2024-01-01T23:00:00-11:00"), refused);
}

#[test]
fn a_time_zone_is_a_name_of_the_iana_database() {
    for (zone, is_known) in [
        ("Europe/Berlin", true),
        ("UTC", true),
        ("America/Argentina/Buenos_Aires", true),
        ("Asia/Calcutta", true),
        ("europe/berlin", false),
        ("CEST", false),
        ("+01:00", false),
        ("", false),
        (" UTC", false),
    ] {
        let expected = (!is_known).then(|| ("/timeZone".to_owned(), Code::UnknownTimeZone));
        assert_eq!(problem(|e| e.time_zone = text(zone)), expected, "{zone:?}");
    }
}

#[test]
fn a_source_type_matches_its_pattern() {
    let longest = format!("a{}", "9".repeat(31));
    let longer = format!("a{}", "9".repeat(32));
    for (source, is_valid) in [
        ("a", true),
        ("health-kit_2", true),
        (&longest, true),
        (&longer, false),
        ("", false),
        ("A", false),
        ("1a", false),
        ("_a", false),
        ("aB", false),
        ("a b", false),
        ("é", false),
        ("a\n", false),
        ("a.b", false),
    ] {
        let expected = (!is_valid).then(|| ("/sourceType".to_owned(), Code::InvalidValue));
        assert_eq!(problem(|e| e.source_type = text(source)), expected, "{source:?}");
    }
}

#[test]
fn coordinates_are_required_and_in_range() {
    let location = |latitude, longitude| {
        problem(|e| e.location = Sent::Value(LocationDraft { latitude, longitude, name: Sent::Absent }))
    };
    let value = Sent::Value;
    assert_eq!(location(value(90.0), value(-180.0)), None);
    assert_eq!(location(value(-90.0), value(180.0)), None);
    for wrong in [90.000_001, -91.0, f64::INFINITY, f64::NAN] {
        assert_eq!(location(value(wrong), value(0.0)), at("/location/latitude", Code::OutOfRange));
    }
    assert_eq!(location(value(0.0), value(180.5)), at("/location/longitude", Code::OutOfRange));
    assert_eq!(location(Sent::Absent, value(0.0)), at("/location/latitude", Code::Required));
    assert_eq!(location(value(0.0), Sent::WrongType), at("/location/longitude", Code::InvalidValue));
}

#[test]
fn a_type_has_a_trimmed_nfc_name_and_two_texts() {
    let draft = |name: &str| EventTypeDraft { name: text(name), ..EventTypeDraft::default() };
    let new =
        parse_event_type(draft("\u{2003}Cafe\u{301} \n"), MADE).unwrap_or_else(|errors| panic!("{errors:?}"));
    assert_eq!((new.id, new.origin, new.name.as_str()), (MADE, IdOrigin::Generated, "Café"));
    assert_eq!((new.color, new.icon), (None, None));
    let table = [
        ("é".repeat(100), None),
        ("e\u{301}".repeat(100), None),
        (format!(" {} ", "x".repeat(100)), None),
        ("x".repeat(101), Some(Code::TooLong)),
        (" \u{a0}\t".to_owned(), Some(Code::InvalidValue)),
        (String::new(), Some(Code::InvalidValue)),
        ("a\0".to_owned(), Some(Code::NulCharacter)),
    ];
    for (name, expected) in table {
        let found = parse_event_type(draft(&name), MADE).err().map(|errors| errors[0].code);
        assert_eq!(found, expected, "{name:?}");
    }
    let wrong = EventTypeDraft {
        id: text("x"),
        name: Sent::Absent,
        color: text(&"é".repeat(33)),
        icon: text(&"é".repeat(65)),
    };
    let found =
        parse_event_type(wrong, MADE).expect_err("all is wrong").into_iter().map(|e| (e.pointer, e.code));
    let expected = [
        ("/id", Code::InvalidUuid),
        ("/name", Code::Required),
        ("/color", Code::TooLong),
        ("/icon", Code::TooLong),
    ];
    assert_eq!(found.collect::<Vec<_>>(), expected.map(|(pointer, code)| (pointer.to_owned(), code)));
}

#[test]
fn a_client_id_matches_its_pattern() {
    let longest = "x".repeat(64);
    for valid in ["a", "A.b_c-9", &longest] {
        assert_eq!(parse_client_id(valid), Some(valid));
    }
    for wrong in ["", "a b", "é", "a/b", "a\n", &"x".repeat(65)] {
        assert_eq!(parse_client_id(wrong), None, "{wrong:?}");
    }
}

fn derived(draft: EventDraft, user: u128) -> Uuid {
    let new = parse_event(draft, MissingId::Derived(Uuid::from_u128(user)), FRESH).expect("a valid draft");
    assert_eq!(new.origin, IdOrigin::Generated);
    new.id
}

#[test]
fn a_derived_id_depends_on_user_and_content_and_not_on_the_form() {
    let location = |latitude| LocationDraft {
        latitude: Sent::Value(latitude),
        longitude: Sent::Value(2.0),
        name: Sent::Absent,
    };
    let one = EventDraft {
        properties: text(r#"{"a":1,"b":2}"#),
        location: Sent::Value(location(0.0)),
        ..minimal()
    };
    let same = EventDraft {
        event_type_id: text(&TYPE.to_uppercase()),
        timestamp: text("2024-02-29T13:34:56.7891+01:00"),
        is_all_day: Sent::Value(false),
        source_type: text("manual"),
        location: Sent::Value(location(-0.0)),
        properties: text(r#"{ "b":2.0, "a":1 }"#),
        ..minimal()
    };
    let id = derived(one.clone(), 1);
    assert_eq!(derived(same, 1), id);
    assert!(is_v7(id));
    assert_eq!(time_ms(id), START_MS);
    assert_ne!(derived(one, 2), id);
}

#[test]
fn every_field_counts_for_a_derived_id() {
    let location = |name| LocationDraft { latitude: Sent::Value(1.0), longitude: Sent::Value(2.0), name };
    let drafts = [
        minimal(),
        EventDraft { event_type_id: text(&MADE.to_string()), ..minimal() },
        EventDraft { event_type_id: Sent::Absent, event_type: text(TYPE), ..minimal() },
        EventDraft { timestamp: text("2024-02-29T12:34:56.790Z"), ..minimal() },
        EventDraft { end_date: text(START), ..minimal() },
        EventDraft { is_all_day: Sent::Value(true), ..minimal() },
        EventDraft { time_zone: text("UTC"), ..minimal() },
        EventDraft { notes: text("UTC"), ..minimal() },
        EventDraft { notes: text(""), ..minimal() },
        EventDraft { source_type: text("imported"), ..minimal() },
        EventDraft { external_id: text("UTC"), ..minimal() },
        EventDraft { location: Sent::Value(location(Sent::Absent)), ..minimal() },
        EventDraft { location: Sent::Value(location(text("UTC"))), ..minimal() },
        EventDraft { properties: text(r#"{"a":1}"#), ..minimal() },
    ];
    let mut ids: Vec<_> = drafts.into_iter().map(|draft| derived(draft, 1)).collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

proptest! {
    #[test]
    fn a_parsed_name_stays_as_it_is(name in ".{0,110}") {
        let draft = |name: String| EventTypeDraft { name: Sent::Value(name), ..EventTypeDraft::default() };
        if let Ok(new) = parse_event_type(draft(name), MADE) {
            prop_assert!((1..=100).contains(&new.name.chars().count()));
            prop_assert_eq!(parse_event_type(draft(new.name.clone()), MADE).map(|again| again.name), Ok(new.name));
        }
    }
}
