//! From sightings to a collector: what arrives there, and what happens when it does not.

#[path = "support/otlp.rs"]
mod collector;
#[path = "support/sightings.rs"]
mod sightings;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span as ProtoSpan;
use opentelemetry_proto::tonic::trace::v1::span::Event as ProtoEvent;
use opentelemetry_proto::tonic::trace::v1::span::Link as ProtoLink;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind as ProtoKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;

use tracehop::celery::Task;
use tracehop::celery::TaskState;
use tracehop::config;
use tracehop::config::OtlpProtocol;
use tracehop::config::OtlpProtocol::Grpc;
use tracehop::config::OtlpProtocol::HttpProtobuf;
use tracehop::hop::Answer;
use tracehop::hop::Passage;
use tracehop::hop::Settlement;
use tracehop::hop::Sighting;
use tracehop::telemetry::Metrics;
use tracehop::telemetry::Sightings;
use tracehop::telemetry::StartError;
use tracehop::telemetry::Telemetry;
use tracehop::trace::IdSource;
use tracehop::trace::TraceFlags;
use tracehop::trace::w3c::Invalid;

use crate::collector::Answer as Reply;
use crate::collector::Collector;
use crate::collector::Papers;
use crate::sightings::ANSWERED;
use crate::sightings::DELIVERED;
use crate::sightings::DUE;
use crate::sightings::FINISHED;
use crate::sightings::SENT;
use crate::sightings::SETTLED;
use crate::sightings::STARTED;
use crate::sightings::answered;
use crate::sightings::context;
use crate::sightings::delivery;
use crate::sightings::publication;
use crate::sightings::settled;
use crate::sightings::told;

#[tokio::test]
async fn every_hop_arrives_exactly_once() {
    for protocol in [Grpc, HttpProtobuf] {
        let collector = Collector::start(protocol);
        let telemetry = start(&to(protocol, collector.address));
        send(&telemetry, 0..3000);
        let metrics = telemetry.metrics();
        telemetry.flush(GRACE).await;
        assert_eq!(ids(&collector), (0..3000).map(span_id).collect());
        assert_eq!(collector.spans().len(), 3000);
        assert_eq!(value(&metrics, "tracehop_spans_exported_total"), 3000);
        assert_eq!(value(&metrics, "tracehop_spans_queued"), 0);
        assert_eq!(value(&metrics, "tracehop_open_hops"), 0);
        assert_eq!(dropped(&metrics), [0; 5]);
    }
}

#[tokio::test]
async fn a_span_says_what_was_seen_and_by_whom() {
    for protocol in [Grpc, HttpProtobuf] {
        let collector = Collector::start(protocol);
        let telemetry = start(&to(protocol, collector.address));
        let mut publication = publication(7);
        let parent = IdSource::seeded(99).span_id();
        publication.judgement.parent = Some(parent);
        publication.judgement.tracestate = "tracehop=1-2,vendor=x".to_owned();
        publication.judgement.invalid = Some(Invalid::WrongLength);
        let task = Task {
            name: "shop.pay".into(),
            id: "1".into(),
            root_id: Some("1".into()),
            parent_id: Some("1".into()),
            group: Some("1".into()),
            eta: Some("1".into()),
            ..Task::default()
        };
        publication.task = (&task).into();
        let refused = Answer::Refused("OOM command not allowed".into());
        telemetry.sightings().record(&mut vec![
            Sighting::Published(publication.into()),
            answered(7, refused),
        ]);
        telemetry.flush(GRACE).await;

        let received = collector.received().remove(0);
        let resource = &received.request.resource_spans[0];
        let attributes = &resource.resource.as_ref().unwrap().attributes;
        let text = |key: &str| {
            let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
            match attribute.value.as_ref()?.value.as_ref()? {
                Value::StringValue(text) => Some(text.clone()),
                _ => None,
            }
        };
        let version = Some(env!("CARGO_PKG_VERSION").to_owned());
        assert_eq!(text("service.name").as_deref(), Some("tracehop"));
        assert_eq!(text("service.version"), version);
        assert_eq!(text("service.instance.id").unwrap().len(), 36);
        assert_eq!(text("telemetry.sdk.name").as_deref(), Some("tracehop"));
        assert_eq!(text("telemetry.sdk.language").as_deref(), Some("rust"));
        assert_eq!(text("telemetry.sdk.version"), version);
        let agent = received.user_agent.as_deref().unwrap();
        assert_eq!(
            agent.split_once('/').unwrap().0,
            "OTel-OTLP-Exporter-tracehop"
        );

        let scope = resource.scope_spans[0].scope.as_ref().unwrap();
        assert_eq!(
            (&*scope.name, Some(&scope.version)),
            ("tracehop", version.as_ref())
        );

        let span = collector.spans().remove(0);
        let context = context(7);
        assert_eq!(span.trace_id, context.trace_id.to_bytes());
        assert_eq!(span.span_id, context.span_id.to_bytes());
        assert_eq!(span.parent_span_id, parent.to_bytes());
        assert_eq!(span.trace_state, "tracehop=1-2,vendor=x");
        assert_eq!(span.flags, 0x301);
        assert_eq!(span.name, "send celery");
        assert_eq!(span.kind(), ProtoKind::Producer);
        assert_eq!(span.start_time_unix_nano, SENT.as_nanos());
        assert_eq!(span.end_time_unix_nano, ANSWERED.as_nanos());
        let status = span.status.as_ref().unwrap();
        assert_eq!(status.code(), StatusCode::Error);
        assert_eq!(status.message, "OOM command not allowed");
        assert_eq!(span.attributes.len(), 22);
        assert_documented(&span);
    }
}

