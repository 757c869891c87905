//! Threads with work of their own, for which no other waits.

use std::convert::Infallible;
use std::io;
use std::thread;

use tokio::runtime::Builder;
use tokio::runtime::Handle;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// A runtime of its own, for connections or for what they must not wait for. It stops when
/// this is dropped, without waiting for what it is at: that may happen on a thread of a
/// runtime, even of this one, which must not block.
#[derive(Debug)]
pub struct Threads {
    handle: Handle,
    /// That of several threads; dropped in the background.
    several: Option<Runtime>,
    /// One alone ends when this is dropped.
    _alone: Option<oneshot::Sender<Infallible>>,
}

impl Threads {
    /// Starts `count` threads.
    ///
    /// One alone takes turns: whoever is ready waits in one queue. Several have a short one each
    /// and one that they share; with hundreds of connections ready at once, those that end up
    /// in the latter wait for many turns of the others.
    pub fn start(name: &str, count: usize) -> io::Result<Self> {
        if count == 1 {
            return Self::alone(name);
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(count)
            .thread_name(name)
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            several: Some(runtime),
            _alone: None,
        })
    }

    fn alone(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (alone, dropped) = oneshot::channel();
        let run = move || {
            let _ = runtime.block_on(dropped);
            runtime.shutdown_background();
        };
        thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self {
            handle,
            several: None,
            _alone: Some(alone),
        })
    }

    /// Starts tasks on them.
    #[must_use]
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.several.take() {
            runtime.shutdown_background();
        }
    }
}
