//! Tests payloads that are small as they are sent and large when they are unpacked.

use domain::limits::{DECODED_RATIO_FROM_BYTES, DECODED_RATIO_MAX};

use super::*;

const LINE: &[u8] = b"{\"eventType\":\"s\",\"timestamp\":\"2026-01-01T00:00:00Z\"}\n";

/// A zstd frame of `bytes` blanks after a skippable frame (RFC 8878, section 3.1.2). The size of the latter
/// sets the ratio to `ratio`.
fn blanks(bytes: usize, ratio: usize) -> Vec<u8> {
    let frame = zstd::encode_all(io::repeat(b' ').take(bytes as u64), 1).unwrap();
    let padding = vec![0xaa; bytes / ratio];
    let length = u32::try_from(padding.len()).unwrap();
    [&0x184D_2A50_u32.to_le_bytes()[..], &length.to_le_bytes(), &padding, &frame].concat()
}

/// A payload of parts, each repeated this many times. It is never in memory as a whole.
struct Repeated(Vec<(Arc<[u8]>, usize)>);

impl Source for Repeated {
    fn size(&self) -> u64 {
        self.0.iter().map(|(part, times)| part.len() as u64 * *times as u64).sum()
    }

    fn open_at_offset(&self, offset: u64) -> io::Result<Box<dyn BufRead + Send>> {
        let parts: Vec<_> = self.0.iter().flat_map(|(part, times)| vec![Arc::clone(part); *times]).collect();
        let chained =
            parts.into_iter().fold(Box::new(io::empty()) as Box<dyn Read + Send>, |before, part| {
                Box::new(before.chain(Cursor::new(part)))
            });
        let mut reader = io::BufReader::new(chained);
        io::copy(&mut reader.by_ref().take(offset), &mut io::sink())?;
        Ok(Box::new(reader))
    }
}

/// Returns the number of events that are read, and the detail of the error that ends reading.
fn count_events(parts: &[(&[u8], usize)]) -> (usize, Option<String>) {
    let parts = parts.iter().map(|(part, times)| (Arc::from(*part), *times)).collect();
    let input = Input::new(Arc::new(Repeated(parts)));
    let (mut reader, _) =
        open_at_or_before_checkpoint(&input, Format::Ndjson, None, Checkpoint::default()).unwrap();
    let (records, error) = read_all(reader.as_mut());
    let detail = error.map(|error| error.to_problem_if_permanent().unwrap().detail.unwrap());
    (records.iter().filter(|(_, text, _)| text.contains("eventType")).count(), detail)
}

#[test]
fn at_most_sixteen_gib_are_decoded_at_any_ratio() {
    const FRAME: usize = 128 << 20;
    let line = zstd::encode_all(LINE, 1).unwrap();
    let end = zstd::encode_all(&b"\n"[..], 1).unwrap();
    let frames = (16 << 30) / FRAME;
    let ratio = usize::try_from(DECODED_RATIO_MAX).unwrap() - 10;
    let blanks = blanks(FRAME, ratio);
    let detail = "the payload is too large once decoded".to_owned();
    let parts = [(&line[..], 1), (&blanks, frames - 1), (&end, 1), (&line, 1), (&blanks, 1), (&line, 1)];
    assert_eq!(count_events(&parts), (2, Some(detail)), "records before the limit are read");
}

#[test]
fn a_payload_over_the_ratio_limit_is_refused_once_it_is_large() {
    let from = usize::try_from(DECODED_RATIO_FROM_BYTES).unwrap();
    let line = zstd::encode_all(LINE, 1).unwrap();
    let with = |bytes, ratio| count_events(&[(&line[..], 1), (&blanks(bytes, ratio), 1)]);
    assert_eq!(with(from / 2, 100_000), (1, None), "it is not large");
    assert_eq!(with(from * 2, 190), (1, None), "its ratio is below the limit");
    assert_eq!(with(from * 2, 100_000), (1, Some("the payload is too large once decoded".to_owned())));
}
