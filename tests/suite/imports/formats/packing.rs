//! Tests that the same records in another format or compression are the same events, and that a payload that
//! cannot be read is refused by name.

use std::io::{Read, repeat};

use serde_json::{Value, json};

use super::{counts, gzip, import, weather, zip};
use crate::harness::{TestServer, on_both};

on_both!(
    a_record_is_the_same_event_in_every_format_and_packing,
    the_problem_names_why_a_payload_cannot_be_read,
    a_decompression_bomb_fails_its_import_and_nothing_else,
);

fn records() -> Vec<String> {
    let record = |n: u32| {
        format!(
            r#"{{"eventType":"s","timestamp":"2026-01-01T00:00:00Z","sourceType":"imported","externalId":"{n}","properties":{{"n":{n}}}}}"#
        )
    };
    (0..700).map(record).collect()
}

async fn a_record_is_the_same_event_in_every_format_and_packing(server: &TestServer) {
    let client = server.client("ann");
    let array = format!("[{}]", records().join(",\n"));
    let lines = records().join("\r\n");
    let rows =
        (0..700).fold("k,t,n\n".to_owned(), |rows, n| rows + &format!("{n},2026-01-01T00:00:00Z,{n}\n"));
    let mapping = json!({ "eventType": "s", "timestampColumn": "t", "externalIdColumns": ["k"] });
    let first = import(&client, "JSON", None, array.as_bytes()).await;
    assert_eq!((&first["state"], counts(&first)), (&json!("COMPLETED"), [700, 0, 0, 0]), "{first}");
    assert_eq!(first["progress"], json!(1.0));
    for (format, mapping, plain) in
        [("JSON", None, array), ("NDJSON", None, lines), ("CSV", Some(mapping), rows)]
    {
        let plain = plain.as_bytes();
        let split = plain.len() / 2;
        let packings = [
            plain.to_vec(),
            [gzip(&plain[..split]), gzip(&plain[split..])].concat(),
            zstd::encode_all(plain, 3).unwrap(),
            zip(&[("../../escape", plain), ("__MACOSX/._escape", b"x")]),
        ];
        for payload in packings {
            let job = import(&client, format, mapping.clone(), &payload).await;
            assert_eq!((&job["state"], counts(&job)), (&json!("COMPLETED"), [0, 700, 0, 0]), "{job}");
            assert_eq!(job["recordsTotal"], 700);
        }
    }
}

async fn the_problem_names_why_a_payload_cannot_be_read(server: &TestServer) {
    let client = server.client("ann");
    let wide: Vec<u8> = records()[0].encode_utf16().flat_map(u16::to_le_bytes).collect();
    let event = records()[0].clone().into_bytes();
    let table: [(&str, Vec<u8>, &str); 9] = [
        ("NDJSON", b"BZh91AY&SY\0\0\0\0".to_vec(), "bzip2 is not read; send gzip, zstd or zip"),
        ("NDJSON", gzip(&gzip(&event)), "the payload is compressed twice: gzip inside of gzip"),
        ("NDJSON", gzip(&wide), "the text is UTF-16; send UTF-8"),
        ("NDJSON", [b"\xff\xfe".to_vec(), wide].concat(), "the text is UTF-16; send UTF-8"),
        ("NDJSON", b"[]".to_vec(), "looks like a JSON array: use the format JSON"),
        (
            "JSON",
            event.clone(),
            "looks like JSON objects without an array around them: if each is on its own line, \
             use the format NDJSON",
        ),
        (
            "JSON",
            zip(&[("a", &event), ("b", &event)]),
            "the zip archive has 2 files (a, b): send one, or an export of Apple Health",
        ),
        (
            "APPLE_HEALTH",
            b"<html></html>".to_vec(),
            "a page of HTML is not read: send CSV, JSON, NDJSON or an export of Apple Health",
        ),
        ("APPLE_HEALTH", event, "is not XML: an export of Apple Health is an XML file"),
    ];
    for (format, payload, detail) in table {
        let job = import(&client, format, None, &payload).await;
        let problem = json!({ "code": "PAYLOAD_FORMAT", "detail": detail });
        assert_eq!((&job["state"], &job["problem"], counts(&job)), (&json!("FAILED"), &problem, [0; 4]));
    }
    let twice = br#"[{"eventType":"s","notes":"a","notes":"b","timestamp":"2026-01-01T00:00:00Z"}, 7]"#;
    let job = import(&client, "JSON", None, twice).await;
    assert_eq!((&job["state"], counts(&job)), (&json!("COMPLETED"), [0, 0, 0, 2]));
    assert_eq!(
        (&job["rejections"]["nodes"][1]["record"], &job["rejections"]["nodes"][1]["line"]),
        (&json!(2), &Value::Null)
    );
}

async fn a_decompression_bomb_fails_its_import_and_nothing_else(server: &TestServer) {
    let client = server.client("ann");
    let mut blanks = Vec::new();
    repeat(b' ').take(80 * 1024 * 1024).read_to_end(&mut blanks).unwrap();
    let bomb = gzip(&blanks);
    assert!(blanks.len() / bomb.len() > 900);
    for (format, csv, payload) in [
        ("NDJSON", None, bomb.clone()),
        ("CSV", Some(weather()), zip(&[("a.csv", &blanks)])),
        ("JSON", None, zstd::encode_all(&blanks[..], 3).unwrap()),
    ] {
        let job = import(&client, format, csv, &payload).await;
        assert_eq!(
            (&job["state"], &job["problem"]["code"]),
            (&json!("FAILED"), &json!("PAYLOAD_LIMIT")),
            "{job}"
        );
    }
    let nested = import(&client, "NDJSON", None, &gzip(&zip(&[("a", &bomb)]))).await;
    assert_eq!(nested["problem"]["detail"], "the payload is compressed twice: zip inside of gzip");
    let wide = format!("{}\n1\n", vec!["c"; 50_000].join(","));
    let job = import(&client, "CSV", Some(weather()), wide.as_bytes()).await;
    assert_eq!(job["problem"]["detail"], "the header has 50000 columns; at most 4096 are allowed");
    let valid = import(&client, "NDJSON", None, records()[0].as_bytes()).await;
    assert_eq!(counts(&valid), [1, 0, 0, 0]);
}
