//! What is shown as JSON: the shape of each answer, who may see it, and how much of it there
//! is.
#![recursion_limit = "256"]

#[path = "support/page.rs"]
mod page;
#[path = "support/sightings.rs"]
mod sightings;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::net::TcpSocket;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::sleep;
use tokio::time::timeout;

use tracehop::admin::Admin;
use tracehop::admin::State;
use tracehop::celery::Task;
use tracehop::config;
use tracehop::hop::Answer as Reply;
use tracehop::hop::Settlement;
use tracehop::hop::Sighting;
use tracehop::telemetry::now;

use crate::page::Page;
use crate::sightings::SETTLED;
use crate::sightings::answered;
use crate::sightings::context;
use crate::sightings::delivery;
use crate::sightings::publication;
use crate::sightings::settled;

const TOKEN: &str = "open-sesame";

/// What is seen of task `number`: sent, confirmed, delivered and acknowledged.
fn passage(number: u64) -> Vec<Sighting> {
    let (mut delivery, ..) = delivery(number);
    delivery.judgement.context = context(number);
    let mut publication = publication(number);
    let taken = &delivery.task;
    let task = Task {
        name: taken.name().into(),
        id: taken.id().into(),
        eta: taken.eta().map(Into::into),
        origin: Some("web-1".into()),
        ..Task::default()
    };
    publication.task = (&task).into();
    vec![
        Sighting::Published(publication.into()),
        answered(number, Reply::Confirmed),
        Sighting::Delivered(delivery.into()),
        settled(number, SETTLED, Settlement::Acknowledged),
    ]
}

