//! Scans the bytes of a document before they are parsed, and limits their size, tokens and nesting.
//!
//! The scan is one loop without recursion. It must split the text into tokens exactly as the parser does.
//! Otherwise it could take a bracket for a part of a string while the parser recurses on that bracket. It
//! does not know the grammar above the tokens.

use std::collections::HashSet;

use domain::limits::{QUERY_BYTES_MAX, QUERY_NESTING_MAX, QUERY_TOKENS_MAX};

use super::Refusal;

/// Refuses the text of a GraphQL document that is too long, has too many tokens or nests its brackets too
/// deeply. Also refuses an object value with a duplicate key, because the parser would silently keep only the
/// last value.
///
/// # Errors
/// - [`Refusal::Limit`] with the first limit that is exceeded.
/// - [`Refusal::Syntax`] if a string is not closed or an object value has a duplicate key.
pub(super) fn check_document_text(text: &str) -> Result<(), Refusal> {
    if text.len() > QUERY_BYTES_MAX {
        let bytes = text.len();
        let detail = format!(
            "the document has {bytes} bytes; at most {QUERY_BYTES_MAX} are allowed: send values as variables"
        );
        return Err(Refusal::Limit { name: "query text", max: QUERY_BYTES_MAX as u64, detail });
    }
    let (mut rest, mut tokens, mut nesting) = (text.as_bytes(), 0_usize, 0_usize);
    let mut keys = OpenObjectKeys::default();
    while let Some(&first) = rest.first() {
        let length = match first {
            // Outside of strings and comments the parser accepts no bytes above ASCII except a byte order
            // mark.
            b' ' | b',' | b'\t' | b'\n' | b'\r' | 0x80.. => {
                rest = &rest[1..];
                continue;
            }
            b'#' => {
                rest = &rest[prefix_length(rest, |byte| !matches!(byte, b'\n' | b'\r'))..];
                continue;
            }
            b'{' | b'[' | b'(' => {
                nesting += 1;
                1
            }
            b'}' | b']' | b')' => {
                nesting = nesting.saturating_sub(1);
                1
            }
            // The parser would take an unclosed `"""` for an empty string and continue after it.
            b'"' => {
                string_token_length(rest).ok_or_else(|| unclosed_string_refusal(text.len() - rest.len()))?
            }
            b'-' | b'0'..=b'9' => number_token_length(rest),
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => name_token_length(rest),
            b'.' if rest.starts_with(b"...") => 3,
            _ => 1,
        };
        let at = text.len() - rest.len();
        if !keys.track_token_checking_duplicate_keys(text.as_bytes(), at, length) {
            let detail = format!("the object value at byte {at} has the same key twice");
            return Err(Refusal::Syntax { detail });
        }
        rest = &rest[length..];
        tokens += 1;
        if tokens > QUERY_TOKENS_MAX {
            let detail =
                format!("the document has more than {QUERY_TOKENS_MAX} tokens: send values as variables");
            return Err(Refusal::Limit { name: "query tokens", max: QUERY_TOKENS_MAX as u64, detail });
        }
        if nesting > QUERY_NESTING_MAX {
            let detail =
                format!("brackets are nested deeper than {QUERY_NESTING_MAX}: send deep values as variables");
            return Err(Refusal::Limit { name: "query nesting", max: QUERY_NESTING_MAX as u64, detail });
        }
    }
    Ok(())
}

/// The keys of the object values that are not closed yet.
#[derive(Default)]
struct OpenObjectKeys<'t> {
    open: Vec<(u8, HashSet<&'t [u8]>)>,
    /// The byte offset at which the last name ends. The name is a key if a colon follows.
    name_end: usize,
}

