//! Which context a message shall carry, and what its hop's span is.

use std::borrow::Cow;

use crate::celery::Carried;
use crate::celery::Headers;
use crate::celery::Task;
use crate::config::Limits;
use crate::config::Mode;
use crate::config::OnInvalid;
use crate::config::OnMissing;
use crate::config::OnValid;
use crate::config::Policy;
use crate::hop::Origin;
use crate::hop::Verdict;
use crate::hop::memory::Attempt;
use crate::hop::memory::Memory;
use crate::hop::memory::Remembered;
use crate::trace::IdSource;
use crate::trace::Sampler;
use crate::trace::SpanId;
use crate::trace::SpanKind;
use crate::trace::Timestamp;
use crate::trace::TraceContext;
use crate::trace::TraceFlags;
use crate::trace::TraceId;
use crate::trace::derived_span_id;
use crate::trace::derived_trace_id;
use crate::trace::w3c;
use crate::trace::w3c::Invalid;
use crate::trace::w3c::OurMember;

/// Decides about the context of each published message. One for all sessions.
#[derive(Debug)]
pub struct Injector {
    policy: Policy,
    sampler: Sampler,
    memory: Memory,
}

/// What is to be done with one message, and what its hop is.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What to write into the message; `None`: its bytes stay as they are.
    pub stamp: Option<Stamp>,
    /// The hop's own span.
    pub context: TraceContext,
    pub parent: Option<SpanId>,
    /// The `tracestate` that the message carries from here, empty where there is none or
    /// where it is longer than a span should keep.
    pub tracestate: String,
    pub kind: SpanKind,
    pub verdict: Verdict,
    pub invalid: Option<Invalid>,
    pub origin: Origin,
    /// Whether the hop's spans are to be exported.
    pub recorded: bool,
}

impl Decision {
    /// The same hop where the message, with these `headers`, cannot take the stamp: it goes
    /// on as it came.
    #[must_use]
    pub fn unstamped(self, headers: &Headers<'_>) -> Self {
        if self.stamp.is_none() {
            return self;
        }
        Self {
            stamp: None,
            tracestate: headers.tracestate.text().to_owned(),
            kind: SpanKind::Client,
            verdict: match self.verdict {
                Verdict::Added => Verdict::Missing,
                Verdict::Replaced => Verdict::Invalid,
                _ => Verdict::Kept,
            },
            ..self
        }
    }
}

/// The headers to be written into a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub traceparent: String,
    /// The `tracestate` beside it; `None`: there must be none.
    pub tracestate: Option<String>,
}

impl Injector {
    /// An injector that remembers as much as `limits` allow.
    #[must_use]
    pub fn new(policy: Policy, sampler: Sampler, limits: &Limits) -> Self {
        Self {
            policy,
            sampler,
            memory: Memory::new(limits.memory_max, limits.memory_age_max),
        }
    }

    /// Decides about a publication of `task` that carries `headers`, and remembers it.
    pub fn decide(
        &self,
        task: &Task<'_>,
        headers: &Headers<'_>,
        now: Timestamp,
        ids: &mut IdSource,
    ) -> Decision {
        let attempt = Attempt {
            retries: task.retries,
            replaced: task.replaced,
        };
        let seen = known(&task.id).and_then(|id| self.memory.task(id, now));
        let own_span = known(&task.id)
            .map(|id| derived_span_id("send", id, attempt.retries, attempt.replaced));
        let message = Message {
            task,
            tracestate: headers.tracestate.text(),
            attempt,
            seen,
            own_span,
            now,
        };
        let decision = match read(&headers.traceparent) {
            Ok(Some(carried)) => self.judge_valid(&message, carried, ids),
            Ok(None) => self.judge_missing(&message, None, ids),
            Err(invalid) => self.judge_missing(&message, Some(invalid), ids),
        };
        self.remember(&message, &decision);
        decision
    }

