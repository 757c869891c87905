//! Which context a message shall carry, and what its spans are.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;

use crate::celery::Carried;
use crate::celery::Carrier;
use crate::celery::Task;
use crate::config::InjectOn;
use crate::config::Limits;
use crate::config::Mode;
use crate::config::OnInvalid;
use crate::config::OnMissing;
use crate::config::OnValid;
use crate::config::Policy;
use crate::config::Rollout;
use crate::config::Spans;
use crate::config::Translate;
use crate::hop::Judgement;
use crate::hop::Passage;
use crate::hop::Quality;
use crate::hop::Scope;
use crate::hop::Verdict;
use crate::hop::lineage::Lineage;
use crate::hop::lineage::Message;
use crate::hop::lineage::Ties;
use crate::hop::lineage::WrittenFor;
use crate::hop::lineage::known_or_none;
use crate::hop::memory::Key;
use crate::hop::memory::Memory;
use crate::hop::memory::Remembered;
use crate::hop::translate::Translated;
use crate::hop::translate::translate;
use crate::trace::IdSource;
use crate::trace::Sampler;
use crate::trace::SpanId;
use crate::trace::SpanKind;
use crate::trace::Timestamp;
use crate::trace::TraceContext;
use crate::trace::TraceId;
use crate::trace::w3c;
use crate::trace::w3c::Invalid;
use crate::trace::w3c::OurMember;

/// Decides about the context of each message, on its way in and on its way out. One for all
/// sessions.
#[derive(Debug)]
pub struct Injector {
    choices: ArcSwap<Choices>,
    /// The choice not to read anything; asked whenever bytes have come.
    is_off: AtomicBool,
    spans: Spans,
    fanout_max: usize,
    memory: Memory,
}

/// What is chosen about contexts, and may be chosen anew while messages pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Choices {
    pub policy: Policy,
    pub translate: Translate,
    pub rollout: Rollout,
    pub sampler: Sampler,
}

/// What is to be done with a message on its way in, and what its hop is.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What to write into the message; `None`: its bytes stay as they are.
    pub stamp: Option<Stamp>,
    pub judgement: Judgement,
}

/// A message on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    pub task: &'a Task<'a>,
    pub carrier: &'a Carrier<'a>,
    /// The queue, or the topic of a broadcast.
    pub destination: &'a str,
    pub scope: Scope<'a>,
    pub passage: &'a Passage,
}

/// What is to be done with a message on its way out, and what its delivery is.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    pub decision: Decision,
    /// When it was published, where that is known.
    pub sent: Option<Timestamp>,
    /// Whether this proxy has seen it published.
    pub is_seen_sent: bool,
    /// The span of the task's run.
    pub process: SpanId,
}

/// The headers to be written into a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub traceparent: String,
    /// The `tracestate` beside it; `None`: there must be none.
    pub tracestate: Option<String>,
}

impl Decision {
    /// The same hop where the message, with this `carrier`, cannot take the stamp: it goes
    /// on as it came.
    #[must_use]
    pub fn unstamped(self, carrier: &Carrier<'_>) -> Self {
        if self.stamp.is_none() {
            return self;
        }
        let judgement = self.judgement;
        Self {
            stamp: None,
            judgement: Judgement {
                tracestate: within_span(judgement.context, carrier.tracestate.text(), false),
                kind: SpanKind::Client,
                verdict: judgement.verdict.if_written(false),
                ..judgement
            },
        }
    }
}

impl Injector {
    /// An injector that remembers as much as `limits` allow.
    #[must_use]
    pub fn new(policy: Policy, sampler: Sampler, limits: &Limits) -> Self {
        let choices = Choices {
            policy,
            translate: Translate::default(),
            rollout: Rollout::default(),
            sampler,
        };
        Self::choosing(choices, Spans::default(), limits)
    }

    /// The same with nothing left to its default.
    #[must_use]
    pub fn choosing(choices: Choices, spans: Spans, limits: &Limits) -> Self {
        Self {
            is_off: AtomicBool::new(choices.policy.mode == Mode::Off),
            choices: ArcSwap::from_pointee(choices),
            spans,
            fanout_max: limits.fanout_max,
            memory: Memory::new(limits.memory_max, limits.memory_age_max),
        }
    }

    /// The same with these choices in place of the defaults.
    #[must_use]
    pub fn with(self, translate: Translate, rollout: Rollout, spans: Spans) -> Self {
        self.choose(Choices {
            translate,
            rollout,
            ..Choices::clone(&self.choices.load())
        });
        Self { spans, ..self }
    }

