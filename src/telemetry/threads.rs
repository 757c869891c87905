//! Threads with work of their own, for which no other waits.

use std::convert::Infallible;
use std::io;
use std::thread;

use tokio::runtime::Builder;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// A runtime of its own, for connections or for what they must not wait for. It stops when
/// this is dropped, without waiting for what it is at: that may happen on a thread of a
/// runtime, even of this one, which must not block.
#[derive(Debug)]
pub struct Threads {
    handle: Handle,
    /// It stops when this is dropped.
    _stop: oneshot::Sender<Infallible>,
}

impl Threads {
    /// Starts `count` threads, and one more to stop them by where there are several.
    ///
    /// One alone takes turns: whoever is ready waits in one queue. Several have a short one each
    /// and one that they share; with hundreds of connections ready at once, those that end up
    /// in the latter wait for many turns of the others.
    pub fn start(name: &str, count: usize) -> io::Result<Self> {
        let mut builder = match count {
            1 => Builder::new_current_thread(),
            _ => Builder::new_multi_thread(),
        };
        builder.worker_threads(count).thread_name(name).enable_all();
        let runtime = builder.build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        };
        thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self {
            handle,
            _stop: stop,
        })
    }

    /// Starts tasks on them.
    #[must_use]
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }
}
