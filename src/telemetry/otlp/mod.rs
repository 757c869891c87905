//! Spans over OTLP: a bounded queue of them, encoded, and batches out of it. Metrics, if they
//! are wanted.
//!
//! OpenTelemetry's own exporter would copy every text of every span several times over, and
//! does not tell what it drops.

mod answer;
mod families;
mod fault;
mod reports;
mod resource;
mod settings;
mod spans;
mod tls;
mod transport;

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing::warn;

pub(super) use reports::Reports;
pub(super) use settings::Settings;
pub(super) use settings::Signal;
pub use settings::StartError;
pub use settings::Unusable;
pub use spans::Encoder;

use crate::config::Telemetry;
use crate::hop::Operation;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::DropReason;
use crate::telemetry::metrics::SpanMetrics;
use crate::telemetry::otlp::answer::Answer;
use crate::telemetry::otlp::fault::Fault;
use crate::telemetry::otlp::spans::EncodedSpan;
use crate::telemetry::otlp::spans::Requests;
use crate::telemetry::otlp::transport::Post;
use crate::telemetry::pipeline::now;
use crate::telemetry::repeats::Repeats;
use crate::trace::Span;

/// Where finished spans are left to be exported.
///
/// The queue holds at most `queue_max` spans, the batch under way at most `batch_max`
/// more.
#[derive(Debug)]
pub(super) struct Exporter {
    queue: mpsc::Sender<EncodedSpan>,
    /// There are enough for a batch, or no more will come.
    changed: Arc<Notify>,
    batch_max: usize,
    encoder: Encoder,
    metrics: SpanMetrics,
    batches: JoinHandle<()>,
}

