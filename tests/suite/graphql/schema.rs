//! The schema that is served: it is the one checked in, it is the contract's, and it explains itself.

use std::collections::BTreeMap;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    FieldDefinition, InputValueDefinition, TypeDefinition, TypeKind, TypeSystemDefinition,
};

/// Types that clients know without being told.
const BUILT_IN: [&str; 5] = ["Boolean", "Float", "ID", "Int", "String"];

/// All parts of a schema by their paths, `Event`, `Event.id`, `Query.event(id)`, `EntityType.EVENT`, with what the
/// wire sees of them: kind, type and default, as SDL would say it.
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

/// Where a scalar is specified, if it says so.
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
    let mut put = |path: String, says: String| {
        let twice = parts.insert(path.clone(), says);
        assert!(twice.is_none(), "{path} is defined twice");
    };
    for ty in types(sdl) {
        let name = ty.name.node.to_string();
        let says = |kind: &str| kind.to_owned();
        let (kind, fields, implements) = match &ty.kind {
            TypeKind::Scalar => (format!("scalar{}", specification(&ty)), &[][..], &[][..]),
            TypeKind::Object(object) => (says("type"), &object.fields[..], &object.implements[..]),
            TypeKind::Interface(face) => (says("interface"), &face.fields[..], &face.implements[..]),
            TypeKind::Union(union) => {
                for member in &union.members {
                    put(format!("{name} = {}", member.node), says("member"));
                }
                (says("union"), &[][..], &[][..])
            }
            TypeKind::Enum(values) => {
                for value in &values.values {
                    put(format!("{name}.{}", value.node.value.node), says("value"));
                }
                (says("enum"), &[][..], &[][..])
            }
            TypeKind::InputObject(object) => {
                for field in &object.fields {
                    put(format!("{name}.{}", field.node.name.node), input(&field.node));
                }
                (says("input"), &[][..], &[][..])
            }
        };
        for face in implements {
            put(format!("{name} implements {}", face.node), says("implements"));
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

/// What of ours the contract has not or has otherwise.
fn strays(ours: &Parts, contract: &Parts) -> Vec<String> {
    ours.iter()
        .filter_map(|(path, says)| match contract.get(path) {
            None => Some(format!("{path}: {says} — not in the contract")),
            Some(theirs) if theirs != says => Some(format!("{path}: {says} — the contract says {theirs}")),
            Some(_) => None,
        })
        .collect()
}

/// What we lack of the contract.
fn gaps(ours: &Parts, contract: &Parts) -> Vec<String> {
    let lacking = contract.iter().filter(|(path, _)| !ours.contains_key(*path));
    lacking.map(|(path, says)| format!("{path}: {says}")).collect()
}

fn silent(description: Option<&str>) -> bool {
    description.is_none_or(|text| text.trim().is_empty())
}

fn undescribed(sdl: &str) -> Vec<String> {
    let mut found = Vec::new();
    for ty in types(sdl) {
        let name = ty.name.node.as_str();
        let mut check = |path: String, description: Option<&str>| {
            if silent(description) {
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
            TypeKind::Interface(face) => face.fields.iter().for_each(|each| field(&each.node)),
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
fn whatever_is_served_is_in_the_contract_and_equal() {
    let (ours, contract) = (parts(&api::sdl()), parts(&read("contract.graphql")));
    let strays = strays(&ours, &contract);
    assert!(strays.is_empty(), "{} parts are not the contract's:\n{}", strays.len(), strays.join("\n"));
}

#[test]
fn whatever_is_in_the_contract_is_served() {
    let (ours, contract) = (parts(&api::sdl()), parts(&read("contract.graphql")));
    let gaps = gaps(&ours, &contract);
    assert!(gaps.is_empty(), "{} parts are missing:\n{}", gaps.len(), gaps.join("\n"));
}

#[test]
fn every_part_that_is_served_has_a_description() {
    let found = undescribed(&api::sdl());
    assert!(found.is_empty(), "{} parts have no description:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_comparison_sees_every_kind_of_difference() {
    let contract = parts(
        "interface Node { id: ID! } type A implements Node { id: ID! b(c: Int! = 1): Int }
         enum E { X Y } input I @oneOf { d: Int = 2 e: Int } type Query { a: A n(x: Int): Int }",
    );
    let ours = parts(
        "interface Node { id: ID } type A { id: ID! b: Int f: Int } enum E { X Z }
         input I { d: Int = 3 } type Query { n: Int }",
    );
    let strays = strays(&ours, &contract);
    let said: Vec<_> = strays.iter().filter_map(|stray| stray.split(": ").next()).collect();
    assert_eq!(said, ["A.f", "E.Z", "I.d", "Node.id"]);
    assert_eq!(
        gaps(&ours, &contract),
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
