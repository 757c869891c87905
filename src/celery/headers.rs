//! The headers of a message, fed field by field by whoever can read the broker's encoding.

use std::borrow::Cow;

use crate::celery::Task;
use crate::celery::TaskProtocol;
use crate::celery::json::Kind;
use crate::celery::json::Value;

/// One header's value, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue<'a> {
    Text(Cow<'a, str>),
    Integer(i64),
    Null,
    /// Anything else: floats, lists, objects, bytes.
    Other,
}

impl<'a> HeaderValue<'a> {
    pub(super) fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Integer(_) | Self::Null | Self::Other => None,
        }
    }

    /// A number of times; zero where it is not one.
    fn into_count(self) -> u32 {
        match self {
            Self::Integer(number) => u32::try_from(number).unwrap_or_default(),
            Self::Text(_) | Self::Null | Self::Other => 0,
        }
    }

    fn into_carried(self) -> Carried<'a> {
        match self {
            Self::Text(text) => Carried::Text(text),
            Self::Integer(_) | Self::Null | Self::Other => Carried::NotText,
        }
    }
}

impl<'a> From<Value<'a>> for HeaderValue<'a> {
    fn from(value: Value<'a>) -> Self {
        match value.kind {
            Kind::String => value.text().map_or(Self::Other, Self::Text),
            Kind::Number => value.integer().map_or(Self::Other, Self::Integer),
            Kind::Null => Self::Null,
            Kind::True | Kind::False | Kind::Object | Kind::Array | Kind::NotFinite => Self::Other,
        }
    }
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
            "traceparent" => self.traceparent = value.into_carried(),
            "tracestate" => self.tracestate = value.into_carried(),
            "compression" => self.compression = value.into_text(),
            "task" => self.task = value.into_text(),
            "id" => {
                self.has_id = true;
                self.id = value.into_text();
            }
            "root_id" => self.facts.root_id = value.into_text(),
            "parent_id" => self.facts.parent_id = value.into_text(),
            "group" => self.facts.group = value.into_text(),
            "eta" => self.facts.eta = value.into_text(),
            "retries" => self.facts.retries = value.into_count(),
            "replaced_task_nesting" => self.facts.replaced = value.into_count(),
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
