//! A mapping is checked before a file is there, and reads the rows of one: times, numbers, keys.

use domain::limits::{CSV_COLUMNS_MAX, TYPE_NAME_CHARS_MAX};
use domain::rules::csv::{CsvMapping, Plan, Row};
use domain::rules::draft::{EventDraft, MissingId, Sent, parse_event};
use domain::rules::json_text;
use domain::rules::problem::{Code, FieldProblem};
use proptest::prelude::*;
use uuid::Uuid;

fn mapping() -> CsvMapping {
    CsvMapping {
        event_type: Some("weather".to_owned()),
        timestamp_column: "t".to_owned(),
        delimiter: ",".to_owned(),
        ..CsvMapping::default()
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn list(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

/// Calls with a row of these cells.
fn with_row<T>(cells: &[&str], then: impl FnOnce(Row<'_>) -> T) -> T {
    let bytes = cells.concat();
    let ends: Vec<_> = cells
        .iter()
        .scan(0, |end, cell| {
            *end += cell.len();
            Some(*end)
        })
        .collect();
    then(Row { bytes: bytes.as_bytes(), ends: &ends, cells: cells.len() })
}

fn plan(mapping: &CsvMapping, header: &[&str]) -> Plan {
    with_row(header, |row| Plan::new(mapping, row)).unwrap_or_else(|fault| panic!("{header:?}: {fault}"))
}

fn fault(mapping: &CsvMapping, header: &[&str]) -> String {
    with_row(header, |row| Plan::new(mapping, row)).expect_err("the header does not fit")
}

fn draft(mapping: &CsvMapping, header: &[&str], cells: &[&str]) -> EventDraft {
    let draft = with_row(cells, |row| plan(mapping, header).draft(row));
    draft.unwrap_or_else(|problems| panic!("{cells:?}: {problems:?}"))
}

fn problems(mapping: &CsvMapping, header: &[&str], cells: &[&str]) -> Vec<FieldProblem> {
    let plan = plan(mapping, header);
    let event = with_row(cells, |row| plan.draft(row)).and_then(|draft| {
        parse_event(draft, MissingId::Derived(Uuid::nil()), Uuid::nil()).map_err(|all| plan.explain(all))
    });
    event.expect_err("the row is wrong")
}

fn text(value: &str) -> Sent<String> {
    Sent::Value(value.to_owned())
}

#[test]
fn a_right_mapping_has_no_problems() {
    assert_eq!(mapping().check(), []);
    for delimiter in [";", "\t", "|", " "] {
        assert_eq!(CsvMapping { delimiter: delimiter.to_owned(), ..mapping() }.check(), []);
    }
    for format in ["unix_s", "unix_ms", "%d.%m.%Y", "%m/%d/%Y %I:%M %p", "%Y-%m-%d %H:%M:%S %z", "%s", "%+"] {
        assert_eq!(CsvMapping { timestamp_format: some(format), ..mapping() }.check(), [], "{format}");
    }
}

#[test]
fn each_wrong_part_of_a_mapping_is_told_at_its_place() {
    let long = "x".repeat(256);
    let name = "x".repeat(TYPE_NAME_CHARS_MAX + 1);
    let many = (0..=CSV_COLUMNS_MAX).map(|n| n.to_string()).collect();
    let table = [
        (CsvMapping { timestamp_column: String::new(), ..mapping() }, "timestampColumn", Code::Required),
        (
            CsvMapping { timestamp_column: "a\0".to_owned(), ..mapping() },
            "timestampColumn",
            Code::NulCharacter,
        ),
        (CsvMapping { event_type: None, ..mapping() }, "eventType", Code::Required),
        (CsvMapping { event_type_column: some("k"), ..mapping() }, "eventTypeColumn", Code::InvalidValue),
        (CsvMapping { event_type: some(" "), ..mapping() }, "eventType", Code::InvalidValue),
        (CsvMapping { event_type: some(&name), ..mapping() }, "eventType", Code::TooLong),
        (CsvMapping { delimiter: String::new(), ..mapping() }, "delimiter", Code::InvalidValue),
        (CsvMapping { delimiter: ",,".to_owned(), ..mapping() }, "delimiter", Code::InvalidValue),
        (CsvMapping { delimiter: "\"".to_owned(), ..mapping() }, "delimiter", Code::InvalidValue),
        (CsvMapping { delimiter: "\n".to_owned(), ..mapping() }, "delimiter", Code::InvalidValue),
        (CsvMapping { delimiter: "é".to_owned(), ..mapping() }, "delimiter", Code::InvalidValue),
        (CsvMapping { time_zone: some("Berlin"), ..mapping() }, "timeZone", Code::UnknownTimeZone),
        (CsvMapping { source_type: some("My App"), ..mapping() }, "sourceType", Code::InvalidValue),
        (CsvMapping { timestamp_format: some(""), ..mapping() }, "timestampFormat", Code::InvalidValue),
        (CsvMapping { timestamp_format: some("%Q"), ..mapping() }, "timestampFormat", Code::InvalidValue),
        (CsvMapping { timestamp_format: some("%H:%M"), ..mapping() }, "timestampFormat", Code::InvalidValue),
        (CsvMapping { timestamp_format: some("%Y-%m"), ..mapping() }, "timestampFormat", Code::InvalidValue),
        (CsvMapping { latitude_column: some("a"), ..mapping() }, "longitudeColumn", Code::Required),
        (CsvMapping { longitude_column: some("a"), ..mapping() }, "latitudeColumn", Code::Required),
        (CsvMapping { notes_column: some(&long), ..mapping() }, "notesColumn", Code::TooLong),
        (CsvMapping { missing: list(&["", ""]), ..mapping() }, "missing", Code::InvalidValue),
        (CsvMapping { property_columns: Some(many), ..mapping() }, "propertyColumns", Code::TooLong),
        (
            CsvMapping { external_id_columns: list(&["a\0"]), ..mapping() },
            "externalIdColumns",
            Code::NulCharacter,
        ),
    ];
    for (mapping, place, code) in table {
        let found: Vec<_> =
            mapping.check().into_iter().map(|problem| (problem.pointer, problem.code)).collect();
        assert_eq!(found, [(format!("/csv/{place}"), code)], "{mapping:?}");
    }
}

#[test]
fn columns_that_are_missing_or_there_twice_are_named() {
    let all = CsvMapping { id_column: some("id"), external_id_columns: list(&["a", "b"]), ..mapping() };
    assert_eq!(fault(&all, &["a", "x"]), r#"the header lacks columns of the mapping: "t", "id", "b""#);
    let twice = fault(&mapping(), &["t", "x", "x"]);
    assert_eq!(twice, r#"the header names columns twice that the mapping reads: "x""#);
    let picked = CsvMapping { property_columns: list(&["y"]), ..mapping() };
    assert_eq!(
        draft(&picked, &["t", "x", "x", "y"], &["2013-01-01T00:00:00Z", "1", "2", "3"]).properties,
        text(r#"{"y":3}"#)
    );
    let wide = vec!["t"; CSV_COLUMNS_MAX + 1];
    assert!(fault(&mapping(), &wide).contains("4097 columns"));
    let odd = Row { bytes: b"t\xff", ends: &[1, 2], cells: 2 };
    assert_eq!(Plan::new(&mapping(), odd).expect_err("bytes"), "the header is not UTF-8");
}

#[test]
fn a_row_becomes_the_draft_that_its_mapping_says() {
    let full = CsvMapping {
        event_type: None,
        event_type_column: some("kind"),
        end_date_column: some("end"),
        id_column: some("id"),
        external_id_columns: list(&["b", "a"]),
        notes_column: some("notes"),
        source_type: some("garmin"),
        latitude_column: some("lat"),
        longitude_column: some("lon"),
        ..mapping()
    };
    let header = ["id", "kind", "t", "end", "a", "b", "notes", "lat", "lon", "x", "y"];
    let cells = [
        "i",
        "run",
        "2013-01-01T06:00:00+01:00",
        "2013-01-01T07:00:00Z",
        "1",
        "NA",
        " n\n",
        "1.5",
        "-2",
        "true",
        "",
    ];
    let read = draft(&full, &header, &cells);
    assert_eq!((read.id, read.event_type), (text("i"), text("run")));
    assert_eq!(
        (read.timestamp, read.end_date),
        (text("2013-01-01T06:00:00+01:00"), text("2013-01-01T07:00:00Z"))
    );
    assert_eq!((read.external_id, read.notes, read.source_type), (text("|1"), text(" n\n"), text("garmin")));
    assert_eq!(read.properties, text(r#"{"x":true}"#));
    let Sent::Value(place) = read.location else { panic!("a location") };
    assert_eq!((place.latitude, place.longitude), (Sent::Value(1.5), Sent::Value(-2.0)));
    let bare = draft(
        &full,
        &header,
        &["", "run", "2013-01-01", "", "", "NA", "", "", "", "", ""]
            .map(|cell| if cell == "2013-01-01" { "2013-01-01T00:00:00Z" } else { cell }),
    );
    let expected = EventDraft {
        event_type: text("run"),
        timestamp: text("2013-01-01T00:00:00Z"),
        source_type: text("garmin"),
        properties: text("{}"),
        ..EventDraft::default()
    };
    assert_eq!(bare, expected);
}

#[test]
fn times_are_read_in_every_form_that_a_mapping_allows() {
    let table = [
        (None, None, "2013-01-01T06:00:00Z", "2013-01-01T06:00:00Z"),
        (None, None, " 2013-01-01 06:00:00+01:00 ", "2013-01-01 06:00:00+01:00"),
        (None, Some("Europe/Berlin"), "2013-01-01", "2012-12-31T23:00:00.000Z"),
        (None, Some("Europe/Berlin"), "2013-07-01 10:00", "2013-07-01T08:00:00.000Z"),
        (None, Some("Europe/Berlin"), "2013-07-01T10:00:30", "2013-07-01T08:00:30.000Z"),
        (None, Some("UTC"), "2013-07-01 10:00:30.1239", "2013-07-01T10:00:30.123Z"),
        // Twice that night: the earlier one, in summer time.
        (None, Some("Europe/Berlin"), "2013-10-27 02:30", "2013-10-27T00:30:00.000Z"),
        (None, Some("America/New_York"), "2013-11-03 01:30", "2013-11-03T05:30:00.000Z"),
        (Some("unix_s"), None, "1357020000", "2013-01-01T06:00:00.000Z"),
        (Some("unix_s"), None, "-1.5", "1969-12-31T23:59:58.500Z"),
        (Some("unix_s"), None, "1357020000.1239", "2013-01-01T06:00:00.123Z"),
        (Some("unix_ms"), None, "1357020000001", "2013-01-01T06:00:00.001Z"),
        (Some("unix_ms"), None, "1357020000001.9", "2013-01-01T06:00:00.001Z"),
        (Some("%d.%m.%Y"), Some("UTC"), "01.02.2013", "2013-02-01T00:00:00.000Z"),
        (
            Some("%m/%d/%Y %I:%M %p"),
            Some("America/New_York"),
            "01/02/2013 01:05 PM",
            "2013-01-02T18:05:00.000Z",
        ),
        (Some("%Y-%m-%d %H:%M:%S %z"), None, "2019-01-01 10:00:00 +0100", "2019-01-01T09:00:00.000Z"),
        (Some("%s"), None, "1357020000", "2013-01-01T06:00:00.000Z"),
    ];
    for (format, zone, cell, expected) in table {
        let mapping = CsvMapping {
            timestamp_format: format.map(str::to_owned),
            time_zone: zone.map(str::to_owned),
            ..mapping()
        };
        assert_eq!(draft(&mapping, &["t"], &[cell]).timestamp, text(expected), "{format:?} {zone:?} {cell}");
    }
}

#[test]
fn a_time_that_is_none_is_told_with_its_column() {
    let table = [
        (None, None, "2013-01-01", "tells no offset"),
        (None, None, "2013-01-01 10:00", "tells no offset"),
        (None, Some("UTC"), "", "is required"),
        (None, Some("UTC"), "yesterday", "is no time"),
        (None, Some("UTC"), "2013-02-30", "is no time"),
        (None, Some("UTC"), "2013-01-01 24:00", "is no time"),
        (None, Some("UTC"), "2013-01-01 10", "is no time"),
        (None, Some("UTC"), "2013-01-01 10:00:", "is no time"),
        (None, Some("UTC"), "2013-01-01 10:00:00.", "is no time"),
        (None, Some("UTC"), "0000-01-01", "years 0001 to 9999"),
        (None, Some("Europe/Berlin"), "2013-03-31 02:30", "does not exist"),
        (Some("unix_s"), None, "1e9", "is no time"),
        (Some("unix_s"), None, "", "is required"),
        (Some("unix_s"), None, "-", "is no time"),
        (Some("unix_s"), None, "99999999999999999999", "is no time"),
        (Some("unix_ms"), None, "999999999999999", "years 0001 to 9999"),
        (Some("%d.%m.%Y"), None, "01.02.2013", "tells no offset"),
        (Some("%d.%m.%Y"), Some("UTC"), "01.02.2013 10:00", "is no time"),
    ];
    for (format, zone, cell, expected) in table {
        let mapping = CsvMapping {
            timestamp_format: format.map(str::to_owned),
            time_zone: zone.map(str::to_owned),
            ..mapping()
        };
        let found = problems(&mapping, &["t", "x"], &[cell, ""]);
        let [problem] = found.as_slice() else { panic!("{cell}: {found:?}") };
        let code = if expected == "is required" { Code::Required } else { Code::InvalidDatetime };
        assert_eq!((problem.pointer.as_str(), problem.code), ("/timestamp", code), "{cell}");
        assert!(
            problem.detail.contains(expected) && problem.detail.ends_with("(column \"t\")"),
            "{cell}: {}",
            problem.detail
        );
    }
}

#[test]
fn cells_are_numbers_only_where_nothing_is_lost() {
    let table = [
        ("0", true),
        ("-1", true),
        ("39.02", true),
        ("10.357019999999999", true),
        ("1.0", true),
        ("-0.5", true),
        ("18446744073709551615", true),
        ("-9223372036854775808", true),
        ("0.00012345678901234567", false),
        ("007", false),
        ("1e5", false),
        ("1E5", false),
        ("18446744073709551616", false),
        ("+1", false),
        (".5", false),
        ("5.", false),
        ("-", false),
        ("", false),
        ("1,5", false),
        ("0x1", false),
        ("NaN", false),
        ("inf", false),
        ("123456789012345678.5", false),
        ("--1", false),
        ("1.2.3", false),
        ("١", false),
    ];
    for (cell, is_plain) in table {
        assert_eq!(json_text::is_plain_number(cell), is_plain, "{cell}");
    }
    for (text, is_number) in
        [("1e5", true), ("1.5E-7", true), ("1e400", false), ("007", false), ("1e", false), ("e5", false)]
    {
        assert_eq!(json_text::is_number(text), is_number, "{text}");
    }
    let header = ["t", "a", "b", "c", "d", "e", "f\"\\"];
    let cells = ["2013-01-01T00:00:00Z", "007", "39.02", "false", "True", "NA", "a\"b\n\u{1}"];
    let expected = r#"{"a":"007","b":39.02,"c":false,"d":"True","f\"\\":"a\"b\n\u0001"}"#;
    assert_eq!(draft(&mapping(), &header, &cells).properties, text(expected));
    let kept = CsvMapping { missing: list(&["-"]), ..mapping() };
    let read = draft(&kept, &["t", "a", "b", "c"], &["2013-01-01T00:00:00Z", "-", "", "NA"]);
    assert_eq!(read.properties, text(r#"{"b":"","c":"NA"}"#));
}

#[test]
fn what_is_wrong_with_a_row_tells_the_field_and_the_column() {
    let place = CsvMapping {
        latitude_column: some("lat"),
        longitude_column: some("lon"),
        event_type: None,
        event_type_column: some("kind"),
        ..mapping()
    };
    let header = ["t", "lat", "lon", "kind"];
    let time = "2013-01-01T00:00:00Z";
    let table: [(&[&str], &str, Code, &str); 7] = [
        (&[time, "1"], "", Code::InvalidValue, "has 2 cells under a header of 4"),
        (&[time, "1", "2", "k", "5"], "", Code::InvalidValue, "has 5 cells under a header of 4"),
        (
            &[time, "north", "2", "k"],
            "/location/latitude",
            Code::InvalidValue,
            "is not a number (column \"lat\")",
        ),
        (
            &[time, "inf", "2", "k"],
            "/location/latitude",
            Code::InvalidValue,
            "is not a number (column \"lat\")",
        ),
        (&[time, "1", "", "k"], "/location/longitude", Code::Required, "is required (column \"lon\")"),
        (
            &[time, "91", "2", "k"],
            "/location/latitude",
            Code::OutOfRange,
            "must be between -90 and 90 (column \"lat\")",
        ),
        (&[time, "1", "2", "NA"], "/eventType", Code::Required, "is required (column \"kind\")"),
    ];
    for (cells, pointer, code, detail) in table {
        assert_eq!(problems(&place, &header, cells), [FieldProblem::new(pointer, code, detail)], "{cells:?}");
    }
    let row = Row { bytes: b"\xc3\xa9", ends: &[1, 2], cells: 2 };
    let problems = plan(&mapping(), &["t", "x"]).draft(row).expect_err("half a letter");
    assert_eq!(problems, [FieldProblem::new("", Code::InvalidValue, "is not UTF-8 (column \"t\")")]);
}

proptest! {
    #[test]
    fn any_cells_make_an_object_that_is_json(cells in prop::collection::vec(".*", 3)) {
        let cells: Vec<_> = ["2013-01-01T00:00:00Z"].into_iter().chain(cells.iter().map(String::as_str)).collect();
        let Sent::Value(object) = draft(&mapping(), &["t", "a", "b", "c"], &cells).properties else { panic!() };
        let read: serde_json::Value = serde_json::from_str(&object).expect("JSON");
        for (key, cell) in ["a", "b", "c"].into_iter().zip(&cells[1..]) {
            if let Some(text) = read.get(key).and_then(serde_json::Value::as_str) {
                prop_assert_eq!(text, *cell);
            }
        }
    }

    #[test]
    fn no_pattern_and_no_cell_makes_the_reader_fail(pattern in "[%a-zA-Z0-9:#.+^_ -]{0,12}", cell in ".{0,20}") {
        let mapping = CsvMapping { timestamp_format: Some(pattern), time_zone: some("UTC"), ..mapping() };
        if mapping.check().is_empty() {
            let _ = with_row(&[&cell], |row| plan(&mapping, &["t"]).draft(row));
        }
    }
}
