//! Where the span of a message belongs: what the message says, and what is known of its
//! workflow.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::celery::Task;
use crate::hop::Origin;
use crate::hop::memory::Attempt;
use crate::hop::memory::Key;
use crate::hop::memory::Memory;
use crate::hop::memory::Remembered;
use crate::hop::translate::Translated;
use crate::trace::IdSource;
use crate::trace::SpanId;
use crate::trace::Timestamp;
use crate::trace::TraceContext;
use crate::trace::TraceFlags;
use crate::trace::TraceId;
use crate::trace::derived_span_id;
use crate::trace::derived_trace_id;
use crate::trace::w3c::OurMember;

/// A message, and what is known of it beforehand.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) task: &'a Task<'a>,
    pub(super) tracestate: &'a str,
    pub(super) now: Timestamp,
    attempt: Attempt,
    /// What the task is remembered by; `None` without a task id.
    key: Option<Key>,
    /// What memory holds of the same task.
    seen: Option<Remembered>,
    /// The span id of its publication when the context is ours, once it has been asked for;
    /// `None` without a task id.
    send_span: OnceCell<Option<SpanId>>,
}

/// The trace and the parent of a span.
#[derive(Debug)]
pub(super) struct Lineage {
    pub(super) trace_id: TraceId,
    pub(super) flags: TraceFlags,
    pub(super) parent: Option<SpanId>,
    /// The trace that this one was split off from.
    pub(super) link: Option<TraceContext>,
    pub(super) origin: Origin,
    /// Whether the trace is recorded, where somebody has decided that before.
    pub(super) sampled: Option<bool>,
}

/// How the spans of a workflow hang together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ties<'a> {
    pub(super) memory: &'a Memory,
    /// The leg whose span is the parent of what a task sends.
    pub(super) cause: &'static str,
    /// Members of one group that share its trace.
    pub(super) fanout_max: usize,
}

impl<'a> Message<'a> {
    pub(super) fn new(
        task: &'a Task<'a>,
        tracestate: &'a str,
        memory: &Memory,
        now: Timestamp,
    ) -> Self {
        let attempt = Attempt {
            retries: task.retries,
            replaced: task.replaced,
        };
        let key = known(&task.id).map(Key::task);
        Self {
            task,
            tracestate,
            now,
            attempt,
            key,
            seen: key.and_then(|key| memory.recall(key, now)),
            send_span: OnceCell::new(),
        }
    }

    pub(super) const fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// What the task is remembered by; `None` without a task id.
    pub(super) const fn key(&self) -> Option<Key> {
        self.key
    }

    /// The span of a leg of this attempt when the context is ours.
    pub(super) fn span(&self, leg: &str) -> Option<SpanId> {
        known(&self.task.id).map(|id| span(leg, id, self.attempt))
    }

    /// The span of its publication when the context is ours.
    pub(super) fn send_span(&self) -> Option<SpanId> {
        *self.send_span.get_or_init(|| self.span("send"))
    }

    /// What memory holds of this very attempt.
    pub(super) fn seen(&self) -> Option<Remembered> {
        self.seen.filter(|seen| seen.attempt == self.attempt)
    }

    /// The context was written for this very attempt: by a proxy before this one, or at an
    /// earlier publication of the same attempt.
    pub(super) fn is_of_this_attempt(&self, carried: TraceContext) -> bool {
        self.send_span() == Some(carried.span_id)
    }

    /// The context was written by one of us for another attempt, and came along when the
    /// worker copied the headers into a retry.
    pub(super) fn is_of_an_attempt_before(&self, carried: TraceContext) -> bool {
        // A first attempt has none before it: there our context is that of a second
        // publication, to another queue, which a proxy before this one has told apart.
        self.is_later_attempt()
            && !self.is_of_this_attempt(carried)
            && (self.bears_our_mark(carried) || self.span_before("send") == Some(carried.span_id))
    }

    pub(super) const fn is_later_attempt(&self) -> bool {
        self.attempt.retries > 0 || self.attempt.replaced > 0
    }

