//! What workers say of the runs of tasks, in results and events: messages of which a copy is
//! taken as they pass. They never wait for it.

use std::sync::Arc;

use crate::celery::Told;
use crate::celery::read_events;
use crate::celery::read_result;
use crate::config::Limits;
use crate::hop::Evidence;
use crate::hop::Sighting;
use crate::hop::TaskKey;
use crate::protocol::HoldBudget;
use crate::protocol::amqp::envelope::Envelope;
use crate::protocol::amqp::method::Route;
use crate::protocol::hold::Reservation;
use crate::trace::Timestamp;

/// A message that may tell of runs, as far as it has passed.
#[derive(Debug)]
pub(super) enum Saying {
    /// The beginning of a result.
    Result {
        text: Vec<u8>,
        /// What the message says that it answers: the task's id.
        correlation_id: Box<str>,
    },
    /// Events, one or a list of them.
    Events {
        text: Vec<u8>,
        reservation: Reservation,
    },
    /// It turned out to be too long.
    Lost,
}

impl Saying {
    /// What a message without a task, published like this, may be.
    pub(super) fn of(
        route: Route<'_>,
        envelope: &Envelope<'_>,
        limits: &Limits,
        budget: &Arc<HoldBudget>,
    ) -> Option<Box<Self>> {
        if !envelope.is_plain_json() || envelope.headers.names_a_task() {
            return None;
        }
        let is_event = [route.exchange, route.routing_key]
            .iter()
            .any(|name| name.starts_with(EVENTS));
        let saying = if envelope.has_hostname && is_event {
            let bytes_max = u64::try_from(limits.hold_bytes_max).unwrap_or(u64::MAX);
            if envelope.body_size > bytes_max {
                return None;
            }
            Self::Events {
                text: Vec::new(),
                reservation: budget.reserve(0)?,
            }
        } else {
            let id = str::from_utf8(envelope.correlation_id).ok()?;
            if id.is_empty() {
                return None;
            }
            Self::Result {
                text: Vec::new(),
                correlation_id: id.into(),
            }
        };
        Some(Box::new(saying))
    }

    /// That part of the body passes.
    pub(super) fn hear(&mut self, part: &[u8]) {
        match self {
            Self::Result { text, .. } => {
                let room = RESULT_BYTES_MAX.saturating_sub(text.len());
                text.extend_from_slice(part.get(..room).unwrap_or(part));
            }
            Self::Events { text, reservation } => {
                if reservation.grow(text.len().saturating_add(part.len())) {
                    text.extend_from_slice(part);
                } else {
                    *self = Self::Lost;
                }
            }
            Self::Lost => {}
        }
    }

    /// All of it has passed: what it said.
    pub(super) fn tell(&self, now: Timestamp, sightings: &mut Vec<Sighting>) {
        match self {
            Self::Result {
                text,
                correlation_id,
            } => {
                if let Some(told) = read_result(text) {
                    let id = told.id.as_deref().unwrap_or(correlation_id);
                    // It was written a moment ago, and our own clock is the one that counts.
                    sightings.push(sighting(id, now, &told, Evidence::Result));
                }
            }
            Self::Events { text, .. } => {
                for told in read_events(text) {
                    // Workers collect events before they send them.
                    let at = told.at_nanos.map_or(now, Timestamp::from_nanos).min(now);
                    if let Some(id) = &told.id {
                        sightings.push(sighting(id, at, &told, Evidence::Event));
                    }
                }
            }
            Self::Lost => {}
        }
    }
}

fn sighting(id: &str, at: Timestamp, told: &Told<'_>, evidence: Evidence) -> Sighting {
    Sighting::Told {
        task: TaskKey::of(id),
        at,
        state: told.state,
        evidence,
        runtime: told.runtime,
    }
}

/// What Celery's exchange for events is called, and what its queues' names begin with.
const EVENTS: &[u8] = b"celeryev";
/// The state stands in front of the result.
const RESULT_BYTES_MAX: usize = 1 << 10;
