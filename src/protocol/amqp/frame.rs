//! AMQP 0-9-1, split: the protocol header, frames, and how much of one has passed.
//!
//! The grammar is that of <https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf>, section
//! 4.2: type, channel, size, payload, end. Frames are never re-encoded; one that nobody
//! wants to see passes in whatever parts it comes.

use std::ops::Range;

use crate::protocol::amqp::cursor::Cursor;
use crate::protocol::patch::Patch;
use crate::protocol::pieces::Step;

/// Why bytes are not AMQP; a fixed word.
pub(super) type Unreadable = &'static str;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) channel: u16,
    /// The length of the payload.
    pub(super) size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Method,
    /// The content header of a message.
    Header,
    Body,
    Heartbeat,
}

/// What both peers have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tuning {
    pub(super) channel_max: u16,
    /// The largest frame with its head and its end; `None`: no limit.
    pub(super) frame_bytes_max: Option<usize>,
}

/// Who wants to know what was read.
pub(super) trait Reader {
    fn tuning(&self) -> Tuning;

    /// A frame begins at the head of `input`, which may have less than all of it, or more.
    ///
    /// Asked again with more input where it could not be answered. Only
    /// [`Reading::Patch`] leaves something in `patch`.
    fn begin(&mut self, frame: Frame, input: &[u8], patch: &mut Patch) -> Result<Reading, Halt>;

    /// A part of a message's body passes, in the frame that has begun.
    fn pass(&mut self, frame: Frame, part: &[u8]);

    /// The last byte of a frame has passed.
    fn end(&mut self, frame: Frame);
}

/// What is to become of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It passes as it is.
    Pass,
    /// It does not pass.
    Drop,
    /// It passes with the patch. Only for a frame that is whole.
    Patch,
}

/// Why reading cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// That many bytes must be there first, from the head of the frame; more than are.
    Need(usize),
    Lost(Unreadable),
}

impl From<Unreadable> for Halt {
    fn from(why: Unreadable) -> Self {
        Self::Lost(why)
    }
}

/// Splits one direction into frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    passing: Option<Passing>,
}

/// A frame of which some has yet to pass.
#[derive(Clone, Copy, Debug)]
struct Passing {
    frame: Frame,
    left: usize,
    dropped: bool,
}

impl Passing {
    /// What of the payload stands at the head of `input`, where the frame goes on.
    fn payload<'a>(&self, input: &'a [u8]) -> &'a [u8] {
        let from = HEAD_BYTES.saturating_sub(self.frame.length() - self.left);
        let end = input.len().min(self.left - 1);
        input.get(from..end).unwrap_or_default()
    }
}

impl Frames {
    /// Whether the next byte begins a frame.
    pub(super) const fn is_at_start(&self) -> bool {
        self.passing.is_none()
    }

    /// Whether the next `count` bytes are all inside of a part of a message's body that passes,
    /// its frame's end not among them, and nobody is to hear it; if so, they have passed.
    pub(super) fn pass(&mut self, count: usize, is_heard: impl FnOnce(Frame) -> bool) -> bool {
        match &mut self.passing {
            Some(passing)
                if passing.frame.kind == Kind::Body
                    && !passing.dropped
                    && count < passing.left
                    && !is_heard(passing.frame) =>
            {
                passing.left -= count;
                true
            }
            _ => false,
        }
    }

    /// Reads the head of `input`, which is not empty.
    pub(super) fn step(
        &mut self,
        input: &[u8],
        patch: &mut Patch,
        reader: &mut impl Reader,
    ) -> Step {
        match self.advance(input, patch, reader) {
            Ok(step) => step,
            Err(Halt::Need(count)) => Step::Need(count),
            Err(Halt::Lost(why)) => Step::Lost(why),
        }
    }

