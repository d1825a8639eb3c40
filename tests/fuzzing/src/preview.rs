//! Checks the preview of a payload, and the file of rejected records.

use std::sync::Arc;

use domain::csv_mapping::CsvMapping;
use domain::import::Format;
use formats::preview::{Preview, Request, preview_file};
use formats::rejected::RejectedRecordsWriter;
use formats::{Input, PartialSource};
use serde_json::Value;

use crate::{packing, reading};

/// Previews a payload and parts of it. Also writes the file of rejected records, which must have the same
/// number of records again.
pub(crate) fn check(payload: &[u8]) {
    let mapping = packing::mapping();
    let whole = preview_with(&reading::whole(payload), &mapping);
    assert!(whole.rejected <= whole.read, "{whole:?}");
    let again = preview_with(&reading::whole(payload), &mapping);
    assert_eq!(whole.to_json(), again.to_json(), "the preview is deterministic");
    for (head, tail) in [(payload.len() / 2, payload.len() / 3), (payload.len(), 0), (16, 0)] {
        let (head, tail) = (&payload[..head.min(payload.len())], &payload[payload.len() - tail..]);
        let source = PartialSource::new(payload.len() as u64, head.to_vec(), tail.to_vec());
        let part =
            preview_with(&Input::new(Arc::new(source.expect("head and tail are not too long"))), &mapping);
        check_part(&whole, &part);
    }
    if whole.problems.is_empty() {
        check_rejected(&whole, payload, &mapping);
    }
}

/// Previews an input. If it is CSV, this is done again with the mapping.
fn preview_with(input: &Input, mapping: &CsvMapping) -> Preview {
    let request =
        Request { format: None, file_name: "", mapping: None, records: usize::MAX, reads_all: true };
    let first = preview_file(input, &request);
    if first.format == Some(Format::Csv) {
        return preview_file(input, &Request { mapping: Some(mapping), ..request });
    }
    first
}

/// Checks that the preview of a part is the beginning of the preview of the whole payload.
fn check_part(whole: &Preview, part: &Preview) {
    if (part.packing, part.format, &part.csv) != (whole.packing, whole.format, &whole.csv) {
        // The part may be too short to detect the format.
        assert!(part.is_cut || !whole.problems.is_empty() || !part.problems.is_empty(), "{part:?}");
        return;
    }
    let (all, some) = (rows(whole), rows(part));
    assert!(some.len() <= all.len() && some == all[..some.len()], "the rows of a part are the first rows");
}

fn rows(preview: &Preview) -> Vec<Value> {
    preview.to_json()["rows"].as_array().cloned().unwrap_or_default()
}

/// Writes the file of rejected records and checks that it can be read.
fn check_rejected(whole: &Preview, payload: &[u8], mapping: &CsvMapping) {
    let Some(format) = whole.format else { return };
    let mut rejected = RejectedRecordsWriter::open(&reading::whole(payload), format, Some(mapping))
        .expect("the preview read it");
    let mut file = rejected.content_before_records();
    for record in whole.records.iter().filter(|record| !record.problems.is_empty()) {
        let number = i64::try_from(record.record).expect("memory holds fewer records");
        let written =
            rejected.read_record_with_reason(number, "a \"reason\" -- of it\n").expect("the preview read it");
        file.extend(written.expect("the preview read this record"));
    }
    file.extend(rejected.content_after_records());
    let mapping = (format == Format::Csv).then_some(mapping);
    let request = Request { format: Some(format), file_name: "", mapping, records: 0, reads_all: true };
    let again = preview_file(&reading::whole(&file), &request);
    assert!(again.problems.is_empty(), "{:?} in {:?}", again.problems, String::from_utf8_lossy(&file));
    assert_eq!(again.read, whole.rejected, "{:?}", String::from_utf8_lossy(&file));
}
