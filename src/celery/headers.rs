//! The headers of a message, fed field by field by whoever can read the broker's encoding.

use std::borrow::Cow;

use crate::celery::Foreign;
use crate::celery::Task;
use crate::celery::foreign;
use crate::celery::foreign::Place;
use crate::celery::json::Kind;
use crate::celery::json::Value;

/// One header's value, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue<'a> {
    Text(Cow<'a, str>),
    Integer(i64),
    Truth(bool),
    Null,
    /// Anything else: fractions, lists, objects, bytes.
    Other,
}

impl<'a> HeaderValue<'a> {
    /// Text that says something: an empty id names nothing, and would tie together all that
    /// have it.
    pub(super) fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => (!text.is_empty()).then_some(text),
            Self::Integer(_) | Self::Truth(_) | Self::Null | Self::Other => None,
        }
    }

    /// The same, and numbers as they are written.
    pub(super) fn into_written(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Integer(number) => Some(number.to_string().into()),
            other => other.into_text(),
        }
    }

    /// A place in a row, counted from zero.
    fn into_index(self) -> Option<u32> {
        match self {
            Self::Integer(number) => u32::try_from(number).ok(),
            Self::Text(_) | Self::Truth(_) | Self::Null | Self::Other => None,
        }
    }

    /// A number of times; zero where it is not one.
    fn into_count(self) -> u32 {
        match self {
            Self::Integer(number) => u32::try_from(number).unwrap_or_default(),
            Self::Text(_) | Self::Truth(_) | Self::Null | Self::Other => 0,
        }
    }

    fn into_carried(self) -> Carried<'a> {
        match self {
            Self::Text(text) => Carried::Text(text),
            Self::Integer(_) | Self::Truth(_) | Self::Null | Self::Other => Carried::NotText,
        }
    }
}

/// A float that is whole is that integer. A worker counts on from what it was sent: a
/// producer that sends `0.0` gets retries of `1.0` and `2.0`.
impl From<f64> for HeaderValue<'_> {
    fn from(number: f64) -> Self {
        if number.fract() == 0.0 && number.abs() <= f64::from(u32::MAX) {
            Self::Integer(number as i64)
        } else {
            Self::Other
        }
    }
}

impl<'a> From<Value<'a>> for HeaderValue<'a> {
    fn from(value: Value<'a>) -> Self {
        match value.kind() {
            Kind::String => value.text().map_or(Self::Other, Self::Text),
            Kind::Number => match value.integer() {
                Some(number) => Self::Integer(number),
                None => value.float().map_or(Self::Other, Self::from),
            },
            Kind::Null => Self::Null,
            Kind::True => Self::Truth(true),
            Kind::False => Self::Truth(false),
            Kind::Object | Kind::Array | Kind::NotFinite => Self::Other,
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

impl Carried<'_> {
    /// What it says, nothing where it says nothing.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Absent | Self::NotText => "",
        }
    }
}

/// What the flat headers of a message say about its task and its context.
///
/// Only flat, lower-case names count: workers read the context from attributes of
/// `task.request`, which are the flat headers. A name that stands twice counts as it does
/// for the worker: the last one wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    pub carrier: Carrier<'a>,
    /// The body's compression, `None` where it has none.
    pub compression: Option<Cow<'a, str>>,
    has_task: bool,
    has_id: bool,
    /// Without a name: none was given that is text.
    task: Task<'a>,
}

/// What the headers of a message carry of trace context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carrier<'a> {
    pub traceparent: Carried<'a>,
    pub tracestate: Carried<'a>,
    /// There is a `Traceparent`, or the like, which no worker reads.
    pub has_miscased_traceparent: bool,
    /// The contexts in the spellings of other vendors.
    pub foreign: Foreign<'a>,
}

/// The headers that matter, as Celery calls them, and those of other vendors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Traceparent,
    Tracestate,
    /// A `traceparent` that is not in lower case.
    MiscasedTraceparent,
    Compression,
    Task,
    Id,
    RootId,
    ParentId,
    Group,
    GroupIndex,
    Eta,
    Origin,
    IgnoreResult,
    Retries,
    ReplacedTaskNesting,
    Argsrepr,
    Foreign(Place, foreign::Name),
}

