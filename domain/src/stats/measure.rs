//! Finds the number that an event measures, and its unit, in its properties.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::limits::UNIT_CHARS_MAX;

/// The key in `properties` whose number has a column of its own, `event.value`.
pub const VALUE_KEY: &str = "value";
/// The key in `properties` whose text has a column of its own, `event.unit`, if there is a value.
pub const UNIT_KEY: &str = "unit";

/// A number and its unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The number.
    pub value: f64,
    /// The text beside it that names its unit. `None` if there is none, it is no text, or it is too long.
    pub unit: Option<String>,
}

/// The number under [`VALUE_KEY`] and the unit under [`UNIT_KEY`], which are kept in columns. `None` if there is no
/// number under that key.
#[must_use]
pub fn promoted(properties: &str) -> Option<Measured> {
    // Most events have no value at all, and need not be parsed.
    if !properties.contains("\"value\":") {
        return None;
    }
    let [value, unit] = find_members(properties, [VALUE_KEY, UNIT_KEY]);
    measured(value, unit)
}

/// The number of this text, and the unit of the other one; both are JSON values. `None` if there is no number.
#[must_use]
pub fn measured(value: Option<&str>, unit: Option<&str>) -> Option<Measured> {
    let value = to_number(value?)?;
    let unit = unit.and_then(to_text).filter(|unit| unit.chars().count() <= UNIT_CHARS_MAX);
    Some(Measured { value, unit })
}

/// The number that a JSON value is. `None` if it is another kind of value.
fn to_number(json: &str) -> Option<f64> {
    // A JSON number begins with a digit or a minus sign, and no other value does.
    let is_number = json.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    let number: f64 = if is_number { json.parse().ok()? } else { return None };
    number.is_finite().then_some(number + 0.0)
}

/// The text that a JSON value is. `None` if it is another kind of value.
#[must_use]
pub fn to_text(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

/// Finds the members of a JSON object that have these names. Returns their values as JSON.
#[must_use]
pub fn find_members<'j, const N: usize>(object: &'j str, names: [&str; N]) -> [Option<&'j str>; N] {
    struct Members<'n, const N: usize>([&'n str; N]);
    impl<'j, const N: usize> Visitor<'j> for Members<'_, N> {
        type Value = [Option<&'j str>; N];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'j>>(self, mut members: A) -> Result<Self::Value, A::Error> {
            let mut found = [None; N];
            while let Some(name) = members.next_key::<String>()? {
                if !self.0.contains(&name.as_str()) {
                    members.next_value::<IgnoredAny>()?;
                    continue;
                }
                let value: &'j RawValue = members.next_value()?;
                for (selected, found) in self.0.iter().zip(&mut found) {
                    if *selected == name {
                        *found = Some(value.get());
                    }
                }
            }
            Ok(found)
        }
    }
    serde_json::Deserializer::from_str(object).deserialize_map(Members(names)).unwrap_or([None; N])
}
