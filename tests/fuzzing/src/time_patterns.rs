//! Checks the parsing of a time by a pattern, in several time zones.

use domain::csv_mapping::CsvMapping;
use domain::draft::{EventDraft, Sent};
use domain::import::Format;
use formats::Checkpoint;
use uuid::Uuid;

use crate::reading;

/// Time zones that skip hours, half hours and a whole day.
const ZONES: [&str; 3] = ["Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia"];

/// Reads a time by a pattern. An empty pattern means no pattern.
pub(crate) fn check(pattern: &str, time: &str) {
    let format = Some(pattern.to_owned()).filter(|pattern| !pattern.is_empty());
    let is_right = formats::csv::check_mapping(&mapping(format.clone(), None)).is_empty();
    let without_zone = read(format.clone(), None, time);
    assert_eq!(is_right, without_zone.is_some(), "the check and the reader agree on {pattern:?}");
    let instant = without_zone.flatten();
    for zone in ZONES {
        let in_zone = read(format.clone(), Some(zone), time).flatten();
        if instant.is_some() {
            assert_eq!(instant, in_zone, "a time with an offset does not depend on the zone {zone}");
        }
        if let Some(written) = in_zone {
            assert_eq!(read(None, None, &written), Some(Some(written)), "RFC 3339 is read back");
        }
    }
}

fn mapping(timestamp_format: Option<String>, zone: Option<&str>) -> CsvMapping {
    CsvMapping {
        event_type: Some("reading".to_owned()),
        timestamp_column: "t".to_owned(),
        delimiter: ",".to_owned(),
        timestamp_format,
        time_zone: zone.map(str::to_owned),
        ..CsvMapping::default()
    }
}

/// Reads a CSV of one row with one cell. Returns `None` if the pattern is refused, and `Some(None)` if the
/// time is refused.
fn read(format: Option<String>, zone: Option<&str>, time: &str) -> Option<Option<String>> {
    let payload = format!("t\n\"{}\"\n", time.replace('"', "\"\""));
    let input = reading::whole(payload.as_bytes());
    let mapping = mapping(format, zone);
    let (mut reader, _) =
        formats::open_at_or_before_checkpoint(&input, Format::Csv, Some(&mapping), Checkpoint::default())
            .ok()?;
    assert!(reader.advance().is_ok_and(|has_record| has_record), "the file has a row");
    let read =
        reader.parse_record(Uuid::nil()).ok().filter(|read| read.problems.is_empty()).and_then(|read| {
            let EventDraft { timestamp: Sent::Value(written), .. } = read.draft else { return None };
            let event = reader.parse_event_of_record(Uuid::nil(), &|_| Uuid::nil());
            assert!(event.is_ok(), "the reader wrote an invalid time {written}: {event:?}");
            Some(written)
        });
    assert!(reader.advance().is_ok_and(|has_record| !has_record), "the file has one row");
    Some(read)
}
