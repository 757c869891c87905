//! Methods, as far as messages and their answers depend on them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::iter;
use std::sync::Arc;

use crate::celery::HeaderValue;
use crate::hop::clean;
use crate::protocol::amqp::cursor::Cursor;
use crate::protocol::amqp::frame::Frame;
use crate::protocol::amqp::frame::Kind;
use crate::protocol::amqp::frame::Tuning;
use crate::protocol::amqp::frame::Unreadable;
use crate::protocol::amqp::table::next_field;

/// What a method frame says. Which side may send it is known from its meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Method<'a> {
    StartOk {
        /// What the client calls itself.
        client_name: Option<Cow<'a, str>>,
    },
    Tune(Tuning),
    TuneOk(Tuning),
    Open {
        vhost: Option<&'a [u8]>,
    },
    OpenOk,
    ConnectionClose(Reason<'a>),
    ConnectionCloseOk,
    ChannelOpen,
    ChannelClose(Reason<'a>),
    ChannelCloseOk,
    DeclareExchange {
        exchange: &'a [u8],
        /// Whatever is published to it goes to all queues that are bound to it.
        is_fanout: bool,
    },
    Publish {
        route: Route<'a>,
        /// To be returned where no queue takes it.
        mandatory: bool,
    },
    Return {
        reason: Reason<'a>,
        route: Route<'a>,
    },
    Deliver {
        consumer_tag: &'a [u8],
        delivery: Handover<'a>,
    },
    Get {
        queue: &'a [u8],
        no_ack: bool,
    },
    GetOk(Handover<'a>),
    GetEmpty,
    Consume {
        queue: &'a [u8],
        consumer_tag: &'a [u8],
        /// What is sent to it counts as acknowledged.
        no_ack: bool,
        /// There will be no answer.
        nowait: bool,
    },
    ConsumeOk {
        consumer_tag: &'a [u8],
    },
    Cancel {
        consumer_tag: &'a [u8],
        nowait: bool,
    },
    CancelOk {
        consumer_tag: &'a [u8],
    },
    Ack(Tags),
    Nack {
        tags: Tags,
        /// Put back, not thrown away.
        requeue: bool,
    },
    Reject {
        tag: u64,
        requeue: bool,
    },
    /// Everything that was delivered on the channel, and not settled, is put back.
    Requeue,
    ConfirmSelect,
    TxSelect,
    TxCommit,
    TxCommitOk,
    TxRollback,
    TxRollbackOk,
    /// Nothing depends on it.
    Other,
}

/// Where a publication goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Route<'a> {
    pub(super) exchange: &'a [u8],
    pub(super) routing_key: &'a [u8],
}

/// What is said of a message that is handed to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handover<'a> {
    pub(super) tag: u64,
    pub(super) redelivered: bool,
    pub(super) route: Route<'a>,
}

/// Why something was closed or returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reason<'a> {
    code: u16,
    text: &'a [u8],
}

/// One delivery tag, or all up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tags {
    pub(super) tag: u64,
    pub(super) multiple: bool,
}

