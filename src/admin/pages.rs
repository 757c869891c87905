//! What each path answers.

use axum::Router;
use axum::extract::State as Extract;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header::ACCEPT;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::admin::Readiness;
use crate::admin::State;
use crate::telemetry::Views;

/// What the pages are about.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) views: Views,
    pub(super) readiness: Readiness,
}

pub(super) fn router(subject: Subject) -> Router {
    Router::new()
        .route("/", get(async || INDEX))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/quality", get(quality))
        .with_state(subject)
}

async fn readyz(Extract(subject): Extract<Subject>) -> impl IntoResponse {
    let state = subject.readiness.state();
    let status = match state {
        State::Ready => StatusCode::OK,
        State::Starting | State::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{}\n", state.word()))
}

/// As OpenMetrics for whoever asks for it, as Prometheus does; else in the older format, which
/// everything else reads.
async fn metrics(Extract(subject): Extract<Subject>, headers: HeaderMap) -> impl IntoResponse {
    let metrics = &subject.views.metrics;
    let accepted = headers.get_all(ACCEPT).iter();
    if accepted
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("application/openmetrics-text"))
    {
        ([(CONTENT_TYPE, OPENMETRICS)], metrics.encode())
    } else {
        ([(CONTENT_TYPE, CLASSIC)], metrics.encode_classic())
    }
}

async fn quality(Extract(subject): Extract<Subject>) -> impl IntoResponse {
    let report = serde_json::to_vec(&subject.views.quality.read());
    let report = report.expect("a report has names for keys and no other");
    ([(CONTENT_TYPE, JSON)], report)
}

const INDEX: &str = concat!(
    "tracehop ",
    env!("CARGO_PKG_VERSION"),
    ": /healthz /readyz /metrics /api/quality\n"
);
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";
