//! The channels of one connection: what is being sent on each, and what is owed for it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::mem;

use crate::hop::Answer;
use crate::protocol::amqp::method::Method;
use crate::protocol::amqp::method::Route;
use crate::protocol::amqp::owed::Answers;
use crate::protocol::amqp::owed::Owed;
use crate::protocol::amqp::owed::Sent;
use crate::protocol::amqp::stage::Manner;
use crate::trace::Timestamp;

/// All channels of which something has to be known.
#[derive(Debug)]
pub(super) struct Channels {
    /// Boxed: the map has room for many, and most connections have one.
    channels: BTreeMap<u16, Box<Channel>>,
    /// The consumers whose deliveries count as acknowledged once they are sent, by channel
    /// and tag.
    consumers: BTreeSet<(u16, Box<[u8]>)>,
    answers: Answers,
    waiting_max: usize,
    /// The broker has closed the connection, in these words.
    closed: Option<Box<str>>,
    /// No answer is read any more.
    lost: bool,
}

#[derive(Debug, Default)]
pub(super) struct Channel {
    pub(super) publishing: Publishing,
    pub(super) delivering: Delivering,
    owed: Owed,
    /// The broker has closed the channel, in these words; it ignores what the client sends
    /// until that has heard of it.
    closed: Option<Box<str>>,
    /// How often `basic.get` has not been answered.
    gets: usize,
    /// For the consumers that were asked for, and not yet answered: whether their
    /// deliveries count as acknowledged once they are sent.
    asked: VecDeque<bool>,
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
    pub(super) exchange: Box<[u8]>,
    pub(super) routing_key: Box<[u8]>,
    pub(super) mandatory: bool,
}

