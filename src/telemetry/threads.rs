//! Threads with work of their own, for which no other waits.

use std::io;

use tokio::runtime::Builder;
use tokio::runtime::Handle;
use tokio::runtime::Runtime;

/// A runtime of its own, for connections or for what they must not wait for. It stops when
/// this is dropped, without waiting for what it is at: that may happen on a thread of a
/// runtime, even of this one, which must not block.
#[derive(Debug)]
pub struct Threads(Option<Runtime>);

impl Threads {
    pub fn start(name: &str, count: usize) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(count)
            .thread_name(name)
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Starts tasks on them.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        let runtime = self.0.as_ref();
        runtime.expect("it is there until this is dropped").handle()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
