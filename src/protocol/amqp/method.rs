//! Methods, as far as messages and their answers depend on them.

use crate::protocol::amqp::cursor::Cursor;
use crate::protocol::amqp::frame::Frame;
use crate::protocol::amqp::frame::Kind;
use crate::protocol::amqp::frame::Tuning;
use crate::protocol::amqp::frame::Unreadable;

/// What a method frame says. Which side may send it is known from its meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Method<'a> {
    Tune(Tuning),
    TuneOk(Tuning),
    OpenOk,
    ConnectionClose(Reason<'a>),
    ConnectionCloseOk,
    ChannelOpen,
    ChannelClose(Reason<'a>),
    ChannelCloseOk,
    Publish {
        route: Route<'a>,
        /// To be returned where no queue takes it.
        mandatory: bool,
    },
    Return {
        reason: Reason<'a>,
        route: Route<'a>,
    },
    Deliver,
    Get,
    GetOk,
    GetEmpty,
    Consume {
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
    },
    CancelOk {
        consumer_tag: &'a [u8],
    },
    Ack(Tags),
    Nack(Tags),
    Reject,
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
            (10, 30) => Self::Tune(tuning(&mut cursor)?),
            (10, 31) => Self::TuneOk(tuning(&mut cursor)?),
            (10, 41) => Self::OpenOk,
            (10, 50) => Self::ConnectionClose(reason(&mut cursor)?),
            (10, 51) => Self::ConnectionCloseOk,
            (20, 10) => Self::ChannelOpen,
            (20, 40) => Self::ChannelClose(reason(&mut cursor)?),
            (20, 41) => Self::ChannelCloseOk,
            (60, 20) => {
                cursor.short()?;
                cursor.short_string()?;
                let consumer_tag = cursor.short_string()?;
                let bits = cursor.octet()?;
                Self::Consume {
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
            (60, 60) => Self::Deliver,
            (60, 70) => Self::Get,
            (60, 71) => Self::GetOk,
            (60, 72) => Self::GetEmpty,
            (60, 80) => Self::Ack(tags(&mut cursor)?),
            (60, 90) => Self::Reject,
            (60, 120) => Self::Nack(tags(&mut cursor)?),
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
    pub(super) fn destination(&self) -> Box<str> {
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
            ("", routing_key) => routing_key.into(),
            (exchange, "") => exchange.into(),
            (exchange, routing_key) => format!("{exchange}:{routing_key}").into(),
        }
    }
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

impl Reason<'_> {
    /// The broker's words, its code in front.
    pub(super) fn words(&self) -> Box<str> {
        let text = String::from_utf8_lossy(self.text);
        format!("{} {text}", self.code).trim_end().into()
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

fn tags(cursor: &mut Cursor<'_>) -> Result<Tags, Unreadable> {
    Ok(Tags {
        tag: cursor.long_long()?,
        multiple: cursor.octet()? & 1 != 0,
    })
}

/// The code of `connection.close` for one that is wanted by an operator.
pub(super) const CONNECTION_FORCED: u16 = 320;
/// The code for one that is in order.
pub(super) const REPLY_SUCCESS: u16 = 200;
/// Whatever has to be read of a method is within this.
pub(super) const METHOD_BYTES_MAX: usize = 1024;
/// kombu's exchanges for native delayed delivery, one for each binary digit of the delay.
const DELAY_EXCHANGE: &str = "celery_delayed_";

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
            ("003c 0078  0000000000000007 03", Method::Nack(tags)),
            ("0032 000a  0000 01'q' 00 00000000", Method::Other),
            ("ffff ffff", Method::Other),
        ] {
            assert_eq!(Method::read(&hex(payload)), Ok(expected), "{payload}");
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
