//! The four laws that hold for every session, as functions.
//!
//! Property tests and fuzz targets call the same ones. A law is broken where it panics.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use tracehop::celery::TaskState;
use tracehop::config::Limits;
use tracehop::config::Mode;
use tracehop::config::MovingAddress;
use tracehop::config::Policy;
use tracehop::config::Protocol;
use tracehop::config::Rollout;
use tracehop::config::Spans;
use tracehop::config::Translate;
use tracehop::hop::Answer;
use tracehop::hop::Connection;
use tracehop::hop::Delivery;
use tracehop::hop::Evidence;
use tracehop::hop::Injector;
use tracehop::hop::Origin;
use tracehop::hop::Publication;
use tracehop::hop::Settlement;
use tracehop::hop::Sighting;
use tracehop::hop::TaskKey;
use tracehop::hop::Verdict;
use tracehop::hop::clean;
use tracehop::protocol::HoldBudget;
use tracehop::protocol::Outbox;
use tracehop::protocol::Session;
use tracehop::protocol::Setup;
use tracehop::protocol::Side;
use tracehop::protocol::session;
use tracehop::trace::IdSource;
use tracehop::trace::Sampler;
use tracehop::trace::SpanId;
use tracehop::trace::Timestamp;
use tracehop::trace::TraceId;
use tracehop::trace::derived_span_id;
use tracehop::trace::derived_trace_id;
use tracehop::trace::w3c::format_traceparent;

use crate::edits::assert_only_readdressed;
use crate::edits::edits;

/// What one side says before the other, or a clock, has its say.
#[derive(Clone, PartialEq)]
pub(crate) struct Turn(pub(crate) Side, pub(crate) Vec<u8>);

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} \"{}\"", self.0, self.1.escape_ascii())
    }
}

/// The time at which everything here happens.
pub(crate) const NOW: Timestamp = Timestamp::from_nanos(0x19a_0000_0000 * 1_000_000);

/// When everything that was said has been heard.
const LATER: Timestamp = Timestamp::from_nanos(NOW.as_nanos() + 1_000_000_000);

/// What sessions are set up with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rig {
    pub(crate) protocol: Protocol,
    pub(crate) policy: Policy,
    pub(crate) spans: Spans,
    pub(crate) limits: Limits,
}

impl Rig {
    /// The default policy, and limits that small messages can reach.
    pub(crate) fn new(protocol: Protocol) -> Self {
        let limits = Limits {
            hold_bytes_max: HOLD_BYTES_MAX,
            pending_max: 256,
            ..Limits::default()
        };
        Self {
            protocol,
            policy: Policy::default(),
            spans: Spans::default(),
            limits,
        }
    }

    pub(crate) fn with(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    fn observing(self) -> Self {
        self.with(Policy {
            mode: Mode::Observe,
            ..self.policy
        })
    }

    pub(crate) fn injector(&self) -> Arc<Injector> {
        injector(self.policy, self.spans, &self.limits)
    }

    /// A session of its own: nobody else's memory, the same ids for each.
    pub(crate) fn session(&self) -> Box<dyn Session> {
        let budget = HoldBudget::new(self.limits.hold_total_bytes_max);
        self.session_with(&self.injector(), &budget, 1)
    }

    /// A session that shares its memory and its budget with others.
    pub(crate) fn session_with(
        &self,
        injector: &Arc<Injector>,
        budget: &Arc<HoldBudget>,
        number: u64,
    ) -> Box<dyn Session> {
        let connection = Connection {
            session: number,
            route: "laws".into(),
            server_address: "127.0.0.1".into(),
            server_port: 6379,
            client_address: "127.0.0.1:1".into(),
        };
        let setup = Setup {
            connection: Arc::new(connection),
            injector: Arc::clone(injector),
            limits: Arc::new(self.limits),
            moving_address: MovingAddress::default(),
            budget: Arc::clone(budget),
            ids: IdSource::seeded(number),
        };
        session(self.protocol, setup)
    }
}

/// The largest message held in these tests: small, so that generated ones can exceed it.
pub(crate) const HOLD_BYTES_MAX: usize = 4096;

/// The one place where an injector is made.
pub(crate) fn injector(policy: Policy, spans: Spans, limits: &Limits) -> Arc<Injector> {
    let injector = Injector::new(policy, Sampler::default(), limits);
    Arc::new(injector.with(Translate::default(), Rollout::default(), spans))
}

/// Everything that a session gave back.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) to_client: Vec<u8>,
    pub(crate) to_broker: Vec<u8>,
    pub(crate) sightings: Vec<Sighting>,
}

