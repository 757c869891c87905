//! Whose context it is: for which message it was written, and which ids are identities.

use super::*;
use crate::celery::HeaderValue;
use crate::celery::Headers;
use crate::celery::foreign::Place;
use crate::hop::BrokerPart;
use crate::hop::Origin;
use crate::hop::injector::tests::SCOPE;
use crate::hop::injector::tests::carrier;
use crate::hop::injector::tests::carrying;
use crate::trace::derived_span_id;

const PARENT: &str = "50fbde83-f755-40e9-a1de-76192c8eca74";
const CHILD: &str = "1c8d5ac5-4de4-4b4f-9ad6-5b4b3c7ec2b1";
const OTHERS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const B3: &str = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1";
const LATER_B3: &str = "0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-1";
const START: Timestamp = Timestamp::from_millis(1_763_800_000_000);

/// A proxy of its own, which remembers nothing of what others saw.
struct Replica {
    injector: Injector,
    ids: IdSource,
}

impl Replica {
    fn new(seed: u64) -> Self {
        Self::choosing(seed, |_, _| {})
    }

    fn choosing(seed: u64, change: impl FnOnce(&mut Policy, &mut Spans)) -> Self {
        let (mut policy, mut spans) = (Policy::default(), Spans::default());
        change(&mut policy, &mut spans);
        let injector = Injector::new(policy, Sampler::default(), &Limits::default());
        Self {
            injector: injector.with(Translate::default(), Rollout::default(), spans),
            ids: IdSource::seeded(seed),
        }
    }

    fn publish(&mut self, task: &Task<'_>, carrier: &Carrier<'_>, seconds: u64) -> Decision {
        self.publish_within(SCOPE, task, carrier, seconds)
    }

    fn publish_within(
        &mut self,
        scope: Scope<'_>,
        task: &Task<'_>,
        carrier: &Carrier<'_>,
        seconds: u64,
    ) -> Decision {
        let now = after(seconds);
        self.injector
            .publish(task, carrier, "celery", scope, now, &mut self.ids)
    }

    fn deliver(&mut self, task: &Task<'_>, carrier: &Carrier<'_>, seconds: u64) -> Received {
        let arrival = Arrival {
            task,
            carrier,
            destination: "celery",
            scope: SCOPE,
            passage: &Passage::default(),
        };
        self.injector
            .deliver(&arrival, after(seconds), &mut self.ids)
    }
}

fn after(seconds: u64) -> Timestamp {
    START.after(std::time::Duration::from_secs(seconds))
}

fn task(id: &str) -> Task<'static> {
    Task {
        name: "add".into(),
        id: id.to_owned().into(),
        root_id: Some(id.to_owned().into()),
        ..Task::default()
    }
}

/// What the task `parent` publishes.
fn child_of(parent: &str, id: &str) -> Task<'static> {
    Task {
        root_id: Some(parent.to_owned().into()),
        parent_id: Some(parent.to_owned().into()),
        ..task(id)
    }
}

fn retry(id: &str, retries: u32) -> Task<'static> {
    Task {
        retries,
        parent_id: Some(id.to_owned().into()),
        ..task(id)
    }
}

/// A carrier like that one, with other headers beside.
fn beside(carrier: &Carrier<'_>, fields: &[(&'static str, &'static str)]) -> Carrier<'static> {
    let mut headers = Headers::default();
    let ours = [
        ("traceparent", carrier.traceparent.text()),
        ("tracestate", carrier.tracestate.text()),
    ];
    for (name, value) in ours.iter().chain(fields) {
        headers.take(name, HeaderValue::Text((*value).to_owned().into()));
    }
    headers.carrier
}

fn none() -> Carrier<'static> {
    Carrier::default()
}

fn span_of(decision: &Decision) -> SpanId {
    decision.judgement.context.span_id
}

// A mark proves for which message it was written.

