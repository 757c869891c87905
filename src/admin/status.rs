//! How the proxy itself is.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::admin::pages::Desk;
use crate::admin::pages::Subject;
use crate::config;
use crate::telemetry::ClockSkew;
use crate::telemetry::Count;
use crate::telemetry::Failure;
use crate::telemetry::Metrics;
use crate::telemetry::Timestamp;
use crate::telemetry::Views;
use crate::telemetry::now;

#[derive(Serialize)]
pub(super) struct Status<'a> {
    version: &'static str,
    state: &'static str,
    started_at: Timestamp,
    now: Timestamp,
    routes: Vec<Route<'a>>,
    blind_sessions: Vec<Count>,
    left_alone: Vec<Count>,
    clock_skews: Vec<ClockSkew>,
    exporter: Option<Exporter<'a>>,
    sightings: Sightings,
    limits: Vec<Limit>,
    config: Arc<Vec<config::Setting>>,
    trace_url: Option<&'a str>,
}

#[derive(Serialize)]
struct Route<'a> {
    name: &'a str,
    listen: SocketAddr,
    upstream: String,
    protocol: &'static str,
    tls_in: bool,
    tls_out: bool,
    connections_open: u64,
    connections_total: u64,
    connections_failed: Vec<Reason>,
    bytes_from_clients: u64,
    bytes_from_brokers: u64,
}

#[derive(Serialize)]
struct Reason {
    reason: &'static str,
    count: u64,
}

#[derive(Serialize)]
struct Exporter<'a> {
    endpoint: &'a str,
    protocol: String,
    queued: u64,
    queue_max: usize,
    exported: u64,
    dropped: Vec<Reason>,
    last_success_at: Option<Timestamp>,
    last_failure: Option<Failure>,
}

#[derive(Serialize)]
struct Sightings {
    queued: u64,
    dropped: u64,
}

#[derive(Serialize)]
struct Limit {
    key: &'static str,
    value: usize,
    used: Option<u64>,
}

impl<'a> Status<'a> {
    pub(super) fn of(desk: &'a Desk) -> Self {
        let subject = &desk.subject;
        let views = &subject.views;
        let metrics = &views.metrics;
        let routes = subject.proxy.routes().iter();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            state: subject.readiness.state().word(),
            started_at: desk.started,
            now: now(),
            routes: routes.map(|route| Route::of(route, metrics)).collect(),
            blind_sessions: views.health.blind_sessions(),
            left_alone: views.health.left_alone(),
            clock_skews: metrics.clock_skews(),
            exporter: Exporter::of(views),
            sightings: Sightings {
                queued: metrics.sightings_queued(),
                dropped: metrics.sightings_dropped(),
            },
            limits: limits(subject),
            config: subject.settings.load_full(),
            trace_url: desk.trace_url.as_deref(),
        }
    }
}

impl<'a> Route<'a> {
    fn of(route: &'a config::Route, metrics: &Metrics) -> Self {
        let counts = metrics.route(&route.name).counts();
        Self {
            name: &route.name,
            listen: route.listen,
            upstream: route.upstream_urls(),
            protocol: route.protocol.word(),
            tls_in: route.tls.is_some(),
            tls_out: route.needs_upstream_tls(),
            connections_open: counts.open,
            connections_total: counts.opened,
            connections_failed: reasons(counts.failed),
            bytes_from_clients: counts.bytes_from_clients,
            bytes_from_brokers: counts.bytes_from_brokers,
        }
    }
}

impl<'a> Exporter<'a> {
    fn of(views: &'a Views) -> Option<Self> {
        let destination = views.destination.as_ref()?;
        let spans = views.metrics.spans();
        let (last_success_at, last_failure) = views.health.exports();
        Some(Self {
            endpoint: &destination.endpoint,
            protocol: destination.protocol.word(),
            queued: spans.queued,
            queue_max: destination.queue_max,
            exported: spans.exported,
            dropped: reasons(spans.dropped),
            last_success_at,
            last_failure,
        })
    }
}

fn reasons(counts: Vec<(&'static str, u64)>) -> Vec<Reason> {
    let reason = |(reason, count)| Reason { reason, count };
    counts.into_iter().map(reason).collect()
}

/// The limits of numbers and sizes, with how much of each is used where that is known.
fn limits(subject: &Subject) -> Vec<Limit> {
    let (limits, views) = (&subject.limits, &subject.views);
    let (publications, deliveries) = views.metrics.open();
    let used = |count: usize| Some(count as u64);
    [
        (
            "limits.connections_max",
            limits.connections_max,
            used(subject.proxy.connections()),
        ),
        ("limits.hold_bytes_max", limits.hold_bytes_max, None),
        (
            "limits.hold_total_bytes_max",
            limits.hold_total_bytes_max,
            used(subject.proxy.held_bytes()),
        ),
        ("limits.buffer_bytes_max", limits.buffer_bytes_max, None),
        (
            "limits.buffer_total_bytes_max",
            limits.buffer_total_bytes_max,
            used(subject.proxy.buffered_bytes()),
        ),
        ("limits.pending_max", limits.pending_max, None),
        (
            "limits.open_hops_max",
            limits.open_hops_max,
            Some(publications.max(deliveries)),
        ),
        ("limits.fanout_max", limits.fanout_max, None),
        ("limits.memory_max", limits.memory_max, None),
        (
            "limits.sightings_max",
            limits.sightings_max,
            Some(views.metrics.sightings_queued()),
        ),
        ("limits.label_values_max", limits.label_values_max, None),
        (
            "limits.quality_entries_max",
            limits.quality_entries_max,
            used(views.quality.count()),
        ),
        (
            "limits.recent_traces_max",
            limits.recent_traces_max,
            used(views.watch.recent.count()),
        ),
        (
            "limits.recent_tasks_max",
            limits.recent_tasks_max,
            used(views.watch.recent.entries()),
        ),
    ]
    .into_iter()
    .map(|(key, value, used)| Limit { key, value, used })
    .collect()
}
