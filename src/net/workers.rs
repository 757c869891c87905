//! The threads that serve connections: one that opens them, and those that relay.

use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::runtime::Handle;

use crate::telemetry::Threads;

/// One thread for each core, with a runtime of its own, that relays. A connection stays on the
/// one that it was given to: no thread wakes another for it, and none takes its work.
///
/// It is accepted, and its broker is found, on a thread apart: however many come at once, those
/// that are open feel only what is ready.
#[derive(Clone, Debug)]
pub struct Workers {
    opener: Arc<Worker>,
    relays: Arc<[Arc<Worker>]>,
}

/// There are as many references to one as connections have it, and one more.
#[derive(Debug)]
pub(super) struct Worker {
    handle: Handle,
    /// `None`: somebody else's.
    _thread: Option<Threads>,
}

impl Workers {
    /// Starts as many threads as there are cores, and one.
    pub fn start() -> io::Result<Self> {
        let count = available_parallelism().map_or(1, NonZero::get);
        Ok(Self {
            opener: Worker::start("open")?,
            relays: (0..count)
                .map(|_| Worker::start("session"))
                .collect::<io::Result<_>>()?,
        })
    }

    /// The runtime that this is called in. For tests.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn here() -> Self {
        let here = Arc::new(Worker {
            handle: Handle::current(),
            _thread: None,
        });
        Self {
            opener: Arc::clone(&here),
            relays: [here].into(),
        }
    }

    /// Where connections are accepted, and their brokers found.
    pub(super) fn opener(&self) -> &Handle {
        self.opener.handle()
    }

    /// The one that relays fewest connections. It has one more for as long as this is kept.
    pub(super) fn least_busy(&self) -> Arc<Worker> {
        let relays = self.relays.iter();
        let least_busy = relays.min_by_key(|worker| Arc::strong_count(worker));
        Arc::clone(least_busy.unwrap_or(&self.opener))
    }
}

impl Worker {
    fn start(name: &str) -> io::Result<Arc<Self>> {
        let thread = Threads::start(name, 1)?;
        Ok(Arc::new(Self {
            handle: thread.handle().clone(),
            _thread: Some(thread),
        }))
    }

    pub(super) const fn handle(&self) -> &Handle {
        &self.handle
    }
}