    /// When it was published: as seen by this proxy, or as another one has written into it.
    pub(super) fn sent(&self, carried: Option<TraceContext>) -> Option<Timestamp> {
        let seen = self.seen().filter(|seen| seen.is_published);
        let written = || {
            let member = OurMember::find(self.tracestate)?;
            let is_ours = carried.is_some_and(|carried| carried.span_id == member.span_id);
            is_ours.then(|| member.sent()).flatten()
        };
        seen.map(|seen| seen.at).or_else(written)
    }

    /// The span that published this attempt, which carries our context of the one before.
    pub(super) fn cause_before(&self, carried: TraceContext, ties: Ties<'_>) -> SpanId {
        let before = self
            .seen
            .filter(|seen| seen.attempt != self.attempt && seen.trace_id == carried.trace_id);
        match before {
            Some(seen) if seen.hop == carried.span_id => seen.cause,
            // It may be that an earlier one was seen here, and the one before elsewhere.
            _ if self.span_before("send") == Some(carried.span_id) => {
                self.span_before(ties.cause).unwrap_or(carried.span_id)
            }
            Some(seen) => seen.cause,
            None => carried.span_id,
        }
    }

    /// Where the span of a message belongs that carries no context. First that holds wins.
    pub(super) fn lineage(&self, ties: Ties<'_>, is_delivery: bool, ids: &mut IdSource) -> Lineage {
        // The task itself was seen before. Of the same attempt: a delivery follows from its
        // publication, and a second publication is a sibling of the first. An earlier
        // attempt is the parent; so a retry, whose parent_id is its own id, never becomes
        // its own parent.
        if let Some(seen) = self.seen {
            let parent = match seen.attempt == self.attempt {
                true if is_delivery && seen.is_published => Some(seen.hop),
                true => seen.parent,
                false => Some(seen.cause),
            };
            return Lineage::inherited(parent, seen);
        }
        let lineage = self.lineage_of_workflow(ties, ids);
        let is_beyond = |index| usize::try_from(index).is_ok_and(|index| index >= ties.fanout_max);
        if self.task.group_index.is_some_and(is_beyond) {
            return self.split_off(&lineage, ties);
        }
        lineage
    }

    fn lineage_of_workflow(&self, ties: Ties<'_>, ids: &mut IdSource) -> Lineage {
        let task = self.task;
        let ancestor = |id: &'a Option<Cow<'a, str>>| {
            let id = known_or_none(id).filter(|id| *id != task.id)?;
            ties.memory.recall(Key::task(id), self.now)
        };
        if let Some(seen) = ancestor(&task.parent_id) {
            return Lineage::inherited(Some(seen.cause), seen);
        }
        if let Some(seen) = ancestor(&task.root_id) {
            let parent = self.derived_parent(ties).unwrap_or(seen.cause);
            return Lineage::inherited(Some(parent), seen);
        }
        // Members of one group are siblings: they share their parent, where it has one. So
        // does whoever waits for them.
        for group in [&task.group, &task.awaited_group] {
            if let Some(id) = known_or_none(group)
                && let Some(seen) = ties.memory.recall(Key::group(id), self.now)
            {
                return Lineage::inherited(seen.parent, seen);
            }
        }
        match self.workflow_id() {
            Some(id) => {
                let (trace_id, flags) = derived_trace_id(id);
                Lineage {
                    trace_id,
                    flags,
                    parent: self.derived_parent(ties),
                    link: None,
                    origin: Origin::Derived,
                    sampled: None,
                }
            }
            None => Lineage {
                trace_id: ids.trace_id(),
                flags: TraceFlags::RANDOM,
                parent: None,
                link: None,
                origin: Origin::Fresh,
                sampled: None,
            },
        }
    }

