//! Which reply belongs to which request, and what it says about the messages in it.
//!
//! Redis answers in order, so a queue is enough. What breaks the order is told apart here:
//! pushes, subscriptions, transactions and switched-off replies. Where it cannot be told,
//! replies are no longer paired; requests are still read.
//!
//! Whether a request is answered is decided when all before it are done with: only then is it
//! known which of them Redis has refused. A command that is refused changes nothing.

use std::collections::VecDeque;
use std::mem;

use crate::hop::Answer;
use crate::hop::Receipt;
use crate::hop::Settlement;
use crate::hop::clean;
use crate::protocol::redis::command::KEY_BYTES_MAX;
use crate::protocol::redis::command::Kind;
use crate::protocol::redis::command::Pop;
use crate::protocol::redis::command::ReplyMode;
use crate::protocol::redis::command::Request;
use crate::protocol::redis::connection_state::ConnectionState;
use crate::protocol::redis::database::Database;
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
    /// Of the names of lists in them.
    name_bytes: usize,
    /// The first of them is the one that is answered next.
    is_awaited: bool,
    /// As it is before the first of them, or with it where it is not answered for that.
    state: ConnectionState,
    /// What has come of the current reply.
    reply: Reply,
    /// Nothing can be paired behind the current reply.
    unpaired: Option<Unreadable>,
    lost: bool,
    /// A pop has been answered with something.
    popped: bool,
    database: Database,
    told: Vec<Told>,
    /// What the requests that wait settle, in their order.
    settling: VecDeque<(Receipt, Settlement)>,
    /// A command of the transaction has failed.
    has_failed: bool,
}

/// What a reply tells, or that there is none.
#[derive(Debug)]
pub(super) enum Told {
    Answered(Hops, Answer),
    Settled(Receipt, Settlement),
}

#[derive(Debug, PartialEq, Eq)]
enum Pending {
    /// Requests of which nothing is wanted but their order.
    Plain(u64),
    Push(Hops),
    Pop(Pop<Box<[u8]>>),
    /// So many deliveries are settled by it.
    Settle(usize),
    Multi,
    /// The same for a transaction.
    Exec(usize),
    Discard,
    Watch,
    Unwatch,
    /// Confirmations are sent even while replies are switched off; a refusal is not.
    Subscribe {
        kind: Kind,
        left: u64,
        is_refusal_heard: bool,
    },
    /// `left` is `None` where all subscriptions of that kind end.
    Unsubscribe {
        kind: Kind,
        left: Option<u64>,
        is_refusal_heard: bool,
    },
    Hello {
        resp3: Option<bool>,
    },
    Reset,
    Select(Option<u64>),
    Reply(ReplyMode),
    /// An empty request behind CLIENT REPLY SKIP.
    Nothing,
    /// The addresses of other servers; a word for who is asked.
    Addresses(&'static str),
    Monitor,
    Sync,
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
    /// Where it is a `MOVING` push, whether an address stands in it.
    has_address: bool,
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
    /// A message may stand there that is not read.
    Unread,
    /// Where a `MOVING` push leads.
    Address,
}

impl Pairing {
    pub(super) fn new(pending_max: usize) -> Self {
        Self {
            pending: VecDeque::new(),
            pending_max,
            name_bytes: 0,
            is_awaited: false,
            state: ConnectionState::default(),
            reply: Reply::default(),
            unpaired: None,
            lost: false,
            popped: false,
            database: Database::default(),
            told: Vec::new(),
            settling: VecDeque::new(),
            has_failed: false,
        }
    }

    /// Whether nothing is owed to the client.
    pub(super) fn owes_nothing(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether a transaction is open, or about to be.
    pub(super) const fn is_in_transaction(&self) -> bool {
        self.state.is_in_transaction() || self.state.watching
    }

    /// Whether the client waits for a message.
    pub(super) fn awaits_pop(&self) -> bool {
        let mut pending = self.pending.iter();
        pending.any(|pending| matches!(pending, Pending::Pop(pop) if pop.waits()))
    }

    /// Whether a pop has been answered with something since this was asked last.
    pub(super) const fn take_popped(&mut self) -> bool {
        mem::replace(&mut self.popped, false)
    }

    /// The memory that it takes.
    pub(super) fn kept_bytes(&self) -> usize {
        let queued = self.state.queued.as_ref().map_or(0, Vec::capacity);
        self.pending.capacity() * size_of::<Pending>()
            + self.name_bytes
            + queued * size_of::<Hops>()
            + self.settling.capacity() * size_of::<(Receipt, Settlement)>()
            + self.database.kept_bytes()
    }

    /// The database that the connection works in.
    pub(super) const fn database(&self) -> &Database {
        &self.database
    }

    /// What has become of messages since this was asked last, in order.
    pub(super) fn take_told(&mut self) -> impl Iterator<Item = Told> + '_ {
        self.told.drain(..)
    }

