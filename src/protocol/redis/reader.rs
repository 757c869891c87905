//! Reads envelopes, one after the other: those who write them write theirs alike.

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use memchr::memmem;

use crate::celery::Headers;
use crate::celery::body::read_protocol1;
use crate::celery::foreign::Place;
use crate::celery::headers::Name;
use crate::celery::json::Draft;
use crate::celery::json::Kind;
use crate::celery::json::Layout;
use crate::celery::json::Scan;
use crate::celery::json::Unreadable;
use crate::celery::json::Value;
use crate::protocol::redis::envelope::Envelope;
use crate::protocol::redis::envelope::HeadersPlace;
use crate::protocol::redis::envelope::Places;
use crate::protocol::redis::envelope::begins_like_one;
use crate::protocol::redis::frame::Unreadable as Reason;

/// A message that is of interest here.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one at a time, and it is not moved far"
)]
pub(super) enum Message<'a> {
    Task(Envelope<'a>),
    /// What a worker, or whoever sends tasks, tells whoever listens: the body.
    Event(Cow<'a, [u8]>),
}

/// What has been learned of the envelopes of one direction.
#[derive(Debug, Default)]
pub(super) struct Reader {
    layout: Layout<Part>,
}

/// What a place in an envelope is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Body,
    ContentType,
    /// The headers begin.
    Headers,
    /// The headers are no object.
    NoHeaders,
    Header(Name),
    /// Who sends an event says so in a header of its own.
    Hostname,
    /// The properties begin.
    Properties,
    /// The properties are no object.
    NoProperties,
    Property(Property),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Property {
    BodyEncoding,
    DeliveryTag,
    /// It begins, or is no object.
    DeliveryInfo,
    Redelivered,
    Exchange,
    RoutingKey,
}

/// The objects of which the members are told apart.
#[derive(Clone, Copy, Debug)]
enum Object {
    Envelope,
    Headers,
    /// What some vendors' libraries put their context into, below a header.
    Within(Place),
    Properties,
    DeliveryInfo,
}

/// What an envelope says, as far as it has been read.
#[derive(Debug, Default)]
struct Reading<'a> {
    headers: Headers<'a>,
    places: Places,
    names_a_host: bool,
    body: Option<Value<'a>>,
    content_type: Option<Value<'a>>,
    /// `None`: there are none.
    properties: Option<Properties<'a>>,
    /// No worker could read headers like that; they are not ours to mend.
    has_bad_headers: bool,
}

#[derive(Debug, Default)]
struct Properties<'a> {
    body_encoding: Option<Value<'a>>,
    delivery_tag: Option<Cow<'a, str>>,
    delivery_info: DeliveryInfo<'a>,
}

#[derive(Debug, Default)]
struct DeliveryInfo<'a> {
    redelivered: bool,
    is_on_default_exchange: bool,
    routing_key: Option<Cow<'a, str>>,
}

impl Reader {
    /// The memory that it takes.
    pub(super) fn kept_bytes(&self) -> usize {
        self.layout.kept_bytes()
    }

    /// Reads an envelope. `None`: what is in it is something else. An error: it looks like
    /// one of Celery's, and a worker may be able to read it.
    ///
    /// A protocol 1 message is told by its body, which may unpack to at most `body_max`
    /// bytes.
    pub(super) fn read<'a>(
        &mut self,
        text: &'a [u8],
        body_max: usize,
    ) -> Result<Option<Message<'a>>, Reason> {
        let mut reading = Reading::default();
        if self
            .layout
            .read(text, |part, value| reading.take(part, value))
        {
            return reading.message(body_max);
        }
        let mut reading = Reading::default();
        let mut draft = Draft::default();
        let found = |part, value| {
            draft.push(part, &value);
            if let Some(part) = part {
                reading.take(part, value);
            }
        };
        if walk(text, found).is_err() {
            let is_like_one =
                begins_like_one(text) && memmem::find(text, b"\"properties\"").is_some();
            return match is_like_one {
                true => Err("unreadable_envelope"),
                false => Ok(None),
            };
        }
        let message = reading.message(body_max);
        if let Ok(Some(Message::Task(_))) = message {
            self.layout.learn(text, draft);
        }
        message
    }
}

