//! One direction of a session: what is held, what passes, what is replaced.

use std::mem;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use bytes::BytesMut;

use crate::protocol::patch::Patch;

/// What a reader says about the bytes it was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// That many bytes pass as they are; at least one, and never more than were shown.
    Pass(usize),
    /// Nothing can be said before that many bytes are there; more than were shown.
    Need(usize),
    /// That many bytes leave with the patch that the reader has written.
    Patch(usize),
    /// The bytes make no sense, for this reason.
    Lost(&'static str),
}

/// The bytes of one direction on their way through a reader.
///
/// Whatever the reader does, even panic, each byte leaves once and in its place: as it
/// came, or as the patch says.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// Came, and waits for more.
    held: BytesMut,
    /// How many bytes are needed before the reader can go on.
    need: usize,
    patch: Patch,
    blind: bool,
}

impl Pieces {
    /// Shows `bytes` to the reader `step`, behind what is still held, and writes to `to`
    /// what may leave. From the first error on everything passes unread.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        to: &mut BytesMut,
        step: impl FnMut(&[u8], &mut Patch) -> Step,
    ) -> Result<(), &'static str> {
        if self.blind {
            to.extend_from_slice(bytes);
            return Ok(());
        }
        if self.held.is_empty() {
            let (left, outcome) = self.read(bytes, to, step);
            self.keep(bytes.get(left..).unwrap_or_default(), to);
            return outcome;
        }
        self.held.extend_from_slice(bytes);
        if self.held.len() < self.need {
            return Ok(());
        }
        let held = mem::take(&mut self.held);
        let (left, outcome) = self.read(&held, to, step);
        if left == 0 && !self.blind {
            // A reader that asks for a little more, again and again, costs no copy each time.
            self.held = held;
        } else {
            self.keep(held.get(left..).unwrap_or_default(), to);
        }
        outcome
    }

    /// Releases what is held: nothing will follow it.
    pub(super) fn finish(&mut self, to: &mut BytesMut) {
        to.extend_from_slice(&mem::take(&mut self.held));
    }

    /// From here on everything passes unread.
    pub(super) fn turn_blind(&mut self, to: &mut BytesMut) {
        self.finish(to);
        self.blind = true;
    }

    pub(super) const fn is_blind(&self) -> bool {
        self.blind
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether what comes next can leave without a look: where nothing is read any more, or
    /// nothing is held and the reader does not have to see it.
    pub(super) fn passes(&self, is_of_no_interest: impl FnOnce() -> bool) -> bool {
        self.blind || self.held.is_empty() && is_of_no_interest()
    }

    /// Holds what could not leave, or lets it go where nothing is read any more.
    fn keep(&mut self, rest: &[u8], to: &mut BytesMut) {
        if self.blind {
            to.extend_from_slice(rest);
        } else {
            self.held.extend_from_slice(rest);
        }
    }

    /// Says where the bytes begin that have not left, too.
    fn read(
        &mut self,
        input: &[u8],
        to: &mut BytesMut,
        mut step: impl FnMut(&[u8], &mut Patch) -> Step,
    ) -> (usize, Result<(), &'static str>) {
        // Advanced together with writing, so that it holds after a panic, too.
        let mut left = 0;
        to.reserve(input.len());
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut at = 0;
            while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
                match step(rest, &mut self.patch) {
                    Step::Pass(count) => at += count,
                    Step::Need(count) => {
                        self.need = count;
                        break;
                    }
                    Step::Patch(count) => {
                        to.extend_from_slice(part(input, left, at));
                        left = at + count;
                        self.patch.apply(part(input, at, left), to);
                        at = left;
                    }
                    Step::Lost(why) => return Err(why),
                }
            }
            to.extend_from_slice(part(input, left, at));
            left = at;
            Ok(())
        }))
        .unwrap_or(Err("panic"));
        self.blind = outcome.is_err();
        (left, outcome)
    }
}

fn part(input: &[u8], from: usize, to: usize) -> &[u8] {
    input.get(from..to).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(
        pieces: &mut Pieces,
        bytes: &[u8],
        step: impl FnMut(&[u8], &mut Patch) -> Step,
    ) -> (String, Result<(), &'static str>) {
        let mut to = BytesMut::new();
        let outcome = pieces.receive(bytes, &mut to, step);
        (String::from_utf8(to.to_vec()).unwrap(), outcome)
    }

    /// Words end with a space; "two" becomes "2", "bad" is unreadable, "boom" panics.
    fn words(input: &[u8], patch: &mut Patch) -> Step {
        let Some(end) = input.iter().position(|byte| *byte == b' ') else {
            return Step::Need(input.len() + 1);
        };
        match &input[..end] {
            b"two" => {
                patch.replace(0..end, |out| out.push(b'2'));
                Step::Patch(end + 1)
            }
            b"bad" => Step::Lost("bad_word"),
            b"boom" => panic!("on purpose"),
            _ => Step::Pass(end + 1),
        }
    }

    #[test]
    fn what_is_incomplete_waits_and_the_rest_leaves() {
        let mut pieces = Pieces::default();
        assert_eq!(
            run(&mut pieces, b"one tw", words),
            ("one ".to_owned(), Ok(()))
        );
        assert_eq!(
            run(&mut pieces, b"o three", words),
            ("2 ".to_owned(), Ok(()))
        );
        let mut to = BytesMut::new();
        pieces.finish(&mut to);
        assert_eq!(&to[..], b"three");
    }

    #[test]
    fn unreadable_bytes_leave_as_they_came_and_so_does_all_that_follows() {
        let mut pieces = Pieces::default();
        assert_eq!(
            run(&mut pieces, b"one two bad two ", words),
            ("one 2 bad two ".to_owned(), Err("bad_word"))
        );
        assert_eq!(
            run(&mut pieces, b"two ", words),
            ("two ".to_owned(), Ok(()))
        );
        assert!(pieces.is_blind());
    }

    #[test]
    fn what_is_asked_for_again_and_again_is_kept_once() {
        let mut pieces = Pieces::default();
        let mut to = BytesMut::new();
        let mut place = None;
        for _ in 0..3 {
            let outcome = pieces.receive(b"x", &mut to, |input, _| {
                if input.len() > 1 {
                    assert_eq!(*place.get_or_insert(input.as_ptr()), input.as_ptr());
                }
                Step::Need(input.len() + 1)
            });
            assert_eq!(outcome, Ok(()));
        }
        pieces.finish(&mut to);
        assert_eq!(&to[..], b"xxx");
    }

    #[test]
    fn a_panic_loses_and_doubles_nothing() {
        let mut pieces = Pieces::default();
        assert_eq!(
            run(&mut pieces, b"one two three boom two ", words),
            ("one 2 three boom two ".to_owned(), Err("panic"))
        );
        assert_eq!(
            run(&mut pieces, b"two ", words),
            ("two ".to_owned(), Ok(()))
        );
    }
}