    fn judge_valid(
        &self,
        message: &Message<'_>,
        carried: TraceContext,
        ids: &mut IdSource,
    ) -> Decision {
        let recorded = self
            .sampler
            .samples(Some(carried.flags.is_sampled()), carried.trace_id);
        let verdict = if message.is_of_this_attempt(carried) {
            Verdict::Kept
        } else if message.is_of_an_attempt_before(carried) {
            Verdict::Renewed
        } else if self.policy.on_valid == OnValid::Restamp {
            Verdict::Restamped
        } else {
            Verdict::Kept
        };
        let hop = Lineage {
            trace_id: carried.trace_id,
            flags: carried.flags.with_sampled(recorded),
            parent: Some(carried.span_id),
            origin: Origin::Carried,
        };
        if verdict == Verdict::Kept || self.policy.mode == Mode::Observe {
            return self.pass(message, &hop, Verdict::Kept, None, recorded, ids);
        }
        self.write(message, &hop, verdict, None, recorded, ids)
    }

    fn judge_missing(
        &self,
        message: &Message<'_>,
        invalid: Option<Invalid>,
        ids: &mut IdSource,
    ) -> Decision {
        let mut hop = self.lineage(message, ids);
        let parent = hop.parent.map(|_| hop.flags.is_sampled());
        let recorded = self.sampler.samples(parent, hop.trace_id);
        hop.flags = hop.flags.with_sampled(recorded);
        let written = match invalid {
            None if self.policy.on_missing == OnMissing::Add => Some(Verdict::Added),
            Some(_) if self.policy.on_invalid == OnInvalid::Replace => Some(Verdict::Replaced),
            _ => None,
        };
        match written {
            Some(verdict) if self.policy.mode == Mode::Inject => {
                self.write(message, &hop, verdict, invalid, recorded, ids)
            }
            _ => {
                let verdict = match invalid {
                    None => Verdict::Missing,
                    Some(_) => Verdict::Invalid,
                };
                self.pass(message, &hop, verdict, invalid, recorded, ids)
            }
        }
    }

    /// Where a context comes from that the message does not carry. First that holds wins.
    fn lineage(&self, message: &Message<'_>, ids: &mut IdSource) -> Lineage {
        let task = message.task;
        let inherited = |parent, seen: Remembered| Lineage {
            trace_id: seen.context.trace_id,
            flags: seen.context.flags,
            parent,
            origin: Origin::Inherited,
        };
        // The task itself was seen before: this attempt, published once more, is a sibling;
        // an earlier one is the parent. So a retry, whose parent_id is its own id, never
        // becomes its own parent.
        if let Some(seen) = message.seen {
            return if seen.attempt == message.attempt {
                inherited(seen.parent, seen)
            } else {
                inherited(Some(seen.context.span_id), seen)
            };
        }
        let ancestors = [&task.parent_id, &task.root_id];
        for ancestor in ancestors.into_iter().flatten() {
            if let Some(seen) = self.memory.task(ancestor, message.now) {
                return inherited(Some(seen.context.span_id), seen);
            }
        }
        // Members of one group are siblings: they share their parent, where it has one.
        if let Some(seen) =
            known_or_none(&task.group).and_then(|id| self.memory.group(id, message.now))
        {
            return inherited(seen.parent, seen);
        }
        match message.workflow_id() {
            Some(id) => {
                let (trace_id, flags) = derived_trace_id(id);
                Lineage {
                    trace_id,
                    flags,
                    parent: None,
                    origin: Origin::Derived,
                }
            }
            None => Lineage {
                trace_id: ids.trace_id(),
                flags: TraceFlags::RANDOM,
                parent: None,
                origin: Origin::Fresh,
            },
        }
    }

    /// The message gets the hop's own span as its context.
    fn write(
        &self,
        message: &Message<'_>,
        hop: &Lineage,
        verdict: Verdict,
        invalid: Option<Invalid>,
        recorded: bool,
        ids: &mut IdSource,
    ) -> Decision {
        let published_before = message
            .seen
            .is_some_and(|seen| seen.attempt == message.attempt);
        let span_id = match message.own_span {
            Some(span_id) if !published_before => span_id,
            _ => ids.span_id(),
        };
        let context = hop.span(span_id);
        let others = match verdict {
            // It belonged to the traceparent that goes, or to none.
            Verdict::Replaced | Verdict::Added => "",
            _ => message.tracestate,
        };
        let tracestate = if self.policy.tracestate {
            Some(OurMember::lead(span_id, message.now, others))
        } else {
            // What follows the grammar is text that can be written as it is.
            let members = w3c::tracestate_members(others).join(",");
            (!members.is_empty()).then_some(members)
        };
        Decision {
            stamp: Some(Stamp {
                traceparent: w3c::format_traceparent(&context),
                tracestate: tracestate.clone(),
            }),
            context,
            parent: hop.parent,
            tracestate: within_span(tracestate.as_deref().unwrap_or_default()),
            kind: SpanKind::Producer,
            verdict,
            invalid,
            origin: hop.origin,
            recorded,
        }
    }

