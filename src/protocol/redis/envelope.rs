//! The envelope that kombu puts a message into on Redis: one JSON object with `body`,
//! `headers` and `properties`.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use memchr::memchr2;

use crate::celery::Headers;
use crate::celery::Task;
use crate::celery::body::read_protocol1;
use crate::celery::json::Kind;
use crate::celery::json::Scan;
use crate::celery::json::Unreadable;
use crate::celery::json::Value;
use crate::hop::Stamp;

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

/// A Celery task message, read in place.
#[derive(Debug)]
pub struct Envelope<'a> {
    pub task: Task<'a>,
    pub headers: Headers<'a>,
    /// A worker had it and puts it back: kombu marks the envelope, and keeps the mark out
    /// of whatever the task publishes later.
    pub redelivered: bool,
    /// What its consumers acknowledge it by.
    pub(super) delivery_tag: Option<Cow<'a, str>>,
    routing_key: Option<Cow<'a, str>>,
    places: Places,
}

/// Where the headers stand in the text.
#[derive(Debug, Default)]
struct Places {
    /// Who sends an event says so in a header of its own.
    names_a_host: bool,
    headers: HeadersPlace,
    /// The value of the last `traceparent`, which is the one that counts.
    traceparent: Option<Range<usize>>,
    tracestate: Option<Range<usize>>,
}

#[derive(Debug, Default)]
enum HeadersPlace {
    #[default]
    Missing,
    /// `null`, which the worker takes for no headers.
    Null(Range<usize>),
    Object {
        /// Right behind the opening brace.
        inside: usize,
        is_empty: bool,
    },
}

/// What is read besides the headers.
#[derive(Debug, Default)]
struct Rest<'a> {
    body: Option<Value<'a>>,
    content_type: Option<Value<'a>>,
    /// `None`: there are none.
    properties: Option<Properties<'a>>,
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

impl<'a> Message<'a> {
    /// Reads an envelope. `None`: what is in it is something else, or unreadable.
    ///
    /// A protocol 1 message is told by its body, which may unpack to at most `body_max`
    /// bytes.
    pub(super) fn read(text: &'a [u8], body_max: usize) -> Option<Self> {
        let mut headers = Headers::default();
        let mut places = Places::default();
        let mut rest = Rest::default();
        read_members(text, &mut headers, &mut places, &mut rest).ok()?;
        let properties = rest.properties?;
        let body = rest.body?;
        let task = if headers.names_a_task() {
            headers.task()?
        } else {
            let encoding = properties.body_encoding.and_then(|it| it.text());
            let body = decoded(&body, encoding.as_deref())?;
            let compression = headers.compression.as_deref();
            let content_type = rest.content_type?.text()?;
            match read_protocol1(&body, &content_type, compression, body_max) {
                Some(task) => task,
                None if places.names_a_host => return Some(Self::Event(body)),
                None => return None,
            }
        };
        let DeliveryInfo {
            redelivered,
            is_on_default_exchange,
            routing_key,
        } = properties.delivery_info;
        Some(Self::Task(Envelope {
            task,
            headers,
            redelivered,
            delivery_tag: properties.delivery_tag,
            // On the default exchange the routing key is the queue's name.
            routing_key: routing_key.filter(|_| is_on_default_exchange),
            places,
        }))
    }
}