    /// From the next message on these choices hold, whichever session it comes by. What is
    /// remembered stays.
    pub fn choose(&self, choices: Choices) {
        let is_off = choices.policy.mode == Mode::Off;
        self.choices.store(Arc::new(choices));
        self.is_off.store(is_off, Ordering::Relaxed);
    }

    /// Whether bytes are to pass unread.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.is_off.load(Ordering::Relaxed)
    }

    /// Whether messages are edited at all, at this moment.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.choices.load().policy.mode
    }

    /// Whether anybody wants to know what workers say of the runs of tasks.
    #[must_use]
    pub const fn follows_runs(&self) -> bool {
        self.spans.process
    }

    /// Decides about a publication of `task` with this `carrier`, and remembers it.
    pub fn publish(
        &self,
        task: &Task<'_>,
        carrier: &Carrier<'_>,
        destination: &str,
        scope: Scope<'_>,
        now: Timestamp,
        ids: &mut IdSource,
    ) -> Decision {
        let choices = self.choices.load();
        let message = Message::new(task, carrier.tracestate.text(), scope, &self.memory, now);
        let found = choices.read(carrier, &message);
        let (verdict, lineage) = self.judge(&choices.policy, &message, &found, false, ids);
        let is_due = choices.policy.inject_on != InjectOn::Delivery;
        let is_written =
            verdict.is_written() && is_due && choices.may_edit(task, destination, lineage.trace_id);
        let verdict = verdict.if_written(is_written);
        let span_id = match message.send_span() {
            // Any further publication of the same attempt is a hop of its own.
            Some(span_id) if is_written && lineage.is_told_alike() && message.is_first() => span_id,
            _ => ids.span_id(),
        };
        let decision = choices.decide(&message, &found, verdict, lineage, span_id, Some(now));
        self.remember_publication(&message, &found, &decision);
        decision
    }

    /// Decides about a delivery, and remembers it: what the task publishes will be its
    /// children, whichever connection that comes by.
    pub fn deliver(&self, arrival: &Arrival<'_>, now: Timestamp, ids: &mut IdSource) -> Received {
        let Arrival {
            task,
            carrier,
            scope,
            ..
        } = *arrival;
        let choices = self.choices.load();
        let message = Message::new(task, carrier.tracestate.text(), scope, &self.memory, now);
        let found = choices.read(carrier, &message);
        let (verdict, lineage) = self.judge(&choices.policy, &message, &found, true, ids);
        let is_due = choices.policy.inject_on != InjectOn::Publish;
        let is_written = verdict.is_written()
            && is_due
            && choices.may_edit(task, arrival.destination, lineage.trace_id);
        let verdict = verdict.if_written(is_written);
        let is_derived = match found.context {
            Some(carried) if !is_written => message.send_span() == Some(carried.span_id),
            _ => is_written && lineage.is_told_alike(),
        };
        // Whoever else sees this delivery finds the same spans. Of several deliveries
        // nobody could tell which one is meant.
        let is_only = is_derived
            && !arrival.passage.redelivered
            && !arrival.passage.broadcast
            && !message.seen().is_some_and(|seen| seen.is_delivered);
        let mut span = |leg| match message.span(leg) {
            Some(span_id) if is_only => span_id,
            _ => ids.span_id(),
        };
        let receive = span("receive");
        let process = if self.spans.process {
            span("process")
        } else {
            receive
        };
        let sent = message.sent(found.context);
        let mut decision = choices.decide(&message, &found, verdict, lineage, receive, sent);
        decision.judgement.kind = SpanKind::Client;
        self.remember_delivery(
            &message,
            &found,
            &decision,
            process,
            arrival.passage.broadcast,
        );
        Received {
            decision,
            sent,
            is_seen_sent: message.seen().is_some_and(|seen| seen.is_published),
            process,
        }
    }

    /// What becomes of the message's context if nothing forbids it, and where its span
    /// belongs.
    fn judge(
        &self,
        policy: &Policy,
        message: &Message<'_>,
        found: &Found,
        is_delivery: bool,
        ids: &mut IdSource,
    ) -> (Verdict, Lineage) {
        let Some(carried) = found.context else {
            // One whose name is not in lower case stays where it is, and nobody reads it.
            let is_missing = matches!(found.invalid, None | Some(Invalid::NameNotLowerCase));
            let verdict = match is_missing {
                true if policy.on_missing == OnMissing::Add => Verdict::Added,
                true => Verdict::Missing,
                false if policy.on_invalid == OnInvalid::Replace => Verdict::Replaced,
                false => Verdict::Invalid,
            };
            let lineage = match &found.foreign {
                Some(foreign) => Lineage::translated(foreign),
                None => message.lineage(self.ties(), is_delivery, ids),
            };
            return (verdict, lineage);
        };
        if message.written_for(carried) == WrittenFor::AnotherMessage {
            let seen = message.seen().filter(|seen| seen.is_published);
            let lineage = match (seen, found.translated()) {
                (Some(seen), _) if is_delivery => Lineage::inherited(Some(seen.hop), seen),
                (_, Some(foreign)) => Lineage::translated(foreign),
                _ => Lineage::carried(carried, message.cause_before(carried, self.ties())),
            };
            return (Verdict::Renewed, lineage);
        }
        let is_theirs = message.written_for(carried) == WrittenFor::Unknown;
        let verdict = match policy.on_valid {
            OnValid::Restamp if is_theirs => Verdict::Restamped,
            _ => Verdict::Kept,
        };
        let parent = match (&found.foreign, found.quality) {
            (Some(later), Quality::Stale) => later.context.span_id,
            _ => carried.span_id,
        };
        (verdict, Lineage::carried(carried, parent))
    }

    fn ties(&self) -> Ties<'_> {
        Ties {
            memory: &self.memory,
            cause: if self.spans.process {
                "process"
            } else {
                "send"
            },
            fanout_max: self.fanout_max,
        }
    }

    fn remember_publication(&self, message: &Message<'_>, found: &Found, decision: &Decision) {
        let hop = &decision.judgement;
        let carried = match decision.stamp {
            Some(_) => Some(hop.context.span_id),
            None => found.context.map(|carried| carried.span_id),
        };
        // Of another's context the span of the run is not known before it is delivered.
        let is_derived = carried.is_some() && carried == message.send_span();
        let process = (self.spans.process && is_derived).then(|| message.span("process"));
        let seen = Remembered {
            trace_id: hop.context.trace_id,
            flags: hop.context.flags,
            hop: hop.context.span_id,
            parent: hop.parent,
            carried,
            cause: process.flatten().unwrap_or(hop.context.span_id),
            attempt: message.attempt(),
            at: message.now,
            is_published: true,
            is_delivered: false,
        };
        self.remember(message, seen);
    }

    fn remember_delivery(
        &self,
        message: &Message<'_>,
        found: &Found,
        decision: &Decision,
        process: SpanId,
        is_broadcast: bool,
    ) {
        let delivery = &decision.judgement;
        let seen = message
            .seen()
            .filter(|seen| seen.trace_id == delivery.context.trace_id);
        let cause = match (found.context, seen) {
            // Of many who got it, which one sends what follows cannot be told.
            _ if self.spans.process && !is_broadcast => process,
            (_, Some(seen)) if seen.is_published => seen.cause,
            (Some(carried), _) if decision.stamp.is_none() => carried.span_id,
            _ => delivery.context.span_id,
        };
        let seen = seen.unwrap_or_else(|| Remembered {
            trace_id: delivery.context.trace_id,
            flags: delivery.context.flags,
            hop: found
                .context
                .map_or(delivery.context.span_id, |carried| carried.span_id),
            // That of what the message carries is not known.
            parent: delivery.parent.filter(|_| found.context.is_none()),
            carried: found.context.map(|carried| carried.span_id),
            cause,
            attempt: message.attempt(),
            at: message.now,
            is_published: false,
            is_delivered: false,
        });
        self.remember(
            message,
            Remembered {
                cause,
                is_delivered: true,
                ..seen
            },
        );
    }

    fn remember(&self, message: &Message<'_>, seen: Remembered) {
        if let Some(key) = message.key_to_remember() {
            self.memory.remember(key, seen);
        }
        // The first member speaks for its group: its parent is the one that called the group.
        if let Some(group) = known_or_none(&message.task.group).and_then(Key::group)
            && self.memory.recall(group, message.now).is_none()
        {
            self.memory.remember(group, seen);
        }
    }
}

