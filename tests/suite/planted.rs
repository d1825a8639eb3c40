//! The tests of the tests: with a mistake planted, the test that guards against it must fail.

use std::process::Command;

/// Runs one test of this binary under a planted mistake; whether it passed, and what it said.
fn run(test: &str, plant: &str) -> (bool, String) {
    let binary = std::env::current_exe().unwrap();
    let output = Command::new(binary).args(["--exact", test]).env("IDEM_PLANT", plant).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn catches(test: &str, plant: &str) {
    let (passed, said) = run(test, "none");
    assert!(passed && said.contains("1 passed"), "without a mistake it passes: {said}");
    let (passed, said) = run(test, plant);
    assert!(!passed && said.contains("1 failed"), "{plant} is not caught: {said}");
}

#[test]
fn positions_taken_before_their_rows_are_caught_on_sqlite() {
    catches("feed::sqlite::a_reader_misses_nothing_of_a_writer_that_is_slow_to_commit", "plant-late-lock");
}

#[test]
fn positions_taken_before_their_rows_are_caught_on_postgres() {
    catches("feed::postgres::a_reader_misses_nothing_of_a_writer_that_is_slow_to_commit", "plant-late-lock");
}

#[test]
fn a_lock_and_a_load_in_one_statement_are_caught_on_postgres() {
    catches(
        "writes::postgres::thirty_two_clients_that_send_the_same_500_events_store_each_once",
        "plant-one-statement",
    );
}
