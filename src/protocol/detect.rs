//! The session of a route whose protocol is told by the first bytes.

use std::mem;
use std::sync::Arc;

use bytes::BytesMut;

use crate::hop::Sighting;
use crate::protocol::Outbox;
use crate::protocol::Session;
use crate::protocol::Setup;
use crate::protocol::Side;
use crate::protocol::blind::Blind;
use crate::protocol::redis;
use crate::protocol::redis::RedisSession;
use crate::trace::Timestamp;

/// Waits for the client's first bytes, and hands over to the session that they call for.
pub(super) struct Detecting {
    setup: Setup,
    held: BytesMut,
    decided: Option<Box<dyn Session>>,
}

impl Detecting {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            setup,
            held: BytesMut::new(),
            decided: None,
        }
    }

    /// The session that reads what has come from the client, once that is clear.
    fn detect(&self, out: &mut Outbox) -> Option<Box<dyn Session>> {
        if redis::recognises(&self.held)? {
            return Some(Box::new(RedisSession::new(self.setup.clone())));
        }
        out.sightings.push(Sighting::LostSight {
            connection: Arc::clone(&self.setup.connection),
            why: match self.held.first() {
                Some(&TLS_HANDSHAKE) => "tls",
                _ => "unknown_protocol",
            },
        });
        Some(Box::new(Blind))
    }
}

impl Session for Detecting {
    fn receive(&mut self, from: Side, bytes: &[u8], now: Timestamp, out: &mut Outbox) {
        if let Some(session) = &mut self.decided {
            return session.receive(from, bytes, now, out);
        }
        match from {
            Side::Broker => out.to_client.extend_from_slice(bytes),
            Side::Client => {
                self.held.extend_from_slice(bytes);
                if let Some(mut session) = self.detect(out) {
                    session.receive(from, &mem::take(&mut self.held), now, out);
                    self.decided = Some(session);
                }
            }
        }
    }

    fn finish(&mut self, from: Side, now: Timestamp, out: &mut Outbox) {
        if let Some(session) = &mut self.decided {
            return session.finish(from, now, out);
        }
        if from == Side::Client {
            out.to_broker.extend_from_slice(&mem::take(&mut self.held));
        }
    }

    /// Before the first bytes nothing is in flight.
    fn part(&mut self, now: Timestamp, out: &mut Outbox) -> bool {
        match &mut self.decided {
            Some(session) => session.part(now, out),
            None => self.held.is_empty(),
        }
    }
}

/// The type of the record that a TLS client sends first (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