impl<'a> Method<'a> {
    /// Reads a method frame's payload, or its first [`METHOD_BYTES_MAX`].
    pub(super) fn read(payload: &'a [u8]) -> Result<Self, Unreadable> {
        let mut cursor = Cursor::new(payload, "short_method");
        Ok(match (cursor.short()?, cursor.short()?) {
            (10, 11) => Self::StartOk {
                client_name: client_name(&mut cursor),
            },
            (10, 30) => Self::Tune(tuning(&mut cursor)?),
            (10, 31) => Self::TuneOk(tuning(&mut cursor)?),
            (10, 40) => Self::Open {
                vhost: cursor.short_string().ok(),
            },
            (10, 41) => Self::OpenOk,
            (10, 50) => Self::ConnectionClose(reason(&mut cursor)?),
            (10, 51) => Self::ConnectionCloseOk,
            (20, 10) => Self::ChannelOpen,
            (20, 40) => Self::ChannelClose(reason(&mut cursor)?),
            (20, 41) => Self::ChannelCloseOk,
            (40, 10) => {
                cursor.short()?;
                Self::DeclareExchange {
                    exchange: cursor.short_string()?,
                    is_fanout: cursor.short_string()? == b"fanout",
                }
            }
            (60, 20) => {
                cursor.short()?;
                let queue = cursor.short_string()?;
                let consumer_tag = cursor.short_string()?;
                let bits = cursor.octet()?;
                Self::Consume {
                    queue,
                    consumer_tag,
                    no_ack: bits & 2 != 0,
                    nowait: bits & 8 != 0,
                }
            }
            (60, 21) => Self::ConsumeOk {
                consumer_tag: cursor.short_string()?,
            },
            (60, 30) => Self::Cancel {
                consumer_tag: cursor.short_string()?,
                nowait: cursor.octet()? & 1 != 0,
            },
            (60, 31) => Self::CancelOk {
                consumer_tag: cursor.short_string()?,
            },
            (60, 40) => {
                cursor.short()?;
                Self::Publish {
                    route: route(&mut cursor)?,
                    mandatory: cursor.octet()? & 1 != 0,
                }
            }
            (60, 50) => Self::Return {
                reason: reason(&mut cursor)?,
                route: route(&mut cursor)?,
            },
            (60, 60) => Self::Deliver {
                consumer_tag: cursor.short_string()?,
                delivery: handover(&mut cursor)?,
            },
            (60, 70) => {
                cursor.short()?;
                Self::Get {
                    queue: cursor.short_string()?,
                    no_ack: cursor.octet()? & 1 != 0,
                }
            }
            (60, 71) => Self::GetOk(handover(&mut cursor)?),
            (60, 72) => Self::GetEmpty,
            (60, 80) => Self::Ack(tags(&mut cursor)?.0),
            (60, 90) => Self::Reject {
                tag: cursor.long_long()?,
                requeue: cursor.octet()? & 1 != 0,
            },
            // RabbitMQ knows no other way to recover.
            (60, 100 | 110) if cursor.octet()? & 1 != 0 => Self::Requeue,
            (60, 120) => {
                let (tags, bits) = tags(&mut cursor)?;
                Self::Nack {
                    tags,
                    requeue: bits & 2 != 0,
                }
            }
            (85, 10) => Self::ConfirmSelect,
            (90, 10) => Self::TxSelect,
            (90, 20) => Self::TxCommit,
            (90, 21) => Self::TxCommitOk,
            (90, 30) => Self::TxRollback,
            (90, 31) => Self::TxRollbackOk,
            _ => Self::Other,
        })
    }
}

impl Route<'_> {
    /// The destination as OpenTelemetry names it for RabbitMQ: exchange and routing key,
    /// and one of them where the other is empty. On the default exchange the routing key is
    /// the queue's name.
    pub(super) fn destination(&self) -> Arc<str> {
        let exchange = String::from_utf8_lossy(self.exchange);
        let routing_key = String::from_utf8_lossy(self.routing_key);
        let level = exchange
            .strip_prefix(DELAY_EXCHANGE)
            .and_then(|level| level.parse().ok());
        let routing_key = match level {
            Some(level) => without_delay(&routing_key, level),
            None => &routing_key,
        };
        match (&*exchange, routing_key) {
            ("", "") => "amq.default".into(),
            ("", routing_key) => clean(routing_key).into(),
            (exchange, "") => clean(exchange).into(),
            (exchange, routing_key) => clean(&format!("{exchange}:{routing_key}")).into(),
        }
    }

    /// Whether the message comes from where kombu's delay exchanges lead in the end.
    pub(super) fn is_behind_delay(&self) -> bool {
        self.exchange == DELAYED_EXCHANGE
    }

    /// What stands for the queue where that is not known.
    pub(super) fn routing_key_of_delivery(&self) -> Arc<str> {
        let routing_key = String::from_utf8_lossy(self.routing_key);
        if self.is_behind_delay() {
            clean(without_delay(&routing_key, DELAY_LEVEL_MAX)).into()
        } else {
            clean(&routing_key).into()
        }
    }
}