impl Choices {
    /// What context the message carries.
    fn read(&self, carrier: &Carrier<'_>, message: &Message<'_>) -> Found {
        let (context, invalid) = match read(&carrier.traceparent) {
            Ok(None) if carrier.has_miscased_traceparent => (None, Some(Invalid::NameNotLowerCase)),
            Ok(context) => (context, None),
            Err(invalid) => (None, Some(invalid)),
        };
        let foreign = translate(&carrier.foreign, self.translate);
        let quality = match (context, invalid, &foreign) {
            (Some(carried), _, other) => quality_of(carried, other.as_ref(), message),
            (None, Some(Invalid::NameNotLowerCase) | None, Some(_)) => Quality::Foreign,
            (None, Some(_), _) => Quality::Invalid,
            (None, None, None) => Quality::Missing,
        };
        Found {
            context,
            invalid,
            foreign,
            quality,
        }
    }

    /// Whether messages like this may be edited at all.
    fn may_edit(&self, task: &Task<'_>, destination: &str, trace_id: TraceId) -> bool {
        let Rollout {
            queues,
            tasks,
            inject_ratio,
        } = &self.rollout;
        self.policy.mode == Mode::Inject
            && queues.admits(destination)
            && tasks.admits(&task.name)
            && inject_ratio.covers(trace_id)
    }

