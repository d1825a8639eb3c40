//! Tests payloads that are not of their format, and the details of their problems.

use super::*;

const EVENT: &str = r#"{"eventType":"s","timestamp":"2026-01-01T00:00:00Z"}"#;

fn detail(format: Format, payload: &[u8]) -> String {
    read(format, payload).detail().strip_prefix("PAYLOAD_FORMAT: ").expect("a format").to_owned()
}

fn utf_16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[test]
fn an_unsupported_packing_is_named() {
    let mut tar = vec![b'a'; 600];
    tar[257..262].copy_from_slice(b"ustar");
    let table: [(&[u8], &str); 5] = [
        (b"BZh91AY&SY\0\0", "bzip2 is not read; send gzip, zstd or zip"),
        (b"\xfd7zXZ\0\0", "xz is not read; send gzip, zstd or zip"),
        (b"7z\xbc\xaf\x27\x1c\0", "7z is not read; send gzip, zstd or zip"),
        (b"Rar!\x1a\x07\x01\0", "rar is not read; send gzip, zstd or zip"),
        (&tar, "tar is not read; send gzip, zstd or zip"),
    ];
    for (payload, expected) in table {
        for format in Format::ALL {
            assert_eq!(detail(format, payload), expected);
        }
    }
    let twice = gzip(&gzip(EVENT.as_bytes()));
    assert_eq!(detail(Format::Ndjson, &twice), "the payload is compressed twice: gzip inside of gzip");
    let zip = archive(&[("a", b"BZh91AY&SY\0\0")], CompressionMethod::DEFLATE);
    assert_eq!(detail(Format::Csv, &zip), "the payload is compressed twice: bzip2 inside of zip");
    let zstd = zstd::encode_all(&archive(&[], CompressionMethod::STORE)[..], 1).unwrap();
    assert_eq!(detail(Format::Json, &zstd), "the payload is compressed twice: zip inside of zstd");
    assert_eq!(detail(Format::Json, &gzip(&tar)), "a tar archive is not read; send its one file");
}

#[test]
fn zstd_windows_have_at_most_eight_mebibytes() {
    let packed = |window_log| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 19).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(EVENT.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    assert_eq!(read(Format::Ndjson, &packed(ZSTD_WINDOW_LOG_MAX)).codes(), ["OK"]);
    let wide = read(Format::Ndjson, &packed(ZSTD_WINDOW_LOG_MAX + 1));
    let expected = "PAYLOAD_LIMIT: zstd: compress with a window of at most 8 MiB, without --long and --ultra";
    assert_eq!(wide.detail(), expected);
}

#[test]
fn utf_16_and_utf_32_are_named() {
    let wide = |mark: &[u8], text: Vec<u8>| [mark, &text].concat();
    let big: Vec<u8> = EVENT.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let four: Vec<u8> = EVENT.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
    let table = [
        (wide(b"\xff\xfe", utf_16(EVENT)), "UTF-16"),
        (wide(b"\xfe\xff", big.clone()), "UTF-16"),
        (utf_16("k,t\n1,2"), "UTF-16"),
        (big, "UTF-16"),
        (wide(b"\xff\xfe\0\0", four.clone()), "UTF-32"),
        (four, "UTF-32"),
    ];
    for (payload, encoding) in table {
        for format in [Format::Ndjson, Format::Json, Format::AppleHealth] {
            let expected = format!("the text is {encoding}; send UTF-8");
            assert_eq!(detail(format, &payload), expected);
            assert_eq!(detail(format, &gzip(&payload)), expected);
        }
    }
}

