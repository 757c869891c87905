//! Redis and Valkey: RESP2, RESP3 and inline commands.

use crate::protocol::Outbox;
use crate::protocol::Session;
use crate::protocol::Setup;
use crate::protocol::Side;
use crate::trace::Timestamp;

pub struct RedisSession(super::blind::Blind);
impl RedisSession {
    pub fn new(_setup: Setup) -> Self {
        Self(super::blind::Blind)
    }
}
impl Session for RedisSession {
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
