//! What the broker sends: answers, returned messages, and deliveries, into which context may
//! be written.

use std::mem;
use std::sync::Arc;

use crate::celery::Task;
use crate::hop::Announcement;
use crate::hop::Arrival;
use crate::hop::Delivery;
use crate::hop::Passage;
use crate::hop::Receipt;
use crate::hop::Sighting;
use crate::hop::clean;
use crate::protocol::Setup;
use crate::protocol::amqp::SYSTEM;
use crate::protocol::amqp::channel::Delivered;
use crate::protocol::amqp::channel::Delivering;
use crate::protocol::amqp::channel::Returned;
use crate::protocol::amqp::content::Desk;
use crate::protocol::amqp::envelope::Envelope;
use crate::protocol::amqp::envelope::Past;
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
use crate::protocol::amqp::method::is_delay_queue;
use crate::protocol::amqp::session::State;
use crate::protocol::amqp::stage::Fate;
use crate::protocol::patch::Patch;
use crate::trace::Timestamp;

/// The session, as the reader of what the broker sends sees it.
pub(super) struct Replies<'a> {
    pub(super) state: &'a mut State,
    pub(super) setup: &'a mut Setup,
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
        self.state.tell(self.setup, self.now, self.sightings);
        Ok(Reading::Pass)
    }

    fn header(&mut self, frame: Frame, input: &[u8], patch: &mut Patch) -> Result<Reading, Halt> {
        let left = body_size(frame, input)?;
        let body = Delivering::Body { left };
        let channel = self.state.channels.channel(frame.channel);
        let (outcome, next) = match mem::take(&mut channel.delivering) {
            Delivering::Header(delivered) => {
                match self.content(&delivered, frame, input, left, patch) {
                    Ok(reading) => (Ok(reading), body),
                    Err(halt) => (Err(halt), Delivering::Header(delivered)),
                }
            }
            Delivering::ReturnedHeader(returned) => match self.returned(&returned, frame, input) {
                Ok(()) => (Ok(Reading::Pass), body),
                Err(halt) => (Err(halt), Delivering::ReturnedHeader(returned)),
            },
            // Nobody has announced it. It passes all the same.
            other => (Ok(Reading::Pass), other),
        };
        self.state.channels.channel(frame.channel).delivering = next;
        if outcome.is_ok() {
            self.state.held_from_broker.release();
        }
        outcome
    }

    /// Reads the content header of a delivery; says what is to become of it.
    fn content(
        &mut self,
        delivered: &Delivered,
        frame: Frame,
        input: &[u8],
        left: u64,
        patch: &mut Patch,
    ) -> Result<Reading, Halt> {
        if let Some(envelope) = self.desk().read(frame, input, left)?
            && let Some(task) = envelope.headers.task()
        {
            self.deliver(delivered, task, &envelope, frame, patch);
        }
        Ok(if patch.is_empty() {
            Reading::Pass
        } else {
            Reading::Patch
        })
    }

    /// Decides about a task message, tells of it, and writes what is to change in its
    /// content header.
    fn deliver(
        &mut self,
        delivered: &Delivered,
        task: &Task<'_>,
        envelope: &Envelope<'_>,
        frame: Frame,
        patch: &mut Patch,
    ) {
        let passage = passage(delivered, &envelope.past);
        let connection = Arc::clone(&self.setup.connection);
        let arrival = Arrival {
            task,
            carrier: &envelope.headers.carrier,
            destination: &delivered.destination,
            scope: self.state.scope(&connection),
            passage: &passage,
        };
        let setup = &mut *self.setup;
        let received = setup.injector.deliver(&arrival, self.now, &mut setup.ids);
        let tuning = self.state.tuning;
        let decision = self
            .desk()
            .stamp(received.decision, envelope, frame, tuning, patch);
        let receipt = (!delivered.no_ack).then(|| {
            let number = self.state.next_delivery;
            self.state.next_delivery += 1;
            let channels = &mut self.state.channels;
            channels.delivered(frame.channel, delivered.tag, number);
            Receipt::numbered(connection.session, number)
        });
        self.sightings.push(Sighting::Delivered(Arc::new(Delivery {
            receipt,
            announcement: Announcement::Implied,
            connection,
            system: SYSTEM,
            at: self.now,
            destination: Arc::clone(&delivered.destination),
            task: task.into(),
            client_name: self.state.client_name.clone(),
            size: envelope.size,
            passage,
            sent: received.sent,
            is_seen_sent: received.is_seen_sent,
            answers_acknowledgements: false,
            clock_skew: None,
            process: received.process,
            judgement: decision.judgement,
        })));
    }

    fn returned(&mut self, returned: &Returned, frame: Frame, input: &[u8]) -> Result<(), Halt> {
        if frame.length() > self.setup.limits.hold_bytes_max {
            return Ok(());
        }
        if input.len() < frame.length() {
            let held = &mut self.state.held_from_broker;
            return match held.reserve(frame.length(), &self.setup.budget) {
                true => Err(Halt::Need(frame.length())),
                false => Ok(()),
            };
        }
        if let Ok(envelope) = Envelope::read(frame.payload(input, frame.size)?) {
            let mark = mark(returned.route(), envelope.correlation_id);
            let words = returned.words.clone();
            self.state.channels.returned(frame.channel, mark, words);
            self.state.tell(self.setup, self.now, self.sightings);
        }
        Ok(())
    }

    fn desk(&mut self) -> Desk<'_> {
        Desk {
            held: &mut self.state.held_from_broker,
            setup: self.setup,
            sightings: self.sightings,
        }
    }
}

/// How that message came to be delivered.
fn passage(delivered: &Delivered, past: &Past<'_>) -> Passage {
    let first_queue = past.first_queue.as_deref();
    let delayed = delivered.delayed || first_queue.is_some_and(is_delay_queue);
    let dead_letter = past.first_reason.as_deref().filter(|_| !delayed);
    Passage {
        redelivered: delivered.redelivered,
        // A retry repeats what the attempt before it was delivered with.
        deliveries_before: past.deliveries.filter(|_| delivered.redelivered),
        broadcast: delivered.broadcast,
        delayed,
        dead_letter: dead_letter
            .and_then(|reason| reason.get(..reason.floor_char_boundary(REASON_BYTES_MAX)))
            .map(|reason| clean(reason).into()),
    }
}

impl frame::Reader for Replies<'_> {
    fn tuning(&self) -> Tuning {
        self.state.tuning
    }

    fn begin(&mut self, frame: Frame, input: &[u8], patch: &mut Patch) -> Result<Reading, Halt> {
        match frame.kind {
            Kind::Method => self.method(frame, input),
            _ if self.state.stage.is_deaf_to_broker() => Ok(Reading::Drop),
            Kind::Header => self.header(frame, input, patch),
            Kind::Body | Kind::Heartbeat => Ok(Reading::Pass),
        }
    }

    fn pass(&mut self, _frame: Frame, _part: &[u8]) {}

    fn end(&mut self, frame: Frame) {
        if let Some(found) = frame.content_size() {
            let channel = self.state.channels.channel(frame.channel);
            channel.delivering.advance(found);
        }
    }
}

/// What is kept of why a message was moved.
const REASON_BYTES_MAX: usize = 64;