impl Outcome {
    /// Takes over what is in the outbox and leaves it empty, as the relay does.
    ///
    /// # Panics
    /// Where the session had to be saved from a panic.
    pub(crate) fn take(&mut self, out: &mut Outbox) {
        for sighting in &out.sightings {
            let caught = matches!(sighting, Sighting::LostSight { why: "panic", .. });
            assert!(!caught, "the session panicked");
        }
        self.to_client.extend_from_slice(&out.to_client.split());
        self.to_broker.extend_from_slice(&out.to_broker.split());
        self.sightings.append(&mut out.sightings);
    }

    fn left_for(&self, side: Side) -> &[u8] {
        match side {
            Side::Client => &self.to_client,
            Side::Broker => &self.to_broker,
        }
    }
}

/// Lets both sides have their say, to the end of the connection.
pub(crate) fn play(session: &mut dyn Session, turns: &[Turn]) -> Outcome {
    let mut outcome = talk(session, turns);
    hang_up(session, [Side::Client, Side::Broker], &mut outcome);
    outcome
}

fn talk(session: &mut dyn Session, turns: &[Turn]) -> Outcome {
    let (mut outcome, mut out) = (Outcome::default(), Outbox::default());
    for Turn(side, bytes) in turns {
        say(session, *side, bytes, &mut out);
        outcome.take(&mut out);
    }
    outcome
}

/// As whoever relays has it: what is to pass without a look is not shown.
fn say(session: &mut dyn Session, from: Side, bytes: &[u8], out: &mut Outbox) {
    if !session.pass(from, bytes.len()) {
        return session.receive(from, bytes, NOW, out);
    }
    out.sent_by(from).extend_from_slice(bytes);
}

fn hang_up(session: &mut dyn Session, sides: [Side; 2], outcome: &mut Outcome) {
    let mut out = Outbox::default();
    for side in sides {
        session.finish(side, NOW, &mut out);
    }
    outcome.take(&mut out);
}

/// All that `side` says.
pub(crate) fn said(turns: &[Turn], side: Side) -> Vec<u8> {
    let its = turns.iter().filter(|Turn(speaker, _)| *speaker == side);
    its.flat_map(|Turn(_, bytes)| bytes).copied().collect()
}

/// Law 1: without injection, output equals input, for any bytes at all.
pub(crate) fn transparent(rig: Rig, turns: &[Turn]) {
    for sides in [[Side::Client, Side::Broker], [Side::Broker, Side::Client]] {
        let mut session = rig.observing().session();
        let mut outcome = talk(&mut *session, turns);
        hang_up(&mut *session, sides, &mut outcome);
        let sent = said(turns, Side::Client);
        assert!(
            sent == outcome.to_broker,
            "to the broker: sent {}, left {}",
            sent.escape_ascii(),
            outcome.to_broker.escape_ascii()
        );
        let sent = said(turns, Side::Broker);
        assert!(
            sent == outcome.to_client,
            "to the client: sent {}, left {}",
            sent.escape_ascii(),
            outcome.to_client.escape_ascii()
        );
    }
}

