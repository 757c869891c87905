mod deliveries;
mod kept;

use super::*;
use crate::config::Limits;
use crate::config::MovingAddress;
use crate::config::Policy;
use crate::hop::BrokerPart;
use crate::hop::Connection;
use crate::hop::Injector;
use crate::hop::fixture::told;
use crate::protocol::HoldBudget;
use crate::protocol::amqp::fixture::CELERY_FLAGS;
use crate::protocol::amqp::fixture::frame;
use crate::protocol::amqp::fixture::header_payload;
use crate::protocol::amqp::fixture::hex;
use crate::protocol::amqp::fixture::long;
use crate::protocol::amqp::fixture::method;
use crate::protocol::amqp::fixture::properties;
use crate::protocol::amqp::fixture::publish;
use crate::protocol::amqp::fixture::short;
use crate::protocol::amqp::fixture::text;
use crate::trace::IdSource;
use crate::trace::Sampler;

const ID: &str = "50fbde83-f755-40e9-a1de-76192c8eca74";
const JSON: &str = "application/json";
const PROTOCOL1_BODY: &[u8] = br#"{"task": "add", "id": "x", "args": [], "kwargs": {}}"#;

/// A connection and everything that came of it.
struct Spoken {
    session: AmqpSession,
    out: Outbox,
    now: Timestamp,
}

impl Spoken {
    /// A connection on which nothing was said yet.
    fn silent(limits: Limits) -> Self {
        Self {
            session: AmqpSession::new(Setup {
                connection: Arc::new(Connection {
                    session: 7,
                    route: "rabbitmq".into(),
                    server_address: "broker".into(),
                    server_port: 5672,
                    client_address: "127.0.0.1:1".into(),
                }),
                injector: Arc::new(Injector::new(
                    Policy::default(),
                    Sampler::default(),
                    &limits,
                )),
                limits: Arc::new(limits),
                moving_address: MovingAddress::default(),
                budget: HoldBudget::new(1 << 20),
                ids: IdSource::seeded(1),
            }),
            out: Outbox::default(),
            now: Timestamp::default(),
        }
    }

    fn tuned(limits: Limits, frame_max: u32) -> Self {
        let mut spoken = Self::silent(limits);
        let tuning = [&[0x07, 0xff][..], &frame_max.to_be_bytes(), &[0, 60]].concat();
        spoken.client(&hex("'AMQP' 00000901"));
        spoken.broker(&method(0, 10, 10, b"start"));
        spoken.client(&method(0, 10, 11, b"start-ok"));
        spoken.broker(&method(0, 10, 30, &tuning));
        spoken.client(&[method(0, 10, 31, &tuning), method(0, 10, 40, b"open")].concat());
        spoken.broker(&method(0, 10, 41, &[0]));
        spoken
    }

    /// One that is open.
    fn new() -> Self {
        let limits = Limits {
            hold_bytes_max: 4096,
            pending_max: 8,
            ..Limits::default()
        };
        Self::tuned(limits, 131_072)
    }

    fn client(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.session
            .receive(Side::Client, bytes, self.now, &mut self.out);
        self.out.to_broker.split().to_vec()
    }

    fn broker(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.session
            .receive(Side::Broker, bytes, self.now, &mut self.out);
        self.out.to_client.split().to_vec()
    }

    /// What leaves when the proxy wants to part the peers: for the client, for the broker.
    fn part(&mut self) -> (bool, Vec<u8>, Vec<u8>) {
        let heard = u64::try_from(PAUSE.as_nanos()).unwrap();
        let later = Timestamp::from_nanos(self.now.as_nanos() + heard);
        let parted = self.session.part(later, &mut self.out);
        let to_client = self.out.to_client.split().to_vec();
        (parted, to_client, self.out.to_broker.split().to_vec())
    }

    fn finish(&mut self, side: Side) {
        self.session.finish(side, self.now, &mut self.out);
    }

    /// What was seen, a word each.
    fn seen(&mut self) -> Vec<String> {
        let sightings = self.out.sightings.drain(..);
        sightings.map(|sighting| told(&sighting)).collect()
    }
}

fn task_fields() -> Vec<Vec<u8>> {
    vec![
        text("lang", "py"),
        text("task", "add"),
        text("id", ID),
        hex("05'group' 'V'"),
        text("root_id", ID),
    ]
}

/// What the injector adds to `task_fields`.
fn stamped_fields() -> Vec<Vec<u8>> {
    let mut fields = task_fields();
    let trace_id = ID.replace('-', "");
    fields.push(text(
        "traceparent",
        &format!("00-{trace_id}-7833af78daa79777-03"),
    ));
    fields.push(text("tracestate", "tracehop=7833af78daa79777-0-388dfe33"));
    fields
}

fn header(channel: u16, body_size: usize, fields: &[Vec<u8>]) -> Vec<u8> {
    let properties = properties(JSON, fields, ID);
    let body_size = u64::try_from(body_size).unwrap();
    frame(
        2,
        channel,
        &header_payload(body_size, CELERY_FLAGS, &properties),
    )
}

fn body(channel: u16, body: &[u8]) -> Vec<u8> {
    frame(3, channel, body)
}