impl<'a> Envelope<'a> {
    /// Reads a task message that waits in a queue. `None`: it is something else, or
    /// unreadable.
    #[must_use]
    pub fn read(text: &'a [u8], body_max: usize) -> Option<Self> {
        match Message::read(text, body_max)? {
            Message::Task(envelope) => Some(envelope),
            Message::Event(_) => None,
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

    /// Writes the envelope with the context of `stamp` in its headers, and every other byte
    /// as it came. What is inserted is formatted as kombu would have.
    pub(super) fn write_stamped(&self, text: &[u8], stamp: &Stamp, out: &mut Vec<u8>) {
        let traceparent = Some(&*stamp.traceparent);
        let tracestate = stamp.tracestate.as_deref();
        let Places { headers, .. } = &self.places;
        // What is there is replaced in its place, and what is not goes where headers begin.
        let is_missing = |place: &Option<_>| place.is_none();
        let members = [
            (
                "traceparent",
                traceparent.filter(|_| is_missing(&self.places.traceparent)),
            ),
            (
                "tracestate",
                tracestate.filter(|_| is_missing(&self.places.tracestate)),
            ),
        ];
        let has_members = members.iter().any(|(_, value)| value.is_some());
        let mut edits = [
            has_members.then(|| (headers.place(text), None)),
            self.places
                .traceparent
                .clone()
                .map(|place| (place, traceparent)),
            // An empty list stands for none.
            self.places
                .tracestate
                .clone()
                .map(|place| (place, Some(tracestate.unwrap_or_default()))),
        ];
        edits.sort_by_key(|edit| edit.as_ref().map(|(place, _)| place.start));
        out.reserve(text.len() + STAMP_BYTES);
        let mut from = 0;
        for (place, value) in edits.into_iter().flatten() {
            out.extend_from_slice(text.get(from..place.start).unwrap_or_default());
            match value {
                Some(value) => quote(value, out),
                None => headers.write_members(members, out),
            }
            from = place.end;
        }
        out.extend_from_slice(text.get(from..).unwrap_or_default());
    }
}

impl HeadersPlace {
    /// What members that are new stand in place of.
    fn place(&self, text: &[u8]) -> Range<usize> {
        match self {
            Self::Object { inside, .. } => *inside..*inside,
            Self::Null(value) => value.clone(),
            Self::Missing => {
                let start = text.iter().position(|byte| *byte == b'{').unwrap_or(0) + 1;
                start..start
            }
        }
    }

    fn write_members(&self, members: [(&str, Option<&str>); 2], out: &mut Vec<u8>) {
        let (before, behind) = match self {
            Self::Object { is_empty: true, .. } => ("", ""),
            Self::Object { .. } => ("", ", "),
            Self::Null(_) => ("{", "}"),
            Self::Missing => ("\"headers\": {", "}, "),
        };
        out.extend_from_slice(before.as_bytes());
        let mut separator = "";
        for (name, value) in members {
            if let Some(value) = value {
                out.extend_from_slice(separator.as_bytes());
                out.push(b'"');
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"\": ");
                quote(value, out);
                separator = ", ";
            }
        }
        out.extend_from_slice(behind.as_bytes());
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

fn read_members<'a>(
    text: &'a [u8],
    headers: &mut Headers<'a>,
    places: &mut Places,
    rest: &mut Rest<'a>,
) -> Result<(), Unreadable> {
    let mut scan = Scan::new(text);
    if !scan.enter_object()? {
        return Err(Unreadable);
    }
    while let Some(key) = scan.next_key()? {
        if key.is("headers") {
            // As everywhere in JSON that Python reads: of two, the last one counts.
            *headers = Headers::default();
            *places = Places::default();
            read_headers(&mut scan, headers, places)?;
        } else if key.is("body") {
            rest.body = Some(scan.value()?);
        } else if key.is("content-type") {
            rest.content_type = Some(scan.value()?);
        } else if key.is("properties") {
            rest.properties = read_properties(&mut scan)?;
        }
    }
    scan.end()
}

fn read_headers<'a>(
    scan: &mut Scan<'a>,
    headers: &mut Headers<'a>,
    places: &mut Places,
) -> Result<(), Unreadable> {
    if !scan.enter_object()? {
        let value = scan.value()?;
        if value.kind() != Kind::Null {
            // No worker could read headers like that; they are not ours to mend.
            return Err(Unreadable);
        }
        places.headers = HeadersPlace::Null(value.range());
        return Ok(());
    }
    let inside = scan.position();
    let mut is_empty = true;
    while let Some(key) = scan.next_key()? {
        is_empty = false;
        let Some(name) = key.name() else {
            continue;
        };
        if *name == *b"headers" {
            read_nested_headers(scan, headers)?;
            continue;
        }
        let value = scan.value()?;
        match &*name {
            b"traceparent" => places.traceparent = Some(value.range()),
            b"tracestate" => places.tracestate = Some(value.range()),
            b"hostname" => places.names_a_host = true,
            _ => {}
        }
        headers.take(&name, value);
        match &*name {
            b"id" if scan.step_over(UNSET_BEHIND_ID) => headers.take_first_attempt(),
            b"origin" if scan.step_over(UNSET_BEHIND_ORIGIN) => headers.take_unreplaced(),
            _ => {}
        }
    }
    places.headers = HeadersPlace::Object { inside, is_empty };
    Ok(())
}

/// The object that some vendors' libraries put their context into, below the header `headers`.
fn read_nested_headers<'a>(
    scan: &mut Scan<'a>,
    headers: &mut Headers<'a>,
) -> Result<(), Unreadable> {
    if !scan.enter_object()? {
        scan.value()?;
        return Ok(());
    }
    while let Some(key) = scan.next_key()? {
        let value = scan.value()?;
        if let Some(name) = key.name() {
            headers.take_nested(&name, value);
        }
    }
    Ok(())
}

