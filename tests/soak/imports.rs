//! A device that imports: files of its own, and each third one again.

use std::collections::VecDeque;
use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::Api;

/// An import that ended, and what must be stored of it.
#[derive(Debug)]
pub struct Imported {
    pub user: usize,
    pub id: String,
    /// New rows.
    pub inserted: i64,
    /// Records that were there.
    pub duplicates: i64,
}

const LOOK: &str = "query($id: ID!) { importJob(id: $id) { state problem { code } counts { records inserted \
    duplicates differing deleted rejected } } }";
/// Imports that have ended and are looked at again after each one: whoever lost a lease must not move them.
const LOOKED_AT_AGAIN: usize = 8;

/// Imports until it is told to stop; what must be there.
pub async fn run(mut api: Api) -> Vec<Imported> {
    let mut imported = Vec::new();
    let (mut number, mut last) = (0, None);
    let mut ended: VecDeque<(String, Value)> = VecDeque::new();
    while !api.log.is_writing_over() {
        number += 1;
        let (payload, records) = match last.take() {
            Some(again) if number % 3 == 0 => again,
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
        if ended.len() > LOOKED_AT_AGAIN {
            ended.pop_front();
        }
        for (id, told) in &ended {
            let Some(mut data) = api.insist(LOOK, &json!({ "id": id })).await else { break };
            let now = data["importJob"].take();
            if now != *told {
                api.log.wrong(format!("import {id} had ended as {told} and is {now}"));
            }
        }
        imported.push(Imported { user: api.user, id, inserted, duplicates });
        last = is_new.then_some((payload, records));
    }
    imported
}

/// Records with external ids that no other file has, as they are or packed.
fn file(api: &mut Api, number: usize) -> (Vec<u8>, i64) {
    let records = 300 + api.dice.below(2_500);
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
    if !api.dice.chance(50) {
        return (text.into_bytes(), records);
    }
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    (packed.finish().unwrap(), records)
}

/// Brings one file in, however often that takes.
async fn import(api: &mut Api, id: &str, payload: &[u8]) -> Option<Value> {
    let announce = "mutation($i: CreateImportInput!) { createImport(input: $i) { problem { code } } }";
    let input = json!({ "i": { "id": id, "format": "NDJSON", "sizeBytes": payload.len() } });
    let announced = api.insist(announce, &input).await?;
    if !announced["createImport"]["problem"].is_null() {
        api.log.wrong(format!("an import was refused: {announced}"));
    }
    api.upload(id, payload).await?;
    loop {
        let job = api.insist(LOOK, &json!({ "id": id })).await?["importJob"].take();
        match (job["state"].as_str(), job["problem"]["code"].as_str()) {
            (Some("COMPLETED" | "CANCELED"), _) => return Some(job),
            // The payload store was away: from the checkpoint once more.
            (Some("FAILED"), Some("PAYLOAD_GONE" | "NO_PROGRESS")) => {
                let retry = "mutation($id: ID!) { retryImport(input: { id: $id }) { problem { code } } }";
                api.insist(retry, &json!({ "id": id })).await?;
            }
            (Some("FAILED"), _) => return Some(job),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
