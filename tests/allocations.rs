//! What sessions allocate: nothing for what they do not touch, a handful of times for a
//! task message.

use std::sync::Arc;

use allocation_counter::measure;

use tracehop::config::Limits;
use tracehop::config::MovingAddress;
use tracehop::config::Policy;
use tracehop::config::Protocol;
use tracehop::hop::Connection;
use tracehop::hop::Injector;
use tracehop::protocol::HoldBudget;
use tracehop::protocol::Outbox;
use tracehop::protocol::Session;
use tracehop::protocol::Setup;
use tracehop::protocol::Side;
use tracehop::protocol::session;
use tracehop::trace::IdSource;
use tracehop::trace::Sampler;
use tracehop::trace::Timestamp;

#[allow(
    dead_code,
    unreachable_pub,
    reason = "the benchmarks send the rest of it"
)]
#[path = "bench/src/lib.rs"]
mod bench;

use bench::Batch;
use bench::amqp;
use bench::redis;

#[test]
fn untouched_requests_and_replies_allocate_nothing() {
    let request = redis::command(&[b"SET", b"key", &[b'x'; 200]]).repeat(100);
    let mut talk = Talk::new(Protocol::Redis);
    talk.untouched(&request, &b"+OK\r\n".repeat(100), 0);
}

#[test]
fn untouched_frames_allocate_nothing() {
    let mut talk = Talk::amqp();
    talk.untouched(&amqp::untouched(200).repeat(100), b"", 0);
    talk.untouched(&amqp::untouched(4 << 20), b"", 0);
    let acks: Vec<u8> = (1..100).flat_map(|tag| amqp::ack(tag, false)).collect();
    talk.untouched(&acks, b"", 0);
}

#[test]
fn large_untouched_values_allocate_nothing() {
    let mut talk = Talk::new(Protocol::Redis);
    talk.untouched(&redis::untouched(4 << 20), b"+OK\r\n", 0);
}

#[test]
fn an_edited_message_allocates_a_handful_of_times() {
    // The texts of the task that are kept, its sighting, and what is written into it.
    let mut talk = Talk::new(Protocol::Redis);
    let count = talk.edited(&redis::publish(1024), b":1\r\n");
    assert!(count <= 6, "Redis: {count}");
    let mut talk = Talk::amqp();
    let count = talk.edited(&amqp::publish(1024), b"");
    assert!(count <= 6, "AMQP: {count}");
}

struct Talk {
    session: Box<dyn Session>,
    out: Outbox,
}

impl Talk {
    fn new(protocol: Protocol) -> Self {
        let limits = Limits::default();
        let connection = Connection {
            session: 1,
            route: "test".into(),
            server_address: "127.0.0.1".into(),
            server_port: 6379,
            client_address: "127.0.0.1:1".into(),
        };
        let setup = Setup {
            connection: Arc::new(connection),
            injector: Arc::new(Injector::new(
                Policy::default(),
                Sampler::default(),
                &limits,
            )),
            moving_address: MovingAddress::default(),
            budget: HoldBudget::new(limits.hold_total_bytes_max),
            limits: Arc::new(limits),
            ids: IdSource::seeded(1),
        };
        Self {
            session: session(protocol, setup),
            out: Outbox::default(),
        }
    }

    fn amqp() -> Self {
        let mut talk = Self::new(Protocol::Amqp);
        for (request, reply) in amqp::opening() {
            talk.say(Side::Client, &request);
            talk.say(Side::Broker, &reply);
        }
        talk
    }

    /// As many allocations as it takes to hear that.
    fn say(&mut self, from: Side, bytes: &[u8]) -> u64 {
        let mut count = 0;
        for read in bytes.chunks(READ_BYTES) {
            let now = Timestamp::from_millis(1);
            let heard = measure(|| self.session.receive(from, read, now, &mut self.out));
            count += heard.count_total;
            self.out.to_broker.clear();
            self.out.to_client.clear();
        }
        count
    }

    #[track_caller]
    fn untouched(&mut self, requests: &[u8], replies: &[u8], max: u64) {
        for round in 0..10 {
            let mut count = self.say(Side::Client, requests);
            count += self.say(Side::Broker, replies);
            assert!(round < WARM_UP || count <= max, "{count} in round {round}");
            assert!(self.out.sightings.is_empty());
        }
    }

    /// The most that one of many messages needs.
    #[track_caller]
    fn edited(&mut self, message: &[u8], reply: &[u8]) -> u64 {
        let mut batch = Batch::new(message, 1, 0);
        let mut most = 0;
        for round in 0..10 {
            batch.renew();
            self.out.sightings.clear();
            let mut count = self.say(Side::Client, &batch.bytes);
            count += self.say(Side::Broker, reply);
            assert!(!self.out.sightings.is_empty(), "a task was not seen");
            if round >= WARM_UP {
                most = most.max(count);
            }
        }
        most
    }
}

const READ_BYTES: usize = 64 << 10;
/// Rounds after which buffers are as large as they will be.
const WARM_UP: usize = 5;
