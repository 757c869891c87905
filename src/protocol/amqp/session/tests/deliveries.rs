//! What comes out of queues, what becomes of it, and what workers say of it.

use super::*;
use crate::config::InjectOn;
use crate::hop::Delivery;
use crate::hop::Passage;
use crate::hop::Settlement;

/// An open connection with the consumer `c` on channel 1, which takes from the queue `work`.
fn consuming() -> Spoken {
    let mut spoken = Spoken::new();
    consume_from(&mut spoken, 1, "work", "c", 0);
    spoken
}

fn consume_from(spoken: &mut Spoken, channel: u16, queue: &str, tag: &str, bits: u8) {
    let arguments = [&[0, 0], &*short(queue), &short(tag), &[bits], &long(b"")];
    spoken.client(&method(channel, 60, 20, &arguments.concat()));
    spoken.broker(&consume_ok(channel, tag));
}

fn inject_on(spoken: &mut Spoken, inject_on: InjectOn) {
    let policy = Policy {
        inject_on,
        ..Policy::default()
    };
    let limits = *spoken.session.setup.limits;
    let injector = Injector::new(policy, Sampler::default(), &limits);
    spoken.session.setup.injector = Arc::new(injector);
}

fn content(channel: u16, fields: &[Vec<u8>]) -> Vec<u8> {
    [header(channel, 2, fields), body(channel, b"[]")].concat()
}

/// Delivery `tag` of a task to the consumer `c`.
fn task_to(channel: u16, tag: u64) -> Vec<u8> {
    let deliver = deliver_as(channel, "c", tag, false, ["", "celery"]);
    [deliver, content(channel, &task_fields())].concat()
}

fn get_ok(channel: u16, tag: u64, routing_key: &str) -> Vec<u8> {
    let arguments = [
        &tag.to_be_bytes()[..],
        &[0],
        &short(""),
        &short(routing_key),
        &[0; 4],
    ];
    method(channel, 60, 71, &arguments.concat())
}

fn reject(channel: u16, tag: u64, requeue: u8) -> Vec<u8> {
    let arguments = [&tag.to_be_bytes()[..], &[requeue]].concat();
    method(channel, 60, 90, &arguments)
}

fn nack_as(channel: u16, tag: u64, bits: u8) -> Vec<u8> {
    let arguments = [&tag.to_be_bytes()[..], &[bits]].concat();
    method(channel, 60, 120, &arguments)
}

/// The deliveries seen, each with the last that was said of it.
fn deliveries(spoken: &mut Spoken) -> Vec<(Arc<Delivery>, Option<Settlement>)> {
    let mut found: Vec<(Arc<Delivery>, Option<Settlement>)> = Vec::new();
    for sighting in spoken.out.sightings.drain(..) {
        match sighting {
            Sighting::Delivered(delivery) => found.push((delivery, None)),
            Sighting::Settled {
                receipt,
                settlement,
                ..
            } => {
                let mut of = found.iter_mut();
                let of = of.find(|(delivery, _)| delivery.receipt == Some(receipt));
                let (_, of) = of.expect("it was delivered");
                assert_eq!(of.replace(settlement), None, "it is settled once");
            }
            other => panic!("{other:?}"),
        }
    }
    found
}

fn settlements(spoken: &mut Spoken) -> Vec<Option<Settlement>> {
    let deliveries = deliveries(spoken);
    deliveries.into_iter().map(|(_, said)| said).collect()
}

#[test]
fn a_delivery_is_seen_and_so_is_its_acknowledgement() {
    let mut spoken = consuming();
    let sent = task_to(1, 1);
    let mut arrived = Vec::new();
    for byte in &sent {
        arrived.extend(spoken.broker(&[*byte]));
    }
    assert_eq!(arrived, sent);
    assert_eq!(spoken.session.setup.budget.held(), 0);
    assert_eq!(spoken.client(&ack(1, 1, 0)), ack(1, 1, 0));
    assert_eq!(spoken.seen(), ["delivered work", "acknowledged"]);
}

