//! Whole workflows, seen by one proxy or by two that know nothing of each other, with
//! deliveries missed and doubled.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::celery::Carrier;
use crate::hop::injector::tests::SCOPE;
use crate::hop::injector::tests::carrying;
use crate::trace::derived_span_id;
use crate::trace::derived_trace_id;

/// One message of a workflow in which nothing is instrumented.
#[derive(Clone, Debug)]
struct Step {
    /// The task that sends it, among those before it; 0 is the root's.
    by: prop::sample::Index,
    /// How often it is tried again.
    retries: u32,
    /// Which proxy sees its publication, and which its delivery; none misses it.
    published_at: usize,
    delivered_at: Option<usize>,
    /// How often it is delivered.
    deliveries: usize,
    /// Whether the worker copies the headers into retries (from Celery 5.3 on).
    copies_headers: bool,
}

fn step() -> impl Strategy<Value = Step> {
    (
        any::<prop::sample::Index>(),
        0_u32..3,
        0_usize..2,
        prop::option::weighted(0.8, 0_usize..2),
        1_usize..3,
        any::<bool>(),
    )
        .prop_map(
            |(by, retries, published_at, delivered_at, deliveries, copies_headers)| Step {
                by,
                retries,
                published_at,
                delivered_at,
                deliveries,
                copies_headers,
            },
        )
}

/// What is known of a task that has been sent.
struct Known {
    id: String,
    /// The spans by which the task itself was seen, or will be.
    spans: Vec<SpanId>,
}

proptest! {
    #[test]
    fn a_workflow_is_one_trace_and_every_parent_is_the_task_that_sent_it(
        steps in prop::collection::vec(step(), 1..12),
        process in any::<bool>(),
        is_one_proxy in any::<bool>(),
    ) {
        let proxies = [0, 1].map(|_| {
            let spans = Spans { process, ..Spans::default() };
            Injector::new(Policy::default(), Sampler::default(), &Limits::default())
                .with(Translate::default(), Rollout::default(), spans)
        });
        let proxy = |number: usize| if is_one_proxy { &proxies[0] } else { &proxies[number] };
        let cause = if process { "process" } else { "send" };
        let mut ids = IdSource::seeded(5);
        let mut id = || {
            let bytes = ids.trace_id().to_bytes();
            uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
        };
        let root_id = id();
        let mut known: Vec<Known> = Vec::new();
        let mut parents: HashMap<SpanId, SpanId> = HashMap::new();
        for (number, step) in steps.iter().enumerate() {
            let by = (number > 0).then(|| step.by.index(number));
            let id = if number == 0 { root_id.clone() } else { id() };
            let mut me = Known { id: id.clone(), spans: Vec::new() };
            let mut carried = Carrier::default();
            for retries in 0..=step.retries {
                let parent_id = match (retries, by) {
                    (0, None) => None,
                    (0, Some(by)) => Some(known[by].id.clone().into()),
                    _ => Some(id.clone().into()),
                };
                let task = Task {
                    name: "add".into(),
                    id: id.clone().into(),
                    root_id: Some(root_id.clone().into()),
                    parent_id,
                    retries,
                    ..Task::default()
                };
                let mut random = IdSource::seeded(number as u64 * 10 + u64::from(retries));
                let now = Timestamp::default();
                let proxy_before = proxy(step.published_at);
                let decision =
                    proxy_before.publish(&task, &carried, "celery", SCOPE, now, &mut random);
                let judgement = &decision.judgement;
                prop_assert_eq!(judgement.context.trace_id, derived_trace_id(&root_id).unwrap());
                let mine = judgement.context.span_id;
                prop_assert_eq!(mine, derived_span_id("send", &id, retries, 0));
                match (judgement.parent, by) {
                    (None, None) => prop_assert_eq!(retries, 0),
                    (None, Some(_)) => prop_assert!(false, "a child became a root"),
                    (Some(parent), _) if retries > 0 => {
                        prop_assert!(me.spans.contains(&parent), "of another task");
                    }
                    (Some(parent), Some(by)) => {
                        prop_assert!(known[by].spans.contains(&parent), "of another task");
                    }
                    (Some(_), None) => prop_assert!(false, "the root became a child"),
                }
                parents.extend(judgement.parent.map(|parent| (mine, parent)));
                me.spans.push(mine);
                me.spans.push(derived_span_id(cause, &id, retries, 0));
                parents.insert(derived_span_id("process", &id, retries, 0), mine);

                let carrier = carrying(&decision);
                if let Some(behind) = step.delivered_at {
                    for again in 0..step.deliveries {
                        let arrival = Arrival {
                            task: &task,
                            carrier: &carrier,
                            destination: "celery",
                            scope: SCOPE,
                            passage: &Passage { redelivered: again > 0, ..Passage::default() },
                        };
                        let received = proxy(behind).deliver(&arrival, now, &mut random);
                        let judgement = &received.decision.judgement;
                        prop_assert_eq!(judgement.parent, Some(mine));
                        prop_assert_eq!(received.decision.stamp, None);
                        me.spans.push(received.process);
                        parents.insert(received.process, mine);
                    }
                }
                carried = if step.copies_headers { carrier } else { Carrier::default() };
            }
            known.push(me);
        }
        // Up from any span one comes to an end.
        for start in parents.keys() {
            let mut at = start;
            for _ in 0..=parents.len() {
                match parents.get(at) {
                    Some(parent) => at = parent,
                    None => break,
                }
            }
            prop_assert!(!parents.contains_key(at), "a loop");
        }
    }
}
