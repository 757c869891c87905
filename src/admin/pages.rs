//! What each path answers.

use axum::Router;
use axum::extract::State as Extract;
use axum::http::StatusCode;
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

async fn metrics(Extract(subject): Extract<Subject>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, OPENMETRICS)],
        subject.views.metrics.encode(),
    )
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
const JSON: &str = "application/json";
