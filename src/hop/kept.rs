use std::fmt;

use crate::celery::Task;
use crate::hop::TaskKey;
use crate::hop::clean;

/// The facts of one task message, on their own, to be kept: all texts in one piece of memory.
///
/// Whoever publishes decides what they are, so all are [`clean`].
/// See [`Task`] for what they mean.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptTask {
    /// Of the whole id.
    pub key: TaskKey,
    pub retries: u32,
    pub replaced: u32,
    pub ignores_result: bool,
    /// One after the other; empty where there is none.
    texts: Box<str>,
    /// Where each of them ends.
    ends: [u16; TEXTS],
}

impl KeptTask {
    #[must_use]
    pub fn name(&self) -> &str {
        self.text(0)
    }

    /// Empty where the message has none that is text.
    #[must_use]
    pub fn id(&self) -> &str {
        self.text(1)
    }

    #[must_use]
    pub fn root_id(&self) -> Option<&str> {
        self.said(2)
    }

    #[must_use]
    pub fn parent_id(&self) -> Option<&str> {
        self.said(3)
    }

    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.said(4)
    }

    #[must_use]
    pub fn eta(&self) -> Option<&str> {
        self.said(5)
    }

    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        self.said(6)
    }

    fn said(&self, number: usize) -> Option<&str> {
        Some(self.text(number)).filter(|text| !text.is_empty())
    }

    fn text(&self, number: usize) -> &str {
        let end = |number: usize| self.ends.get(number).copied().map_or(0, usize::from);
        let start = number.checked_sub(1).map_or(0, end);
        self.texts.get(start..end(number)).unwrap_or_default()
    }
}

impl From<&Task<'_>> for KeptTask {
    fn from(task: &Task<'_>) -> Self {
        let texts: [&str; TEXTS] = [
            &task.name,
            &task.id,
            task.root_id.as_deref().unwrap_or_default(),
            task.parent_id.as_deref().unwrap_or_default(),
            task.group.as_deref().unwrap_or_default(),
            task.eta.as_deref().unwrap_or_default(),
            task.origin.as_deref().unwrap_or_default(),
        ];
        let texts = texts.map(clean);
        let mut end = 0;
        Self {
            key: TaskKey::of(&task.id),
            retries: task.retries,
            replaced: task.replaced,
            ignores_result: task.ignores_result,
            texts: texts.concat().into(),
            ends: texts.map(|text| {
                end += text.len() as u16;
                end
            }),
        }
    }
}

impl fmt::Debug for KeptTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptTask")
            .field("name", &self.name())
            .field("id", &self.id())
            .field("root_id", &self.root_id())
            .field("parent_id", &self.parent_id())
            .field("group", &self.group())
            .field("eta", &self.eta())
            .field("origin", &self.origin())
            .field("retries", &self.retries)
            .field("replaced", &self.replaced)
            .finish_non_exhaustive()
    }
}

const TEXTS: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;

    impl KeptTask {
        /// Changes something of what was told.
        pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Task<'_>)) {
            let kept = self.clone();
            let mut task = Task {
                name: kept.name().into(),
                id: kept.id().into(),
                root_id: kept.root_id().map(Into::into),
                parent_id: kept.parent_id().map(Into::into),
                group: kept.group().map(Into::into),
                eta: kept.eta().map(Into::into),
                origin: kept.origin().map(Into::into),
                retries: kept.retries,
                replaced: kept.replaced,
                ignores_result: kept.ignores_result,
                ..Task::default()
            };
            change(&mut task);
            *self = Self::from(&task);
        }
    }

    #[test]
    fn every_text_is_kept_and_of_long_ones_the_head() {
        let mut task = Task {
            name: "é".repeat(200).into(),
            id: "id".into(),
            root_id: Some("root".into()),
            group: Some("group".into()),
            origin: Some("host".into()),
            retries: 3,
            ..Task::default()
        };
        let kept = KeptTask::from(&task);
        assert_eq!(kept.name(), "é".repeat(128));
        assert_eq!((kept.id(), kept.root_id()), ("id", Some("root")));
        assert_eq!((kept.parent_id(), kept.group()), (None, Some("group")));
        assert_eq!((kept.eta(), kept.origin()), (None, Some("host")));
        assert_eq!((kept.retries, kept.key), (3, TaskKey::of("id")));
        task.parent_id = Some("parent".into());
        task.eta = Some("soon".into());
        let kept = KeptTask::from(&task);
        assert_eq!(
            (kept.parent_id(), kept.eta()),
            (Some("parent"), Some("soon"))
        );
        assert_eq!(KeptTask::from(&Task::default()).id(), "");
    }

    #[test]
    fn texts_are_cleaned_and_the_key_is_that_of_the_id_as_it_came() {
        let kept = KeptTask::from(&Task {
            name: "\u{1b}[2Jadd".into(),
            id: "\u{9b}1".into(),
            origin: Some("host\u{202e}".into()),
            ..Task::default()
        });
        let texts = (kept.name(), kept.id(), kept.origin());
        assert_eq!(texts, ("?[2Jadd", "?1", Some("host?")));
        assert_eq!(kept.key, TaskKey::of("\u{9b}1"));
    }
}
