//! Repairs JSON and GraphQL text that follows the grammar but that parsers refuse.
//!
//! A lone surrogate (half of a UTF-16 surrogate pair) is not a character (RFC 8259, section 8.2), and a
//! number may be too large for a 64-bit float (section 6). Parsers refuse the whole text for either of them.
//! After a parser has failed, such values are replaced by markers, which parsers accept. Then only the field
//! with the marker is refused.

use std::borrow::Cow;

/// The marker for a lone surrogate. It begins with NUL, which no text field accepts, so it is never stored.
pub const LONE_SURROGATE_MARKER: &str = "\0\u{fdd0}";
/// The marker for a lone surrogate as an escape sequence of JSON and GraphQL.
const LONE_SURROGATE_ESCAPED: &str = "\\u0000\\ufdd0";
/// The marker for a number that is too large: the second greatest float, in a form that nobody else writes.
const LARGE_NUMBER_MARKER: &str = "1.7976931348623155e+00308";
/// The digits at the beginning of the marker for a number that is too large. A parser that prints the number
/// again keeps them.
const LARGE_NUMBER_MARKER_DIGITS: &str = "1.7976931348623155e";
/// A JSON number that is too large for a 64-bit float.
const INFINITE_NUMBER: &str = "1e999";
/// A JSON number of at most this many bytes and without an exponent is always finite as a 64-bit float.
const FINITE_BYTES_MAX: usize = 300;

/// The grammar of a text to repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// JSON (RFC 8259).
    Json,
    /// A GraphQL document.
    GraphQl,
}

/// A value that the grammar allows and that parsers refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Half of a surrogate pair, such as `\ud83d` alone.
    LoneSurrogate,
    /// A number that is too large for a 64-bit float, such as `1e400`.
    NumberTooLarge,
}

/// Replaces all lone surrogates and too large numbers of a text by markers that parsers accept. `None` if
/// there is nothing to replace.
///
/// In a GraphQL document, two escapes that form a surrogate pair become their character as well, because the
/// parser does not know such pairs.
#[must_use]
pub fn replace_flaws_by_markers(text: &str, syntax: Syntax) -> Option<String> {
    let mut scanner = Scanner::new(text, syntax);
    scanner.scan_and_replace_all();
    scanner.is_changed.then(|| scanner.into_text())
}

/// The first lone surrogate or too large number in a JSON text. `None` if it has neither, which does not mean
/// that it is valid JSON.
#[must_use]
pub fn find_first_flaw(json: &str) -> Option<Flaw> {
    let mut scanner = Scanner::new(json, Syntax::Json);
    scanner.scan_and_replace_all();
    scanner.flaw
}

/// Replaces the markers for too large numbers in repaired JSON by too large numbers again, so that the check
/// of the field refuses them.
#[must_use]
pub fn make_marked_numbers_overflow(json: &str) -> Cow<'_, str> {
    if !json.contains(LARGE_NUMBER_MARKER_DIGITS) {
        return json.into();
    }
    let mut scanner = Scanner { restores_numbers: true, ..Scanner::new(json, Syntax::Json) };
    scanner.scan_and_replace_all();
    if scanner.is_changed { scanner.into_text().into() } else { json.into() }
}

struct Scanner<'t> {
    text: &'t str,
    syntax: Syntax,
    out: String,
    /// The text up to here is in `out`.
    copied_until: usize,
    at: usize,
    flaw: Option<Flaw>,
    is_changed: bool,
    /// Whether markers of numbers are replaced by a number that is too large, and not the other way round.
    restores_numbers: bool,
}

impl<'t> Scanner<'t> {
    fn new(text: &'t str, syntax: Syntax) -> Self {
        Self {
            text,
            syntax,
            out: String::new(),
            copied_until: 0,
            at: 0,
            flaw: None,
            is_changed: false,
            restores_numbers: false,
        }
    }

