//! The content header of a message, in which Celery's headers stand as one property of
//! several.

use std::borrow::Cow;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::ops::Range;

use crate::celery::HeaderValue;
use crate::celery::Headers;
use crate::celery::Task;
use crate::celery::body::read_protocol1;
use crate::celery::foreign::Place;
use crate::hop::Stamp;
use crate::protocol::amqp::cursor::Cursor;
use crate::protocol::amqp::frame::Frame;
use crate::protocol::amqp::frame::Halt;
use crate::protocol::amqp::frame::Unreadable;
use crate::protocol::amqp::frame::replace_length;
use crate::protocol::amqp::frame::write_long;
use crate::protocol::amqp::method::Route;
use crate::protocol::amqp::table::Value;
use crate::protocol::amqp::table::next_field;
use crate::protocol::amqp::table::write_name;
use crate::protocol::amqp::table::write_text;
use crate::protocol::patch::Patch;

/// A content header, read in place.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    /// The size of the message: the payload and the body.
    pub(super) size: usize,
    /// The length of the body that follows.
    pub(super) body_size: u64,
    pub(super) headers: Headers<'a>,
    /// What Celery and other clients tell a message by; empty where there is none.
    pub(super) correlation_id: &'a [u8],
    pub(super) past: Past<'a>,
    /// A header says which worker sent it: so it is with events.
    pub(super) has_hostname: bool,
    content_type: &'a [u8],
    flags: u16,
    places: Places,
}

/// What the broker has added to the headers of a message that was in other queues, or was
/// delivered before.
#[derive(Debug, Default)]
pub(super) struct Past<'a> {
    pub(super) deliveries: Option<u32>,
    /// The queue that it was moved from first, and why.
    pub(super) first_queue: Option<Cow<'a, str>>,
    pub(super) first_reason: Option<Cow<'a, str>>,
}

/// Where the headers stand in the payload.
#[derive(Debug, Default)]
struct Places {
    /// The table with its length; empty, and where that would be, if there is none.
    headers: Range<usize>,
    /// Type and value of the last `traceparent`, which is the one that counts.
    traceparent: Option<Range<usize>>,
    tracestate: Option<Range<usize>>,
}

impl<'a> Envelope<'a> {
    /// Reads the payload of a content header frame.
    pub(super) fn read(payload: &'a [u8]) -> Result<Self, Unreadable> {
        let mut cursor = Cursor::new(payload, "bad_properties");
        let _class_and_weight = cursor.long()?;
        let body_size = cursor.long_long()?;
        let flags = cursor.short()?;
        if flags & UNKNOWN_FLAGS != 0 {
            return Err("unknown_properties");
        }
        let body_bytes = usize::try_from(body_size).unwrap_or(usize::MAX);
        let mut envelope = Self {
            size: payload.len().saturating_add(body_bytes),
            body_size,
            headers: Headers::default(),
            correlation_id: &[],
            past: Past::default(),
            has_hostname: false,
            content_type: &[],
            flags,
            places: Places::default(),
        };
        for (flag, property) in PROPERTIES {
            let start = cursor.position();
            if flags & flag != 0 {
                envelope.read_property(property, &mut cursor)?;
            }
            if property == Property::Headers {
                envelope.places.headers = start..cursor.position();
            }
        }
        if cursor.is_at_end() {
            Ok(envelope)
        } else {
            Err("bad_properties")
        }
    }

    fn read_property(
        &mut self,
        property: Property,
        cursor: &mut Cursor<'a>,
    ) -> Result<(), Unreadable> {
        match property {
            Property::ContentType => self.content_type = cursor.short_string()?,
            Property::Headers => {
                let table = cursor.long_place()?;
                self.read_headers(cursor.within(&table))?;
            }
            Property::CorrelationId => self.correlation_id = cursor.short_string()?,
            Property::Octet => drop(cursor.octet()?),
            Property::Timestamp => drop(cursor.long_long()?),
            Property::Text => drop(cursor.short_string()?),
        }
        Ok(())
    }

