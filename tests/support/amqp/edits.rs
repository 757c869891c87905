//! What an AMQP session may change, and nothing else: the context in content headers.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::collections::HashMap;

use amq_protocol::frame::AMQPFrame;
use amq_protocol::frame::parsing::parse_frame;
use amq_protocol::protocol::basic::AMQPProperties;
use amq_protocol::types::AMQPValue;
use amq_protocol::types::FieldTable;
use amqp_serde::types::FieldName;
use amqp_serde::types::FieldValue;
use amqprs::BasicProperties;
use serde_json::Value;

use crate::laws::HOLD_BYTES_MAX;
use crate::wire::BODY;
use crate::wire::Field;
use crate::wire::Frame;
use crate::wire::HEADER;
use crate::wire::Header;
use crate::wire::frames;

/// One message whose context was changed on its way to the broker: its content header and
/// its body, as they came and as they left.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Edit {
    pub(crate) before: Vec<u8>,
    pub(crate) after: Vec<u8>,
    header: Header,
    held_bytes: usize,
}

impl Edit {
    /// What may have to be held to read the messages around it as they left: the longest way
    /// from a content header to the end of its body, where that could be held as it came.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// A header of the message as it left, if it is text. The last one counts.
    pub(crate) fn header(&self, name: &str) -> Option<Value> {
        let fields = self.header.headers.as_ref()?;
        let found = fields.iter().rfind(|field| field.name == name.as_bytes());
        found?.as_text().map(Value::String)
    }
}

/// Compares what was sent towards the broker with what left: the same frames, except for
/// content headers that differ by their `traceparent` and `tracestate` alone, whoever reads
/// them.
///
/// # Panics
/// Where anything else differs.
pub(crate) fn edits(sent: &[u8], left: &[u8]) -> Vec<Edit> {
    if sent == left {
        return Vec::new();
    }
    let (sent, left) = (frames(sent), frames(left));
    assert_eq!(sent.len(), left.len(), "frames sent and left");
    let mut edits = Vec::new();
    for (index, (before, after)) in sent.iter().zip(&left).enumerate() {
        if before == after {
            continue;
        }
        assert_eq!(
            (before.kind, before.channel, after.kind, after.channel),
            (HEADER, after.channel, HEADER, before.channel)
        );
        let header = Header::read(&after.payload);
        assert_only_context_differs(&Header::read(&before.payload), &header);
        assert_others_agree(before, after);
        let (body, _) = body_behind(&left[index..]);
        edits.push(Edit {
            before: [&*before.payload, &body].concat(),
            after: [&*after.payload, &body].concat(),
            header,
            held_bytes: 0,
        });
    }
    let ways = (0..sent.len())
        .filter(|index| sent[*index].kind == HEADER)
        .filter(|index| body_behind(&sent[*index..]).1 <= HOLD_BYTES_MAX)
        .map(|index| body_behind(&left[index..]).1);
    let held_bytes = ways.max().unwrap_or_default();
    for edit in &mut edits {
        edit.held_bytes = held_bytes;
    }
    edits
}

/// What the broker sends leaves as it came.
///
/// # Panics
/// Where it does not.
pub(crate) fn assert_only_readdressed(sent: &[u8], left: &[u8]) {
    assert!(
        sent == left,
        "to the client: sent {}, left {}",
        sent.escape_ascii(),
        left.escape_ascii()
    );
}

/// The body behind the content header that these frames begin with, and the length of them
/// all up to its end.
fn body_behind(frames: &[Frame]) -> (Vec<u8>, usize) {
    let channel = frames[0].channel;
    let size = u64::from_be_bytes(frames[0].payload[4..12].try_into().unwrap());
    let (mut body, mut length) = (Vec::new(), frames[0].bytes().len());
    for frame in &frames[1..] {
        if body.len() as u64 >= size {
            break;
        }
        length += frame.bytes().len();
        if (frame.kind, frame.channel) == (BODY, channel) {
            body.extend_from_slice(&frame.payload);
        }
    }
    (body, length)
}

const CONTEXT: [&[u8]; 2] = [b"traceparent", b"tracestate"];

