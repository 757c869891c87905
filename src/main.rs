//! The `tracehop` program.

use std::process::ExitCode;

use tikv_jemalloc_ctl::background_thread;
use tikv_jemallocator::Jemalloc;

/// What a session allocates for a sighting is freed by the thread that books it. The system's
/// allocator makes the two wait for each other, which costs more than reading the message.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    // By itself it gives back what was freed only while something else is allocated. Where it
    // cannot have a thread for that, it stays so.
    let _ = background_thread::write(true);
    tracehop::cli::main(std::env::args_os())
}