#[tokio::test]
async fn a_delivery_arrives_as_the_spans_that_are_wanted() {
    for (spans, wanted) in [
        (config::Spans::default(), &["receive celery"][..]),
        (EVERY_SPAN, &["receive celery", "process celery"]),
        (
            config::Spans {
                receive: false,
                ..EVERY_SPAN
            },
            &["process celery"],
        ),
    ] {
        let collector = Collector::start(HttpProtobuf);
        let telemetry = start_with(&to(HttpProtobuf, collector.address), spans);
        let (delivery, ..) = delivery(7);
        telemetry.sightings().record(&mut vec![
            Sighting::Delivered(delivery.into()),
            told(7, STARTED, TaskState::Started),
            settled(7, SETTLED, Settlement::Acknowledged),
            told(7, FINISHED, TaskState::Succeeded),
        ]);
        let metrics = telemetry.metrics();
        telemetry.flush(GRACE).await;
        let arrived = collector.spans();
        let names: Vec<&str> = arrived.iter().map(|span| &*span.name).collect();
        assert_eq!(names, wanted);
        assert_eq!(value(&metrics, "tracehop_open_hops"), 0);
    }
}

#[tokio::test]
async fn the_spans_of_a_delivery_say_how_it_waited_ran_and_ended() {
    for protocol in [Grpc, HttpProtobuf] {
        let collector = Collector::start(protocol);
        let telemetry = start_with(&to(protocol, collector.address), EVERY_SPAN);
        let (mut delivery, parent, link) = delivery(7);
        delivery.judgement.invalid = Some(Invalid::UpperCase);
        delivery.passage = Passage {
            redelivered: true,
            deliveries_before: Some(1),
            broadcast: true,
            delayed: false,
            dead_letter: Some("rejected".into()),
        };
        let process = delivery.process;
        telemetry.sightings().record(&mut vec![
            Sighting::Delivered(delivery.into()),
            told(7, STARTED, TaskState::Started),
            settled(7, SETTLED, Settlement::Acknowledged),
            told(7, FINISHED, TaskState::Failed),
        ]);
        telemetry.flush(GRACE).await;

        let mut arrived = collector.spans();
        let (ran, received) = (arrived.remove(1), arrived.remove(0));
        let context = context(7);
        for span in [&received, &ran] {
            assert_eq!(span.trace_id, context.trace_id.to_bytes());
            let link_of = |link: &ProtoLink| (link.trace_id.clone(), link.span_id.clone());
            let linked: Vec<_> = span.links.iter().map(link_of).collect();
            let (trace_id, span_id) = (link.trace_id.to_bytes(), link.span_id.to_bytes());
            assert_eq!(linked, [(trace_id.to_vec(), span_id.to_vec())]);
            let event = |event: &ProtoEvent| (event.name.clone(), event.time_unix_nano);
            let events: Vec<_> = span.events.iter().map(event).collect();
            let expected = [
                ("due", DUE),
                ("started", STARTED),
                ("acknowledged", SETTLED),
            ];
            assert_eq!(
                events,
                expected.map(|(name, at)| (name.to_owned(), at.as_nanos()))
            );
            assert_documented(span);
        }

        assert_eq!(received.span_id, context.span_id.to_bytes());
        assert_eq!(received.parent_span_id, parent.to_bytes());
        assert_eq!(received.kind(), ProtoKind::Client);
        assert_eq!(received.start_time_unix_nano, SENT.as_nanos());
        assert_eq!(received.end_time_unix_nano, DELIVERED.as_nanos());
        assert_eq!(received.status.as_ref().unwrap().code(), StatusCode::Unset);
        for (key, expected) in [
            ("messaging.operation.name", text("receive")),
            ("tracehop.dwell_ms", Value::IntValue(1_000)),
            ("tracehop.eta_wait_ms", Value::IntValue(2_000)),
            ("tracehop.prefetch_ms", Value::IntValue(500)),
            ("tracehop.hold_ms", Value::IntValue(3_000)),
            ("tracehop.settlement", text("acknowledged")),
            ("tracehop.redelivered", Value::BoolValue(true)),
            ("tracehop.broadcast", Value::BoolValue(true)),
            ("tracehop.deliveries_before", Value::IntValue(1)),
            ("tracehop.dead_letter", text("rejected")),
            ("tracehop.context.quality", text("missing")),
        ] {
            assert_eq!(attribute(&received, key), Some(&expected), "{key}");
        }

        assert_eq!(ran.span_id, process.to_bytes());
        // The message carries the parent of what received it.
        assert_eq!(ran.parent_span_id, parent.to_bytes());
        assert_eq!(ran.kind(), ProtoKind::Consumer);
        assert_eq!(ran.start_time_unix_nano, STARTED.as_nanos());
        assert_eq!(ran.end_time_unix_nano, FINISHED.as_nanos());
        assert_eq!(ran.status.as_ref().unwrap().code(), StatusCode::Error);
        for (key, expected) in [
            ("messaging.operation.name", "process"),
            ("celery.state", "failed"),
            ("tracehop.evidence", "event"),
            ("tracehop.begin_evidence", "event"),
            ("error.type", "failed"),
        ] {
            assert_eq!(attribute(&ran, key), Some(&text(expected)), "{key}");
        }
    }
}

