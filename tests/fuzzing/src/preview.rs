//! What is shown of a payload before an import, and given back after it.

use std::sync::Arc;

use domain::csv_mapping::CsvMapping;
use domain::import::Format;
use formats::preview::{Preview, Request, preview};
use formats::rejected::Rejected;
use formats::{Input, PartialSource};
use serde_json::Value;

use crate::{packing, reading};

/// Looks at a payload, and at parts of it; and writes the records that would be rejected, which must be as many again.
pub(crate) fn check(payload: &[u8]) {
    let mapping = packing::mapping();
    let whole = look(&reading::whole(payload), &mapping);
    assert!(whole.rejected <= whole.read, "{whole:?}");
    assert_eq!(whole.to_json(), look(&reading::whole(payload), &mapping).to_json(), "looked at twice");
    for (head, tail) in [(payload.len() / 2, payload.len() / 3), (payload.len(), 0), (16, 0)] {
        let (head, tail) = (&payload[..head.min(payload.len())], &payload[payload.len() - tail..]);
        let source = PartialSource::new(payload.len() as u64, head.to_vec(), tail.to_vec());
        let part = look(&Input::new(Arc::new(source.expect("they are parts"))), &mapping);
        check_part(&whole, &part);
    }
    if whole.problems.is_empty() {
        check_rejected(&whole, payload, &mapping);
    }
}

fn look(input: &Input, mapping: &CsvMapping) -> Preview {
    let request =
        Request { format: None, file_name: "", mapping: None, records: usize::MAX, reads_all: true };
    let seen = preview(input, &request);
    if seen.format == Some(Format::Csv) {
        return preview(input, &Request { mapping: Some(mapping), ..request });
    }
    seen
}

/// Checks that what is seen of a part is the beginning of what is seen of the whole.
fn check_part(whole: &Preview, part: &Preview) {
    if (part.packing, part.format, &part.csv) != (whole.packing, whole.format, &whole.csv) {
        // Too little is there to tell.
        assert!(part.is_cut || !whole.problems.is_empty() || !part.problems.is_empty(), "{part:?}");
        return;
    }
    let (all, some) = (rows(whole), rows(part));
    assert!(some.len() <= all.len() && some == all[..some.len()], "the rows of a part are the first ones");
}

fn rows(preview: &Preview) -> Vec<Value> {
    preview.to_json()["rows"].as_array().cloned().unwrap_or_default()
}

fn check_rejected(whole: &Preview, payload: &[u8], mapping: &CsvMapping) {
    let Some(format) = whole.format else { return };
    let mut rejected = Rejected::open(&reading::whole(payload), format, Some(mapping)).expect("it was read");
    let mut file = rejected.begin();
    for seen in whole.records.iter().filter(|seen| !seen.problems.is_empty()) {
        let number = i64::try_from(seen.record).expect("memory holds fewer records");
        file.extend(
            rejected.record(number, "a \"reason\" -- of it\n").expect("it was read").expect("it is there"),
        );
    }
    file.extend(rejected.end());
    let mapping = (format == Format::Csv).then_some(mapping);
    let request = Request { format: Some(format), file_name: "", mapping, records: 0, reads_all: true };
    let again = preview(&reading::whole(&file), &request);
    assert!(again.problems.is_empty(), "{:?} in {:?}", again.problems, String::from_utf8_lossy(&file));
    assert_eq!(again.read, whole.rejected, "{:?}", String::from_utf8_lossy(&file));
}
