//! Label values that come from peers: made printable, and bounded in number.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

/// The values that the labels `destination` and `task` may take.
///
/// The first ones that are proven keep their names; what comes beyond the limit is
/// [`OTHER`], and so is what is not proven and not known: anybody who can connect can name
/// queues and tasks, and names once given stay. The pairs are bounded too, for it is they
/// that become time series.
#[derive(Debug)]
pub(super) struct Labels {
    destinations: Values,
    tasks: Values,
    pairs: HashSet<(Arc<str>, Arc<str>)>,
    pairs_max: usize,
}

impl Labels {
    /// At most `values_max` values for each label, and ten times as many pairs.
    pub(super) fn new(values_max: usize) -> Self {
        Self {
            destinations: Values::new(values_max),
            tasks: Values::new(values_max),
            pairs: HashSet::new(),
            pairs_max: values_max.saturating_mul(10),
        }
    }

    /// Whatever is known by this name.
    pub(super) fn destination(&mut self, name: &str) -> Arc<str> {
        self.destinations.value(name, false)
    }

    /// Where the two are `proven`, they may become known by it.
    pub(super) fn destination_and_task(
        &mut self,
        name: &str,
        task: &str,
        proven: bool,
    ) -> (Arc<str>, Arc<str>) {
        let destination = self.destinations.value(name, proven);
        let pair = (destination, self.tasks.value(task, proven));
        if self.pairs.contains(&pair) {
            return pair;
        }
        if proven && self.pairs.len() < self.pairs_max {
            self.pairs.insert(pair.clone());
            return pair;
        }
        (pair.0, Arc::clone(&self.tasks.other))
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
            known: HashSet::new(),
            max,
            other: Arc::from(OTHER),
        }
    }

    fn value(&mut self, name: &str, proven: bool) -> Arc<str> {
        let name = printable(name);
        if let Some(known) = self.known.get(name.as_ref()) {
            return Arc::clone(known);
        }
        if !proven || self.known.len() == self.max {
            return Arc::clone(&self.other);
        }
        let new: Arc<str> = Arc::from(name);
        self.known.insert(Arc::clone(&new));
        new
    }
}

/// `name` with a question mark for each control character, and cut where it is too long.
fn printable(name: &str) -> Cow<'_, str> {
    let end = name
        .char_indices()
        .nth(CHARACTERS_MAX)
        .map_or(name.len(), |(index, _)| index);
    let name = &name[..end];
    if name.contains(char::is_control) {
        Cow::Owned(name.replace(char::is_control, "?"))
    } else {
        Cow::Borrowed(name)
    }
}

/// What stands for the values beyond the limit.
const OTHER: &str = "other";
const CHARACTERS_MAX: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_beyond_the_limit_are_other() {
        let mut values = Values::new(2);
        for (name, value) in [("a", "a"), ("b", "b"), ("c", "other"), ("a", "a")] {
            assert_eq!(&*values.value(name, true), value);
        }
    }

    #[test]
    fn what_is_not_proven_is_other_until_it_is() {
        let mut labels = Labels::new(2);
        let mut told = |name, task, proven| {
            let (name, task) = labels.destination_and_task(name, task, proven);
            format!("{name} {task}")
        };
        for queue in ["a", "b", "c"] {
            assert_eq!(told(queue, "x", false), "other other");
        }
        assert_eq!(told("a", "x", true), "a x");
        assert_eq!(told("a", "x", false), "a x");
        assert_eq!(told("a", "y", false), "a other");
        assert_eq!(told("b", "y", true), "b y");
        // Each of the two is known, but not the one with the other.
        assert_eq!(told("a", "y", false), "a other");
        assert_eq!(&*labels.destination("b"), "b");
        assert_eq!(&*labels.destination("c"), "other");
    }

    #[test]
    fn pairs_beyond_the_limit_keep_their_destination() {
        let mut labels = Labels::new(20);
        let pairs = (0..20).flat_map(|queue| (0..20).map(move |task| (queue, task)));
        let mut seen = HashSet::new();
        for (queue, task) in pairs {
            let (queue, task) = (queue.to_string(), task.to_string());
            seen.insert(labels.destination_and_task(&queue, &task, true));
        }
        let (others, named): (Vec<_>, Vec<_>) = seen.iter().partition(|pair| &*pair.1 == OTHER);
        assert_eq!(named.len(), 200);
        assert_eq!(others.len(), 10);
    }

    #[test]
    fn what_cannot_be_printed_is_replaced_and_what_is_long_is_cut() {
        assert_eq!(printable("celery\u{6}\u{16}3\n"), "celery??3?");
        assert_eq!(printable("größe"), "größe");
        assert_eq!(printable(&"ö".repeat(500)), "ö".repeat(120));
    }
}