    /// No reply will be paired any more: every message that waits for one ends like this. What
    /// was settled meanwhile counts where there may be a reply that cannot be read.
    pub(super) fn lose(&mut self, answer: &Answer) {
        self.lost = true;
        self.settle(self.settling.len(), *answer != Answer::Lost);
        self.is_awaited = false;
        self.name_bytes = 0;
        self.database.lose();
        self.end_transaction(answer);
        for pending in mem::take(&mut self.pending) {
            if let Pending::Push(hops) = pending {
                self.end_hops(hops, answer);
            }
        }
    }

    /// A request was sent, with messages in it or without, that settles deliveries if Redis
    /// carries it out.
    ///
    /// An error: from here on no reply can be paired, and everything that waits for one has
    /// ended as unread.
    pub(super) fn requested(
        &mut self,
        request: Request<'_>,
        hops: Hops,
        mut settles: Vec<(Receipt, Settlement)>,
    ) -> Result<(), Unreadable> {
        settles.truncate(self.pending_max.saturating_sub(self.settling.len()));
        let pending = Pending::new(request, hops, settles.len());
        self.settling.extend(settles);
        if self.lost {
            self.end_hops(hops, &Answer::Unread);
            self.settle(self.settling.len(), true);
            return Ok(());
        }
        if let (Pending::Plain(more), Some(Pending::Plain(count))) =
            (&pending, self.pending.back_mut())
        {
            *count += more;
            return Ok(());
        }
        if self.pending.len() >= self.pending_max {
            self.lose(&Answer::Unread);
            self.end_hops(hops, &Answer::Unread);
            return Err("too_many_pending");
        }
        self.name_bytes += pending.name_bytes();
        if matches!(pending, Pending::Select(_) | Pending::Reset) {
            self.database.requested();
        }
        self.pending.push_back(pending);
        self.advance().inspect_err(|_| self.lose(&Answer::Unread))
    }

    /// An empty request was sent. It counts as the one that is not answered.
    pub(super) fn passed_over(&mut self) {
        match self.pending.back() {
            Some(Pending::Reply(ReplyMode::Skip)) => self.pending.push_back(Pending::Nothing),
            Some(_) => {}
            None => self.state.skips_next = false,
        }
    }

    /// The messages end, whether they were waiting for a reply or not.
    pub(super) fn end_hops(&mut self, hops: Hops, answer: &Answer) {
        if hops.count > 0 {
            self.told.push(Told::Answered(hops, answer.clone()));
        }
    }

    /// Goes on to the next request that is answered.
    fn advance(&mut self) -> Result<(), Unreadable> {
        while !self.is_awaited && !self.pending.is_empty() {
            if self.is_next_answered()? {
                self.is_awaited = true;
            } else {
                self.pop();
            }
        }
        if self.pending.is_empty() {
            self.pending.shrink_to(PENDING_KEPT_MAX);
        }
        Ok(())
    }

