//! The stage on which steps are played: a Redis, as far as one connection can tell.

use std::collections::BTreeSet;
use std::collections::HashMap;

use fastrand::Rng;
use proptest::sample::Index;

use tracehop::config::OnValid;
use tracehop::config::Policy;
use tracehop::hop::Answer;
use tracehop::hop::Settlement;
use tracehop::hop::Verdict;
use tracehop::protocol::Side;
use tracehop::trace::TraceContext;
use tracehop::trace::TraceId;
use tracehop::trace::derived_trace_id;

use crate::envelope::Envelope;
use crate::envelope::Facts;
use crate::laws::Exchange;
use crate::laws::Expected;
use crate::laws::ExpectedPublication;
use crate::laws::HOLD_BYTES_MAX;
use crate::laws::Turn;
use crate::resp::Resp;
use crate::resp::request;

use super::message::IdShape;
use super::message::Message;
use super::message::Tie;
use super::message::Value;
use super::message::pad;
use super::step::End;
use super::step::Inner;
use super::step::Kind;
use super::step::Pop;
use super::step::Publish;
use super::step::PublishOutcome;
use super::step::Push;
use super::step::Queue;
use super::step::REFUSED_FOR_TRANSACTION;
use super::step::ReplyMode;
use super::step::Settling;
use super::step::Step;

/// A Redis and its client, as far as one connection can tell.
pub(super) struct Stage {
    restamps: bool,
    random: Rng,
    client: Vec<u8>,
    client_marks: BTreeSet<usize>,
    /// Where each request ends.
    ends: Vec<usize>,
    /// What the broker says.
    broker: Vec<Saying>,
    expected: Vec<Thing>,
    /// The tags of what was delivered and is not settled.
    taken: Vec<String>,
    /// The tasks seen so far, and their traces as far as foretold.
    known: Vec<String>,
    traces: HashMap<String, Option<TraceId>>,
    messages: usize,
    resp3: bool,
    /// `CLIENT REPLY OFF`
    quiet: bool,
    /// `CLIENT REPLY SKIP`
    skips: bool,
    /// A subscription has failed, and nothing has come since that tells.
    doubtful: bool,
    /// What was not answered since then.
    in_doubt: Vec<usize>,
    channels: Vec<&'static str>,
    patterns: Vec<&'static str>,
    shards: Vec<&'static str>,
    transaction_open: bool,
    ended: bool,
    vanished: usize,
}

/// One thing that must be seen.
struct Thing {
    expected: Expected,
    at: At,
    /// The reply that answers it.
    answered_by: Option<usize>,
    /// The tag of a delivery, or of what is settled.
    tag: Option<String>,
}

/// Where something is seen: as soon as so much has come.
#[derive(Clone, Copy)]
enum At {
    /// So many bytes of what the client says.
    Client(usize),
    /// All but so many bytes of this saying of the broker.
    Broker { saying: usize, but: usize },
}

/// A message as it stands on the wire.
struct Written {
    bytes: Vec<u8>,
    facts: Facts,
    verdict: Verdict,
    /// The span that it continues, where one of its contexts says so.
    continued: Option<TraceContext>,
    tag: String,
}

impl Written {
    fn is_too_large(&self) -> bool {
        self.bytes.len() > HOLD_BYTES_MAX
    }

    /// How much need not have come of what ends with it: it is seen when it is whole, and
    /// that it is too large when it begins.
    fn not_needed(&self) -> usize {
        if self.is_too_large() {
            self.bytes.len() - 1 + "\r\n".len()
        } else {
            0
        }
    }
}

struct Saying {
    bytes: Vec<u8>,
    /// The requests that it comes after.
    after: usize,
    is_reply: bool,
}

impl Stage {
    pub(super) fn new(policy: Policy, seed: u64) -> Self {
        Self {
            restamps: policy.on_valid == OnValid::Restamp,
            random: Rng::with_seed(seed),
            client: Vec::new(),
            client_marks: BTreeSet::new(),
            ends: Vec::new(),
            broker: Vec::new(),
            expected: Vec::new(),
            taken: Vec::new(),
            known: Vec::new(),
            traces: HashMap::new(),
            messages: 0,
            resp3: false,
            quiet: false,
            skips: false,
            doubtful: false,
            in_doubt: Vec::new(),
            channels: Vec::new(),
            patterns: Vec::new(),
            shards: Vec::new(),
            transaction_open: false,
            ended: false,
            vanished: 0,
        }
    }