    fn read_headers(&mut self, mut cursor: Cursor<'a>) -> Result<(), Unreadable> {
        let mut nested = Vec::new();
        while let Some(field) = next_field(&mut cursor)? {
            match field.name {
                b"traceparent" => self.places.traceparent = Some(field.place),
                b"tracestate" => self.places.tracestate = Some(field.place),
                b"hostname" => self.has_hostname = true,
                b"x-delivery-count" => self.past.deliveries = count(field.value),
                b"x-first-death-queue" => self.past.first_queue = text(field.value),
                b"x-first-death-reason" => self.past.first_reason = text(field.value),
                name => {
                    if let Some(place) = Place::within(name) {
                        let table = nested_table(&cursor, &field.place);
                        nested.retain(|(other, _)| *other != place);
                        nested.extend(table.map(|table| (place, table)));
                    }
                }
            }
            self.headers.take(field.name, field.value);
        }
        for (place, mut table) in nested {
            // What cannot be read in there is nobody's loss: nothing outside depends on it.
            while let Ok(Some(field)) = next_field(&mut table) {
                self.headers.take_within(place, field.name, field.value);
            }
        }
        Ok(())
    }

    /// Whether it may be one of the things that workers write in JSON, besides tasks.
    pub(super) fn is_plain_json(&self) -> bool {
        self.content_type == JSON && self.headers.compression.is_none()
    }

    /// Whether the body has to be seen to tell whether the message is a task: a worker looks
    /// for one there when the headers do not name it.
    pub(super) fn may_be_protocol1(&self) -> bool {
        !self.headers.names_a_task()
            && self.body_size > 0
            && PROTOCOL1_CONTENT_TYPES.contains(&self.content_type)
    }

    /// The task that the body describes, or why it cannot be told; it may unpack to at most
    /// `body_max` bytes.
    pub(super) fn protocol1(
        &self,
        body: &[u8],
        body_max: usize,
    ) -> Result<Option<Task<'static>>, Unreadable> {
        let content_type = str::from_utf8(self.content_type).unwrap_or_default();
        let compression = self.headers.compression.as_deref();
        read_protocol1(body, content_type, compression, body_max)
    }

    /// Puts the context of `stamp` into the payload.
    pub(super) fn write_stamped(&self, stamp: &Stamp, patch: &mut Patch) {
        let Places {
            headers,
            traceparent,
            tracestate,
        } = &self.places;
        // Where there is a list and should be none, an empty one stands for that.
        let list = stamp.tracestate.as_deref();
        let list = list.or_else(|| tracestate.as_ref().map(|_| ""));
        let fields = [
            ("traceparent", traceparent, Some(&*stamp.traceparent)),
            ("tracestate", tracestate, list),
        ];
        // What is not there yet is added at the end of the table.
        let add = |out: &mut Vec<u8>| {
            for (name, place, text) in fields {
                if let (None, Some(text)) = (place, text) {
                    write_name(name, out);
                    write_text(text, out);
                }
            }
        };
        if headers.is_empty() {
            let flags = self.flags | HEADERS_FLAG;
            patch.replace(FLAGS_PLACE, |out| {
                out.extend_from_slice(&flags.to_be_bytes())
            });
            patch.replace(headers.clone(), |out| write_long(out, add));
            return;
        }
        for (_, place, text) in fields {
            if let (Some(place), Some(text)) = (place, text) {
                patch.replace(place.clone(), |out| write_text(text, out));
            }
        }
        patch.replace(headers.end..headers.end, add);
        replace_length(headers.clone(), patch);
    }
}

/// The table that stands there, if it is one.
fn nested_table<'a>(cursor: &Cursor<'a>, place: &Range<usize>) -> Option<Cursor<'a>> {
    let mut cursor = cursor.within(place);
    if cursor.octet() != Ok(b'F') {
        return None;
    }
    let table = cursor.long_place().ok()?;
    Some(cursor.within(&table))
}

fn count(value: Value<'_>) -> Option<u32> {
    match value.into() {
        HeaderValue::Integer(number) => u32::try_from(number).ok(),
        _ => None,
    }
}

