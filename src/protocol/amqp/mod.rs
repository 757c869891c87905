//! RabbitMQ: AMQP 0-9-1.
//!
//! `frame` splits bytes, `method` and `table` read what is in a frame, `envelope` finds
//! Celery in a content header, `content` waits until there is enough of it, and `saying`
//! listens to what workers say besides. `channel` follows what is sent on each channel: `owed`
//! is what the broker answers for it, `unsettled` what the client does, `consumers` who takes
//! messages. `stage` is the connection as a whole, and `session` acts. `greeting` is
//! for whoever asks a broker who it is.

mod channel;
mod consumers;
mod content;
mod cursor;
mod envelope;
#[cfg(test)]
mod fixture;
mod frame;
mod greeting;
mod method;
mod owed;
mod replies;
mod requests;
mod saying;
mod session;
mod stage;
mod table;
mod unsettled;

pub use greeting::Greeting;
pub use session::AmqpSession;

use crate::protocol::amqp::frame::PROTOCOL;

/// `messaging.system`.
const SYSTEM: &str = "rabbitmq";

/// Whether a client that begins like this speaks AMQP, of whatever version: the session
/// tells those apart that it cannot read. `None`: that cannot be told yet.
pub(super) fn recognises(first: &[u8]) -> Option<bool> {
    if first.starts_with(PROTOCOL) {
        Some(true)
    } else if PROTOCOL.starts_with(first) {
        None
    } else {
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amqp_is_told_by_its_first_bytes() {
        for (first, expected) in [
            (&b""[..], None),
            (b"AMQ", None),
            (b"AMQP", Some(true)),
            (b"AMQP\x03\x01\x00\x00", Some(true)),
            (b"AUTH x\r\n", Some(false)),
            (b"*1\r\n", Some(false)),
            (b"\x16\x03\x01", Some(false)),
        ] {
            assert_eq!(recognises(first), expected, "{first:?}");
        }
    }
}