    fn advance(
        &mut self,
        input: &[u8],
        patch: &mut Patch,
        reader: &mut impl Reader,
    ) -> Result<Step, Halt> {
        let passing = match self.passing {
            Some(passing) => passing,
            None => {
                let frame = Frame::read(input)?;
                frame.check(reader.tuning())?;
                let reading = reader.begin(frame, input, patch)?;
                if reading == Reading::Patch {
                    reader.end(frame);
                    return Ok(Step::Patch(frame.length()));
                }
                Passing {
                    frame,
                    left: frame.length(),
                    dropped: reading == Reading::Drop,
                }
            }
        };
        let count = passing.left.min(input.len());
        if passing.frame.kind == Kind::Body && !passing.dropped {
            reader.pass(passing.frame, passing.payload(input));
        }
        if count < passing.left {
            self.passing = Some(Passing {
                left: passing.left - count,
                ..passing
            });
        } else if input.get(count - 1) == Some(&FRAME_END) {
            self.passing = None;
            reader.end(passing.frame);
        } else {
            return Err("no_frame_end".into());
        }
        Ok(if passing.dropped {
            patch.replace(0..count, |_| {});
            Step::Patch(count)
        } else {
            Step::Pass(count)
        })
    }
}

impl Frame {
    /// The frame that begins here.
    pub(super) fn read(input: &[u8]) -> Result<Self, Halt> {
        let kind = match input.first() {
            None | Some(1) => Kind::Method,
            Some(2) => Kind::Header,
            Some(3) => Kind::Body,
            Some(8) => Kind::Heartbeat,
            // The broker speaks another version and says which.
            Some(b'A') => return Err("version_refused".into()),
            Some(_) => return Err("unknown_frame_type".into()),
        };
        let Some(head) = input.first_chunk::<HEAD_BYTES>() else {
            return Err(Halt::Need(HEAD_BYTES));
        };
        let mut head = Cursor::new(head, "short_frame_head");
        head.octet()?;
        Ok(Self {
            kind,
            channel: head.short()?,
            size: usize::try_from(head.long()?).map_err(|_| "frame_too_large")?,
        })
    }

    /// With head and end.
    pub(super) const fn length(self) -> usize {
        self.size.saturating_add(EMPTY_FRAME_BYTES)
    }

    /// Whether this is a part of the body that belongs to that content header.
    pub(super) fn is_body_of(self, header: Self) -> bool {
        self.kind == Kind::Body && self.channel == header.channel
    }

    /// How much of a message's body is in it; `None` where it is not a part of a message.
    pub(super) const fn content_size(self) -> Option<usize> {
        match self.kind {
            Kind::Header => Some(0),
            Kind::Body => Some(self.size),
            Kind::Method | Kind::Heartbeat => None,
        }
    }

    fn check(self, tuning: Tuning) -> Result<(), Unreadable> {
        if tuning.forbids(self.length()) {
            return Err("frame_too_large");
        }
        if self.channel > tuning.channel_max {
            return Err("channel_out_of_range");
        }
        Ok(())
    }

    /// The payload, of which nobody looks further than `bytes_max`: all of it where it is
    /// not longer than that, and then the frame's end was there, too.
    pub(super) fn payload(self, input: &[u8], bytes_max: usize) -> Result<&[u8], Halt> {
        let needed = if self.size <= bytes_max {
            self.length()
        } else {
            HEAD_BYTES + bytes_max
        };
        let Some(seen) = input.get(..needed) else {
            return Err(Halt::Need(needed));
        };
        match seen.split_at_checked(HEAD_BYTES) {
            Some((_, payload)) if self.size > bytes_max => Ok(payload),
            Some((_, [payload @ .., FRAME_END])) => Ok(payload),
            _ => Err("no_frame_end".into()),
        }
    }

    /// Makes what `patch` does to the payload one that is done to the frame.
    pub(super) fn resize(self, patch: &mut Patch) {
        patch.move_behind(HEAD_BYTES);
        replace_length(SIZE_START..HEAD_BYTES + self.size, patch);
    }

    /// Writes a frame of this kind around what `payload` writes.
    pub(super) fn write(
        kind: Kind,
        channel: u16,
        out: &mut Vec<u8>,
        payload: impl FnOnce(&mut Vec<u8>),
    ) {
        out.push(match kind {
            Kind::Method => 1,
            Kind::Header => 2,
            Kind::Body => 3,
            Kind::Heartbeat => 8,
        });
        out.extend_from_slice(&channel.to_be_bytes());
        write_long(out, payload);
        out.push(FRAME_END);
    }
}

/// Writes what `content` writes behind its length: a payload, a table.
pub(super) fn write_long(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    content(out);
    let length = out.len() - length_at - 4;
    if let Some(place) = out.get_mut(length_at..length_at + 4) {
        place.copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    }
}

