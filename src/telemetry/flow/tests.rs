//! What is counted of whom, and how many there may be.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::*;
use crate::hop::Receipt;
use crate::hop::fixture;

const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(seconds * SECOND)
}

fn flow(names_max: usize) -> Flow {
    let limits = Limits {
        label_values_max: names_max,
        ..Limits::default()
    };
    Flow::new(&limits, at(0))
}

/// Publication `number`, sent at so many seconds.
fn publication(number: u64, host: &str, queue: &str) -> Box<Publication> {
    let mut publication = fixture::publication(number, number * SECOND);
    publication.task.edit(|it| {
        it.id = format!("task-{number}").into();
        it.origin = Some(host.to_owned().into());
    });
    publication.destination = queue.into();
    publication
}

fn send(flow: &Flow, publication: Box<Publication>, answer: Answer) {
    let publication: Arc<Publication> = publication.into();
    flow.saw(&[Sighting::Published(Arc::clone(&publication))]);
    let way = flow.sender(&publication, Standing::of(&answer));
    let sent = Sent {
        ended: publication.at,
        publication,
        answer,
    };
    flow.sent(&sent, way);
}

/// The delivery of publication `number`, a second later.
fn delivery(number: u64, worker: &str, queue: &str) -> Box<Delivery> {
    let receipt = Some(Receipt::numbered(1, number));
    let mut delivery = fixture::delivery(&format!("task-{number}"), receipt, (number + 1) * SECOND);
    delivery.sent = Some(at(number));
    delivery.client_name = Some(worker.into());
    delivery.destination = queue.into();
    delivery
}

fn deliver(flow: &Flow, delivery: &Delivery) {
    flow.saw(&[Sighting::Delivered(Arc::new(delivery.clone()))]);
    flow.delivered(delivery, flow.taker(delivery));
}

fn read(flow: &Flow, seconds: u64) -> Value {
    serde_json::to_value(flow.read(at(seconds))).unwrap()
}

#[test]
fn nothing_flows_at_first() {
    assert_eq!(
        read(&flow(10), 60),
        json!({
            "now": "1970-01-01T00:01:00.000Z",
            "window_s": 60,
            "producers": [],
            "queues": [],
            "workers": [],
            "sends": [],
            "receives": [],
            "truncated": false,
        })
    );
}

#[test]
fn messages_are_counted_from_their_producer_to_their_worker() {
    let flow = flow(10);
    for number in 95..100 {
        send(
            &flow,
            publication(number, "web-1", "celery"),
            Answer::Confirmed,
        );
    }
    let mut invalid = publication(100, "web-1", "celery");
    invalid.judgement.quality = Quality::Invalid;
    send(&flow, invalid, Answer::Refused("OOM".into()));
    for number in 95..98 {
        deliver(&flow, &delivery(number, "worker-1", "celery"));
    }
    let mut again = delivery(97, "worker-1", "celery");
    again.passage.redelivered = true;
    deliver(&flow, &again);
    let taken = fixture::taken(
        again,
        Some(100 * SECOND),
        Some(98 * SECOND),
        Some(100 * SECOND),
    );
    flow.taken(&taken, flow.taker(&taken.delivery));

    let view = read(&flow, 104);
    assert_eq!(
        view["producers"],
        json!([{
            "id": "p1",
            "name": "web-1",
            "host": "web-1",
            "client_name": null,
            "address": "127.0.0.1",
        }])
    );
    assert_eq!(
        view["workers"],
        json!([{ "id": "w1", "name": "worker-1", "address": "127.0.0.1" }])
    );
    let rate = |count: f64| (count / 59.0 * 1_000.0).round() / 1_000.0;
    let second = &view["queues"][0]["dwell_p50_ms"];
    assert!(
        (second.as_f64().unwrap() - 1_000.0).abs() <= 62.5,
        "{second}"
    );
    let run = &view["receives"][0]["run_p95_ms"];
    assert!((run.as_f64().unwrap() - 2_000.0).abs() <= 125.0, "{run}");
    assert_eq!(
        view["queues"],
        json!([{
            "id": "q1",
            "name": "celery",
            "system": "some-broker",
            "sent_rate": rate(6.0),
            "sent_total": 6,
            "delivered_rate": rate(4.0),
            "delivered_total": 4,
            "backlog": 2,
            "oldest_waiting_ms": 6_000.0,
            "dwell_p50_ms": second,
            "dwell_p95_ms": second,
            "errors_total": 1,
            "redelivered_total": 1,
        }])
    );
    assert_eq!(
        view["sends"],
        json!([{
            "producer": "p1",
            "queue": "q1",
            "rate": rate(6.0),
            "total": 6,
            "errors_total": 1,
            "quality": {
                "valid": 0, "missing": 5, "invalid": 1, "stale": 0, "foreign": 0, "mixed": 0,
            },
        }])
    );
    assert_eq!(
        view["receives"],
        json!([{
            "queue": "q1",
            "worker": "w1",
            "rate": rate(4.0),
            "total": 4,
            "redelivered_total": 1,
            "failed_total": 0,
            "run_p50_ms": run,
            "run_p95_ms": run,
        }])
    );
    assert_eq!(view["truncated"], false);

    let later = read(&flow, 500);
    assert_eq!(later["queues"][0]["sent_rate"], 0.0);
    assert_eq!(later["queues"][0]["dwell_p95_ms"], Value::Null);
    assert_eq!(later["queues"][0]["sent_total"], 6);
}

