//! The channels of one connection: what is being sent on each, and what either side owes for
//! it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::OnceLock;

use crate::hop::Answer;
use crate::hop::Settlement;
use crate::protocol::amqp::consumers::Consumers;
use crate::protocol::amqp::consumers::Source;
use crate::protocol::amqp::method::Handover;
use crate::protocol::amqp::method::Method;
use crate::protocol::amqp::method::Route;
use crate::protocol::amqp::method::Tags;
use crate::protocol::amqp::owed::Answers;
use crate::protocol::amqp::owed::Owed;
use crate::protocol::amqp::owed::Sent;
use crate::protocol::amqp::saying::Saying;
use crate::protocol::amqp::stage::Manner;
use crate::protocol::amqp::unsettled::Settlements;
use crate::protocol::amqp::unsettled::Unsettled;
use crate::trace::Timestamp;

/// All channels of which something has to be known.
#[derive(Debug)]
pub(super) struct Channels {
    /// Boxed: the map has room for many, and most connections have one.
    channels: BTreeMap<u16, Box<Channel>>,
    pub(super) consumers: Consumers,
    /// Exchanges that pass on every message to whoever listens.
    fanouts: BTreeSet<Box<[u8]>>,
    answers: Answers,
    settlements: Settlements,
    waiting_max: usize,
    /// The broker has closed the connection, in these words.
    closed: Option<Box<str>>,
    /// No answer is read any more.
    lost: bool,
    /// Where the last publication went: the next one mostly goes there, too.
    target: Option<Arc<Target>>,
}

#[derive(Debug, Default)]
pub(super) struct Channel {
    pub(super) publishing: Publishing,
    pub(super) delivering: Delivering,
    owed: Owed,
    unsettled: Unsettled,
    /// The broker has closed the channel, in these words; it ignores what the client sends
    /// until that has heard of it.
    closed: Option<Box<str>>,
    /// How often `basic.get` has not been answered.
    gets: usize,
    /// What the first of these asked for.
    asked: VecDeque<Source>,
    /// The client has closed it, and the broker has yet to say so.
    is_closing: bool,
}

/// What of a publication is to come next.
#[derive(Debug, Default)]
pub(super) enum Publishing {
    #[default]
    Nothing,
    /// Its content header.
    Header(Publish),
    /// So many bytes of its body.
    Body {
        left: u64,
        sent: Sent,
        /// What it may tell besides.
        saying: Option<Box<Saying>>,
    },
    /// The same for one that does not go on to the broker.
    DroppedHeader,
    DroppedBody {
        left: u64,
    },
}

/// What `basic.publish` said.
#[derive(Debug)]
pub(super) struct Publish {
    pub(super) at: Timestamp,
    pub(super) target: Arc<Target>,
    pub(super) mandatory: bool,
}

/// Where publications go.
#[derive(Debug)]
pub(super) struct Target {
    exchange: Box<[u8]>,
    routing_key: Box<[u8]>,
    /// Known once somebody has asked for it.
    destination: OnceLock<Arc<str>>,
}

/// What of a message to the client is to come next.
#[derive(Debug, Default)]
pub(super) enum Delivering {
    #[default]
    Nothing,
    /// Its content header.
    Header(Delivered),
    /// The content header of a message that is returned.
    ReturnedHeader(Returned),
    Body {
        left: u64,
    },
}

/// What `basic.deliver` or `basic.get-ok` said.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) tag: u64,
    /// The queue that it comes from, or else what it was routed by.
    pub(super) destination: Arc<str>,
    /// It counts as acknowledged.
    pub(super) no_ack: bool,
    pub(super) redelivered: bool,
    /// Its exchange passes on every message to whoever listens.
    pub(super) broadcast: bool,
    /// It was held back by kombu's delay exchanges.
    pub(super) delayed: bool,
}

/// What `basic.return` said.
#[derive(Debug)]
pub(super) struct Returned {
    pub(super) words: Box<str>,
    pub(super) exchange: Box<[u8]>,
    pub(super) routing_key: Box<[u8]>,
}