    /// What the trace of an unknown workflow is named after: the members of a group that
    /// was called outside any task have only the group in common, and whoever waits for
    /// them has only that, too.
    fn workflow_id(&self) -> Option<&str> {
        let task = self.task;
        let root = known_or_none(&task.root_id).filter(|id| *id != task.id);
        let sender = known_or_none(&task.parent_id).filter(|id| *id != task.id);
        // The body of a chord is sent by the member that ended last, which was its own root.
        let is_body = root == sender && task.group_index.is_none();
        let is_outside = root.is_none() && sender.is_none() || is_body;
        let group = [&task.group, &task.awaited_group]
            .into_iter()
            .find_map(known_or_none)
            .filter(|_| is_outside);
        group
            .or_else(|| known_or_none(&task.root_id))
            .or_else(|| known(&task.id))
    }

    /// The span that has published this message if its context was ours, on whichever
    /// replica: the attempt before, or the first attempt of the task that it names.
    fn derived_parent(&self, ties: Ties<'_>) -> Option<SpanId> {
        if self.is_later_attempt() {
            return self.span_before(ties.cause);
        }
        let parent_id = known_or_none(&self.task.parent_id)?;
        (parent_id != self.task.id).then(|| {
            let first = Attempt {
                retries: 0,
                replaced: 0,
            };
            span(ties.cause, parent_id, first)
        })
    }

    /// A trace of its own, for a member of a group that has too many.
    fn split_off(&self, lineage: &Lineage, ties: Ties<'_>) -> Lineage {
        let first = known_or_none(&self.task.group)
            .and_then(|id| ties.memory.recall(Key::group(id), self.now))
            .map(|seen| seen.hop);
        let (trace_id, flags) = derived_trace_id(&self.task.id);
        Lineage {
            trace_id,
            flags,
            parent: self.span_before(ties.cause),
            link: lineage.parent.or(first).map(|span_id| TraceContext {
                trace_id: lineage.trace_id,
                span_id,
                flags: lineage.flags,
            }),
            origin: Origin::Derived,
            // Recorded like the rest of the group.
            sampled: lineage.sampled,
        }
    }

    /// The span of a leg of the attempt before this one.
    fn span_before(&self, leg: &str) -> Option<SpanId> {
        let Attempt { retries, replaced } = self.attempt;
        let before = match (retries, replaced) {
            (0, 0) => return None,
            // How often the task had been tried that was replaced is not told.
            (0, _) => Attempt {
                retries: 0,
                replaced: replaced - 1,
            },
            _ => Attempt {
                retries: retries - 1,
                replaced,
            },
        };
        known(&self.task.id).map(|id| span(leg, id, before))
    }

    fn bears_our_mark(&self, carried: TraceContext) -> bool {
        OurMember::find(self.tracestate).is_some_and(|member| member.span_id == carried.span_id)
    }
}

impl Lineage {
    /// Of a message that carries a context.
    pub(super) const fn carried(carried: TraceContext, parent: SpanId) -> Self {
        Self {
            trace_id: carried.trace_id,
            flags: carried.flags,
            parent: Some(parent),
            link: None,
            origin: Origin::Carried,
            sampled: Some(carried.flags.is_sampled()),
        }
    }

    /// Of a message that carries another vendor's.
    pub(super) const fn translated(foreign: &Translated) -> Self {
        Self {
            origin: Origin::Translated,
            sampled: foreign.sampled,
            ..Self::carried(foreign.context, foreign.context.span_id)
        }
    }

    const fn inherited(parent: Option<SpanId>, seen: Remembered) -> Self {
        Self {
            trace_id: seen.trace_id,
            flags: seen.flags,
            parent,
            link: None,
            origin: Origin::Inherited,
            sampled: Some(seen.flags.is_sampled()),
        }
    }
}

fn span(leg: &str, id: &str, attempt: Attempt) -> SpanId {
    derived_span_id(leg, id, attempt.retries, attempt.replaced)
}

pub(super) fn known(id: &str) -> Option<&str> {
    (!id.is_empty()).then_some(id)
}

pub(super) fn known_or_none<'a>(id: &'a Option<Cow<'_, str>>) -> Option<&'a str> {
    id.as_deref().and_then(known)
}
