//! Our spans as the SDK wants them, and the resource that they come from.

use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use opentelemetry::InstrumentationScope;
use opentelemetry::KeyValue;
use opentelemetry::trace;
use opentelemetry::trace::SpanContext;
use opentelemetry::trace::Status;
use opentelemetry::trace::TraceState;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::ResourceDetector;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanEvents;
use opentelemetry_sdk::trace::SpanLinks;

use crate::telemetry::otlp::settings::Settings;
use crate::trace::Event;
use crate::trace::Span;
use crate::trace::SpanId;
use crate::trace::SpanKind;
use crate::trace::Timestamp;
use crate::trace::TraceContext;
use crate::trace::Value;

/// What all our spans say they were made by.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("tracehop")
        .with_version(env!("CARGO_PKG_VERSION"))
        .build()
}

/// Who we are. `instance` tells this process from its replicas; what the environment says
/// goes before what we know ourselves.
pub(super) fn resource(settings: &Settings, instance: String) -> Resource {
    let text = |(key, value): &(String, String)| KeyValue::new(key.clone(), value.clone());
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance),
        ])
        .with_detector(Box::new(TelemetryResourceDetector) as Box<dyn ResourceDetector>)
        .with_attributes(settings.resource_attributes.iter().map(text))
        .with_attribute(KeyValue::new("service.name", settings.service_name.clone()))
        .build()
}

pub(super) fn span_data(span: Span, scope: &InstrumentationScope) -> SpanData {
    // A tracestate that the SDK finds fault with is no reason to lose the span.
    let tracestate: TraceState = span.tracestate.parse().unwrap_or_default();
    SpanData {
        span_context: sdk_context(&span.context, false, tracestate),
        parent_span_id: span.parent.map_or(trace::SpanId::INVALID, sdk_span_id),
        parent_span_is_remote: span.parent.is_some(),
        span_kind: match span.kind {
            SpanKind::Client => trace::SpanKind::Client,
            SpanKind::Producer => trace::SpanKind::Producer,
            SpanKind::Consumer => trace::SpanKind::Consumer,
        },
        name: span.name.into(),
        start_time: system_time(span.start),
        end_time: system_time(span.end),
        attributes: span
            .attributes
            .into_iter()
            .map(|(key, value)| KeyValue::new(key, sdk_value(value)))
            .collect(),
        dropped_attributes_count: 0,
        events: events(span.events),
        links: links(&span.links),
        status: span.error.map_or(Status::Unset, Status::error),
        instrumentation_scope: scope.clone(),
    }
}

fn events(events: Vec<Event>) -> SpanEvents {
    let mut ours = SpanEvents::default();
    let events = events.into_iter();
    ours.events.extend(
        events.map(|event| trace::Event::new(event.name, system_time(event.at), vec![], 0)),
    );
    ours
}

fn links(contexts: &[TraceContext]) -> SpanLinks {
    let mut ours = SpanLinks::default();
    let remote = |context: &TraceContext| sdk_context(context, true, TraceState::NONE);
    let link = |context| trace::Link::new(remote(context), vec![], 0);
    ours.links.extend(contexts.iter().map(link));
    ours
}

fn sdk_context(context: &TraceContext, is_remote: bool, tracestate: TraceState) -> SpanContext {
    SpanContext::new(
        trace::TraceId::from_bytes(context.trace_id.to_bytes()),
        sdk_span_id(context.span_id),
        trace::TraceFlags::new(context.flags.bits()),
        is_remote,
        tracestate,
    )
}

fn sdk_span_id(id: SpanId) -> trace::SpanId {
    trace::SpanId::from_bytes(id.to_bytes())
}

fn sdk_value(value: Value) -> opentelemetry::Value {
    match value {
        Value::Text(text) => text.into(),
        Value::Shared(text) => opentelemetry::Value::String(text.into()),
        Value::Integer(number) => number.into(),
        Value::Truth(truth) => truth.into(),
    }
}