impl Name {
    /// What a flat header is; what is no text is no name that matters.
    #[must_use]
    pub fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"traceparent" => Self::Traceparent,
            b"tracestate" => Self::Tracestate,
            b"compression" => Self::Compression,
            b"task" => Self::Task,
            b"id" => Self::Id,
            b"root_id" => Self::RootId,
            b"parent_id" => Self::ParentId,
            b"group" => Self::Group,
            b"group_index" => Self::GroupIndex,
            b"eta" => Self::Eta,
            b"origin" => Self::Origin,
            b"ignore_result" => Self::IgnoreResult,
            b"retries" => Self::Retries,
            b"replaced_task_nesting" => Self::ReplacedTaskNesting,
            b"argsrepr" => Self::Argsrepr,
            _ if name.eq_ignore_ascii_case(b"traceparent") => Self::MiscasedTraceparent,
            _ => Self::within(Place::Flat, name)?,
        })
    }

    /// What a header is that stands in that place.
    #[must_use]
    pub fn within(place: Place, name: &[u8]) -> Option<Self> {
        Some(Self::Foreign(place, foreign::Name::of(name, place)?))
    }
}

impl<'a> Headers<'a> {
    /// Takes one header. What its value says is only looked at where the name matters.
    pub fn take(&mut self, name: impl AsRef<[u8]>, value: impl Into<HeaderValue<'a>>) {
        if let Some(name) = Name::of(name.as_ref()) {
            self.set(name, value);
        }
    }

    /// The same for a name that matters.
    pub fn set(&mut self, name: Name, value: impl Into<HeaderValue<'a>>) {
        let value = || value.into();
        let (carrier, task) = (&mut self.carrier, &mut self.task);
        match name {
            Name::Traceparent => carrier.traceparent = value().into_carried(),
            Name::Tracestate => carrier.tracestate = value().into_carried(),
            Name::MiscasedTraceparent => carrier.has_miscased_traceparent = true,
            Name::Foreign(place, name) => carrier.foreign.set(place, name, value()),
            Name::Compression => self.compression = value().into_text(),
            Name::Task => {
                self.has_task = true;
                task.name = value().into_text().unwrap_or_default();
                if !task.name.is_empty() && task.name != CHORD_UNLOCK {
                    task.awaited_group = None;
                }
            }
            Name::Id => {
                self.has_id = true;
                task.id = value().into_written().unwrap_or_default();
            }
            Name::RootId => task.root_id = value().into_written(),
            Name::ParentId => task.parent_id = value().into_written(),
            Name::Group => task.group = value().into_written(),
            Name::GroupIndex => task.group_index = value().into_index(),
            Name::Eta => task.eta = value().into_text(),
            Name::Origin => {
                let host = value().into_text().map(host);
                task.origin = host.filter(|host| !host.is_empty());
            }
            Name::IgnoreResult => task.ignores_result = value() == HeaderValue::Truth(true),
            Name::Retries => task.retries = value().into_count(),
            Name::ReplacedTaskNesting => task.replaced = value().into_count(),
            // Of other tasks it is not looked at. RabbitMQ can have sorted the headers, so
            // that the name of the task comes later.
            Name::Argsrepr => {
                if task.name.is_empty() || task.name == CHORD_UNLOCK {
                    task.awaited_group = value().into_text().and_then(first_text);
                }
            }
        }
    }

    /// Takes one header that stands in that place.
    pub fn take_within(
        &mut self,
        place: Place,
        name: impl AsRef<[u8]>,
        value: impl Into<HeaderValue<'a>>,
    ) {
        if let Some(name) = Name::within(place, name.as_ref()) {
            self.set(name, value);
        }
    }

    /// The task that these headers describe: protocol 2 has `task` and `id` in them.
    #[must_use]
    pub fn task(&self) -> Option<&Task<'a>> {
        (!self.task.name.is_empty() && self.has_id).then_some(&self.task)
    }

    /// The same, and the context that they carry.
    #[must_use]
    pub fn into_parts(self) -> (Option<Task<'a>>, Carrier<'a>) {
        let is_whole = self.task().is_some();
        (is_whole.then_some(self.task), self.carrier)
    }

    /// Has them describe a task that was found elsewhere.
    pub fn describe(&mut self, task: Task<'a>) {
        self.has_id = true;
        self.task = task;
    }

    /// Whether the worker will take the message for protocol 2: it looks whether there is a
    /// `task`, whatever it says, and if so never reads the body for one.
    #[must_use]
    pub const fn names_a_task(&self) -> bool {
        self.has_task
    }
}

