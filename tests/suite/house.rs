//! The house rules that no compiler checks: who may depend on whom, and what no source may say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const CRATES: [&str; 10] =
    ["api", "bench", "domain", "entity", "formats", "idem", "migration", "tests", "tests/fuzzing", "worker"];
const LINES_MAX: usize = 400;

struct Source {
    /// From the root of the workspace, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }

    /// The lines that ship, each with its number: no comments, no modules that only tests see.
    fn shipped(&self) -> Vec<(usize, &str)> {
        if self.is_test() { Vec::new() } else { shipped(&self.text) }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn walk(path: &str, found: &mut Vec<Source>) {
    let entries = fs::read_dir(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    for entry in entries {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{path}/{name}");
        if entry.file_type().unwrap().is_dir() {
            if name != "target" && name != "node_modules" && !name.starts_with('.') {
                walk(&path, found);
            }
        } else if name.ends_with(".rs") {
            found.push(Source { text: read(&path), path });
        }
    }
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for name in CRATES {
        let before = found.len();
        walk(name, &mut found);
        assert!(found.len() > before, "{name} has no sources");
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn shipped(text: &str) -> Vec<(usize, &str)> {
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let mut found = Vec::new();
    while let Some((number, line)) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            let indent = &line[..line.len() - line.trim_start().len()];
            let item = lines.by_ref().find(|(_, line)| !line.trim_start().starts_with('#'));
            if item.is_some_and(|(_, line)| !line.trim_end().ends_with([';', '}'])) {
                lines.by_ref().find(|(_, line)| *line == format!("{indent}}}"));
            }
        } else if !line.trim_start().starts_with("//") {
            found.push((number, line));
        }
    }
    found
}

fn hits(source: &Source, lines: &[(usize, &str)], words: &[String]) -> Vec<String> {
    lines
        .iter()
        .filter(|(_, line)| words.iter().any(|word| line.contains(word)))
        .map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim()))
        .collect()
}

fn all(text: &str) -> Vec<(usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line)).collect()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

/// The packages that a manifest names: those it ships with, and those only its tests have.
fn dependencies(manifest: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut shipped, mut dev) = (BTreeSet::new(), BTreeSet::new());
    let mut section = String::new();
    for line in manifest.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut name = None;
        if let Some(head) = line.strip_prefix('[') {
            section = head.trim_matches(['[', ']']).to_owned();
            // `[dependencies.name]`
            if let Some((_, own)) = section.split_once("dependencies.") {
                name = Some(own.to_owned());
            }
        } else if section.ends_with("dependencies") {
            let key = line.split(['.', '=', ' ']).next().unwrap();
            name = Some(key.trim_matches('"').to_owned());
        }
        assert!(!line.contains("package ="), "a dependency under another name would not be seen: {line}");
        if let Some(name) = name {
            if section.contains("dev-dependencies") {
                dev.insert(name)
            } else {
                shipped.insert(name)
            };
        }
    }
    (shipped, dev)
}

/// Every crate and all that it depends on, in tests too.
fn graph() -> BTreeMap<&'static str, BTreeSet<String>> {
    CRATES
        .into_iter()
        .map(|name| {
            let (mut shipped, dev) = dependencies(&read(&format!("{name}/Cargo.toml")));
            shipped.extend(dev);
            (name, shipped)
        })
        .collect()
}

/// Only `homes` depend on what `matches`; the crate of the tests may have anything.
fn only(homes: &[&str], matches: impl Fn(&str) -> bool, rule: &str) {
    let mut found = Vec::new();
    for (name, dependencies) in graph() {
        for dependency in dependencies.iter().filter(|dependency| matches(dependency)) {
            if name != "tests" && !homes.contains(&name) {
                found.push(format!("{name} depends on {dependency}"));
            }
        }
    }
    none(&found, rule);
}

#[test]
fn the_workspace_has_exactly_the_crates_that_the_rules_know() {
    let manifest = read("Cargo.toml");
    let line = manifest.lines().find(|line| line.starts_with("members")).unwrap();
    let members: Vec<_> = line.split('"').skip(1).step_by(2).collect();
    assert_eq!(members, CRATES);
}

#[test]
fn crates_depend_on_each_other_in_one_direction_only() {
    let expected: [(&str, &[&str]); 9] = [
        ("api", &["domain", "formats"]),
        ("bench", &[]),
        ("domain", &["entity"]),
        ("entity", &[]),
        ("formats", &["domain"]),
        ("idem", &["api", "domain", "formats", "migration", "worker"]),
        ("migration", &[]),
        ("tests/fuzzing", &["api", "domain", "formats"]),
        ("worker", &["domain", "formats"]),
    ];
    let graph = graph();
    for (name, expected) in expected {
        let ours: Vec<_> = graph[name].iter().filter(|other| CRATES.contains(&other.as_str())).collect();
        assert_eq!(ours, expected, "the workspace crates that {name} depends on");
    }
    assert!(graph["tests"].contains("idem"), "the tests run the real program");
}

#[test]
fn only_api_knows_the_web_frameworks() {
    let web = |name: &str| name.starts_with("async-graphql") || name.starts_with("axum");
    only(&["api"], web, "async-graphql and axum belong to api");
    let (shipped, _) = dependencies(&read("tests/Cargo.toml"));
    assert!(!shipped.iter().any(|name| web(name)), "tests has them as dev-dependencies only");
}

