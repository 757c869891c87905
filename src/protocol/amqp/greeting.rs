//! What a broker says first to whoever connects: `connection.start`.

use std::borrow::Cow;

use crate::celery::HeaderValue;
use crate::protocol::amqp::cursor::Cursor;
use crate::protocol::amqp::frame::Frame;
use crate::protocol::amqp::frame::Halt;
use crate::protocol::amqp::frame::Kind;
use crate::protocol::amqp::frame::Unreadable;
use crate::protocol::amqp::table::next_field;

/// Who a broker says it is, before anybody has logged in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Greeting {
    pub product: String,
    pub version: String,
    pub cluster_name: String,
    /// How one may log in, separated by blanks.
    pub mechanisms: String,
}

impl Greeting {
    /// What a client sends to be greeted.
    pub const REQUEST: &'static [u8] = b"AMQP\x00\x00\x09\x01";

    /// Reads the first frame that comes back. `None`: it is not whole yet.
    pub fn read(input: &[u8]) -> Result<Option<Self>, Unreadable> {
        match Self::read_frame(input) {
            Ok(greeting) => Ok(Some(greeting)),
            Err(Halt::Need(_)) => Ok(None),
            Err(Halt::Lost(why)) => Err(why),
        }
    }

    fn read_frame(input: &[u8]) -> Result<Self, Halt> {
        let frame = Frame::read(input)?;
        if frame.kind != Kind::Method || frame.size > BYTES_MAX {
            return Err("no_greeting".into());
        }
        let mut cursor = Cursor::new(frame.payload(input, BYTES_MAX)?, "short_greeting");
        if (cursor.short()?, cursor.short()?) != (10, 10) {
            return Err("no_greeting".into());
        }
        let _version = cursor.short()?;
        let properties = cursor.long_place()?;
        let mut greeting = Self {
            mechanisms: String::from_utf8_lossy(cursor.long_string()?).into_owned(),
            ..Self::default()
        };
        let mut properties = cursor.within(&properties);
        while let Some(field) = next_field(&mut properties)? {
            let HeaderValue::Text(text) = field.value.into() else {
                continue;
            };
            match field.name {
                b"product" => greeting.product = Cow::into_owned(text),
                b"version" => greeting.version = Cow::into_owned(text),
                b"cluster_name" => greeting.cluster_name = Cow::into_owned(text),
                _ => {}
            }
        }
        Ok(greeting)
    }
}

const BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::amqp::fixture::hex;
    use crate::protocol::amqp::fixture::long;
    use crate::protocol::amqp::fixture::method;
    use crate::protocol::amqp::fixture::text;

    #[test]
    fn a_greeting_is_read_once_it_is_whole() {
        let properties = [
            text("product", "RabbitMQ"),
            hex("0c'capabilities' 'F' 00000000"),
            text("version", "3.10.8"),
        ];
        let arguments = [
            hex("0009"),
            long(&properties.concat()),
            long(b"PLAIN AMQPLAIN"),
            long(b"en_US"),
        ];
        let frame = method(0, 10, 10, &arguments.concat());
        for end in 1..frame.len() {
            assert_eq!(Greeting::read(&frame[..end]), Ok(None), "{end}");
        }
        let greeting = Greeting {
            product: "RabbitMQ".to_owned(),
            version: "3.10.8".to_owned(),
            cluster_name: String::new(),
            mechanisms: "PLAIN AMQPLAIN".to_owned(),
        };
        assert_eq!(Greeting::read(&frame), Ok(Some(greeting)));
    }

    #[test]
    fn what_is_no_greeting_is_told_by_reason() {
        for (answer, why) in [
            (b"AMQP\x00\x01\x00\x00".to_vec(), "version_refused"),
            (b"-ERR unknown command\r\n".to_vec(), "unknown_frame_type"),
            (method(0, 10, 30, &[0; 8]), "no_greeting"),
            (method(0, 10, 10, &[0; 4]), "short_greeting"),
        ] {
            assert_eq!(Greeting::read(&answer), Err(why));
        }
    }
}