    /// The message stays as it is; the hop's span is one that nobody else knows.
    fn pass(
        &self,
        message: &Message<'_>,
        hop: &Lineage,
        verdict: Verdict,
        invalid: Option<Invalid>,
        recorded: bool,
        ids: &mut IdSource,
    ) -> Decision {
        Decision {
            stamp: None,
            context: hop.span(ids.span_id()),
            parent: hop.parent,
            tracestate: within_span(message.tracestate),
            kind: SpanKind::Client,
            verdict,
            invalid,
            origin: hop.origin,
            recorded,
        }
    }

    fn remember(&self, message: &Message<'_>, decision: &Decision) {
        let seen = Remembered {
            context: decision.context,
            parent: decision.parent,
            attempt: message.attempt,
            at: message.now,
        };
        if let Some(id) = known(&message.task.id) {
            self.memory.remember_task(id, seen);
        }
        // The first member speaks for its group: its parent is the one that called the group.
        if let Some(group) = known_or_none(&message.task.group)
            && self.memory.group(group, message.now).is_none()
        {
            self.memory.remember_group(group, seen);
        }
    }
}

/// A message, and what is known of it beforehand.
struct Message<'a> {
    task: &'a Task<'a>,
    tracestate: &'a str,
    attempt: Attempt,
    /// What memory holds of the same task.
    seen: Option<Remembered>,
    /// The span id that this attempt has when the context is ours; `None` without a task id.
    own_span: Option<SpanId>,
    now: Timestamp,
}

impl Message<'_> {
    /// The context was written for this very attempt: by a proxy before this one, or at an
    /// earlier publication of the same attempt.
    fn is_of_this_attempt(&self, carried: TraceContext) -> bool {
        self.own_span == Some(carried.span_id)
    }

    /// The context was written by one of us for another attempt, and came along when the
    /// worker copied the headers into a retry.
    fn is_of_an_attempt_before(&self, carried: TraceContext) -> bool {
        // A first attempt has none before it: there our context is that of a second
        // publication, to another queue, which a proxy before this one has told apart.
        let is_first = self.attempt.retries == 0 && self.attempt.replaced == 0;
        if is_first {
            return false;
        }
        OurMember::find(self.tracestate).is_some_and(|member| member.span_id == carried.span_id)
            || self.attempt.retries.checked_sub(1).is_some_and(|retries| {
                known(&self.task.id).is_some_and(|id| {
                    derived_span_id("send", id, retries, self.attempt.replaced) == carried.span_id
                })
            })
    }

    /// What the trace of an unknown workflow is named after: the members of a group that
    /// was called outside any task have only the group in common.
    fn workflow_id(&self) -> Option<&str> {
        let task = self.task;
        let is_own_root = task.root_id.as_ref().is_none_or(|root| *root == task.id);
        let group = known_or_none(&task.group).filter(|_| task.parent_id.is_none() && is_own_root);
        group
            .or_else(|| known_or_none(&task.root_id))
            .or_else(|| known(&task.id))
    }
}

/// The trace and the parent of a hop.
struct Lineage {
    trace_id: TraceId,
    flags: TraceFlags,
    parent: Option<SpanId>,
    origin: Origin,
}

impl Lineage {
    const fn span(&self, span_id: SpanId) -> TraceContext {
        TraceContext {
            trace_id: self.trace_id,
            span_id,
            flags: self.flags,
        }
    }
}

