//! Runs one case so that callgrind can count it: `instructions CASE`; without one, lists them.
//!
//! Only what happens inside of `counted` counts. It prints by how many messages (or, of bytes
//! that pass untouched, MiB) to divide.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use tracehop::config::Limits;
use tracehop::config::Mode;
use tracehop::config::MovingAddress;
use tracehop::config::Policy;
use tracehop::config::Protocol;
use tracehop::config::Spans;
use tracehop::hop::Connection;
use tracehop::hop::Injector;
use tracehop::hop::Ledger;
use tracehop::hop::Sighting;
use tracehop::protocol::HoldBudget;
use tracehop::protocol::Outbox;
use tracehop::protocol::Session;
use tracehop::protocol::Setup;
use tracehop::protocol::Side;
use tracehop::protocol::session;
use tracehop::telemetry::Books;
use tracehop::telemetry::Encoder;
use tracehop::trace::IdSource;
use tracehop::trace::Sampler;
use tracehop::trace::Timestamp;
use tracehop_bench::Batch;
use tracehop_bench::amqp;
use tracehop_bench::redis;

type Case = (&'static str, fn());

const CASES: [Case; 13] = [
    ("redis_publish_edited", || {
        redis_publish(Policy::default(), false)
    }),
    ("redis_publish_kept", || {
        redis_publish(Policy::default(), true)
    }),
    ("redis_publish_observed", || {
        let mode = Mode::Observe;
        redis_publish(
            Policy {
                mode,
                ..Policy::default()
            },
            false,
        );
    }),
    ("redis_delivery", redis_delivery),
    ("redis_small_requests_mib", redis_small_requests),
    ("redis_large_values_mib", redis_large_values),
    ("amqp_publish_edited", amqp_publish),
    ("amqp_delivery", amqp_delivery),
    ("amqp_large_bodies_mib", amqp_large_bodies),
    ("telemetry_sent_sampled", || {
        telemetry_sent(Sampler::default())
    }),
    ("telemetry_sent_unsampled", || {
        telemetry_sent(Sampler::parse("always_off", None).expect("a sampler"));
    }),
    ("telemetry_taken", telemetry_taken),
    ("telemetry_exported", telemetry_exported),
];

fn main() {
    let Some(wanted) = std::env::args().nth(1) else {
        CASES.iter().for_each(|(name, _)| println!("{name}"));
        return;
    };
    match CASES.iter().find(|(name, _)| *name == wanted) {
        Some((_, run)) => run(),
        None => panic!("there is no case {wanted}"),
    }
}

/// What is counted.
#[inline(never)]
fn counted<T>(run: impl FnOnce() -> T) -> T {
    black_box(run())
}

fn redis_publish(policy: Policy, carries_context: bool) {
    let mut message = redis::publish(MESSAGE_BYTES);
    if carries_context {
        let with = "\"traceparent\": \"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\", ";
        message = with_header(&message, with);
    }
    let mut talk = Talk::new(Protocol::Redis, policy, Sampler::default());
    talk.rounds(&mut Batch::new(&message, 1, 0), |talk, bytes| {
        talk.say(Side::Client, bytes);
        talk.say(Side::Broker, b":1\r\n");
    });
    per_message();
}

fn redis_delivery() {
    let mut talk = Talk::new(Protocol::Redis, Policy::default(), Sampler::default());
    let request = redis::command(&[b"BRPOP", b"celery", b"1"]);
    let mut batch = Batch::new(&redis::delivery(MESSAGE_BYTES), 1, 0);
    talk.rounds(&mut batch, |talk, bytes| {
        talk.say(Side::Client, &request);
        talk.say(Side::Broker, bytes);
    });
    per_message();
}

fn redis_small_requests() {
    let mut talk = Talk::new(Protocol::Redis, Policy::default(), Sampler::default());
    let request = redis::command(&[b"SET", b"celery-task-meta", &[b'x'; 200]]);
    let count = READ_BYTES / request.len();
    let (requests, replies) = (request.repeat(count), b"+OK\r\n".repeat(count));
    talk.mib(&requests, &replies);
}

fn redis_large_values() {
    let mut talk = Talk::new(Protocol::Redis, Policy::default(), Sampler::default());
    talk.mib(&redis::untouched(4 << 20), b"+OK\r\n");
}

fn amqp_publish() {
    let mut talk = Talk::amqp(Sampler::default());
    let mut tag = 0;
    let mut batch = Batch::new(&amqp::publish(MESSAGE_BYTES), 1, 0);
    talk.rounds(&mut batch, |talk, bytes| {
        tag += 1;
        let ack = amqp::ack(tag, false);
        talk.say(Side::Client, bytes);
        talk.say(Side::Broker, &ack);
    });
    per_message();
}

fn amqp_delivery() {
    let mut talk = Talk::amqp(Sampler::default());
    let mut batch = Batch::new(&amqp::delivery(MESSAGE_BYTES, TAG), 1, 0);
    let mut deliver = amqp_deliver(&batch);
    talk.rounds(&mut batch, |talk, bytes| deliver(talk, bytes));
    per_message();
}

/// Delivers what is in `batch`, and acknowledges it.
fn amqp_deliver(batch: &Batch) -> impl FnMut(&mut Talk, &[u8]) + use<> {
    let mut tag = 0_u64;
    let place = batch
        .bytes
        .windows(8)
        .position(|at| at == TAG.to_be_bytes());
    let place = place.expect("a delivery has a tag");
    move |talk, bytes| {
        tag += 1;
        let mut bytes = bytes.to_vec();
        bytes[place..place + 8].copy_from_slice(&tag.to_be_bytes());
        let ack = amqp::ack(tag, false);
        talk.say(Side::Broker, &bytes);
        talk.say(Side::Client, &ack);
    }
}

fn amqp_large_bodies() {
    Talk::amqp(Sampler::default()).mib(&amqp::untouched(4 << 20), b"");
}

/// What is kept of messages that several tasks send to several queues, and their spans: this
/// happens on another thread.
fn telemetry_sent(sampler: Sampler) {
    let mut talk = Talk::new(Protocol::Redis, Policy::default(), sampler);
    let message = String::from_utf8(redis::publish(MESSAGE_BYTES)).expect("ASCII");
    let mut series = 0;
    let mut batches = NAMES.map(|(queue, task)| {
        series += 1;
        let message = message.replace("celery", queue).replace("tasks.add", task);
        Batch::new(message.as_bytes(), 1, series)
    });
    let exchange = |talk: &mut Talk, round: usize| {
        let batch = &mut batches[round % NAMES.len()];
        batch.renew();
        talk.say(Side::Client, &batch.bytes);
        talk.say(Side::Broker, b":1\r\n");
    };
    book(&mut talk, exchange);
}

fn telemetry_taken() {
    let mut talk = Talk::amqp(Sampler::default());
    let mut batch = Batch::new(&amqp::delivery(MESSAGE_BYTES, TAG), 1, 0);
    let mut deliver = amqp_deliver(&batch);
    book(&mut talk, |talk, _| {
        batch.renew();
        deliver(talk, &batch.bytes);
    });
}

/// What it takes to make a span of a leg that has ended, encoded as it is exported.
fn telemetry_exported() {
    let mut talk = Talk::new(Protocol::Redis, Policy::default(), Sampler::default());
    let mut batch = Batch::new(&redis::publish(MESSAGE_BYTES), 1, 0);
    let mut ledger = Ledger::new(&Limits::default(), false);
    let mut encoder = Encoder::default();
    let mut ended = Vec::new();
    for round in 0..WARM_UP + ROUNDS {
        batch.renew();
        talk.say(Side::Client, &batch.bytes);
        talk.say(Side::Broker, b":1\r\n");
        for sighting in talk.out.sightings.drain(..) {
            ledger.book(sighting, &mut ended);
        }
        for leg in ended.drain(..) {
            let encode = || {
                for operation in leg.operations(Spans::default()) {
                    black_box(encoder.encode(&operation.span()));
                }
            };
            in_round(round, encode);
        }
    }
    per_message();
}

/// Counts what is done in a round, unless it is one to warm up.
fn in_round(round: usize, run: impl FnOnce()) {
    if round < WARM_UP { run() } else { counted(run) }
}

/// Counts the booking of what `exchange` lets `talk` see, some rounds at a time.
fn book(talk: &mut Talk, mut exchange: impl FnMut(&mut Talk, usize)) {
    let repeat_interval = Duration::from_secs(60);
    let limits = Limits::default();
    let mut books = Books::new(&limits, Spans::default(), true, repeat_interval);
    let mut ended = Vec::new();
    talk.out.sightings.clear();
    // As soon as as many traces are remembered as may be, each one takes the place of another.
    let filling = limits.recent_traces_max;
    for round in 0..filling + WARM_UP + ROUNDS {
        exchange(talk, round);
        if (round + 1) % BOOKED_AT_ONCE > 0 {
            continue;
        }
        let book = || {
            books.book(&mut talk.out.sightings, &mut ended);
            for leg in ended.drain(..) {
                for operation in leg.operations(Spans::default()) {
                    black_box(operation.span());
                }
            }
        };
        in_round(round.saturating_sub(filling), book);
    }
    per_message();
}

/// A session and what it gives back.
struct Talk {
    session: Box<dyn Session>,
    out: Outbox,
    counting: bool,
}

impl Talk {
    fn new(protocol: Protocol, policy: Policy, sampler: Sampler) -> Self {
        let limits = Limits::default();
        let connection = Connection {
            session: 1,
            route: "bench".into(),
            server_address: "127.0.0.1".into(),
            server_port: 6379,
            client_address: "127.0.0.1:1".into(),
        };
        let setup = Setup {
            connection: Arc::new(connection),
            injector: Arc::new(Injector::new(policy, sampler, &limits)),
            moving_address: MovingAddress::default(),
            budget: HoldBudget::new(limits.hold_total_bytes_max),
            limits: Arc::new(limits),
            ids: IdSource::seeded(1),
        };
        Self {
            session: session(protocol, setup),
            out: Outbox::default(),
            counting: false,
        }
    }

    fn amqp(sampler: Sampler) -> Self {
        let mut talk = Self::new(Protocol::Amqp, Policy::default(), sampler);
        for (request, reply) in amqp::opening().into_iter().chain([amqp::confirming()]) {
            talk.say(Side::Client, &request);
            talk.say(Side::Broker, &reply);
        }
        talk
    }

    fn say(&mut self, from: Side, bytes: &[u8]) {
        let now = Timestamp::from_nanos(0x19a_0000_0000 * 1_000_000);
        let mut hear = || self.session.receive(from, bytes, now, &mut self.out);
        if self.counting {
            counted(hear)
        } else {
            hear()
        }
        self.out.to_broker.clear();
        self.out.to_client.clear();
        // Sightings that lost sight would make the rest cheap.
        let lost = |sighting: &Sighting| {
            matches!(
                sighting,
                Sighting::LostSight { .. } | Sighting::LeftAlone { .. }
            )
        };
        assert!(
            !self.out.sightings.iter().any(lost),
            "{:?}",
            self.out.sightings
        );
    }

    /// The same exchange again and again, with another task each time.
    fn rounds(&mut self, batch: &mut Batch, mut exchange: impl FnMut(&mut Self, &[u8])) {
        for round in 0..WARM_UP + ROUNDS {
            self.counting = round >= WARM_UP;
            batch.renew();
            self.out.sightings.clear();
            exchange(self, &batch.bytes);
            assert!(!self.out.sightings.is_empty(), "a task was not seen");
        }
    }

    /// The same bytes again and again, as if read from a socket.
    fn mib(&mut self, requests: &[u8], replies: &[u8]) {
        for round in 0..2 * (4 << 20) / requests.len() {
            self.counting = round >= (4 << 20) / requests.len();
            for read in requests.chunks(READ_BYTES) {
                self.say(Side::Client, read);
            }
            self.say(Side::Broker, replies);
        }
        println!("4");
    }
}

/// The message with a first header before the others.
fn with_header(message: &[u8], header: &str) -> Vec<u8> {
    let text = String::from_utf8(message.to_vec()).expect("ASCII");
    let (_, envelope) = text.split_once("{\"body\"").expect("an envelope");
    let envelope = format!("{{\"body\"{}", envelope.trim_end());
    let envelope = envelope.replace("\"headers\": {", &format!("\"headers\": {{{header}"));
    redis::command(&[b"LPUSH", b"celery", envelope.as_bytes()])
}

fn per_message() {
    println!("{ROUNDS}");
}

const MESSAGE_BYTES: usize = 1024;
const READ_BYTES: usize = 64 << 10;
/// Queues and tasks, each as long as the one that it stands for.
const NAMES: [(&str, &str); 4] = [
    ("celery", "tasks.add"),
    ("celery", "tasks.pay"),
    ("emails", "mail.send"),
    ("images", "img.scale"),
];
/// As many as one client sends without waiting.
const BOOKED_AT_ONCE: usize = 20;
const WARM_UP: usize = 200;
const ROUNDS: usize = 1000;
/// A delivery tag that stands for another one.
const TAG: u64 = 0x0102_0304_0506_0708;
