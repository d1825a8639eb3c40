//! Payloads of every format in every packing: read alike, gone on with anywhere, refused in words.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod damage;
mod flat;
mod refused;
mod zip;

use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use domain::rules::csv::CsvMapping;
use domain::rules::draft::NewEvent;
use domain::rules::import::{Counts, Options, State};
use domain::rules::payload_objects::PayloadObjects;
use object_store::memory::InMemory;
use rawzip::{CompressionMethod, ZipArchiveWriter};

use super::*;

/// What is seen of one record, but for what is made at random.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    line: Option<i64>,
    event: Result<(Uuid, String, Option<String>), Vec<FieldProblem>>,
    excerpt: String,
}

impl From<Record> for Seen {
    fn from(record: Record) -> Self {
        let said = |new: NewEvent| (new.id, format!("{:?}", new.body), new.external_id);
        Self { line: record.line, event: record.event.map(said), excerpt: record.excerpt }
    }
}

/// What is read of a payload.
#[derive(Debug)]
struct Found {
    seen: Vec<Seen>,
    /// Where the payload goes on behind each chunk.
    places: Vec<(i64, i64)>,
    /// Why it ends early.
    fault: Option<Fault>,
}

impl Found {
    fn detail(&self) -> String {
        match &self.fault {
            Some(Fault::Payload(problem)) => {
                format!("{}: {}", problem.code.name(), problem.detail.clone().unwrap_or_default())
            }
            other => panic!("{other:?}"),
        }
    }

    fn codes(&self) -> Vec<&'static str> {
        let code =
            |seen: &Seen| seen.event.as_ref().map_or_else(|problems| problems[0].code.name(), |_| "OK");
        self.seen.iter().map(code).collect()
    }
}

/// An import of one format, from its start, a record a chunk.
fn row(format: Format, mapping: Option<CsvMapping>) -> ImportRow {
    ImportRow {
        user_id: Uuid::nil(),
        id: Uuid::nil(),
        state: State::Running,
        format,
        name: None,
        bytes_total: 0,
        bytes_received: 0,
        payload_objects: PayloadObjects::default(),
        sha256: None,
        options: Options { csv: mapping, dry_run: false },
        dry_run: false,
        next_record: 0,
        next_byte: 0,
        next_line: 0,
        bytes_processed: 0,
        records_total: None,
        counts: Counts::default(),
        attempts: 0,
        crash_count: 0,
        chunk_records: 1,
        careful_until: 0,
        lease_epoch: 0,
        problem: None,
        trace_context: None,
        upload_expires_at: 0,
        created_at: 0,
        started_at: None,
        finished_at: None,
        payload_removed_at: None,
    }
}

fn weather() -> CsvMapping {
    CsvMapping {
        event_type: Some("weather".to_owned()),
        timestamp_column: "t".to_owned(),
        external_id_columns: Some(vec!["k".to_owned()]),
        delimiter: ",".to_owned(),
        ..CsvMapping::default()
    }
}

/// Reads a payload as an import does.
async fn read_on(row: &ImportRow, payload: &[u8]) -> Found {
    let payloads = Payloads::new(Arc::new(InMemory::new()), object_store::path::Path::default());
    let mut row = row.clone();
    row.bytes_total = i64::try_from(payload.len()).unwrap();
    for (number, object) in (0_i64..).zip(payload.chunks(8 * 1024 * 1024)) {
        payloads.put(row.user_id, row.id, &number.to_string(), Bytes::copy_from_slice(object)).await.unwrap();
    }
    let mut chunks = open(&payloads, Clock::System, &row).await.unwrap();
    let mut found = Found { seen: Vec::new(), places: Vec::new(), fault: None };
    let mut is_whole = false;
    while let Some(chunk) = chunks.recv().await {
        assert!(!is_whole && found.fault.is_none(), "something follows the end");
        match chunk {
            Ok(chunk) => {
                found.places.push((chunk.next_byte, chunk.next_line));
                found.seen.extend(chunk.records.into_iter().map(Seen::from));
                is_whole = chunk.is_last;
            }
            Err(fault) => found.fault = Some(fault),
        }
    }
    assert!(is_whole != found.fault.is_some(), "neither whole nor at fault");
    found
}

async fn read(format: Format, payload: &[u8]) -> Found {
    read_on(&row(format, (format == Format::Csv).then(weather)), payload).await
}