impl Channels {
    pub(super) fn new(waiting_max: usize) -> Self {
        Self {
            channels: BTreeMap::new(),
            consumers: Consumers::default(),
            fanouts: BTreeSet::new(),
            answers: Answers::default(),
            settlements: Settlements::default(),
            waiting_max,
            closed: None,
            lost: false,
            target: None,
        }
    }

    pub(super) fn channel(&mut self, number: u16) -> &mut Channel {
        self.channels.entry(number).or_default()
    }

    /// What has become of hops since this was asked last.
    pub(super) fn take_answers(&mut self) -> impl Iterator<Item = (u64, Answer)> + '_ {
        self.answers.take()
    }

    /// What has become of deliveries since this was asked last.
    pub(super) fn take_settlements(&mut self) -> impl Iterator<Item = (u64, Settlement)> + '_ {
        self.settlements.take()
    }

    /// The memory that all this takes, at most.
    pub(super) fn kept_bytes(&self) -> usize {
        self.channels.len() * CHANNEL_BYTES
            + self.consumers.count() * CONSUMER_BYTES
            + self.fanouts.len() * NAME_BYTES
            + self.answers.waiting_count() * SENT_BYTES
            + self.answers.returnable_count() * RETURNABLE_BYTES
            + self.settlements.waiting_count() * UNSETTLED_BYTES
    }

    /// Whether more is waited for than is allowed.
    pub(super) const fn is_over_limit(&self) -> bool {
        !self.lost && self.answers.waiting_count() > self.waiting_max
    }

    /// Whether no message is half sent in either direction, and the broker owes nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.closed.is_none()
            && self.consumers.is_settled()
            && self.channels.values().all(|channel| channel.is_settled())
    }

    /// Whether no publication that goes on to the broker is half sent.
    pub(super) fn is_nothing_half_published(&self) -> bool {
        let mut channels = self.channels.values();
        !channels.any(|channel| {
            matches!(
                channel.publishing,
                Publishing::Header(_) | Publishing::Body { .. }
            )
        })
    }

    /// How the client is answered on that channel.
    pub(super) fn manner(&self, number: u16) -> Manner {
        match self.channels.get(&number).map(|channel| &channel.owed) {
            None | Some(Owed::Nothing { .. }) => Manner::Plain,
            Some(Owed::Confirms { .. }) => Manner::Confirming,
            Some(Owed::Transaction { .. }) => Manner::Transactional,
        }
    }

    /// The client has sent a method.
    pub(super) fn requested(&mut self, number: u16, method: &Method<'_>, now: Timestamp) {
        if let Method::ConnectionClose(_) = method {
            self.give_back(Settlement::Returned);
        }
        if number == CONNECTION {
            return;
        }
        let channel = self.channels.entry(number).or_default();
        channel.interrupt(&Answer::Lost, &mut self.answers);
        match method {
            Method::Publish { route, mandatory } => {
                let known = self.target.take();
                let known = known.filter(|target| target.route() == *route);
                let target = known.unwrap_or_else(|| Arc::new(Target::new(*route)));
                self.target = Some(Arc::clone(&target));
                channel.publishing = Publishing::Header(Publish {
                    at: now,
                    target,
                    mandatory: *mandatory,
                });
            }
            Method::ConfirmSelect => channel.owed.select_confirms(&mut self.answers),
            Method::TxSelect => channel.owed.select_transactions(&mut self.answers),
            Method::TxCommit | Method::TxRollback if !self.lost => {
                channel.owed.ended(&mut self.answers);
            }
            Method::Ack(tags) => self.settle(number, *tags, Settlement::Acknowledged),
            Method::Nack { tags, requeue } => self.settle(number, *tags, refusal(*requeue)),
            Method::Reject { tag, requeue } => {
                self.settle(number, Tags::one(*tag), refusal(*requeue));
            }
            Method::Requeue => {
                let settlements = &mut self.settlements;
                channel
                    .unsettled
                    .settle_all(Settlement::Requeued, settlements);
            }
            Method::DeclareExchange {
                exchange,
                is_fanout: true,
            } if self.fanouts.len() < FANOUTS_MAX => {
                self.fanouts.insert((*exchange).into());
            }
            Method::Get { queue, no_ack } => channel.get(Source::new(queue, *no_ack)),
            Method::Consume {
                queue,
                consumer_tag,
                no_ack,
                nowait,
            } => {
                let source = Source::new(queue, *no_ack);
                match nowait {
                    true => self.consumers.add(number, consumer_tag, source),
                    false => self.consumers.ask(number, consumer_tag, source),
                }
            }
            Method::Cancel {
                consumer_tag,
                nowait,
            } => match nowait {
                true => self.consumers.remove(number, consumer_tag),
                false => self.consumers.leave(number, consumer_tag),
            },
            Method::ChannelClose(_) => {
                channel.is_closing = true;
                channel.forget_gets();
                channel.give_back(Settlement::Returned, &mut self.settlements);
                self.consumers.leave_channel(number);
            }
            Method::ChannelOpen | Method::ChannelCloseOk => self.end_channel(number),
            _ => {}
        }
    }

    /// The broker has sent a method.
    pub(super) fn answered(&mut self, number: u16, method: &Method<'_>) {
        match method {
            Method::ConnectionClose(reason) => {
                let words = reason.words();
                self.closed = Some(words.clone());
                self.lose_all(&Answer::Refused(words));
                self.give_back(Settlement::Returned);
            }
            Method::ConnectionCloseOk => self.close(),
            _ => {}
        }
        if number == CONNECTION {
            return;
        }
        let channel = self.channels.entry(number).or_default();
        channel.delivering = Delivering::Nothing;
        let answers = &mut self.answers;
        match method {
            Method::Deliver {
                consumer_tag,
                delivery,
            } => {
                let source = self.consumers.source(number, consumer_tag);
                let delivered = Delivered::new(delivery, source, &self.fanouts);
                channel.delivering = Delivering::Header(delivered);
            }
            Method::Return { reason, route } => {
                channel.delivering = Delivering::ReturnedHeader(Returned {
                    words: reason.words(),
                    exchange: route.exchange.into(),
                    routing_key: route.routing_key.into(),
                });
            }
            Method::GetOk(delivery) => {
                let source = channel.got();
                let delivered = Delivered::new(delivery, source.as_ref(), &self.fanouts);
                channel.delivering = Delivering::Header(delivered);
            }
            Method::GetEmpty => drop(channel.got()),
            Method::Ack(tags) => channel.owed.confirmed(*tags, &Answer::Confirmed, answers),
            Method::Nack { tags, .. } => {
                let refused = Answer::Refused("nack".into());
                channel.owed.confirmed(*tags, &refused, answers);
            }
            Method::TxCommitOk => channel.owed.end_answered(&Answer::Confirmed, answers),
            Method::TxRollbackOk => channel.owed.end_answered(&Answer::Discarded, answers),
            Method::ConsumeOk { consumer_tag } => self.consumers.answered(number, consumer_tag),
            Method::CancelOk { consumer_tag } | Method::Cancel { consumer_tag, .. } => {
                self.consumers.remove(number, consumer_tag);
            }
            Method::ChannelClose(reason) => {
                let words = reason.words();
                channel.owed.lose(&Answer::Refused(words.clone()), answers);
                channel.closed = Some(words);
                channel.forget_gets();
                channel.give_back(Settlement::Returned, &mut self.settlements);
                self.consumers.remove_channel(number);
            }
            Method::ChannelCloseOk => self.end_channel(number),
            _ => {}
        }
    }

    /// A task message was delivered, to be settled by its tag. Where too many wait for that,
    /// nothing more will be known of the oldest.
    pub(super) fn delivered(&mut self, channel: u16, tag: u64, number: u64) {
        let channel = self.channels.entry(channel).or_default();
        channel
            .unsettled
            .delivered(tag, number, &mut self.settlements);
        if self.settlements.waiting_count() > self.waiting_max {
            let channels = self.channels.values_mut();
            let oldest = channels
                .filter_map(|channel| Some((channel.unsettled.oldest()?, channel)))
                .min_by_key(|(number, _)| *number);
            if let Some((_, channel)) = oldest {
                channel.unsettled.forget_oldest(&mut self.settlements);
            }
        }
    }

    /// The last byte of a publication has been sent; whether on a connection that is open.
    pub(super) fn published(&mut self, number: u16, sent: Sent, is_open: bool) {
        let channel = self.channels.entry(number).or_default();
        if let Some(words) = self.closed.as_ref().or(channel.closed.as_ref()) {
            // It has not heard of it yet; the broker does not listen any more.
            self.answers.tell(sent.hop, Answer::Refused(words.clone()));
        } else if self.lost || !is_open {
            // On a connection that is not open the broker has agreed to nothing yet.
            self.answers.tell(sent.hop, Answer::Unread);
        } else {
            channel.owed.published(sent, &mut self.answers);
        }
    }

    /// The client will send no more: what is half sent ends like this.
    pub(super) fn interrupt(&mut self, answer: &Answer) {
        for channel in self.channels.values_mut() {
            channel.interrupt(answer, &mut self.answers);
        }
    }

    /// No answer will be read any more: this is what is told of all that wait.
    pub(super) fn lose(&mut self, answer: &Answer) {
        self.lost = true;
        self.lose_all(answer);
    }

    fn lose_all(&mut self, answer: &Answer) {
        for channel in self.channels.values_mut() {
            channel.owed.lose(answer, &mut self.answers);
        }
    }

    /// The connection was closed in good order: no answer will come any more.
    pub(super) fn close(&mut self) {
        for channel in self.channels.values_mut() {
            channel.close(&mut self.answers, &mut self.settlements);
        }
    }

    /// The connection ends, and so the broker takes back what is not settled.
    pub(super) fn give_back(&mut self, settlement: Settlement) {
        for channel in self.channels.values_mut() {
            channel.give_back(settlement, &mut self.settlements);
        }
    }

    /// The broker has returned a message, in these words.
    pub(super) fn returned(&mut self, number: u16, mark: u64, words: Box<str>) {
        let channel = self.channels.entry(number).or_default();
        channel.owed.returned(mark, words, &mut self.answers);
    }

    /// From here on nothing is known of what becomes of deliveries.
    pub(super) fn forget_deliveries(&mut self) {
        for channel in self.channels.values_mut() {
            channel.unsettled.forget(&mut self.settlements);
        }
    }

    fn settle(&mut self, number: u16, tags: Tags, settlement: Settlement) {
        let channel = self.channels.entry(number).or_default();
        channel.owed.acknowledged();
        channel
            .unsettled
            .settle(tags, settlement, &mut self.settlements);
    }

    fn end_channel(&mut self, number: u16) {
        self.consumers.remove_channel(number);
        if let Some(mut channel) = self.channels.remove(&number) {
            channel.interrupt(&Answer::Lost, &mut self.answers);
            channel.close(&mut self.answers, &mut self.settlements);
        }
    }
}

