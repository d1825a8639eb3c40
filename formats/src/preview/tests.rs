//! Tests previews of whole files, and of the parts that a web page sends.

use std::io::{Cursor, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::*;
use crate::{PartialSource, Source};

const ROWS: &str = "when;what;miles\n2024-01-02 10:00:00;run;1,5\nnever;run;2\n2024-01-03 10:00:00;walk;x\n";

fn mapping() -> CsvMapping {
    CsvMapping {
        event_type_column: Some("what".to_owned()),
        timestamp_column: "when".to_owned(),
        time_zone: Some("Europe/Berlin".to_owned()),
        delimiter: ";".to_owned(),
        has_decimal_comma: true,
        ..CsvMapping::default()
    }
}

fn request(mapping: Option<&CsvMapping>) -> Request<'_> {
    Request { format: None, file_name: "", mapping, records: 20, reads_all: true }
}

/// A file of this size. Only its head and its tail were sent.
fn input(head: &[u8], size: usize, tail: &[u8]) -> Input {
    let source = PartialSource::new(size as u64, head.to_vec(), tail.to_vec()).expect("it fits");
    Input::new(Arc::new(source))
}

fn whole(bytes: impl AsRef<[u8]>) -> Input {
    let bytes = bytes.as_ref();
    input(bytes, bytes.len(), b"")
}

