//! Sightings to put through telemetry, of a message that nobody has sent.
#![allow(
    dead_code,
    reason = "every test file is a crate of its own and uses a part of this"
)]

use std::sync::Arc;

use tracehop::celery::Task;
use tracehop::celery::TaskState;
use tracehop::hop::Announcement;
use tracehop::hop::Answer;
use tracehop::hop::Connection;
use tracehop::hop::Delivery;
use tracehop::hop::Evidence;
use tracehop::hop::HopId;
use tracehop::hop::Judgement;
use tracehop::hop::Origin;
use tracehop::hop::Passage;
use tracehop::hop::Publication;
use tracehop::hop::Quality;
use tracehop::hop::Receipt;
use tracehop::hop::Settlement;
use tracehop::hop::Sighting;
use tracehop::hop::TaskKey;
use tracehop::hop::Verdict;
use tracehop::trace::IdSource;
use tracehop::trace::SpanId;
use tracehop::trace::SpanKind;
use tracehop::trace::Timestamp;
use tracehop::trace::TraceContext;
use tracehop::trace::TraceFlags;

/// A publication of a task without a name, to which a context was added.
pub(crate) fn publication(number: u64) -> Box<Publication> {
    Box::new(Publication {
        hop: hop(number),
        connection: Arc::new(Connection {
            session: 1,
            route: "main".into(),
            server_address: "broker".into(),
            server_port: 6379,
            client_address: "127.0.0.1:1".into(),
        }),
        system: "some-broker",
        at: SENT,
        destination: "celery".into(),
        task: (&Task::default()).into(),
        size: 1,
        mandatory: false,
        client_name: None,
        judgement: Judgement {
            context: context(number),
            parent: None,
            link: None,
            tracestate: String::new(),
            kind: SpanKind::Producer,
            verdict: Verdict::Added,
            invalid: None,
            quality: Quality::Missing,
            origin: Origin::Derived,
        },
    })
}

pub(crate) fn answered(number: u64, answer: Answer) -> Sighting {
    Sighting::Answered {
        hop: hop(number),
        at: ANSWERED,
        answer,
    }
}

/// A delivery that waited a second, of a task that is due two seconds later, with the parent
/// of its span and the trace that its own is linked to. Its message came with no context.
pub(crate) fn delivery(number: u64) -> (Box<Delivery>, SpanId, TraceContext) {
    let publication = publication(number);
    let mut ids = IdSource::seeded(1_000 + number);
    let (parent, link) = (ids.span_id(), context(2_000 + number));
    let task = Task {
        name: "shop.pay".into(),
        id: number.to_string().into(),
        // What DUE is in words.
        eta: Some("2025-11-22T08:26:43+00:00".into()),
        ..Task::default()
    };
    let delivery = Delivery {
        receipt: Some(Receipt::numbered(1, number)),
        announcement: Announcement::Implied,
        connection: publication.connection,
        system: publication.system,
        at: DELIVERED,
        destination: publication.destination,
        task: (&task).into(),
        client_name: None,
        size: 1,
        passage: Passage::default(),
        sent: Some(SENT),
        is_seen_sent: true,
        answers_acknowledgements: true,
        clock_skew: None,
        process: ids.span_id(),
        judgement: Judgement {
            parent: Some(parent),
            link: Some(link),
            kind: SpanKind::Client,
            verdict: Verdict::Missing,
            ..publication.judgement
        },
    };
    (Box::new(delivery), parent, link)
}

pub(crate) fn settled(number: u64, at: Timestamp, settlement: Settlement) -> Sighting {
    Sighting::Settled {
        receipt: Receipt::numbered(1, number),
        at,
        settlement,
    }
}

pub(crate) fn told(number: u64, at: Timestamp, state: TaskState) -> Sighting {
    Sighting::Told {
        task: TaskKey::of(&number.to_string()),
        at,
        state,
        evidence: Evidence::Event,
        runtime: None,
    }
}

fn hop(number: u64) -> HopId {
    HopId { session: 1, number }
}

pub(crate) fn context(number: u64) -> TraceContext {
    let mut ids = IdSource::seeded(number);
    TraceContext {
        trace_id: ids.trace_id(),
        span_id: ids.span_id(),
        flags: TraceFlags::SAMPLED,
    }
}

pub(crate) const SENT: Timestamp = Timestamp::from_nanos(1_763_800_000_000_000_000);
pub(crate) const ANSWERED: Timestamp = Timestamp::from_nanos(1_763_800_000_000_250_000);
pub(crate) const DELIVERED: Timestamp = Timestamp::from_nanos(1_763_800_001_000_000_000);
pub(crate) const DUE: Timestamp = Timestamp::from_nanos(1_763_800_003_000_000_000);
pub(crate) const STARTED: Timestamp = Timestamp::from_nanos(1_763_800_003_500_000_000);
pub(crate) const SETTLED: Timestamp = Timestamp::from_nanos(1_763_800_004_000_000_000);
pub(crate) const FINISHED: Timestamp = Timestamp::from_nanos(1_763_800_005_000_000_000);
