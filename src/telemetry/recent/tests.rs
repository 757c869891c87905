//! What is held, in which order and how much of it.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use super::*;
use crate::hop::Answer;
use crate::hop::Delivery;
use crate::hop::Evidence;
use crate::hop::HopId;
use crate::hop::Ledger;
use crate::hop::Publication;
use crate::hop::Receipt;
use crate::hop::Sent;
use crate::hop::Settlement;
use crate::hop::TaskKey;
use crate::hop::TaskState;
use crate::hop::fixture;
use crate::trace::IdSource;
use crate::trace::Timestamp;
use crate::trace::TraceContext;

const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(seconds * SECOND)
}

fn trace_id(trace: u64) -> TraceId {
    IdSource::seeded(1_000_000 + trace).trace_id()
}

fn in_trace(trace: u64, context: TraceContext) -> TraceContext {
    TraceContext {
        trace_id: trace_id(trace),
        ..context
    }
}

/// Publication `number`, sent at so many seconds.
fn publication(number: u64, trace: u64, task: &str) -> Box<Publication> {
    let mut publication = fixture::publication(number, number * SECOND);
    publication.judgement = fixture::judgement(number);
    publication.judgement.context = in_trace(trace, publication.judgement.context);
    publication.task.edit(|it| {
        it.id = task.to_owned().into();
        it.name = "shop.pay".into();
    });
    publication
}

/// Delivery `number`, at so many seconds.
fn delivery(number: u64, trace: u64, task: &str) -> Box<Delivery> {
    let receipt = Some(Receipt::numbered(1, number));
    let mut delivery = fixture::delivery(task, receipt, number * SECOND);
    delivery.judgement = fixture::judgement(number);
    delivery.judgement.context = in_trace(trace, delivery.judgement.context);
    delivery
}

fn recent(traces_max: usize, tasks_max: usize) -> RecentTraces {
    RecentTraces::new(&Limits {
        recent_traces_max: traces_max,
        recent_tasks_max: tasks_max,
        ..Limits::default()
    })
}

fn publish(recent: &RecentTraces, publication: &Publication) {
    recent.saw(&[Sighting::Published(Arc::new(publication.clone()))]);
}

fn deliver(recent: &RecentTraces, delivery: &Delivery) {
    recent.saw(&[Sighting::Delivered(Arc::new(delivery.clone()))]);
}

fn answer(recent: &RecentTraces, publication: Box<Publication>, answer: Answer) {
    recent.ended(&[Leg::Sent(Sent {
        ended: publication.at.after(Duration::from_millis(1)),
        publication: publication.into(),
        answer,
    })]);
}

fn waterfall(recent: &RecentTraces, trace: u64) -> Value {
    let waterfall = recent.waterfall(&trace_id(trace).to_string());
    serde_json::to_value(waterfall).unwrap()
}

