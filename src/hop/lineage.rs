//! Where the span of a message belongs: what the message says, and what is known of its
//! workflow.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::celery::Task;
use crate::hop::Origin;
use crate::hop::Scope;
use crate::hop::memory::Attempt;
use crate::hop::memory::Key;
use crate::hop::memory::Memory;
use crate::hop::memory::Remembered;
use crate::hop::translate::Translated;
use crate::trace::IdSource;
use crate::trace::MessageDigest;
use crate::trace::SpanId;
use crate::trace::Timestamp;
use crate::trace::TraceContext;
use crate::trace::TraceFlags;
use crate::trace::TraceId;
use crate::trace::derived_ids;
use crate::trace::derived_span_id;
use crate::trace::derived_trace_id;
use crate::trace::w3c::OurMember;

/// A message, and what is known of it beforehand.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) task: &'a Task<'a>,
    pub(super) tracestate: &'a str,
    pub(super) now: Timestamp,
    scope: Scope<'a>,
    attempt: Attempt,
    /// What the task is remembered by.
    key: Option<Key>,
    /// What memory holds of the same task.
    seen: Option<Remembered>,
    /// What one of us has written beside the context.
    mark: Option<OurMember>,
    /// What follows from the message for its publication, once it has been asked for; `None`
    /// without a task id.
    send: OnceCell<Option<(SpanId, MessageDigest)>>,
}

