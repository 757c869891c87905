//! `doctor`, `tail`, `peek`, `verify`, `completions` and `man`, as their users run them.

#[path = "support/http.rs"]
mod http;
#[path = "support/otlp.rs"]
mod otlp;
mod support;

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::process::Child;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use amqprs::BasicProperties;
use amqprs::FieldTable;
use amqprs::channel::BasicPublishArguments;
use amqprs::channel::QueueDeclareArguments;
use amqprs::connection::Connection;
use amqprs::connection::OpenConnectionArguments;
use serde_json::Value;
use serde_json::json;

use tracehop::config::OtlpProtocol;

use crate::http::Asked;
use crate::otlp::Answer as Reply;
use crate::otlp::Collector;
use crate::support::patiently;
use crate::support::peer::Peer;
use crate::support::program::Answer;
use crate::support::program::Running;
use crate::support::program::ask;
use crate::support::program::command;
use crate::support::program::file;
use crate::support::rabbitmq::RabbitMq;
use crate::support::redis::Redis;
use crate::support::tls::Authority;
use crate::support::tls::Folder;
use crate::support::until;

const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// Written for the first attempt of the task `id-of-second`.
const SENT: &str = "tracehop=b7ad6b7169203331-19a00000000-de42e91e";

/// A kombu envelope of a task of that name; its arguments are a secret.
fn envelope(task: &str, headers: &Value) -> String {
    let mut headers = headers.clone();
    headers["task"] = json!(task);
    headers["id"] = json!(format!("id-of-{task}"));
    headers["argsrepr"] = json!("('s3cret',)");
    json!({
        "body": "WyJzM2NyZXQiXQ==", "content-encoding": "utf-8", "content-type": "application/json",
        "headers": headers,
        "properties": {
            "body_encoding": "base64", "delivery_tag": task,
            "delivery_info": { "exchange": "", "routing_key": "celery" },
        },
    })
    .to_string()
}

/// Sends a command and expects that answer.
async fn expect(peer: &mut Peer, command: &[&str], answer: &str) {
    let words = command
        .iter()
        .map(|word| format!("${}\r\n{word}\r\n", word.len()));
    peer.say(format!(
        "*{}\r\n{}",
        command.len(),
        words.collect::<String>()
    ))
    .await;
    peer.expect(answer).await;
}

fn contexts(answer: &Answer) -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(&answer.stdout).unwrap();
    let messages = document["messages"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    messages
        .map(|message| (text(&message["task"]), text(&message["context"])))
        .collect()
}

#[tokio::test]
async fn peek_shows_what_waits_in_redis_and_takes_nothing() {
    let redis = Redis::start().await;
    let mut app = Peer::connect(redis.address).await;
    let nested = json!({ "headers": { "sentry-trace": "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1" } });
    for (key, message) in [
        ("celery", envelope("first", &json!({}))),
        (
            "celery",
            envelope(
                "second",
                &json!({ "traceparent": VALID, "tracestate": SENT }),
            ),
        ),
        (
            "celery",
            envelope(
                "third",
                &json!({ "traceparent": VALID.to_uppercase(), "eta": "2026-11-22T08:53:23+00:00" }),
            ),
        ),
        ("celery", "no task".to_owned()),
        ("celery\u{6}\u{16}6", envelope("urgent", &nested)),
    ] {
        let answer = if message == "no task" { ":4\r\n" } else { ":" };
        expect(&mut app, &["LPUSH", key, &message], answer).await;
        if answer == ":" {
            let mut rest = [0; 3];
            patiently(tokio::io::AsyncReadExt::read_exact(
                &mut app.stream,
                &mut rest,
            ))
            .await
            .unwrap();
        }
    }
    let upstream = format!("redis://{}/0", redis.address);
    let ask = |more: &[&str]| {
        let arguments = [&["peek", "celery", "--upstream", &upstream][..], more].concat();
        let answer = ask(&arguments, &[]);
        assert!(!answer.stdout.contains("s3cret"), "{}", answer.stdout);
        assert_eq!((answer.code, answer.stderr.as_str()), (0, ""));
        answer
    };
    let expected = [
        ("first", "missing"),
        ("second", "valid"),
        ("third", "invalid"),
        ("-", "-"),
        ("urgent", "foreign"),
    ]
    .map(|(task, context)| (task.to_owned(), context.to_owned()));
    let all = ask(&["--json"]);
    assert_eq!(contexts(&all), expected);
    let document: Value = serde_json::from_str(&all.stdout).unwrap();
    let [_, second, third, _, urgent] = &document["messages"].as_array().unwrap()[..] else {
        panic!("{document}");
    };
    assert_eq!(second["sent_at"], "2025-10-20T05:03:11.360Z");
    assert!(second["age_ms"].as_u64().unwrap() > 0);
    assert_eq!(third["reason"], "upper_case");
    assert_eq!(third["eta"], "2026-11-22T08:53:23+00:00");
    assert_eq!(urgent["step"], 6);
    assert_eq!(contexts(&ask(&["--json", "-n", "2"])), expected[..2]);
    let text = ask(&[]).stdout;
    assert!(text.starts_with("celery: 5 waiting, 5 shown\n"), "{text}");
    assert!(text.contains("\ninvalid: upper_case "), "{text}");
    // Not even the order has changed.
    expect(&mut app, &["LLEN", "celery"], ":4\r\n").await;
    assert_eq!(contexts(&ask(&["--json"])), expected);
}