#[test]
fn a_delivery_comes_from_the_queue_that_its_consumer_was_asked_for() {
    let mut spoken = Spoken::new();
    consume_from(&mut spoken, 1, "one", "a", 0);
    consume_from(&mut spoken, 2, "two", "a", 0);
    consume_from(&mut spoken, 1, "three", "b", 8);
    // The broker chooses the tag.
    spoken.client(&consume(1, "", 0));
    spoken.broker(&consume_ok(1, "amq.ctag-1"));
    for (channel, tag) in [(1, "a"), (2, "a"), (1, "b"), (1, "amq.ctag-1"), (1, "?")] {
        spoken.broker(&deliver_as(channel, tag, 1, false, ["x", "key"]));
        spoken.broker(&content(channel, &task_fields()));
    }
    let behind_delay = ["celery_delayed_delivery", &"0.".repeat(28)].concat();
    let (exchange, digits) = behind_delay.split_at(23);
    spoken.broker(&deliver_as(
        1,
        "?",
        1,
        false,
        [exchange, &format!("{digits}key")],
    ));
    spoken.broker(&content(1, &task_fields()));
    let seen = ["one", "two", "three", "q", "key", "key"];
    assert_eq!(
        spoken.seen(),
        seen.map(|queue| format!("delivered {queue}"))
    );
}

#[test]
fn what_is_fetched_singly_comes_from_the_queue_that_was_asked() {
    let mut spoken = Spoken::new();
    spoken.client(&[get(1, "one", 0), get(1, "none", 0), get(1, "two", 1)].concat());
    spoken.broker(&[get_ok(1, 1, "x"), content(1, &task_fields())].concat());
    spoken.broker(&method(1, 60, 72, &[0]));
    spoken.broker(&[get_ok(1, 2, "y"), content(1, &task_fields())].concat());
    spoken.client(&ack(1, 2, 1));
    let found = deliveries(&mut spoken);
    let found = found.iter().map(|(delivery, said)| {
        let is_settled_by_itself = delivery.receipt.is_none();
        (&*delivery.destination, is_settled_by_itself, *said)
    });
    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            ("one", false, Some(Settlement::Acknowledged)),
            ("two", true, None)
        ]
    );
}

#[test]
fn nothing_else_that_is_delivered_is_told_of() {
    let mut spoken = consuming();
    let others = [
        [deliver(1), content(1, &[text("hostname", "w1")])].concat(),
        [deliver(1), header(1, 0, &[])].concat(),
    ];
    for sent in others {
        assert_eq!(spoken.broker(&sent), sent);
    }
    spoken.client(&ack(1, 1, 0));
    assert_eq!(spoken.seen(), Vec::<String>::new());
}

#[test]
fn a_delivery_of_protocol_1_is_known_by_its_body() {
    let mut spoken = consuming();
    let (start, end) = PROTOCOL1_BODY.split_at(9);
    let parts = [body(1, start), body(1, end)].concat();
    let sent = [header(1, PROTOCOL1_BODY.len(), &[]), parts].concat();
    for chunk in [1, 20, 1000] {
        assert_eq!(spoken.broker(&deliver(1)), deliver(1));
        let mut arrived = Vec::new();
        for bytes in sent.chunks(chunk) {
            arrived.extend(spoken.broker(bytes));
        }
        assert_eq!(arrived, sent);
        assert_eq!(spoken.seen(), ["delivered work"]);
        assert_eq!(spoken.session.setup.budget.held(), 0);
    }
    // Too long to be held, and interrupted.
    for (sent, why) in [
        (header(1, 5000, &[]), "over_hold_limit"),
        (
            [header(1, 9, &[]), heartbeat()].concat(),
            "body_interrupted",
        ),
    ] {
        let mut spoken = consuming();
        let sent = [deliver(1), sent].concat();
        assert_eq!(spoken.broker(&sent), sent);
        assert_eq!(spoken.seen(), [format!("left alone: {why}")]);
    }
}