    pub(super) fn play(&mut self, step: &Step) {
        if self.ended {
            return;
        }
        match step {
            Step::Call {
                command,
                arguments,
                resp2,
                resp3,
            } => {
                let reply = if self.resp3 { resp3 } else { resp2 };
                self.call(&with(command, arguments), reply.clone());
            }
            Step::Publish(publish) => self.publish(publish),
            Step::Transaction { watch, inner, end } => self.transaction(*watch, inner, *end),
            Step::Restore { message, at_head } => self.restore(message, *at_head),
            Step::Pop {
                pop,
                message,
                redelivered,
            } => self.pop(*pop, message.as_ref(), *redelivered),
            Step::Settle { which, how } => self.settle(which, *how),
            // Who is confirmed what is anybody's guess.
            Step::Subscribe { .. } | Step::Unsubscribe { .. } if self.doubtful => {}
            Step::Subscribe { kind, names } => self.subscribe(*kind, names),
            Step::Unsubscribe { kind, names } => self.unsubscribe(*kind, names),
            Step::SubscribeForbidden { .. } if self.doubtful => {}
            Step::SubscribeForbidden { kind, names } => {
                let command = kind.word("SUBSCRIBE");
                let why = "NOPERM No permissions to access a channel".to_owned();
                self.doubtful = self
                    .call_allowed(&with(&command, names), Resp::Error(why))
                    .is_none();
            }
            Step::Refused(words) => {
                let why = format!("ERR wrong number of arguments for '{}' command", words[0]);
                self.call(words, Resp::Error(why));
            }
            Step::Message { which, message } => self.message(which, message.as_ref()),
            Step::Push(push) => self.push(push),
            Step::Ping { payload } => self.ping(*payload),
            Step::Hello { version, refused } => self.hello(*version, *refused),
            Step::Reset => {
                self.reset();
            }
            Step::Auth { refused } => {
                let reply = verdict(*refused, "WRONGPASS invalid username-password pair");
                self.call(&["AUTH", "user", "pass word"], reply);
            }
            Step::Select { refused } => {
                let reply = verdict(*refused, "ERR DB index is out of range");
                self.call(&["SELECT", "3"], reply);
            }
            Step::Maintenance { refused } => {
                let reply = verdict(*refused, "ERR unknown subcommand 'MAINT_NOTIFICATIONS'");
                let wish = ["ON", "moving-endpoint-type", "internal-ip"];
                self.call(
                    &[["CLIENT", "MAINT_NOTIFICATIONS"].as_slice(), &wish].concat(),
                    reply,
                );
            }
            Step::Redirect(words, reply, why) => {
                let is_refused = self.is_restricted();
                let saying = self.call(words, reply.clone());
                if let Some(saying) = saying.filter(|_| !is_refused) {
                    self.expect(Expected::Redirected(why), At::Broker { saying, but: 0 });
                }
            }
            Step::Reply(mode) => self.reply_mode(*mode),
            Step::Nothing(bytes) => {
                // Even nothing counts as the command to be skipped.
                self.skips = false;
                self.client.extend_from_slice(bytes);
                self.client_marks.insert(self.client.len());
            }
            Step::Quit => {
                self.call(&["QUIT"], Resp::ok());
                self.ended = true;
            }
            Step::Vanish { replies } => {
                self.vanished = *replies;
                self.ended = true;
            }
        }
    }

    // What the client says, and whether it is answered.

    /// Sends a request and has it answered; says which of the broker's sayings the answer is.
    fn call<A: AsRef<[u8]>>(&mut self, arguments: &[A], reply: Resp) -> Option<usize> {
        let reply = self.refusal(arguments[0].as_ref()).unwrap_or(reply);
        self.call_allowed(arguments, reply)
    }

    /// The same for what a client may ask that is subscribed.
    fn call_allowed<A: AsRef<[u8]>>(&mut self, arguments: &[A], reply: Resp) -> Option<usize> {
        self.send(arguments, false).then(|| self.say(&reply, true))
    }

    /// Sends a request; says whether the broker's answer is heard. A request that `carries` a
    /// message is never sent inline.
    fn send<A: AsRef<[u8]>>(&mut self, arguments: &[A], carries: bool) -> bool {
        let mut arguments: Vec<Vec<u8>> = arguments
            .iter()
            .map(|argument| argument.as_ref().to_vec())
            .collect();
        if self.random.u8(..4) == 0 {
            arguments[0].make_ascii_lowercase();
        }
        // Quotes are no beginning by which RESP could be told from other protocols.
        if !carries && !self.ends.is_empty() && self.random.u8(..8) == 0 {
            let end: &[u8] = if self.random.bool() { b"\r\n" } else { b"\n" };
            let words: Vec<Vec<u8>> = arguments
                .iter()
                .map(|word| inline_word(word, &mut self.random))
                .collect();
            self.client.extend_from_slice(&words.join(b" ".as_slice()));
            self.client.extend_from_slice(end);
        } else {
            self.client.extend_from_slice(&request(&arguments));
        }
        self.ends.push(self.client.len());
        self.client_marks.insert(self.client.len());
        !std::mem::take(&mut self.skips) && !self.quiet
    }

    fn say(&mut self, saying: &Resp, is_reply: bool) -> usize {
        self.broker.push(Saying {
            bytes: saying.bytes(),
            after: self.ends.len(),
            is_reply,
        });
        let saying = self.broker.len() - 1;
        if is_reply {
            self.doubtful = false;
            let things = std::mem::take(&mut self.in_doubt);
            self.answer(&things, Answer::Unread, Some(saying));
        }
        saying
    }

    /// These are not answered. That is known once all that was asked before is.
    fn leave_unanswered(&mut self, things: &[usize]) {
        if self.doubtful {
            self.in_doubt.extend_from_slice(things);
        } else {
            let last = self.broker.iter().rposition(|saying| saying.is_reply);
            self.answer(things, Answer::Unread, last);
        }
    }

