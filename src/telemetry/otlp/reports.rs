//! Metrics over OTLP: all of them, once in a while.
//!
//! What could not be delivered is not tried again: the next report says the same and more.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::ResourceMetrics;
use opentelemetry_proto::tonic::metrics::v1::ScopeMetrics;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio::time::interval_at;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing::warn;

use crate::config::Telemetry;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::otlp::families;
use crate::telemetry::otlp::settings::Settings;
use crate::telemetry::otlp::settings::StartError;
use crate::telemetry::otlp::spans;
use crate::telemetry::otlp::transport::LastFault;
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
    deadline: Duration,
    endpoint: String,
    last_fault: LastFault,
    failing: bool,
    repeats: Repeats<()>,
}

impl Reports {
    /// Starts on the runtime that this is called in.
    pub(in crate::telemetry) fn start(
        config: &Telemetry,
        settings: &Settings,
        instance: String,
        repeat_interval: Duration,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let last_fault = LastFault::default();
        let post =
            Post::new(settings, &last_fault).map_err(|error| settings.refused(error.as_ref()))?;
        let resource = ResourceAttributesWithSchema::from(&spans::resource(settings, instance));
        info!(
            endpoint = settings.endpoint.as_str(),
            "metrics are exported"
        );
        let reporter = Reporter {
            metrics,
            post,
            resource: Resource {
                attributes: resource.attributes.0,
                ..Resource::default()
            },
            start: now(),
            deadline: settings.deadline,
            endpoint: settings.endpoint.to_string(),
            last_fault,
            failing: false,
            repeats: Repeats::new(repeat_interval),
        };
        let stop = CancellationToken::new();
        let reporting = reporter.run(config.metrics_interval, stop.clone());
        Ok(Self {
            stop,
            reporting: tokio::spawn(reporting),
        })
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
        let scope = InstrumentationScope::from((spans::scope(), None));
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource.clone()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope),
                    metrics,
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        };
        drop(self.last_fault.take());
        match timeout(self.deadline, self.post.metrics(request)).await {
            Ok(Ok(())) => {
                if std::mem::take(&mut self.failing) {
                    info!(endpoint = self.endpoint, "metrics are exported again");
                }
            }
            Ok(Err(error)) => self.failed(&error),
            Err(_) => self.failed(&format!("no answer within {:?}", self.deadline)),
        }
    }

    fn failed(&mut self, error: &str) {
        self.failing = true;
        let cause = self.last_fault.take();
        if let Some(suppressed) = self.repeats.admit((), Instant::now()) {
            let endpoint = &self.endpoint;
            warn!(
                endpoint,
                cause, suppressed, "metrics were not exported: {error}"
            );
        }
    }
}