impl<'t> OpenObjectKeys<'t> {
    /// Takes note of the token of `length` bytes at offset `at`. Returns false if the token completes a key
    /// that the same object already has.
    ///
    /// Braces within parentheses belong to an object value. All other braces belong to a selection set.
    fn track_token_checking_duplicate_keys(&mut self, text: &'t [u8], at: usize, length: usize) -> bool {
        match text[at] {
            bracket @ (b'{' | b'[' | b'(') => self.open.push((bracket, HashSet::new())),
            b'}' | b']' | b')' => drop(self.open.pop()),
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => self.name_end = at + length,
            b':' => {
                let in_value = self.open.iter().any(|(bracket, _)| *bracket == b'(');
                let Some((b'{', keys)) = self.open.last_mut().filter(|_| in_value) else {
                    return true;
                };
                // `name_token_length` splits `truec` into two tokens, so the last token may be only the end of
                // the key.
                let before = &text[..self.name_end];
                let is_part = |byte: &u8| *byte == b'_' || byte.is_ascii_alphanumeric();
                let begin = before.iter().rposition(|byte| !is_part(byte)).map_or(0, |end| end + 1);
                return keys.insert(&before[begin..]);
            }
            _ => {}
        }
        true
    }
}

fn unclosed_string_refusal(offset: usize) -> Refusal {
    Refusal::Syntax { detail: format!("the string that begins at byte {offset} is not closed") }
}

/// The number of bytes at the start of `rest` for which `matches` is true.
fn prefix_length(rest: &[u8], matches: impl Fn(u8) -> bool) -> usize {
    rest.iter().position(|&byte| !matches(byte)).unwrap_or(rest.len())
}

fn digits_length(rest: &[u8]) -> usize {
    prefix_length(rest, |byte| byte.is_ascii_digit())
}

/// The length in bytes of the string at the start of `rest`. `None` if it is not closed.
fn string_token_length(rest: &[u8]) -> Option<usize> {
    let block = rest.starts_with(b"\"\"\"");
    let mut at = if block { 3 } else { 1 };
    while at < rest.len() {
        let here = &rest[at..];
        if block && here.starts_with(b"\"\"\"") {
            return Some(at + 3);
        }
        at += match here[0] {
            b'\\' if block && here.starts_with(b"\\\"\"\"") => 4,
            _ if block => 1,
            b'"' => return Some(at + 1),
            b'\n' | b'\r' => return None,
            b'\\' => 2,
            _ => 1,
        };
    }
    None
}

