//! Text that may be JSON: the readers of records and of `properties`, and what mends text for them.

use domain::canonical_json::canonical;
use domain::draft::{MissingId, parse_event};
use domain::import::Format;
use domain::mended::{Flaw, Syntax, flaw, mend, unmend_numbers};
use domain::problem::{Code, FieldProblem};
use formats::Checkpoint;
use formats::json::{parse_record, write_record};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{events, reading};

/// serde_json reads values that are nested less deep than 128.
const DEPTH_MAX: usize = 120;

/// Checks all readers of JSON against each other and against serde_json.
pub(crate) fn check(text: &str) {
    check_mended(text);
    check_canonical(text);
    check_record(text);
}

fn check_mended(text: &str) {
    let value = serde_json::from_str::<Value>(text);
    let mended = mend(text, Syntax::Json);
    assert_eq!(mended.is_some(), flaw(text).is_some(), "what has a flaw is mended, and nothing else");
    if value.is_ok() {
        assert_eq!(mended, None, "what is read is not mended");
    }
    for syntax in [Syntax::Json, Syntax::GraphQl] {
        let again = mend(text, syntax).and_then(|mended| mend(&mended, syntax));
        assert_eq!(again, None, "{syntax:?} is mended once");
    }
    if let Some(mended) = mended {
        if is_grammatical(text) {
            let read = serde_json::from_str::<Value>(&mended);
            assert!(read.is_ok(), "{mended:?} cannot be read: {read:?}");
        }
        let undone = unmend_numbers(&mended);
        assert_eq!(undone != mended, flaw(&undone).is_some(), "{mended:?} is undone as {undone:?}");
        let is_number = flaw(text) == Some(Flaw::BeyondFloats);
        assert!(!is_number || undone != mended, "{mended:?} hides a number that is beyond floats");
    }
}

/// Whether a text is JSON by its grammar, whatever its escapes and numbers mean.
fn is_grammatical(text: &str) -> bool {
    let brackets = |open: &[u8]| text.bytes().filter(|byte| open.contains(byte)).count();
    brackets(b"[{") < DEPTH_MAX && serde_json::from_str::<&RawValue>(text).is_ok()
}

fn check_canonical(text: &str) {
    let Ok(written) = canonical(text) else { return };
    assert_eq!(canonical(&written).as_ref(), Ok(&written), "canonical JSON of canonical JSON is itself");
    assert_eq!(canonical(&spread(text)).as_ref(), Ok(&written), "white space says nothing");
    let value: Value = serde_json::from_str(text).expect("serde_json reads what is canonical");
    assert_eq!(canonical(&value.to_string()).as_ref(), Ok(&written), "serde_json understands the same");
}

fn codes(problems: &[FieldProblem]) -> Vec<(&str, Code)> {
    problems.iter().map(|problem| (problem.pointer.as_str(), problem.code)).collect()
}

fn check_record(text: &str) {
    let read = parse_record(text.as_bytes());
    let lines = |read: &Result<_, _>| read.as_ref().map(write_record).map_err(Clone::clone);
    let spread = parse_record(spread(text).as_bytes());
    let alike = |other: &Result<_, _>, why| match (lines(&read), lines(other)) {
        // Where it is no JSON is told by the column.
        (Err(one), Err(other)) => assert_eq!(codes(&one), codes(&other), "{why}"),
        (one, other) => assert_eq!(one, other, "{why}"),
    };
    alike(&spread, "white space says nothing");
    if is_grammatical(text) {
        let (raw, element) = element(text);
        assert_eq!(raw, text.trim_ascii(), "an element of an array is its text");
        alike(&element, "an element of an array is read as a line is");
    }
    if let Ok(draft) = read {
        events::check_written(&draft);
        let event = parse_event(draft, MissingId::Derived(Uuid::nil()), Uuid::nil());
        assert!(flaw(text).is_none() || event.is_err(), "what cannot be kept is refused: {event:?}");
    }
}

type Draft = Result<domain::draft::EventDraft, Vec<FieldProblem>>;

/// Reads a text as the only element of an array. Returns its bytes as well.
fn element(text: &str) -> (String, Draft) {
    let input = reading::whole(format!("[{text}]").as_bytes());
    let opened = formats::open(&input, Format::Json, None, Checkpoint::default());
    let (mut reader, _) = opened.unwrap_or_else(|error| panic!("{error}"));
    assert!(reader.advance().is_ok_and(|is_there| is_there), "the element is there");
    let raw = String::from_utf8_lossy(reader.raw()).into_owned();
    let draft = reader
        .read(Uuid::nil())
        .and_then(|read| if read.problems.is_empty() { Ok(read.draft) } else { Err(read.problems) });
    assert!(reader.advance().is_ok_and(|is_there| !is_there), "it is the only element");
    (raw, draft)
}

/// The text with blanks on both sides of each token that is one character long.
fn spread(text: &str) -> String {
    let mut spread = String::with_capacity(text.len() * 2);
    let (mut is_in_text, mut is_escaped) = (false, false);
    for c in text.chars() {
        if !is_in_text && matches!(c, '{' | '}' | '[' | ']' | ',' | ':') {
            spread.extend([' ', c, '\t']);
        } else {
            spread.push(c);
        }
        is_in_text ^= c == '"' && !is_escaped;
        is_escaped = is_in_text && c == '\\' && !is_escaped;
    }
    spread
}
