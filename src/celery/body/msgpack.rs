//! MessagePack, as far as it takes to read the members of one map.
//!
//! Text is what has one of the string types. Byte strings are none: to a worker their keys
//! are not the ones it looks for.

use std::borrow::Cow;

use crate::celery::HeaderValue;
use crate::celery::body::fields::Fields;

/// Reads a map; of anything else there is nothing to be told.
pub(super) fn read<'a>(body: &'a [u8], fields: &mut Fields<'a>) -> Option<()> {
    let mut items = Items { rest: body };
    let first = items.next()?;
    let Item::Map(members) = first else {
        items.skip_inside(first)?;
        return items.rest.is_empty().then_some(());
    };
    for _ in 0..members {
        let key = items.next()?;
        items.skip_inside(key)?;
        let value = items.next()?;
        items.skip_inside(value)?;
        if let Item::Text(name) = key {
            fields.take(str::from_utf8(name).ok()?, value.into());
        }
    }
    items.rest.is_empty().then_some(())
}

/// One item: a scalar, or the head of a container with the number of its members.
#[derive(Clone, Copy)]
enum Item<'a> {
    Null,
    Integer(i64),
    Text(&'a [u8]),
    Array(u64),
    Map(u64),
    Other,
}

impl<'a> From<Item<'a>> for HeaderValue<'a> {
    fn from(item: Item<'a>) -> Self {
        match item {
            Item::Null => Self::Null,
            Item::Integer(number) => Self::Integer(number),
            Item::Text(text) => {
                str::from_utf8(text).map_or(Self::Other, |text| Self::Text(Cow::Borrowed(text)))
            }
            Item::Array(_) | Item::Map(_) | Item::Other => Self::Other,
        }
    }
}

struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Items<'a> {
    fn next(&mut self) -> Option<Item<'a>> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        let low = u64::from(*first);
        Some(match *first {
            0x00..=0x7f => Item::Integer(i64::from(*first)),
            0x80..=0x8f => Item::Map(low & 0x0f),
            0x90..=0x9f => Item::Array(low & 0x0f),
            0xa0..=0xbf => Item::Text(self.take(low & 0x1f)?),
            0xc0 => Item::Null,
            0xc1 => return None,
            // False, true.
            0xc2 | 0xc3 => Item::Other,
            // Bytes.
            0xc4 => self.other(1, 0)?,
            0xc5 => self.other(2, 0)?,
            0xc6 => self.other(4, 0)?,
            // Extensions: a type goes before the bytes.
            0xc7 => self.other(1, 1)?,
            0xc8 => self.other(2, 1)?,
            0xc9 => self.other(4, 1)?,
            // Floats.
            0xca => self.other(0, 4)?,
            0xcb => self.other(0, 8)?,
            0xcc => self.unsigned_integer(1)?,
            0xcd => self.unsigned_integer(2)?,
            0xce => self.unsigned_integer(4)?,
            0xcf => self.unsigned_integer(8)?,
            0xd0 => self.signed_integer(1)?,
            0xd1 => self.signed_integer(2)?,
            0xd2 => self.signed_integer(4)?,
            0xd3 => self.signed_integer(8)?,
            // Extensions of fixed length.
            0xd4 => self.other(0, 2)?,
            0xd5 => self.other(0, 3)?,
            0xd6 => self.other(0, 5)?,
            0xd7 => self.other(0, 9)?,
            0xd8 => self.other(0, 17)?,
            0xd9 => self.text(1)?,
            0xda => self.text(2)?,
            0xdb => self.text(4)?,
            0xdc => Item::Array(self.number(2)?),
            0xdd => Item::Array(self.number(4)?),
            0xde => Item::Map(self.number(2)?),
            0xdf => Item::Map(self.number(4)?),
            0xe0..=0xff => Item::Integer(i64::from(first.cast_signed())),
        })
    }

    /// Steps over the members of a container. Each has at least one byte, so a count that
    /// is too high ends with the bytes.
    fn skip_inside(&mut self, container: Item<'a>) -> Option<()> {
        let mut due = items_inside(container);
        while due > 0 {
            let item = self.next()?;
            due = (due - 1).checked_add(items_inside(item))?;
        }
        Some(())
    }

    /// Something of no interest: a length of `width` bytes, then so many bytes and `more`.
    fn other(&mut self, width: u64, more: u64) -> Option<Item<'a>> {
        let length = self.number(width)?;
        self.take(length + more)?;
        Some(Item::Other)
    }

    fn text(&mut self, width: u64) -> Option<Item<'a>> {
        let length = self.number(width)?;
        self.take(length).map(Item::Text)
    }

    fn unsigned_integer(&mut self, width: u64) -> Option<Item<'a>> {
        let number = self.number(width)?;
        Some(i64::try_from(number).map_or(Item::Other, Item::Integer))
    }

    fn signed_integer(&mut self, width: u64) -> Option<Item<'a>> {
        let unused = 64 - 8 * width;
        let number = self.number(width)? << unused;
        Some(Item::Integer(number.cast_signed() >> unused))
    }

    /// An unsigned number of `width ≤ 8` bytes, the highest first.
    fn number(&mut self, width: u64) -> Option<u64> {
        let bytes = self.take(width)?;
        Some(
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        )
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        self.rest.split_off(..usize::try_from(length).ok()?)
    }
}

