//! The headers of a message, fed field by field by whoever can read the broker's encoding.

use std::borrow::Cow;

use crate::celery::Task;
use crate::celery::TaskProtocol;

/// One header's value, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue<'a> {
    Text(Cow<'a, str>),
    Integer(i64),
    Null,
    /// Anything else: floats, lists, objects, bytes.
    Other,
}

/// A header that carries context: what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Carried<'a> {
    #[default]
    Absent,
    Text(Cow<'a, str>),
    NotText,
}

/// What the flat headers of a message say about its task and its context.
///
/// Only flat, lower-case names count: workers read the context from attributes of
/// `task.request`, which are the flat headers. A name that stands twice counts as it does
/// for the worker: the last one wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    pub traceparent: Carried<'a>,
    pub tracestate: Carried<'a>,
    /// The body's compression, `None` where it has none.
    pub compression: Option<Cow<'a, str>>,
    task: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    has_id: bool,
    facts: Task<'a>,
}

impl<'a> Headers<'a> {
    /// Takes one header.
    pub fn take(&mut self, name: &str, value: HeaderValue<'a>) {
        match name {
            "traceparent" => self.traceparent = carried(value),
            "tracestate" => self.tracestate = carried(value),
            "compression" => self.compression = text(value),
            "task" => self.task = text(value),
            "id" => {
                self.has_id = true;
                self.id = text(value);
            }
            "root_id" => self.facts.root_id = text(value),
            "parent_id" => self.facts.parent_id = text(value),
            "group" => self.facts.group = text(value),
            "eta" => self.facts.eta = text(value),
            "retries" => self.facts.retries = number(&value),
            "replaced_task_nesting" => self.facts.replaced = number(&value),
            _ => {}
        }
    }

    /// The task that these headers describe: protocol 2 has `task` and `id` in them.
    #[must_use]
    pub fn task(&self) -> Option<Task<'a>> {
        let name = self.task.clone()?;
        if !self.has_id {
            return None;
        }
        Some(Task {
            name,
            id: self.id.clone().unwrap_or_default(),
            protocol: TaskProtocol::Two,
            ..self.facts.clone()
        })
    }

    /// Whether the worker will take the message for protocol 2: it looks for `task` alone.
    #[must_use]
    pub const fn names_a_task(&self) -> bool {
        self.task.is_some()
    }
}

fn carried(value: HeaderValue<'_>) -> Carried<'_> {
    match value {
        HeaderValue::Text(text) => Carried::Text(text),
        _ => Carried::NotText,
    }
}

fn text(value: HeaderValue<'_>) -> Option<Cow<'_, str>> {
    match value {
        HeaderValue::Text(text) => Some(text),
        _ => None,
    }
}

fn number(value: &HeaderValue<'_>) -> u32 {
    match value {
        HeaderValue::Integer(number) => u32::try_from(*number).unwrap_or_default(),
        _ => 0,
    }
}
