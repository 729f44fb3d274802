//! The binary `umbel`.

/// Short-lived handshake state among long-lived sessions fragments a heap. With 10 000 idle sessions
/// jemalloc holds a tenth less than glibc's allocator, and its background thread gives memory back to
/// the machine also when the node has become quiet.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    umbel::cli::main()
}