#[test]
fn a_wrong_format_is_detected_from_the_first_bytes() {
    let bom = "\u{feff} \n\t ";
    let xml = "looks like XML: for an export of Apple Health the format is APPLE_HEALTH";
    let table = [
        (Format::Ndjson, format!("{bom}[{EVENT}]"), "looks like a JSON array: use the format JSON"),
        (
            Format::Json,
            format!("{bom}{EVENT}"),
            "looks like JSON objects without an array around them: if each is on its own line, \
             use the format NDJSON",
        ),
        (Format::Json, "k,t\n1,2".to_owned(), "is not a JSON array"),
        (
            Format::Json,
            " ".to_owned(),
            "the payload is not a JSON array at byte 1, after 0 elements of the array",
        ),
        (Format::Csv, EVENT.to_owned(), "looks like JSON objects: use the format NDJSON"),
        (Format::Csv, format!("[{EVENT}]"), "looks like a JSON array: use the format JSON"),
        (Format::Ndjson, "<?xml version=\"1.0\"?><HealthData/>".to_owned(), xml),
        (Format::Json, "<HealthData/>".to_owned(), xml),
        (Format::Csv, format!("{}<!DOCTYPE a>", " ".repeat(2_000)), xml),
        (Format::AppleHealth, EVENT.to_owned(), "is not XML: an export of Apple Health is an XML file"),
        (Format::AppleHealth, "\n".to_owned(), "the XML has no root element"),
        (
            Format::AppleHealth,
            "<hta><body/></hta>".to_owned(),
            "the root of the XML is \"hta\", not HealthData",
        ),
        (Format::AppleHealth, "<?xml version=\"1.0\"?> <!-- a -->".to_owned(), "the XML has no root element"),
        (
            Format::AppleHealth,
            "<HealthData/><HealthData/>".to_owned(),
            "the XML goes on after its root element",
        ),
        (Format::AppleHealth, "<HealthData/> a".to_owned(), "the XML goes on after its root element"),
        (Format::Csv, "\u{feff}\n\r\n".to_owned(), "the CSV is empty: it has no header"),
        (
            Format::Csv,
            "k;t\n1;2".to_owned(),
            "the header lacks columns of the mapping: \"t\", \"k\"; it has one column, \"k;t\"; is the delimiter ';'?",
        ),
        (Format::Csv, "k,\"t\n1,2".to_owned(), "a quote in the header, which begins on line 1, never ends"),
    ];
    for (format, payload, expected) in table {
        assert_eq!(detail(format, payload.as_bytes()), expected, "{format:?} {payload}");
    }
    for format in [Format::Ndjson, Format::Json, Format::Csv, Format::AppleHealth] {
        let empty: &[u8] =
            [&b""[..], b" [ ] ", b"\xef\xbb\xbfk,t", b"<HealthData></HealthData>"][format as usize];
        let result = read(format, empty);
        assert!(result.error.is_none() && result.records.is_empty(), "{format:?}: {result:?}");
    }
}

#[test]
fn records_before_an_error_are_read() {
    let (head, row) = ("k,t\n", "1,2026-01-01T00:00:00Z\n");
    let record = "<Record type=\"a\" startDate=\"2026-01-01 10:00:00 +0100\"/>";
    let table = [
        (Format::Json, format!("[{EVENT}, {EVENT}"), 2, "the array is cut at byte 107, after 2 elements"),
        (Format::Json, format!("[{EVENT}, {{\"a\":\""), 1, "the array is cut at byte 61, after 1 elements"),
        (Format::Json, format!("[{EVENT},"), 1, "the array is cut"),
        (Format::Json, format!("[{EVENT},]"), 1, "an element is missing at byte 54"),
        (Format::Json, format!("[{EVENT},,{EVENT}]"), 1, "an element is missing"),
        (Format::Json, "[,1]".to_owned(), 0, "an element is missing"),
        (Format::Json, "[}]".to_owned(), 0, "an element is missing"),
        (Format::Json, format!("[{EVENT} {EVENT}]"), 1, "a comma or the end of the array is missing"),
        (Format::Json, format!("[{EVENT}}}]"), 1, "a comma or the end of the array is missing"),
        (Format::Json, format!("[{EVENT}] {EVENT}"), 1, "something follows the array at byte"),
        (
            Format::Csv,
            format!("{head}{row}\n{row}x,\"y\n{row}"),
            2,
            "a quote in record 3, which begins on line 5, never ends",
        ),
        (
            Format::AppleHealth,
            format!("<HealthData>{record}<Correlation>{record}"),
            2,
            "the XML is cut: HealthData does not end",
        ),
        (Format::AppleHealth, format!("<HealthData>{record}<Record type=\"b"), 1, "the XML is cut"),
        (Format::AppleHealth, format!("<HealthData>{record}<!-- "), 1, "the XML is cut"),
        (Format::AppleHealth, format!("<HealthData>{record}<"), 1, "the XML is cut"),
    ];
    for (format, payload, count, expected) in table {
        let result = read(format, payload.as_bytes());
        assert_eq!(result.codes(), vec!["OK"; count], "{payload}");
        assert!(result.detail().contains(expected), "{payload}: {}", result.detail());
    }
}