#[test]
fn a_child_with_copied_headers_is_a_hop_of_its_own_below_the_carried_context() {
    let [mut producers, mut workers, mut second_workers] = [1, 2, 3].map(Replica::new);
    let parent = producers.publish(&task(PARENT), &none(), 0);
    let copied = carrying(&parent);
    workers.deliver(&task(PARENT), &copied, 0);
    let child = workers.publish(&child_of(PARENT, CHILD), &copied, 3);
    let hop = &child.judgement;
    assert_eq!(
        (hop.verdict, hop.quality),
        (Verdict::Renewed, Quality::Stale)
    );
    assert_eq!(hop.kind, SpanKind::Producer);
    assert_eq!(hop.parent, Some(span_of(&parent)));
    assert_eq!(hop.context.trace_id, parent.judgement.context.trace_id);
    assert_eq!(hop.context.span_id, derived_span_id("send", CHILD, 0, 0));

    let received = second_workers.deliver(&child_of(PARENT, CHILD), &carrying(&child), 3);
    assert_eq!(received.sent, Some(after(3)));
    let delivery = &received.decision.judgement;
    assert_eq!(delivery.parent, Some(span_of(&child)));
    assert_eq!(delivery.quality, Quality::Valid);
}

#[test]
fn a_child_with_copied_headers_that_no_proxy_saw_sent_has_no_dwell() {
    let parent = Replica::new(1).publish(&task(PARENT), &none(), 0);
    let received = Replica::new(2).deliver(&child_of(PARENT, CHILD), &carrying(&parent), 3);
    assert_eq!(received.sent, None);
    let delivery = &received.decision.judgement;
    assert_eq!(delivery.quality, Quality::Stale);
    assert_eq!(delivery.parent, Some(span_of(&parent)));
}

#[test]
fn a_retry_that_no_proxy_edited_has_no_dwell_from_the_first_sending() {
    for process in [false, true] {
        let new = |seed| Replica::choosing(seed, |_, spans| spans.process = process);
        let [mut producers, mut workers, mut second_workers] = [1, 2, 3].map(new);
        let first = producers.publish(&task(PARENT), &none(), 0);
        let copied = carrying(&first);
        workers.deliver(&task(PARENT), &copied, 0);
        // Sent past all proxies, and to a worker that has one.
        for replica in [&mut workers, &mut second_workers] {
            let received = replica.deliver(&retry(PARENT, 1), &copied, 3);
            assert_eq!(received.sent, None);
            assert_eq!(received.decision.judgement.quality, Quality::Stale);
            assert_eq!(received.decision.stamp, None);
        }
        // Seen, and not to be edited.
        let mut observing = new(4);
        observing.injector.choose(Choices {
            policy: Policy {
                mode: Mode::Observe,
                ..Policy::default()
            },
            ..Choices::clone(&observing.injector.choices.load())
        });
        let sent = observing.publish(&retry(PARENT, 1), &copied, 3);
        assert_eq!(sent.judgement.verdict, Verdict::Kept);
        assert_eq!(sent.judgement.quality, Quality::Stale);
        let received = observing.deliver(&retry(PARENT, 1), &copied, 4);
        assert_eq!(received.sent, Some(after(3)));
        assert_eq!(received.decision.judgement.parent, Some(span_of(&sent)));
    }
}

#[test]
fn of_two_publications_of_an_attempt_each_has_its_own_time() {
    let [mut producers, mut workers] = [1, 2].map(Replica::new);
    let sent = [0, 5].map(|seconds| producers.publish(&task(PARENT), &none(), seconds));
    assert_ne!(span_of(&sent[0]), span_of(&sent[1]));
    for (sent, seconds) in sent.iter().zip([0, 5]) {
        for replica in [&mut producers, &mut workers] {
            let received = replica.deliver(&task(PARENT), &carrying(sent), 6);
            assert_eq!(received.sent, Some(after(seconds)));
            assert_eq!(received.decision.judgement.parent, Some(span_of(sent)));
        }
    }
}

#[test]
fn a_mark_that_names_no_message_proves_who_wrote_it_and_no_time() {
    let carried = |id| {
        let span_id = derived_span_id("send", id, 0, 0);
        let trace_id = PARENT.replace('-', "");
        carrier(&[
            ("traceparent", &format!("00-{trace_id}-{span_id}-03")),
            ("tracestate", &format!("tracehop={span_id}-19aa9d9c400")),
        ])
    };
    let own = Replica::new(1).deliver(&task(PARENT), &carried(PARENT), 1);
    assert_eq!(own.sent, None);
    assert_eq!(own.decision.judgement.quality, Quality::Valid);
    let copied = Replica::new(1).publish(&child_of(PARENT, CHILD), &carried(PARENT), 1);
    assert_eq!(copied.judgement.verdict, Verdict::Renewed);
    assert_eq!(
        copied.judgement.parent,
        Some(derived_span_id("send", PARENT, 0, 0))
    );
}

