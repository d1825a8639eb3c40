//! From the bytes of a payload to chunks of records, in a thread of its own behind bounded channels:
//! unpacked, cut into records, each read by itself. Memory is flat in the size of the payload.

mod archive;
mod cutter;
mod decoded;
mod json;
mod ndjson;
mod pieces;
mod seen;
mod table;
#[cfg(test)]
mod tests;
mod xml;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{BufRead, Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use domain::clock::Clock;
use domain::commands::apply_chunk::{Chunk, Record};
use domain::error::Error;
use domain::limits::{RECORD_BYTES_MAX, ZSTD_WINDOW_LOG_MAX};
use domain::payload::Payloads;
use domain::plant;
use domain::rules::draft::{EventDraft, Sent, parse_event};
use domain::rules::import::{Format, ImportRow};
use domain::rules::problem::{Code, FieldProblem, Problem};
use domain::rules::record;
use futures::StreamExt;
use tokio::sync::mpsc;
use uuid::Uuid;

use cutter::{Cutter, Place};
use decoded::{Decoded, Watch};
use pieces::{Pieces, Source};
use seen::Packing;

/// Why no more records come.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The payload can never be read.
    Payload(Problem),
    /// The payload could not be fetched for now.
    Fetch,
}

impl Fault {
    /// An object of the payload is not there.
    pub(crate) fn gone() -> Self {
        Self::Payload(Problem::new(Code::PayloadGone, "the payload is no longer there"))
    }

    /// An object of the payload has another size than it had.
    pub(crate) fn changed() -> Self {
        Self::Payload(Problem::new(Code::PayloadMismatch, "the payload is not what was received"))
    }

    /// The payload is not what it should be.
    fn format(detail: impl Into<String>) -> Self {
        Self::Payload(Problem::new(Code::PayloadFormat, detail))
    }
}

/// Where chunks go, or why there are no more.
type Chunks = mpsc::Sender<Result<Chunk, Fault>>;

/// Starts to decode at the checkpoint: plain text is sought, anything else decoded and passed over.
///
/// # Errors
/// When the first bytes of the payload cannot be read.
pub(crate) async fn open(
    payloads: &Payloads,
    clock: Clock,
    row: &ImportRow,
) -> Result<mpsc::Receiver<Result<Chunk, Fault>>, Error> {
    let source = Source::new(payloads.clone(), row);
    let mut bytes = source.stream(0);
    let first = bytes.next().await.transpose()?;
    let begin = source.pieces(futures::stream::iter(first.map(Ok)).chain(bytes).boxed(), 0);
    let (chunks, chunks_out) = mpsc::channel(2);
    let row = row.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(fault) = decode(&source, begin, &row, &clock, &chunks) {
            let _nobody_waits = chunks.blocking_send(Err(fault));
        }
    });
    Ok(chunks_out)
}

/// Decodes until the end, a fault, or until nobody takes chunks any more. Blocks.
fn decode(
    source: &Source,
    begin: Pieces,
    row: &ImportRow,
    clock: &Clock,
    chunks: &Chunks,
) -> Result<(), Fault> {
    let watch = Watch::new(Arc::clone(source.taken()), chunks.clone());
    let (mut cutter, done) = cutter(source, begin, row, &watch)?;
    let job = Job {
        user_id: row.user_id,
        skip: row.next_record,
        chunk_records: usize::try_from(row.chunk_records).unwrap_or(1).max(1),
        poison: row.poison(),
        clock,
        chunks,
        source,
        fresh_type_ids: RefCell::default(),
    };
    job.run(cutter.as_mut(), done)
}

/// The cutter of a payload, and the records before the place where it begins.
fn cutter(
    source: &Source,
    mut begin: Pieces,
    row: &ImportRow,
    watch: &Watch,
) -> Result<(Box<dyn Cutter>, i64), Fault> {
    let mut head = Vec::new();
    begin.by_ref().take(seen::HEAD_BYTES).read_to_end(&mut head).map_err(|error| decoded::fault(&error))?;
    let packing = seen::packing(&head)?;
    let is_sought = packing == Packing::Plain && row.next_byte > 0;
    let at = u64::try_from(row.next_byte).unwrap_or_default();
    if is_sought && row.format == Format::Ndjson {
        drop(begin);
        let rest = Decoded::plain(source.open(at), at, watch.clone());
        return Ok((Box::new(ndjson::Lines::new(rest, row.next_line)), row.next_record));
    }
    let mut decoded = unpack(packing, Cursor::new(head).chain(begin), source, watch)?;
    seen::check_text(row.format, packing, &mut decoded)?;
    Ok(match row.format {
        Format::Ndjson => (Box::new(ndjson::Lines::new(decoded, 0)), 0),
        Format::Json => (Box::new(json::Array::new(decoded)), 0),
        Format::AppleHealth => (Box::new(xml::Export::new(decoded)), 0),
        Format::Csv => {
            let mut table = table::Table::open(decoded, &row.options.csv.clone().unwrap_or_default())?;
            if is_sought {
                let rest = Decoded::plain(source.open(at), at, watch.clone());
                table.go_on(rest, row.next_record, row.next_line);
            }
            (Box::new(table), if is_sought { row.next_record } else { 0 })
        }
    })
}

