//! Redis and Valkey: RESP2, RESP3 and inline commands.
//!
//! `frame` splits bytes, `command` and `reply` read the two directions, `value` says how
//! much of a value is held, `reader` finds Celery in it and `envelope` puts context there,
//! `pairing` tells which reply belongs to which request and `settling` what is said of
//! deliveries, `requests` and `arrivals` act on what was read, and `session` holds it all
//! together.

mod arrivals;
mod command;
mod connection_state;
mod database;
mod envelope;
mod frame;
mod pairing;
mod pops;
mod reader;
mod reply;
mod requests;
mod session;
mod settling;
mod shared;
mod value;

pub use envelope::Envelope;
pub use envelope::PRIORITY_SEPARATOR;
pub use session::RedisSession;

/// Whether a client that begins like this speaks RESP: an array, or a line of printable
/// words. `None`: that cannot be told yet.
pub(super) fn recognises(first: &[u8]) -> Option<bool> {
    match first {
        [] => None,
        [b'*', ..] => Some(true),
        [letter, ..] if !letter.is_ascii_alphabetic() => Some(false),
        _ => {
            let line = first.get(..INLINE_BYTES_MAX).unwrap_or(first);
            match line.iter().position(|byte| !matches!(byte, b' '..=b'~')) {
                None if line.len() < INLINE_BYTES_MAX => None,
                None => Some(false),
                Some(end) => Some(matches!(line.get(end), Some(b'\r' | b'\n'))),
            }
        }
    }
}

/// A first line longer than this is no command.
const INLINE_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resp_is_told_by_its_first_bytes() {
        for (first, expected) in [
            (&b""[..], None),
            (b"*", Some(true)),
            (b"PI", None),
            (b"PING\r", Some(true)),
            (b"AMQP\x00\x00\x09\x01", Some(false)),
            (b"\x16\x03\x01", Some(false)),
            (&[b'a'; 1024], Some(false)),
            (&[[b'a'; 2000].as_slice(), b"\r\n"].concat(), Some(false)),
        ] {
            assert_eq!(recognises(first), expected, "{first:?}");
        }
    }
}
