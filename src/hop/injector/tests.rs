use std::borrow::Cow;

use super::*;
use crate::celery::Carrier;
use crate::celery::HeaderValue;
use crate::celery::Headers;
use crate::celery::foreign::Place;
use crate::hop::BrokerPart;
use crate::hop::Origin;
use crate::trace::derived_span_id;

const ROOT: &str = "50fbde83-f755-40e9-a1de-76192c8eca74";
const CHILD: &str = "1c8d5ac5-4de4-4b4f-9ad6-5b4b3c7ec2b1";
const UNSEEN: &str = "b7c1a4de-1f0e-4c53-a0a1-3c8f0f6b8a11";
const GROUP: &str = "9a0f9d6e-5d8a-4a53-8e0a-3b1f8f1f2a3b";
pub(super) const SCOPE: Scope<'static> = Scope {
    route: "tasks",
    part: BrokerPart::Database(0),
};
const OTHERS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn injector(change: impl FnOnce(&mut Policy)) -> Injector {
    let mut policy = Policy::default();
    change(&mut policy);
    Injector::new(policy, Sampler::default(), &Limits::default())
}

fn task(id: &'static str) -> Task<'static> {
    Task {
        name: "add".into(),
        id: id.into(),
        root_id: Some(id.into()),
        ..Task::default()
    }
}

pub(super) fn carrier(fields: &[(&str, &str)]) -> Carrier<'static> {
    with_nested(fields, &[])
}

fn decide(injector: &Injector, task: &Task<'_>, carrier: &Carrier<'_>) -> Decision {
    injector.publish(
        task,
        carrier,
        "celery",
        SCOPE,
        Timestamp::default(),
        &mut IdSource::seeded(3),
    )
}

/// What a message carries that was stamped like this.
pub(super) fn carrying(decision: &Decision) -> Carrier<'static> {
    let stamp = decision.stamp.as_ref().expect("the message was stamped");
    let mut fields = vec![("traceparent", stamp.traceparent.as_str())];
    fields.extend(stamp.tracestate.as_deref().map(|text| ("tracestate", text)));
    carrier(&fields)
}

#[test]
fn a_missing_context_follows_from_the_ids_in_the_message() {
    let decision = decide(&injector(|_| {}), &task(ROOT), &carrier(&[]));
    assert_eq!(decision.judgement.verdict, Verdict::Added);
    assert_eq!(decision.judgement.origin, Origin::Derived);
    assert_eq!(decision.judgement.kind, SpanKind::Producer);
    assert_eq!(decision.judgement.parent, None);
    assert!(decision.judgement.context.flags.is_sampled());
    let stamp = decision.stamp.unwrap();
    assert_eq!(
        stamp.traceparent,
        "00-50fbde83f75540e9a1de76192c8eca74-7833af78daa79777-03"
    );
    assert_eq!(
        stamp.tracestate.as_deref(),
        Some("tracehop=7833af78daa79777-0-388dfe33")
    );
}

#[test]
fn a_valid_context_of_somebody_else_stays() {
    let carried = carrier(&[("traceparent", OTHERS), ("tracestate", "vendor=1")]);
    let decision = decide(&injector(|_| {}), &task(ROOT), &carried);
    assert_eq!(decision.stamp, None);
    assert_eq!(decision.judgement.verdict, Verdict::Kept);
    assert_eq!(decision.judgement.kind, SpanKind::Client);
    assert_eq!(decision.judgement.tracestate, "vendor=1");
    let carried = w3c::parse_traceparent(OTHERS).unwrap();
    assert_eq!(decision.judgement.parent, Some(carried.span_id));
    assert_eq!(decision.judgement.context.trace_id, carried.trace_id);
    assert_ne!(decision.judgement.context.span_id, carried.span_id);
}

#[test]
fn a_span_keeps_no_tracestate_outside_of_the_grammar() {
    for (carried, kept) in [
        ("vendor=1, a=b", "vendor=1, a=b"),
        ("FOO", ""),
        ("a=b\n", ""),
    ] {
        let carried = carrier(&[("traceparent", OTHERS), ("tracestate", carried)]);
        let decision = decide(&injector(|_| {}), &task(ROOT), &carried);
        assert_eq!(decision.judgement.tracestate, kept);
        let stamped = decide(
            &injector(|policy| policy.on_valid = OnValid::Restamp),
            &task(ROOT),
            &carried,
        );
        let unstamped = stamped.unstamped(&carried);
        assert_eq!(unstamped.judgement.tracestate, kept);
    }
}

