//! Tests the parsing of edits.
//!
//! A missing field keeps the stored value, null clears it or is a problem, and every problem has its pointer.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use domain::draft::{
    EventDraft, EventEdit, EventEditDraft, EventPatch, EventPatchDraft, Guard, GuardDraft, IdOrigin,
    LocationDraft, Removal, RemovalDraft, Sent, TypeEdit, TypeEditDraft, TypePatch, TypePatchDraft, TypeRef,
    parse_event_edit, parse_event_type_edit, parse_removal, parse_restore,
};
use domain::instant;
use domain::problem::{Code, FieldProblem};
use domain::row::Location;
use uuid::Uuid;

const ID: &str = "01900000-0000-7000-8000-0000000000aa";
const TYPE: &str = "01900000-0000-7000-8000-0000000000bb";
const EDIT: &str = "01900000-0000-7000-8000-0000000000cc";
const V4: &str = "9b2b7a52-8f1f-4c0e-9d3a-0a5d5c1b2f3e";
const START: &str = "2024-02-29T23:30:00-05:00";

fn text(value: &str) -> Sent<String> {
    Sent::Value(value.to_owned())
}

fn id(value: &str) -> Uuid {
    value.parse().expect("an id")
}

fn pointers_and_codes(errors: Vec<FieldProblem>) -> Vec<(String, Code)> {
    errors.into_iter().map(|error| (error.pointer, error.code)).collect()
}

fn expected(problems: &[(&str, Code)]) -> Vec<(String, Code)> {
    problems.iter().map(|(pointer, code)| ((*pointer).to_owned(), *code)).collect()
}

/// The problems of a patch of an event.
fn patch_problems(change: impl FnOnce(&mut EventPatchDraft)) -> Vec<(String, Code)> {
    let mut draft = EventEditDraft { id: text(ID), ..EventEditDraft::default() };
    change(&mut draft.patch);
    pointers_and_codes(parse_event_edit(draft).err().unwrap_or_default())
}

/// The problems of a patch of a type.
fn type_patch_problems(change: impl FnOnce(&mut TypePatchDraft)) -> Vec<(String, Code)> {
    let mut draft = TypeEditDraft { id: text(ID), ..TypeEditDraft::default() };
    change(&mut draft.patch);
    pointers_and_codes(parse_event_type_edit(draft).err().unwrap_or_default())
}

fn restore_problems(change: impl FnOnce(&mut EventDraft)) -> Vec<(String, Code)> {
    let mut draft = EventDraft {
        id: text(ID),
        event_type_id: text(TYPE),
        timestamp: text(START),
        ..EventDraft::default()
    };
    change(&mut draft);
    pointers_and_codes(parse_restore(draft, GuardDraft::default()).err().unwrap_or_default())
}

#[test]
fn a_missing_field_keeps_its_value() {
    let edit = parse_event_edit(EventEditDraft { id: text(ID), ..EventEditDraft::default() });
    let unchanged = EventEdit { id: id(ID), patch: EventPatch::default(), guard: Guard::default() };
    assert_eq!(edit, Ok(unchanged));
    let edit = parse_event_type_edit(TypeEditDraft { id: text(ID), ..TypeEditDraft::default() });
    assert_eq!(edit, Ok(TypeEdit { id: id(ID), patch: TypePatch::default(), guard: Guard::default() }));
}

#[test]
fn null_clears_an_optional_field() {
    let patch = EventPatchDraft {
        end_date: Some(Sent::Absent),
        time_zone: Some(Sent::Absent),
        notes: Some(Sent::Absent),
        location: Some(Sent::Absent),
        properties: Some(Sent::Absent),
        ..EventPatchDraft::default()
    };
    let draft = EventEditDraft { id: text(ID), patch, guard: GuardDraft::default() };
    let cleared = EventPatch {
        end_date: Some(None),
        time_zone: Some(None),
        notes: Some(None),
        location: Some(None),
        properties: Some("{}".to_owned()),
        ..EventPatch::default()
    };
    assert_eq!(parse_event_edit(draft).map(|edit| edit.patch), Ok(cleared));
    let patch = TypePatchDraft { color: Some(Sent::Absent), icon: Some(Sent::Absent), name: None };
    let draft = TypeEditDraft { id: text(ID), patch, guard: GuardDraft::default() };
    let cleared = TypePatch { name: None, color: Some(None), icon: Some(None) };
    assert_eq!(parse_event_type_edit(draft).map(|edit| edit.patch), Ok(cleared));
}

