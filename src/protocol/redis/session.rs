//! One connection between an app and Redis.

use std::mem;
use std::sync::Arc;

use crate::hop::Answer;
use crate::hop::Connection;
use crate::hop::HopId;
use crate::hop::Publication;
use crate::hop::Sighting;
use crate::protocol::Outbox;
use crate::protocol::Session;
use crate::protocol::Setup;
use crate::protocol::Side;
use crate::protocol::hold::Reservation;
use crate::protocol::pieces::Pieces;
use crate::protocol::redis::command;
use crate::protocol::redis::command::Commands;
use crate::protocol::redis::command::Request;
use crate::protocol::redis::envelope::Envelope;
use crate::protocol::redis::frame::Unreadable;
use crate::protocol::redis::pairing::Hops;
use crate::protocol::redis::pairing::Pairing;
use crate::protocol::redis::reply::Replies;
use crate::trace::Timestamp;

/// Reads the requests and the replies of one connection.
///
/// Context is written into the task messages among the values of LPUSH, RPUSH and PUBLISH;
/// replies tell what became of them.
#[derive(Debug)]
pub struct RedisSession {
    to_broker: Pieces,
    commands: Commands,
    to_client: Pieces,
    replies: Replies,
    pairing: Pairing,
    setup: Setup,
    /// What is held at the moment.
    reservation: Option<Reservation>,
    /// When the current request began.
    began: Timestamp,
    /// The messages of the current request.
    hops: Hops,
    next_hop: u64,
}

impl RedisSession {
    /// A session for a new connection.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self {
            to_broker: Pieces::default(),
            commands: Commands::default(),
            to_client: Pieces::default(),
            replies: Replies::default(),
            pairing: Pairing::new(setup.limits.pending_max),
            setup,
            reservation: None,
            began: Timestamp::default(),
            hops: Hops::default(),
            next_hop: 0,
        }
    }

    /// Says that requests are no longer read. Without them there is nothing to pair.
    fn lose_requests(&mut self, why: Unreadable, now: Timestamp, out: &mut Outbox) {
        self.reservation = None;
        self.end_unfinished(&Answer::Unanswered);
        self.lose_replies(why, now, out);
    }

    /// Ends the messages of a request that is not whole. It may still become whole, with
    /// others in it.
    fn end_unfinished(&mut self, answer: &Answer) {
        let following = Hops {
            first: self.next_hop,
            count: 0,
        };
        let unfinished = mem::replace(&mut self.hops, following);
        self.pairing.end_hops(unfinished, answer);
    }

    /// Says that replies are no longer paired.
    fn lose_replies(&mut self, why: Unreadable, now: Timestamp, out: &mut Outbox) {
        self.to_client.turn_blind(&mut out.to_client);
        self.pairing.lose(&Answer::Unanswered);
        self.tell_answers(now, &mut out.sightings);
        out.sightings.push(Sighting::LostSight {
            connection: Arc::clone(&self.setup.connection),
            why,
        });
    }

    fn tell_answers(&mut self, now: Timestamp, sightings: &mut Vec<Sighting>) {
        tell_answers(&mut self.pairing, &self.setup.connection, now, sightings);
    }
}

fn tell_answers(
    pairing: &mut Pairing,
    connection: &Connection,
    now: Timestamp,
    sightings: &mut Vec<Sighting>,
) {
    let session = connection.session;
    for (hops, answer) in pairing.take_answers() {
        for number in hops.first..hops.first + u64::from(hops.count) {
            sightings.push(Sighting::Answered {
                hop: HopId { session, number },
                at: now,
                answer: answer.clone(),
            });
        }
    }
}

impl Session for RedisSession {
    fn receive(&mut self, from: Side, bytes: &[u8], now: Timestamp, out: &mut Outbox) {
        match from {
            Side::Client => {
                let mut requests = Requests {
                    pairing: &mut self.pairing,
                    setup: &mut self.setup,
                    reservation: &mut self.reservation,
                    began: &mut self.began,
                    hops: &mut self.hops,
                    next_hop: &mut self.next_hop,
                    sightings: &mut out.sightings,
                    now,
                    unpaired: false,
                };
                let read = self
                    .to_broker
                    .receive(bytes, &mut out.to_broker, |input, patch| {
                        self.commands.step(input, patch, &mut requests)
                    });
                if requests.unpaired {
                    self.to_client.turn_blind(&mut out.to_client);
                }
                if let Err(why) = read {
                    self.lose_requests(why, now, out);
                }
            }
            Side::Broker => {
                let read = self
                    .to_client
                    .receive(bytes, &mut out.to_client, |input, patch| {
                        self.replies.step(input, patch, &mut self.pairing)
                    });
                if let Err(why) = read {
                    self.lose_replies(why, now, out);
                }
            }
        }
        self.tell_answers(now, &mut out.sightings);
    }