    /// All requests before the next one are done with, and Redis comes to it. Whether it is
    /// answered.
    fn is_next_answered(&mut self) -> Result<bool, Unreadable> {
        let state = &mut self.state;
        let is_skipped = mem::take(&mut state.skips_next);
        let is_heard = !is_skipped && !state.replies_off;
        let Some(next) = self.pending.front_mut() else {
            return Ok(false);
        };
        match next {
            Pending::Plain(count) => {
                *count -= u64::from(is_skipped);
                return Ok(*count > 0 && !state.replies_off);
            }
            Pending::Nothing => return Ok(false),
            Pending::Subscribe { .. } | Pending::Unsubscribe { .. }
                if state.is_in_transaction() =>
            {
                return Err("subscribe_in_transaction");
            }
            Pending::Subscribe {
                is_refusal_heard, ..
            }
            | Pending::Unsubscribe {
                is_refusal_heard, ..
            } => {
                *is_refusal_heard = is_heard;
                return Ok(true);
            }
            // It ends CLIENT REPLY OFF, and is answered.
            Pending::Reset => {
                state.replies_off = false;
                if is_skipped {
                    self.reset();
                }
                return Ok(!is_skipped);
            }
            // Redis refuses all that has nothing to do with subscriptions.
            _ if state.is_in_subscribed_mode() => {}
            Pending::Reply(_) if state.is_in_transaction() => {
                return Err("client_reply_in_transaction");
            }
            Pending::Reply(mode) => {
                state.replies_off = match mode {
                    ReplyMode::On => false,
                    ReplyMode::Off => true,
                    ReplyMode::Skip => state.replies_off,
                };
                state.skips_next = *mode == ReplyMode::Skip && !state.replies_off;
                return Ok(*mode == ReplyMode::On);
            }
            Pending::Hello { .. } if state.is_in_transaction() => {
                return Err("hello_in_transaction");
            }
            Pending::Sync if !state.is_in_transaction() => return Err("replication"),
            _ if is_heard => {}
            // They change what replies look like, and nothing would tell from which one on.
            Pending::Hello { resp3: Some(_) } | Pending::Monitor => return Err("unheard_switch"),
            // Nothing tells that they were refused.
            Pending::Multi => {
                state.queued.get_or_insert_default();
            }
            Pending::Exec(_) => {
                self.database.executed_unheard();
                self.end_transaction(&Answer::Unread);
            }
            Pending::Discard => self.end_transaction(&Answer::Discarded),
            Pending::Watch => state.watching = true,
            Pending::Unwatch => state.watching = false,
            _ => {}
        }
        if !is_heard {
            match self.pending.front() {
                Some(&Pending::Push(hops)) => self.end_hops(hops, &Answer::Unread),
                Some(&(Pending::Settle(count) | Pending::Exec(count))) => self.settle(count, true),
                Some(Pending::Select(_)) => self.database.answered(Some(None)),
                _ => {}
            }
        }
        Ok(is_heard)
    }

    /// What is read is the reply to a request, and confirms no subscription. One that would not
    /// be heard to fail has failed.
    fn rule_out_confirmation(&mut self) {
        while let Some(
            Pending::Subscribe {
                is_refusal_heard: false,
                ..
            }
            | Pending::Unsubscribe {
                is_refusal_heard: false,
                ..
            },
        ) = self.pending.front()
        {
            self.pop();
            self.unpaired = self.advance().err();
        }
    }

    /// The request that was awaited is done with.
    fn pop(&mut self) -> Option<Pending> {
        self.is_awaited = false;
        let done = self.pending.pop_front()?;
        self.name_bytes -= done.name_bytes();
        Some(done)
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
            b'*' => self.state.is_in_subscribed_mode(),
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
        if self.confirmed().is_none() {
            self.rule_out_confirmation();
        }
        if let Some(why) = self.unpaired {
            return Err(why);
        }
        self.pair()?;
        self.advance()
    }

