use std::hash::Hash;
use std::mem;

use foldhash::HashMap;

/// A map that forgets what it was not asked for in a long time.
///
/// It holds two generations. When the young are as many as it shall hold they become the old,
/// and those that were old are forgotten. To forget so costs nothing for each, and touches
/// no memory that has gone cold.
#[derive(Debug)]
pub struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    young_max: usize,
    has_forgotten: bool,
}

impl<K: Copy + Eq + Hash, V: Copy> Generations<K, V> {
    /// Holds the last `young_max` for sure, and no more than twice as many; not less than one.
    #[must_use]
    pub fn new(young_max: usize) -> Self {
        Self {
            young: HashMap::default(),
            old: HashMap::default(),
            young_max: young_max.max(1),
            has_forgotten: false,
        }
    }

    /// Whether any was forgotten so far.
    #[must_use]
    pub const fn has_forgotten(&self) -> bool {
        self.has_forgotten
    }

    /// Stands for what was there by that key.
    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.young_max && !self.young.contains_key(&key) {
            mem::swap(&mut self.young, &mut self.old);
            self.has_forgotten |= !self.young.is_empty();
            self.young.clear();
        }
        self.young.insert(key, value);
    }

    /// Acts on what is there by that key, which is young again.
    pub fn with<U>(&mut self, key: K, act: impl FnOnce(&mut V) -> U) -> Option<U> {
        if let Some(value) = self.young.get_mut(&key) {
            return Some(act(value));
        }
        let mut value = self.old.remove(&key)?;
        let outcome = act(&mut value);
        self.insert(key, value);
        Some(outcome)
    }

    pub fn remove(&mut self, key: K) {
        self.young.remove(&key);
        self.old.remove(&key);
    }

    pub fn values(&self) -> impl Iterator<Item = &V> {
        let old = self.old.iter();
        let old = old.filter(|(key, _)| !self.young.contains_key(key));
        self.young.values().chain(old.map(|(_, value)| value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn of_too_many_the_oldest_are_forgotten_unless_somebody_asks_for_them() {
        let mut generations = Generations::new(5);
        for number in 0..100 {
            generations.insert(number, number);
            assert_eq!(generations.with(number, |it| *it), Some(number));
            assert_eq!(generations.with(0, |it| *it), Some(0));
            assert_eq!(generations.has_forgotten(), number >= 9, "{number}");
        }
        let mut held: Vec<i32> = generations.values().copied().collect();
        held.sort_unstable();
        assert_eq!(held, [0, 93, 94, 95, 96, 97, 98, 99]);
    }

    proptest! {
        #[test]
        fn it_is_a_map_of_what_came_last(
            max in 0..6_usize,
            steps in vec((0..3_u8, 0..8_u8), 0..100),
        ) {
            let mut generations = Generations::new(max);
            // The last first; those that were removed count as well.
            let mut expected: Vec<(u8, Option<usize>)> = Vec::new();
            for (number, (step, key)) in steps.into_iter().enumerate() {
                let place = expected.iter().position(|(known, _)| *known == key);
                let known = place.and_then(|place| expected.remove(place).1);
                let known = match step {
                    0 => {
                        generations.insert(key, number);
                        Some(number)
                    }
                    1 => {
                        let found = generations.with(key, |it| *it);
                        prop_assert!(found.is_none() || found == known);
                        found
                    }
                    _ => {
                        generations.remove(key);
                        None
                    }
                };
                if known.is_some() || place.is_some() {
                    expected.insert(0, (key, known));
                }
                let held: Vec<usize> = generations.values().copied().collect();
                prop_assert!(held.len() <= 2 * max.max(1));
                let is_held = |(_, value): &(u8, Option<usize>)| {
                    value.is_none_or(|value| held.contains(&value))
                };
                let mut sure = expected.iter().take(max.max(1));
                prop_assert!(sure.all(is_held));
                prop_assert!(generations.has_forgotten() || expected.iter().all(is_held));
                prop_assert!(held.iter().all(|held| expected.iter().any(|(_, it)| *it == Some(*held))));
            }
        }
    }
}
