//! Hops as spans, in the words of OpenTelemetry's messaging conventions.

use std::time::Duration;

use crate::celery::TaskState;
use crate::config::Spans;
use crate::hop::Connection;
use crate::hop::Judgement;
use crate::hop::KeptTask;
use crate::hop::Leg;
use crate::hop::Sent;
use crate::hop::Settlement;
use crate::hop::Taken;
use crate::trace::Event;
use crate::trace::Span;
use crate::trace::SpanKind;
use crate::trace::Timestamp;
use crate::trace::TraceContext;
use crate::trace::Value;

/// What a leg is told as: a span each.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'a> {
    Send(&'a Sent),
    Receive(&'a Taken),
    Process(&'a Taken),
}

impl<'a> Operation<'a> {
    /// It takes time, as everything does: backends warn of a span that ends when it begins.
    #[must_use]
    pub fn span(self) -> Span<'a> {
        let span = match self {
            Self::Send(sent) => sent.send_span(),
            Self::Receive(taken) => taken.receive_span(),
            Self::Process(taken) => taken.process_span(),
        };
        Span {
            end: span.end.max(span.start.after(SHORTEST)),
            ..span
        }
    }
}

impl Leg {
    /// What is to be told of this leg, as far as it is `wanted` and its trace is recorded.
    pub fn operations(&self, wanted: Spans) -> impl Iterator<Item = Operation<'_>> {
        let operations = match self {
            _ if !self.judgement().context.flags.is_sampled() => [None, None],
            Self::Sent(sent) => [wanted.send.then_some(Operation::Send(sent)), None],
            Self::Taken(taken) => [
                (wanted.receive && taken.ended.receive).then_some(Operation::Receive(taken)),
                (wanted.process && taken.ended.process && taken.may_have_run())
                    .then_some(Operation::Process(taken)),
            ],
        };
        operations.into_iter().flatten()
    }

    fn judgement(&self) -> &Judgement {
        match self {
            Self::Sent(sent) => &sent.publication.judgement,
            Self::Taken(taken) => &taken.delivery.judgement,
        }
    }
}

impl Sent {
    /// From the first byte of the publication to the broker's answer.
    fn send_span(&self) -> Span<'_> {
        let publication = &self.publication;
        let mut attributes = message_attributes(&Message {
            operation: "send",
            system: publication.system,
            connection: &publication.connection,
            destination: &publication.destination,
            task: &publication.task,
            size: publication.size,
        });
        push_judgement(&mut attributes, &publication.judgement);
        attributes.push(("tracehop.answer", self.answer.word().into()));
        let error = self.answer.error();
        Span {
            name: ["send ", &publication.destination],
            kind: publication.judgement.kind,
            parent: publication.judgement.parent,
            start: publication.at,
            end: self.ended,
            ..span(&publication.judgement, attributes, error)
        }
    }
}

