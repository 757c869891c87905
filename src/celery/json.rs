//! JSON, scanned in place: where its values stand, so that text can be spliced beside them.
//!
//! A [`Scan`] walks the members of objects one by one and steps over every value that it is
//! not asked to enter. It looks at each byte once, allocates nothing and does not recurse.
//!
//! It is as strict as Python's `json`, by which Celery reads: RFC 8259, and `NaN`,
//! `Infinity` and `-Infinity`, which Python writes and reads as well. Text is decoded only
//! where it is asked for, so a string that holds bytes other than UTF-8 or half a surrogate
//! pair can be stepped over, and has no text.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;
use thiserror::Error;

/// The bytes are not JSON, not all of it, or nested too deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not readable as JSON")]
pub struct Unreadable;

/// How deep objects and arrays may stand in each other.
pub const NESTING_MAX: u8 = 128;

/// A walk through one JSON text, from its first byte to its last.
///
/// Calls follow the text: [`enter_object`](Self::enter_object) or [`value`](Self::value)
/// where a value is due, [`next_key`](Self::next_key) in an object, and [`end`](Self::end).
/// A call out of turn is [`Unreadable`] too.
#[derive(Clone, Debug)]
pub struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    nesting: Nesting,
    due: Due,
}

/// What the scan comes to next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Value,
    /// A key or the end of the object, which was just entered.
    FirstKey,
    /// A comma and a key, or the end of the object.
    NextKey,
    End,
}

