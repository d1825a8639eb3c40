//! Tests that formats are detected by their content, or by a name if the content does not decide.

use super::*;

fn detected(name: &str, bytes: &[u8], columns_are_named: bool) -> Result<Option<Format>, String> {
    let input = Input::new(Arc::new(Memory(bytes.to_vec())));
    detect_packing_and_format(&input, name, columns_are_named)
        .map(|(_, format)| format)
        .map_err(|error| error.to_string())
}

#[test]
fn the_first_bytes_decide_the_format_in_every_packing() {
    for (text, expected) in [
        ("{\"a\":1}\n", Format::Ndjson),
        ("\u{feff} \n[{}]", Format::Json),
        ("<?xml version=\"1.0\"?>", Format::AppleHealth),
        ("a,b\n1,2\n", Format::Csv),
    ] {
        for (packing, payload) in packings(text.as_bytes()) {
            let result = detected("file", &payload, expected == Format::Csv);
            assert_eq!(result, Ok(Some(expected)), "{text} {packing}");
        }
    }
}

#[test]
fn the_name_decides_if_the_bytes_do_not() {
    for (name, bytes, columns_are_named, expected) in [
        ("a.csv", b"{x},b\n".to_vec(), true, Some(Format::Csv)),
        ("a.tsv.gz", gzip(b"<x>\tb\n"), true, Some(Format::Csv)),
        ("a.ndjson", b"{}".to_vec(), true, Some(Format::Ndjson)),
        ("a.json", b"\n".to_vec(), false, Some(Format::Json)),
        ("a.jsonl", b"\n".to_vec(), false, Some(Format::Ndjson)),
        ("A.CSV", b"a,b\n".to_vec(), false, Some(Format::Csv)),
        ("a", b"a,b\n".to_vec(), false, None),
        ("a.zip", archive(&[("b/c.csv", b"a,b\n")], CompressionMethod::STORE), false, Some(Format::Csv)),
    ] {
        assert_eq!(detected(name, &bytes, columns_are_named), Ok(expected), "{name}");
    }
}

#[test]
fn text_in_another_encoding_is_csv_or_is_refused() {
    let wide = |text: &str| -> Vec<u8> {
        format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    assert_eq!(detected("a", &wide("t\tv\n"), true), Ok(Some(Format::Csv)));
    for (text, columns_are_named, hint) in [
        ("t\tv\n", false, ", or a CSV with a column mapping"),
        ("<HealthData/>", false, ""),
        ("<HealthData/>", true, ""),
    ] {
        for (_, payload) in packings(&wide(text)) {
            let expected = format!("the text is UTF-16; send UTF-8{hint}");
            assert_eq!(detected("export", &payload, columns_are_named), Err(expected));
        }
    }
}

#[test]
fn payloads_that_cannot_be_unpacked_are_refused() {
    let twice = detected("a", &gzip(&gzip(b"{}")), false);
    assert_eq!(
        twice.as_ref().map_err(String::as_str),
        Err("the payload is compressed twice: gzip inside of gzip")
    );
    let damaged = "the compressed payload is cut or damaged";
    assert_eq!(detected("a", &gzip(b"{}")[..6], false).map_err(|detail| detail == damaged), Err(true));
    let two = archive(&[("a", b"{}"), ("b", b"{}")], CompressionMethod::DEFLATE);
    assert!(detected("a", &two, false).is_err_and(|detail| detail.contains("2 files")));
    for cut in [4, 20, two.len() - 30, two.len() - 3] {
        assert!(detected("a", &two[..cut], false).is_err_and(|detail| detail.contains("zip")), "{cut}");
    }
}

#[test]
fn files_without_records_are_refused_by_name() {
    for (bytes, kind) in [
        (&b"%PDF-1.7\n%\xe2\xe3"[..], "a PDF"),
        (b"SQLite format 3\0\x10\0", "a database of SQLite"),
        (b"PAR1\x15\x04\x15", "a file of Parquet"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", "an old file of Office"),
        (b"\x89PNG\r\n\x1a\n\0", "an image"),
        (b"\xef\xbb\xbf\n <!DOCTYPE HTML><html>", "a page of HTML"),
    ] {
        for (packing, payload) in packings(bytes) {
            let expected = format!("{kind} is not read: send CSV, JSON, NDJSON or an export of Apple Health");
            assert_eq!(detected("a", &payload, true), Err(expected), "{packing}");
        }
    }
    for header in ["%PDF,a\n", "PAR1,PAR2\n", "SQLite format 3,x\n"] {
        assert_eq!(detected("a", header.as_bytes(), true), Ok(Some(Format::Csv)), "{header}");
    }
    let names = ["[Content_Types].xml", "xl/workbook.xml", "xl/worksheets/sheet1.xml"];
    let workbook = archive(&names.map(|name| (name, &b"<a/>"[..])), CompressionMethod::STORE);
    let expected = "a workbook of Excel is not read: save its sheet as CSV, and send that";
    assert_eq!(detected("book.xlsx", &workbook, true), Err(expected.to_owned()));
    let files = ["a.csv", "b.csv", "c.csv", "d.csv", "e.csv", "f.csv"];
    let many = archive(&files.map(|name| (name, &b"x"[..])), CompressionMethod::STORE);
    let expected = "the zip archive has 6 files (a.csv, b.csv, c.csv, d.csv, e.csv, …): send one, or an export of Apple Health";
    assert_eq!(detected("many.zip", &many, true), Err(expected.to_owned()));
}