/// The length in bytes of the number at the start of `rest`. `00` is two numbers, as it is for the parser.
fn number_token_length(rest: &[u8]) -> usize {
    let sign = usize::from(rest[0] == b'-');
    let mut at = sign + if rest.get(sign) == Some(&b'0') { 1 } else { digits_length(&rest[sign..]) };
    if rest.get(at) == Some(&b'.') {
        let fraction = digits_length(&rest[at + 1..]);
        at += if fraction > 0 { 1 + fraction } else { 0 };
    }
    if matches!(rest.get(at), Some(b'e' | b'E')) {
        let signed = usize::from(matches!(rest.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits_length(&rest[at + 1 + signed..]);
        at += if exponent > 0 { 1 + signed + exponent } else { 0 };
    }
    at
}

/// The length in bytes of the name at the start of `rest`.
///
/// The parser reads `[truetruetrue]` as three values. If that counted as one token, a text could contain
/// thousands of values and stay below the limit. These words are therefore tokens even at the start of a
/// longer name.
fn name_token_length(rest: &[u8]) -> usize {
    let words: [&[u8]; 3] = [b"true", b"false", b"null"];
    match words.iter().find(|word| rest.starts_with(word)) {
        Some(word) => word.len(),
        None => prefix_length(rest, |byte| byte == b'_' || byte.is_ascii_alphanumeric()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(text: &str) -> &'static str {
        match check_document_text(text) {
            Ok(()) => "passes",
            Err(Refusal::Limit { name, .. }) => name,
            Err(Refusal::Syntax { detail }) if detail.ends_with("twice") => "key twice",
            Err(Refusal::Syntax { .. }) => "open string",
        }
    }

    #[test]
    fn a_few_kilobytes_of_brackets_are_refused_before_the_parser() {
        for bracket in ["[", "{", "(", "{a:[", "[(", "[#]]]\n", "[\"]]\"", "[\"\"\"]\\\"\"\"]\"\"\""] {
            let text = format!("{{ a(b: {}", bracket.repeat(400));
            assert_eq!(outcome(&text), "query nesting", "{bracket}");
        }
    }

    #[test]
    fn brackets_of_all_kinds_count_together_until_they_are_closed() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(outcome(&nested(64)), "passes");
        assert_eq!(outcome(&nested(65)), "query nesting");
        assert_eq!(outcome(&nested(64).repeat(10)), "passes");
        assert_eq!(outcome(&("([{".repeat(21) + "(")), "passes");
        assert_eq!(outcome(&("([{".repeat(21) + "([")), "query nesting");
    }

    #[test]
    fn brackets_in_strings_and_comments_are_not_counted() {
        let many = "[".repeat(4096);
        let cases = [
            format!("{{ a(b: \"{many}\") }}"),
            format!("{{ a(b: \"\\\"{many}\\\\\") }}"),
            format!("{{ a(b: \"\"\"{many}\n{many}\"\"\") }}"),
            format!("{{ a(b: \"\"\"\\\"\"\"{many} \" \"\" {many}\\\"\"\"\"\"\") }}"),
            format!("{{ a }} # {many} \" \"\"\" {many}"),
            format!("{{ a # {many}\r b # {many}\n }}"),
        ];
        for text in cases {
            assert_eq!(outcome(&text), "passes");
        }
    }

    #[test]
    fn an_unclosed_string_is_refused_so_that_it_cannot_hide_brackets() {
        let many = "[".repeat(4096);
        let cases = [
            format!("{{ a(b: [\"\"\"\" {many}"),
            format!("{{ a(b: \"\"\"{many}"),
            format!("{{ a(b: \"{many}"),
            format!("{{ a(b: \"\n{many}\""),
            format!("{{ a(b: \"{many}\\\""),
            format!("{{ a(b: \"\"\"{many}\\\"\"\""),
            "\"\\".to_owned(),
        ];
        for text in cases {
            assert_eq!(outcome(&text), "open string");
        }
    }

    #[test]
    fn tokens_are_counted_as_the_parser_splits_them() {
        let cases = [
            ("a ", 1),
            ("a1_b,", 1),
            ("...a ", 2),
            ("$a:A!=1 ", 7),
            ("-1.5e-10,", 1),
            ("1.5 1e9 0 -7 ", 4),
            ("00", 2),
            ("1-1 ", 2),
            ("nulltruefalse", 3),
            ("\"a\"\"b\"", 2),
            ("\"\" ", 1),
            ("\"\"\"a\"\"\"", 1),
            ("@a|&", 4),
        ];
        for (text, tokens) in cases {
            let most = QUERY_TOKENS_MAX / tokens;
            assert_eq!(outcome(&text.repeat(most)), "passes", "{text}");
            assert_eq!(outcome(&text.repeat(most + 1)), "query tokens", "{text}");
        }
    }

    #[test]
    fn a_duplicate_key_in_one_value_is_refused_and_in_two_values_is_not() {
        let twice = [
            "{ a(b: { c: 1, c: 2 }) }",
            "{ a(b: [{ c: 1 d: { c: 1 } c #d\n : 2 }]) }",
            "query ($v: I = { k: 1 k: 1 }) { a }",
            "{ a(b: { trueish: 1 trueish: 1 }) }",
            "{ a @d(b: { c: 1, c: 2 }) }",
        ];
        for text in twice {
            assert_eq!(outcome(text), "key twice", "{text}");
        }
        let once = [
            "{ a: x a: x b: y(c: 1) { c: z c: z } }",
            "{ a(b: { c: 1, d: { c: 2 } }, e: { c: 3 }) { f: g f: g } }",
            "{ a(b: [{ c: 1 }, { c: 2 }]) }",
            "{ a(b: { truec: 1 falsec: 2 c: \"c: 1, c: 2\" }) }",
            "query ($c: I, $d: I) { a(c: $c, d: $d) }",
        ];
        for text in once {
            assert_eq!(outcome(text), "passes", "{text}");
        }
    }

    #[test]
    fn spaces_commas_comments_and_byte_order_marks_are_not_tokens() {
        let text = "\u{feff} ,\t\r\n#\n".repeat(5000);
        assert_eq!(outcome(&text), "passes");
        assert_eq!(outcome(&" ".repeat(QUERY_BYTES_MAX)), "passes");
        assert_eq!(outcome(&" ".repeat(QUERY_BYTES_MAX + 1)), "query text");
    }
}