#[tokio::test]
async fn a_delivery_that_is_never_settled_is_told_as_what_it_is() {
    let collector = Collector::start(HttpProtobuf);
    let limits = config::Limits {
        // Its deadline was long ago.
        delivery_age_max: Duration::from_secs(1),
        ..config::Limits::default()
    };
    let telemetry = Telemetry::start(
        &to(HttpProtobuf, collector.address),
        config::Spans::default(),
        &limits,
        &config::Admin::default(),
        &config::Log::default(),
    )
    .unwrap();
    let (mut delivery, ..) = delivery(7);
    // Before it was due it did not wait: the broker kept it on purpose.
    delivery.passage.delayed = true;
    telemetry
        .sightings()
        .record(&mut vec![Sighting::Delivered(delivery.into())]);
    let metrics = telemetry.metrics();
    until(&metrics, |metrics| {
        value(metrics, "tracehop_spans_exported_total") == 1
    })
    .await;
    let span = collector.spans().remove(0);
    for (key, expected) in [
        ("tracehop.settlement", text("unknown")),
        ("tracehop.expired", Value::BoolValue(true)),
        ("tracehop.dwell_ms", Value::IntValue(0)),
        ("tracehop.delay_ms", Value::IntValue(1_000)),
    ] {
        assert_eq!(attribute(&span, key), Some(&expected), "{key}");
    }
    assert_documented(&span);
    telemetry.flush(GRACE).await;
}

#[tokio::test]
async fn what_is_not_sampled_is_counted_and_not_exported() {
    let collector = Collector::start(HttpProtobuf);
    let telemetry = start(&to(HttpProtobuf, collector.address));
    let mut publication = publication(1);
    publication.judgement.context.flags = TraceFlags::default();
    telemetry.sightings().record(&mut vec![
        Sighting::Published(publication.into()),
        answered(1, Answer::Confirmed),
    ]);
    let metrics = telemetry.metrics();
    telemetry.flush(GRACE).await;
    assert_eq!(collector.requests(), 0);
    assert_eq!(value(&metrics, "tracehop_sends_total{"), 1);
}

#[tokio::test]
async fn a_hop_that_is_open_at_the_end_is_told_as_what_it_is() {
    let collector = Collector::start(HttpProtobuf);
    let telemetry = start(&to(HttpProtobuf, collector.address));
    let sightings = telemetry.sightings();
    sightings.record(&mut vec![Sighting::Published(publication(1).into())]);
    let metrics = telemetry.metrics();
    telemetry.flush(GRACE).await;
    let [span] = &collector.spans()[..] else {
        panic!("one hop was open");
    };
    assert_eq!(attribute(span, "tracehop.answer"), Some(&text("expired")));
    assert_eq!(value(&metrics, "tracehop_open_hops"), 0);

    // Sessions that outlive telemetry do no harm.
    sightings.record(&mut vec![answered(1, Answer::Lost)]);
    assert_eq!(value(&metrics, "tracehop_sightings_dropped_total"), 1);
}

#[tokio::test]
async fn without_export_hops_are_counted_all_the_same() {
    let config = config::Telemetry {
        export: false,
        endpoint: Some("not looked at".to_owned()),
        ..config::Telemetry::default()
    };
    let telemetry = start(&config);
    send(&telemetry, 0..10);
    let metrics = telemetry.metrics();
    telemetry.flush(GRACE).await;
    assert_eq!(value(&metrics, "tracehop_messages_total{"), 10);
    assert_eq!(value(&metrics, "tracehop_sends_total{"), 10);
}

