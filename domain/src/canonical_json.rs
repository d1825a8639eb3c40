//! `properties` as one text: keys sorted by their bytes, integers exact, other numbers the shortest
//! f64 (so `1.0` is `1`), no blanks. Equal objects are equal texts on every database.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::json_text::push_text;
use crate::limits::{PROPERTIES_BYTES_MAX, PROPERTIES_DEPTH_MAX};
use crate::mended::{self, Flaw, NO_CHARACTER};
use crate::problem::Code;

/// The empty object.
pub const EMPTY: &str = "{}";

/// Reads a JSON object and writes it in its canonical form.
///
/// # Errors
/// What is wrong with it. Its size is that of the canonical text.
pub fn canonical(text: &str) -> Result<String, Fault> {
    let fault = Cell::new(None);
    let seed = Nested { depth: 0, fault: &fault };
    let mut reader = serde_json::Deserializer::from_str(text);
    let node = seed
        .deserialize(&mut reader)
        .and_then(|node| reader.end().map(|()| node))
        .map_err(|_| fault.get().unwrap_or_else(|| unreadable(text)))?;
    if !matches!(node, Node::Object(_)) {
        return Err(Fault::NoObject);
    }
    let mut out = String::with_capacity(text.len());
    node.write(&mut out);
    if out.len() > PROPERTIES_BYTES_MAX { Err(Fault::TooLarge) } else { Ok(out) }
}

/// What is wrong with a text that is to be a JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is no JSON object, or has a key twice.
    NoObject,
    /// A text in it has half of a surrogate pair.
    HalfAPair,
    /// A number in it is beyond all 64-bit floats.
    BeyondFloats,
    /// A text in it has a NUL character.
    Nul,
    /// It is nested too deep.
    TooDeep,
    /// Its canonical text is too large.
    TooLarge,
}

impl Fault {
    /// Its code.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::NoObject | Self::HalfAPair | Self::BeyondFloats => Code::InvalidJson,
            Self::Nul => Code::NulCharacter,
            Self::TooDeep => Code::TooDeep,
            Self::TooLarge => Code::TooLarge,
        }
    }

    /// What it says of the field.
    #[must_use]
    pub fn detail(self) -> String {
        match self {
            Self::NoObject => "must be a JSON object without duplicate keys".to_owned(),
            Self::HalfAPair => {
                "has half of a surrogate pair, such as \\ud83d alone, which is no character".to_owned()
            }
            Self::BeyondFloats => "has a number beyond all 64-bit floats".to_owned(),
            Self::Nul => "must not hold a NUL character".to_owned(),
            Self::TooDeep => format!("nested deeper than {PROPERTIES_DEPTH_MAX}"),
            Self::TooLarge => format!("larger than {PROPERTIES_BYTES_MAX} bytes"),
        }
    }
}

/// Why a text was not read: the reader itself does not say it.
fn unreadable(text: &str) -> Fault {
    match mended::flaw(text) {
        Some(Flaw::HalfAPair) => Fault::HalfAPair,
        Some(Flaw::BeyondFloats) => Fault::BeyondFloats,
        None => Fault::NoObject,
    }
}

/// Text is borrowed where it has no escapes.
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
    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Integer(value) => write!(out, "{value}").expect("a String takes all"),
            Self::Float(value) => write_float(*value, out),
            Self::Text(value) => push_text(out, value),
            Self::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(fields) => {
                out.push('{');
                for (at, (key, value)) in fields.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    push_text(out, key);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

/// A float that is a whole number within the exact integers is written as that integer.
#[expect(clippy::cast_possible_truncation, reason = "the range is asked first")]
fn write_float(value: f64, out: &mut String) {
    let (low, high) = (-9_223_372_036_854_775_808.0, 18_446_744_073_709_551_616.0);
    if value.fract() == 0.0 && (low..high).contains(&value) {
        write!(out, "{}", value as i128).expect("a String takes all");
    } else {
        out.push_str(&serde_json::Number::from_f64(value).map_or_else(|| "null".into(), |n| n.to_string()));
    }
}

/// Reads one value at a depth, and tells why it stopped through `fault`: a serde error is only text.
#[derive(Clone, Copy)]
struct Nested<'f> {
    depth: usize,
    fault: &'f Cell<Option<Fault>>,
}

impl Nested<'_> {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == PROPERTIES_DEPTH_MAX {
            return Err(self.stop(Fault::TooDeep));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    fn stop<E: serde::de::Error>(self, fault: Fault) -> E {
        self.fault.set(Some(fault));
        E::custom("refused")
    }

    fn text<'t, E: serde::de::Error>(self, value: Cow<'t, str>) -> Result<Cow<'t, str>, E> {
        if !value.contains('\0') {
            return Ok(value);
        }
        Err(self.stop(if value.contains(NO_CHARACTER) { Fault::HalfAPair } else { Fault::Nul }))
    }
}

impl<'de> DeserializeSeed<'de> for Nested<'_> {
    type Value = Node<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested<'_> {
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
        self.text(Cow::Borrowed(value)).map(Node::Text)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Node<'de>, E> {
        self.text(Cow::Owned(value.to_owned())).map(Node::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node<'de>, A::Error> {
        let inner = self.inner()?;
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            all.push(item);
        }
        Ok(Node::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node<'de>, A::Error> {
        let inner = self.inner()?;
        let mut all = BTreeMap::new();
        while let Some(Key(key)) = fields.next_key()? {
            let key = self.text(key)?;
            let value = fields.next_value_seed(inner)?;
            if all.insert(key, value).is_some() {
                return Err(A::Error::custom("duplicate key"));
            }
        }
        Ok(Node::Object(all))
    }
}

/// A key of an object, borrowed where it has no escapes.
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