/// Law 2: any split of the input gives the same output and sightings.
pub(crate) fn indifferent_to_chunking(rig: Rig, turns: &[Turn], seed: u64) {
    let whole = play(&mut *rig.session(), turns);
    for cutting in [Cutting::Bytes, Cutting::Joined, Cutting::Random(seed)] {
        let cut = play(&mut *rig.session(), &cutting.of(turns));
        for (name, whole, cut) in [
            ("client", &whole.to_client, &cut.to_client),
            ("broker", &whole.to_broker, &cut.to_broker),
        ] {
            assert!(
                whole == cut,
                "to the {name} in one piece {}, {cutting:?} {}",
                whole.escape_ascii(),
                cut.escape_ascii()
            );
        }
        assert_eq!(whole.sightings, cut.sightings, "{cutting:?}");
    }
}

/// How the turns of a conversation are handed over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cutting {
    /// Byte by byte.
    Bytes,
    /// Turns of one side that follow each other in one piece.
    Joined,
    Random(u64),
}

impl Cutting {
    pub(crate) fn of(self, turns: &[Turn]) -> Vec<Turn> {
        let joined = joined(turns);
        match self {
            Self::Joined => joined,
            Self::Bytes => pieces(&joined, &mut || 1),
            Self::Random(seed) => {
                let mut random = fastrand::Rng::with_seed(seed);
                pieces(&joined, &mut || match random.u8(..) {
                    0..64 => 1,
                    64..160 => random.usize(1..8),
                    160..240 => random.usize(1..200),
                    _ => random.usize(1..5000),
                })
            }
        }
    }
}

fn joined(turns: &[Turn]) -> Vec<Turn> {
    let mut joined: Vec<Turn> = Vec::new();
    for Turn(side, bytes) in turns {
        match joined.last_mut() {
            Some(Turn(last, before)) if last == side => before.extend_from_slice(bytes),
            _ => joined.push(Turn(*side, bytes.clone())),
        }
    }
    joined
}

/// Cuts every turn into pieces as long as `length` says, which is never zero.
fn pieces(turns: &[Turn], length: &mut dyn FnMut() -> usize) -> Vec<Turn> {
    let mut pieces = Vec::new();
    for Turn(side, bytes) in turns {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(length().min(rest.len()));
            pieces.push(Turn(*side, piece.to_vec()));
            rest = after;
        }
    }
    pieces
}

/// Well-formed traffic, and what is to be seen in it.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) turns: Vec<Turn>,
    /// In the order in which it is to be seen.
    pub(crate) expected: Vec<Expected>,
    /// Where, in what each side says, something complete ends: nothing may be held there.
    pub(crate) client_marks: BTreeSet<usize>,
    pub(crate) broker_marks: BTreeSet<usize>,
    /// Whether the connection ends with a reply owed or a transaction open.
    pub(crate) unsettled: bool,
}

/// One thing that must be seen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expected {
    /// A task message on its way out, and what became of it while that could be seen.
    Delivered {
        id: String,
        destination: String,
        redelivered: bool,
        settlement: Option<Settlement>,
    },
    /// What became of a delivery that nobody saw.
    Settled(Settlement),
    Told(TaskState),
    Published(ExpectedPublication),
    Redelivered {
        destination: String,
    },
    LeftAlone,
    Redirected(&'static str),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ExpectedPublication {
    pub(crate) id: String,
    pub(crate) task: String,
    pub(crate) retries: u32,
    pub(crate) destination: String,
    pub(crate) verdict: Verdict,
    /// `None` where the trace is not foretold.
    pub(crate) trace_id: Option<TraceId>,
    /// The span that the message brought with it; `None` where the parent is not foretold.
    pub(crate) parent: Option<SpanId>,
    pub(crate) answer: Answer,
}