/// What `path` tells once it is as `holds` says.
async fn json_once(page: &Page, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let wanted = async {
        loop {
            let answer = page.get(path).await;
            if answer.status == 200 {
                let json = "content-type: application/json";
                assert!(answer.head.contains(json), "{}", answer.head);
                let told = serde_json::from_str(&answer.body).unwrap();
                if holds(&told) {
                    return told;
                }
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), wanted).await.unwrap()
}

fn error(answer: &page::Answer) -> String {
    let json: Value = serde_json::from_str(&answer.body).unwrap();
    json["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_status_tells_how_the_proxy_is() {
    let page = Page::open_with(config::Limits::default(), |admin| {
        admin.trace_url = Some("https://jaeger/trace/{trace_id}".to_owned());
    })
    .await;
    page.readiness.set(State::Ready);
    let connection = publication(1).connection;
    page.telemetry.sightings().record(&mut vec![
        Sighting::LostSight {
            connection: connection.clone(),
            why: "monitor",
        },
        Sighting::LeftAlone {
            connection,
            why: "too_large",
        },
    ]);
    let route = page.metrics.route("default");
    route.opened();
    route.failed("unreachable");
    route.received(true, 5);
    route.received(false, 7);
    let told = |status: &Value| status["left_alone"] != json!([]);
    let mut status = json_once(&page, "/api/status", told).await;
    let listen = status["routes"][0]["listen"].take();
    assert!(listen.as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(
        status["routes"],
        json!([{
            "name": "default",
            "listen": null,
            "upstream": "redis://broker:6379",
            "protocol": "auto",
            "tls_in": false,
            "tls_out": false,
            "connections_open": 1,
            "connections_total": 1,
            "connections_failed": [{ "reason": "unreachable", "count": 1 }],
            "bytes_from_clients": 5,
            "bytes_from_brokers": 7,
        }])
    );
    let count = |reason| json!([{ "route": "main", "reason": reason, "count": 1 }]);
    assert_eq!(status["blind_sessions"], count("monitor"));
    assert_eq!(status["left_alone"], count("too_large"));
    assert_eq!(status["exporter"], Value::Null);
    assert_eq!(status["sightings"], json!({ "queued": 0, "dropped": 0 }));
    assert_eq!(status["state"], "ready");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["trace_url"], "https://jaeger/trace/{trace_id}");
    for time in ["started_at", "now"] {
        assert!(status[time].as_str().unwrap().ends_with('Z'), "{status}");
    }
    let limits = status["limits"].as_array().unwrap();
    for (key, value, used) in [
        ("limits.connections_max", 20_000, json!(0)),
        ("limits.recent_traces_max", 1_000, json!(0)),
        ("limits.fanout_max", 1_000, Value::Null),
    ] {
        let limit = json!({ "key": key, "value": value, "used": used });
        assert!(limits.contains(&limit), "{limit}");
    }
    let config = status["config"].as_array().unwrap();
    for (key, value, origin) in [
        ("policy.mode", "inject", "default"),
        (
            "routes.default.upstream",
            "redis://broker:6379",
            "TRACEHOP_UPSTREAM",
        ),
    ] {
        let setting = json!({ "key": key, "value": value, "origin": origin });
        assert!(config.contains(&setting), "{setting}");
    }
    assert!(!status.to_string().contains("secret"));
}

#[tokio::test]
async fn a_trace_is_listed_and_drawn() {
    let page = Page::open().await;
    page.telemetry.sightings().record(&mut passage(7));
    let over = |listing: &Value| listing["traces"][0]["state"] == "unknown";
    let listing = json_once(&page, "/api/traces?q=7", over).await;
    let id = context(7).trace_id.to_string();
    assert_eq!(
        listing,
        json!({
            "traces": [{
                "trace_id": id,
                "started_at": "2025-11-22T08:26:40.000Z",
                "last_at": "2025-11-22T08:26:44.000Z",
                "duration_ms": 4_000.0,
                "root_task": "shop.pay",
                "root_task_id": "7",
                "tasks": 1,
                "attempts": 1,
                "retries": 0,
                "errors": 0,
                "state": "unknown",
                "queues": ["celery"],
                "systems": ["some-broker"],
                "sampled": true,
            }],
            "next": null,
            "held": 1,
            "held_max": 1_000,
        })
    );
    let trace = json_once(&page, &format!("/api/traces/{id}"), |_| true).await;
    assert_eq!(trace["trace_id"], id);
    let attempt = &trace["tasks"][0]["attempts"][0];
    assert_eq!(attempt["answer"], "confirmed");
    assert_eq!(attempt["eta"], "2025-11-22T08:26:43.000Z");
    assert_eq!(attempt["deliveries"][0]["settlement"], "acknowledged");
    assert_eq!(attempt["deliveries"][0]["eta_wait_ms"], 2_000.0);
    documented(&[listing, trace]);

    for unknown in ["1".repeat(32), "nonsense".to_owned()] {
        let answer = page.get(&format!("/api/traces/{unknown}")).await;
        assert_eq!(answer.status, 404);
        assert!(error(&answer).contains("limits.recent_traces_max"));
    }
}

#[tokio::test]
async fn the_list_comes_in_pages_and_within_its_limits() {
    let limits = config::Limits {
        recent_traces_max: 5,
        ..config::Limits::default()
    };
    let page = Page::open_with(limits, |_| {}).await;
    for number in 1..=8 {
        page.telemetry.sightings().record(&mut passage(number));
    }
    let last = |listing: &Value| listing["traces"][0]["root_task_id"] == "8";
    let first = json_once(&page, "/api/traces?limit=3", last).await;
    assert_eq!(first["traces"].as_array().unwrap().len(), 3);
    assert_eq!((&first["held"], &first["held_max"]), (&json!(5), &json!(5)));
    let next = first["next"].as_str().unwrap();
    let second = json_once(&page, &format!("/api/traces?limit=3&before={next}"), |_| {
        true
    })
    .await;
    let tasks = second["traces"].as_array().unwrap().iter();
    let tasks: Vec<&Value> = tasks.map(|trace| &trace["root_task_id"]).collect();
    assert_eq!(tasks, ["5", "4"]);
    assert_eq!(second["next"], Value::Null);

    let none = json_once(&page, "/api/traces?queue=mail&task=&min_ms=5000", |_| true).await;
    assert_eq!(none["traces"], json!([]));
    for (query, wrong) in [
        ("limit=0", "limit=\"0\""),
        ("limit=1001", "limit=\"1001\""),
        ("limit=many", "limit=\"many\""),
        ("state=broken", "state=\"broken\""),
        ("before=x", "before=\"x\""),
        ("min_ms=-1", "min_ms=\"-1\""),
        ("colour=red", "there is no parameter \"colour\""),
        ("q=a&q=b", "given twice"),
    ] {
        let answer = page.get(&format!("/api/traces?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(error(&answer).contains(wrong), "{}", answer.body);
    }
}

#[tokio::test]
async fn the_flow_tells_who_sends_and_who_takes() {
    let page = Page::open().await;
    page.telemetry.sightings().record(&mut passage(7));
    // What was sent is counted when it has ended, after what was delivered meanwhile.
    let is_booked =
        |flow: &Value| flow["receives"] != json!([]) && flow["queues"][0]["sent_total"] == json!(1);
    let mut flow = json_once(&page, "/api/flow", is_booked).await;
    flow["now"].take();
    assert_eq!(
        flow,
        json!({
            "now": null,
            "window_s": 60,
            "producers": [{
                "id": "p1",
                "name": "web-1",
                "host": "web-1",
                "client_name": null,
                "address": "127.0.0.1",
            }],
            "queues": [{
                "id": "q1",
                "name": "celery",
                "system": "some-broker",
                "sent_rate": 0.0,
                "sent_total": 1,
                "delivered_rate": 0.0,
                "delivered_total": 1,
                "backlog": 0,
                "oldest_waiting_ms": null,
                "dwell_p50_ms": null,
                "dwell_p95_ms": null,
                "errors_total": 0,
                "redelivered_total": 0,
            }],
            "workers": [{ "id": "w1", "name": "127.0.0.1", "address": "127.0.0.1" }],
            "sends": [{
                "producer": "p1",
                "queue": "q1",
                "rate": 0.0,
                "total": 1,
                "errors_total": 0,
                "quality": {
                    "valid": 0, "missing": 1, "invalid": 0, "stale": 0, "foreign": 0, "mixed": 0,
                },
            }],
            "receives": [{
                "queue": "q1",
                "worker": "w1",
                "rate": 0.0,
                "total": 1,
                "redelivered_total": 0,
                "failed_total": 0,
                "run_p50_ms": null,
                "run_p95_ms": null,
            }],
            "truncated": false,
        })
    );
    documented(&[flow]);
}

#[tokio::test]
async fn hops_are_told_live_to_those_who_want_them() {
    let page = Page::open().await;
    let mut all = Stream::open(&page, "").await;
    let mut mail = Stream::open(&page, "?queue=mail").await;
    let mut errors = Stream::open(&page, "?errors=true").await;
    let mut refused = publication(9);
    refused.destination = "mail".into();
    let mut seen = passage(7);
    seen.push(Sighting::Published(refused.into()));
    seen.push(answered(
        9,
        Reply::Refused("OOM command not allowed".into()),
    ));
    page.telemetry.sightings().record(&mut seen);

    let (kind, sent) = all.next().await;
    assert_eq!(kind, "hop");
    assert_eq!(
        sent,
        json!({
            "at": "2025-11-22T08:26:40.000Z",
            "leg": "send",
            "trace_id": context(7).trace_id.to_string(),
            "task": "shop.pay",
            "task_id": "7",
            "retries": 0,
            "queue": "celery",
            "system": "some-broker",
            "producer": "web-1",
            "answer": "confirmed",
            "dwell_ms": null,
            "run_ms": null,
            "state": null,
            "verdict": "added",
            "quality": "missing",
            "origin": "derived",
            "error": null,
        })
    );
    let (_, received) = all.next().await;
    assert_eq!(received["leg"], "receive");
    assert_eq!(received["worker"], "127.0.0.1");
    assert_eq!(received["settlement"], "acknowledged");
    assert_eq!(received["dwell_ms"], 1_000.0);
    for stream in [&mut all, &mut mail, &mut errors] {
        let (_, hop) = stream.next().await;
        assert_eq!(hop["error"], "OOM command not allowed");
    }
    documented(&[sent, received]);
    let answer = page.get("/api/live?errors=maybe").await;
    assert_eq!(
        (answer.status, error(&answer).contains("errors")),
        (400, true)
    );
}

#[tokio::test]
async fn who_does_not_keep_up_is_told_how_many_hops_were_missed() {
    let page = Page::open().await;
    let mut stream = Stream::open(&page, "").await;
    let sent = 30_000_u64;
    let mut sightings = (0..sent).flat_map(|number| {
        let mut publication = publication(1);
        publication.hop.number = number;
        publication.at = now();
        [
            Sighting::Published(publication.into()),
            answered(number, Reply::Confirmed),
        ]
    });
    let mut booked = 0;
    // A few at a time, so that none is dropped before it is booked.
    loop {
        let mut some: Vec<Sighting> = sightings.by_ref().take(20_000).collect();
        if some.is_empty() {
            break;
        }
        booked += some.len() as u64 / 2;
        page.telemetry.sightings().record(&mut some);
        let line = format!(
            "tracehop_sends_total{{system=\"some-broker\",destination=\"celery\",answer=\"confirmed\"}} {booked}\n"
        );
        let all = async {
            while !page.metrics.encode().contains(&line) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(60), all).await.unwrap();
    }
    let mut heard = 0;
    let mut missed = 0;
    while heard + missed < sent {
        match stream.next().await {
            (kind, missing) if kind == "missed" => missed += missing["count"].as_u64().unwrap(),
            _ => heard += 1,
        }
    }
    assert!(missed > 0);
}

#[tokio::test]
async fn only_so_many_may_listen_at_a_time() {
    let page = Page::open().await;
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(Stream::open(&page, "").await);
    }
    let answer = page.get("/api/live").await;
    assert_eq!(answer.status, 503);
    assert!(error(&answer).contains("try again later"));
    drop(streams);
    let free = async {
        // The connection is missed when something is told on it.
        loop {
            page.telemetry.sightings().record(&mut passage(7));
            if Stream::try_open(&page, "").await.is_some() {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), free).await.unwrap();
}

#[tokio::test]
async fn a_stream_ends_with_the_listener() {
    let page = Page::open().await;
    let mut stream = Stream::open(&page, "").await;
    page.serving.close().await;
    let end = timeout(Duration::from_secs(60), stream.rest());
    assert!(!end.await.unwrap().contains("event:"));
}

#[tokio::test]
async fn with_a_token_only_those_who_show_it_see_anything() {
    let path = token_file("with", &format!("{TOKEN}\nanything else\n"));
    let page = Page::open_with(config::Limits::default(), |admin| {
        admin.token_file = Some(path.clone());
    })
    .await;
    for path in ["/healthz", "/", "/app.js"] {
        assert_eq!(page.get(path).await.status, 200, "{path}");
    }
    assert_eq!(page.get("/readyz").await.status, 503);
    for path in [
        "/metrics",
        "/api/status",
        "/api/flow",
        "/api/traces",
        "/api/live",
        "/x",
    ] {
        let ask = |header: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{header}\r\n");
        for header in [
            "",
            "authorization: Bearer\r\n",
            "authorization: Bearer open-sesam\r\n",
            "authorization: Bearer open-sesame2\r\n",
            "authorization: Basic open-sesame\r\n",
        ] {
            let answer = page.ask(&ask(header)).await;
            assert_eq!(answer.status, 401, "{path} {header}");
            assert!(answer.head.contains("www-authenticate: Bearer\r\n"));
            assert!(error(&answer).contains("admin.token_file"));
            assert!(!answer.body.contains(TOKEN));
        }
        if path == "/api/live" {
            continue;
        }
        for scheme in ["Bearer", "bearer"] {
            let answer = page
                .ask(&ask(&format!("authorization: {scheme} {TOKEN}\r\n")))
                .await;
            let expected = if path == "/x" { 404 } else { 200 };
            assert_eq!(answer.status, expected, "{path}");
        }
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn a_token_that_cannot_be_read_is_told_with_the_setting() {
    for (name, text, wrong) in [
        ("empty", Some("\nsecret"), "holds no token"),
        ("binary", Some("sec\u{7}ret"), "that a header cannot carry"),
        ("missing", None, "cannot be read"),
    ] {
        let path = match text {
            Some(text) => token_file(name, text),
            None => PathBuf::from("/nowhere/at/all"),
        };
        let config = config::Admin {
            token_file: Some(path.clone()),
            ..config::Admin::default()
        };
        let error = Admin::check(&config).unwrap_err().to_string();
        assert!(error.starts_with("admin.token_file = "), "{error}");
        assert!(error.contains(wrong) && !error.contains("ret"), "{error}");
        let _ = fs::remove_file(path);
    }
}

#[tokio::test]
async fn every_answer_says_what_a_browser_may_make_of_it() {
    let page = Page::open().await;
    for path in [
        "/",
        "/app.js",
        "/healthz",
        "/metrics",
        "/api/status",
        "/nowhere",
    ] {
        for method in ["GET", "HEAD", "POST"] {
            let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
            let answer = page.ask(&request).await;
            for header in [
                "content-security-policy: default-src 'none'; script-src 'self'; style-src \
                 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action \
                 'none'; frame-ancestors 'none'\r\n",
                "x-content-type-options: nosniff\r\n",
                "referrer-policy: no-referrer\r\n",
            ] {
                assert!(
                    answer.head.contains(header),
                    "{method} {path}: {}",
                    answer.head
                );
            }
            if method == "HEAD" {
                assert_eq!(answer.body, "");
            }
        }
    }
    let status = page.get("/api/status").await;
    assert!(
        status.head.contains("cache-control: no-store\r\n"),
        "{}",
        status.head
    );
}

#[tokio::test]
async fn a_file_of_the_page_that_is_known_is_not_sent_again() {
    let page = Page::open().await;
    let first = page.get("/app.js").await;
    let kind = "content-type: text/javascript; charset=utf-8\r\n";
    assert!(first.head.contains(kind), "{}", first.head);
    assert!(first.head.contains("cache-control: no-cache\r\n"));
    let (_, tag) = first.head.split_once("etag: ").unwrap();
    let tag = tag.lines().next().unwrap();
    let request =
        format!("GET /app.js HTTP/1.1\r\nhost: localhost\r\nif-none-match: {tag}\r\n\r\n");
    let second = page.ask(&request).await;
    assert_eq!((second.status, &*second.body), (304, ""));
}

#[tokio::test]
async fn on_loopback_a_foreign_host_is_refused() {
    let page = Page::open().await;
    let ask = |path: &str, host: &str| format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    for host in [
        "localhost",
        "LOCALHOST:8080",
        "127.0.0.1:9464",
        "127.0.0.2",
        "[::1]:1",
        "[::1]",
    ] {
        assert_eq!(
            page.ask(&ask("/api/flow", host)).await.status,
            200,
            "{host}"
        );
    }
    for host in [
        "evil.example",
        "evil.example:9464",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "",
    ] {
        for path in ["/", "/metrics", "/api/flow"] {
            let answer = page.ask(&ask(path, host)).await;
            assert_eq!(answer.status, 403, "{host}");
            assert!(error(&answer).contains("localhost"));
        }
        assert_eq!(page.ask(&ask("/healthz", host)).await.status, 200, "{host}");
    }
    let everywhere = Page::open_with(config::Limits::default(), |admin| {
        admin.listen = Some(([0, 0, 0, 0], 0).into());
    })
    .await;
    let port = everywhere.address.port();
    let everywhere = Page {
        address: ([127, 0, 0, 1], port).into(),
        ..everywhere
    };
    assert_eq!(
        everywhere
            .ask(&ask("/api/flow", "proxy.example"))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn without_a_listener_nothing_is_remembered() {
    let admin = config::Admin {
        listen: None,
        ..config::Admin::default()
    };
    let telemetry = page::telemetry(&config::Limits::default(), &admin);
    telemetry.sightings().record(&mut passage(7));
    let (views, metrics) = (telemetry.views(), telemetry.metrics());
    telemetry.flush(Duration::from_secs(60)).await;
    assert!(metrics.encode().contains("tracehop_settlements_total{"));
    assert_eq!(views.watch.recent.count(), 0);
    let flow = serde_json::to_value(views.watch.flow.read(now())).unwrap();
    assert_eq!(flow["queues"], json!([]));
}

/// Fails where a field of these answers is not told of in the documentation.
#[track_caller]
fn documented(answers: &[Value]) {
    let documentation = include_str!("../deploy/API.md");
    for name in answers.iter().flat_map(page::names) {
        assert!(documentation.contains(&format!("`{name}`")), "{name}");
    }
}

/// A file of that name with that text.
fn token_file(name: &str, text: &str) -> PathBuf {
    let name = format!("tracehop-token-{name}-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    fs::write(&path, text).unwrap();
    path
}

/// A stream of events.
struct Stream(BufReader<OwnedReadHalf>);

impl Stream {
    async fn open(page: &Page, query: &str) -> Self {
        let stream = Self::try_open(page, query).await;
        stream.expect("there is room for one more")
    }

    /// `None` where it is refused.
    async fn try_open(page: &Page, query: &str) -> Option<Self> {
        let socket = TcpSocket::new_v4().unwrap();
        // So that little is on its way to whoever does not read.
        socket.set_recv_buffer_size(4_096).unwrap();
        let stream = socket.connect(page.address).await.unwrap();
        let (reading, mut writing) = stream.into_split();
        let request = format!("GET /api/live{query} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        writing.write_all(request.as_bytes()).await.unwrap();
        // Closing one half would end the whole.
        writing.forget();
        let mut stream = Self(BufReader::new(reading));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push_str(&stream.line().await);
        }
        let is_stream = head.contains("content-type: text/event-stream\r\n");
        is_stream.then_some(stream)
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.0.read_line(&mut line);
        let read = timeout(Duration::from_secs(60), read).await.unwrap();
        assert_ne!(read.unwrap(), 0, "the stream has ended");
        line
    }

    /// The kind of the next event, and its data.
    async fn next(&mut self) -> (String, Value) {
        let mut kind = String::new();
        loop {
            let line = self.line().await;
            let line = line.trim_end();
            if let Some(event) = line.strip_prefix("event: ") {
                event.clone_into(&mut kind);
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (kind, serde_json::from_str(data).unwrap());
            }
        }
    }

    /// Everything up to the end.
    async fn rest(&mut self) -> String {
        let mut rest = String::new();
        while self.0.read_line(&mut rest).await.unwrap() > 0 {}
        rest
    }
}
