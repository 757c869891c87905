//! Field tables: names, types and values, in whatever order they came.
//!
//! The types are those that RabbitMQ and Celery's client agree on
//! (<https://www.rabbitmq.com/amqp-0-9-1-errata.html#section_3>): `s` is a number, not a
//! string. What is nested is skipped by its length.

use std::ops::Range;

use crate::celery::HeaderValue;
use crate::protocol::amqp::cursor::Cursor;
use crate::protocol::amqp::frame::Unreadable;
use crate::protocol::amqp::frame::write_long;

/// One entry of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) name: &'a [u8],
    /// Where type and value stand.
    pub(super) place: Range<usize>,
    pub(super) value: Value<'a>,
}

/// What stands for a value; what it says is only looked at where somebody wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'a> {
    kind: u8,
    /// Without the length, where it has one.
    bytes: &'a [u8],
}

/// Reads the next entry of the table that the cursor is bound to.
pub(super) fn next_field<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Field<'a>>, Unreadable> {
    if cursor.is_at_end() {
        return Ok(None);
    }
    let name = cursor.short_string()?;
    let start = cursor.position();
    let value = Value::read(cursor)?;
    Ok(Some(Field {
        name,
        place: start..cursor.position(),
        value,
    }))
}

/// Writes the name of an entry.
pub(super) fn write_name(name: &str, out: &mut Vec<u8>) {
    out.push(u8::try_from(name.len()).unwrap_or_default());
    out.extend_from_slice(name.as_bytes());
}

/// Writes type and value of a text.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'S');
    write_long(out, |out| out.extend_from_slice(text.as_bytes()));
}

impl<'a> Value<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Unreadable> {
        let kind = cursor.octet()?;
        let bytes = match kind {
            b'V' => cursor.bytes(0)?,
            b't' | b'b' | b'B' => cursor.bytes(1)?,
            b's' | b'U' | b'u' => cursor.bytes(2)?,
            b'I' | b'i' | b'f' => cursor.bytes(4)?,
            b'D' => cursor.bytes(5)?,
            b'l' | b'L' | b'd' | b'T' => cursor.bytes(8)?,
            b'S' | b'x' | b'F' | b'A' => cursor.long_string()?,
            _ => return Err("unknown_field_type"),
        };
        Ok(Self { kind, bytes })
    }

    /// The number that `read` makes of the bytes, of which there are as many as it takes.
    fn number<const N: usize, T>(self, read: fn([u8; N]) -> T) -> HeaderValue<'a>
    where
        T: Into<i64>,
    {
        match self.bytes.try_into() {
            Ok(bytes) => HeaderValue::Integer(read(bytes).into()),
            Err(_) => HeaderValue::Other,
        }
    }

    fn float<const N: usize, T>(self, read: fn([u8; N]) -> T) -> HeaderValue<'a>
    where
        T: Into<f64>,
    {
        match self.bytes.try_into() {
            Ok(bytes) => HeaderValue::from(read(bytes).into()),
            Err(_) => HeaderValue::Other,
        }
    }
}

impl<'a> From<Value<'a>> for HeaderValue<'a> {
    fn from(value: Value<'a>) -> Self {
        match value.kind {
            b'S' => match str::from_utf8(value.bytes) {
                Ok(text) => Self::Text(text.into()),
                Err(_) => Self::Other,
            },
            b'b' => value.number(i8::from_be_bytes),
            b'B' => value.number(u8::from_be_bytes),
            b's' | b'U' => value.number(i16::from_be_bytes),
            b'u' => value.number(u16::from_be_bytes),
            b'I' => value.number(i32::from_be_bytes),
            b'i' => value.number(u32::from_be_bytes),
            b'l' | b'L' => value.number(i64::from_be_bytes),
            b'f' => value.float(f32::from_be_bytes),
            b'd' => value.float(f64::from_be_bytes),
            b'V' => Self::Null,
            b't' => Self::Truth(value.bytes != [0]),
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::amqp::fixture::hex;

    fn fields(table: &[u8]) -> Result<Vec<Field<'_>>, Unreadable> {
        let mut cursor = Cursor::new(table, "short");
        let mut fields = Vec::new();
        while let Some(field) = next_field(&mut cursor)? {
            fields.push(field);
        }
        Ok(fields)
    }

    #[test]
    fn every_type_of_field_is_read_or_skipped() {
        let text = |text: &'static str| HeaderValue::Text(text.into());
        for (value, expected) in [
            ("'S' 00000002 'hi'", text("hi")),
            ("'S' 00000000", text("")),
            ("'S' 00000001 ff", HeaderValue::Other),
            ("'t' 01", HeaderValue::Truth(true)),
            ("'b' ff", HeaderValue::Integer(-1)),
            ("'B' ff", HeaderValue::Integer(255)),
            ("'s' fffe", HeaderValue::Integer(-2)),
            ("'U' fffe", HeaderValue::Integer(-2)),
            ("'u' fffe", HeaderValue::Integer(65534)),
            ("'I' ffffffff", HeaderValue::Integer(-1)),
            ("'i' ffffffff", HeaderValue::Integer(u32::MAX.into())),
            ("'l' ffffffffffffffff", HeaderValue::Integer(-1)),
            ("'L' 0000000000000003", HeaderValue::Integer(3)),
            ("'f' 40000000", HeaderValue::Integer(2)),
            ("'f' 3f000000", HeaderValue::Other),
            ("'d' 3ff0000000000000", HeaderValue::Integer(1)),
            ("'D' 02 00000007", HeaderValue::Other),
            ("'T' 0000000065000000", HeaderValue::Other),
            ("'V'", HeaderValue::Null),
            ("'x' 00000002 0000", HeaderValue::Other),
            ("'F' 00000003 01'a''V'", HeaderValue::Other),
            ("'A' 00000002 'VV'", HeaderValue::Other),
        ] {
            let table = hex(&format!("01 'n' {value} 01 'z' 'V'"));
            let fields = fields(&table).unwrap();
            assert_eq!(fields.len(), 2, "{value}");
            assert_eq!(fields[0].name, b"n");
            assert_eq!(HeaderValue::from(fields[0].value), expected, "{value}");
            assert_eq!(fields[0].place, 2..table.len() - 3, "{value}");
        }
    }

    #[test]
    fn what_is_nested_costs_no_more_than_its_length() {
        let mut nested = Vec::new();
        for _ in 0..10_000 {
            let inner = nested;
            nested = hex("01 'n' 'F'");
            nested.extend(u32::try_from(inner.len()).unwrap().to_be_bytes());
            nested.extend(inner);
        }
        assert_eq!(fields(&nested).unwrap().len(), 1);
    }

    #[test]
    fn tables_that_do_not_add_up_are_unreadable() {
        for (table, why) in [
            ("01 'n' '?' 00", "unknown_field_type"),
            ("05 'n'", "short"),
            ("01 'n'", "short"),
            ("01 'n' 'S' 00000002 'h'", "short"),
            ("01 'n' 'S' ffffffff 'h'", "short"),
            ("01 'n' 'I' 000000", "short"),
            ("01 'n' 'F' 00000001", "short"),
        ] {
            assert_eq!(fields(&hex(table)), Err(why), "{table}");
        }
    }
}