#[test]
fn values_are_parsed_as_in_a_create() {
    let location =
        LocationDraft { latitude: Sent::Value(1.0), longitude: Sent::Value(2.0), name: text("here") };
    let patch = EventPatchDraft {
        event_type_id: Some(text(&TYPE.to_uppercase())),
        timestamp: Some(text(START)),
        end_date: Some(text(START)),
        is_all_day: Some(Sent::Value(true)),
        time_zone: Some(text("Europe/Berlin")),
        notes: Some(text("")),
        location: Some(Sent::Value(location)),
        properties: Some(text("{ \"b\": 1, \"a\": 2 }")),
    };
    let guard = GuardDraft { expected_version: Some(1), edit_id: text(EDIT) };
    let edit = parse_event_edit(EventEditDraft { id: text(&ID.to_uppercase()), patch, guard });
    let written = instant::parse(START);
    assert_eq!(
        written.map(|written| written.date_ms),
        instant::parse("2024-02-29T00:00:00Z").map(|day| day.ms)
    );
    let patch = EventPatch {
        event_type_id: Some(id(TYPE)),
        timestamp: written,
        end_date: Some(written),
        is_all_day: Some(true),
        time_zone: Some(Some("Europe/Berlin".to_owned())),
        notes: Some(Some(String::new())),
        location: Some(Some(Location { latitude: 1.0, longitude: 2.0, name: Some("here".to_owned()) })),
        properties: Some("{\"a\":2,\"b\":1}".to_owned()),
    };
    let guard = Guard { expected_version: Some(1), edit_id: Some(id(EDIT)) };
    assert_eq!(edit, Ok(EventEdit { id: id(ID), patch, guard }));
    let patch = TypePatchDraft { name: Some(text(" Cafe\u{301} ")), color: Some(text("")), icon: None };
    let edit = parse_event_type_edit(TypeEditDraft { id: text(ID), patch, guard: GuardDraft::default() });
    let patch = TypePatch { name: Some("Café".to_owned()), color: Some(Some(String::new())), icon: None };
    assert_eq!(edit.map(|edit| edit.patch), Ok(patch));
}

#[test]
fn null_in_a_required_field_is_a_problem() {
    let required = |pointer: &str| vec![(pointer.to_owned(), Code::Required)];
    assert_eq!(patch_problems(|p| p.event_type_id = Some(Sent::Absent)), required("/patch/eventTypeId"));
    assert_eq!(patch_problems(|p| p.timestamp = Some(Sent::Absent)), required("/patch/timestamp"));
    assert_eq!(patch_problems(|p| p.is_all_day = Some(Sent::Absent)), required("/patch/isAllDay"));
    assert_eq!(type_patch_problems(|p| p.name = Some(Sent::Absent)), required("/patch/name"));
    assert_eq!(pointers_and_codes(parse_event_edit(EventEditDraft::default()).unwrap_err()), required("/id"));
    assert_eq!(
        pointers_and_codes(parse_event_type_edit(TypeEditDraft::default()).unwrap_err()),
        required("/id")
    );
    assert_eq!(pointers_and_codes(parse_removal(RemovalDraft::default()).unwrap_err()), required("/id"));
    assert_eq!(restore_problems(|event| event.id = Sent::Absent), required("/event/id"));
    assert_eq!(restore_problems(|event| event.event_type_id = Sent::Absent), required("/event/eventTypeId"));
    assert_eq!(restore_problems(|event| event.timestamp = Sent::Absent), required("/event/timestamp"));
}