/// A publication to the queue `celery`, in as many frames as there are parts of its body.
fn message(channel: u16, fields: &[Vec<u8>], parts: &[&[u8]]) -> Vec<u8> {
    let size = parts.concat().len();
    let mut message = publish(channel, "", "celery", 0);
    message.extend(header(channel, size, fields));
    message.extend(parts.iter().flat_map(|part| body(channel, part)));
    message
}

fn task(channel: u16) -> Vec<u8> {
    message(channel, &task_fields(), &[b"[[], {}, {}]"])
}

fn stamped_task(channel: u16) -> Vec<u8> {
    message(channel, &stamped_fields(), &[b"[[], {}, {}]"])
}

/// Something that is no task message.
fn event(channel: u16) -> Vec<u8> {
    message(channel, &[text("hostname", "w1")], &[b"[]"])
}

fn confirm_select(channel: u16) -> Vec<u8> {
    method(channel, 85, 10, &[0])
}

fn ack(channel: u16, tag: u64, multiple: u8) -> Vec<u8> {
    method(
        channel,
        60,
        80,
        &[&tag.to_be_bytes()[..], &[multiple]].concat(),
    )
}

fn nack(channel: u16, tag: u64) -> Vec<u8> {
    method(channel, 60, 120, &[&tag.to_be_bytes()[..], &[0]].concat())
}

fn closing(channel: u16, class: u16, id: u16, code: u16, words: &str) -> Vec<u8> {
    let arguments = [&code.to_be_bytes(), &*short(words), &[0; 4]].concat();
    method(channel, class, id, &arguments)
}

fn channel_close(channel: u16, code: u16, words: &str) -> Vec<u8> {
    closing(channel, 20, 40, code, words)
}

fn connection_close(code: u16, words: &str) -> Vec<u8> {
    closing(0, 10, 50, code, words)
}

fn connection_close_ok() -> Vec<u8> {
    method(0, 10, 51, &[])
}

fn consume(channel: u16, tag: &str, bits: u8) -> Vec<u8> {
    let arguments = [&[0, 0], &*short("q"), &short(tag), &[bits], &long(b"")].concat();
    method(channel, 60, 20, &arguments)
}

/// The first message to the consumer `c`, from the default exchange.
fn deliver(channel: u16) -> Vec<u8> {
    deliver_as(channel, "c", 1, false, ["", "celery"])
}

fn deliver_as(
    channel: u16,
    consumer: &str,
    tag: u64,
    redelivered: bool,
    [exchange, routing_key]: [&str; 2],
) -> Vec<u8> {
    let arguments = [
        &*short(consumer),
        &tag.to_be_bytes(),
        &[u8::from(redelivered)],
        &short(exchange),
        &short(routing_key),
    ];
    method(channel, 60, 60, &arguments.concat())
}

fn get(channel: u16, queue: &str, no_ack: u8) -> Vec<u8> {
    method(
        channel,
        60,
        70,
        &[&[0, 0], &*short(queue), &[no_ack]].concat(),
    )
}

fn consume_ok(channel: u16, tag: &str) -> Vec<u8> {
    method(channel, 60, 21, &short(tag))
}

fn heartbeat() -> Vec<u8> {
    frame(8, 0, b"")
}

fn goodbye_to_client() -> Vec<u8> {
    connection_close(320, "CONNECTION_FORCED - the proxy is shutting down")
}

fn goodbye_to_broker() -> Vec<u8> {
    connection_close(200, "the proxy is shutting down")
}

#[test]
fn a_published_task_gets_a_context_and_nothing_else_changes() {
    let mut spoken = Spoken::new();
    assert_eq!(spoken.client(&task(1)), stamped_task(1));
    assert_eq!(spoken.seen(), ["added 0 to celery", "0 unanswered"]);
}

#[test]
fn a_task_may_come_byte_by_byte() {
    let mut spoken = Spoken::new();
    let mut arrived = Vec::new();
    for byte in task(1) {
        arrived.extend(spoken.client(&[byte]));
    }
    assert_eq!(arrived, stamped_task(1));
    assert_eq!(spoken.seen(), ["added 0 to celery", "0 unanswered"]);
    assert_eq!(spoken.session.setup.budget.held(), 0);
}

#[test]
fn only_the_content_header_of_a_task_is_held() {
    let mut spoken = Spoken::new();
    spoken.client(&publish(1, "", "celery", 0));
    let sent = header(1, 200_000, &task_fields());
    let (start, end) = sent.split_at(50);
    assert_eq!(spoken.client(start), b"");
    assert_eq!(spoken.session.setup.budget.held(), sent.len());
    assert_eq!(spoken.client(end), header(1, 200_000, &stamped_fields()));
    assert_eq!(spoken.session.setup.budget.held(), 0);
    let part = body(1, &[b'x'; 100_000]);
    for seen in ["added 0 to celery", "0 unanswered"] {
        for bytes in part.chunks(1000) {
            assert_eq!(spoken.client(bytes), bytes);
        }
        assert_eq!(spoken.seen(), [seen]);
    }
}

