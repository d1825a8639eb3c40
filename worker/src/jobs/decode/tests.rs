//! Tests how a payload in an object store is split into chunks. The formats have their own tests.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use domain::import::{Counts, Format, Options, State};
use domain::limits::UPLOAD_TTL_MS;
use domain::payload_objects::PayloadObjects;
use object_store::memory::InMemory;

use super::*;

const OBJECT_BYTES: usize = domain::limits::PAYLOAD_OBJECT_BYTES;

/// An NDJSON import that has not processed any record.
fn import(payload: &[u8]) -> ImportRow {
    ImportRow {
        user_id: Uuid::nil(),
        id: Uuid::nil(),
        state: State::Running,
        format: Format::Ndjson,
        name: None,
        bytes_total: i64::try_from(payload.len()).unwrap(),
        bytes_received: 0,
        payload_objects: PayloadObjects::default(),
        sha256: None,
        options: Options { csv: None, dry_run: false },
        dry_run: false,
        next_record: 0,
        next_byte: 0,
        next_line: 0,
        bytes_processed: 0,
        records_total: None,
        counts: Counts::default(),
        attempts: 0,
        crash_count: 0,
        chunk_records: 500,
        small_chunks_until: 0,
        lease_epoch: 0,
        problem: None,
        trace_context: None,
        upload_expires_at: UPLOAD_TTL_MS,
        created_at: 0,
        started_at: None,
        finished_at: None,
        payload_removed_at: None,
    }
}

async fn stored(row: &ImportRow, payload: &[u8]) -> Payloads {
    let payloads = Payloads::new(Arc::new(InMemory::new()), object_store::path::Path::default());
    for (number, object) in payload.chunks(OBJECT_BYTES).enumerate() {
        let bytes = Bytes::copy_from_slice(object);
        payloads.put_object(row.user_id, row.id, &number.to_string(), bytes).await.unwrap();
    }
    payloads
}

async fn chunks(payloads: &Payloads, row: &ImportRow) -> (Vec<Chunk>, Option<DecodeError>) {
    let mut receiver = start_payload_decoder(payloads, Clock::System, row);
    let mut chunks = Vec::new();
    while let Some(chunk) = receiver.recv().await {
        match chunk {
            Ok(chunk) => chunks.push(chunk),
            Err(error) => return (chunks, Some(error)),
        }
    }
    (chunks, None)
}

fn lines(count: usize, notes: usize) -> Vec<u8> {
    let notes = "x".repeat(notes);
    let line = |n| {
        format!(
            "{{\"eventType\":\"s\",\"timestamp\":\"2026-01-01T00:00:00Z\",\"externalId\":\"{n}\",\"notes\":\"{notes}\"}}\n"
        )
    };
    (0..count).map(line).collect::<String>().into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_full_and_continue_at_the_checkpoint() {
    let payload = lines(1_200, 9_000);
    assert!(payload.len() > OBJECT_BYTES, "the payload has several objects");
    let mut row = import(&payload);
    let payloads = stored(&row, &payload).await;
    let (whole, error) = chunks(&payloads, &row).await;
    assert!(error.is_none(), "{error:?}");
    let sizes: Vec<_> =
        whole.iter().map(|chunk| (chunk.records.len(), chunk.next_record, chunk.is_last)).collect();
    assert_eq!(sizes, [(500, 500, false), (500, 1_000, false), (200, 1_200, true)]);
    assert_eq!(whole[2].next_byte, row.bytes_total);
    (row.next_record, row.next_byte, row.next_line) = (500, whole[0].next_byte, whole[0].next_line);
    let (rest, _) = chunks(&payloads, &row).await;
    let ids = |chunks: &[Chunk]| -> Vec<_> {
        let records = chunks.iter().flat_map(|chunk| &chunk.records);
        records.map(|record| (record.line, record.event.as_ref().unwrap().id)).collect()
    };
    assert_eq!(ids(&rest), ids(&whole[1..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_at_which_workers_crash_is_rejected_without_being_read() {
    let payload = lines(3, 1);
    let mut row = import(&payload);
    (row.crash_count, row.chunk_records) = (3, 1);
    let (chunks, _) = chunks(&stored(&row, &payload).await, &row).await;
    let accepted: Vec<_> =
        chunks.iter().flat_map(|chunk| &chunk.records).map(|record| record.event.is_ok()).collect();
    assert_eq!(accepted, [false, true, true]);
    assert_eq!(chunks[0].records[0].event.as_ref().unwrap_err()[0].code, Code::Poison);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_or_changed_object_is_an_error_after_the_complete_chunks() {
    let payload = lines(1_200, 9_000);
    let row = import(&payload);
    let payloads = stored(&row, &payload).await;
    payloads.put_object(row.user_id, row.id, "1", Bytes::from_static(b"short")).await.unwrap();
    let (whole, error) = chunks(&payloads, &row).await;
    let code = |error: Option<DecodeError>| match error {
        Some(DecodeError::Unreadable(problem)) => problem.code,
        other => panic!("{other:?}"),
    };
    assert!(!whole.is_empty() && code(error) == Code::PayloadMismatch);
    payloads.remove_unused_object(row.user_id, row.id, "1").await.unwrap();
    assert_eq!(code(chunks(&payloads, &row).await.1), Code::PayloadGone);
}
