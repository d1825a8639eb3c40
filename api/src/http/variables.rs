//! The body of a GraphQL request. Read by hand, because two things must be seen that the library does
//! not show: a key that stands twice in one object, and how deep the variables go. And because the library makes
//! a map of each object and copies it twice: free JSON stays the text that it is.

use std::cell::Cell;
use std::fmt;

use async_graphql::{Name, Value, Variables};
use bytes::Bytes;
use domain::limits::VARIABLES_DEPTH_MAX;
use domain::mended::{Syntax, mend, unmend_numbers};
use serde::Deserialize;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::persisted::{Extensions, Hash};
use crate::error::ApiError;

/// Stands in an object that had a key twice. No client can name it: as an input field it is unknown, as
/// a key of free JSON it is refused.
pub(crate) const DUPLICATE_KEY: &str = "\u{0}duplicate";

/// The field that free JSON stands in, wherever an input has one.
const FREE_JSON: &str = "properties";

/// What a client asks for.
#[derive(Debug)]
pub(crate) struct Body {
    /// The document, if it came along.
    pub query: Option<String>,
    /// The SHA-256 of the document, of which the server may know it.
    pub hash: Option<Hash>,
    /// Which operation of it.
    pub operation_name: Option<String>,
    /// Values for it.
    pub variables: Variables,
}

#[derive(Deserialize)]
struct Raw<'b> {
    query: Option<String>,
    #[serde(rename = "operationName")]
    operation_name: Option<String>,
    #[serde(borrow)]
    variables: Option<&'b RawValue>,
    extensions: Option<Extensions>,
}

impl Body {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is no request in JSON, or its variables are too deep.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
            return Err(ApiError::BadUserInput("requests are not batched in arrays".to_owned()));
        }
        let no_request = || ApiError::BadUserInput("the body is not a GraphQL request in JSON".to_owned());
        let (mended, is_mended): (String, bool);
        let raw: Raw<'_> = match serde_json::from_slice(bytes) {
            Ok(raw) => {
                is_mended = false;
                raw
            }
            // Perhaps for half of a surrogate pair in the document.
            Err(_) => {
                let text = std::str::from_utf8(bytes).map_err(|_| no_request())?;
                mended = mend(text, Syntax::Json).ok_or_else(no_request)?;
                is_mended = true;
                serde_json::from_str(&mended).map_err(|_| no_request())?
            }
        };
        let variables =
            raw.variables.map(|text| variables(text.get(), is_mended)).transpose()?.unwrap_or_default();
        let hash = raw.extensions.unwrap_or_default().hash()?;
        Self { query: raw.query, hash, operation_name: raw.operation_name, variables }.asking()
    }

    /// Itself, if it asks for anything.
    ///
    /// # Errors
    /// When it has neither a document nor a hash.
    pub(crate) fn asking(self) -> Result<Self, ApiError> {
        if self.query.is_none() && self.hash.is_none() {
            return Err(ApiError::BadUserInput("query is missing".to_owned()));
        }
        Ok(self)
    }
}

/// Reads the variables of a request, in which what cannot be read may have been replaced already.
///
/// # Errors
/// When they are no JSON object, or too deep.
pub(crate) fn variables(text: &str, is_mended: bool) -> Result<Variables, ApiError> {
    let too_deep = Cell::new(false);
    let read = |text: &str, is_mended| {
        let mut reader = serde_json::Deserializer::from_str(text);
        let seed = Nested { depth: 0, too_deep: &too_deep, is_mended };
        seed.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value)).ok()
    };
    // What JSON allows and no reader reads is for the item to say that holds it.
    let value =
        read(text, is_mended).or_else(|| mend(text, Syntax::Json).and_then(|mended| read(&mended, true)));
    match value.ok_or(()) {
        Ok(Value::Null) => Ok(Variables::default()),
        Ok(value @ Value::Object(_)) => Ok(Variables::from_value(value)),
        _ if too_deep.get() => Err(ApiError::Limit {
            name: "variables depth",
            max: VARIABLES_DEPTH_MAX as u64,
            detail: format!("variables are nested deeper than {VARIABLES_DEPTH_MAX}"),
        }),
        _ => Err(ApiError::BadUserInput("variables must be a JSON object".to_owned())),
    }
}

#[derive(Clone, Copy)]
struct Nested<'f> {
    depth: usize,
    too_deep: &'f Cell<bool>,
    /// What cannot be read was replaced.
    is_mended: bool,
}

impl Nested<'_> {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == VARIABLES_DEPTH_MAX {
            self.too_deep.set(true);
            return Err(E::custom("too deep"));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    /// An object as its text. What else it may be is read as anywhere.
    fn free<E: serde::de::Error>(self, json: &RawValue) -> Result<Value, E> {
        let text = json.get();
        if !text.starts_with('{') {
            return self.deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(E::custom);
        }
        if self.depth + nesting(text) > VARIABLES_DEPTH_MAX {
            self.too_deep.set(true);
            return Err(E::custom("too deep"));
        }
        let text = if self.is_mended { unmend_numbers(text) } else { text.into() };
        Ok(Value::Binary(Bytes::from(text.into_owned())))
    }
}

/// How deep arrays and objects of JSON stand in each other.
fn nesting(json: &str) -> usize {
    let (mut depth, mut most, mut is_in_string, mut is_escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => is_in_string = !is_in_string,
            b'{' | b'[' if !is_in_string => {
                depth += 1;
                most = most.max(depth);
            }
            b'}' | b']' if !is_in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    most
}

impl<'de> DeserializeSeed<'de> for Nested<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner::<A::Error>()?;
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            all.push(item);
        }
        Ok(Value::List(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let inner = self.inner::<A::Error>()?;
        let mut all = async_graphql::indexmap::IndexMap::new();
        while let Some(key) = fields.next_key::<String>()? {
            let value = if self.depth > 0 && key == FREE_JSON {
                inner.free(fields.next_value()?)?
            } else {
                fields.next_value_seed(inner)?
            };
            if all.insert(Name::new(key), value).is_some() {
                all.insert(Name::new(DUPLICATE_KEY), Value::Null);
            }
        }
        Ok(Value::Object(all))
    }
}