    fn finish(&mut self, from: Side, now: Timestamp, out: &mut Outbox) {
        match from {
            Side::Client => {
                self.to_broker.finish(&mut out.to_broker);
                self.reservation = None;
                self.end_unfinished(&Answer::Lost);
            }
            Side::Broker => {
                self.to_client.finish(&mut out.to_client);
                self.end_unfinished(&Answer::Lost);
                self.pairing.lose(&Answer::Lost);
            }
        }
        self.tell_answers(now, &mut out.sightings);
    }

    /// Nothing owed, nothing half sent, no transaction open. What is not understood has no
    /// such moment.
    fn part(&mut self, _now: Timestamp, _out: &mut Outbox) -> bool {
        !self.to_broker.is_blind()
            && !self.to_client.is_blind()
            && self.to_broker.is_empty()
            && self.to_client.is_empty()
            && self.commands.is_at_start()
            && self.replies.is_at_start()
            && self.pairing.is_settled()
    }
}

/// The session, as the reader of its requests sees it.
struct Requests<'a> {
    pairing: &'a mut Pairing,
    setup: &'a mut Setup,
    reservation: &'a mut Option<Reservation>,
    began: &'a mut Timestamp,
    hops: &'a mut Hops,
    next_hop: &'a mut u64,
    sightings: &'a mut Vec<Sighting>,
    now: Timestamp,
    /// Whether replies can no longer be paired.
    unpaired: bool,
}

impl Requests<'_> {
    fn leave_alone(&mut self, why: &'static str) {
        self.sightings.push(Sighting::LeftAlone {
            connection: Arc::clone(&self.setup.connection),
            why,
        });
    }
}

impl command::Listener for Requests<'_> {
    fn begin(&mut self) {
        *self.began = self.now;
        *self.hops = Hops {
            first: *self.next_hop,
            count: 0,
        };
    }

    fn may_read(&mut self, length: usize, held: usize) -> bool {
        if length > self.setup.limits.hold_bytes_max {
            self.leave_alone("over_hold_limit");
            return false;
        }
        let reserved = match self.reservation {
            _ if held == 0 => true,
            Some(reservation) => reservation.grow(held),
            None => {
                *self.reservation = self.setup.budget.reserve(held);
                self.reservation.is_some()
            }
        };
        if !reserved {
            *self.reservation = None;
            self.leave_alone("over_total_hold_limit");
        }
        reserved
    }

    fn value(&mut self, key: &str, value: &[u8], patch: &mut Vec<u8>) -> bool {
        *self.reservation = None;
        let Some(envelope) = Envelope::read(value, self.setup.limits.hold_bytes_max) else {
            return false;
        };
        let destination = envelope.queue(key);
        let connection = Arc::clone(&self.setup.connection);
        if envelope.redelivered {
            self.sightings.push(Sighting::Redelivered {
                connection,
                destination: destination.into(),
            });
            return false;
        }
        let decision = self.setup.injector.publish(
            &envelope.task,
            &envelope.headers,
            destination,
            self.now,
            &mut self.setup.ids,
        );
        if let Some(stamp) = &decision.stamp {
            envelope.write_stamped(value, stamp, patch);
        }
        let hop = HopId {
            session: connection.session,
            number: *self.next_hop,
        };
        *self.next_hop += 1;
        self.hops.count += 1;
        self.sightings
            .push(Sighting::Published(Box::new(Publication {
                hop,
                connection,
                system: "redis",
                at: *self.began,
                destination: destination.into(),
                task: envelope.task.into_owned(),
                client_name: None,
                size: value.len(),
                judgement: decision.judgement,
            })));
        decision.stamp.is_some()
    }

    fn end(&mut self, request: Request) {
        let hops = mem::take(self.hops);
        let paired = self.pairing.requested(request, hops);
        // Told at once: what is seen, and in which order, does not depend on how much came
        // together with it.
        let connection = &self.setup.connection;
        tell_answers(self.pairing, connection, self.now, self.sightings);
        if let Err(why) = paired {
            // Requests are still understood; only the way back is not.
            self.unpaired = true;
            self.sightings.push(Sighting::LostSight {
                connection: Arc::clone(connection),
                why,
            });
        }
    }
}

#[cfg(test)]
mod tests;