    /// The span of this leg, and what is written into the message where anything is.
    fn decide(
        &self,
        message: &Message<'_>,
        found: &Found,
        verdict: Verdict,
        lineage: Lineage,
        span_id: SpanId,
        sent: Option<Timestamp>,
    ) -> Decision {
        let recorded = self.sampler.samples(lineage.sampled, lineage.trace_id);
        let context = TraceContext {
            trace_id: lineage.trace_id,
            span_id,
            flags: lineage.flags.with_sampled(recorded),
        };
        let stamp = verdict.is_written().then(|| {
            let others = match (found.translated(), verdict) {
                (Some(foreign), _) => &foreign.tracestate,
                // It belonged to the traceparent that goes, or to none.
                (None, Verdict::Replaced | Verdict::Added) => "",
                (None, _) => message.tracestate,
            };
            let mark = OurMember {
                span_id,
                sent,
                message: message.digest(),
                beside: found.foreign.as_ref().map(|it| it.context.span_id.tail()),
            };
            self.stamp(&context, mark, others)
        });
        let tracestate = match &stamp {
            Some(stamp) => stamp.tracestate.as_deref().unwrap_or_default(),
            None => message.tracestate,
        };
        let judgement = Judgement {
            context,
            parent: lineage.parent,
            link: lineage.link,
            tracestate: within_span(context, tracestate, stamp.is_some()),
            kind: match stamp {
                Some(_) => SpanKind::Producer,
                None => SpanKind::Client,
            },
            verdict,
            invalid: found.invalid,
            quality: found.quality,
            origin: lineage.origin,
        };
        Decision { stamp, judgement }
    }

    fn stamp(&self, context: &TraceContext, mark: OurMember, others: &str) -> Stamp {
        let tracestate = if self.policy.tracestate {
            Some(mark.lead(others))
        } else {
            // What follows the grammar is text that can be written as it is.
            let members = w3c::tracestate_members(others).join(",");
            (!members.is_empty()).then_some(members)
        };
        Stamp {
            traceparent: w3c::format_traceparent(context),
            tracestate,
        }
    }
}

/// The context that a message carries.
struct Found {
    context: Option<TraceContext>,
    invalid: Option<Invalid>,
    foreign: Option<Translated>,
    quality: Quality,
}

impl Found {
    /// The context of another vendor, where it is the one that counts.
    fn translated(&self) -> Option<&Translated> {
        let counts = self.context.is_none() || self.quality == Quality::Foreign;
        self.foreign.as_ref().filter(|_| counts)
    }
}

/// How good a valid context is, beside another vendor's or alone.
fn quality_of(carried: TraceContext, other: Option<&Translated>, message: &Message<'_>) -> Quality {
    let written_for = message.written_for(carried);
    match other {
        // Ours is of another message. Where it was written beside the other, that is, too.
        Some(other)
            if written_for == WrittenFor::AnotherMessage
                && message.is_newer(other.context, carried) =>
        {
            Quality::Foreign
        }
        _ if written_for == WrittenFor::AnotherMessage => Quality::Stale,
        // Datadog's worker makes what was nested flat, and nests what is new.
        Some(other)
            if written_for == WrittenFor::Unknown
                && message.is_later_attempt()
                && other.continues(carried) =>
        {
            Quality::Stale
        }
        Some(other) if other.context.trace_id != carried.trace_id => Quality::Mixed,
        _ => Quality::Valid,
    }
}

/// The `tracestate` as the hop's span keeps it, where that is recorded. One that does not follow
/// the grammar stays in the message alone; and so does one that is longer than W3C asks anybody
/// to pass on, for spans wait in queues.
fn within_span(context: TraceContext, tracestate: &str, is_ours: bool) -> String {
    let is_kept = context.flags.is_sampled()
        && tracestate.len() <= w3c::TRACESTATE_CHARACTERS_MAX
        && (is_ours || tracestate.is_empty() || !w3c::tracestate_members(tracestate).is_empty());
    if is_kept { tracestate } else { "" }.to_owned()
}

fn read(traceparent: &Carried<'_>) -> Result<Option<TraceContext>, Invalid> {
    match traceparent {
        Carried::Absent => Ok(None),
        Carried::NotText => Err(Invalid::NotAString),
        Carried::Text(text) => w3c::parse_traceparent(text).map(Some),
    }
}

#[cfg(test)]
mod deliveries;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod workflows;
