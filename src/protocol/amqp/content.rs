//! Content headers of either direction: held until they can be read, and with them the body
//! where nothing else can tell whether it is a task's.

use std::borrow::Cow;
use std::sync::Arc;

use crate::hop::Decision;
use crate::hop::Sighting;
use crate::protocol::HoldBudget;
use crate::protocol::Setup;
use crate::protocol::amqp::envelope::Envelope;
use crate::protocol::amqp::frame;
use crate::protocol::amqp::frame::Frame;
use crate::protocol::amqp::frame::Halt;
use crate::protocol::amqp::frame::Tuning;
use crate::protocol::hold::Reservation;
use crate::protocol::hold::held_next;
use crate::protocol::patch::Patch;

/// What is held of one direction until more has come.
#[derive(Debug, Default)]
pub(super) struct Held {
    reservation: Option<Reservation>,
    /// How much of a body has been found behind its content header, which waits for it.
    ahead: Option<Ahead>,
}

/// Where a content header is read: what may be held for it, and who is told of what cannot
/// be read.
pub(super) struct Desk<'a> {
    pub(super) held: &'a mut Held,
    pub(super) setup: &'a Setup,
    pub(super) sightings: &'a mut Vec<Sighting>,
}

impl Held {
    /// Whether that many bytes may be held. What is held already is a part of them.
    pub(super) fn reserve(&mut self, bytes: usize, budget: &Arc<HoldBudget>) -> bool {
        self.reservation = None;
        self.reservation = budget.reserve(bytes);
        self.reservation.is_some()
    }

    pub(super) fn bytes(&self) -> usize {
        self.reservation.as_ref().map_or(0, Reservation::bytes)
    }

    /// What was held has left, or leaves now.
    pub(super) fn release(&mut self) {
        *self = Self::default();
    }
}

