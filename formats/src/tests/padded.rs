//! Tests what may follow the end of a gzip file.

use super::*;

const EVENTS: &[u8] = b"{\"eventType\":\"s\",\"timestamp\":\"2026-01-01T00:00:00Z\"}\n";

#[test]
fn zeros_after_a_gzip_are_padding_and_anything_else_is_refused() {
    let member = gzip(EVENTS);
    let with = |tail: &[u8]| [member.as_slice(), tail].concat();
    for (zeros, members) in [(1, 1), (511, 1), (300_000, 1), (512, 2)] {
        let result = read(Format::Ndjson, &[member.repeat(members), vec![0; zeros]].concat());
        assert_eq!(
            (result.codes(), result.error.is_none()),
            (vec!["OK"; members], true),
            "{zeros}: {result:?}"
        );
    }
    let expected = "PAYLOAD_FORMAT: something other than zeros follows the end of the gzip";
    for tail in [&b"x"[..], b"\0\0x", &[&[0; 70_000][..], b"x"].concat(), &[&[0; 4][..], &member].concat()] {
        let result = read(Format::Ndjson, &with(tail));
        assert_eq!(
            (result.codes(), result.detail().as_str()),
            (vec!["OK"], expected),
            "complete records are read"
        );
    }
    let cut = read(Format::Ndjson, &with(&member[..member.len() - 1]));
    assert_eq!(cut.detail(), "PAYLOAD_FORMAT: the compressed payload is cut or damaged");
}