impl<'a> Reading<'a> {
    /// Takes what stands in a place; of two the last one counts, as everywhere in JSON that
    /// Python reads.
    fn take(&mut self, part: Part, value: Value<'a>) {
        match part {
            Part::Body => self.body = Some(value),
            Part::ContentType => self.content_type = Some(value),
            Part::Headers => self.begin_headers(HeadersPlace::Object(value.range().start)),
            Part::NoHeaders => {
                self.begin_headers(HeadersPlace::Falsy(value.range()));
                self.has_bad_headers = !value.is_falsy();
            }
            Part::Header(name) => {
                match name {
                    Name::Traceparent => self.places.traceparent = Some(value.range()),
                    Name::Tracestate => self.places.tracestate = Some(value.range()),
                    _ => {}
                }
                self.headers.set(name, value);
            }
            Part::Hostname => self.names_a_host = true,
            Part::Properties => self.properties = Some(Properties::default()),
            Part::NoProperties => self.properties = None,
            Part::Property(property) => {
                self.properties
                    .get_or_insert_default()
                    .take(property, value);
            }
        }
    }

    fn begin_headers(&mut self, headers: HeadersPlace) {
        self.headers = Headers::default();
        self.places = Places {
            headers,
            ..Places::default()
        };
        self.names_a_host = false;
        self.has_bad_headers = false;
    }

    fn message(self, body_max: usize) -> Result<Option<Message<'a>>, Reason> {
        let (Some(properties), Some(body)) = (self.properties, self.body) else {
            return Ok(None);
        };
        if self.has_bad_headers {
            return Err("bad_headers");
        }
        let mut headers = self.headers;
        if !headers.names_a_task() {
            let encoding = properties.body_encoding.and_then(|it| it.text());
            let body = decoded(&body, encoding.as_deref()).ok_or("unreadable_body")?;
            let content_type = self.content_type.and_then(|it| it.text());
            let content_type = content_type.unwrap_or_default();
            let compression = headers.compression.as_deref();
            match read_protocol1(&body, &content_type, compression, body_max) {
                Ok(Some(task)) => headers.describe(task),
                _ if self.names_a_host => return Ok(Some(Message::Event(body))),
                Ok(None) => return Ok(None),
                Err(why) => return Err(why),
            }
        }
        let (task, carrier) = headers.into_parts();
        let DeliveryInfo {
            redelivered,
            is_on_default_exchange,
            routing_key,
        } = properties.delivery_info;
        Ok(Some(Message::Task(Envelope {
            task: task.ok_or("bad_headers")?,
            carrier,
            redelivered,
            delivery_tag: properties.delivery_tag,
            // On the default exchange the routing key is the queue's name.
            routing_key: routing_key.filter(|_| is_on_default_exchange),
            places: self.places,
        })))
    }
}

impl<'a> Properties<'a> {
    fn take(&mut self, property: Property, value: Value<'a>) {
        let info = &mut self.delivery_info;
        match property {
            Property::BodyEncoding => self.body_encoding = Some(value),
            Property::DeliveryTag => self.delivery_tag = value.text(),
            Property::DeliveryInfo => *info = DeliveryInfo::default(),
            Property::Redelivered => info.redelivered = value.kind() == Kind::True,
            Property::Exchange => info.is_on_default_exchange = value.raw == b"\"\"",
            Property::RoutingKey => info.routing_key = value.text(),
        }
    }
}

/// The body, out of what kombu wraps around bodies.
fn decoded<'a>(body: &Value<'a>, encoding: Option<&str>) -> Option<Cow<'a, [u8]>> {
    let body = body.text()?;
    if encoding == Some("base64") {
        return BASE64_STANDARD.decode(body.as_bytes()).ok().map(Cow::Owned);
    }
    Some(match body {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    })
}

