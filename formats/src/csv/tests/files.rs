//! Tests headers, delimiters, encodings and decimal separators as people send them.

use super::*;

#[test]
fn missing_columns_are_named_with_those_of_the_header() {
    let all = CsvMapping { id_column: some("id"), external_id_columns: list(&["a", "b"]), ..mapping() };
    let expected = r#"the header lacks columns of the mapping: "t", "id", "b"; it has "a", "x""#;
    assert_eq!(header_error(&all, &["a", "x"]), expected);
    for (header, hint) in [("a;t;b", "';'"), ("a\tt", "a tab"), ("a|t", "'|'")] {
        let fault = open(&mapping(), header).err().expect("one column");
        let expected = format!(
            "the header lacks columns of the mapping: \"t\"; it has one column, {header:?}; is the delimiter {hint}?"
        );
        assert_eq!(fault, expected);
    }
    let wide = vec!["t"; CSV_COLUMNS_MAX + 1];
    assert!(header_error(&mapping(), &wide).contains("4097 columns"));
    let endless = open(&mapping(), "column,".repeat(100_000)).err().expect("too long");
    assert_eq!(endless, "the header is longer than 262144 bytes");
    let odd = open(&mapping(), *b"t,\xff\n").err().expect("bytes");
    assert_eq!(odd, "the header is not UTF-8: name its encoding in the mapping");
}

#[test]
fn columns_with_equal_names_are_numbered() {
    let header = ["t", "Distance", "x (2)", "Distance", "x", "x", "Distance"];
    let cells = ["2013-01-01T00:00:00Z", "1", "2", "3", "4", "5", "6"];
    let expected = r#"{"Distance":1,"x (2)":2,"Distance (2)":3,"x":4,"x (3)":5,"Distance (3)":6}"#;
    assert_eq!(draft(&mapping(), &header, &cells).properties, text(expected));
    let picked = CsvMapping { property_columns: list(&["Distance (2)", "Distance"]), ..mapping() };
    let expected = r#"{"Distance (2)":3,"Distance":1}"#;
    assert_eq!(draft(&picked, &header, &cells).properties, text(expected));
}

