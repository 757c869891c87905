//! The session of a route whose protocol is told by the first bytes.

use std::mem;
use std::sync::Arc;

use bytes::BytesMut;

use crate::hop::Sighting;
use crate::protocol::DeliveryProgress;
use crate::protocol::OFF;
use crate::protocol::Outbox;
use crate::protocol::Session;
use crate::protocol::Setup;
use crate::protocol::Side;
use crate::protocol::amqp;
use crate::protocol::amqp::AmqpSession;
use crate::protocol::blind::Blind;
use crate::protocol::redis;
use crate::protocol::redis::RedisSession;
use crate::trace::Timestamp;

/// Waits for the client's first bytes, and hands over to the session that they call for.
pub(super) struct Detecting {
    setup: Setup,
    held: BytesMut,
    holds_pops: bool,
    decided: Option<Box<dyn Session>>,
}

impl Detecting {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            setup,
            held: BytesMut::new(),
            holds_pops: false,
            decided: None,
        }
    }

    /// The session that reads what has come from the client, once that is clear.
    fn detect(&self, out: &mut Outbox) -> Option<Box<dyn Session>> {
        let mut is_clear = true;
        for (recognises, begin) in PROTOCOLS {
            match recognises(&self.held) {
                Some(true) => return Some(begin(self.setup.clone())),
                Some(false) => {}
                None => is_clear = false,
            }
        }
        if !is_clear {
            return None;
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
                    if self.holds_pops {
                        session.hold_pops();
                    }
                    session.receive(from, &mem::take(&mut self.held), now, out);
                    self.decided = Some(session);
                }
            }
        }
    }

    fn pass(&mut self, from: Side, count: usize) -> bool {
        let decided = self.decided.as_mut();
        decided.is_some_and(|session| session.pass(from, count))
    }

    fn finish(&mut self, from: Side, now: Timestamp, out: &mut Outbox) {
        if let Some(session) = &mut self.decided {
            return session.finish(from, now, out);
        }
        if from == Side::Client {
            out.to_broker.extend_from_slice(&mem::take(&mut self.held));
        }
    }

    fn is_over(&self) -> bool {
        let decided = self.decided.as_ref();
        decided.is_some_and(|session| session.is_over())
    }

    fn stop_reading(&mut self, now: Timestamp, out: &mut Outbox) {
        if let Some(session) = &mut self.decided {
            return session.stop_reading(now, out);
        }
        out.to_broker.extend_from_slice(&mem::take(&mut self.held));
        out.sightings.push(Sighting::LostSight {
            connection: Arc::clone(&self.setup.connection),
            why: OFF,
        });
    }

    fn hold_pops(&mut self) {
        self.holds_pops = true;
        if let Some(session) = &mut self.decided {
            session.hold_pops();
        }
    }

    fn holds_pop(&self) -> bool {
        let decided = self.decided.as_ref();
        decided.is_some_and(|session| session.holds_pop())
    }

    fn delivering(&self, now: Timestamp) -> DeliveryProgress {
        let decided = self.decided.as_ref();
        decided.map_or(DeliveryProgress::Nothing, |session| session.delivering(now))
    }

    /// Before the first bytes nothing is in flight.
    fn part(&mut self, now: Timestamp, out: &mut Outbox) -> bool {
        match &mut self.decided {
            Some(session) => session.part(now, out),
            None => self.held.is_empty(),
        }
    }
}

/// Whether a client that begins like this speaks a protocol; `None`: not clear yet.
type Recognises = fn(&[u8]) -> Option<bool>;
type Begin = fn(Setup) -> Box<dyn Session>;

/// The protocols that are told apart, each with its session.
const PROTOCOLS: [(Recognises, Begin); 2] = [
    (redis::recognises, |setup| {
        Box::new(RedisSession::new(setup))
    }),
    (amqp::recognises, |setup| Box::new(AmqpSession::new(setup))),
];

/// The type of the record that a TLS client sends first (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::config::MovingAddress;
    use crate::config::Policy;
    use crate::hop::Connection;
    use crate::hop::Injector;
    use crate::protocol::HoldBudget;
    use crate::trace::IdSource;
    use crate::trace::Sampler;

    /// What passes of each piece that the client sends, and what is told.
    fn heard(pieces: &[&[u8]]) -> (Vec<usize>, Vec<&'static str>) {
        let limits = Limits::default();
        let mut session = Detecting::new(Setup {
            connection: Arc::new(Connection {
                session: 1,
                route: "main".into(),
                server_address: "broker".into(),
                server_port: 1,
                client_address: "127.0.0.1:1".into(),
            }),
            injector: Arc::new(Injector::new(
                Policy::default(),
                Sampler::default(),
                &limits,
            )),
            limits: Arc::new(limits),
            moving_address: MovingAddress::default(),
            budget: HoldBudget::new(1),
            ids: IdSource::seeded(1),
        });
        let mut out = Outbox::default();
        let mut passed = Vec::new();
        for piece in pieces {
            session.receive(Side::Client, piece, Timestamp::default(), &mut out);
            passed.push(out.to_broker.split().len());
        }
        let told = out.sightings.iter().map(|sighting| match sighting {
            Sighting::LostSight { why, .. } => *why,
            _ => "something else",
        });
        (passed, told.collect())
    }

    #[test]
    fn protocols_are_told_by_the_first_bytes() {
        for (pieces, passed, told) in [
            (&[&b"*1\r\n$4\r\nPING\r\n"[..]][..], vec![14], vec![]),
            (&[b"PI", b"NG\r\n"], vec![0, 6], vec![]),
            (&[b"AM", b"QP\x00\x00\x09", b"\x01"], vec![0, 0, 8], vec![]),
            (&[b"AMQP\x00\x01\x00\x00"], vec![8], vec!["amqp_1_0"]),
            (&[b"\x16", b"\x03\x01"], vec![1, 2], vec!["tls"]),
            (&[b"\x00\x00"], vec![2], vec!["unknown_protocol"]),
        ] {
            assert_eq!(heard(pieces), (passed, told), "{pieces:?}");
        }
    }
}
