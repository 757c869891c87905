mod databases;
mod kept;
mod refusals;
mod stopping;
mod way_out;

use super::*;
use crate::config::Limits;
use crate::config::Mode;
use crate::config::MovingAddress;
use crate::config::Policy;
use crate::config::Rollout;
use crate::config::Spans;
use crate::config::Translate;
use crate::hop::Injector;
use crate::hop::Origin;
use crate::hop::TaskKey;
use crate::hop::fixture::told;
use crate::protocol::HoldBudget;
use crate::trace::IdSource;
use crate::trace::Sampler;

const ID: &str = "50fbde83-f755-40e9-a1de-76192c8eca74";

/// A connection and everything that came of it.
struct Spoken {
    session: RedisSession,
    out: Outbox,
}

impl Spoken {
    fn new() -> Self {
        Self::with(Policy::default(), Spans::default())
    }

    fn with(policy: Policy, spans: Spans) -> Self {
        let limits = Limits {
            hold_bytes_max: 4096,
            ..Limits::default()
        };
        Self {
            session: RedisSession::new(Setup {
                connection: Arc::new(Connection {
                    session: 7,
                    route: "redis".into(),
                    server_address: "broker".into(),
                    server_port: 6379,
                    client_address: "127.0.0.1:1".into(),
                }),
                injector: Arc::new(Injector::new(policy, Sampler::default(), &limits).with(
                    Translate::default(),
                    Rollout::default(),
                    spans,
                )),
                limits: Arc::new(limits),
                moving_address: MovingAddress::default(),
                budget: HoldBudget::new(1 << 20),
                ids: IdSource::seeded(1),
            }),
            out: Outbox::default(),
        }
    }

    fn client(&mut self, text: &str) -> String {
        self.session.receive(
            Side::Client,
            text.as_bytes(),
            Timestamp::default(),
            &mut self.out,
        );
        String::from_utf8(self.out.to_broker.split().to_vec()).unwrap()
    }

    fn broker(&mut self, text: &str) -> String {
        self.session.receive(
            Side::Broker,
            text.as_bytes(),
            Timestamp::default(),
            &mut self.out,
        );
        String::from_utf8(self.out.to_client.split().to_vec()).unwrap()
    }

    /// What was seen, a word each.
    fn seen(&mut self) -> Vec<String> {
        let sightings = self.out.sightings.drain(..);
        sightings.map(|sighting| told(&sighting)).collect()
    }
}

fn command(words: &[&str]) -> String {
    let words: String = words
        .iter()
        .map(|word| format!("${}\r\n{word}\r\n", word.len()))
        .collect();
    format!("*{}\r\n{words}", words.matches('$').count())
}

fn envelope(headers: &str, delivery_info: &str) -> String {
    format!(
        r#"{{"body": "W10=", "content-encoding": "utf-8", "content-type": "application/json", "headers": {headers}, "properties": {{"delivery_info": {{"exchange": "", "routing_key": "celery"{delivery_info}}}, "body_encoding": "base64"}}}}"#
    )
}

