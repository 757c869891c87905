//! Messages on their way out: deliveries, what becomes of them, and what workers tell.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::*;
use crate::config::InjectOn;
use crate::hop::Announcement;
use crate::hop::Delivery;
use crate::hop::Receipt;
use crate::hop::Settlement;
use crate::hop::TaskKey;

const TAG: &str = "0dba47d1-6c28-4a52-8a0f-0f5b0e2a6a41";
const OTHER_TAG: &str = "9a0e3c6e-8a3c-4c39-9a73-6a3b0c6f2f10";

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn tagged(tag: &str, redelivered: bool) -> String {
    let mark = if redelivered {
        r#", "redelivered": true"#
    } else {
        ""
    };
    let task = envelope(&format!(r#"{{"task": "add", "id": "{ID}"}}"#), mark);
    task.replace(
        r#""body_encoding""#,
        &format!(r#""delivery_tag": "{tag}", "body_encoding""#),
    )
}

fn event(body: &str) -> String {
    format!(
        r#"{{"body": "{}", "content-encoding": "utf-8", "content-type": "application/json", "headers": {{"hostname": "w1@host1"}}, "properties": {{"body_encoding": "base64"}}}}"#,
        BASE64_STANDARD.encode(body)
    )
}

fn following_runs() -> Spoken {
    let spans = Spans {
        process: true,
        ..Spans::default()
    };
    Spoken::with(Policy::default(), spans)
}

fn injecting_at_delivery() -> Spoken {
    let policy = Policy {
        inject_on: InjectOn::Delivery,
        ..Policy::default()
    };
    Spoken::with(policy, Spans::default())
}

impl Spoken {
    /// Of the deliveries, the one that was seen last.
    fn delivery(&self) -> &Delivery {
        let delivery = self.out.sightings.iter().rev().find_map(|seen| match seen {
            Sighting::Delivered(delivery) => Some(delivery),
            _ => None,
        });
        delivery.expect("something was delivered")
    }

    fn acknowledge(&mut self, tag: &str) {
        self.client(&command(&["MULTI"]));
        self.client(&command(&["ZREM", "unacked_index", tag]));
        self.client(&command(&["HDEL", "unacked", tag]));
    }
}

#[test]
fn whatever_pops_a_task_delivers_it() {
    let key = bulk("celery\u{6}\u{16}3");
    let named = format!("*2\r\n{key}{}", bulk(&task()));
    let named_many = format!("*2\r\n{key}*2\r\n{}{}", bulk(&task()), bulk(&task()));
    let key = "celery\u{6}\u{16}3";
    for (request, reply, count) in [
        (&["BRPOP", key, "other", "1"][..], named.clone(), 1),
        (&["blpop", "other", key, "1"], named, 1),
        (&["RPOP", key], bulk(&task()), 1),
        (&["LPOP", key, "1"], format!("*1\r\n{}", bulk(&task())), 1),
        (
            &["RPOP", key, "2"],
            format!("*2\r\n{}{}", bulk(&task()), bulk("x")),
            1,
        ),
        (&["LMPOP", "1", key, "LEFT"], named_many.clone(), 2),
        (&["BLMPOP", "1", "1", key, "LEFT"], named_many, 2),
    ] {
        for hello in ["2", "3"] {
            let mut spoken = Spoken::new();
            spoken.client(&command(&["HELLO", hello]));
            spoken.broker("*0\r\n");
            spoken.client(&command(request));
            assert_eq!(spoken.broker(&reply), reply, "{request:?}");
            assert_eq!(
                spoken.seen(),
                vec!["delivered celery"; count],
                "{request:?}"
            );
            assert!(
                spoken
                    .session
                    .part(Timestamp::default(), &mut Outbox::default())
            );
        }
    }
}

#[test]
fn a_pop_that_finds_nothing_delivers_nothing() {
    for (request, reply) in [
        (&["BRPOP", "celery", "1"][..], "*-1\r\n"),
        (&["BRPOP", "celery", "1"], "_\r\n"),
        (&["RPOP", "celery"], "$-1\r\n"),
        (&["RPOP", "celery"], "_\r\n"),
        (&["RPOP", "celery", "2"], "*-1\r\n"),
        (&["LMPOP", "1", "celery", "LEFT"], "*-1\r\n"),
        (&["LPOP", "celery"], "-WRONGTYPE no list\r\n"),
        (&["LPOP", "celery"], "+QUEUED\r\n"),
    ] {
        let mut spoken = Spoken::new();
        spoken.client(&command(request));
        spoken.client(&command(&["LPUSH", "celery", &task()]));
        spoken.broker(reply);
        spoken.broker(":1\r\n");
        assert_eq!(spoken.seen(), ["added 0 to celery", "0 confirmed"]);
    }
}

#[test]
fn an_answer_is_told_before_the_delivery_that_comes_together_with_it() {
    let mut spoken = Spoken::new();
    spoken.client(&command(&["LPUSH", "celery", &task()]));
    spoken.client(&command(&["BRPOP", "other", "1"]));
    spoken.broker(&format!(":1\r\n*2\r\n{}{}", bulk("other"), bulk(&task())));
    assert_eq!(
        spoken.seen(),
        ["added 0 to celery", "0 confirmed", "delivered other"]
    );
}

#[test]
fn only_what_was_popped_is_read() {
    for request in [
        &["GET", "k"][..],
        &["LRANGE", "celery", "0", "1"],
        &["HGET", "k", "f"],
    ] {
        let mut spoken = Spoken::new();
        spoken.client(&command(request));
        spoken.broker(&bulk(&task()));
        spoken.client(&command(request));
        spoken.broker(&format!("*2\r\n{}{}", bulk("celery"), bulk(&task())));
        assert_eq!(spoken.seen(), Vec::<String>::new());
    }
}

#[test]
fn whoever_subscribes_gets_broadcasts() {
    let topic = "/0.bcast";
    for (kind, head) in [
        ("SUBSCRIBE", format!("{}{}", bulk("message"), bulk(topic))),
        (
            "PSUBSCRIBE",
            format!("{}{}{}", bulk("pmessage"), bulk("/0.*"), bulk(topic)),
        ),
        ("SSUBSCRIBE", format!("{}{}", bulk("smessage"), bulk(topic))),
    ] {
        let length = head.matches('$').count() + 1;
        for (hello, letter) in [("2", '*'), ("3", '>')] {
            let mut spoken = Spoken::new();
            spoken.client(&command(&["HELLO", hello]));
            spoken.broker("*0\r\n");
            spoken.client(&command(&[kind, topic]));
            let word = kind.to_lowercase();
            spoken.broker(&format!(
                "{letter}3\r\n{}{}:1\r\n",
                bulk(&word),
                bulk(topic)
            ));
            let message = format!("{letter}{length}\r\n{head}{}", bulk(&tagged(TAG, false)));
            assert_eq!(spoken.broker(&message), message);
            let delivery = spoken.delivery();
            assert!(delivery.passage.broadcast);
            assert_eq!(delivery.receipt, Some(Receipt::tag(TAG)));
            assert_eq!(spoken.seen(), ["delivered /0.bcast"]);
        }
    }
}

#[test]
fn a_queue_may_be_called_like_a_kind_of_message() {
    let mut spoken = Spoken::new();
    spoken.client(&command(&["HELLO", "3"]));
    spoken.broker("%0\r\n");
    spoken.client(&command(&["SUBSCRIBE", "a"]));
    spoken.broker(">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    spoken.client(&command(&["BRPOP", "message", "1"]));
    spoken.broker(&format!("*2\r\n{}{}", bulk("message"), bulk(&task())));
    assert!(!spoken.delivery().passage.broadcast);
    assert_eq!(spoken.seen(), ["delivered message"]);
}

#[test]
fn a_delivery_says_what_its_message_says_of_itself() {
    let mut spoken = Spoken::new();
    let pop = command(&["BRPOP", "celery", "1"]);
    for (message, redelivered, receipt) in [
        (task(), false, None),
        (tagged(TAG, false), false, Some(Receipt::tag(TAG))),
        (tagged(TAG, true), true, Some(Receipt::tag(TAG))),
        // Nobody could tell when that is settled.
        (tagged("tag-1", false), false, None),
    ] {
        spoken.client(&pop);
        spoken.broker(&format!("*2\r\n{}{}", bulk("celery"), bulk(&message)));
        let delivery = spoken.delivery();
        assert_eq!(delivery.passage.redelivered, redelivered);
        assert_eq!(delivery.receipt, receipt);
        assert_eq!(delivery.size, message.len());
        assert_eq!((delivery.task.name(), delivery.task.id()), ("add", ID));
        assert!(!delivery.passage.broadcast);
    }
}

#[test]
fn context_is_added_at_delivery_where_that_is_wanted() {
    let head = format!("*2\r\n{}", bulk("celery"));
    let mut spoken = injecting_at_delivery();
    spoken.client(&command(&["BRPOP", "celery", "1"]));
    let arrived = spoken.broker(&format!("{head}{}", bulk(&task())));
    let delivery = spoken.delivery();
    let span = delivery.judgement.context.span_id;
    // When it was sent is not known.
    let added = format!(
        r#""traceparent": "00-{}-{span}-03", "tracestate": "tracehop={span}-0-388dfe33", "#,
        ID.replace('-', "")
    );
    let expected = task().replace(r#"{"task""#, &format!(r#"{{{added}"task""#));
    assert_eq!(arrived, format!("{head}{}", bulk(&expected)));

    spoken.client(&command(&["HELLO", "3"]));
    spoken.broker("%0\r\n");
    let head = format!(">3\r\n{}{}", bulk("message"), bulk("/0.bcast"));
    let arrived = spoken.broker(&format!("{head}{}", bulk(&task())));
    assert!(arrived.starts_with(&head));
    let span = spoken.delivery().judgement.context.span_id.to_string();
    assert!(arrived.contains(&span));
}

#[test]
fn what_is_no_task_leaves_as_it_came() {
    let mut spoken = injecting_at_delivery();
    for value in [
        "",
        "x",
        "{",
        "{}",
        "{\"headers\": {}}",
        " {\"a\": 1}",
        &event("{}"),
    ] {
        spoken.client(&command(&["RPOP", "celery"]));
        assert_eq!(spoken.broker(&bulk(value)), bulk(value));
    }
    assert_eq!(spoken.seen(), Vec::<String>::new());
}

#[test]
fn a_delivery_over_the_limit_passes_in_parts() {
    let mut spoken = injecting_at_delivery();
    spoken.client(&command(&["BRPOP", "celery", "1"]));
    let large = format!("{}{}", task(), " ".repeat(5000));
    let reply = format!("*2\r\n{}{}", bulk("celery"), bulk(&large));
    assert_eq!(spoken.broker(&reply[..1000]), reply[..1000]);
    assert_eq!(spoken.broker(&reply[1000..]), reply[1000..]);
    assert_eq!(spoken.seen(), ["left alone: over_hold_limit"]);
}

#[test]
fn a_delivery_beyond_the_budget_passes_and_one_that_is_held_is_paid_for() {
    let mut spoken = injecting_at_delivery();
    Arc::make_mut(&mut spoken.session.setup.limits).hold_bytes_max = 1 << 20;
    let large = format!("{}{}", task(), " ".repeat(100_000));
    let reply = format!("*2\r\n{}{}", bulk("celery"), bulk(&large));
    let (first, rest) = reply.split_at(50_000);
    spoken.client(&command(&["BRPOP", "celery", "1"]));
    assert!(spoken.broker(first).len() < 100);
    assert!(spoken.session.setup.budget.held() > 49_000);
    assert!(spoken.broker(rest).len() > reply.len());
    assert_eq!(spoken.session.setup.budget.held(), 0);
    assert_eq!(spoken.seen(), ["delivered celery"]);

    spoken.session.setup.budget = HoldBudget::new(20_000);
    spoken.client(&command(&["BRPOP", "celery", "1"]));
    assert_eq!(spoken.broker(first) + &spoken.broker(rest), reply);
    assert_eq!(spoken.seen(), ["left alone: over_total_hold_limit"]);
    assert_eq!(spoken.session.setup.budget.held(), 0);
}

#[test]
fn what_is_held_is_given_back_when_sight_is_lost_and_when_the_broker_ends() {
    let reply = format!("*2\r\n{}{}", bulk("celery"), bulk(&task()));
    let half = &reply[..200];
    for end in [
        (|spoken| {
            let too_many = spoken.session.setup.limits.pending_max;
            drop(spoken.client(&command(&["RPOP", "l"]).repeat(too_many)));
        }) as fn(&mut Spoken),
        |spoken| drop(spoken.client("*1\r\n:1\r\n")),
        |spoken| {
            let now = Timestamp::default();
            spoken.session.finish(Side::Broker, now, &mut spoken.out);
        },
    ] {
        let mut spoken = Spoken::new();
        spoken.client(&command(&["BRPOP", "celery", "1"]));
        let arrived = spoken.broker(half);
        assert!(spoken.session.setup.budget.held() > 0);
        end(&mut spoken);
        assert_eq!(spoken.session.setup.budget.held(), 0);
        assert_eq!(arrived + &spoken.broker(""), half);
    }
}

fn popped(spoken: &mut Spoken, request: &[&str]) {
    spoken.client(&command(request));
    let reply = format!("*2\r\n{}{}", bulk("celery"), bulk(&tagged(TAG, false)));
    spoken.broker(&reply);
    assert_eq!(spoken.seen(), ["delivered celery"]);
}

#[test]
fn what_was_popped_is_announced_before_the_next_request_or_not_at_all() {
    let mut spoken = Spoken::new();
    let brpop = ["BRPOP", "celery", "1"];
    popped(&mut spoken, &brpop);
    let next = command(&brpop);
    spoken.client(&next[..5]);
    assert_eq!(spoken.seen(), Vec::<String>::new());
    spoken.client(&next[5..]);
    assert_eq!(spoken.seen(), ["announcement due"]);
    spoken.client(&next);
    assert_eq!(spoken.seen(), Vec::<String>::new());

    // In the transaction that follows the pop; kombu does so where it fetches but one.
    let mut spoken = Spoken::new();
    popped(&mut spoken, &brpop);
    spoken.client(&command(&["MULTI"]));
    spoken.client(&command(&["ZADD", "unacked_index", "1.5", TAG]));
    spoken.client(&command(&[
        "HSET",
        "unacked",
        TAG,
        "[{}, \"\", \"celery\"]",
    ]));
    assert_eq!(spoken.seen(), ["announced"]);
    spoken.client(&command(&["EXEC"]));
    assert_eq!(spoken.seen(), ["announcement due"]);

    // Or it has nothing more to say.
    let mut spoken = Spoken::new();
    popped(&mut spoken, &brpop);
    let now = Timestamp::default();
    spoken.session.finish(Side::Client, now, &mut spoken.out);
    assert_eq!(spoken.seen(), ["announcement due"]);
}

#[test]
fn what_is_written_to_a_hash_announces_where_it_may_be_a_tag() {
    let mut spoken = Spoken::new();
    for (words, count) in [
        (&["hset", "unacked", TAG, "x", OTHER_TAG, "y"][..], 2),
        (&["HSET", "unacked", "short", TAG], 0),
        (&["HSET", TAG, "f", "x"], 0),
        (&["HGET", "unacked", TAG], 0),
    ] {
        let sent = command(words);
        assert_eq!(spoken.client(&sent), sent);
        assert_eq!(spoken.seen(), vec!["announced"; count]);
    }
}

#[test]
fn kombu_is_known_by_its_priorities_or_its_library() {
    let several = ["BRPOP", "celery", "celery\u{6}\u{16}3", "1"];
    for (library, request, expected) in [
        (None, &["BRPOP", "celery", "1"][..], Announcement::Possible),
        (None, &several, Announcement::Expected),
        (
            Some("redis-py"),
            &["BRPOP", "celery", "1"],
            Announcement::Expected,
        ),
        (
            Some("ioredis"),
            &["BRPOP", "celery", "1"],
            Announcement::Possible,
        ),
        (
            None,
            &["BRPOP", "celery", "other", "1"],
            Announcement::Possible,
        ),
    ] {
        let mut spoken = Spoken::new();
        if let Some(library) = library {
            spoken.client(&command(&["CLIENT", "SETINFO", "LIB-NAME", library]));
            spoken.broker("+OK\r\n");
        }
        spoken.client(&command(request));
        let reply = format!("*2\r\n{}{}", bulk("celery"), bulk(&tagged(TAG, false)));
        spoken.broker(&reply);
        assert_eq!(spoken.delivery().announcement, expected, "{request:?}");
    }
}

#[test]
fn a_removed_tag_is_acknowledged_when_redis_has_carried_that_out() {
    let mut spoken = Spoken::new();
    spoken.acknowledge(TAG);
    spoken.client(&command(&["EXEC"]));
    spoken.broker("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n");
    assert_eq!(spoken.seen(), Vec::<String>::new());
    spoken.broker(":1\r\n");
    let settled = Sighting::Settled {
        receipt: Receipt::tag(TAG),
        at: Timestamp::default(),
        settlement: Settlement::Acknowledged,
    };
    assert_eq!(spoken.out.sightings, [settled]);
    spoken.out.sightings.clear();

    spoken.client(&command(&["hdel", "unacked", TAG, "short", OTHER_TAG]));
    assert_eq!(spoken.seen(), Vec::<String>::new());
    // Who broadcasts has one tag for all: the first worker alone finds something to remove.
    spoken.broker(":0\r\n");
    assert_eq!(spoken.seen(), ["acknowledged", "acknowledged"]);
    spoken.client("HDEL unacked 0dba47d1-6c28-4a52-8a0f-0f5b0e2a6a41\r\n");
    spoken.broker(":1\r\n");
    assert_eq!(spoken.seen(), ["acknowledged"]);
    spoken.client(&command(&["HDEL", TAG, "f"]));
    spoken.client(&command(&["HDEL", "h", &TAG.replace('-', "_")]));
    spoken.client(&command(&["HGET", "unacked", TAG]));
    spoken.broker(":0\r\n:0\r\n$-1\r\n");
    assert_eq!(spoken.seen(), Vec::<String>::new());
}

#[test]
fn what_is_discarded_settles_nothing() {
    let mut spoken = Spoken::new();
    for (end, answer) in [("DISCARD", "+OK"), ("RESET", "+RESET")] {
        spoken.acknowledge(TAG);
        spoken.client(&command(&[end]));
        spoken.client(&command(&["EXEC"]));
        spoken.broker("+OK\r\n+QUEUED\r\n+QUEUED\r\n");
        spoken.broker(&format!("{answer}\r\n-ERR EXEC without MULTI\r\n"));
        assert_eq!(spoken.seen(), Vec::<String>::new());
    }
}

#[test]
fn what_redis_has_not_carried_out_settles_nothing() {
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    for (queued, answer) in [
        ("+QUEUED\r\n", "*-1\r\n"),
        ("+QUEUED\r\n", "_\r\n"),
        (
            "-READONLY You can't write against a read only replica.\r\n",
            aborted,
        ),
        ("+QUEUED\r\n", "*2\r\n:1\r\n-WRONGTYPE some key\r\n"),
        // Nobody hears it any more.
        ("+QUEUED\r\n", ""),
    ] {
        let mut spoken = Spoken::new();
        spoken.acknowledge(TAG);
        spoken.client(&command(&["EXEC"]));
        spoken.broker(&format!("+OK\r\n+QUEUED\r\n{queued}{answer}"));
        if answer.is_empty() {
            let now = Timestamp::default();
            spoken.session.finish(Side::Broker, now, &mut spoken.out);
        }
        assert_eq!(spoken.seen(), Vec::<String>::new(), "{answer}");
    }
    let mut spoken = Spoken::new();
    spoken.client(&command(&["HDEL", "unacked", TAG]));
    spoken.client(&command(&["HDEL", "unacked", OTHER_TAG]));
    spoken.broker("-NOPERM this user has no permissions\r\n:1\r\n");
    assert_eq!(spoken.seen(), ["acknowledged"]);
}

#[test]
fn what_settles_counts_when_it_is_sent_where_no_answer_can_be_read() {
    let mut spoken = Spoken::new();
    spoken.client(&command(&["CLIENT", "REPLY", "OFF"]));
    spoken.acknowledge(TAG);
    spoken.client(&command(&["EXEC"]));
    assert_eq!(spoken.seen(), ["acknowledged"]);

    let mut spoken = Spoken::new();
    spoken.client(&command(&["HDEL", "unacked", TAG]));
    spoken.broker("nonsense\r\n");
    spoken.client(&command(&["HDEL", "unacked", TAG]));
    let seen = spoken.seen();
    let seen = seen.iter().filter(|seen| *seen == "acknowledged");
    assert_eq!(seen.count(), 2);
}

#[test]
fn a_message_that_is_put_back_is_requeued() {
    let large = format!("{}{}", tagged(TAG, true), " ".repeat(5000));
    for (pushed, seen) in [
        (tagged(TAG, true), &["redelivered celery", "requeued"][..]),
        // kombu marks no envelope without headers.
        (tagged(TAG, false), &["redelivered celery", "requeued"]),
        (large, &["left alone: over_hold_limit", "requeued"]),
    ] {
        let mut spoken = Spoken::new();
        spoken.client(&command(&["WATCH", "unacked"]));
        spoken.client(&command(&["HGET", "unacked", TAG]));
        spoken.acknowledge(TAG);
        spoken.client(&command(&["RPUSH", "celery", &pushed]));
        spoken.client(&command(&["EXEC"]));
        spoken.broker("+OK\r\n$1\r\nx\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n");
        spoken.broker("*3\r\n:1\r\n:1\r\n:1\r\n");
        assert_eq!(spoken.seen(), seen);
    }
}

#[test]
fn a_worker_that_finds_nothing_to_put_back_settles_nothing() {
    let mut spoken = Spoken::new();
    spoken.client(&command(&["WATCH", "unacked"]));
    spoken.client(&command(&["HGET", "unacked", TAG]));
    spoken.acknowledge(TAG);
    spoken.client(&command(&["EXEC"]));
    spoken.broker("+OK\r\n$-1\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:0\r\n:0\r\n");
    assert_eq!(spoken.seen(), Vec::<String>::new());
    spoken.acknowledge(TAG);
    spoken.client(&command(&["EXEC"]));
    spoken.broker("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n:1\r\n");
    assert_eq!(spoken.seen(), ["acknowledged"]);
}

#[test]
fn of_one_transaction_no_more_is_remembered_than_may_wait() {
    let mut spoken = Spoken::new();
    spoken.session.setup.budget = HoldBudget::new(4 << 20);
    let max = spoken.session.setup.limits.pending_max;
    spoken.client(&command(&["MULTI"]));
    let tags = vec![TAG; 100];
    let many = command(&[&["HDEL", "unacked"][..], &tags].concat());
    for _ in 0..=max / 100 {
        spoken.client(&many);
    }
    spoken.client(&command(&["EXEC"]));
    let count = max / 100 + 1;
    let results = ":100\r\n".repeat(count);
    spoken.broker(&format!(
        "+OK\r\n{}*{count}\r\n{results}",
        "+QUEUED\r\n".repeat(count)
    ));
    let settled = spoken
        .seen()
        .iter()
        .filter(|seen| *seen == "acknowledged")
        .count();
    assert_eq!(settled, max);
}

#[test]
fn results_tell_of_runs_to_whoever_follows_them() {
    let channel = format!("pfx:celery-task-meta-{ID}");
    let long = format!(
        r#"{{"status": "FAILURE", "result": "{}"}}"#,
        "x".repeat(10_000)
    );
    for (result, told) in [
        (
            r#"{"status": "STARTED", "result": {}}"#,
            &["started by result"][..],
        ),
        (
            r#"{"status": "SUCCESS", "result": 5}"#,
            &["succeeded by result"],
        ),
        (&*long, &["failed by result"]),
        (r#"{"status": "PROGRESS"}"#, &[]),
        ("{", &[]),
        ("", &[]),
    ] {
        let sent = command(&["PUBLISH", &channel, result]);
        let mut spoken = following_runs();
        assert_eq!(spoken.client(&sent), sent);
        if let [Sighting::Told { task, .. }] = &spoken.out.sightings[..] {
            assert_eq!(*task, TaskKey::of(ID));
        }
        assert_eq!(spoken.seen(), told);

        let mut spoken = Spoken::new();
        assert_eq!(spoken.client(&sent), sent);
        assert_eq!(spoken.seen(), Vec::<String>::new());
    }
}

#[test]
fn events_tell_of_runs_by_the_clock_of_the_worker_but_not_of_the_future() {
    let body = format!(
        r#"[{{"uuid": "{ID}", "timestamp": 0.0, "type": "task-started"}}, {{"uuid": "{ID}", "timestamp": 1795332659.0, "type": "task-succeeded"}}]"#
    );
    let sent = command(&["PUBLISH", "/0.celeryev/task.multi", &event(&body)]);
    let mut spoken = following_runs();
    assert_eq!(spoken.client(&sent), sent);
    for seen in &spoken.out.sightings {
        assert!(matches!(seen, Sighting::Told { at, .. } if *at == Timestamp::default()));
    }
    assert_eq!(spoken.seen(), ["started by event", "succeeded by event"]);

    let mut spoken = Spoken::new();
    assert_eq!(spoken.client(&sent), sent);
    assert_eq!(spoken.seen(), Vec::<String>::new());
}

#[test]
fn results_on_their_way_to_whoever_waits_for_them_are_not_held() {
    let mut spoken = following_runs();
    spoken.client(&command(&["SUBSCRIBE", "celery-task-meta-x"]));
    spoken.broker("*3\r\n$9\r\nsubscribe\r\n$18\r\ncelery-task-meta-x\r\n:1\r\n");
    let message = format!(
        "*3\r\n{}{}{}",
        bulk("message"),
        bulk("celery-task-meta-x"),
        bulk(&format!("{{{}}}", " ".repeat(9000)))
    );
    assert_eq!(spoken.broker(&message[..1000]), message[..1000]);
    assert_eq!(spoken.seen(), Vec::<String>::new());
}

#[test]
fn publications_name_their_client_as_it_calls_itself() {
    let mut spoken = Spoken::new();
    let long = "n".repeat(500);
    for (said, name) in [
        (&["PING"][..], None),
        (&["client", "setname", "Web-1"], Some("Web-1")),
        (
            &["CLIENT", "SETINFO", "LIB-NAME", "redis-py"],
            Some("Web-1"),
        ),
        (&["CLIENT", "SETNAME"], Some("Web-1")),
        (&["CLIENT", "SETNAME", &long], Some(&long[..128])),
        (&["CLIENT", "SETNAME", ""], None),
        (&["CLIENT", "SETNAME", "again"], Some("again")),
        (&["RESET"], None),
    ] {
        spoken.client(&command(said));
        spoken.client(&command(&["LPUSH", "celery", &task()]));
        let Some(Sighting::Published(publication)) = spoken.out.sightings.pop() else {
            panic!("nothing was published");
        };
        assert_eq!(publication.client_name.as_deref(), name, "{said:?}");
    }
}