    fn remaining_bytes(&self) -> &'t [u8] {
        &self.text.as_bytes()[self.at..]
    }

    /// Scans the whole text: replaces what must be replaced, and notes the first flaw.
    fn scan_and_replace_all(&mut self) {
        let is_document = self.syntax == Syntax::GraphQl;
        while let Some(byte) = self.remaining_bytes().first() {
            match byte {
                b'"' if is_document && self.remaining_bytes().starts_with(b"\"\"\"") => {
                    self.skip_block_string()
                }
                b'"' => self.scan_string(),
                b'#' if is_document => self.skip_while(|byte| byte != b'\n' && byte != b'\r'),
                b'-' | b'0'..=b'9' => self.scan_number(),
                byte if byte.is_ascii_alphabetic() || *byte == b'_' => {
                    self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                }
                _ => self.at += 1,
            }
        }
    }

    fn skip_while(&mut self, is_skipped: impl Fn(u8) -> bool) {
        self.at += self.remaining_bytes().iter().take_while(|byte| is_skipped(**byte)).count();
    }

    fn skip_block_string(&mut self) {
        self.at += 3;
        while let Some(byte) = self.remaining_bytes().first() {
            match byte {
                b'\\' if self.remaining_bytes().starts_with(b"\\\"\"\"") => self.at += 4,
                b'"' if self.remaining_bytes().starts_with(b"\"\"\"") => {
                    self.at += 3;
                    return;
                }
                _ => self.at += 1,
            }
        }
    }

    fn scan_string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.remaining_bytes().first() {
            match byte {
                b'"' => {
                    self.at += 1;
                    return;
                }
                b'\\' => self.scan_escape(),
                _ => self.at += 1,
            }
        }
    }

    fn scan_escape(&mut self) {
        let (rest, length) = (self.remaining_bytes(), self.remaining_bytes().len());
        match parse_utf16_escape(rest) {
            Some(high @ 0xd800..0xdc00) => match parse_utf16_escape(&rest[6..]) {
                Some(low @ 0xdc00..0xe000) => {
                    let code = 0x1_0000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(low) - 0xdc00);
                    match char::from_u32(code) {
                        Some(character) if self.syntax == Syntax::GraphQl => {
                            self.replace_bytes(12, &character.to_string());
                        }
                        _ => self.at += 12,
                    }
                }
                _ => self.replace_lone_surrogate(),
            },
            Some(0xdc00..0xe000) => self.replace_lone_surrogate(),
            Some(_) => self.at += 6,
            None => self.at += length.min(2),
        }
    }

    fn replace_lone_surrogate(&mut self) {
        self.flaw.get_or_insert(Flaw::LoneSurrogate);
        self.replace_bytes(6, LONE_SURROGATE_ESCAPED);
    }

    fn scan_number(&mut self) {
        let is_part = |byte: &&u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
        let length = self.remaining_bytes().iter().take_while(is_part).count();
        let number = &self.text[self.at..self.at + length];
        if self.restores_numbers {
            let is_replaced = number.trim_start_matches('-').starts_with(LARGE_NUMBER_MARKER_DIGITS);
            let replacement = if number.starts_with('-') {
                format!("-{INFINITE_NUMBER}")
            } else {
                INFINITE_NUMBER.to_owned()
            };
            return if is_replaced {
                self.replace_bytes(length, &replacement)
            } else {
                self.at += length.max(1)
            };
        }
        let may_be_infinite = length > FINITE_BYTES_MAX || number.contains(['e', 'E']);
        if may_be_infinite && number.parse::<f64>().is_ok_and(f64::is_infinite) {
            self.flaw.get_or_insert(Flaw::NumberTooLarge);
            let sign = if number.starts_with('-') { "-" } else { "" };
            self.replace_bytes(length, &format!("{sign}{LARGE_NUMBER_MARKER}"));
        } else {
            self.at += length.max(1);
        }
    }

    /// Replaces the next `length` bytes of the text in the output, and moves on after them.
    fn replace_bytes(&mut self, length: usize, replacement: &str) {
        self.out.push_str(&self.text[self.copied_until..self.at]);
        self.out.push_str(replacement);
        self.at += length;
        self.copied_until = self.at;
        self.is_changed = true;
    }

    fn into_text(mut self) -> String {
        self.out.push_str(&self.text[self.copied_until..]);
        self.out
    }
}

/// The UTF-16 code unit of the escape `\uXXXX` at the beginning of `bytes`. `None` if there is no such
/// escape.
fn parse_utf16_escape(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    let digits =
        std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}