#[test]
fn restamping_puts_the_hop_between_producer_and_worker() {
    let injector = injector(|policy| policy.on_valid = OnValid::Restamp);
    let carried = carrier(&[("traceparent", OTHERS), ("tracestate", "ot=th:8,vendor=1")]);
    let decision = decide(&injector, &task(ROOT), &carried);
    assert_eq!(decision.judgement.verdict, Verdict::Restamped);
    assert_eq!(decision.judgement.kind, SpanKind::Producer);
    let stamp = decision.stamp.clone().unwrap();
    assert_eq!(
        stamp.traceparent,
        "00-0af7651916cd43dd8448eb211c80319c-7833af78daa79777-01"
    );
    assert_eq!(
        stamp.tracestate.as_deref(),
        Some("tracehop=7833af78daa79777-0-388dfe33,ot=th:8,vendor=1")
    );
    // A second proxy in the path sees that it is done.
    let second = Injector::new(
        injector.choices.load().policy,
        Sampler::default(),
        &Limits::default(),
    );
    let again = decide(&second, &task(ROOT), &carrying(&decision));
    assert_eq!(again.stamp, None);
    assert_eq!(
        again.judgement.parent,
        Some(decision.judgement.context.span_id)
    );
}

#[test]
fn a_retry_that_brings_our_context_along_is_renewed() {
    for tracestate in [true, false] {
        let injector = injector(|policy| policy.tracestate = tracestate);
        let first = decide(&injector, &task(ROOT), &carrier(&[]));
        let mut retry = task(ROOT);
        retry.retries = 1;
        retry.parent_id = Some(ROOT.into());
        // Another replica, which remembers nothing, decides the same.
        let replica = Injector::new(
            injector.choices.load().policy,
            Sampler::default(),
            &Limits::default(),
        );
        for injector in [&injector, &replica] {
            let renewed = decide(injector, &retry, &carrying(&first));
            assert_eq!(renewed.judgement.verdict, Verdict::Renewed);
            assert_eq!(
                renewed.judgement.parent,
                Some(first.judgement.context.span_id)
            );
            assert_eq!(
                renewed.judgement.context.trace_id,
                first.judgement.context.trace_id
            );
            assert_eq!(
                renewed.judgement.context.span_id,
                derived_span_id("send", ROOT, 1, 0)
            );
        }
    }
}

#[test]
fn a_retry_follows_from_the_attempt_before_though_only_an_earlier_one_was_seen() {
    let injector = injector(|_| {});
    let first = decide(&injector, &task(ROOT), &carrier(&[]));
    let elsewhere = Injector::new(Policy::default(), Sampler::default(), &Limits::default());
    let mut retry = task(ROOT);
    retry.retries = 1;
    retry.parent_id = Some(ROOT.into());
    let second = decide(&elsewhere, &retry, &carrying(&first));
    retry.retries = 2;
    let third = decide(&injector, &retry, &carrying(&second));
    let parent = second.judgement.context.span_id;
    assert_eq!(third.judgement.parent, Some(parent));
}

#[test]
fn a_retry_that_lost_our_context_is_the_child_of_the_attempt_before() {
    let injector = injector(|_| {});
    let first = decide(&injector, &task(ROOT), &carrier(&[]));
    let mut retry = task(ROOT);
    retry.retries = 1;
    retry.parent_id = Some(ROOT.into());
    let second = decide(&injector, &retry, &carrier(&[]));
    assert_eq!(second.judgement.origin, Origin::Inherited);
    assert_eq!(
        second.judgement.parent,
        Some(first.judgement.context.span_id)
    );
    assert_eq!(
        second.judgement.context.trace_id,
        first.judgement.context.trace_id
    );
}

#[test]
fn a_second_publication_of_the_same_attempt_is_a_sibling() {
    let injector = injector(|_| {});
    let first = decide(&injector, &task(ROOT), &carrier(&[]));
    let second = decide(&injector, &task(ROOT), &carrier(&[]));
    assert_eq!(second.judgement.parent, first.judgement.parent);
    assert_eq!(
        second.judgement.context.trace_id,
        first.judgement.context.trace_id
    );
    assert_ne!(
        second.judgement.context.span_id,
        first.judgement.context.span_id
    );
}

