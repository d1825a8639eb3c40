//! Decides whether a value certainly has an input type of the schema. If it is not certain, the library validates
//! the request and writes the errors.

use std::collections::{HashMap, HashSet};

use async_graphql::Value;
use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{BaseType, InputObjectType, Type, TypeKind, TypeSystemDefinition};

/// The input types of a schema, by name.
#[derive(Debug)]
pub(super) struct InputTypes(HashMap<String, InputType>);

#[derive(Debug)]
enum InputType {
    Scalar,
    Enum(HashSet<String>),
    Object(InputObject),
}

#[derive(Debug)]
struct InputObject {
    fields: HashMap<String, InputField>,
    /// How many fields must be given: those that are neither nullable nor have a default value.
    required: usize,
    /// Whether exactly one field must be given.
    is_one_of: bool,
}

#[derive(Debug)]
struct InputField {
    expected: Type,
    is_required: bool,
}

impl InputTypes {
    /// The input types of the schema with this SDL. If it cannot be parsed, only the built-in scalars are known.
    pub(super) fn from_sdl(sdl: &str) -> Self {
        let definitions = parse_schema(sdl).map(|document| document.definitions).unwrap_or_default();
        let types = definitions.into_iter().filter_map(|definition| {
            let TypeSystemDefinition::Type(definition) = definition else { return None };
            let name = definition.node.name.node.to_string();
            let is_one_of = definition.node.directives.iter().any(|it| it.node.name.node == "oneOf");
            let input_type = match definition.node.kind {
                TypeKind::Scalar => InputType::Scalar,
                TypeKind::Enum(values) => {
                    let names = values.values.into_iter().map(|value| value.node.value.node.to_string());
                    InputType::Enum(names.collect())
                }
                TypeKind::InputObject(object) => InputType::Object(InputObject::new(object, is_one_of)),
                _ => return None,
            };
            Some((name, input_type))
        });
        let builtin = ["Int", "Float", "String", "Boolean", "ID"];
        let builtin = builtin.map(|name| (name.to_owned(), InputType::Scalar));
        Self(types.chain(builtin).collect())
    }

    /// Whether a value certainly has a type. A value that the library would convert, such as a number for an
    /// `ID`, does not count.
    pub(super) fn accepts(&self, expected: &Type, value: &Value) -> bool {
        if *value == Value::Null {
            return expected.nullable;
        }
        let name = match (&expected.base, value) {
            (BaseType::List(inner), Value::List(items)) => {
                return items.iter().all(|item| self.accepts(inner, item));
            }
            (BaseType::List(_), _) => return false,
            (BaseType::Named(name), _) => name.as_str(),
        };
        match (self.0.get(name), value) {
            (Some(InputType::Scalar), _) => is_scalar(name, value),
            (Some(InputType::Enum(names)), Value::String(text)) => names.contains(text),
            (Some(InputType::Object(object)), Value::Object(fields)) => {
                let mut required = 0;
                let has_types = fields.iter().all(|(name, value)| {
                    object.fields.get(name.as_str()).is_some_and(|field| {
                        required += usize::from(field.is_required);
                        self.accepts(&field.expected, value)
                    })
                });
                let has_one = || fields.len() == 1 && !fields.values().any(|value| *value == Value::Null);
                has_types && required == object.required && (!object.is_one_of || has_one())
            }
            _ => false,
        }
    }
}

impl InputObject {
    fn new(object: InputObjectType, is_one_of: bool) -> Self {
        let fields = object.fields.into_iter().map(|field| {
            let expected = field.node.ty.node;
            let is_required = !expected.nullable && field.node.default_value.is_none();
            (field.node.name.node.to_string(), InputField { expected, is_required })
        });
        let fields: HashMap<_, _> = fields.collect();
        let required = fields.values().filter(|field| field.is_required).count();
        Self { fields, required, is_one_of }
    }
}

/// Whether a value certainly has this scalar type. Our own scalars accept every value here. Only values of the
/// kind that clients should send count as certain.
fn is_scalar(name: &str, value: &Value) -> bool {
    match (name, value) {
        ("Int", Value::Number(number)) => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        ("Float" | "Long", Value::Number(_)) | ("Boolean", Value::Boolean(_)) => true,
        ("JSONObject", Value::Object(_) | Value::Binary(_)) => true,
        ("Int" | "Float" | "Boolean" | "JSONObject" | "Long", _) => false,
        (_, value) => matches!(value, Value::String(_)),
    }
}
