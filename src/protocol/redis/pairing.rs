//! Which reply belongs to which request, and what it says about the messages in it.
//!
//! Redis answers in order, so a queue is enough. What breaks the order is told apart here:
//! pushes, subscriptions, transactions and switched-off replies. Where it cannot be told,
//! replies are no longer paired; requests are still read.

use std::collections::VecDeque;

use crate::hop::Answer;
use crate::protocol::redis::command::KEY_BYTES_MAX;
use crate::protocol::redis::command::Kind;
use crate::protocol::redis::command::Pop;
use crate::protocol::redis::command::Request;
use crate::protocol::redis::frame::Unreadable;
use crate::protocol::redis::reply::Place;
use crate::protocol::redis::reply::Want;
use crate::protocol::redis::value;

/// The messages of one request: so many, numbered from `first`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hops {
    pub(super) first: u64,
    pub(super) count: u32,
}

/// The requests that wait for their reply, and what their replies depend on.
#[derive(Debug)]
pub(super) struct Pairing {
    pending: VecDeque<Pending>,
    pending_max: usize,
    /// What has come of the current reply.
    reply: Reply,
    resp3: bool,
    /// Subscriptions, by kind.
    subscribed: [u64; 3],
    /// The commands that the broker has queued since MULTI, as far as it has said so.
    queued: Option<Vec<Hops>>,
    /// MULTI was sent, and neither EXEC nor DISCARD.
    in_transaction: bool,
    /// WATCH was sent, and nothing that ends it.
    watching: bool,
    replies_off: bool,
    skip_next: bool,
    lost: bool,
    answers: Vec<(Hops, Answer)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Pending {
    /// Requests of which nothing is wanted but their order.
    Plain(u64),
    Push(Hops),
    Pop(Pop<Box<[u8]>>),
    Multi,
    Exec,
    Discard,
    Subscribe {
        kind: Kind,
        left: u64,
    },
    /// `left` is `None` where all subscriptions of that kind end.
    Unsubscribe {
        kind: Kind,
        left: Option<u64>,
    },
    Hello {
        resp3: Option<bool>,
    },
    Reset,
    Monitor,
}

/// The outline of the reply that is being read.
#[derive(Debug, Default)]
struct Reply {
    type_byte: u8,
    text: Vec<u8>,
    /// The first element, where it is a word.
    word: Vec<u8>,
    /// The third element, where it is a number.
    number: Option<u64>,
    /// The list or the channel that it names.
    key: Vec<u8>,
}

/// What stands at a place in a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Other,
    /// What kind of push it is, or of what stands for one in RESP2.
    Word,
    /// The list or the channel that the messages come from.
    Key,
    Message,
}

impl Pairing {
    pub(super) fn new(pending_max: usize) -> Self {
        Self {
            pending: VecDeque::new(),
            pending_max,
            reply: Reply::default(),
            resp3: false,
            subscribed: [0; 3],
            queued: None,
            in_transaction: false,
            watching: false,
            replies_off: false,
            skip_next: false,
            lost: false,
            answers: Vec::new(),
        }
    }