#[test]
fn a_second_proxy_leaves_both_publications_of_an_attempt_alone() {
    let first = injector(|_| {});
    let second = injector(|_| {});
    for _ in 0..2 {
        let stamped = decide(&first, &task(ROOT), &carrier(&[]));
        let passed = decide(&second, &task(ROOT), &carrying(&stamped));
        assert_eq!(passed.stamp, None);
        assert_eq!(
            passed.judgement.parent,
            Some(stamped.judgement.context.span_id)
        );
    }
}

#[test]
fn a_task_published_by_a_task_inherits_its_context() {
    let injector = injector(|_| {});
    let parent = decide(&injector, &task(ROOT), &carrier(&[("traceparent", OTHERS)]));
    let mut child = task(CHILD);
    child.root_id = Some(ROOT.into());
    child.parent_id = Some(ROOT.into());
    let decision = decide(&injector, &child, &carrier(&[]));
    assert_eq!(decision.judgement.origin, Origin::Inherited);
    assert_eq!(
        decision.judgement.parent,
        Some(parent.judgement.context.span_id)
    );
    assert_eq!(
        decision.judgement.context.trace_id,
        parent.judgement.context.trace_id
    );

    // Where only the root is remembered, another replica has seen the parent.
    child.parent_id = Some(UNSEEN.into());
    child.id = "another".into();
    let decision = decide(&injector, &child, &carrier(&[]));
    assert_eq!(decision.judgement.origin, Origin::Inherited);
    assert_eq!(
        decision.judgement.context.trace_id,
        parent.judgement.context.trace_id
    );
    assert_eq!(
        decision.judgement.parent,
        Some(derived_span_id("send", UNSEEN, 0, 0))
    );
}

#[test]
fn the_members_of_a_group_share_a_trace_and_are_not_each_others_parents() {
    let injector = injector(|_| {});
    for id in [ROOT, CHILD] {
        let mut member = task(id);
        member.group = Some(GROUP.into());
        let decision = decide(&injector, &member, &carrier(&[]));
        assert_eq!(
            decision.judgement.context.trace_id.to_string(),
            GROUP.replace('-', "")
        );
        assert_eq!(decision.judgement.parent, None);
    }
}

#[test]
fn what_belongs_to_a_group_is_in_its_trace_on_every_replica() {
    let mut body = task("body");
    body.root_id = Some(ROOT.into());
    body.parent_id = Some(ROOT.into());
    body.group = Some(GROUP.into());
    let mut again = task(ROOT);
    again.parent_id = Some(ROOT.into());
    again.group = Some(GROUP.into());
    again.group_index = Some(0);
    again.retries = 1;
    for task in [&body, &again] {
        let judgement = decide(&injector(|_| {}), task, &carrier(&[])).judgement;
        assert_eq!(
            judgement.context.trace_id.to_string(),
            GROUP.replace('-', "")
        );
        assert_eq!(judgement.parent, Some(derived_span_id("send", ROOT, 0, 0)));
    }

    // A group that a task has called is in the trace of that.
    body.group_index = Some(0);
    let mut body_within = body.clone();
    body_within.parent_id = Some(CHILD.into());
    body_within.group_index = None;
    for task in [&body, &body_within] {
        let judgement = decide(&injector(|_| {}), task, &carrier(&[])).judgement;
        assert_eq!(
            judgement.context.trace_id.to_string(),
            ROOT.replace('-', "")
        );
    }
}

#[test]
fn an_invalid_context_is_replaced_together_with_its_tracestate() {
    let carried = Carrier {
        traceparent: Carried::NotText,
        ..carrier(&[("tracestate", "vendor=1")])
    };
    let decision = decide(&injector(|_| {}), &task(ROOT), &carried);
    assert_eq!(decision.judgement.verdict, Verdict::Replaced);
    assert_eq!(decision.judgement.invalid, Some(Invalid::NotAString));
    let stamp = decision.stamp.unwrap();
    assert_eq!(
        stamp.tracestate.as_deref(),
        Some("tracehop=7833af78daa79777-0-388dfe33")
    );
}

