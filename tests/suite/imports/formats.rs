//! Imports of every format from the outside: real files, mappings, packings, and what is refused.

mod apple_health;
mod csv;
mod damaged;
mod packing;
mod preview;
mod real_files;

use std::io::{Read, Write};

use rawzip::{CompressionMethod, ZipArchiveWriter};
use serde_json::{Value, json};

use crate::harness::{Client, new_id};

/// Announces an import of a format, sends its payload, and waits for its end.
async fn import(client: &Client, format: &str, csv: Option<Value>, payload: &[u8]) -> Value {
    let id = new_id();
    let query = "mutation($input: CreateImportInput!) { createImport(input: $input) \
        { importJob { id } problem { code detail errors { pointer code } } } }";
    let input = json!({ "id": id, "format": format, "sizeBytes": payload.len(), "csv": csv });
    let answer = client.ask(query, json!({ "input": input })).await["createImport"].take();
    assert_eq!(answer["importJob"]["id"], json!(id), "{answer}");
    assert_eq!(client.put(&id, None, payload.to_vec()).await.status(), 200);
    let mut job = client.ended(&id).await;
    job["id"] = json!(id);
    job
}

/// The counts of an import: inserted, duplicates, differing, rejected.
fn counts(job: &Value) -> [i64; 4] {
    let counts = &job["counts"];
    let each = ["inserted", "duplicates", "differing", "rejected"].map(|name| counts[name].as_i64().unwrap());
    assert_eq!(
        counts["records"].as_i64().unwrap(),
        each.iter().sum::<i64>() + counts["deleted"].as_i64().unwrap()
    );
    each
}

/// The events of a client that an import may make, newest first.
async fn events(client: &Client) -> Vec<Value> {
    let query = "{ events(first: 1000) { nodes { id timestamp endDate timeZone notes sourceType externalId \
        properties eventType { name } location { latitude longitude } } } }";
    client.ask(query, json!({})).await["events"]["nodes"].as_array().unwrap().clone()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}

/// An archive of these members, deflated.
fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipArchiveWriter::new(Vec::new());
    for (name, bytes) in members {
        let name = rawzip::path::EntryPath::verbatim(name.as_bytes());
        let file = archive.new_file(name).compression_method(CompressionMethod::DEFLATE);
        let (mut entry, config) = file.start().unwrap();
        let encoder = flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::best());
        let mut writer = config.wrap(encoder);
        writer.write_all(bytes).unwrap();
        let (encoder, output) = writer.finish().unwrap();
        encoder.finish().unwrap();
        entry.finish(output).unwrap();
    }
    archive.finish().unwrap()
}

/// The weather of 2013 at New York's airports, its first 2 000 hours.
const WEATHER: &[u8] = include_bytes!("../../data/weather-2000.csv.gz");

fn weather() -> Value {
    json!({ "eventType": "weather", "timestampColumn": "time_hour", "externalIdColumns": ["origin", "time_hour"] })
}
