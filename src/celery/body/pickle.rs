//! Pickles, protocols 0 to 5, as far as it takes to read the members of one dictionary.
//!
//! A pickle is a program for a stack machine. This machine runs the program without ever
//! making, importing or calling anything: of all values it knows only the outermost
//! dictionary, text, integers and `None`, and the rest is [`Item::Other`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;

use memchr::memchr;

use crate::celery::HeaderValue;
use crate::celery::body::fields::Fields;

/// Reads a dictionary; of anything else there is nothing to be told.
pub(super) fn read<'a>(body: &'a [u8], fields: &mut Fields<'a>) -> Option<()> {
    let mut machine = Machine {
        rest: body,
        stack: Vec::new(),
        memo: BTreeMap::new(),
        memoized: 0,
        fields,
    };
    loop {
        let opcode = machine.byte()?;
        if opcode == STOP {
            return match *machine.stack {
                [Item::Root] => Some(()),
                [_] => {
                    *machine.fields = Fields::default();
                    Some(())
                }
                _ => None,
            };
        }
        machine.execute(opcode)?;
    }
}

const STOP: u8 = b'.';

/// How many values may be on the stack, and how many are remembered. Python writes lists
/// and dictionaries a thousand items at a time; only a tuple needs all of its own at once.
const ITEMS_MAX: usize = 1 << 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Item<'a> {
    /// The dictionary whose members are wanted.
    Root,
    /// Where the items of a container begin.
    Mark,
    Null,
    Integer(i64),
    Text(&'a str),
    Other,
}

impl<'a> From<Item<'a>> for HeaderValue<'a> {
    fn from(item: Item<'a>) -> Self {
        match item {
            Item::Null => Self::Null,
            Item::Integer(number) => Self::Integer(number),
            Item::Text(text) => Self::Text(Cow::Borrowed(text)),
            Item::Root | Item::Mark | Item::Other => Self::Other,
        }
    }
}

struct Machine<'a, 'f> {
    rest: &'a [u8],
    stack: Vec<Item<'a>>,
    /// What was memorized, except for [`Item::Other`]: that is what is not found.
    memo: BTreeMap<u64, Item<'a>>,
    memoized: u64,
    fields: &'f mut Fields<'a>,
}

