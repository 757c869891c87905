//! What brokers send: replies and pushes, read element by element.
//!
//! Of a reply only its outline is of interest, and the messages in it: its type, the words
//! it begins with, which of its elements are errors, and the values that somebody waits for.
//! Everything else passes as it comes.

use crate::protocol::patch::Patch;
use crate::protocol::pieces::Step;
use crate::protocol::redis::envelope::BEGINNING_BYTES;
use crate::protocol::redis::envelope::begins_like_one;
use crate::protocol::redis::frame::Ended;
use crate::protocol::redis::frame::LineFinder;
use crate::protocol::redis::frame::Nesting;
use crate::protocol::redis::frame::Unreadable;
use crate::protocol::redis::frame::parse_length;
use crate::protocol::redis::frame::take_off;
use crate::protocol::redis::value;
use crate::protocol::redis::value::Fate;

/// Where something stands in a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is the reply.
    Whole,
    /// It is this element of it.
    Element(u64),
    /// It is an element of this element.
    Within(u64),
    Deeper,
}

/// What is to be seen of a bulk string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Nothing,
    /// All of it, if it is no longer than so many bytes.
    Text(usize),
    /// A message may stand in it.
    Message,
    /// As much of it as tells whether it may be an envelope.
    Beginning,
}

/// Who wants to know what was read. Elements are those of the outermost value.
pub(super) trait Listener {
    /// A value has begun; what `type_byte` says it is. For one that is no aggregate, `text`
    /// is its line, or as much of a bulk string as was wanted.
    fn begin(&mut self, type_byte: u8, text: &[u8]);

    /// Element `index` has begun.
    fn element(&mut self, index: u64, type_byte: u8, text: &[u8]);

    /// What is to be seen of the string that begins at this place.
    fn wants(&mut self, type_byte: u8, place: Place) -> Want;

    /// Whether a value of that many bytes may be read, and `held` bytes of it be held until
    /// more of it has come.
    fn may_read(&mut self, length: usize, held: usize) -> bool;

    /// The value that has begun last, whole. Writes into `patch` what is to change in
    /// it, and says whether anything is.
    fn value(&mut self, value: &[u8], patch: &mut Patch) -> bool;

    /// A value that begins like an envelope passes unread.
    fn unread(&mut self);

    /// Whether element `index` is to be replaced by a null.
    fn erases(&self, index: u64) -> bool;

    /// The value has ended.
    fn end(&mut self) -> Result<(), Unreadable>;
}

/// Reads the replies of one connection.
#[derive(Debug, Default)]
pub(super) struct Replies {
    state: State,
    line: LineFinder,
    nesting: Nesting,
    /// Which element of the outermost value is next.
    index: u64,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// A value or an element is next.
    #[default]
    Head,
    /// Inside a bulk string: so many bytes still, and then its CRLF.
    Content { left: u64, streamed: bool },
    /// The next chunk of a streamed string is next.
    Chunk,
}

impl Replies {
    /// Whether the next byte begins a reply.
    pub(super) fn is_at_start(&self) -> bool {
        matches!(self.state, State::Head) && self.nesting.depth() == 0
    }

    /// Reads the head of `input`, which is not empty.
    pub(super) fn step(
        &mut self,
        input: &[u8],
        patch: &mut Patch,
        listener: &mut impl Listener,
    ) -> Step {
        let step = match self.state {
            State::Head => self.head(input, patch, listener),
            State::Content { left, streamed } => self.content(input, left, streamed, listener),
            State::Chunk => self.chunk(input, listener),
        };
        step.unwrap_or_else(Step::Lost)
    }

    fn head(
        &mut self,
        input: &[u8],
        patch: &mut Patch,
        listener: &mut impl Listener,
    ) -> Result<Step, Unreadable> {
        let Some((line, length)) = self.line.find(input)? else {
            return Ok(Step::Need(input.len() + 1));
        };
        let (&type_byte, text) = line.split_first().ok_or("empty_line")?;
        match type_byte {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {
                let step = self.passed_or_erased(length, patch, listener);
                self.announce(type_byte, text, listener);
                let ended = self.nesting.element();
                self.ended(ended, listener)?;
                Ok(step)
            }
            b'$' | b'=' | b'!' => self.string(input, type_byte, text, length, patch, listener),
            b'*' | b'%' | b'~' | b'>' | b'|' => {
                let ended = self.aggregate(type_byte, text, listener)?;
                self.ended(ended, listener)?;
                Ok(Step::Pass(length))
            }
            b'.' if text.is_empty() => {
                let ended = self.nesting.end_streamed()?;
                self.ended(ended, listener)?;
                Ok(Step::Pass(length))
            }
            _ => Err("unknown_type"),
        }
    }

    fn aggregate(
        &mut self,
        type_byte: u8,
        text: &[u8],
        listener: &mut impl Listener,
    ) -> Result<Ended, Unreadable> {
        let is_attribute = type_byte == b'|';
        let count = if text == b"?" {
            None
        } else {
            match parse_length(text)? {
                Some(count) if matches!(type_byte, b'%' | b'|') => Some(count * 2),
                Some(count) => Some(count),
                None if type_byte == b'*' => {
                    self.announce(b'_', b"", listener);
                    return Ok(self.nesting.element());
                }
                None => return Err("bad_length"),
            }
        };
        if !is_attribute {
            self.announce(type_byte, text, listener);
        }
        self.nesting.open(count, is_attribute)
    }

