//! One connection between an app and RabbitMQ.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::hop::Answer;
use crate::hop::BrokerPart;
use crate::hop::Connection;
use crate::hop::HopId;
use crate::hop::Receipt;
use crate::hop::Scope;
use crate::hop::Settlement;
use crate::hop::Sighting;
use crate::protocol::OFF;
use crate::protocol::Outbox;
use crate::protocol::Session;
use crate::protocol::Setup;
use crate::protocol::Side;
use crate::protocol::account::Account;
use crate::protocol::amqp::channel::Channels;
use crate::protocol::amqp::content::Held;
use crate::protocol::amqp::frame::Frame;
use crate::protocol::amqp::frame::Frames;
use crate::protocol::amqp::frame::Tuning;
use crate::protocol::amqp::frame::Unreadable;
use crate::protocol::amqp::method::CONNECTION_FORCED;
use crate::protocol::amqp::method::REPLY_SUCCESS;
use crate::protocol::amqp::method::write_cancel;
use crate::protocol::amqp::method::write_connection_close;
use crate::protocol::amqp::replies::Replies;
use crate::protocol::amqp::requests::Requests;
use crate::protocol::amqp::stage::Stage;
use crate::protocol::pieces::Pieces;
use crate::trace::Timestamp;

/// Reads both directions of one connection.
///
/// Context is written into the content headers of task messages. Confirms, returns and closes
/// tell what became of publications, acknowledgements and closes what became of deliveries.
/// Only a content header is ever held, and behind it the body where nothing else can tell
/// whether it is a task's; whatever else its sender sends before that is complete releases
/// both.
#[derive(Debug)]
pub struct AmqpSession {
    to_broker: Pieces,
    requests: Frames,
    to_client: Pieces,
    replies: Frames,
    state: State,
    setup: Setup,
    /// The proxy wants to part the peers.
    is_parting: bool,
    broker_heard_at: Timestamp,
    account: Account,
    /// One of the peers will send no more.
    is_half_closed: bool,
}

/// What the readers of both directions have to know.
#[derive(Debug)]
pub(super) struct State {
    pub(super) stage: Stage,
    /// The client has said which protocol it speaks.
    pub(super) is_greeted: bool,
    /// What the broker has proposed.
    pub(super) proposed: Tuning,
    pub(super) tuning: Tuning,
    pub(super) channels: Channels,
    /// What the client calls itself.
    pub(super) client_name: Option<Arc<str>>,
    /// The virtual host that it has opened.
    pub(super) vhost: Option<Box<[u8]>>,
    pub(super) held_from_client: Held,
    pub(super) held_from_broker: Held,
    pub(super) next_hop: u64,
    pub(super) next_delivery: u64,
}