/// Every property and every field is where it was, byte for byte. The last of each name of
/// the context was replaced where it stood, or added behind everything else.
fn assert_only_context_differs(before: &Header, after: &Header) {
    assert_eq!(before.body_size, after.body_size);
    assert_eq!(before.properties, after.properties);
    let old = before.headers.clone().unwrap_or_default();
    let mut expected = old.clone();
    let new = after.headers.as_ref().expect("a context needs headers");
    let mut added = new[old.len()..].iter();
    for name in CONTEXT {
        let is_named = |field: &Field| field.name == name;
        match old.iter().rposition(is_named) {
            Some(place) => {
                expected[place] = new[place].clone();
                assert!(new[place].as_text().is_some(), "{:?}", new[place]);
            }
            None => expected.extend(added.next_if_named(name)),
        }
    }
    assert_eq!(*new, expected);
    let is_written = new.iter().any(|field| field.name == CONTEXT[0]);
    assert!(is_written, "an edit writes a context");
}

trait NextIfNamed {
    fn next_if_named(&mut self, name: &[u8]) -> Option<Field>;
}

impl NextIfNamed for std::slice::Iter<'_, Field> {
    fn next_if_named(&mut self, name: &[u8]) -> Option<Field> {
        let is_next = self.as_slice().first().is_some_and(|it| it.name == name);
        if is_next { self.next().cloned() } else { None }
    }
}

/// Other people's decoders find the same message before and after, but for the context.
/// They do not read everything: what they refuse before, they may refuse after.
fn assert_others_agree(before: &Frame, after: &Frame) {
    if let Some((size, old)) = by_amq_protocol(before) {
        let (new_size, new) = by_amq_protocol(after).expect("amq-protocol reads what it could");
        assert_eq!(size, new_size);
        let text = |name: &str| match new.1.get(name) {
            Some(AMQPValue::LongString(text)) => Some(text.to_string()),
            _ => None,
        };
        let written = Header::read(&after.payload);
        let last = |name: &[u8]| {
            let fields = written.headers.as_ref().expect("there are headers");
            fields.iter().rfind(|field| field.name == name)?.as_text()
        };
        assert_eq!(text("traceparent"), last(b"traceparent"));
        assert_eq!(text("tracestate"), last(b"tracestate"));
        assert_eq!(old.0, new.0, "properties");
        assert_eq!(without_context(old.1), without_context(new.1), "headers");
    }
    if let Some(old) = by_amqprs(before) {
        let new = by_amqprs(after).expect("amqprs reads what it could");
        assert_eq!(old, new);
    }
}

type Fields = BTreeMap<String, AMQPValue>;

fn without_context(mut fields: Fields) -> Fields {
    fields.retain(|name, _| !CONTEXT.contains(&name.as_bytes()));
    fields
}

fn by_amq_protocol(frame: &Frame) -> Option<(u64, (AMQPProperties, Fields))> {
    let bytes = frame.bytes();
    let Ok((rest, AMQPFrame::Header(_, header))) = parse_frame(bytes.as_slice()) else {
        return None;
    };
    assert_eq!(rest.len(), 0, "the frame is one");
    let headers = header.properties.headers().clone().unwrap_or_default();
    let fields = headers.inner().iter();
    let fields = fields.map(|(name, value)| (name.to_string(), value.clone()));
    let others = header
        .properties
        .clone()
        .with_headers(FieldTable::default());
    Some((header.body_size, (others, fields.collect())))
}

type Table = HashMap<FieldName, FieldValue>;

/// Headers but for the context, content type and correlation id.
fn by_amqprs(frame: &Frame) -> Option<(Table, [Option<String>; 2])> {
    let properties: BasicProperties = amqp_serde::from_bytes(frame.payload.get(12..)?).ok()?;
    let mut headers: Table = properties
        .headers()
        .map(|table| AsRef::<Table>::as_ref(table).clone())
        .unwrap_or_default();
    headers.retain(|name, _| !CONTEXT.contains(&name.as_ref().as_bytes()));
    let others = [properties.content_type(), properties.correlation_id()];
    Some((headers, others.map(Option::<&String>::cloned)))
}
