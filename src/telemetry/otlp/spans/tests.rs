//! What is encoded here is what OpenTelemetry's own exporter would send of the same spans.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry::trace;
use opentelemetry::trace::SpanContext;
use opentelemetry::trace::Status;
use opentelemetry::trace::TraceState;
use opentelemetry_http::HttpClient;
use opentelemetry_http::HttpError;
use opentelemetry_http::Request;
use opentelemetry_http::Response;
use opentelemetry_otlp::Protocol;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_otlp::WithHttpConfig;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span as ProtoSpan;
use opentelemetry_proto::tonic::trace::v1::Status as ProtoStatus;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanEvents;
use opentelemetry_sdk::trace::SpanExporter as _;
use opentelemetry_sdk::trace::SpanLinks;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::telemetry::otlp::resource::attribute;
use crate::telemetry::otlp::resource::scope;
use crate::trace::Event;
use crate::trace::SpanId;
use crate::trace::Timestamp;
use crate::trace::TraceFlags;
use crate::trace::TraceId;
use crate::trace::w3c::parse_traceparent;

#[test]
fn every_field_arrives() {
    let context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03";
    let parent = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
    let span = Span {
        context: parse_traceparent(context).unwrap(),
        parent: Some(parse_traceparent(parent).unwrap().span_id),
        tracestate: "tracehop=b7ad6b7169203331-19a00000000,ot=rv:1,vendor=x y",
        kind: SpanKind::Producer,
        name: ["send ", "celery"],
        start: Timestamp::from_nanos(1_763_800_000_123_456_789),
        end: Timestamp::from_nanos(1_763_800_000_123_999_999),
        attributes: Vec::new(),
        events: Vec::new(),
        link: None,
        error: Some("OOM command not allowed"),
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
    assert_eq!(
        decoded(&[span]).resource_spans[0].scope_spans[0].spans,
        [expected]
    );
}

proptest! {
    #[test]
    fn spans_arrive_as_those_of_the_sdk_would(spans in vec(spans(), 0..4)) {
        let spans: Vec<Span<'_>> = spans.iter().map(Owned::span).collect();
        let resource = opentelemetry_sdk::Resource::builder_empty()
            .with_attribute(KeyValue::new("service.name", "tracehop"))
            .build();
        let batch = spans.iter().map(sdk_span).collect();
        let mut theirs = sent_by_sdk(&resource, batch).resource_spans;
        if spans.is_empty() {
            theirs[0].scope_spans = vec![ScopeSpans { scope: Some(scope()), ..ScopeSpans::default() }];
        }
        // The SDK reads it and writes it anew, and drops what it does not like.
        for (theirs, ours) in theirs[0].scope_spans[0].spans.iter_mut().zip(&spans) {
            theirs.trace_state = ours.tracestate.to_owned();
        }
        prop_assert_eq!(decoded(&spans).resource_spans, theirs);
    }
}

/// What OpenTelemetry's exporter sends.
fn sent_by_sdk(
    resource: &opentelemetry_sdk::Resource,
    batch: Vec<SpanData>,
) -> ExportTraceServiceRequest {
    let wire = Wire::default();
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(wire.clone())
        .build()
        .unwrap();
    exporter.set_resource(resource);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(exporter.export(batch)).unwrap();
    let sent = wire.0.lock().unwrap().take().unwrap();
    ExportTraceServiceRequest::decode(sent).unwrap()
}

/// Keeps what was sent last.
#[derive(Clone, Debug, Default)]
struct Wire(Arc<Mutex<Option<Bytes>>>);

#[async_trait]
impl HttpClient for Wire {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        *self.0.lock().unwrap() = Some(request.into_body());
        Ok(Response::new(Bytes::new()))
    }
}

