//! What a message that waits says of itself.

use serde::Serialize;

use crate::celery::Carrier;
use crate::celery::Task;
use crate::cli::output::shown;
use crate::config::Limits;
use crate::config::Mode;
use crate::config::Policy;
use crate::hop::Arrival;
use crate::hop::BrokerPart;
use crate::hop::Injector;
use crate::hop::KeptTask;
use crate::hop::Passage;
use crate::hop::Quality;
use crate::hop::Scope;
use crate::trace::IdSource;
use crate::trace::Sampler;
use crate::trace::Timestamp;

/// A message that waits. Never its arguments.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Waiting {
    /// The priority step of its key, where the queue has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) step: Option<u8>,
    /// `None`: it is no task, or cannot be read.
    pub(super) task: Option<String>,
    pub(super) task_id: Option<String>,
    pub(super) retries: u32,
    /// How good its trace context is, in the words of the metrics.
    pub(super) context: Option<&'static str>,
    /// Why the context is invalid.
    pub(super) reason: Option<String>,
    pub(super) trace_id: Option<String>,
    /// When it was sent, where our member of its `tracestate` says so.
    pub(super) sent_at: Option<String>,
    pub(super) age_ms: Option<u64>,
    pub(super) eta: Option<String>,
    pub(super) redelivered: bool,
    pub(super) bytes: usize,
}

impl Waiting {
    /// Judges its context as the proxy would.
    pub(super) fn read(
        task: &Task<'_>,
        carrier: &Carrier<'_>,
        queue: &str,
        now: Timestamp,
    ) -> Self {
        // Each message by itself: what is known of one is no news of the next.
        let injector = Injector::new(
            Policy {
                mode: Mode::Observe,
                ..Policy::default()
            },
            Sampler::default(),
            &Limits {
                memory_max: 1,
                ..Limits::default()
            },
        );
        let arrival = Arrival {
            task,
            carrier,
            destination: queue,
            scope: Scope {
                route: "",
                part: BrokerPart::Unknown,
            },
            passage: &Passage::default(),
        };
        let received = injector.deliver(&arrival, now, &mut IdSource::seeded(0));
        let judgement = received.decision.judgement;
        let carried = !matches!(judgement.quality, Quality::Missing | Quality::Invalid);
        // Of long texts the head will do.
        let task = KeptTask::from(task);
        Self {
            step: None,
            task: Some(shown(task.name())),
            task_id: Some(shown(task.id())),
            retries: task.retries,
            context: Some(judgement.quality.word()),
            reason: judgement.invalid.map(|invalid| invalid.to_string()),
            trace_id: carried.then(|| judgement.context.trace_id.to_string()),
            sent_at: received.sent.map(|sent| sent.to_string()),
            age_ms: received.sent.map(|sent| {
                let age = now.since(sent).as_millis();
                u64::try_from(age).unwrap_or(u64::MAX)
            }),
            eta: task.eta().map(shown),
            redelivered: false,
            bytes: 0,
        }
    }
}