impl Object {
    /// What a member is of which the value is taken as a whole, if it matters.
    fn part(self, name: &[u8]) -> Option<Part> {
        Some(match (self, name) {
            (Self::Envelope, b"body") => Part::Body,
            (Self::Envelope, b"content-type") => Part::ContentType,
            (Self::Envelope, b"headers") => Part::NoHeaders,
            (Self::Envelope, b"properties") => Part::NoProperties,
            (Self::Headers, b"hostname") => Part::Hostname,
            (Self::Headers, name) => Part::Header(Name::of(name)?),
            (Self::Within(place), name) => Part::Header(Name::within(place, name)?),
            (Self::Properties, b"body_encoding") => Part::Property(Property::BodyEncoding),
            (Self::Properties, b"delivery_tag") => Part::Property(Property::DeliveryTag),
            (Self::Properties, b"delivery_info") => Part::Property(Property::DeliveryInfo),
            (Self::DeliveryInfo, b"redelivered") => Part::Property(Property::Redelivered),
            (Self::DeliveryInfo, b"exchange") => Part::Property(Property::Exchange),
            (Self::DeliveryInfo, b"routing_key") => Part::Property(Property::RoutingKey),
            (Self::Envelope | Self::Properties | Self::DeliveryInfo, _) => return None,
        })
    }

    /// What object a member is where it is one, and what its beginning is.
    const fn member(self, name: &[u8]) -> Option<(Self, Option<Part>)> {
        Some(match (self, name) {
            (Self::Envelope, b"headers") => (Self::Headers, Some(Part::Headers)),
            (Self::Envelope, b"properties") => (Self::Properties, Some(Part::Properties)),
            (Self::Properties, b"delivery_info") => {
                let part = Part::Property(Property::DeliveryInfo);
                (Self::DeliveryInfo, Some(part))
            }
            (Self::Headers, name) => match Place::within(name) {
                Some(place) => (Self::Within(place), None),
                None => return None,
            },
            _ => return None,
        })
    }

    /// Shows every member to `found`: what it is, if it matters, and its value. Objects in it
    /// are walked as well; they stand in each other no deeper than there are kinds of them.
    fn walk<'a>(
        self,
        scan: &mut Scan<'a>,
        found: &mut impl FnMut(Option<Part>, Value<'a>),
    ) -> Result<(), Unreadable> {
        while let Some(key) = scan.next_key()? {
            let name = key.name().unwrap_or_default();
            match self.member(&name) {
                Some((member, begins)) if scan.enter_object()? => {
                    if begins.is_some() {
                        found(begins, Value::nothing_at(scan.position()));
                    }
                    member.walk(scan, found)?;
                }
                _ => found(self.part(&name), scan.value()?),
            }
        }
        Ok(())
    }
}

