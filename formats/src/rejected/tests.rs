//! Tests that rejected records are written to a file of their own format, which can be imported again.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::PartialSource;
use crate::preview::{Request, preview_file};

fn input(bytes: &[u8]) -> Input {
    let source = PartialSource::new(bytes.len() as u64, bytes.to_vec(), Vec::new()).expect("it fits");
    Input::new(Arc::new(source))
}

/// The file that is written for these records.
fn written(bytes: &[u8], format: Format, mapping: Option<&CsvMapping>, records: &[(i64, &str)]) -> String {
    let mut rejected = RejectedRecordsWriter::open(&input(bytes), format, mapping).expect("it is read");
    let mut out = rejected.content_before_records();
    for (record, reason) in records {
        out.extend(
            rejected.read_record_with_reason(*record, reason).expect("it is read").expect("it is there"),
        );
    }
    out.extend(rejected.content_after_records());
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn a_row_has_the_reason_in_a_last_column_and_the_file_is_read_by_the_same_mapping() {
    let mapping = CsvMapping {
        event_type: Some("run".to_owned()),
        timestamp_column: "when".to_owned(),
        delimiter: ",".to_owned(),
        time_zone: Some("Europe/Berlin".to_owned()),
        skip_lines: 2,
        property_columns: Some(vec!["note".to_owned()]),
        encoding: Some("windows-1252".to_owned()),
        ..CsvMapping::default()
    };
    let file =
        b"sep=;\nA list of runs\nwhen;note\n2024-01-01;\"a\nb\"\nnever;Stra\xdfe\nnot\n2024-01-02;x;y\n";
    let out =
        written(file, Format::Csv, Some(&mapping), &[(2, "no \"time\""), (3, "no time"), (4, "3 cells")]);
    assert_eq!(
        out,
        "\u{feff}sep=;\n\nwhen;note;\"rejection\"\nnever;Straße;\"no \"\"time\"\"\"\nnot;;\"no time\"\n2024-01-02;x;y;\"3 cells\"\n"
    );
    let corrected = out.replace("never", "2024-01-03").replace("not;;", "2024-01-04;;");
    let output = read(&corrected, &mapping);
    assert_eq!(
        output,
        [Ok(json!({ "note": "Straße" })), Ok(json!({})), Err("has 4 cells under a header of 3".to_owned())],
        "{corrected}"
    );
}

/// The properties of the events that a mapping makes of a file, or the first problem of each row.
fn read(file: &str, mapping: &CsvMapping) -> Vec<Result<Value, String>> {
    let format = Some(Format::Csv);
    let request = Request { format, file_name: "", mapping: Some(mapping), records: 99, reads_all: true };
    let output = preview_file(&input(file.as_bytes()), &request);
    assert_eq!(output.problems, [], "{file}");
    let rows = output.to_json()["rows"].as_array().cloned().unwrap_or_default();
    let row = |row: Value| match row["problems"].get(0) {
        Some(problem) => Err(problem["detail"].as_str().unwrap_or_default().to_owned()),
        None => Ok(row["event"]["properties"].clone()),
    };
    rows.into_iter().map(row).collect()
}

fn runs() -> CsvMapping {
    CsvMapping {
        event_type: Some("run".to_owned()),
        timestamp_column: "when".to_owned(),
        delimiter: ",".to_owned(),
        ..CsvMapping::default()
    }
}

#[test]
fn the_reason_is_in_its_column_for_any_number_of_cells() {
    let time = "2024-01-01T00:00:00Z";
    for (file, records) in [
        ("when,v,,,\nnever,2\nnever,3,,,\nnever,4,,,,,\n", 3),
        ("when,v\nnever,2,\nnever,3,, ,\nnever\nnever,\"a\"\"\nb,c\",\n", 4),
        ("when\nnever\nnever,\n", 2),
    ] {
        let wanted: Vec<(i64, &str)> = (1..=records).map(|record| (record, "why")).collect();
        let out = written(file.as_bytes(), Format::Csv, Some(&runs()), &wanted);
        // A reason that was not removed becomes a property of that name, and nothing else changes.
        let with_reason = |output: Result<Value, String>| {
            let mut output = output.expect("an event");
            output["rejection"] = json!("why");
            output
        };
        let expected: Vec<Value> =
            read(&file.replace("never", time), &runs()).into_iter().map(with_reason).collect();
        let output: Vec<Value> = read(&out.replace("never", time), &runs())
            .into_iter()
            .map(|row| row.expect("an event"))
            .collect();
        assert_eq!(output, expected, "{out}");
        // A record that is rejected again has one reason, the newest.
        let again = written(
            out.as_bytes(),
            Format::Csv,
            Some(&runs()),
            &wanted.iter().map(|(at, _)| (*at, "new")).collect::<Vec<_>>(),
        );
        let expected: Vec<Value> = expected
            .into_iter()
            .map(|mut output| {
                output["rejection"] = json!("new");
                output
            })
            .collect();
        let output: Vec<Value> = read(&again.replace("never", time), &runs())
            .into_iter()
            .map(|row| row.expect("an event"))
            .collect();
        assert_eq!(output, expected, "{again}");
    }
}

#[test]
fn a_byte_order_mark_still_takes_precedence_over_the_mapping() {
    let mapping = CsvMapping { encoding: Some("windows-1252".to_owned()), ..runs() };
    let file = "\u{feff}when,note\nnever,Straße\n";
    let out = written(file.as_bytes(), Format::Csv, Some(&mapping), &[(1, "why")]);
    let corrected = out.replace("never", "2024-01-01T00:00:00Z");
    assert_eq!(read(&corrected, &mapping), [Ok(json!({ "note": "Straße", "rejection": "why" }))]);
}

#[test]
fn an_object_has_the_reason_in_a_field() {
    let lines = b"{\"a\":1}\n{}\nnot json\n\n { \"notes\" : \"cut \\ud83d\" } \n";
    let out = written(lines, Format::Ndjson, None, &[(1, "one"), (2, "two"), (3, "three"), (4, "four")]);
    let read: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect();
    assert_eq!(read[0], json!({ "a": 1, "rejection": "one" }));
    assert_eq!(read[1], json!({ "rejection": "two" }));
    assert_eq!(read[2], json!({ "record": "not json", "rejection": "three" }));
    assert!(out.ends_with("{ \"notes\" : \"cut \\ud83d\" ,\"rejection\":\"four\"}\n"), "{out}");
    let again = written(out.as_bytes(), Format::Ndjson, None, &[(1, "new"), (2, "new"), (4, "new")]);
    assert_eq!(
        again,
        "{\"a\":1,\"rejection\":\"new\"}\n{\"rejection\":\"new\"}\n{\"notes\":\"cut \\ud83d\",\"rejection\":\"new\"}\n"
    );
}

#[test]
fn the_elements_of_an_array_are_an_array() {
    let array = b"[{\"a\":1}, 5, {\"a\":[{}]}]";
    let out = written(array, Format::Json, None, &[(2, "five"), (3, "x")]);
    let read: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(read, json!([{ "record": "5", "rejection": "five" }, { "a": [{}], "rejection": "x" }]));
    let none = written(array, Format::Json, None, &[]);
    assert_eq!(serde_json::from_str::<Value>(&none).expect("JSON"), json!([]));
}

#[test]
fn the_elements_of_an_export_are_an_export() {
    let export = b"<HealthData><Record type=\"a\"/><Workout duration=\"1\"><MetadataEntry key=\"k\" value=\"v\"/></Workout></HealthData>";
    let out = written(export, Format::AppleHealth, None, &[(2, "no -- time -")]);
    assert!(out.contains("<!-- rejection: no - - time  -->\n<Workout duration=\"1\">"), "{out}");
    let request = Request { format: None, file_name: "", mapping: None, records: 9, reads_all: true };
    assert_eq!(preview_file(&input(out.as_bytes()), &request).read, 1);
}

#[test]
fn records_that_are_too_long_are_cut() {
    let long = "x".repeat(300 * 1024);
    let out =
        written(format!("{{\"notes\":\"{long}\"}}\n").as_bytes(), Format::Ndjson, None, &[(1, "too long")]);
    assert!(out.len() < 400 && out.contains("too long"), "{} bytes", out.len());
    let rows = format!("a,b\n{long},1\n");
    let out = written(rows.as_bytes(), Format::Csv, None, &[(1, "too long")]);
    assert!(out.lines().nth(1).is_some_and(|row| row.ends_with("\",,\"too long\"")), "{}", out.len());
}

#[test]
fn a_missing_record_is_none() {
    let mut rejected =
        RejectedRecordsWriter::open(&input(b"{}\n"), Format::Ndjson, None).expect("it is read");
    assert!(rejected.read_record_with_reason(1, "").expect("it is read").is_some());
    assert!(rejected.read_record_with_reason(2, "").expect("it is read").is_none());
}

#[test]
fn invalid_xml_becomes_the_text_of_an_element() {
    let export = b"<HealthData><Record type=\"a\"/><Record type=\"b\"></Re+ord></HealthData>\n";
    let out = written(export, Format::AppleHealth, None, &[(1, "one"), (2, "two")]);
    assert_eq!(
        out,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<HealthData>\n<!-- rejection: one -->\n<Record type=\"a\"/>\n\
         <!-- rejection: two -->\n<Record text=\"&lt;Record type=&quot;b&quot;&gt;&lt;/Re+ord&gt;&lt;/HealthData&gt;\"/>\n\
         </HealthData>\n"
    );
}