    /// What a client of version 2 hears that is subscribed and asks for anything else.
    fn refusal(&self, command: &[u8]) -> Option<Resp> {
        let allowed = ["PING", "QUIT", "RESET", "SUBSCRIBE", "PSUBSCRIBE"];
        let allowed = allowed
            .iter()
            .any(|name| command.eq_ignore_ascii_case(name.as_bytes()));
        let command = String::from_utf8_lossy(command).to_lowercase();
        (self.is_restricted() && !allowed).then(|| {
            Resp::Error(format!(
                "ERR Can't execute '{command}': only (P|S)SUBSCRIBE / … are allowed"
            ))
        })
    }

    fn is_restricted(&self) -> bool {
        let subscribed = [&self.channels, &self.patterns, &self.shards];
        !self.resp3 && subscribed.iter().any(|names| !names.is_empty())
    }

    fn null(&self) -> Resp {
        if self.resp3 {
            Resp::Null
        } else {
            Resp::NullArray
        }
    }

    // Publications.

    fn publish(&mut self, publish: &Publish) {
        let refusal = self.refusal(publish.command.as_bytes());
        let (things, heard) = self.send_publication(publish);
        let (reply, answer) = match refusal {
            Some(refusal) => (refusal.clone(), Answer::Refused(words(&refusal).into())),
            None => self.outcome(&publish.outcome),
        };
        if heard {
            let saying = self.say(&reply, true);
            self.answer(&things, answer, Some(saying));
        } else {
            self.leave_unanswered(&things);
        }
    }

    /// Sends it; says which of the things expected it brought, and whether it is answered.
    fn send_publication(&mut self, publish: &Publish) -> (Vec<usize>, bool) {
        let (key, destination): (&[u8], &str) = match (publish.command, publish.queue) {
            ("PUBLISH", _) => (b"/0.bcast", "/0.bcast"),
            (_, Queue::Plain) => (b"celery", "celery"),
            (_, Queue::Priority) => (b"pfx:celery\x06\x169", "pfx:celery"),
            (_, Queue::OddName) => (b"a queue:3", "a queue:3"),
        };
        let mut arguments = vec![publish.command.as_bytes().to_vec(), key.to_vec()];
        let mut things = Vec::new();
        for value in &publish.values {
            match value {
                Value::Other(bytes) => arguments.push(bytes.clone()),
                Value::Task(message) => {
                    let (written, expected) = self.envelope(message, destination);
                    let but = written.not_needed();
                    arguments.push(written.bytes);
                    things.push((arguments.len(), but, expected));
                }
            }
        }
        let heard = self.send(&arguments, true);
        let things = things.into_iter().map(|(place, but, expected)| {
            let behind = arguments[place..].iter().map(Resp::bulk);
            let behind: usize = behind.map(|argument| argument.bytes().len()).sum();
            self.expect(expected, At::Client(self.client.len() - behind - but))
        });
        (things.collect(), heard)
    }

    fn expect(&mut self, expected: Expected, at: At) -> usize {
        self.expected.push(Thing {
            expected,
            at,
            answered_by: None,
            tag: None,
        });
        self.expected.len() - 1
    }

    /// What the client has said last settles something, once it is answered, or else once all
    /// that was asked before is.
    fn expect_settled(&mut self, tag: String, settlement: Settlement, answer: Option<usize>) {
        let at = At::Client(self.client.len());
        let last = || self.broker.iter().rposition(|saying| saying.is_reply);
        let answered_by = answer.or_else(last);
        let thing = self.expect(Expected::Settled(settlement), at);
        self.expected[thing].tag = Some(tag);
        self.expected[thing].answered_by = answered_by;
    }

    fn answer(&mut self, things: &[usize], answer: Answer, by: Option<usize>) {
        for thing in things {
            let thing = &mut self.expected[*thing];
            if let Expected::Published(publication) = &mut thing.expected {
                publication.answer = answer.clone();
                thing.answered_by = by;
            }
        }
    }

    fn outcome(&self, outcome: &PublishOutcome) -> (Resp, Answer) {
        let refusal = "OOM command not allowed when used memory > 'maxmemory'.";
        match outcome {
            PublishOutcome::TakenWithAttributes(number) if self.resp3 => {
                let attributes = vec![(Resp::bulk("ttl"), Resp::Array(vec![Resp::Integer(1)]))];
                let number = Box::new(Resp::Integer(*number));
                (Resp::Attributed(attributes, number), Answer::Confirmed)
            }
            PublishOutcome::Taken(number) | PublishOutcome::TakenWithAttributes(number) => {
                (Resp::Integer(*number), Answer::Confirmed)
            }
            PublishOutcome::RefusedInBlob if self.resp3 => (
                Resp::BlobError(refusal.into()),
                Answer::Refused(refusal.into()),
            ),
            PublishOutcome::Refused | PublishOutcome::RefusedInBlob => (
                Resp::Error(refusal.to_owned()),
                Answer::Refused(refusal.into()),
            ),
        }
    }