impl<'a> Scan<'a> {
    #[must_use]
    pub const fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            at: 0,
            nesting: Nesting::NONE,
            due: Due::Value,
        }
    }

    /// The position of the next unread byte.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// Enters the object that is due; `false` leaves any other value where it is.
    ///
    /// Afterwards the position is right behind the opening brace.
    pub fn enter_object(&mut self) -> Result<bool, Unreadable> {
        self.must_be(Due::Value)?;
        if self.peek()? != b'{' {
            return Ok(false);
        }
        self.enter(Container::Object)?;
        self.due = Due::FirstKey;
        Ok(true)
    }

    /// The next key of the object entered last; `None` at its end, which is then left.
    ///
    /// Steps over the value of the key before if that was neither entered nor read.
    /// Afterwards the position is right behind the colon, or behind the closing brace.
    pub fn next_key(&mut self) -> Result<Option<Key<'a>>, Unreadable> {
        if self.due == Due::Value && self.nesting.depth > 0 {
            self.value()?;
        }
        let first = match self.due {
            Due::FirstKey => true,
            Due::NextKey => false,
            Due::Value | Due::End => return Err(Unreadable),
        };
        if self.another(first)? {
            self.due = Due::Value;
            self.key().map(Some)
        } else {
            self.due = self.due_after_value();
            Ok(None)
        }
    }

    /// Steps over the value that is due, whatever it is.
    pub fn value(&mut self) -> Result<Value<'a>, Unreadable> {
        self.must_be(Due::Value)?;
        self.peek()?;
        let start = self.at;
        self.skip()?;
        self.due = self.due_after_value();
        let range = start..self.at;
        let raw = self.text.get(range.clone()).ok_or(Unreadable)?;
        Ok(Value {
            range,
            kind: Kind::of(raw),
            raw,
        })
    }

    /// The text is over: nothing but white space may follow.
    pub fn end(&mut self) -> Result<(), Unreadable> {
        self.must_be(Due::End)?;
        match self.peek() {
            Ok(_) => Err(Unreadable),
            Err(Unreadable) => Ok(()),
        }
    }

    fn must_be(&self, due: Due) -> Result<(), Unreadable> {
        if self.due == due {
            Ok(())
        } else {
            Err(Unreadable)
        }
    }

    const fn due_after_value(&self) -> Due {
        if self.nesting.depth > 0 {
            Due::NextKey
        } else {
            Due::End
        }
    }

    /// Consumes one value with everything in it.
    fn skip(&mut self) -> Result<(), Unreadable> {
        let outside = self.nesting.depth;
        loop {
            let mut first = true;
            match self.peek()? {
                b'{' => self.enter(Container::Object)?,
                b'[' => self.enter(Container::Array)?,
                _ => {
                    self.scalar()?;
                    first = false;
                }
            }
            loop {
                if self.nesting.depth == outside {
                    return Ok(());
                }
                if self.another(first)? {
                    break;
                }
                first = false;
            }
            if self.nesting.innermost() == Container::Object {
                self.key()?;
            }
        }
    }

    /// Consumes the opening bracket.
    fn enter(&mut self, container: Container) -> Result<(), Unreadable> {
        self.at += 1;
        self.nesting.enter(container)
    }

    /// Whether the innermost container has another member: consumes the comma before it,
    /// or leaves by the closing bracket.
    fn another(&mut self, first: bool) -> Result<bool, Unreadable> {
        let next = self.peek()?;
        if next == self.nesting.innermost().closing() {
            self.at += 1;
            self.nesting.leave();
            return Ok(false);
        }
        if !first {
            self.consume(b',')?;
        }
        Ok(true)
    }

    /// Consumes a key and its colon.
    fn key(&mut self) -> Result<Key<'a>, Unreadable> {
        if self.peek()? != b'"' {
            return Err(Unreadable);
        }
        let start = self.at;
        let escaped = self.string()?;
        let range = start..self.at;
        let raw = self.text.get(range.clone()).ok_or(Unreadable)?;
        self.peek()?;
        self.consume(b':')?;
        Ok(Key {
            range,
            raw,
            escaped,
        })
    }

    fn scalar(&mut self) -> Result<(), Unreadable> {
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            b'N' => self.word(b"NaN"),
            b'I' => self.word(b"Infinity"),
            _ => self.number(),
        }
    }

    /// Consumes a string from its opening quote on, and says whether it holds escapes.
    fn string(&mut self) -> Result<bool, Unreadable> {
        let mut escaped = false;
        self.consume(b'"')?;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let plain = memchr2(b'"', b'\\', rest).ok_or(Unreadable)?;
            let (plain, rest) = rest.split_at_checked(plain).ok_or(Unreadable)?;
            // Without an early exit, so that it is done many bytes at a time.
            if plain.iter().fold(false, |any, byte| any | (*byte < b' ')) {
                return Err(Unreadable);
            }
            let consumed = match rest {
                [b'"', ..] => {
                    self.at += plain.len() + 1;
                    return Ok(escaped);
                }
                [
                    b'\\',
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
                    ..,
                ] => 2,
                [b'\\', b'u', a, b, c, d, ..]
                    if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) =>
                {
                    6
                }
                _ => return Err(Unreadable),
            };
            self.at += plain.len() + consumed;
            escaped = true;
        }
    }

    fn number(&mut self) -> Result<(), Unreadable> {
        if self.next() == Some(b'-') {
            self.at += 1;
            if self.next() == Some(b'I') {
                return self.word(b"Infinity");
            }
        }
        if self.next() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.next() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.next(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.next(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Consumes one digit or more.
    fn digits(&mut self) -> Result<(), Unreadable> {
        let start = self.at;
        while self.next().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start {
            Ok(())
        } else {
            Err(Unreadable)
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Unreadable> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return Err(Unreadable);
        }
        self.at += word.len();
        Ok(())
    }

    fn consume(&mut self, byte: u8) -> Result<(), Unreadable> {
        if self.next() != Some(byte) {
            return Err(Unreadable);
        }
        self.at += 1;
        Ok(())
    }

    /// The next byte that is not white space; the white space is consumed, the byte is not.
    fn peek(&mut self) -> Result<u8, Unreadable> {
        loop {
            match self.next() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                next => return next.ok_or(Unreadable),
            }
        }
    }

    fn next(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
}

/// A member's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// Where it stands in the text, its quotes included.
    pub range: Range<usize>,
    raw: &'a [u8],
    escaped: bool,
}

impl<'a> Key<'a> {
    /// Whether this is `name`, however it is written.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        if self.escaped {
            self.text().is_some_and(|text| text == name)
        } else {
            unquoted(self.raw) == Some(name.as_bytes())
        }
    }

    /// What it says, unless that is no Unicode text.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'a, str>> {
        decode(self.raw, self.escaped)
    }
}