#[test]
fn messages_of_several_channels_may_interleave() {
    let mut spoken = Spoken::new();
    let sent = [
        publish(1, "", "one", 0),
        publish(2, "topic", "two", 0),
        header(2, 4, &task_fields()),
        heartbeat(),
        header(1, 2, &[text("hostname", "w1"), text("task", "")]),
        body(2, b"[]"),
        method(3, 50, 10, b"declare"),
        body(1, b"{}"),
        body(2, b"  "),
    ];
    let mut expected = sent.clone();
    expected[2] = header(2, 4, &stamped_fields());
    assert_eq!(spoken.client(&sent.concat()), expected.concat());
    assert_eq!(spoken.seen(), ["added 0 to topic:two", "0 unanswered"]);
}

#[test]
fn a_task_may_have_no_body() {
    let mut spoken = Spoken::new();
    assert_eq!(
        spoken.client(&message(1, &task_fields(), &[])),
        message(1, &stamped_fields(), &[])
    );
    assert_eq!(spoken.seen(), ["added 0 to celery", "0 unanswered"]);
}

#[test]
fn inside_of_a_body_bytes_pass_without_a_look() {
    let mut spoken = Spoken::new();
    let body = vec![b'x'; 10_000];
    let sent = message(1, &task_fields(), &[&body]);
    let end_at = sent.len() - 1;
    assert!(!spoken.session.pass(Side::Client, 1));
    spoken.client(&sent[..end_at - 9_000]);
    for _ in 0..9 {
        assert!(spoken.session.pass(Side::Client, 1_000));
    }
    // The end of a frame is looked at.
    assert!(!spoken.session.pass(Side::Client, 1));
    assert_eq!(spoken.client(&sent[end_at..]), &sent[end_at..]);
    assert_eq!(spoken.client(&event(1)), event(1));

    let taken = frame(3, 1, &body);
    assert!(!spoken.session.pass(Side::Broker, 1));
    spoken.broker(&taken[..100]);
    assert!(spoken.session.pass(Side::Broker, 5_000));
    spoken.broker(&taken[5_100..]);
    assert!(!spoken.session.pass(Side::Broker, 1));
    assert!(spoken.session.is_quiet());
    assert_eq!(spoken.seen(), ["added 0 to celery", "0 unanswered"]);
}

#[test]
fn of_what_does_not_pass_nothing_passes_without_a_look() {
    let mut spoken = Spoken::new();
    spoken.part();
    spoken.now = Timestamp::from_nanos(2_000_000_000);
    assert_eq!(spoken.part(), (false, vec![], goodbye_to_broker()));
    let sent = body(1, &[b'x'; 100]);
    assert_eq!(spoken.client(&sent[..50]), b"");
    assert!(!spoken.session.pass(Side::Client, 10));
}

#[test]
fn confirms_are_counted_by_channel() {
    let mut spoken = Spoken::new();
    spoken.client(&confirm_select(1));
    spoken.client(&[event(1), task(1), confirm_select(2), task(2), task(1)].concat());
    spoken.broker(&ack(1, 1, 0));
    spoken.broker(&ack(2, 1, 0));
    spoken.broker(&nack(1, 3));
    spoken.broker(&ack(1, 2, 1));
    // These acknowledge deliveries.
    spoken.client(&ack(1, 1, 0));
    assert_eq!(
        spoken.seen(),
        [
            "added 0 to celery",
            "added 1 to celery",
            "added 2 to celery",
            "1 confirmed",
            "2 refused: nack",
            "0 confirmed",
        ]
    );
}

#[test]
fn a_returned_message_is_refused_in_the_brokers_words() {
    let mut spoken = Spoken::new();
    spoken.client(&confirm_select(1));
    for exchange in ["x", ""] {
        spoken.client(&publish(1, exchange, "celery", 1));
        spoken.client(&header(1, 2, &task_fields()));
        spoken.client(&body(1, b"[]"));
    }
    let returned = [
        &312_u16.to_be_bytes()[..],
        &short("NO_ROUTE"),
        &short(""),
        &short("celery"),
    ];
    let mut arrived = Vec::new();
    let sent = [
        method(1, 60, 50, &returned.concat()),
        header(1, 2, &stamped_fields()),
        body(1, b"[]"),
        ack(1, 2, 1),
    ]
    .concat();
    for bytes in sent.chunks(7) {
        arrived.extend(spoken.broker(bytes));
    }
    assert_eq!(arrived, sent);
    assert_eq!(
        spoken.seen(),
        [
            "added 0 to x:celery",
            "added 1 to celery",
            "0 confirmed",
            "1 refused: 312 NO_ROUTE",
        ]
    );
}

#[test]
fn a_returned_message_is_refused_where_none_is_confirmed() {
    let mut spoken = Spoken::new();
    spoken.client(&publish(1, "", "celery", 1));
    spoken.client(&[header(1, 2, &task_fields()), body(1, b"[]")].concat());
    spoken.client(&task(1));
    let reason = [&312_u16.to_be_bytes()[..], &short("NO_ROUTE")].concat();
    let route = [short(""), short("celery")].concat();
    spoken.broker(&method(1, 60, 50, &[reason, route].concat()));
    spoken.broker(&header(1, 2, &stamped_fields()));
    let seen = [
        "added 0 to celery",
        "0 unanswered",
        "added 1 to celery",
        "1 unanswered",
        "0 refused: 312 NO_ROUTE",
    ];
    assert_eq!(spoken.seen(), seen);
    let mandatory = spoken.broker(&body(1, b"[]"));
    assert_eq!(mandatory, body(1, b"[]"));
}

