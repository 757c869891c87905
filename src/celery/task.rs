use std::borrow::Cow;

/// The facts of one task message. Never its arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task<'a> {
    pub name: Cow<'a, str>,
    /// The task id; empty where the message has none that is text.
    pub id: Cow<'a, str>,
    /// The first task of the workflow (protocol 2).
    pub root_id: Option<Cow<'a, str>>,
    /// The task that published this one. Equal to `id` on a retry and on a replace.
    pub parent_id: Option<Cow<'a, str>>,
    pub group: Option<Cow<'a, str>>,
    pub eta: Option<Cow<'a, str>>,
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
        let own = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        Task {
            name: Cow::Owned(self.name.into_owned()),
            id: Cow::Owned(self.id.into_owned()),
            root_id: own(self.root_id),
            parent_id: own(self.parent_id),
            group: own(self.group),
            eta: own(self.eta),
            retries: self.retries,
            replaced: self.replaced,
            protocol: self.protocol,
        }
    }
}