fn preview_json(input: &Input, request: &Request<'_>) -> Value {
    preview_file(input, request).to_json()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn a_csv_without_a_mapping_shows_its_header_and_its_cells() {
    let output = preview_json(&whole(ROWS), &request(None));
    assert_eq!((&output["format"], &output["packing"]), (&json!("CSV"), &json!("plain")));
    assert_eq!(output["header"], json!(["when", "what", "miles"]));
    assert_eq!((&output["delimiter"], &output["encoding"]), (&json!(";"), &json!("UTF-8")));
    assert_eq!(output["rows"][0]["cells"], json!(["2024-01-02 10:00:00", "run", "1,5"]));
    assert_eq!((&output["rowsRead"], &output["rows"][0]["event"]), (&json!(3), &Value::Null));
    assert_eq!((&output["problems"], &output["rowsRejected"]), (&json!([]), &json!(0)));
}

#[test]
fn a_csv_with_a_mapping_shows_the_events_and_the_cells_that_are_wrong() {
    let mapping = mapping();
    let output = preview_json(&whole(ROWS), &request(Some(&mapping)));
    let event = &output["rows"][0]["event"];
    assert_eq!(event["timestamp"], "2024-01-02T09:00:00.000Z");
    assert_eq!((&event["eventType"], &event["properties"]), (&json!("run"), &json!({ "miles": 1.5 })));
    let problem = &output["rows"][1]["problems"][0];
    assert_eq!((&problem["pointer"], &problem["column"]), (&json!("/timestamp"), &json!(0)));
    assert_eq!(problem["code"], "INVALID_DATETIME");
    assert_eq!(output["rowsRejected"], 1);
    let kind = &output["problemKinds"][0];
    assert_eq!((&kind["rows"], &kind["firstRecord"], &kind["firstLine"]), (&json!(1), &json!(2), &json!(3)));
}

#[test]
fn a_mapping_that_does_not_fit_is_reported_and_the_cells_are_shown() {
    let lacking = CsvMapping { timestamp_column: "date".to_owned(), ..mapping() };
    let wrong = CsvMapping { timestamp_column: String::new(), ..mapping() };
    let unreadable = CsvMapping { encoding: Some("klingon".to_owned()), ..mapping() };
    for (mapping, pointer) in
        [(&lacking, "/csv"), (&wrong, "/csv/timestampColumn"), (&unreadable, "/csv/encoding")]
    {
        let output = preview_json(&whole(ROWS), &request(Some(mapping)));
        assert_eq!(output["problems"][0]["pointer"], pointer, "{output}");
        assert_eq!(output["rows"][0]["cells"][1], "run", "{output}");
        assert_eq!(output["rows"][0]["event"], Value::Null);
    }
}

#[test]
fn a_record_at_the_end_of_a_part_is_not_a_problem() {
    let mapping = mapping();
    for length in 16..ROWS.len() {
        let output =
            preview_json(&input(&ROWS.as_bytes()[..length], ROWS.len(), b""), &request(Some(&mapping)));
        assert_eq!((&output["problems"], &output["isCut"]), (&json!([]), &json!(true)), "{length}: {output}");
        let whole_rows = ROWS[..length].matches('\n').count() - 1;
        assert_eq!(output["rowsRead"], whole_rows, "{length}");
    }
    let packed = gzip(ROWS.repeat(500).as_bytes());
    let output =
        preview_json(&input(&packed[..packed.len() / 2], packed.len(), b""), &request(Some(&mapping)));
    assert_eq!((&output["packing"], &output["isCut"]), (&json!("gzip"), &json!(true)));
    assert_eq!(output["problems"], json!([]), "{output}");
    for format in
        ["[{\"eventType\":\"a\",\"timestamp\":\"2024-01-01T00:00:00Z\"},{\"eventTy", "{\"eventType\""]
    {
        let output = preview_json(&input(format.as_bytes(), 1_000, b""), &request(None));
        assert_eq!((&output["problems"], &output["isCut"]), (&json!([]), &json!(true)), "{output}");
    }
}

#[test]
fn further_records_are_counted_only_on_request() {
    let mapping = mapping();
    let many = format!("{ROWS}{}", "never;run;2\n".repeat(50));
    let all = Request { records: 2, ..request(Some(&mapping)) };
    let output = preview_json(&whole(&many), &all);
    assert_eq!((&output["rowsRead"], &output["rowsRejected"]), (&json!(53), &json!(51)));
    assert_eq!((output["rows"].as_array().map(Vec::len), &output["isCut"]), (Some(2), &json!(false)));
    let output = preview_json(&whole(&many), &Request { reads_all: false, ..all });
    assert_eq!((&output["rowsRead"], &output["isCut"]), (&json!(2), &json!(true)));
}

#[test]
fn files_that_cannot_be_read_are_reported() {
    for bytes in
        [&b"7z\xbc\xaf\x27\x1c and more of it"[..], &gzip(&gzip(b"{}")), b"\x89PNG\r\n\x1a\n\0\0\0\x0d\xff"]
    {
        let output = preview_json(&whole(bytes), &request(None));
        assert_eq!(output["problems"][0]["code"], "PAYLOAD_FORMAT", "{output}");
        assert_eq!((&output["problems"][1], &output["rowsRead"]), (&Value::Null, &json!(0)), "{output}");
    }
    let empty = preview_json(&whole(b""), &request(None));
    assert_eq!((&empty["rowsRead"], &empty["problems"]), (&json!(0), &json!([])), "{empty}");
    let bomb = gzip(&vec![b' '; 64 << 20]);
    let output = preview_json(&whole(&bomb).with_decoded_limit(1 << 20), &request(None));
    assert_eq!((&output["isCut"], &output["problems"]), (&json!(true), &json!([])), "{output}");
}

/// An archive with an export between two other files of these sizes in bytes.
fn archive(before: usize, after: usize) -> Vec<u8> {
    let mut zip = rawzip::ZipArchiveWriter::new(Cursor::new(Vec::new()));
    let export = "<?xml version=\"1.0\"?><HealthData><Record type=\"HKQuantityTypeIdentifierStepCount\" \
        sourceName=\"w\" unit=\"count\" startDate=\"2024-01-02 10:00:00 +0100\" \
        endDate=\"2024-01-02 10:01:00 +0100\" value=\"7\"/></HealthData>";
    let noise = vec![b' '; before.max(after)];
    let files = [
        ("folder/a.gpx", &noise[..before]),
        ("folder/export.xml", export.as_bytes()),
        ("folder/b.gpx", &noise[..after]),
    ];
    for (name, bytes) in files {
        let (mut entry, config) = zip.new_file(name).start().expect("memory");
        let mut writer = config.wrap(&mut entry);
        writer.write_all(bytes).expect("memory");
        let (_, descriptor) = writer.finish().expect("memory");
        entry.finish(descriptor).expect("memory");
    }
    zip.finish().expect("memory").into_inner()
}

#[test]
fn the_directory_at_the_end_of_a_zip_shows_its_files() {
    // The whole archive was sent, in two parts.
    let small = archive(1_000, 0);
    let output = preview_json(&input(&small[..900], small.len(), &small[900..]), &request(None));
    assert_eq!((&output["format"], &output["packing"]), (&json!("APPLE_HEALTH"), &json!("zip")), "{output}");
    // The export is in the tail, which does not begin at the start of a block.
    let large = archive(700_000, 50_000);
    let (head, tail) = (&large[..200_000], &large[large.len() - 250_000..]);
    let output = preview_json(&input(head, large.len(), tail), &request(None));
    assert_eq!((&output["format"], &output["rowsRead"]), (&json!("APPLE_HEALTH"), &json!(1)), "{output}");
    // No byte of the export was sent, so its name decides.
    let far = archive(700_000, 300_000);
    let output =
        preview_json(&input(&far[..200_000], far.len(), &far[far.len() - 250_000..]), &request(None));
    assert_eq!((&output["format"], &output["isCut"]), (&json!("APPLE_HEALTH"), &json!(true)), "{output}");
    // Not even the directory of the archive was sent.
    let output = preview_json(&input(head, large.len(), b""), &request(None));
    assert_eq!((&output["packing"], &output["problems"]), (&json!("zip"), &json!([])), "{output}");
}

#[test]
fn parts_longer_than_the_whole_are_refused() {
    assert!(PartialSource::new(3, b"four".to_vec(), Vec::new()).is_none());
    assert!(PartialSource::new(3, Vec::new(), b"four".to_vec()).is_none());
    let source = PartialSource::new(4, b"four".to_vec(), Vec::new()).expect("it fits");
    assert_eq!(source.size(), 4);
}