/// Has `patch`, which changes what stands behind the length at the head of `whole`, say how
/// long that gets.
pub(super) fn replace_length(whole: Range<usize>, patch: &mut Patch) {
    let length = patch.patched_length(whole.len()).saturating_sub(4);
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    patch.replace(whole.start..whole.start + 4, |out| {
        out.extend_from_slice(&length.to_be_bytes());
    });
}

impl Default for Tuning {
    /// What holds until something else was agreed on: what RabbitMQ proposes.
    fn default() -> Self {
        Self {
            channel_max: 2047,
            frame_bytes_max: Some(128 << 10),
        }
    }
}

impl Tuning {
    /// What one of the peers says. Zero stands for no limit.
    pub(super) fn proposed(channel_max: u16, frame_bytes_max: u32) -> Self {
        Self {
            channel_max: if channel_max == 0 {
                u16::MAX
            } else {
                channel_max
            },
            frame_bytes_max: usize::try_from(frame_bytes_max)
                .ok()
                .filter(|bytes_max| *bytes_max > 0),
        }
    }

    /// Whether a frame may not be that long.
    pub(super) fn forbids(self, frame_bytes: usize) -> bool {
        self.frame_bytes_max
            .is_some_and(|bytes_max| frame_bytes > bytes_max)
    }

    /// What both can agree to.
    pub(super) fn and(self, other: Self) -> Self {
        let limits = [self.frame_bytes_max, other.frame_bytes_max];
        Self {
            channel_max: self.channel_max.min(other.channel_max),
            frame_bytes_max: limits.into_iter().flatten().min(),
        }
    }
}

/// Reads what a client sends first.
pub(super) fn read_protocol_header(input: &[u8]) -> Result<(), Halt> {
    if !input.starts_with(PROTOCOL) && !PROTOCOL.starts_with(input) {
        return Err("not_amqp".into());
    }
    match input.first_chunk::<PROTOCOL_HEADER_BYTES>() {
        // What is no AMQP is told by the first byte that differs, however the bytes come.
        None if input.len() < PROTOCOL.len() => Err(Halt::Need(input.len() + 1)),
        None => Err(Halt::Need(PROTOCOL_HEADER_BYTES)),
        Some(b"AMQP\x00\x00\x09\x01") => Ok(()),
        // With its variants that begin with TLS or SASL.
        Some([_, _, _, _, 0 | 2 | 3, 1, 0, 0]) => Err("amqp_1_0".into()),
        Some(_) => Err("amqp_version".into()),
    }
}