/// By one encoder, into one request.
fn decoded(spans: &[Span<'_>]) -> ExportTraceServiceRequest {
    let resource = Resource {
        attributes: vec![attribute("service.name", "tracehop")],
        ..Resource::default()
    };
    let mut encoder = Encoder::default();
    let spans: Vec<_> = spans.iter().map(|span| encoder.encode(span)).collect();
    let request = Requests::new(resource, scope()).of(&spans);
    ExportTraceServiceRequest::decode(request).unwrap()
}

/// What a span is made of.
#[derive(Clone, Debug)]
struct Owned {
    context: TraceContext,
    parent: Option<SpanId>,
    kind: SpanKind,
    texts: [String; 4],
    times: [Timestamp; 2],
    attributes: Vec<(&'static str, OwnedValue)>,
    events: Vec<Event>,
    link: Option<TraceContext>,
    is_error: bool,
}

#[derive(Clone, Debug)]
enum OwnedValue {
    Text(String),
    Integer(i64),
    Truth(bool),
}

impl Owned {
    fn span(&self) -> Span<'_> {
        let [tracestate, verb, object, error] = &self.texts;
        let [start, end] = self.times;
        let attributes = self.attributes.iter().map(|(key, value)| {
            let value = match value {
                OwnedValue::Text(text) => Value::Text(text),
                OwnedValue::Integer(number) => Value::Integer(*number),
                OwnedValue::Truth(truth) => Value::Truth(*truth),
            };
            (*key, value)
        });
        Span {
            context: self.context,
            parent: self.parent,
            tracestate,
            kind: self.kind,
            name: [verb, object],
            start,
            end,
            attributes: attributes.collect(),
            events: self.events.clone(),
            link: self.link,
            error: self.is_error.then_some(&**error),
        }
    }
}

fn spans() -> impl Strategy<Value = Owned> {
    let texts = [texts(), texts(), texts(), texts()];
    let attributes = vec((select(&KEYS[..]), values()), 0..32);
    let events = (select(&KEYS[..]), times()).prop_map(|(name, at)| Event { name, at });
    let about = (contexts(), option::of(span_ids()), select(&KINDS[..]));
    let rest = (vec(events, 0..3), option::of(contexts()), any::<bool>());
    (about, texts, [times(), times()], attributes, rest).prop_map(
        |((context, parent, kind), texts, times, attributes, (events, link, is_error))| Owned {
            context,
            parent,
            kind,
            texts,
            times,
            attributes,
            events,
            link,
            is_error,
        },
    )
}

fn contexts() -> impl Strategy<Value = TraceContext> {
    let trace_ids = any::<[u8; 16]>().prop_filter_map("no zeros", TraceId::new);
    (trace_ids, span_ids(), any::<u8>()).prop_map(|(trace_id, span_id, flags)| TraceContext {
        trace_id,
        span_id,
        flags: TraceFlags::new(flags),
    })
}

fn span_ids() -> impl Strategy<Value = SpanId> {
    any::<[u8; 8]>().prop_filter_map("no zeros", SpanId::new)
}

fn times() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_nanos)
}

fn values() -> impl Strategy<Value = OwnedValue> {
    prop_oneof![
        texts().prop_map(OwnedValue::Text),
        any::<i64>().prop_map(OwnedValue::Integer),
        (-1_i64..2).prop_map(OwnedValue::Integer),
        any::<bool>().prop_map(OwnedValue::Truth),
    ]
}

/// Of any length that takes another number of bytes to tell.
fn texts() -> impl Strategy<Value = String> {
    let long = (select(&["a", "\u{e9}"][..]), 100_usize..20_000);
    prop_oneof![
        4 => any::<String>(),
        1 => long.prop_map(|(character, count)| character.repeat(count)),
    ]
}

const KINDS: [SpanKind; 3] = [SpanKind::Client, SpanKind::Producer, SpanKind::Consumer];
const KEYS: [&str; 4] = ["a", "tracehop.answer", "messaging.system", "due"];

/// The span as one of the SDK.
fn sdk_span(span: &Span<'_>) -> SpanData {
    let (mut events, mut links) = (SpanEvents::default(), SpanLinks::default());
    let theirs = |event: &Event| trace::Event::new(event.name, system_time(event.at), vec![], 0);
    events.events.extend(span.events.iter().map(theirs));
    let remote = |context: &TraceContext| trace::Link::new(sdk_context(context, true), vec![], 0);
    links.links.extend(span.link.iter().map(remote));
    SpanData {
        span_context: sdk_context(&span.context, false),
        parent_span_id: span.parent.map_or(trace::SpanId::INVALID, sdk_span_id),
        parent_span_is_remote: span.parent.is_some(),
        span_kind: match span.kind {
            SpanKind::Client => trace::SpanKind::Client,
            SpanKind::Producer => trace::SpanKind::Producer,
            SpanKind::Consumer => trace::SpanKind::Consumer,
        },
        name: span.name.concat().into(),
        start_time: system_time(span.start),
        end_time: system_time(span.end),
        attributes: span
            .attributes
            .iter()
            .map(|(key, value)| KeyValue::new(*key, sdk_value(*value)))
            .collect(),
        dropped_attributes_count: 0,
        events,
        links,
        status: match span.error {
            Some(words) => Status::error(words.to_owned()),
            None => Status::Unset,
        },
        instrumentation_scope: opentelemetry::InstrumentationScope::builder("tracehop")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

fn sdk_context(context: &TraceContext, is_remote: bool) -> SpanContext {
    SpanContext::new(
        trace::TraceId::from_bytes(context.trace_id.to_bytes()),
        sdk_span_id(context.span_id),
        trace::TraceFlags::new(context.flags.bits()),
        is_remote,
        TraceState::NONE,
    )
}

fn sdk_span_id(id: SpanId) -> trace::SpanId {
    trace::SpanId::from_bytes(id.to_bytes())
}

fn sdk_value(value: Value<'_>) -> opentelemetry::Value {
    match value {
        Value::Text(text) => text.to_owned().into(),
        Value::Integer(number) => number.into(),
        Value::Truth(truth) => truth.into(),
    }
}

fn system_time(moment: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(moment.as_nanos())
}
