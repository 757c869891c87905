//! Values in which a message may stand: how much of them is held, and until when.

use memchr::memmem;

use crate::protocol::Setup;
use crate::protocol::hold::Reservation;
use crate::protocol::hold::held_next;
use crate::protocol::patch::Patch;

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It passes as it comes.
    Pass,
    /// So much of it has to be there before it is looked at again.
    Wait(usize),
    /// It is all there.
    Read,
}

/// Looks at a value of `length` bytes, of which `there` has come, its line end included.
/// `may_hold` says whether so many bytes of it may be held.
pub(super) fn fate(there: &[u8], length: usize, may_hold: impl FnOnce(usize) -> bool) -> Fate {
    match there.first() {
        None => return Fate::Wait(1),
        // An envelope is an object: nothing else is worth holding.
        Some(first) if !b"{ \t\r\n".contains(first) => return Fate::Pass,
        Some(_) => {}
    }
    let whole = length.saturating_add(2);
    let is_whole = there.len() >= whole;
    let held = held_next(whole, there.len());
    match may_hold(if is_whole { 0 } else { held }) {
        false => Fate::Pass,
        true if is_whole => Fate::Read,
        true => Fate::Wait(held),
    }
}

/// Makes what `patch` does to a value of `length` bytes one that is done to its bulk string,
/// of which the first line takes up `head` bytes.
pub(super) fn frame(patch: &mut Patch, head: usize, length: usize) {
    let length = patch.patched_length(length);
    patch.move_behind(head);
    patch.replace(0..head, |out| {
        out.push(b'$');
        out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
        out.extend_from_slice(b"\r\n");
    });
}

/// The id of the task whose results are published to this channel, if they are. No message
/// of a task ever is.
pub(super) fn task_of_result(channel: &[u8]) -> Option<&[u8]> {
    let at = memmem::find(channel, RESULT_CHANNEL)?;
    channel.get(at + RESULT_CHANNEL.len()..)
}

/// What one direction holds of a value of which the end is not there.
#[derive(Debug, Default)]
pub(super) struct Hold(Option<Reservation>);

impl Hold {
    /// Reserves `held` bytes for a value of `length`, or says why it has to pass.
    pub(super) fn reserve(
        &mut self,
        length: usize,
        held: usize,
        setup: &Setup,
    ) -> Result<(), &'static str> {
        if length > setup.limits.hold_bytes_max {
            return Err("over_hold_limit");
        }
        let is_reserved = match &mut self.0 {
            _ if held == 0 => true,
            Some(reservation) => reservation.grow(held),
            None => {
                self.0 = setup.budget.reserve(held);
                self.0.is_some()
            }
        };
        if !is_reserved {
            self.release();
            return Err("over_total_hold_limit");
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, Reservation::bytes)
    }

    pub(super) fn release(&mut self) {
        self.0 = None;
    }
}

/// Celery's, behind whatever prefix it was told to put before all keys.
const RESULT_CHANNEL: &[u8] = b"celery-task-meta-";