#[tokio::test]
async fn a_collector_that_is_unavailable_is_asked_again() {
    for protocol in [Grpc, HttpProtobuf] {
        let collector = Collector::start(protocol);
        collector.answer(&[Reply::Unavailable, Reply::Unavailable]);
        let telemetry = start(&in_tens(protocol, collector.address));
        send(&telemetry, 0..10);
        let metrics = telemetry.metrics();
        telemetry.flush(GRACE).await;
        assert_eq!(collector.requests(), 3);
        assert_eq!(ids(&collector), (0..10).map(span_id).collect());
        assert_eq!(value(&metrics, "tracehop_spans_exported_total"), 10);
        assert_eq!(dropped(&metrics), [0; 5]);
    }
}

#[tokio::test]
async fn a_refused_batch_is_dropped_and_the_next_one_sent_at_once() {
    for protocol in [Grpc, HttpProtobuf] {
        let collector = Collector::start(protocol);
        collector.answer(&[Reply::Refuse]);
        let telemetry = start(&in_tens(protocol, collector.address));
        let metrics = telemetry.metrics();
        send(&telemetry, 0..20);
        until(&metrics, |metrics| {
            value(metrics, "tracehop_spans_exported_total") == 10
        })
        .await;
        assert_eq!(dropped(&metrics), [0, 10, 0, 0, 0]);
        assert_eq!(ids(&collector), (10..20).map(span_id).collect());
        telemetry.flush(GRACE).await;
        assert_eq!(collector.requests(), 2);
    }
}

#[tokio::test]
async fn a_collector_that_refuses_one_batch_after_the_other_is_left_in_peace() {
    for protocol in [Grpc, HttpProtobuf] {
        let collector = Collector::start(protocol);
        collector.answer(&[Reply::Refuse, Reply::Refuse]);
        let telemetry = start(&in_tens(protocol, collector.address));
        let metrics = telemetry.metrics();
        send(&telemetry, 0..30);
        until(&metrics, |metrics| {
            let queued = value(metrics, "tracehop_spans_queued");
            (dropped(metrics), queued) == ([0, 20, 0, 0, 0], 10)
        })
        .await;
        // The end cuts the rest short.
        telemetry.flush(GRACE).await;
        assert_eq!(ids(&collector), (20..30).map(span_id).collect());
        assert_eq!(value(&metrics, "tracehop_spans_exported_total"), 10);
    }
}

#[tokio::test]
async fn a_collector_that_asks_for_time_is_given_it() {
    for protocol in [Grpc, HttpProtobuf] {
        let collector = Collector::start(protocol);
        collector.answer(&[Reply::Throttle(1)]);
        let telemetry = start(&in_tens(protocol, collector.address));
        let metrics = telemetry.metrics();
        let asked = Instant::now();
        send(&telemetry, 0..10);
        until(&metrics, |metrics| {
            value(metrics, "tracehop_spans_exported_total") == 10
        })
        .await;
        assert!(asked.elapsed() >= Duration::from_secs(1));
        telemetry.flush(GRACE).await;
        assert_eq!(ids(&collector), (0..10).map(span_id).collect());

        // More than there is: the batch is given up at once.
        collector.answer(&[Reply::Throttle(3600)]);
        let telemetry = start(&in_tens(protocol, collector.address));
        send(&telemetry, 10..20);
        let metrics = telemetry.metrics();
        telemetry.flush(GRACE).await;
        assert_eq!(dropped(&metrics), [0, 10, 0, 0, 0]);
        assert_eq!(collector.requests(), 3);
    }
}

#[tokio::test]
async fn a_batch_that_is_taken_in_part_is_not_sent_again() {
    for protocol in [Grpc, HttpProtobuf] {
        for reply in [Reply::Partial(4), Reply::Chatter(4)] {
            let collector = Collector::start(protocol);
            collector.answer(&[reply]);
            let telemetry = start(&in_tens(protocol, collector.address));
            send(&telemetry, 0..10);
            let (metrics, health) = (telemetry.metrics(), telemetry.views().health);
            telemetry.flush(GRACE).await;
            assert_eq!(collector.requests(), 1);
            assert_eq!(value(&metrics, "tracehop_spans_exported_total"), 6);
            assert_eq!(dropped(&metrics), [0, 0, 4, 0, 0]);
            assert_eq!(value(&metrics, "tracehop_spans_queued"), 0);
            assert!(matches!(health.exports(), (Some(_), None)));
        }
    }
}

#[tokio::test]
async fn a_batch_of_which_nothing_is_taken_is_no_success() {
    let collector = Collector::start(HttpProtobuf);
    collector.answer(&[Reply::Partial(10)]);
    let telemetry = start(&in_tens(HttpProtobuf, collector.address));
    send(&telemetry, 0..10);
    let health = telemetry.views().health;
    telemetry.flush(GRACE).await;
    let (success, failure) = health.exports();
    assert_eq!(success, None);
    assert_eq!(failure.unwrap().message, "these are not to my taste");
}

