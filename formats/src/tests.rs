//! Tests that payloads are read alike in every packing, can be resumed after any record, and are refused with
//! clear details.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bombs;
mod damage;
mod detected;
mod flat;
mod padded;
mod refused;
mod zip;

use std::io::{self, BufRead, Cursor, Read, Write};
use std::sync::Arc;

use domain::draft::NewEvent;
use domain::limits::ZSTD_WINDOW_LOG_MAX;
use domain::problem::{Code, FieldProblem};
use rawzip::{CompressionMethod, ZipArchiveWriter};
use uuid::Uuid;

use super::*;

/// A payload in memory.
pub(crate) struct Memory(pub(crate) Vec<u8>);

impl Source for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn open_at_offset(&self, offset: u64) -> io::Result<Box<dyn BufRead + Send>> {
        let rest = self.0.get(usize::try_from(offset).unwrap()..).unwrap_or_default().to_vec();
        Ok(Box::new(Cursor::new(rest)))
    }
}

/// The parts of a record that tests compare.
#[derive(Debug, Clone, PartialEq)]
struct ObservedRecord {
    line: Option<i64>,
    event: Result<(Uuid, String, Option<String>), Vec<FieldProblem>>,
    excerpt: String,
    is_too_long: bool,
}

impl ObservedRecord {
    fn of(reader: &dyn RecordReader) -> Self {
        let read = || reader.parse_event_of_record(Uuid::nil(), &|_| Uuid::nil());
        let summary = |new: NewEvent| (new.id, format!("{:?}", new.body), new.external_id);
        let (line, is_too_long) = (reader.line_number(), reader.is_too_long());
        Self { line, event: read().map(summary), excerpt: record_excerpt(reader.raw_bytes()), is_too_long }
    }
}

/// The result of reading a payload.
#[derive(Debug)]
struct ReadResult {
    records: Vec<ObservedRecord>,
    /// The position after each record.
    positions: Vec<Position>,
    /// The error that ended reading.
    error: Option<ReadError>,
}

impl ReadResult {
    fn detail(&self) -> String {
        let problem = self.error.as_ref().and_then(ReadError::to_problem_if_permanent).unwrap();
        format!("{}: {}", problem.code.name(), problem.detail.unwrap_or_default())
    }

