//! The binary `idem`.

fn main() -> std::process::ExitCode {
    idem::main()
}
