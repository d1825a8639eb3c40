//! Formats that are told by content, and by a name where that does not tell.

use super::*;

fn told(name: &str, bytes: &[u8], columns_are_named: bool) -> Result<Option<Format>, String> {
    let input = Input::new(Arc::new(Memory(bytes.to_vec())));
    detect(&input, name, columns_are_named).map(|(_, format)| format).map_err(|error| error.to_string())
}

#[test]
fn the_first_bytes_tell_the_format_however_they_are_packed() {
    for (text, expected) in [
        ("{\"a\":1}\n", Format::Ndjson),
        ("\u{feff} \n[{}]", Format::Json),
        ("<?xml version=\"1.0\"?>", Format::AppleHealth),
        ("a,b\n1,2\n", Format::Csv),
    ] {
        for (packing, payload) in packings(text.as_bytes()) {
            let found = told("file", &payload, expected == Format::Csv);
            assert_eq!(found, Ok(Some(expected)), "{text} {packing}");
        }
    }
}

#[test]
fn a_name_helps_where_the_bytes_do_not() {
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
        assert_eq!(told(name, &bytes, columns_are_named), Ok(expected), "{name}");
    }
}

#[test]
fn text_of_another_encoding_is_told_or_is_csv() {
    let wide = |text: &str| -> Vec<u8> {
        format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    assert_eq!(told("a", &wide("t\tv\n"), true), Ok(Some(Format::Csv)));
    for (text, columns_are_named, way_out) in [
        ("t\tv\n", false, ", or a CSV with its columns named"),
        ("<HealthData/>", false, ""),
        ("<HealthData/>", true, ""),
    ] {
        for (_, payload) in packings(&wide(text)) {
            let expected = format!("the text is UTF-16; send UTF-8{way_out}");
            assert_eq!(told("export", &payload, columns_are_named), Err(expected));
        }
    }
}

#[test]
fn what_cannot_be_unpacked_is_told() {
    let twice = told("a", &gzip(&gzip(b"{}")), false);
    assert_eq!(
        twice.as_ref().map_err(String::as_str),
        Err("the payload is compressed twice: gzip inside of gzip")
    );
    let damaged = "the compressed payload is cut or damaged";
    assert_eq!(told("a", &gzip(b"{}")[..6], false).map_err(|told| told == damaged), Err(true));
    let two = archive(&[("a", b"{}"), ("b", b"{}")], CompressionMethod::DEFLATE);
    assert!(told("a", &two, false).is_err_and(|told| told.contains("2 files")));
    for cut in [4, 20, two.len() - 30, two.len() - 3] {
        assert!(told("a", &two[..cut], false).is_err_and(|told| told.contains("zip")), "{cut}");
    }
}

#[test]
fn what_is_no_file_of_records_is_named() {
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
            assert_eq!(told("a", &payload, true), Err(expected), "{packing}");
        }
    }
    for header in ["%PDF,a\n", "PAR1,PAR2\n", "SQLite format 3,x\n"] {
        assert_eq!(told("a", header.as_bytes(), true), Ok(Some(Format::Csv)), "{header}");
    }
    let names = ["[Content_Types].xml", "xl/workbook.xml", "xl/worksheets/sheet1.xml"];
    let workbook = archive(&names.map(|name| (name, &b"<a/>"[..])), CompressionMethod::STORE);
    let expected = "a workbook of Excel is not read: save its sheet as CSV, and send that";
    assert_eq!(told("book.xlsx", &workbook, true), Err(expected.to_owned()));
    let files = ["a.csv", "b.csv", "c.csv", "d.csv", "e.csv", "f.csv"];
    let many = archive(&files.map(|name| (name, &b"x"[..])), CompressionMethod::STORE);
    let expected = "the zip archive has 6 files (a.csv, b.csv, c.csv, d.csv, e.csv, …): send one, or an export of Apple Health";
    assert_eq!(told("many.zip", &many, true), Err(expected.to_owned()));
}
