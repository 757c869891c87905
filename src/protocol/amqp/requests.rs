//! What the client sends: publications, into which context is written.

use std::borrow::Cow;
use std::mem;
use std::sync::Arc;

use crate::celery::Task;
use crate::hop::HopId;
use crate::hop::Publication;
use crate::hop::Sighting;
use crate::protocol::Setup;
use crate::protocol::amqp::channel::Publish;
use crate::protocol::amqp::channel::Publishing;
use crate::protocol::amqp::envelope::Envelope;
use crate::protocol::amqp::envelope::body_size;
use crate::protocol::amqp::envelope::mark;
use crate::protocol::amqp::frame;
use crate::protocol::amqp::frame::Frame;
use crate::protocol::amqp::frame::Halt;
use crate::protocol::amqp::frame::Kind;
use crate::protocol::amqp::frame::PROTOCOL_HEADER_BYTES;
use crate::protocol::amqp::frame::Reading;
use crate::protocol::amqp::frame::Tuning;
use crate::protocol::amqp::frame::read_protocol_header;
use crate::protocol::amqp::method::METHOD_BYTES_MAX;
use crate::protocol::amqp::method::Method;
use crate::protocol::amqp::owed::Sent;
use crate::protocol::amqp::session::State;
use crate::protocol::amqp::stage::Fate;
use crate::protocol::pieces::Step;
use crate::trace::Timestamp;

/// The session, as the reader of what the client sends sees it.
pub(super) struct Requests<'a> {
    pub(super) state: &'a mut State,
    pub(super) setup: &'a mut Setup,
    pub(super) sightings: &'a mut Vec<Sighting>,
    pub(super) now: Timestamp,
    /// The client has agreed to close.
    pub(super) is_leaving: bool,
    /// So much is unanswered that answers are no longer followed.
    pub(super) unpaired: bool,
}