    fn string(
        &mut self,
        input: &[u8],
        type_byte: u8,
        text: &[u8],
        head: usize,
        patch: &mut Patch,
        listener: &mut impl Listener,
    ) -> Result<Step, Unreadable> {
        if text == b"?" {
            self.announce(type_byte, b"", listener);
            self.state = State::Chunk;
            return Ok(Step::Pass(head));
        }
        let Some(length) = parse_length(text)? else {
            self.announce(b'_', b"", listener);
            let ended = self.nesting.element();
            self.ended(ended, listener)?;
            return Ok(Step::Pass(head));
        };
        let want = self
            .place()
            .map_or(Want::Nothing, |place| listener.wants(type_byte, place));
        let whole = usize::try_from(length).unwrap_or(usize::MAX);
        let content = input.get(head..).unwrap_or_default();
        let is_read = match want {
            _ if self.erased(listener) => whole <= ERASED_BYTES_MAX,
            Want::Nothing => false,
            Want::Text(bytes_max) => whole <= bytes_max,
            Want::Beginning => {
                let shown = whole.min(BEGINNING_BYTES);
                let Some(beginning) = content.get(..shown) else {
                    return Ok(Step::Need(head + shown));
                };
                if begins_like_one(beginning) {
                    listener.unread();
                }
                false
            }
            Want::Message => {
                match value::fate(content, whole, |held| listener.may_read(whole, held)) {
                    Fate::Pass => false,
                    Fate::Wait(count) => return Ok(Step::Need(head + count)),
                    Fate::Read => true,
                }
            }
        };
        if !is_read {
            self.announce(type_byte, b"", listener);
            self.state = State::Content {
                left: length,
                streamed: false,
            };
            return Ok(Step::Pass(head));
        }
        let end = head + whole + 2;
        let (Some(content), Some(line_end)) =
            (input.get(head..head + whole), input.get(head + whole..end))
        else {
            return Ok(Step::Need(end));
        };
        if line_end != b"\r\n" {
            return Err("no_line_end");
        }
        let mut step = self.passed_or_erased(end, patch, listener);
        self.announce(type_byte, content, listener);
        if want == Want::Message && listener.value(content, patch) {
            value::frame(patch, head, whole);
            step = Step::Patch(end);
        }
        let ended = self.nesting.element();
        self.ended(ended, listener)?;
        Ok(step)
    }

    /// Whether the next `count` bytes are all inside of a string that passes; if so, they have.
    pub(super) fn pass(&mut self, count: usize) -> bool {
        match &mut self.state {
            State::Content { left, .. } => take_off(left, count),
            _ => false,
        }
    }

    fn content(
        &mut self,
        input: &[u8],
        left: u64,
        streamed: bool,
        listener: &mut impl Listener,
    ) -> Result<Step, Unreadable> {
        if left > 0 {
            let available = u64::try_from(input.len()).unwrap_or(u64::MAX);
            let passed = left.min(available);
            self.state = State::Content {
                left: left - passed,
                streamed,
            };
            return Ok(Step::Pass(usize::try_from(passed).unwrap_or(input.len())));
        }
        match input {
            [b'\r', b'\n', ..] if streamed => {
                self.state = State::Chunk;
                Ok(Step::Pass(2))
            }
            [b'\r', b'\n', ..] => {
                self.state = State::Head;
                let ended = self.nesting.element();
                self.ended(ended, listener)?;
                Ok(Step::Pass(2))
            }
            [b'\r'] => Ok(Step::Need(2)),
            _ => Err("no_line_end"),
        }
    }

    fn chunk(&mut self, input: &[u8], listener: &mut impl Listener) -> Result<Step, Unreadable> {
        let Some((line, length)) = self.line.find(input)? else {
            return Ok(Step::Need(input.len() + 1));
        };
        let Some((b';', digits)) = line.split_first() else {
            return Err("no_chunk");
        };
        match parse_length(digits)?.ok_or("bad_length")? {
            0 => {
                self.state = State::Head;
                let ended = self.nesting.element();
                self.ended(ended, listener)?;
            }
            left => {
                self.state = State::Content {
                    left,
                    streamed: true,
                };
            }
        }
        Ok(Step::Pass(length))
    }

    /// The element at the current position, of `length` bytes, passes or becomes a null.
    fn passed_or_erased(&self, length: usize, patch: &mut Patch, listener: &impl Listener) -> Step {
        if self.erased(listener) {
            patch.replace(0..length, |out| out.extend_from_slice(b"_\r\n"));
            Step::Patch(length)
        } else {
            Step::Pass(length)
        }
    }

    fn erased(&self, listener: &impl Listener) -> bool {
        match self.place() {
            Some(Place::Element(index)) => listener.erases(index),
            _ => false,
        }
    }

    /// Where the value at the current position stands, if anybody can want it.
    fn place(&self) -> Option<Place> {
        if self.nesting.in_attribute() {
            return None;
        }
        match self.nesting.depth() {
            0 => Some(Place::Whole),
            1 => Some(Place::Element(self.index)),
            // The index is already that of what follows the aggregate.
            2 => Some(Place::Within(self.index.saturating_sub(1))),
            _ => Some(Place::Deeper),
        }
    }

    fn announce(&mut self, type_byte: u8, text: &[u8], listener: &mut impl Listener) {
        match self.place() {
            Some(Place::Whole) => {
                self.index = 0;
                listener.begin(type_byte, text);
            }
            Some(Place::Element(index)) => {
                listener.element(index, type_byte, text);
                self.index = index + 1;
            }
            Some(Place::Within(_) | Place::Deeper) | None => {}
        }
    }

    fn ended(&self, ended: Ended, listener: &mut impl Listener) -> Result<(), Unreadable> {
        match ended {
            Ended::Value => listener.end(),
            Ended::Element | Ended::Attribute => Ok(()),
        }
    }
}

/// Longer addresses than this are none.
const ERASED_BYTES_MAX: usize = 1024;