impl Taken {
    /// From the sending, where its time is known, to the delivery.
    fn receive_span(&self) -> Span<'_> {
        let delivery = &self.delivery;
        let passage = &delivery.passage;
        let mut attributes = self.attributes("receive");
        push_judgement(&mut attributes, &delivery.judgement);
        attributes.extend(
            [
                delivery
                    .dwell()
                    .map(|dwell| ("tracehop.dwell_ms", millis(dwell))),
                delivery
                    .clock_skew
                    .map(|ahead| ("tracehop.clock_skew_ms", millis(ahead))),
                spent("tracehop.delay_ms", delivery.delay()),
                spent("tracehop.eta_wait_ms", self.eta_wait()),
                self.prefetched()
                    .map(|prefetched| ("tracehop.prefetch_ms", millis(prefetched))),
                said("tracehop.redelivered", passage.redelivered),
                said("tracehop.broadcast", passage.broadcast),
                passage
                    .deliveries_before
                    .map(|count| ("tracehop.deliveries_before", i64::from(count).into())),
                passage
                    .dead_letter
                    .as_deref()
                    .map(|why| ("tracehop.dead_letter", why.into())),
            ]
            .into_iter()
            .flatten(),
        );
        attributes.push(("tracehop.settlement", self.settlement().into()));
        if let Some(at) = self.settled_at() {
            attributes.push(("tracehop.hold_ms", millis(at.since(delivery.at))));
        }
        let error = self.abandonment();
        Span {
            name: ["receive ", &delivery.destination],
            kind: SpanKind::Client,
            parent: delivery.judgement.parent,
            start: delivery.sent.unwrap_or(delivery.at).min(delivery.at),
            end: delivery.at,
            events: self.events(),
            ..span(&delivery.judgement, attributes, error)
        }
    }

    /// From the beginning of the run to its end; where one of them is not known, no more than
    /// a moment.
    fn process_span(&self) -> Span<'_> {
        let delivery = &self.delivery;
        let judgement = &delivery.judgement;
        let mut attributes = self.attributes("process");
        let state = self.finished.and_then(|finish| finish.state);
        let state = state.map_or("unknown", TaskState::word);
        attributes.push(("celery.state", state.into()));
        let evidence = self.finished.map(|finish| finish.evidence.word().into());
        attributes.extend(evidence.map(|word| ("tracehop.evidence", word)));
        let began = self.began();
        let word = began.map_or("unknown", |(_, evidence)| evidence.word());
        attributes.push(("tracehop.begin_evidence", word.into()));
        attributes.extend(
            self.prefetched()
                .map(|prefetched| ("tracehop.prefetch_ms", millis(prefetched))),
        );
        let settled = self.settled.map(|(_, at)| at);
        let finished = self.finished.map(|finish| finish.at);
        let end = finished.or(settled).unwrap_or(delivery.at);
        let start = began.map_or(end, |(at, _)| at);
        // What the message carries when it is delivered is what the run follows from.
        let parent = match judgement.parent {
            Some(parent) if !judgement.verdict.is_written() => parent,
            _ => judgement.context.span_id,
        };
        let context = TraceContext {
            span_id: delivery.process,
            ..judgement.context
        };
        Span {
            context,
            name: ["process ", &delivery.destination],
            kind: SpanKind::Consumer,
            parent: Some(parent),
            start,
            end,
            events: self.events(),
            ..span(judgement, attributes, self.error())
        }
    }

    fn attributes(&self, operation: &'static str) -> Attributes<'_> {
        let delivery = &self.delivery;
        let mut attributes = message_attributes(&Message {
            operation,
            system: delivery.system,
            connection: &delivery.connection,
            destination: &delivery.destination,
            task: &delivery.task,
            size: delivery.size,
        });
        if self.is_expired {
            attributes.push(("tracehop.expired", true.into()));
        }
        attributes
    }

    /// What happened to the message while the worker had it.
    fn events(&self) -> Vec<Event> {
        let due = self.eta.filter(|eta| *eta > self.delivery.at);
        let settled = self
            .settled
            .filter(|(how, _)| !matches!(how, Settlement::Automatic | Settlement::Unknown));
        let mut events: Vec<Event> = [
            due.map(|at| Event { name: "due", at }),
            self.started.map(|(at, _)| Event {
                name: "started",
                at,
            }),
            settled.map(|(how, at)| Event {
                name: how.word(),
                at,
            }),
        ]
        .into_iter()
        .flatten()
        .collect();
        events.sort_by_key(|event| event.at);
        events
    }

    /// What went wrong with the run or on the way to it, if anything did: its kind, a word of
    /// few values, and the words for it.
    #[must_use]
    pub fn error(&self) -> Option<(&'static str, &'static str)> {
        match self.finished.and_then(|finish| finish.state) {
            Some(TaskState::Failed) => Some(("failed", "the task failed")),
            Some(TaskState::Rejected) => Some(("rejected", "the worker rejected the task")),
            _ => self.abandonment(),
        }
    }

    /// What went wrong with the delivery itself.
    #[must_use]
    pub fn abandonment(&self) -> Option<(&'static str, &'static str)> {
        match self.settled {
            Some((Settlement::Abandoned, _)) => Some((
                "connection_lost",
                "the connection ended before the message was acknowledged",
            )),
            _ => None,
        }
    }
}

type Attributes<'a> = Vec<(&'static str, Value<'a>)>;

/// What the spans of both legs tell of a message.
struct Message<'a> {
    operation: &'static str,
    system: &'static str,
    connection: &'a Connection,
    destination: &'a str,
    task: &'a KeptTask,
    size: usize,
}

