//! What holds of each record and its event, in whatever format it came.

use domain::canonical_json::canonical;
use domain::draft::{EventDraft, NewEvent, Sent};
use domain::import::Format;
use domain::limits::EXCERPT_CHARS_MAX;
use domain::problem::{Code, FieldProblem};
use formats::json::{parse_record, write_record};

/// What stands for half of a surrogate pair, as JSON is written. A cell that holds it is refused as if it were one.
const HALF_A_PAIR: &str = "\\u0000\u{fdd0}";

/// Checks a record: its bytes, its draft if it can be read, and its event if that is right.
pub(crate) fn check_record(
    format: Format,
    raw: &[u8],
    draft: Option<&EventDraft>,
    event: &Result<NewEvent, Vec<FieldProblem>>,
) {
    let excerpt = formats::excerpt(raw);
    assert!(excerpt.chars().count() <= EXCERPT_CHARS_MAX && !excerpt.contains('\0'), "{excerpt:?}");
    match event {
        Ok(event) => check_event(event),
        Err(problems) => {
            assert!(!problems.is_empty(), "a record is refused for no reason");
            if let Some(draft) = draft
                && matches!(format, Format::Csv | Format::AppleHealth)
            {
                check_made(draft, problems);
            }
        }
    }
    if let Some(draft) = draft {
        check_written(draft);
    }
}

/// Checks what is wrong with the event of a draft whose times and `properties` the reader of its format has made of
/// something else.
fn check_made(draft: &EventDraft, problems: &[FieldProblem]) {
    let has = |code| problems.iter().any(|problem| problem.code == code);
    assert!(!has(Code::InvalidDatetime), "a time was read, and is refused: {draft:?}");
    let may_be_wrong =
        matches!(&draft.properties, Sent::Value(properties) if properties.contains(HALF_A_PAIR));
    assert!(may_be_wrong || !has(Code::InvalidJson), "wrong JSON was made of a record: {draft:?}");
}

/// Checks an event that is right in itself.
fn check_event(event: &NewEvent) {
    let properties = &event.body.properties;
    assert_eq!(canonical(properties).as_ref(), Ok(properties), "canonical JSON of canonical JSON is itself");
    if let Some(end) = event.body.end_date {
        assert!(end >= event.body.timestamp, "the end is before the start");
    }
}

/// Checks that a draft that is written as NDJSON is read back as it was.
pub(crate) fn check_written(draft: &EventDraft) {
    let line = write_record(draft);
    assert!(line.find('\n') == Some(line.len() - 1), "a record is one line: {line:?}");
    let read = parse_record(line.as_bytes()).unwrap_or_else(|problems| panic!("{line:?}: {problems:?}"));
    assert_eq!(write_record(&read), line);
    // White space in `properties` is not kept.
    let bare = |draft: &EventDraft| EventDraft { properties: Sent::Absent, ..draft.clone() };
    assert_eq!(bare(&read), bare(draft), "{line:?}");
}