/// Whether that is one of the queues in which kombu has messages wait for their time.
pub(super) fn is_delay_queue(name: &str) -> bool {
    name.starts_with(DELAY_EXCHANGE)
}

/// kombu's delay exchanges route by the binary digits of the delay, from that of their own
/// level downwards. Behind them stands what the message was to be routed by without it.
fn without_delay(routing_key: &str, level: usize) -> &str {
    routing_key
        .match_indices('.')
        .nth(level)
        .and_then(|(end, _)| routing_key.split_at_checked(end))
        .filter(|(digits, _)| digits.bytes().all(|digit| b"01.".contains(&digit)))
        .and_then(|(_, rest)| rest.strip_prefix('.'))
        .unwrap_or(routing_key)
}

impl Tags {
    pub(super) const fn one(tag: u64) -> Self {
        Self {
            tag,
            multiple: false,
        }
    }

    /// Takes what is meant out of `numbered`, one after another.
    pub(super) fn take_from<T>(
        self,
        numbered: &mut BTreeMap<u64, T>,
    ) -> impl Iterator<Item = (u64, T)> {
        iter::from_fn(move || match (self.tag, self.multiple) {
            (tag, false) => numbered.remove_entry(&tag),
            // Zero stands for all that there are.
            (0, true) => numbered.pop_first(),
            (tag, true) => {
                let first = numbered.first_entry()?;
                (*first.key() <= tag).then(|| first.remove_entry())
            }
        })
    }
}

impl Reason<'_> {
    /// The broker's words, its code in front.
    pub(super) fn words(&self) -> Box<str> {
        let text = String::from_utf8_lossy(self.text);
        clean(format!("{} {text}", self.code).trim_end()).into()
    }
}

/// Writes `connection.close`.
pub(super) fn write_connection_close(code: u16, text: &str, out: &mut Vec<u8>) {
    write(0, (10, 50), out, |out| {
        out.extend_from_slice(&code.to_be_bytes());
        write_short_string(text.as_bytes(), out);
        // No method is to blame.
        out.extend_from_slice(&[0; 4]);
    });
}

/// Writes `basic.cancel`, to be answered.
pub(super) fn write_cancel(channel: u16, consumer_tag: &[u8], out: &mut Vec<u8>) {
    write(channel, (60, 30), out, |out| {
        write_short_string(consumer_tag, out);
        out.push(0);
    });
}

fn write(channel: u16, id: (u16, u16), out: &mut Vec<u8>, arguments: impl FnOnce(&mut Vec<u8>)) {
    Frame::write(Kind::Method, channel, out, |out| {
        out.extend_from_slice(&id.0.to_be_bytes());
        out.extend_from_slice(&id.1.to_be_bytes());
        arguments(out);
    });
}

fn write_short_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(u8::try_from(text.len()).unwrap_or_default());
    out.extend_from_slice(text);
}

fn tuning(cursor: &mut Cursor<'_>) -> Result<Tuning, Unreadable> {
    Ok(Tuning::proposed(cursor.short()?, cursor.long()?))
}

fn reason<'a>(cursor: &mut Cursor<'a>) -> Result<Reason<'a>, Unreadable> {
    Ok(Reason {
        code: cursor.short()?,
        text: cursor.short_string()?,
    })
}

fn route<'a>(cursor: &mut Cursor<'a>) -> Result<Route<'a>, Unreadable> {
    Ok(Route {
        exchange: cursor.short_string()?,
        routing_key: cursor.short_string()?,
    })
}

