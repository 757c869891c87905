//! The `tracehop` program.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// What a session allocates for a sighting is freed by the thread that books it. The system's
/// allocator makes the two wait for each other, which costs more than reading the message.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    tracehop::cli::main(std::env::args_os())
}
