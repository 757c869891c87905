use std::borrow::Cow;

/// The facts of one task message. Never its arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task<'a> {
    pub name: Cow<'a, str>,
    /// The task id, as it is written where it is a number; empty where the message has none.
    pub id: Cow<'a, str>,
    /// The first task of the workflow (protocol 2).
    pub root_id: Option<Cow<'a, str>>,
    /// The task that published this one. Equal to `id` on a retry and on a replace.
    pub parent_id: Option<Cow<'a, str>>,
    pub group: Option<Cow<'a, str>>,
    /// Its place in the group.
    pub group_index: Option<u32>,
    /// The group that this task, which is one of Celery's own, waits for
    /// (`celery.chord_unlock`).
    pub awaited_group: Option<Cow<'a, str>>,
    pub eta: Option<Cow<'a, str>>,
    /// The host of the process that sent the task first.
    pub origin: Option<Cow<'a, str>>,
    /// No result is written when it has run.
    pub ignores_result: bool,
    pub retries: u32,
    /// `replaced_task_nesting`: how often the task was replaced by another under its id.
    pub replaced: u32,
    pub protocol: TaskProtocol,
}

/// Celery's task message protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskProtocol {
    /// Everything is in the body.
    One,
    /// The facts are in the headers.
    #[default]
    Two,
}

impl Task<'_> {
    /// The same facts, on their own.
    #[must_use]
    pub fn into_owned(self) -> Task<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Task {
            name: own(self.name),
            id: own(self.id),
            root_id: self.root_id.map(own),
            parent_id: self.parent_id.map(own),
            group: self.group.map(own),
            awaited_group: self.awaited_group.map(own),
            eta: self.eta.map(own),
            origin: self.origin.map(own),
            ..self
        }
    }
}
