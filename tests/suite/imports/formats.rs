//! Tests imports of every format: real files, CSV mappings, compressed payloads and archives, and what is
//! refused.

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

/// Creates an import of a format, uploads its payload, and waits until it has ended. Returns the import.
async fn import(client: &Client, format: &str, csv: Option<Value>, payload: &[u8]) -> Value {
    let id = new_id();
    let query = "mutation($input: CreateImportInput!) { createImport(input: $input) \
        { importJob { id } problem { code detail errors { pointer code } } } }";
    let input = json!({ "id": id, "format": format, "sizeBytes": payload.len(), "csv": csv });
    let created = client.ask(query, json!({ "input": input })).await["createImport"].take();
    assert_eq!(created["importJob"]["id"], json!(id), "{created}");
    assert_eq!(client.put(&id, None, payload.to_vec()).await.status(), 200);
    let mut job = client.wait_for_end(&id).await;
    job["id"] = json!(id);
    job
}

/// Returns four counts of an import: inserted, duplicates, differing, rejected.
fn counts(job: &Value) -> [i64; 4] {
    let counts = &job["counts"];
    let each = ["inserted", "duplicates", "differing", "rejected"].map(|name| counts[name].as_i64().unwrap());
    assert_eq!(
        counts["records"].as_i64().unwrap(),
        each.iter().sum::<i64>() + counts["deleted"].as_i64().unwrap()
    );
    each
}

/// Loads the first 1000 events of a user, newest first.
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

/// Returns a zip archive of these files, compressed with deflate.
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

/// The first 2 000 hours of the weather of 2013 at the airports of New York.
const WEATHER: &[u8] = include_bytes!("../../data/weather-2000.csv.gz");

/// Returns the CSV mapping for [`WEATHER`].
fn weather() -> Value {
    json!({ "eventType": "weather", "timestampColumn": "time_hour", "externalIdColumns": ["origin", "time_hour"] })
}