/// Walks all of an envelope.
fn walk<'a>(
    text: &'a [u8],
    mut found: impl FnMut(Option<Part>, Value<'a>),
) -> Result<(), Unreadable> {
    let mut scan = Scan::new(text);
    if !scan.enter_object()? {
        return Err(Unreadable);
    }
    Object::Envelope.walk(&mut scan, &mut found)?;
    scan.end()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::LazyLock;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// What producers and workers of all kinds have written.
    static ENVELOPES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures/redis");
        let scenarios = std::fs::read_dir(captures).unwrap();
        let mut scenarios: Vec<_> = scenarios.map(|entry| entry.unwrap().path()).collect();
        scenarios.sort();
        let wires = scenarios.iter().map(|scenario| wire(scenario));
        wires.flat_map(|wire| envelopes(&wire)).collect()
    });

    fn wire(scenario: &Path) -> Vec<u8> {
        let lines = std::fs::read_to_string(scenario.join("wire.ndjson")).unwrap();
        let base64 = lines.lines().filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            Some(line["b64"].as_str()?.to_owned())
        });
        base64
            .flat_map(|base64| BASE64_STANDARD.decode(base64).unwrap())
            .collect()
    }

    /// Whatever begins like an envelope, as far as its length says.
    fn envelopes(wire: &[u8]) -> Vec<Vec<u8>> {
        let places = memmem::find_iter(wire, b"\r\n{\"body\"");
        let envelopes = places.filter_map(|place| {
            let (before, envelope) = wire.split_at(place + 2);
            let line = before
                .trim_ascii_end()
                .rsplit(|byte| *byte == b'$')
                .next()?;
            let length: usize = str::from_utf8(line).ok()?.parse().ok()?;
            envelope.get(..length).map(<[u8]>::to_vec)
        });
        envelopes.collect()
    }

    fn read(reader: &mut Reader, envelope: &[u8]) -> String {
        format!("{:?}", reader.read(envelope, 1 << 20))
    }

    #[test]
    fn a_task_is_known_by_one_like_it() {
        let mut row = Reader::default();
        let (mut tasks, mut known_in_a_row) = (0, 0);
        for envelope in ENVELOPES.iter() {
            known_in_a_row += u32::from(row.layout.read(envelope, |_, _| {}));
            let message = row.read(envelope, 1 << 20);
            let is_task = matches!(message, Ok(Some(Message::Task(_))));
            tasks += u32::from(is_task);
            let mut reader = Reader::default();
            read(&mut reader, envelope);
            let is_known = reader.layout.read(envelope, |_, _| {});
            assert_eq!(is_known, is_task, "{}", envelope.escape_ascii());
        }
        assert!(tasks > 500, "{tasks}");
        // They are of fifty apps, which send a few each.
        assert!(known_in_a_row > 100, "{known_in_a_row} of {tasks}");
    }

    #[test]
    fn of_two_headers_the_last_ones_count_whatever_the_first_are() {
        let headers = r#""headers": {"task": "a", "id": "1"}"#;
        for (text, is_task) in [
            (
                format!(r#"{{"body": "", {headers}, "properties": {{}}}}"#),
                true,
            ),
            (
                format!(r#"{{"body": "", "headers": 5, {headers}, "properties": {{}}}}"#),
                true,
            ),
            (
                format!(r#"{{"body": "", {headers}, "headers": 5, "properties": {{}}}}"#),
                false,
            ),
        ] {
            let message = Reader::default().read(text.as_bytes(), 1024);
            let message = message.is_ok_and(|message| message.is_some());
            assert_eq!(message, is_task, "{text}");
        }
    }

    /// Whether a header counts can depend on what the ones before it say.
    #[test]
    fn a_chord_that_waits_is_known_among_other_tasks() {
        let envelope = |task: &str, id: &str| {
            let headers = format!(r#""task": "{task}", "id": "{id}", "argsrepr": "('{id}',)""#);
            format!(r#"{{"body": "", "headers": {{{headers}}}, "properties": {{}}}}"#)
        };
        let mut reader = Reader::default();
        for (task, id) in [("a", "1"), ("b", "2"), ("celery.chord_unlock", "3")] {
            let envelope = envelope(task, id);
            let same = read(&mut Reader::default(), envelope.as_bytes());
            assert_eq!(read(&mut reader, envelope.as_bytes()), same);
        }
        let known = envelope("c", "4");
        assert!(reader.layout.read(known.as_bytes(), |_, _| {}));
    }

    proptest! {
        #[test]
        fn what_was_read_before_changes_nothing(
            start in any::<Index>(),
            edits in vec((0..3_usize, any::<Index>(), any::<Option<u8>>()), 1..40),
        ) {
            let mut reader = Reader::default();
            let mut envelopes = ENVELOPES.iter().cycle().skip(start.index(ENVELOPES.len()));
            for (step, place, byte) in edits {
                let mut envelope = envelopes.nth(step).unwrap().clone();
                let place = place.index(envelope.len());
                match byte {
                    Some(0) => drop(envelope.remove(place)),
                    Some(byte @ ..128) => envelope[place] = byte,
                    Some(byte) => envelope.insert(place, byte & 0x7f),
                    None => {}
                }
                prop_assert_eq!(read(&mut reader, &envelope), read(&mut Reader::default(), &envelope));
            }
        }
    }
}