fn text(value: Value<'_>) -> Option<Cow<'_, str>> {
    match value.into() {
        HeaderValue::Text(text) => Some(text),
        _ => None,
    }
}

/// The length of the body that a content header frame announces.
pub(super) fn body_size(frame: Frame, input: &[u8]) -> Result<u64, Halt> {
    let payload = frame.payload(input, BODY_SIZE_END)?;
    let mut cursor = Cursor::new(payload, "short_content_header");
    let _class_and_weight = cursor.long()?;
    Ok(cursor.long_long()?)
}

/// What tells the messages of a channel apart when they come back: where they were to go,
/// and what their sender tells them apart by.
pub(super) fn mark(route: Route<'_>, correlation_id: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (route, correlation_id).hash(&mut hasher);
    hasher.finish()
}

/// What is to be seen of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Property {
    ContentType,
    Headers,
    CorrelationId,
    Octet,
    Timestamp,
    Text,
}

/// The properties of class `basic`, each with its flag, in the order in which they stand.
const PROPERTIES: [(u16, Property); 14] = [
    (1 << 15, Property::ContentType),
    (1 << 14, Property::Text),
    (HEADERS_FLAG, Property::Headers),
    (1 << 12, Property::Octet),
    (1 << 11, Property::Octet),
    (1 << 10, Property::CorrelationId),
    (1 << 9, Property::Text),
    (1 << 8, Property::Text),
    (1 << 7, Property::Text),
    (1 << 6, Property::Timestamp),
    (1 << 5, Property::Text),
    (1 << 4, Property::Text),
    (1 << 3, Property::Text),
    (1 << 2, Property::Text),
];
const HEADERS_FLAG: u16 = 1 << 13;
/// No property of the class has these; the last one says that more flags follow.
const UNKNOWN_FLAGS: u16 = 0b11;
/// Behind class, weight and body size.
const FLAGS_PLACE: Range<usize> = 12..14;
/// As much of a content header as tells the size of the body.
const BODY_SIZE_END: usize = 12;
const JSON: &[u8] = b"application/json";
/// What Celery's serializers call themselves.
const PROTOCOL1_CONTENT_TYPES: [&[u8]; 4] = [
    JSON,
    b"application/x-python-serialize",
    b"application/x-yaml",
    b"application/x-msgpack",
];

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::celery::Carried;
    use crate::protocol::amqp::fixture::CELERY_FLAGS;
    use crate::protocol::amqp::fixture::frame;
    use crate::protocol::amqp::fixture::header_payload;
    use crate::protocol::amqp::fixture::hex;
    use crate::protocol::amqp::fixture::properties;
    use crate::protocol::amqp::fixture::text;

    fn stamp(tracestate: Option<&str>) -> Stamp {
        Stamp {
            traceparent: "PARENT".to_owned(),
            tracestate: tracestate.map(str::to_owned),
        }
    }

    fn stamped(payload: &[u8], tracestate: Option<&str>) -> Vec<u8> {
        let mut patch = Patch::default();
        let envelope = Envelope::read(payload).unwrap();
        envelope.write_stamped(&stamp(tracestate), &mut patch);
        let before = frame(2, 1, payload);
        Frame::read(&before).unwrap().resize(&mut patch);
        let mut after = BytesMut::new();
        patch.apply(&before, &mut after);
        after.to_vec()
    }

    #[test]
    fn headers_are_found_among_the_other_properties() {
        let all = hex(
            "003c 0000 0000000000000005 fffc
             04'type' 03'enc' 00000014 04'task' 'S' 00000001'a' 02'id' 'S' 00000001'b'
             02 00 04'corr' 05'reply' 03'exp' 03'mid' 0000000065000000 03'typ' 03'usr' 03'app' 03'clu'",
        );
        let envelope = Envelope::read(&all).unwrap();
        assert_eq!(envelope.correlation_id, b"corr");
        assert_eq!(envelope.content_type, b"type");
        let task = envelope.headers.task().unwrap();
        assert_eq!((&*task.name, &*task.id), ("a", "b"));
    }

    #[test]
    fn context_is_added_at_the_end_of_the_table() {
        let before = [text("task", "a"), text("id", "b")];
        let with = |added: &[Vec<u8>]| {
            let fields = [&before[..], added].concat();
            header_payload(5, CELERY_FLAGS, &properties("x", &fields, "c"))
        };
        for (tracestate, added) in [
            (None, vec![text("traceparent", "PARENT")]),
            (
                Some("s=1"),
                vec![text("traceparent", "PARENT"), text("tracestate", "s=1")],
            ),
        ] {
            assert_eq!(stamped(&with(&[]), tracestate), frame(2, 1, &with(&added)));
        }
    }

    #[test]
    fn headers_are_made_where_there_are_none() {
        for (before, after) in [
            // No property at all, then one on either side, then an empty table.
            ("0000", "2000 00000017 0b'traceparent' 'S' 00000006'PARENT'"),
            (
                "9000 01'x' 02",
                "b000 01'x' 00000017 0b'traceparent' 'S' 00000006'PARENT' 02",
            ),
            (
                "3000 00000000 02",
                "3000 00000017 0b'traceparent' 'S' 00000006'PARENT' 02",
            ),
        ] {
            let payload = |rest: &str| hex(&format!("003c 0000 0000000000000005 {rest}"));
            assert_eq!(
                stamped(&payload(before), None),
                frame(2, 1, &payload(after)),
                "{before}"
            );
        }
    }

    #[test]
    fn what_is_there_is_replaced_in_its_place() {
        let payload =
            |fields: &[Vec<u8>]| header_payload(5, CELERY_FLAGS, &properties("x", fields, "c"));
        for (before, tracestate, after) in [
            // The same length, another length, another type; the last of two counts.
            (
                vec![text("traceparent", "parent"), text("z", "")],
                None,
                vec![text("traceparent", "PARENT"), text("z", "")],
            ),
            (
                vec![hex("0b'traceparent' 'x' 00000001 00"), text("z", "")],
                None,
                vec![text("traceparent", "PARENT"), text("z", "")],
            ),
            (
                vec![hex("0b'traceparent' 'V'"), text("tracestate", "old=1")],
                Some("s=1"),
                vec![text("traceparent", "PARENT"), text("tracestate", "s=1")],
            ),
            (
                vec![text("traceparent", "1"), text("traceparent", "2")],
                None,
                vec![text("traceparent", "1"), text("traceparent", "PARENT")],
            ),
            // An empty list stands for none.
            (
                vec![text("tracestate", "old=1")],
                None,
                vec![text("tracestate", ""), text("traceparent", "PARENT")],
            ),
        ] {
            assert_eq!(
                stamped(&payload(&before), tracestate),
                frame(2, 1, &payload(&after))
            );
        }
    }

    #[test]
    fn what_is_no_text_says_nothing() {
        let fields = [
            hex("04'task' 'S' 00000001 ff"),
            hex("02 fffe 'S' 00000001 'b'"),
            hex("0b'traceparent' 'x' 00000001 'b'"),
        ];
        let payload = header_payload(5, CELERY_FLAGS, &properties("x", &fields, "c"));
        let envelope = Envelope::read(&payload).unwrap();
        assert_eq!(envelope.headers.task(), None);
        assert_eq!(envelope.headers.carrier.traceparent, Carried::NotText);
    }

    #[test]
    fn what_cannot_be_read_is_told_by_reason() {
        for (rest, why) in [
            ("2001 00000000", "unknown_properties"),
            ("2002 00000000", "unknown_properties"),
            ("2000 00000003 01'a''?'", "unknown_field_type"),
            ("2000 00000001 01'a''V'", "bad_properties"),
            ("2000 00000004 01'a''V'", "bad_properties"),
            ("2000 ffffffff", "bad_properties"),
            ("8000 05'x'", "bad_properties"),
            ("8000 01'x' 00", "bad_properties"),
            ("80", "bad_properties"),
        ] {
            let payload = hex(&format!("003c 0000 0000000000000005 {rest}"));
            assert_eq!(Envelope::read(&payload).err(), Some(why), "{rest}");
        }
    }

    #[test]
    fn only_what_could_be_protocol_1_needs_its_body() {
        let json = "application/json";
        for (content_type, fields, body_size, expected) in [
            (json, vec![], 5, true),
            (json, vec![text("x", "y")], 5, true),
            ("application/x-yaml", vec![], 5, true),
            (json, vec![], 0, false),
            (json, vec![text("task", "a")], 5, false),
            (json, vec![hex("04'task' 'V'")], 5, false),
            ("text/plain", vec![], 5, false),
            ("application/data", vec![], 5, false),
        ] {
            let properties = properties(content_type, &fields, "c");
            let payload = header_payload(body_size, CELERY_FLAGS, &properties);
            let envelope = Envelope::read(&payload).unwrap();
            assert_eq!(envelope.may_be_protocol1(), expected, "{content_type}");
        }
    }
}
