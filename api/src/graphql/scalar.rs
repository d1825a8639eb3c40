//! The scalars of the contract. Each takes any JSON value where an item may hold it: a wrong value is
//! then a problem of the item, and its neighbours are stored.

use std::borrow::Cow;

use async_graphql::registry::{MetaType, Registry};
use async_graphql::{InputType, InputValueResult, Number, Scalar, ScalarType, Value};
use domain::draft::Sent;
use domain::mended::unmend_numbers;
use domain::{event_id, instant};
use uuid::Uuid;

use super::json_writer::answer::json_text;
use crate::error::ApiError;
use crate::http::variables::DUPLICATE_KEY;

/// Text as it was sent, whatever kind of JSON it is.
fn sent(value: Option<Value>) -> Sent<String> {
    match value {
        None | Some(Value::Null) => Sent::Absent,
        Some(Value::String(text)) => Sent::Value(text),
        Some(_) => Sent::WrongKind,
    }
}

/// RFC 3339 with any offset in; `YYYY-MM-DDTHH:MM:SS.sssZ` out. Truncated to milliseconds, compared as an
/// instant; years 0001 to 9999 in UTC. 23:59:60 UTC reads as the next second; a date alone does not parse.
#[derive(Debug, Clone)]
pub enum DateTime {
    /// An instant of ours, epoch milliseconds.
    At(i64),
    /// What a client sent.
    Sent(Value),
}

/// RFC 3339 with any offset in; `YYYY-MM-DDTHH:MM:SS.sssZ` out. Truncated to milliseconds, compared as an
/// instant; years 0001 to 9999 in UTC. 23:59:60 UTC reads as the next second; a date alone does not parse.
#[Scalar(specified_by_url = "https://www.rfc-editor.org/rfc/rfc3339")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        Ok(Self::Sent(value))
    }

    fn to_value(&self) -> Value {
        match self {
            Self::At(ms) => instant::format(*ms).into(),
            Self::Sent(value) => value.clone(),
        }
    }
}

impl DateTime {
    /// As the field of an item.
    pub(crate) fn draft(this: Option<Self>) -> Sent<String> {
        match this {
            Some(Self::Sent(value)) => sent(Some(value)),
            Some(Self::At(ms)) => Sent::Value(instant::format(ms)),
            None => Sent::Absent,
        }
    }

    /// As an argument: epoch milliseconds, or the request is refused.
    pub(crate) fn argument(this: Option<Self>) -> Result<Option<i64>, ApiError> {
        match Self::draft(this) {
            Sent::Absent => Ok(None),
            Sent::Value(text) if instant::parse(&text).is_some() => {
                Ok(instant::parse(&text).map(|written| written.ms))
            }
            _ => Err(ApiError::BadUserInput("a DateTime must be RFC 3339".to_owned())),
        }
    }
}

/// A JSON object: at most 16 KiB as canonical text, depth at most 8. Key order is not kept. Integers from
/// -2^63 to 2^64-1 are exact, other numbers f64.
#[derive(Debug, Clone)]
pub struct JsonObject(Value);

/// A JSON object: at most 16 KiB as canonical text, depth at most 8. Key order is not kept. Integers from
/// -2^63 to 2^64-1 are exact, other numbers f64.
#[Scalar(name = "JSONObject", specified_by_url = "https://www.rfc-editor.org/rfc/rfc8259")]
impl ScalarType for JsonObject {
    fn parse(value: Value) -> InputValueResult<Self> {
        Ok(Self(value))
    }

    fn to_value(&self) -> Value {
        self.0.clone()
    }
}

impl JsonObject {
    /// Of canonical text that is stored.
    pub(crate) fn stored(text: &str) -> Self {
        Self(serde_json::from_str(text).unwrap_or_default())
    }

    /// As the field of an item.
    pub(crate) fn draft(this: Option<Self>) -> Sent<String> {
        match this.map(|object| object.0) {
            None | Some(Value::Null) => Sent::Absent,
            // A variable, as the text that was sent.
            Some(Value::Binary(text)) => String::from_utf8(text.into()).map_or(Sent::WrongKind, Sent::Value),
            Some(value @ Value::Object(_)) if !has_duplicate_key(&value) => {
                Sent::Value(unmend_numbers(&json_text(&value)).into_owned())
            }
            Some(_) => Sent::WrongKind,
        }
    }
}

fn has_duplicate_key(value: &Value) -> bool {
    match value {
        Value::Object(fields) => {
            fields.keys().any(|key| key == DUPLICATE_KEY) || fields.values().any(has_duplicate_key)
        }
        Value::List(items) => items.iter().any(has_duplicate_key),
        _ => false,
    }
}

/// Opaque position in the caller's change feed; safe to store for ever. (Connections page by String
/// cursors, which are something else.)
#[derive(Debug, Clone)]
pub struct Cursor(pub String);

/// Opaque position in the caller's change feed; safe to store for ever. (Connections page by String
/// cursors, which are something else.)
#[Scalar]
impl ScalarType for Cursor {
    fn parse(value: Value) -> InputValueResult<Self> {
        // What is no text is no cursor of ours either, and is answered like one that is not.
        Ok(Self(if let Value::String(text) = value { text } else { String::new() }))
    }

    fn to_value(&self) -> Value {
        self.0.clone().into()
    }
}

/// Whole number up to 2^53 - 1, a JSON number.
#[derive(Debug, Clone, Copy)]
pub struct Long(pub i64);

/// Whole number up to 2^53 - 1, a JSON number.
#[Scalar]
impl ScalarType for Long {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::Number(number) if number.as_i64().is_some_and(|n| n.unsigned_abs() < 1 << 53) => {
                Ok(Self(number.as_i64().unwrap_or_default()))
            }
            _ => Err(async_graphql::InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        Value::Number(Number::from(self.0))
    }
}

/// GraphQL's own `ID` in inputs, taking any JSON value: what is no UUID is a problem of its item.
#[derive(Debug, Clone)]
pub struct Id(Value);

impl InputType for Id {
    type RawValueType = Self;

    fn type_name() -> Cow<'static, str> {
        "ID".into()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        let name = <async_graphql::ID as InputType>::create_type_info(registry);
        if let Some(MetaType::Scalar { is_valid, .. }) = registry.types.get_mut("ID") {
            *is_valid = None;
        }
        name
    }

    fn parse(value: Option<Value>) -> InputValueResult<Self> {
        Ok(Self(value.unwrap_or_default()))
    }

    fn to_value(&self) -> Value {
        self.0.clone()
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }
}

impl Id {
    /// As the field of an item.
    pub(crate) fn draft(this: Option<Self>) -> Sent<String> {
        sent(this.map(|id| id.0))
    }

    /// In a query: what is no UUID is unknown.
    pub(crate) fn uuid(&self) -> Option<Uuid> {
        event_id::parse(&self.text()?)
    }

    /// The text that was sent, if it was text.
    pub(crate) fn text(&self) -> Option<String> {
        if let Value::String(text) = &self.0 { Some(text.clone()) } else { None }
    }
}
