//! Spans as OTLP writes them (`opentelemetry/proto/trace/v1/trace.proto`).
//!
//! Each is encoded once, when it is queued; a request is what all have in common, and its
//! spans one after the other.

use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use opentelemetry_proto::tonic::trace::v1::SpanFlags;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind as ProtoKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;
use prost::encoding::WireType;
use prost::encoding::encode_key;
use prost::encoding::encode_varint;
use prost::encoding::encoded_len_varint;

use crate::trace::Span;
use crate::trace::SpanKind;
use crate::trace::TraceContext;
use crate::trace::Value;

/// A span in the list of a `ScopeSpans`, with its key and its length.
pub(super) type EncodedSpan = Box<[u8]>;

/// Encodes spans.
#[derive(Debug, Default)]
pub struct Encoder {
    fields: Fields,
}

impl Encoder {
    /// Allocates once, what the span takes.
    pub fn encode(&mut self, span: &Span<'_>) -> EncodedSpan {
        let fields = &mut self.fields;
        fields.span(span);
        let mut encoded = Vec::with_capacity(nested_len(fields.0.len()));
        begin_nested(scope_spans::SPANS, fields.0.len(), &mut encoded);
        encoded.extend_from_slice(&fields.0);
        fields.0.clear();
        fields.0.shrink_to(KEPT_BYTES_MAX);
        encoded.into_boxed_slice()
    }
}

/// Makes requests (`ExportTraceServiceRequest`) of spans.
#[derive(Debug)]
pub(super) struct Requests {
    /// The other fields of `ResourceSpans`.
    resource: Vec<u8>,
    /// The other fields of `ScopeSpans`.
    scope: Vec<u8>,
}

impl Requests {
    pub(super) fn new(resource: Resource, scope: InstrumentationScope) -> Self {
        let resource = ResourceSpans {
            resource: Some(resource),
            ..ResourceSpans::default()
        };
        let scope = ScopeSpans {
            scope: Some(scope),
            ..ScopeSpans::default()
        };
        Self {
            resource: resource.encode_to_vec(),
            scope: scope.encode_to_vec(),
        }
    }

    /// How many of `spans`, from the first on, fit into a request of `bytes_max`; one in any
    /// case.
    pub(super) fn fitting(&self, spans: &[EncodedSpan], bytes_max: usize) -> usize {
        let mut spans_len = 0;
        let fitting = spans.iter().take_while(|span| {
            spans_len += span.len();
            self.len(spans_len) <= bytes_max
        });
        fitting.count().max(1)
    }

    /// The length of a request with spans of `spans_len`.
    fn len(&self, spans_len: usize) -> usize {
        nested_len(self.resource.len() + nested_len(self.scope.len() + spans_len))
    }

    pub(super) fn of(&self, spans: &[EncodedSpan]) -> Bytes {
        let spans_len: usize = spans.iter().map(|span| span.len()).sum();
        let scope_len = self.scope.len() + spans_len;
        let resource_len = self.resource.len() + nested_len(scope_len);
        let mut request = Vec::with_capacity(self.len(spans_len));
        begin_nested(request::RESOURCE_SPANS, resource_len, &mut request);
        request.extend_from_slice(&self.resource);
        begin_nested(resource_spans::SCOPE_SPANS, scope_len, &mut request);
        request.extend_from_slice(&self.scope);
        for span in spans {
            request.extend_from_slice(span);
        }
        request.into()
    }
}

