//! RESP, split: header lines, lengths, and how deep a value is nested.
//!
//! The grammar is that of RESP2 and RESP3 together
//! (<https://redis.io/docs/latest/develop/reference/protocol-spec/>); where a byte means
//! something in one version only, it cannot occur in the other. Nothing here recurses, and
//! no length is trusted further than its own digits.

use memchr::memchr;

/// Why bytes are not RESP; a fixed word.
pub(super) type Unreadable = &'static str;

/// A line with its end, at the head of the input: its text, and its length with the CRLF.
pub(super) type Line<'a> = (&'a [u8], usize);

/// Finds the line at the head of the input, or says that it is not complete.
///
/// Remembers how far it has looked, so that a line that comes byte by byte is still looked
/// at once.
#[derive(Debug, Default)]
pub(super) struct LineFinder {
    scanned: usize,
}

impl LineFinder {
    pub(super) fn find<'a>(&mut self, input: &'a [u8]) -> Result<Option<Line<'a>>, Unreadable> {
        match self.newline(input)? {
            None => Ok(None),
            Some(newline) => match input.get(..newline) {
                Some([text @ .., b'\r']) => Ok(Some((text, newline + 1))),
                _ => Err("bare_newline"),
            },
        }
    }

    /// As `find`, for the lines of inline commands, which may end in a newline alone.
    pub(super) fn find_inline<'a>(
        &mut self,
        input: &'a [u8],
    ) -> Result<Option<Line<'a>>, Unreadable> {
        Ok(self.newline(input)?.map(|newline| {
            let text = input.get(..newline).unwrap_or_default();
            (text.strip_suffix(b"\r").unwrap_or(text), newline + 1)
        }))
    }

    fn newline(&mut self, input: &[u8]) -> Result<Option<usize>, Unreadable> {
        // However much has come with it: a line may be so long and no longer.
        let searched = input.get(..=LINE_BYTES_MAX).unwrap_or(input);
        let unseen = searched.get(self.scanned..).unwrap_or_default();
        match memchr(b'\n', unseen) {
            Some(offset) => {
                let newline = self.scanned + offset;
                self.scanned = 0;
                Ok(Some(newline))
            }
            None if input.len() > LINE_BYTES_MAX => Err("line_too_long"),
            None => {
                self.scanned = input.len();
                Ok(None)
            }
        }
    }
}

/// Takes `count` bytes off those that are `left`, and says so; nothing where there are fewer.
pub(super) fn take_off(left: &mut u64, count: usize) -> bool {
    let rest = u64::try_from(count)
        .ok()
        .and_then(|count| left.checked_sub(count));
    *left = rest.unwrap_or(*left);
    rest.is_some()
}

/// A length or a count: decimal digits, `-1` where there is nothing.
///
/// As strict as Redis itself: no plus sign, no leading zeros.
pub(super) fn parse_length(digits: &[u8]) -> Result<Option<u64>, Unreadable> {
    match digits {
        b"-1" => return Ok(None),
        b"0" => return Ok(Some(0)),
        [b'1'..=b'9', ..] if digits.len() <= LENGTH_DIGITS_MAX => {}
        [b'1'..=b'9', ..] => return Err("length_out_of_range"),
        _ => return Err("bad_length"),
    }
    let length = digits.iter().try_fold(0_u64, |length, digit| match digit {
        b'0'..=b'9' => Some(length * 10 + u64::from(digit - b'0')),
        _ => None,
    });
    match length {
        Some(length) if length <= LENGTH_MAX => Ok(Some(length)),
        Some(_) => Err("length_out_of_range"),
        None => Err("bad_length"),
    }
}

/// The aggregates that are open around the current position.
#[derive(Debug, Default)]
pub(super) struct Nesting {
    open: Vec<Aggregate>,
}

#[derive(Clone, Copy, Debug)]
struct Aggregate {
    /// Elements still to come; `None` in a streamed one, which ends with a line of its own.
    left: Option<u64>,
    /// An attribute is no value: what follows it is.
    is_attribute: bool,
}

/// What has ended together with an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The element alone, or aggregates inside the outermost value.
    Element,
    /// The outermost value.
    Value,
    /// An attribute in front of the outermost value, which is still to come.
    Attribute,
}

impl Nesting {
    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    /// Whether the current position is inside an attribute, at whatever depth.
    pub(super) fn in_attribute(&self) -> bool {
        self.open.iter().any(|aggregate| aggregate.is_attribute)
    }

