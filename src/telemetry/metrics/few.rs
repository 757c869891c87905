//! Metrics of a family that differ in one label of few values.

/// Each of them is looked up when it is first used.
#[derive(Debug)]
pub(super) struct Few<Key, Metric>(Vec<(Key, Metric)>);

impl<Key: PartialEq, Metric> Few<Key, Metric> {
    pub(super) fn get(&mut self, key: Key, find: impl FnOnce() -> Metric) -> &Metric {
        let known = self.0.iter().position(|(known, _)| *known == key);
        let place = known.unwrap_or_else(|| {
            self.0.push((key, find()));
            self.0.len() - 1
        });
        &self.0[place].1
    }
}

impl<Key, Metric> Default for Few<Key, Metric> {
    fn default() -> Self {
        Self(Vec::new())
    }
}