const fn items_inside(item: Item<'_>) -> u64 {
    match item {
        Item::Array(items) => items,
        Item::Map(members) => 2 * members,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::celery::Task;

    fn task(body: &[u8]) -> Option<Task<'_>> {
        let mut fields = Fields::default();
        read(body, &mut fields)?;
        fields.into_task()
    }

    /// A map of a task's members and one more.
    fn task_and(member: &[u8]) -> Vec<u8> {
        [b"\x84\xa4task\xa1a\xa2id\xa1b\xa4args\x90", member].concat()
    }

    #[test]
    fn every_kind_of_value_is_stepped_over() {
        for value in [
            &b"\x7f"[..],
            b"\xe0",
            b"\xc0",
            b"\xc2",
            b"\xc3",
            b"\xcc\xff",
            b"\xcd\xff\xff",
            b"\xce\xff\xff\xff\xff",
            b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\xd0\xff",
            b"\xd1\xff\xff",
            b"\xd2\xff\xff\xff\xff",
            b"\xd3\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\xca1234",
            b"\xcb12345678",
            b"\xa3abc",
            b"\xd9\x03abc",
            b"\xda\x00\x03abc",
            b"\xdb\x00\x00\x00\x03abc",
            b"\xa1\xff",
            b"\xc4\x03abc",
            b"\xc5\x00\x03abc",
            b"\xc6\x00\x00\x00\x03abc",
            b"\xd4t1",
            b"\xd5t12",
            b"\xd6t1234",
            b"\xd7t12345678",
            b"\xd8t1234567812345678",
            b"\xc7\x03tabc",
            b"\xc8\x00\x03tabc",
            b"\xc9\x00\x00\x00\x03tabc",
            b"\x92\x01\x91\x02",
            b"\xdc\x00\x02\x01\x80",
            b"\xdd\x00\x00\x00\x01\x01",
            b"\x81\xa4task\xa1c",
            b"\xde\x00\x01\x01\x90",
            b"\xdf\x00\x00\x00\x01\xc4\x01k\x01",
        ] {
            let whole = task_and(&[b"\xa1k", value].concat());
            assert_eq!(task(&whole).unwrap().name, "a", "{value:x?}");
            let key = task_and(&[value, b"\x01"].concat());
            assert_eq!(task(&key).is_some(), value != b"\xa1\xff", "{value:x?}");
            assert_eq!(task(&whole[..whole.len() - 1]), None, "{value:x?}");
            assert_eq!(task(&[&whole[..], b"\x01"].concat()), None, "{value:x?}");
        }
    }

    #[test]
    fn integers_are_read_in_every_width() {
        for (value, retries) in [
            (&b"\x05"[..], 5),
            (b"\xcc\x85", 0x85),
            (b"\xcd\x01\x02", 0x102),
            (b"\xce\x01\x02\x03\x04", 0x0102_0304),
            (b"\xcf\x00\x00\x00\x00\x00\x00\x00\x05", 5),
            (b"\xd0\x05", 5),
            (b"\xd1\x01\x02", 0x102),
            (b"\xd2\x01\x02\x03\x04", 0x0102_0304),
            (b"\xd3\x00\x00\x00\x00\x00\x00\x00\x05", 5),
            (b"\xd0\xff", 0),
            (b"\xff", 0),
            (b"\xc0", 0),
        ] {
            let body = task_and(&[b"\xa7retries", value].concat());
            assert_eq!(task(&body).unwrap().retries, retries, "{value:x?}");
        }
    }

    #[test]
    fn counts_beyond_the_bytes_are_no_task() {
        for value in [
            &b"\xdd\xff\xff\xff\xff"[..],
            b"\xdf\xff\xff\xff\xff",
            b"\xdb\xff\xff\xff\xff",
            b"\xc1",
        ] {
            assert_eq!(task(&task_and(&[b"\xa1k", value].concat())), None);
        }
        assert_eq!(task(b"\xdf\xff\xff\xff\xff\xa4task\xa1a"), None);
        let nested = [&b"\xdd\xff\xff\xff\xff".repeat(1 << 16)[..], b"\x01"].concat();
        assert_eq!(task(&task_and(&[b"\xa1k", &nested[..]].concat())), None);
    }

    #[test]
    fn byte_strings_are_not_text() {
        assert_eq!(task(b"\x83\xa4task\xc4\x01a\xa2id\xa1b\xa4args\x90"), None);
        assert_eq!(task(b"\x83\xc4\x04task\xa1a\xa2id\xa1b\xa4args\x90"), None);
        assert_eq!(task(b"\x93\xa4task\xa2id\xa4args"), None);
    }

    proptest! {
        #[test]
        fn any_member_is_read_to_an_end(member in vec(any::<u8>(), 0..100)) {
            let _ = task(&task_and(&member));
        }
    }
}
