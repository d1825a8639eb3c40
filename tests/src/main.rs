//! Runs `idem` for the tests. It is the released program, built in this package so that Cargo tells the tests
//! its path.

fn main() -> std::process::ExitCode {
    idem::main()
}