#[tokio::test]
async fn a_redis_with_a_password_is_reachable_and_asked_for_more_with_it() {
    let redis = Redis::start().await;
    let mut app = Peer::connect(redis.address).await;
    let set = ["CONFIG", "SET", "requirepass", "s3cret"];
    expect(&mut app, &set, "+OK\r\n").await;
    let collector = Collector::start(OtlpProtocol::HttpProtobuf);
    let endpoint = format!("http://{}", collector.address);
    let password = file("password", "s3cret\n");
    let wrong = file("wrong", "wr0ng\n");
    let with = format!("redis://:s3cret@{}", redis.address);
    let without = format!("redis://{}", redis.address);
    for (upstream, more, code, words) in [
        (&without, &[][..], 0, "and wants a password"),
        (&with, &[], 0, "maxclients"),
        (&without, &["--password-file", &password], 0, "maxclients"),
        (&without, &["--password-file", &wrong], 1, "WRONGPASS"),
    ] {
        let arguments = [
            &["doctor", "--listen", "127.0.0.1:0", "--upstream", upstream][..],
            &[
                "--admin-listen",
                "127.0.0.1:0",
                "--otlp-endpoint",
                &endpoint,
            ],
            more,
        ];
        let answer = ask(&arguments.concat(), &[]);
        let shown = answer.stdout + &answer.stderr;
        assert_eq!(answer.code, code, "{shown}");
        assert!(shown.contains(words), "{shown}");
        assert!(
            !shown.contains("s3cret") && !shown.contains("wr0ng"),
            "{shown}"
        );
    }
    for (upstream, code, words) in [
        (&with, 0, "0 waiting"),
        (&without, 1, "it wants a password"),
        (&with.replace("s3cret", "wr0ng"), 1, "WRONGPASS"),
    ] {
        let answer = ask(&["peek", "celery"], &[("CELERY_BROKER_URL", upstream)]);
        let shown = answer.stdout + &answer.stderr;
        assert_eq!(answer.code, code, "{shown}");
        assert!(shown.contains(words), "{shown}");
        assert!(
            !shown.contains("s3cret") && !shown.contains("wr0ng"),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn peek_and_doctor_ask_a_rabbitmq() {
    let Some(server) = RabbitMq::start().await else {
        return;
    };
    let arguments = OpenConnectionArguments::new("127.0.0.1", server.port, "guest", "guest");
    let app = patiently(Connection::open(&arguments)).await.unwrap();
    let channel = patiently(app.open_channel(None)).await.unwrap();
    let declare = QueueDeclareArguments::durable_client_named("celery");
    patiently(channel.queue_declare(declare)).await.unwrap();
    for (task, traceparent) in [
        ("first", None),
        ("second", Some(VALID)),
        ("third", Some("00")),
    ] {
        let mut headers = FieldTable::new();
        let mut set = |name: &str, text: &str| {
            let value = amqprs::FieldValue::S(text.try_into().unwrap());
            headers.insert(name.try_into().unwrap(), value);
        };
        set("task", task);
        set("id", "1");
        set("argsrepr", "('s3cret',)");
        if let Some(traceparent) = traceparent {
            set("traceparent", traceparent);
        }
        let mut properties = BasicProperties::default();
        properties.with_headers(headers);
        let publish = BasicPublishArguments::new("", "celery");
        let body = b"[[\"s3cret\"], {}, {}]".to_vec();
        patiently(channel.basic_publish(properties, body, publish))
            .await
            .unwrap();
    }
    // What is published is not there before it is.
    loop {
        let passive = QueueDeclareArguments::new("celery").passive(true).finish();
        let declared = patiently(channel.queue_declare(passive)).await.unwrap();
        if declared.is_some_and(|(_, waiting, _)| waiting == 3) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let upstream = format!("amqp://guest:guest@127.0.0.1:{}//", server.port);
    let peek = |more: &[&str]| {
        let arguments = [
            &["peek", "celery", "--upstream", &upstream, "--json"][..],
            more,
        ];
        let answer = ask(&arguments.concat(), &[]);
        assert!(!answer.stdout.contains("s3cret"), "{}", answer.stdout);
        assert_eq!((answer.code, answer.stderr.as_str()), (0, ""));
        answer
    };
    let expected = [
        ("first", "missing"),
        ("second", "valid"),
        ("third", "invalid"),
    ]
    .map(|(task, context)| (task.to_owned(), context.to_owned()));
    // Not without leave.
    let counted = peek(&[]);
    assert_eq!(contexts(&counted), []);
    assert!(
        counted.stdout.contains("\"waiting\":3"),
        "{}",
        counted.stdout
    );
    assert_eq!(contexts(&peek(&["--yes"])), expected);
    // Everything is back in its place, and marked.
    let again = peek(&["--yes", "-n", "2"]);
    assert_eq!(contexts(&again), expected[..2]);
    assert!(
        again.stdout.contains("\"redelivered\":true"),
        "{}",
        again.stdout
    );
    let nowhere = ask(&["peek", "nowhere", "--upstream", &upstream], &[]);
    assert_eq!(nowhere.code, 1);
    assert!(
        nowhere.stderr.contains("there is no such queue"),
        "{}",
        nowhere.stderr
    );

    for (upstream, code, words) in [
        (&*upstream, 0, "frame max 131072"),
        (&format!("amqp://127.0.0.1:{}", server.port), 0, "PLAIN"),
        (
            &format!("amqp://guest:wr0ng@127.0.0.1:{}", server.port),
            1,
            "cannot log in",
        ),
    ] {
        let arguments = [
            &["doctor", "--listen", "127.0.0.1:0", "--upstream", upstream][..],
            &["--admin-listen", "off"],
        ];
        let answer = ask(&arguments.concat(), &[("OTEL_SDK_DISABLED", "true")]);
        let shown = answer.stdout + &answer.stderr;
        assert_eq!(answer.code, code, "{shown}");
        assert!(
            shown.contains(words) && shown.contains("RabbitMQ"),
            "{shown}"
        );
        assert!(!shown.contains("wr0ng"), "{shown}");
    }
    patiently(channel.close()).await.unwrap();
    patiently(app.close()).await.unwrap();
}

#[tokio::test]
async fn doctor_exports_a_span_and_tells_where_it_went() {
    let redis = Redis::start().await;
    let upstream = format!("redis://{}", redis.address);
    for (protocol, word) in [
        (OtlpProtocol::HttpProtobuf, "http/protobuf"),
        (OtlpProtocol::Grpc, "grpc"),
    ] {
        let collector = Collector::start(protocol);
        let endpoint = format!("http://{}", collector.address);
        let diagnose = |endpoint: &str| {
            let arguments = [
                &["doctor", "--listen", "127.0.0.1:0", "--upstream", &upstream][..],
                &["--admin-listen", "off", "--otlp-endpoint", endpoint],
                &["--json"],
            ];
            let variables = [("TRACEHOP_TELEMETRY_PROTOCOL", word)];
            let answer = ask(&arguments.concat(), &variables);
            let document: Value = serde_json::from_str(&answer.stdout).unwrap();
            assert_eq!(document["ok"], answer.code == 0);
            (answer.code, finding(&document, "collector"))
        };
        let (code, finding) = diagnose(&endpoint);
        assert_eq!((code, &finding["state"]), (0, &json!("ok")), "{finding}");
        let what = finding["what"].as_str().unwrap();
        assert!(what.contains(&endpoint), "{what}");
        let names: Vec<String> = collector
            .spans()
            .into_iter()
            .map(|span| span.name)
            .collect();
        assert_eq!(names, ["tracehop doctor"]);
        collector.always(Reply::Refuse);
        let (code, finding) = diagnose(&endpoint);
        assert_eq!((code, &finding["state"]), (1, &json!("fail")), "{finding}");
        assert!(finding["remedy"].is_string());
    }
}

#[tokio::test]
async fn brokers_are_asked_over_tls_where_their_url_says_so() {
    let folder = Folder::new("commands");
    let authority = Authority::new();
    let identity = folder.identity("redis", &authority.sign("localhost"));
    let ca = folder.authority("ca", &authority);
    let stranger = folder.authority("stranger", &Authority::new());
    let redis = Redis::start_with_tls(&identity.certificate, &identity.key).await;
    let upstream = format!("rediss://localhost:{}", redis.address.port());
    for (ca, code, words) in [
        (&ca, 0, "answers as redis"),
        (
            &stranger,
            1,
            "set `upstream_ca` to the authority that signed it",
        ),
    ] {
        let ca = ca.to_str().unwrap();
        let config = format!(
            "[routes.redis]\nlisten = \"127.0.0.1:0\"\nupstream = \"{upstream}\"\n\
             upstream_ca = \"{ca}\"\n"
        );
        let config = file("tls.toml", &config);
        let doctor = ["doctor", "--config", &config, "--admin-listen", "off"];
        let answer = ask(&doctor, &[("OTEL_SDK_DISABLED", "true")]);
        assert_eq!(answer.code, code, "{}", answer.stdout);
        assert!(answer.stdout.contains(words), "{}", answer.stdout);
        let peek = ["peek", "celery", "--upstream", &upstream, "--ca", ca];
        let answer = ask(&peek, &[]);
        assert_eq!(answer.code, code, "{}{}", answer.stdout, answer.stderr);
    }
}

/// The first of what was found there.
fn finding(document: &Value, about: &str) -> Value {
    let findings = document["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["about"] == about);
    found.unwrap_or_else(|| panic!("{document}")).clone()
}

#[tokio::test]
async fn doctor_tells_a_port_that_another_has_from_one_that_a_tracehop_has() {
    let redis = Redis::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let upstream = format!("redis://{}", redis.address);
    let tracehop = Asked::answering(|_| (200, "ok\n".to_owned())).to_string();
    for (admin, state, words) in [
        (&*tracehop, "ok", "a tracehop answers at"),
        ("off", "fail", "Address already in use"),
    ] {
        let arguments = [
            &["doctor", "--listen", &listen, "--upstream", &upstream][..],
            &["--admin-listen", admin, "--json"],
        ];
        let answer = ask(&arguments.concat(), &[("OTEL_SDK_DISABLED", "true")]);
        assert_eq!(answer.code, i32::from(state == "fail"), "{}", answer.stdout);
        let document: Value = serde_json::from_str(&answer.stdout).unwrap();
        let finding = finding(&document, "route default");
        assert_eq!(finding["state"], state);
        assert!(
            finding["what"].as_str().unwrap().contains(words),
            "{finding}"
        );
    }
}

#[test]
fn doctor_tells_of_a_broker_whose_clock_is_wrong_and_of_one_that_is_none() {
    for (hello, time, code, words) in [
        (
            "*0\r\n",
            "*2\r\n$10\r\n1000000000\r\n$1\r\n0\r\n",
            0,
            "does not have the same time",
        ),
        (
            "-LOADING the dataset\r\n",
            "",
            1,
            "wait until it has read its data",
        ),
        (
            "HTTP/1.1 400 Bad Request\r\n\r\n",
            "",
            1,
            "does not speak Redis",
        ),
        (
            "*2\r\n$4\r\nrole\r\n$7\r\nreplica\r\n",
            "-NOPERM\r\n",
            0,
            "is a replica",
        ),
    ] {
        let upstream = format!("redis://{}", fake_redis(hello, time));
        let arguments = [
            &["doctor", "--listen", "127.0.0.1:0", "--upstream", &upstream][..],
            &["--admin-listen", "off"],
        ];
        let answer = ask(&arguments.concat(), &[("OTEL_SDK_DISABLED", "true")]);
        assert_eq!(answer.code, code, "{}", answer.stdout);
        assert!(answer.stdout.contains(words), "{}", answer.stdout);
    }
}

/// Answers HELLO and TIME so, and refuses everything else.
fn fake_redis(hello: &'static str, time: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        for line in lines.map_while(Result::ok) {
            let answer = match &*line {
                "HELLO" => hello,
                "TIME" => time,
                "INFO" => "-NOPERM\r\n",
                _ => continue,
            };
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn doctor_refuses_what_check_refuses() {
    for arguments in [
        &["doctor"][..],
        &["doctor", "--config", "nowhere.toml"],
        &["doctor", "--config", "proxy.toml", "--route", "nowhere"],
        &["doctor", "--config", "proxy.toml", "--user", "app"],
        &[
            "doctor",
            "--config",
            "proxy.toml",
            "--password-file",
            "proxy.toml",
        ],
    ] {
        assert_eq!(ask(arguments, &[]).code, 64, "{arguments:?}");
    }
}

/// A trace as Jaeger tells it: whose spans are in it is told by `with`.
fn jaeger_trace(with: &[&str]) -> Value {
    let trace_id = "0af7651916cd43dd8448eb211c80319c";
    let span = |id: &str, parent: Option<&str>, name: &str, process: &str, tags: Value| {
        let tags: Vec<Value> = tags
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| json!({ "key": key, "type": "string", "value": value }))
            .collect();
        let references: Vec<Value> = parent
            .iter()
            .map(|parent| json!({ "refType": "CHILD_OF", "traceID": trace_id, "spanID": parent }))
            .collect();
        json!({
            "traceID": trace_id, "spanID": id, "operationName": name, "references": references,
            "startTime": 1_795_337_603_736_583_u64, "duration": 1_000, "tags": tags, "logs": [],
            "processID": process, "warnings": null,
        })
    };
    let ours = |leg: &str, kind: &str| {
        json!({
            "messaging.message.id": "task-1", "messaging.operation.name": leg, "span.kind": kind,
            "celery.task_name": "shop.order", "celery.retries": 0, "tracehop.route": "redis",
            "tracehop.context.origin": "carried", "otel.scope.name": "tracehop",
        })
    };
    let producer = json!({ "span.kind": "producer", "celery.task_name": "shop.order" });
    let worker = json!({ "span.kind": "consumer", "messaging.message_id": "task-1" });
    let spans = [
        (
            "producer",
            span("a1", None, "apply_async/shop.order", "p1", producer),
        ),
        (
            "hop",
            span(
                "b1",
                Some("a1"),
                "send celery",
                "p2",
                ours("send", "client"),
            ),
        ),
        (
            "delivery",
            span(
                "b2",
                Some("a1"),
                "receive celery",
                "p2",
                ours("receive", "client"),
            ),
        ),
        (
            "worker",
            span("c1", Some("a1"), "run/shop.order", "p3", worker),
        ),
    ];
    let spans = spans.into_iter().filter(|(whose, _)| with.contains(whose));
    let spans: Vec<Value> = spans.map(|(_, span)| span).collect();
    let processes = json!({
        "p1": { "serviceName": "web", "tags": [] },
        "p2": { "serviceName": "tracehop", "tags": [] },
        "p3": { "serviceName": "worker", "tags": [] },
    });
    let trace = json!({
        "traceID": trace_id, "spans": spans, "processes": processes, "warnings": null,
    });
    json!({ "data": [trace], "total": 0, "limit": 0, "offset": 0, "errors": null })
}

#[test]
fn verify_says_where_a_trace_in_jaeger_breaks() {
    let trace_id = "0af7651916cd43dd8448eb211c80319c";
    for (with, code, words) in [
        (&["producer", "hop", "delivery", "worker"][..], 0, "joined"),
        (
            &["hop", "delivery", "worker"],
            1,
            "the producer's span has not come here",
        ),
        (
            &["producer", "hop", "delivery"],
            1,
            "the worker's span is not in the trace",
        ),
        (&["producer", "hop"], 1, "it still waits in the queue"),
        (&["producer", "worker"], 2, "none of tracehop's"),
    ] {
        let trace = jaeger_trace(with).to_string();
        let jaeger = Asked::answering(move |target| match target {
            "/api/traces/0af7651916cd43dd8448eb211c80319c" => (200, trace.clone()),
            "/api/traces?service=tracehop&tags=%7B%22messaging.message.id%22%3A%22task-1%22%7D" => {
                (200, trace.clone())
            }
            _ => (
                404,
                json!({ "data": null, "errors": [{ "code": 404, "msg": "trace not found" }] })
                    .to_string(),
            ),
        });
        let jaeger = format!("http://{jaeger}");
        for by in [["--trace", trace_id], ["--task", "task-1"]] {
            let answer = ask(&[&["verify", "--jaeger", &jaeger][..], &by].concat(), &[]);
            let shown = answer.stdout + &answer.stderr;
            assert_eq!(answer.code, code, "{shown}");
            assert!(shown.contains(words), "{shown}");
        }
        let other = "1".repeat(32);
        let unknown = ask(&["verify", "--jaeger", &jaeger, "--trace", &other], &[]);
        assert_eq!(unknown.code, 2);
        assert!(
            unknown.stderr.contains("trace not found"),
            "{}",
            unknown.stderr
        );
    }
    let answer = ask(
        &["verify", "--jaeger", "http://127.0.0.1:1", "--task", "x"],
        &[],
    );
    assert_eq!(answer.code, 2, "{}", answer.stderr);
    for wrong in [
        &["verify"][..],
        &["verify", "--trace", "xyz"],
        &["verify", "--task", "x", "--jaeger", "jaeger:16686"],
    ] {
        assert_eq!(ask(wrong, &[]).code, 64, "{wrong:?}");
    }
}

#[test]
fn verify_asks_a_running_tracehop_where_there_is_no_jaeger() {
    let trace = |attempt: Value| {
        json!({ "trace_id": "1", "tasks": [
            { "task_id": "task-1", "task": "shop.order", "attempts": [attempt] },
        ] })
        .to_string()
    };
    let delivered = json!([{ "worker": "worker-1", "state": "succeeded" }]);
    for (attempt, code, words) in [
        (
            json!({ "origin": "carried", "verdict": "kept", "deliveries": delivered }),
            0,
            "delivered to worker-1, and succeeded",
        ),
        (
            json!({ "origin": "derived", "quality": "missing", "verdict": "added", "deliveries": delivered }),
            1,
            "whoever sent it is not instrumented",
        ),
        (
            json!({ "origin": "inherited", "verdict": "added", "queue": "mail", "deliveries": [] }),
            1,
            "it waits in mail",
        ),
        (
            json!({ "origin": "carried", "verdict": "kept", "error": "OOM", "deliveries": [] }),
            1,
            "the broker did not take it: OOM",
        ),
    ] {
        let trace = trace(attempt);
        let admin = Asked::answering(move |target| match target {
            "/api/traces?q=task-1" => (200, json!({ "traces": [{ "trace_id": "1" }] }).to_string()),
            "/api/traces/1" => (200, trace.clone()),
            _ => (200, json!({ "traces": [] }).to_string()),
        });
        let admin = format!("http://{admin}");
        let answer = ask(&["verify", "--admin", &admin, "--task", "task-1"], &[]);
        assert_eq!(answer.code, code, "{}", answer.stdout);
        assert!(answer.stdout.contains(words), "{}", answer.stdout);
        let unknown = ask(&["verify", "--admin", &admin, "--task", "task-2"], &[]);
        assert_eq!(unknown.code, 2);
    }
}

#[tokio::test]
async fn tail_and_verify_ask_a_real_tracehop() {
    let redis = Redis::start().await;
    let running = Running::start_with_admin(redis.address);
    let admin = format!("http://{}", running.admin.unwrap());
    let mut tail = Tail::start(&admin, &["--task", "order"]);
    // Printed when it listens.
    assert!(tail.line().starts_with("TIME"));
    let mut app = Peer::connect(running.address).await;
    for (task, context) in [
        ("mail", json!({})),
        (
            "order",
            json!({ "traceparent": VALID, "tracestate": "vendor=1" }),
        ),
    ] {
        let message = envelope(task, &context);
        expect(&mut app, &["LPUSH", "celery", &message], ":1\r\n").await;
        let taken = "*2\r\n$6\r\ncelery\r\n$";
        expect(&mut app, &["BRPOP", "celery", "1"], taken).await;
        while !app.next().await.unwrap().ends_with(b"}\r\n") {}
    }
    let sent = tail.line();
    assert!(
        sent.contains(" send ") && sent.contains(" order "),
        "{sent}"
    );
    let verify = |task: &str| ask(&["verify", "--admin", &admin, "--task", task], &[]);
    // What was taken is told of a moment later.
    until(|| verify("id-of-order").code == 0).await;
    for (task, code, words) in [
        ("id-of-order", 0, "with the producer's trace context"),
        ("id-of-mail", 1, "whoever sent it is not instrumented"),
        ("id-of-nothing", 2, "does not know task"),
    ] {
        let answer = verify(task);
        let shown = answer.stdout + &answer.stderr;
        assert_eq!(answer.code, code, "{shown}");
        assert!(shown.contains(words), "{shown}");
    }
}

fn hop(task: &str, more: &Value) -> String {
    let mut hop = json!({
        "at": "2026-11-22T08:53:23.736Z", "leg": "send", "task": task, "queue": "celery",
        "answer": "confirmed", "verdict": "added", "error": null, "dwell_ms": null,
    });
    for (name, value) in more.as_object().unwrap() {
        hop[name] = value.clone();
    }
    format!("event: hop\ndata: {hop}\n\n")
}

/// `tail` at work; it ends with this.
struct Tail {
    child: Child,
    /// `None`: nobody reads any more.
    lines: Option<BufReader<ChildStdout>>,
}

impl Tail {
    fn start(admin: &str, more: &[&str]) -> Self {
        let mut child = command(&[&["tail", "--admin", admin][..], more].concat(), &[])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = child.stdout.take().map(BufReader::new);
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let lines = self.lines.as_mut().unwrap();
        lines.read_line(&mut line).unwrap();
        line
    }

    fn expect_end(&mut self) -> String {
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{said}");
        said
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn tail_prints_the_hops_that_are_asked_for_and_comes_back() {
    let admin = Asked::start();
    let token = file("token", "s3cret\n");
    let options = [
        "--token-file",
        &token,
        "--task",
        "shop.*",
        "--errors",
        "--json",
    ];
    let mut tail = Tail::start(&admin.url(), &options);
    let request = admin.next();
    assert_eq!(request.target, "/api/live?errors=true");
    assert!(
        request.head.contains("authorization: bearer s3cret\n"),
        "{}",
        request.head
    );
    let refused = json!({ "answer": "refused", "error": "OOM" });
    let mut stream = request.begin();
    for event in [
        ": still here\n\n".to_owned(),
        hop("mail.send", &refused),
        "event: missed\ndata: {\"count\": 7}\n\n".to_owned(),
        hop("shop.order", &refused),
    ] {
        stream.write_all(event.as_bytes()).unwrap();
    }
    let hop_read: Value = serde_json::from_str(&tail.line()).unwrap();
    assert_eq!(
        (&hop_read["task"], &hop_read["error"]),
        (&json!("shop.order"), &json!("OOM"))
    );
    drop(stream);
    let mut stream = admin.next().begin();
    stream
        .write_all(hop("shop.later", &refused).as_bytes())
        .unwrap();
    assert!(tail.line().contains("shop.later"));
    let interrupt = Command::new("sh")
        .args(["-c", &format!("kill -s INT {}", tail.child.id())])
        .status();
    assert!(interrupt.unwrap().success());
    let said = tail.expect_end();
    assert!(
        said.contains("7 hops were missed") && said.contains("back again"),
        "{said}"
    );
    assert!(!said.contains("s3cret"), "{said}");
}

#[test]
fn tail_ends_when_nobody_reads_it_any_more() {
    let admin = Asked::start();
    let mut tail = Tail::start(&admin.url(), &[]);
    let mut stream = admin.next().begin();
    assert!(tail.line().starts_with("TIME"));
    let failed = json!({
        "leg": "receive", "state": "failed", "dwell_ms": 1_500, "worker": "w\u{1b}[2J",
    });
    stream
        .write_all(hop("shop.order", &failed).as_bytes())
        .unwrap();
    let line = tail.line();
    assert!(line.starts_with("08:53:23.736 receive celery "), "{line}");
    assert!(
        line.contains(" failed ") && line.contains("waited 1.5s"),
        "{line}"
    );
    // Neither colours of ours nor anything of a peer's that a terminal would follow.
    assert!(!line.contains('\u{1b}'), "{line}");
    tail.lines = None;
    // It may take one to see it; the connection is closed when it has ended.
    while stream
        .write_all(hop("shop.order", &failed).as_bytes())
        .is_ok()
    {}
    assert_eq!(tail.expect_end(), "");
}

#[test]
fn tail_says_what_is_wrong_with_whom_it_asks() {
    for (status, words) in [
        (401, "--token-file"),
        (404, "is that the admin address"),
        (503, "as many readers as it takes"),
    ] {
        let admin = Asked::answering(move |_| (status, json!({ "error": "so it is" }).to_string()));
        let answer = ask(&["tail", "--admin", &format!("http://{admin}")], &[]);
        assert_eq!(answer.code, 1);
        assert!(answer.stderr.contains(words), "{}", answer.stderr);
        assert!(answer.stderr.contains("so it is"), "{}", answer.stderr);
    }
}

#[test]
fn every_command_tells_what_it_does_with_examples_and_exit_codes() {
    for name in ["doctor", "tail", "peek", "verify"] {
        let help = ask(&[name, "--help"], &[]).stdout;
        for part in [
            "\n\nUsage: ",
            "\nExamples:\n  tracehop ",
            "\nExit codes: 0 ",
        ] {
            assert!(help.contains(part), "{name}: {part}");
        }
        // What it does, beyond the summary.
        let paragraphs = help.split("\n\nUsage: ").next().unwrap().split("\n\n");
        assert!(paragraphs.count() > 1, "{name}");
    }
}

#[test]
fn shells_complete_it_and_the_manual_has_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let answer = ask(&["completions", shell], &[]);
        assert_eq!((answer.code, answer.stderr.as_str()), (0, ""));
        for word in ["doctor", "tail", "peek", "verify", "token-file"] {
            assert!(answer.stdout.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(ask(&["completions", "tcsh"], &[]).code, 64);
    let manual = ask(&["man"], &[]).stdout;
    for name in [
        "RUN",
        "CHECK",
        "DOCTOR",
        "TAIL",
        "PEEK",
        "VERIFY",
        "COMPLETIONS",
        "MAN",
    ] {
        assert!(manual.contains(&format!("\n.SH {name}\n")), "{name}");
    }
}