#[test]
fn observing_touches_nothing_and_tells_the_same_trace() {
    let injector = injector(|policy| policy.mode = Mode::Observe);
    for (carried, verdict) in [
        (carrier(&[]), Verdict::Missing),
        (carrier(&[("traceparent", "none")]), Verdict::Invalid),
    ] {
        let decision = decide(&injector, &task(ROOT), &carried);
        assert_eq!(decision.stamp, None);
        assert_eq!(decision.judgement.verdict, verdict);
        assert_eq!(decision.judgement.kind, SpanKind::Client);
        assert_eq!(
            decision.judgement.context.trace_id.to_string(),
            ROOT.replace('-', "")
        );
    }
}

#[test]
fn what_cannot_take_its_stamp_is_told_as_it_is() {
    let restamp = |policy: &mut Policy| policy.on_valid = OnValid::Restamp;
    for (change, traceparent, verdict) in [
        (None, None, Verdict::Missing),
        (None, Some("nonsense"), Verdict::Invalid),
        (Some(restamp), Some(OTHERS), Verdict::Kept),
    ] {
        let mut fields = vec![("tracestate", "a=1")];
        fields.extend(traceparent.map(|value| ("traceparent", value)));
        let carrier = carrier(&fields);
        let injector = injector(|policy| {
            if let Some(change) = change {
                change(policy);
            }
        });
        let stamped = decide(&injector, &task(ROOT), &carrier);
        let unstamped = stamped.clone().unstamped(&carrier);
        let judgement = Judgement {
            tracestate: "a=1".to_owned(),
            kind: SpanKind::Client,
            verdict,
            ..stamped.judgement
        };
        let stamp = None;
        assert_eq!(unstamped, Decision { stamp, judgement });
    }
    let kept = decide(
        &injector(|_| {}),
        &task(ROOT),
        &carrier(&[("traceparent", OTHERS)]),
    );
    assert_eq!(kept.clone().unstamped(&Carrier::default()), kept);
}

#[test]
fn an_unsampled_hop_still_gets_a_context() {
    let sampler = Sampler::parse("parentbased_always_off", None).unwrap();
    let injector = Injector::new(Policy::default(), sampler, &Limits::default());
    let decision = decide(&injector, &task(ROOT), &carrier(&[]));
    assert!(!decision.judgement.context.flags.is_sampled());
    assert!(decision.stamp.unwrap().traceparent.ends_with("-02"));
    // Its children follow it, whatever the sampler says of roots.
    let mut child = task(CHILD);
    child.parent_id = Some(ROOT.into());
    assert!(
        !decide(&injector, &child, &carrier(&[]))
            .judgement
            .context
            .flags
            .is_sampled()
    );
    let sampled = carrier(&[("traceparent", OTHERS)]);
    assert!(
        decide(&injector, &task("other"), &sampled)
            .judgement
            .context
            .flags
            .is_sampled()
    );
}

#[test]
fn without_an_id_the_context_is_fresh() {
    let decision = decide(&injector(|_| {}), &task(""), &carrier(&[]));
    assert_eq!(decision.judgement.origin, Origin::Fresh);
    assert!(decision.stamp.unwrap().traceparent.ends_with("-03"));
}

#[test]
fn what_is_too_old_is_forgotten() {
    let injector = injector(|_| {});
    let first = decide(&injector, &task(ROOT), &carrier(&[]));
    let mut child = task(CHILD);
    child.parent_id = Some(ROOT.into());
    let age = Limits::default().memory_age_max;
    let later = Timestamp::from_nanos(u64::try_from(age.as_nanos()).unwrap());
    let mut ids = IdSource::seeded(1);
    let decision = injector.publish(&child, &carrier(&[]), "celery", SCOPE, later, &mut ids);
    assert_eq!(
        decision.judgement.parent,
        Some(first.judgement.context.span_id)
    );
    let mut other = task(UNSEEN);
    other.parent_id = Some(ROOT.into());
    let too_late = Timestamp::from_nanos(later.as_nanos() + 1);
    let decision = injector.publish(&other, &carrier(&[]), "celery", SCOPE, too_late, &mut ids);
    assert_eq!(decision.judgement.origin, Origin::Derived);
}

