//! Text that is right by the grammar of JSON or GraphQL and still cannot be read: half of a surrogate pair is no
//! character (RFC 8259, section 8.2), and a number may be beyond all 64-bit floats (section 6). Readers refuse the whole
//! text for it. So where one has failed, what it failed at is replaced by something that only the field refuses that
//! holds it.

use std::borrow::Cow;

/// Stands for half of a surrogate pair. No text field takes a NUL, so that nothing of it is ever stored.
pub const NO_CHARACTER: &str = "\0\u{fdd0}";
/// As it is written in JSON and in GraphQL.
const NO_CHARACTER_ESCAPED: &str = "\\u0000\\ufdd0";
/// Stands for a number beyond all floats: the second greatest float, written as nobody else does.
const STAND_IN: &str = "1.7976931348623155e+00308";
/// It begins so, read and printed again as well.
const STAND_IN_DIGITS: &str = "1.7976931348623155e";
/// A number beyond all floats.
const BEYOND: &str = "1e999";
/// So many bytes of a number without an exponent are a float.
const PLAIN_BYTES_MAX: usize = 300;

/// Whose grammar a text follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// RFC 8259.
    Json,
    /// A GraphQL document.
    GraphQl,
}

/// What cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// An escape such as `\ud83d` without its other half.
    HalfAPair,
    /// A number such as `1e400`.
    BeyondFloats,
}

/// The text with all that cannot be read replaced; `None` if there is nothing of the kind.
///
/// In a GraphQL document whole pairs of escapes become their character as well, which the parser does not read.
#[must_use]
pub fn mend(text: &str, syntax: Syntax) -> Option<String> {
    let mut scan = Scan::new(text, syntax);
    scan.run();
    scan.is_changed.then(|| scan.finish())
}

/// The first thing in a JSON text that cannot be read.
#[must_use]
pub fn flaw(json: &str) -> Option<Flaw> {
    let mut scan = Scan::new(json, Syntax::Json);
    scan.run();
    scan.flaw
}

/// Free JSON of a mended text, with its numbers as wrong as they were.
#[must_use]
pub fn unmend_numbers(json: &str) -> Cow<'_, str> {
    if !json.contains(STAND_IN_DIGITS) {
        return json.into();
    }
    let mut scan = Scan { is_undone: true, ..Scan::new(json, Syntax::Json) };
    scan.run();
    if scan.is_changed { scan.finish().into() } else { json.into() }
}

struct Scan<'t> {
    text: &'t str,
    syntax: Syntax,
    out: String,
    /// Where the text goes on that is not in `out` yet.
    kept_from: usize,
    at: usize,
    flaw: Option<Flaw>,
    is_changed: bool,
    /// What was mended is made as wrong as it was.
    is_undone: bool,
}

impl<'t> Scan<'t> {
    fn new(text: &'t str, syntax: Syntax) -> Self {
        Self {
            text,
            syntax,
            out: String::new(),
            kept_from: 0,
            at: 0,
            flaw: None,
            is_changed: false,
            is_undone: false,
        }
    }

    fn rest(&self) -> &'t [u8] {
        &self.text.as_bytes()[self.at..]
    }

    fn run(&mut self) {
        let is_document = self.syntax == Syntax::GraphQl;
        while let Some(byte) = self.rest().first() {
            match byte {
                b'"' if is_document && self.rest().starts_with(b"\"\"\"") => self.pass_block_string(),
                b'"' => self.string(),
                b'#' if is_document => self.pass_while(|byte| byte != b'\n' && byte != b'\r'),
                b'-' | b'0'..=b'9' => self.number(),
                byte if byte.is_ascii_alphabetic() || *byte == b'_' => {
                    self.pass_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                }
                _ => self.at += 1,
            }
        }
    }

    fn pass_while(&mut self, is_passed: impl Fn(u8) -> bool) {
        self.at += self.rest().iter().take_while(|byte| is_passed(**byte)).count();
    }

    fn pass_block_string(&mut self) {
        self.at += 3;
        while let Some(byte) = self.rest().first() {
            match byte {
                b'\\' if self.rest().starts_with(b"\\\"\"\"") => self.at += 4,
                b'"' if self.rest().starts_with(b"\"\"\"") => {
                    self.at += 3;
                    return;
                }
                _ => self.at += 1,
            }
        }
    }

    fn string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.rest().first() {
            match byte {
                b'"' => {
                    self.at += 1;
                    return;
                }
                b'\\' => self.escape(),
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self) {
        let (rest, length) = (self.rest(), self.rest().len());
        match unit(rest) {
            Some(high @ 0xd800..0xdc00) => match unit(&rest[6..]) {
                Some(low @ 0xdc00..0xe000) => {
                    let code = 0x1_0000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(low) - 0xdc00);
                    match char::from_u32(code) {
                        Some(character) if self.syntax == Syntax::GraphQl => {
                            self.replace(12, &character.to_string());
                        }
                        _ => self.at += 12,
                    }
                }
                _ => self.half(),
            },
            Some(0xdc00..0xe000) => self.half(),
            Some(_) => self.at += 6,
            None => self.at += length.min(2),
        }
    }

    fn half(&mut self) {
        self.flaw.get_or_insert(Flaw::HalfAPair);
        self.replace(6, NO_CHARACTER_ESCAPED);
    }

    fn number(&mut self) {
        let is_part = |byte: &&u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
        let length = self.rest().iter().take_while(is_part).count();
        let number = &self.text[self.at..self.at + length];
        if self.is_undone {
            let is_stand_in = number.trim_start_matches('-').starts_with(STAND_IN_DIGITS);
            let by = if number.starts_with('-') { format!("-{BEYOND}") } else { BEYOND.to_owned() };
            return if is_stand_in { self.replace(length, &by) } else { self.at += length.max(1) };
        }
        let may_be_beyond = length > PLAIN_BYTES_MAX || number.contains(['e', 'E']);
        if may_be_beyond && number.parse::<f64>().is_ok_and(f64::is_infinite) {
            self.flaw.get_or_insert(Flaw::BeyondFloats);
            let sign = if number.starts_with('-') { "-" } else { "" };
            self.replace(length, &format!("{sign}{STAND_IN}"));
        } else {
            self.at += length.max(1);
        }
    }

    /// Replaces so many bytes.
    fn replace(&mut self, length: usize, by: &str) {
        self.out.push_str(&self.text[self.kept_from..self.at]);
        self.out.push_str(by);
        self.at += length;
        self.kept_from = self.at;
        self.is_changed = true;
    }

    fn finish(mut self) -> String {
        self.out.push_str(&self.text[self.kept_from..]);
        self.out
    }
}

/// The UTF-16 code unit of an escape `\uXXXX` that bytes begin with.
fn unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    let digits =
        std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}