#[test]
fn only_worker_knows_the_queue() {
    let queue = |name: &str| name.starts_with("apalis") || name.starts_with("redis");
    only(&["worker"], queue, "apalis and redis belong to worker");
}

#[test]
fn formats_read_and_nothing_else() {
    let (shipped, dev) = dependencies(&read("formats/Cargo.toml"));
    let outside = ["async-trait", "futures", "object_store", "reqwest", "sea-orm", "tokio"];
    let found: Vec<_> =
        shipped.union(&dev).filter(|name| outside.contains(&name.as_str())).cloned().collect();
    none(&found, "formats reaches out");
}

#[test]
fn only_idem_sends_traces_and_domain_knows_none() {
    let of_traces = |name: &str| name.contains("opentelemetry");
    only(&["api", "idem", "worker"], of_traces, "spans begin in api and worker");
    let sends = |name: &str| of_traces(name) && !["opentelemetry", "tracing-opentelemetry"].contains(&name);
    only(&["idem"], sends, "the SDK and the exporter belong to idem");
}

#[test]
fn only_the_crates_below_domain_know_the_database() {
    let orm = |name: &str| name == "sea-orm" || name.starts_with("sqlx") || name.starts_with("sea-query");
    only(&["entity", "domain", "migration"], orm, "sea-orm belongs to entity and domain");
    only(&["migration"], |name| name == "sea-orm-migration", "sea-orm-migration belongs to migration");
}

#[test]
fn in_domain_only_the_store_and_the_error_name_the_database() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("domain/src/")) {
        if !source.path.starts_with("domain/src/store/") && source.path != "domain/src/error.rs" {
            found.extend(hits(source, &all(&source.text), &words(&["sea_orm"])));
        }
    }
    none(&found, "sea_orm is named outside domain/src/store");
}

#[test]
fn the_rules_of_the_domain_are_pure() {
    let outside =
        ["sea_orm", "tokio", "std::time", "object_store", "futures", "crate::store", "crate::clock"];
    let sources = sources();
    let rules: Vec<_> =
        sources.iter().filter(|source| source.path.starts_with("domain/src/rules/")).collect();
    assert!(!rules.is_empty(), "domain/src/rules has no sources");
    let found: Vec<_> =
        rules.iter().flat_map(|source| hits(source, &all(&source.text), &words(&outside))).collect();
    none(&found, "domain/src/rules reaches out");
}

#[test]
fn no_source_is_longer_than_four_hundred_lines() {
    let long = sources().into_iter().filter_map(|source| {
        let lines = source.text.lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines", source.path))
    });
    none(&long.collect::<Vec<_>>(), "sources over 400 lines");
}

#[test]
fn nothing_that_ships_unwraps() {
    let unwrap = words(&[".unwrap()"]);
    let found: Vec<_> =
        sources().iter().flat_map(|source| hits(source, &source.shipped(), &unwrap)).collect();
    none(&found, "unwrap outside tests");
}

#[test]
fn no_source_puts_work_off_or_silences_a_lint() {
    // In halves, for this file is read too.
    let halves = [
        ("TO", "DO"),
        ("FIX", "ME"),
        ("#[ig", "nore"),
        ("todo", "!("),
        ("unimplemented", "!("),
        ("[al", "low("),
    ];
    let marks: Vec<_> = halves.iter().map(|(left, right)| format!("{left}{right}")).collect();
    let found: Vec<_> =
        sources().iter().flat_map(|source| hits(source, &all(&source.text), &marks)).collect();
    none(&found, "work put off, a test ignored or a lint silenced");
}

#[test]
fn every_read_of_the_store_is_told_whose_rows_it_may_see() {
    let mut found = Vec::new();
    for name in ["event", "event_type", "import_rejection", "status"] {
        let path = format!("domain/src/store/{name}.rs");
        let text = read(&path);
        let functions: Vec<_> = text.split("pub async fn ").skip(1).collect();
        assert!(!functions.is_empty(), "{path} has no public functions: where did they go?");
        for function in functions {
            let signature = function.split('{').next().unwrap();
            if !signature.contains("user_id: Uuid") {
                found.push(format!("{path}: {}", signature.split('(').next().unwrap()));
            }
        }
    }
    none(&found, "store functions without user_id");
}

#[test]
fn the_reading_of_sources_and_manifests_tells_tests_from_the_rest() {
    let text = "a\n// b\n#[cfg(test)]\nmod tests;\nc\n#[cfg(test)]\nmod more {\n    d {\n    }\n}\ne\n";
    assert_eq!(shipped(text), [(1, "a"), (5, "c"), (11, "e")]);
    let manifest = "[dependencies]\na.workspace = true\n# z\nb = \"1\"\n\
                    [dev-dependencies]\nc = { path = \"x\" }\n[dependencies.d]\n\
                    [target.'cfg(unix)'.dependencies]\ne = \"1\"\n[features]\nf = []\n";
    let (ships, dev) = dependencies(manifest);
    assert_eq!(ships.into_iter().collect::<Vec<_>>(), ["a", "b", "d", "e"]);
    assert_eq!(dev.into_iter().collect::<Vec<_>>(), ["c"]);
}
