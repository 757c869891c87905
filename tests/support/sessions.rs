//! Sessions for tests of what goes on around them.

use std::sync::Arc;

use tracehop::hop::Answer;
use tracehop::hop::HopId;
use tracehop::hop::Sighting;
use tracehop::protocol::Outbox;
use tracehop::protocol::Session;
use tracehop::protocol::Setup;
use tracehop::protocol::Side;
use tracehop::trace::Timestamp;

/// Passes everything on, and may part at any time.
pub fn passing() -> Box<dyn Session> {
    Box::new(Passing)
}

struct Passing;

impl Session for Passing {
    fn receive(&mut self, from: Side, bytes: &[u8], _now: Timestamp, out: &mut Outbox) {
        pass(from, bytes, out);
    }

    /// Now and then, so that both ways are gone.
    fn pass(&mut self, _from: Side, count: usize) -> bool {
        count.is_multiple_of(2)
    }

    fn finish(&mut self, _from: Side, _now: Timestamp, _out: &mut Outbox) {}

    fn part(&mut self, _now: Timestamp, _out: &mut Outbox) -> bool {
        true
    }
}

/// Passes everything on, and parts when as many lines were answered as were asked.
pub fn lines() -> Box<dyn Session> {
    Box::new(Lines { owed: 0 })
}

struct Lines {
    owed: isize,
}

impl Session for Lines {
    fn receive(&mut self, from: Side, bytes: &[u8], _now: Timestamp, out: &mut Outbox) {
        let lines = bytes
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            .cast_signed();
        self.owed += match from {
            Side::Client => lines,
            Side::Broker => -lines,
        };
        pass(from, bytes, out);
    }

    fn finish(&mut self, _from: Side, _now: Timestamp, _out: &mut Outbox) {}

    fn part(&mut self, _now: Timestamp, _out: &mut Outbox) -> bool {
        self.owed == 0
    }
}

/// Parts when it has been asked often enough, whatever is said.
pub fn patient() -> Box<dyn Session> {
    Box::new(Patient { asked: 0 })
}

struct Patient {
    asked: u32,
}

impl Session for Patient {
    fn receive(&mut self, from: Side, bytes: &[u8], _now: Timestamp, out: &mut Outbox) {
        pass(from, bytes, out);
    }

    fn finish(&mut self, _from: Side, _now: Timestamp, _out: &mut Outbox) {}

    fn part(&mut self, _now: Timestamp, _out: &mut Outbox) -> bool {
        self.asked += 1;
        self.asked > 3
    }
}

/// Says goodbye to both sides when it shall part, and is ready once the broker said its own.
pub fn polite() -> Box<dyn Session> {
    Box::new(Polite {
        said: false,
        heard: false,
    })
}

struct Polite {
    said: bool,
    heard: bool,
}

impl Session for Polite {
    fn receive(&mut self, from: Side, bytes: &[u8], _now: Timestamp, out: &mut Outbox) {
        self.heard |= from == Side::Broker && bytes.ends_with(b"goodbye\n");
        pass(from, bytes, out);
    }

    fn finish(&mut self, _from: Side, _now: Timestamp, _out: &mut Outbox) {}

    fn part(&mut self, _now: Timestamp, out: &mut Outbox) -> bool {
        if !self.said {
            self.said = true;
            out.to_client.extend_from_slice(b"goodbye\n");
            out.to_broker.extend_from_slice(b"goodbye\n");
        }
        self.heard
    }
}

/// Holds everything back until the side that sent it has finished.
pub fn holding() -> Box<dyn Session> {
    Box::new(Holding::default())
}

#[derive(Default)]
struct Holding {
    from_client: Vec<u8>,
    from_broker: Vec<u8>,
}

impl Session for Holding {
    fn receive(&mut self, from: Side, bytes: &[u8], _now: Timestamp, _out: &mut Outbox) {
        match from {
            Side::Client => self.from_client.extend_from_slice(bytes),
            Side::Broker => self.from_broker.extend_from_slice(bytes),
        }
    }

    fn finish(&mut self, from: Side, _now: Timestamp, out: &mut Outbox) {
        match from {
            Side::Client => pass(from, &std::mem::take(&mut self.from_client), out),
            Side::Broker => pass(from, &std::mem::take(&mut self.from_broker), out),
        }
    }