/// The host in `gen<process id>@<host>`, which is what Celery calls a process that sends.
fn host(origin: Cow<'_, str>) -> Cow<'_, str> {
    match origin {
        Cow::Borrowed(text) => text.split_once('@').map_or(text, |(_, host)| host).into(),
        Cow::Owned(text) => match text.split_once('@') {
            Some((_, host)) => host.to_owned().into(),
            None => text.into(),
        },
    }
}

/// The first of some arguments, as Python writes them, if that is a text: a tuple's when the
/// task is called, a list's when it is retried.
fn first_text(arguments: Cow<'_, str>) -> Option<Cow<'_, str>> {
    let text = arguments.trim_start_matches(['(', '[']);
    let quote = text.chars().next().filter(|first| "'\"".contains(*first))?;
    let (first, _) = text.get(1..)?.split_once(quote)?;
    let is_whole = !first.is_empty() && !first.contains('\\') && !first.ends_with("...");
    is_whole.then(|| first.to_owned().into())
}

/// It waits, in attempt after attempt, until a group is done, and sends what is to follow
/// (`celery/app/builtins.py`, `add_unlock_chord_task`).
const CHORD_UNLOCK: &str = "celery.chord_unlock";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::celery::TaskProtocol;
    use crate::celery::json::Scan;

    fn headers<'a>(members: &[(&str, HeaderValue<'a>)]) -> Headers<'a> {
        let mut headers = Headers::default();
        for (name, value) in members {
            headers.take(name, value.clone());
        }
        headers
    }

    fn text(text: &str) -> HeaderValue<'_> {
        HeaderValue::Text(text.into())
    }

    #[test]
    fn a_task_has_its_facts_in_the_headers() {
        let headers = headers(&[
            ("lang", text("py")),
            ("task", text("tasks.add")),
            ("id", text("a")),
            ("shadow", HeaderValue::Null),
            ("eta", text("2026-11-22T08:53:23.736583+00:00")),
            ("group", text("g")),
            ("retries", HeaderValue::Integer(2)),
            ("timelimit", HeaderValue::Other),
            ("root_id", text("r")),
            ("parent_id", text("p")),
            ("replaced_task_nesting", HeaderValue::Integer(1)),
        ]);
        let task = Task {
            name: "tasks.add".into(),
            id: "a".into(),
            root_id: Some("r".into()),
            parent_id: Some("p".into()),
            group: Some("g".into()),
            eta: Some("2026-11-22T08:53:23.736583+00:00".into()),
            retries: 2,
            replaced: 1,
            ..Task::default()
        };
        assert_eq!(task.protocol, TaskProtocol::Two);
        assert_eq!(headers.task(), Some(&task));
        assert_eq!(headers.carrier.traceparent, Carried::Absent);
    }

    fn task_of<'a>(members: &[(&str, HeaderValue<'a>)]) -> Task<'a> {
        let named = [&[("task", text("a")), ("id", text("b"))], members].concat();
        headers(&named).into_parts().0.unwrap()
    }

    #[test]
    fn only_an_index_is_a_place_in_a_group() {
        for (value, index) in [
            (HeaderValue::Integer(0), Some(0)),
            (HeaderValue::Integer(3), Some(3)),
            (HeaderValue::Integer(u32::MAX.into()), Some(u32::MAX)),
            (HeaderValue::Integer(1 << 32), None),
            (HeaderValue::Integer(-1), None),
            (HeaderValue::from(2.0), Some(2)),
            (HeaderValue::from(2.5), None),
            (text("3"), None),
            (HeaderValue::Null, None),
        ] {
            let task = task_of(&[("group_index", value)]);
            assert_eq!(task.group_index, index);
        }
    }

    #[test]
    fn of_where_a_task_comes_from_the_host_is_kept() {
        for (origin, host) in [
            ("gen12107@host1", Some("host1")),
            ("gen1@web-7.example.com", Some("web-7.example.com")),
            ("gen1@a@b", Some("a@b")),
            ("cron", Some("cron")),
            ("gen1@", None),
            ("", None),
        ] {
            let borrowed = task_of(&[("origin", text(origin))]);
            assert_eq!(borrowed.origin.as_deref(), host, "{origin}");
            let owned = HeaderValue::Text(Cow::Owned(origin.to_owned()));
            assert_eq!(task_of(&[("origin", owned)]).origin, borrowed.origin);
        }
        assert_eq!(task_of(&[("origin", HeaderValue::Null)]).origin, None);
    }

    #[test]
    fn a_result_is_ignored_only_where_that_is_said() {
        for (value, ignores_result) in [
            (HeaderValue::Truth(true), true),
            (HeaderValue::Truth(false), false),
            (HeaderValue::Null, false),
            (HeaderValue::Integer(1), false),
            (text("true"), false),
        ] {
            let task = task_of(&[("ignore_result", value)]);
            assert_eq!(task.ignores_result, ignores_result);
        }
        assert!(!task_of(&[]).ignores_result);
    }

    #[test]
    fn a_chord_that_waits_says_for_which_group() {
        const GROUP: &str = "f694b9b8-4cc0-4edf-b14d-a18e556f644a";
        let called = format!("('{GROUP}', {{'task': 'tasks.xsum', 'args': (), 'kwargs': {{}}}})");
        let retried = format!("['{GROUP}', {{'task': 'tasks.xsum', 'args': [], ...}}]");
        let alone = format!("('{GROUP}',)");
        for (argsrepr, group) in [
            (&*called, Some(GROUP)),
            (&retried, Some(GROUP)),
            (&alone, Some(GROUP)),
            (r#"("its group",)"#, Some("its group")),
            // Shortened, as Celery does with what is too long.
            ("('f694b9b8-...', ...)", None),
            ("('f694b9b8", None),
            (r"('it\'s',)", None),
            ("('',)", None),
            ("(1, 'a')", None),
            ("({'a': 'b'},)", None),
            ("(None, 'a')", None),
            ("()", None),
            ("\u{fc}", None),
            ("", None),
        ] {
            let argsrepr = ("argsrepr", text(argsrepr));
            for (name, group) in [(CHORD_UNLOCK, group), ("tasks.add", None)] {
                let (name, id) = (("task", text(name)), ("id", text("b")));
                for members in [
                    [name.clone(), id.clone(), argsrepr.clone()],
                    [argsrepr.clone(), id, name],
                ] {
                    let headers = headers(&members);
                    let task = headers.task().unwrap();
                    assert_eq!(task.awaited_group.as_deref(), group, "{members:?}");
                }
            }
        }
    }

    #[test]
    fn a_task_needs_a_name_and_an_id_of_some_kind() {
        for (members, names_a_task, is_task) in [
            (&[("task", text("a")), ("id", text("b"))][..], true, true),
            (
                &[("task", text("a")), ("id", HeaderValue::Null)],
                true,
                true,
            ),
            (&[("task", text("a"))], true, false),
            (
                &[("task", HeaderValue::Null), ("id", text("b"))],
                true,
                false,
            ),
            (&[("task", text("")), ("id", text("b"))], true, false),
            (&[("id", text("b"))], false, false),
            (&[("Task", text("a")), ("id", text("b"))], false, false),
        ] {
            let headers = headers(members);
            assert_eq!(headers.names_a_task(), names_a_task, "{members:?}");
            assert_eq!(headers.task().is_some(), is_task, "{members:?}");
        }
    }

    #[test]
    fn the_last_of_two_headers_counts() {
        let headers = headers(&[
            ("task", HeaderValue::Null),
            ("task", text("a")),
            ("id", text("b")),
            ("root_id", text("c")),
            ("root_id", HeaderValue::Null),
            ("traceparent", text("d")),
            ("traceparent", HeaderValue::Null),
            ("tracestate", HeaderValue::Other),
            ("tracestate", text("e")),
        ]);
        let task = headers.task().unwrap();
        assert_eq!((&*task.name, task.root_id.as_deref()), ("a", None));
        assert_eq!(headers.carrier.traceparent, Carried::NotText);
        assert_eq!(headers.carrier.tracestate, Carried::Text("e".into()));
    }

    #[test]
    fn empty_text_says_nothing_except_as_context() {
        let headers = headers(&[
            ("task", text("a")),
            ("id", text("b")),
            ("root_id", text("")),
            ("parent_id", text("")),
            ("group", text("")),
            ("compression", text("")),
            ("traceparent", text("")),
        ]);
        let task = headers.task().unwrap();
        assert_eq!(
            (&task.root_id, &task.parent_id, &task.group),
            (&None, &None, &None)
        );
        assert_eq!(headers.compression, None);
        assert_eq!(headers.carrier.traceparent, Carried::Text("".into()));
    }

    #[test]
    fn retries_are_counted_in_any_spelling() {
        for (written, retries) in [
            ("3", 3),
            ("3.0", 3),
            ("3e0", 3),
            ("0", 0),
            ("4294967295", u32::MAX),
            ("3.5", 0),
            ("-1", 0),
            ("4294967296", 0),
            ("1e400", 0),
            ("NaN", 0),
            ("null", 0),
            ("true", 0),
            ("[]", 0),
            ("\"3\"", 0),
        ] {
            let value = Scan::new(written.as_bytes()).value().unwrap();
            let headers = headers(&[
                ("task", text("a")),
                ("id", text("b")),
                ("retries", value.into()),
            ]);
            assert_eq!(headers.task().unwrap().retries, retries, "{written}");
        }
    }
}