#[test]
fn a_mark_for_a_task_without_an_id_proves_no_time() {
    let [mut first, mut second] = [1, 2].map(Replica::new);
    let sent = first.publish(&task(""), &none(), 0);
    let passed = second.publish(&task(""), &carrying(&sent), 0);
    assert_eq!(passed.judgement.verdict, Verdict::Kept);
    assert_eq!(passed.judgement.parent, Some(span_of(&sent)));
    let received = Replica::new(3).deliver(&task(""), &carrying(&sent), 1);
    assert_eq!(received.sent, None);
}

// Version 0.1.0 beside this one.

/// How version 0.1.0 reads our member: frozen, whatever becomes of this one.
fn read_by_0_1_0(tracestate: &str) -> Option<(String, u64)> {
    let member = tracestate
        .split(',')
        .find_map(|member| member.trim_matches([' ', '\t']).strip_prefix("tracehop"))?;
    let (span_id, sent) = member.strip_prefix('=')?.split_once('-')?;
    let is_span_id = span_id.len() == 16 && span_id.bytes().all(|digit| digit.is_ascii_hexdigit());
    let sent = u64::from_str_radix(sent, 16).ok()?;
    is_span_id.then(|| (span_id.to_owned(), sent))
}

#[test]
fn version_0_1_0_takes_our_marks_for_somebody_elses_and_gets_no_time_from_them() {
    let old = "tracehop=7833af78daa79777-19aa9d9c400,vendor=x";
    let read = Some(("7833af78daa79777".to_owned(), 0x19a_a9d9_c400));
    assert_eq!(read_by_0_1_0(old), read);
    for headers in [none(), carrier(&[("b3", B3)])] {
        let sent = Replica::new(1).publish(&task(PARENT), &headers, 0);
        let tracestate = sent.stamp.unwrap().tracestate.unwrap();
        assert_eq!(read_by_0_1_0(&tracestate), None, "{tracestate}");
        // It knows the message by the span that follows from it all the same.
        assert_eq!(
            sent.judgement.context.span_id,
            derived_span_id("send", PARENT, 0, 0)
        );
    }
}

#[test]
fn what_version_0_1_0_wrote_is_ours_and_renewed_in_the_next_attempt() {
    let span_id = derived_span_id("send", PARENT, 0, 0);
    let trace_id = PARENT.replace('-', "");
    let written = carrier(&[
        ("traceparent", &format!("00-{trace_id}-{span_id}-03")),
        (
            "tracestate",
            &format!("tracehop={span_id}-19aa9d9c400,vendor=x"),
        ),
    ]);
    let passed = Replica::new(1).publish(&task(PARENT), &written, 0);
    assert_eq!(passed.judgement.verdict, Verdict::Kept);
    assert_eq!(passed.judgement.quality, Quality::Valid);
    let renewed = Replica::new(1).publish(&retry(PARENT, 1), &written, 3);
    assert_eq!(renewed.judgement.verdict, Verdict::Renewed);
    assert_eq!(renewed.judgement.parent, Some(span_id));
    let tracestate = renewed.stamp.unwrap().tracestate.unwrap();
    assert_eq!(tracestate.matches("tracehop=").count(), 1);
    assert!(tracestate.ends_with(",vendor=x"), "{tracestate}");
    // It did not say what stood beside its mark, so what does may be as old.
    let retried = beside(&written, &[("b3", LATER_B3)]);
    let renewed = Replica::new(1).publish(&retry(PARENT, 1), &retried, 3);
    assert_eq!(renewed.judgement.quality, Quality::Stale);
    assert_eq!(renewed.judgement.parent, Some(span_id));
}

// Only ids that are unique by their making are identities.

