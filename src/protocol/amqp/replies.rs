//! What the broker sends: answers, returned messages, and deliveries.

use std::mem;

use crate::hop::Sighting;
use crate::protocol::Setup;
use crate::protocol::amqp::channel::Delivering;
use crate::protocol::amqp::envelope::Envelope;
use crate::protocol::amqp::envelope::body_size;
use crate::protocol::amqp::envelope::mark;
use crate::protocol::amqp::frame;
use crate::protocol::amqp::frame::Frame;
use crate::protocol::amqp::frame::Halt;
use crate::protocol::amqp::frame::Kind;
use crate::protocol::amqp::frame::Reading;
use crate::protocol::amqp::frame::Tuning;
use crate::protocol::amqp::method::METHOD_BYTES_MAX;
use crate::protocol::amqp::method::Method;
use crate::protocol::amqp::session::State;
use crate::protocol::amqp::stage::Fate;
use crate::trace::Timestamp;

/// The session, as the reader of what the broker sends sees it.
pub(super) struct Replies<'a> {
    pub(super) state: &'a mut State,
    pub(super) setup: &'a Setup,
    pub(super) sightings: &'a mut Vec<Sighting>,
    pub(super) now: Timestamp,
}

impl Replies<'_> {
    fn method(&mut self, frame: Frame, input: &[u8]) -> Result<Reading, Halt> {
        let method = Method::read(frame.payload(input, METHOD_BYTES_MAX)?)?;
        if self.state.stage.answered(frame.channel, &method) != Fate::Pass {
            return Ok(Reading::Drop);
        }
        if let Method::Tune(proposed) = method {
            self.state.proposed = proposed;
        }
        self.state.channels.answered(frame.channel, &method);
        self.state
            .tell_answers(self.setup, self.now, self.sightings);
        Ok(Reading::Pass)
    }

    fn header(&mut self, frame: Frame, input: &[u8]) -> Result<Reading, Halt> {
        let left = body_size(frame, input)?;
        let state = &mut *self.state;
        let channel = state.channels.channel(frame.channel);
        match mem::take(&mut channel.delivering) {
            Delivering::Header => channel.delivering = Delivering::Body { left },
            Delivering::ReturnedHeader(returned) => {
                let may_hold = frame.length() <= self.setup.limits.hold_bytes_max;
                if may_hold && input.len() < frame.length() {
                    state.held_from_broker = self.setup.budget.reserve(frame.length());
                    if state.held_from_broker.is_some() {
                        channel.delivering = Delivering::ReturnedHeader(returned);
                        return Err(Halt::Need(frame.length()));
                    }
                }
                state.held_from_broker = None;
                channel.delivering = Delivering::Body { left };
                let payload = frame.payload(input, frame.size).ok();
                let envelope = payload.filter(|_| may_hold).map(Envelope::read);
                if let Some(Ok(envelope)) = envelope {
                    let mark = mark(returned.route(), envelope.correlation_id);
                    channel.returned(mark, returned.words);
                }
            }
            // Nobody has announced it. It passes all the same.
            other => channel.delivering = other,
        }
        Ok(Reading::Pass)
    }
}

impl frame::Reader for Replies<'_> {
    fn tuning(&self) -> Tuning {
        self.state.tuning
    }

    fn begin(&mut self, frame: Frame, input: &[u8], _patch: &mut Vec<u8>) -> Result<Reading, Halt> {
        match frame.kind {
            Kind::Method => self.method(frame, input),
            _ if self.state.stage.is_deaf_to_broker() => Ok(Reading::Drop),
            Kind::Header => self.header(frame, input),
            Kind::Body | Kind::Heartbeat => Ok(Reading::Pass),
        }
    }

    fn end(&mut self, frame: Frame) {
        if let Some(found) = frame.content_size() {
            let channel = self.state.channels.channel(frame.channel);
            channel.delivering.advance(found);
        }
    }
}
