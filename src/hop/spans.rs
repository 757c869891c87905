//! Hops as spans, in the words of OpenTelemetry's messaging conventions.

use std::borrow::Cow;

use crate::hop::Answer;
use crate::hop::Hop;
use crate::trace::Span;
use crate::trace::Value;

/// The `send` span of a hop: from the first byte of the publication to the broker's answer.
/// `None` where the trace is not recorded.
#[must_use]
pub fn send_span(hop: &Hop) -> Option<Span> {
    let publication = &hop.publication;
    if !publication.recorded {
        return None;
    }
    let connection = &publication.connection;
    let task = &publication.task;
    let mut attributes: Vec<(&'static str, Value)> = Vec::with_capacity(20);
    attributes.extend([
        (MESSAGING_SYSTEM, publication.system.into()),
        (MESSAGING_OPERATION_NAME, "send".into()),
        (MESSAGING_OPERATION_TYPE, "send".into()),
        (
            MESSAGING_DESTINATION_NAME,
            publication.destination.to_string().into(),
        ),
        (
            MESSAGING_MESSAGE_ENVELOPE_SIZE,
            i64::try_from(publication.size).unwrap_or(i64::MAX).into(),
        ),
        (SERVER_ADDRESS, connection.server_address.to_string().into()),
        (SERVER_PORT, i64::from(connection.server_port).into()),
        ("celery.task_name", task.name.to_string().into()),
        ("celery.retries", i64::from(task.retries).into()),
        ("tracehop.route", connection.route.to_string().into()),
        (
            "tracehop.client_address",
            connection.client_address.to_string().into(),
        ),
        ("tracehop.context.origin", publication.origin.word().into()),
        (
            "tracehop.context.verdict",
            publication.verdict.word().into(),
        ),
        ("tracehop.answer", hop.answer.word().into()),
    ]);
    let id = Some(&task.id).filter(|id| !id.is_empty());
    for (key, value) in [
        (MESSAGING_MESSAGE_ID, id),
        ("celery.root_id", task.root_id.as_ref()),
        ("celery.parent_id", task.parent_id.as_ref()),
        ("celery.group", task.group.as_ref()),
        ("celery.eta", task.eta.as_ref()),
    ] {
        attributes.extend(value.map(|text| (key, Value::Text(Cow::Owned(text.to_string())))));
    }
    if let Some(invalid) = publication.invalid {
        attributes.push(("tracehop.context.invalid", invalid.to_string().into()));
    }
    let error = error(&hop.answer);
    if let Some((kind, _)) = &error {
        attributes.push((ERROR_TYPE, kind.clone().into()));
    }
    Some(Span {
        context: publication.context,
        parent: publication.parent,
        tracestate: publication.tracestate.clone(),
        kind: publication.kind,
        name: format!("send {}", publication.destination),
        start: publication.at,
        end: hop.ended.max(publication.at),
        attributes,
        error: error.map(|(_, words)| words),
    })
}

/// The kind of an error (a word of few values) and its description.
fn error(answer: &Answer) -> Option<(String, String)> {
    match answer {
        Answer::Refused(words) => {
            let kind = words.split(' ').next().unwrap_or_default();
            Some((kind.to_owned(), words.to_string()))
        }
        Answer::Lost => Some((
            "connection_lost".to_owned(),
            "the connection ended before the broker answered".to_owned(),
        )),
        Answer::Confirmed | Answer::Discarded | Answer::Unanswered | Answer::Expired => None,
    }
}

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
    use opentelemetry_semantic_conventions::attribute;

    use super::*;
    use crate::hop::fixture::publication;
    use crate::trace::Timestamp;

    fn span_of(answer: Answer) -> Span {
        let mut publication = publication(1, 5);
        publication.task.id = "some-id".into();
        let hop = Hop {
            publication,
            answer,
            ended: Timestamp::from_nanos(9),
        };
        send_span(&hop).unwrap()
    }

    fn value<'a>(span: &'a Span, key: &str) -> Option<&'a Value> {
        span.attributes
            .iter()
            .find_map(|(name, value)| (*name == key).then_some(value))
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
        let span = span_of(Answer::Confirmed);
        assert_eq!(span.name, "send celery");
        assert_eq!((span.start.as_nanos(), span.end.as_nanos()), (5, 9));
        assert_eq!(span.error, None);
        assert_eq!(
            value(&span, "messaging.message.id"),
            Some(&"some-id".into())
        );
        assert_eq!(value(&span, "celery.group"), None);
        assert_eq!(value(&span, "tracehop.answer"), Some(&"confirmed".into()));
    }

    #[test]
    fn a_refusal_is_an_error_in_the_brokers_words() {
        let span = span_of(Answer::Refused("OOM command not allowed".into()));
        assert_eq!(span.error.as_deref(), Some("OOM command not allowed"));
        assert_eq!(value(&span, "error.type"), Some(&"OOM".into()));
        assert!(span_of(Answer::Lost).error.is_some());
        assert!(span_of(Answer::Discarded).error.is_none());
    }

    #[test]
    fn an_unsampled_hop_is_no_span() {
        let mut publication = publication(1, 5);
        publication.recorded = false;
        let hop = Hop {
            publication,
            answer: Answer::Confirmed,
            ended: Timestamp::from_nanos(9),
        };
        assert_eq!(send_span(&hop), None);
    }
}
