//! What tests have in common: a publication to begin with, and sightings in a few words.

use std::sync::Arc;

use crate::celery::Task;
use crate::celery::TaskState;
use crate::hop::Announcement;
use crate::hop::Answer;
use crate::hop::Connection;
use crate::hop::Delivery;
use crate::hop::Ends;
use crate::hop::Evidence;
use crate::hop::Finish;
use crate::hop::HopId;
use crate::hop::Judgement;
use crate::hop::Origin;
use crate::hop::Passage;
use crate::hop::Publication;
use crate::hop::Quality;
use crate::hop::Receipt;
use crate::hop::Settlement;
use crate::hop::Sighting;
use crate::hop::Taken;
use crate::hop::Verdict;
use crate::trace::IdSource;
use crate::trace::SpanKind;
use crate::trace::Timestamp;
use crate::trace::TraceContext;
use crate::trace::TraceFlags;

/// Publication `number` of a session, seen at `at` nanoseconds.
pub(crate) fn publication(number: u64, at: u64) -> Box<Publication> {
    Box::new(Publication {
        hop: HopId { session: 1, number },
        connection: Arc::new(Connection {
            session: 1,
            route: "main".into(),
            server_address: "broker".into(),
            server_port: 6379,
            client_address: "127.0.0.1:1".into(),
        }),
        system: "some-broker",
        at: Timestamp::from_nanos(at),
        destination: "celery".into(),
        task: (&Task::default()).into(),
        client_name: None,
        size: 1,
        mandatory: false,
        judgement: judgement(number),
    })
}

/// A delivery of that task, seen at `at` nanoseconds.
pub(crate) fn delivery(id: &str, receipt: Option<Receipt>, at: u64) -> Box<Delivery> {
    let publication = publication(1, at);
    let task = Task {
        name: "add".into(),
        id: id.into(),
        ..Task::default()
    };
    Box::new(Delivery {
        receipt,
        announcement: Announcement::Implied,
        connection: publication.connection,
        system: publication.system,
        at: publication.at,
        destination: publication.destination,
        task: (&task).into(),
        client_name: None,
        size: 1,
        passage: Passage::default(),
        sent: None,
        is_seen_sent: false,
        answers_acknowledgements: true,
        clock_skew: None,
        process: IdSource::seeded(at).span_id(),
        judgement: judgement(2),
    })
}

/// A delivery at its end: acknowledged at `settled` nanoseconds, and run as the worker has
/// told, from `started` to its success at `finished`.
pub(crate) fn taken(
    delivery: Box<Delivery>,
    settled: Option<u64>,
    started: Option<u64>,
    finished: Option<u64>,
) -> Taken {
    let at = |nanos: Option<u64>| nanos.map(Timestamp::from_nanos);
    Taken {
        eta: delivery.eta(),
        delivery: delivery.into(),
        settled: at(settled).map(|at| (Settlement::Acknowledged, at)),
        started: at(started).map(|at| (at, Evidence::Event)),
        finished: at(finished).map(|at| Finish {
            at,
            state: Some(TaskState::Succeeded),
            evidence: Evidence::Event,
        }),
        is_expired: false,
        is_over: true,
        ended: EVERY_END,
    }
}

pub(crate) const EVERY_END: Ends = Ends {
    receive: true,
    settlement: true,
    process: true,
};

/// A context that was added to a message without one.
pub(crate) fn judgement(seed: u64) -> Judgement {
    let mut ids = IdSource::seeded(seed);
    Judgement {
        context: TraceContext {
            trace_id: ids.trace_id(),
            span_id: ids.span_id(),
            flags: TraceFlags::SAMPLED,
        },
        parent: None,
        link: None,
        tracestate: String::new(),
        kind: SpanKind::Producer,
        verdict: Verdict::Added,
        invalid: None,
        quality: Quality::Missing,
        origin: Origin::Derived,
    }
}

/// A sighting in a few words.
pub(crate) fn told(sighting: &Sighting) -> String {
    match sighting {
        Sighting::Published(publication) => format!(
            "{} {} to {}",
            publication.judgement.verdict.word(),
            publication.hop.number,
            publication.destination
        ),
        Sighting::Answered { hop, answer, .. } => match answer {
            Answer::Refused(words) => format!("{} refused: {words}", hop.number),
            answer => format!("{} {}", hop.number, answer.word()),
        },
        Sighting::Delivered(delivery) => {
            let again = if delivery.passage.redelivered {
                " again"
            } else {
                ""
            };
            format!("delivered {}{again}", delivery.destination)
        }
        Sighting::Settled { settlement, .. } => settlement.word().to_owned(),
        Sighting::Announced { .. } => "announced".to_owned(),
        Sighting::AnnouncementDue { .. } => "announcement due".to_owned(),
        Sighting::Told {
            state, evidence, ..
        } => format!("{} by {}", state.word(), evidence.word()),
        Sighting::Redelivered { destination, .. } => format!("redelivered {destination}"),
        Sighting::LeftAlone { why, .. } => format!("left alone: {why}"),
        Sighting::Redirected { why, .. } => format!("redirected: {why}"),
        Sighting::LostSight { why, .. } => format!("lost sight: {why}"),
    }
}
