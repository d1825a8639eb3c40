//! Collects the seeds of fuzzing: real files from `tests/data/field`, and inputs from `fuzz/`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::csv;

/// Larger files make fuzzing slow.
const BYTES_MAX: usize = 64 * 1024;

/// An input of a target.
#[derive(Debug, Clone)]
pub struct Seed {
    /// A name that has the name of the seed's file in it.
    pub name: String,
    /// The bytes of the input.
    pub bytes: Vec<u8>,
}

/// Returns the seeds of a target, including the inputs that once found a defect.
///
/// # Panics
/// If a file of the repository cannot be read.
#[must_use]
pub fn of(target: &str) -> Vec<Seed> {
    let mut seeds: Vec<_> = field().filter_map(|file| file.seed(target)).collect();
    // Large files of the other tests are left out.
    seeds.retain(|seed| seed.bytes.len() <= BYTES_MAX);
    for kind in ["seeds", "regressions"] {
        let files = files(&format!("fuzz/{kind}/{target}"));
        seeds.extend(
            files.iter().map(|path| Seed { name: format!("{kind}-{}", name(path)), bytes: read(path) }),
        );
    }
    seeds
}

/// A file of `tests/data/field`, and the import in the JSON file beside it.
struct FieldFile {
    name: String,
    payload: Vec<u8>,
    import: Value,
}

impl FieldFile {
    /// Returns the file as a seed of a target, or `None` if the target reads another format.
    fn seed(self, target: &str) -> Option<Seed> {
        let format = self.import["format"].as_str().unwrap_or_default();
        let bytes = match (target, format) {
            ("csv", "CSV") => csv::join(&self.import["csv"], &self.payload),
            ("packing" | "preview", _) | ("ndjson" | "json_reader", "NDJSON") => self.payload,
            ("json" | "json_reader", "JSON") | ("apple_health", "APPLE_HEALTH") => self.payload,
            _ => return None,
        };
        Some(Seed { name: format!("field-{}", self.name), bytes })
    }
}

/// Reads all files of `tests/data/field` that have a JSON file beside them.
fn field() -> impl Iterator<Item = FieldFile> {
    files("tests/data/field").into_iter().filter_map(|path| {
        let beside = PathBuf::from(format!("{}.json", path.display()));
        let expected: Value = serde_json::from_slice(&fs::read(beside).ok()?).ok()?;
        Some(FieldFile { name: name(&path), payload: read(&path), import: expected["import"].clone() })
    })
}

/// Returns the files in a folder of the repository, sorted. Returns none if there is no such folder.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
