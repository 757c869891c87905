//! Spans over OTLP: a bounded queue, and batches through the SDK's exporter. Metrics, if they
//! are wanted.
//!
//! The SDK's own batch processor is not used: with an asynchronous client it exports
//! nothing, and it does not tell what it drops.

mod families;
mod reports;
mod settings;
mod spans;
mod tls;
mod transport;

use std::time::Duration;
use std::time::Instant;

use opentelemetry::InstrumentationScope;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::trace::SpanExporter as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing::warn;

pub(super) use reports::Reports;
pub(super) use settings::Settings;
pub(super) use settings::Signal;
pub use settings::StartError;
pub use settings::Unusable;

use crate::config::Telemetry;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::DropReason;
use crate::telemetry::metrics::SpanMetrics;
use crate::telemetry::otlp::transport::LastFault;
use crate::telemetry::pipeline::now;
use crate::telemetry::repeats::Repeats;
use crate::trace::Span;

/// Where finished spans are left to be exported.
///
/// The queue holds at most `queue_max` spans, the batch under way at most `batch_max`
/// more.
#[derive(Debug)]
pub(super) struct Exporter {
    queue: mpsc::Sender<Span>,
    metrics: SpanMetrics,
    batches: JoinHandle<()>,
}

/// What exports one batch after the other.
struct Batches {
    queue: mpsc::Receiver<Span>,
    exporter: SpanExporter,
    scope: InstrumentationScope,
    batch_max: usize,
    schedule_delay: Duration,
    deadline: Duration,
    /// For the log.
    endpoint: String,
    last_fault: LastFault,
    failing: bool,
    repeats: Repeats<DropReason>,
    metrics: SpanMetrics,
    health: Health,
    stop: CancellationToken,
}

impl Exporter {
    /// Starts exporting on the runtime that this is called in. With `stop` there are no
    /// more pauses.
    pub(super) fn start(
        config: &Telemetry,
        settings: &Settings,
        instance: String,
        repeat_interval: Duration,
        metrics: SpanMetrics,
        health: Health,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        let last_fault = LastFault::default();
        let exporter = exporter(settings, instance, &last_fault)?;
        info!(endpoint = settings.endpoint.as_str(), "spans are exported");
        let (sender, queue) = mpsc::channel(config.queue_max.max(1));
        let batches = Batches {
            queue,
            exporter,
            scope: spans::scope(),
            batch_max: config.batch_max.max(1),
            schedule_delay: config.schedule_delay,
            deadline: settings.deadline,
            endpoint: settings.endpoint.to_string(),
            last_fault,
            failing: false,
            repeats: Repeats::new(repeat_interval),
            metrics: metrics.clone(),
            health,
            stop,
        };
        Ok(Self {
            queue: sender,
            metrics,
            batches: tokio::spawn(batches.run()),
        })
    }

    /// Takes a span, or drops and counts it where the queue is full.
    pub(super) fn offer(&self, span: Span) {
        match self.queue.try_reserve() {
            Ok(place) => {
                self.metrics.queued();
                place.send(span);
            }
            Err(_) => self.metrics.refused(),
        }
    }

    /// Takes a span as soon as there is room for it.
    pub(super) async fn send(&self, span: Span) {
        match self.queue.reserve().await {
            Ok(place) => {
                self.metrics.queued();
                place.send(span);
            }
            Err(_) => self.metrics.refused(),
        }
    }

    /// Exports what is queued.
    pub(super) async fn finish(self) {
        drop(self.queue);
        // Should it have panicked, there is nothing left to wait for.
        let _ = self.batches.await;
    }
}

/// What became of one span that was exported by itself.
#[derive(Debug)]
pub struct Probe {
    /// Where it was sent.
    pub endpoint: String,
    pub took: Duration,
    pub outcome: Result<(), String>,
}

/// Exports one span and waits for the answer.
pub(super) async fn probe(
    settings: &Settings,
    instance: String,
    span: Span,
) -> Result<Probe, StartError> {
    let last_fault = LastFault::default();
    let exporter = exporter(settings, instance, &last_fault)?;
    let asked = Instant::now();
    let batch = vec![spans::span_data(span, &spans::scope())];
    let outcome = match timeout(settings.deadline, exporter.export(batch)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(match last_fault.take() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        }),
        Err(_) => Err(format!("no answer within {:?}", settings.deadline)),
    };
    Ok(Probe {
        endpoint: settings.endpoint.to_string(),
        took: asked.elapsed(),
        outcome,
    })
}

fn exporter(
    settings: &Settings,
    instance: String,
    last_fault: &LastFault,
) -> Result<SpanExporter, StartError> {
    let mut exporter = transport::exporter(settings, last_fault)
        .map_err(|error| settings.refused(error.as_ref()))?;
    exporter.set_resource(&spans::resource(settings, instance));
    Ok(exporter)
}

impl Batches {
    async fn run(mut self) {
        let mut batch = Vec::new();
        while self.fill(&mut batch).await {
            self.export(&mut batch).await;
        }
        let _ = self.exporter.shutdown();
    }

    /// Collects a full batch, or what has come within `schedule_delay` of its first span.
    /// False when there will be no more.
    async fn fill(&mut self, batch: &mut Vec<Span>) -> bool {
        if self.queue.recv_many(batch, self.batch_max).await == 0 {
            return false;
        }
        let due = tokio::time::Instant::now() + self.schedule_delay;
        while batch.len() < self.batch_max {
            let room = self.batch_max - batch.len();
            let more = async {
                // They come many at a time: not to be woken for each of them.
                sleep(REST).await;
                self.queue.recv_many(batch, room).await
            };
            match timeout_at(due, more).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            }
        }
        true
    }

    /// Exports a batch. A failure costs the batch, for the exporter has tried again as often
    /// as OTLP recommends. It may have been the batch's own fault; when the next one fails
    /// too, the collector has trouble enough, and is left in peace for a while.
    async fn export(&mut self, batch: &mut Vec<Span>) {
        let spans = batch.len();
        let batch = batch
            .drain(..)
            .map(|span| spans::span_data(span, &self.scope))
            .collect();
        drop(self.last_fault.take());
        let began = Instant::now();
        let ended = timeout(self.deadline, self.exporter.export(batch)).await;
        self.metrics.ended_after(began.elapsed());
        let (why, error) = match ended {
            Ok(Ok(())) => {
                self.metrics.exported(spans);
                self.health.exported(now());
                self.recovered();
                return;
            }
            Ok(Err(error)) => (DropReason::Failed, error.to_string()),
            Err(_) => {
                let deadline = self.deadline;
                (
                    DropReason::Timeout,
                    format!("no answer within {deadline:?}"),
                )
            }
        };
        self.metrics.dropped(spans, why);
        let was_failing = self.failing;
        self.failed(spans, why, &error);
        if was_failing {
            tokio::select! {
                () = sleep(self.schedule_delay) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    fn failed(&mut self, spans: usize, why: DropReason, error: &str) {
        self.failing = true;
        let cause = self.last_fault.take();
        self.health.failed(now(), cause.as_deref().unwrap_or(error));
        let Some(suppressed) = self.repeats.admit(why, Instant::now()) else {
            return;
        };
        warn!(
            endpoint = self.endpoint,
            spans,
            reason = why.word(),
            cause,
            suppressed,
            "spans were not exported: {error}"
        );
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.failing) {
            info!(endpoint = self.endpoint, "spans are exported again");
        }
    }
}

/// How long a batch waits, at least, for more spans.
const REST: Duration = Duration::from_millis(1);
