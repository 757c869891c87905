//! What the broker sends: answers, and deliveries, into which context may be written.

use std::sync::Arc;

use crate::hop::Announcement;
use crate::hop::Arrival;
use crate::hop::Delivery;
use crate::hop::Passage;
use crate::hop::Scope;
use crate::hop::Sighting;
use crate::protocol::Setup;
use crate::protocol::patch::Patch;
use crate::protocol::redis::frame::Unreadable;
use crate::protocol::redis::pairing::MOVING;
use crate::protocol::redis::pairing::Pairing;
use crate::protocol::redis::pops::Pops;
use crate::protocol::redis::reader::Message;
use crate::protocol::redis::reader::Reader;
use crate::protocol::redis::reply;
use crate::protocol::redis::reply::Place;
use crate::protocol::redis::reply::Want;
use crate::protocol::redis::requests::Requested;
use crate::protocol::redis::session::tell_answers;
use crate::protocol::redis::settling::receipt;
use crate::protocol::redis::shared::Shared;
use crate::protocol::redis::value::Hold;
use crate::trace::Timestamp;

/// The session, as the reader of replies sees it.
pub(super) struct Arrivals<'a> {
    pub(super) requested: &'a mut Requested,
    pub(super) pairing: &'a mut Pairing,
    pub(super) pops: &'a mut Pops,
    pub(super) hold: &'a mut Hold,
    pub(super) reader: &'a mut Reader,
    pub(super) destination: &'a mut Shared,
    pub(super) setup: &'a mut Setup,
    pub(super) sightings: &'a mut Vec<Sighting>,
    pub(super) now: Timestamp,
}

impl Arrivals<'_> {
    fn removes_moving_address(&self) -> bool {
        let setup = &self.setup;
        setup.moving_address.is_removed(setup.injector.mode())
    }

    /// Tells what replies before this one have answered, even if they came together with it,
    /// and then what is seen now.
    fn see(&mut self, sighting: Sighting) {
        let connection = &self.setup.connection;
        tell_answers(self.pairing, connection, self.now, self.sightings);
        self.sightings.push(sighting);
    }

    fn leave_alone(&mut self, why: &'static str) {
        self.see(Sighting::LeftAlone {
            connection: Arc::clone(&self.setup.connection),
            why,
        });
    }
}

impl reply::Listener for Arrivals<'_> {
    fn begin(&mut self, type_byte: u8, text: &[u8]) {
        self.pairing.begin(type_byte, text);
    }

    fn element(&mut self, index: u64, type_byte: u8, text: &[u8]) {
        self.pairing.element(index, type_byte, text);
    }

    fn wants(&mut self, type_byte: u8, place: Place) -> Want {
        self.pairing.wants(type_byte, place)
    }

    fn may_read(&mut self, length: usize, held: usize) -> bool {
        let reserved = self.hold.reserve(length, held, self.setup);
        if let Err(why) = reserved {
            self.leave_alone(why);
        }
        reserved.is_ok()
    }

    fn value(&mut self, value: &[u8], patch: &mut Patch) -> bool {
        self.hold.release();
        let body_max = self.setup.limits.hold_bytes_max;
        let envelope = match self.reader.read(value, body_max) {
            Ok(Some(Message::Task(envelope))) => envelope,
            Ok(Some(Message::Event(_)) | None) => return false,
            Err(why) => {
                self.leave_alone(why);
                return false;
            }
        };
        let (key, broadcast) = self.pairing.source();
        let key = String::from_utf8_lossy(key);
        let destination = envelope.queue(&key);
        let passage = Passage {
            redelivered: envelope.redelivered,
            broadcast,
            ..Passage::default()
        };
        let arrival = Arrival {
            task: &envelope.task,
            carrier: &envelope.carrier,
            destination,
            scope: Scope {
                route: &self.setup.connection.route,
                part: self.pairing.database().of_reply(),
            },
            passage: &passage,
        };
        let received = self
            .setup
            .injector
            .deliver(&arrival, self.now, &mut self.setup.ids);
        let decision = received.decision;
        if let Some(stamp) = &decision.stamp {
            envelope.write_stamped(value, stamp, patch);
        }
        let destination = self.destination.keep(destination);
        let receipt = envelope
            .delivery_tag
            .as_deref()
            .and_then(|tag| receipt(tag.as_bytes()));
        let popped = &mut self.requested.popped;
        if !broadcast && popped.len() < POPPED_MAX {
            popped.extend(receipt);
        }
        let announcement = match self.requested.is_kombu {
            true => Announcement::Expected,
            false => Announcement::Possible,
        };
        self.see(Sighting::Delivered(Arc::new(Delivery {
            receipt,
            announcement,
            connection: Arc::clone(&self.setup.connection),
            system: "redis",
            at: self.now,
            destination,
            task: (&envelope.task).into(),
            client_name: self.requested.client_name.clone(),
            size: value.len(),
            passage,
            sent: received.sent,
            is_seen_sent: received.is_seen_sent,
            answers_acknowledgements: true,
            clock_skew: None,
            process: received.process,
            judgement: decision.judgement,
        })));
        decision.stamp.is_some()
    }

    fn unread(&mut self) {
        self.leave_alone("unread_command");
    }

    fn erases(&self, index: u64) -> bool {
        self.pairing.is_moving_address(index) && self.removes_moving_address()
    }

    fn end(&mut self) -> Result<(), Unreadable> {
        let redirects = self.pairing.redirects();
        let ended = self.pairing.end();
        if let Some(why) = redirects
            && (why != MOVING || !self.removes_moving_address())
        {
            self.see(Sighting::Redirected {
                connection: Arc::clone(&self.setup.connection),
                why,
            });
        }
        if self.pairing.take_popped() {
            self.pops.handed(self.now);
        }
        ended
    }
}

/// Of what is popped at one go, so much is known at the next request not to be announced; the
/// rest is when it has not been for too long.
const POPPED_MAX: usize = 1024;
