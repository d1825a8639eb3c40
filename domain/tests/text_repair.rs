//! Tests the repair of text that the grammars of JSON and GraphQL allow and that parsers refuse.

use domain::text_repair::{
    Flaw, LONE_SURROGATE_MARKER, Syntax, find_first_flaw, make_marked_numbers_overflow,
    replace_flaws_by_markers,
};
use proptest::prelude::*;

const LONG_NUMBER: &str = "1797693134862315700000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn lone_surrogates_are_replaced_and_pairs_are_not() {
    for (json, expected) in [
        (r#"{"a":"cut \ud83d"}"#, Some("cut \0\u{fdd0}")),
        (r#"{"a":"\uDE00"}"#, Some(LONE_SURROGATE_MARKER)),
        (r#"{"a":"\ud83d\ud83d\ude00"}"#, Some("\0\u{fdd0}\u{1f600}")),
        (r#"{"a":"\ud83d\u0041"}"#, Some("\0\u{fdd0}A")),
        (r#"{"a":"\ud83dx"}"#, Some("\0\u{fdd0}x")),
        (r#"{"a":"\ud83d\ude00"}"#, None),
        (r#"{"a":"\\ud83d"}"#, None),
        (r#"{"a":"é \"\u00e9"}"#, None),
    ] {
        let mended = replace_flaws_by_markers(json, Syntax::Json);
        let read =
            mended.as_deref().map(|json| serde_json::from_str::<serde_json::Value>(json).expect("JSON"));
        assert_eq!(read.as_ref().map(|read| read["a"].as_str().expect("text")), expected, "{json}");
        assert_eq!(find_first_flaw(json), expected.map(|_| Flaw::LoneSurrogate), "{json}");
    }
}

#[test]
fn numbers_too_large_for_a_float_are_replaced_by_a_marker() {
    for (number, is_too_large) in [
        ("1e400", true),
        ("-1E+400", true),
        ("0.001e312", true),
        (LONG_NUMBER, true),
        ("1e308", false),
        ("1e-400", false),
        ("0e999", false),
        ("123456789012345678901234567890", false),
    ] {
        let json = format!(r#"{{"e400":"1e400","a":[{number}]}}"#);
        let mended = replace_flaws_by_markers(&json, Syntax::Json);
        assert_eq!(mended.is_some(), is_too_large, "{number}");
        let Some(mended) = mended else { continue };
        let read: serde_json::Value = serde_json::from_str(&mended).expect("JSON");
        let sign = if number.starts_with('-') { -1.0 } else { 1.0 };
        assert_eq!(
            (&read["a"][0], &read["e400"]),
            (&(sign * 1.797_693_134_862_315_5e308).into(), &"1e400".into()),
            "{number}"
        );
        assert!(
            serde_json::from_str::<serde_json::Value>(&make_marked_numbers_overflow(&mended)).is_err(),
            "the number is too large again"
        );
    }
}

#[test]
fn a_document_is_mended_outside_of_comments_and_block_strings() {
    let document = "# \\ud83d 1e400\n{ a(b: \"\\ud83d\\ude00 \\ud83d\", c: 1e400) e400 f(g: \"\"\"\\ud83d \\\"\"\" 1e400\"\"\") }";
    let expected = "# \\ud83d 1e400\n{ a(b: \"\u{1f600} \\u0000\\ufdd0\", c: 1.7976931348623155e+00308) e400 f(g: \"\"\"\\ud83d \\\"\"\" 1e400\"\"\") }";
    assert_eq!(replace_flaws_by_markers(document, Syntax::GraphQl).as_deref(), Some(expected));
    assert_eq!(replace_flaws_by_markers("{ a(b: 1.5, c: \"\\n\") }", Syntax::GraphQl), None);
}

proptest! {
    #[test]
    fn mending_any_text_twice_is_mending_it_once(text in "[\"\\\\u#de8-9.E+ \n\u{e9}{}]{0,40}") {
        for syntax in [Syntax::Json, Syntax::GraphQl] {
            if let Some(mended) = replace_flaws_by_markers(&text, syntax) {
                prop_assert_eq!(replace_flaws_by_markers(&mended, syntax), None, "{:?}", mended);
            }
        }
    }
}