#[test]
fn an_id_that_an_app_chose_gets_a_fresh_trace_each_time() {
    for id in [
        "nightly-report-42",
        "4242",
        "82426b08-5ac4-3734-ad40-af5e8ae2bbf9",
    ] {
        let [mut first, mut second] = [1, 2].map(Replica::new);
        let sent = [
            first.publish(&task(id), &none(), 0),
            second.publish(&task(id), &none(), 0),
            first.publish(&task(id), &none(), 90_000),
            first.publish(&task(id), &none(), 90_001),
        ];
        for (number, decision) in sent.iter().enumerate() {
            let hop = &decision.judgement;
            assert_eq!((hop.origin, hop.parent), (Origin::Fresh, None), "{id}");
            assert!(decision.stamp.is_some());
            for other in &sent[..number] {
                let other = &other.judgement.context;
                assert_ne!(hop.context.trace_id, other.trace_id, "{id}");
                assert_ne!(hop.context.span_id, other.span_id, "{id}");
            }
        }
        // It travels in the message: whoever sees it delivered tells the same.
        for replica in [&mut first, &mut Replica::new(3)] {
            let received = replica.deliver(&task(id), &carrying(&sent[0]), 2);
            assert_eq!(received.sent, Some(after(0)));
            let delivery = &received.decision.judgement;
            assert_eq!(delivery.parent, Some(span_of(&sent[0])));
            assert_eq!(delivery.quality, Quality::Valid);
        }
        // And a retry is known by what it brings along.
        let renewed = Replica::new(4).publish(&retry(id, 1), &carrying(&sent[0]), 2);
        assert_eq!(renewed.judgement.verdict, Verdict::Renewed);
        assert_eq!(renewed.judgement.parent, Some(span_of(&sent[0])));
    }
}

#[test]
fn a_uuid_of_version_7_or_without_dashes_names_its_trace() {
    for id in [
        "019af2c3-5d1e-7c40-8f6a-0b1c2d3e4f50",
        "50fbde83f75540e9a1de76192c8eca74",
    ] {
        let sent = [1, 2].map(|seed| Replica::new(seed).publish(&task(id), &none(), 0));
        let [first, second] = sent.map(|sent| sent.judgement);
        assert_eq!(first.origin, Origin::Derived);
        assert_eq!(first.context, second.context);
        assert_eq!(first.context.trace_id.to_string(), id.replace('-', ""));
        assert_eq!(first.context.flags.bits(), 3);
    }
}

#[test]
fn a_group_or_a_root_that_an_app_chose_ties_nothing_together() {
    let mut replica = Replica::new(1);
    let billed = [PARENT, CHILD].map(|id| Task {
        group: Some("billing".into()),
        ..task(id)
    });
    for task in &billed {
        let hop = replica.publish(task, &none(), 0).judgement;
        assert_eq!((hop.origin, hop.parent), (Origin::Derived, None));
        let own_trace = task.id.replace('-', "");
        assert_eq!(hop.context.trace_id.to_string(), own_trace);
    }
    let rooted = [PARENT, CHILD].map(|id| Task {
        root_id: Some("billing".into()),
        ..task(id)
    });
    let mut elsewhere = Replica::new(2);
    let [first, second] = rooted.map(|task| elsewhere.publish(&task, &none(), 0).judgement);
    assert_eq!(
        (first.origin, second.origin),
        (Origin::Fresh, Origin::Fresh)
    );
    assert_ne!(first.context.trace_id, second.context.trace_id);
    assert_eq!((first.parent, second.parent), (None, None));
}

#[test]
fn a_chosen_id_finds_its_latest_publication_in_its_own_part_of_the_broker() {
    let database = |number| Scope {
        part: BrokerPart::Database(number),
        ..SCOPE
    };
    let vhost = |name: &'static str| Scope {
        part: BrokerPart::Vhost(name.as_bytes()),
        ..SCOPE
    };
    let other_route = Scope {
        route: "other",
        ..SCOPE
    };
    let unknown = Scope {
        part: BrokerPart::Unknown,
        ..SCOPE
    };
    let mut replica = Replica::new(1);
    let child = child_of("4242", CHILD);
    for scope in [
        database(6),
        database(7),
        vhost("a"),
        vhost("b"),
        other_route,
    ] {
        let others = replica.publish_within(scope, &child_of("4242", "b"), &none(), 0);
        assert_eq!(others.judgement.origin, Origin::Fresh, "{scope:?}");
        replica.publish_within(scope, &task("4242"), &none(), 0);
        let latest = replica.publish_within(scope, &task("4242"), &none(), 0);
        let child = child_of("4242", &format!("child in {scope:?}"));
        let hop = replica.publish_within(scope, &child, &none(), 0).judgement;
        assert_eq!(hop.origin, Origin::Inherited, "{scope:?}");
        assert_eq!(hop.parent, Some(span_of(&latest)));
        assert_eq!(hop.context.trace_id, latest.judgement.context.trace_id);
    }
    replica.publish_within(unknown, &task("4242"), &none(), 0);
    let hop = replica
        .publish_within(unknown, &child, &none(), 0)
        .judgement;
    assert_eq!(hop.origin, Origin::Fresh);
}