#[test]
fn deliveries_are_settled_one_by_one_or_together() {
    use Settlement::Acknowledged;
    use Settlement::Rejected;
    use Settlement::Requeued;
    use Settlement::Returned;
    for (said, expected) in [
        (ack(1, 2, 0), [None, Some(Acknowledged), None]),
        (ack(1, 2, 1), [Some(Acknowledged), Some(Acknowledged), None]),
        (ack(1, 0, 1), [Some(Acknowledged); 3]),
        (ack(1, 0, 0), [None; 3]),
        (ack(2, 1, 0), [None; 3]),
        (nack_as(1, 2, 0), [None, Some(Rejected), None]),
        (nack_as(1, 2, 1), [Some(Rejected), Some(Rejected), None]),
        (nack_as(1, 0, 3), [Some(Requeued); 3]),
        (reject(1, 3, 0), [None, None, Some(Rejected)]),
        (reject(1, 3, 1), [None, None, Some(Requeued)]),
        (method(1, 60, 110, &[1]), [Some(Requeued); 3]),
        (method(1, 60, 110, &[0]), [None; 3]),
        (channel_close(1, 200, ""), [Some(Returned); 3]),
        (connection_close(200, ""), [Some(Returned); 3]),
    ] {
        let mut spoken = consuming();
        for tag in 1..=3 {
            spoken.broker(&task_to(1, tag));
        }
        assert_eq!(spoken.client(&said), said);
        assert_eq!(
            settlements(&mut spoken),
            expected,
            "{}",
            said.escape_ascii()
        );
    }
}

#[test]
fn what_nobody_has_settled_is_returned_unless_the_connection_breaks() {
    use Settlement::Abandoned;
    use Settlement::Returned;
    type End = fn(&mut Spoken);
    let ends: [(&str, Settlement, End); 11] = [
        ("the client hangs up", Abandoned, |spoken| {
            spoken.finish(Side::Client);
        }),
        ("the broker hangs up", Abandoned, |spoken| {
            spoken.finish(Side::Broker);
        }),
        ("the client closes", Returned, |spoken| {
            spoken.client(&connection_close(200, ""));
            spoken.broker(&connection_close_ok());
        }),
        ("the client closes and does not wait", Returned, |spoken| {
            spoken.client(&connection_close(200, ""));
            spoken.broker(&task_to(1, 2));
            spoken.finish(Side::Client);
        }),
        (
            "the client closes and the broker resets",
            Returned,
            |spoken| {
                spoken.client(&connection_close(200, ""));
                spoken.broker(&task_to(1, 2));
                spoken.finish(Side::Broker);
            },
        ),
        ("the proxy drains", Returned, |spoken| {
            assert!(!spoken.part().0);
            spoken.client(&connection_close_ok());
            spoken.broker(&connection_close_ok());
            assert!(spoken.part().0);
            spoken.finish(Side::Broker);
        }),
        (
            "the proxy drains and the client leaves",
            Returned,
            |spoken| {
                spoken.part();
                spoken.finish(Side::Client);
            },
        ),
        (
            "the proxy drains and the broker is lost",
            Abandoned,
            |spoken| {
                spoken.part();
                spoken.finish(Side::Broker);
            },
        ),
        ("the broker closes", Returned, |spoken| {
            spoken.broker(&connection_close(320, ""));
            spoken.client(&[ack(1, 1, 0), connection_close_ok()].concat());
        }),
        ("the client closes the channel", Returned, |spoken| {
            spoken.client(&channel_close(1, 200, ""));
            // It had left before that was heard.
            spoken.broker(&task_to(1, 2));
            spoken.broker(&method(1, 20, 41, &[]));
        }),
        ("the broker closes the channel", Returned, |spoken| {
            spoken.broker(&channel_close(1, 404, ""));
            spoken.client(&[ack(1, 1, 0), method(1, 20, 41, &[])].concat());
        }),
    ];
    for (how, expected, end) in ends {
        let mut spoken = consuming();
        spoken.broker(&task_to(1, 1));
        end(&mut spoken);
        let settled = settlements(&mut spoken);
        let expected = Some(expected);
        assert!(settled.iter().all(|said| *said == expected), "{how}");
        spoken.finish(Side::Client);
        spoken.finish(Side::Broker);
        assert_eq!(spoken.seen(), Vec::<String>::new(), "{how}");
    }
}

#[test]
fn the_same_tag_on_a_new_channel_is_another_delivery() {
    let mut spoken = consuming();
    spoken.broker(&task_to(1, 1));
    spoken.client(&channel_close(1, 200, ""));
    spoken.broker(&method(1, 20, 41, &[]));
    spoken.client(&method(1, 20, 10, &[0]));
    spoken.broker(&task_to(1, 1));
    spoken.client(&ack(1, 1, 0));
    assert_eq!(
        settlements(&mut spoken),
        [Some(Settlement::Returned), Some(Settlement::Acknowledged)]
    );
}

