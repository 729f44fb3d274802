//! The program `umbel`, built together with the tests so that it is always the one of this tree.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    umbel::cli::main()
}
