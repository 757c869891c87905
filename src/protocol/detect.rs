//! The session of a route whose protocol is told by the first bytes.

use crate::protocol::Outbox;
use crate::protocol::Session;
use crate::protocol::Setup;
use crate::protocol::Side;
use crate::protocol::redis::RedisSession;
use crate::trace::Timestamp;

/// Stands in for the session of the protocol that the client is about to speak.
pub(super) struct Detecting(RedisSession);

impl Detecting {
    pub(super) fn new(setup: Setup) -> Self {
        Self(RedisSession::new(setup))
    }
}

impl Session for Detecting {
    fn receive(&mut self, from: Side, bytes: &[u8], now: Timestamp, out: &mut Outbox) {
        self.0.receive(from, bytes, now, out);
    }

    fn finish(&mut self, from: Side, now: Timestamp, out: &mut Outbox) {
        self.0.finish(from, now, out);
    }

    fn part(&mut self, now: Timestamp, out: &mut Outbox) -> bool {
        self.0.part(now, out)
    }
}
