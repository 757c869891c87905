//! What workers say of the runs of tasks: in results and in events.

use std::borrow::Cow;

use crate::celery::TaskState;

/// One thing that a worker says of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told<'a> {
    /// The task's id; `None` where the text does not give it, or not in the part that is
    /// there.
    pub id: Option<Cow<'a, str>>,
    pub state: TaskState,
    /// When that was by the worker's clock, in nanoseconds since the Unix epoch.
    pub at_nanos: Option<u64>,
}

/// Reads a result as workers write it to a backend, in JSON. The beginning of one will do, as
/// long as it gives the state. `None`: it is none, or it does not end or begin a run.
#[must_use]
pub fn read_result(_text: &[u8]) -> Option<Told<'_>> {
    None
}

/// Reads the body of an event message, in JSON: one event, or a list of them. Events that say
/// nothing of the run of a task are left out, and so is everything in a body that is none.
#[must_use]
pub fn read_events(_body: &[u8]) -> Vec<Told<'_>> {
    Vec::new()
}