    /// The text of a message, and what is to be seen when it is published.
    fn envelope(&mut self, message: &Message, destination: &str) -> (Written, Expected) {
        let written = self.written(message, false);
        if written.is_too_large() {
            return (written, Expected::LeftAlone);
        }
        let facts = written.facts.clone();
        let trace_id = match written.continued {
            Some(continued) => Some(continued.trace_id),
            None => self.foretold(&facts, message.protocol_1),
        };
        self.known.push(facts.id.clone());
        // One that the app chose is known only in the same database.
        let found_by_id = trace_id.filter(|_| derived_trace_id(&facts.id).is_some());
        self.traces.insert(facts.id.clone(), found_by_id);
        let publication = ExpectedPublication {
            id: facts.id,
            task: facts.name,
            retries: facts.retries,
            destination: destination.to_owned(),
            verdict: written.verdict,
            trace_id,
            parent: written.continued.map(|continued| continued.span_id),
            answer: Answer::Lost,
        };
        (written, Expected::Published(publication))
    }

    fn written(&mut self, message: &Message, redelivered: bool) -> Written {
        self.messages += 1;
        let id = match message.id {
            IdShape::Uuid => self.uuid(),
            IdShape::Word => format!("nightly-{}", self.messages),
            IdShape::Escaped => format!("n\u{e4}chtlich \"{}\"\u{1f600}", self.messages),
        };
        let tie = |tie: &Tie, known: &[String]| match tie {
            Tie::None => None,
            Tie::Own => Some(id.clone()),
            Tie::Earlier(_) if known.is_empty() => None,
            Tie::Earlier(index) => Some(index.get(known).clone()),
            Tie::Stranger => Some("11111111-2222-4333-8444-555555555555".to_owned()),
        };
        let facts = Facts {
            name: message.name.clone(),
            root_id: tie(&message.root, &self.known),
            parent_id: tie(&message.parent, &self.known),
            group: message
                .group
                .then(|| "99999999-2222-4333-8444-555555555555".to_owned()),
            retries: message.retries,
            replaced: if message.protocol_1 {
                0
            } else {
                message.replaced
            },
            id,
        };
        let mut envelope = if message.protocol_1 {
            Envelope::protocol_1(&facts)
        } else {
            Envelope::protocol_2(&facts)
        };
        envelope.headers.extend(message.extra.iter().cloned());
        let (headers, verdict, carried) = message.context.written(&facts, self.restamps);
        let place = message.place.index(envelope.headers.len() + 1);
        for (name, value) in headers.into_iter().rev() {
            envelope.headers.insert(place, (name.to_owned(), value));
        }
        envelope.layout = message.layout;
        envelope.rotation = message.rotation;
        envelope.redelivered = redelivered;
        envelope.delivery_tag = self.uuid();
        pad(&mut envelope, message.padding);
        Written {
            bytes: envelope.bytes(),
            continued: message.continued(carried, &facts),
            facts,
            verdict,
            tag: envelope.delivery_tag,
        }
    }

    /// The trace of a message that carries none, where that is beyond doubt.
    fn foretold(&self, facts: &Facts, protocol_1: bool) -> Option<TraceId> {
        if protocol_1 {
            return None;
        }
        let parent = facts.parent_id.as_ref().and_then(|id| self.traces.get(id));
        let root = facts.root_id.as_ref().and_then(|id| self.traces.get(id));
        match parent.or(root) {
            Some(trace_id) => *trace_id,
            // Named after the group, whose first member may have been seen with a context.
            None if facts.group.is_some() || facts.name == CHORD_UNLOCK => None,
            None => facts
                .root_id
                .as_ref()
                .filter(|id| **id == facts.id)
                .and_then(|id| derived_trace_id(id)),
        }
    }