    /// An aggregate begins; `left` is the number of its elements.
    pub(super) fn open(
        &mut self,
        left: Option<u64>,
        is_attribute: bool,
    ) -> Result<Ended, Unreadable> {
        if self.open.len() >= DEPTH_MAX {
            return Err("nested_too_deep");
        }
        self.open.push(Aggregate { left, is_attribute });
        if left == Some(0) {
            return Ok(self.close());
        }
        Ok(Ended::Element)
    }

    /// The line that ends a streamed aggregate.
    pub(super) fn end_streamed(&mut self) -> Result<Ended, Unreadable> {
        match self.open.last() {
            Some(Aggregate { left: None, .. }) => Ok(self.close()),
            _ => Err("stray_end"),
        }
    }

    /// A value that is no aggregate has ended, here.
    pub(super) fn element(&mut self) -> Ended {
        match self.open.last_mut() {
            None => Ended::Value,
            Some(Aggregate { left: None, .. }) => Ended::Element,
            Some(Aggregate {
                left: Some(left), ..
            }) => {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    self.close()
                } else {
                    Ended::Element
                }
            }
        }
    }

    /// The innermost aggregate has ended, and those around it that end with it.
    fn close(&mut self) -> Ended {
        while let Some(ended) = self.open.pop() {
            if ended.is_attribute {
                return if self.open.is_empty() {
                    Ended::Attribute
                } else {
                    Ended::Element
                };
            }
            match self.open.last_mut() {
                None => return Ended::Value,
                Some(Aggregate { left: None, .. }) => return Ended::Element,
                Some(Aggregate {
                    left: Some(left), ..
                }) => {
                    *left = left.saturating_sub(1);
                    if *left > 0 {
                        return Ended::Element;
                    }
                }
            }
        }
        Ended::Value
    }
}

/// Redis refuses longer inline commands; its own lines are far shorter.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Enough for any length that is still believed.
const LENGTH_DIGITS_MAX: usize = 11;
/// Redis' strings end at 512 MiB, its aggregates at 2^32 elements.
const LENGTH_MAX: u64 = 1 << 32;
/// Redis itself nests replies a few levels deep.
const DEPTH_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_comes_byte_by_byte_is_found_once_it_is_whole() {
        let mut finder = LineFinder::default();
        let input = b"$1058\r\n{";
        for length in 1..7 {
            assert_eq!(finder.find(&input[..length]), Ok(None));
        }
        assert_eq!(finder.find(&input[..7]), Ok(Some((&b"$1058"[..], 7))));
        assert_eq!(finder.find(b"+\r\n"), Ok(Some((&b"+"[..], 3))));
    }

    #[test]
    fn lines_have_an_end_and_a_limit() {
        assert_eq!(LineFinder::default().find(b"+OK\n"), Err("bare_newline"));
        assert_eq!(
            LineFinder::default().find_inline(b"PING\n"),
            Ok(Some((&b"PING"[..], 5)))
        );
        let endless = vec![b'+'; LINE_BYTES_MAX + 1];
        assert_eq!(LineFinder::default().find(&endless), Err("line_too_long"));
    }

    #[test]
    fn lengths_are_read_as_redis_reads_them() {
        for (digits, expected) in [
            ("0", Ok(Some(0))),
            ("-1", Ok(None)),
            ("4294967296", Ok(Some(1 << 32))),
            ("4294967297", Err("length_out_of_range")),
            ("9223372036854775807", Err("length_out_of_range")),
            ("", Err("bad_length")),
            ("-2", Err("bad_length")),
            ("+5", Err("bad_length")),
            ("1x", Err("bad_length")),
            ("05", Err("bad_length")),
        ] {
            assert_eq!(parse_length(digits.as_bytes()), expected, "{digits}");
        }
    }

    #[test]
    fn aggregates_end_together_with_their_last_element() {
        let mut nesting = Nesting::default();
        assert_eq!(nesting.open(Some(2), false), Ok(Ended::Element));
        assert_eq!(nesting.element(), Ended::Element);
        assert_eq!(nesting.open(None, false), Ok(Ended::Element));
        assert_eq!(nesting.open(Some(0), false), Ok(Ended::Element));
        assert_eq!(nesting.end_streamed(), Ok(Ended::Value));
        assert_eq!(nesting.depth(), 0);
    }

    #[test]
    fn an_attribute_does_not_count_as_a_value() {
        let mut nesting = Nesting::default();
        assert_eq!(nesting.open(Some(1), true), Ok(Ended::Element));
        assert_eq!(nesting.element(), Ended::Attribute);
        assert_eq!(nesting.open(Some(1), false), Ok(Ended::Element));
        assert_eq!(nesting.open(Some(0), true), Ok(Ended::Element));
        assert_eq!(nesting.element(), Ended::Value);
        assert_eq!(nesting.end_streamed(), Err("stray_end"));
    }
}