#[test]
fn a_wrong_value_of_an_event_patch_is_reported_once_with_its_pointer() {
    let wrong = |pointer: &str, code: Code| vec![(pointer.to_owned(), code)];
    for bad in [text("x"), Sent::WrongType] {
        let (event_type, start, end) = (bad.clone(), bad.clone(), bad.clone());
        assert_eq!(
            patch_problems(|p| p.event_type_id = Some(event_type)),
            wrong("/patch/eventTypeId", Code::InvalidUuid)
        );
        assert_eq!(
            patch_problems(|p| p.timestamp = Some(start)),
            wrong("/patch/timestamp", Code::InvalidDatetime)
        );
        assert_eq!(
            patch_problems(|p| p.end_date = Some(end)),
            wrong("/patch/endDate", Code::InvalidDatetime)
        );
        assert_eq!(
            patch_problems(|p| p.properties = Some(bad)),
            wrong("/patch/properties", Code::InvalidJson)
        );
    }
    assert_eq!(
        patch_problems(|p| p.is_all_day = Some(Sent::WrongType)),
        wrong("/patch/isAllDay", Code::InvalidValue)
    );
    assert_eq!(
        patch_problems(|p| p.notes = Some(Sent::WrongType)),
        wrong("/patch/notes", Code::InvalidValue)
    );
    assert_eq!(
        patch_problems(|p| p.time_zone = Some(Sent::WrongType)),
        wrong("/patch/timeZone", Code::InvalidValue)
    );
    assert_eq!(
        patch_problems(|p| p.location = Some(Sent::WrongType)),
        wrong("/patch/location", Code::InvalidValue)
    );
    assert_eq!(
        patch_problems(|p| p.time_zone = Some(text("Mars"))),
        wrong("/patch/timeZone", Code::UnknownTimeZone)
    );
    assert_eq!(patch_problems(|p| p.notes = Some(text("\0"))), wrong("/patch/notes", Code::NulCharacter));
    let long = text(&"ä".repeat(10_001));
    assert_eq!(patch_problems(|p| p.notes = Some(long)), wrong("/patch/notes", Code::TooLong));
    assert!(patch_problems(|p| p.notes = Some(text(&"ä".repeat(10_000)))).is_empty());
    let wrong_location = LocationDraft {
        latitude: Sent::Value(-90.5),
        name: text(&"x".repeat(256)),
        ..LocationDraft::default()
    };
    assert_eq!(
        patch_problems(|p| p.location = Some(Sent::Value(wrong_location))),
        expected(&[
            ("/patch/location/latitude", Code::OutOfRange),
            ("/patch/location/longitude", Code::Required),
            ("/patch/location/name", Code::TooLong),
        ])
    );
}

#[test]
fn a_wrong_value_of_a_type_patch_is_reported_once_with_its_pointer() {
    for (name, code) in [
        (text(" \u{a0}"), Code::InvalidValue),
        (text(&"x".repeat(101)), Code::TooLong),
        (text("a\0"), Code::NulCharacter),
        (Sent::WrongType, Code::InvalidValue),
    ] {
        assert_eq!(type_patch_problems(|p| p.name = Some(name)), expected(&[("/patch/name", code)]));
    }
    let both = type_patch_problems(|p| {
        p.color = Some(text(&"x".repeat(33)));
        p.icon = Some(text(&"x".repeat(65)));
    });
    assert_eq!(both, expected(&[("/patch/color", Code::TooLong), ("/patch/icon", Code::TooLong)]));
}