impl Desk<'_> {
    /// Reads the content header that this frame is, with a body of `left` bytes behind it.
    /// `None`: it passes unread, and that was told.
    pub(super) fn read<'i>(
        &mut self,
        frame: Frame,
        input: &'i [u8],
        left: u64,
    ) -> Result<Option<Envelope<'i>>, Halt> {
        let bytes_max = self.setup.limits.hold_bytes_max;
        if frame.length() > bytes_max {
            self.leave_alone("over_hold_limit");
            return Ok(None);
        }
        if input.len() < frame.length() {
            self.wait_for(frame.length(), input)?;
            return Ok(None);
        }
        let is_body_there = match self.held.ahead.take() {
            Some(ahead) => Some(self.look(ahead, frame, input)?),
            None => None,
        };
        let payload = frame.payload(input, frame.size)?;
        let mut envelope = match Envelope::read(payload) {
            Ok(envelope) => envelope,
            Err(why) => {
                self.leave_alone(why);
                return Ok(None);
            }
        };
        if envelope.may_be_protocol1() {
            let at = frame.length();
            let is_body_there = match is_body_there {
                Some(is_there) => is_there,
                None => self.look(Ahead { at, left }, frame, input)?,
            };
            if is_body_there {
                let body = body_behind(frame, input, left);
                match envelope.protocol1(&body, bytes_max) {
                    Ok(Some(task)) => envelope.headers.describe(task),
                    // A hostname makes it an event, not a task.
                    Err(why) if !envelope.has_hostname => self.leave_alone(why),
                    Ok(None) | Err(_) => {}
                }
            }
        } else if envelope.headers.names_a_task()
            && envelope.headers.task().is_none()
            && !envelope.has_hostname
        {
            self.leave_alone("bad_headers");
        }
        Ok(Some(envelope))
    }

    /// Writes into `patch` what is to change in that content header where the decision is to
    /// stamp it, and says what comes of the decision: a content header has one frame to fit in.
    pub(super) fn stamp(
        &mut self,
        decision: Decision,
        envelope: &Envelope<'_>,
        frame: Frame,
        tuning: Tuning,
        patch: &mut Patch,
    ) -> Decision {
        let Some(stamp) = &decision.stamp else {
            return decision;
        };
        envelope.write_stamped(stamp, patch);
        if tuning.forbids(patch.patched_length(frame.length())) {
            patch.clear();
            self.leave_alone("over_frame_max");
            return decision.unstamped(&envelope.headers.carrier);
        }
        frame.resize(patch);
        decision
    }

    /// Looks for the whole body of a message behind its content header, from where it was
    /// not found the last time. Says whether it is there; if it cannot be had, the message
    /// stays as it is. Nothing else waits for it: whatever comes in between ends the look.
    fn look(&mut self, mut ahead: Ahead, header: Frame, input: &[u8]) -> Result<bool, Halt> {
        let bytes_max = self.setup.limits.hold_bytes_max;
        while ahead.left > 0 {
            // Before the next frame is looked at: whether it has come is of no matter.
            if ahead.end_at_least() > bytes_max {
                self.leave_alone("over_hold_limit");
                return Ok(false);
            }
            let next = match Frame::read(input.get(ahead.at..).unwrap_or_default()) {
                Ok(next) => Some(next),
                Err(Halt::Need(_)) => None,
                Err(lost) => return Err(lost),
            };
            let after = match next {
                None => ahead,
                Some(next) if next.is_body_of(header) => ahead.behind(next),
                Some(_) => {
                    self.leave_alone("body_interrupted");
                    return Ok(false);
                }
            };
            if after.at > bytes_max {
                self.leave_alone("over_hold_limit");
                return Ok(false);
            }
            if next.is_none() || input.len() < after.at {
                self.held.ahead = Some(ahead);
                self.wait_for(after.at.max(input.len() + 1), input)?;
                return Ok(false);
            }
            ahead = after;
        }
        Ok(true)
    }

    /// Halts until more has come of so many bytes; `Ok` where no more may be held.
    fn wait_for(&mut self, bytes: usize, input: &[u8]) -> Result<(), Halt> {
        let held = held_next(bytes, input.len());
        if self.held.reserve(held, &self.setup.budget) {
            return Err(Halt::Need(held));
        }
        self.held.release();
        self.leave_alone("over_total_hold_limit");
        Ok(())
    }

    fn leave_alone(&mut self, why: &'static str) {
        self.sightings.push(Sighting::LeftAlone {
            connection: Arc::clone(&self.setup.connection),
            why,
        });
    }
}

/// A look at the frames behind a content header.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    /// Where the next frame begins, from the beginning of that of the content header.
    at: usize,
    /// How much of the body stands in frames behind that.
    left: u64,
}

impl Ahead {
    /// Behind that part of the body.
    fn behind(self, part: Frame) -> Self {
        Self {
            at: self.at.saturating_add(part.length()),
            left: self
                .left
                .saturating_sub(u64::try_from(part.size).unwrap_or(u64::MAX)),
        }
    }

    /// Where the body cannot end before.
    fn end_at_least(self) -> usize {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        self.at
            .saturating_add(left)
            .saturating_add(frame::EMPTY_FRAME_BYTES)
    }
}

/// The body of which all frames are there, behind that of its content header.
fn body_behind(header: Frame, input: &[u8], size: u64) -> Cow<'_, [u8]> {
    let mut body = Cow::Borrowed(&[][..]);
    let mut rest = input.get(header.length()..).unwrap_or_default();
    while u64::try_from(body.len()).is_ok_and(|found| found < size)
        && let Ok(next) = Frame::read(rest)
        && let Some((frame, behind)) = rest.split_at_checked(next.length())
    {
        let payload = frame.get(frame::HEAD_BYTES..frame.len() - 1);
        let payload = payload.unwrap_or_default();
        if body.is_empty() {
            body = Cow::Borrowed(payload);
        } else {
            body.to_mut().extend_from_slice(payload);
        }
        rest = behind;
    }
    body
}
