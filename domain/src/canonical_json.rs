//! Converts the JSON object `properties` into its canonical text.
//!
//! Keys are sorted by their bytes. Integers are exact. Other numbers are the shortest text of their `f64`, so
//! that `1.0` is `1`. The text has no white space. Equal objects have equal texts on every database.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::json_text::push_json_string;
use crate::limits::{PROPERTIES_BYTES_MAX, PROPERTIES_DEPTH_MAX};
use crate::problem::Code;
use crate::text_repair::{self, Flaw, LONE_SURROGATE_MARKER};

/// The canonical text of an empty JSON object.
pub const EMPTY: &str = "{}";

/// Parses a JSON object and returns its canonical text.
///
/// # Errors
/// The [`Fault`] of the text. The limit [`PROPERTIES_BYTES_MAX`] is for the canonical text, not for the
/// input.
pub fn canonicalize_object(text: &str) -> Result<String, Fault> {
    let fault = Cell::new(None);
    let seed = NodeReader { depth: 0, fault: &fault };
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = seed
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|_| fault.get().unwrap_or_else(|| diagnose_refused_json(text)))?;
    if !matches!(value, Node::Object(_)) {
        return Err(Fault::NotAnObject);
    }
    let mut out = String::with_capacity(text.len());
    value.write_json(&mut out);
    if out.len() > PROPERTIES_BYTES_MAX { Err(Fault::TooLarge) } else { Ok(out) }
}

/// Why a text is refused as `properties`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The text is not JSON, is another JSON value than an object, or has an object with a duplicate key.
    NotAnObject,
    /// A string contains a lone surrogate: half of a UTF-16 surrogate pair.
    LoneSurrogate,
    /// A number is too large for a 64-bit float.
    NumberTooLarge,
    /// A string contains a NUL character.
    Nul,
    /// The object is nested deeper than [`PROPERTIES_DEPTH_MAX`].
    TooDeep,
    /// The canonical text is larger than [`PROPERTIES_BYTES_MAX`].
    TooLarge,
}

impl Fault {
    /// The code of the problem that reports this fault to the client.
    #[must_use]
    pub fn problem_code(self) -> Code {
        match self {
            Self::NotAnObject | Self::LoneSurrogate | Self::NumberTooLarge => Code::InvalidJson,
            Self::Nul => Code::NulCharacter,
            Self::TooDeep => Code::TooDeep,
            Self::TooLarge => Code::TooLarge,
        }
    }

    /// The detail of the problem that reports this fault, to follow the name of the field.
    #[must_use]
    pub fn problem_detail(self) -> String {
        match self {
            Self::NotAnObject => "must be a JSON object without duplicate keys".to_owned(),
            Self::LoneSurrogate => {
                "contains half of a surrogate pair, such as \\ud83d alone, which is not a character"
                    .to_owned()
            }
            Self::NumberTooLarge => "contains a number that is too large for a 64-bit float".to_owned(),
            Self::Nul => "must not contain a NUL character".to_owned(),
            Self::TooDeep => format!("must not be nested deeper than {PROPERTIES_DEPTH_MAX} levels"),
            Self::TooLarge => format!("must not be larger than {PROPERTIES_BYTES_MAX} bytes"),
        }
    }
}

/// Scans a text that the JSON parser refused for the fault. The parser's own error is only text for people.
fn diagnose_refused_json(text: &str) -> Fault {
    match text_repair::find_first_flaw(text) {
        Some(Flaw::LoneSurrogate) => Fault::LoneSurrogate,
        Some(Flaw::NumberTooLarge) => Fault::NumberTooLarge,
        None => Fault::NotAnObject,
    }
}

/// A parsed JSON value. Strings without escapes are borrowed from the input.
enum Node<'t> {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(Cow<'t, str>),
    Array(Vec<Self>),
    Object(BTreeMap<Cow<'t, str>, Self>),
}

impl Node<'_> {
    /// Appends the canonical text of this value to `out`.
    fn write_json(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Integer(value) => write!(out, "{value}").expect("writing to a String never fails"),
            Self::Float(value) => write_float(*value, out),
            Self::Text(value) => push_json_string(out, value),
            Self::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write_json(out);
                }
                out.push(']');
            }
            Self::Object(fields) => {
                out.push('{');
                for (at, (key, value)) in fields.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    push_json_string(out, key);
                    out.push(':');
                    value.write_json(out);
                }
                out.push('}');
            }
        }
    }
}

/// Appends a float. A whole number that fits into an `i64` or `u64` is written as an integer.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked before")]
fn write_float(value: f64, out: &mut String) {
    let (low, high) = (-9_223_372_036_854_775_808.0, 18_446_744_073_709_551_616.0);
    if value.fract() == 0.0 && (low..high).contains(&value) {
        write!(out, "{}", value as i128).expect("writing to a String never fails");
    } else {
        out.push_str(&serde_json::Number::from_f64(value).map_or_else(|| "null".into(), |n| n.to_string()));
    }
}

/// Parses one JSON value at a nesting depth. A serde error is only text, so that the reason of a refusal is
/// left in `fault`.
#[derive(Clone, Copy)]
struct NodeReader<'f> {
    depth: usize,
    fault: &'f Cell<Option<Fault>>,
}

impl NodeReader<'_> {
    fn descend_within_depth_limit<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == PROPERTIES_DEPTH_MAX {
            return Err(self.record_fault_and_build_error(Fault::TooDeep));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    /// Leaves the reason in `fault` and returns a serde error that stops the parser.
    fn record_fault_and_build_error<E: serde::de::Error>(self, fault: Fault) -> E {
        self.fault.set(Some(fault));
        E::custom("refused")
    }

    /// Returns the string, or an error if it has a NUL character, which PostgreSQL cannot store in a text.
    fn refuse_nul<'t, E: serde::de::Error>(self, value: Cow<'t, str>) -> Result<Cow<'t, str>, E> {
        if !value.contains('\0') {
            return Ok(value);
        }
        // The marker with which `text_repair` replaces a lone surrogate begins with a NUL.
        Err(self.record_fault_and_build_error(if value.contains(LONE_SURROGATE_MARKER) {
            Fault::LoneSurrogate
        } else {
            Fault::Nul
        }))
    }
}

impl<'de> DeserializeSeed<'de> for NodeReader<'_> {
    type Value = Node<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeReader<'_> {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node<'de>, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node<'de>, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node<'de>, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node<'de>, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node<'de>, E> {
        if value.is_finite() { Ok(Node::Float(value)) } else { Err(E::custom("not finite")) }
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, value: &'de str) -> Result<Node<'de>, E> {
        self.refuse_nul(Cow::Borrowed(value)).map(Node::Text)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Node<'de>, E> {
        self.refuse_nul(Cow::Owned(value.to_owned())).map(Node::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node<'de>, A::Error> {
        let inner = self.descend_within_depth_limit()?;
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            all.push(item);
        }
        Ok(Node::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node<'de>, A::Error> {
        let inner = self.descend_within_depth_limit()?;
        let mut all = BTreeMap::new();
        while let Some(Key(key)) = fields.next_key()? {
            let key = self.refuse_nul(key)?;
            let value = fields.next_value_seed(inner)?;
            if all.insert(key, value).is_some() {
                return Err(A::Error::custom("duplicate key"));
            }
        }
        Ok(Node::Object(all))
    }
}

/// A key of a JSON object, borrowed from the input if it has no escapes.
pub struct Key<'de>(pub Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}