#[tokio::test]
async fn what_a_collector_said_before_it_fell_silent_is_told() {
    for protocol in [Grpc, HttpProtobuf] {
        let collector = Collector::start(protocol);
        collector.answer(&[Reply::Unavailable, Reply::Hang]);
        let config = config::Telemetry {
            export_timeout: Duration::from_secs(4),
            ..in_tens(protocol, collector.address)
        };
        let telemetry = start(&config);
        send(&telemetry, 0..10);
        let (metrics, health) = (telemetry.metrics(), telemetry.views().health);
        telemetry.flush(GRACE).await;
        assert_eq!(collector.requests(), 2);
        assert_eq!(dropped(&metrics), [0, 10, 0, 0, 0]);
        let message = health.exports().1.unwrap().message;
        assert!(message.contains("navailable"), "{message}");
    }
}

#[tokio::test]
async fn at_the_end_a_collector_that_asks_for_time_gets_none() {
    for protocol in [Grpc, HttpProtobuf] {
        let collector = Collector::start(protocol);
        collector.answer(&[Reply::Throttle(20)]);
        let config = config::Telemetry {
            export_timeout: Duration::from_secs(3600),
            ..in_tens(protocol, collector.address)
        };
        let telemetry = start(&config);
        send(&telemetry, 0..10);
        let metrics = telemetry.metrics();
        telemetry.flush(Duration::from_secs(15)).await;
        assert_eq!(value(&metrics, "tracehop_spans_exported_total"), 10);
    }
}

#[tokio::test]
async fn what_a_collector_says_besides_does_not_cost_what_it_took() {
    for protocol in [Grpc, HttpProtobuf] {
        let collector = Collector::start(protocol);
        collector.answer(&[Reply::Partial(0), Reply::Partial(-1), Reply::Chatter(0)]);
        let telemetry = start(&in_tens(protocol, collector.address));
        send(&telemetry, 0..30);
        let metrics = telemetry.metrics();
        telemetry.flush(GRACE).await;
        assert_eq!(collector.requests(), 3);
        assert_eq!(value(&metrics, "tracehop_spans_exported_total"), 30);
        assert_eq!(dropped(&metrics), [0; 5]);
    }
}

#[tokio::test]
async fn a_page_that_answers_with_success_is_no_collector() {
    for (reply, requests) in [(Reply::Page, 1), (Reply::Break, 4)] {
        let collector = Collector::start(HttpProtobuf);
        collector.always(reply);
        let telemetry = start(&in_tens(HttpProtobuf, collector.address));
        send(&telemetry, 0..10);
        let metrics = telemetry.metrics();
        telemetry.flush(GRACE).await;
        // An answer that broke off may be whole the next time.
        assert_eq!(collector.requests(), requests, "{reply:?}");
        assert_eq!(value(&metrics, "tracehop_spans_exported_total"), 0);
        assert_eq!(dropped(&metrics), [0, 10, 0, 0, 0]);
    }
}