#[test]
fn in_a_transaction_a_delivery_is_settled_when_that_is_said() {
    let mut spoken = consuming();
    spoken.client(&method(1, 90, 10, &[]));
    spoken.broker(&task_to(1, 1));
    spoken.client(&ack(1, 1, 0));
    assert_eq!(spoken.seen(), ["delivered work", "acknowledged"]);
}

#[test]
fn a_consumer_that_does_not_acknowledge_has_nothing_to_settle() {
    let mut spoken = Spoken::new();
    consume_from(&mut spoken, 1, "work", "c", 2);
    spoken.broker(&task_to(1, 1));
    // It was sent before the broker had heard of that.
    spoken.client(&method(1, 60, 30, &[&*short("c"), &[0]].concat()));
    spoken.broker(&task_to(1, 2));
    spoken.broker(&method(1, 60, 31, &short("c")));
    spoken.finish(Side::Client);
    let found = deliveries(&mut spoken);
    assert_eq!(found.len(), 2);
    for (delivery, said) in found {
        assert_eq!((delivery.receipt, said), (None, None));
        assert_eq!(&*delivery.destination, "work");
    }
}

#[test]
fn of_too_many_deliveries_the_oldest_are_forgotten() {
    let mut spoken = consuming();
    spoken.broker(&task_to(2, 1));
    for tag in 1..=9 {
        spoken.broker(&task_to(1, tag));
    }
    spoken.client(&[ack(2, 0, 1), ack(1, 0, 1)].concat());
    let acknowledged = Some(Settlement::Acknowledged);
    let expected = [vec![None; 2], vec![acknowledged; 8]].concat();
    assert_eq!(settlements(&mut spoken), expected);
}

#[test]
fn where_acknowledgements_cannot_be_read_nothing_is_said_of_deliveries() {
    let mut spoken = consuming();
    spoken.broker(&task_to(1, 1));
    spoken.client(b"nonsense");
    spoken.finish(Side::Client);
    spoken.finish(Side::Broker);
    assert_eq!(
        spoken.seen(),
        ["delivered work", "lost sight: unknown_frame_type"]
    );
    // As long as they can be, they count.
    let mut spoken = consuming();
    spoken.broker(&[task_to(1, 1), b"nonsense".to_vec()].concat());
    spoken.client(&ack(1, 1, 0));
    assert_eq!(
        spoken.seen(),
        [
            "delivered work",
            "lost sight: unknown_frame_type",
            "acknowledged"
        ]
    );
}

#[test]
fn how_a_message_came_is_told_as_far_as_the_broker_tells() {
    let died = |queue: &str, reason: &str| {
        vec![
            text("x-first-death-queue", queue),
            text("x-first-death-reason", reason),
        ]
    };
    let count = hex("10'x-delivery-count' 'l' 0000000000000002");
    let long_reason = "é".repeat(100);
    for (redelivered, exchange, added, expected) in [
        (false, "", vec![], Passage::default()),
        (
            true,
            "",
            vec![count.clone()],
            Passage {
                redelivered: true,
                deliveries_before: Some(2),
                ..Passage::default()
            },
        ),
        // The count was copied from the attempt before.
        (false, "", vec![count], Passage::default()),
        (
            false,
            "all",
            vec![],
            Passage {
                broadcast: true,
                ..Passage::default()
            },
        ),
        (
            false,
            "amq.fanout",
            vec![],
            Passage {
                broadcast: true,
                ..Passage::default()
            },
        ),
        (false, "some", vec![], Passage::default()),
        (
            false,
            "dlx",
            died("work", "rejected"),
            Passage {
                dead_letter: Some("rejected".into()),
                ..Passage::default()
            },
        ),
        (
            false,
            "dlx",
            died("work", &long_reason),
            Passage {
                dead_letter: Some("é".repeat(32).into()),
                ..Passage::default()
            },
        ),
        (
            false,
            "celery_delayed_delivery",
            vec![],
            Passage {
                delayed: true,
                ..Passage::default()
            },
        ),
        (
            false,
            "topic",
            died("celery_delayed_0", "expired"),
            Passage {
                delayed: true,
                ..Passage::default()
            },
        ),
    ] {
        let mut spoken = consuming();
        for (exchange, kind) in [("all", "fanout"), ("some", "direct")] {
            let arguments = [&[0, 0], &*short(exchange), &short(kind), &[2], &long(b"")];
            spoken.client(&method(1, 40, 10, &arguments.concat()));
        }
        spoken.broker(&deliver_as(1, "c", 1, redelivered, [exchange, "key"]));
        spoken.broker(&content(1, &[task_fields(), added].concat()));
        let (delivery, _) = deliveries(&mut spoken).remove(0);
        assert_eq!(delivery.passage, expected, "{exchange}");
    }
}

