//! What each path answers.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::State as Extract;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header::ACCEPT;
use axum::http::header::CONTENT_TYPE;
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use crate::admin::Readiness;
use crate::admin::State;
use crate::admin::api;
use crate::admin::assets;
use crate::admin::guard::Guard;
use crate::admin::guard::stand_before;
use crate::admin::refusal::Refusal;
use crate::config::Limits;
use crate::config::Setting;
use crate::net;
use crate::telemetry::Timestamp;
use crate::telemetry::Views;

/// What the pages are about.
#[derive(Clone, Debug)]
pub struct Subject {
    pub views: Views,
    pub proxy: net::View,
    pub readiness: Readiness,
    pub limits: Limits,
    /// The configuration as it holds; it may be read anew.
    pub settings: Arc<ArcSwap<Vec<Setting>>>,
}

/// What the pages are made with.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    pub(super) subject: Subject,
    pub(super) trace_url: Option<Arc<str>>,
    pub(super) started: Timestamp,
    /// Answers that have no end of their own end with it.
    pub(super) stop: CancellationToken,
}

pub(super) fn router(desk: Desk, guard: Guard) -> Router {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/quality", get(api::quality))
        .route("/api/status", get(api::status))
        .route("/api/flow", get(api::flow))
        .route("/api/traces", get(api::traces))
        .route("/api/traces/{trace_id}", get(api::trace))
        .route(api::LIVE, get(api::live));
    assets::routes(router)
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, NOT_FOUND))
        .method_not_allowed_fallback(async || {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, NOT_ALLOWED)
        })
        .layer(middleware::from_fn_with_state(guard, stand_before))
        .with_state(desk)
}

async fn readyz(Extract(desk): Extract<Desk>) -> impl IntoResponse {
    let state = desk.subject.readiness.state();
    let status = match state {
        State::Ready | State::Finishing => StatusCode::OK,
        State::Starting | State::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{}\n", state.word()))
}

/// As OpenMetrics for whoever asks for it, as Prometheus does; else in the older format, which
/// everything else reads.
async fn metrics(Extract(desk): Extract<Desk>, headers: HeaderMap) -> impl IntoResponse {
    let metrics = &desk.subject.views.metrics;
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

const NOT_FOUND: &str = "there is nothing here; there are / /healthz /readyz /metrics \
                         /api/status /api/flow /api/traces /api/traces/{trace_id} /api/quality \
                         /api/live";
const NOT_ALLOWED: &str = "everything here is only to be read; ask with GET";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