    /// Whether nothing is owed to the client and no transaction is open.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty() && !self.in_transaction && !self.watching
    }

    /// What has become of messages since this was asked last.
    pub(super) fn take_answers(&mut self) -> impl Iterator<Item = (Hops, Answer)> + '_ {
        self.answers.drain(..)
    }

    /// No reply will be paired any more: every message that waits for one ends like this.
    pub(super) fn lose(&mut self, answer: &Answer) {
        self.lost = true;
        self.end_transaction(answer);
        for pending in std::mem::take(&mut self.pending) {
            if let Pending::Push(hops) = pending {
                self.end_hops(hops, answer);
            }
        }
    }

    /// A request was sent, with messages in it or without.
    ///
    /// An error: from here on no reply can be paired, and everything that waits for one has
    /// ended as unread.
    pub(super) fn requested(&mut self, request: Request<'_>, hops: Hops) -> Result<(), Unreadable> {
        if self.lost {
            self.end_hops(hops, &Answer::Unread);
            return Ok(());
        }
        let expected = self.expect_reply(request, hops);
        if expected.is_err() {
            self.lose(&Answer::Unread);
            self.end_hops(hops, &Answer::Unread);
        }
        expected
    }

    /// The messages end, whether they were waiting for a reply or not.
    pub(super) fn end_hops(&mut self, hops: Hops, answer: &Answer) {
        if hops.count > 0 {
            self.answers.push((hops, answer.clone()));
        }
    }

    fn expect_reply(&mut self, request: Request<'_>, hops: Hops) -> Result<(), Unreadable> {
        let skipped = std::mem::take(&mut self.skip_next);
        let unheard = skipped || self.replies_off;
        let pending = match request {
            // Confirmations are sent even while replies are switched off.
            Request::Subscribe { kind, count } => {
                self.not_in_transaction("subscribe_in_transaction")?;
                return self.wait(Pending::Subscribe { kind, left: count });
            }
            Request::Unsubscribe { kind, count } => {
                self.not_in_transaction("subscribe_in_transaction")?;
                let left = (count > 0).then_some(count);
                return self.wait(Pending::Unsubscribe { kind, left });
            }
            Request::ReplyOn => {
                self.not_in_transaction("client_reply_in_transaction")?;
                self.replies_off = false;
                return self.wait(Pending::Plain(1));
            }
            Request::ReplyOff => {
                self.not_in_transaction("client_reply_in_transaction")?;
                self.replies_off = true;
                return Ok(());
            }
            Request::ReplySkip => {
                self.not_in_transaction("client_reply_in_transaction")?;
                self.skip_next = !self.replies_off;
                return Ok(());
            }
            // They change what replies look like, and nothing would tell from which one on.
            Request::Reset if skipped => return Err("unheard_switch"),
            Request::Hello { resp3: Some(_) } if unheard => return Err("unheard_switch"),
            // It ends CLIENT REPLY OFF, and is answered.
            Request::Reset => {
                self.in_transaction = false;
                self.watching = false;
                self.replies_off = false;
                return self.wait(Pending::Reset);
            }
            Request::Sync => return Err("replication"),
            Request::Plain | Request::SetName(_) => Pending::Plain(1),
            Request::Pop(pop) => Pending::Pop(match pop {
                Pop::From(key) => Pop::From(key.into()),
                Pop::Named => Pop::Named,
                Pop::NamedMany => Pop::NamedMany,
            }),
            Request::Push if hops.count == 0 => Pending::Plain(1),
            Request::Push => Pending::Push(hops),
            Request::Multi => {
                self.in_transaction = true;
                Pending::Multi
            }
            Request::Exec => {
                self.in_transaction = false;
                self.watching = false;
                Pending::Exec
            }
            Request::Discard => {
                self.in_transaction = false;
                self.watching = false;
                Pending::Discard
            }
            Request::Watch => {
                self.watching = true;
                Pending::Plain(1)
            }
            Request::Unwatch => {
                self.watching = self.in_transaction && self.watching;
                Pending::Plain(1)
            }
            Request::Hello { resp3 } => {
                self.not_in_transaction("hello_in_transaction")?;
                Pending::Hello { resp3 }
            }
            Request::Monitor => Pending::Monitor,
        };
        if unheard {
            self.end_hops(hops, &Answer::Unread);
            return Ok(());
        }
        self.wait(pending)
    }

    fn not_in_transaction(&self, why: Unreadable) -> Result<(), Unreadable> {
        if self.in_transaction {
            Err(why)
        } else {
            Ok(())
        }
    }

    fn wait(&mut self, pending: Pending) -> Result<(), Unreadable> {
        if let (Pending::Plain(more), Some(Pending::Plain(count))) =
            (&pending, self.pending.back_mut())
        {
            *count += more;
            return Ok(());
        }
        if self.pending.len() >= self.pending_max {
            return Err("too_many_pending");
        }
        self.pending.push_back(pending);
        Ok(())
    }

    /// Whether the reply that is being read is one that nobody asked for.
    fn is_out_of_band(&self) -> bool {
        match self.reply.type_byte {
            // A push confirms a subscription, or nobody has asked for it.
            b'>' => self.confirmed().is_none(),
            // In RESP2 the messages of subscriptions come as plain arrays.
            b'*' => self.channel_at().is_some(),
            _ => false,
        }
    }

    /// Which element of the reply is the channel of a message, if it is the message of a
    /// subscription. What was published follows it.
    fn channel_at(&self) -> Option<u64> {
        let is_possible = match self.reply.type_byte {
            b'>' => true,
            b'*' => !self.resp3 && self.subscribed != [0; 3],
            _ => false,
        };
        match &self.reply.word[..] {
            b"message" | b"smessage" if is_possible => Some(1),
            // Behind the pattern.
            b"pmessage" if is_possible => Some(2),
            _ => None,
        }
    }

    /// The subscription that this reply confirms, by the request that waits for it: its
    /// kind.
    fn confirmed(&self) -> Option<Kind> {
        let kind = match self.pending.front()? {
            Pending::Subscribe { kind, .. } => match (kind, &self.reply.word[..]) {
                (Kind::Channel, b"subscribe")
                | (Kind::Pattern, b"psubscribe")
                | (Kind::Shard, b"ssubscribe") => *kind,
                _ => return None,
            },
            Pending::Unsubscribe { kind, .. } => match (kind, &self.reply.word[..]) {
                (Kind::Channel, b"unsubscribe")
                | (Kind::Pattern, b"punsubscribe")
                | (Kind::Shard, b"sunsubscribe") => *kind,
                _ => return None,
            },
            _ => return None,
        };
        Some(kind)
    }

    /// A reply has come whole.
    fn replied(&mut self) -> Result<(), Unreadable> {
        if self.is_out_of_band() {
            return Ok(());
        }
        let is_error = matches!(self.reply.type_byte, b'-' | b'!');
        let Some(front) = self.pending.front_mut() else {
            return Err("unexpected_reply");
        };
        match front {
            Pending::Plain(count) if *count > 1 => {
                *count -= 1;
                return self.note_queued(Hops::default()).map(drop);
            }
            Pending::Subscribe { .. } | Pending::Unsubscribe { .. } if !is_error => {
                return self.subscription();
            }
            _ => {}
        }
        let Some(front) = self.pending.pop_front() else {
            return Err("unexpected_reply");
        };
        if self.pending.is_empty() {
            self.pending.shrink_to(PENDING_KEPT_MAX);
        }
        match front {
            Pending::Plain(_) | Pending::Pop(_) => {
                self.note_queued(Hops::default())?;
            }
            Pending::Push(hops) => {
                if !self.note_queued(hops)? {
                    let answer = self.reply.answer();
                    self.end_hops(hops, &answer);
                }
            }
            Pending::Multi if !is_error => {
                self.queued.get_or_insert_default();
            }
            Pending::Exec => {
                let answer = match self.reply.type_byte {
                    b'-' | b'!' => self.reply.answer(),
                    // Aborted: a watched key had changed.
                    b'_' => Answer::Discarded,
                    // Each element has spoken for itself.
                    _ => Answer::Unread,
                };
                self.end_transaction(&answer);
            }
            Pending::Discard if !is_error => self.end_transaction(&Answer::Discarded),
            Pending::Hello { resp3: Some(resp3) } if !is_error => self.resp3 = resp3,
            Pending::Reset if !is_error => {
                self.end_transaction(&Answer::Discarded);
                self.subscribed = [0; 3];
                self.resp3 = false;
            }
            Pending::Monitor if !is_error => return Err("monitor"),
            // Refused, or nothing that lasts.
            Pending::Multi
            | Pending::Discard
            | Pending::Hello { .. }
            | Pending::Reset
            | Pending::Monitor
            | Pending::Subscribe { .. }
            | Pending::Unsubscribe { .. } => {}
        }
        Ok(())
    }

    /// Inside a transaction the broker says that it has queued the command. Says whether
    /// it did.
    ///
    /// It need not have said before that the transaction was open: after CLIENT REPLY SKIP
    /// there is no reply to MULTI.
    fn note_queued(&mut self, hops: Hops) -> Result<bool, Unreadable> {
        if self.reply.type_byte != b'+' || self.reply.text != b"QUEUED" {
            return Ok(false);
        }
        let queued = self.queued.get_or_insert_default();
        if queued.len() >= self.pending_max {
            self.end_hops(hops, &Answer::Unread);
            return Err("too_many_pending");
        }
        queued.push(hops);
        Ok(true)
    }

    /// One confirmation of a subscription, or of its end.
    fn subscription(&mut self) -> Result<(), Unreadable> {
        let Some(kind) = self.confirmed() else {
            return Err("unexpected_reply");
        };
        let total = self.reply.number.ok_or("bad_confirmation")?;
        // Channels and patterns are counted together, shard channels on their own.
        let [channels, patterns, shards] = &mut self.subscribed;
        let remaining = match kind {
            Kind::Channel => {
                *channels = total.saturating_sub(*patterns);
                *channels
            }
            Kind::Pattern => {
                *patterns = total.saturating_sub(*channels);
                *patterns
            }
            Kind::Shard => {
                *shards = total;
                *shards
            }
        };
        let is_last = match self.pending.front_mut() {
            Some(
                Pending::Subscribe { left, .. }
                | Pending::Unsubscribe {
                    left: Some(left), ..
                },
            ) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            _ => remaining == 0,
        };
        if is_last {
            self.pending.pop_front();
        }
        Ok(())
    }

    fn end_transaction(&mut self, answer: &Answer) {
        for hops in self.queued.take().unwrap_or_default() {
            self.end_hops(hops, answer);
        }
    }

    /// What EXEC says of one of its commands.
    fn executed(&mut self, index: u64, type_byte: u8, text: &[u8]) {
        let hops = usize::try_from(index)
            .ok()
            .and_then(|index| self.queued.as_mut()?.get_mut(index))
            .map(std::mem::take);
        if let Some(hops) = hops.filter(|hops| hops.count > 0) {
            self.answers.push((hops, answer(type_byte, text)));
        }
    }

    /// A MOVING push tells clients to leave for another address, past the proxy. Without
    /// an address they reconnect to the one they know
    /// (<https://redis.io/docs/latest/develop/reference/smart-client-handoffs/>).
    fn is_moving(&self) -> bool {
        self.reply.type_byte == b'>' && self.reply.word == b"MOVING"
    }
}

