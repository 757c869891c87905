//! A publication for tests.

use std::sync::Arc;

use crate::celery::Task;
use crate::hop::Connection;
use crate::hop::HopId;
use crate::hop::Origin;
use crate::hop::Publication;
use crate::hop::Verdict;
use crate::trace::IdSource;
use crate::trace::SpanKind;
use crate::trace::Timestamp;
use crate::trace::TraceContext;
use crate::trace::TraceFlags;

/// Publication `number` of a session, seen at `at` nanoseconds.
pub(crate) fn publication(number: u64, at: u64) -> Box<Publication> {
    let mut ids = IdSource::seeded(number);
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
        task: Task::default(),
        size: 1,
        context: TraceContext {
            trace_id: ids.trace_id(),
            span_id: ids.span_id(),
            flags: TraceFlags::SAMPLED,
        },
        parent: None,
        tracestate: String::new(),
        kind: SpanKind::Producer,
        verdict: Verdict::Added,
        invalid: None,
        origin: Origin::Derived,
        recorded: true,
    })
}