/// Where nothing is to be read from some moment on, everything still leaves once and in its
/// place, and nothing that was seen stays open.
pub(crate) fn unread_from(rig: Rig, turns: &[Turn], from: usize) {
    let rig = rig.observing();
    let (before, after) = turns.split_at(from % (turns.len() + 1));
    let mut session = rig.session();
    let mut outcome = talk(&mut *session, before);
    let mut out = Outbox::default();
    session.stop_reading(NOW, &mut out);
    outcome.take(&mut out);
    let rest = talk(&mut *tracehop::protocol::unread(), after);
    for side in [Side::Client, Side::Broker] {
        let left = [outcome.left_for(side), rest.left_for(side)].concat();
        assert!(left == said(turns, side.other()), "to the {side:?}");
    }
    for publication in &seen(&outcome.sightings).things {
        if let Thing::Published(publication, answer) = publication {
            assert!(answer.is_some(), "{:?} stays open", publication.hop);
        }
    }
}

/// Before a stop, what waits for a message is held together with all that comes behind it.
/// What has left is the beginning of what came, whatever pieces it came in.
pub(crate) fn holding_pops(rig: Rig, turns: &[Turn], seed: u64) {
    let rig = rig.observing();
    let said = said(turns, Side::Client);
    let talk_to_one_that_holds = |turns: &[Turn]| {
        let mut session = rig.session();
        session.hold_pops();
        let left = talk(&mut *session, turns).to_broker;
        (left, session.holds_pop())
    };
    let whole = talk_to_one_that_holds(turns);
    let (left, holds) = &whole;
    assert!(said.starts_with(left), "nothing is changed or overtaken");
    let ends_in_time = said.len() - left.len() <= LINE_BYTES_MAX;
    assert!(*holds || ends_in_time, "nothing else is held");
    for cutting in [Cutting::Bytes, Cutting::Joined, Cutting::Random(seed)] {
        let cut = talk_to_one_that_holds(&cutting.of(turns));
        assert!(whole == cut, "{cutting:?}: {} left", cut.0.escape_ascii());
    }
}

/// Law 3: well-formed traffic is never lost sight of, and what we write we can read back,
/// with the same sightings.
pub(crate) fn comprehending(rig: Rig, exchange: &Exchange) {
    nothing_complete_is_held(rig.observing(), exchange);

    let mut first = rig.session();
    let mut outcome = talk(&mut *first, &exchange.turns);
    let edits = edits(&said(&exchange.turns, Side::Client), &outcome.to_broker);
    assert_only_readdressed(&said(&exchange.turns, Side::Broker), &outcome.to_client);
    assert_eq!(
        parts(rig, exchange),
        !exchange.unsettled,
        "parts where nothing is owed"
    );
    hang_up(&mut *first, [Side::Client, Side::Broker], &mut outcome);

    let seen = seen(&outcome.sightings);
    assert_seen(&seen, &exchange.expected);
    let written: Vec<&Publication> = seen.publications().filter(|hop| is_written(hop)).collect();
    assert_eq!(
        written.len(),
        edits.len(),
        "messages said to be written, and those that were"
    );
    for (publication, edit) in written.into_iter().zip(&edits) {
        let task = &publication.task;
        // No id is published twice. One that the app chose, or a trace that is new, is told
        // by nobody else.
        let attempt = derived_span_id("send", task.id(), task.retries, task.replaced);
        let is_derived = publication.judgement.context.span_id == attempt;
        let is_told_alike = publication.judgement.origin != Origin::Fresh;
        assert_eq!(
            is_derived,
            is_told_alike && derived_trace_id(task.id()).is_some()
        );
        assert_eq!(publication.size, edit.before.len());
        let traceparent = format_traceparent(&publication.judgement.context);
        assert_eq!(edit.header("traceparent"), Some(traceparent.into()));
        let tracestate = edit.header("tracestate").unwrap_or_else(|| "".into());
        // It is kept for the span, where there will be one.
        let kept = publication.judgement.tracestate.as_str();
        match publication.judgement.context.flags.is_sampled() {
            true => assert_eq!(tracestate, kept),
            false => assert_eq!(kept, ""),
        }
    }

    // What has grown beyond the limit is no longer read.
    let hold_max = rig.limits.hold_bytes_max;
    if edits.iter().all(|edit| edit.held_bytes() <= hold_max) {
        reads_back(rig, exchange, &outcome);
    }
}