/// The outline of a reply, told as it is read.
impl Pairing {
    pub(super) fn begin(&mut self, type_byte: u8, text: &[u8]) {
        self.reply.type_byte = type_byte;
        self.reply.number = None;
        self.reply.word.clear();
        self.reply.key.clear();
        self.reply.text.clear();
        self.reply
            .text
            .extend_from_slice(text.get(..TEXT_BYTES_MAX).unwrap_or(text));
    }

    pub(super) fn element(&mut self, index: u64, type_byte: u8, text: &[u8]) {
        match index {
            _ if self.part(Place::Element(index)) == Part::Key => {
                let name = text.get(..KEY_BYTES_MAX).unwrap_or(text);
                self.reply.key.extend_from_slice(name);
            }
            0 if text.len() <= WORD_BYTES_MAX => self.reply.word.extend_from_slice(text),
            2 if type_byte == b':' => {
                self.reply.number = std::str::from_utf8(text)
                    .ok()
                    .and_then(|digits| digits.parse().ok());
            }
            _ => {}
        }
        if self.reply.type_byte == b'*' && self.pending.front() == Some(&Pending::Exec) {
            self.executed(index, type_byte, text);
        }
    }

    /// What is to be seen of the string that begins at this place.
    pub(super) fn wants(&self, type_byte: u8, place: Place) -> Want {
        if type_byte == b'!' {
            return Want::Text(TEXT_BYTES_MAX);
        }
        match self.part(place) {
            Part::Other => Want::Nothing,
            Part::Word => Want::Text(WORD_BYTES_MAX),
            Part::Key => Want::Text(KEY_BYTES_MAX),
            Part::Message if type_byte != b'$' => Want::Nothing,
            Part::Message if value::task_of_result(&self.reply.key).is_some() => Want::Nothing,
            Part::Message => Want::Message,
        }
    }