#[test]
fn a_transaction_is_answered_at_its_end() {
    let mut spoken = Spoken::new();
    spoken.client(&method(1, 90, 10, &[]));
    spoken.client(&[task(1), method(1, 90, 20, &[])].concat());
    spoken.client(&[task(1), method(1, 90, 30, &[])].concat());
    spoken.broker(&method(1, 90, 21, &[]));
    spoken.broker(&method(1, 90, 31, &[]));
    assert_eq!(
        spoken.seen(),
        [
            "added 0 to celery",
            "added 1 to celery",
            "0 confirmed",
            "1 discarded",
        ]
    );
}

#[test]
fn a_closed_channel_refuses_what_was_and_what_is_sent() {
    let mut spoken = Spoken::new();
    spoken.client(&[confirm_select(1), task(1)].concat());
    spoken.client(&publish(1, "", "celery", 0));
    spoken.client(&header(1, 2, &task_fields()));
    spoken.broker(&channel_close(1, 404, "NOT_FOUND - no exchange 'x'"));
    spoken.client(&[body(1, b"[]"), task(1), task(2)].concat());
    spoken.client(&method(1, 20, 41, &[]));
    // The same number, another channel.
    spoken.client(&[method(1, 20, 10, &[0]), task(1)].concat());
    assert_eq!(
        spoken.seen(),
        [
            "added 0 to celery",
            "added 1 to celery",
            "0 refused: 404 NOT_FOUND - no exchange 'x'",
            "1 refused: 404 NOT_FOUND - no exchange 'x'",
            "added 2 to celery",
            "2 refused: 404 NOT_FOUND - no exchange 'x'",
            "added 3 to celery",
            "3 unanswered",
            "added 4 to celery",
            "4 unanswered",
        ]
    );
}

#[test]
fn a_closed_connection_refuses_what_waits_on_any_channel() {
    let mut spoken = Spoken::new();
    spoken.client(&[confirm_select(1), task(1), confirm_select(2), task(2)].concat());
    spoken.broker(&connection_close(320, "CONNECTION_FORCED - shutdown"));
    spoken.client(&task(3));
    assert!(!spoken.part().0);
    spoken.client(&connection_close_ok());
    assert_eq!(
        spoken.seen(),
        [
            "added 0 to celery",
            "added 1 to celery",
            "0 refused: 320 CONNECTION_FORCED - shutdown",
            "1 refused: 320 CONNECTION_FORCED - shutdown",
            "added 2 to celery",
            "2 refused: 320 CONNECTION_FORCED - shutdown",
        ]
    );
    assert_eq!(spoken.part(), (true, vec![], vec![]));
}

#[test]
fn whoever_closes_without_waiting_loses_the_answers() {
    for end in ["channel", "connection", "client", "broker"] {
        let mut spoken = Spoken::new();
        spoken.client(&[confirm_select(1), task(1)].concat());
        match end {
            "channel" => {
                spoken.client(&channel_close(1, 200, ""));
                assert_eq!(spoken.seen(), ["added 0 to celery"]);
                spoken.broker(&method(1, 20, 41, &[]));
                assert_eq!(spoken.seen(), ["0 unanswered"]);
            }
            "connection" => {
                spoken.client(&connection_close(200, ""));
                spoken.finish(Side::Client);
                assert_eq!(spoken.seen(), ["added 0 to celery"]);
                // With or without an answer.
                spoken.finish(Side::Broker);
                assert_eq!(spoken.seen(), ["0 unanswered"]);
            }
            "client" => {
                // What the broker still says counts.
                spoken.client(&publish(1, "", "celery", 0));
                spoken.client(&header(1, 2, &task_fields()));
                spoken.finish(Side::Client);
                spoken.broker(&ack(1, 1, 0));
                assert_eq!(
                    spoken.seen(),
                    [
                        "added 0 to celery",
                        "added 1 to celery",
                        "1 lost",
                        "0 confirmed"
                    ]
                );
            }
            _ => {
                spoken.finish(Side::Broker);
                assert_eq!(spoken.seen(), ["added 0 to celery", "0 lost"]);
            }
        }
    }
}

#[test]
fn too_many_confirms_owed_are_not_waited_for() {
    let mut spoken = Spoken::new();
    spoken.client(&confirm_select(1));
    for _ in 0..8 {
        spoken.client(&event(1));
    }
    spoken.client(&task(1));
    spoken.client(&task(1));
    assert_eq!(
        spoken.seen(),
        [
            "added 0 to celery",
            "0 unread",
            "lost sight: too_many_pending",
            "added 1 to celery",
            "1 unread",
        ]
    );
    assert_eq!(spoken.broker(&ack(1, 9, 1)), ack(1, 9, 1));
    assert_eq!(spoken.seen(), Vec::<String>::new());
    assert!(!spoken.part().0);
}

#[test]
fn a_connection_is_known_by_the_virtual_host_that_it_opens() {
    for (payload, part) in [
        (&b"\x05/jobs\0\0"[..], BrokerPart::Vhost(b"/jobs")),
        (b"\0\0\0", BrokerPart::Vhost(b"")),
        (b"", BrokerPart::Unknown),
    ] {
        let mut spoken = Spoken::silent(Limits::default());
        spoken.client(&hex("'AMQP' 00000901"));
        spoken.client(&method(0, 10, 40, payload));
        let connection = Arc::clone(&spoken.session.setup.connection);
        assert_eq!(spoken.session.state.scope(&connection).part, part);
    }
}

