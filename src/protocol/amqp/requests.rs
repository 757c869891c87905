//! What the client sends: publications, into which context is written.

use std::mem;
use std::sync::Arc;

use crate::celery::Task;
use crate::hop::HopId;
use crate::hop::Publication;
use crate::hop::Sighting;
use crate::hop::clean_client_name;
use crate::protocol::Setup;
use crate::protocol::amqp::SYSTEM;
use crate::protocol::amqp::channel::Publish;
use crate::protocol::amqp::channel::Publishing;
use crate::protocol::amqp::content::Desk;
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
use crate::protocol::amqp::saying::Saying;
use crate::protocol::amqp::session::State;
use crate::protocol::amqp::stage::Fate;
use crate::protocol::patch::Patch;
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
        match &method {
            Method::StartOk { client_name } => {
                self.state.client_name = client_name.as_deref().and_then(clean_client_name);
            }
            Method::Open { vhost } => self.state.vhost = vhost.map(Box::from),
            Method::TuneOk(accepted) => self.state.tuning = self.state.proposed.and(*accepted),
            _ => {}
        }
        let manner = self.state.channels.manner(frame.channel);
        match self.state.stage.requested(&method, manner, self.now) {
            Fate::Pass => {
                self.state
                    .channels
                    .requested(frame.channel, &method, self.now);
                self.tell();
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

    fn header(&mut self, frame: Frame, input: &[u8], patch: &mut Patch) -> Result<Reading, Halt> {
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
            self.state.held_from_client.release();
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
        patch: &mut Patch,
    ) -> Result<(Reading, Publishing), Halt> {
        let left = body_size(frame, input)?;
        let Some(envelope) = self.desk().read(frame, input, left)? else {
            let body = Publishing::Body {
                left,
                sent: Sent::default(),
                saying: None,
            };
            return Ok((Reading::Pass, body));
        };
        let mark = publish
            .mandatory
            .then(|| mark(publish.target.route(), envelope.correlation_id));
        let (hop, saying) = match envelope.headers.task() {
            Some(task) => {
                let hop = self.inject(publish, task, &envelope, frame, patch);
                (Some(hop), None)
            }
            None => (None, self.saying(publish, &envelope)),
        };
        let reading = if patch.is_empty() {
            Reading::Pass
        } else {
            Reading::Patch
        };
        let sent = Sent::new(hop, mark);
        Ok((reading, Publishing::Body { left, sent, saying }))
    }

    /// What a message may tell that is no task's, where anybody wants to know.
    fn saying(&self, publish: &Publish, envelope: &Envelope<'_>) -> Option<Box<Saying>> {
        let Setup {
            injector,
            limits,
            budget,
            ..
        } = &*self.setup;
        if !injector.follows_runs() {
            return None;
        }
        Saying::of(publish.target.route(), envelope, limits, budget)
    }

    fn desk(&mut self) -> Desk<'_> {
        Desk {
            held: &mut self.state.held_from_client,
            setup: self.setup,
            sightings: self.sightings,
        }
    }

    /// Decides about a task message, tells of it, and writes what is to change in its
    /// content header. The number of its hop.
    fn inject(
        &mut self,
        publish: &Publish,
        task: &Task<'_>,
        envelope: &Envelope<'_>,
        frame: Frame,
        patch: &mut Patch,
    ) -> u64 {
        let setup = &mut *self.setup;
        let carrier = &envelope.headers.carrier;
        let destination = publish.target.destination();
        let scope = self.state.scope(&setup.connection);
        let decision =
            setup
                .injector
                .publish(task, carrier, destination, scope, self.now, &mut setup.ids);
        let tuning = self.state.tuning;
        let decision = self.desk().stamp(decision, envelope, frame, tuning, patch);
        let connection = Arc::clone(&self.setup.connection);
        let number = self.state.next_hop;
        self.state.next_hop += 1;
        self.sightings
            .push(Sighting::Published(Arc::new(Publication {
                hop: HopId {
                    session: connection.session,
                    number,
                },
                connection,
                system: SYSTEM,
                at: publish.at,
                destination: Arc::clone(destination),
                task: task.into(),
                client_name: self.state.client_name.clone(),
                size: envelope.size,
                mandatory: publish.mandatory,
                judgement: decision.judgement,
            })));
        number
    }

    fn tell(&mut self) {
        self.state.tell(self.setup, self.now, self.sightings);
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

    fn begin(&mut self, frame: Frame, input: &[u8], patch: &mut Patch) -> Result<Reading, Halt> {
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

    fn pass(&mut self, frame: Frame, part: &[u8]) {
        if self.setup.injector.follows_runs()
            && let Publishing::Body {
                saying: Some(saying),
                ..
            } = &mut self.state.channels.channel(frame.channel).publishing
        {
            saying.hear(part);
        }
    }

    fn end(&mut self, frame: Frame) {
        if let Some(found) = frame.content_size() {
            let publishing = &mut self.state.channels.channel(frame.channel).publishing;
            if let Some((sent, saying)) = publishing.advance(found) {
                let is_open = self.state.stage.is_open();
                self.state.channels.published(frame.channel, sent, is_open);
                if let Some(saying) = saying {
                    saying.tell(self.now, self.sightings);
                }
                self.tell();
            }
        }
    }
}