/// The flat headers of a message, and those in the object below the header `headers`.
fn with_nested(flat: &[(&str, &str)], nested: &[(&str, &str)]) -> Carrier<'static> {
    let mut headers = Headers::default();
    for (name, value) in flat {
        headers.take(name, HeaderValue::Text(Cow::Owned((*value).to_owned())));
    }
    for (name, value) in nested {
        let value = HeaderValue::Text(Cow::Owned((*value).to_owned()));
        headers.take_within(Place::Nested, name, value);
    }
    headers.carrier
}

/// What ddtrace 4.16 writes for the first attempt of a task and for its retry.
const DATADOG_FIRST: [(&str, &str); 2] = [
    (
        "traceparent",
        "00-6b029a9300000000a6620595b4b3a498-5f47fb59bca28b0b-01",
    ),
    (
        "tracestate",
        "dd=p:5f47fb59bca28b0b;s:1;t.dm:-0;t.tid:6b029a9300000000,ot=rv:779da425b053f5;th:0",
    ),
];
const DATADOG_RETRY: [(&str, &str); 1] = [(
    "traceparent",
    "00-6b029a9300000000a6620595b4b3a498-dc987adbaedf9596-01",
)];
const SENTRY: &str = "734aac03a60e438a8723c0c27a7024c3-ab09b7c3669520f8";

#[test]
fn another_vendors_context_is_translated() {
    for (carried, trace_id, parent, flags) in [
        (
            with_nested(&[], &[("sentry-trace", &format!("{SENTRY}-1"))]),
            &SENTRY[..32],
            &SENTRY[33..],
            "01",
        ),
        (
            carrier(&[("sentry-trace", &format!("{SENTRY}-0"))]),
            &SENTRY[..32],
            &SENTRY[33..],
            "00",
        ),
        // Left open, it is for the sampler to decide.
        (
            carrier(&[("sentry-trace", SENTRY)]),
            &SENTRY[..32],
            &SENTRY[33..],
            "01",
        ),
        (
            carrier(&[("b3", "e457b5a2e4d86bd1-05e3ac9a4f6e3b90-d")]),
            "0000000000000000e457b5a2e4d86bd1",
            "05e3ac9a4f6e3b90",
            "01",
        ),
    ] {
        let decision = decide(&injector(|_| {}), &task(ROOT), &carried);
        let hop = &decision.judgement;
        assert_eq!(hop.verdict, Verdict::Added);
        assert_eq!(hop.quality, Quality::Foreign);
        assert_eq!(hop.origin, Origin::Translated);
        assert_eq!(hop.kind, SpanKind::Producer);
        assert_eq!(hop.context.trace_id.to_string(), trace_id);
        assert_eq!(hop.parent.unwrap().to_string(), parent);
        let stamp = decision.stamp.unwrap();
        assert_eq!(
            stamp.traceparent,
            format!("00-{trace_id}-7833af78daa79777-{flags}")
        );
        // The tail of their span id tells it from another that comes later.
        let tracestate = format!("tracehop=7833af78daa79777-0-388dfe33-{}", &parent[8..]);
        assert_eq!(stamp.tracestate, Some(tracestate));
    }
}

#[test]
fn the_tracestate_that_came_with_a_translated_context_goes_on_with_it() {
    let carried = with_nested(&[("tracestate", "stray=1")], &DATADOG_FIRST);
    let decision = decide(&injector(|_| {}), &task(ROOT), &carried);
    let stamp = decision.stamp.unwrap();
    assert_eq!(
        stamp.traceparent,
        "00-6b029a9300000000a6620595b4b3a498-7833af78daa79777-01"
    );
    assert_eq!(
        stamp.tracestate.unwrap(),
        format!(
            "tracehop=7833af78daa79777-0-388dfe33-bca28b0b,{}",
            DATADOG_FIRST[1].1
        )
    );
}

#[test]
fn a_translated_context_that_may_not_be_written_still_has_the_hop_for_a_child() {
    let injector = injector(|policy| policy.mode = Mode::Observe);
    let carried = with_nested(&[], &DATADOG_FIRST);
    let decision = decide(&injector, &task(ROOT), &carried);
    assert_eq!(decision.stamp, None);
    assert_eq!(decision.judgement.verdict, Verdict::Missing);
    assert_eq!(decision.judgement.quality, Quality::Foreign);
    assert_eq!(decision.judgement.origin, Origin::Translated);
    assert_eq!(decision.judgement.kind, SpanKind::Client);
    assert_eq!(
        decision.judgement.parent.unwrap().to_string(),
        "5f47fb59bca28b0b"
    );
}

