//! Payloads that are small as they are sent and large once they are decoded.

use domain::limits::{DECODED_BYTES_MAX, DECODED_RATIO_FROM_BYTES, DECODED_RATIO_MAX};

use super::*;

const LINE: &[u8] = b"{\"eventType\":\"s\",\"timestamp\":\"2026-01-01T00:00:00Z\"}\n";

/// So many blanks in a frame of zstd, behind bytes that decode to nothing (RFC 8878, 3.1.2), one for so many blanks.
fn blanks(bytes: usize, ratio: usize) -> Vec<u8> {
    let frame = zstd::encode_all(io::repeat(b' ').take(bytes as u64), 1).unwrap();
    let padding = vec![0xaa; bytes / ratio];
    let length = u32::try_from(padding.len()).unwrap();
    [&0x184D_2A50_u32.to_le_bytes()[..], &length.to_le_bytes(), &padding, &frame].concat()
}

/// How many events are read, and why it ends early.
fn found(payload: Vec<u8>) -> (usize, Option<String>) {
    let input = Input::new(Arc::new(Memory(payload)));
    let (mut reader, _) = open(&input, Format::Ndjson, None, Checkpoint::default()).unwrap();
    let (records, error) = read_all(reader.as_mut());
    let told = error.map(|error| error.problem().unwrap().detail.unwrap());
    (records.iter().filter(|(_, text, _)| text.contains("eventType")).count(), told)
}

#[test]
fn more_than_sixteen_gib_are_not_decoded_however_little_they_are() {
    const FRAME: usize = 128 << 20;
    let line = zstd::encode_all(LINE, 1).unwrap();
    let end = zstd::encode_all(&b"\n"[..], 1).unwrap();
    let frames = usize::try_from(DECODED_BYTES_MAX).unwrap() / FRAME;
    let ratio = usize::try_from(DECODED_RATIO_MAX).unwrap() - 10;
    let blanks = blanks(FRAME, ratio);
    let most = [line.clone(), blanks.repeat(frames - 1), end, line.clone()].concat();
    let told = "the payload is too large once decoded".to_owned();
    assert_eq!(found([most, blanks, line].concat()), (2, Some(told)), "what fits is read");
}

#[test]
fn what_decodes_to_too_many_times_its_size_is_refused_once_it_is_large() {
    let from = usize::try_from(DECODED_RATIO_FROM_BYTES).unwrap();
    let line = zstd::encode_all(LINE, 1).unwrap();
    let with = |bytes, ratio| found([line.clone(), blanks(bytes, ratio)].concat());
    assert_eq!(with(from / 2, 100_000), (1, None), "it is not large");
    assert_eq!(with(from * 2, 190), (1, None), "it is not so many times");
    assert_eq!(with(from * 2, 100_000), (1, Some("the payload is too large once decoded".to_owned())));
}