const fn refusal(requeue: bool) -> Settlement {
    match requeue {
        true => Settlement::Requeued,
        false => Settlement::Rejected,
    }
}

impl Delivered {
    fn new(
        delivery: &Handover<'_>,
        source: Option<&Source>,
        fanouts: &BTreeSet<Box<[u8]>>,
    ) -> Self {
        let queue = source.and_then(|source| source.queue.clone());
        let route = &delivery.route;
        Self {
            tag: delivery.tag,
            destination: queue.unwrap_or_else(|| route.routing_key_of_delivery()),
            no_ack: source.is_some_and(|source| source.no_ack),
            redelivered: delivery.redelivered,
            broadcast: route.exchange == b"amq.fanout" || fanouts.contains(route.exchange),
            delayed: route.is_behind_delay(),
        }
    }
}

impl Target {
    fn new(route: Route<'_>) -> Self {
        Self {
            exchange: route.exchange.into(),
            routing_key: route.routing_key.into(),
            destination: OnceLock::new(),
        }
    }

    pub(super) fn route(&self) -> Route<'_> {
        Route {
            exchange: &self.exchange,
            routing_key: &self.routing_key,
        }
    }

    pub(super) fn destination(&self) -> &Arc<str> {
        self.destination.get_or_init(|| self.route().destination())
    }
}

