//! What each path answers.

use std::sync::Arc;

use axum::Router;
use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::admin::Readiness;
use crate::admin::State;
use crate::telemetry::Metrics;

/// What the pages are about.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Readiness,
}

pub(super) fn router(subject: Subject) -> Router {
    Router::new()
        .route("/", get(async || INDEX))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
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
    ([(CONTENT_TYPE, OPENMETRICS)], subject.metrics.encode())
}

const INDEX: &str = concat!(
    "tracehop ",
    env!("CARGO_PKG_VERSION"),
    ": /healthz /readyz /metrics\n"
);
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
