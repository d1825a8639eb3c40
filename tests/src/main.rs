//! The binary `idem` as the tests start it: the same, but built beside them.

fn main() -> std::process::ExitCode {
    idem::main()
}
