//! Checks the detection of compression and format.

use domain::csv_mapping::CsvMapping;
use domain::import::Format;

use crate::reading;

/// Returns a mapping for a file whose columns are unknown.
pub(crate) fn mapping() -> CsvMapping {
    CsvMapping {
        event_type: Some("reading".to_owned()),
        timestamp_column: "t".to_owned(),
        delimiter: "auto".to_owned(),
        ..CsvMapping::default()
    }
}

/// Detects the format of a payload twice, which must give the same result, and reads the payload.
pub(crate) fn check(payload: &[u8]) {
    let mapping = mapping();
    let input = reading::whole(payload);
    for (name, columns_are_named) in [("payload", false), ("payload.csv.gz", true)] {
        let detected = formats::detect_packing_and_format(&input, name, columns_are_named);
        let again = formats::detect_packing_and_format(&input, name, columns_are_named);
        assert_eq!(detected.as_ref().ok(), again.as_ref().ok(), "the detection is deterministic");
        if let Ok((_, Some(format))) = detected {
            reading::check(format, (format == Format::Csv).then_some(&mapping), payload);
        }
    }
}
