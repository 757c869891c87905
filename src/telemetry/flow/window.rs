//! What happened within the last minute: in slots of a few seconds, of which the oldest is
//! used anew.

use std::time::Duration;

use crate::telemetry::millis::Millis;
use crate::trace::Timestamp;

/// One value for each slot of time.
#[derive(Clone, Debug, Default)]
pub(super) struct Window<T> {
    slots: [Slot<T>; SLOTS],
}

#[derive(Clone, Debug, Default)]
struct Slot<T> {
    /// Which slot it is, counted from the beginning of time.
    number: u64,
    value: T,
}

impl<T: Clear> Window<T> {
    /// The value of the slot that `at` is in; `None` where that has been used anew.
    pub(super) fn at(&mut self, at: Timestamp) -> Option<&mut T> {
        let number = number_of(at);
        let slot = &mut self.slots[(number % SLOTS as u64) as usize];
        if slot.number < number {
            slot.number = number;
            slot.value.clear();
        }
        (slot.number == number).then_some(&mut slot.value)
    }

    /// The values of the last minute.
    pub(super) fn recent(&self, now: Timestamp) -> impl Iterator<Item = &T> {
        let current = number_of(now);
        let first = (current + 1).saturating_sub(SLOTS as u64);
        let recent = move |slot: &&Slot<T>| (first..=current).contains(&slot.number);
        self.slots.iter().filter(recent).map(|slot| &slot.value)
    }
}

/// What a slot is made empty by.
pub(super) trait Clear {
    fn clear(&mut self);
}

impl Clear for u64 {
    fn clear(&mut self) {
        *self = 0;
    }
}

/// How often something happened.
pub(super) type Rate = Window<u64>;

impl Rate {
    pub(super) fn count(&mut self, at: Timestamp) {
        if let Some(count) = self.at(at) {
            *count += 1;
        }
    }

    /// How often in a second, where it was counted from `since` on.
    pub(super) fn per_second(&self, since: Timestamp, now: Timestamp) -> f64 {
        let count: u64 = self.recent(now).sum();
        let slot_began = number_of(now) * SLOT.as_nanos() as u64;
        let in_slot = now.since(Timestamp::from_nanos(slot_began));
        let covered = SLOT * (SLOTS as u32 - 1) + in_slot;
        let covered = covered.min(now.since(since)).max(Duration::from_secs(1));
        let rate = count as f64 / covered.as_secs_f64();
        (rate * 1_000.0).round() / 1_000.0
    }
}

fn number_of(at: Timestamp) -> u64 {
    at.as_nanos() / SLOT.as_nanos() as u64
}

/// Lengths of time, each counted with those that are within a sixteenth of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Lengths {
    /// How many there are, by what [`index_of`] says of them.
    counts: Vec<u32>,
}

impl Clear for Lengths {
    fn clear(&mut self) {
        self.counts.clear();
    }
}

impl Window<Lengths> {
    pub(super) fn add(&mut self, at: Timestamp, length: Duration) {
        let Some(lengths) = self.at(at) else { return };
        let index = index_of(u64::try_from(length.as_micros()).unwrap_or(u64::MAX));
        if lengths.counts.len() <= index {
            lengths.counts.resize(index + 1, 0);
        }
        lengths.counts[index] = lengths.counts[index].saturating_add(1);
    }

    /// For each of `shares` the length that this share of all does not exceed; `None` where
    /// there is none.
    pub(super) fn quantiles<const N: usize>(
        &self,
        shares: [f64; N],
        now: Timestamp,
    ) -> [Option<Millis>; N] {
        let mut counts = Vec::new();
        for lengths in self.recent(now) {
            if counts.len() < lengths.counts.len() {
                counts.resize(lengths.counts.len(), 0_u64);
            }
            for (sum, count) in counts.iter_mut().zip(&lengths.counts) {
                *sum += u64::from(*count);
            }
        }
        let all: u64 = counts.iter().sum();
        shares.map(|share| {
            let rank = ((all as f64 * share).ceil() as u64).max(1);
            let mut below = 0;
            let index = counts.iter().position(|count| {
                below += count;
                below >= rank
            });
            index.map(|index| Millis(Duration::from_micros(middle_of(index))))
        })
    }
}

/// Of a number of microseconds: itself up to 8, from there on eight for each power of two.
fn index_of(micros: u64) -> usize {
    let shift = (u64::BITS - micros.leading_zeros()).saturating_sub(BITS + 1);
    ((u64::from(shift) << BITS) + (micros >> shift)) as usize
}

/// A number in the middle of those with that index.
fn middle_of(index: usize) -> u64 {
    let shift = (index >> BITS).saturating_sub(1);
    let first = (index - (shift << BITS)) as u64;
    (first << shift) + (1 << shift) / 2
}

pub(super) const WINDOW: Duration = Duration::from_secs(60);
const SLOTS: usize = 12;
const SLOT: Duration = Duration::from_secs(5);
const BITS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn lengths_are_told_to_within_a_sixteenth() {
        for micros in (0..5_000).chain((12..63).flat_map(|bit| [1 << bit, (1 << bit) - 1])) {
            let told = middle_of(index_of(micros));
            assert!(told.abs_diff(micros) <= micros / 16, "{micros}: {told}");
            assert!(index_of(micros) <= index_of(micros + 1));
        }
        assert!(index_of(u64::MAX) < 512);
    }

    #[test]
    fn quantiles_are_those_of_the_last_minute() {
        let mut window = Window::<Lengths>::default();
        let quantiles = |window: &Window<Lengths>, now| {
            window
                .quantiles([0.5, 0.95], seconds(now))
                .map(|length| length.map(|Millis(length)| length.as_micros()))
        };
        assert_eq!(quantiles(&window, 100), [None, None]);
        for micros in 1..=8 {
            window.add(seconds(100), Duration::from_micros(micros));
        }
        assert_eq!(quantiles(&window, 100), [Some(4), Some(8)]);
        window.add(seconds(130), Duration::from_micros(0));
        assert_eq!(quantiles(&window, 154), [Some(4), Some(8)]);
        assert_eq!(quantiles(&window, 160), [Some(0), Some(0)]);
        assert_eq!(quantiles(&window, 500), [None, None]);
    }

    #[test]
    fn a_rate_is_that_of_the_time_it_was_counted_in() {
        let mut rate = Rate::default();
        for _ in 0..110 {
            rate.count(seconds(100));
        }
        for (since, now, told) in [
            (0, 100, 2.0),
            (90, 100, 11.0),
            // No shorter than a second.
            (100, 100, 110.0),
            (0, 154, 110.0 / 59.0),
            (0, 160, 0.0),
            (0, 50, 0.0),
        ] {
            let rate = rate.per_second(seconds(since), seconds(now));
            assert!((rate - told).abs() < 0.001, "{since} {now}: {rate}");
        }
    }

    #[test]
    fn what_comes_too_late_is_left_out() {
        let mut rate = Rate::default();
        rate.count(seconds(160));
        rate.count(seconds(100));
        assert_eq!(rate.per_second(seconds(159), seconds(160)), 1.0);
        rate.count(Timestamp::from_nanos(u64::MAX));
        rate.count(seconds(160));
    }
}
