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
use crate::trace::Span;
use crate::trace::SpanId;
use crate::trace::SpanKind;
use crate::trace::Timestamp;
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
    let context = &span.context;
    SpanData {
        span_context: SpanContext::new(
            trace::TraceId::from_bytes(context.trace_id.to_bytes()),
            sdk_span_id(context.span_id),
            trace::TraceFlags::new(context.flags.bits()),
            false,
            tracestate,
        ),
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
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: span.error.map_or(Status::Unset, Status::error),
        instrumentation_scope: scope.clone(),
    }
}

fn sdk_span_id(id: SpanId) -> trace::SpanId {
    trace::SpanId::from_bytes(id.to_bytes())
}

fn sdk_value(value: Value) -> opentelemetry::Value {
    match value {
        Value::Text(text) => text.into(),
        Value::Integer(number) => number.into(),
    }
}

fn system_time(moment: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(moment.as_nanos())
}