    fn part(&mut self, _now: Timestamp, _out: &mut Outbox) -> bool {
        self.from_client.is_empty() && self.from_broker.is_empty()
    }
}

/// Passes everything on, but panics at the word `boom`.
pub fn fragile() -> Box<dyn Session> {
    Box::new(Fragile)
}

struct Fragile;

impl Session for Fragile {
    fn receive(&mut self, from: Side, bytes: &[u8], _now: Timestamp, out: &mut Outbox) {
        pass(from, bytes, out);
        assert!(!bytes.starts_with(b"boom"), "the test wants this panic");
    }

    fn finish(&mut self, _from: Side, _now: Timestamp, _out: &mut Outbox) {}

    fn part(&mut self, _now: Timestamp, _out: &mut Outbox) -> bool {
        true
    }
}

/// Passes everything on, and tells how much waited for the other side when bytes came.
pub fn watching(waiting: impl Fn(Side, usize) + Send + 'static) -> Box<dyn Session> {
    Box::new(Watching(waiting))
}

struct Watching<F>(F);

impl<F: Fn(Side, usize) + Send> Session for Watching<F> {
    fn receive(&mut self, from: Side, bytes: &[u8], _now: Timestamp, out: &mut Outbox) {
        let waiting = match from {
            Side::Client => out.to_broker.len(),
            Side::Broker => out.to_client.len(),
        };
        self.0(from, waiting);
        pass(from, bytes, out);
    }

    fn finish(&mut self, _from: Side, _now: Timestamp, _out: &mut Outbox) {}

    fn part(&mut self, _now: Timestamp, _out: &mut Outbox) -> bool {
        true
    }
}

/// Passes everything on, tells of each time that it is told of an end, and may never part.
pub fn finishing(told: impl Fn(Side) + Send + 'static) -> Box<dyn Session> {
    Box::new(Finishing(told))
}

struct Finishing<F>(F);

impl<F: Fn(Side) + Send> Session for Finishing<F> {
    fn receive(&mut self, from: Side, bytes: &[u8], _now: Timestamp, out: &mut Outbox) {
        pass(from, bytes, out);
    }

    fn finish(&mut self, from: Side, _now: Timestamp, _out: &mut Outbox) {
        self.0(from);
    }

    fn part(&mut self, _now: Timestamp, _out: &mut Outbox) -> bool {
        false
    }
}

/// Passes everything on, with a sighting for each read.
pub fn sighting(setup: Setup) -> Box<dyn Session> {
    Box::new(Sighted(setup))
}

struct Sighted(Setup);

impl Session for Sighted {
    fn receive(&mut self, from: Side, bytes: &[u8], _now: Timestamp, out: &mut Outbox) {
        out.sightings.push(Sighting::LeftAlone {
            connection: Arc::clone(&self.0.connection),
            why: "test",
        });
        pass(from, bytes, out);
    }

    fn finish(&mut self, _from: Side, _now: Timestamp, _out: &mut Outbox) {}

    fn part(&mut self, _now: Timestamp, _out: &mut Outbox) -> bool {
        true
    }
}

/// Passes everything on. Each read of the app is a publication that nobody answers; its number
/// is how much the app has said by then.
pub fn unanswered(setup: Setup) -> Box<dyn Session> {
    Box::new(Unanswered { setup, said: 0 })
}

struct Unanswered {
    setup: Setup,
    said: u64,
}

impl Session for Unanswered {
    fn receive(&mut self, from: Side, bytes: &[u8], now: Timestamp, out: &mut Outbox) {
        if from == Side::Client {
            self.said += bytes.len() as u64;
            out.sightings.push(Sighting::Answered {
                hop: HopId {
                    session: self.setup.connection.session,
                    number: self.said,
                },
                at: now,
                answer: Answer::Unanswered,
            });
        }
        pass(from, bytes, out);
    }

    fn finish(&mut self, _from: Side, _now: Timestamp, _out: &mut Outbox) {}

    fn part(&mut self, _now: Timestamp, _out: &mut Outbox) -> bool {
        true
    }
}

fn pass(from: Side, bytes: &[u8], out: &mut Outbox) {
    out.sent_by(from).extend_from_slice(bytes);
}
