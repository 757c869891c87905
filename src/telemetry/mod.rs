//! What is told to the outside: spans over OTLP, and metrics.
//!
//! Traffic never waits for any of it. Every queue is bounded; what finds it full is dropped
//! and counted.

mod books;
#[cfg(test)]
mod captured;
mod clocks;
mod finding;
pub mod flow;
mod health;
mod labels;
pub mod live;
mod log;
mod metrics;
mod millis;
mod names;
mod otlp;
mod pipeline;
mod process;
mod quality;
pub mod recent;
mod repeats;
mod sightings;
mod threads;
mod watch;

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Builder;

pub use books::Books;
pub use clocks::ClockSkew;
pub use health::Count;
pub use health::Failure;
pub use health::Health;
pub use metrics::Metrics;
pub use metrics::RouteCounts;
pub use metrics::RouteMetrics;
pub use metrics::SpanCounts;
pub use otlp::Encoder;
pub use otlp::Probe;
pub use otlp::StartError;
pub use otlp::Unusable;
pub use pipeline::now;
pub use quality::QualityReport;
pub use quality::Report;
pub use repeats::Repeats;
pub use sightings::Queue;
pub use sightings::Sightings;
pub use threads::Threads;
pub use watch::Watch;

pub use crate::trace::Timestamp;

use crate::config;
use crate::telemetry::otlp::Exporter;
use crate::telemetry::otlp::Reports;
use crate::telemetry::otlp::Settings;
use crate::telemetry::otlp::Signal;
use crate::telemetry::pipeline::Pipeline;
use crate::trace::IdSource;
use crate::trace::Span;

/// Everything between a session's sightings and the outside.
///
/// It has threads of its own, so that a batch that is encoded and compressed never holds
/// up a session.
#[derive(Debug)]
pub struct Telemetry {
    sightings: Sightings,
    metrics: Arc<Metrics>,
    quality: QualityReport,
    watch: Watch,
    health: Health,
    destination: Option<Destination>,
    stop: CancellationToken,
    pipeline: JoinHandle<()>,
    /// `None`: metrics are not exported.
    reports: Option<Reports>,
    threads: Threads,
}

/// What can be read of it at any time.
#[derive(Clone, Debug)]
pub struct Views {
    pub metrics: Arc<Metrics>,
    pub quality: QualityReport,
    pub watch: Watch,
    pub health: Health,
    /// `None`: spans are not exported.
    pub destination: Option<Destination>,
}

/// Where spans go.
#[derive(Clone, Debug)]
pub struct Destination {
    pub endpoint: String,
    pub protocol: config::OtlpProtocol,
    /// How many may wait to go there.
    pub queue_max: usize,
}

impl Telemetry {
    /// Whether telemetry could be started as things are, and what would be left aside.
    /// Connects to nothing.
    pub fn check(config: &config::Telemetry) -> Result<Vec<Unusable>, StartError> {
        let both = [settings(config)?, metrics_settings(config)?];
        let ignored = both.into_iter().flatten().flat_map(|it| it.ignored);
        Ok(ignored.collect())
    }

    /// Exports one span as `start` would have it, and tells what became of it. `None`: spans
    /// are not to be exported.
    pub async fn probe(
        config: &config::Telemetry,
        span: &Span<'_>,
    ) -> Result<Option<Probe>, StartError> {
        match settings(config)? {
            Some(settings) => Ok(Some(otlp::probe(&settings, &instance_id(), span).await)),
            None => Ok(None),
        }
    }