/// Line, beginning, and whether it is too long.
type Cut = (Option<i64>, String, bool);

/// Reads to the end through a cutter, without what is in front of it.
fn cut_all(cutter: &mut dyn Cutter) -> (Vec<Cut>, Option<Fault>) {
    let mut records = Vec::new();
    loop {
        match cutter.advance() {
            Ok(true) => records.push((cutter.line(), record::excerpt(cutter.raw()), cutter.is_too_long())),
            Ok(false) => return (records, None),
            Err(fault) => return (records, Some(fault)),
        }
    }
}

/// A watch over which nobody gives up, as long as the other end is held.
fn watch() -> (Watch, mpsc::Receiver<Result<Chunk, Fault>>) {
    let (chunks, held) = mpsc::channel(1);
    (Watch::new(Arc::default(), chunks), held)
}

fn cutter_of(format: Format, decoded: Decoded) -> Result<Box<dyn Cutter>, Fault> {
    Ok(match format {
        Format::Ndjson => Box::new(ndjson::Lines::new(decoded, 0)),
        Format::Json => Box::new(json::Array::new(decoded)),
        Format::Csv => Box::new(table::Table::open(decoded, &weather())?),
        Format::AppleHealth => Box::new(xml::Export::new(decoded)),
    })
}

/// A payload with so many records, some of them wrong.
fn sample(format: Format, count: usize) -> Vec<u8> {
    let mut text = String::new();
    match format {
        Format::Ndjson | Format::Json => {
            for n in 0..count {
                let object = match n % 7 {
                    3 => r#"{"notes":"]},\"{","speed":[1,{"a":"}"}]}"#.to_owned(),
                    5 => "null".to_owned(),
                    _ => format!(
                        r#"{{"eventType":"s","timestamp":"2026-01-01T00:00:00Z","notes":"é \\\" {n}","properties":{{"n":[{n}]}}}}"#
                    ),
                };
                let (before, behind) = match (format, n) {
                    (Format::Ndjson, _) => ("", ["\n", "\r\n", "\n \n"][n % 3]),
                    (_, 0) => (" [ ", ""),
                    _ => ([",", " ,\n\t", ", "][n % 3], ""),
                };
                text += &format!("{before}{object}{behind}");
            }
            text += if format == Format::Json { " ]\n " } else { "" };
        }
        Format::Csv => {
            text += "\u{feff}k,t,\"x \"\"y\"\"\",note\r\n";
            for n in 0..count {
                text += &match n % 7 {
                    3 => format!("{n},2026-01-01T00:00:00Z,1\n"),
                    5 => format!("\"{n}\",\"2026-01-01T00:00:00Z\",,\"a\r\nb \"\"c\"\"\n\"\r"),
                    _ => format!("{n},2026-01-01T00:00:00Z,{n}.5,é{}", ["\n", "\r\n", "\r", "\n\n\n"][n % 4]),
                };
            }
        }
        Format::AppleHealth => {
            text += "<?xml version=\"1.0\"?>\n<!DOCTYPE HealthData [ <!-- it's ]> --> <!ELEMENT HealthData (Record*)> <!ENTITY a \"]>\"> ]>\n";
            text += "<HealthData locale=\"de_DE\"> <ExportDate value=\"2026-01-01\"/><Me a='>'/>\n";
            for n in 0..count {
                let tag = format!(
                    "<Record type=\"HKQuantityTypeIdentifierStepCount\" sourceName=\"A &gt; > b\" startDate=\"2026-01-01 10:00:00 +0100\" endDate=\"2026-01-01 10:00:01 +0100\" value=\"{n}\""
                );
                text += &match n % 7 {
                    2 => format!("<Correlation type=\"c\" x=\"1\"><!-- <Record/> -->{tag}/></Correlation>"),
                    3 => format!("{tag} unit=5\"/>\n"),
                    4 => format!(
                        "{tag}><MetadataEntry key=\"k\" value=\"/>\"/><![CDATA[</Record>]]></Record>\n"
                    ),
                    5 => format!("{tag} unit=\"&lol;\"/>"),
                    _ => format!("{tag}/>\n<ActivitySummary/>"),
                };
            }
            text += "</HealthData>\n<!-- end -->\n";
        }
    }
    text.into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An archive of these members.
fn archive(members: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut archive = ZipArchiveWriter::new(Vec::new());
    for (name, bytes) in members {
        if name.ends_with('/') {
            archive.new_dir(*name).create().unwrap();
            continue;
        }
        let name = rawzip::path::EntryPath::verbatim(name.as_bytes());
        let (mut entry, config) = archive.new_file(name).compression_method(method).start().unwrap();
        let output = if method == CompressionMethod::DEFLATE {
            let encoder = flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::fast());
            let mut writer = config.wrap(encoder);
            writer.write_all(bytes).unwrap();
            let (encoder, output) = writer.finish().unwrap();
            encoder.finish().unwrap();
            output
        } else {
            let mut writer = config.wrap(&mut entry);
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap().1
        };
        entry.finish(output).unwrap();
    }
    archive.finish().unwrap()
}