fn system_time(moment: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(moment.as_nanos())
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::AnyValue;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::trace::v1::Span as ProtoSpan;
    use opentelemetry_proto::tonic::trace::v1::Status as ProtoStatus;
    use opentelemetry_proto::tonic::trace::v1::span::Event as ProtoEvent;
    use opentelemetry_proto::tonic::trace::v1::span::Link as ProtoLink;
    use opentelemetry_proto::tonic::trace::v1::span::SpanKind as ProtoKind;
    use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

    use super::*;
    use crate::config;
    use crate::telemetry::otlp::settings::Signal;
    use crate::trace::w3c::parse_traceparent;

    fn span() -> Span {
        let context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03";
        let parent = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
        Span {
            context: parse_traceparent(context).unwrap(),
            parent: Some(parse_traceparent(parent).unwrap().span_id),
            tracestate: "tracehop=b7ad6b7169203331-19a00000000,ot=rv:1,vendor=x y".to_owned(),
            kind: SpanKind::Producer,
            name: "send celery".to_owned(),
            start: Timestamp::from_nanos(1_763_800_000_123_456_789),
            end: Timestamp::from_nanos(1_763_800_000_123_999_999),
            attributes: vec![
                ("messaging.system", "some-broker".into()),
                ("celery.retries", 3.into()),
                ("tracehop.redelivered", true.into()),
            ],
            events: Vec::new(),
            links: Vec::new(),
            error: Some("OOM command not allowed".to_owned()),
        }
    }

    #[test]
    fn every_field_arrives() {
        let value = |value| Some(AnyValue { value: Some(value) });
        let proto = ProtoSpan::from(span_data(span(), &scope()));
        let attributes: Vec<_> = proto
            .attributes
            .iter()
            .map(|attribute| (attribute.key.as_str(), attribute.value.clone()))
            .collect();
        assert_eq!(
            attributes,
            [
                (
                    "messaging.system",
                    value(Any::StringValue("some-broker".to_owned()))
                ),
                ("celery.retries", value(Any::IntValue(3))),
                ("tracehop.redelivered", value(Any::BoolValue(true))),
            ]
        );
        let rest = ProtoSpan {
            attributes: Vec::new(),
            ..proto
        };
        let expected = ProtoSpan {
            trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128
                .to_be_bytes()
                .to_vec(),
            span_id: 0xb7ad_6b71_6920_3331_u64.to_be_bytes().to_vec(),
            trace_state: "tracehop=b7ad6b7169203331-19a00000000,ot=rv:1,vendor=x y".to_owned(),
            parent_span_id: 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes().to_vec(),
            // Sampled and random, and a parent that is known to be remote.
            flags: 0x303,
            name: "send celery".to_owned(),
            kind: ProtoKind::Producer.into(),
            start_time_unix_nano: 1_763_800_000_123_456_789,
            end_time_unix_nano: 1_763_800_000_123_999_999,
            status: Some(ProtoStatus {
                message: "OOM command not allowed".to_owned(),
                code: StatusCode::Error.into(),
            }),
            ..ProtoSpan::default()
        };
        assert_eq!(rest, expected);
    }

    #[test]
    fn events_and_links_arrive() {
        let event = |name, at| Event {
            name,
            at: Timestamp::from_nanos(at),
        };
        let other = "00-80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-01";
        let span = Span {
            kind: SpanKind::Consumer,
            events: vec![event("started", 5), event("acknowledged", 7)],
            links: vec![parse_traceparent(other).unwrap()],
            ..span()
        };
        let proto = ProtoSpan::from(span_data(span, &scope()));
        assert_eq!(proto.kind(), ProtoKind::Consumer);
        let arrived = |name: &str, time_unix_nano| ProtoEvent {
            name: name.to_owned(),
            time_unix_nano,
            ..ProtoEvent::default()
        };
        assert_eq!(
            proto.events,
            [arrived("started", 5), arrived("acknowledged", 7)]
        );
        let link = ProtoLink {
            trace_id: 0x80f1_98ee_5634_3ba8_64fe_8b2a_57d3_eff7_u128
                .to_be_bytes()
                .to_vec(),
            span_id: 0xe457_b5a2_e4d8_6bd1_u64.to_be_bytes().to_vec(),
            // Sampled, and known to be remote.
            flags: 0x301,
            ..ProtoLink::default()
        };
        assert_eq!(proto.links, [link]);
    }

    #[test]
    fn a_root_without_a_fault_has_neither_parent_nor_status() {
        let span = Span {
            parent: None,
            error: None,
            tracestate: String::new(),
            ..span()
        };
        let proto = ProtoSpan::from(span_data(span, &scope()));
        assert!(proto.parent_span_id.is_empty());
        assert_eq!(proto.flags, 0x103);
        assert_eq!(proto.trace_state, "");
        assert_eq!(proto.status, Some(ProtoStatus::default()));
    }

    #[test]
    fn a_tracestate_that_the_sdk_refuses_does_not_cost_the_span() {
        let span = Span {
            tracestate: "tenant@far-too-long-a-system=1".to_owned(),
            ..span()
        };
        let proto = ProtoSpan::from(span_data(span, &scope()));
        assert_eq!(proto.name, "send celery");
        assert_eq!(proto.trace_state, "");
    }

    #[test]
    fn the_environment_knows_better_who_we_are() {
        let told = |attributes: &str| {
            let settings = Settings::read(Signal::Spans, &config::Telemetry::default(), |name| {
                (name == "OTEL_RESOURCE_ATTRIBUTES").then(|| attributes.to_owned())
            });
            let resource = resource(&settings.unwrap(), "instance".to_owned());
            ["service.name", "service.instance.id", "team"]
                .map(|key| Some(resource.get(&key.into())?.to_string()))
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(told(""), [text("tracehop"), text("instance"), None]);
        assert_eq!(
            told("service.name=door,service.instance.id=pod-1,team=a%2Cb"),
            // What of the name's sources counts is settled by the configuration.
            [text("tracehop"), text("pod-1"), text("a,b")]
        );
    }
}
