use std::borrow::Cow;
use std::ops::Range;

/// A member's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// What stands between its quotes.
    inside: &'a [u8],
    escaped: bool,
}

impl<'a> Key<'a> {
    pub(super) const fn new(inside: &'a [u8], escaped: bool) -> Self {
        Self { inside, escaped }
    }

    /// Whether this is `name`, however it is written.
    #[must_use]
    #[inline]
    pub fn is(&self, name: &str) -> bool {
        if self.escaped {
            self.text().is_some_and(|text| text == name)
        } else {
            self.inside == name.as_bytes()
        }
    }

    /// What it says, as bytes: cheaper where it is only compared.
    #[must_use]
    #[inline]
    pub fn name(&self) -> Option<Cow<'a, [u8]>> {
        if self.escaped {
            return Some(self.text()?.into_owned().into_bytes().into());
        }
        Some(self.inside.into())
    }

    /// What it says, unless that is no Unicode text.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'a, str>> {
        decode(self.inside, self.escaped)
    }
}

/// A value, stepped over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// Where it begins in the text.
    start: usize,
    /// Its bytes, quotes or brackets included.
    pub raw: &'a [u8],
    /// Of a string, whether it holds escapes.
    escaped: bool,
    /// How many objects and arrays it stands in.
    depth: u32,
}

impl<'a> Value<'a> {
    #[inline]
    pub(super) const fn new(start: usize, raw: &'a [u8], escaped: bool, depth: u32) -> Self {
        Self {
            start,
            raw,
            escaped,
            depth,
        }
    }

    /// Nothing, and where it would stand.
    #[must_use]
    pub const fn nothing_at(start: usize) -> Self {
        Self::new(start, &[], false, 0)
    }

    /// Where it stands in the text, its quotes or brackets included.
    #[must_use]
    pub const fn range(&self) -> Range<usize> {
        self.start..self.start + self.raw.len()
    }

    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::of(self.raw)
    }

    /// Whether it is a string that holds escapes.
    #[must_use]
    pub(super) const fn is_escaped(&self) -> bool {
        self.escaped
    }

    /// How many objects and arrays it stands in.
    #[must_use]
    pub(super) const fn depth(&self) -> u32 {
        self.depth
    }

    /// Whether Python takes it for false.
    #[must_use]
    pub fn is_falsy(&self) -> bool {
        match self.kind() {
            Kind::Null | Kind::False => true,
            Kind::True | Kind::NotFinite => false,
            Kind::Number => self.float() == Some(0.0),
            Kind::String => self.raw.len() == 2,
            Kind::Object | Kind::Array => match self.raw {
                [_, inside @ .., _] => inside.trim_ascii().is_empty(),
                _ => false,
            },
        }
    }

    /// What a string says, unless that is no Unicode text; borrowed where nothing in it is
    /// escaped. `None` for any other kind.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'a, str>> {
        match self.raw {
            [b'"', inside @ .., b'"'] => decode(inside, self.escaped),
            _ => None,
        }
    }

    /// The integer, if it was written as one and fits. `None` for any other kind.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        if self.kind() != Kind::Number {
            return None;
        }
        str::from_utf8(self.raw).ok()?.parse().ok()
    }

    /// The number, as near as a float comes to it. `None` for any other kind.
    #[must_use]
    pub fn float(&self) -> Option<f64> {
        if self.kind() != Kind::Number {
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
    #[inline]
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

/// What a string says of which this stands between its quotes.
fn decode(inside: &[u8], escaped: bool) -> Option<Cow<'_, str>> {
    if escaped {
        let quoted = [b"\"", inside, b"\""].concat();
        serde_json::from_slice(&quoted).ok().map(Cow::Owned)
    } else {
        str::from_utf8(inside).ok().map(Cow::Borrowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::celery::json::Scan;

    fn read(text: &[u8]) -> Value<'_> {
        Scan::new(text).value().unwrap()
    }

    #[test]
    fn every_value_has_its_kind() {
        for (text, kind) in [
            (r#""a""#, Kind::String),
            ("0", Kind::Number),
            ("-1.5e+7", Kind::Number),
            ("true", Kind::True),
            ("false", Kind::False),
            ("null", Kind::Null),
            ("NaN", Kind::NotFinite),
            ("Infinity", Kind::NotFinite),
            ("-Infinity", Kind::NotFinite),
            (r#"{"a": [1, {}]}"#, Kind::Object),
            ("[[], NaN]", Kind::Array),
        ] {
            for text in [text.to_owned(), format!(" \t\r\n{text}\n")] {
                assert_eq!(read(text.as_bytes()).kind(), kind, "{text}");
            }
        }
    }

    #[test]
    fn falsy_is_what_python_takes_for_false() {
        for text in [
            "null", "false", "0", "-0", "0.0", "-0e5", "1e-999", r#""""#, "[]", "[ ]", "{}", "{\n}",
        ] {
            assert!(read(text.as_bytes()).is_falsy(), "{text}");
        }
        for text in [
            "true",
            "1",
            "0.1",
            "1e999",
            "NaN",
            "-Infinity",
            r#"" ""#,
            "[0]",
            "[[]]",
            r#"{"": 0}"#,
        ] {
            assert!(!read(text.as_bytes()).is_falsy(), "{text}");
        }
    }

    #[test]
    fn text_is_decoded_only_where_it_is_unicode() {
        for (text, expected) in [
            (&br#""plain""#[..], Some("plain")),
            ("\"gr\u{fc}n\"".as_bytes(), Some("gr\u{fc}n")),
            (br#""gr\u00fcn""#, Some("gr\u{fc}n")),
            (br#""\"\\\/\b\f\n\r\t""#, Some("\"\\/\u{8}\u{c}\n\r\t")),
            (br#""\ud83d\ude00""#, Some("\u{1f600}")),
            (br#""\ud83d""#, None),
            (br#""\ude00\ud83d""#, None),
            (br#""\ud83dx""#, None),
            (b"\"\xff\"", None),
            (b"\"\xff\\n\"", None),
            (b"17", None),
        ] {
            let value = read(text);
            assert_eq!(value.text().as_deref(), expected);
        }
    }

    #[test]
    fn a_number_is_an_integer_only_if_written_as_one() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-3", Some(-3)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("1.0", None),
            ("1e3", None),
            (r#""1""#, None),
        ] {
            assert_eq!(read(text.as_bytes()).integer(), expected);
        }
    }

    #[test]
    fn a_key_is_known_however_it_is_written() {
        for (text, is) in [
            (&br#"{"headers": 0}"#[..], true),
            (br#"{"he\u0061ders": 0}"#, true),
            (
                br#"{"\u0068\u0065\u0061\u0064\u0065\u0072\u0073": 0}"#,
                true,
            ),
            (br#"{"Headers": 0}"#, false),
            (br#"{"headers\ud800": 0}"#, false),
            (b"{\"headers\xff\": 0}", false),
            (br#"{"": 0}"#, false),
        ] {
            let mut scan = Scan::new(text);
            assert_eq!(scan.enter_object(), Ok(true));
            let key = scan.next_key().unwrap().unwrap();
            assert_eq!(key.is("headers"), is);
        }
    }
}