impl Returned {
    pub(super) fn route(&self) -> Route<'_> {
        Route {
            exchange: &self.exchange,
            routing_key: &self.routing_key,
        }
    }
}

impl Publishing {
    /// Whether somebody wants to know what its body says.
    pub(super) const fn is_heard(&self) -> bool {
        matches!(
            self,
            Self::Body {
                saying: Some(_),
                ..
            }
        )
    }

    /// So much of the body has passed. The publication, if that was all, and what it may tell.
    pub(super) fn advance(&mut self, passed: usize) -> Option<(Sent, Option<Box<Saying>>)> {
        let (Self::Body { left, .. } | Self::DroppedBody { left }) = self else {
            return None;
        };
        *left = left.saturating_sub(u64::try_from(passed).unwrap_or(u64::MAX));
        if *left > 0 {
            return None;
        }
        match mem::take(self) {
            Self::Body { sent, saying, .. } => Some((sent, saying)),
            _ => None,
        }
    }
}

impl Delivering {
    /// So much of the body has passed.
    pub(super) fn advance(&mut self, passed: usize) {
        if let Self::Body { left } = self {
            *left = left.saturating_sub(u64::try_from(passed).unwrap_or(u64::MAX));
            if *left == 0 {
                *self = Self::Nothing;
            }
        }
    }
}