#[test]
fn protocol_1_is_told_by_the_body_in_whatever_parts_it_comes() {
    let (start, end) = PROTOCOL1_BODY.split_at(20);
    let fields = [text("traceparent", "nonsense")];
    let sent = [
        publish(1, "", "celery", 0),
        header(1, PROTOCOL1_BODY.len(), &fields),
        body(1, start),
        body(1, b""),
        body(1, end),
        ack(1, 1, 0),
    ]
    .concat();
    let mut whole = Spoken::new();
    let arrived = whole.client(&sent);
    let seen = ["replaced 0 to celery", "0 unanswered"];
    assert_eq!(whole.seen(), seen);
    assert_eq!(arrived.len(), sent.len() + 55 - 8 + 52);

    for pieces in [1, 3, 50] {
        let mut spoken = Spoken::new();
        let mut parts = Vec::new();
        for bytes in sent.chunks(pieces) {
            parts.extend(spoken.client(bytes));
        }
        assert_eq!(parts, arrived);
        assert_eq!(spoken.seen(), seen);
        assert_eq!(spoken.session.setup.budget.held(), 0);
    }
}

#[test]
fn what_is_no_task_leaves_as_it_came() {
    let result = br#"{"status": "SUCCESS", "result": 3, "task_id": "x"}"#;
    for sent in [
        event(1),
        message(1, &[], &[result]),
        message(1, &[text("ticket", "t")], &[b"{}"]),
        [
            publish(1, "", "q", 0),
            frame(2, 1, &header_payload(2, 0, b"")),
            body(1, b"hi"),
        ]
        .concat(),
    ] {
        let mut spoken = Spoken::new();
        assert_eq!(spoken.client(&sent), sent);
        assert_eq!(spoken.seen(), Vec::<String>::new());
    }
}

#[test]
fn what_looks_like_a_task_and_is_left_alone_is_counted_by_reason() {
    for (sent, why) in [
        (message(1, &[], &[b"{not json"]), "unreadable_body"),
        (
            message(1, &[text("task", "add")], &[PROTOCOL1_BODY]),
            "bad_headers",
        ),
        (
            message(1, &[text("compression", "application/x-bz2")], &[b"BZh9"]),
            "unknown_compression",
        ),
    ] {
        let mut spoken = Spoken::new();
        assert_eq!(spoken.client(&sent), sent);
        assert_eq!(spoken.seen(), [format!("left alone: {why}")]);
    }
}

#[test]
fn a_body_that_is_too_large_is_not_waited_for() {
    let mut spoken = Spoken::new();
    spoken.client(&publish(1, "", "celery", 0));
    let sent = header(1, 4096, &[]);
    assert_eq!(spoken.client(&sent), sent);
    assert_eq!(spoken.seen(), ["left alone: over_hold_limit"]);
}

#[test]
fn a_body_that_will_not_come_is_not_waited_for() {
    for instead in [
        channel_close(1, 200, ""),
        connection_close(200, ""),
        publish(1, "", "celery", 0),
    ] {
        let mut spoken = Spoken::new();
        let sent = [publish(1, "", "celery", 0), header(1, 10, &[])];
        assert_eq!(spoken.client(&sent.concat()), sent[0]);
        let arrived = spoken.client(&instead);
        assert_eq!(arrived, [&*sent[1], &instead].concat());
        assert_eq!(spoken.seen(), ["left alone: body_interrupted"]);
    }
}

#[test]
fn nothing_waits_for_the_rest_of_a_body() {
    let (start, end) = PROTOCOL1_BODY.split_at(20);
    for between in [heartbeat(), event(2), body(2, b"{}")] {
        let mut spoken = Spoken::new();
        let sent = [
            publish(1, "", "celery", 0),
            header(1, PROTOCOL1_BODY.len(), &[]),
            body(1, start),
        ];
        assert_eq!(spoken.client(&sent.concat()), sent[0]);
        let arrived = spoken.client(&between);
        assert_eq!(arrived, [&*sent[1], &sent[2], &between].concat());
        assert_eq!(spoken.seen(), ["left alone: body_interrupted"]);
        assert_eq!(spoken.session.setup.budget.held(), 0);
        assert_eq!(spoken.client(&body(1, end)), body(1, end));
        assert_eq!(spoken.seen(), Vec::<String>::new());
    }
}

#[test]
fn what_is_held_is_released_at_the_end() {
    let mut spoken = Spoken::new();
    let sent = [publish(1, "", "celery", 0), header(1, 10, &[])];
    spoken.client(&sent.concat());
    spoken.finish(Side::Client);
    assert_eq!(spoken.out.to_broker.split(), sent[1]);
    assert_eq!(spoken.session.setup.budget.held(), 0);
}

#[test]
fn without_room_to_hold_a_message_passes_unread() {
    let mut spoken = Spoken::new();
    let budget = Arc::clone(&spoken.session.setup.budget);
    let reserved = budget.reserve(1 << 20);
    let sent = task(1);
    let (start, end) = sent.split_at(60);
    assert_eq!([spoken.client(start), spoken.client(end)].concat(), sent);
    assert_eq!(spoken.seen(), ["left alone: over_total_hold_limit"]);
    drop(reserved);
}

