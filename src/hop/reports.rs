//! Which runs are told of to their end.

use foldhash::HashMap;

use crate::hop::TaskKey;
use crate::trace::Timestamp;

/// Tasks by name, and whether workers tell how their runs end: only where they do is it worth
/// waiting for. It is learnt from what is told; nothing is known of a name at first.
#[derive(Debug, Default)]
pub(super) struct Reports {
    names: HashMap<Box<str>, Report>,
    /// The runs of [`Report::Missed`]. What is told of one of them after all shows that runs of
    /// its name are told of, and only last longer.
    missed: HashMap<TaskKey, Box<str>>,
}

#[derive(Clone, Copy, Debug)]
enum Report {
    Told,
    /// This run was waited for in vain; it stands for the others of its name until then.
    Missed(TaskKey, Timestamp),
}

impl Reports {
    pub(super) fn are_told(&self, name: &str) -> bool {
        matches!(self.names.get(name), Some(Report::Told))
    }

    /// The end of a run of that name was told.
    pub(super) fn told(&mut self, name: &str) {
        if !self.are_told(name) {
            self.enter(name, Report::Told);
        }
    }

    /// The end of a run was told that is no longer waited for, or never was.
    pub(super) fn told_late(&mut self, task: TaskKey) {
        if let Some(name) = self.missed.get(&task).cloned() {
            self.enter(&name, Report::Told);
        }
    }

    /// The end of a run of that name was waited for in vain. It is kept in mind until then.
    pub(super) fn missed(&mut self, name: &str, task: TaskKey, now: Timestamp, until: Timestamp) {
        match self.names.get(name) {
            Some(Report::Missed(_, until)) if *until >= now => {}
            _ => self.enter(name, Report::Missed(task, until)),
        }
    }

    fn enter(&mut self, name: &str, report: Report) {
        if self.names.len() >= NAMES_MAX && !self.names.contains_key(name) {
            return;
        }
        if let Some(Report::Missed(task, _)) = self.names.insert(name.into(), report) {
            self.missed.remove(&task);
        }
        if let Report::Missed(task, _) = report {
            self.missed.insert(task, name.into());
        }
    }
}

const NAMES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    #[test]
    fn a_name_is_told_of_once_one_of_its_runs_was() {
        let mut reports = Reports::default();
        assert!(!reports.are_told("a"));
        reports.told("a");
        assert!(reports.are_told("a") && !reports.are_told("b"));
        // A worker that crashed tells nothing either: the next result sets it right.
        reports.missed("a", TaskKey::of("1"), at(1), at(9));
        assert!(!reports.are_told("a"));
        reports.told("a");
        assert!(reports.are_told("a") && reports.missed.is_empty());
    }

    #[test]
    fn what_is_told_late_shows_that_runs_of_the_name_are_told_of() {
        let mut reports = Reports::default();
        for (number, now) in [("1", 1), ("2", 5), ("3", 9)] {
            reports.missed("a", TaskKey::of(number), at(now), at(now + 8));
        }
        // The first one stands for all of them.
        reports.told_late(TaskKey::of("3"));
        assert!(!reports.are_told("a"));
        reports.told_late(TaskKey::of("1"));
        assert!(reports.are_told("a") && reports.missed.is_empty());
        // Until its time is over.
        reports.missed("b", TaskKey::of("4"), at(1), at(9));
        reports.missed("b", TaskKey::of("5"), at(10), at(18));
        reports.told_late(TaskKey::of("4"));
        assert!(!reports.are_told("b"));
        reports.told_late(TaskKey::of("5"));
        assert!(reports.are_told("b"));
    }

    #[test]
    fn what_is_known_is_bounded() {
        let mut reports = Reports::default();
        for number in 0..=NAMES_MAX {
            reports.missed(&number.to_string(), TaskKey::of("1"), at(1), at(9));
            reports.told(&number.to_string());
        }
        assert_eq!(reports.names.len(), NAMES_MAX);
        assert!(reports.are_told("0") && !reports.are_told(&NAMES_MAX.to_string()));
    }
}