#[test]
fn where_only_one_side_comes_by_nothing_is_said_of_what_waits() {
    let flow = flow(10);
    send(&flow, publication(1, "web-1", "sent"), Answer::Confirmed);
    deliver(&flow, &delivery(2, "worker-1", "taken"));
    let view = read(&flow, 60);
    for queue in [0, 1] {
        assert_eq!(view["queues"][queue]["backlog"], Value::Null);
        assert_eq!(view["queues"][queue]["oldest_waiting_ms"], Value::Null);
    }
}

#[test]
fn whoever_is_beyond_the_limit_is_one_of_the_others() {
    let flow = flow(2);
    for number in 1..=5 {
        let host = format!("web-{number}");
        let queue = format!("queue-{number}");
        send(&flow, publication(number, &host, &queue), Answer::Confirmed);
        deliver(
            &flow,
            &delivery(number, &format!("worker-{number}"), &queue),
        );
    }
    let view = read(&flow, 60);
    let names = |kind: &str| -> Vec<String> {
        let list = view[kind].as_array().unwrap().iter();
        list.map(|one| one["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("producers"), ["other", "web-1", "web-2"]);
    assert_eq!(names("queues"), ["other", "queue-1", "queue-2"]);
    assert_eq!(names("workers"), ["other", "worker-1", "worker-2"]);
    assert_eq!(view["queues"][0]["sent_total"], 3);
    assert_eq!(view["queues"][0]["system"], Value::Null);
    assert_eq!(view["producers"][0]["host"], Value::Null);
    assert_eq!(view["truncated"], true);
}

#[test]
fn whoever_is_refused_gets_no_name() {
    let flow = flow(10);
    for number in 1..=5 {
        let queue = format!("queue-{number}");
        let refused = Answer::Refused("NOAUTH".into());
        send(&flow, publication(number, "web-1", &queue), refused);
    }
    let view = read(&flow, 60);
    assert_eq!(view["queues"].as_array().unwrap().len(), 1);
    assert_eq!(view["queues"][0]["errors_total"], 5);
}

#[test]
fn ways_beyond_the_limit_keep_their_queue() {
    let flow = flow(20);
    for number in 0..400 {
        let (host, queue) = (
            format!("web-{}", number / 20),
            format!("queue-{}", number % 20),
        );
        send(&flow, publication(number, &host, &queue), Answer::Confirmed);
    }
    let view = read(&flow, 60);
    let sends = view["sends"].as_array().unwrap();
    assert_eq!(sends.len(), 100 + 20);
    let queues = view["queues"].as_array().unwrap();
    assert!(queues.iter().all(|queue| queue["sent_total"] == 20));
    assert_eq!(view["truncated"], true);
}

#[test]
fn what_came_by_way_of_another_queue_has_not_waited_in_this_one() {
    let flow = flow(10);
    let mut moved = delivery(1, "worker-1", "celery");
    moved.passage.dead_letter = Some("expired".into());
    deliver(&flow, &moved);
    assert_eq!(read(&flow, 3)["queues"][0]["dwell_p50_ms"], Value::Null);
    deliver(&flow, &delivery(1, "worker-1", "celery"));
    assert_ne!(read(&flow, 3)["queues"][0]["dwell_p50_ms"], Value::Null);
    assert_eq!(Duration::from_secs(1), delivery(1, "", "").dwell().unwrap());
}