/// Whether a session parts its peers behind that, or begins to.
fn parts(rig: Rig, exchange: &Exchange) -> bool {
    let mut session = rig.session();
    talk(&mut *session, &exchange.turns);
    let mut goodbye = Outbox::default();
    session.part(LATER, &mut goodbye)
        || !(goodbye.to_client.is_empty() && goodbye.to_broker.is_empty())
}

/// Whether the message carries the hop's own context from here.
fn is_written(publication: &Publication) -> bool {
    matches!(
        publication.judgement.verdict,
        Verdict::Added | Verdict::Replaced | Verdict::Renewed | Verdict::Restamped
    )
}

/// Whoever waits for an answer has sent something complete: held, it would never come.
fn nothing_complete_is_held(rig: Rig, exchange: &Exchange) {
    let mut session = rig.session();
    let (mut outcome, mut out) = (Outcome::default(), Outbox::default());
    let (mut sent_by_client, mut sent_by_broker) = (0, 0);
    for Turn(side, bytes) in &exchange.turns {
        session.receive(*side, bytes, NOW, &mut out);
        outcome.take(&mut out);
        match side {
            Side::Client => sent_by_client += bytes.len(),
            Side::Broker => sent_by_broker += bytes.len(),
        }
        if *side == Side::Client && exchange.client_marks.contains(&sent_by_client) {
            assert_eq!(
                outcome.to_broker.len(),
                sent_by_client,
                "a complete request is held"
            );
        }
        if *side == Side::Broker && exchange.broker_marks.contains(&sent_by_broker) {
            assert_eq!(
                outcome.to_client.len(),
                sent_by_broker,
                "a complete reply is held"
            );
        }
    }
}

/// A second session behind the first finds nothing to do, and sees the same.
fn reads_back(rig: Rig, exchange: &Exchange, first: &Outcome) {
    // The second session gets what the first let through; when is of no matter, as long as
    // a reply does not overtake its request.
    let mut turns = Vec::new();
    let mut session = rig.session();
    let mut outcome = Outcome::default();
    for Turn(side, bytes) in &exchange.turns {
        let mut out = Outbox::default();
        session.receive(*side, bytes, NOW, &mut out);
        turns.push(Turn(Side::Client, out.to_broker.to_vec()));
        turns.push(Turn(Side::Broker, out.to_client.to_vec()));
        outcome.take(&mut out);
    }
    assert_eq!(
        first.to_broker, outcome.to_broker,
        "the same input, the same output"
    );
    turns.retain(|Turn(_, bytes)| !bytes.is_empty());

    let second = play(&mut *rig.session(), &turns);
    assert!(
        first.to_broker == second.to_broker,
        "to the broker: written {}, rewritten {}",
        first.to_broker.escape_ascii(),
        second.to_broker.escape_ascii()
    );
    assert_eq!(first.to_client, second.to_client, "to the client");

    let first = seen(&first.sightings);
    let second = seen(&second.sightings);
    assert_eq!(first.lines(), second.lines(), "seen first, and read back");
    for (ours, theirs) in first.publications().zip(second.publications()) {
        // A new trace that travels in no message is told by nobody else.
        if is_written(ours) || ours.judgement.origin != Origin::Fresh {
            assert_eq!(
                ours.judgement.context.trace_id, theirs.judgement.context.trace_id,
                "trace of {:?}",
                ours.task
            );
        }
        let kept = Verdict::Kept;
        let left_as_it_was = matches!(
            theirs.judgement.verdict,
            Verdict::Missing | Verdict::Invalid
        );
        assert!(
            theirs.judgement.verdict == kept || left_as_it_was,
            "read back as {:?}",
            theirs.judgement.verdict
        );
    }
}

