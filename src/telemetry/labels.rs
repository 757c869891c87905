//! Label values that come from peers: made cut, and bounded in number.

use std::sync::Arc;

use foldhash::HashSet;

use crate::hop::Answer;

/// The values that the labels `destination`, `task` and `producer` may take.
///
/// The first ones keep their names; what comes beyond the limit is [`OTHER`]. Names once
/// given stay, and anybody who can connect can name queues and tasks: how much room there is
/// for a new name depends on its [`Standing`]. Pairs of them are bounded too, for it is they
/// that become time series.
#[derive(Debug)]
pub(super) struct Labels {
    destinations: Values,
    tasks: Values,
    producers: Values,
    with_tasks: Pairs,
    with_producers: Pairs,
}

impl Labels {
    /// At most `values_max` values for each label, and ten times as many pairs.
    pub(super) fn new(values_max: usize) -> Self {
        Self {
            destinations: Values::new(values_max),
            tasks: Values::new(values_max),
            producers: Values::new(values_max),
            with_tasks: Pairs::new(values_max.saturating_mul(10)),
            with_producers: Pairs::new(values_max.saturating_mul(10)),
        }
    }

    pub(super) fn destination(&mut self, name: &str, standing: Standing) -> Arc<str> {
        self.destinations.value(name, standing)
    }

    pub(super) fn task(&mut self, name: &str, standing: Standing) -> Arc<str> {
        self.tasks.value(name, standing)
    }

    pub(super) fn destination_and_task(
        &mut self,
        destination: &str,
        task: &str,
        standing: Standing,
    ) -> (Arc<str>, Arc<str>) {
        let pair = (
            self.destinations.value(destination, standing),
            self.tasks.value(task, standing),
        );
        self.with_tasks.pair(pair, &self.tasks.other, standing)
    }

    pub(super) fn destination_and_producer(
        &mut self,
        destination: &str,
        producer: &str,
        standing: Standing,
    ) -> (Arc<str>, Arc<str>) {
        let pair = (
            self.destinations.value(destination, standing),
            self.producers.value(producer, standing),
        );
        self.with_producers
            .pair(pair, &self.producers.other, standing)
    }
}

/// What speaks for the names that a message bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The broker took it, so it has let its sender in.
    Confirmed,
    /// No answer was to be had, from a broker that may have taken it.
    Unanswered,
    /// The broker did not take it, as far as is known.
    Unproven,
}

impl Standing {
    /// Of the names in a publication with this answer.
    pub(super) const fn of(answer: &Answer) -> Self {
        match answer {
            Answer::Confirmed => Self::Confirmed,
            Answer::Unanswered => Self::Unanswered,
            Answer::Refused(_)
            | Answer::Discarded
            | Answer::Unread
            | Answer::Lost
            | Answer::Expired => Self::Unproven,
        }
    }

    /// How many of `max` names there may be for this one still to be given.
    pub(super) const fn room(self, max: usize) -> usize {
        match self {
            Self::Confirmed => max,
            Self::Unanswered => max.div_ceil(2),
            Self::Unproven => 0,
        }
    }
}

/// The values of one label.
#[derive(Debug)]
struct Values {
    known: HashSet<Arc<str>>,
    max: usize,
    other: Arc<str>,
}

impl Values {
    fn new(max: usize) -> Self {
        Self {
            known: HashSet::default(),
            max,
            other: Arc::from(OTHER),
        }
    }

    fn value(&mut self, name: &str, standing: Standing) -> Arc<str> {
        let name = cut(name);
        if let Some(known) = self.known.get(name) {
            return Arc::clone(known);
        }
        if self.known.len() >= standing.room(self.max) {
            return Arc::clone(&self.other);
        }
        let new: Arc<str> = Arc::from(name);
        self.known.insert(Arc::clone(&new));
        new
    }
}

/// Values of two labels that go together.
#[derive(Debug)]
struct Pairs {
    known: HashSet<(Arc<str>, Arc<str>)>,
    max: usize,
}

impl Pairs {
    fn new(max: usize) -> Self {
        Self {
            known: HashSet::default(),
            max,
        }
    }

    /// The pair itself, or its first half and `other` where there is no room for it.
    fn pair(
        &mut self,
        pair: (Arc<str>, Arc<str>),
        other: &Arc<str>,
        standing: Standing,
    ) -> (Arc<str>, Arc<str>) {
        if self.known.contains(&pair) {
            return pair;
        }
        if self.known.len() < standing.room(self.max) {
            self.known.insert(pair.clone());
            return pair;
        }
        (pair.0, Arc::clone(other))
    }
}

/// Whether a value stands for others; or is called as if it did.
pub(super) fn is_other(value: &str) -> bool {
    value == OTHER
}

/// As much of a name as is shown in labels and on the page.
pub(super) fn cut(name: &str) -> &str {
    if name.len() <= CHARACTERS_MAX {
        return name;
    }
    let end = name.char_indices().nth(CHARACTERS_MAX);
    end.map_or(name, |(end, _)| &name[..end])
}

/// What stands for the values beyond the limit.
const OTHER: &str = "other";
const CHARACTERS_MAX: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_beyond_the_limit_are_other() {
        let mut labels = Labels::new(2);
        for (name, value) in [("a", "a"), ("b", "b"), ("c", "other"), ("a", "a")] {
            assert_eq!(&*labels.destination(name, Standing::Confirmed), value);
        }
    }

    #[test]
    fn what_is_not_confirmed_leaves_room_for_what_is() {
        let mut labels = Labels::new(4);
        for (name, standing, value) in [
            ("a", Standing::Unproven, "other"),
            ("a", Standing::Unanswered, "a"),
            ("a", Standing::Unproven, "a"),
            ("b", Standing::Unanswered, "b"),
            ("c", Standing::Unanswered, "other"),
            ("c", Standing::Confirmed, "c"),
            ("d", Standing::Confirmed, "d"),
            ("e", Standing::Confirmed, "other"),
        ] {
            assert_eq!(&*labels.destination(name, standing), value);
        }
    }

    #[test]
    fn pairs_beyond_the_limit_keep_their_destination() {
        for (standing, pairs_max) in [(Standing::Confirmed, 400), (Standing::Unanswered, 200)] {
            let mut labels = Labels::new(40);
            let pairs = (0..20).flat_map(|queue| (0..40).map(move |task| (queue, task)));
            let mut seen = HashSet::default();
            for (queue, task) in pairs {
                // Both names are known.
                let (queue, task) = (queue.to_string(), task.to_string());
                labels.destinations.value(&queue, Standing::Confirmed);
                labels.tasks.value(&task, Standing::Confirmed);
                seen.insert(labels.destination_and_task(&queue, &task, standing));
            }
            let (others, named): (Vec<_>, Vec<_>) = seen.iter().partition(|pair| &*pair.1 == OTHER);
            assert_eq!(named.len(), pairs_max);
            assert_eq!(others.len(), 20 - pairs_max / 40);
        }
    }

    #[test]
    fn what_is_long_is_cut() {
        assert_eq!(cut("größe"), "größe");
        assert_eq!(cut(&"ö".repeat(500)), "ö".repeat(120));
    }
}
