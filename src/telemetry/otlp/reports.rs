//! Metrics over OTLP: all of them, once in a while.
//!
//! What could not be delivered is not tried again: the next report says the same and more.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
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
    repeats: Repeats<()>,
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

    async fn report(&mut self) {
        let metrics = families::metrics(&self.metrics.encode(), self.start, now());
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource.clone()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(resource::scope()),
                    metrics,
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        };
        match self.post.send(request.encode_to_vec().into()).await {
            Ok(_) => {
                if std::mem::take(&mut self.failing) {
                    info!(endpoint = self.endpoint, "metrics are exported again");
                }
            }
            Err(fault) => self.failed(&fault),
        }
    }

    fn failed(&mut self, fault: &Fault) {
        self.failing = true;
        if let Some(suppressed) = self.repeats.admit((), Instant::now()) {
            let endpoint = &self.endpoint;
            warn!(endpoint, suppressed, "metrics were not exported: {fault}");
        }
    }
}
