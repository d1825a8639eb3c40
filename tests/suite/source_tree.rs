//! Tests the rules of the source tree that neither the compiler nor clippy checks: the allowed dependencies
//! of each crate, and what no source file may contain.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const LINES_MAX: usize = 400;

/// Each crate of the workspace with the crates of the workspace that it may depend on.
const LAYERS: [(&str, &[&str]); 12] = [
    ("api", &["domain", "formats", "service"]),
    ("bench", &[]),
    ("domain", &[]),
    ("entity", &[]),
    ("formats", &["domain"]),
    ("fuzzing", &["api", "domain", "formats"]),
    ("idem", &["api", "domain", "formats", "migration", "service", "worker"]),
    ("migration", &[]),
    ("service", &["domain", "formats", "store"]),
    ("store", &["domain", "entity"]),
    ("tests", &["api", "domain", "formats", "idem", "migration", "service", "store", "worker"]),
    ("worker", &["domain", "formats", "service"]),
];

/// Prefixes of the names of libraries, and the crates that may depend on them. `tests` may depend on any
/// library.
const LIBRARIES: [(&str, &[&str]); 10] = [
    ("apalis", &["worker"]),
    ("async-graphql", &["api"]),
    ("axum", &["api"]),
    ("opentelemetry", &["api", "idem", "worker"]),
    ("opentelemetry-otlp", &["idem"]),
    ("opentelemetry_sdk", &["idem"]),
    ("redis", &["worker"]),
    ("sea-", &["entity", "migration", "store"]),
    ("sea-orm-migration", &["migration"]),
    ("sqlx", &[]),
];

/// Libraries that a pure crate must not depend on.
const IMPURE: [&str; 6] = ["async-trait", "futures", "getrandom", "object_store", "reqwest", "tokio"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns each crate of the workspace with the names of its dependencies, including those of its tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let arguments = ["metadata", "--no-deps", "--offline", "--locked", "--format-version", "1"];
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            (name(package), package["dependencies"].as_array().unwrap().iter().map(name).collect())
        })
        .collect()
}

/// Fails with a list of all violations of a rule, if there are any.
fn assert_none(violations: &[String], rule: &str) {
    assert!(violations.is_empty(), "{rule}:\n{}", violations.join("\n"));
}

#[test]
fn crates_depend_on_each_other_in_one_direction_only() {
    let found = dependencies();
    let ours: BTreeSet<&str> = LAYERS.iter().map(|(name, _)| *name).collect();
    assert_eq!(found.keys().map(String::as_str).collect::<BTreeSet<_>>(), ours);
    for (name, allowed) in LAYERS {
        let inner: Vec<&str> =
            found[name].iter().map(String::as_str).filter(|other| ours.contains(other)).collect();
        assert_eq!(inner, allowed, "the crates of the workspace that {name} depends on");
    }
}

#[test]
fn each_library_is_used_by_the_layer_that_it_belongs_to() {
    let mut wrong = Vec::new();
    for (name, all) in dependencies() {
        for library in &all {
            let rules = LIBRARIES.iter().filter(|(prefix, _)| library.starts_with(prefix));
            if name != "tests" && rules.clone().any(|(_, allowed)| !allowed.contains(&name.as_str())) {
                wrong.push(format!("{name} depends on {library}"));
            }
        }
    }
    assert_none(&wrong, "a library is used outside of its layer");
}

#[test]
fn domain_and_formats_are_pure() {
    let found = dependencies();
    for name in ["domain", "formats"] {
        let impure: Vec<_> = IMPURE.iter().filter(|library| found[name].contains(**library)).collect();
        assert!(impure.is_empty(), "{name} depends on {impure:?}");
    }
}

struct Source {
    /// The path from the root of the workspace.
    path: String,
    text: String,
}

/// Reads all Rust files of the repository.
fn sources() -> Vec<Source> {
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"];
    let output = Command::new("git").args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let paths = String::from_utf8(output.stdout).unwrap();
    let paths = paths.lines().filter(|path| root().join(path).exists());
    let sources: Vec<Source> = paths
        .map(|path| Source { path: path.to_owned(), text: fs::read_to_string(root().join(path)).unwrap() })
        .collect();
    assert!(sources.iter().any(|source| source.path == "tests/suite/source_tree.rs"));
    sources
}

#[test]
fn no_source_is_longer_than_four_hundred_lines() {
    let long = sources().into_iter().filter_map(|source| {
        let lines = source.text.lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines", source.path))
    });
    assert_none(&long.collect::<Vec<_>>(), "sources over 400 lines");
}

#[test]
fn no_source_puts_work_off_or_skips_a_test() {
    // The marks are written in two halves, because this file is checked too.
    let marks = [("TO", "DO"), ("FIX", "ME"), ("#[ig", "nore")].map(|(left, right)| format!("{left}{right}"));
    let mut found = Vec::new();
    for Source { path, text } in sources() {
        let marked =
            text.lines().enumerate().filter(|(_, line)| marks.iter().any(|mark| line.contains(mark)));
        found.extend(marked.map(|(index, line)| format!("{path}:{}: {}", index + 1, line.trim())));
    }
    assert_none(&found, "work put off, or a test that is skipped");
}

#[test]
fn every_read_of_the_store_names_the_user_whose_rows_it_may_see() {
    let mut found = Vec::new();
    for name in ["event", "event_type", "import_rejection", "status"] {
        let path = format!("store/src/{name}.rs");
        let text = fs::read_to_string(root().join(&path)).unwrap();
        let functions: Vec<_> = text.split("pub async fn ").skip(1).collect();
        assert!(!functions.is_empty(), "{path} has no public functions: update this test");
        for function in functions {
            let signature = function.split('{').next().unwrap();
            if !signature.contains("user_id: Uuid") {
                found.push(format!("{path}: {}", signature.split('(').next().unwrap()));
            }
        }
    }
    assert_none(&found, "store functions without user_id");
}
