//! The threads that serve connections.

use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::runtime::Handle;

use crate::telemetry::Threads;

/// One thread for each core, with a runtime of its own. A connection stays on the one that it
/// was given to: no thread wakes another for it, and none takes its work.
#[derive(Clone, Debug)]
pub struct Workers(Arc<[Arc<Worker>]>);

/// There are as many references to one as connections have it, and one more.
#[derive(Debug)]
pub(super) struct Worker {
    handle: Handle,
    /// `None`: somebody else's.
    _thread: Option<Threads>,
}

impl Workers {
    /// Starts as many threads as there are cores.
    pub fn start() -> io::Result<Self> {
        let count = available_parallelism().map_or(1, NonZero::get);
        let start = |_| {
            let thread = Threads::start("session", 1)?;
            Ok(Arc::new(Worker {
                handle: thread.handle().clone(),
                _thread: Some(thread),
            }))
        };
        Ok(Self((0..count).map(start).collect::<io::Result<_>>()?))
    }

    /// The runtime that this is called in. For tests.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn here() -> Self {
        let worker = Worker {
            handle: Handle::current(),
            _thread: None,
        };
        Self([Arc::new(worker)].into())
    }

    /// The one that has fewest connections. It has one more for as long as this is kept.
    pub(super) fn least_busy(&self) -> Option<Arc<Worker>> {
        let workers = self.0.iter();
        workers
            .min_by_key(|worker| Arc::strong_count(worker))
            .cloned()
    }
}

impl Worker {
    pub(super) const fn handle(&self) -> &Handle {
        &self.handle
    }
}