impl<'a> Machine<'a, '_> {
    fn execute(&mut self, opcode: u8) -> Option<()> {
        match opcode {
            // PROTO, FRAME: about the writing, not the written.
            0x80 => self.take(1).map(drop),
            0x95 => self.take(8).map(drop),
            // POP; POP_MARK
            b'0' => self.pop(1),
            b'1' => self.pop_to_mark().map(drop),
            // PUT, BINPUT, LONG_BINPUT, MEMOIZE
            b'p' | b'q' | b'r' | 0x94 => {
                let index = self.memo_index(opcode)?;
                self.memorize(index)
            }
            // SETITEM; SETITEMS
            b's' => {
                let items = self.stack.split_off(self.stack.len().checked_sub(2)?);
                self.set_items(&items)
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)
            }
            // APPEND, BUILD; APPENDS, ADDITEMS: what these change is of no interest.
            b'a' | b'b' => self.pop(1),
            b'e' | 0x90 => self.pop_to_mark().map(drop),
            // DICT
            b'd' => {
                let items = self.pop_to_mark()?;
                let dictionary = self.new_dictionary();
                self.push(dictionary)?;
                self.set_items(&items)
            }
            _ => {
                let item = self.make(opcode)?;
                self.push(item)
            }
        }
    }

    /// The item that the opcode puts on the stack.
    fn make(&mut self, opcode: u8) -> Option<Item<'a>> {
        Some(match opcode {
            // MARK; NONE; EMPTY_DICT
            b'(' => Item::Mark,
            b'N' => Item::Null,
            b'}' => self.new_dictionary(),
            // NEWTRUE, NEWFALSE; EMPTY_TUPLE, EMPTY_LIST, EMPTY_SET
            0x88 | 0x89 | b')' | b']' | 0x8f => Item::Other,

            // INT; LONG, which some Pythons write for all; BININT; BININT1; BININT2
            b'I' => integer(self.line()?),
            b'L' => integer(self.line()?.strip_suffix(b"L")?),
            b'J' => Item::Integer(i32::from_le_bytes(self.take(4)?.try_into().ok()?).into()),
            b'K' => Item::Integer(self.number(1)?.try_into().ok()?),
            b'M' => Item::Integer(self.number(2)?.try_into().ok()?),
            // LONG1
            0x8a => long(self.sized(1)?),
            // FLOAT; BINFLOAT; LONG4
            b'F' => other(self.line()?),
            b'G' => other(self.take(8)?),
            0x8b => other(self.sized(4)?),

            // UNICODE; STRING
            b'V' => plain(self.line()?),
            b'S' => match self.line()? {
                [b'\'', text @ .., b'\''] => plain(text),
                _ => Item::Other,
            },
            // SHORT_BINSTRING, SHORT_BINUNICODE; BINSTRING, BINUNICODE; BINUNICODE8
            b'U' | 0x8c => text(self.sized(1)?),
            b'T' | b'X' => text(self.sized(4)?),
            0x8d => text(self.sized(8)?),
            // SHORT_BINBYTES; BINBYTES; BINBYTES8, BYTEARRAY8
            b'C' => other(self.sized(1)?),
            b'B' => other(self.sized(4)?),
            0x8e | 0x96 => other(self.sized(8)?),

            // TUPLE1; TUPLE2; TUPLE3; TUPLE, LIST, FROZENSET
            0x85 => other(self.pop(1)?),
            0x86 => other(self.pop(2)?),
            0x87 => other(self.pop(3)?),
            b't' | b'l' | 0x91 => other(self.pop_to_mark()?),

            // GLOBAL; INST; OBJ: named, but neither imported nor made.
            b'c' => other((self.line()?, self.line()?)),
            b'i' => other((self.line()?, self.line()?, self.pop_to_mark()?)),
            b'o' => other(self.pop_to_mark()?),
            // STACK_GLOBAL, REDUCE, NEWOBJ; NEWOBJ_EX
            0x93 | b'R' | 0x81 => other(self.pop(2)?),
            0x92 => other(self.pop(3)?),

            // DUP
            b'2' => *self.stack.last()?,
            // GET, BINGET, LONG_BINGET
            b'g' | b'h' | b'j' => {
                let index = self.memo_index(opcode)?;
                self.memo.get(&index).copied().unwrap_or(Item::Other)
            }

            // Persistent ids, the extension registry, buffers from elsewhere: no worker
            // can read them.
            _ => return None,
        })
    }

    fn push(&mut self, item: Item<'a>) -> Option<()> {
        if self.stack.len() == ITEMS_MAX {
            return None;
        }
        self.stack.push(item);
        Some(())
    }

    fn pop(&mut self, count: usize) -> Option<()> {
        self.stack.truncate(self.stack.len().checked_sub(count)?);
        Some(())
    }

    fn pop_to_mark(&mut self) -> Option<Vec<Item<'a>>> {
        let mark = self.stack.iter().rposition(|item| *item == Item::Mark)?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Some(items)
    }

    /// The first thing made is what the pickle holds.
    fn new_dictionary(&self) -> Item<'a> {
        if self.stack.is_empty() {
            Item::Root
        } else {
            Item::Other
        }
    }

    /// Sets items of the dictionary on top of the stack.
    fn set_items(&mut self, items: &[Item<'a>]) -> Option<()> {
        if *self.stack.last()? != Item::Root {
            return Some(());
        }
        for pair in items.chunks(2) {
            let [key, value] = pair else {
                return None;
            };
            if let Item::Text(name) = key {
                self.fields.take(name, (*value).into());
            }
        }
        Some(())
    }

    fn memorize(&mut self, index: u64) -> Option<()> {
        let top = *self.stack.last()?;
        self.memoized += 1;
        if top != Item::Other && self.memo.len() < ITEMS_MAX {
            self.memo.insert(index, top);
        }
        Some(())
    }

    fn memo_index(&mut self, opcode: u8) -> Option<u64> {
        match opcode {
            b'p' | b'g' => parsed(self.line()?),
            b'q' | b'h' => self.number(1),
            b'r' | b'j' => self.number(4),
            _ => Some(self.memoized),
        }
    }

    fn byte(&mut self) -> Option<u8> {
        self.rest.split_off_first().copied()
    }

    /// Bytes behind their length, which has `width` bytes.
    fn sized(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = self.number(width)?;
        self.take(usize::try_from(length).ok()?)
    }

    /// An unsigned number of `width ≤ 8` bytes, the lowest first.
    fn number(&mut self, width: usize) -> Option<u64> {
        let bytes = self.take(width)?;
        Some(
            bytes
                .iter()
                .rfold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        )
    }

    /// The rest of the line; its end is consumed too.
    fn line(&mut self) -> Option<&'a [u8]> {
        let end = memchr(b'\n', self.rest)?;
        let line = self.take(end)?;
        self.take(1)?;
        Some(line)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        self.rest.split_off(..length)
    }
}

/// What remains of something of no interest.
fn other<'a>(_: impl Sized) -> Item<'a> {
    Item::Other
}

fn integer(decimal: &[u8]) -> Item<'_> {
    parsed(decimal).map_or(Item::Other, Item::Integer)
}

/// A number, its least byte first, in as many bytes as it takes.
fn long(bytes: &[u8]) -> Item<'_> {
    let mut number = [0; 8];
    match number.get_mut(8_usize.saturating_sub(bytes.len())..) {
        Some(high) if high.len() == bytes.len() && !bytes.is_empty() => {
            high.copy_from_slice(bytes);
            Item::Integer(i64::from_le_bytes(number) >> (64 - 8 * bytes.len()))
        }
        _ => Item::Other,
    }
}

fn text(bytes: &[u8]) -> Item<'_> {
    str::from_utf8(bytes).map_or(Item::Other, Item::Text)
}