fn listed(recent: &RecentTraces, filter: &Filter) -> Vec<String> {
    let listing = serde_json::to_value(recent.list(filter, None, 100)).unwrap();
    let traces = listing["traces"].as_array().unwrap().iter();
    traces
        .map(|trace| trace["root_task_id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_task_is_told_with_its_way_in_and_its_way_out() {
    let recent = recent(10, 100);
    let mut sent = publication(1, 7, "t-1");
    sent.task.edit(|it| {
        it.root_id = Some("t-1".into());
        it.origin = Some("web-1".into());
    });
    sent.client_name = Some("shop".into());
    publish(&recent, &sent);
    let mut taken = delivery(3, 7, "t-1");
    taken.sent = Some(at(1));
    taken.client_name = Some("worker-1".into());
    deliver(&recent, &taken);

    let task = |recent: &RecentTraces| waterfall(recent, 7)["tasks"][0].clone();
    let open = task(&recent);
    assert_eq!(open["state"], "running");
    assert_eq!(open["attempts"][0]["answer"], Value::Null);
    assert_eq!(
        open["attempts"][0]["deliveries"][0]["settlement"],
        Value::Null
    );

    answer(&recent, sent.clone(), Answer::Confirmed);
    let taken = fixture::taken(taken, Some(6 * SECOND), Some(4 * SECOND), Some(5 * SECOND));
    recent.ended(&[Leg::Taken(taken)]);
    let delivery = json!({
        "delivered_at": "1970-01-01T00:00:03.000Z",
        "worker": "worker-1",
        "redelivered": false,
        "dwell_ms": 2_000.0,
        "delay_ms": 0.0,
        "eta_wait_ms": 0.0,
        "prefetch_ms": 1_000.0,
        "run_ms": 1_000.0,
        "started_at": "1970-01-01T00:00:04.000Z",
        "settlement": "acknowledged",
        "settled_at": "1970-01-01T00:00:06.000Z",
        "finished_at": "1970-01-01T00:00:05.000Z",
        "state": "succeeded",
        "evidence": "event",
        "expired": false,
        "receive_span_id": fixture::judgement(3).context.span_id.to_string(),
    });
    let attempt = json!({
        "retries": 0,
        "system": "some-broker",
        "queue": "celery",
        "route": "main",
        "producer": "web-1",
        "sent_at": "1970-01-01T00:00:01.000Z",
        "answered_at": "1970-01-01T00:00:01.001Z",
        "answer": "confirmed",
        "error": null,
        "send_span_id": sent.judgement.context.span_id.to_string(),
        "parent_span_id": null,
        "verdict": "added",
        "origin": "derived",
        "quality": "missing",
        "invalid_reason": null,
        "eta": null,
        "deliveries": [delivery],
    });
    let task = json!({
        "task_id": "t-1",
        "task": "shop.pay",
        "parent_task_id": null,
        "root_id": "t-1",
        "group": null,
        "depth": 0,
        "state": "succeeded",
        "attempts": [attempt],
    });
    assert_eq!(
        waterfall(&recent, 7),
        json!({
            "trace_id": trace_id(7).to_string(),
            "started_at": "1970-01-01T00:00:01.000Z",
            "last_at": "1970-01-01T00:00:06.000Z",
            "duration_ms": 5_000.0,
            "state": "succeeded",
            "sampled": true,
            "truncated": false,
            "tasks": [task],
        })
    );
}

#[test]
fn a_retry_is_an_attempt_of_the_same_task_and_finds_its_own_deliveries() {
    let recent = recent(10, 100);
    publish(&recent, &publication(1, 1, "a"));
    let mut retry = publication(5, 1, "a");
    retry.task.retries = 1;
    retry.task.edit(|it| it.parent_id = Some("a".into()));
    publish(&recent, &retry);
    let mut second = delivery(6, 1, "a");
    second.task.retries = 1;
    // The first one again, for it was not acknowledged.
    for taken in [delivery(2, 1, "a"), second, delivery(7, 1, "a")] {
        deliver(&recent, &taken);
    }
    let trace = waterfall(&recent, 1);
    assert_eq!(trace["tasks"].as_array().unwrap().len(), 1);
    let attempts = trace["tasks"][0]["attempts"].as_array().unwrap();
    let shape = attempts.iter().map(|attempt| {
        let deliveries = attempt["deliveries"].as_array().unwrap().len();
        (attempt["retries"].as_u64().unwrap(), deliveries)
    });
    assert_eq!(shape.collect::<Vec<_>>(), [(0, 2), (1, 1)]);
    assert_eq!(trace["tasks"][0]["parent_task_id"], Value::Null);
}

#[test]
fn what_was_not_seen_to_be_published_is_told_by_its_delivery() {
    let recent = recent(10, 100);
    let mut taken = delivery(3, 1, "a");
    taken.sent = Some(at(1));
    deliver(&recent, &taken);
    let trace = waterfall(&recent, 1);
    assert_eq!(trace["started_at"], "1970-01-01T00:00:01.000Z");
    let attempt = &trace["tasks"][0]["attempts"][0];
    assert_eq!(attempt["sent_at"], "1970-01-01T00:00:01.000Z");
    assert_eq!(attempt["send_span_id"], Value::Null);
    assert_eq!(attempt["deliveries"].as_array().unwrap().len(), 1);
}

#[test]
fn a_task_and_its_trace_stand_as_their_last_attempt_does() {
    let settle = |how, state: Option<TaskState>| {
        let mut taken = fixture::taken(delivery(2, 1, "a"), None, None, Some(4 * SECOND));
        taken.settled = Some((how, at(3)));
        match state {
            Some(state) => taken.finished.as_mut().unwrap().state = Some(state),
            None => taken.finished = None,
        }
        Leg::Taken(taken)
    };
    use Settlement::*;
    for (end, task, trace) in [
        (None, "running", "running"),
        (
            Some((Acknowledged, Some(TaskState::Succeeded))),
            "succeeded",
            "succeeded",
        ),
        (
            Some((Acknowledged, Some(TaskState::Failed))),
            "failed",
            "failed",
        ),
        (
            Some((Acknowledged, Some(TaskState::Retried))),
            "retried",
            "unknown",
        ),
        (
            Some((Acknowledged, Some(TaskState::Revoked))),
            "revoked",
            "unknown",
        ),
        (Some((Rejected, None)), "rejected", "failed"),
        (Some((Requeued, None)), "waiting", "waiting"),
        (Some((Abandoned, None)), "waiting", "waiting"),
        (Some((Acknowledged, None)), "unknown", "unknown"),
        (Some((Automatic, None)), "unknown", "unknown"),
    ] {
        let recent = recent(10, 100);
        publish(&recent, &publication(1, 1, "a"));
        assert_eq!(waterfall(&recent, 1)["state"], "waiting");
        deliver(&recent, &delivery(2, 1, "a"));
        if let Some((how, state)) = end {
            recent.ended(&[settle(how, state)]);
        }
        let told = waterfall(&recent, 1);
        assert_eq!(
            (&told["tasks"][0]["state"], &told["state"]),
            (&json!(task), &json!(trace))
        );
    }
    for (reply, task, trace) in [
        (Answer::Confirmed, "waiting", "waiting"),
        (Answer::Unanswered, "waiting", "waiting"),
        (Answer::Refused("OOM".into()), "refused", "failed"),
        (Answer::Discarded, "refused", "failed"),
        (Answer::Lost, "unknown", "unknown"),
    ] {
        let recent = recent(10, 100);
        let sent = publication(1, 1, "a");
        publish(&recent, &sent);
        answer(&recent, sent, reply);
        let told = waterfall(&recent, 1);
        assert_eq!(
            (&told["tasks"][0]["state"], &told["state"]),
            (&json!(task), &json!(trace))
        );
    }
}

#[test]
fn parents_come_before_their_children_and_circles_have_a_beginning() {
    let recent = recent(10, 100);
    for (number, task, parent) in [
        (1, "late", Some("root")),
        (2, "root", None),
        (3, "grandchild", Some("child")),
        (4, "orphan", Some("elsewhere")),
        (5, "child", Some("root")),
        (6, "one", Some("two")),
        (7, "two", Some("one")),
    ] {
        let mut sent = publication(number, 1, task);
        sent.task.edit(|it| it.parent_id = parent.map(Into::into));
        publish(&recent, &sent);
    }
    let trace = waterfall(&recent, 1);
    let rows = trace["tasks"].as_array().unwrap().iter();
    let rows = rows.map(|row| {
        (
            row["task_id"].as_str().unwrap(),
            row["depth"].as_u64().unwrap(),
        )
    });
    assert_eq!(
        rows.collect::<Vec<_>>(),
        [
            ("root", 0),
            ("late", 1),
            ("child", 1),
            ("grandchild", 2),
            ("orphan", 0),
            ("one", 0),
            ("two", 1),
        ]
    );
}

#[test]
fn a_chain_as_long_as_a_trace_may_be_is_no_trouble() {
    let recent = recent(10, 100_000);
    for number in 0..10_000 {
        let mut sent = publication(number, 1, &number.to_string());
        sent.task.edit(|it| {
            it.parent_id = number
                .checked_sub(1)
                .map(|parent| parent.to_string().into())
        });
        publish(&recent, &sent);
    }
    assert_eq!(waterfall(&recent, 1)["tasks"][9_999]["depth"], 9_999);
}

#[test]
fn the_list_is_filtered_by_everything_that_is_asked_for() {
    let recent = recent(10, 100);
    for (number, task, name, queue) in [
        (1, "A1", "shop.pay", "celery"),
        (2, "B2", "shop.Mail", "mail"),
        (3, "C3", "report", "celery"),
    ] {
        let mut sent = publication(number, number, task);
        sent.task.edit(|it| it.name = name.into());
        sent.destination = queue.into();
        publish(&recent, &sent);
    }
    let mut refused = publication(9, 3, "D4");
    refused.task.edit(|it| it.parent_id = Some("C3".into()));
    publish(&recent, &refused);
    answer(&recent, refused, Answer::Refused("OOM".into()));

    let search = |text: &str| Filter {
        search: Some(text.to_owned()),
        ..Filter::default()
    };
    let some = |text: &str| Some(text.to_owned());
    for (filter, expected) in [
        (Filter::default(), &["C3", "B2", "A1"][..]),
        (search(&trace_id(2).to_string()[..8]), &["B2"]),
        (search("a1"), &["A1"]),
        (search("1"), &[]),
        (search("MAIL"), &["B2"]),
        (search("d4"), &["C3"]),
        (
            Filter {
                task: some("shop.pay"),
                ..Filter::default()
            },
            &["C3", "A1"],
        ),
        (
            Filter {
                queue: some("celery"),
                ..Filter::default()
            },
            &["C3", "A1"],
        ),
        (
            Filter {
                queue: some("mail"),
                ..search("shop")
            },
            &["B2"],
        ),
        (
            Filter {
                system: some("some-broker"),
                ..Filter::default()
            },
            &["C3", "B2", "A1"],
        ),
        (
            Filter {
                system: some("another"),
                ..Filter::default()
            },
            &[],
        ),
        (
            Filter {
                status: Some(Status::Failed),
                ..Filter::default()
            },
            &["C3"],
        ),
        (
            Filter {
                status: Some(Status::Waiting),
                ..Filter::default()
            },
            &["B2", "A1"],
        ),
        (
            Filter {
                duration_min: Duration::from_secs(6),
                ..Filter::default()
            },
            &["C3"],
        ),
    ] {
        assert_eq!(listed(&recent, &filter), expected, "{filter:?}");
    }
}

#[test]
fn the_list_comes_in_pages_the_newest_first() {
    let recent = recent(10, 100);
    for number in 1..=5 {
        publish(&recent, &publication(number, number, &number.to_string()));
    }
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = recent.list(&Filter::default(), before, 2);
        let page = serde_json::to_value(page).unwrap();
        let tasks = page["traces"].as_array().unwrap().iter();
        seen.extend(tasks.map(|trace| trace["root_task_id"].as_str().unwrap().to_owned()));
        assert_eq!((&page["held"], &page["held_max"]), (&json!(5), &json!(10)));
        match page["next"].as_str() {
            Some(next) => before = Some(next.parse().unwrap()),
            None => break,
        }
        // What is new meanwhile does not move the pages.
        if seen.len() == 2 {
            publish(&recent, &publication(1, 1, "1"));
        }
    }
    assert_eq!(seen, ["5", "4", "3", "2", "1"]);
}

#[test]
fn a_line_of_the_list_sums_a_trace_up() {
    let recent = recent(10, 100);
    let mut sent = publication(1, 1, "a");
    sent.judgement.context.flags = sent.judgement.context.flags.with_sampled(false);
    publish(&recent, &sent);
    for number in [2, 3] {
        let mut retry = publication(number, 1, "a");
        retry.task.retries = number as u32 - 1;
        retry.destination = "mail".into();
        publish(&recent, &retry);
        answer(&recent, retry, Answer::Refused("OOM".into()));
    }
    let listing = serde_json::to_value(recent.list(&Filter::default(), None, 1)).unwrap();
    assert_eq!(
        listing["traces"][0],
        json!({
            "trace_id": trace_id(1).to_string(),
            "started_at": "1970-01-01T00:00:01.000Z",
            "last_at": "1970-01-01T00:00:03.001Z",
            "duration_ms": 2_001.0,
            "root_task": "shop.pay",
            "root_task_id": "a",
            "tasks": 1,
            "attempts": 3,
            "retries": 2,
            "errors": 2,
            "state": "failed",
            "queues": ["celery", "mail"],
            "systems": ["some-broker"],
            "sampled": false,
        })
    );
}

#[test]
fn of_too_many_traces_the_oldest_is_forgotten_and_does_not_come_back_by_its_end() {
    let recent = recent(2, 100);
    let first = publication(1, 1, "1");
    publish(&recent, &first);
    for number in [2, 3] {
        publish(&recent, &publication(number, number, &number.to_string()));
    }
    answer(&recent, first, Answer::Confirmed);
    assert_eq!(listed(&recent, &Filter::default()), ["3", "2"]);
    assert!(recent.waterfall(&trace_id(1).to_string()).is_none());
    assert!(recent.waterfall("nonsense").is_none());
}

#[test]
fn one_trace_does_not_push_out_all_others() {
    let recent = recent(10, 100);
    publish(&recent, &publication(1, 1, "other"));
    for number in 2..1_000 {
        publish(&recent, &publication(number, 2, &number.to_string()));
    }
    let (other, wide) = (waterfall(&recent, 1), waterfall(&recent, 2));
    assert_eq!(
        (&other["truncated"], &wide["truncated"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(wide["tasks"].as_array().unwrap().len(), 10);
    assert_eq!(recent.entries(), 11);
    // What is held of it goes on.
    deliver(&recent, &delivery(2_000, 2, "5"));
    assert_eq!(waterfall(&recent, 2)["tasks"][3]["state"], "running");
}

#[test]
fn of_one_task_the_last_attempts_and_deliveries_are_kept() {
    let recent = recent(10, 10_000);
    for number in 1..=100 {
        let mut retry = publication(number, 1, "a");
        retry.task.retries = number as u32;
        publish(&recent, &retry);
    }
    for number in 101..=200 {
        let mut taken = delivery(number, 1, "a");
        taken.task.retries = 100;
        deliver(&recent, &taken);
    }
    assert!(recent.book().is_consistent());
    let trace = waterfall(&recent, 1);
    assert_eq!(trace["truncated"], true);
    let attempts = trace["tasks"][0]["attempts"].as_array().unwrap();
    assert_eq!(
        (attempts.len(), &attempts[31]["retries"]),
        (32, &json!(100))
    );
    let deliveries = attempts[31]["deliveries"].as_array().unwrap();
    assert_eq!(deliveries.len(), 32);
    assert_eq!(deliveries[31]["delivered_at"], at(200).to_string());
}

#[test]
fn what_peers_write_is_kept_no_longer_than_it_may_be() {
    let recent = recent(10, 10_000);
    let mut sent = publication(1, 1, "a");
    sent.destination = "q".repeat(1 << 20).into();
    sent.task.edit(|it| it.name = "na\u{7}me\n".into());
    publish(&recent, &sent);
    let trace = waterfall(&recent, 1);
    let task = &trace["tasks"][0];
    assert_eq!(task["task"], "na?me?");
    assert_eq!(task["attempts"][0]["queue"].as_str().unwrap().len(), 120);
}

#[test]
fn who_reads_keeps_what_was_there() {
    let recent = recent(1, 100);
    publish(&recent, &publication(1, 1, "a"));
    let read = recent.book().newest(None);
    publish(&recent, &publication(2, 1, "b"));
    publish(&recent, &publication(3, 2, "c"));
    assert_eq!(read[0].tasks.len(), 1);
    assert_eq!(listed(&recent, &Filter::default()), ["c"]);
}

/// Something that is seen, at random.
#[derive(Clone, Debug)]
enum Chance {
    Published {
        hop: u64,
        trace: u64,
        task: u64,
        retries: u32,
    },
    Answered {
        hop: u64,
        refused: bool,
    },
    Delivered {
        number: u64,
        trace: u64,
        task: u64,
        retries: u32,
    },
    Settled {
        number: u64,
        how: Settlement,
    },
    Told {
        task: u64,
        state: TaskState,
    },
    Expired {
        seconds: u64,
    },
}

fn chance() -> impl Strategy<Value = Chance> {
    let how = prop_oneof![
        Just(Settlement::Acknowledged),
        Just(Settlement::Requeued),
        Just(Settlement::Rejected),
    ];
    let state = prop_oneof![
        Just(TaskState::Started),
        Just(TaskState::Succeeded),
        Just(TaskState::Retried),
    ];
    prop_oneof![
        4 => (0..40_u64, 0..6_u64, 0..5_u64, 0..3_u32).prop_map(|(hop, trace, task, retries)| {
            Chance::Published { hop, trace, task, retries }
        }),
        3 => (0..40_u64, any::<bool>()).prop_map(|(hop, refused)| Chance::Answered { hop, refused }),
        4 => (0..40_u64, 0..6_u64, 0..5_u64, 0..3_u32).prop_map(|(number, trace, task, retries)| {
            Chance::Delivered { number, trace, task, retries }
        }),
        3 => (0..40_u64, how).prop_map(|(number, how)| Chance::Settled { number, how }),
        2 => (0..5_u64, state).prop_map(|(task, state)| Chance::Told { task, state }),
        1 => (0..1_000_u64).prop_map(|seconds| Chance::Expired { seconds }),
    ]
}

/// Books what was seen as the pipeline does, and gives what has ended.
fn book(recent: &RecentTraces, ledger: &mut Ledger, chance: Chance) -> Vec<Leg> {
    let mut ended = Vec::new();
    let sighting = match chance {
        Chance::Published {
            hop,
            trace,
            task,
            retries,
        } => {
            let mut publication = publication(hop, trace, &task.to_string());
            publication.task.retries = retries;
            Sighting::Published(publication.into())
        }
        Chance::Answered { hop, refused } => Sighting::Answered {
            hop: HopId {
                session: 1,
                number: hop,
            },
            at: at(hop + 1),
            answer: if refused {
                Answer::Refused("OOM".into())
            } else {
                Answer::Confirmed
            },
        },
        Chance::Delivered {
            number,
            trace,
            task,
            retries,
        } => {
            let mut delivery = delivery(number, trace, &task.to_string());
            delivery.task.retries = retries;
            Sighting::Delivered(delivery.into())
        }
        Chance::Settled { number, how } => Sighting::Settled {
            receipt: Receipt::numbered(1, number),
            at: at(number + 2),
            settlement: how,
        },
        Chance::Told { task, state } => Sighting::Told {
            task: TaskKey::of(&task.to_string()),
            at: at(50),
            state,
            evidence: Evidence::Event,
            runtime: None,
        },
        Chance::Expired { seconds } => {
            ledger.expire(at(seconds), &mut ended);
            return ended;
        }
    };
    recent.saw(std::slice::from_ref(&sighting));
    ledger.book(sighting, &mut ended);
    ended
}

proptest! {
    #[test]
    fn whatever_is_seen_the_bounds_hold_and_each_leg_shows_once(
        chances in prop::collection::vec(chance(), 0..200),
        (traces_max, tasks_max) in (1..6_usize, 1..60_usize),
        process in any::<bool>(),
    ) {
        let recent = recent(traces_max, tasks_max);
        let mut ledger = Ledger::new(&Limits::default(), process);
        for chance in chances {
            recent.ended(&book(&recent, &mut ledger, chance));
            prop_assert!(recent.book().is_consistent());
        }
        for trace in 0..6 {
            let Some(waterfall) = recent.waterfall(&trace_id(trace).to_string()) else {
                continue;
            };
            let waterfall = serde_json::to_value(waterfall).unwrap();
            let (mut tasks, mut sends, mut receives) =
                (HashSet::new(), HashSet::new(), HashSet::new());
            for task in waterfall["tasks"].as_array().unwrap() {
                prop_assert!(tasks.insert(task["task_id"].to_string()));
                for attempt in task["attempts"].as_array().unwrap() {
                    let span = &attempt["send_span_id"];
                    let id = (task["task_id"].to_string(), span.to_string());
                    prop_assert!(span.is_null() || sends.insert(id));
                    for delivery in attempt["deliveries"].as_array().unwrap() {
                        let span = delivery["receive_span_id"].to_string();
                        prop_assert!(receives.insert((task["task_id"].to_string(), span)));
                    }
                }
            }
        }
        let listing = recent.list(&Filter::default(), None, 100);
        let listing = serde_json::to_value(listing).unwrap();
        prop_assert_eq!(listing["traces"].as_array().unwrap().len(), recent.count());
    }
}