    /// The reply is that to the next request.
    fn pair(&mut self) -> Result<(), Unreadable> {
        let is_error = matches!(self.reply.type_byte, b'-' | b'!');
        match self.pending.front_mut() {
            Some(Pending::Plain(count)) if *count > 1 => {
                *count -= 1;
                return self.note_queued(Hops::default()).map(drop);
            }
            Some(Pending::Subscribe { .. } | Pending::Unsubscribe { .. }) if !is_error => {
                return self.subscription();
            }
            _ => {}
        }
        match self.pop().ok_or("unexpected_reply")? {
            Pending::Pop(_) => {
                self.popped = matches!(self.reply.type_byte, b'*' | b'$' | b'%');
                self.note_queued(Hops::default())?;
            }
            Pending::Plain(_) | Pending::Addresses(_) => {
                self.note_queued(Hops::default())?;
            }
            Pending::Push(hops) => {
                let is_queued = self.note_queued(hops)?;
                if !is_queued {
                    let answer = self.reply.answer();
                    self.end_hops(hops, &answer);
                }
            }
            Pending::Settle(count) => {
                let is_queued = self.note_queued(Hops::default())?;
                self.settle(count, !is_error && !is_queued);
            }
            Pending::Multi if !is_error => {
                self.state.queued.get_or_insert_default();
            }
            Pending::Exec(count) => {
                let has_failed = mem::take(&mut self.has_failed);
                self.settle(count, self.reply.type_byte == b'*' && !has_failed);
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
            Pending::Watch if !is_error => self.state.watching = true,
            Pending::Unwatch if !is_error => {
                self.state.watching &= self.note_queued(Hops::default())?;
            }
            Pending::Hello { resp3: Some(resp3) } if !is_error => self.state.resp3 = resp3,
            Pending::Reset if is_error => self.database.answered(None),
            Pending::Reset => self.reset(),
            Pending::Select(number) => match self.note_queued(Hops::default())? {
                true => self.database.queue(self.last_queued(), number),
                false => self.database.answered((!is_error).then_some(number)),
            },
            Pending::Monitor if !is_error => return Err("monitor"),
            // Refused, or nothing that lasts.
            _ => {}
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
        let queued = self.state.queued.get_or_insert_default();
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
        let remaining = self.state.count_subscriptions(kind, total);
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
            self.pop();
        }
        Ok(())
    }

    /// The place of the command that was queued last.
    fn last_queued(&self) -> u64 {
        let count = self.state.queued.as_ref().map_or(0, Vec::len);
        (count as u64).saturating_sub(1)
    }

    /// A request that settles so many deliveries is done with, whether Redis has carried it
    /// out or not.
    fn settle(&mut self, count: usize, is_done: bool) {
        let count = count.min(self.settling.len());
        let settling = self.settling.drain(..count);
        let settled = settling.map(|(receipt, settlement)| Told::Settled(receipt, settlement));
        self.told.extend(settled.filter(|_| is_done));
        if self.settling.is_empty() {
            self.settling.shrink_to(PENDING_KEPT_MAX);
        }
    }

    fn end_transaction(&mut self, answer: &Answer) {
        self.database.end_transaction();
        for hops in self.state.end_transaction() {
            self.end_hops(hops, answer);
        }
    }

    fn reset(&mut self) {
        self.database.end_transaction();
        self.database.answered(Some(Some(0)));
        for hops in self.state.reset() {
            self.end_hops(hops, &Answer::Discarded);
        }
    }

    /// What EXEC says of one of its commands.
    fn executed(&mut self, index: u64, type_byte: u8, text: &[u8]) {
        self.has_failed |= matches!(type_byte, b'-' | b'!');
        if type_byte == b'+' {
            self.database.executed(index);
        }
        let hops = usize::try_from(index)
            .ok()
            .and_then(|index| self.state.queued.as_mut()?.get_mut(index))
            .map(mem::take);
        if let Some(hops) = hops.filter(|hops| hops.count > 0) {
            self.told
                .push(Told::Answered(hops, answer(type_byte, text)));
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
        self.reply.has_address = false;
        self.reply.word.clear();
        self.reply.key.clear();
        self.reply.text.clear();
        self.reply
            .text
            .extend_from_slice(text.get(..TEXT_BYTES_MAX).unwrap_or(text));
        self.begin_reply(type_byte);
    }

    /// Something of that type begins, in RESP3 beside the replies if it is a push. A message or
    /// a confirmation in RESP2 is told from other arrays by its first element.
    fn begin_reply(&mut self, type_byte: u8) {
        if type_byte != b'>' && (type_byte != b'*' || self.state.resp3) {
            self.rule_out_confirmation();
        }
    }

    pub(super) fn element(&mut self, index: u64, type_byte: u8, text: &[u8]) {
        let part = self.part(Place::Element(index));
        if part == Part::Word && text.len() <= WORD_BYTES_MAX {
            self.reply.word.extend_from_slice(text);
        }
        let is_of_subscription = self.channel_at().is_some() || self.confirmed().is_some();
        if part == Part::Word && self.reply.type_byte == b'*' && !is_of_subscription {
            self.rule_out_confirmation();
        }
        // What was no word may be a key.
        if self.part(Place::Element(index)) == Part::Key {
            let name = text.get(..KEY_BYTES_MAX).unwrap_or(text);
            self.reply.key.extend_from_slice(name);
        }
        self.reply.has_address |= part == Part::Address && !text.is_empty();
        if index == 2 && type_byte == b':' {
            self.reply.number = std::str::from_utf8(text)
                .ok()
                .and_then(|digits| digits.parse().ok());
        }
        if self.reply.type_byte == b'*' && matches!(self.pending.front(), Some(Pending::Exec(_))) {
            self.executed(index, type_byte, text);
        }
    }

    /// What is to be seen of the string that begins at this place.
    pub(super) fn wants(&mut self, type_byte: u8, place: Place) -> Want {
        if place == Place::Whole {
            self.begin_reply(type_byte);
        }
        if type_byte == b'!' {
            return Want::Text(TEXT_BYTES_MAX);
        }
        match self.part(place) {
            Part::Other => Want::Nothing,
            Part::Unread => Want::Beginning,
            // It may turn out to be a key.
            Part::Word if self.reply.type_byte == b'*' => Want::Text(KEY_BYTES_MAX),
            Part::Word => Want::Text(WORD_BYTES_MAX),
            Part::Key | Part::Address => Want::Text(KEY_BYTES_MAX),
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

    /// Whether element `index` is the address that a `MOVING` push leads to.
    pub(super) fn is_moving_address(&self, index: u64) -> bool {
        self.part(Place::Element(index)) == Part::Address
    }

    /// Whether the reply, which is whole, says where else to connect: a word for how. The address
    /// in a `MOVING` push may have been removed.
    pub(super) fn redirects(&self) -> Option<&'static str> {
        let Reply {
            type_byte, text, ..
        } = &self.reply;
        match (type_byte, self.pending.front()) {
            (b'>', _) => self.reply.has_address.then_some(MOVING),
            (b'-', _) if text.starts_with(b"MOVED ") => Some("moved"),
            (b'-', _) if text.starts_with(b"ASK ") => Some("ask"),
            (b'*' | b'%' | b'$' | b'=', Some(Pending::Addresses(why)))
                if text != b"0" && !self.is_out_of_band() =>
            {
                Some(why)
            }
            _ => None,
        }
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
                Some(Pop::Unread { .. }) => Part::Unread,
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
            (b'>', _, Place::Element(3)) if self.is_moving() => Part::Address,
            (b'*', _, Place::Element(0)) if self.subscription_is_possible() => Part::Word,
            (type_byte, Some(Pop::Unread { .. }), _) if type_byte != b'>' => Part::Unread,
            (b'*', Some(Pop::From(_)), Place::Element(_))
            | (b'*', Some(Pop::Named), Place::Element(1))
            | (b'*', Some(Pop::NamedMany { .. }), Place::Within(1)) => Part::Message,
            (b'*', Some(Pop::Named | Pop::NamedMany { .. }), Place::Element(0)) => Part::Key,
            _ => Part::Other,
        }
    }

    /// Whether an array may be one of RESP2's messages and confirmations.
    fn subscription_is_possible(&self) -> bool {
        self.state.is_in_subscribed_mode()
            || matches!(
                self.pending.front(),
                Some(Pending::Subscribe { .. } | Pending::Unsubscribe { .. })
            )
    }
}

impl Pending {
    fn new(request: Request<'_>, hops: Hops, settles: usize) -> Self {
        match request {
            Request::Exec => Self::Exec(settles),
            _ if settles > 0 => Self::Settle(settles),
            Request::Plain | Request::SetName(_) => Self::Plain(1),
            Request::Push if hops.count == 0 => Self::Plain(1),
            Request::Push => Self::Push(hops),
            Request::Pop(pop) => Self::Pop(match pop {
                Pop::From(key) => Pop::From(key.into()),
                Pop::Named => Pop::Named,
                Pop::NamedMany { waits } => Pop::NamedMany { waits },
                Pop::Unread { waits } => Pop::Unread { waits },
            }),
            Request::Multi => Self::Multi,
            Request::Discard => Self::Discard,
            Request::Watch => Self::Watch,
            Request::Unwatch => Self::Unwatch,
            Request::Subscribe { kind, count } => Self::Subscribe {
                kind,
                left: count,
                is_refusal_heard: true,
            },
            Request::Unsubscribe { kind, count } => Self::Unsubscribe {
                kind,
                left: (count > 0).then_some(count),
                is_refusal_heard: true,
            },
            Request::Hello { resp3 } => Self::Hello { resp3 },
            Request::Reset => Self::Reset,
            Request::Select(number) => Self::Select(number),
            Request::Reply(mode) => Self::Reply(mode),
            Request::Addresses(why) => Self::Addresses(why),
            Request::Monitor => Self::Monitor,
            Request::Sync => Self::Sync,
        }
    }

    fn name_bytes(&self) -> usize {
        match self {
            Self::Pop(Pop::From(name)) => name.len(),
            _ => 0,
        }
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
            Answer::Refused(clean(words).into())
        }
        _ => Answer::Confirmed,
    }
}

/// The word for a push that leads elsewhere.
pub(super) const MOVING: &str = "moving";
/// Longer than the word of any message or confirmation.
const WORD_BYTES_MAX: usize = 16;
/// As much of an error as is told.
const TEXT_BYTES_MAX: usize = 256;
/// The room that an idle session keeps for requests that wait.
const PENDING_KEPT_MAX: usize = 16;
