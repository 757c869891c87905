//! What keeps the log short when the same thing happens ten thousand times.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

/// Lets a reason into the log once per interval.
#[derive(Debug)]
pub(super) struct Notices {
    interval: Duration,
    told: Mutex<HashMap<&'static str, Told>>,
}

/// When a reason was last told, and how often it was left out since.
#[derive(Debug)]
struct Told {
    at: Instant,
    left_out: u64,
}

impl Notices {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            told: Mutex::default(),
        }
    }

    /// Whether `why` is to be told now. If so: how often it was left out before.
    pub(super) fn due(&self, why: &'static str, now: Instant) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = told.get_mut(why) else {
            told.insert(
                why,
                Told {
                    at: now,
                    left_out: 0,
                },
            );
            return Some(0);
        };
        if now.duration_since(last.at) < self.interval {
            last.left_out += 1;
            return None;
        }
        last.at = now;
        Some(std::mem::take(&mut last.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_per_interval_and_says_how_often_it_was_not() {
        let notices = Notices::new(Duration::from_secs(60));
        let start = Instant::now();
        assert_eq!(notices.due("unreachable", start), Some(0));
        assert_eq!(notices.due("unreachable", start), None);
        assert_eq!(notices.due("panic", start), Some(0));
        assert_eq!(
            notices.due("unreachable", start + Duration::from_secs(59)),
            None
        );
        assert_eq!(
            notices.due("unreachable", start + Duration::from_secs(60)),
            Some(2)
        );
        assert_eq!(
            notices.due("unreachable", start + Duration::from_secs(120)),
            Some(0)
        );
    }
}
