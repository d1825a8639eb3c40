//! Tests the schema: `schema.graphql` is current, the schema equals the contract, and every part has a
//! description.

use std::collections::BTreeMap;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    FieldDefinition, InputValueDefinition, TypeDefinition, TypeKind, TypeSystemDefinition,
};

/// Types that the GraphQL specification defines.
const BUILT_IN: [&str; 5] = ["Boolean", "Float", "ID", "Int", "String"];

/// All parts of a schema by their paths, for example `Event`, `Event.id`, `Query.event(id)` and
/// `EntityType.EVENT`. The value is what matters to clients: kind, type and default, written as SDL.
type Parts = BTreeMap<String, String>;

fn read(name: &str) -> String {
    let path = format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn types(sdl: &str) -> Vec<TypeDefinition> {
    let document = parse_schema(sdl).unwrap_or_else(|error| panic!("the SDL does not parse: {error}"));
    let all = document.definitions.into_iter().filter_map(|definition| match definition {
        TypeSystemDefinition::Type(ty) => Some(ty.node),
        TypeSystemDefinition::Schema(_) | TypeSystemDefinition::Directive(_) => None,
    });
    all.filter(|ty| {
        let name = ty.name.node.as_str();
        assert!(!ty.extend, "{name} is an extension: the comparison would not see it as part of its type");
        !name.starts_with("__") && !BUILT_IN.contains(&name)
    })
    .collect()
}

/// Returns the `specifiedBy` URL of a scalar, if it has one.
fn specification(scalar: &TypeDefinition) -> String {
    let directive = scalar.directives.iter().find(|directive| directive.node.name.node == "specifiedBy");
    let url = directive.and_then(|directive| directive.node.get_argument("url"));
    url.map_or(String::new(), |url| format!(" by {}", url.node))
}

fn input(value: &InputValueDefinition) -> String {
    match &value.default_value {
        Some(default) => format!("{} = {}", value.ty.node, default.node),
        None => value.ty.node.to_string(),
    }
}

fn parts(sdl: &str) -> Parts {
    let mut parts = Parts::new();
    let mut put = |path: String, definition: String| {
        let previous = parts.insert(path.clone(), definition);
        assert!(previous.is_none(), "{path} is defined twice");
    };
    for ty in types(sdl) {
        let name = ty.name.node.to_string();
        let text = |kind: &str| kind.to_owned();
        let (kind, fields, implements) = match &ty.kind {
            TypeKind::Scalar => (format!("scalar{}", specification(&ty)), &[][..], &[][..]),
            TypeKind::Object(object) => (text("type"), &object.fields[..], &object.implements[..]),
            TypeKind::Interface(interface) => {
                (text("interface"), &interface.fields[..], &interface.implements[..])
            }
            TypeKind::Union(union) => {
                for member in &union.members {
                    put(format!("{name} = {}", member.node), text("member"));
                }
                (text("union"), &[][..], &[][..])
            }
            TypeKind::Enum(values) => {
                for value in &values.values {
                    put(format!("{name}.{}", value.node.value.node), text("value"));
                }
                (text("enum"), &[][..], &[][..])
            }
            TypeKind::InputObject(object) => {
                for field in &object.fields {
                    put(format!("{name}.{}", field.node.name.node), input(&field.node));
                }
                (text("input"), &[][..], &[][..])
            }
        };
        for interface in implements {
            put(format!("{name} implements {}", interface.node), text("implements"));
        }
        for field in fields {
            let path = format!("{name}.{}", field.node.name.node);
            for argument in &field.node.arguments {
                let place = format!("{path}({})", argument.node.name.node);
                put(place, input(&argument.node));
            }
            put(path, field.node.ty.node.to_string());
        }
        put(name, kind);
    }
    parts
}

/// Returns the parts of the schema that the contract does not have or defines differently.
fn differences(ours: &Parts, contract: &Parts) -> Vec<String> {
    ours.iter()
        .filter_map(|(path, definition)| match contract.get(path) {
            None => Some(format!("{path}: {definition}, which is not in the contract")),
            Some(theirs) if theirs != definition => {
                Some(format!("{path}: {definition}, which the contract defines as {theirs}"))
            }
            Some(_) => None,
        })
        .collect()
}

/// Returns the parts of the contract that the schema does not have.
fn missing(ours: &Parts, contract: &Parts) -> Vec<String> {
    let missing = contract.iter().filter(|(path, _)| !ours.contains_key(*path));
    missing.map(|(path, definition)| format!("{path}: {definition}")).collect()
}

fn is_empty(description: Option<&str>) -> bool {
    description.is_none_or(|text| text.trim().is_empty())
}

/// Returns the paths of all parts without a description.
fn undescribed(sdl: &str) -> Vec<String> {
    let mut found = Vec::new();
    for ty in types(sdl) {
        let name = ty.name.node.as_str();
        let mut check = |path: String, description: Option<&str>| {
            if is_empty(description) {
                found.push(path);
            }
        };
        check(name.to_owned(), ty.description.as_ref().map(|text| text.node.as_str()));
        let mut field = |field: &FieldDefinition| {
            let description = field.description.as_ref().map(|text| text.node.as_str());
            check(format!("{name}.{}", field.name.node), description);
        };
        match &ty.kind {
            TypeKind::Object(object) => object.fields.iter().for_each(|each| field(&each.node)),
            TypeKind::Interface(interface) => interface.fields.iter().for_each(|each| field(&each.node)),
            TypeKind::Enum(values) => {
                for value in values.values.iter().map(|value| &value.node) {
                    let description = value.description.as_ref().map(|text| text.node.as_str());
                    check(format!("{name}.{}", value.value.node), description);
                }
            }
            TypeKind::InputObject(object) => {
                for value in object.fields.iter().map(|value| &value.node) {
                    let description = value.description.as_ref().map(|text| text.node.as_str());
                    check(format!("{name}.{}", value.name.node), description);
                }
            }
            TypeKind::Scalar | TypeKind::Union(_) => {}
        }
    }
    found
}

#[test]
fn the_schema_that_is_checked_in_is_the_one_that_is_served() {
    let stored = read("../schema.graphql");
    assert!(stored == api::sdl(), "schema.graphql is stale: run `idem schema > schema.graphql`");
}

#[test]
fn every_part_of_the_schema_is_in_the_contract_and_equal() {
    let (ours, contract) = (parts(&api::sdl()), parts(&read("contract.graphql")));
    let found = differences(&ours, &contract);
    assert!(found.is_empty(), "{} parts differ from the contract:\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_part_of_the_contract_is_in_the_schema() {
    let (ours, contract) = (parts(&api::sdl()), parts(&read("contract.graphql")));
    let found = missing(&ours, &contract);
    assert!(found.is_empty(), "{} parts are missing:\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_part_of_the_schema_has_a_description() {
    let found = undescribed(&api::sdl());
    assert!(found.is_empty(), "{} parts have no description:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_comparison_finds_every_kind_of_difference() {
    let contract = parts(
        "interface Node { id: ID! } type A implements Node { id: ID! b(c: Int! = 1): Int }
         enum E { X Y } input I @oneOf { d: Int = 2 e: Int } type Query { a: A n(x: Int): Int }",
    );
    let ours = parts(
        "interface Node { id: ID } type A { id: ID! b: Int f: Int } enum E { X Z }
         input I { d: Int = 3 } type Query { n: Int }",
    );
    let found = differences(&ours, &contract);
    let paths: Vec<_> = found.iter().filter_map(|difference| difference.split(": ").next()).collect();
    assert_eq!(paths, ["A.f", "E.Z", "I.d", "Node.id"]);
    assert_eq!(
        missing(&ours, &contract),
        [
            "A implements Node: implements",
            "A.b(c): Int! = 1",
            "E.Y: value",
            "I.e: Int",
            "Query.a: A",
            "Query.n(x): Int"
        ],
    );
    assert_eq!(undescribed(r#""t" type A { a: Int "b" b: Int }"#), ["A.a"]);
}
