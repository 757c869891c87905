//! What the client sends: publications, into which context is written, and what workers say
//! of deliveries and of runs.

use std::mem;
use std::sync::Arc;

use crate::celery::read_events;
use crate::celery::read_result;
use crate::config::Limits;
use crate::hop::Evidence;
use crate::hop::HopId;
use crate::hop::Publication;
use crate::hop::Receipt;
use crate::hop::Scope;
use crate::hop::Sighting;
use crate::hop::TaskKey;
use crate::hop::clean;
use crate::hop::clean_client_name;
use crate::protocol::Setup;
use crate::protocol::patch::Patch;
use crate::protocol::redis::command;
use crate::protocol::redis::command::Request;
use crate::protocol::redis::envelope::Envelope;
use crate::protocol::redis::envelope::PRIORITY_SEPARATOR;
use crate::protocol::redis::frame::Unreadable;
use crate::protocol::redis::pairing::Hops;
use crate::protocol::redis::pairing::Pairing;
use crate::protocol::redis::reader::Message;
use crate::protocol::redis::reader::Reader;
use crate::protocol::redis::session::tell_answers;
use crate::protocol::redis::settling::Settling;
use crate::protocol::redis::settling::receipt;
use crate::protocol::redis::shared::Shared;
use crate::protocol::redis::value::Hold;
use crate::trace::Timestamp;

/// What is known of the requests of one connection.
#[derive(Debug)]
pub(super) struct Requested {
    /// What is held of the current one.
    pub(super) hold: Hold,
    reader: Reader,
    /// Its messages.
    pub(super) hops: Hops,
    /// When it began.
    began: Timestamp,
    next_hop: u64,
    settling: Settling,
    destination: Shared,
    pub(super) client_name: Option<Arc<str>>,
    /// What was popped since the last request.
    pub(super) popped: Vec<Receipt>,
    /// The client shows that it is kombu.
    pub(super) is_kombu: bool,
}

impl Requested {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            hold: Hold::default(),
            reader: Reader::default(),
            hops: Hops::default(),
            began: Timestamp::default(),
            next_hop: 0,
            settling: Settling::new(limits.pending_max),
            destination: Shared::default(),
            client_name: None,
            popped: Vec::new(),
            is_kombu: false,
        }
    }

    /// The memory that it takes, without what is held.
    pub(super) fn kept_bytes(&self) -> usize {
        let popped = self.popped.capacity() * size_of::<Receipt>();
        self.reader.kept_bytes() + self.settling.kept_bytes() + popped
    }

    /// Nothing is read any more.
    pub(super) fn forget(&mut self, limits: &Limits) {
        self.hold.release();
        self.reader = Reader::default();
        self.settling = Settling::new(limits.pending_max);
        self.popped = Vec::new();
    }

    /// What the client has popped it has announced by now, if it announces anything.
    pub(super) fn tell_due(&mut self, at: Timestamp, sightings: &mut Vec<Sighting>) {
        let due = |receipt| Sighting::AnnouncementDue { receipt, at };
        sightings.extend(self.popped.drain(..).map(due));
    }

    /// Those of a request without any, or without any so far.
    pub(super) const fn no_hops(&self) -> Hops {
        Hops {
            first: self.next_hop,
            count: 0,
        }
    }
}

/// The session, as the reader of its requests sees it.
pub(super) struct Requests<'a> {
    pub(super) state: &'a mut Requested,
    pub(super) pairing: &'a mut Pairing,
    pub(super) setup: &'a mut Setup,
    pub(super) sightings: &'a mut Vec<Sighting>,
    pub(super) now: Timestamp,
    /// Whether replies can no longer be paired.
    pub(super) unpaired: bool,
}