/// For which message a context was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WrittenFor {
    /// By one of us for this very one: by a proxy before this one, or as it was published.
    ThisMessage,
    /// By one of us for another: a worker has copied the headers into a retry, or an app into
    /// another task.
    AnotherMessage,
    /// Whoever wrote it is none of us, and has not said.
    Unknown,
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
        scope: Scope<'a>,
        memory: &Memory,
        now: Timestamp,
    ) -> Self {
        let key = known(&task.id).and_then(|id| Key::task(id, scope));
        Self {
            task,
            tracestate,
            now,
            scope,
            attempt: Attempt {
                replaced: task.replaced,
                retries: task.retries,
            },
            key,
            seen: key.and_then(|key| memory.recall(key, now)),
            mark: OurMember::find(tracestate),
            send: OnceCell::new(),
        }
    }

    pub(super) const fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// What the task is to be remembered by from now on; `None` where it is not, because more
    /// is known of it already: spans of a later attempt have their ids.
    pub(super) fn key_to_remember(&self) -> Option<Key> {
        let is_outdated = |key: Key| key.is_unique() && self.is_seen_after();
        self.key.filter(|key| !is_outdated(*key))
    }

    /// The span of a leg of this attempt when we make its context; `None` where the task's id
    /// could be another's as well.
    pub(super) fn span(&self, leg: &str) -> Option<SpanId> {
        self.has_unique_id()
            .then(|| span(leg, &self.task.id, self.attempt))
    }

    /// The same of its publication.
    pub(super) fn send_span(&self) -> Option<SpanId> {
        let (span_id, _) = self.send()?;
        self.has_unique_id().then_some(span_id)
    }

    /// Which message it is; `None` without a task id.
    pub(super) fn digest(&self) -> Option<MessageDigest> {
        self.send().map(|(_, digest)| digest)
    }

    fn send(&self) -> Option<(SpanId, MessageDigest)> {
        let Attempt { replaced, retries } = self.attempt;
        *self.send.get_or_init(|| {
            let id = known(&self.task.id)?;
            Some(derived_ids("send", id, retries, replaced))
        })
    }

    fn has_unique_id(&self) -> bool {
        self.key.is_some_and(Key::is_unique)
    }

    /// What memory holds of this very attempt.
    pub(super) fn seen(&self) -> Option<Remembered> {
        self.seen.filter(|seen| seen.attempt == self.attempt)
    }

    /// Whether this is the first that is seen of this attempt and all after it.
    pub(super) fn is_first(&self) -> bool {
        self.seen.is_none_or(|seen| seen.attempt < self.attempt)
    }

    fn is_seen_after(&self) -> bool {
        self.seen.is_some_and(|seen| seen.attempt > self.attempt)
    }

    /// For which message the context that it carries was written.
    pub(super) fn written_for(&self, carried: TraceContext) -> WrittenFor {
        let mark = self.mark_of(carried);
        let is_send_span = self
            .send()
            .is_some_and(|(span_id, _)| span_id == carried.span_id);
        if is_send_span || mark.is_some_and(|mark| mark.message == self.digest()) {
            WrittenFor::ThisMessage
        } else if mark.is_some() || self.span_before("send") == Some(carried.span_id) {
            WrittenFor::AnotherMessage
        } else {
            WrittenFor::Unknown
        }
    }

    /// Whether another vendor's context was not there yet when the context of ours that it
    /// carries was written. Version 0.1.0 did not say.
    pub(super) fn is_newer(&self, foreign: TraceContext, carried: TraceContext) -> bool {
        self.mark_of(carried).is_some_and(|mark| {
            mark.message.is_some() && mark.beside != Some(foreign.span_id.tail())
        })
    }

    fn mark_of(&self, carried: TraceContext) -> Option<OurMember> {
        self.mark.filter(|mark| mark.span_id == carried.span_id)
    }

    pub(super) fn is_later_attempt(&self) -> bool {
        self.attempt_before().is_some()
    }

    /// The attempt that this one follows from.
    fn attempt_before(&self) -> Option<Attempt> {
        let Attempt { replaced, retries } = self.attempt;
        // Of the steps of a chain that has replaced a task, which have ids of their own, it is
        // only told how deep they are nested.
        let is_replacement = self.task.parent_id.as_deref() == Some(&*self.task.id);
        match (replaced, retries) {
            (_, 1..) => Some(Attempt {
                replaced,
                retries: retries - 1,
            }),
            // How often the task had been tried that was replaced is not told.
            (1.., 0) if is_replacement => Some(Attempt {
                replaced: replaced - 1,
                retries: 0,
            }),
            _ => None,
        }
    }

    /// When it was published: as seen by this proxy, or as another one has written into it.
    pub(super) fn sent(&self, carried: Option<TraceContext>) -> Option<Timestamp> {
        let seen = self.seen().filter(|seen| seen.is_published);
        // By the same id, and as the same attempt, several may have been published.
        let is_this_one = |seen: &Remembered| match carried {
            Some(carried) => match self.written_for(carried) {
                WrittenFor::ThisMessage => seen.carried == Some(carried.span_id),
                WrittenFor::AnotherMessage => true,
                WrittenFor::Unknown => {
                    seen.carried == Some(carried.span_id) || self.has_unique_id()
                }
            },
            None => true,
        };
        let written = || {
            let mark = self.mark_of(carried?)?;
            let is_of_this = mark.message.is_some() && mark.message == self.digest();
            mark.sent.filter(|_| is_of_this)
        };
        let seen = seen.filter(is_this_one).map(|seen| seen.at);
        seen.or_else(written)
    }

    /// The span that sent this message, which carries our context of another one.
    pub(super) fn cause_before(&self, carried: TraceContext, ties: Ties<'_>) -> SpanId {
        let before = self
            .seen
            .filter(|seen| seen.attempt < self.attempt && seen.trace_id == carried.trace_id);
        match before {
            Some(seen) if seen.hop == carried.span_id => seen.cause,
            // It may be that an earlier one was seen here, and the one before elsewhere.
            _ if self.span_before("send") == Some(carried.span_id) => {
                self.span_before(ties.cause).unwrap_or(carried.span_id)
            }
            Some(seen) if Some(seen.attempt) == self.attempt_before() => seen.cause,
            _ => carried.span_id,
        }
    }

    /// Where the span of a message belongs that carries no context. First that holds wins.
    pub(super) fn lineage(&self, ties: Ties<'_>, is_delivery: bool, ids: &mut IdSource) -> Lineage {
        // The task itself was seen before. A delivery follows from its publication, and an
        // attempt from the one before; so a retry, whose parent_id is its own id, never
        // becomes its own parent.
        if let Some(seen) = self.seen {
            if self.seen().is_some() && is_delivery && seen.is_published {
                return Lineage::inherited(Some(seen.hop), seen);
            }
            if seen.attempt < self.attempt && self.is_later_attempt() {
                return Lineage::inherited(Some(seen.cause), seen);
            }
        }
        let lineage = self.lineage_of_workflow(ties, ids);
        // Published or delivered once more, it is a sibling of what was seen.
        if let Some(seen) = self.seen
            && self.has_unique_id()
        {
            let parent = match self.seen() {
                Some(seen) => seen.parent,
                None => lineage.parent.filter(|_| lineage.trace_id == seen.trace_id),
            };
            return Lineage::inherited(parent, seen);
        }
        let is_beyond = |index| usize::try_from(index).is_ok_and(|index| index >= ties.fanout_max);
        if self.task.group_index.is_some_and(is_beyond) {
            return self.split_off(&lineage, ties, ids);
        }
        lineage
    }

    fn lineage_of_workflow(&self, ties: Ties<'_>, ids: &mut IdSource) -> Lineage {
        let task = self.task;
        let ancestor = |id: &'a Option<Cow<'a, str>>| {
            let id = known_or_none(id).filter(|id| *id != task.id)?;
            ties.memory.recall(Key::task(id, self.scope)?, self.now)
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
            if let Some(key) = known_or_none(group).and_then(Key::group)
                && let Some(seen) = ties.memory.recall(key, self.now)
            {
                return Lineage::inherited(seen.parent, seen);
            }
        }
        match self.derived_trace() {
            Some(trace_id) => Lineage {
                parent: self.derived_parent(ties),
                ..Lineage::begun(trace_id, Origin::Derived)
            },
            None => Lineage::begun(ids.trace_id(), Origin::Fresh),
        }
    }

    /// The trace of an unknown workflow, which is named after its root. The members of a group
    /// that was called outside any task have only the group in common, and whoever waits for
    /// them has only that, too.
    fn derived_trace(&self) -> Option<TraceId> {
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
            .and_then(derived_trace_id)
            .or_else(|| derived_trace_id(known_or_none(&task.root_id).unwrap_or(&task.id)))
    }

    /// The span that has published this message if its context was ours, on whichever
    /// replica: the attempt before, or the first attempt of the task that it names.
    fn derived_parent(&self, ties: Ties<'_>) -> Option<SpanId> {
        if self.is_later_attempt() {
            return self.span_before(ties.cause);
        }
        let parent_id = known_or_none(&self.task.parent_id).filter(|id| *id != self.task.id)?;
        let first = Attempt {
            replaced: 0,
            retries: 0,
        };
        derived_trace_id(parent_id).map(|_| span(ties.cause, parent_id, first))
    }

    /// A trace of its own, for a member of a group that has too many.
    fn split_off(&self, lineage: &Lineage, ties: Ties<'_>, ids: &mut IdSource) -> Lineage {
        let first = known_or_none(&self.task.group)
            .and_then(|id| ties.memory.recall(Key::group(id)?, self.now))
            .map(|seen| seen.hop);
        let own = match derived_trace_id(&self.task.id) {
            Some(trace_id) => Lineage::begun(trace_id, Origin::Derived),
            None => Lineage::begun(ids.trace_id(), Origin::Fresh),
        };
        Lineage {
            parent: self.span_before(ties.cause),
            link: lineage.parent.or(first).map(|span_id| TraceContext {
                trace_id: lineage.trace_id,
                span_id,
                flags: lineage.flags,
            }),
            // Recorded like the rest of the group.
            sampled: lineage.sampled,
            ..own
        }
    }

    /// The span of a leg of the attempt before this one.
    fn span_before(&self, leg: &str) -> Option<SpanId> {
        let before = self.attempt_before().filter(|_| self.has_unique_id())?;
        Some(span(leg, &self.task.id, before))
    }
}

impl Lineage {
    /// Of the first message of a trace.
    const fn begun(trace_id: TraceId, origin: Origin) -> Self {
        Self {
            trace_id,
            flags: TraceFlags::RANDOM,
            parent: None,
            link: None,
            origin,
            sampled: None,
        }
    }

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

    /// Whether every replica finds the same trace for the same message.
    pub(super) const fn is_told_alike(&self) -> bool {
        !matches!(self.origin, Origin::Fresh)
    }

    /// Of a message that follows from one that was seen.
    pub(super) const fn inherited(parent: Option<SpanId>, seen: Remembered) -> Self {
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