#[test]
fn a_header_that_would_outgrow_its_frame_stays_as_it_is() {
    let limits = Limits::default();
    let fields = |padding: usize, stamped: bool| {
        let mut fields = if stamped {
            stamped_fields()
        } else {
            task_fields()
        };
        fields.insert(0, text("padding", &"x".repeat(padding)));
        fields
    };
    let stamped_length = header(1, 0, &fields(0, true)).len();
    for (frame_max, spare, verdict) in [(4096, 0, "added"), (4096, 1, "missing"), (0, 1, "added")] {
        let mut spoken = Spoken::tuned(limits, frame_max);
        let padding = 4096 - stamped_length + spare;
        let sent = message(1, &fields(padding, false), &[]);
        let arrived = spoken.client(&sent);
        let is_stamped = verdict == "added";
        assert_eq!(arrived, message(1, &fields(padding, is_stamped), &[]));
        let mut seen = spoken.seen();
        if !is_stamped {
            assert_eq!(seen.remove(0), "left alone: over_frame_max");
        }
        assert_eq!(
            seen,
            [format!("{verdict} 0 to celery"), "0 unanswered".to_owned()]
        );
    }
}

#[test]
fn frames_are_as_large_as_was_agreed() {
    let mut spoken = Spoken::tuned(Limits::default(), 4096);
    let sent = body(1, &[0; 4096]);
    assert_eq!(spoken.client(&sent), sent);
    assert_eq!(spoken.seen(), ["lost sight: frame_too_large"]);

    let mut spoken = Spoken::tuned(Limits::default(), 0);
    let sent = message(1, &task_fields(), &[&[b'x'; 200_000]]);
    assert!(spoken.client(&sent).len() > sent.len());
    assert_eq!(spoken.seen(), ["added 0 to celery", "0 unanswered"]);
}

#[test]
fn a_header_over_the_limit_passes_in_parts_and_still_counts() {
    let mut spoken = Spoken::new();
    let fields = [task_fields(), vec![text("argsrepr", &"x".repeat(4096))]].concat();
    let sent = [confirm_select(1), message(1, &fields, &[b"[]"]), task(1)].concat();
    let mut expected = sent.clone();
    expected.truncate(sent.len() - task(1).len());
    expected.extend(stamped_task(1));
    let mut arrived = Vec::new();
    for bytes in sent.chunks(1000) {
        arrived.extend(spoken.client(bytes));
    }
    assert_eq!(arrived, expected);
    spoken.broker(&ack(1, 2, 0));
    assert_eq!(
        spoken.seen(),
        [
            "left alone: over_hold_limit",
            "added 0 to celery",
            "0 confirmed"
        ]
    );
}

#[test]
fn headers_that_cannot_be_read_are_left_alone() {
    for (flags, properties, why) in [
        (0x2001, "00000000", "unknown_properties"),
        (0x2000, "00000004 01'a''?' 00", "unknown_field_type"),
        (0x2000, "00000009 01'a''V'", "bad_properties"),
    ] {
        let mut spoken = Spoken::new();
        let header = frame(2, 1, &header_payload(2, flags, &hex(properties)));
        let sent = [publish(1, "", "celery", 0), header, body(1, b"{}")].concat();
        assert_eq!(spoken.client(&sent), sent);
        assert_eq!(spoken.seen(), [format!("left alone: {why}")]);
    }
}

#[test]
fn another_version_passes_unread_and_so_does_nonsense() {
    for (first, why) in [
        ("'AMQP' 00 01 00 00", "amqp_1_0"),
        ("'AMQP' 01 01 00 09", "amqp_version"),
        ("'GET / HTTP/1.1'", "not_amqp"),
        (
            "'AMQP' 00 00 09 01  07 0000 00000000 ce",
            "unknown_frame_type",
        ),
        (
            "'AMQP' 00 00 09 01  01 0000 00000003 000a0a ce",
            "short_method",
        ),
    ] {
        let mut spoken = Spoken::silent(Limits::default());
        assert_eq!(spoken.client(&hex(first)), hex(first));
        assert_eq!(spoken.client(b"more"), b"more");
        assert_eq!(
            spoken.broker(b"AMQP\x00\x00\x09\x01"),
            b"AMQP\x00\x00\x09\x01"
        );
        assert_eq!(spoken.seen(), [format!("lost sight: {why}")]);
        assert!(!spoken.part().0);
    }
    let mut spoken = Spoken::silent(Limits::default());
    spoken.client(&hex("'AMQP' 00 00 09 01"));
    spoken.broker(b"AMQP\x00\x00\x09\x01");
    assert_eq!(spoken.seen(), ["lost sight: version_refused"]);
}

#[test]
fn without_answers_messages_are_still_stamped() {
    let mut spoken = Spoken::new();
    spoken.client(&[confirm_select(1), task(1)].concat());
    spoken.broker(b"nonsense");
    assert_eq!(spoken.client(&task(2)).len(), stamped_task(2).len());
    assert_eq!(
        spoken.seen(),
        [
            "added 0 to celery",
            "0 unread",
            "lost sight: unknown_frame_type",
            "added 1 to celery",
            "1 unread",
        ]
    );
}