#[tokio::test]
async fn a_batch_of_many_bytes_goes_out_in_several_requests() {
    for protocol in [Grpc, HttpProtobuf] {
        let collector = Collector::start(protocol);
        let config = config::Telemetry {
            batch_max: 3000,
            batch_bytes_max: 100 << 10,
            ..in_tens(protocol, collector.address)
        };
        let telemetry = start(&config);
        send(&telemetry, 0..3000);
        telemetry.flush(GRACE).await;
        assert_eq!(ids(&collector), (0..3000).map(span_id).collect());
        let sizes = collector.sizes();
        let all: usize = sizes.iter().sum();
        assert!(sizes.iter().all(|size| *size <= 100 << 10), "{sizes:?}");
        assert!(sizes.len() <= all / (99 << 10) + 1, "{sizes:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_refused_as_too_large_is_sent_again_in_halves() {
    for protocol in [Grpc, HttpProtobuf] {
        let collector = Collector::start(protocol);
        collector.always(Reply::AtMost(150 << 10));
        let config = config::Telemetry {
            batch_max: 3000,
            ..in_tens(protocol, collector.address)
        };
        let telemetry = start(&config);
        send(&telemetry, 0..3000);
        let metrics = telemetry.metrics();
        telemetry.flush(GRACE).await;
        assert_eq!(ids(&collector), (0..3000).map(span_id).collect());
        assert_eq!(collector.spans().len(), 3000);
        assert_eq!(dropped(&metrics), [0; 5]);
        assert_eq!(value(&metrics, "tracehop_spans_exported_total"), 3000);
    }
}

#[tokio::test]
async fn whoever_finds_small_requests_too_large_is_not_asked_for_each_span() {
    for protocol in [Grpc, HttpProtobuf] {
        let collector = Collector::start(protocol);
        collector.always(Reply::AtMost(0));
        let telemetry = start(&in_tens(protocol, collector.address));
        send(&telemetry, 0..10);
        let metrics = telemetry.metrics();
        telemetry.flush(GRACE).await;
        assert_eq!(collector.requests(), 1);
        assert_eq!(dropped(&metrics), [0, 10, 0, 0, 0]);
    }
}

#[tokio::test]
async fn a_hung_collector_costs_what_does_not_fit_into_the_queue() {
    for protocol in [Grpc, HttpProtobuf] {
        let collector = Collector::start(protocol);
        collector.always(Reply::Hang);
        let config = config::Telemetry {
            queue_max: 100,
            batch_max: 50,
            export_timeout: Duration::from_millis(300),
            ..to(protocol, collector.address)
        };
        let telemetry = start(&config);
        let metrics = telemetry.metrics();
        // More than fits is recorded all the same: nobody waits.
        send(&telemetry, 0..5000);
        until(&metrics, |metrics| {
            value(metrics, "tracehop_sends_total{") == 5000
        })
        .await;
        assert!(value(&metrics, "tracehop_spans_queued") <= 150);
        until(&metrics, |metrics| dropped(metrics)[3] > 0).await;

        collector.always(Reply::Accept);
        send(&telemetry, 5000..5010);
        telemetry.flush(GRACE).await;
        let [queue_full, failed, rejected, timeout, shutdown] = dropped(&metrics);
        let exported = value(&metrics, "tracehop_spans_exported_total");
        assert!(queue_full > 0 && exported > 0);
        assert_eq!((failed, rejected, shutdown), (0, 0, 0));
        assert_eq!(queue_full + timeout + exported, 5010);
        assert_eq!(collector.spans().len(), exported);
        assert_eq!(value(&metrics, "tracehop_spans_queued"), 0);
        assert_eq!(value(&metrics, "tracehop_sightings_dropped_total"), 0);
    }
}

#[tokio::test]
async fn a_collector_that_dies_and_comes_back_gets_what_comes_then() {
    for protocol in [Grpc, HttpProtobuf] {
        let collector = Collector::start(protocol);
        let address = collector.address;
        let telemetry = start(&in_tens(protocol, address));
        let metrics = telemetry.metrics();
        send(&telemetry, 0..10);
        until(&metrics, |metrics| {
            value(metrics, "tracehop_spans_exported_total") == 10
        })
        .await;

        drop(collector);
        send(&telemetry, 10..20);
        until(&metrics, |metrics| dropped(metrics) == [0, 10, 0, 0, 0]).await;

        let collector = restart(protocol, address).await;
        send(&telemetry, 20..30);
        telemetry.flush(GRACE).await;
        assert_eq!(ids(&collector), (20..30).map(span_id).collect());
        assert_eq!(value(&metrics, "tracehop_spans_exported_total"), 20);
    }
}

#[tokio::test]
async fn a_flush_ends_with_its_grace() {
    for protocol in [Grpc, HttpProtobuf] {
        let collector = Collector::start(protocol);
        collector.always(Reply::Hang);
        let telemetry = start(&in_tens(protocol, collector.address));
        send(&telemetry, 0..10);
        let metrics = telemetry.metrics();
        until(&metrics, |metrics| {
            value(metrics, "tracehop_spans_queued") == 10
        })
        .await;
        telemetry.flush(Duration::from_millis(200)).await;
        assert_eq!(dropped(&metrics), [0, 0, 0, 0, 10]);
        assert_eq!(value(&metrics, "tracehop_spans_queued"), 0);
    }
}

#[test]
fn sightings_that_find_no_room_are_dropped_and_counted() {
    let metrics = Arc::new(Metrics::default());
    let (sightings, queue) = Sightings::queue(4, Arc::clone(&metrics));
    let mut seen: Vec<_> = (0..10).map(|n| answered(n, Answer::Confirmed)).collect();
    sightings.record(&mut seen);
    assert!(seen.is_empty());
    assert_eq!(value(&metrics, "tracehop_sightings_dropped_total"), 6);
    assert!(queue.try_take(&mut seen));
    let kept: Vec<_> = (0..4).map(|n| answered(n, Answer::Confirmed)).collect();
    assert_eq!(seen, kept);
}

#[test]
fn an_endpoint_that_cannot_be_used_is_told_before_anything_starts() {
    let config = config::Telemetry {
        endpoint: Some("ftp://collector".to_owned()),
        ..config::Telemetry::default()
    };
    assert!(Telemetry::check(&config).is_err());
    let limits = config::Limits::default();
    let started = Telemetry::start(
        &config,
        config::Spans::default(),
        &limits,
        &config::Admin::default(),
        &config::Log::default(),
    );
    assert!(matches!(started, Err(StartError::Unusable(_))));
}

#[test]
fn the_environment_says_how_to_export() {
    for protocol in [Grpc, HttpProtobuf] {
        let papers = Papers::issue(&format!("{protocol:?}"));
        let collector = Collector::start_with_tls(protocol, &papers);
        let endpoint = format!("https://localhost:{}", collector.address.port());
        let path = |path: PathBuf| path.to_str().unwrap().to_owned();
        export_under(
            protocol,
            &endpoint,
            &[
                ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=wrong"),
                ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key=a%20key, x=y"),
                ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "api-key=metrics"),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", &path(papers.authority())),
                (
                    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
                    &path(papers.client_certificate()),
                ),
                ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &path(papers.client_key())),
                (
                    "OTEL_RESOURCE_ATTRIBUTES",
                    "service.version=front%20door,team=payments",
                ),
            ],
        );

        assert_eq!(ids(&collector), (0..10).map(span_id).collect());
        let received = collector.received().remove(0);
        assert_eq!(received.api_key.as_deref(), Some("a key"));
        assert_eq!(received.compression.as_deref(), Some("gzip"));
        let report = collector.reports().remove(0);
        assert_eq!(report.api_key.as_deref(), Some("metrics"));
        assert_eq!(report.compression.as_deref(), Some("gzip"));
        let resource = received.request.resource_spans[0].resource.as_ref();
        let attributes = format!("{:?}", resource.unwrap().attributes);
        assert!(attributes.contains("front door"), "{attributes}");
        assert!(attributes.contains("payments"), "{attributes}");
    }
}