impl AmqpSession {
    /// A session for a new connection.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self {
            to_broker: Pieces::default(),
            requests: Frames::default(),
            to_client: Pieces::default(),
            replies: Frames::default(),
            state: State {
                stage: Stage::default(),
                is_greeted: false,
                proposed: Tuning::default(),
                tuning: Tuning::default(),
                channels: Channels::new(setup.limits.pending_max),
                client_name: None,
                vhost: None,
                held_from_client: Held::default(),
                held_from_broker: Held::default(),
                next_hop: 0,
                next_delivery: 0,
            },
            setup,
            is_parting: false,
            broker_heard_at: Timestamp::default(),
            account: Account::default(),
            is_half_closed: false,
        }
    }

    /// Pays for what is kept. Where there is no room for it, nothing is read any further.
    fn settle_account(&mut self, now: Timestamp, out: &mut Outbox) {
        let unpaid =
            |pieces: &Pieces, held: &Held| pieces.held_bytes().saturating_sub(held.bytes());
        let State {
            channels,
            held_from_client,
            held_from_broker,
            ..
        } = &self.state;
        let kept = channels.kept_bytes()
            + unpaid(&self.to_broker, held_from_client)
            + unpaid(&self.to_client, held_from_broker);
        if self.account.pay(kept, &self.setup.budget) {
            return;
        }
        self.to_broker.turn_blind(&mut out.to_broker);
        self.lose_requests("over_total_hold_limit", now, out);
        self.state.channels = Channels::new(self.setup.limits.pending_max);
    }

    /// Says that nothing more is read.
    fn lose_requests(&mut self, why: Unreadable, now: Timestamp, out: &mut Outbox) {
        self.state.held_from_client.release();
        self.state.channels.interrupt(&Answer::Unread);
        self.state.channels.forget_deliveries();
        self.lose_replies(why, now, out);
    }

    fn receive_from_client(&mut self, bytes: &[u8], now: Timestamp, out: &mut Outbox) {
        if self.state.stage.is_deaf_to_client() {
            return;
        }
        // Whoever asks for more has heard all answers. What it asks will be asked again.
        if self.is_parting && self.is_quiet() && !self.state.channels.consumers.has_heedless() {
            self.say_goodbye(now, out);
        }
        let mut reader = Requests {
            state: &mut self.state,
            setup: &mut self.setup,
            sightings: &mut out.sightings,
            now,
            is_leaving: false,
            unpaired: false,
        };
        let read = self
            .to_broker
            .receive(bytes, &mut out.to_broker, |input, patch| {
                if reader.state.is_greeted {
                    self.requests.step(input, patch, &mut reader)
                } else {
                    reader.greet(input)
                }
            });
        let (is_leaving, unpaired) = (reader.is_leaving, reader.unpaired);
        if is_leaving {
            tell_broker(out);
        }
        if unpaired {
            self.to_client.turn_blind(&mut out.to_client);
        }
        if let Err(why) = read {
            self.lose_requests(why, now, out);
        }
    }

    fn receive_from_broker(&mut self, bytes: &[u8], now: Timestamp, out: &mut Outbox) {
        self.broker_heard_at = now;
        let mut reader = Replies {
            state: &mut self.state,
            setup: &mut self.setup,
            sightings: &mut out.sightings,
            now,
        };
        let read = self
            .to_client
            .receive(bytes, &mut out.to_client, |input, patch| {
                self.replies.step(input, patch, &mut reader)
            });
        if let Err(why) = read {
            self.lose_replies(why, now, out);
        }
    }

    /// Says that nothing more will be known of what becomes of publications.
    fn lose_replies(&mut self, why: Unreadable, now: Timestamp, out: &mut Outbox) {
        self.to_client.turn_blind(&mut out.to_client);
        self.state.held_from_broker.release();
        self.state
            .lose_answers(why, &self.setup, now, &mut out.sightings);
    }

    /// Whether a frame could be written to the broker now.
    fn is_at_boundary_to_broker(&self) -> bool {
        self.to_broker.is_empty() && self.requests.is_at_start()
    }

    fn is_at_boundary(&self) -> bool {
        self.is_at_boundary_to_broker() && self.to_client.is_empty() && self.replies.is_at_start()
    }

    /// Whether nothing would be cut in half if the connection ended now.
    fn is_quiet(&self) -> bool {
        matches!(self.state.stage, Stage::Open)
            && self.is_at_boundary()
            && self.state.channels.is_settled()
    }

    /// Tells the client to close.
    fn say_goodbye(&mut self, now: Timestamp, out: &mut Outbox) {
        let mut goodbye = Vec::new();
        let text = "CONNECTION_FORCED - the proxy is shutting down";
        write_connection_close(CONNECTION_FORCED, text, &mut goodbye);
        out.to_client.extend_from_slice(&goodbye);
        self.state.stage = Stage::ToldClient { at: now };
    }

    /// Cancels the consumers that must not be left alone. Says whether there are none.
    fn cancel_consumers(&mut self, out: &mut Outbox) -> bool {
        let consumers = self.state.channels.consumers.take_heedless();
        if consumers.is_empty() {
            return true;
        }
        let mut frames = Vec::new();
        for (channel, tag) in &consumers {
            write_cancel(*channel, tag, &mut frames);
        }
        out.to_broker.extend_from_slice(&frames);
        self.state.stage = Stage::Cancelling(consumers);
        false
    }
}

impl Session for AmqpSession {
    fn receive(&mut self, from: Side, bytes: &[u8], now: Timestamp, out: &mut Outbox) {
        match from {
            Side::Client => self.receive_from_client(bytes, now, out),
            Side::Broker => self.receive_from_broker(bytes, now, out),
        }
        self.settle_account(now, out);
    }

    fn pass(&mut self, from: Side, count: usize) -> bool {
        match from {
            Side::Client if self.state.stage.is_deaf_to_client() => false,
            Side::Client => {
                let channels = &mut self.state.channels;
                let is_heard = |frame: Frame| channels.channel(frame.channel).publishing.is_heard();
                self.to_broker
                    .passes(|| self.requests.pass(count, is_heard))
            }
            Side::Broker => self
                .to_client
                .passes(|| self.replies.pass(count, |_| false)),
        }
    }