    fn codes(&self) -> Vec<&'static str> {
        let code = |record: &ObservedRecord| {
            record.event.as_ref().map_or_else(|problems| problems[0].code.name(), |_| "OK")
        };
        self.records.iter().map(code).collect()
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

/// Reads a payload from a checkpoint to its end.
fn read_from(
    format: Format,
    mapping: Option<&CsvMapping>,
    payload: &[u8],
    checkpoint: Checkpoint,
) -> ReadResult {
    let input = Input::new(Arc::new(Memory(payload.to_vec())));
    let mut result = ReadResult { records: Vec::new(), positions: Vec::new(), error: None };
    let (mut reader, mut number) = match open_at_or_before_checkpoint(&input, format, mapping, checkpoint) {
        Ok(opened) => opened,
        Err(error) => return ReadResult { error: Some(error), ..result },
    };
    loop {
        match reader.advance() {
            Ok(true) => {}
            Ok(false) => return result,
            Err(error) => return ReadResult { error: Some(error), ..result },
        }
        number += 1;
        if number > checkpoint.records {
            result.records.push(ObservedRecord::of(reader.as_ref()));
            result.positions.push(reader.position_after_record());
        }
    }
}

fn read(format: Format, payload: &[u8]) -> ReadResult {
    let mapping = weather();
    read_from(format, (format == Format::Csv).then_some(&mapping), payload, Checkpoint::default())
}

/// The line, the excerpt, and whether the record is too long.
type RawRecord = (Option<i64>, String, bool);

/// Reads to the end without parsing the records.
fn read_all(reader: &mut dyn RecordReader) -> (Vec<RawRecord>, Option<ReadError>) {
    let mut records = Vec::new();
    loop {
        match reader.advance() {
            Ok(true) => {
                records.push((reader.line_number(), record_excerpt(reader.raw_bytes()), reader.is_too_long()))
            }
            Ok(false) => return (records, None),
            Err(error) => return (records, Some(error)),
        }
    }
}

/// A reader of a format that reads unpacked bytes.
fn reader_of(format: Format, bytes: impl Read + 'static) -> Result<Box<dyn RecordReader>, ReadError> {
    let input = Input::new(Arc::new(Memory(Vec::new())));
    let bytes = BoundedReader::of_plain(bytes, 0, &input);
    Ok(match format {
        Format::Ndjson => Box::new(ndjson::NdjsonReader::new(bytes, 0)),
        Format::Json => Box::new(json::ArrayReader::new(bytes)),
        Format::Csv => Box::new(csv::Table::open_with_mapping(bytes, &weather(), &input)?),
        Format::AppleHealth => Box::new(apple_health::ExportReader::new(bytes)),
    })
}

/// A payload with this number of records, some of them invalid.
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
                let (before, after) = match (format, n) {
                    (Format::Ndjson, _) => ("", ["\n", "\r\n", "\n \n"][n % 3]),
                    (_, 0) => (" [ ", ""),
                    _ => ([",", " ,\n\t", ", "][n % 3], ""),
                };
                text += &format!("{before}{object}{after}");
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

/// A zip archive with these members.
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

#[test]
fn every_format_is_read_alike_in_every_packing() {
    for format in Format::ALL {
        let plain = sample(format, 40);
        let expected = read(format, &plain);
        assert_eq!(expected.records.len(), 40, "{format:?}: {expected:?}");
        let valid = expected.codes().iter().filter(|code| **code == "OK").count();
        assert_eq!(valid, if format == Format::Csv { 40 } else { 29 }, "{expected:?}");
        for (packing, payload) in packings(&plain) {
            let result = read(format, &payload);
            assert!(result.error.is_none(), "{format:?} {packing}: {:?}", result.error);
            assert_eq!(result.records, expected.records, "{format:?} {packing}");
        }
    }
}

#[test]
fn reading_resumes_after_any_record_with_the_same_result() {
    for format in Format::ALL {
        for (packing, payload) in packings(&sample(format, 30)) {
            let whole = read(format, &payload);
            for done in 1..=whole.records.len() {
                let Position { byte, lines } = whole.positions[done - 1];
                let checkpoint = Checkpoint { records: i64::try_from(done).unwrap(), byte, lines };
                let mapping = weather();
                let mapping = (format == Format::Csv).then_some(&mapping);
                let rest = read_from(format, mapping, &payload, checkpoint);
                assert_eq!(rest.records, whole.records[done..], "{format:?} {packing} after {done}");
                assert_eq!(rest.positions, whole.positions[done..], "{format:?} {packing} after {done}");
            }
        }
    }
}

/// Returns at most this number of bytes per read.
struct ShortReads<'b>(&'b [u8], usize);

impl Read for ShortReads<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.1.min(buffer.len());
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn the_sizes_of_reads_do_not_change_the_records() {
    for format in Format::ALL {
        let plain: &'static [u8] = Box::leak(sample(format, 40).into_boxed_slice());
        let text = plain.strip_prefix(b"\xef\xbb\xbf").unwrap_or(plain);
        let records = |bytes: usize| {
            let mut reader = reader_of(format, ShortReads(text, bytes)).unwrap();
            let (records, error) = read_all(reader.as_mut());
            assert!(error.is_none(), "{format:?}: {error:?}");
            records
        };
        let expected = records(usize::MAX);
        assert_eq!(expected.len(), 40);
        for bytes in [1, 2, 3, 7, 64] {
            assert_eq!(records(bytes), expected, "{format:?}, {bytes} at once");
        }
    }
}