#[test]
fn missing_cells_at_the_end_are_empty_and_surplus_empty_cells_are_ignored() {
    let time = "2013-01-01T00:00:00Z";
    let read = |text: &str| rows(&mapping(), text.replace('T', time)).remove(0);
    let properties = |text: &str| read(text).expect("a row").properties;
    assert_eq!(properties("t,v,note\nT,2\n"), text(r#"{"v":2}"#));
    assert_eq!(properties("t,v,note\nT\n"), text("{}"));
    assert_eq!(properties("t,v\nT,2,\n"), text(r#"{"v":2}"#));
    assert_eq!(properties("t,v\nT,2,, ,\n"), text(r#"{"v":2}"#));
    assert_eq!(properties("t,v,,,\nT,2,,,\n"), text(r#"{"v":2}"#));
    assert_eq!(properties("t,v,,,\nT,2\n"), text(r#"{"v":2}"#));
    // One column without a name at the end counts, but further ones do not.
    assert_eq!(properties("t,v,\nT,2,3\n"), text(r#"{"v":2,"":3}"#));
    for surplus in ["t,v\nT,2,3\n", "t,v\nT,2,,3\n", "t,v,,\nT,2,,3\n"] {
        let problem = read(surplus).expect_err("a cell too many").remove(0);
        assert_eq!((problem.pointer.as_str(), problem.code), ("", Code::InvalidValue), "{surplus}");
        assert!(problem.detail.contains("cells under a header of"), "{}", problem.detail);
    }
    let problem = problems(&mapping(), &["v", "t"], &["2"]).remove(0);
    assert_eq!((problem.pointer.as_str(), problem.code), ("/timestamp", Code::Required));
}

#[test]
fn lines_before_the_header_are_skipped_or_obeyed() {
    let one = |mapping: &CsvMapping, text: &str| {
        let rows = rows(mapping, text.replace('T', "2013-01-01T00:00:00Z"));
        let [Ok(row)] = rows.as_slice() else { panic!("{text:?}: {rows:?}") };
        row.properties.clone()
    };
    let (semicolon, tab) = (text(r#"{"v":"1,5"}"#), text(r#"{"v":1}"#));
    assert_eq!(one(&mapping(), "sep=;\nt;v\nT;1,5"), semicolon);
    assert_eq!(one(&mapping(), "\u{feff}\"SEP=;\"\r\nt;v\r\nT;1,5"), semicolon);
    assert_eq!(one(&mapping(), "sep=\t\nt\tv\nT\t1"), tab);
    let skip = |skip_lines| CsvMapping { skip_lines, ..mapping() };
    assert_eq!(one(&skip(2), "Export of 1, 2\r\n\"3\r\nt,v\r\nT,1\r\n"), tab);
    assert_eq!(one(&skip(2), "sep=;\nMy bank\nt;v\nT;1"), tab, "the instruction is one of the lines");
    assert_eq!(
        open(&skip(3), "a\nb\n").err().as_deref(),
        Some("the CSV has no header: it ends after 2 of 3 lines to be skipped")
    );
    let auto = |skip_lines| CsvMapping { delimiter: "auto".to_owned(), skip_lines, ..mapping() };
    for delimiter in [",", ";", "\t", "|"] {
        let file = "\"a, b\"XtX\"v\"\n1XTX2\n".replace('X', delimiter);
        assert_eq!(one(&auto(0), &file), text(r#"{"a, b":1,"v":2}"#), "{delimiter:?}");
    }
    assert_eq!(one(&auto(1), "prose; and, more\nt;v\nT;1,5"), semicolon);
    assert_eq!(one(&auto(0), "t\nT\n"), text("{}"), "one column");
    assert_eq!(one(&auto(0), "\r\n\r\nt;v\r\nT;1,5"), semicolon, "an empty line before the header");
}

#[test]
fn text_may_have_another_encoding() {
    let in_code_page = b"t;Stra\xdfe\n2013-01-01T00:00:00Z;\x80 5\n".to_vec();
    let wide = |text: &str, mark: &str| -> Vec<u8> {
        format!("{mark}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    let file = "t;Stra\u{df}e\n2013-01-01T00:00:00Z;\u{20ac} 5\n";
    let named =
        |encoding: &str| CsvMapping { encoding: some(encoding), delimiter: ";".to_owned(), ..mapping() };
    for (mapping, bytes) in [
        (named("windows-1252"), in_code_page.clone()),
        (named("latin1"), in_code_page.clone()),
        (named("auto"), wide(file, "\u{feff}")),
        (named("utf-16le"), wide(file, "")),
        (named("windows-1252"), [b"\xef\xbb\xbf".as_slice(), file.as_bytes()].concat()),
    ] {
        let rows = rows(&mapping, bytes);
        let [Ok(row)] = rows.as_slice() else { panic!("{mapping:?}: {rows:?}") };
        assert_eq!(row.properties, text("{\"Stra\u{df}e\":\"\u{20ac} 5\"}"), "{mapping:?}");
    }
    assert!(
        open(&named("auto"), in_code_page).err().is_some_and(|fault| fault.contains("name its encoding"))
    );
    let none = open(&named("auto"), wide(file, "")).err();
    assert_eq!(none.as_deref(), Some("the text is UTF-16; send UTF-8, or name its encoding in the mapping"));
    // Bytes that cannot be decoded reject their row.
    let broken = b"t,v\n2013-01-01T00:00:00Z,\x82\n2013-01-01T00:00:00Z,\x82\xa0\n".to_vec();
    let read = rows(&CsvMapping { encoding: some("shift_jis"), ..mapping() }, broken);
    assert_eq!(read[0].as_ref().expect_err("half a letter")[0].detail, "is not Shift_JIS (column \"v\")");
    assert_eq!(read[1].as_ref().expect("a letter").properties, text("{\"v\":\"\u{3042}\"}"));
    let labels = |label: &str| check_mapping(&named(label)).first().map(|problem| problem.pointer.clone());
    assert_eq!((labels("klingon"), labels("UTF-8")), (some("/csv/encoding"), None));
}

#[test]
fn numbers_may_have_a_decimal_comma() {
    let german = CsvMapping {
        has_decimal_comma: true,
        delimiter: ";".to_owned(),
        latitude_column: some("lat"),
        longitude_column: some("lon"),
        ..mapping()
    };
    let file = "t;lat;lon;a;b;c;d;e;f;g\n2013-01-01T00:00:00Z;52,5;-13,25;3,5;-1.234,56;1.234;12.34,5;7;1,2,3;1.234.567,8\n";
    let read = rows(&german, file).remove(0).expect("a row");
    let expected = r#"{"a":3.5,"b":-1234.56,"c":"1.234","d":"12.34,5","e":7,"f":"1,2,3","g":1234567.8}"#;
    assert_eq!(read.properties, text(expected));
    let Sent::Value(place) = read.location else { panic!("a location") };
    assert_eq!((place.latitude, place.longitude), (Sent::Value(52.5), Sent::Value(-13.25)));
}
