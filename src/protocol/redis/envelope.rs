//! The envelope that kombu puts a message into on Redis: one JSON object with `body`,
//! `headers` and `properties`.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;

use crate::celery::Carrier;
use crate::celery::Task;
use crate::hop::Stamp;
use crate::protocol::patch::Patch;
use crate::protocol::redis::reader::Message;
use crate::protocol::redis::reader::Reader;

/// A Celery task message, read in place.
#[derive(Debug)]
pub struct Envelope<'a> {
    pub task: Task<'a>,
    pub carrier: Carrier<'a>,
    /// A worker had it and puts it back: kombu marks the envelope, and keeps the mark out
    /// of whatever the task publishes later.
    pub redelivered: bool,
    /// What its consumers acknowledge it by.
    pub(super) delivery_tag: Option<Cow<'a, str>>,
    /// The queue's name, where it was sent to the default exchange.
    pub(super) routing_key: Option<Cow<'a, str>>,
    pub(super) places: Places,
}

/// Where the headers stand in the text.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) headers: HeadersPlace,
    /// The value of the last `traceparent`, which is the one that counts.
    pub(super) traceparent: Option<Range<usize>>,
    pub(super) tracestate: Option<Range<usize>>,
}

#[derive(Debug, Default)]
pub(super) enum HeadersPlace {
    #[default]
    Missing,
    /// `null`, `[]` or what else kombu takes for no headers: `headers or {}` in its source.
    Falsy(Range<usize>),
    /// Right behind the opening brace.
    Object(usize),
}

impl<'a> Envelope<'a> {
    /// Reads a task message that waits in a queue. `None`: it is something else, or
    /// unreadable.
    #[must_use]
    pub fn read(text: &'a [u8], body_max: usize) -> Option<Self> {
        match Reader::default().read(text, body_max) {
            Ok(Some(Message::Task(envelope))) => Some(envelope),
            Ok(Some(Message::Event(_)) | None) | Err(_) => None,
        }
    }

    /// The queue that the message is pushed to. kombu spreads the priorities of a queue over
    /// several keys, by a suffix that can be configured.
    pub(super) fn queue<'k>(&self, key: &'k str) -> &'k str {
        // Hardly a key has even the first byte of it, which is found much sooner.
        if key.as_bytes().contains(&b'\x06')
            && let Some((queue, _)) = key.split_once(PRIORITY_SEPARATOR)
        {
            return queue;
        }
        if let Some(queue) = self
            .routing_key
            .as_deref()
            .filter(|queue| !queue.is_empty() && *queue != key)
            && let Some(start) = key.rfind(queue)
            && let Some((named, suffix)) = key.split_at_checked(start + queue.len())
            && suffix.ends_with(|last: char| last.is_ascii_digit())
        {
            return named;
        }
        key
    }

    /// Puts the context of `stamp` into the headers of the envelope, which is `text`. What is
    /// there is replaced in its place, and what is not goes where headers begin, formatted as
    /// kombu would have.
    pub(super) fn write_stamped(&self, text: &[u8], stamp: &Stamp, patch: &mut Patch) {
        let Places {
            headers,
            traceparent,
            tracestate,
        } = &self.places;
        let mut members = [
            (traceparent, "traceparent", Some(&*stamp.traceparent)),
            (tracestate, "tracestate", stamp.tracestate.as_deref()),
        ];
        for (place, _, value) in &mut members {
            if let Some(place) = place {
                // An empty list stands for none.
                let value = value.take().unwrap_or_default();
                patch.replace(place.clone(), |out| quote(value, out));
            }
        }
        let missing = members.map(|(_, name, value)| Some((name, value?)));
        if missing.iter().any(Option::is_some) {
            let missing = missing.into_iter().flatten();
            patch.replace(headers.place(text), |out| {
                headers.write_members(text, missing, out);
            });
        }
    }
}

impl HeadersPlace {
    /// What members that are new stand in place of.
    fn place(&self, text: &[u8]) -> Range<usize> {
        match self {
            Self::Object(inside) => *inside..*inside,
            Self::Falsy(value) => value.clone(),
            Self::Missing => {
                let start = text.iter().position(|byte| *byte == b'{').unwrap_or(0) + 1;
                start..start
            }
        }
    }

    fn write_members<'m>(
        &self,
        text: &[u8],
        members: impl Iterator<Item = (&'m str, &'m str)>,
        out: &mut Vec<u8>,
    ) {
        let (before, behind) = match self {
            Self::Object(inside) if is_end_of_object(text, *inside) => ("", ""),
            Self::Object(_) => ("", ", "),
            Self::Falsy(_) => ("{", "}"),
            Self::Missing => ("\"headers\": {", "}, "),
        };
        out.extend_from_slice(before.as_bytes());
        let mut separator = "";
        for (name, value) in members {
            out.extend_from_slice(separator.as_bytes());
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\": ");
            quote(value, out);
            separator = ", ";
        }
        out.extend_from_slice(behind.as_bytes());
    }
}

/// Whether a value begins like an envelope, as far as its first [`BEGINNING_BYTES`] tell.
pub(super) fn begins_like_one(value: &[u8]) -> bool {
    let inside = value.trim_ascii_start().strip_prefix(b"{");
    inside.is_some_and(|inside| {
        let first = inside.trim_ascii_start();
        MEMBERS.iter().any(|member| first.starts_with(member))
    })
}

fn is_end_of_object(text: &[u8], at: usize) -> bool {
    let rest = text.get(at..).unwrap_or_default();
    rest.trim_ascii_start().starts_with(b"}")
}

/// Writes a JSON string. What is written here is ASCII without control characters.
fn quote(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some((plain, [special, behind @ ..])) =
        memchr2(b'"', b'\\', rest).and_then(|at| rest.split_at_checked(at))
    {
        out.extend_from_slice(plain);
        out.extend_from_slice(&[b'\\', *special]);
        rest = behind;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// So much of a value tells whether it may be an envelope.
pub(super) const BEGINNING_BYTES: usize = 32;
/// The members of an envelope; which is first depends on who writes it.
const MEMBERS: [&[u8]; 5] = [
    b"\"body\"",
    b"\"content-encoding\"",
    b"\"content-type\"",
    b"\"headers\"",
    b"\"properties\"",
];
/// kombu's default `sep` between a queue's name and the priority step.
pub const PRIORITY_SEPARATOR: &str = "\u{6}\u{16}";
