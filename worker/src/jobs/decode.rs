//! From the bytes of a payload to chunks of records, in a thread of its own behind bounded channels:
//! gzip and zstd are told by their first bytes, lines are cut, records are read.

use std::io::{self, BufRead, BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use domain::clock::Clock;
use domain::commands::apply_chunk::{Chunk, Record};
use domain::error::Error;
use domain::limits::{DECODED_BYTES_MAX, DECODED_RATIO_FROM_BYTES, DECODED_RATIO_MAX, RECORD_BYTES_MAX};
use domain::payload::Payloads;
use domain::rules::draft::{MissingId, parse_event};
use domain::rules::import::ImportRow;
use domain::rules::problem::{Code, FieldProblem, Problem};
use domain::rules::record;
use futures::StreamExt;
use tokio::sync::mpsc;
use uuid::Uuid;

/// Why no more records come.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The payload can never be read.
    Payload(Problem),
    /// The payload could not be fetched for now.
    Fetch,
}

/// Where to begin.
#[derive(Debug, Clone, Copy)]
struct Start {
    /// Owner: derived ids depend on it.
    user_id: Uuid,
    /// Records to pass over.
    skip_records: i64,
    /// Offset in the decoded payload where they end.
    decoded_bytes: i64,
    /// Lines before that offset.
    lines: i64,
    /// The reader begins there already: nothing is passed over.
    is_seeked: bool,
    /// Records of a chunk.
    chunk_records: usize,
    /// The record that is refused unread: whoever read it died of it.
    poison: Option<i64>,
}

/// Starts to decode at the checkpoint: plain text is sought, anything else decoded and passed over.
///
/// # Errors
/// When the first bytes of the payload cannot be read.
pub(crate) async fn open(
    payloads: &Payloads,
    clock: Clock,
    row: &ImportRow,
) -> Result<mpsc::Receiver<Result<Chunk, Fault>>, Error> {
    let size = u64::try_from(row.bytes_total).unwrap_or_default();
    let mut begin = payloads.read(row.user_id, row.id, 0, size);
    let first = begin.next().await.transpose()?.unwrap_or_default();
    drop(begin);
    let is_seeked = is_plain(&first);
    let offset = if is_seeked { u64::try_from(row.next_byte).unwrap_or_default() } else { 0 };
    let start = Start {
        user_id: row.user_id,
        skip_records: row.next_record,
        decoded_bytes: row.next_byte,
        lines: row.next_line,
        is_seeked,
        chunk_records: usize::try_from(row.chunk_records).unwrap_or(1),
        poison: row.poison(),
    };
    let mut bytes = payloads.read(row.user_id, row.id, offset, size);
    let (pieces_in, pieces_out) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Some(piece) = bytes.next().await {
            let piece = piece.map_err(|error| match error {
                Error::Payload(object_store::Error::NotFound { .. }) => GONE,
                _ => FETCH_FAILED,
            });
            if pieces_in.send(piece).await.is_err() {
                return;
            }
        }
    });
    let (chunks_in, chunks_out) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        decode(Pieces::new(pieces_out, offset, size), start, &clock, &chunks_in);
    });
    Ok(chunks_out)
}

/// Whether a payload that begins so is plain text.
fn is_plain(begin: &[u8]) -> bool {
    !begin.starts_with(GZIP) && !begin.starts_with(ZSTD)
}

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const BOM: &[u8] = &[0xef, 0xbb, 0xbf];

/// A piece of a payload, or why it did not come.
type Piece = Result<Bytes, io::ErrorKind>;

/// The bytes of a payload as they come out of a channel.
struct Pieces {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    taken: Arc<AtomicU64>,
    size: u64,
}

impl Pieces {
    /// Reads `pieces`, which begin `offset` bytes into a payload of `size` bytes.
    fn new(pieces: mpsc::Receiver<Piece>, offset: u64, size: u64) -> Self {
        Self { pieces, current: Bytes::new(), taken: Arc::new(AtomicU64::new(offset)), size }
    }
}

