//! How far a connection has come: from its opening to its end, whoever ends it.
//!
//! The proxy ends a connection as a broker does that shuts down: with `connection.close`
//! and the reply code 320, whereupon clients connect anew. What the client had sent before
//! it heard of that still counts, for it will not send it again: publications without
//! confirms, acknowledgements. What it will repeat is dropped, lest it be done twice.

use crate::protocol::Side;
use crate::protocol::amqp::method::Method;
use crate::trace::Timestamp;

#[derive(Debug, Default)]
pub(super) enum Stage {
    /// Nothing can be sent yet but what the opening calls for.
    #[default]
    Opening,
    Open,
    /// One of the peers wants to close the connection.
    Closing,
    /// And the other has agreed.
    Closed,
    /// The proxy wants to part the peers. First it cancels the consumers that do not
    /// acknowledge, since nobody could hear what is sent to them from then on; for these,
    /// by channel and tag, the broker has yet to say so.
    Cancelling(Vec<(u16, Box<[u8]>)>),
    /// The client was told to close, then, or it has published since, what nobody would
    /// send again.
    ToldClient {
        at: Timestamp,
    },
    /// It has, or it took too long. The broker was told, too.
    ToldBroker {
        at: Timestamp,
    },
    /// Neither has anything more to say.
    Parted,
}

/// What is to become of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Pass,
    Drop,
    /// It does not pass, and the broker is to be told to close.
    DropAndTellBroker,
}

/// How a channel answers its client, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Publications are not answered.
    Plain,
    Confirming,
    Transactional,
}

impl Stage {
    /// A method has come from the client.
    pub(super) fn requested(
        &mut self,
        method: &Method<'_>,
        manner: Manner,
        now: Timestamp,
    ) -> Fate {
        match (&self, method) {
            (Self::ToldBroker { .. } | Self::Parted, _) => Fate::Drop,
            (Self::ToldClient { .. }, Method::ConnectionCloseOk) => {
                *self = Self::ToldBroker { at: now };
                Fate::DropAndTellBroker
            }
            // Both ask at the same time: it is the client that closes.
            (_, Method::ConnectionClose(_)) => {
                *self = Self::Closing;
                Fate::Pass
            }
            (Self::Closing, Method::ConnectionCloseOk) => {
                *self = Self::Closed;
                Fate::Pass
            }
            // As long as it has something to say, it is waited for.
            (Self::ToldClient { .. }, Method::Publish { .. }) if manner == Manner::Plain => {
                *self = Self::ToldClient { at: now };
                Fate::Pass
            }
            (Self::ToldClient { .. }, method) => match (manner, method) {
                // It will miss the commit.
                (Manner::Transactional, _) => Fate::Drop,
                // It will miss the confirm.
                (Manner::Confirming, Method::Publish { .. }) => Fate::Drop,
                // It will miss the message, which then may be lost.
                (_, Method::Get { .. } | Method::Consume { .. }) => Fate::Drop,
                _ => Fate::Pass,
            },
            _ => Fate::Pass,
        }
    }

    /// A method has come from the broker on that channel.
    pub(super) fn answered(&mut self, number: u16, method: &Method<'_>) -> Fate {
        match (&mut *self, method) {
            (
                Self::ToldClient { .. } | Self::ToldBroker { .. },
                Method::ConnectionClose(_) | Method::ConnectionCloseOk,
            ) => {
                *self = Self::Parted;
                Fate::Drop
            }
            (Self::ToldClient { .. } | Self::ToldBroker { .. } | Self::Parted, _) => Fate::Drop,
            (Self::Opening, Method::OpenOk) => {
                *self = Self::Open;
                Fate::Pass
            }
            (_, Method::ConnectionClose(_)) => {
                *self = Self::Closing;
                Fate::Pass
            }
            (Self::Closing, Method::ConnectionCloseOk) => {
                *self = Self::Closed;
                Fate::Pass
            }
            (Self::Cancelling(waiting), Method::CancelOk { consumer_tag }) => {
                let is_ours = |(channel, tag): &(u16, Box<[u8]>)| {
                    *channel == number && **tag == **consumer_tag
                };
                match waiting.iter().position(is_ours) {
                    Some(place) => {
                        waiting.swap_remove(place);
                        Fate::Drop
                    }
                    None => Fate::Pass,
                }
            }
            // It will not get round to it.
            (Self::Cancelling(waiting), Method::ChannelClose(_) | Method::ChannelCloseOk) => {
                waiting.retain(|(channel, _)| *channel != number);
                Fate::Pass
            }
            _ => Fate::Pass,
        }
    }

    /// Whether the connection has come to its end in good order: what ends it now breaks
    /// nothing.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self, Self::Closed | Self::ToldBroker { .. } | Self::Parted)
    }

    /// Whether that is so, or about to be, when `side` ends.
    pub(super) fn ends_in_order(&self, side: Side) -> bool {
        match self {
            Self::Closing => true,
            Self::ToldClient { .. } => side == Side::Client,
            _ => self.is_over(),
        }
    }

    /// Whether messages can be sent.
    pub(super) const fn is_open(&self) -> bool {
        matches!(
            self,
            Self::Open | Self::Cancelling(_) | Self::ToldClient { .. }
        )
    }

    /// Whether nothing that comes from the client goes on to the broker.
    pub(super) const fn is_deaf_to_client(&self) -> bool {
        matches!(self, Self::ToldBroker { .. } | Self::Parted)
    }

    /// Whether nothing that comes from the broker goes on to the client.
    pub(super) const fn is_deaf_to_broker(&self) -> bool {
        matches!(
            self,
            Self::ToldClient { .. } | Self::ToldBroker { .. } | Self::Parted
        )
    }
}