    fn uuid(&mut self) -> String {
        let (high, low) = (self.random.u64(..), self.random.u64(..));
        format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xfff,
            low >> 48 & 0xfff,
            low & 0xffff_ffff_ffff
        )
    }

    // Transactions.

    fn transaction(&mut self, watch: bool, inner: &[Inner], end: End) {
        if self.is_restricted() {
            return;
        }
        // A retry may carry the mark of a redelivery, but not where messages are put back.
        if watch && !inner.iter().any(Inner::has_redelivery_mark) {
            self.call(&["WATCH", "k"], Resp::ok());
        }
        self.call(&["MULTI"], Resp::ok());
        let queued = || Resp::Simple("QUEUED".to_owned());
        let (mut results, mut aborted, mut open) = (Vec::new(), false, Vec::new());
        for inner in inner {
            match inner {
                Inner::Call {
                    arguments,
                    resp2,
                    resp3,
                } => {
                    self.call(&with("HSET", arguments), queued());
                    results.push(if self.resp3 {
                        resp3.clone()
                    } else {
                        resp2.clone()
                    });
                }
                Inner::Publish(publish) => {
                    let (things, heard) = self.send_publication(publish);
                    let (result, answer) = self.outcome(&publish.outcome);
                    results.push(result);
                    if heard {
                        self.say(&queued(), true);
                        open.push((things, answer));
                    } else {
                        self.leave_unanswered(&things);
                    }
                }
                Inner::Unqueued(publish) => {
                    let refusal = Resp::Error("ERR wrong number of arguments".to_owned());
                    aborted = true;
                    match publish {
                        Some(publish) => {
                            let (things, heard) = self.send_publication(publish);
                            if heard {
                                let by = Some(self.say(&refusal, true));
                                self.answer(&things, Answer::Refused(words(&refusal).into()), by);
                            } else {
                                self.leave_unanswered(&things);
                            }
                        }
                        None => {
                            let which = self.random.usize(..REFUSED_FOR_TRANSACTION.len());
                            self.call(REFUSED_FOR_TRANSACTION[which], refusal);
                        }
                    }
                }
                Inner::Refused(words) => {
                    let error = format!("ERR {} inside MULTI is not allowed", words[0]);
                    self.call(words, Resp::Error(error));
                }
            }
        }
        let (by, answered) = match end {
            End::Exec if aborted => (
                self.call(&["EXEC"], Resp::Error(EXECABORT.to_owned())),
                false,
            ),
            End::ExecRefused => (
                self.call(&["EXEC", "x"], Resp::Error(EXECABORT.to_owned())),
                false,
            ),
            End::Exec => (self.call(&["EXEC"], Resp::Array(results)), true),
            End::ExecAborted => (self.call(&["EXEC"], self.null()), false),
            End::Discard => (self.call(&["DISCARD"], Resp::ok()), false),
            End::Reset => (self.reset(), false),
            End::Quit | End::Open => {
                if end == End::Quit {
                    self.call(&["QUIT"], Resp::ok());
                }
                self.ended = true;
                self.transaction_open = true;
                (None, false)
            }
        };
        for (things, answer) in open {
            let answer = match end {
                End::Quit | End::Open => Answer::Lost,
                _ if answered => answer,
                End::Exec | End::ExecRefused => Answer::Refused(EXECABORT.into()),
                _ => Answer::Discarded,
            };
            self.answer(&things, answer, by);
        }
    }

    fn restore(&mut self, message: &Message, at_head: bool) {
        if self.is_restricted() || self.doubtful {
            return;
        }
        let written = self.written(message, true);
        let tag = &written.tag;
        let expected = if written.is_too_large() {
            Expected::LeftAlone
        } else {
            Expected::Redelivered {
                destination: "celery".to_owned(),
            }
        };
        self.call(&["WATCH", "unacked"], Resp::ok());
        self.call(
            &["HGET", "unacked", tag],
            Resp::bulk("[…, \"\", \"celery\"]"),
        );
        self.call(&["MULTI"], Resp::ok());
        let queued = Resp::Simple("QUEUED".to_owned());
        self.call(&["ZREM", "unacked_index", tag], queued.clone());
        self.call(&["HDEL", "unacked", tag], queued.clone());
        let command: &[u8] = if at_head { b"RPUSH" } else { b"LPUSH" };
        let heard = self.send(&[command, b"celery".as_slice(), &written.bytes], true);
        self.expect(
            expected,
            At::Client(self.client.len() - written.not_needed()),
        );
        if heard {
            self.say(&queued, true);
        }
        let one = Resp::Integer(1);
        let results = Resp::Array(vec![one.clone(), one.clone(), one]);
        let answer = self.call(&["EXEC"], results);
        self.expect_settled(written.tag, Settlement::Requeued, answer);
    }

    fn pop(&mut self, pop: Pop, message: Option<&Message>, redelivered: bool) {
        let written = message.map(|message| self.written(message, redelivered));
        let value = written.as_ref().map(|written| Resp::bulk(&written.bytes));
        let nothing = match pop {
            Pop::From if !self.resp3 => Resp::NullBulk,
            _ => self.null(),
        };
        let key = "celery\x06\x163";
        let arguments: &[&str] = match pop {
            Pop::Named(command) => &[command, "other", key, "1"],
            Pop::From => &["RPOP", key],
            Pop::FromMany => &["LPOP", key, "2"],
            Pop::NamedMany => &["BLMPOP", "1", "1", key, "RIGHT"],
        };
        let reply = value.map_or(nothing, |value| match pop {
            Pop::Named(_) => Resp::Array(vec![Resp::bulk(key), value]),
            Pop::From => value,
            Pop::FromMany => Resp::Array(vec![Resp::bulk("no task"), value]),
            Pop::NamedMany => Resp::Array(vec![Resp::bulk(key), Resp::Array(vec![value])]),
        });
        let is_refused = self.is_restricted();
        if let Some(saying) = self.call(arguments, reply).filter(|_| !is_refused)
            && let Some(written) = written
        {
            self.expect_delivered(written, "celery", redelivered, saying);
        }
    }

    /// A message on its way to the client, at the end of `saying`. What it carries may be
    /// remembered, and the next publication may be on its way before, so its trace foretells
    /// nothing.
    fn expect_delivered(
        &mut self,
        written: Written,
        destination: &str,
        redelivered: bool,
        saying: usize,
    ) {
        let but = written.not_needed();
        let at = At::Broker { saying, but };
        if written.is_too_large() {
            self.expect(Expected::LeftAlone, at);
            return;
        }
        let id = written.facts.id;
        self.known.push(id.clone());
        self.traces.insert(id.clone(), None);
        self.taken.push(written.tag.clone());
        let delivered = Expected::Delivered {
            id,
            destination: destination.to_owned(),
            redelivered,
            settlement: None,
        };
        let thing = self.expect(delivered, at);
        self.expected[thing].tag = Some(written.tag);
    }

    /// A worker acknowledges what was delivered: here or, where nothing was, elsewhere.
    fn settle(&mut self, which: &Index, how: Settling) {
        if self.is_restricted() || self.doubtful {
            return;
        }
        let tag = if self.taken.is_empty() {
            self.uuid()
        } else {
            self.taken.swap_remove(which.index(self.taken.len()))
        };
        let one = Resp::Integer(1);
        let queued = || Resp::Simple("QUEUED".to_owned());
        let results = match how {
            Settling::Aborted => self.null(),
            Settling::Refused => Resp::Error(EXECABORT.to_owned()),
            Settling::Alone | Settling::Atomic => Resp::Array(vec![one.clone(), one.clone()]),
        };
        let answer = if matches!(how, Settling::Alone) {
            self.call(&["HDEL", "unacked", &tag], one)
        } else {
            self.call(&["MULTI"], Resp::ok());
            self.call(&["ZREM", "unacked_index", &tag], queued());
            self.call(&["HDEL", "unacked", &tag], queued());
            self.call(&["EXEC"], results)
        };
        let is_done = matches!(how, Settling::Alone | Settling::Atomic);
        if is_done || answer.is_none() {
            self.expect_settled(tag, Settlement::Acknowledged, answer);
        }
    }

    // Publish and subscribe.

    fn subscribe(&mut self, kind: Kind, names: &[&'static str]) {
        self.send(&with(kind.word("SUBSCRIBE").as_str(), names), false);
        for name in names {
            let subscribed = self.subscribed(kind);
            if !subscribed.contains(name) {
                subscribed.push(name);
            }
            self.confirm(&kind.word("subscribe"), Resp::bulk(name), kind);
        }
    }

    fn unsubscribe(&mut self, kind: Kind, names: &[&'static str]) {
        self.send(&with(kind.word("UNSUBSCRIBE").as_str(), names), false);
        let names = if names.is_empty() {
            self.subscribed(kind).clone()
        } else {
            names.to_vec()
        };
        if names.is_empty() {
            let nobody = if self.resp3 {
                Resp::Null
            } else {
                Resp::NullBulk
            };
            self.confirm(&kind.word("unsubscribe"), nobody, kind);
        }
        for name in names {
            self.subscribed(kind).retain(|other| *other != name);
            self.confirm(&kind.word("unsubscribe"), Resp::bulk(name), kind);
        }
    }

    /// Confirmations are said whatever `CLIENT REPLY` is set to.
    fn confirm(&mut self, word: &str, name: Resp, kind: Kind) {
        let count = match kind {
            Kind::Shard => self.shards.len(),
            Kind::Channel | Kind::Pattern => self.channels.len() + self.patterns.len(),
        };
        let count = Resp::Integer(i64::try_from(count).expect("a small number"));
        let saying = self.out_of_band(vec![Resp::bulk(word), name, count]);
        self.say(&saying, true);
    }

    fn subscribed(&mut self, kind: Kind) -> &mut Vec<&'static str> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::Shard => &mut self.shards,
        }
    }

    fn out_of_band(&self, items: Vec<Resp>) -> Resp {
        if self.resp3 {
            Resp::Push(items)
        } else {
            Resp::Array(items)
        }
    }

    fn message(&mut self, which: &Index, message: Option<&Message>) {
        let channels = self.channels.iter().map(|name| (Kind::Channel, *name));
        let patterns = self.patterns.iter().map(|name| (Kind::Pattern, *name));
        let shards = self.shards.iter().map(|name| (Kind::Shard, *name));
        let all: Vec<(Kind, &str)> = channels.chain(patterns).chain(shards).collect();
        if all.is_empty() {
            return;
        }
        let (kind, name) = *which.get(&all);
        let mut items = vec![Resp::bulk(kind.word("message")), Resp::bulk(name)];
        let channel = match kind {
            Kind::Pattern => "a channel",
            Kind::Channel | Kind::Shard => name,
        };
        if kind == Kind::Pattern {
            items.push(Resp::bulk(channel));
        }
        let written = message.map(|message| self.written(message, false));
        items.push(match &written {
            Some(written) => Resp::bulk(&written.bytes),
            // What a redirected invalidation looks like.
            None => Resp::Array(vec![Resp::bulk("key")]),
        });
        let saying = self.out_of_band(items);
        let saying = self.say(&saying, false);
        // Where results are published nobody publishes tasks.
        if let Some(written) = written.filter(|_| !channel.contains("celery-task-meta-")) {
            self.expect_delivered(written, channel, false, saying);
        }
    }

    fn push(&mut self, push: &Push) {
        if !self.resp3 {
            return;
        }
        let saying = match push {
            Push::Invalidate => vec![Resp::bulk("invalidate"), Resp::Array(vec![Resp::bulk("k")])],
            Push::Migrating => vec![Resp::bulk("MIGRATING"), Resp::Integer(1), Resp::Integer(10)],
            Push::Moving(address) => {
                vec![
                    Resp::bulk("MOVING"),
                    Resp::Integer(15),
                    Resp::Integer(30),
                    address.clone(),
                ]
            }
            Push::Unknown(value) => vec![Resp::bulk("whatever"), value.clone()],
        };
        self.say(&Resp::Push(saying), false);
    }

    fn ping(&mut self, payload: bool) {
        let arguments: &[&str] = if payload { &["PING", "hi"] } else { &["PING"] };
        let reply = match (self.is_restricted(), payload) {
            (true, _) => Resp::Array(vec![
                Resp::bulk("pong"),
                Resp::bulk(if payload { "hi" } else { "" }),
            ]),
            (false, true) => Resp::bulk("hi"),
            (false, false) => Resp::Simple("PONG".to_owned()),
        };
        self.call(arguments, reply);
    }

    // The connection itself.

    fn hello(&mut self, version: Option<u8>, refused: bool) {
        if self.quiet || self.skips {
            return;
        }
        let restricted = self.is_restricted();
        let version_text = version.map(|version| version.to_string());
        let mut arguments = vec!["HELLO"];
        arguments.extend(version_text.as_deref());
        if refused {
            arguments.extend(
                version
                    .map(|_| ["AUTH", "user", "wrong"])
                    .into_iter()
                    .flatten(),
            );
        }
        if restricted || (refused && version.is_some()) {
            self.call(
                &arguments,
                Resp::Error("WRONGPASS invalid username-password pair".to_owned()),
            );
            return;
        }
        let resp3 = version.map_or(self.resp3, |version| version == 3);
        let facts = vec![
            (Resp::bulk("server"), Resp::bulk("redis")),
            (
                Resp::bulk("proto"),
                Resp::Integer(if resp3 { 3 } else { 2 }),
            ),
            (Resp::bulk("modules"), Resp::Array(Vec::new())),
        ];
        let reply = if resp3 {
            Resp::Map(facts)
        } else {
            Resp::Array(
                facts
                    .into_iter()
                    .flat_map(|(key, value)| [key, value])
                    .collect(),
            )
        };
        self.call(&arguments, reply);
        self.resp3 = resp3;
    }

    fn reset(&mut self) -> Option<usize> {
        // It ends OFF, and is answered.
        self.quiet = false;
        self.resp3 = false;
        self.channels.clear();
        self.patterns.clear();
        self.shards.clear();
        self.call(&["RESET"], Resp::Simple("RESET".to_owned()))
    }

    fn reply_mode(&mut self, mode: ReplyMode) {
        let (words, refusal): (&[&str], _) = match mode {
            ReplyMode::On => (&["CLIENT", "REPLY", "ON"], None),
            ReplyMode::Off => (&["CLIENT", "reply", "OFF"], None),
            ReplyMode::Skip => (&["CLIENT", "REPLY", "skip"], None),
            ReplyMode::Wrong(words) => (words, Some(Resp::Error("ERR syntax error".to_owned()))),
        };
        let refusal = self.refusal(b"client").or(refusal);
        match (refusal, mode) {
            (Some(refusal), _) => {
                self.call(words, refusal);
            }
            (None, ReplyMode::On) => {
                self.quiet = false;
                self.skips = false;
                self.call(words, Resp::ok());
            }
            (None, _) => {
                self.send(words, false);
                self.quiet |= matches!(mode, ReplyMode::Off);
                self.skips = matches!(mode, ReplyMode::Skip) && !self.quiet;
            }
        }
    }

    // Who speaks when.

    pub(super) fn into_exchange(mut self) -> Exchange {
        let heard = self.broker.len() - self.vanished.min(self.broker.len());
        for thing in &mut self.expected {
            if let (Expected::Published(publication), Some(by)) =
                (&mut thing.expected, thing.answered_by)
                && by >= heard
            {
                publication.answer = Answer::Lost;
            }
        }
        self.expected.retain(|thing| {
            let needed = match (&thing.expected, thing.at) {
                (Expected::Settled(_), _) => thing.answered_by,
                (_, At::Broker { saying, .. }) => Some(saying),
                _ => None,
            };
            needed.is_none_or(|saying| saying < heard)
        });
        let reply_owed = self.broker.drain(heard..).any(|saying| saying.is_reply);
        let mut broker_marks = BTreeSet::new();
        let mut said = 0;
        for saying in &self.broker {
            said += saying.bytes.len();
            broker_marks.insert(said);
        }
        let turns = self.turns();
        Exchange {
            expected: self.in_order(&turns),
            turns,
            client_marks: self.client_marks,
            broker_marks,
            unsettled: reply_owed || self.transaction_open || self.doubtful,
        }
    }

    /// What is to be seen, in the order in which these turns bring it.
    fn in_order(&mut self, turns: &[Turn]) -> Vec<Expected> {
        let mut ends = Vec::new();
        let mut said = 0;
        for saying in &self.broker {
            said += saying.bytes.len();
            ends.push(said);
        }
        let turn_of = |at: At| {
            let (side, needed) = match at {
                At::Client(needed) => (Side::Client, needed),
                At::Broker { saying, but } => (Side::Broker, ends[saying] - but),
            };
            let mut said = 0;
            turns.iter().position(|Turn(speaker, bytes)| {
                let speaks = *speaker == side;
                said += if speaks { bytes.len() } else { 0 };
                speaks && said >= needed
            })
        };
        let mut things = std::mem::take(&mut self.expected);
        things.sort_by_key(|thing| {
            let answer = match thing.expected {
                Expected::Settled(_) => thing.answered_by,
                _ => None,
            };
            let answer = answer.and_then(|saying| turn_of(At::Broker { saying, but: 0 }));
            turn_of(thing.at).max(answer)
        });
        let mut seen: Vec<Thing> = Vec::new();
        for thing in things {
            // What becomes of a delivery that was seen stands beside it.
            if let Expected::Settled(by) = thing.expected
                && let Some(settlement) =
                    seen.iter_mut().find_map(|seen| match &mut seen.expected {
                        Expected::Delivered { settlement, .. } if seen.tag == thing.tag => {
                            Some(settlement)
                        }
                        _ => None,
                    })
            {
                *settlement = Some(by);
            } else {
                seen.push(thing);
            }
        }
        seen.into_iter().map(|thing| thing.expected).collect()
    }

    /// Has both sides take turns as they like, as long as no reply overtakes its request.
    fn turns(&mut self) -> Vec<Turn> {
        let mut turns = Vec::new();
        let (mut from, mut sayings) = (0, self.broker.iter().peekable());
        while from < self.client.len() || sayings.peek().is_some() {
            if from < self.client.len() && self.random.bool() {
                let to = match self.random.u8(..3) {
                    // To the end of one of the next requests.
                    0..2 => {
                        let next = self.client_marks.range(from + 1..);
                        *next
                            .clone()
                            .nth(self.random.usize(..3))
                            .unwrap_or(&self.client.len())
                    }
                    _ => (from + self.random.usize(1..100)).min(self.client.len()),
                };
                turns.push(Turn(Side::Client, self.client[from..to].to_vec()));
                from = to;
            } else {
                let complete = self.ends.iter().take_while(|end| **end <= from).count();
                let count = self.random.usize(1..4);
                let mut bytes = Vec::new();
                for _ in 0..count {
                    let next = sayings.next_if(|saying| saying.after <= complete);
                    bytes.extend(next.into_iter().flat_map(|saying| &saying.bytes));
                }
                if bytes.len() > 1 && self.random.u8(..3) == 0 {
                    let tail = bytes.split_off(self.random.usize(1..bytes.len()));
                    turns.push(Turn(Side::Broker, bytes));
                    bytes = tail;
                }
                if !bytes.is_empty() {
                    turns.push(Turn(Side::Broker, bytes));
                }
            }
        }
        turns
    }
}