#[test]
fn an_id_that_an_app_chose_is_nobodys_derived_parent() {
    let mut child = child_of("nightly", CHILD);
    let hop = Replica::new(1).publish(&child, &none(), 0).judgement;
    assert_eq!((hop.origin, hop.parent), (Origin::Fresh, None));
    child.root_id = Some(PARENT.into());
    let hop = Replica::new(1).publish(&child, &none(), 0).judgement;
    assert_eq!((hop.origin, hop.parent), (Origin::Derived, None));
}

// No loop, and no span id twice.

#[test]
fn an_earlier_attempt_that_is_published_again_is_a_hop_of_its_own() {
    let mut replica = Replica::new(1);
    let mut spans: Vec<SpanId> = Vec::new();
    let mut parents = Vec::new();
    for retries in [0, 1, 0, 1, 2, 0] {
        let task = match retries {
            0 => task(PARENT),
            _ => retry(PARENT, retries),
        };
        let hop = replica.publish(&task, &none(), 0).judgement;
        assert_eq!(
            hop.context.trace_id.to_string(),
            PARENT.replace('-', ""),
            "{retries}"
        );
        assert!(
            !spans.contains(&hop.context.span_id),
            "{retries}: {spans:?}"
        );
        spans.push(hop.context.span_id);
        parents.push(hop.parent);
    }
    assert_eq!(parents[0], None);
    assert_eq!(parents[1], Some(spans[0]));
    assert_eq!(parents[2], None);
    // A sibling of the other that is tried once more.
    assert_eq!(parents[3], Some(spans[0]));
    assert_eq!(parents[5], None);
}

#[test]
fn a_delivery_of_an_earlier_attempt_is_no_child_of_a_later_one() {
    let mut replica = Replica::choosing(1, |policy, _| policy.mode = Mode::Observe);
    replica.publish(&task(PARENT), &none(), 0);
    let second = replica.publish(&retry(PARENT, 1), &none(), 1);
    let late = replica
        .deliver(&task(PARENT), &none(), 2)
        .decision
        .judgement;
    assert_eq!(late.parent, None);
    assert_eq!(late.context.trace_id, second.judgement.context.trace_id);
    let third = replica.publish(&retry(PARENT, 2), &none(), 3).judgement;
    assert_eq!(third.parent, Some(span_of(&second)));
}

// How deep a task is nested speaks of an attempt before only where it is its own parent.

#[test]
fn a_step_of_what_replaced_a_task_is_a_child_of_the_task() {
    let step = Task {
        replaced: 1,
        ..child_of(PARENT, CHILD)
    };
    let hop = Replica::new(1).publish(&step, &none(), 0).judgement;
    assert_eq!(hop.parent, Some(derived_span_id("send", PARENT, 0, 0)));
    assert_eq!(hop.context.span_id, derived_span_id("send", CHILD, 0, 1));

    let replacement = Task {
        replaced: 1,
        ..retry(PARENT, 0)
    };
    let hop = Replica::new(1).publish(&replacement, &none(), 0).judgement;
    assert_eq!(hop.parent, Some(derived_span_id("send", PARENT, 0, 0)));

    let tried_again = Task {
        replaced: 1,
        ..retry(CHILD, 1)
    };
    let hop = Replica::new(1).publish(&tried_again, &none(), 0).judgement;
    assert_eq!(hop.parent, Some(derived_span_id("send", CHILD, 0, 1)));
}

// A fresh context of another vendor beats our own stale one.