/// A value, stepped over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// Where it stands in the text, its quotes or brackets included.
    pub range: Range<usize>,
    pub kind: Kind,
    /// The bytes of this range.
    pub raw: &'a [u8],
}

impl<'a> Value<'a> {
    /// What a string says, unless that is no Unicode text; borrowed where nothing in it is
    /// escaped. `None` for any other kind.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'a, str>> {
        if self.kind != Kind::String {
            return None;
        }
        decode(self.raw, self.raw.contains(&b'\\'))
    }

    /// The integer, if it was written as one and fits. `None` for any other kind.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        if self.kind != Kind::Number {
            return None;
        }
        str::from_utf8(self.raw).ok()?.parse().ok()
    }
}

/// What sort of value it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    Number,
    True,
    False,
    Null,
    Object,
    Array,
    /// Python's `NaN`, `Infinity` or `-Infinity`.
    NotFinite,
}

impl Kind {
    /// The kind of a value that was read without fault.
    const fn of(raw: &[u8]) -> Self {
        match raw {
            [b'"', ..] => Self::String,
            [b'{', ..] => Self::Object,
            [b'[', ..] => Self::Array,
            [b't', ..] => Self::True,
            [b'f', ..] => Self::False,
            [b'n', ..] => Self::Null,
            [b'N' | b'I', ..] | [b'-', b'I', ..] => Self::NotFinite,
            _ => Self::Number,
        }
    }
}

fn decode(quoted: &[u8], escaped: bool) -> Option<Cow<'_, str>> {
    if escaped {
        serde_json::from_slice(quoted).ok().map(Cow::Owned)
    } else {
        str::from_utf8(unquoted(quoted)?).ok().map(Cow::Borrowed)
    }
}

fn unquoted(quoted: &[u8]) -> Option<&[u8]> {
    match quoted {
        [b'"', inner @ .., b'"'] => Some(inner),
        _ => None,
    }
}

/// The objects and arrays that are open; `depth ≤ NESTING_MAX`.
#[derive(Clone, Copy, Debug)]
struct Nesting {
    /// One bit for each, the innermost lowest, set for an object.
    objects: u128,
    depth: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

impl Nesting {
    const NONE: Self = Self {
        objects: 0,
        depth: 0,
    };

    fn enter(&mut self, container: Container) -> Result<(), Unreadable> {
        if self.depth == NESTING_MAX {
            return Err(Unreadable);
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(container == Container::Object);
        Ok(())
    }

    const fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.objects >>= 1;
    }

    /// Only asked where one is open.
    const fn innermost(self) -> Container {
        if self.objects & 1 == 1 {
            Container::Object
        } else {
            Container::Array
        }
    }
}

impl Container {
    const fn closing(self) -> u8 {
        match self {
            Self::Object => b'}',
            Self::Array => b']',
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    /// The members of an object, each as its key's text, its value's range and kind.
    fn members(text: &[u8]) -> Result<Vec<(Option<String>, Range<usize>, Kind)>, Unreadable> {
        let mut scan = Scan::new(text);
        let mut members = Vec::new();
        if scan.enter_object()? {
            while let Some(key) = scan.next_key()? {
                let value = scan.value()?;
                assert_eq!(text.get(value.range.clone()), Some(value.raw));
                members.push((key.text().map(Cow::into_owned), value.range, value.kind));
            }
        }
        scan.end()?;
        Ok(members)
    }

    fn whole(text: &[u8]) -> Result<Value<'_>, Unreadable> {
        let mut scan = Scan::new(text);
        let value = scan.value()?;
        scan.end()?;
        Ok(value)
    }

    #[test]
    fn the_place_for_a_header_is_found() {
        let text = br#"{"body": "\"headers\": {", "headers": {"id": 1}, "properties": {}}"#;
        let mut scan = Scan::new(text);
        assert_eq!(scan.enter_object(), Ok(true));
        let mut found = None;
        while let Some(key) = scan.next_key().unwrap() {
            if key.is("headers") && scan.enter_object().unwrap() {
                found = Some(scan.position());
                while scan.next_key().unwrap().is_some() {}
            }
        }
        assert_eq!(scan.end(), Ok(()));
        assert_eq!(&text[found.unwrap()..][..7], br#""id": 1"#);
    }
}