#[test]
fn a_variable_that_is_empty_or_cannot_be_used_counts_as_not_set() {
    for protocol in [Grpc, HttpProtobuf] {
        for (headers, for_traces, api_key) in [
            ("api-key=key", "", Some("key")),
            ("api-key=key", "x=y", None),
            ("api-key=key", "x=y,api-key=%FF", None),
        ] {
            let collector = Collector::start(protocol);
            export_under(
                protocol,
                &format!("http://{}", collector.address),
                &[
                    ("OTEL_EXPORTER_OTLP_HEADERS", headers),
                    ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", for_traces),
                    ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
                    ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", ""),
                    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ""),
                    ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", ""),
                    ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", ""),
                ],
            );
            let received = collector.received().remove(0);
            assert_eq!(received.api_key.as_deref(), api_key);
            assert_eq!(received.compression.as_deref(), Some("gzip"));
        }
    }
}

#[tokio::test]
#[ignore = "started by export_under, with an environment"]
async fn export_from_a_process_of_its_own() {
    let protocol = match &*std::env::var("TEST_PROTOCOL").unwrap() {
        "Grpc" => Grpc,
        _ => HttpProtobuf,
    };
    let telemetry = start(&config::Telemetry {
        protocol,
        endpoint: Some(std::env::var("TEST_ENDPOINT").unwrap()),
        metrics: true,
        ..config::Telemetry::default()
    });
    send(&telemetry, 0..10);
    let metrics = telemetry.metrics();
    telemetry.flush(GRACE).await;
    assert_eq!(value(&metrics, "tracehop_spans_exported_total"), 10);
}

/// Exports ten spans from a process with these variables.
fn export_under(protocol: OtlpProtocol, endpoint: &str, variables: &[(&str, &str)]) {
    let process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "export_from_a_process_of_its_own"])
        .args(["--ignored", "--nocapture"])
        .env("TEST_PROTOCOL", format!("{protocol:?}"))
        .env("TEST_ENDPOINT", endpoint)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(process.status.success(), "{process:?}");
}

#[tokio::test]
async fn metrics_are_exported_once_in_a_while_and_at_the_end() {
    for protocol in [Grpc, HttpProtobuf] {
        let collector = Collector::start(protocol);
        let telemetry = start(&config::Telemetry {
            metrics: true,
            metrics_interval: Duration::from_millis(5),
            ..to(protocol, collector.address)
        });
        let started = Instant::now();
        while collector.reports().is_empty() {
            assert!(started.elapsed() < GRACE);
            tokio::time::sleep(PAUSE).await;
        }
        send(&telemetry, 0..3);
        telemetry.flush(GRACE).await;
        let reports = collector.reports();
        let last = reports.last().unwrap();
        let resource = &last.request.resource_metrics[0];
        // Who reports is who sends the spans.
        let spans = &collector.received()[0].request.resource_spans[0];
        let attributes = |resource: &Option<Resource>| -> BTreeSet<String> {
            let attributes = resource.iter().flat_map(|resource| &resource.attributes);
            attributes
                .map(|attribute| format!("{attribute:?}"))
                .collect()
        };
        assert_eq!(attributes(&resource.resource), attributes(&spans.resource));
        let scope = &resource.scope_metrics[0];
        assert_eq!(scope.scope.as_ref().unwrap().name, "tracehop");
        let sum = |name: &str| {
            let metric = scope.metrics.iter().find(|metric| metric.name == name);
            match metric?.data.as_ref()? {
                Data::Sum(sum) => sum.data_points[0].value,
                _ => None,
            }
        };
        // The last report tells of the last spans.
        for name in ["tracehop_messages", "tracehop_spans_exported"] {
            assert_eq!(sum(name), Some(Number::AsInt(3)), "{name}");
        }
    }
}

