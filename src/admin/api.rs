//! What the admin page shows, as JSON.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::Path;
use axum::extract::RawQuery;
use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::response::Sse;
use axum::response::sse::Event;
use axum::response::sse::KeepAlive;
use futures_util::stream;
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::admin::pages::Desk;
use crate::admin::query::Query;
use crate::admin::refusal::Refusal;
use crate::admin::status::Status;
use crate::telemetry::live;
use crate::telemetry::live::Heard;
use crate::telemetry::live::Listener;
use crate::telemetry::now;
use crate::telemetry::recent;

pub(super) async fn quality(Extract(desk): Extract<Desk>) -> Response {
    json(&desk.subject.views.quality.read())
}

pub(super) async fn status(Extract(desk): Extract<Desk>) -> Response {
    json(&Status::of(&desk))
}

pub(super) async fn flow(Extract(desk): Extract<Desk>) -> Response {
    json(&desk.subject.views.watch.flow.read(now()))
}

pub(super) async fn traces(
    Extract(desk): Extract<Desk>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let mut query = Query::read(query.as_deref());
    let min_ms = query.value("min_ms", "write a whole number of milliseconds")?;
    let filter = recent::Filter {
        search: query.text("q"),
        task: query.text("task"),
        queue: query.text("queue"),
        system: query.text("system"),
        status: query.choice("state", recent::Status::of_trace, STATES)?,
        duration_min: Duration::from_millis(min_ms.unwrap_or(0)),
    };
    let limit = query.choice("limit", page_size, "write a number from 1 to 1000")?;
    let before = query.value("before", "write what `next` said, or leave it out")?;
    query.end("q, task, queue, system, state, min_ms, limit and before")?;
    let limit = limit.unwrap_or(PAGE);
    let recent = &desk.subject.views.watch.recent;
    Ok(json(&recent.list(&filter, before, limit)))
}

pub(super) async fn trace(
    Extract(desk): Extract<Desk>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let recent = &desk.subject.views.watch.recent;
    match recent.waterfall(&id) {
        Some(trace) => Ok(json(&trace)),
        None => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "no such trace is held here: it was not seen, or was forgotten since (\
             limits.recent_traces_max, limits.recent_tasks_max)",
        )),
    }
}

pub(super) async fn live(
    Extract(desk): Extract<Desk>,
    RawQuery(query): RawQuery,
) -> Result<impl IntoResponse, Refusal> {
    let mut query = Query::read(query.as_deref());
    let filter = live::Filter {
        task: query.text("task"),
        queue: query.text("queue"),
        system: query.text("system"),
        errors: query
            .value("errors", "write true or false")?
            .unwrap_or(false),
    };
    query.end("task, queue, system and errors")?;
    let Some(listener) = desk.subject.views.watch.live.listen(filter) else {
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "as many as may listen do so already: end one of them, or try again later",
        ));
    };
    let told = stream::unfold((listener, desk.stop), |(mut listener, stop)| async {
        let event = next(&mut listener, &stop).await?;
        Some((Ok::<_, Infallible>(event), (listener, stop)))
    });
    let still_here = KeepAlive::new().interval(STILL_HERE).text("still here");
    Ok(Sse::new(told).keep_alive(still_here))
}

/// The next thing that a listener hears; `None` when there will be nothing more.
async fn next(listener: &mut Listener, stop: &CancellationToken) -> Option<Event> {
    let heard = tokio::select! {
        heard = listener.next() => heard?,
        () = stop.cancelled() => return None,
    };
    let (kind, data) = match heard {
        Heard::Hop(hop) => ("hop", text(&*hop)),
        Heard::Missed(count) => ("missed", json!({ "count": count }).to_string()),
    };
    Some(Event::default().event(kind).data(data))
}

fn page_size(text: &str) -> Option<usize> {
    let size = text.parse().ok()?;
    (1..=PAGE_MAX).contains(&size).then_some(size)
}

fn json(value: &impl Serialize) -> Response {
    ([(CONTENT_TYPE, JSON)], text(value)).into_response()
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("what is shown has texts for keys and no other")
}

pub(super) const JSON: &str = "application/json";
pub(super) const LIVE: &str = "/api/live";
const STATES: &str = "write running, succeeded, failed, waiting or unknown";
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;
const STILL_HERE: Duration = Duration::from_secs(15);