impl Requests<'_> {
    /// A task on its way in.
    fn publish(
        &mut self,
        key: &str,
        value: &[u8],
        envelope: Envelope<'_>,
        patch: &mut Patch,
    ) -> bool {
        let destination = envelope.queue(key);
        let connection = Arc::clone(&self.setup.connection);
        // Into an envelope without headers kombu writes no mark.
        let tag = envelope.delivery_tag.as_deref();
        let is_put_back = tag.is_some_and(|tag| self.state.settling.push(tag));
        if envelope.redelivered || is_put_back {
            self.sightings.push(Sighting::Redelivered {
                connection,
                destination: clean(destination).into(),
            });
            return false;
        }
        let decision = self.setup.injector.publish(
            &envelope.task,
            &envelope.carrier,
            destination,
            Scope {
                route: &self.setup.connection.route,
                part: self.pairing.database().of_request(),
            },
            self.now,
            &mut self.setup.ids,
        );
        if let Some(stamp) = &decision.stamp {
            envelope.write_stamped(value, stamp, patch);
        }
        let hop = HopId {
            session: connection.session,
            number: self.state.next_hop,
        };
        self.state.next_hop += 1;
        self.state.hops.count += 1;
        self.sightings
            .push(Sighting::Published(Arc::new(Publication {
                hop,
                connection,
                system: "redis",
                at: self.state.began,
                destination: self.state.destination.keep(destination),
                task: (&envelope.task).into(),
                client_name: self.state.client_name.clone(),
                size: value.len(),
                mandatory: false,
                judgement: decision.judgement,
            })));
        decision.stamp.is_some()
    }

    fn leave_alone(&mut self, why: Unreadable) {
        self.sightings.push(Sighting::LeftAlone {
            connection: Arc::clone(&self.setup.connection),
            why,
        });
    }

    fn tell_events(&mut self, body: &[u8]) {
        for told in read_events(body) {
            let Some(id) = told.id else { continue };
            // Clocks of workers differ from ours.
            let at = told.at_nanos.map_or(self.now, Timestamp::from_nanos);
            self.sightings.push(Sighting::Told {
                task: TaskKey::of(&id),
                at: at.min(self.now),
                state: told.state,
                evidence: Evidence::Event,
                runtime: told.runtime,
            });
        }
    }
}

impl command::Listener for Requests<'_> {
    fn begin(&mut self) {
        self.state.began = self.now;
        self.state.hops = self.state.no_hops();
    }

    fn may_read(&mut self, length: usize, held: usize) -> bool {
        let reserved = self.state.hold.reserve(length, held, self.setup);
        if let Err(why) = reserved {
            self.state.settling.push_unread();
            self.leave_alone(why);
        }
        reserved.is_ok()
    }

    fn value(&mut self, key: &str, value: &[u8], patch: &mut Patch) -> bool {
        self.state.hold.release();
        let body_max = self.setup.limits.hold_bytes_max;
        match self.state.reader.read(value, body_max) {
            Ok(Some(Message::Task(envelope))) => {
                return self.publish(key, value, envelope, patch);
            }
            Ok(Some(Message::Event(body))) if self.follows_runs() => self.tell_events(&body),
            Ok(Some(Message::Event(_)) | None) => {}
            Err(why) => self.leave_alone(why),
        }
        false
    }

    fn unread(&mut self) {
        self.leave_alone("unread_command");
    }

    fn follows_runs(&self) -> bool {
        self.setup.injector.follows_runs()
    }

    fn result(&mut self, task: &str, text: &[u8]) {
        if let Some(told) = read_result(text) {
            self.sightings.push(Sighting::Told {
                task: TaskKey::of(task),
                at: self.now,
                state: told.state,
                evidence: Evidence::Result,
                runtime: None,
            });
        }
    }

    fn written(&mut self, field: &[u8]) {
        let announced = receipt(field).map(|receipt| Sighting::Announced { receipt });
        self.sightings.extend(announced);
    }

    fn pops(&mut self, list: &[u8]) {
        // kombu pops from the lists of all priorities, the last ones last.
        let separator = PRIORITY_SEPARATOR.as_bytes();
        self.state.is_kombu |= list.windows(separator.len()).any(|it| it == separator);
    }

    fn library(&mut self, name: &[u8]) {
        self.state.is_kombu |= name.starts_with(b"redis-py");
    }

    fn removed(&mut self, field: &[u8]) {
        self.state.settling.remove(field);
    }

    fn end(&mut self, request: Request<'_>) {
        match request {
            Request::SetName(name) => {
                self.state.client_name = clean_client_name(&String::from_utf8_lossy(name));
            }
            Request::Reset => self.state.client_name = None,
            _ => {}
        }
        let settles = self.state.settling.requested(request);
        // kombu may announce in the transaction that follows a pop.
        if !self.state.settling.is_in_transaction() {
            self.state.tell_due(self.now, self.sightings);
        }
        let hops = mem::take(&mut self.state.hops);
        let paired = self.pairing.requested(request, hops, settles);
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

    fn nothing(&mut self) {
        self.pairing.passed_over();
    }
}
