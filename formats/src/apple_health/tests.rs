//! Tests elements of an Apple Health export as events, and when two of them are the same event.

use std::io::Cursor;
use std::sync::Arc;

use domain::draft::{MissingId, NewEvent, Sent, TypeRef, parse_event};
use domain::import::Format;
use domain::problem::Code;
use proptest::prelude::*;
use uuid::Uuid;

use super::ExportReader;
use super::sample::parse_sample;
use crate::bounded::BoundedReader;
use crate::reader::RecordReader;
use crate::tests::Memory;
use crate::{Checkpoint, Input, open_at_or_before_checkpoint};

const STEPS: &str = r#"<Record type="HKQuantityTypeIdentifierStepCount" sourceName="Ann&#8217;s Watch" sourceVersion="9.1" device="&lt;&lt;HKDevice: 0x281b3a5d0&gt;, name:Apple Watch, model:Watch&gt;" unit="count" creationDate="2019-01-01 10:10:00 +0100" startDate="2019-01-01 10:00:00 +0100" endDate="2019-01-01 10:05:00 +0100" value="52"/>"#;

fn event(element: &str) -> NewEvent {
    let sample =
        parse_sample(element.as_bytes()).unwrap_or_else(|problems| panic!("{element}: {problems:?}"));
    parse_event(sample.draft, MissingId::FromKeys(Uuid::nil(), sample.keys), Uuid::nil()).expect("an event")
}

fn problems(element: &[u8]) -> Vec<(String, Code)> {
    let problems = parse_sample(element).map_or_else(|problems| problems, |sample| sample.problems);
    problems.into_iter().map(|problem| (problem.pointer, problem.code)).collect()
}

fn name(event: &NewEvent) -> &str {
    match &event.type_ref {
        TypeRef::Name { name, .. } => name,
        TypeRef::Id(_) => panic!("a name"),
    }
}

#[test]
fn a_record_is_an_event_of_its_type() {
    let event = event(STEPS);
    assert_eq!(name(&event), "HKQuantityTypeIdentifierStepCount");
    assert_eq!((event.source_type.as_str(), &event.external_id), ("healthkit", &None));
    assert_eq!((event.body.timestamp, event.body.end_date), (1_546_333_200_000, Some(1_546_333_500_000)));
    let expected = r#"{"device":"name:Apple Watch, model:Watch","sourceName":"Ann’s Watch","sourceVersion":"9.1","unit":"count","value":52}"#;
    assert_eq!(event.body.properties, expected);
}