#[tokio::test]
async fn a_report_of_many_bytes_goes_out_in_several_requests() {
    for protocol in [Grpc, HttpProtobuf] {
        let collector = Collector::start(protocol);
        let telemetry = start(&config::Telemetry {
            metrics: true,
            batch_bytes_max: 4 << 10,
            ..to(protocol, collector.address)
        });
        telemetry.flush(GRACE).await;
        let reports = collector.reports();
        let sizes: Vec<usize> = reports
            .iter()
            .map(|report| report.request.encoded_len())
            .collect();
        assert!(sizes.iter().all(|size| *size <= 4 << 10), "{sizes:?}");
        let names: BTreeSet<_> = reports
            .iter()
            .flat_map(|report| &report.request.resource_metrics[0].scope_metrics[0].metrics)
            .map(|metric| metric.name.as_str())
            .collect();
        assert!(
            names.len() > 10 && names.contains("tracehop_spans_exported"),
            "{names:?}"
        );
    }
}

fn start(config: &config::Telemetry) -> Telemetry {
    start_with(config, config::Spans::default())
}

fn start_with(config: &config::Telemetry, spans: config::Spans) -> Telemetry {
    let limits = config::Limits {
        // The hops of these tests were sent long ago.
        open_hop_age_max: Duration::MAX,
        delivery_age_max: Duration::MAX,
        outcome_wait_max: Duration::MAX,
        ..config::Limits::default()
    };
    let (admin, log) = (config::Admin::default(), config::Log::default());
    Telemetry::start(config, spans, &limits, &admin, &log).unwrap()
}

/// Exports to `address`, without making a test wait for a batch to fill.
fn to(protocol: OtlpProtocol, address: SocketAddr) -> config::Telemetry {
    config::Telemetry {
        protocol,
        endpoint: Some(format!("http://{address}")),
        schedule_delay: Duration::from_millis(50),
        ..config::Telemetry::default()
    }
}

/// The same in batches of ten, and of less only at the end; after a second failure in a row
/// the next batch goes out at the end too.
fn in_tens(protocol: OtlpProtocol, address: SocketAddr) -> config::Telemetry {
    config::Telemetry {
        batch_max: 10,
        schedule_delay: Duration::from_secs(3600),
        ..to(protocol, address)
    }
}

/// A collector on a port that another one had just now.
async fn restart(protocol: OtlpProtocol, address: SocketAddr) -> Collector {
    // Its listener goes with its runtime, in its own time.
    while TcpListener::bind(address).is_err() {
        tokio::time::sleep(PAUSE).await;
    }
    Collector::start_at(protocol, address, None)
}

fn send(telemetry: &Telemetry, numbers: std::ops::Range<u64>) {
    let sightings = telemetry.sightings();
    for number in numbers {
        sightings.record(&mut vec![
            Sighting::Published(publication(number).into()),
            answered(number, Answer::Confirmed),
        ]);
    }
}

fn attribute<'a>(span: &'a ProtoSpan, key: &str) -> Option<&'a Value> {
    let mut attributes = span.attributes.iter();
    let attribute = attributes.find(|attribute| attribute.key == key)?;
    attribute.value.as_ref()?.value.as_ref()
}

fn text(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

/// Asserts that users can read what each attribute and each event means.
fn assert_documented(span: &ProtoSpan) {
    let documentation = include_str!("../deploy/README.md");
    let keys = span.attributes.iter().map(|attribute| &attribute.key);
    for key in keys.chain(span.events.iter().map(|event| &event.name)) {
        assert!(documentation.contains(&format!("`{key}`")), "{key}");
    }
}

fn span_id(number: u64) -> Vec<u8> {
    context(number).span_id.to_bytes().to_vec()
}

fn ids(collector: &Collector) -> BTreeSet<Vec<u8>> {
    let spans = collector.spans().into_iter();
    spans.map(|span| span.span_id).collect()
}

/// The sum of the samples whose name, or name and labels, begin so.
fn value(metrics: &Metrics, series: &str) -> usize {
    let text = metrics.encode();
    let lines = text.lines().filter(|line| line.starts_with(series));
    let values = lines.map(|line| line.rsplit(' ').next().unwrap());
    values.map(|value| value.parse::<usize>().unwrap()).sum()
}

fn dropped(metrics: &Metrics) -> [usize; 5] {
    ["queue_full", "failed", "rejected", "timeout", "shutdown"].map(|reason| {
        let series = format!("tracehop_spans_dropped_total{{reason=\"{reason}\"}}");
        value(metrics, &series)
    })
}

/// Waits for a fact; a minute without it is a failure.
async fn until(metrics: &Metrics, fact: impl Fn(&Metrics) -> bool) {
    let started = Instant::now();
    while !fact(metrics) {
        assert!(started.elapsed() < GRACE, "{}", metrics.encode());
        tokio::time::sleep(PAUSE).await;
    }
}

const GRACE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);
const EVERY_SPAN: config::Spans = config::Spans {
    send: true,
    receive: true,
    process: true,
};
