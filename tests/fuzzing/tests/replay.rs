//! Runs each fuzz target over its seeds and over all inputs that once found a fault.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use fuzzing::{TARGETS, seeds};

/// As long as `make fuzz` waits. Inputs are small: they take a second at most on any machine.
const TIMEOUT: Duration = Duration::from_secs(10);

#[test]
fn every_target_takes_its_seeds_and_what_once_found_a_fault() {
    for target in TARGETS {
        let seeds = seeds::of(target.name);
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for seed in seeds {
            // Of a test that fails this is shown: the last line names the input.
            println!("{}: {}", target.name, seed.name);
            let begin = Instant::now();
            (target.body)(&seed.bytes);
            assert!(begin.elapsed() < TIMEOUT, "it takes {:?}", begin.elapsed());
        }
    }
}

#[test]
fn cargo_fuzz_has_the_same_targets() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
    let files = std::fs::read_dir(folder).expect("there are fuzz targets");
    let mut found: Vec<_> = files.map(|file| file.expect("it can be listed").file_name()).collect();
    let mut expected = TARGETS.map(|target| OsString::from(format!("{}.rs", target.name)));
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}
