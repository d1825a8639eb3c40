//! Tests canonical JSON: which objects are equal, which are stored exactly, and which are refused.

use domain::canonical_json::{EMPTY, Fault, canonicalize_object};
use domain::problem::Code;
use proptest::prelude::*;

fn nested(depth: usize, open: &str, close: &str) -> String {
    format!("{{\"k\":{}1{}}}", open.repeat(depth - 1), close.repeat(depth - 1))
}

/// An object whose canonical text has this many bytes.
fn sized(bytes: usize) -> String {
    format!("{{\"k\":\"{}\"}}", "x".repeat(bytes - 8))
}

#[test]
fn equal_objects_have_one_canonical_text() {
    let table = [
        ("{}", "{}"),
        (" \t\r\n{ } \n", "{}"),
        (r#"{"b":1,"a":2}"#, r#"{"a":2,"b":1}"#),
        (r#"{"b":{"d":1,"c":[{"z":1,"y":2}]},"a":null}"#, r#"{"a":null,"b":{"c":[{"y":2,"z":1}],"d":1}}"#),
        (r#"{"é":1,"z":2,"Z":3,"":4,"zz":5}"#, r#"{"":4,"Z":3,"z":2,"zz":5,"é":1}"#),
        ("{\"\u{1d11e}\":1,\"\u{ffff}\":2}", "{\"\u{ffff}\":2,\"\u{1d11e}\":1}"),
        (r#"{"a":[3,1,2]}"#, r#"{"a":[3,1,2]}"#),
        (r#"{"a":[true,false,null]}"#, r#"{"a":[true,false,null]}"#),
        (r#"{"\u0061":"\u0062\/\t"}"#, r#"{"a":"b/\t"}"#),
        (r#"{"a":"\ud834\udd1e"}"#, "{\"a\":\"\u{1d11e}\"}"),
        (r#"{"a":"e\u0301"}"#, "{\"a\":\"e\u{301}\"}"),
    ];
    for (text, expected) in table {
        assert_eq!(canonicalize_object(text).as_deref(), Ok(expected), "{text}");
    }
    assert_eq!(canonicalize_object(EMPTY).as_deref(), Ok(EMPTY));
}

#[test]
fn numbers_are_exact_integers_or_the_shortest_float() {
    let table = [
        ("1", "1"),
        ("1.0", "1"),
        ("1e0", "1"),
        ("10E-1", "1"),
        ("0", "0"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("0e5", "0"),
        ("-1e-400", "0"),
        ("1.50", "1.5"),
        ("0.1", "0.1"),
        ("0.10000000000000000555", "0.1"),
        ("9007199254740993", "9007199254740993"),
        ("9223372036854775807", "9223372036854775807"),
        ("9223372036854775808", "9223372036854775808"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("18446744073709551615", "18446744073709551615"),
        ("18446744073709551614", "18446744073709551614"),
        ("1e19", "10000000000000000000"),
        ("1e2", "100"),
    ];
    for (number, expected) in table {
        assert_eq!(
            canonicalize_object(&format!("{{\"n\":{number}}}")),
            Ok(format!("{{\"n\":{expected}}}")),
            "{number}"
        );
    }
}

#[test]
fn different_texts_of_a_float_beyond_the_integers_become_one() {
    let groups: [&[&str]; 4] = [
        &["1e20", "100000000000000000000", "100000000000000000000.0", "1.0E+20"],
        &["18446744073709551616", "18446744073709551616.0", "18446744073709551615.0"],
        &["-9223372036854775809000", "-9223372036854775809e3"],
        &["1e300", "10e299"],
    ];
    let mut seen = Vec::new();
    for group in groups {
        let mut texts: Vec<_> =
            group.iter().map(|n| canonicalize_object(&format!("{{\"n\":{n}}}"))).collect();
        texts.dedup();
        assert_eq!(texts.len(), 1, "{group:?}: {texts:?}");
        assert!(texts[0].is_ok(), "{group:?}");
        seen.extend(texts);
    }
    seen.dedup();
    assert_eq!(seen.len(), 4);
    assert_ne!(
        canonicalize_object(r#"{"n":18446744073709551615}"#),
        canonicalize_object(r#"{"n":18446744073709551616}"#)
    );
}

#[test]
fn text_that_is_not_an_object_or_not_exact_is_invalid() {
    let table = [
        "",
        " ",
        "null",
        "true",
        "1",
        "\"a\"",
        "[]",
        "[{}]",
        "{",
        "}",
        "{}{}",
        "{} 1",
        "{a:1}",
        "{'a':1}",
        r#"{"a":1,}"#,
        r#"{"a":}"#,
        r#"{"a":01}"#,
        r#"{"a":.5}"#,
        r#"{"a":+1}"#,
        r#"{"a":NaN}"#,
        r#"{"a":1e400}"#,
        r#"{"a":-1e400}"#,
        r#"{"a":"\ud834"}"#,
        r#"{"a":"\x"}"#,
        "{\"a\":\"\n\"}",
        r#"{"a":1,"a":1}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"{"a":[{"b":1,"b":2}]}"#,
        "\u{feff}{}",
        "// no\n{}",
        r#"{"a":undefined}"#,
    ];
    for text in table {
        assert_eq!(
            canonicalize_object(text).map_err(Fault::problem_code),
            Err(Code::InvalidJson),
            "{text:?}"
        );
    }
}

#[test]
fn a_nul_character_is_refused_in_keys_and_values() {
    for text in
        [r#"{"a":"\u0000"}"#, r#"{"\u0000":1}"#, r#"{"a":["x",{"b\u0000":1}]}"#, r#"{"a":"x\u0000y"}"#]
    {
        assert_eq!(canonicalize_object(text).map_err(Fault::problem_code), Err(Code::NulCharacter), "{text}");
    }
    assert!(canonicalize_object(r#"{"a":"\\u0000"}"#).is_ok());
}

#[test]
fn eight_levels_are_accepted_and_nine_are_too_deep() {
    for (open, close) in [("[", "]"), ("{\"k\":", "}")] {
        assert!(canonicalize_object(&nested(8, open, close)).is_ok(), "{open}");
        assert_eq!(canonicalize_object(&nested(9, open, close)), Err(Fault::TooDeep), "{open}");
        assert_eq!(canonicalize_object(&nested(100, open, close)), Err(Fault::TooDeep), "{open}");
        assert_eq!(canonicalize_object(&nested(100_000, open, close)), Err(Fault::TooDeep), "{open}");
    }
    assert_eq!(
        canonicalize_object(&format!("{{\"k\":{}{}}}", "[".repeat(8), "]".repeat(8))),
        Err(Fault::TooDeep)
    );
}

#[test]
fn the_size_limit_counts_the_bytes_of_the_canonical_text() {
    assert_eq!(canonicalize_object(&sized(16_384)).map(|text| text.len()), Ok(16_384));
    assert_eq!(canonicalize_object(&sized(16_385)), Err(Fault::TooLarge));
    let blanks = format!("{{{}\"k\":1.0000{}}}", " ".repeat(20_000), "0".repeat(300));
    assert_eq!(canonicalize_object(&blanks).as_deref(), Ok(r#"{"k":1}"#));
    let escaped = format!("{{\"k\":\"{}\"}}", "\\u0078".repeat(16_376));
    assert_eq!(canonicalize_object(&escaped).map(|text| text.len()), Ok(16_384));
    let two_bytes = format!("{{\"k\":\"{}\"}}", "é".repeat(8_188));
    assert_eq!(canonicalize_object(&two_bytes).map(|text| text.len()), Ok(16_384));
    let two_more = format!("{{\"k\":\"{}\"}}", "é".repeat(8_189));
    assert_eq!(canonicalize_object(&two_more), Err(Fault::TooLarge));
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<u64>().prop_map(|value| value.to_string()),
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(|value| format!("{value:e}")),
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(|value| format!("{value:?}")),
        "[^\0]{0,6}".prop_map(|value| quoted(&value)),
    ]
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

/// Fields with distinct keys. In any order they are the same object.
fn fields() -> impl Strategy<Value = Vec<(String, String)>> {
    let value = scalar().prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" , "))),
            prop::collection::btree_map("[^\0]{0,3}", inner, 0..4)
                .prop_map(|map| object(map.into_iter().rev())),
        ]
    });
    prop::collection::btree_map("[^\0]{0,3}", value, 0..6).prop_map(|map| map.into_iter().collect())
}

fn object(fields: impl Iterator<Item = (String, String)>) -> String {
    let fields: Vec<_> = fields.map(|(key, value)| format!("{} : {value}", quoted(&key))).collect();
    format!("{{ {} }}", fields.join(",\n"))
}

proptest! {
    #[test]
    fn canonical_text_stays_as_it_is_and_the_order_of_keys_does_not_matter(fields in fields()) {
        let once = canonicalize_object(&object(fields.iter().cloned()));
        prop_assert!(once.is_ok(), "{:?}", once);
        prop_assert_eq!(canonicalize_object(&object(fields.into_iter().rev())), once.clone());
        let text = once.unwrap_or_default();
        prop_assert_eq!(canonicalize_object(&text), Ok(text));
    }

    #[test]
    fn floats_are_exact(value in any::<f64>()) {
        prop_assume!(value.is_finite());
        let text = canonicalize_object(&format!("{{\"n\":{value:?}}}")).expect("a number");
        let read: f64 = text[5..text.len() - 1].parse().expect("a number");
        prop_assert_eq!(read, value);
    }

    #[test]
    fn integers_are_exact(value in any::<u64>()) {
        let text = format!("{{\"n\":{value}}}");
        prop_assert_eq!(canonicalize_object(&text), Ok(text));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[{}\\[\\],:\"a0-9.e\\\\u+ -]{0,40}") {
        if let Ok(once) = canonicalize_object(&text) {
            prop_assert_eq!(canonicalize_object(&once), Ok(once));
        }
    }
}