#[test]
fn beside_an_invalid_traceparent_another_vendors_context_counts() {
    let carried = with_nested(&[("traceparent", "none")], &DATADOG_FIRST);
    let decision = decide(&injector(|_| {}), &task(ROOT), &carried);
    assert_eq!(decision.judgement.verdict, Verdict::Replaced);
    assert_eq!(decision.judgement.quality, Quality::Invalid);
    assert_eq!(decision.judgement.origin, Origin::Translated);
    assert!(
        decision
            .stamp
            .unwrap()
            .tracestate
            .unwrap()
            .ends_with("th:0")
    );
}

#[test]
fn a_valid_traceparent_counts_before_another_vendors_context() {
    let same_trace = format!("{}-{}-1", &OTHERS[3..35], &SENTRY[33..]);
    for (sentry_trace, quality) in [
        (same_trace, Quality::Valid),
        (format!("{SENTRY}-1"), Quality::Mixed),
        ("none".to_owned(), Quality::Valid),
    ] {
        let carried = with_nested(
            &[("traceparent", OTHERS)],
            &[("sentry-trace", &sentry_trace)],
        );
        let decision = decide(&injector(|_| {}), &task(ROOT), &carried);
        assert_eq!(decision.stamp, None);
        assert_eq!(decision.judgement.verdict, Verdict::Kept);
        assert_eq!(decision.judgement.quality, quality, "{sentry_trace}");
        assert_eq!(decision.judgement.origin, Origin::Carried);
        let trace_id = decision.judgement.context.trace_id;
        assert_eq!(trace_id.to_string(), OTHERS[3..35]);
    }
}

#[test]
fn the_flat_context_of_a_retry_that_datadog_sends_is_stale() {
    let mut retry = task(ROOT);
    retry.retries = 1;
    retry.parent_id = Some(ROOT.into());
    let carried = with_nested(&DATADOG_FIRST, &DATADOG_RETRY);
    let decision = decide(&injector(|_| {}), &retry, &carried);
    assert_eq!(decision.stamp, None);
    assert_eq!(decision.judgement.quality, Quality::Stale);
    assert_eq!(
        decision.judgement.context.trace_id.to_string(),
        "6b029a9300000000a6620595b4b3a498"
    );
    // On a first attempt nothing is stale yet.
    let decision = decide(&injector(|_| {}), &task(ROOT), &carried);
    assert_eq!(decision.judgement.quality, Quality::Valid);
}

#[test]
fn what_shall_not_be_translated_is_as_if_it_were_not_there() {
    let none = Translate {
        sentry: false,
        datadog: false,
        b3: false,
        jaeger: false,
        elastic: false,
        xray: false,
    };
    let injector = injector(|_| {}).with(none, Rollout::default(), Spans::default());
    let both = [DATADOG_FIRST[0], ("sentry-trace", SENTRY)];
    let decision = decide(&injector, &task(ROOT), &with_nested(&[], &both));
    assert_eq!(decision.judgement.verdict, Verdict::Added);
    assert_eq!(decision.judgement.quality, Quality::Missing);
    assert_eq!(decision.judgement.origin, Origin::Derived);
    let carried = with_nested(&[("traceparent", OTHERS)], &both);
    let decision = decide(&injector, &task(CHILD), &carried);
    assert_eq!(decision.judgement.quality, Quality::Valid);
}

#[test]
fn other_choices_hold_from_the_next_message_on_and_what_was_seen_is_remembered() {
    let injector = injector(|policy| policy.mode = Mode::Observe);
    let parent = decide(&injector, &task(ROOT), &carrier(&[]));
    assert_eq!(parent.stamp, None);
    injector.choose(Choices {
        policy: Policy::default(),
        ..Choices::clone(&injector.choices.load())
    });
    let mut child = task(CHILD);
    child.parent_id = Some(ROOT.into());
    let child = decide(&injector, &child, &carrier(&[]));
    assert!(child.stamp.is_some());
    assert_eq!(child.judgement.origin, Origin::Inherited);
    assert_eq!(
        child.judgement.parent,
        Some(parent.judgement.context.span_id)
    );
}