fn message_attributes<'a>(message: &Message<'a>) -> Attributes<'a> {
    let Message {
        connection, task, ..
    } = message;
    let mut attributes = Attributes::with_capacity(ATTRIBUTES_MAX);
    attributes.extend([
        (MESSAGING_SYSTEM, message.system.into()),
        (MESSAGING_OPERATION_NAME, message.operation.into()),
        (MESSAGING_OPERATION_TYPE, message.operation.into()),
        (MESSAGING_DESTINATION_NAME, message.destination.into()),
        (
            MESSAGING_MESSAGE_ENVELOPE_SIZE,
            i64::try_from(message.size).unwrap_or(i64::MAX).into(),
        ),
        (SERVER_ADDRESS, Value::Text(&connection.server_address)),
        (SERVER_PORT, i64::from(connection.server_port).into()),
        ("celery.task_name", task.name().into()),
        ("celery.retries", i64::from(task.retries).into()),
        ("tracehop.route", Value::Text(&connection.route)),
        (
            "tracehop.client_address",
            Value::Text(&connection.client_address),
        ),
    ]);
    let id = Some(task.id()).filter(|id| !id.is_empty());
    for (key, value) in [
        (MESSAGING_MESSAGE_ID, id),
        ("celery.root_id", task.root_id()),
        ("celery.parent_id", task.parent_id()),
        ("celery.group", task.group()),
        ("celery.eta", task.eta()),
    ] {
        attributes.extend(value.map(|text| (key, text.into())));
    }
    attributes
}

fn push_judgement(attributes: &mut Attributes<'_>, judgement: &Judgement) {
    attributes.extend([
        ("tracehop.context.origin", judgement.origin.word().into()),
        ("tracehop.context.verdict", judgement.verdict.word().into()),
        ("tracehop.context.quality", judgement.quality.word().into()),
    ]);
    if let Some(invalid) = judgement.invalid {
        attributes.push(("tracehop.context.invalid", invalid.word().into()));
    }
}

/// A span with that context, of which its owner tells the rest.
fn span<'a>(
    judgement: &'a Judgement,
    mut attributes: Attributes<'a>,
    error: Option<(&'a str, &'a str)>,
) -> Span<'a> {
    if let Some((kind, _)) = error {
        attributes.push((ERROR_TYPE, kind.into()));
    }
    Span {
        context: judgement.context,
        parent: None,
        tracestate: &judgement.tracestate,
        kind: judgement.kind,
        name: Default::default(),
        start: Timestamp::default(),
        end: Timestamp::default(),
        attributes,
        events: Vec::new(),
        link: judgement.link,
        error: error.map(|(_, words)| words),
    }
}

fn millis(time: Duration) -> Value<'static> {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX).into()
}

fn spent(key: &'static str, time: Duration) -> Option<(&'static str, Value<'static>)> {
    (!time.is_zero()).then(|| (key, millis(time)))
}

fn said(key: &'static str, truth: bool) -> Option<(&'static str, Value<'static>)> {
    truth.then(|| (key, true.into()))
}