/// A failed fetch, told from the failures of the decoders by its kind.
const FETCH_FAILED: io::ErrorKind = io::ErrorKind::ConnectionAborted;
/// An object of the payload is gone.
const GONE: io::ErrorKind = io::ErrorKind::NotFound;

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                // An object that is shorter than it was is no end of the payload.
                None if self.taken.load(Ordering::Relaxed) < self.size => {
                    return Err(FETCH_FAILED.into());
                }
                None => return Ok(0),
                Some(Ok(bytes)) => self.current = bytes,
                Some(Err(kind)) => return Err(kind.into()),
            }
        }
        let length = self.current.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        self.taken.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

/// Decodes until the end, a fault, or until nobody takes chunks any more. Blocks.
fn decode(pieces: Pieces, start: Start, clock: &Clock, chunks: &mpsc::Sender<Result<Chunk, Fault>>) {
    let taken = Arc::clone(&pieces.taken);
    let mut raw = BufReader::with_capacity(64 * 1024, pieces);
    let opened = match raw.fill_buf() {
        Ok(begin) if begin.starts_with(GZIP) => {
            Ok(Lines::compressed(flate2::bufread::MultiGzDecoder::new(raw)))
        }
        Ok(begin) if begin.starts_with(ZSTD) => {
            zstd::stream::read::Decoder::with_buffer(raw).map(Lines::compressed)
        }
        Ok(_) => Ok(Lines::plain(raw)),
        Err(error) => Err(error),
    };
    let outcome = opened.map_err(|error| fault(&error)).and_then(|mut lines| {
        lines.taken = Some(Arc::clone(&taken));
        cut(&mut lines, start, clock, &taken, chunks)
    });
    if let Err(fault) = outcome {
        let _nobody_waits = chunks.blocking_send(Err(fault));
    }
}

fn fault(error: &io::Error) -> Fault {
    let (code, detail) = match error.kind() {
        FETCH_FAILED => return Fault::Fetch,
        GONE => (Code::PayloadGone, "the payload is no longer there"),
        io::ErrorKind::FileTooLarge => (Code::PayloadLimit, "the payload is too large once decoded"),
        _ => (Code::PayloadFormat, "the compressed payload is cut or damaged"),
    };
    Fault::Payload(Problem::new(code, detail))
}

fn cut(
    lines: &mut Lines,
    start: Start,
    clock: &Clock,
    taken: &AtomicU64,
    chunks: &mpsc::Sender<Result<Chunk, Fault>>,
) -> Result<(), Fault> {
    let mut number = if start.is_seeked { start.skip_records } else { 0 };
    if start.is_seeked {
        lines.decoded = u64::try_from(start.decoded_bytes).unwrap_or_default();
    }
    let mut line_number = if start.is_seeked { start.lines } else { 0 };
    let mut records = Vec::new();
    while let Some(line) = lines.next().map_err(|error| fault(&error))? {
        line_number += 1;
        if line.is_blank() {
            continue;
        }
        number += 1;
        if number <= start.skip_records {
            if chunks.is_closed() {
                return Ok(());
            }
            continue;
        }
        let record = if start.poison == Some(number) {
            poison(line, line_number)
        } else {
            read(line, Some(line_number), start.user_id, clock)?
        };
        records.push(record);
        if records.len() == start.chunk_records {
            let chunk = chunk(std::mem::take(&mut records), lines.decoded, line_number, taken, false);
            if chunks.blocking_send(Ok(chunk)).is_err() {
                return Ok(());
            }
        }
    }
    let _nobody_waits = chunks.blocking_send(Ok(chunk(records, lines.decoded, line_number, taken, true)));
    Ok(())
}

fn chunk(records: Vec<Record>, decoded: u64, lines: i64, taken: &AtomicU64, is_last: bool) -> Chunk {
    Chunk {
        records,
        next_byte: i64::try_from(decoded).unwrap_or(i64::MAX),
        next_line: lines,
        bytes_processed: i64::try_from(taken.load(Ordering::Relaxed)).unwrap_or(i64::MAX),
        is_last,
    }
}

