//! Parses the body of a GraphQL request.
//!
//! The request type of the GraphQL library is not used, for three reasons. It does not show duplicate keys of
//! an object, and it does not show how deep the variables are nested. It also makes a map of each object and
//! copies it twice, while this module keeps free JSON as the text that was sent.

use std::cell::Cell;
use std::fmt;

use async_graphql::{Name, Value, Variables};
use bytes::Bytes;
use domain::limits::VARIABLES_DEPTH_MAX;
use domain::text_repair::{Syntax, make_marked_numbers_overflow, replace_flaws_by_markers};
use serde::Deserialize;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::persisted::{Extensions, Hash};
use crate::error::ApiError;

/// The key that marks a parsed object in which the client sent the same key twice. Such an object is always
/// refused: an input object has no such field, and free JSON may not contain it.
pub(crate) const DUPLICATE_KEY: &str = "\u{0}duplicate";

/// The name of the input fields that contain free JSON, which is any JSON object.
const FREE_JSON: &str = "properties";

/// A GraphQL request of a client, parsed but not yet checked or executed.
#[derive(Debug)]
pub(crate) struct Body {
    /// The document. `None` if the client sent only its hash.
    pub query: Option<String>,
    /// The SHA-256 of the document (automatic persisted queries).
    pub hash: Option<Hash>,
    /// The name of the operation to execute. `None` if the document has only one.
    pub operation_name: Option<String>,
    /// The values of the variables of the operation.
    pub variables: Variables,
}

#[derive(Deserialize)]
struct RawBody<'b> {
    query: Option<String>,
    #[serde(rename = "operationName")]
    operation_name: Option<String>,
    #[serde(borrow)]
    variables: Option<&'b RawValue>,
    extensions: Option<Extensions>,
}

impl Body {
    /// Parses the JSON of a GraphQL request. Lone surrogates and too large numbers are replaced by markers,
    /// so that only the item with the marker is refused.
    ///
    /// # Errors
    /// - [`ApiError::BadUserInput`] if the body is not a GraphQL request in JSON, or has neither a document
    ///   nor a hash.
    /// - [`ApiError::Limit`] if the variables are nested too deeply.
    pub(crate) fn parse_body(bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
            return Err(ApiError::BadUserInput(
                "arrays of requests are not supported: send one request at a time".to_owned(),
            ));
        }
        let not_a_request = || ApiError::BadUserInput("the body is not a GraphQL request in JSON".to_owned());
        let (mended, is_mended): (String, bool);
        let raw: RawBody<'_> = match serde_json::from_slice(bytes) {
            Ok(raw) => {
                is_mended = false;
                raw
            }
            // The reason may be half of a surrogate pair in the document. JSON permits it, but the parser
            // does not.
            Err(_) => {
                let text = std::str::from_utf8(bytes).map_err(|_| not_a_request())?;
                mended = replace_flaws_by_markers(text, Syntax::Json).ok_or_else(not_a_request)?;
                is_mended = true;
                serde_json::from_str(&mended).map_err(|_| not_a_request())?
            }
        };
        let variables =
            raw.variables.map(|text| parse_variables(text.get(), is_mended)).transpose()?.unwrap_or_default();
        let hash = raw.extensions.unwrap_or_default().into_document_hash()?;
        Self { query: raw.query, hash, operation_name: raw.operation_name, variables }.require_document()
    }

    /// Returns the request unchanged if it names a document.
    ///
    /// # Errors
    /// [`ApiError::BadUserInput`] if it has neither a document nor a hash.
    pub(crate) fn require_document(self) -> Result<Self, ApiError> {
        if self.query.is_none() && self.hash.is_none() {
            return Err(ApiError::BadUserInput(
                "the request has no query: send the document in query".to_owned(),
            ));
        }
        Ok(self)
    }
}

/// Parses the JSON of the variables of a request. `is_mended` says whether the lone surrogates and the too
/// large numbers in `text` were already replaced by markers.
///
/// # Errors
/// - [`ApiError::BadUserInput`] if they are not a JSON object.
/// - [`ApiError::Limit`] if they are nested too deeply.
pub(crate) fn parse_variables(text: &str, is_mended: bool) -> Result<Variables, ApiError> {
    let too_deep = Cell::new(false);
    let read = |text: &str, is_mended| {
        let mut reader = serde_json::Deserializer::from_str(text);
        let seed = ValueSeed { depth: 0, too_deep: &too_deep, is_mended };
        seed.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value)).ok()
    };
    // A value may be one that JSON permits but the parser rejects, such as half of a surrogate pair. Such a
    // value is replaced, so that only the item that contains it gets a problem.
    let value = read(text, is_mended)
        .or_else(|| replace_flaws_by_markers(text, Syntax::Json).and_then(|mended| read(&mended, true)));
    match value.ok_or(()) {
        Ok(Value::Null) => Ok(Variables::default()),
        Ok(value @ Value::Object(_)) => Ok(Variables::from_value(value)),
        _ if too_deep.get() => Err(ApiError::Limit {
            name: "variables depth",
            max: VARIABLES_DEPTH_MAX as u64,
            detail: format!("the variables are nested deeper than {VARIABLES_DEPTH_MAX} levels"),
        }),
        _ => Err(ApiError::BadUserInput("variables must be a JSON object".to_owned())),
    }
}

/// Deserializes one value of the variables, and counts how deep it is nested.
#[derive(Clone, Copy)]
struct ValueSeed<'f> {
    /// The number of arrays and objects around the value.
    depth: usize,
    /// Set if the value is nested too deeply. The error type of the deserializer cannot say so.
    too_deep: &'f Cell<bool>,
    /// Whether lone surrogates and too large numbers of the text were replaced by markers.
    is_mended: bool,
}

impl ValueSeed<'_> {
    /// The seed for a value one level deeper. If that is too deep, sets `too_deep` and returns an error.
    fn seed_for_nested_value<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == VARIABLES_DEPTH_MAX {
            self.too_deep.set(true);
            return Err(E::custom("too deep"));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    /// Keeps a JSON object as its text, in a [`Value::Binary`]. Any other value is deserialized as usual.
    fn keep_free_json_as_text<E: serde::de::Error>(self, json: &RawValue) -> Result<Value, E> {
        let text = json.get();
        if !text.starts_with('{') {
            return self.deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(E::custom);
        }
        if self.depth + max_nesting_depth(text) > VARIABLES_DEPTH_MAX {
            self.too_deep.set(true);
            return Err(E::custom("too deep"));
        }
        let text = if self.is_mended { make_marked_numbers_overflow(text) } else { text.into() };
        Ok(Value::Binary(Bytes::from(text.into_owned())))
    }
}

/// How many levels of arrays and objects a JSON text has at its deepest place.
fn max_nesting_depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut is_in_string, mut is_escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => is_in_string = !is_in_string,
            b'{' | b'[' if !is_in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !is_in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
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
        let inner = self.seed_for_nested_value::<A::Error>()?;
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            all.push(item);
        }
        Ok(Value::List(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let inner = self.seed_for_nested_value::<A::Error>()?;
        let mut all = async_graphql::indexmap::IndexMap::new();
        while let Some(key) = fields.next_key::<String>()? {
            let value = if self.depth > 0 && key == FREE_JSON {
                inner.keep_free_json_as_text(fields.next_value()?)?
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