/// The shortest time that a span can tell of.
const SHORTEST: Duration = Duration::from_nanos(1);
/// So that telling of a message takes one allocation.
const ATTRIBUTES_MAX: usize = 32;
const ERROR_TYPE: &str = "error.type";
const MESSAGING_DESTINATION_NAME: &str = "messaging.destination.name";
const MESSAGING_MESSAGE_ENVELOPE_SIZE: &str = "messaging.message.envelope.size";
const MESSAGING_MESSAGE_ID: &str = "messaging.message.id";
const MESSAGING_OPERATION_NAME: &str = "messaging.operation.name";
const MESSAGING_OPERATION_TYPE: &str = "messaging.operation.type";
const MESSAGING_SYSTEM: &str = "messaging.system";
const SERVER_ADDRESS: &str = "server.address";
const SERVER_PORT: &str = "server.port";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use opentelemetry_semantic_conventions::attribute;

    use super::*;
    use crate::hop::Answer;
    use crate::hop::Ends;
    use crate::hop::Evidence;
    use crate::hop::Finish;
    use crate::hop::Passage;
    use crate::hop::Verdict;
    use crate::hop::fixture::EVERY_END;
    use crate::hop::fixture::delivery;
    use crate::hop::fixture::publication;
    use crate::trace::IdSource;
    use crate::trace::TraceFlags;

    fn sent(answer: Answer) -> Sent {
        let mut publication = publication(1, 5);
        publication.task.edit(|it| it.id = "some-id".into());
        Sent {
            publication: publication.into(),
            answer,
            ended: Timestamp::from_nanos(9),
        }
    }

    fn value<'a>(span: &Span<'a>, key: &str) -> Option<Value<'a>> {
        span.attributes
            .iter()
            .find_map(|(name, value)| (*name == key).then_some(*value))
    }

    #[test]
    fn names_are_those_of_the_conventions() {
        for (ours, theirs) in [
            (ERROR_TYPE, attribute::ERROR_TYPE),
            (
                MESSAGING_DESTINATION_NAME,
                attribute::MESSAGING_DESTINATION_NAME,
            ),
            (
                MESSAGING_MESSAGE_ENVELOPE_SIZE,
                attribute::MESSAGING_MESSAGE_ENVELOPE_SIZE,
            ),
            (MESSAGING_MESSAGE_ID, attribute::MESSAGING_MESSAGE_ID),
            (
                MESSAGING_OPERATION_NAME,
                attribute::MESSAGING_OPERATION_NAME,
            ),
            (
                MESSAGING_OPERATION_TYPE,
                attribute::MESSAGING_OPERATION_TYPE,
            ),
            (MESSAGING_SYSTEM, attribute::MESSAGING_SYSTEM),
            (SERVER_ADDRESS, attribute::SERVER_ADDRESS),
            (SERVER_PORT, attribute::SERVER_PORT),
        ] {
            assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn a_confirmed_hop_is_a_span_without_an_error() {
        let sent = sent(Answer::Confirmed);
        let span = sent.send_span();
        assert_eq!(span.name.concat(), "send celery");
        assert_eq!((span.start.as_nanos(), span.end.as_nanos()), (5, 9));
        assert_eq!(span.error, None);
        assert_eq!(value(&span, "messaging.message.id"), Some("some-id".into()));
        assert_eq!(value(&span, "celery.group"), None);
        assert_eq!(value(&span, "tracehop.answer"), Some("confirmed".into()));
    }

    #[test]
    fn a_refusal_is_an_error_in_the_brokers_words() {
        let refused = sent(Answer::Refused("OOM command not allowed".into()));
        let span = refused.send_span();
        assert_eq!(span.error, Some("OOM command not allowed"));
        assert_eq!(value(&span, "error.type"), Some("OOM".into()));
        assert!(sent(Answer::Lost).send_span().error.is_some());
        assert!(sent(Answer::Discarded).send_span().error.is_none());
    }

    #[test]
    fn an_unsampled_hop_is_no_span() {
        let mut publication = publication(1, 5);
        publication.judgement.context.flags = TraceFlags::default();
        let leg = Leg::Sent(Sent {
            publication: publication.into(),
            answer: Answer::Confirmed,
            ended: Timestamp::from_nanos(9),
        });
        assert_eq!(leg.operations(Spans::default()).count(), 0);
    }

    /// A delivery from its sending at 1 s to its receipt at 3 s.
    fn taken(change: impl FnOnce(&mut Taken)) -> Taken {
        let mut delivery = delivery("some-id", None, SECOND * 3);
        delivery.sent = Some(seconds(1));
        delivery.judgement.parent = Some(IdSource::seeded(9).span_id());
        delivery.judgement.verdict = Verdict::Kept;
        let mut taken = Taken {
            delivery: delivery.into(),
            eta: None,
            settled: None,
            started: None,
            finished: None,
            is_expired: false,
            is_over: true,
            ended: EVERY_END,
        };
        change(&mut taken);
        taken
    }

    const SECOND: u64 = 1_000_000_000;

    fn seconds(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(SECOND * seconds)
    }

    #[test]
    fn the_time_in_the_queue_is_a_span() {
        let taken = taken(|taken| taken.settled = Some((Settlement::Acknowledged, seconds(7))));
        let span = taken.receive_span();
        assert_eq!(span.name.concat(), "receive celery");
        assert_eq!((span.start, span.end), (seconds(1), seconds(3)));
        assert_eq!(span.kind, SpanKind::Client);
        assert_eq!(span.parent, taken.delivery.judgement.parent);
        assert_eq!(value(&span, "tracehop.dwell_ms"), Some(2000.into()));
        assert_eq!(value(&span, "tracehop.hold_ms"), Some(4000.into()));
        let settlement = Some("acknowledged".into());
        assert_eq!(value(&span, "tracehop.settlement"), settlement);
        assert_eq!(value(&span, "tracehop.prefetch_ms"), None);
        assert_eq!(value(&span, "tracehop.redelivered"), None);
        let acknowledged = Event {
            name: "acknowledged",
            at: seconds(7),
        };
        assert_eq!(span.events, [acknowledged]);
    }

    #[test]
    fn where_the_sending_is_unknown_the_span_is_the_moment_of_delivery() {
        let taken = taken(|taken| {
            Arc::make_mut(&mut taken.delivery).sent = None;
            taken.is_expired = true;
        });
        let span = taken.receive_span();
        assert_eq!((span.start, span.end), (seconds(3), seconds(3)));
        assert_eq!(value(&span, "tracehop.dwell_ms"), None);
        assert_eq!(value(&span, "tracehop.settlement"), Some("unknown".into()));
    }

    #[test]
    fn a_run_is_a_span_that_follows_from_what_the_message_carries() {
        let finish = |state| Finish {
            at: seconds(9),
            state: Some(state),
            evidence: Evidence::Event,
        };
        let mut taken = taken(|taken| {
            taken.eta = Some(seconds(4));
            taken.started = Some((seconds(6), Evidence::Event));
            taken.settled = Some((Settlement::Acknowledged, seconds(5)));
            taken.finished = Some(finish(TaskState::Succeeded));
        });
        let span = taken.process_span();
        assert_eq!(span.name.concat(), "process celery");
        assert_eq!((span.start, span.end), (seconds(6), seconds(9)));
        assert_eq!(span.kind, SpanKind::Consumer);
        assert_eq!(span.context.span_id, taken.delivery.process);
        assert_eq!(span.parent, taken.delivery.judgement.parent);
        assert_eq!(value(&span, "celery.state"), Some("succeeded".into()));
        assert_eq!(value(&span, "tracehop.evidence"), Some("event".into()));
        assert_eq!(
            value(&span, "tracehop.begin_evidence"),
            Some("event".into())
        );
        assert_eq!(value(&span, "tracehop.prefetch_ms"), Some(2000.into()));
        assert_eq!(span.error, None);
        let events: Vec<_> = span.events.iter().map(|event| event.name).collect();
        assert_eq!(events, ["due", "acknowledged", "started"]);

        // A context that was written at delivery is that of the span of the delivery.
        Arc::make_mut(&mut taken.delivery).judgement.verdict = Verdict::Added;
        let span = taken.process_span();
        assert_eq!(span.parent, Some(taken.delivery.judgement.context.span_id));

        taken.finished = Some(finish(TaskState::Failed));
        let span = taken.process_span();
        assert_eq!(value(&span, "error.type"), Some("failed".into()));
        assert!(span.error.is_some());
    }

    #[test]
    fn a_run_of_which_the_beginning_is_unknown_has_no_duration_and_says_so() {
        let taken = taken(|taken| {
            taken.settled = Some((Settlement::Acknowledged, seconds(9)));
            taken.finished = Some(Finish {
                at: seconds(8),
                state: Some(TaskState::Succeeded),
                evidence: Evidence::Result,
            });
        });
        let span = taken.process_span();
        assert_eq!((span.start, span.end), (seconds(8), seconds(8)));
        assert_eq!(value(&span, "celery.state"), Some("succeeded".into()));
        let unknown = Some("unknown".into());
        assert_eq!(value(&span, "tracehop.begin_evidence"), unknown);
        assert_eq!(value(&span, "tracehop.prefetch_ms"), None);
    }

    #[test]
    fn what_a_worker_gives_back_and_never_began_has_not_run() {
        for (started, expected) in [(None, 1), (Some((seconds(4), Evidence::Event)), 2)] {
            let leg = Leg::Taken(taken(|taken| {
                taken.settled = Some((Settlement::Returned, seconds(7)));
                taken.started = started;
            }));
            let wanted = Spans {
                process: true,
                ..Spans::default()
            };
            assert_eq!(leg.operations(wanted).count(), expected);
        }
    }

    #[test]
    fn a_delivery_that_is_not_settled_yet_is_pending() {
        let taken = taken(|taken| {
            taken.is_over = false;
            taken.ended = Ends {
                receive: true,
                ..Ends::default()
            };
        });
        let span = taken.receive_span();
        assert_eq!(value(&span, "tracehop.settlement"), Some("pending".into()));
        assert_eq!(value(&span, "tracehop.hold_ms"), None);
        assert_eq!(span.error, None);
        let leg = Leg::Taken(taken);
        let wanted = Spans {
            process: true,
            ..Spans::default()
        };
        let operations = leg.operations(wanted);
        let names: Vec<_> = operations
            .map(|operation| operation.span().name.concat())
            .collect();
        assert_eq!(names, ["receive celery"]);
    }

    #[test]
    fn a_worker_that_goes_away_with_a_message_is_an_error() {
        let taken = taken(|taken| taken.settled = Some((Settlement::Abandoned, seconds(8))));
        for span in [taken.receive_span(), taken.process_span()] {
            let kind = Some("connection_lost".into());
            assert_eq!(value(&span, "error.type"), kind);
        }
        assert_eq!(taken.process_span().end, seconds(8));
    }

    #[test]
    fn how_a_message_came_to_be_delivered_is_told() {
        let taken = taken(|taken| {
            let delivery = Arc::make_mut(&mut taken.delivery);
            delivery
                .task
                .edit(|it| it.eta = Some("1970-01-01T00:00:02Z".into()));
            taken.is_expired = true;
            delivery.passage = Passage {
                redelivered: true,
                deliveries_before: Some(2),
                broadcast: true,
                delayed: true,
                dead_letter: Some("rejected".into()),
            };
        });
        let span = taken.receive_span();
        for (key, expected) in [
            ("tracehop.dwell_ms", 1000.into()),
            ("tracehop.delay_ms", 1000.into()),
            ("tracehop.redelivered", true.into()),
            ("tracehop.broadcast", true.into()),
            ("tracehop.deliveries_before", 2.into()),
            ("tracehop.dead_letter", "rejected".into()),
            ("tracehop.expired", true.into()),
        ] {
            assert_eq!(value(&span, key), Some(expected), "{key}");
        }
    }

    #[test]
    fn every_span_takes_time_whatever_the_clocks_say() {
        let sent_at = |ended| Sent {
            ended: Timestamp::from_nanos(ended),
            ..sent(Answer::Unanswered)
        };
        let at_once = taken(|taken| {
            Arc::make_mut(&mut taken.delivery).sent = None;
            taken.settled = Some((Settlement::Automatic, seconds(3)));
        });
        let before_it_was_sent = taken(|taken| {
            Arc::make_mut(&mut taken.delivery).sent = Some(seconds(5));
            taken.settled = Some((Settlement::Acknowledged, seconds(2)));
        });
        let sent = [sent_at(4), sent_at(5), sent_at(9)];
        let operations = [&at_once, &before_it_was_sent]
            .into_iter()
            .flat_map(|taken| [Operation::Receive(taken), Operation::Process(taken)])
            .chain(sent.iter().map(Operation::Send));
        for operation in operations {
            let span = operation.span();
            assert!(span.start < span.end, "{span:?}");
        }
    }

    #[test]
    fn only_the_spans_that_are_wanted_are_made() {
        let leg = Leg::Taken(taken(|_| {}));
        for (receive, process) in [(false, false), (true, false), (false, true), (true, true)] {
            let wanted = Spans {
                send: true,
                receive,
                process,
            };
            let operations = leg.operations(wanted);
            let names: Vec<_> = operations
                .map(|operation| operation.span().name.concat())
                .collect();
            let expected = [(receive, "receive celery"), (process, "process celery")];
            let expected = expected.into_iter().filter(|(is_wanted, _)| *is_wanted);
            assert!(names.iter().eq(expected.map(|(_, name)| name)));
        }
    }
}