#[test]
fn an_invalid_record_affects_only_itself() {
    let result = read(
        Format::Json,
        format!("[1, \"]\", [{EVENT}], null, {{\"notes\":1,\"notes\":2}}, {{]}}, {EVENT}]").as_bytes(),
    );
    assert_eq!(result.codes(), ["INVALID_JSON"; 6], "{result:?}");
    assert!(result.detail().contains("a comma or the end"));
    let laughs = "<!DOCTYPE HealthData [<!ENTITY lol \"lol\"><!ENTITY lol2 \"&lol;&lol;&lol;&lol;\"><!ENTITY x SYSTEM \"file:///etc/passwd\">]>";
    let record =
        |attribute: &str| format!("<Record type=\"a\" startDate=\"2026-01-01 10:00:00 +0100\" {attribute}/>");
    let payload = format!(
        "{laughs}<HealthData>{}{}{}{}{}{}{}</Record>{}</HealthData>",
        record("value=\"&lol2;\""),
        record("value=\"&x;\""),
        record("value = \n '1'"),
        record("value=\"\u{1}1\u{b}\""),
        record("value=1"),
        record("value=\"1\"\""),
        record("value"),
        record("unit=\"a\""),
    );
    let result = read(Format::AppleHealth, payload.as_bytes());
    let refused = "INVALID_VALUE";
    assert_eq!(result.codes(), [refused, refused, "OK", "OK", refused, refused, refused, "OK"], "{result:?}");
    assert!(result.error.is_none());
}

#[test]
fn lines_are_counted_as_a_person_counts_them() {
    let payload = "\n\r\nk,t,n\r\n\n\n1,2026-01-01T00:00:00Z,\"a\nb\rc\r\nd\"\r\n   \r\r2,2026-01-01T00:00:00Z,x\r3,2026-01-01T00:00:00Z,y";
    let result = read(Format::Csv, payload.as_bytes());
    assert_eq!(result.codes(), ["OK"; 3], "{result:?}");
    let lines: Vec<_> = result.records.iter().map(|record| record.line.unwrap()).collect();
    assert_eq!((lines, result.positions.last().unwrap().lines), (vec![6, 12, 13], 13));
}

/// A source that fails once, and then continues with bytes of another object.
struct Failing;

impl Source for Failing {
    fn size(&self) -> u64 {
        10_000
    }

    fn open_at_offset(&self, _: u64) -> io::Result<Box<dyn BufRead + Send>> {
        let begin = Cursor::new(b"{\"eventType\":\"a\",\"no".to_vec());
        let rest = Cursor::new(b"tes\":\"of another object\"}\n".to_vec());
        Ok(Box::new(io::BufReader::new(begin.chain(FailsOnce(false)).chain(rest))))
    }
}

struct FailsOnce(bool);

impl Read for FailsOnce {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        if std::mem::replace(&mut self.0, true) { Ok(0) } else { Err(SourceError::Unavailable.into()) }
    }
}

#[test]
fn nothing_is_read_after_an_error_of_the_store() {
    let input = Input::new(Arc::new(Failing));
    let opened = open_at_or_before_checkpoint(&input, Format::Ndjson, None, Checkpoint::default());
    let error = opened.err().expect("nothing is read");
    assert!(matches!(error, ReadError::Source(SourceError::Unavailable)), "{error:?}");
}