#[test]
fn peers_are_parted_one_after_the_other() {
    let mut spoken = Spoken::new();
    spoken.client(&event(1));
    assert_eq!(spoken.part(), (false, goodbye_to_client(), vec![]));
    assert_eq!(spoken.part(), (false, vec![], vec![]));
    assert_eq!(spoken.client(&connection_close_ok()), goodbye_to_broker());
    assert_eq!(spoken.client(b"nobody listens"), b"");
    assert_eq!(spoken.part(), (false, vec![], vec![]));
    assert_eq!(spoken.broker(&connection_close_ok()), b"");
    assert_eq!(spoken.part(), (true, vec![], vec![]));
    assert_eq!(spoken.seen(), Vec::<String>::new());
}

#[test]
fn a_goodbye_is_not_said_right_behind_an_answer() {
    let mut spoken = Spoken::new();
    spoken.client(&[confirm_select(1), task(1)].concat());
    spoken.part();
    spoken.broker(&ack(1, 1, 0));
    assert!(!spoken.session.part(spoken.now, &mut spoken.out));
    assert!(spoken.out.to_client.is_empty());
    // The client has heard it, and will have to send the next one again.
    assert_eq!(spoken.client(&task(1)), b"");
    assert_eq!(spoken.out.to_client.split(), goodbye_to_client());
    assert_eq!(spoken.seen(), ["added 0 to celery", "0 confirmed"]);
    assert_eq!(spoken.client(&connection_close_ok()), goodbye_to_broker());
}

#[test]
fn before_anything_is_said_there_is_nothing_to_wait_for() {
    let mut spoken = Spoken::silent(Limits::default());
    assert_eq!(spoken.part(), (true, vec![], vec![]));
    spoken.client(b"AMQP");
    assert_eq!(spoken.part(), (false, vec![], vec![]));
    spoken.client(&hex("00 00 09 01"));
    assert_eq!(spoken.part(), (false, vec![], vec![]));
}

#[test]
fn nothing_in_flight_is_cut_in_half() {
    let header_in_parts = header(1, 2, &task_fields());
    for (from_client, from_broker) in [
        ([confirm_select(1), event(1)].concat(), vec![]),
        (publish(1, "", "celery", 0), vec![]),
        (
            [publish(1, "", "celery", 0), header_in_parts[..9].to_vec()].concat(),
            vec![],
        ),
        (
            [publish(1, "", "celery", 0), header(1, 2, &task_fields())].concat(),
            vec![],
        ),
        (event(1)[..4].to_vec(), vec![]),
        ([method(1, 90, 10, &[]), ack(1, 1, 0)].concat(), vec![]),
        (
            [method(1, 90, 10, &[]), event(1), method(1, 90, 20, &[])].concat(),
            vec![],
        ),
        (get(1, "q", 0), vec![]),
        (consume(1, "c", 0), vec![]),
        (vec![], deliver(1)),
        (vec![], [deliver(1), header(1, 2, &[])].concat()),
        (
            vec![],
            [deliver(1), header(1, 2, &[]), body(1, b"[")].concat(),
        ),
        (vec![], heartbeat()[..3].to_vec()),
        (vec![], channel_close(1, 404, "NOT_FOUND")),
        (connection_close(200, ""), vec![]),
        (vec![], connection_close(320, "")),
    ] {
        let mut spoken = Spoken::new();
        spoken.client(&from_client);
        spoken.broker(&from_broker);
        let told = format!(
            "{} {}",
            from_client.escape_ascii(),
            from_broker.escape_ascii()
        );
        assert_eq!(spoken.part(), (false, vec![], vec![]), "{told}");
        assert_eq!(spoken.part(), (false, vec![], vec![]), "{told}");
    }
}

#[test]
fn what_was_sent_before_the_goodbye_was_heard_counts_once() {
    let mut spoken = Spoken::new();
    spoken.client(&[confirm_select(2), method(3, 90, 10, &[])].concat());
    spoken.broker(&[method(2, 85, 11, &[]), method(3, 90, 11, &[])].concat());
    spoken.part();
    // Passes: nobody would send it again.
    for sent in [ack(1, 1, 0), nack(1, 2), heartbeat(), event(1)] {
        assert_eq!(spoken.client(&sent), sent);
    }
    assert_eq!(spoken.client(&task(1)), stamped_task(1));
    // Does not: it will be sent again, or its answer would be lost.
    let mut dropped = [
        task(2),
        task(3),
        message(2, &[], &[]),
        ack(3, 1, 0),
        method(3, 90, 20, &[]),
        get(1, "q", 0),
        consume(1, "c", 2),
    ]
    .concat();
    dropped.extend(connection_close_ok());
    let mut arrived = Vec::new();
    for bytes in dropped.chunks(11) {
        arrived.extend(spoken.client(bytes));
    }
    assert_eq!(arrived, goodbye_to_broker());
    assert_eq!(spoken.broker(&deliver(1)), b"");
    assert_eq!(spoken.broker(&header(1, 2, &[])), b"");
    assert_eq!(spoken.broker(&connection_close_ok()), b"");
    assert!(spoken.part().0);
    assert_eq!(spoken.seen(), ["added 0 to celery", "0 unanswered"]);
}