    fn finish(&mut self, from: Side, now: Timestamp, out: &mut Outbox) {
        let is_in_order = self.state.stage.ends_in_order(from);
        let channels = &mut self.state.channels;
        channels.interrupt(&Answer::Lost);
        channels.give_back(match is_in_order {
            true => Settlement::Returned,
            false => Settlement::Abandoned,
        });
        match from {
            Side::Client => {
                self.to_broker.finish(&mut out.to_broker);
                self.state.held_from_client.release();
            }
            Side::Broker => {
                self.to_client.finish(&mut out.to_client);
                self.state.held_from_broker.release();
                if is_in_order {
                    self.state.channels.close();
                }
                self.state.channels.lose(&Answer::Lost);
            }
        }
        self.state.tell(&self.setup, now, &mut out.sightings);
        if mem::replace(&mut self.is_half_closed, true) {
            self.account.close();
        } else {
            self.settle_account(now, out);
        }
    }

    fn is_over(&self) -> bool {
        self.state.stage.is_over()
    }

    fn stop_reading(&mut self, now: Timestamp, out: &mut Outbox) {
        self.to_broker.turn_blind(&mut out.to_broker);
        self.lose_requests(OFF, now, out);
    }

    /// At a frame boundary with no answer owed and no message half sent, tells the client to
    /// close, and when it has, the broker. What is not understood has no such moment.
    fn part(&mut self, now: Timestamp, out: &mut Outbox) -> bool {
        if self.to_broker.is_blind() || self.to_client.is_blind() {
            return false;
        }
        self.is_parting = true;
        match &self.state.stage {
            Stage::Opening => !self.state.is_greeted && self.is_at_boundary(),
            Stage::Open => {
                // Right behind an answer, some clients would take the end for the answer.
                let was_heard = now.since(self.broker_heard_at) >= PAUSE;
                if self.is_quiet() && self.cancel_consumers(out) && was_heard {
                    self.say_goodbye(now, out);
                }
                false
            }
            Stage::Cancelling(waiting) => {
                if waiting.is_empty() {
                    self.state.stage = Stage::Open;
                    return self.part(now, out);
                }
                false
            }
            Stage::ToldClient { at } => {
                // Some clients do not listen while they have nothing to say.
                if now.since(*at) >= PATIENCE
                    && self.is_at_boundary_to_broker()
                    && self.state.channels.is_nothing_half_published()
                {
                    tell_broker(out);
                    self.state.stage = Stage::ToldBroker { at: now };
                }
                false
            }
            Stage::ToldBroker { at } => now.since(*at) >= PATIENCE,
            Stage::Closing => false,
            Stage::Closed | Stage::Parted => true,
        }
    }
}

impl State {
    /// Where ids that apps choose mean the same.
    pub(super) fn scope<'a>(&'a self, connection: &'a Connection) -> Scope<'a> {
        Scope {
            route: &connection.route,
            part: match &self.vhost {
                Some(name) => BrokerPart::Vhost(name),
                None => BrokerPart::Unknown,
            },
        }
    }

    /// Tells what has become of publications and deliveries.
    pub(super) fn tell(&mut self, setup: &Setup, now: Timestamp, sightings: &mut Vec<Sighting>) {
        let session = setup.connection.session;
        for (number, answer) in self.channels.take_answers() {
            sightings.push(Sighting::Answered {
                hop: HopId { session, number },
                at: now,
                answer,
            });
        }
        for (number, settlement) in self.channels.take_settlements() {
            sightings.push(Sighting::Settled {
                receipt: Receipt::numbered(session, number),
                at: now,
                settlement,
            });
        }
    }

    /// From here on nothing is known of what becomes of publications, and no delivery is seen.
    pub(super) fn lose_answers(
        &mut self,
        why: Unreadable,
        setup: &Setup,
        now: Timestamp,
        sightings: &mut Vec<Sighting>,
    ) {
        self.channels.lose(&Answer::Unread);
        self.tell(setup, now, sightings);
        sightings.push(Sighting::LostSight {
            connection: Arc::clone(&setup.connection),
            why,
        });
    }
}

fn tell_broker(out: &mut Outbox) {
    let mut goodbye = Vec::new();
    write_connection_close(REPLY_SUCCESS, "the proxy is shutting down", &mut goodbye);
    out.to_broker.extend_from_slice(&goodbye);
}

/// How long after the broker's last word a client has surely heard it.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a peer may take to agree to the end of the connection.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