fn handover<'a>(cursor: &mut Cursor<'a>) -> Result<Handover<'a>, Unreadable> {
    Ok(Handover {
        tag: cursor.long_long()?,
        redelivered: cursor.octet()? & 1 != 0,
        route: route(cursor)?,
    })
}

/// With the bits, of which the lowest says that all up to the tag are meant.
fn tags(cursor: &mut Cursor<'_>) -> Result<(Tags, u8), Unreadable> {
    let tag = cursor.long_long()?;
    let bits = cursor.octet()?;
    let multiple = bits & 1 != 0;
    Ok((Tags { tag, multiple }, bits))
}

/// Reads the properties of the client, as far as they are there, and nothing behind them:
/// what follows is how it proves who it is.
fn client_name<'a>(cursor: &mut Cursor<'a>) -> Option<Cow<'a, str>> {
    let length = usize::try_from(cursor.long().ok()?).ok()?;
    let mut properties = Cursor::new(cursor.up_to(length), "short_method");
    while let Ok(Some(property)) = next_field(&mut properties) {
        if property.name == b"connection_name"
            && let HeaderValue::Text(name) = property.value.into()
        {
            return (!name.is_empty()).then_some(name);
        }
    }
    None
}

/// The code of `connection.close` for one that is wanted by an operator.
pub(super) const CONNECTION_FORCED: u16 = 320;
/// The code for one that is in order.
pub(super) const REPLY_SUCCESS: u16 = 200;
/// Whatever has to be read of a method is within this.
pub(super) const METHOD_BYTES_MAX: usize = 1024;
/// kombu's exchanges for native delayed delivery, one for each binary digit of the delay.
const DELAY_EXCHANGE: &str = "celery_delayed_";
/// The level that all of them begin at.
const DELAY_LEVEL_MAX: usize = 27;
/// The exchange to which the last of them passes messages on.
const DELAYED_EXCHANGE: &[u8] = b"celery_delayed_delivery";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::amqp::fixture::hex;

    #[test]
    fn methods_are_read_as_far_as_they_matter() {
        let route = Route {
            exchange: b"e",
            routing_key: b"key",
        };
        let reason = Reason {
            code: 312,
            text: b"NO_ROUTE",
        };
        let tags = Tags {
            tag: 7,
            multiple: true,
        };
        let delivery = Handover {
            tag: 7,
            redelivered: true,
            route,
        };
        for (payload, expected) in [
            (
                "000a 001e  07ff 00020000 003c",
                Method::Tune(Tuning::proposed(2047, 131_072)),
            ),
            (
                "000a 001f  0000 00000000 0000",
                Method::TuneOk(Tuning::proposed(0, 0)),
            ),
            (
                "000a 0032  0138 08'NO_ROUTE' 0000 0000",
                Method::ConnectionClose(reason),
            ),
            (
                "0014 0028  0138 08'NO_ROUTE' 003c 0028",
                Method::ChannelClose(reason),
            ),
            (
                "003c 0028  0000 01'e' 03'key' 01",
                Method::Publish {
                    route,
                    mandatory: true,
                },
            ),
            (
                "003c 0032  0138 08'NO_ROUTE' 01'e' 03'key'",
                Method::Return { reason, route },
            ),
            (
                "003c 0014  0000 01'q' 02'c1' 0a 00000000",
                Method::Consume {
                    queue: b"q",
                    consumer_tag: b"c1",
                    no_ack: true,
                    nowait: true,
                },
            ),
            (
                "003c 001f  02'c1'",
                Method::CancelOk {
                    consumer_tag: b"c1",
                },
            ),
            ("003c 0050  0000000000000007 01", Method::Ack(tags)),
            (
                "003c 0078  0000000000000007 03",
                Method::Nack {
                    tags,
                    requeue: true,
                },
            ),
            (
                "003c 0078  0000000000000007 01",
                Method::Nack {
                    tags,
                    requeue: false,
                },
            ),
            (
                "003c 005a  0000000000000007 01",
                Method::Reject {
                    tag: 7,
                    requeue: true,
                },
            ),
            ("003c 006e  01", Method::Requeue),
            ("003c 006e  00", Method::Other),
            ("003c 0064  01", Method::Requeue),
            (
                "003c 003c  02'c1' 0000000000000007 01 01'e' 03'key'",
                Method::Deliver {
                    consumer_tag: b"c1",
                    delivery,
                },
            ),
            (
                "003c 0047  0000000000000007 01 01'e' 03'key' 00000000",
                Method::GetOk(delivery),
            ),
            (
                "003c 0046  0000 01'q' 01",
                Method::Get {
                    queue: b"q",
                    no_ack: true,
                },
            ),
            (
                "0028 000a  0000 01'e' 06'fanout' 02 00000000",
                Method::DeclareExchange {
                    exchange: b"e",
                    is_fanout: true,
                },
            ),
            ("0032 000a  0000 01'q' 00 00000000", Method::Other),
            ("ffff ffff", Method::Other),
        ] {
            assert_eq!(Method::read(&hex(payload)), Ok(expected), "{payload}");
        }
    }

    #[test]
    fn a_client_may_have_a_name() {
        let named = "0f'connection_name' 'S' 00000003'me!'";
        for (properties, length, expected) in [
            (named.to_owned(), 24, Some("me!")),
            (format!("01'a' 'F' 00000002 0000 {named}"), 33, Some("me!")),
            // Only a part of the table is there.
            (named.to_owned(), 9999, Some("me!")),
            // What follows the table is not looked at.
            (named.to_owned(), 0, None),
            (named.to_owned(), 20, None),
            ("0f'connection_name' 'S' 00000000".to_owned(), 21, None),
            ("0f'connection_name' 'V'".to_owned(), 17, None),
            (format!("01'a' '?' {named}"), 27, None),
        ] {
            let payload = hex(&format!("000a 000b {length:08x} {properties}"));
            let client_name = expected.map(Cow::Borrowed);
            let expected = Method::StartOk { client_name };
            assert_eq!(Method::read(&payload), Ok(expected), "{properties}");
        }
    }

    #[test]
    fn methods_that_end_early_are_unreadable() {
        for payload in [
            "",
            "003c 00",
            "003c 0028  0000 01'e' 03'ke'",
            "003c 0050  00000000000007",
            "000a 0032  0138 09'NO_ROUTE'",
        ] {
            assert_eq!(
                Method::read(&hex(payload)),
                Err("short_method"),
                "{payload}"
            );
        }
    }

    #[test]
    fn destinations_are_named_by_exchange_and_routing_key() {
        for (exchange, routing_key, expected) in [
            ("", "celery", "celery"),
            ("", "", "amq.default"),
            ("logs", "", "logs"),
            ("logs", "warning", "logs:warning"),
            (
                "celery_delayed_3",
                "0.0.1.1.high.priority",
                "celery_delayed_3:high.priority",
            ),
            ("celery_delayed_1", "1.0.1.x", "celery_delayed_1:1.x"),
            ("celery_delayed_1", "a.b.c", "celery_delayed_1:a.b.c"),
            ("celery_delayed_27", "short", "celery_delayed_27:short"),
            (
                "celery_delayed_delivery",
                "0.1.x",
                "celery_delayed_delivery:0.1.x",
            ),
        ] {
            let route = Route {
                exchange: exchange.as_bytes(),
                routing_key: routing_key.as_bytes(),
            };
            assert_eq!(&*route.destination(), expected);
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut written = Vec::new();
        write_connection_close(CONNECTION_FORCED, "bye", &mut written);
        let close = hex("01 0000 0000000e  000a 0032  0140 03'bye' 0000 0000  ce");
        assert_eq!(written, close);
        written.clear();
        write_cancel(3, b"c1", &mut written);
        assert_eq!(written, hex("01 0003 00000008  003c 001e  02'c1' 00  ce"));
    }
}