#[test]
fn consumers_that_do_not_acknowledge_are_cancelled_first() {
    let tag = |name: &str| short(name);
    let cancel = |channel, name| method(channel, 60, 30, &[&*tag(name), &[0]].concat());
    let cancel_ok = |channel, name| method(channel, 60, 31, &tag(name));

    let mut spoken = Spoken::new();
    spoken.client(&[consume(1, "acks", 0), consume(1, "", 2)].concat());
    spoken.client(&[consume(2, "nowait", 2 | 8), consume(2, "gone", 2)].concat());
    spoken.broker(&[consume_ok(1, "acks"), consume_ok(1, "amq.ctag-1")].concat());
    spoken.broker(&consume_ok(2, "gone"));
    spoken.client(&cancel(2, "gone"));
    assert_eq!(
        spoken.part(),
        (
            false,
            vec![],
            [cancel(1, "amq.ctag-1"), cancel(2, "nowait")].concat()
        )
    );
    // The client's own is answered, deliveries still arrive, ours is not its business.
    let delivery = [deliver(2), header(2, 0, &[])].concat();
    for (sent, arrives) in [
        (cancel_ok(2, "gone"), true),
        (delivery, true),
        (cancel_ok(2, "nowait"), false),
        (cancel_ok(1, "amq.ctag-1"), false),
    ] {
        assert_eq!(spoken.part(), (false, vec![], vec![]));
        assert_eq!(spoken.broker(&sent), if arrives { sent } else { vec![] });
    }
    assert_eq!(spoken.part(), (false, goodbye_to_client(), vec![]));
}

#[test]
fn what_a_client_closes_needs_no_cancelling() {
    let mut spoken = Spoken::new();
    spoken.client(&[consume(1, "nowait", 2 | 8), consume(1, "c", 2)].concat());
    spoken.client(&channel_close(1, 200, "bye"));
    assert_eq!(spoken.part(), (false, vec![], vec![]));
    // What was under way already.
    assert_eq!(spoken.broker(&consume_ok(1, "c")), consume_ok(1, "c"));
    assert_eq!(spoken.part(), (false, vec![], vec![]));
    let close_ok = method(1, 20, 41, &[]);
    assert_eq!(spoken.broker(&close_ok), close_ok);
    assert_eq!(spoken.part(), (false, goodbye_to_client(), vec![]));
}

#[test]
fn the_consumers_of_a_connection_are_known_up_to_a_limit() {
    let mut spoken = Spoken::new();
    for channel in 1..=4 {
        for number in 0..512 {
            spoken.client(&consume(channel, &number.to_string(), 2 | 8));
        }
    }
    let (_, _, cancels) = spoken.part();
    let one = method(1, 60, 30, &[&*short("0"), &[0]].concat());
    assert!(cancels.starts_with(&one));
    let Stage::Cancelling(consumers) = &spoken.session.state.stage else {
        panic!("there are consumers to cancel");
    };
    assert_eq!(consumers.len(), 1024);
}

#[test]
fn a_client_that_does_not_listen_is_left_behind() {
    let mut spoken = Spoken::new();
    spoken.part();
    spoken.now = Timestamp::from_nanos(1_999_999_999);
    assert_eq!(spoken.part(), (false, vec![], vec![]));
    spoken.now = Timestamp::from_nanos(2_000_000_000);
    assert_eq!(spoken.part(), (false, vec![], goodbye_to_broker()));
    assert_eq!(spoken.client(&event(1)), b"");
    assert_eq!(spoken.part(), (false, vec![], vec![]));
    spoken.now = Timestamp::from_nanos(4_000_000_000);
    assert_eq!(spoken.part(), (true, vec![], vec![]));
}

#[test]
fn a_publication_is_not_cut_in_half_by_a_goodbye() {
    let seconds = |seconds: u64| Timestamp::from_nanos(seconds * 1_000_000_000);
    let sent = [
        publish(1, "", "celery", 0),
        header(1, 2, &[text("task", "")]),
        body(1, b"["),
        body(1, b"]"),
    ];
    for half in 1..sent.len() {
        let mut spoken = Spoken::new();
        spoken.part();
        let (start, end) = sent.split_at(half);
        assert_eq!(spoken.client(&start.concat()), start.concat());
        spoken.now = seconds(3);
        assert_eq!(spoken.part(), (false, vec![], vec![]));
        assert_eq!(spoken.client(&end.concat()), end.concat());
        assert_eq!(spoken.part(), (false, vec![], goodbye_to_broker()));
    }
}

#[test]
fn a_client_that_still_publishes_is_not_left_behind() {
    let seconds = |seconds: u64| Timestamp::from_nanos(seconds * 1_000_000_000);
    let mut spoken = Spoken::new();
    spoken.part();
    for second in 1..6 {
        spoken.now = seconds(second);
        assert_eq!(spoken.client(&event(1)), event(1));
        assert_eq!(spoken.part(), (false, vec![], vec![]));
    }
    spoken.now = seconds(7);
    assert_eq!(spoken.part(), (false, vec![], goodbye_to_broker()));
}

#[test]
fn a_client_that_closes_at_the_same_time_is_heard() {
    let mut spoken = Spoken::new();
    spoken.part();
    let close = connection_close(200, "");
    assert_eq!(spoken.client(&close), close);
    assert_eq!(spoken.broker(&connection_close_ok()), connection_close_ok());
    assert_eq!(spoken.part(), (true, vec![], vec![]));
}
