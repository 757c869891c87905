//! Who did not answer lately.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

/// Those that hung, each for a while. Who refuses costs no time, and is not remembered.
#[derive(Debug)]
pub(super) struct Silent<K>(Mutex<HashMap<K, Instant>>);

impl<K> Default for Silent<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash> Silent<K> {
    /// Puts those that hung lately behind the others; otherwise the order stays.
    pub(super) fn sort_last<T>(&self, candidates: &mut [T], key: impl Fn(&T) -> K) {
        if candidates.len() > 1 {
            candidates.sort_by_cached_key(|candidate| self.is_avoided(key(candidate)));
        }
    }

    /// Once its time is over, the one who asks first is to find out how things are; meanwhile
    /// the others go on avoiding it.
    fn is_avoided(&self, who: K) -> bool {
        let now = Instant::now();
        match self.known().get_mut(&who) {
            Some(until) if *until <= now => {
                *until = now + AVOIDED_FOR;
                false
            }
            known => known.is_some(),
        }
    }

    /// Begins to wait for an answer. Whether it ends without one or is dropped: who let us wait
    /// for `patience` is remembered.
    pub(super) fn wait(&self, who: K, patience: Duration) -> Wait<'_, K> {
        Wait {
            silent: self,
            who,
            silent_from: Instant::now() + patience,
            is_answered: false,
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<K, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wait for somebody's answer.
#[derive(Debug)]
pub(super) struct Wait<'a, K: Clone + Eq + Hash> {
    silent: &'a Silent<K>,
    who: K,
    silent_from: Instant,
    is_answered: bool,
}

impl<K: Clone + Eq + Hash> Wait<'_, K> {
    /// Whoever says anything in time, be it no, is not silent.
    pub(super) fn end(mut self, is_well: bool) {
        self.is_answered = is_well || Instant::now() < self.silent_from;
    }
}

impl<K: Clone + Eq + Hash> Drop for Wait<'_, K> {
    fn drop(&mut self) {
        let now = Instant::now();
        if self.is_answered {
            self.silent.known().remove(&self.who);
        } else if now >= self.silent_from {
            let mut known = self.silent.known();
            // Addresses that nobody has any more would stay otherwise.
            known.retain(|_, until| *until + AVOIDED_FOR > now);
            known.insert(self.who.clone(), now + AVOIDED_FOR);
        }
    }
}

const AVOIDED_FOR: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn order(silent: &Silent<char>) -> String {
        let mut candidates = ['a', 'b', 'c'];
        silent.sort_last(&mut candidates, |candidate| *candidate);
        candidates.iter().collect()
    }

    fn hang(silent: &Silent<char>, who: char) {
        drop(silent.wait(who, Duration::ZERO));
    }

    #[test]
    fn who_hung_comes_last() {
        let silent = Silent::default();
        assert_eq!(order(&silent), "abc");
        hang(&silent, 'a');
        assert_eq!(order(&silent), "bca");
        silent.wait('b', Duration::ZERO).end(false);
        assert_eq!(order(&silent), "cab");
        hang(&silent, 'c');
        assert_eq!(order(&silent), "abc", "all alike");
    }

    #[test]
    fn after_a_while_one_finds_out_and_the_others_wait_for_that() {
        let silent = Silent::default();
        silent.known().insert('a', Instant::now());
        assert_eq!(order(&silent), "abc");
        assert_eq!(order(&silent), "bca");
        silent.wait('a', LONG).end(true);
        assert_eq!(order(&silent), "abc");
    }

    #[test]
    fn a_quick_no_is_an_answer_and_so_is_a_late_yes() {
        for (patience, is_well) in [(LONG, false), (Duration::ZERO, true)] {
            let silent = Silent::default();
            hang(&silent, 'a');
            silent.wait('a', patience).end(is_well);
            assert_eq!(order(&silent), "abc");
        }
    }

    #[test]
    fn who_left_early_has_learnt_nothing() {
        let silent = Silent::default();
        drop(silent.wait('a', LONG));
        assert_eq!(order(&silent), "abc");
        hang(&silent, 'a');
        drop(silent.wait('a', LONG));
        assert_eq!(order(&silent), "bca");
    }

    #[test]
    fn what_nobody_asks_for_any_more_is_forgotten() {
        let silent = Silent::default();
        let long_ago = Instant::now()
            .checked_sub(AVOIDED_FOR)
            .expect("a running machine");
        silent.known().insert('a', long_ago);
        hang(&silent, 'b');
        assert_eq!(silent.known().len(), 1);
    }
}
