//! The `idem` binary. Everything is in the library, so that the tests can build a binary of their own from
//! it.

fn main() -> std::process::ExitCode {
    idem::main()
}