#[test]
fn context_is_written_into_deliveries_where_that_is_wanted() {
    for (when, is_written) in [
        (InjectOn::Publish, false),
        (InjectOn::Delivery, true),
        (InjectOn::Both, true),
    ] {
        let mut spoken = consuming();
        inject_on(&mut spoken, when);
        let sent = [deliver(1), content(1, &task_fields())].concat();
        let mut arrived = Vec::new();
        for bytes in sent.chunks(40) {
            arrived.extend(spoken.broker(bytes));
        }
        let (delivery, _) = deliveries(&mut spoken).remove(0);
        let stamped = [
            task_fields(),
            vec![
                text(
                    "traceparent",
                    &crate::trace::w3c::format_traceparent(&delivery.judgement.context),
                ),
                text("tracestate", &delivery.judgement.tracestate),
            ],
        ];
        let fields = if is_written {
            stamped.concat()
        } else {
            task_fields()
        };
        assert_eq!(arrived, [deliver(1), content(1, &fields)].concat());
        let verdict = if is_written { "added" } else { "missing" };
        assert_eq!(delivery.judgement.verdict.word(), verdict);
        assert_eq!(delivery.size, sent.len() - deliver(1).len() - 16);
    }
}

#[test]
fn a_delivery_that_would_outgrow_its_frame_stays_as_it_is() {
    let mut spoken = Spoken::tuned(Limits::default(), 4096);
    inject_on(&mut spoken, InjectOn::Both);
    let fields = |padding: usize| {
        let padding = text("padding", &"x".repeat(padding));
        [task_fields(), vec![padding]].concat()
    };
    let room = 4096 - header(1, 0, &fields(0)).len();
    let sent = [deliver(1), header(1, 0, &fields(room))].concat();
    assert_eq!(spoken.broker(&sent), sent);
    assert_eq!(
        spoken.seen(),
        ["left alone: over_frame_max", "delivered celery"]
    );
}

#[test]
fn a_client_is_known_by_the_name_that_it_gives_itself() {
    let named = |name: &str| {
        let properties = long(&text("connection_name", name));
        [&*properties, &short("PLAIN"), &long(b"\0user\0secret")].concat()
    };
    for (name, expected) in [
        ("billing", Some("billing".to_owned())),
        ("", None),
        (&*"é".repeat(80), Some("é".repeat(64))),
    ] {
        let mut spoken = Spoken::silent(Limits::default());
        spoken.client(&hex("'AMQP' 00000901"));
        spoken.client(&method(0, 10, 11, &named(name)));
        spoken.client(&task(1));
        let Some(Sighting::Published(publication)) = spoken.out.sightings.first() else {
            panic!("a publication is seen");
        };
        assert_eq!(publication.client_name.as_deref(), expected.as_deref());
    }
}

#[test]
fn a_publication_is_unanswered_only_where_the_broker_has_agreed_to_listen() {
    let mut spoken = Spoken::silent(Limits::default());
    spoken.client(&[hex("'AMQP' 00000901"), task(1)].concat());
    spoken.broker(&method(0, 10, 41, &[0]));
    spoken.client(&task(1));
    spoken.client(&[connection_close(200, ""), task(1)].concat());
    let answers = ["unread", "unanswered", "unread"];
    let expected = (0..3).flat_map(|hop| {
        let answer = answers[hop];
        [format!("added {hop} to celery"), format!("{hop} {answer}")]
    });
    // The second and the third say of the same attempt what the first did.
    let seen = spoken.seen();
    let seen = seen.iter().map(|said| said.replace("kept", "added"));
    assert_eq!(seen.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}