#[test]
fn wrong_conditions_of_an_edit_are_reported_beside_its_patch() {
    for version in [0, -1, i32::MIN] {
        let guard = GuardDraft { expected_version: Some(version), edit_id: Sent::Absent };
        let wrong = expected(&[("/expectedVersion", Code::OutOfRange)]);
        let event = EventEditDraft { id: text(ID), guard: guard.clone(), ..EventEditDraft::default() };
        assert_eq!(pointers_and_codes(parse_event_edit(event).unwrap_err()), wrong);
        let event_type = TypeEditDraft { id: text(ID), guard: guard.clone(), ..TypeEditDraft::default() };
        assert_eq!(pointers_and_codes(parse_event_type_edit(event_type).unwrap_err()), wrong);
        assert_eq!(
            pointers_and_codes(parse_removal(RemovalDraft { id: text(ID), guard }).unwrap_err()),
            wrong
        );
    }
    // An edit id needs version 7 and the variant of RFC 9562. Its time is not checked.
    let other_variant = text("01900000-0000-7000-c000-0000000000cc");
    for (edit_id, code) in [
        (text(V4), Code::NotUuidV7),
        (other_variant, Code::NotUuidV7),
        (text("x"), Code::InvalidUuid),
        (Sent::WrongType, Code::InvalidUuid),
    ] {
        let guard = GuardDraft { expected_version: None, edit_id: edit_id.clone() };
        let wrong = expected(&[("/editId", code)]);
        let event = EventEditDraft { id: text(ID), guard: guard.clone(), ..EventEditDraft::default() };
        assert_eq!(pointers_and_codes(parse_event_edit(event).unwrap_err()), wrong);
        let event_type = TypeEditDraft { id: text(ID), guard: guard.clone(), ..TypeEditDraft::default() };
        assert_eq!(pointers_and_codes(parse_event_type_edit(event_type).unwrap_err()), wrong);
        assert_eq!(
            pointers_and_codes(
                parse_removal(RemovalDraft { id: text(ID), guard: guard.clone() }).unwrap_err()
            ),
            wrong
        );
        let event = EventDraft {
            id: text(ID),
            event_type_id: text(TYPE),
            timestamp: text(START),
            ..EventDraft::default()
        };
        assert_eq!(pointers_and_codes(parse_restore(event, guard).unwrap_err()), wrong);
    }
    let guard = GuardDraft {
        expected_version: Some(i32::MAX),
        edit_id: text("ffffffff-ffff-7fff-bfff-ffffffffffff"),
    };
    assert!(parse_removal(RemovalDraft { id: text(ID), guard }).is_ok());
}

#[test]
fn all_problems_of_an_edit_are_reported_in_the_order_of_the_schema() {
    let patch = EventPatchDraft {
        event_type_id: Some(Sent::Absent),
        timestamp: Some(text("x")),
        notes: Some(text("\0")),
        ..EventPatchDraft::default()
    };
    let guard = GuardDraft { expected_version: Some(0), edit_id: text(V4) };
    let errors = parse_event_edit(EventEditDraft { id: text("x"), patch, guard }).unwrap_err();
    assert_eq!(
        pointers_and_codes(errors),
        expected(&[
            ("/id", Code::InvalidUuid),
            ("/patch/eventTypeId", Code::Required),
            ("/patch/timestamp", Code::InvalidDatetime),
            ("/patch/notes", Code::NulCharacter),
            ("/expectedVersion", Code::OutOfRange),
            ("/editId", Code::NotUuidV7),
        ])
    );
}

#[test]
fn an_edit_may_be_about_any_uuid_because_only_a_create_checks_the_version() {
    assert_eq!(
        parse_removal(RemovalDraft { id: text(V4), guard: GuardDraft::default() }),
        Ok(Removal { id: id(V4), guard: Guard::default() })
    );
    assert!(patch_problems(|p| p.event_type_id = Some(text(V4))).is_empty());
}

#[test]
fn a_restore_parses_its_event_as_a_create_does() {
    let draft = EventDraft {
        id: text(ID),
        event_type_id: text(TYPE),
        timestamp: text(START),
        ..EventDraft::default()
    };
    let guard = GuardDraft { expected_version: Some(3), edit_id: text(EDIT) };
    let restore = parse_restore(draft, guard).unwrap();
    assert_eq!((restore.event.id, restore.event.origin), (id(ID), IdOrigin::Sent));
    assert_eq!(restore.event.type_ref, TypeRef::Id(id(TYPE)));
    assert_eq!(restore.guard, Guard { expected_version: Some(3), edit_id: Some(id(EDIT)) });
    assert_eq!(restore_problems(|event| event.id = text("x")), expected(&[("/event/id", Code::InvalidUuid)]));
    assert_eq!(
        restore_problems(|event| event.notes = text("\0")),
        expected(&[("/event/notes", Code::NulCharacter)])
    );
    let early = restore_problems(|event| event.end_date = text("2024-02-28T00:00:00Z"));
    assert_eq!(early, expected(&[("/event/endDate", Code::EndBeforeStart)]));
}