/// A record that is refused unread.
fn poison(line: Line<'_>, number: i64) -> Record {
    let (Line::Whole(text) | Line::TooLong(text)) = line;
    let problem = FieldProblem::new("", Code::Poison, "whoever read this record died of it");
    Record { line: Some(number), event: Err(vec![problem]), excerpt: record::excerpt(text) }
}

/// Reads one record. A reader that panics has met a record that is poison: it is refused, and the
/// import goes on.
fn read(line: Line<'_>, number: Option<i64>, user_id: Uuid, clock: &Clock) -> Result<Record, Fault> {
    let text = match line {
        Line::Whole(text) => text,
        Line::TooLong(begin) => {
            let detail = format!("a record has at most {RECORD_BYTES_MAX} bytes");
            let problem = FieldProblem::new("", Code::RecordTooLarge, detail);
            return Ok(Record { line: number, event: Err(vec![problem]), excerpt: record::excerpt(begin) });
        }
    };
    if text.starts_with(GZIP) || text.starts_with(ZSTD) {
        let problem = Problem::new(Code::PayloadFormat, "the payload is compressed twice");
        return Err(Fault::Payload(problem));
    }
    let event = catch_unwind(AssertUnwindSafe(|| {
        let draft = record::parse(text)?;
        parse_event(draft, MissingId::Derived(user_id), clock.new_id())
    }))
    .unwrap_or_else(|_| Err(vec![FieldProblem::new("", Code::Poison, "the record cannot be read")]));
    Ok(Record { line: number, event, excerpt: record::excerpt(text) })
}

/// One line, without its end.
enum Line<'l> {
    Whole(&'l [u8]),
    TooLong(&'l [u8]),
}

impl Line<'_> {
    fn is_blank(&self) -> bool {
        matches!(self, Self::Whole(text) if text.iter().all(u8::is_ascii_whitespace))
    }
}

/// Cuts decoded bytes into lines of a bounded length.
struct Lines {
    reader: Box<dyn BufRead>,
    buffer: Vec<u8>,
    /// Decoded bytes behind the last line.
    decoded: u64,
    taken: Option<Arc<AtomicU64>>,
    is_compressed: bool,
}

impl Lines {
    fn plain(reader: impl BufRead + 'static) -> Self {
        Self { reader: Box::new(reader), buffer: Vec::new(), decoded: 0, taken: None, is_compressed: false }
    }

    fn compressed(reader: impl Read + 'static) -> Self {
        let plain = Self::plain(BufReader::with_capacity(64 * 1024, reader));
        Self { is_compressed: true, ..plain }
    }

    fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        let mut length = 0_usize;
        loop {
            let available = self.reader.fill_buf()?;
            if available.is_empty() {
                if length == 0 {
                    return Ok(None);
                }
                break;
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let piece = end.map_or(available.len(), |at| at + 1);
            let room = (RECORD_BYTES_MAX + 2).saturating_sub(self.buffer.len());
            self.buffer.extend_from_slice(&available[..piece.min(room)]);
            length += piece;
            self.reader.consume(piece);
            self.decoded += piece as u64;
            self.check_size()?;
            if end.is_some() {
                break;
            }
        }
        if self.decoded == length as u64 && self.buffer.starts_with(BOM) {
            self.buffer.drain(..BOM.len());
        }
        let text = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        Ok(Some(if length > RECORD_BYTES_MAX + 2 || text.len() > RECORD_BYTES_MAX {
            Line::TooLong(text)
        } else {
            Line::Whole(text)
        }))
    }

    fn check_size(&self) -> io::Result<()> {
        let taken = self.taken.as_ref().map_or(0, |taken| taken.load(Ordering::Relaxed));
        let bloated = self.is_compressed
            && self.decoded > DECODED_RATIO_FROM_BYTES
            && self.decoded / taken.max(1) > DECODED_RATIO_MAX;
        if bloated || self.decoded > DECODED_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(())
    }
}
