//! The scalars of the schema.
//!
//! A scalar that an item can contain accepts any JSON value. A wrong value is then a problem of its item, and
//! the other items are stored.

use std::borrow::Cow;

use async_graphql::registry::{MetaType, Registry};
use async_graphql::{InputType, InputValueResult, Number, Scalar, ScalarType, Value};
use domain::draft::Sent;
use domain::problem::Code;
use domain::text_repair::make_marked_numbers_overflow;
use domain::{event_id, instant};
use uuid::Uuid;

use super::json_writer::response::value_to_json_text;
use crate::error::ApiError;
use crate::http::variables::DUPLICATE_KEY;

/// Converts a JSON value that should be a string. Null counts as absent, and any other type as a wrong type.
fn string_to_draft_field(value: Option<Value>) -> Sent<String> {
    match value {
        None | Some(Value::Null) => Sent::Absent,
        Some(Value::String(text)) => Sent::Value(text),
        Some(_) => Sent::WrongType,
    }
}

/// An instant. Responses have the form `YYYY-MM-DDTHH:MM:SS.sssZ`. Inputs are RFC 3339 with any offset; they
/// are truncated to milliseconds and compared as instants. The year is 0001 to 9999 in UTC. 23:59:60 UTC is
/// read as the next second. A date without a time is not accepted. In an item a wrong value is a problem of
/// that item; in an argument or a filter it refuses the request.
#[derive(Debug, Clone)]
pub enum DateTime {
    /// An instant that the server returns, in epoch milliseconds.
    At(i64),
    /// A JSON value as a client sent it, of any type and unchecked.
    Sent(Value),
}

/// An instant. Responses have the form `YYYY-MM-DDTHH:MM:SS.sssZ`. Inputs are RFC 3339 with any offset; they
/// are truncated to milliseconds and compared as instants. The year is 0001 to 9999 in UTC. 23:59:60 UTC is
/// read as the next second. A date without a time is not accepted. In an item a wrong value is a problem of
/// that item; in an argument or a filter it refuses the request.
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
    /// The value as one field of a draft: absent or null, its unchecked text, or of a wrong JSON type.
    pub(crate) fn into_draft_field(this: Option<Self>) -> Sent<String> {
        match this {
            Some(Self::Sent(value)) => string_to_draft_field(Some(value)),
            Some(Self::At(ms)) => Sent::Value(instant::format(ms)),
            None => Sent::Absent,
        }
    }

    /// Parses the value of an argument or filter, in epoch milliseconds. `None` if it is absent or null.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] if the value, which has this pointer, is not an RFC 3339 instant of the years 0001 to
    /// 9999.
    pub(crate) fn into_epoch_ms(pointer: &'static str, this: Option<Self>) -> Result<Option<i64>, ApiError> {
        match Self::into_draft_field(this) {
            Sent::Absent => Ok(None),
            Sent::Value(text) if instant::parse(&text).is_some() => {
                Ok(instant::parse(&text).map(|parsed| parsed.ms))
            }
            _ => {
                let detail = "must be RFC 3339, such as 2026-01-31T08:00:00Z";
                Err(ApiError::invalid(pointer, Code::InvalidDatetime, detail))
            }
        }
    }
}

/// A JSON object of at most 16 KiB as canonical JSON, nested at most 8 levels deep. The order of keys is not
/// kept. Integers from -2^63 to 2^64-1 are exact; other numbers are 64-bit floats. An object with a duplicate
/// key is a problem of its item.
#[derive(Debug, Clone)]
pub struct JsonObject(Value);

/// A JSON object of at most 16 KiB as canonical JSON, nested at most 8 levels deep. The order of keys is not
/// kept. Integers from -2^63 to 2^64-1 are exact; other numbers are 64-bit floats. An object with a duplicate
/// key is a problem of its item.
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
    /// Parses canonical JSON text from the database. Text that cannot be parsed becomes null.
    pub(crate) fn from_stored_text(text: &str) -> Self {
        Self(serde_json::from_str(text).unwrap_or_default())
    }

    /// The value as one field of a draft: absent or null, its JSON text, or of a wrong type. An object
    /// that was parsed with a duplicate key counts as a wrong type.
    pub(crate) fn into_draft_field(this: Option<Self>) -> Sent<String> {
        match this.map(|object| object.0) {
            None | Some(Value::Null) => Sent::Absent,
            // In variables, free JSON stays the text that the client sent: see `http::variables`.
            Some(Value::Binary(text)) => String::from_utf8(text.into()).map_or(Sent::WrongType, Sent::Value),
            Some(value @ Value::Object(_)) if !has_duplicate_key(&value) => {
                Sent::Value(make_marked_numbers_overflow(&value_to_json_text(&value)).into_owned())
            }
            Some(_) => Sent::WrongType,
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

/// An opaque position in the change feed of the user. A client can store it for any length of time. It is not
/// a cursor of a connection; those are of type `String`.
#[derive(Debug, Clone)]
pub struct Cursor(pub String);

/// An opaque position in the change feed of the user. A client can store it for any length of time. It is not
/// a cursor of a connection; those are of type `String`.
#[Scalar]
impl ScalarType for Cursor {
    fn parse(value: Value) -> InputValueResult<Self> {
        // A value that is not a string is handled like a string that is not a cursor.
        Ok(Self(if let Value::String(text) = value { text } else { String::new() }))
    }

    fn to_value(&self) -> Value {
        self.0.clone().into()
    }
}

/// A whole number from -(2^53 - 1) to 2^53 - 1, as a JSON number.
#[derive(Debug, Clone, Copy)]
pub struct Long(pub i64);

/// A whole number from -(2^53 - 1) to 2^53 - 1, as a JSON number.
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

/// The built-in scalar `ID` in inputs. It accepts any JSON value, so that a wrong id does not refuse the
/// whole request: in a write it is a problem of its item, and in a query an unknown id.
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
    /// The value as one field of a draft: absent or null, its unchecked text, or of a wrong JSON type.
    pub(crate) fn into_draft_field(this: Option<Self>) -> Sent<String> {
        string_to_draft_field(this.map(|id| id.0))
    }

    /// Parses the value as a UUID of any version. `None` if it is not one; queries treat that as an unknown
    /// id.
    pub(crate) fn to_uuid(&self) -> Option<Uuid> {
        event_id::parse(&self.to_text()?)
    }

    /// The value unchecked, if it is a string. `None` for any other JSON type.
    pub(crate) fn to_text(&self) -> Option<String> {
        if let Value::String(text) = &self.0 { Some(text.clone()) } else { None }
    }
}