impl Channel {
    fn is_settled(&self) -> bool {
        matches!(self.publishing, Publishing::Nothing)
            && matches!(self.delivering, Delivering::Nothing)
            && self.owed.is_settled()
            && self.closed.is_none()
            && !self.is_closing
            && self.gets == 0
    }

    /// The client wants one message.
    fn get(&mut self, source: Source) {
        // Of those beyond the limit it is not known what they asked for.
        if self.asked.len() == self.gets && self.gets < GETS_MAX {
            self.asked.push_back(source);
        }
        self.gets += 1;
    }

    /// The broker has answered the first of those wishes: that one.
    fn got(&mut self) -> Option<Source> {
        self.gets = self.gets.saturating_sub(1);
        self.asked.pop_front()
    }

    fn forget_gets(&mut self) {
        self.gets = 0;
        self.asked.clear();
    }

    /// It was closed in good order.
    fn close(&mut self, answers: &mut Answers, settlements: &mut Settlements) {
        self.owed.close(answers);
        self.give_back(Settlement::Returned, settlements);
    }

    fn give_back(&mut self, settlement: Settlement, settlements: &mut Settlements) {
        self.unsettled.settle_all(settlement, settlements);
    }

    /// Something else came where the rest of a publication should have.
    fn interrupt(&mut self, answer: &Answer, answers: &mut Answers) {
        if let Publishing::Body { sent, .. } = mem::take(&mut self.publishing) {
            answers.tell(sent.hop, answer.clone());
        }
    }
}

/// The number under which the connection itself is spoken of.
const CONNECTION: u16 = 0;

/// What each of these takes, with all names as long as they can be: 255 bytes.
const NAME_BYTES: usize = 320;
const CONSUMER_BYTES: usize = 2 * NAME_BYTES;
/// The names and the words of what is on its way, the gets, and the head of a result.
const CHANNEL_BYTES: usize = 5 << 10;
/// With the words in which it was returned.
const SENT_BYTES: usize = NAME_BYTES + 128;
const UNSETTLED_BYTES: usize = 32;
const RETURNABLE_BYTES: usize = 32;
/// Known of one connection.
const FANOUTS_MAX: usize = 1024;
/// Known of one channel at once.
const GETS_MAX: usize = 8;
