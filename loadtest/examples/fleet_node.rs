//! The program `umbel`, built together with the tests of fleets so that it is always the one of this tree.

fn main() -> std::process::ExitCode {
    umbel::cli::main()
}
