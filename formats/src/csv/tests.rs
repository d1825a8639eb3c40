//! Tests that a mapping is checked before there is a file, and how it reads the rows of one: times, numbers,
//! keys.

mod files;
mod times;

use std::io::Cursor;
use std::sync::Arc;

use domain::csv_mapping::CsvMapping;
use domain::draft::{EventDraft, Sent};
use domain::json_text;
use domain::limits::{CSV_COLUMNS_MAX, TYPE_NAME_CHARS_MAX};
use domain::problem::{Code, FieldProblem};
use proptest::prelude::*;
use uuid::Uuid;

use super::{Table, check_mapping};
use crate::Input;
use crate::bounded::BoundedReader;
use crate::reader::{ParsedRecord, RecordReader};
use crate::tests::Memory;

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

/// A row as CSV.
fn line(cells: &[&str]) -> String {
    let quoted: Vec<_> = cells.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect();
    format!("{}\n", quoted.join(","))
}

/// Opens a file.
fn open(mapping: &CsvMapping, payload: impl Into<Vec<u8>>) -> Result<Table, String> {
    let payload = payload.into();
    let input = Input::new(Arc::new(Memory(payload.clone())));
    let bytes = BoundedReader::of_plain(Cursor::new(payload), 0, &input);
    Table::open_with_mapping(bytes, mapping, &input).map_err(|error| error.to_string())
}

fn header_error(mapping: &CsvMapping, header: &[&str]) -> String {
    open(mapping, line(header)).err().expect("the header does not fit")
}

/// The drafts of a file, or the problems of its rows.
fn rows(mapping: &CsvMapping, payload: impl Into<Vec<u8>>) -> Vec<Result<EventDraft, Vec<FieldProblem>>> {
    let mut table = open(mapping, payload).unwrap_or_else(|fault| panic!("{fault}"));
    let mut rows = Vec::new();
    while table.advance().expect("it is whole") {
        let read = table.parse_record(Uuid::nil());
        rows.push(read.and_then(
            |ParsedRecord { draft, problems, .. }| {
                if problems.is_empty() { Ok(draft) } else { Err(problems) }
            },
        ));
    }
    rows
}

fn row(mapping: &CsvMapping, header: &[&str], cells: &[&str]) -> Result<EventDraft, Vec<FieldProblem>> {
    rows(mapping, line(header) + &line(cells)).pop().expect("a row")
}

fn draft(mapping: &CsvMapping, header: &[&str], cells: &[&str]) -> EventDraft {
    row(mapping, header, cells).unwrap_or_else(|problems| panic!("{cells:?}: {problems:?}"))
}

/// All problems of a row, and of the event that it makes.
fn problems(mapping: &CsvMapping, header: &[&str], cells: &[&str]) -> Vec<FieldProblem> {
    let mut table = open(mapping, line(header) + &line(cells)).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(table.advance().expect("it is whole"));
    table.parse_event_of_record(Uuid::nil(), &|_| Uuid::nil()).expect_err("the row is wrong")
}

fn text(value: &str) -> Sent<String> {
    Sent::Value(value.to_owned())
}

#[test]
fn a_valid_mapping_has_no_problems() {
    assert_eq!(check_mapping(&mapping()), []);
    for delimiter in [";", "\t", "|", " "] {
        assert_eq!(check_mapping(&CsvMapping { delimiter: delimiter.to_owned(), ..mapping() }), []);
    }
    for format in ["unix_s", "unix_ms", "%d.%m.%Y", "%m/%d/%Y %I:%M %p", "%Y-%m-%d %H:%M:%S %z", "%s", "%+"] {
        assert_eq!(
            check_mapping(&CsvMapping { timestamp_format: some(format), ..mapping() }),
            [],
            "{format}"
        );
    }
}

#[test]
fn each_wrong_part_of_a_mapping_has_a_problem_with_its_pointer() {
    let long = "x".repeat(256);
    let name = "x".repeat(TYPE_NAME_CHARS_MAX + 1);
    let endless = "%Y-%m-%d ".repeat(1_111);
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
        (CsvMapping { timestamp_format: some(&endless), ..mapping() }, "timestampFormat", Code::InvalidValue),
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
            check_mapping(&mapping).into_iter().map(|problem| (problem.pointer, problem.code)).collect();
        assert_eq!(found, [(format!("/csv/{place}"), code)], "{mapping:?}");
    }
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
        (text("2013-01-01T05:00:00.000Z"), text("2013-01-01T07:00:00.000Z"))
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
        timestamp: text("2013-01-01T00:00:00.000Z"),
        source_type: text("garmin"),
        properties: text("{}"),
        ..EventDraft::default()
    };
    assert_eq!(bare, expected);
}

#[test]
fn cells_become_numbers_only_if_nothing_is_lost() {
    let table = [
        ("0", true),
        ("-1", true),
        ("39.02", true),
        ("10.357019999999999", true),
        ("1.0", true),
        ("-0.5", true),
        ("18446744073709551615", true),
        ("-9223372036854775808", true),
        ("0.00012345678901234567", true),
        ("0.30000000000000004", true),
        ("1234567.50000000000000000", true),
        ("0.00012345678901234568", false),
        ("9007199254740993.5", false),
        ("12345678901234.567", false),
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
        assert_eq!(json_text::is_lossless_number(cell), is_plain, "{cell}");
    }
    for (text, is_number) in
        [("1e5", true), ("1.5E-7", true), ("1e400", false), ("007", false), ("1e", false), ("e5", false)]
    {
        assert_eq!(json_text::is_finite_number(text), is_number, "{text}");
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
fn problems_of_a_row_name_the_field_and_the_column() {
    let place = CsvMapping {
        latitude_column: some("lat"),
        longitude_column: some("lon"),
        event_type: None,
        event_type_column: some("kind"),
        ..mapping()
    };
    let header = ["t", "lat", "lon", "kind"];
    let time = "2013-01-01T00:00:00Z";
    let table: [(&[&str], &str, Code, &str); 6] = [
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
    let halves = rows(&mapping(), *b"t,x\n\xc3,\xa9\n").remove(0).expect_err("half a letter");
    let expected = [("/timestamp", "is not UTF-8 (column \"t\")"), ("", "is not UTF-8 (column \"x\")")];
    assert_eq!(
        halves,
        expected.map(|(pointer, detail)| FieldProblem::new(pointer, Code::InvalidValue, detail))
    );
    let both = rows(&mapping(), *b"t,x\nnever,\xa9\n").remove(0).expect_err("neither is right");
    let reported: Vec<_> = both.iter().map(|problem| (problem.pointer.as_str(), problem.code)).collect();
    assert_eq!(reported, [("", Code::InvalidValue), ("/timestamp", Code::InvalidDatetime)]);
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
    fn no_pattern_and_no_cell_makes_the_reader_panic(pattern in "[%a-zA-Z0-9:#.+^_ -]{0,12}", cell in ".{0,20}") {
        let mapping = CsvMapping { timestamp_format: Some(pattern), time_zone: some("UTC"), ..mapping() };
        if check_mapping(&mapping).is_empty() {
            let _either = row(&mapping, &["t"], &[&cell]);
        }
    }
}
