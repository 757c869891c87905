//! What is told to the outside: spans over OTLP, and metrics.
//!
//! Traffic never waits for any of it. Every queue is bounded; what finds it full is dropped
//! and counted.

mod metrics;
mod pipeline;

pub use metrics::Metrics;
pub use metrics::RouteMetrics;
pub use pipeline::Sightings;
