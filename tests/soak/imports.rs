//! A device that imports files of its own. Each third import has the file of the one before again.

use std::collections::VecDeque;
use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::Api;

/// A finished import, and what must be stored of it.
#[derive(Debug)]
pub struct Imported {
    pub user: usize,
    pub id: String,
    pub inserted: i64,
    pub duplicates: i64,
}

const IMPORT: &str = "query($id: ID!) { importJob(id: $id) { state problem { code } counts { records inserted \
    duplicates differing deleted rejected } } }";
/// The number of finished imports that are loaded again after each import. A worker that has lost its lease
/// must not change them.
const CHECKED_AGAIN: usize = 8;

/// Imports files until writing is over. Returns the imports and what must be stored of them.
pub async fn run(mut api: Api) -> Vec<Imported> {
    let mut imported = Vec::new();
    let (mut number, mut last) = (0, None);
    let mut ended: VecDeque<(String, Value)> = VecDeque::new();
    while !api.log.is_writing_over() {
        number += 1;
        let (payload, records) = match last.take() {
            Some(same) if number % 3 == 0 => same,
            _ => file(&mut api, number),
        };
        let is_new = number % 3 != 0;
        let id = api.new_id();
        let Some(job) = import(&mut api, &id, &payload).await else { break };
        let (inserted, duplicates) = if is_new { (records, 0) } else { (0, records) };
        let expected = json!({ "records": records, "inserted": inserted, "duplicates": duplicates, "differing": 0, "deleted": 0, "rejected": 0 });
        if job["state"] != "COMPLETED" || job["counts"] != expected {
            api.log.wrong(format!("an import of {records} records ended as {job}, not {expected}"));
        }
        api.log.acknowledged(if is_new { "imported" } else { "imported again" });
        ended.push_back((id.clone(), job));
        if ended.len() > CHECKED_AGAIN {
            ended.pop_front();
        }
        for (id, before) in &ended {
            let Some(mut data) = api.ask_until_answered(IMPORT, &json!({ "id": id })).await else { break };
            let now = data["importJob"].take();
            if now != *before {
                api.log.wrong(format!("import {id} had ended as {before} and is {now}"));
            }
        }
        imported.push(Imported { user: api.user, id, inserted, duplicates });
        last = is_new.then_some((payload, records));
    }
    imported
}

/// Returns a file and the number of its records. Their external ids are in no other file. Half of the files
/// are gzip.
fn file(api: &mut Api, number: usize) -> (Vec<u8>, i64) {
    let records = 300 + api.rng.below(2_500);
    let mut text = String::new();
    for record in 0..records {
        let line = json!({
            "eventType": "sample", "timestamp": "2026-02-03T04:05:06Z",
            "externalId": format!("{}-{number}-{record}", api.client_id()),
            "notes": format!("{} imported", api.canary()),
        });
        text += &format!("{line}\n");
    }
    let records = i64::try_from(records).unwrap();
    if !api.rng.chance(50) {
        return (text.into_bytes(), records);
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    (encoder.finish().unwrap(), records)
}

/// Imports one file, and retries until the import has ended. Returns the import.
async fn import(api: &mut Api, id: &str, payload: &[u8]) -> Option<Value> {
    let announce = "mutation($i: CreateImportInput!) { createImport(input: $i) { problem { code } } }";
    let input = json!({ "i": { "id": id, "format": "NDJSON", "sizeBytes": payload.len() } });
    let announced = api.ask_until_answered(announce, &input).await?;
    if !announced["createImport"]["problem"].is_null() {
        api.log.wrong(format!("an import was refused: {announced}"));
    }
    api.upload(id, payload).await?;
    loop {
        let job = api.ask_until_answered(IMPORT, &json!({ "id": id })).await?["importJob"].take();
        match (job["state"].as_str(), job["problem"]["code"].as_str()) {
            (Some("COMPLETED" | "CANCELED"), _) => return Some(job),
            // The payload store was broken for a while, so the import is retried from its checkpoint.
            (Some("FAILED"), Some("PAYLOAD_GONE" | "NO_PROGRESS")) => {
                let retry = "mutation($id: ID!) { retryImport(input: { id: $id }) { problem { code } } }";
                api.ask_until_answered(retry, &json!({ "id": id })).await?;
            }
            (Some("FAILED"), _) => return Some(job),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