    /// Starts counting and exporting. A collector that is not there is not an error. Where
    /// there is no `admin` listener nothing is remembered for its page.
    pub fn start(
        config: &config::Telemetry,
        spans: config::Spans,
        limits: &config::Limits,
        admin: &config::Admin,
        log: &config::Log,
    ) -> Result<Self, StartError> {
        let settings = settings(config)?;
        let metrics_settings = metrics_settings(config)?;
        let both = settings.iter().chain(&metrics_settings);
        for ignored in both.flat_map(|settings| &settings.ignored) {
            warn!("{ignored} (ignored)");
        }
        // One for the sightings, one for the batches.
        let threads = Threads::start("telemetry", 2).map_err(StartError::Threads)?;
        let books = Books::new(limits, spans, admin.listen.is_some(), log.repeat_interval);
        let metrics = Arc::clone(&books.metrics);
        for (key, limit) in [
            ("limits.connections_max", limits.connections_max),
            ("limits.hold_total_bytes_max", limits.hold_total_bytes_max),
            (
                "limits.buffer_total_bytes_max",
                limits.buffer_total_bytes_max,
            ),
            ("limits.open_hops_max", limits.open_hops_max),
            ("limits.sightings_max", limits.sightings_max),
            ("telemetry.queue_max", config.queue_max),
        ] {
            metrics.limit(key, limit);
        }
        let quality = books.quality.clone();
        let watch = books.watch.clone();
        let health = books.health.clone();
        let destination = settings.as_ref().map(|settings| Destination {
            endpoint: settings.endpoint(),
            protocol: config.protocol,
            queue_max: config.queue_max,
        });
        let stop = CancellationToken::new();
        let inside = threads.handle().enter();
        let instance = instance_id();
        let exporter = settings.map(|settings| {
            Exporter::start(
                config,
                &settings,
                &instance,
                log.repeat_interval,
                metrics.spans.clone(),
                health.clone(),
                stop.clone(),
            )
        });
        let reports = metrics_settings.map(|settings| {
            Reports::start(
                config,
                &settings,
                &instance,
                log.repeat_interval,
                Arc::clone(&metrics),
            )
        });
        let (sightings, queue) = Sightings::queue(limits.sightings_max, Arc::clone(&metrics));
        let pipeline = Pipeline {
            queue,
            books,
            spans,
            exporter,
            stop: stop.clone(),
        };
        let pipeline = tokio::spawn(pipeline.run());
        drop(inside);
        Ok(Self {
            sightings,
            metrics,
            quality,
            watch,
            health,
            destination,
            stop,
            pipeline,
            reports,
            threads,
        })
    }

    /// Where sessions leave their sightings.
    #[must_use]
    pub fn sightings(&self) -> Sightings {
        self.sightings.clone()
    }

    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// What the admin pages show of it.
    #[must_use]
    pub fn views(&self) -> Views {
        Views {
            metrics: self.metrics(),
            quality: self.quality.clone(),
            watch: self.watch.clone(),
            health: self.health.clone(),
            destination: self.destination.clone(),
        }
    }

    /// Takes no more sightings, books those that were left, ends what is still open as far as
    /// it was seen, and exports the spans; what is not out within `grace` is dropped and
    /// counted. Without it the spans that are queued are lost.
    pub async fn flush(mut self, grace: Duration) {
        let began = Instant::now();
        self.stop.cancel();
        if timeout(grace, &mut self.pipeline).await.is_err() {
            drop(self.threads);
            let spans = self.metrics.spans.abandon();
            warn!(spans, ?grace, "spans were left behind");
        } else if let Some(reports) = self.reports {
            // The last report tells what became of the last spans.
            let left = grace.saturating_sub(began.elapsed());
            let _ = timeout(left, reports.finish()).await;
        }
    }
}

/// `None`: spans are not to be exported.
fn settings(config: &config::Telemetry) -> Result<Option<Settings>, StartError> {
    let read = || read(Signal::Spans, config);
    config.export.then(read).transpose()
}

/// `None`: metrics are not to be exported.
fn metrics_settings(config: &config::Telemetry) -> Result<Option<Settings>, StartError> {
    let read = || read(Signal::Metrics, config);
    config.metrics.then(read).transpose()
}

fn read(signal: Signal, config: &config::Telemetry) -> Result<Settings, StartError> {
    let variable = |name: &str| {
        let value = std::env::var_os(name)?;
        Some(value.to_string_lossy().into_owned())
    };
    Ok(Settings::read(signal, config, variable)?)
}

/// `service.instance.id`, as OpenTelemetry wants it where nothing better is known.
fn instance_id() -> String {
    let random = IdSource::from_entropy().trace_id().to_bytes();
    Builder::from_random_bytes(random).into_uuid().to_string()
}
