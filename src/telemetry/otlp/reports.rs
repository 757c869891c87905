//! Metrics over OTLP: all of them, once in a while.
//!
//! What could not be delivered is not tried again: the next report says the same and more.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::ResourceMetrics;
use opentelemetry_proto::tonic::metrics::v1::ScopeMetrics;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio::time::interval_at;
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing::warn;

use crate::config::Telemetry;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::otlp::answer::Answer;
use crate::telemetry::otlp::families;
use crate::telemetry::otlp::fault::Fault;
use crate::telemetry::otlp::resource;
use crate::telemetry::otlp::settings::Settings;
use crate::telemetry::otlp::settings::Signal;
use crate::telemetry::otlp::transport::Post;
use crate::telemetry::pipeline::now;
use crate::telemetry::repeats::Repeats;
use crate::trace::Timestamp;

/// What tells a collector of all metrics, once in a while and at the end.
#[derive(Debug)]
pub(in crate::telemetry) struct Reports {
    stop: CancellationToken,
    reporting: JoinHandle<()>,
}

struct Reporter {
    metrics: Arc<Metrics>,
    post: Post,
    resource: Resource,
    start: Timestamp,
    endpoint: String,
    failing: bool,
    repeats: Repeats<Trouble>,
    batch_bytes_max: usize,
}

/// What is logged of a report.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Trouble {
    Failed,
    Complaint,
}

impl Reports {
    /// Starts on the runtime that this is called in.
    pub(in crate::telemetry) fn start(
        config: &Telemetry,
        settings: &Settings,
        instance: &str,
        repeat_interval: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        info!(endpoint = settings.endpoint(), "metrics are exported");
        let reporter = Reporter {
            metrics,
            post: Post::new(Signal::Metrics, settings),
            resource: resource::resource(settings, instance),
            start: now(),
            endpoint: settings.endpoint(),
            failing: false,
            repeats: Repeats::new(repeat_interval),
            batch_bytes_max: config.batch_bytes_max,
        };
        let stop = CancellationToken::new();
        let reporting = reporter.run(config.metrics_interval, stop.clone());
        Self {
            stop,
            reporting: tokio::spawn(reporting),
        }
    }

    /// Reports a last time.
    pub(in crate::telemetry) async fn finish(self) {
        self.stop.cancel();
        // Should it have panicked, there is nothing left to wait for.
        let _ = self.reporting.await;
    }
}

impl Reporter {
    async fn run(mut self, every: Duration, stop: CancellationToken) {
        let mut due = interval_at(tokio::time::Instant::now() + every, every);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_last = tokio::select! {
                _ = due.tick() => false,
                () = stop.cancelled() => true,
            };
            self.report().await;
            if is_last {
                return;
            }
        }
    }

    /// Sends all metrics, in as many requests as their bytes call for.
    async fn report(&mut self) {
        let metrics = families::metrics(&self.metrics.encode(), self.start, now());
        let mut due = vec![metrics];
        let mut failed = false;
        while let Some(mut metrics) = due.pop() {
            let request = self.request(&metrics).encode_to_vec();
            let is_too_large = request.len() > self.batch_bytes_max;
            if is_too_large && let Some(half) = families::split_off_half(&mut metrics) {
                due.extend([half, metrics]);
                continue;
            }
            match self.post.send(request.into()).await {
                Ok(answer) => self.complained(&answer),
                Err(fault) => {
                    if matches!(fault, Fault::TooLarge(_))
                        && let Some(half) = families::split_off_half(&mut metrics)
                    {
                        due.extend([half, metrics]);
                        continue;
                    }
                    failed = true;
                    self.failed(&fault);
                }
            }
        }
        if !failed && std::mem::take(&mut self.failing) {
            info!(endpoint = self.endpoint, "metrics are exported again");
        }
    }

    fn request(&self, metrics: &[Metric]) -> ExportMetricsServiceRequest {
        ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource.clone()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(resource::scope()),
                    metrics: metrics.to_vec(),
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        }
    }

    fn failed(&mut self, fault: &Fault) {
        self.failing = true;
        if let Some(suppressed) = self.repeats.admit(Trouble::Failed, Instant::now()) {
            let endpoint = &self.endpoint;
            warn!(endpoint, suppressed, "metrics were not exported: {fault}");
        }
    }

    fn complained(&mut self, answer: &Answer) {
        if answer.is_complaint()
            && let Some(suppressed) = self.repeats.admit(Trouble::Complaint, Instant::now())
        {
            warn!(
                endpoint = self.endpoint,
                rejected = answer.rejected,
                suppressed,
                "the collector took metrics with a complaint: {}",
                answer.words
            );
        }
    }
}
