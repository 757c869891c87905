//! Clocks of other hosts that are ahead of this one's, as far as that shows.
//!
//! When a message was sent is told by the proxy that saw it, by its host's clock. A message that was
//! sent later than it came proves how far that clock is ahead, at least. That it is behind does not
//! show: then messages only seem to have waited longer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use serde::Serialize;

use crate::hop::Delivery;
use crate::telemetry::millis::Millis;
use crate::trace::Timestamp;

/// The skews that were seen of late, by host. Cheap to clone: all of them are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Clocks(Arc<Mutex<HashMap<Box<str>, Seen>>>);

/// The largest skew that was seen of a host, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    ahead: Duration,
    at: Timestamp,
}

/// A host whose clock is ahead of this one's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClockSkew {
    pub(super) host: Box<str>,
    /// At least so far.
    pub(super) ahead_ms: Millis,
    seen_at: Timestamp,
}

impl Clocks {
    /// Learns from a delivery, and notes in it what is known of the clock that told when it was sent.
    pub(super) fn judge(&self, delivery: &mut Arc<Delivery>) {
        // What this proxy saw itself is by one clock.
        if delivery.is_seen_sent || delivery.sent.is_none() {
            return;
        }
        let at = delivery.at;
        let host = sender(delivery);
        let ahead = delivery.sent_ahead();
        let mut hosts = self.hosts();
        if ahead.is_none() && hosts.is_empty() {
            return;
        }
        let known = hosts.get_mut(host).filter(|seen| seen.is_fresh(at));
        let known = match (known, ahead) {
            (Some(seen), Some(ahead)) if ahead >= seen.ahead => {
                *seen = Seen { ahead, at };
                Some(ahead)
            }
            (Some(seen), _) => Some(seen.ahead),
            (None, Some(ahead)) => {
                if hosts.len() >= HOSTS_MAX {
                    hosts.retain(|_, seen| seen.is_fresh(at));
                }
                if hosts.len() < HOSTS_MAX {
                    hosts.insert(host.into(), Seen { ahead, at });
                }
                Some(ahead)
            }
            (None, None) => None,
        };
        if known.is_some() {
            Arc::make_mut(delivery).clock_skew = known;
        }
    }

    /// What is known at `now`, the largest skew first.
    pub(super) fn skews(&self, now: Timestamp) -> Vec<ClockSkew> {
        let hosts = self.hosts();
        let fresh = hosts.iter().filter(|(_, seen)| seen.is_fresh(now));
        let mut skews: Vec<ClockSkew> = fresh
            .map(|(host, seen)| ClockSkew {
                host: host.clone(),
                ahead_ms: Millis(seen.ahead),
                seen_at: seen.at,
            })
            .collect();
        skews.sort_by(|a, b| b.ahead_ms.0.cmp(&a.ahead_ms.0).then(a.host.cmp(&b.host)));
        skews
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<Box<str>, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Clocks are set right sooner or later.
    fn is_fresh(&self, now: Timestamp) -> bool {
        now.since(self.at) <= FRESH
    }
}

/// The host that the message was sent from. Of a retry the message does not tell: it names the host of
/// the first attempt.
fn sender(delivery: &Delivery) -> &str {
    let host = delivery
        .task
        .origin()
        .filter(|_| delivery.task.retries == 0);
    host.filter(|host| !host.is_empty()).unwrap_or("unknown")
}

const FRESH: Duration = Duration::from_secs(600);
const HOSTS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hop::fixture;

    fn delivery(host: &str, sent_ms: u64, at_ms: u64) -> Arc<Delivery> {
        let mut delivery = fixture::delivery("1", None, 5);
        delivery
            .task
            .edit(|task| task.origin = Some(host.to_owned().into()));
        delivery.sent = Some(Timestamp::from_millis(sent_ms));
        delivery.at = Timestamp::from_millis(at_ms);
        delivery.is_seen_sent = false;
        delivery.into()
    }

    fn judged(
        clocks: &Clocks,
        mut delivery: Arc<Delivery>,
    ) -> (Option<Duration>, Option<Duration>) {
        clocks.judge(&mut delivery);
        (delivery.clock_skew, delivery.dwell())
    }

    #[test]
    fn a_message_from_the_future_proves_a_skew_and_has_no_dwell() {
        let clocks = Clocks::default();
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(
            judged(&clocks, delivery("web-1", 1_000, 1_400)),
            (None, ms(400))
        );
        assert_eq!(
            judged(&clocks, delivery("web-1", 5_000, 2_000)),
            (ms(3_000), None)
        );
        // Of the same host it is said from then on, and of others not.
        assert_eq!(
            judged(&clocks, delivery("web-1", 2_000, 2_100)),
            (ms(3_000), ms(100))
        );
        assert_eq!(
            judged(&clocks, delivery("web-2", 2_000, 2_100)),
            (None, ms(100))
        );
        // The largest counts: what came later may have waited.
        assert_eq!(
            judged(&clocks, delivery("web-1", 4_000, 2_200)),
            (ms(3_000), None)
        );
        let skew = |at| clocks.skews(Timestamp::from_millis(at));
        assert_eq!(skew(2_200).len(), 1);
        assert_eq!(
            (&*skew(2_200)[0].host, skew(2_200)[0].ahead_ms.0),
            ("web-1", Duration::from_secs(3))
        );
        // After ten minutes without another it is forgotten.
        assert_eq!(skew(603_000), []);
        assert_eq!(
            judged(&clocks, delivery("web-1", 603_000, 603_100)),
            (None, ms(100))
        );
    }

    #[test]
    fn less_than_a_millisecond_is_no_skew() {
        let clocks = Clocks::default();
        let mut delivery = delivery("web-1", 1_000, 1_000);
        Arc::make_mut(&mut delivery).sent = Some(Timestamp::from_nanos(1_000_900_000));
        assert_eq!(judged(&clocks, delivery), (None, Some(Duration::ZERO)));
    }

    #[test]
    fn a_retry_does_not_say_whose_clock_it_was() {
        let clocks = Clocks::default();
        let mut retry = delivery("web-1", 5_000, 2_000);
        Arc::make_mut(&mut retry).task.edit(|task| task.retries = 1);
        clocks.judge(&mut retry);
        assert_eq!(&*clocks.skews(retry.at)[0].host, "unknown");
    }

    #[test]
    fn hosts_are_bounded() {
        let clocks = Clocks::default();
        for host in 0..HOSTS_MAX + 10 {
            clocks.judge(&mut delivery(&host.to_string(), 5_000, 2_000));
        }
        assert_eq!(clocks.skews(Timestamp::from_millis(2_000)).len(), HOSTS_MAX);
        // Those that are not fresh make room.
        clocks.judge(&mut delivery("late", 5_000_000, 2_000_000));
        assert_eq!(clocks.skews(Timestamp::from_millis(2_000_000)).len(), 1);
    }
}