/// What was seen, with each publication's answer and each delivery's settlement beside it.
pub(crate) struct Seen {
    pub(crate) things: Vec<Thing>,
}

/// One thing seen; what is no publication, with the session that saw it.
pub(crate) enum Thing {
    Published(Arc<Publication>, Option<Answer>),
    Delivered(Arc<Delivery>, Option<Settlement>),
    /// Of a delivery that was not seen.
    Settled(Settlement),
    Told(TaskKey, TaskState, Evidence),
    Redelivered(u64, String),
    LeftAlone(u64, &'static str),
    Redirected(u64, &'static str),
    LostSight(u64, &'static str),
}

impl Seen {
    pub(crate) fn publications(&self) -> impl Iterator<Item = &Publication> {
        self.things.iter().filter_map(|thing| match thing {
            Thing::Published(publication, _) => Some(&**publication),
            _ => None,
        })
    }

    /// What a second proxy has to see as well.
    fn lines(&self) -> Vec<String> {
        let line = |thing: &Thing| match thing {
            Thing::Published(publication, answer) => {
                let (task, destination) = (&publication.task, &publication.destination);
                format!("published {task:?} to {destination}: {answer:?}")
            }
            Thing::Delivered(delivery, settlement) => {
                let (task, destination) = (&delivery.task, &delivery.destination);
                let passage = &delivery.passage;
                format!("delivered {task:?} from {destination}, {passage:?}: {settlement:?}")
            }
            Thing::Settled(settlement) => format!("settled: {settlement:?}"),
            Thing::Told(_, state, evidence) => format!("told: {state:?} by {evidence:?}"),
            Thing::Redelivered(_, destination) => format!("redelivered to {destination}"),
            Thing::LeftAlone(_, why) => format!("left alone: {why}"),
            Thing::Redirected(_, why) => format!("redirected: {why}"),
            Thing::LostSight(_, why) => format!("lost sight: {why}"),
        };
        self.things.iter().map(line).collect()
    }
}

/// Puts answers and publications together.
///
/// # Panics
/// Where a publication is answered twice, unless it is returned, or before it was seen.
pub(crate) fn seen(sightings: &[Sighting]) -> Seen {
    let mut things = Vec::new();
    for sighting in sightings {
        let thing = match sighting {
            Sighting::Published(publication) => Thing::Published(publication.clone(), None),
            Sighting::Delivered(delivery) => Thing::Delivered(delivery.clone(), None),
            Sighting::Settled {
                receipt,
                settlement,
                ..
            } => {
                let of = things.iter_mut().find_map(|thing| match thing {
                    Thing::Delivered(delivery, of @ None) if delivery.receipt == Some(*receipt) => {
                        Some(of)
                    }
                    _ => None,
                });
                match of {
                    Some(of) => {
                        *of = Some(*settlement);
                        continue;
                    }
                    None => Thing::Settled(*settlement),
                }
            }
            // Of them alone nothing follows: the ledger makes settlements of them.
            Sighting::Announced { .. } | Sighting::AnnouncementDue { .. } => continue,
            Sighting::Told {
                task,
                state,
                evidence,
                ..
            } => Thing::Told(*task, *state, *evidence),
            Sighting::Redelivered {
                connection,
                destination,
            } => Thing::Redelivered(connection.session, destination.to_string()),
            Sighting::LeftAlone { connection, why } => Thing::LeftAlone(connection.session, why),
            Sighting::Redirected { connection, why } => Thing::Redirected(connection.session, why),
            Sighting::LostSight { connection, why } => Thing::LostSight(connection.session, why),
            Sighting::Answered { hop, answer, .. } => {
                let of = things.iter_mut().find_map(|thing| match thing {
                    Thing::Published(publication, of) if publication.hop == *hop => Some(of),
                    _ => None,
                });
                let of = of.unwrap_or_else(|| panic!("{hop:?} is answered and was not seen"));
                let is_return = matches!(answer, Answer::Refused(_));
                match of.replace(answer.clone()) {
                    None => {}
                    Some(Answer::Unanswered) if is_return => {}
                    Some(_) => panic!("{hop:?} is answered twice"),
                }
                continue;
            }
        };
        things.push(thing);
    }
    Seen { things }
}

fn assert_seen(seen: &Seen, expected: &[Expected]) {
    let found: Vec<Expected> = seen
        .things
        .iter()
        .map(|thing| match thing {
            Thing::Published(publication, answer) => Expected::Published(ExpectedPublication {
                id: publication.task.id().to_owned(),
                task: publication.task.name().to_owned(),
                retries: publication.task.retries,
                destination: publication.destination.to_string(),
                verdict: publication.judgement.verdict,
                trace_id: Some(publication.judgement.context.trace_id),
                parent: publication.judgement.parent,
                answer: answer.clone().expect("every publication is answered"),
            }),
            Thing::Delivered(delivery, settlement) => Expected::Delivered {
                id: delivery.task.id().to_owned(),
                destination: delivery.destination.to_string(),
                redelivered: delivery.passage.redelivered,
                settlement: *settlement,
            },
            Thing::Settled(settlement) => Expected::Settled(*settlement),
            Thing::Told(_, state, _) => Expected::Told(*state),
            Thing::Redelivered(_, destination) => Expected::Redelivered {
                destination: destination.clone(),
            },
            Thing::LeftAlone(..) => Expected::LeftAlone,
            Thing::Redirected(_, why) => Expected::Redirected(why),
            Thing::LostSight(_, why) => panic!("lost sight of well-formed traffic: {why}"),
        })
        .collect();
    let mut expected = expected.to_vec();
    for (expected, found) in expected.iter_mut().zip(&found) {
        if let (Expected::Published(expected), Expected::Published(found)) = (expected, found) {
            expected.trace_id = expected.trace_id.or(found.trace_id);
            expected.parent = expected.parent.or(found.parent);
            expected.task = clean(&expected.task).into_owned();
        }
    }
    assert_eq!(found, expected, "what was seen, and what was there");
}

/// Law 4: hostile input neither panics nor makes us hold more than the limit.
pub(crate) fn bounded(rig: Rig, turns: &[Turn]) {
    // Without injection what is held is what went in and has not come out.
    let budget = HoldBudget::new(rig.limits.hold_total_bytes_max);
    let observing = rig.observing();
    let mut session = observing.session_with(&observing.injector(), &budget, 1);
    let (mut outcome, mut out) = (Outcome::default(), Outbox::default());
    let (mut sent_by_client, mut sent_by_broker) = (0, 0);
    for Turn(side, bytes) in turns {
        say(&mut *session, *side, bytes, &mut out);
        outcome.take(&mut out);
        match side {
            Side::Client => sent_by_client += bytes.len(),
            Side::Broker => sent_by_broker += bytes.len(),
        }
        let held = sent_by_client.saturating_sub(outcome.to_broker.len())
            + sent_by_broker.saturating_sub(outcome.to_client.len());
        let max = rig.limits.hold_bytes_max + 2 * LINE_BYTES_MAX;
        assert!(held <= max, "{held} bytes held, {max} may be");
        assert!(budget.held() <= rig.limits.hold_total_bytes_max);
    }
    hang_up(&mut *session, [Side::Client, Side::Broker], &mut outcome);
    assert_eq!(budget.held(), 0, "what was reserved is given back");
    for side in [Side::Client, Side::Broker] {
        let more = outcome.left_for(side).len().saturating_sub(match side {
            Side::Client => sent_by_broker,
            Side::Broker => sent_by_client,
        });
        assert_eq!(more, 0, "more came out than went in");
    }

    // With injection more is done, and it may not panic either.
    play(&mut *rig.session(), turns);
}

/// What a session may hold of each direction besides: a line of which the end is not there.
const LINE_BYTES_MAX: usize = 65 << 10;
