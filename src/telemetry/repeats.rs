//! What would be said over and over is said once per interval.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use tracing::Event;
use tracing::Level;
use tracing::Metadata;
use tracing_subscriber::layer::Context;
use tracing_subscriber::layer::Filter;

/// Lets the first of its kind through, then none of it for an interval.
///
/// Kinds are never forgotten, so they have to be few: fixed words and route names.
#[derive(Debug)]
pub struct Repeats<Kind> {
    interval: Duration,
    said: HashMap<Kind, Said>,
}

#[derive(Debug)]
struct Said {
    at: Instant,
    suppressed: u64,
}

impl<Kind: Eq + Hash> Repeats<Kind> {
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            said: HashMap::new(),
        }
    }

    /// Whether to say it at `now`: with the number of times that it was not said since the
    /// last time it was.
    pub fn admit(&mut self, kind: Kind, now: Instant) -> Option<u64> {
        let Some(said) = self.said.get_mut(&kind) else {
            let said = Said {
                at: now,
                suppressed: 0,
            };
            self.said.insert(kind, said);
            return Some(0);
        };
        if now.duration_since(said.at) < self.interval {
            said.suppressed += 1;
            return None;
        }
        said.at = now;
        Some(std::mem::take(&mut said.suppressed))
    }
}

/// A filter for the log: each message of the OpenTelemetry SDK passes once per interval,
/// everything else as it comes.
///
/// The SDK warns at every failed export, which with a dead collector is about once a
/// second. The count is in the metrics, and [`Telemetry`](super::Telemetry) logs it.
#[derive(Debug)]
pub struct QuietSdk {
    repeats: Mutex<Repeats<&'static str>>,
}

impl QuietSdk {
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self {
            repeats: Mutex::new(Repeats::new(interval)),
        }
    }
}

impl<S> Filter<S> for QuietSdk {
    fn enabled(&self, _metadata: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _context: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if !metadata.target().starts_with("opentelemetry") || *metadata.level() > Level::INFO {
            return true;
        }
        self.repeats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .admit(metadata.name(), Instant::now())
            .is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::captured::Captured;

    #[test]
    fn a_repetition_is_told_with_the_number_that_was_not() {
        let mut repeats = Repeats::new(Duration::from_secs(60));
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(repeats.admit("a", start), Some(0));
        assert_eq!(repeats.admit("a", after(1)), None);
        assert_eq!(repeats.admit("b", after(2)), Some(0));
        assert_eq!(repeats.admit("a", after(59)), None);
        assert_eq!(repeats.admit("a", after(60)), Some(2));
        assert_eq!(repeats.admit("a", after(120)), Some(0));
    }

    #[test]
    fn the_sdk_is_heard_once_and_the_others_always() {
        let log = Captured::during(QuietSdk::new(Duration::from_secs(60)), || {
            for _ in 0..3 {
                tracing::warn!(target: "opentelemetry-otlp", name = "Export.Failed", "lost");
                tracing::warn!("ours");
            }
        });
        assert_eq!(log.lines_with("lost").len(), 1);
        assert_eq!(log.lines_with("ours").len(), 3);
    }
}
