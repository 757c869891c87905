//! A log to look at, for tests.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;

use tracing_subscriber::Layer;
use tracing_subscriber::Registry;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::Filter;
use tracing_subscriber::layer::SubscriberExt;

/// What was logged.
#[derive(Clone, Default)]
pub(super) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// Runs `work` with a log that `filter` is before.
    pub(super) fn during(
        filter: impl Filter<Registry> + Send + Sync + 'static,
        work: impl FnOnce(),
    ) -> Self {
        let captured = Self::default();
        let writer = captured.clone();
        let layer = fmt::layer()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .with_filter(filter);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        captured
    }

    /// The lines that have `words` in them.
    pub(super) fn lines_with(&self, words: &str) -> Vec<String> {
        let log = self.0.lock().unwrap();
        let lines = str::from_utf8(&log).unwrap().lines();
        lines
            .filter(|line| line.contains(words))
            .map(str::to_owned)
            .collect()
    }
}

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
