//! Runs each fuzz target with its seeds and with all inputs that once found a defect.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use fuzzing::{TARGETS, seeds};

/// The timeout of `make fuzz`. Inputs are small and take at most a second on any machine.
const TIMEOUT: Duration = Duration::from_secs(10);

#[test]
fn every_target_passes_with_its_seeds_and_with_inputs_that_once_found_a_defect() {
    for target in TARGETS {
        let seeds = seeds::of(target.name);
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for seed in seeds {
            // If the test fails, this output is shown and its last line names the input.
            println!("{}: {}", target.name, seed.name);
            let started_at = Instant::now();
            (target.body)(&seed.bytes);
            assert!(started_at.elapsed() < TIMEOUT, "the input took {:?}", started_at.elapsed());
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