impl Requests<'_> {
    /// Reads what the client sends before everything else.
    pub(super) fn greet(&mut self, input: &[u8]) -> Step {
        match read_protocol_header(input) {
            Ok(()) => {
                self.state.is_greeted = true;
                Step::Pass(PROTOCOL_HEADER_BYTES)
            }
            Err(Halt::Need(count)) => Step::Need(count),
            Err(Halt::Lost(why)) => Step::Lost(why),
        }
    }

    fn method(&mut self, frame: Frame, input: &[u8]) -> Result<Reading, Halt> {
        let method = Method::read(frame.payload(input, METHOD_BYTES_MAX)?)?;
        if let Method::TuneOk(accepted) = method {
            self.state.tuning = self.state.proposed.and(accepted);
        }
        let manner = self.state.channels.manner(frame.channel);
        match self.state.stage.requested(&method, manner, self.now) {
            Fate::Pass => {
                self.state
                    .channels
                    .requested(frame.channel, &method, self.now);
                self.tell_answers();
                Ok(Reading::Pass)
            }
            fate => {
                if let Method::Publish { .. } = method {
                    self.state.channels.channel(frame.channel).publishing =
                        Publishing::DroppedHeader;
                }
                self.is_leaving = fate == Fate::DropAndTellBroker;
                Ok(Reading::Drop)
            }
        }
    }

    fn header(&mut self, frame: Frame, input: &[u8], patch: &mut Vec<u8>) -> Result<Reading, Halt> {
        let channel = self.state.channels.channel(frame.channel);
        let publishing = mem::take(&mut channel.publishing);
        let (outcome, next) = match publishing {
            Publishing::Header(publish) => match self.content(&publish, frame, input, patch) {
                Ok((reading, body)) => (Ok(reading), body),
                Err(halt) => (Err(halt), Publishing::Header(publish)),
            },
            Publishing::DroppedHeader => match body_size(frame, input) {
                Ok(left) => (Ok(Reading::Drop), Publishing::DroppedBody { left }),
                Err(halt) => (Err(halt), Publishing::DroppedHeader),
            },
            // Nobody asked for it. The broker will say so.
            other => (Ok(Reading::Pass), other),
        };
        self.state.channels.channel(frame.channel).publishing = next;
        if outcome.is_ok() {
            self.state.held_from_client = None;
        }
        outcome
    }

    /// Reads the content header of a publication; says what is to become of it, and what of
    /// the body is to come.
    fn content(
        &mut self,
        publish: &Publish,
        frame: Frame,
        input: &[u8],
        patch: &mut Vec<u8>,
    ) -> Result<(Reading, Publishing), Halt> {
        let left = body_size(frame, input)?;
        let untold = || Publishing::Body {
            left,
            sent: Sent::default(),
        };
        if frame.length() > self.setup.limits.hold_bytes_max {
            self.leave_alone("over_hold_limit");
            return Ok((Reading::Pass, untold()));
        }
        if input.len() < frame.length() {
            return match self.hold(frame.length()) {
                true => Err(Halt::Need(frame.length())),
                false => Ok((Reading::Pass, untold())),
            };
        }
        let is_body_there = match self.state.ahead.take() {
            Some(ahead) => Some(self.look(ahead, frame, input)?),
            None => None,
        };
        let payload = frame.payload(input, frame.size)?;
        let envelope = match Envelope::read(payload) {
            Ok(envelope) => envelope,
            Err(why) => {
                self.leave_alone(why);
                return Ok((Reading::Pass, untold()));
            }
        };
        let task = if envelope.may_be_protocol1() {
            let at = frame.length();
            let is_body_there = match is_body_there {
                Some(is_there) => is_there,
                None => self.look(Ahead { at, left }, frame, input)?,
            };
            is_body_there
                .then(|| body_behind(frame, input, left))
                .and_then(|body| envelope.protocol1(&body, self.setup.limits.hold_bytes_max))
        } else {
            envelope.headers.task()
        };
        let mark = publish
            .mandatory
            .then(|| mark(publish.route(), envelope.correlation_id));
        let Some(task) = task else {
            let sent = Sent::new(None, mark);
            return Ok((Reading::Pass, Publishing::Body { left, sent }));
        };
        let hop = self.inject(publish, task, &envelope, frame, payload, patch);
        let reading = if patch.is_empty() {
            Reading::Pass
        } else {
            Reading::Replace
        };
        let sent = Sent::new(Some(hop), mark);
        Ok((reading, Publishing::Body { left, sent }))
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
                if !self.hold(after.at.max(ahead.end_at_least())) {
                    return Ok(false);
                }
                self.state.ahead = Some(ahead);
                return Err(Halt::Need(after.at.max(input.len() + 1)));
            }
            ahead = after;
        }
        Ok(true)
    }

    /// Decides about a task message, tells of it, and writes what is to stand for its
    /// content header. The number of its hop.
    fn inject(
        &mut self,
        publish: &Publish,
        task: Task<'_>,
        envelope: &Envelope<'_>,
        frame: Frame,
        payload: &[u8],
        patch: &mut Vec<u8>,
    ) -> u64 {
        let setup = &mut *self.setup;
        let destination = publish.route().destination();
        let mut decision = setup.injector.publish(
            &task,
            &envelope.headers,
            &destination,
            self.now,
            &mut setup.ids,
        );
        if let Some(stamp) = &decision.stamp {
            envelope.write_stamped(frame.channel, payload, stamp, patch);
            // A content header has one frame to fit in.
            if self.state.tuning.forbids(patch.len()) {
                patch.clear();
                self.leave_alone("over_frame_max");
                decision = decision.unstamped(&envelope.headers);
            }
        }
        let connection = Arc::clone(&self.setup.connection);
        let number = self.state.next_hop;
        self.state.next_hop += 1;
        let body_size = usize::try_from(envelope.body_size).unwrap_or(usize::MAX);
        self.sightings
            .push(Sighting::Published(Box::new(Publication {
                hop: HopId {
                    session: connection.session,
                    number,
                },
                connection,
                system: "rabbitmq",
                at: publish.at,
                destination,
                task: task.into_owned(),
                client_name: None,
                size: payload.len().saturating_add(body_size),
                judgement: decision.judgement,
            })));
        number
    }

    /// Whether that many bytes may be held until they have all come.
    fn hold(&mut self, bytes: usize) -> bool {
        // What is held already is a part of them.
        self.state.held_from_client = None;
        self.state.held_from_client = self.setup.budget.reserve(bytes);
        if self.state.held_from_client.is_none() {
            self.leave_alone("over_total_hold_limit");
        }
        self.state.held_from_client.is_some()
    }

    fn leave_alone(&mut self, why: &'static str) {
        self.sightings.push(Sighting::LeftAlone {
            connection: Arc::clone(&self.setup.connection),
            why,
        });
    }

    fn tell_answers(&mut self) {
        self.state
            .tell_answers(self.setup, self.now, self.sightings);
        if self.state.channels.is_over_limit() {
            // Requests are still understood; only the way back is not.
            self.unpaired = true;
            self.state
                .lose_answers("too_many_pending", self.setup, self.now, self.sightings);
        }
    }
}

impl frame::Reader for Requests<'_> {
    fn tuning(&self) -> Tuning {
        self.state.tuning
    }

    fn begin(&mut self, frame: Frame, input: &[u8], patch: &mut Vec<u8>) -> Result<Reading, Halt> {
        if self.state.stage.is_deaf_to_client() {
            return Ok(Reading::Drop);
        }
        match frame.kind {
            Kind::Method => self.method(frame, input),
            Kind::Header => self.header(frame, input, patch),
            Kind::Body => match self.state.channels.channel(frame.channel).publishing {
                Publishing::DroppedBody { .. } => Ok(Reading::Drop),
                _ => Ok(Reading::Pass),
            },
            Kind::Heartbeat => Ok(Reading::Pass),
        }
    }

    fn end(&mut self, frame: Frame) {
        if let Some(found) = frame.content_size() {
            let publishing = &mut self.state.channels.channel(frame.channel).publishing;
            if let Some(sent) = publishing.advance(found) {
                self.state.channels.published(frame.channel, sent);
                self.tell_answers();
            }
        }
    }
}

/// A look at the frames behind a content header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
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