fn task() -> String {
    envelope(
        &format!(r#"{{"task": "add", "id": "{ID}", "root_id": "{ID}", "retries": 0}}"#),
        "",
    )
}

#[test]
fn a_published_task_gets_a_context_and_nothing_else_changes() {
    let mut spoken = Spoken::new();
    let sent = command(&["LPUSH", "celery", &task()]);
    let arrived = spoken.client(&sent);
    let added = format!(
        r#""traceparent": "00-{}-7833af78daa79777-03", "tracestate": "tracehop=7833af78daa79777-0-388dfe33", "#,
        ID.replace('-', "")
    );
    let expected = task().replace(r#"{"task""#, &format!(r#"{{{added}"task""#));
    assert_eq!(arrived, command(&["LPUSH", "celery", &expected]));
    assert_eq!(spoken.broker(":1\r\n"), ":1\r\n");
    assert_eq!(spoken.seen(), ["added 0 to celery", "0 confirmed"]);
}

#[test]
fn each_value_of_a_push_is_a_message_of_its_own() {
    let mut spoken = Spoken::new();
    spoken.client(&command(&[
        "RPUSH",
        "celery\u{6}\u{16}3",
        &task(),
        "{}",
        &task(),
    ]));
    spoken.broker("-OOM command not allowed\r\n");
    assert_eq!(
        spoken.seen(),
        [
            "added 0 to celery",
            "added 1 to celery",
            "0 refused: OOM command not allowed",
            "1 refused: OOM command not allowed",
        ]
    );
}

#[test]
fn inside_of_a_large_string_bytes_pass_without_a_look() {
    let mut spoken = Spoken::new();
    let large = command(&["SET", "key", &"x".repeat(10_000)]);
    assert!(!spoken.session.pass(Side::Client, 1));
    assert_eq!(spoken.client(&large[..100]), large[..100]);
    for _ in 0..9 {
        assert!(spoken.session.pass(Side::Client, 1_000));
    }
    // The string ends before.
    assert!(!spoken.session.pass(Side::Client, 1_000));
    let rest = format!(
        "{}{}",
        &large[9_100..],
        command(&["LPUSH", "celery", &task()])
    );
    assert!(spoken.client(&rest).contains("traceparent"));
    assert!(!spoken.session.pass(Side::Client, 1));

    let reply = format!("+OK\r\n:1\r\n$10000\r\n{}\r\n", "y".repeat(10_000));
    spoken.client(&command(&["GET", "key"]));
    assert!(!spoken.session.pass(Side::Broker, 1));
    spoken.broker(&reply[..1_000]);
    assert!(spoken.session.pass(Side::Broker, 5_000));
    spoken.broker(&reply[6_000..]);
    assert!(!spoken.session.pass(Side::Broker, 1));
    assert_eq!(spoken.seen(), ["added 0 to celery", "0 confirmed"]);
    assert!(
        spoken
            .session
            .part(Timestamp::default(), &mut Outbox::default())
    );
}

#[test]
fn what_is_held_does_not_pass_without_a_look() {
    let mut spoken = Spoken::new();
    let sent = command(&["LPUSH", "celery", &task()]);
    spoken.client(&sent[..60]);
    assert!(!spoken.session.pass(Side::Client, 1));
    spoken.client(&sent[60..]);
    let large = command(&["LPUSH", "celery", &"x".repeat(5_000)]);
    assert_eq!(spoken.client(&large[..60]), large[..60]);
    assert!(spoken.session.pass(Side::Client, 4_000));
    assert!(!spoken.session.pass(Side::Client, 4_000));
}

#[test]
fn a_refusal_does_not_repeat_what_was_sent() {
    let mut spoken = Spoken::new();
    spoken.client(&command(&["LPUSH", "celery", &task()]));
    spoken.broker("-ERR unknown command 'LPUSH', with args beginning with: 'celery' '{\"bo\r\n");
    assert_eq!(
        spoken.seen(),
        [
            "added 0 to celery",
            "0 refused: ERR unknown command 'LPUSH'"
        ]
    );
}

#[test]
fn a_length_alone_costs_nothing_of_the_budget() {
    let mut spoken = Spoken::new();
    Arc::make_mut(&mut spoken.session.setup.limits).hold_bytes_max = 1 << 20;
    let large = format!("{}{}", task(), " ".repeat(500_000));
    let sent = command(&["LPUSH", "celery", &large]);
    spoken.client(&sent[..100]);
    let held = spoken.session.setup.budget.held();
    assert!((60..50_000).contains(&held), "{held}");
    spoken.client(&sent[100..400_000]);
    let held = spoken.session.setup.budget.held();
    assert!((399_000..=1 << 20).contains(&held), "{held}");
    spoken.client(&sent[400_000..]);
    assert_eq!(spoken.session.setup.budget.held(), 0);
    assert_eq!(spoken.seen(), ["added 0 to celery"]);
}

#[test]
fn a_message_beyond_the_budget_passes_unedited() {
    let mut spoken = Spoken::new();
    spoken.session.setup.budget = HoldBudget::new(20_000);
    Arc::make_mut(&mut spoken.session.setup.limits).hold_bytes_max = 1 << 20;
    let large = format!("{}{}", task(), " ".repeat(100_000));
    let sent = command(&["LPUSH", "celery", &large]);
    let (first, rest) = sent.split_at(50_000);
    let arrived = spoken.client(first) + &spoken.client(rest);
    assert_eq!(arrived, sent);
    assert_eq!(spoken.seen(), ["left alone: over_total_hold_limit"]);
    assert_eq!(spoken.session.setup.budget.held(), 0);
}

#[test]
fn a_transaction_answers_for_its_messages_one_by_one() {
    let mut spoken = Spoken::new();
    spoken.client(&command(&["MULTI"]));
    spoken.client(&command(&["LPUSH", "celery", &task()]));
    spoken.client(&command(&["PEXPIRE", "celery", "1000"]));
    spoken.client(&command(&["LPUSH", "celery", &task()]));
    spoken.client(&command(&["EXEC"]));
    assert!(
        !spoken
            .session
            .part(Timestamp::default(), &mut Outbox::default())
    );
    spoken.broker("+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n");
    spoken.broker("*3\r\n:1\r\n:1\r\n-WRONGTYPE no list\r\n");
    assert_eq!(
        spoken.seen(),
        [
            "added 0 to celery",
            "added 1 to celery",
            "0 confirmed",
            "1 refused: WRONGTYPE no list",
        ]
    );
    assert!(
        spoken
            .session
            .part(Timestamp::default(), &mut Outbox::default())
    );
}

#[test]
fn an_aborted_transaction_discards_its_messages() {
    for (exec, ending) in [
        ("*-1\r\n", "0 discarded"),
        ("_\r\n", "0 discarded"),
        ("-EXECABORT no\r\n", "0 refused: EXECABORT no"),
    ] {
        let mut spoken = Spoken::new();
        spoken.client(&command(&["MULTI"]));
        spoken.client(&command(&["LPUSH", "celery", &task()]));
        spoken.client(&command(&["EXEC"]));
        spoken.broker(&format!("+OK\r\n+QUEUED\r\n{exec}"));
        assert_eq!(spoken.seen(), ["added 0 to celery", ending]);
    }
}

#[test]
fn a_restored_message_is_no_publication() {
    let mut spoken = Spoken::new();
    let restored = command(&[
        "RPUSH",
        "celery",
        &envelope(
            &format!(r#"{{"task": "add", "id": "{ID}", "redelivered": true}}"#),
            r#", "redelivered": true"#,
        ),
    ]);
    assert_eq!(spoken.client(&restored), restored);
    assert_eq!(spoken.seen(), ["redelivered celery"]);
}

#[test]
fn headers_are_made_where_there_are_none() {
    let body = "eyJ0YXNrIjogImFkZCIsICJpZCI6ICJ4IiwgImFyZ3MiOiBbXSwgImt3YXJncyI6IHt9fQ==";
    for (headers, expected) in [
        (r#", "headers": {}"#, r#", "headers": {ADDED}"#),
        (r#", "headers": null"#, r#", "headers": {ADDED}"#),
        (r#", "headers": []"#, r#", "headers": {ADDED}"#),
        (r#", "headers": false"#, r#", "headers": {ADDED}"#),
        (r#", "headers": 0"#, r#", "headers": {ADDED}"#),
        (r#", "headers": """#, r#", "headers": {ADDED}"#),
    ] {
        let text = |headers: &str| {
            format!(
                r#"{{"body": "{body}", "content-type": "application/json"{headers}, "properties": {{"body_encoding": "base64"}}}}"#
            )
        };
        let mut spoken = Spoken::new();
        let arrived = spoken.client(&command(&["LPUSH", "celery", &text(headers)]));
        let seen = spoken.seen();
        assert_eq!(seen, ["added 0 to celery"]);
        let start = arrived.find("\"traceparent\"").unwrap();
        let end = arrived[start..].find('}').unwrap() + start;
        let added = &arrived[start..end];
        assert_eq!(
            arrived,
            command(&["LPUSH", "celery", &text(&expected.replace("ADDED", added))])
        );
    }
}

#[test]
fn a_task_whose_id_is_a_number_is_a_task() {
    let sent = envelope(r#"{"task": "add", "id": 4242, "root_id": 4242}"#, "");
    let mut spoken = Spoken::new();
    spoken.client(&command(&["LPUSH", "celery", &sent]));
    let Some(Sighting::Published(publication)) = spoken.out.sightings.first() else {
        panic!("a publication is seen");
    };
    assert_eq!(publication.task.id(), "4242");
    assert_eq!(publication.task.root_id(), Some("4242"));
}

#[test]
fn messages_and_confirmations_are_told_from_replies() {
    let mut spoken = Spoken::new();
    spoken.client(&command(&["SUBSCRIBE", "a", "b"]));
    spoken.client(&command(&["PING"]));
    spoken.broker("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    spoken.broker("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n");
    spoken.broker("*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    spoken.client(&command(&["UNSUBSCRIBE"]));
    spoken.client(&command(&["HELLO", "3"]));
    spoken.client(&command(&["PUBLISH", "t", &task()]));
    spoken.broker("*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n");
    spoken.broker("*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n");
    spoken.broker("%1\r\n+proto\r\n:3\r\n>2\r\n+invalidate\r\n_\r\n|1\r\n+ttl\r\n:3\r\n:0\r\n");
    assert_eq!(spoken.seen(), ["added 0 to t", "0 confirmed"]);
    assert!(
        spoken
            .session
            .part(Timestamp::default(), &mut Outbox::default())
    );
}

#[test]
fn switched_off_replies_are_not_waited_for() {
    let mut spoken = Spoken::new();
    spoken.client(&command(&["CLIENT", "REPLY", "SKIP"]));
    spoken.client(&command(&["LPUSH", "celery", &task()]));
    spoken.client(&command(&["CLIENT", "REPLY", "off"]));
    spoken.client(&command(&["GET", "x"]));
    spoken.client(&command(&["CLIENT", "REPLY", "ON"]));
    spoken.broker("+OK\r\n");
    assert_eq!(spoken.seen(), ["added 0 to celery", "0 unread"]);
    assert!(
        spoken
            .session
            .part(Timestamp::default(), &mut Outbox::default())
    );
}

#[test]
fn clients_are_told_where_else_to_connect_only_where_that_is_wanted() {
    for (setting, mode, is_removed) in [
        (MovingAddress::Auto, Mode::Inject, true),
        (MovingAddress::Auto, Mode::Observe, false),
        (MovingAddress::Pass, Mode::Inject, false),
        (MovingAddress::Remove, Mode::Observe, true),
    ] {
        let policy = Policy {
            mode,
            ..Policy::default()
        };
        let mut spoken = Spoken::with(policy, Spans::default());
        spoken.session.setup.moving_address = setting;
        for (endpoint, is_address) in [
            ("$14\r\n10.0.0.7:12345\r\n", true),
            ("+10.0.0.7:12345\r\n", true),
            ("$0\r\n\r\n", false),
            ("_\r\n", false),
        ] {
            let head = ">4\r\n$6\r\nMOVING\r\n:15\r\n:30\r\n";
            let arrived = spoken.broker(&format!("{head}{endpoint}"));
            let expected = if is_removed { "_\r\n" } else { endpoint };
            assert_eq!(arrived, format!("{head}{expected}"), "{setting:?} {mode:?}");
            let is_told = is_address && !is_removed;
            assert_eq!(
                spoken.seen(),
                vec!["redirected: moving"; usize::from(is_told)],
                "{setting:?} {mode:?} {endpoint}"
            );
        }
    }
}

#[test]
fn whoever_is_told_where_else_to_connect_is_told_of() {
    let node = "*3\r\n$8\r\n10.0.0.7\r\n:6379\r\n$2\r\nid\r\n";
    let slots = format!("*1\r\n*3\r\n:0\r\n:16383\r\n{node}");
    let master = "*2\r\n$8\r\n10.0.0.7\r\n$4\r\n6379\r\n";
    let nodes = "$10\r\nid 10.0.0.\r\n";
    let sentinel = &["SENTINEL", "get-master-addr-by-name", "m"][..];
    for (request, reply, seen) in [
        (&["CLUSTER", "SLOTS"][..], &*slots, Some("cluster_slots")),
        (&["CLUSTER", "SLOTS"], "*0\r\n", None),
        (&["CLUSTER", "SHARDS"], &*slots, Some("cluster_shards")),
        (&["CLUSTER", "NODES"], nodes, Some("cluster_nodes")),
        (
            &["CLUSTER", "NODES"],
            "-ERR This instance has cluster support disabled\r\n",
            None,
        ),
        (&["CLUSTER", "INFO"], "$2\r\nok\r\n", None),
        (sentinel, master, Some("sentinel")),
        (sentinel, "*-1\r\n", None),
        (&["SENTINEL", "REPLICAS", "m"], master, Some("sentinel")),
        (
            &["GET", "k"],
            "-MOVED 3999 10.0.0.7:6379\r\n",
            Some("moved"),
        ),
        (&["GET", "k"], "-ASK 3999 10.0.0.7:6379\r\n", Some("ask")),
        (&["GET", "k"], "$12\r\nMOVED 3999 x\r\n", None),
    ] {
        let mut spoken = Spoken::new();
        spoken.client(&command(request));
        assert_eq!(spoken.broker(reply), reply);
        let expected: Vec<String> = seen
            .iter()
            .map(|why| format!("redirected: {why}"))
            .collect();
        assert_eq!(spoken.seen(), expected, "{request:?}");
    }
}

#[test]
fn what_cannot_be_paired_is_still_injected() {
    let mut spoken = Spoken::new();
    spoken.client(&command(&["MONITOR"]));
    spoken.broker("+OK\r\n+1339518083.107412 [0 127.0.0.1:60866] \"keys\" \"*\"\r\n");
    spoken.client(&command(&["LPUSH", "celery", &task()]));
    assert_eq!(
        spoken.seen(),
        ["lost sight: monitor", "added 0 to celery", "0 unread"]
    );
}

#[test]
fn a_message_over_the_limit_passes_in_parts() {
    let mut spoken = Spoken::new();
    let large = command(&["LPUSH", "celery", &format!("{{{}", "x".repeat(5000))]);
    assert_eq!(spoken.client(&large[..1000]), large[..1000]);
    assert_eq!(spoken.client(&large[1000..]), large[1000..]);
    assert_eq!(spoken.seen(), ["left alone: over_hold_limit"]);
}

#[test]
fn a_lost_connection_ends_what_was_not_answered() {
    let mut spoken = Spoken::new();
    spoken.client(&command(&["LPUSH", "celery", &task()]));
    spoken
        .session
        .finish(Side::Broker, Timestamp::default(), &mut spoken.out);
    assert_eq!(spoken.seen(), ["added 0 to celery", "0 lost"]);
}

#[test]
fn each_hop_ends_once_though_the_broker_ends_in_between() {
    let mut spoken = Spoken::new();
    let sent = command(&["RPUSH", "celery", &task(), &task()]);
    let (first, rest) = sent.split_at(sent.len() / 2 + 20);
    spoken.client(first);
    spoken
        .session
        .finish(Side::Broker, Timestamp::default(), &mut spoken.out);
    spoken.client(rest);
    assert_eq!(
        spoken.seen(),
        [
            "added 0 to celery",
            "0 lost",
            "added 1 to celery",
            "1 unread"
        ]
    );
}

#[test]
fn of_two_properties_the_last_counts() {
    let mut spoken = Spoken::new();
    let restored = r#""properties": {"delivery_info": {"redelivered": true}}, "properties""#;
    spoken.client(&command(&[
        "LPUSH",
        "celery",
        &task().replace(r#""properties""#, restored),
    ]));
    let none = task().replace("}}", "}, \"properties\": null}");
    spoken.client(&command(&["LPUSH", "celery", &none]));
    assert_eq!(spoken.seen(), ["added 0 to celery"]);
}

#[test]
fn headers_that_no_worker_can_read_are_not_mended() {
    let body = "eyJ0YXNrIjogImFkZCIsICJpZCI6ICJ4IiwgImFyZ3MiOiBbXSwgImt3YXJncyI6IHt9fQ==";
    for headers in [r#""abc""#, r#"[["k", "v"]]"#, "5"] {
        let mut spoken = Spoken::new();
        let sent = command(&[
            "LPUSH",
            "celery",
            &format!(
                r#"{{"body": "{body}", "content-type": "application/json", "headers": {headers}, "properties": {{"body_encoding": "base64"}}}}"#
            ),
        ]);
        assert_eq!(spoken.client(&sent), sent);
        assert_eq!(spoken.seen(), ["left alone: bad_headers"]);
    }
}

#[test]
fn what_looks_like_an_envelope_and_is_left_alone_is_counted_by_reason() {
    let with = |body: &str, content_type: &str, headers: &str| {
        format!(
            r#"{{"body": "{body}", "content-type": "{content_type}", "headers": {headers}, "properties": {{}}}}"#
        )
    };
    let json = "application/json";
    for (value, seen) in [
        (
            with("", json, r#"{"compression": "application/x-bz2"}"#),
            vec!["left alone: unknown_compression"],
        ),
        (
            with("", "application/data", "{}"),
            vec!["left alone: unknown_content_type"],
        ),
        (with("", json, "{}"), vec!["left alone: unreadable_body"]),
        (
            with("[]", json, r#"{"task": "add"}"#),
            vec!["left alone: bad_headers"],
        ),
        (
            r#"{"body": "", "properties": {}"#.to_owned(),
            vec!["left alone: unreadable_envelope"],
        ),
        // Something else, read to its end.
        (with("[]", json, "{}"), vec![]),
        (with("hello", "text/plain", "{}"), vec![]),
        (with("", json, r#"{"hostname": "w1"}"#), vec![]),
        (r#"{"body": ""}"#.to_owned(), vec![]),
        (r#"{"order": "#.to_owned(), vec![]),
    ] {
        let mut spoken = Spoken::new();
        let sent = command(&["LPUSH", "celery", &value]);
        assert_eq!(spoken.client(&sent), sent);
        assert_eq!(spoken.seen(), seen, "{value}");
    }
}

#[test]
fn tasks_in_commands_that_are_not_read_are_counted() {
    let task = task();
    for sent in [
        command(&["LPUSHX", "celery", &task]),
        command(&["RPUSHX", "celery", &task]),
        command(&[
            "EVAL",
            "return redis.call('LPUSH', KEYS[1], ARGV[1])",
            "1",
            "celery",
            &task,
        ]),
        command(&[
            "EVALSHA",
            "e0e1f9fabfc9d4800c877a703b823ac0578ff8db",
            "1",
            "celery",
            &task,
        ]),
        command(&["ZADD", "celery", "1", &task]),
        command(&["XADD", "celery", "*", "payload", &task]),
        format!("LPUSH celery '{task}'\r\n"),
    ] {
        let mut spoken = Spoken::new();
        assert_eq!(spoken.client(&sent), sent);
        assert_eq!(spoken.seen(), ["left alone: unread_command"]);
    }
    for sent in [
        command(&["EVAL", "return 1", "0", r#"{"order": 1}"#]),
        command(&["ZADD", "due", "1", "x"]),
        command(&["XADD", "log", "*", "body", ""]),
        command(&["SET", "cached", r#"{"body": "hello"}"#]),
    ] {
        let mut spoken = Spoken::new();
        assert_eq!(spoken.client(&sent), sent);
        assert_eq!(spoken.seen(), Vec::<String>::new());
    }
}

#[test]
fn tasks_in_replies_that_are_not_read_are_counted() {
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    let task = bulk(&task());
    let (queue, score) = (bulk("celery"), bulk("1"));
    let stream = format!("*2\r\n{queue}*1\r\n*2\r\n{score}*2\r\n{queue}{task}");
    for (request, reply) in [
        (&["RPOPLPUSH", "celery", "mine"][..], task.clone()),
        (&["BRPOPLPUSH", "celery", "mine", "0"], task.clone()),
        (&["LMOVE", "celery", "mine", "LEFT", "LEFT"], task.clone()),
        (&["ZPOPMIN", "celery"], format!("*2\r\n{task}{score}")),
        (
            &["BZMPOP", "0", "1", "celery", "MIN"],
            format!("*2\r\n{queue}*1\r\n*2\r\n{task}{score}"),
        ),
        (
            &["XREADGROUP", "GROUP", "g", "c", "STREAMS", "celery", ">"],
            format!("*1\r\n{stream}"),
        ),
        (
            &["XREAD", "BLOCK", "0", "STREAMS", "celery", "0"],
            format!("*1\r\n{stream}"),
        ),
    ] {
        let mut spoken = Spoken::new();
        spoken.client(&command(request));
        assert_eq!(spoken.broker(&reply), reply);
        assert_eq!(spoken.seen(), ["left alone: unread_command"], "{request:?}");
        // Nothing is left of it.
        spoken.client(&command(&["GET", "a"]));
        spoken.broker(&task);
        assert_eq!(spoken.seen(), Vec::<String>::new());
    }
}

#[test]
fn names_are_cleaned_before_they_leave_the_session() {
    let mut spoken = Spoken::new();
    spoken.client(&command(&["CLIENT", "SETNAME", "web\u{9b}31m"]));
    let hostile = r#"{"task": "\u001b[2Jadd", "id": "a\u202eb", "origin": "gen1@\u0007host"}"#;
    let sent = envelope(hostile, "");
    spoken.client(&command(&["LPUSH", "queue\u{1b}[0m", &sent]));
    spoken.broker("+OK\r\n-ERR \u{1b}[31mno\r\n");
    let Some(Sighting::Published(publication)) = spoken.out.sightings.first() else {
        panic!("a publication is seen");
    };
    assert_eq!(publication.task.name(), "?[2Jadd");
    assert_eq!(publication.task.id(), "a?b");
    assert_eq!(publication.task.key, TaskKey::of("a\u{202e}b"));
    assert_eq!(publication.task.origin(), Some("?host"));
    assert_eq!(&*publication.destination, "queue?[0m");
    assert_eq!(publication.client_name.as_deref(), Some("web?31m"));
    assert_eq!(spoken.seen()[1], "0 refused: ERR ?[31mno");
}

#[test]
fn nonsense_passes_and_is_told() {
    for (nonsense, why) in [
        ("*1\r\n$9223372036854775807\r\n", "length_out_of_range"),
        ("*1\r\n:1\r\n", "argument_is_no_bulk_string"),
        ("*1\r\n$1\r\nxyz\r\n", "no_line_end"),
        ("SET \"x\r\n", "unbalanced_quotes"),
    ] {
        let mut spoken = Spoken::new();
        assert_eq!(spoken.client(nonsense), nonsense);
        assert_eq!(spoken.client("more"), "more");
        assert_eq!(spoken.seen(), [format!("lost sight: {why}")]);
    }
}