/// What of a message to the client is to come next.
#[derive(Debug, Default)]
pub(super) enum Delivering {
    #[default]
    Nothing,
    Header,
    /// The content header of a message that is returned.
    ReturnedHeader(Returned),
    Body {
        left: u64,
    },
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
            consumers: BTreeSet::new(),
            answers: Answers::default(),
            waiting_max,
            closed: None,
            lost: false,
        }
    }

    pub(super) fn channel(&mut self, number: u16) -> &mut Channel {
        self.channels.entry(number).or_default()
    }

    /// What has become of hops since this was asked last.
    pub(super) fn take_answers(&mut self) -> impl Iterator<Item = (u64, Answer)> + '_ {
        self.answers.take()
    }

    /// Whether more is waited for than is allowed.
    pub(super) const fn is_over_limit(&self) -> bool {
        !self.lost && self.answers.waiting_count() > self.waiting_max
    }

    /// Whether no message is half sent in either direction, and the broker owes nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.closed.is_none() && self.channels.values().all(|channel| channel.is_settled())
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
            None | Some(Owed::Nothing) => Manner::Plain,
            Some(Owed::Confirms { .. }) => Manner::Confirming,
            Some(Owed::Transaction { .. }) => Manner::Transactional,
        }
    }

    /// The consumers that do not acknowledge, by channel and tag; what is sent to them would
    /// be lost together with the connection. They are forgotten.
    pub(super) fn take_consumers(&mut self) -> Vec<(u16, Box<[u8]>)> {
        mem::take(&mut self.consumers).into_iter().collect()
    }

    /// Whether there are none of these.
    pub(super) fn has_no_consumers(&self) -> bool {
        self.consumers.is_empty()
    }

    /// The client has sent a method.
    pub(super) fn requested(&mut self, number: u16, method: &Method<'_>, now: Timestamp) {
        if number == CONNECTION {
            return;
        }
        let channel = self.channels.entry(number).or_default();
        channel.interrupt(&Answer::Lost, &mut self.answers);
        match method {
            Method::Publish { route, mandatory } => {
                channel.publishing = Publishing::Header(Publish {
                    at: now,
                    exchange: route.exchange.into(),
                    routing_key: route.routing_key.into(),
                    mandatory: *mandatory,
                });
            }
            Method::ConfirmSelect => channel.owed.select_confirms(),
            Method::TxSelect => channel.owed.select_transactions(),
            Method::TxCommit | Method::TxRollback if !self.lost => {
                channel.owed.ended(&mut self.answers);
            }
            Method::Ack(_) | Method::Nack(_) | Method::Reject => channel.owed.acknowledged(),
            Method::Get => channel.gets += 1,
            Method::Consume {
                consumer_tag,
                no_ack,
                nowait,
            } => {
                if !nowait {
                    channel.ask(*no_ack);
                } else if *no_ack {
                    self.add_consumer(number, consumer_tag);
                }
            }
            Method::Cancel { consumer_tag } => self.remove_consumer(number, consumer_tag),
            Method::ChannelClose(_) => {
                channel.is_closing = true;
                self.forget_consumers(number);
            }
            Method::ChannelOpen | Method::ChannelCloseOk => self.end_channel(number),
            _ => {}
        }
    }

    /// The broker has sent a method.
    pub(super) fn answered(&mut self, number: u16, method: &Method<'_>) {
        if let Method::ConnectionClose(reason) = method {
            let words = reason.words();
            self.closed = Some(words.clone());
            self.lose_all(&Answer::Refused(words));
        }
        if number == CONNECTION {
            return;
        }
        let channel = self.channels.entry(number).or_default();
        channel.delivering = Delivering::Nothing;
        let answers = &mut self.answers;
        match method {
            Method::Deliver => channel.delivering = Delivering::Header,
            Method::Return { reason, route } => {
                channel.delivering = Delivering::ReturnedHeader(Returned {
                    words: reason.words(),
                    exchange: route.exchange.into(),
                    routing_key: route.routing_key.into(),
                });
            }
            Method::GetOk => {
                channel.gets = channel.gets.saturating_sub(1);
                channel.delivering = Delivering::Header;
            }
            Method::GetEmpty => channel.gets = channel.gets.saturating_sub(1),
            Method::Ack(tags) => channel.owed.confirmed(*tags, &Answer::Confirmed, answers),
            Method::Nack(tags) => {
                let refused = Answer::Refused("nack".into());
                channel.owed.confirmed(*tags, &refused, answers);
            }
            Method::TxCommitOk => channel.owed.end_answered(&Answer::Confirmed, answers),
            Method::TxRollbackOk => channel.owed.end_answered(&Answer::Discarded, answers),
            Method::ConsumeOk { consumer_tag } => {
                let no_ack = channel.asked.pop_front();
                if no_ack == Some(true) {
                    self.add_consumer(number, consumer_tag);
                }
            }
            Method::Cancel { consumer_tag } => self.remove_consumer(number, consumer_tag),
            Method::ChannelClose(reason) => {
                let words = reason.words();
                channel.owed.lose(&Answer::Refused(words.clone()), answers);
                channel.closed = Some(words);
                self.forget_consumers(number);
            }
            Method::ChannelCloseOk => self.end_channel(number),
            _ => {}
        }
    }

    /// The last byte of a publication has been sent.
    pub(super) fn published(&mut self, number: u16, sent: Sent) {
        let channel = self.channels.entry(number).or_default();
        if let Some(words) = self.closed.as_ref().or(channel.closed.as_ref()) {
            // It has not heard of it yet; the broker does not listen any more.
            self.answers.tell(sent.hop, Answer::Refused(words.clone()));
        } else if self.lost {
            self.answers.tell(sent.hop, Answer::Unanswered);
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

    fn add_consumer(&mut self, number: u16, tag: &[u8]) {
        if self.consumers.len() < CONSUMERS_MAX {
            self.consumers.insert((number, tag.into()));
        }
    }

    fn remove_consumer(&mut self, number: u16, tag: &[u8]) {
        self.consumers.remove(&(number, tag.into()));
    }

    /// Nothing more is delivered on that channel, nor has it to be.
    fn forget_consumers(&mut self, number: u16) {
        self.consumers.retain(|(channel, _)| *channel != number);
        let channel = self.channels.entry(number).or_default();
        channel.asked.clear();
        channel.gets = 0;
    }

    fn end_channel(&mut self, number: u16) {
        self.consumers.retain(|(channel, _)| *channel != number);
        if let Some(mut channel) = self.channels.remove(&number) {
            channel.interrupt(&Answer::Lost, &mut self.answers);
            channel.owed.lose(&Answer::Lost, &mut self.answers);
        }
    }
}

impl Publish {
    pub(super) fn route(&self) -> Route<'_> {
        Route {
            exchange: &self.exchange,
            routing_key: &self.routing_key,
        }
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
    /// So much of the body has passed. The publication, if that was all.
    pub(super) fn advance(&mut self, passed: usize) -> Option<Sent> {
        let (Self::Body { left, .. } | Self::DroppedBody { left }) = self else {
            return None;
        };
        *left = left.saturating_sub(u64::try_from(passed).unwrap_or(u64::MAX));
        if *left > 0 {
            return None;
        }
        match mem::take(self) {
            Self::Body { sent, .. } => Some(sent),
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
            && self.asked.is_empty()
    }

    /// The client wants another consumer.
    fn ask(&mut self, no_ack: bool) {
        if self.asked.len() < CONSUMERS_MAX {
            self.asked.push_back(no_ack);
        }
    }

    /// The broker has returned a message.
    pub(super) fn returned(&mut self, mark: u64, words: Box<str>) {
        self.owed.returned(mark, words);
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

/// On one connection, and asked for on one channel; of more than that not all are known.
const CONSUMERS_MAX: usize = 1024;
