//! Field tables: names, types and values, in whatever order they came.
//!
//! The types are those that RabbitMQ and Celery's client agree on
//! (<https://www.rabbitmq.com/amqp-0-9-1-errata.html#section_3>): `s` is a number, not a
//! string. What is nested is skipped by its length.

use std::ops::Range;

use crate::celery::HeaderValue;
use crate::protocol::amqp::cursor::Cursor;
use crate::protocol::amqp::frame::Unreadable;

/// One entry of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) name: &'a [u8],
    /// Where type and value stand.
    pub(super) place: Range<usize>,
    pub(super) value: HeaderValue<'a>,
}

/// Reads the next entry of the table that the cursor is bound to.
pub(super) fn next_field<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Field<'a>>, Unreadable> {
    if cursor.is_at_end() {
        return Ok(None);
    }
    let name = cursor.short_string()?;
    let start = cursor.position();
    let value = value(cursor)?;
    Ok(Some(Field {
        name,
        place: start..cursor.position(),
        value,
    }))
}

/// Writes an entry whose value is a long string.
pub(super) fn write_text(name: &str, text: &str, out: &mut Vec<u8>) {
    out.push(u8::try_from(name.len()).unwrap_or_default());
    out.extend_from_slice(name.as_bytes());
    write_text_value(text, out);
}

/// Writes type and value of a long string.
pub(super) fn write_text_value(text: &str, out: &mut Vec<u8>) {
    out.push(b'S');
    let length = u32::try_from(text.len()).unwrap_or_default();
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn value<'a>(cursor: &mut Cursor<'a>) -> Result<HeaderValue<'a>, Unreadable> {
    let integer = HeaderValue::Integer;
    Ok(match cursor.octet()? {
        b'S' => match str::from_utf8(cursor.long_string()?) {
            Ok(text) => HeaderValue::Text(text.into()),
            Err(_) => HeaderValue::Other,
        },
        b'b' => integer(i8::from_be_bytes(cursor.array()?).into()),
        b'B' => integer(cursor.octet()?.into()),
        b's' | b'U' => integer(i16::from_be_bytes(cursor.array()?).into()),
        b'u' => integer(cursor.short()?.into()),
        b'I' => integer(i32::from_be_bytes(cursor.array()?).into()),
        b'i' => integer(cursor.long()?.into()),
        b'l' | b'L' => integer(i64::from_be_bytes(cursor.array()?)),
        b'f' => f64::from(f32::from_be_bytes(cursor.array()?)).into(),
        b'd' => f64::from_be_bytes(cursor.array()?).into(),
        b'V' => HeaderValue::Null,
        b't' => HeaderValue::Truth(cursor.octet()? != 0),
        b'D' => other(cursor.bytes(5)?),
        b'T' => other(cursor.bytes(8)?),
        b'x' | b'F' | b'A' => other(cursor.long_string()?),
        _ => return Err("unknown_field_type"),
    })
}

const fn other(_skipped: &[u8]) -> HeaderValue<'static> {
    HeaderValue::Other
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
            assert_eq!(fields[0].value, expected, "{value}");
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
