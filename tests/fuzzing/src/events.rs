//! Checks the invariants of a record and its event, for all formats.

use domain::canonical_json::canonicalize_object;
use domain::draft::{EventDraft, NewEvent, Sent};
use domain::import::Format;
use domain::limits::EXCERPT_CHARS_MAX;
use domain::problem::{Code, FieldProblem};
use formats::json::{draft_to_ndjson_line, parse_record};

/// The replacement for half of a surrogate pair, as it appears in JSON. A cell with this text is refused as
/// well.
const HALF_A_PAIR: &str = "\\u0000\u{fdd0}";

/// Checks the excerpt of a record, its draft if there is one, and its event or the problems of it.
pub(crate) fn check_record(
    format: Format,
    raw: &[u8],
    draft: Option<&EventDraft>,
    event: &Result<NewEvent, Vec<FieldProblem>>,
) {
    let excerpt = formats::record_excerpt(raw);
    assert!(excerpt.chars().count() <= EXCERPT_CHARS_MAX && !excerpt.contains('\0'), "{excerpt:?}");
    match event {
        Ok(event) => check_event(event),
        Err(problems) => {
            assert!(!problems.is_empty(), "a record is refused without a reason");
            if let Some(draft) = draft
                && matches!(format, Format::Csv | Format::AppleHealth)
            {
                check_converted(draft, problems);
            }
        }
    }
    if let Some(draft) = draft {
        check_written(draft);
    }
}

/// Checks the problems of a draft that the reader converted from another format. Times and `properties` that
/// the reader wrote must be valid.
fn check_converted(draft: &EventDraft, problems: &[FieldProblem]) {
    let has = |code| problems.iter().any(|problem| problem.code == code);
    assert!(!has(Code::InvalidDatetime), "the reader wrote an invalid time: {draft:?}");
    let may_be_wrong =
        matches!(&draft.properties, Sent::Value(properties) if properties.contains(HALF_A_PAIR));
    assert!(may_be_wrong || !has(Code::InvalidJson), "the reader wrote invalid JSON: {draft:?}");
}

/// Checks a valid event.
fn check_event(event: &NewEvent) {
    let properties = &event.body.properties;
    assert_eq!(
        canonicalize_object(properties).as_ref(),
        Ok(properties),
        "canonical JSON is unchanged by itself"
    );
    if let Some(end) = event.body.end_date {
        assert!(end >= event.body.timestamp, "the end is before the start");
    }
}

/// Checks that a draft that is written as NDJSON is read back unchanged.
pub(crate) fn check_written(draft: &EventDraft) {
    let line = draft_to_ndjson_line(draft);
    assert!(line.find('\n') == Some(line.len() - 1), "a record is one line: {line:?}");
    let read = parse_record(line.as_bytes()).unwrap_or_else(|problems| panic!("{line:?}: {problems:?}"));
    assert_eq!(draft_to_ndjson_line(&read), line);
    // `properties` are left out, because their white space is not kept.
    let bare = |draft: &EventDraft| EventDraft { properties: Sent::Absent, ..draft.clone() };
    assert_eq!(bare(&read), bare(draft), "{line:?}");
}