/// What exports one batch after the other.
struct Batches {
    queue: mpsc::Receiver<EncodedSpan>,
    changed: Arc<Notify>,
    requests: Requests,
    post: Post,
    batch_max: usize,
    batch_bytes_max: usize,
    schedule_delay: Duration,
    /// For the log.
    endpoint: String,
    failing: bool,
    repeats: Repeats<DropReason>,
    too_large: Repeats<()>,
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
        instance: &str,
        repeat_interval: Duration,
        metrics: SpanMetrics,
        health: Health,
        stop: CancellationToken,
    ) -> Self {
        info!(endpoint = settings.endpoint(), "spans are exported");
        let queue_max = config.queue_max.max(1);
        let (sender, queue) = mpsc::channel(queue_max);
        let changed = Arc::new(Notify::new());
        let batch_max = config.batch_max.clamp(1, queue_max);
        let batches = Batches {
            queue,
            changed: Arc::clone(&changed),
            requests: requests(settings, instance),
            post: Post::new(Signal::Spans, settings),
            batch_max,
            batch_bytes_max: config.batch_bytes_max,
            schedule_delay: config.schedule_delay,
            endpoint: settings.endpoint(),
            failing: false,
            repeats: Repeats::new(repeat_interval),
            too_large: Repeats::new(repeat_interval),
            metrics: metrics.clone(),
            health,
            stop,
        };
        Self {
            queue: sender,
            changed,
            batch_max,
            encoder: Encoder::default(),
            metrics,
            batches: tokio::spawn(batches.run()),
        }
    }

    /// Takes a span, or drops and counts it where the queue is full.
    pub(super) fn offer(&mut self, operation: Operation<'_>) {
        match self.queue.try_reserve() {
            Ok(place) => {
                self.metrics.queued();
                place.send(self.encoder.encode(&operation.span()));
                self.added();
            }
            Err(_) => self.metrics.refused(),
        }
    }

    /// Takes a span as soon as there is room for it.
    pub(super) async fn send(&mut self, operation: Operation<'_>) {
        // The room stays: nobody else adds to the queue.
        drop(self.queue.reserve().await);
        self.offer(operation);
    }

    /// Wakes whoever waits for a full batch, of which the first span has left the queue.
    fn added(&self) {
        let queued = self.queue.max_capacity() - self.queue.capacity();
        if queued == self.batch_max - 1 {
            self.changed.notify_one();
        }
    }

    /// Exports what is queued.
    pub(super) async fn finish(self) {
        drop(self.queue);
        self.changed.notify_one();
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
pub(super) async fn probe(settings: &Settings, instance: &str, span: &Span<'_>) -> Probe {
    let request = requests(settings, instance).of(&[Encoder::default().encode(span)]);
    let mut post = Post::new(Signal::Spans, settings);
    let asked = Instant::now();
    let outcome = match post.insist(request, &CancellationToken::new()).await {
        Ok(answer) if answer.rejected > 0 => Err(format!("it was rejected: {}", answer.words)),
        Ok(_) => Ok(()),
        Err(fault) => Err(fault.to_string()),
    };
    Probe {
        endpoint: settings.endpoint(),
        took: asked.elapsed(),
        outcome,
    }
}

fn requests(settings: &Settings, instance: &str) -> Requests {
    Requests::new(resource::resource(settings, instance), resource::scope())
}

impl Batches {
    async fn run(mut self) {
        let mut batch = Vec::new();
        while self.fill(&mut batch).await {
            self.export(&mut batch).await;
        }
    }

    /// Collects a full batch, or what has come within `schedule_delay` of its first span.
    /// False when there will be no more.
    async fn fill(&mut self, batch: &mut Vec<EncodedSpan>) -> bool {
        let Some(first) = self.queue.recv().await else {
            return false;
        };
        batch.push(first);
        let due = tokio::time::Instant::now() + self.schedule_delay;
        let mut is_due = false;
        // The others stay in the queue meanwhile: not to be woken for each of them.
        while !is_due && !self.queue.is_closed() && self.queue.len() < self.batch_max - 1 {
            is_due = timeout_at(due, self.changed.notified()).await.is_err();
        }
        if !self.queue.is_empty() {
            self.queue.recv_many(batch, self.batch_max - 1).await;
        }
        true
    }

    /// Exports a batch, in as many requests as its bytes call for. One that the collector finds
    /// too large is sent again in halves.
    async fn export(&mut self, batch: &mut Vec<EncodedSpan>) {
        let mut due = vec![&batch[..]];
        while let Some(spans) = due.pop() {
            let count = self.requests.fitting(spans, self.batch_bytes_max);
            let (spans, later) = spans.split_at(count);
            if !later.is_empty() {
                due.push(later);
            }
            let request = self.requests.of(spans);
            let may_be_too_large = spans.len() > 1 && request.len() > SMALL_REQUEST_BYTES;
            let began = Instant::now();
            let answer = self.post.insist(request, &self.stop).await;
            self.metrics.ended_after(began.elapsed());
            if let Err(fault @ Fault::TooLarge(_)) = &answer
                && may_be_too_large
            {
                self.halved(fault);
                let (first, second) = spans.split_at(spans.len() / 2);
                due.extend([second, first]);
                continue;
            }
            self.ended(spans.len(), answer).await;
        }
        batch.clear();
    }

    /// What became of the spans of a request. A failure costs them, for the request was tried again
    /// where OTLP says so and there was time. It may have been their own fault; when the next one
    /// fails too, the collector has trouble enough, and is left in peace for a while.
    async fn ended(&mut self, spans: usize, answer: Result<Answer, Fault>) {
        match answer {
            Ok(answer) => {
                let rejected = self.rejected(spans, &answer);
                self.metrics.exported(spans - rejected);
                if rejected < spans {
                    self.health.exported(now());
                    self.recovered();
                }
            }
            Err(fault) => {
                let was_failing = self.failing;
                self.failed(spans, &fault);
                if was_failing {
                    tokio::select! {
                        () = sleep(self.schedule_delay) => {}
                        () = self.stop.cancelled() => {}
                    }
                }
            }
        }
    }

    /// How many of the spans of a batch the collector has rejected: for good, by OTLP.
    fn rejected(&mut self, spans: usize, answer: &Answer) -> usize {
        if !answer.is_complaint() {
            return 0;
        }
        let rejected = answer.rejected.min(spans);
        let why = DropReason::Rejected;
        self.metrics.dropped(rejected, why);
        if rejected == spans {
            self.health.failed(now(), &answer.words);
        }
        if let Some(suppressed) = self.repeats.admit(why, Instant::now()) {
            warn!(
                endpoint = self.endpoint,
                spans,
                rejected,
                suppressed,
                "the collector took spans with a complaint: {}",
                answer.words
            );
        }
        rejected
    }

    /// Nothing is lost by it, but time.
    fn halved(&mut self, fault: &Fault) {
        if let Some(suppressed) = self.too_large.admit((), Instant::now()) {
            let endpoint = &self.endpoint;
            warn!(
                endpoint,
                suppressed, "a request is sent again in halves: {fault}"
            );
        }
    }

    fn failed(&mut self, spans: usize, fault: &Fault) {
        let why = match fault {
            Fault::Timeout(_) => DropReason::Timeout,
            Fault::Failed { .. } | Fault::TooLarge(_) => DropReason::Failed,
        };
        self.failing = true;
        self.metrics.dropped(spans, why);
        self.health.failed(now(), &fault.to_string());
        if let Some(suppressed) = self.repeats.admit(why, Instant::now()) {
            warn!(
                endpoint = self.endpoint,
                spans,
                reason = why.word(),
                suppressed,
                "spans were not exported: {fault}"
            );
        }
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.failing) {
            info!(endpoint = self.endpoint, "spans are exported again");
        }
    }
}

/// A request of this size is not too large for anybody: whoever says so has another reason, which
/// smaller ones do not mend.
const SMALL_REQUEST_BYTES: usize = 64 << 10;