fn unpack(
    packing: Packing,
    bytes: impl BufRead + 'static,
    source: &Source,
    watch: &Watch,
) -> Result<Decoded, Fault> {
    let watch = watch.clone();
    Ok(match packing {
        Packing::Plain => Decoded::plain(bytes, 0, watch),
        Packing::Gzip => Decoded::unpacked(flate2::bufread::MultiGzDecoder::new(bytes), 0, watch),
        Packing::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(bytes).map_err(|error| decoded::fault(&error))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| decoded::fault(&error))?;
            Decoded::unpacked(decoder, 0, watch)
        }
        Packing::Zip => {
            drop(bytes);
            let (member, at) = archive::open(source)?;
            Decoded::unpacked(member, at, watch)
        }
    })
}

/// What becomes of the records of one payload.
struct Job<'j> {
    /// Owner: derived ids depend on it.
    user_id: Uuid,
    /// Records that are done.
    skip: i64,
    /// Records of a chunk.
    chunk_records: usize,
    /// The record that is refused unread: whoever read it died of it.
    poison: Option<i64>,
    clock: &'j Clock,
    chunks: &'j Chunks,
    source: &'j Source,
    /// The id of the type that a record names, should it be missing: one for each name of a chunk, for
    /// fresh ones cost a call of the system each.
    fresh_type_ids: RefCell<HashMap<String, Uuid>>,
}

impl Job<'_> {
    /// Hands out chunks behind the `done` records at which the cutter begins. What is whole before a
    /// fault is handed out as well.
    fn run(&self, cutter: &mut dyn Cutter, done: i64) -> Result<(), Fault> {
        let mut number = done;
        let mut records = Vec::with_capacity(self.chunk_records);
        let mut place = cutter.place();
        loop {
            let is_more = match cutter.advance() {
                Ok(is_more) => is_more,
                Err(fault) if records.is_empty() => return Err(fault),
                Err(fault) => {
                    self.send(records, number, place, false);
                    return Err(fault);
                }
            };
            place = cutter.place();
            if !is_more {
                self.send(records, number, place, true);
                return Ok(());
            }
            number += 1;
            if number <= self.skip {
                continue;
            }
            records.push(self.record(cutter, number));
            if records.len() == self.chunk_records {
                let full = std::mem::replace(&mut records, Vec::with_capacity(self.chunk_records));
                if !self.send(full, number, place, false) {
                    return Ok(());
                }
            }
        }
    }

    /// Whether somebody waits for more.
    fn send(&self, records: Vec<Record>, next_record: i64, place: Place, is_last: bool) -> bool {
        // The next chunk may find the type deleted that this one makes, and then needs another id.
        self.fresh_type_ids.borrow_mut().clear();
        let chunk = Chunk {
            records,
            next_record: next_record.max(self.skip),
            next_byte: i64::try_from(place.byte).unwrap_or(i64::MAX),
            next_line: place.lines,
            bytes_processed: i64::try_from(self.source.taken().load(Ordering::Relaxed)).unwrap_or(i64::MAX),
            is_last,
        };
        self.chunks.blocking_send(Ok(chunk)).is_ok()
    }

    /// Reads one record. A reader that panics has met a record that is poison: it is refused, and the
    /// import goes on.
    fn record(&self, cutter: &dyn Cutter, number: i64) -> Record {
        let refused = |code, detail: String| Err(vec![FieldProblem::new("", code, detail)]);
        let event = if self.poison == Some(number) {
            refused(Code::Poison, "whoever read this record died of it".to_owned())
        } else if cutter.is_too_long() {
            refused(Code::RecordTooLarge, format!("a record has at most {RECORD_BYTES_MAX} bytes"))
        } else {
            let read = AssertUnwindSafe(|| {
                let is_meant = plant::is_planted("plant-panic-on-read");
                assert!(
                    !(is_meant && cutter.raw().windows(6).any(|word| word == b"poison")),
                    "as it was told to"
                );
                let (draft, missing_id) = cutter.draft(self.user_id)?;
                let fresh_type_id = self.fresh_type_id(&draft);
                parse_event(draft, missing_id, fresh_type_id).map_err(|problems| cutter.explain(problems))
            });
            catch_unwind(read)
                .unwrap_or_else(|_| refused(Code::Poison, "the record cannot be read".to_owned()))
        };
        Record { line: cutter.line(), event, excerpt: record::excerpt(cutter.raw()) }
    }

    /// The id that the type gets if it is made; nobody asks for it where the record brings no name.
    fn fresh_type_id(&self, draft: &EventDraft) -> Uuid {
        let Sent::Value(name) = &draft.event_type else {
            return Uuid::nil();
        };
        let mut ids = self.fresh_type_ids.borrow_mut();
        if let Some(id) = ids.get(name) {
            return *id;
        }
        let id = self.clock.new_id();
        ids.insert(name.clone(), id);
        id
    }
}
