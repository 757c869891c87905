use std::borrow::Cow;

use crate::celery::HeaderValue;
use crate::celery::Headers;
use crate::celery::Task;
use crate::celery::TaskProtocol;

/// The members of a body, fed one by one by whoever can read its encoding.
///
/// They have the names that protocol 2 gives its headers: a worker makes the one into the
/// other as they stand. So any `root_id` and `parent_id` count too, though Celery's own
/// producers send none.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    members: Headers<'a>,
    /// What `group` was called once; Celery still sends both.
    taskset: Option<Cow<'a, str>>,
    has_arguments: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, name: &str, value: HeaderValue<'a>) {
        match name {
            "args" | "kwargs" => self.has_arguments = true,
            "taskset" => self.taskset = value.into_written(),
            _ => self.members.take(name, value),
        }
    }

    /// The task, if there is a name, an id and arguments: other things have one of these.
    pub(super) fn into_task(self) -> Option<Task<'a>> {
        let task = self.members.into_parts().0?;
        if task.id.is_empty() || !self.has_arguments {
            return None;
        }
        Some(Task {
            group: task.group.or(self.taskset),
            protocol: TaskProtocol::One,
            ..task
        })
    }
}