    /// The list or the channel that the messages of this reply come from, and whether all
    /// who listen get them.
    pub(super) fn source(&self) -> (&[u8], bool) {
        match self.pending.front() {
            _ if self.channel_at().is_some() => (&self.reply.key, true),
            Some(Pending::Pop(Pop::From(key))) => (key, false),
            _ => (&self.reply.key, false),
        }
    }

    pub(super) fn erases(&self, index: u64) -> bool {
        index == 3 && self.is_moving()
    }

    pub(super) fn end(&mut self) -> Result<(), Unreadable> {
        if self.lost { Ok(()) } else { self.replied() }
    }

    /// What is popped in a transaction comes with the reply to EXEC, and is not read: no
    /// Celery worker does that.
    fn part(&self, place: Place) -> Part {
        let pop = match self.pending.front() {
            Some(Pending::Pop(pop)) => Some(pop),
            _ => None,
        };
        // Of the reply itself nothing is known yet.
        if place == Place::Whole {
            return match pop {
                Some(Pop::From(_)) => Part::Message,
                _ => Part::Other,
            };
        }
        if let Some(channel_at) = self.channel_at() {
            return match place {
                Place::Element(index) if index == channel_at => Part::Key,
                Place::Element(index) if index == channel_at + 1 => Part::Message,
                _ => Part::Other,
            };
        }
        match (self.reply.type_byte, pop, place) {
            (b'>', _, Place::Element(0)) => Part::Word,
            (b'*', _, Place::Element(0)) if self.subscription_is_possible() => Part::Word,
            (b'*', Some(Pop::From(_)), Place::Element(_))
            | (b'*', Some(Pop::Named), Place::Element(1))
            | (b'*', Some(Pop::NamedMany), Place::Within(1)) => Part::Message,
            (b'*', Some(Pop::Named | Pop::NamedMany), Place::Element(0)) => Part::Key,
            _ => Part::Other,
        }
    }

    /// Whether an array may be one of RESP2's messages and confirmations.
    fn subscription_is_possible(&self) -> bool {
        !self.resp3 && self.subscribed != [0; 3]
            || matches!(
                self.pending.front(),
                Some(Pending::Subscribe { .. } | Pending::Unsubscribe { .. })
            )
    }
}

impl Reply {
    fn answer(&self) -> Answer {
        answer(self.type_byte, &self.text)
    }
}

fn answer(type_byte: u8, text: &[u8]) -> Answer {
    match type_byte {
        b'-' | b'!' => {
            let words = text.get(..TEXT_BYTES_MAX).unwrap_or(text);
            let words = String::from_utf8_lossy(words);
            // Of a command that it does not know Redis repeats the arguments.
            let (words, _) = words.split_once(", with args").unwrap_or((&words, ""));
            Answer::Refused(words.into())
        }
        _ => Answer::Confirmed,
    }
}

/// Longer than the word of any message or confirmation.
const WORD_BYTES_MAX: usize = 16;
/// As much of an error as is told.
const TEXT_BYTES_MAX: usize = 256;
/// The room that an idle session keeps for requests that wait.
const PENDING_KEPT_MAX: usize = 16;