/// It says among its arguments which group it waits for.
const CHORD_UNLOCK: &str = "celery.chord_unlock";

const EXECABORT: &str = "EXECABORT Transaction discarded because of previous errors.";

impl Kind {
    /// `SUBSCRIBE` as `PSUBSCRIBE`, and so on.
    fn word(self, word: &str) -> String {
        let upper = word.starts_with(|first: char| first.is_ascii_uppercase());
        let prefix = match (self, upper) {
            (Self::Channel, _) => "",
            (Self::Pattern, true) => "P",
            (Self::Pattern, false) => "p",
            (Self::Shard, true) => "S",
            (Self::Shard, false) => "s",
        };
        format!("{prefix}{word}")
    }
}

fn with<A: AsRef<[u8]>>(command: &str, arguments: &[A]) -> Vec<Vec<u8>> {
    let mut all = vec![command.as_bytes().to_vec()];
    all.extend(arguments.iter().map(|argument| argument.as_ref().to_vec()));
    all
}

fn verdict(refused: bool, error: &str) -> Resp {
    if refused {
        Resp::Error(error.to_owned())
    } else {
        Resp::ok()
    }
}

fn words(error: &Resp) -> &str {
    match error {
        Resp::Error(words) => words,
        _ => panic!("{error:?} is no error"),
    }
}

/// A word of an inline command, quoted where it has to be and sometimes where it has not.
fn inline_word(word: &[u8], random: &mut Rng) -> Vec<u8> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._:-/#*?".contains(byte);
    if !word.is_empty() && word.iter().all(plain) && random.u8(..4) > 0 {
        return word.to_vec();
    }
    if random.bool()
        && word
            .iter()
            .all(|byte| plain(byte) || b" \"'".contains(byte))
    {
        let escaped = String::from_utf8_lossy(word).replace('\'', "\\'");
        return format!("'{escaped}'").into_bytes();
    }
    let mut quoted = vec![b'"'];
    for byte in word {
        match byte {
            b'\n' => quoted.extend_from_slice(b"\\n"),
            byte if plain(byte) => quoted.push(*byte),
            _ => quoted.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    quoted.push(b'"');
    quoted
}