/// The same bytes in every packing.
fn packings(plain: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let (left, right) = plain.split_at(plain.len() / 3);
    vec![
        ("plain", plain.to_vec()),
        ("gzip", gzip(plain)),
        ("gzip of two members", [gzip(left), gzip(right)].concat()),
        ("zstd", zstd::encode_all(plain, 1).unwrap()),
        ("zip, stored", archive(&[("a", plain)], CompressionMethod::STORE)),
        ("zip, deflated", archive(&[("d/", b""), ("../../a", plain)], CompressionMethod::DEFLATE)),
    ]
}

#[tokio::test]
async fn every_format_reads_alike_in_every_packing() {
    for format in Format::ALL {
        let plain = sample(format, 40);
        let expected = read(format, &plain).await;
        assert_eq!(expected.seen.len(), 40, "{format:?}: {expected:?}");
        assert_eq!(
            expected.codes().iter().filter(|code| **code == "OK").count(),
            if format == Format::Csv { 34 } else { 29 },
            "{expected:?}"
        );
        for (packing, payload) in packings(&plain) {
            let found = read(format, &payload).await;
            assert!(found.fault.is_none(), "{format:?} {packing}: {:?}", found.fault);
            assert_eq!(found.seen, expected.seen, "{format:?} {packing}");
        }
    }
}

#[tokio::test]
async fn a_payload_goes_on_behind_each_record_as_if_it_had_never_stopped() {
    for format in Format::ALL {
        for (packing, payload) in packings(&sample(format, 30)) {
            let whole = read(format, &payload).await;
            for done in 1..=whole.seen.len() {
                let (next_byte, next_line) = whole.places[done - 1];
                let mut row = row(format, (format == Format::Csv).then(weather));
                row.next_record = i64::try_from(done).unwrap();
                (row.next_byte, row.next_line) = (next_byte, next_line);
                let rest = read_on(&row, &payload).await;
                assert_eq!(rest.seen, whole.seen[done..], "{format:?} {packing} behind {done}");
                assert_eq!(rest.places.last(), whole.places.last(), "{format:?} {packing} behind {done}");
            }
        }
    }
}

/// Hands out so many bytes at once.
struct Trickle<'b>(&'b [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.1.min(buffer.len());
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn however_the_bytes_arrive_the_records_are_the_same() {
    for format in Format::ALL {
        let plain: &'static [u8] = Box::leak(sample(format, 40).into_boxed_slice());
        let text = plain.strip_prefix(b"\xef\xbb\xbf").unwrap_or(plain);
        let (watch, _held) = watch();
        let cut = |bytes: usize| {
            let decoded = Decoded::plain(Trickle(text, bytes), 0, watch.clone());
            let (records, fault) = cut_all(cutter_of(format, decoded).unwrap().as_mut());
            assert!(fault.is_none(), "{format:?}: {fault:?}");
            records
        };
        let expected = cut(usize::MAX);
        assert_eq!(expected.len(), 40);
        for bytes in [1, 2, 3, 7, 64] {
            assert_eq!(cut(bytes), expected, "{format:?}, {bytes} at once");
        }
    }
}

#[tokio::test]
async fn a_record_that_kills_its_reader_is_refused_unread() {
    for format in Format::ALL {
        let mut row = row(format, (format == Format::Csv).then(weather));
        row.crash_count = 3;
        let found = read_on(&row, &sample(format, 10)).await;
        assert_eq!(found.codes()[..2], ["POISON", "OK"], "{format:?}");
    }
}