/// Text of the protocol that has escapes and other encodings, as far as it uses neither.
fn plain(bytes: &[u8]) -> Item<'_> {
    if bytes.is_ascii() && !bytes.contains(&b'\\') {
        text(bytes)
    } else {
        Item::Other
    }
}

fn parsed<T: FromStr>(decimal: &[u8]) -> Option<T> {
    str::from_utf8(decimal).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn name(pickle: &[u8]) -> Option<String> {
        let mut fields = Fields::default();
        read(pickle, &mut fields)?;
        fields.into_task().map(|task| task.name.into_owned())
    }

    /// A dictionary with a task's members, and whatever `more` makes of it.
    fn task_and(more: &[u8]) -> Vec<u8> {
        [b"\x80\x02}(U\x04taskU\x01aU\x02idU\x01bU\x04args)u", more].concat()
    }

    #[test]
    fn a_pickle_that_is_no_dictionary_is_no_task() {
        assert_eq!(name(&task_and(b".")), Some("a".to_owned()));
        for (pickle, what) in [
            (&b"\x80\x04N."[..], "None"),
            (b"\x80\x04)\x85\x94.", "a tuple"),
            (b"\x80\x04](}e.", "a list that holds a dictionary"),
            (b"cos\nsystem\n(S'true'\ntR.", "a call"),
            (&task_and(b"\x85."), "a tuple that holds the dictionary"),
            (&task_and(b"N."), "two things"),
            (&task_and(b"0."), "nothing"),
            (&task_and(b""), "no end"),
            (b".", "nothing at all"),
        ] {
            assert_eq!(name(pickle), None, "{what}");
        }
    }

    #[test]
    fn only_the_outermost_dictionary_counts() {
        let nested = task_and(b"U\x06kwargs}(U\x04taskU\x01cU\x02idNus.");
        assert_eq!(name(&nested), Some("a".to_owned()));
        let renamed = task_and(b"U\x04taskU\x01cs.");
        assert_eq!(name(&renamed), Some("c".to_owned()));
    }

    #[test]
    fn what_a_worker_cannot_read_either_is_no_task() {
        for more in [
            &b"U\x01kP1\ns."[..],
            b"U\x01kU\x011Qs.",
            b"U\x01k\x82\x01s.",
            b"U\x01k\x97s.",
            b"U\x01ku.",
            b"U\x01ks.",
            b"(U\x01ku.",
            b"U\xff.",
            b"X\xff\xff\xff\xff.",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.",
            b"\x86\x86.",
            b"I1",
        ] {
            assert_eq!(name(&task_and(more)), None, "{more:?}");
        }
    }

    #[test]
    fn integers_are_read_in_every_form() {
        for (value, retries) in [
            (&b"K\x05"[..], 5),
            (b"M\x01\x02", 0x201),
            (b"J\x01\x02\x03\x04", 0x0403_0201),
            (b"I5\n", 5),
            (b"L5L\n", 5),
            (b"J\xff\xff\xff\xff", 0),
            (b"I-1\n", 0),
            (b"I99999999999999999999\n", 0),
            (b"N", 0),
        ] {
            let pickle = task_and(&[b"U\x07retries", value, b"s."].concat());
            let mut fields = Fields::default();
            assert_eq!(read(&pickle, &mut fields), Some(()));
            assert_eq!(fields.into_task().unwrap().retries, retries, "{value:?}");
        }
    }

    #[test]
    fn escaped_text_is_not_guessed_at() {
        assert_eq!(
            name(b"(dVtask\nVa\nsVid\nVb\nsVargs\n(ts."),
            Some("a".to_owned())
        );
        assert_eq!(name(b"(dVtask\nVa\\u002eb\nsVid\nVb\nsVargs\n(ts."), None);
        assert_eq!(
            name(b"(dS'task'\nS'a'\nsS'id'\nS'b'\nsS'args'\n(ts."),
            Some("a".to_owned())
        );
    }

    #[test]
    fn the_stack_has_a_limit() {
        let filled = |count: usize| task_and(&[&b"("[..], &b"N".repeat(count), b"0t0."].concat());
        assert_eq!(name(&filled(ITEMS_MAX - 2)), Some("a".to_owned()));
        assert_eq!(name(&filled(ITEMS_MAX)), None);
    }

    #[test]
    fn the_memo_may_overflow() {
        let memorized =
            task_and(&[&b"U\x01k"[..], &b"\x94".repeat(ITEMS_MAX + 1), b"h\x00s."].concat());
        assert_eq!(name(&memorized), Some("a".to_owned()));
    }

    proptest! {
        #[test]
        fn any_program_comes_to_an_end(
            program in vec(
                prop::sample::select(&b"(.012BCFGIJKLMNPQRSTUVXabcdeghijlopqrstu})]\x00\x01\n\
                    \x80\x81\x85\x86\x87\x88\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96"[..]),
                0..200,
            ),
        ) {
            let _ = name(&program);
            let _ = name(&task_and(&program));
        }
    }
}
