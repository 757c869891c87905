//! What a session may change, and nothing else: the context of messages, and the address in
//! a `MOVING` push.
#![allow(dead_code, reason = "each test uses its part")]

use serde_json::Map;
use serde_json::Value;

use crate::resp::Token;
use crate::resp::tokens;

/// One message whose context was changed on its way to the broker.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Edit {
    pub(crate) before: Vec<u8>,
    pub(crate) after: Vec<u8>,
}

impl Edit {
    /// What is held to read the message as it left.
    pub(crate) fn held_bytes(&self) -> usize {
        self.after.len()
    }

    /// A flat header of the message as it left.
    pub(crate) fn header(&self, name: &str) -> Option<Value> {
        header(&self.after, name)
    }
}

/// A flat header of an envelope.
pub(crate) fn header(envelope: &[u8], name: &str) -> Option<Value> {
    parse(envelope).get("headers")?.get(name).cloned()
}

/// Compares what was sent towards the broker with what left: the same pieces, except for
/// envelopes that are the same JSON but for their `traceparent` and `tracestate`.
///
/// # Panics
/// Where anything else differs.
pub(crate) fn edits(sent: &[u8], left: &[u8]) -> Vec<Edit> {
    if sent == left {
        return Vec::new();
    }
    let (sent, left) = (tokens(sent), tokens(left));
    let mut edits = Vec::new();
    for (before, after) in sent.iter().zip(&left) {
        match (before, after) {
            _ if before == after => {}
            (Token::Blob(b'$', before), Token::Blob(b'$', after)) => {
                assert_same_but_for_context(before, after);
                edits.push(Edit {
                    before: before.to_vec(),
                    after: after.to_vec(),
                });
            }
            _ => panic!("{} became {}", shown(before), shown(after)),
        }
    }
    assert_eq!(sent.len(), left.len(), "pieces sent and left");
    edits
}

fn assert_same_but_for_context(before: &[u8], after: &[u8]) {
    let (mut old, mut new) = (parse(before), parse(after));
    assert_ne!(take_context(&mut new), None, "an edit writes a context");
    take_context(&mut old);
    assert_eq!(old, new, "nothing but the context changes");
    assert_spliced(before, after);
}

