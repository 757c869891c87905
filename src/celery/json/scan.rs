use memchr::memchr2;

use crate::celery::json::Key;
use crate::celery::json::Unreadable;
use crate::celery::json::Value;
use crate::celery::json::nesting::Container;
use crate::celery::json::nesting::Nesting;

/// A walk through one JSON text, from its first byte to its last.
///
/// Calls follow the text: [`enter_object`](Self::enter_object),
/// [`enter_array`](Self::enter_array) or [`value`](Self::value) where a value is due,
/// [`next_key`](Self::next_key) in an object, [`next_item`](Self::next_item) in an array,
/// and [`end`](Self::end). A call out of turn is [`Unreadable`] too.
#[derive(Clone, Debug)]
pub struct Scan<'a> {
    length: usize,
    /// What has not been read yet.
    rest: &'a [u8],
    nesting: Nesting,
    due: Due,
}

/// What the scan comes to next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Value,
    /// A member or the end of the object or array, which was just entered.
    First,
    /// A comma and a member, or the end of the object or array.
    Next,
    End,
}

impl<'a> Scan<'a> {
    #[must_use]
    pub const fn new(text: &'a [u8]) -> Self {
        Self {
            length: text.len(),
            rest: text,
            nesting: Nesting::NONE,
            due: Due::Value,
        }
    }