#[test]
fn the_same_sample_is_the_same_event_in_every_export() {
    let first = event(STEPS);
    let other = STEPS
        .replace("0x281b3a5d0", "0x99")
        .replace("2019-01-01 10:10:00 +0100", "2020-01-01 10:10:00 +0100")
        .replace("2019-01-01 10:00:00 +0100", "2019-01-01 09:00:00 +0000")
        .replace("\"52\"", "\"52.0\"")
        .replace("/>", r#"><MetadataEntry key="HKExternalUUID" value="9F"/><MetadataEntry key="HKMetadataKeySyncVersion" value="2"/></Record>"#);
    assert_eq!(event(&other), first);
    for (from, to) in [
        ("\"52\"", "\"53\""),
        ("10:00:00", "10:00:01"),
        ("10:05:00", "10:05:01"),
        ("\"count\"", "\"km\""),
        ("Watch\" sourceVersion", "Phone\" sourceVersion"),
        ("StepCount", "StepLength"),
    ] {
        assert_ne!(event(&STEPS.replace(from, to)).id, first.id, "{from}");
    }
    let renewed = event(&STEPS.replace("name:Apple Watch", "name:Watch").replace("9.1", "9.2"));
    assert_eq!(renewed.id, first.id);
    assert_ne!(renewed.body, first.body);
}

#[test]
fn a_workout_keeps_its_amounts_its_statistics_and_its_metadata() {
    let workout = r#"<Workout workoutActivityType="HKWorkoutActivityTypeRunning" duration="30.5" durationUnit="min" totalDistance="5" totalDistanceUnit="km" sourceName="W" startDate="2019-07-01 10:00:00 +0200" endDate="2019-07-01 10:30:30 +0200">
 <MetadataEntry key="HKTimeZone" value="Europe/Berlin"/> <MetadataEntry key="HKIndoorWorkout" value="0"/>
 <WorkoutEvent type="HKWorkoutEventTypePause" date="2019-07-01 10:10:00 +0200"/>
 <WorkoutStatistics type="HKQuantityTypeIdentifierHeartRate" startDate="x" average="140.5" minimum="90" unit="count/min"/>
 <WorkoutStatistics type="HKQuantityTypeIdentifierActiveEnergyBurned" sum="1.5e2" unit="kcal"/>
 <WorkoutRoute sourceName="W"><MetadataEntry key="HKMetadataKeySyncIdentifier" value="7"/><MetadataEntry key="Inner" value="7"/></WorkoutRoute>
</Workout>"#;
    let event = event(workout);
    assert_eq!(name(&event), "HKWorkoutActivityTypeRunning");
    assert_eq!(event.body.time_zone.as_deref(), Some("Europe/Berlin"));
    let expected = r#"{"duration":30.5,"durationUnit":"min","metadata":{"HKIndoorWorkout":"0"},"sourceName":"W","statistics":[{"average":140.5,"minimum":90,"type":"HKQuantityTypeIdentifierHeartRate","unit":"count/min"},{"sum":150,"type":"HKQuantityTypeIdentifierActiveEnergyBurned","unit":"kcal"}],"totalDistance":5,"totalDistanceUnit":"km"}"#;
    assert_eq!(event.body.properties, expected);
    let elsewhere = workout.replace("Europe/Berlin", "Mars/Base");
    let Sent::Value(kept) = parse_sample(elsewhere.as_bytes()).expect("read").draft.properties else {
        panic!()
    };
    assert!(kept.contains(r#""HKTimeZone":"Mars/Base""#));
}

#[test]
fn a_category_sample_keeps_the_name_of_its_value() {
    let sleep = r#"<Record type = 'HKCategoryTypeIdentifierSleepAnalysis'
        startDate= "2019-01-01 23:00:00 +0100"  endDate ="2019-01-02 06:00:00 +0100" value="HKCategoryValueSleepAnalysisAsleep" ></Record>"#;
    assert_eq!(event(sleep).body.properties, r#"{"value":"HKCategoryValueSleepAnalysisAsleep"}"#);
}

#[test]
fn control_characters_are_dropped_and_white_space_is_blanks() {
    let odd = STEPS.replace("Ann&#8217;s Watch", "A\u{b}n\u{7f}n&#1;\t\u{85}x\ny");
    assert!(
        event(&odd).body.properties.contains(r#""sourceName":"Ann x y""#),
        "{}",
        event(&odd).body.properties
    );
}

#[test]
fn broken_elements_are_reported() {
    let long = STEPS.replace("count", &"c".repeat(20_000));
    let table: [(String, &str, Code); 15] = [
        ("<Record/>".to_owned(), "/eventType", Code::Required),
        (
            STEPS.replace("startDate=\"2019-01-01 10:00:00 +0100\"", "startDate=\"soon\""),
            "/timestamp",
            Code::InvalidDatetime,
        ),
        (
            STEPS.replace("endDate=\"2019-01-01 10:05:00 +0100\"", "endDate=\"2019-13-01 10:05:00 +0100\""),
            "/endDate",
            Code::InvalidDatetime,
        ),
        (STEPS.replace("+0100\" value", "0100\" value"), "/endDate", Code::InvalidDatetime),
        (STEPS.replace("unit=\"count\"", "unit=count"), "", Code::InvalidValue),
        (STEPS.replace("unit=\"count\"", "unit"), "", Code::InvalidValue),
        (STEPS.replace("unit=\"count\"", "unit=\"count\" unit=\"km\""), "", Code::InvalidValue),
        (STEPS.replace("\"count\"", "\"&lol;\""), "", Code::InvalidValue),
        (STEPS.replace("\"count\"", "\"&#xFFFFFFFF;\""), "", Code::InvalidValue),
        (STEPS.replace("\"count\"", "\"a & b\""), "", Code::InvalidValue),
        (STEPS.replace("/>", ">&lol9;</Record>"), "", Code::InvalidValue),
        (STEPS.replace("/>", "><MetadataEntry key=\"a\" value=\"&x;\"/></Record>"), "", Code::InvalidValue),
        (STEPS.replace("/>", "><A></B></Record>"), "", Code::InvalidValue),
        (STEPS.replace("/>", ">"), "", Code::InvalidValue),
        (STEPS.replace("\"52\"/>", "\"52"), "", Code::InvalidValue),
    ];
    for (element, pointer, code) in table {
        assert_eq!(problems(element.as_bytes()), [(pointer.to_owned(), code)], "{element}");
    }
    assert_eq!(problems(b"<Record type=\"\xff\"/>"), [(String::new(), Code::InvalidValue)]);
    // All problems of a sample are reported.
    let whole = b"<HealthData><Record endDate=\"soon\"/></HealthData>".to_vec();
    let input = Input::new(Arc::new(Memory(whole)));
    let (mut export, _) =
        open_at_or_before_checkpoint(&input, Format::AppleHealth, None, Checkpoint::default())
            .expect("an export");
    assert!(export.advance().expect("a record"));
    let several = export.parse_event_of_record(Uuid::nil(), &|_| Uuid::nil()).expect_err("three are wrong");
    let mut pointers: Vec<_> = several.iter().map(|problem| problem.pointer.as_str()).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/endDate", "/eventType", "/timestamp"]);
    let sample = parse_sample(long.as_bytes()).expect("well-formed");
    let refused = parse_event(sample.draft, MissingId::FromKeys(Uuid::nil(), sample.keys), Uuid::nil());
    assert_eq!(refused.expect_err("too large")[0].code, Code::TooLarge);
}

/// The workout of an export with one workout.
fn workout(children: &str) -> NewEvent {
    let export = format!(
        "<HealthData><Workout workoutActivityType=\"HKWorkoutActivityTypeRunning\" duration=\"30\" \
         startDate=\"2024-03-01 10:00:00 +0100\" endDate=\"2024-03-01 10:30:00 +0100\">{children}</Workout>\
         <Record type=\"a\" startDate=\"2024-03-01 10:00:00 +0100\"/></HealthData>"
    );
    let input = Input::new(Arc::new(Memory(Vec::new())));
    let mut reader = ExportReader::new(BoundedReader::of_plain(Cursor::new(export), 0, &input));
    assert!(
        reader.advance().expect("it is whole") && !reader.is_too_long(),
        "{} bytes",
        reader.raw_bytes().len()
    );
    let workout = reader.parse_event_of_record(Uuid::nil(), &|_| Uuid::nil()).expect("a workout");
    assert!(reader.advance().expect("it is whole"), "the record after it");
    assert_eq!(reader.raw_bytes(), b"<Record type=\"a\" startDate=\"2024-03-01 10:00:00 +0100\"/>");
    workout
}

#[test]
fn a_workout_with_more_than_an_event_holds_is_stored_without_the_rest() {
    let laps = "<WorkoutEvent type=\"HKWorkoutEventTypeLap\" date=\"2024-03-01 10:00:00 +0100\" duration=\"1\">\
        <MetadataEntry key=\"lap\" value=\"1\"/></WorkoutEvent>\n <WorkoutEvent type=\"x\"/>";
    let kept = "<MetadataEntry key=\"HKIndoorWorkout\" value=\"0\"/>\
        <WorkoutStatistics type=\"HKQuantityTypeIdentifierDistance\" sum=\"5\" unit=\"km\"/>";
    let plain = workout(kept);
    let expected = r#"{"duration":30,"metadata":{"HKIndoorWorkout":"0"},"statistics":[{"sum":5,"type":"HKQuantityTypeIdentifierDistance","unit":"km"}]}"#;
    assert_eq!(plain.body.properties, expected);
    // Elements that are not kept do not count towards the size.
    assert_eq!(workout(&(laps.repeat(4_000) + kept)), plain);
    assert_eq!(workout(&(kept.to_owned() + &laps.repeat(4_000))), plain);
    let entries: String =
        (0..2_500).map(|n| format!("<MetadataEntry key=\"k{n:04}\" value=\"0123456789\"/>")).collect();
    let large = workout(&(entries + kept));
    let read: serde_json::Value = serde_json::from_str(&large.body.properties).expect("JSON");
    let (stored, omitted) =
        (read["metadata"].as_object().expect("some").len(), read["omitted"].as_u64().expect("a count"));
    assert!(
        stored > 500 && u64::try_from(stored).expect("a count") + omitted >= 2_501,
        "{stored} and {omitted}"
    );
    assert_eq!((large.id, &read["duration"]), (plain.id, &serde_json::json!(30)));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_sample(&bytes);
    }

    #[test]
    fn no_damage_makes_the_reader_panic(at in 0..STEPS.len(), byte in any::<u8>()) {
        let mut bytes = STEPS.as_bytes().to_vec();
        bytes[at] = byte;
        let _ = parse_sample(&bytes);
        let _ = parse_sample(&bytes[..at]);
    }
}
