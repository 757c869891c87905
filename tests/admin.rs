//! What the admin listener answers, and that it cannot be used to wear the proxy out.

#[path = "support/page.rs"]
mod page;
#[path = "support/sightings.rs"]
mod sightings;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;

use serde_json::Value;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use tracehop::admin::Admin;
use tracehop::admin::AdminError;
use tracehop::admin::Readiness;
use tracehop::admin::State;
use tracehop::celery::Task;
use tracehop::config;
use tracehop::hop::Answer as Reply;
use tracehop::hop::Quality;
use tracehop::hop::Sighting;
use tracehop::trace::w3c::Invalid;

use crate::page::Page;
use crate::sightings::answered;
use crate::sightings::delivery;
use crate::sightings::publication;

#[tokio::test]
async fn the_process_is_healthy_in_every_state() {
    let page = Page::open().await;
    for state in [State::Starting, State::Ready, State::Draining] {
        page.readiness.set(state);
        let answer = page.get("/healthz").await;
        assert_eq!((answer.status, &*answer.body), (200, "ok\n"));
    }
}

#[tokio::test]
async fn it_is_ready_only_while_it_takes_connections() {
    let page = Page::open().await;
    for (state, status, body) in [
        (State::Starting, 503, "starting\n"),
        (State::Ready, 200, "ready\n"),
        (State::Draining, 503, "draining\n"),
    ] {
        page.readiness.set(state);
        let answer = page.get("/readyz").await;
        assert_eq!((answer.status, &*answer.body), (status, body));
    }
}

#[tokio::test]
async fn metrics_are_openmetrics_for_whoever_asks_for_it() {
    let page = Page::open().await;
    page.metrics.route("main").opened();
    // As Prometheus asks.
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2";
    let request = format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\n\r\n");
    let newer = page.ask(&request).await;
    let older = page.get("/metrics").await;
    for (answer, content_type, name) in [
        (
            &newer,
            "application/openmetrics-text; version=1.0.0",
            "tracehop_connections_opened",
        ),
        (
            &older,
            "text/plain; version=0.0.4",
            "tracehop_connections_opened_total",
        ),
    ] {
        assert_eq!(answer.status, 200);
        let content_type = format!("content-type: {content_type}; charset=utf-8");
        assert!(answer.head.contains(&content_type), "{}", answer.head);
        for line in [
            format!("\n# TYPE {name} counter\n"),
            "\ntracehop_connections_opened_total{route=\"main\"} 1\n".to_owned(),
        ] {
            assert!(answer.body.contains(&line), "{}", answer.body);
        }
    }
    assert!(newer.body.ends_with("# EOF\n"));
    assert!(!older.body.contains("# EOF"));
}

#[tokio::test]
async fn the_quality_of_contexts_is_told_by_task_producer_and_queue() {
    let page = Page::open().await;
    let empty = page.quality().await;
    let nothing = json!({ "messages": 0, "contexts": [] });
    assert_eq!(empty, json!({ "entries": [], "other": nothing }));

    let from = |host: &'static str, number, quality, invalid| {
        let mut publication = publication(number);
        let task = Task {
            name: "shop.pay".into(),
            id: format!("task-{number}").into(),
            origin: Some(host.into()),
            ..Task::default()
        };
        publication.task = (&task).into();
        publication.client_name = Some("shop".into());
        publication.judgement.quality = quality;
        publication.judgement.invalid = invalid;
        let answer = answered(number, Reply::Confirmed);
        [Sighting::Published(publication.into()), answer]
    };
    let mut seen = Vec::new();
    seen.extend(from("good", 1, Quality::Valid, None));
    let upper_case = Some(Invalid::UpperCase);
    seen.extend(from("bad", 2, Quality::Invalid, upper_case));
    seen.extend(from("bad", 3, Quality::Missing, None));
    seen.extend(from("bad", 4, Quality::Missing, None));
    // It was seen when it was sent; another one was not.
    let (known, ..) = delivery(5);
    let (mut unknown, ..) = delivery(6);
    unknown.sent = None;
    seen.extend([
        Sighting::Delivered(known.into()),
        Sighting::Delivered(unknown.into()),
    ]);
    page.telemetry.sightings().record(&mut seen);

    let report = page.quality_of(5).await;
    let sent = "2025-11-22T08:26:40.000Z";
    let found = |quality, reason: Value, messages, task| {
        json!({
            "quality": quality,
            "reason": reason,
            "messages": messages,
            "first_seen": sent,
            "last_seen": sent,
            "example_task_id": task,
        })
    };
    let entries = report["entries"].as_array().unwrap();
    let bad = json!({
        "task": "shop.pay",
        "destination": "celery",
        "system": "some-broker",
        "producer": { "host": "bad", "client_name": "shop", "address": "127.0.0.1" },
        "messages": 3,
        "contexts": [
            found("missing", Value::Null, 2, "task-4"),
            found("invalid", json!("upper_case"), 1, "task-2"),
        ],
    });
    assert_eq!(entries[0], bad);
    let nobody = json!({ "host": null, "client_name": null, "address": null });
    assert_eq!(entries[1]["producer"], nobody);
    assert_eq!(entries[2]["producer"]["host"], "good");
    assert_eq!(entries.len(), 3);
    assert_eq!(report["other"], nothing);

    let documentation = include_str!("../deploy/README.md");
    for name in page::names(&report) {
        let name = format!("`{name}`");
        assert!(documentation.contains(&name), "{name}");
    }
}

