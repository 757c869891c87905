//! One connection between an app and Redis.

use std::mem;
use std::sync::Arc;

use crate::hop::Answer;
use crate::hop::Connection;
use crate::hop::HopId;
use crate::hop::Sighting;
use crate::protocol::DeliveryProgress;
use crate::protocol::OFF;
use crate::protocol::Outbox;
use crate::protocol::Session;
use crate::protocol::Setup;
use crate::protocol::Side;
use crate::protocol::account::Account;
use crate::protocol::pieces::Pieces;
use crate::protocol::pieces::Step;
use crate::protocol::redis::arrivals::Arrivals;
use crate::protocol::redis::command::Commands;
use crate::protocol::redis::frame::Unreadable;
use crate::protocol::redis::pairing::Pairing;
use crate::protocol::redis::pairing::Told;
use crate::protocol::redis::pops::Pops;
use crate::protocol::redis::reader::Reader;
use crate::protocol::redis::reply::Replies;
use crate::protocol::redis::requests::Requested;
use crate::protocol::redis::requests::Requests;
use crate::protocol::redis::shared::Shared;
use crate::protocol::redis::value::Hold;
use crate::trace::Timestamp;

/// Reads the requests and the replies of one connection.
///
/// Context is written into the task messages among the values of LPUSH, RPUSH and PUBLISH;
/// replies tell what became of them. Where that is wanted it is also written into messages
/// on their way out, which come as replies to pops and as messages of subscriptions.
#[derive(Debug)]
pub struct RedisSession {
    to_broker: Pieces,
    commands: Commands,
    to_client: Pieces,
    replies: Replies,
    pairing: Pairing,
    pops: Pops,
    setup: Setup,
    requested: Requested,
    /// What is held of the current reply.
    hold: Hold,
    /// Reads the messages in replies.
    reader: Reader,
    /// Where the last of them came from.
    destination: Shared,
    account: Account,
    /// One of the peers will send no more.
    is_half_closed: bool,
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
            pops: Pops::default(),
            requested: Requested::new(&setup.limits),
            setup,
            hold: Hold::default(),
            reader: Reader::default(),
            destination: Shared::default(),
            account: Account::default(),
            is_half_closed: false,
        }
    }

    /// Pays for what is kept. What there is no room for is not followed any further: replies
    /// first, then requests.
    fn settle_account(&mut self, now: Timestamp, out: &mut Outbox) {
        if self.pay() {
            return;
        }
        self.reader = Reader::default();
        if !self.to_client.is_blind() {
            self.lose_replies(OVER_TOTAL, now, out);
        }
        if !self.pay() && !self.to_broker.is_blind() {
            self.to_broker.turn_blind(&mut out.to_broker);
            self.requested.forget(&self.setup.limits);
            self.lose_requests(OVER_TOTAL, now, out);
        }
    }

    fn pay(&mut self) -> bool {
        let unpaid =
            |pieces: &Pieces, hold: &Hold| pieces.held_bytes().saturating_sub(hold.bytes());
        let kept = self.pairing.kept_bytes()
            + self.requested.kept_bytes()
            + self.reader.kept_bytes()
            + unpaid(&self.to_broker, &self.requested.hold)
            + unpaid(&self.to_client, &self.hold);
        self.account.pay(kept, &self.setup.budget)
    }

    /// Says that requests are no longer read. Without them there is nothing to pair.
    fn lose_requests(&mut self, why: Unreadable, now: Timestamp, out: &mut Outbox) {
        self.requested.hold.release();
        self.end_unfinished(&Answer::Unread);
        self.lose_replies(why, now, out);
    }

    /// Ends the messages of a request that is not whole. It may still become whole, with
    /// others in it.
    fn end_unfinished(&mut self, answer: &Answer) {
        let following = self.requested.no_hops();
        let unfinished = mem::replace(&mut self.requested.hops, following);
        self.pairing.end_hops(unfinished, answer);
    }

    /// Says that replies are no longer paired.
    fn lose_replies(&mut self, why: Unreadable, now: Timestamp, out: &mut Outbox) {
        self.to_client.turn_blind(&mut out.to_client);
        self.hold.release();
        self.pairing.lose(&Answer::Unread);
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

pub(super) fn tell_answers(
    pairing: &mut Pairing,
    connection: &Connection,
    now: Timestamp,
    sightings: &mut Vec<Sighting>,
) {
    let session = connection.session;
    for told in pairing.take_told() {
        match told {
            Told::Answered(hops, answer) => {
                for number in hops.first..hops.first + u64::from(hops.count) {
                    sightings.push(Sighting::Answered {
                        hop: HopId { session, number },
                        at: now,
                        answer: answer.clone(),
                    });
                }
            }
            Told::Settled(receipt, settlement) => sightings.push(Sighting::Settled {
                receipt,
                at: now,
                settlement,
            }),
        }
    }
}

impl Session for RedisSession {
    fn receive(&mut self, from: Side, bytes: &[u8], now: Timestamp, out: &mut Outbox) {
        match from {
            Side::Client => {
                self.pops.went_on();
                let mut requests = Requests {
                    state: &mut self.requested,
                    pairing: &mut self.pairing,
                    setup: &mut self.setup,
                    sightings: &mut out.sightings,
                    now,
                    unpaired: false,
                };
                let read = self
                    .to_broker
                    .receive(bytes, &mut out.to_broker, |input, patch| {
                        if self.pops.are_held && self.commands.is_at_start() {
                            match self.pops.hold(input) {
                                Some(true) => return Step::Need(usize::MAX),
                                Some(false) => {}
                                None => return Step::Need(input.len() + 1),
                            }
                        }
                        self.commands.step(input, patch, &mut requests)
                    });
                if requests.unpaired {
                    self.to_client.turn_blind(&mut out.to_client);
                    self.hold.release();
                }
                if let Err(why) = read {
                    self.lose_requests(why, now, out);
                }
            }
            Side::Broker => {
                let mut arrivals = Arrivals {
                    requested: &mut self.requested,
                    pairing: &mut self.pairing,
                    pops: &mut self.pops,
                    hold: &mut self.hold,
                    reader: &mut self.reader,
                    destination: &mut self.destination,
                    setup: &mut self.setup,
                    sightings: &mut out.sightings,
                    now,
                };
                let read = self
                    .to_client
                    .receive(bytes, &mut out.to_client, |input, patch| {
                        self.replies.step(input, patch, &mut arrivals)
                    });
                if let Err(why) = read {
                    self.lose_replies(why, now, out);
                }
            }
        }
        self.tell_answers(now, &mut out.sightings);
        self.settle_account(now, out);
    }

    fn pass(&mut self, from: Side, count: usize) -> bool {
        match from {
            Side::Client => self.to_broker.passes(|| self.commands.pass(count)),
            Side::Broker => self.to_client.passes(|| self.replies.pass(count)),
        }
    }

    fn finish(&mut self, from: Side, now: Timestamp, out: &mut Outbox) {
        match from {
            Side::Client => {
                self.to_broker.finish(&mut out.to_broker);
                self.requested.hold.release();
                self.requested.tell_due(now, &mut out.sightings);
                self.end_unfinished(&Answer::Lost);
            }
            Side::Broker => {
                self.to_client.finish(&mut out.to_client);
                self.hold.release();
                self.end_unfinished(&Answer::Lost);
                self.pairing.lose(&Answer::Lost);
            }
        }
        self.tell_answers(now, &mut out.sightings);
        if mem::replace(&mut self.is_half_closed, true) {
            self.account.close();
        } else {
            self.settle_account(now, out);
        }
    }

    fn stop_reading(&mut self, now: Timestamp, out: &mut Outbox) {
        self.to_broker.turn_blind(&mut out.to_broker);
        self.lose_requests(OFF, now, out);
    }

    fn hold_pops(&mut self) {
        self.pops.are_held = true;
    }

    fn holds_pop(&self) -> bool {
        self.pops.is_one_held
    }

    fn delivering(&self, now: Timestamp) -> DeliveryProgress {
        match self.pairing.awaits_pop() {
            true => DeliveryProgress::Awaited,
            false if self.pops.has_handed(now) => DeliveryProgress::Handed,
            false => DeliveryProgress::Nothing,
        }
    }

    /// Nothing owed, nothing half sent, no transaction open, unless it cannot go on behind a
    /// pop that is held. What is not understood has no such moment.
    fn part(&mut self, _now: Timestamp, _out: &mut Outbox) -> bool {
        let is_between_requests = self.to_broker.is_empty() && !self.pairing.is_in_transaction();
        !self.to_broker.is_blind()
            && !self.to_client.is_blind()
            && (is_between_requests || self.pops.is_one_held)
            && self.to_client.is_empty()
            && self.commands.is_at_start()
            && self.replies.is_at_start()
            && self.pairing.owes_nothing()
    }
}

/// All sessions together keep as much as they may.
const OVER_TOTAL: &str = "over_total_hold_limit";

#[cfg(test)]
mod tests;