/// The fields of a message, as far as they are written.
#[derive(Debug, Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn span(&mut self, span: &Span<'_>) {
        let context = &span.context;
        self.bytes(span::TRACE_ID, &context.trace_id.to_bytes());
        self.bytes(span::SPAN_ID, &context.span_id.to_bytes());
        if !span.tracestate.is_empty() {
            self.bytes(span::TRACE_STATE, span.tracestate.as_bytes());
        }
        if let Some(parent) = span.parent {
            self.bytes(span::PARENT_SPAN_ID, &parent.to_bytes());
        }
        self.fixed32(span::FLAGS, flags(context, span.parent.is_some()));
        self.nested(span::NAME, |name| {
            for part in span.name {
                name.0.extend_from_slice(part.as_bytes());
            }
        });
        let kind = match span.kind {
            SpanKind::Client => ProtoKind::Client,
            SpanKind::Producer => ProtoKind::Producer,
            SpanKind::Consumer => ProtoKind::Consumer,
        };
        self.varint(span::KIND, kind as u64);
        self.fixed64(span::START_TIME, span.start.as_nanos());
        self.fixed64(span::END_TIME, span.end.as_nanos());
        for (key, value) in &span.attributes {
            self.nested(span::ATTRIBUTES, |attribute| {
                attribute.bytes(key_value::KEY, key.as_bytes());
                attribute.nested(key_value::VALUE, |any| any.value(*value));
            });
        }
        for event in &span.events {
            self.nested(span::EVENTS, |fields| {
                fields.fixed64(event::TIME, event.at.as_nanos());
                fields.bytes(event::NAME, event.name.as_bytes());
            });
        }
        if let Some(other) = &span.link {
            self.nested(span::LINKS, |fields| {
                fields.bytes(link::TRACE_ID, &other.trace_id.to_bytes());
                fields.bytes(link::SPAN_ID, &other.span_id.to_bytes());
                fields.fixed32(link::FLAGS, flags(other, true));
            });
        }
        self.nested(span::STATUS, |fields| {
            if let Some(words) = span.error {
                fields.bytes(status::MESSAGE, words.as_bytes());
                fields.varint(status::CODE, StatusCode::Error as u64);
            }
        });
    }

    fn value(&mut self, value: Value<'_>) {
        match value {
            Value::Text(text) => self.bytes(any_value::STRING, text.as_bytes()),
            Value::Truth(truth) => self.varint(any_value::BOOL, truth.into()),
            Value::Integer(number) => self.varint(any_value::INT, number.cast_unsigned()),
        }
    }

    fn varint(&mut self, field: u32, number: u64) {
        encode_key(field, WireType::Varint, &mut self.0);
        encode_varint(number, &mut self.0);
    }

    fn fixed32(&mut self, field: u32, number: u32) {
        encode_key(field, WireType::ThirtyTwoBit, &mut self.0);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn fixed64(&mut self, field: u32, number: u64) {
        encode_key(field, WireType::SixtyFourBit, &mut self.0);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        begin_nested(field, bytes.len(), &mut self.0);
        self.0.extend_from_slice(bytes);
    }

    /// What `write` writes, with its length before it.
    fn nested(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        begin_nested(field, 0, &mut self.0);
        let start = self.0.len();
        write(self);
        let len = self.0.len() - start;
        // Almost all are so short that their length takes the one byte that is there.
        match u8::try_from(len) {
            Ok(byte @ ..0x80) => self.0[start - 1] = byte,
            _ => {
                let mut length = [0; VARINT_BYTES_MAX];
                let mut rest = &mut length[..];
                encode_varint(len as u64, &mut rest);
                let written = VARINT_BYTES_MAX - rest.len();
                self.0
                    .splice(start - 1..start, length.into_iter().take(written));
            }
        }
    }
}

/// The flags of a context that came, if `is_remote`, from elsewhere.
fn flags(context: &TraceContext, is_remote: bool) -> u32 {
    let mut flags = u32::from(context.flags.bits()) | SpanFlags::ContextHasIsRemoteMask as u32;
    if is_remote {
        flags |= SpanFlags::ContextIsRemoteMask as u32;
    }
    flags
}

fn begin_nested(field: u32, len: usize, out: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

/// The length of a nested message whose fields take `len`, with its key, which takes one byte.
fn nested_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

const VARINT_BYTES_MAX: usize = 10;
/// The room that is kept for the next span.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// The numbers of the fields, message by message.
mod request {
    pub(super) const RESOURCE_SPANS: u32 = 1;
}

mod resource_spans {
    pub(super) const SCOPE_SPANS: u32 = 2;
}

mod scope_spans {
    pub(super) const SPANS: u32 = 2;
}

mod span {
    pub(super) const TRACE_ID: u32 = 1;
    pub(super) const SPAN_ID: u32 = 2;
    pub(super) const TRACE_STATE: u32 = 3;
    pub(super) const PARENT_SPAN_ID: u32 = 4;
    pub(super) const NAME: u32 = 5;
    pub(super) const KIND: u32 = 6;
    pub(super) const START_TIME: u32 = 7;
    pub(super) const END_TIME: u32 = 8;
    pub(super) const ATTRIBUTES: u32 = 9;
    pub(super) const EVENTS: u32 = 11;
    pub(super) const LINKS: u32 = 13;
    pub(super) const STATUS: u32 = 15;
    pub(super) const FLAGS: u32 = 16;
}

mod key_value {
    pub(super) const KEY: u32 = 1;
    pub(super) const VALUE: u32 = 2;
}

mod any_value {
    pub(super) const STRING: u32 = 1;
    pub(super) const BOOL: u32 = 2;
    pub(super) const INT: u32 = 3;
}

mod event {
    pub(super) const TIME: u32 = 1;
    pub(super) const NAME: u32 = 2;
}

mod link {
    pub(super) const TRACE_ID: u32 = 1;
    pub(super) const SPAN_ID: u32 = 2;
    pub(super) const FLAGS: u32 = 6;
}

mod status {
    pub(super) const MESSAGE: u32 = 2;
    pub(super) const CODE: u32 = 3;
}

#[cfg(test)]
mod tests;