#[test]
fn a_retry_with_a_fresh_context_of_another_vendor_is_its_child() {
    for (first_b3, trace) in [
        (Some(("b3", B3)), "0af7651916cd43dd8448eb211c80319c"),
        // Only the worker is instrumented.
        (None, "50fbde83f75540e9a1de76192c8eca74"),
    ] {
        let [mut producers, mut workers, mut second_workers] = [1, 2, 3].map(Replica::new);
        let first = producers.publish(&task(PARENT), &beside(&none(), &[]), 0);
        let first = match first_b3 {
            Some(b3) => producers_first(b3),
            None => first,
        };
        assert_eq!(first.judgement.context.trace_id.to_string(), trace);
        let retried = beside(&carrying(&first), &[("b3", LATER_B3)]);
        let second = workers.publish(&retry(PARENT, 1), &retried, 3);
        let hop = &second.judgement;
        assert_eq!(
            (hop.verdict, hop.quality),
            (Verdict::Renewed, Quality::Foreign)
        );
        assert_eq!(hop.origin, Origin::Translated);
        assert_eq!(hop.parent.unwrap().to_string(), "00f067aa0ba902b7");
        assert_eq!(hop.context.trace_id.to_string(), &LATER_B3[..32]);
        let edited = beside(&carrying(&second), &[("b3", LATER_B3)]);
        let received = second_workers.deliver(&retry(PARENT, 1), &edited, 3);
        let delivery = &received.decision.judgement;
        assert_eq!(delivery.parent, Some(span_of(&second)));
        assert_eq!(delivery.quality, Quality::Valid);
        assert_eq!(received.sent, Some(after(3)));
    }
}

fn producers_first(b3: (&'static str, &'static str)) -> Decision {
    Replica::new(7).publish(&task(PARENT), &carrier(&[b3]), 0)
}

#[test]
fn a_retry_that_copies_another_vendors_context_too_follows_from_the_attempt_before() {
    let first = producers_first(("b3", B3));
    let mut before = first;
    for retries in 1..4 {
        let copied = beside(&carrying(&before), &[("b3", B3)]);
        let next = Replica::new(8).publish(&retry(PARENT, retries), &copied, 3);
        let hop = &next.judgement;
        assert_eq!(
            (hop.verdict, hop.quality),
            (Verdict::Renewed, Quality::Stale)
        );
        assert_eq!(hop.parent, Some(span_of(&before)));
        before = next;
    }
}

// What is in plain sight is not missing.

#[test]
fn contexts_in_plain_sight_are_not_missing() {
    for (place, name, value) in [
        (Place::Elastic, "trace_parent_string", OTHERS),
        (
            Place::OpenTracing,
            "uber-trace-id",
            "0af7651916cd43dd8448eb211c80319c:b7ad6b7169203331:0:1",
        ),
        (
            Place::Flat,
            "X-Amzn-Trace-Id",
            "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1",
        ),
    ] {
        let mut headers = Headers::default();
        headers.take_within(place, name, HeaderValue::Text(value.into()));
        let hop = Replica::new(1)
            .publish(&task(PARENT), &headers.carrier, 0)
            .judgement;
        assert_eq!(
            (hop.verdict, hop.quality),
            (Verdict::Added, Quality::Foreign)
        );
        assert_eq!(hop.context.trace_id.to_string(), &OTHERS[3..35]);
        assert_eq!(hop.parent.unwrap().to_string(), "b7ad6b7169203331");
    }
}

#[test]
fn a_traceparent_whose_name_is_not_in_lower_case_is_told_as_that() {
    for name in ["Traceparent", "TRACEPARENT", "traceParent"] {
        let decision = Replica::new(1).publish(&task(PARENT), &carrier(&[(name, OTHERS)]), 0);
        let hop = &decision.judgement;
        assert_eq!(
            (hop.verdict, hop.quality),
            (Verdict::Added, Quality::Invalid)
        );
        assert_eq!(hop.invalid, Some(Invalid::NameNotLowerCase));
        assert_eq!(hop.origin, Origin::Derived);
        let both = beside(&carrying(&decision), &[("Traceparent", OTHERS)]);
        let received = Replica::new(2).deliver(&task(PARENT), &both, 1);
        assert_eq!(received.decision.judgement.quality, Quality::Valid);
    }
    let observing = &mut Replica::choosing(1, |policy, _| policy.mode = Mode::Observe);
    let seen = observing.publish(&task(PARENT), &carrier(&[("Traceparent", OTHERS)]), 0);
    assert_eq!(seen.judgement.verdict, Verdict::Missing);
    assert_eq!(seen.judgement.quality, Quality::Invalid);
    let translated = carrier(&[("Traceparent", OTHERS), ("b3", B3)]);
    let hop = Replica::new(1)
        .publish(&task(PARENT), &translated, 0)
        .judgement;
    assert_eq!(hop.quality, Quality::Foreign);
}