/// The `tracestate` as the hop's span keeps it. One that is longer than W3C asks anybody to
/// pass on stays in the message alone: spans wait in queues.
fn within_span(tracestate: &str) -> String {
    if tracestate.len() > w3c::TRACESTATE_CHARACTERS_MAX {
        return String::new();
    }
    tracestate.to_owned()
}

fn read(traceparent: &Carried<'_>) -> Result<Option<TraceContext>, Invalid> {
    match traceparent {
        Carried::Absent => Ok(None),
        Carried::NotText => Err(Invalid::NotAString),
        Carried::Text(text) => w3c::parse_traceparent(text).map(Some),
    }
}

fn known(id: &str) -> Option<&str> {
    (!id.is_empty()).then_some(id)
}

fn known_or_none<'a>(id: &'a Option<Cow<'_, str>>) -> Option<&'a str> {
    id.as_deref().and_then(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::celery::HeaderValue;

    const ROOT: &str = "50fbde83-f755-40e9-a1de-76192c8eca74";
    const CHILD: &str = "1c8d5ac5-4de4-4b4f-9ad6-5b4b3c7ec2b1";
    const GROUP: &str = "9a0f9d6e-5d8a-4a53-8e0a-3b1f8f1f2a3b";
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

    fn headers(fields: &[(&str, &str)]) -> Headers<'static> {
        let mut headers = Headers::default();
        for (name, value) in fields {
            headers.take(name, HeaderValue::Text(Cow::Owned((*value).to_owned())));
        }
        headers
    }

    fn decide(injector: &Injector, task: &Task<'_>, headers: &Headers<'_>) -> Decision {
        injector.decide(
            task,
            headers,
            Timestamp::default(),
            &mut IdSource::seeded(3),
        )
    }

    /// The headers of a message that was stamped like this.
    fn carrying(decision: &Decision) -> Headers<'static> {
        let stamp = decision.stamp.as_ref().expect("the message was stamped");
        let mut fields = vec![("traceparent", stamp.traceparent.as_str())];
        fields.extend(stamp.tracestate.as_deref().map(|text| ("tracestate", text)));
        headers(&fields)
    }

    #[test]
    fn a_missing_context_follows_from_the_ids_in_the_message() {
        let decision = decide(&injector(|_| {}), &task(ROOT), &headers(&[]));
        assert_eq!(decision.verdict, Verdict::Added);
        assert_eq!(decision.origin, Origin::Derived);
        assert_eq!(decision.kind, SpanKind::Producer);
        assert_eq!(decision.parent, None);
        assert!(decision.recorded);
        let stamp = decision.stamp.unwrap();
        assert_eq!(
            stamp.traceparent,
            "00-50fbde83f75540e9a1de76192c8eca74-7833af78daa79777-03"
        );
        assert_eq!(
            stamp.tracestate.as_deref(),
            Some("tracehop=7833af78daa79777-0")
        );
    }

    #[test]
    fn a_valid_context_of_somebody_else_stays() {
        let carried = headers(&[("traceparent", OTHERS), ("tracestate", "vendor=1")]);
        let decision = decide(&injector(|_| {}), &task(ROOT), &carried);
        assert_eq!(decision.stamp, None);
        assert_eq!(decision.verdict, Verdict::Kept);
        assert_eq!(decision.kind, SpanKind::Client);
        assert_eq!(decision.tracestate, "vendor=1");
        let carried = w3c::parse_traceparent(OTHERS).unwrap();
        assert_eq!(decision.parent, Some(carried.span_id));
        assert_eq!(decision.context.trace_id, carried.trace_id);
        assert_ne!(decision.context.span_id, carried.span_id);
    }

    #[test]
    fn restamping_puts_the_hop_between_producer_and_worker() {
        let injector = injector(|policy| policy.on_valid = OnValid::Restamp);
        let carried = headers(&[("traceparent", OTHERS), ("tracestate", "ot=th:8,vendor=1")]);
        let decision = decide(&injector, &task(ROOT), &carried);
        assert_eq!(decision.verdict, Verdict::Restamped);
        assert_eq!(decision.kind, SpanKind::Producer);
        let stamp = decision.stamp.clone().unwrap();
        assert_eq!(
            stamp.traceparent,
            "00-0af7651916cd43dd8448eb211c80319c-7833af78daa79777-01"
        );
        assert_eq!(
            stamp.tracestate.as_deref(),
            Some("tracehop=7833af78daa79777-0,ot=th:8,vendor=1")
        );
        // A second proxy in the path sees that it is done.
        let second = Injector::new(injector.policy, Sampler::default(), &Limits::default());
        let again = decide(&second, &task(ROOT), &carrying(&decision));
        assert_eq!(again.stamp, None);
        assert_eq!(again.parent, Some(decision.context.span_id));
    }

    #[test]
    fn a_retry_that_brings_our_context_along_is_renewed() {
        for tracestate in [true, false] {
            let injector = injector(|policy| policy.tracestate = tracestate);
            let first = decide(&injector, &task(ROOT), &headers(&[]));
            let mut retry = task(ROOT);
            retry.retries = 1;
            retry.parent_id = Some(ROOT.into());
            // Another replica, which remembers nothing, decides the same.
            let replica = Injector::new(injector.policy, Sampler::default(), &Limits::default());
            for injector in [&injector, &replica] {
                let renewed = decide(injector, &retry, &carrying(&first));
                assert_eq!(renewed.verdict, Verdict::Renewed);
                assert_eq!(renewed.parent, Some(first.context.span_id));
                assert_eq!(renewed.context.trace_id, first.context.trace_id);
                assert_eq!(renewed.context.span_id, derived_span_id("send", ROOT, 1, 0));
            }
        }
    }

    #[test]
    fn a_retry_that_lost_our_context_is_the_child_of_the_attempt_before() {
        let injector = injector(|_| {});
        let first = decide(&injector, &task(ROOT), &headers(&[]));
        let mut retry = task(ROOT);
        retry.retries = 1;
        retry.parent_id = Some(ROOT.into());
        let second = decide(&injector, &retry, &headers(&[]));
        assert_eq!(second.origin, Origin::Inherited);
        assert_eq!(second.parent, Some(first.context.span_id));
        assert_eq!(second.context.trace_id, first.context.trace_id);
    }

    #[test]
    fn a_second_publication_of_the_same_attempt_is_a_sibling() {
        let injector = injector(|_| {});
        let first = decide(&injector, &task(ROOT), &headers(&[]));
        let second = decide(&injector, &task(ROOT), &headers(&[]));
        assert_eq!(second.parent, first.parent);
        assert_eq!(second.context.trace_id, first.context.trace_id);
        assert_ne!(second.context.span_id, first.context.span_id);
    }

    #[test]
    fn a_second_proxy_leaves_both_publications_of_an_attempt_alone() {
        let first = injector(|_| {});
        let second = injector(|_| {});
        for _ in 0..2 {
            let stamped = decide(&first, &task(ROOT), &headers(&[]));
            let passed = decide(&second, &task(ROOT), &carrying(&stamped));
            assert_eq!(passed.stamp, None);
            assert_eq!(passed.parent, Some(stamped.context.span_id));
        }
    }

    #[test]
    fn a_task_published_by_a_task_inherits_its_context() {
        let injector = injector(|_| {});
        let parent = decide(&injector, &task(ROOT), &headers(&[("traceparent", OTHERS)]));
        let mut child = task(CHILD);
        child.root_id = Some(ROOT.into());
        child.parent_id = Some(ROOT.into());
        let decision = decide(&injector, &child, &headers(&[]));
        assert_eq!(decision.origin, Origin::Inherited);
        assert_eq!(decision.parent, Some(parent.context.span_id));
        assert_eq!(decision.context.trace_id, parent.context.trace_id);

        // Where only the root is remembered, the root is the parent.
        child.parent_id = Some("unknown".into());
        child.id = "another".into();
        let decision = decide(&injector, &child, &headers(&[]));
        assert_eq!(decision.parent, Some(parent.context.span_id));
    }

    #[test]
    fn the_members_of_a_group_share_a_trace_and_are_not_each_others_parents() {
        let injector = injector(|_| {});
        for id in [ROOT, CHILD] {
            let mut member = task(id);
            member.group = Some(GROUP.into());
            let decision = decide(&injector, &member, &headers(&[]));
            assert_eq!(
                decision.context.trace_id.to_string(),
                GROUP.replace('-', "")
            );
            assert_eq!(decision.parent, None);
        }
    }

    #[test]
    fn an_invalid_context_is_replaced_together_with_its_tracestate() {
        let mut carried = headers(&[("tracestate", "vendor=1")]);
        carried.take("traceparent", HeaderValue::Integer(5));
        let decision = decide(&injector(|_| {}), &task(ROOT), &carried);
        assert_eq!(decision.verdict, Verdict::Replaced);
        assert_eq!(decision.invalid, Some(Invalid::NotAString));
        let stamp = decision.stamp.unwrap();
        assert_eq!(
            stamp.tracestate.as_deref(),
            Some("tracehop=7833af78daa79777-0")
        );
    }

    #[test]
    fn observing_touches_nothing_and_tells_the_same_trace() {
        let injector = injector(|policy| policy.mode = Mode::Observe);
        for (carried, verdict) in [
            (headers(&[]), Verdict::Missing),
            (headers(&[("traceparent", "none")]), Verdict::Invalid),
        ] {
            let decision = decide(&injector, &task(ROOT), &carried);
            assert_eq!(decision.stamp, None);
            assert_eq!(decision.verdict, verdict);
            assert_eq!(decision.kind, SpanKind::Client);
            assert_eq!(decision.context.trace_id.to_string(), ROOT.replace('-', ""));
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
            let headers = headers(&fields);
            let injector = injector(|policy| {
                if let Some(change) = change {
                    change(policy);
                }
            });
            let stamped = decide(&injector, &task(ROOT), &headers);
            let unstamped = stamped.clone().unstamped(&headers);
            assert_eq!(
                unstamped,
                Decision {
                    stamp: None,
                    tracestate: "a=1".to_owned(),
                    kind: SpanKind::Client,
                    verdict,
                    ..stamped
                }
            );
        }
        let kept = decide(
            &injector(|_| {}),
            &task(ROOT),
            &headers(&[("traceparent", OTHERS)]),
        );
        assert_eq!(kept.clone().unstamped(&Headers::default()), kept);
    }

    #[test]
    fn an_unsampled_hop_still_gets_a_context() {
        let sampler = Sampler::parse("parentbased_always_off", None).unwrap();
        let injector = Injector::new(Policy::default(), sampler, &Limits::default());
        let decision = decide(&injector, &task(ROOT), &headers(&[]));
        assert!(!decision.recorded);
        assert!(decision.stamp.unwrap().traceparent.ends_with("-02"));
        // Its children follow it, whatever the sampler says of roots.
        let mut child = task(CHILD);
        child.parent_id = Some(ROOT.into());
        assert!(!decide(&injector, &child, &headers(&[])).recorded);
        let sampled = headers(&[("traceparent", OTHERS)]);
        assert!(decide(&injector, &task("other"), &sampled).recorded);
    }

    #[test]
    fn without_an_id_the_context_is_fresh() {
        let decision = decide(&injector(|_| {}), &task(""), &headers(&[]));
        assert_eq!(decision.origin, Origin::Fresh);
        assert!(decision.stamp.unwrap().traceparent.ends_with("-03"));
    }

    #[test]
    fn what_is_too_old_is_forgotten() {
        let injector = injector(|_| {});
        let first = decide(&injector, &task(ROOT), &headers(&[]));
        let mut child = task(CHILD);
        child.parent_id = Some(ROOT.into());
        let age = Limits::default().memory_age_max;
        let later = Timestamp::from_nanos(u64::try_from(age.as_nanos()).unwrap());
        let mut ids = IdSource::seeded(1);
        let decision = injector.decide(&child, &headers(&[]), later, &mut ids);
        assert_eq!(decision.parent, Some(first.context.span_id));
        let mut other = task("another");
        other.parent_id = Some(ROOT.into());
        let too_late = Timestamp::from_nanos(later.as_nanos() + 1);
        let decision = injector.decide(&other, &headers(&[]), too_late, &mut ids);
        assert_eq!(decision.origin, Origin::Derived);
    }
}
