//! Tests that endless records, columns and nesting do not increase the use of memory.

use super::*;

/// A reader of `before`, then `again` this many times, and then `after`.
fn long(before: &'static str, again: &'static str, times: u64, after: &'static str) -> impl Read + 'static {
    let length = times * again.len() as u64;
    before.as_bytes().chain(Repeat { text: again.as_bytes(), at: 0 }.take(length)).chain(after.as_bytes())
}

struct Repeat {
    text: &'static [u8],
    at: usize,
}

impl Read for Repeat {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for byte in &mut *buffer {
            *byte = self.text[self.at];
            self.at = (self.at + 1) % self.text.len();
        }
        Ok(buffer.len())
    }
}

fn read_long(format: Format, reader: impl Read + 'static) -> (Vec<RawRecord>, String) {
    let (records, error) = match reader_of(format, reader) {
        Ok(mut reader) => read_all(reader.as_mut()),
        Err(error) => (Vec::new(), Some(error)),
    };
    let peak = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let peak_kb: u64 = peak.split(' ').next().unwrap().parse().unwrap();
    assert!(peak_kb < 256 * 1024, "{peak}");
    (records, error.map_or(String::new(), |error| error.to_string()))
}

const MANY: u64 = 16 * 1024 * 1024;

#[test]
fn a_record_that_is_too_long_is_skipped_and_the_next_one_is_read() {
    let table = [
        (Format::Ndjson, "{}\n{\"notes\":\"", "x", MANY, "\"}\n{\"a\":1}"),
        (Format::Json, "[{}, {\"notes\":\"", "\\\"", MANY / 2, "\"}, {\"a\":1}]"),
        (Format::Json, "[{}, ", "[", MANY / 8, "1]"),
        (Format::Csv, "k,t\na,b\n1,\"", "x", 300 * 1024 * 1024, "\"\n2,3"),
        (Format::Csv, "k,t\na,b\n1,\"", "\"\"\n", MANY / 3, "\"\n2,3"),
        (Format::AppleHealth, "<HealthData><Record/><Record a=\"", "x", MANY, "\"/><Record/></HealthData>"),
        (
            Format::AppleHealth,
            "<HealthData><Record/><Record>",
            "<MetadataEntry/> ",
            MANY / 16,
            "</Record><Record/></HealthData>",
        ),
        (
            Format::AppleHealth,
            "<HealthData><Record/><Record>",
            "text ",
            MANY / 16,
            "</Record><Record/></HealthData>",
        ),
    ];
    for (format, before, again, times, after) in table {
        let (records, error) = read_long(format, long(before, again, times, after));
        let long: Vec<_> = records.iter().map(|(_, _, is_too_long)| *is_too_long).collect();
        if before == "[{}, " {
            assert_eq!((long, error.contains("the array is cut")), (vec![false], true));
        } else {
            assert_eq!((long, error.as_str()), (vec![false, true, false], ""), "{before}");
        }
    }
}

#[test]
fn skipped_xml_may_have_any_length() {
    let table = [
        ("<HealthData><!-- ", "- ", "--><Record/></HealthData>"),
        ("<!DOCTYPE HealthData [", "<!ENTITY a \"]>\">", "]><HealthData><Record/></HealthData>"),
        ("<HealthData><Other a='", "x", "'/><Record/></HealthData>"),
        ("<HealthData><![CDATA[", "]]", "]]><Record/></HealthData>"),
        ("<HealthData>", "<Other/>", "<Record/></HealthData>"),
        ("<HealthData>", "text", "<Record/></HealthData>"),
    ];
    for (before, again, after) in table {
        let (records, error) = read_long(Format::AppleHealth, long(before, again, MANY / 16, after));
        assert_eq!((records.len(), error.as_str()), (1, ""), "{before}");
    }
}

#[test]
fn any_number_of_columns_and_cells_is_counted_without_being_kept() {
    let (records, error) = read_long(Format::Csv, long("k,t", ",c", 1_000_000, "\n1,2\n"));
    assert_eq!((records.len(), error.as_str()), (0, "the header is longer than 262144 bytes"));
    let (_, error) = read_long(Format::Csv, long("k,t", ",", 100_000, "\n1,2\n"));
    assert_eq!(error, "the header has 100002 columns; at most 4096 are allowed");
    let (records, error) = read_long(Format::Csv, long("k,t\n1,2\n", ",", 1_000_000, "\n3,4\n"));
    let long_ones: Vec<_> = records.iter().map(|(line, _, is_too_long)| (*line, *is_too_long)).collect();
    assert_eq!((long_ones, error.as_str()), (vec![(Some(2), false), (Some(3), true), (Some(4), false)], ""));
}

#[test]
fn a_row_with_too_many_cells_is_refused_with_both_counts() {
    let payload = format!("k,t\n1,2026-01-01T00:00:00Z\n{}\n", ",".repeat(100_000));
    let result = read(Format::Csv, payload.as_bytes());
    assert_eq!(result.codes(), ["OK", "INVALID_VALUE"]);
    assert_eq!(
        result.records[1].event.as_ref().unwrap_err()[0].detail,
        "has 100001 cells under a header of 2"
    );
}

#[test]
fn elements_that_are_nested_too_deep_are_refused() {
    for before in ["<HealthData>", "<HealthData><Record>"] {
        let (records, error) = read_long(Format::AppleHealth, long(before, "<a>", 1_000_000, ""));
        assert_eq!((records.len(), error.as_str()), (0, "elements of the XML are nested deeper than 16"));
    }
    let (records, error) = read_long(Format::Json, long("[", "[{\"a\":", 1_000_000, ""));
    assert_eq!((records.len(), error.contains("the array is cut")), (0, true));
}

#[test]
fn decompression_bombs_end_at_the_limit() {
    let zeros = gzip_of(io::repeat(b' ').take(200 * 1024 * 1024));
    assert!(zeros.len() < 1024 * 1024, "{}", zeros.len());
    for format in [Format::Ndjson, Format::Json] {
        let result = read(format, &zeros);
        assert_eq!(result.detail(), "PAYLOAD_LIMIT: the payload is too large once decoded");
    }
    let tags = gzip_of(long("<HealthData>", "<Other a=\"000000000000000000000000\"/>", 5_000_000, ""));
    let result = read(Format::AppleHealth, &tags);
    assert_eq!(result.detail(), "PAYLOAD_LIMIT: the payload is too large once decoded");
    let rows = gzip_of(long("k,t\n", "1,2\n", 40_000_000, ""));
    let done = Checkpoint { records: 1_000_000_000, ..Checkpoint::default() };
    let result = read_from(Format::Csv, Some(&weather()), &rows, done);
    assert_eq!(result.detail(), "PAYLOAD_LIMIT: the payload is too large once decoded");
}

fn gzip_of(mut reader: impl Read) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    io::copy(&mut reader, &mut encoder).unwrap();
    encoder.finish().unwrap()
}
