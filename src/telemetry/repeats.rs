//! What would be said over and over is said once per interval.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;
use std::time::Instant;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