#[tokio::test]
async fn the_report_stays_within_its_limit() {
    let limits = config::Limits {
        quality_entries_max: 2,
        ..config::Limits::default()
    };
    let page = Page::open_with(limits, |_| {}).await;
    let mut seen = Vec::new();
    for number in 0..10 {
        let mut publication = publication(number);
        let task = Task {
            name: format!("task-{number}").into(),
            ..Task::default()
        };
        publication.task = (&task).into();
        let answer = answered(number, Reply::Confirmed);
        seen.extend([Sighting::Published(publication.into()), answer]);
    }
    page.telemetry.sightings().record(&mut seen);
    let report = page.quality_of(10).await;
    assert_eq!(report["entries"].as_array().unwrap().len(), 2);
    assert_eq!(report["other"]["messages"], 8);
}

#[tokio::test]
async fn traffic_does_not_wait_for_a_scrape() {
    let page = Page::open().await;
    let scraped_on = Arc::new(Mutex::new(None));
    let thread = Arc::clone(&scraped_on);
    page.metrics.watch_held(move || {
        *thread.lock().unwrap() = Some(thread::current().id());
        0
    });
    assert_eq!(page.get("/metrics").await.status, 200);
    let scraped_on = scraped_on.lock().unwrap().expect("it was asked for");
    // This test has one thread, as if it were the traffic's.
    assert_ne!(scraped_on, thread::current().id());
}

#[tokio::test]
async fn anything_else_is_refused() {
    let page = Page::open().await;
    let known = page.get("/metrics/").await;
    for path in ["/healthz", "/readyz", "/metrics", "/api/quality"] {
        assert!(known.body.contains(path), "{}", known.body);
        assert!([200, 503].contains(&page.get(path).await.status), "{path}");
    }
    assert_eq!(page.get("/metrics/").await.status, 404);
    assert_eq!(page.get("/../etc/passwd").await.status, 404);
    let answer = page
        .ask("POST /metrics HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert_eq!(answer.status, 405);
    assert!(answer.head.contains("allow: GET"), "{}", answer.head);
    let with_header = |bytes| format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(bytes));
    assert_eq!(page.ask(&with_header(15 << 10)).await.status, 200);
    assert_ne!(page.ask(&with_header(17 << 10)).await.status, 200);
    assert_eq!(page.ask("PING\r\n\r\n").await.status, 400);
}

#[tokio::test]
async fn those_who_connect_and_say_nothing_give_way() {
    let page = Page::open().await;
    let mut silent = Vec::new();
    for _ in 0..10 {
        for _ in 0..64 {
            silent.push(TcpStream::connect(page.address).await.unwrap());
        }
        assert_eq!(page.get("/healthz").await.status, 200);
    }
}

#[tokio::test]
async fn a_taken_port_is_told_with_the_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind(Some(address)).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "admin.listen = \"{address}\": somebody listens there already; choose another port, or off"
        )
    );
}

#[tokio::test]
async fn no_address_is_no_listener() {
    assert!(bind(None).await.unwrap().is_none());
}

#[tokio::test]
async fn once_closed_nobody_answers() {
    let page = Page::open().await;
    // One that was accepted and has not asked yet does not keep it open.
    let idle = TcpStream::connect(page.address).await.unwrap();
    page.get("/healthz").await;
    page.serving.close().await;
    assert!(TcpStream::connect(page.address).await.is_err());
    drop(idle);
}

async fn bind(listen: Option<SocketAddr>) -> Result<Option<Admin>, AdminError> {
    let config = config::Admin {
        listen,
        ..config::Admin::default()
    };
    let telemetry = page::telemetry(&config::Limits::default(), &config);
    let subject = page::subject(&telemetry, Readiness::default());
    Admin::bind(&config, subject).await
}