    /// The position of the next unread byte.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.length - self.rest.len()
    }

    /// Enters the object that is due; `false` leaves any other value where it is.
    ///
    /// Afterwards the position is right behind the opening brace.
    #[inline]
    pub fn enter_object(&mut self) -> Result<bool, Unreadable> {
        self.enter_if(b'{', Container::Object)
    }

    /// Enters the array that is due; `false` leaves any other value where it is.
    ///
    /// Afterwards the position is right behind the opening bracket.
    pub fn enter_array(&mut self) -> Result<bool, Unreadable> {
        self.enter_if(b'[', Container::Array)
    }

    /// The next key of the object entered last; `None` at its end, which is then left.
    ///
    /// Steps over the value of the key before if that was neither entered nor read.
    /// Afterwards the position is before the value, or behind the closing brace.
    #[inline]
    pub fn next_key(&mut self) -> Result<Option<Key<'a>>, Unreadable> {
        if let Some(key) = self.usual_key() {
            return Ok(Some(key));
        }
        if self.next_member(Container::Object)? {
            self.key().map(Some)
        } else {
            Ok(None)
        }
    }

    /// Whether the array entered last has another item, which is due then; at its end it is
    /// left.
    ///
    /// Steps over the item before if that was neither entered nor read.
    pub fn next_item(&mut self) -> Result<bool, Unreadable> {
        self.next_member(Container::Array)
    }

    /// Steps over the value that is due, whatever it is.
    #[inline]
    pub fn value(&mut self) -> Result<Value<'a>, Unreadable> {
        self.must_be(Due::Value)?;
        let first = self.peek()?;
        let (start, text) = (self.position(), self.rest);
        let mut escaped = false;
        match first {
            b'"' => escaped = self.string()?.escaped,
            b'{' | b'[' => self.skip()?,
            _ => self.scalar(first)?,
        }
        self.due = self.due_after_value();
        let raw = text.get(..text.len() - self.rest.len());
        let raw = raw.ok_or(Unreadable)?;
        Ok(Value::new(start, raw, escaped, self.nesting.depth()))
    }

    /// The value that stands in `text` at `start`, inside of `depth` objects; `None` where there
    /// is none.
    pub(super) fn value_at(text: &'a [u8], start: usize, depth: u32) -> Option<Value<'a>> {
        let mut scan = Self {
            rest: text.get(start..)?,
            nesting: Nesting::of_objects(depth),
            ..Self::new(text)
        };
        scan.value().ok()
    }

    /// The text is over: nothing but white space may follow.
    pub fn end(&mut self) -> Result<(), Unreadable> {
        self.must_be(Due::End)?;
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Unreadable)
        }
    }

    #[inline]
    fn must_be(&self, due: Due) -> Result<(), Unreadable> {
        if self.due == due {
            Ok(())
        } else {
            Err(Unreadable)
        }
    }

    #[inline]
    fn enter_if(&mut self, opening: u8, container: Container) -> Result<bool, Unreadable> {
        self.must_be(Due::Value)?;
        if self.peek()? != opening {
            return Ok(false);
        }
        self.enter(container)?;
        self.due = Due::First;
        Ok(true)
    }

    /// Comes to the next member of the innermost container, or leaves it.
    #[inline]
    fn next_member(&mut self, container: Container) -> Result<bool, Unreadable> {
        if self.due == Due::Value && self.nesting.depth() > 0 {
            self.value()?;
        }
        let first = match self.due {
            Due::First => true,
            Due::Next => false,
            Due::Value | Due::End => return Err(Unreadable),
        };
        if self.nesting.innermost() != container {
            return Err(Unreadable);
        }
        let is_another = self.another(first)?;
        self.due = if is_another {
            Due::Value
        } else {
            self.due_after_value()
        };
        Ok(is_another)
    }

    #[inline]
    const fn due_after_value(&self) -> Due {
        if self.nesting.depth() > 0 {
            Due::Next
        } else {
            Due::End
        }
    }

    /// Consumes one value with everything in it.
    fn skip(&mut self) -> Result<(), Unreadable> {
        let outside = self.nesting.depth();
        loop {
            let mut first = true;
            match self.peek()? {
                b'{' => self.enter(Container::Object)?,
                b'[' => self.enter(Container::Array)?,
                next => {
                    self.scalar(next)?;
                    first = false;
                }
            }
            loop {
                if self.nesting.depth() == outside {
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
        self.step();
        self.nesting.enter(container)
    }

    /// Whether the innermost container has another member: consumes the comma before it,
    /// or leaves by the closing bracket.
    #[inline]
    fn another(&mut self, first: bool) -> Result<bool, Unreadable> {
        let next = self.peek()?;
        if next == self.nesting.innermost().closing() {
            self.step();
            self.nesting.leave();
            return Ok(false);
        }
        if !first {
            self.consume(b',')?;
        }
        Ok(true)
    }

    /// Consumes a key and its colon.
    #[inline]
    fn key(&mut self) -> Result<Key<'a>, Unreadable> {
        self.peek()?;
        let Text { inside, escaped } = self.string()?;
        self.peek()?;
        self.consume(b':')?;
        Ok(Key::new(inside, escaped))
    }

    fn scalar(&mut self, first: u8) -> Result<(), Unreadable> {
        match first {
            b'"' => self.string().map(|_| ()),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            b'N' => self.word(b"NaN"),
            b'I' => self.word(b"Infinity"),
            _ => self.number(),
        }
    }

    /// Consumes a comma, a key and its colon where they are as Python writes them: so are
    /// nearly all, and they are read at one look. Consumes nothing where they are not.
    #[inline]
    fn usual_key(&mut self) -> Option<Key<'a>> {
        let inside = match (self.due, self.rest) {
            (Due::Next, [b',', b' ', b'"', inside @ ..]) => inside,
            (Due::First, [b'"', inside @ ..]) => inside,
            _ => return None,
        };
        if self.nesting.innermost() != Container::Object {
            return None;
        }
        let (inside, [b'"', b':', b' ', rest @ ..]) =
            inside.split_at_checked(plain(inside).ok()?)?
        else {
            return None;
        };
        self.rest = rest;
        self.due = Due::Value;
        Some(Key::new(inside, false))
    }

    /// Consumes a string from its opening quote on.
    #[inline]
    fn string(&mut self) -> Result<Text<'a>, Unreadable> {
        let [b'"', inside @ ..] = self.rest else {
            return Err(Unreadable);
        };
        match inside.split_at_checked(plain(inside)?) {
            Some((inside, [b'"', rest @ ..])) => {
                self.rest = rest;
                Ok(Text {
                    inside,
                    escaped: false,
                })
            }
            Some((_, special)) => self.escaped_string(inside, special),
            None => Err(Unreadable),
        }
    }

    /// Consumes the rest of a string that goes on with an escape.
    #[cold]
    fn escaped_string(
        &mut self,
        inside: &'a [u8],
        mut special: &'a [u8],
    ) -> Result<Text<'a>, Unreadable> {
        loop {
            let rest = escape(special)?;
            (_, special) = rest.split_at_checked(plain(rest)?).ok_or(Unreadable)?;
            if let [b'"', rest @ ..] = special {
                let inside = inside.get(..inside.len() - special.len());
                self.rest = rest;
                return Ok(Text {
                    inside: inside.ok_or(Unreadable)?,
                    escaped: true,
                });
            }
        }
    }

    fn number(&mut self) -> Result<(), Unreadable> {
        if self.next() == Some(b'-') {
            self.step();
            if self.next() == Some(b'I') {
                return self.word(b"Infinity");
            }
        }
        if self.next() == Some(b'0') {
            self.step();
        } else {
            self.digits()?;
        }
        if self.next() == Some(b'.') {
            self.step();
            self.digits()?;
        }
        if matches!(self.next(), Some(b'e' | b'E')) {
            self.step();
            if matches!(self.next(), Some(b'+' | b'-')) {
                self.step();
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Consumes one digit or more.
    fn digits(&mut self) -> Result<(), Unreadable> {
        let [b'0'..=b'9', ..] = self.rest else {
            return Err(Unreadable);
        };
        while let [b'0'..=b'9', rest @ ..] = self.rest {
            self.rest = rest;
        }
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Unreadable> {
        self.rest = self.rest.strip_prefix(word).ok_or(Unreadable)?;
        Ok(())
    }

    #[inline]
    fn consume(&mut self, byte: u8) -> Result<(), Unreadable> {
        match self.rest {
            [next, rest @ ..] if *next == byte => {
                self.rest = rest;
                Ok(())
            }
            _ => Err(Unreadable),
        }
    }

    /// Consumes the next byte, which is there.
    #[inline]
    fn step(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    /// The next byte that is not white space; the white space is consumed, the byte is not.
    #[inline]
    fn peek(&mut self) -> Result<u8, Unreadable> {
        loop {
            match self.rest {
                [next, ..] if *next > b' ' => return Ok(*next),
                [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] => self.rest = rest,
                _ => return Err(Unreadable),
            }
        }
    }

    fn next(&self) -> Option<u8> {
        self.rest.first().copied()
    }
}

/// A string that has been read.
#[derive(Clone, Copy)]
struct Text<'a> {
    /// What stands between the quotes.
    inside: &'a [u8],
    escaped: bool,
}

/// What comes behind the escape at the head of this.
fn escape(text: &[u8]) -> Result<&[u8], Unreadable> {
    match text {
        [
            b'\\',
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
            rest @ ..,
        ] => Ok(rest),
        [b'\\', b'u', a, b, c, d, rest @ ..]
            if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) =>
        {
            Ok(rest)
        }
        _ => Err(Unreadable),
    }
}

/// How many bytes of a string come before the next that is special.
#[inline]
fn plain(string: &[u8]) -> Result<usize, Unreadable> {
    match string.split_first_chunk() {
        Some((block, behind)) => match first_special(*block) {
            Some(place) => Ok(place),
            None => Ok(block.len() + plain_behind(behind)?),
        },
        None => plain_behind(string),
    }
}

/// The same, behind the first block: called where that does not tell.
fn plain_behind(string: &[u8]) -> Result<usize, Unreadable> {
    let mut near = 0;
    for block in string.as_chunks().0.iter().take(NEAR_BLOCKS) {
        if let Some(place) = first_special(*block) {
            return Ok(near + place);
        }
        near += block.len();
    }
    let far = string.get(near..).unwrap_or_default();
    let plain = memchr2(b'"', b'\\', far).ok_or(Unreadable)?;
    // Without an early exit, so that it is done many bytes at a time.
    let is_control = |any, byte: &u8| any | (*byte < b' ');
    if far.iter().take(plain).fold(false, is_control) {
        return Err(Unreadable);
    }
    Ok(near + plain)
}

/// Most strings are short, and a search by `memchr` costs more to set out than to carry
/// through: eight bytes at a time do better up to here.
const NEAR_BLOCKS: usize = 7;

/// Where the first byte stands that is a quote, a backslash or a control character.
#[inline]
const fn first_special(block: [u8; 8]) -> Option<usize> {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    const fn below(limit: u8, block: u64) -> u64 {
        block.wrapping_sub(EACH * limit as u64) & !block & (EACH << 7)
    }
    let block = u64::from_le_bytes(block);
    // Marks the lowest one by its high bit. Bytes above it may be marked without being one.
    let marked = below(b' ', block)
        | below(1, block ^ (EACH * b'"' as u64))
        | below(1, block ^ (EACH * b'\\' as u64));
    match marked {
        0 => None,
        _ => Some(marked.trailing_zeros() as usize / 8),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde::Deserializer;
    use serde::de::IgnoredAny;
    use serde::de::MapAccess;
    use serde::de::Visitor;
    use serde_json::value::RawValue;

    use super::*;
    use crate::celery::json::Kind;
    use crate::celery::json::NESTING_MAX;

    fn read(text: &[u8]) -> Result<Value<'_>, Unreadable> {
        let mut scan = Scan::new(text);
        let value = scan.value()?;
        scan.end()?;
        assert_eq!(text.get(value.range()), Some(value.raw));
        Ok(value)
    }

    /// A key's text, its value, and where that starts.
    type Member<'a> = (String, &'a [u8], usize);

    fn members(text: &[u8]) -> Result<Vec<Member<'_>>, Unreadable> {
        let mut scan = Scan::new(text);
        let mut members = Vec::new();
        assert!(scan.enter_object()?);
        while let Some(key) = scan.next_key()? {
            let value = scan.value()?;
            let name = key.text().ok_or(Unreadable)?;
            members.push((name.into_owned(), value.raw, value.range().start));
        }
        scan.end()?;
        Ok(members)
    }

    #[test]
    fn the_place_for_a_header_is_found() {
        let text = br#"{"body": "\"headers\": {", "headers": {"id": 1}, "properties": {}}"#;
        let mut scan = Scan::new(text);
        assert_eq!(scan.enter_object(), Ok(true));
        let mut found = Vec::new();
        while let Some(key) = scan.next_key().unwrap() {
            if key.is("headers") && scan.enter_object().unwrap() {
                found.push(scan.position());
                while scan.next_key().unwrap().is_some() {}
            }
        }
        assert_eq!(scan.end(), Ok(()));
        assert_eq!(found, [39]);
        assert_eq!(&text[39..46], br#""id": 1"#);
    }

    #[test]
    fn what_is_not_json_is_unreadable() {
        for text in [
            "",
            " ",
            "{",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1}",
            "{]",
            "{,}",
            "{1: 2}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a": 1,}"#,
            r#"{"a" 1}"#,
            r#"{"a": 1 "b": 2}"#,
            r#"{"a": 1]"#,
            "1 2",
            "01",
            "-",
            "+1",
            "1.",
            ".5",
            "1e",
            "1e+",
            "-a",
            "0x1",
            "nul",
            "True",
            "nan",
            "-NaN",
            "+Infinity",
            "Infinit",
            "'a'",
            r#"""#,
            r#""a"#,
            r#""\"#,
            r#""\x41""#,
            r#""\u12""#,
            r#""\u12g4""#,
            "\"\n\"",
            "\"\u{0}\"",
            "\u{feff}1",
            "// a",
        ] {
            assert_eq!(read(text.as_bytes()), Err(Unreadable), "{text}");
        }
    }

    #[test]
    fn every_byte_counts_wherever_it_stands_in_a_string() {
        for place in 0..100 {
            for byte in 0..=255 {
                let mut text = [b"\"", &[b'\xa2'; 100][..], b"\""].concat();
                text[place + 1] = byte;
                let expected = serde_json::from_slice::<IgnoredAny>(&text).is_ok();
                assert_eq!(read(&text).is_ok(), expected, "{byte:#x} at {place}");
            }
        }
    }

    #[test]
    fn nesting_is_read_to_its_limit_and_no_deeper() {
        let depth_max = NESTING_MAX as usize;
        let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(read(&nested(depth_max)).is_ok());
        assert_eq!(read(&nested(depth_max + 1)), Err(Unreadable));

        let objects = br#"{"a":"#.repeat(depth_max + 1);
        let mut scan = Scan::new(&objects);
        for _ in 0..depth_max {
            assert_eq!(scan.enter_object(), Ok(true));
            assert!(scan.next_key().unwrap().is_some());
        }
        assert_eq!(scan.enter_object(), Err(Unreadable));
    }

    #[test]
    fn a_call_out_of_turn_is_unreadable() {
        assert_eq!(Scan::new(b"{}").next_key(), Err(Unreadable));
        assert_eq!(Scan::new(b"{}").end(), Err(Unreadable));
        let mut scan = Scan::new(b"{}");
        assert_eq!(scan.enter_object(), Ok(true));
        assert_eq!(scan.value(), Err(Unreadable));
        assert_eq!(scan.enter_object(), Err(Unreadable));
        assert_eq!(scan.next_key(), Ok(None));
        assert_eq!(scan.next_key(), Err(Unreadable));
        assert_eq!(scan.end(), Ok(()));
    }

    #[test]
    fn items_are_entered_read_or_stepped_over() {
        let mut scan = Scan::new(br#" [ {"a": [1, 2], "b": 0}, [3], 4 , "five",{}] "#);
        assert_eq!(scan.enter_object(), Ok(false));
        assert_eq!(scan.enter_array(), Ok(true));
        assert_eq!(scan.next_item(), Ok(true));
        assert_eq!(scan.enter_object(), Ok(true));
        assert!(scan.next_key().unwrap().unwrap().is("a"));
        assert_eq!(scan.enter_array(), Ok(true));
        assert_eq!(scan.next_key(), Err(Unreadable));
        assert_eq!(scan.next_item(), Ok(true));
        assert_eq!(scan.value().unwrap().integer(), Some(1));
        assert_eq!(scan.next_item(), Ok(true));
        assert_eq!(scan.next_item(), Ok(false));
        assert_eq!(scan.next_item(), Err(Unreadable));
        assert!(scan.next_key().unwrap().unwrap().is("b"));
        assert_eq!(scan.next_key(), Ok(None));
        assert_eq!(scan.next_item(), Ok(true));
        assert_eq!(scan.next_item(), Ok(true));
        assert_eq!(scan.value().unwrap().integer(), Some(4));
        for is_another in [true, true, false] {
            assert_eq!(scan.next_item(), Ok(is_another));
        }
        assert_eq!(scan.end(), Ok(()));
    }

    #[test]
    fn a_value_that_is_no_object_is_not_entered() {
        let mut scan = Scan::new(b" [{}]");
        assert_eq!(scan.enter_object(), Ok(false));
        assert_eq!(scan.value().unwrap().kind(), Kind::Array);
        assert_eq!(scan.end(), Ok(()));
    }

    /// Would never end if any byte were looked at more than a few times.
    #[test]
    fn long_hostile_texts_are_read_in_one_pass() {
        let many = 1 << 20;
        for (text, readable) in [
            (vec![b'['; many], false),
            (vec![b' '; many], false),
            (vec![b'1'; many], true),
            (vec![b'"'; many], false),
            ([b"\"", &b"\\u0000".repeat(many)[..], b"\""].concat(), true),
            ([b"[", &b"[],".repeat(many)[..], b"1]"].concat(), true),
        ] {
            assert_eq!(read(&text).is_ok(), readable);
        }
    }

    /// An object's members as serde_json finds them, duplicates included.
    struct Members<'a>(Vec<(String, &'a RawValue)>);

    impl<'de> Deserialize<'de> for Members<'de> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Pairs;
            impl<'de> Visitor<'de> for Pairs {
                type Value = Members<'de>;

                fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                    out.write_str("an object")
                }

                fn visit_map<A: MapAccess<'de>>(
                    self,
                    mut map: A,
                ) -> Result<Members<'de>, A::Error> {
                    let mut members = Vec::new();
                    while let Some(member) = map.next_entry()? {
                        members.push(member);
                    }
                    Ok(Members(members))
                }
            }
            deserializer.deserialize_map(Pairs)
        }
    }

    fn space() -> impl Strategy<Value = &'static str> {
        prop_oneof![4 => Just(""), 2 => Just(" "), 1 => Just("\n"), 1 => Just("\t\r\n ")]
    }

    /// A text, and one of the ways to write it.
    fn string() -> impl Strategy<Value = (String, String)> {
        let character = prop_oneof![4 => any::<char>(), 4 => proptest::char::range(' ', '~')];
        let characters = vec((character, any::<bool>()), 0..12);
        characters.prop_map(|characters| {
            let mut written = String::from("\"");
            for (character, escape) in &characters {
                match character {
                    '"' | '\\' if !escape => written.extend(['\\', *character]),
                    '\n' if !escape => written.push_str("\\n"),
                    _ if !escape && *character >= ' ' => written.push(*character),
                    _ => {
                        for unit in character.encode_utf16(&mut [0; 2]) {
                            written.push_str(&format!("\\u{unit:04x}"));
                        }
                    }
                }
            }
            written.push('"');
            (
                characters
                    .into_iter()
                    .map(|(character, _)| character)
                    .collect(),
                written,
            )
        })
    }

    fn value() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            Just("false".to_owned()),
            Just(r#""\udc80""#.to_owned()),
            "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,3})?",
            string().prop_map(|(_, written)| written),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![array(inner.clone()), object(inner)]
        })
    }

    fn array(inner: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
        let item = (space(), inner, space()).prop_map(|(a, item, b)| format!("{a}{item}{b}"));
        (space(), vec(item, 0..5)).prop_map(|(a, items)| format!("[{a}{}]", items.join(",")))
    }

    fn object(inner: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
        let member = (space(), string(), space(), space(), inner, space())
            .prop_map(|(a, (_, key), b, c, value, d)| format!("{a}{key}{b}:{c}{value}{d}"));
        (space(), vec(member, 0..5)).prop_map(|(a, all)| format!("{{{a}{}}}", all.join(",")))
    }

    proptest! {
        #[test]
        fn members_stand_where_serde_json_finds_them(text in object(value())) {
            let expected: Members<'_> = serde_json::from_str(&text).unwrap();
            let expected: Vec<_> = expected.0.into_iter().map(|(key, value)| {
                let start = value.get().as_ptr() as usize - text.as_ptr() as usize;
                (key, value.get().as_bytes(), start)
            }).collect();
            prop_assert_eq!(members(text.as_bytes()), Ok(expected));
        }

        #[test]
        fn text_comes_out_as_it_was_written((text, written) in string()) {
            let value = read(written.as_bytes()).unwrap();
            prop_assert_eq!(value.text(), Some(text.as_str().into()));
            let member = format!("{{{written}:0}}");
            let mut scan = Scan::new(member.as_bytes());
            prop_assert_eq!(scan.enter_object(), Ok(true));
            let key = scan.next_key().unwrap().unwrap();
            prop_assert!(key.is(&text));
            prop_assert_eq!(key.text(), Some(text.as_str().into()));
        }

        #[test]
        fn damaged_json_is_refused_where_serde_json_refuses_it(
            text in prop_oneof![object(value()), value()],
            damage in vec((any::<prop::sample::Index>(), 0..3u8, r#"[\[\]{}:,"\\0-9.eE+ \n\x01tfnu-]"#), 1..4),
        ) {
            let mut text: Vec<char> = text.chars().collect();
            for (place, action, character) in damage {
                let place = place.index(text.len() + 1);
                match action {
                    0 => text.truncate(place),
                    1 if place < text.len() => drop(text.remove(place)),
                    _ => text.splice(place..place, character.chars()).for_each(drop),
                }
            }
            let text: String = text.into_iter().collect();
            let expected = serde_json::from_str::<IgnoredAny>(&text).is_ok();
            prop_assert_eq!(read(text.as_bytes()).is_ok(), expected, "{}", text);
        }

        #[test]
        fn any_calls_on_any_bytes_end_within_them(
            text in prop_oneof![
                vec(any::<u8>(), 0..64),
                "[{}\\[\\]\",:\\\\u0-9eN ]{0,64}".prop_map(String::into_bytes),
                object(value()).prop_map(String::into_bytes),
            ],
            calls in vec(0..6u8, 0..32),
        ) {
            let mut scan = Scan::new(&text);
            for call in calls {
                let before = scan.position();
                let _ = match call {
                    0 => scan.enter_object().map(drop),
                    1 => scan.next_key().map(drop),
                    2 => scan.value().map(drop),
                    3 => scan.enter_array().map(drop),
                    4 => scan.next_item().map(drop),
                    _ => scan.end(),
                };
                prop_assert!(scan.position() >= before);
                prop_assert!(scan.position() <= text.len());
            }
        }
    }
}
