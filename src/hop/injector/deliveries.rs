use wildmatch::WildMatch;

use super::*;
use crate::celery::Carrier;
use crate::config::Filter;
use crate::hop::Origin;
use crate::hop::injector::tests::SCOPE;
use crate::hop::injector::tests::carrier;
use crate::hop::injector::tests::carrying;
use crate::trace::Ratio;
use crate::trace::derived_span_id;

const ROOT: &str = "50fbde83-f755-40e9-a1de-76192c8eca74";
const CHILD: &str = "1c8d5ac5-4de4-4b4f-9ad6-5b4b3c7ec2b1";
const OTHERS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const SENT: Timestamp = Timestamp::from_millis(1_763_800_000_000);
const TAKEN: Timestamp = Timestamp::from_millis(1_763_800_000_700);

fn injector(inject_on: InjectOn, process: bool) -> Injector {
    let policy = Policy {
        inject_on,
        ..Policy::default()
    };
    let spans = Spans {
        process,
        ..Spans::default()
    };
    Injector::new(policy, Sampler::default(), &Limits::default()).with(
        Translate::default(),
        Rollout::default(),
        spans,
    )
}

fn task(id: &'static str) -> Task<'static> {
    Task {
        name: "add".into(),
        id: id.into(),
        root_id: Some(ROOT.into()),
        parent_id: (id != ROOT).then(|| ROOT.into()),
        ..Task::default()
    }
}

fn publish(injector: &Injector, task: &Task<'_>, carrier: &Carrier<'_>) -> Decision {
    let mut ids = IdSource::seeded(1);
    injector.publish(task, carrier, "celery", SCOPE, SENT, &mut ids)
}

fn deliver(injector: &Injector, task: &Task<'_>, carrier: &Carrier<'_>) -> Received {
    deliver_as(injector, task, carrier, &Passage::default(), 2)
}

fn deliver_as(
    injector: &Injector,
    task: &Task<'_>,
    carrier: &Carrier<'_>,
    passage: &Passage,
    seed: u64,
) -> Received {
    let arrival = Arrival {
        task,
        carrier,
        destination: "celery",
        scope: SCOPE,
        passage,
    };
    injector.deliver(&arrival, TAKEN, &mut IdSource::seeded(seed))
}

#[test]
fn a_delivery_follows_from_its_publication_on_any_replica() {
    let before = injector(InjectOn::Publish, true);
    let behind = injector(InjectOn::Publish, true);
    let sent = publish(&before, &task(ROOT), &carrier(&[]));
    for replica in [&before, &behind] {
        let received = deliver(replica, &task(ROOT), &carrying(&sent));
        let judgement = &received.decision.judgement;
        assert_eq!(received.decision.stamp, None);
        assert_eq!(received.sent, Some(SENT));
        assert_eq!(judgement.parent, Some(sent.judgement.context.span_id));
        assert_eq!(judgement.context.trace_id, sent.judgement.context.trace_id);
        assert_eq!(
            judgement.context.span_id,
            derived_span_id("receive", ROOT, 0, 0)
        );
        assert_eq!(received.process, derived_span_id("process", ROOT, 0, 0));
        assert_eq!(judgement.kind, SpanKind::Client);
    }
    // What the task sends is a child of its run, whoever sees it pass.
    let stranger = injector(InjectOn::Publish, true);
    for (replica, origin) in [
        (&before, Origin::Inherited),
        (&behind, Origin::Inherited),
        (&stranger, Origin::Derived),
    ] {
        let child = publish(replica, &task(CHILD), &carrier(&[])).judgement;
        assert_eq!(child.origin, origin);
        assert_eq!(child.parent, Some(derived_span_id("process", ROOT, 0, 0)));
        assert_eq!(child.context.trace_id, sent.judgement.context.trace_id);
    }
}

#[test]
fn without_spans_of_runs_what_a_task_sends_is_a_child_of_its_publication() {
    let behind = injector(InjectOn::Publish, false);
    let sent = publish(
        &injector(InjectOn::Publish, false),
        &task(ROOT),
        &carrier(&[]),
    );
    deliver(&behind, &task(ROOT), &carrying(&sent));
    let child = publish(&behind, &task(CHILD), &carrier(&[])).judgement;
    assert_eq!(child.parent, Some(sent.judgement.context.span_id));
}

#[test]
fn children_of_a_task_with_anothers_context_follow_it() {
    for (process, expected) in [(false, "b7ad6b7169203331"), (true, "its run")] {
        let behind = injector(InjectOn::Publish, process);
        let received = deliver(&behind, &task(ROOT), &carrier(&[("traceparent", OTHERS)]));
        assert_eq!(received.sent, None);
        // Nobody else would find them.
        assert_ne!(
            received.decision.judgement.context.span_id,
            derived_span_id("receive", ROOT, 0, 0)
        );
        let child = publish(&behind, &task(CHILD), &carrier(&[])).judgement;
        let run = received.process.to_string();
        let expected = if process { &run } else { expected };
        assert_eq!(child.parent.unwrap().to_string(), *expected);
        assert_eq!(
            child.context.trace_id.to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
    }
}

#[test]
fn every_delivery_of_a_message_has_spans_of_its_own() {
    let injector = injector(InjectOn::Publish, true);
    let message = carrying(&publish(&injector, &task(ROOT), &carrier(&[])));
    let again = Passage {
        redelivered: true,
        ..Passage::default()
    };
    let to_all = Passage {
        broadcast: true,
        ..Passage::default()
    };
    let mut spans = Vec::new();
    for (seed, passage) in [
        (2, &Passage::default()),
        (3, &again),
        (4, &to_all),
        (5, &Passage::default()),
    ] {
        let received = deliver_as(&injector, &task(ROOT), &message, passage, seed);
        let receive = received.decision.judgement.context.span_id;
        spans.extend([receive.to_bytes(), received.process.to_bytes()]);
    }
    spans.sort_unstable();
    spans.dedup();
    assert_eq!(spans.len(), 8);
}

#[test]
fn what_a_broadcast_task_sends_belongs_to_no_single_worker() {
    let injector = injector(InjectOn::Publish, true);
    let sent = publish(&injector, &task(ROOT), &carrier(&[]));
    let to_all = Passage {
        broadcast: true,
        ..Passage::default()
    };
    let behind = self::injector(InjectOn::Publish, true);
    let received = deliver_as(&behind, &task(ROOT), &carrying(&sent), &to_all, 2);
    let child = publish(&behind, &task(CHILD), &carrier(&[])).judgement;
    assert_ne!(child.parent, Some(received.process));
    assert_eq!(child.parent, Some(sent.judgement.context.span_id));
}

#[test]
fn a_message_without_context_gets_one_at_delivery_where_that_is_wanted() {
    for inject_on in [InjectOn::Delivery, InjectOn::Both] {
        let behind = injector(inject_on, true);
        let received = deliver(&behind, &task(ROOT), &carrier(&[]));
        let judgement = &received.decision.judgement;
        assert_eq!(judgement.verdict, Verdict::Added);
        assert_eq!(judgement.kind, SpanKind::Client);
        let stamp = received.decision.stamp.as_ref().unwrap();
        assert_eq!(
            stamp.traceparent,
            w3c::format_traceparent(&judgement.context)
        );
        // Nobody knows when it was sent, so nobody is told.
        assert_eq!(received.sent, None);
        let member = OurMember::find(stamp.tracestate.as_deref().unwrap()).unwrap();
        assert_eq!(member.sent, None);
        // As a restored message it comes along once more, and is left alone.
        let again = deliver(&behind, &task(ROOT), &carrying(&received.decision));
        assert_eq!(again.decision.judgement.verdict, Verdict::Kept);
        // In a retry it is that of the attempt before.
        let mut retry = task(ROOT);
        retry.retries = 1;
        let renewed = deliver(&behind, &retry, &carrying(&received.decision));
        assert_eq!(renewed.decision.judgement.verdict, Verdict::Renewed);
        assert_eq!(renewed.decision.judgement.quality, Quality::Stale);
    }
    let passing = deliver(
        &injector(InjectOn::Publish, true),
        &task(ROOT),
        &carrier(&[]),
    );
    assert_eq!(passing.decision.stamp, None);
    assert_eq!(passing.decision.judgement.verdict, Verdict::Missing);
}

#[test]
fn where_only_deliveries_are_edited_publications_pass_and_are_the_parents() {
    let injector = injector(InjectOn::Delivery, false);
    let sent = publish(&injector, &task(ROOT), &carrier(&[]));
    assert_eq!(sent.stamp, None);
    assert_eq!(sent.judgement.verdict, Verdict::Missing);
    let received = deliver(&injector, &task(ROOT), &carrier(&[]));
    let judgement = &received.decision.judgement;
    assert_eq!(judgement.parent, Some(sent.judgement.context.span_id));
    assert_eq!(received.sent, Some(SENT));
    let stamp = received.decision.stamp.unwrap();
    let member = OurMember::find(stamp.tracestate.as_deref().unwrap()).unwrap();
    assert_eq!(member.sent, Some(SENT));
}

#[test]
fn a_rollout_edits_what_it_names_and_observes_the_rest() {
    let filter = |allow: &[&str], deny: &[&str]| {
        let patterns = |texts: &[&str]| texts.iter().map(|text| WildMatch::new(text)).collect();
        Filter {
            allow: patterns(allow),
            deny: patterns(deny),
        }
    };
    let all = Filter::default;
    for (queues, tasks, ratio, is_edited) in [
        (all(), all(), "1", true),
        (filter(&["cel*"], &[]), all(), "1", true),
        (filter(&["other"], &[]), all(), "1", false),
        (filter(&["*"], &["celery"]), all(), "1", false),
        (all(), filter(&["add", "mul"], &[]), "1", true),
        (all(), filter(&[], &["a*"]), "1", false),
        (all(), all(), "0", false),
    ] {
        let inject_ratio = Ratio::parse(ratio).unwrap();
        let rollout = Rollout {
            queues,
            tasks,
            inject_ratio,
        };
        let injector =
            injector(InjectOn::Both, false).with(Translate::default(), rollout, Spans::default());
        for text in ["", "00-bad", OTHERS] {
            let carried = match text {
                "" => carrier(&[]),
                text => carrier(&[("traceparent", text)]),
            };
            let may_be_edited = text != OTHERS;
            let sent = publish(&injector, &task(ROOT), &carried);
            assert_eq!(sent.stamp.is_some(), is_edited && may_be_edited, "{text}");
            let received = deliver(&injector, &task(CHILD), &carried);
            let stamp = received.decision.stamp;
            assert_eq!(stamp.is_some(), is_edited && may_be_edited, "{text}");
        }
    }
}

#[test]
fn a_rollout_by_share_takes_the_same_traces_everywhere() {
    let half = |_| {
        let inject_ratio = Ratio::parse("0.5").unwrap();
        let rollout = Rollout {
            inject_ratio,
            ..Rollout::default()
        };
        injector(InjectOn::Publish, false).with(Translate::default(), rollout, Spans::default())
    };
    let replicas = [0, 1].map(half);
    let mut edited = 0;
    let mut ids = IdSource::seeded(7);
    for _ in 0..200 {
        let task = Task {
            name: "add".into(),
            id: uuid::Builder::from_random_bytes(ids.trace_id().to_bytes())
                .into_uuid()
                .to_string()
                .into(),
            ..Task::default()
        };
        let [first, second] = [0, 1].map(|index| {
            publish(&replicas[index], &task, &carrier(&[]))
                .stamp
                .is_some()
        });
        assert_eq!(first, second);
        edited += u32::from(first);
    }
    assert!((60..140).contains(&edited), "{edited} of 200");
}

#[test]
fn members_beyond_the_limit_of_a_group_have_traces_of_their_own() {
    let limits = Limits {
        fanout_max: 3,
        ..Limits::default()
    };
    let injector = Injector::new(Policy::default(), Sampler::default(), &limits);
    let group = "9a0f9d6e-5d8a-4a53-8e0a-3b1f8f1f2a3b";
    let mut ids = IdSource::seeded(3);
    let mut traces = Vec::new();
    let mut first = None;
    for index in 0..5 {
        let id = format!("{}-{}", ROOT, index);
        let member = Task {
            name: "add".into(),
            id: id.clone().into(),
            root_id: Some(id.into()),
            group: Some(group.into()),
            group_index: Some(index),
            ..Task::default()
        };
        let judgement = injector
            .publish(&member, &carrier(&[]), "celery", SCOPE, SENT, &mut ids)
            .judgement;
        let first = *first.get_or_insert(judgement.context);
        assert_eq!(judgement.link, (index >= 3).then_some(first), "{index}");
        assert_eq!(judgement.parent, None);
        if !traces.contains(&judgement.context.trace_id) {
            traces.push(judgement.context.trace_id);
        }
    }
    assert_eq!(traces.len(), 3);
}

#[test]
fn who_waits_for_a_group_is_in_its_trace() {
    let group = "9a0f9d6e-5d8a-4a53-8e0a-3b1f8f1f2a3b";
    let member = Task {
        group: Some(group.into()),
        root_id: Some(CHILD.into()),
        parent_id: None,
        ..task(CHILD)
    };
    let waiting = Task {
        awaited_group: Some(group.into()),
        ..task(ROOT)
    };
    // By memory, and without.
    for is_seen in [true, false] {
        let injector = injector(InjectOn::Publish, false);
        let replica = self::injector(InjectOn::Publish, false);
        let sent = publish(&injector, &member, &carrier(&[])).judgement;
        let unlock = publish(
            if is_seen { &injector } else { &replica },
            &waiting,
            &carrier(&[]),
        );
        let judgement = unlock.judgement;
        assert_eq!(judgement.context.trace_id, sent.context.trace_id);
        assert_eq!(judgement.parent, None);
    }
}