/// With what every version of AMQP begins.
pub(super) const PROTOCOL: &[u8] = b"AMQP";
pub(super) const PROTOCOL_HEADER_BYTES: usize = 8;
/// Type, channel, size.
pub(super) const HEAD_BYTES: usize = 7;
const SIZE_START: usize = 3;
/// Head and end.
pub(super) const EMPTY_FRAME_BYTES: usize = HEAD_BYTES + 1;
const FRAME_END: u8 = 0xce;

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::protocol::amqp::fixture::frame;
    use crate::protocol::amqp::fixture::hex;
    use crate::protocol::pieces::Pieces;

    /// Drops channel 9, replaces headers by `!`, lets the rest pass, and notes what ended and
    /// what the bodies were.
    #[derive(Default)]
    struct Notes(Vec<Frame>, Vec<u8>);

    impl Reader for Notes {
        fn tuning(&self) -> Tuning {
            Tuning::default()
        }

        fn begin(
            &mut self,
            frame: Frame,
            input: &[u8],
            patch: &mut Patch,
        ) -> Result<Reading, Halt> {
            if frame.channel == 9 {
                return Ok(Reading::Drop);
            }
            if frame.kind == Kind::Header {
                frame.payload(input, frame.size)?;
                patch.replace(0..frame.length(), |out| out.push(b'!'));
                return Ok(Reading::Patch);
            }
            Ok(Reading::Pass)
        }

        fn pass(&mut self, _frame: Frame, part: &[u8]) {
            self.1.extend_from_slice(part);
        }

        fn end(&mut self, frame: Frame) {
            self.0.push(frame);
        }
    }

    fn split(bytes: &[u8], chunk: usize) -> (Vec<u8>, Notes, Result<(), Unreadable>) {
        let (mut pieces, mut frames) = (Pieces::default(), Frames::default());
        let (mut notes, mut out) = (Notes::default(), BytesMut::new());
        let mut outcome = Ok(());
        for bytes in bytes.chunks(chunk) {
            let read = pieces.receive(bytes, &mut out, |input, patch| {
                frames.step(input, patch, &mut notes)
            });
            outcome = outcome.and(read);
        }
        (out.to_vec(), notes, outcome)
    }

    #[test]
    fn frames_pass_are_replaced_or_dropped_however_they_come() {
        let input = [
            frame(1, 0, b"method"),
            frame(9 - 1, 0, b""),
            frame(2, 1, b"header"),
            frame(3, 9, b"dropped"),
            frame(3, 1, b"body"),
        ];
        let expected = [&*input[0], &input[1], b"!", &input[4]].concat();
        for chunk in 1..40 {
            let (left, Notes(ended, bodies), outcome) = split(&input.concat(), chunk);
            assert_eq!(left, expected);
            assert_eq!(outcome, Ok(()));
            assert_eq!(bodies, b"body");
            let sizes: Vec<usize> = ended.iter().map(|frame| frame.size).collect();
            assert_eq!(sizes, [6, 0, 6, 7, 4]);
        }
    }

    #[test]
    fn nonsense_passes_and_is_told() {
        for (bytes, why) in [
            ("05 0000 00000000 ce", "unknown_frame_type"),
            ("'AMQP' 00000901", "version_refused"),
            ("01 0000 0001fff9 0000", "frame_too_large"),
            ("01 0000 ffffffff 0000", "frame_too_large"),
            ("01 0800 00000000 ce", "channel_out_of_range"),
            ("03 0001 00000001 00 00", "no_frame_end"),
            ("02 0001 00000001 00 00", "no_frame_end"),
        ] {
            let bytes = hex(bytes);
            for chunk in 1..=bytes.len() {
                let (left, _, outcome) = split(&bytes, chunk);
                assert_eq!(left, bytes);
                assert_eq!(outcome, Err(why), "in pieces of {chunk}");
            }
        }
    }

    #[test]
    fn the_largest_frame_passes() {
        let largest = frame(3, 2047, &[7; (128 << 10) - 8]);
        assert_eq!(split(&largest, 1000).2, Ok(()));
    }

    #[test]
    fn the_protocol_header_tells_the_version() {
        for (header, expected) in [
            ("'AMQP' 00 00 09 01", Ok(())),
            ("'AMQP' 00 00 09", Err(Halt::Need(8))),
            ("'AM'", Err(Halt::Need(3))),
            ("'AMQP'", Err(Halt::Need(8))),
            ("'A' 00", Err(Halt::Lost("not_amqp"))),
            ("'AMQP' 00 01 00 00", Err(Halt::Lost("amqp_1_0"))),
            ("'AMQP' 02 01 00 00", Err(Halt::Lost("amqp_1_0"))),
            ("'AMQP' 03 01 00 00", Err(Halt::Lost("amqp_1_0"))),
            ("'AMQP' 01 01 00 09", Err(Halt::Lost("amqp_version"))),
            ("'AMPQ' 00 00 09 01", Err(Halt::Lost("not_amqp"))),
            ("16 03 01", Err(Halt::Lost("not_amqp"))),
        ] {
            assert_eq!(read_protocol_header(&hex(header)), expected, "{header}");
        }
    }

    #[test]
    fn the_lower_limit_holds_and_zero_is_none() {
        let limits = |tuning: Tuning| (tuning.channel_max, tuning.frame_bytes_max);
        for (proposed, accepted, agreed) in [
            ((2047, 131_072), (100, 4096), (100, Some(4096))),
            ((2047, 131_072), (0, 0), (2047, Some(131_072))),
            ((0, 0), (100, 4096), (100, Some(4096))),
            ((0, 0), (0, 0), (u16::MAX, None)),
        ] {
            let proposed = Tuning::proposed(proposed.0, proposed.1);
            let accepted = Tuning::proposed(accepted.0, accepted.1);
            assert_eq!(limits(proposed.and(accepted)), agreed);
        }
    }
}
