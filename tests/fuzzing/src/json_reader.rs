//! Checks the readers of JSON records and of `properties`, and the function that replaces values which they
//! cannot represent.

use domain::canonical_json::canonicalize_object;
use domain::draft::{MissingId, parse_event};
use domain::import::Format;
use domain::problem::{Code, FieldProblem};
use domain::text_repair::{
    Flaw, Syntax, find_first_flaw, make_marked_numbers_overflow, replace_flaws_by_markers,
};
use formats::Checkpoint;
use formats::json::{draft_to_ndjson_line, parse_record};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{events, reading};

/// A limit below 128, the depth at which serde_json fails.
const DEPTH_MAX: usize = 120;

/// Checks all readers of JSON against each other and against serde_json.
pub(crate) fn check(text: &str) {
    check_mended(text);
    check_canonical(text);
    check_record(text);
}

fn check_mended(text: &str) {
    let value = serde_json::from_str::<Value>(text);
    let mended = replace_flaws_by_markers(text, Syntax::Json);
    assert_eq!(mended.is_some(), find_first_flaw(text).is_some(), "exactly the texts with a flaw are mended");
    if value.is_ok() {
        assert_eq!(mended, None, "a text that serde_json reads is not mended");
    }
    for syntax in [Syntax::Json, Syntax::GraphQl] {
        let again = replace_flaws_by_markers(text, syntax)
            .and_then(|mended| replace_flaws_by_markers(&mended, syntax));
        assert_eq!(again, None, "a mended text of {syntax:?} has no flaw");
    }
    if let Some(mended) = mended {
        if is_grammatical(text) {
            let read = serde_json::from_str::<Value>(&mended);
            assert!(read.is_ok(), "{mended:?} cannot be read: {read:?}");
        }
        let undone = make_marked_numbers_overflow(&mended);
        assert_eq!(
            undone != mended,
            find_first_flaw(&undone).is_some(),
            "{mended:?} is undone as {undone:?}"
        );
        let is_number = find_first_flaw(text) == Some(Flaw::NumberTooLarge);
        assert!(!is_number || undone != mended, "{mended:?} hides a number that is beyond floats");
    }
}

/// Whether a text follows the grammar of JSON, even if its escapes and numbers cannot be represented.
fn is_grammatical(text: &str) -> bool {
    let brackets = |open: &[u8]| text.bytes().filter(|byte| open.contains(byte)).count();
    brackets(b"[{") < DEPTH_MAX && serde_json::from_str::<&RawValue>(text).is_ok()
}

fn check_canonical(text: &str) {
    let Ok(written) = canonicalize_object(text) else { return };
    assert_eq!(canonicalize_object(&written).as_ref(), Ok(&written), "canonical JSON is unchanged by itself");
    assert_eq!(canonicalize_object(&spread(text)).as_ref(), Ok(&written), "white space does not matter");
    let value: Value = serde_json::from_str(text).expect("serde_json reads a text that has a canonical form");
    assert_eq!(
        canonicalize_object(&value.to_string()).as_ref(),
        Ok(&written),
        "serde_json reads the same value"
    );
}

fn codes(problems: &[FieldProblem]) -> Vec<(&str, Code)> {
    problems.iter().map(|problem| (problem.pointer.as_str(), problem.code)).collect()
}

fn check_record(text: &str) {
    let read = parse_record(text.as_bytes());
    let lines = |read: &Result<_, _>| read.as_ref().map(draft_to_ndjson_line).map_err(Clone::clone);
    let spread = parse_record(spread(text).as_bytes());
    let assert_same = |other: &Result<_, _>, why| match (lines(&read), lines(other)) {
        // Details are not compared, because they have the column of a syntax error.
        (Err(one), Err(other)) => assert_eq!(codes(&one), codes(&other), "{why}"),
        (one, other) => assert_eq!(one, other, "{why}"),
    };
    assert_same(&spread, "white space does not matter");
    if is_grammatical(text) {
        let (raw, element) = element(text);
        assert_eq!(raw, text.trim_ascii(), "the bytes of an array element are its text");
        assert_same(&element, "an array element is read like a line");
    }
    if let Ok(draft) = read {
        events::check_written(&draft);
        let event = parse_event(draft, MissingId::Derived(Uuid::nil()), Uuid::nil());
        assert!(
            find_first_flaw(text).is_none() || event.is_err(),
            "a value that cannot be stored is refused: {event:?}"
        );
    }
}

type Draft = Result<domain::draft::EventDraft, Vec<FieldProblem>>;

/// Reads a text as the only element of an array. Returns its bytes as well.
fn element(text: &str) -> (String, Draft) {
    let input = reading::whole(format!("[{text}]").as_bytes());
    let opened = formats::open_at_or_before_checkpoint(&input, Format::Json, None, Checkpoint::default());
    let (mut reader, _) = opened.unwrap_or_else(|error| panic!("{error}"));
    assert!(reader.advance().is_ok_and(|has_record| has_record), "the array has an element");
    let raw = String::from_utf8_lossy(reader.raw_bytes()).into_owned();
    let draft = reader
        .parse_record(Uuid::nil())
        .and_then(|read| if read.problems.is_empty() { Ok(read.draft) } else { Err(read.problems) });
    assert!(reader.advance().is_ok_and(|has_record| !has_record), "the array has one element");
    (raw, draft)
}

/// Returns the text with white space on both sides of each bracket, comma and colon.
fn spread(text: &str) -> String {
    let mut spread = String::with_capacity(text.len() * 2);
    let (mut is_in_string, mut is_escaped) = (false, false);
    for c in text.chars() {
        if !is_in_string && matches!(c, '{' | '}' | '[' | ']' | ',' | ':') {
            spread.extend([' ', c, '\t']);
        } else {
            spread.push(c);
        }
        is_in_string ^= c == '"' && !is_escaped;
        is_escaped = is_in_string && c == '\\' && !is_escaped;
    }
    spread
}