/// Python writes `NaN`, which serde_json does not read. Nothing else here says so.
fn parse(text: &[u8]) -> Value {
    let text = String::from_utf8_lossy(text).replace("NaN", "null");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// Takes the context out of an envelope's headers. Headers that were not there, or null,
/// count as empty.
fn take_context(envelope: &mut Value) -> Option<(Value, Option<Value>)> {
    let headers = envelope
        .as_object_mut()?
        .entry("headers")
        .or_insert(Value::Null);
    if headers.is_null() {
        *headers = Value::Object(Map::new());
    }
    let headers = headers.as_object_mut()?;
    let tracestate = headers.remove("tracestate");
    headers
        .remove("traceparent")
        .map(|traceparent| (traceparent, tracestate))
}

/// An edit is made in place: up to the first and from the last byte that it changes stand
/// the bytes that were there.
fn assert_spliced(before: &[u8], after: &[u8]) {
    let same = |(left, right): &(&u8, &u8)| left == right;
    let head = before.iter().zip(after).take_while(same).count();
    let (old, new) = (&before[head..], &after[head..]);
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take_while(same)
        .count();
    let rewritten = &old[..old.len() - tail];
    assert!(
        rewritten.len() <= REWRITTEN_MAX,
        "{} was rewritten",
        rewritten.escape_ascii()
    );
}

/// Room for an old `traceparent` and `tracestate` and the headers that may stand between, with
/// every character escaped.
const REWRITTEN_MAX: usize = 4096;

fn shown(token: &Token<'_>) -> String {
    match token {
        Token::Line(bytes) | Token::Blob(_, bytes) | Token::Rest(bytes) => {
            bytes.escape_ascii().to_string()
        }
    }
}

/// Compares what the broker sent with what left for the client: the same bytes, except for
/// the address in `MOVING` pushes, which leaves as a null.
///
/// # Panics
/// Where anything else differs.
pub(crate) fn assert_only_readdressed(sent: &[u8], left: &[u8]) {
    let (mut sent, mut left) = (sent, left);
    loop {
        let same = sent
            .iter()
            .zip(left)
            .take_while(|(sent, left)| sent == left)
            .count();
        if same == sent.len() && same == left.len() {
            return;
        }
        // The address begins where the streams part, or up to two bytes before: it may be a
        // null itself, of another spelling.
        let mut begins = (0..=2).filter_map(|bytes| same.checked_sub(bytes));
        let begins = begins.find(|at| moving_ends_at(&sent[..*at]));
        let same = begins.unwrap_or_else(|| {
            let shown = |bytes: &[u8]| bytes[..bytes.len().min(80)].escape_ascii().to_string();
            panic!(
                "after {} came {} and left {}",
                shown(&sent[same.saturating_sub(80)..same]),
                shown(&sent[same..]),
                shown(&left[same..])
            )
        });
        let address = item(&sent[same..]).expect("an address");
        sent = &sent[same + address..];
        left = left[same..]
            .strip_prefix(b"_\r\n")
            .expect("a null for the address");
    }
}

/// Whether `before` ends with the first three of a `MOVING` push's elements.
fn moving_ends_at(before: &[u8]) -> bool {
    let is_start = |(_, byte): &(usize, &u8)| **byte == b'>';
    let starts = before.iter().enumerate().rev().filter(is_start);
    starts.take(32).any(|(start, _)| {
        let push = &before[start..];
        let head = push.iter().position(|byte| *byte == b'\n');
        let mut rest = &push[head.map_or(push.len(), |end| end + 1)..];
        let mut elements = Vec::new();
        while let Some(length) = item(rest) {
            // Attributes are no elements.
            if rest[0] != b'|' {
                elements.push(&rest[..length]);
            }
            rest = &rest[length..];
        }
        rest.is_empty() && elements.len() == 3 && is_word(elements[0], b"MOVING")
    })
}

fn is_word(element: &[u8], word: &[u8]) -> bool {
    let text = element.strip_suffix(b"\r\n").unwrap_or_default();
    text.ends_with(word)
}

/// The length of the value or the attributes that `bytes` begin with.
fn item(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    // The elements still to come of what is open; `None` where a line will say so.
    let mut open = vec![Some(1_u64)];
    while let Some(left) = open.last_mut() {
        if *left == Some(0) {
            open.pop();
            continue;
        }
        let rest = bytes.get(at..)?;
        let line = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let (kind, text) = rest[..line].split_first()?;
        let text = String::from_utf8_lossy(text);
        at += line + 2;
        if *kind == b'.' && left.is_none() {
            open.pop();
            continue;
        }
        let is_inside = open.len() > 1;
        let left = open.last_mut()?;
        if *kind != b'|' || !is_inside {
            *left = left.map(|left| left - 1);
        }
        match (kind, &*text) {
            (b'*' | b'~' | b'>' | b'%' | b'|', "?") => open.push(None),
            (b'*' | b'~' | b'>', count) => open.push(Some(count.parse().unwrap_or(0))),
            (b'%' | b'|', count) => open.push(Some(2 * count.parse::<u64>().ok()?)),
            // The chunks of a streamed string, up to the one without bytes.
            (b'$' | b'=' | b'!', "?") => open.push(None),
            (b';', "0") => drop(open.pop()),
            (b'$' | b'=' | b'!' | b';', "-1") => {}
            (b'$' | b'=' | b'!' | b';', length) => at += length.parse::<usize>().ok()? + 2,
            (b'+' | b'-' | b':' | b',' | b'#' | b'(' | b'_', _) => {}
            _ => return None,
        }
    }
    (at <= bytes.len()).then_some(at)
}