fn read_properties<'a>(scan: &mut Scan<'a>) -> Result<Option<Properties<'a>>, Unreadable> {
    if !scan.enter_object()? {
        scan.value()?;
        return Ok(None);
    }
    let mut properties = Properties::default();
    while let Some(key) = scan.next_key()? {
        if key.is("body_encoding") {
            properties.body_encoding = Some(scan.value()?);
        } else if key.is("delivery_tag") {
            properties.delivery_tag = scan.value()?.text();
        } else if key.is("delivery_info") {
            properties.delivery_info = read_delivery_info(scan)?;
        }
    }
    Ok(Some(properties))
}

fn read_delivery_info<'a>(scan: &mut Scan<'a>) -> Result<DeliveryInfo<'a>, Unreadable> {
    let mut info = DeliveryInfo::default();
    if !scan.enter_object()? {
        scan.value()?;
        return Ok(info);
    }
    while let Some(key) = scan.next_key()? {
        if key.is("redelivered") {
            info.redelivered = scan.value()?.kind() == Kind::True;
        } else if key.is("exchange") {
            info.is_on_default_exchange = scan.value()?.raw == b"\"\"";
        } else if key.is("routing_key") {
            info.routing_key = scan.value()?.text();
        }
    }
    Ok(info)
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

/// Room for what is inserted, most of the time.
const STAMP_BYTES: usize = 160;

/// kombu's default `sep` between a queue's name and the priority step.
pub const PRIORITY_SEPARATOR: &str = "\u{6}\u{16}";

/// What Celery writes behind these two headers where nothing of it is set, as is nearly always
/// so (`celery/app/amqp.py`, `as_task_v2`): it is read at one look.
const UNSET_BEHIND_ID: &[u8] = br#", "shadow": null, "eta": null, "expires": null, "group": null, "group_index": null, "retries": 0, "timelimit": [null, null]"#;
const UNSET_BEHIND_ORIGIN: &[u8] = br#", "ignore_result": false, "replaced_task_nesting": 0, "stamped_headers": null, "stamps": {}"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn task(headers: &str) -> Task<'static> {
        let text = format!(r#"{{"body": "W10=", "headers": {{{headers}}}, "properties": {{}}}}"#);
        let envelope = Envelope::read(text.as_bytes(), 1024).unwrap();
        envelope.task.into_owned()
    }

    #[test]
    fn what_is_unset_says_the_same_at_one_look_and_member_by_member() {
        let text = |bytes| str::from_utf8(bytes).unwrap();
        let whole = [
            r#""eta": "soon", "group": "g", "group_index": 1, "retries": 2, "ignore_result": true, "#,
            r#""replaced_task_nesting": 3, "task": "add", "id": "1""#,
            text(UNSET_BEHIND_ID),
            r#", "root_id": "2", "origin": "gen1@host""#,
            text(UNSET_BEHIND_ORIGIN),
        ]
        .concat();
        let told = task(&whole);
        assert_eq!((told.eta.clone(), told.group.clone()), (None, None));
        assert_eq!((told.group_index, told.retries), (None, 0));
        assert_eq!((told.ignores_result, told.replaced), (false, 0));
        assert_eq!(told, task(&whole.replace(": ", ":")));
        assert_eq!(told, task(&format!("{whole}, \"x\": 1")));
    }

    #[test]
    fn it_is_what_celery_writes() {
        let captured = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/captures/redis/01-delay-result/wire.ndjson"
        );
        let captured = std::fs::read_to_string(captured).unwrap();
        let base64 = captured.lines().filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            Some(line["b64"].as_str()?.to_owned())
        });
        let wire: Vec<u8> = base64
            .flat_map(|base64| BASE64_STANDARD.decode(base64).unwrap())
            .collect();
        for unset in [UNSET_BEHIND_ID, UNSET_BEHIND_ORIGIN] {
            assert!(memchr::memmem::find(&wire, unset).is_some());
        }
    }

    #[test]
    fn what_comes_behind_is_read_all_the_same() {
        for (unset, said) in [
            (UNSET_BEHIND_ID, r#""task": "add", "id": "1""#),
            (
                UNSET_BEHIND_ORIGIN,
                r#""task": "add", "id": "1", "origin": "gen1@host""#,
            ),
        ] {
            let unset = str::from_utf8(unset).unwrap();
            let text =
                format!(r#"{{"body": "", "headers": {{{said}{unset}x}}, "properties": {{}}}}"#);
            assert!(Envelope::read(text.as_bytes(), 1024).is_none());
            let set = task(&format!(r#"{said}{unset}, "retries": 7"#));
            assert_eq!(set.retries, 7);
        }
    }
}
