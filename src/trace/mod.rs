//! Trace context: its identifiers, its spellings on the wire, and the spans it ends in.
//!
//! Nothing here knows Celery, a broker or a socket. Time and randomness are handed in, so
//! every function gives the same answer for the same input.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]

pub mod b3;
pub mod datadog;
mod derive;
pub mod elastic;
mod foreign;
mod ids;
pub mod jaeger;
mod sampler;
pub mod sentry;
mod span;
mod text;
pub mod w3c;
pub mod xray;

pub use derive::MessageDigest;
pub use derive::derived_ids;
pub use derive::derived_span_id;
pub use derive::derived_trace_id;
pub use derive::key_of;
pub use derive::key_within;
pub use foreign::ForeignContext;
pub use ids::IdSource;
pub use ids::SpanId;
pub use ids::TraceFlags;
pub use ids::TraceId;
pub use sampler::Ratio;
pub use sampler::Sampler;
pub use sampler::UnknownSampler;
pub use span::Event;
pub use span::Span;
pub use span::SpanKind;
pub use span::Timestamp;
pub use span::Value;

/// A valid trace context: what a `traceparent` says.
///
/// Only parsing, deriving and drawing make one, so neither id is ever zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub flags: TraceFlags,
}
