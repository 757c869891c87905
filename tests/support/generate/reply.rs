//! Replies of every shape.

use proptest::prelude::*;

use crate::laws::HOLD_BYTES_MAX;
use crate::resp::Resp;

use super::hostile::NOISE;

/// Any reply of version 2.
pub(crate) fn resp2() -> impl Strategy<Value = Resp> {
    resp2_scalar().prop_recursive(8, 32, 4, |inner| {
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 0..4).prop_map(Resp::Array),
            // What looks like a message, and is the reply to a request.
            1 => inner.prop_map(|item| {
                Resp::Array(vec![Resp::bulk("message"), Resp::bulk("a"), item])
            }),
        ]
    })
}

fn resp2_scalar() -> impl Strategy<Value = Resp> {
    prop_oneof![
        1 => "[ -~]{0,12}".prop_map(Resp::Simple),
        1 => "[A-Z]{3,8} [ -~]{0,12}".prop_map(Resp::Error),
        1 => any::<i64>().prop_map(Resp::Integer),
        3 => blob().prop_map(Resp::Bulk),
        1 => Just(Resp::NullBulk),
        1 => Just(Resp::NullArray),
        1 => Just(Resp::bulk("subscribe")),
    ]
}

/// Any reply of version 3.
pub(crate) fn resp3() -> impl Strategy<Value = Resp> {
    let double = prop::sample::select(vec!["1.23", "10", "inf", "-inf", "nan", "-0", "1e-300"]);
    let scalar = prop_oneof![
        4 => resp2_scalar(),
        1 => Just(Resp::Null),
        1 => any::<bool>().prop_map(Resp::Boolean),
        1 => double.prop_map(|digits| Resp::Double(digits.to_owned())),
        1 => "-?[1-9][0-9]{0,60}".prop_map(Resp::BigNumber),
        1 => "[A-Z]{3,8} .{0,12}".prop_map(|text| Resp::BlobError(text.into_bytes())),
        1 => (prop::sample::select(vec![*b"txt", *b"mkd", *b"x\r\n"]), blob())
            .prop_map(|(format, bytes)| Resp::Verbatim(format, bytes)),
        1 => prop::collection::vec(prop::collection::vec(any::<u8>(), 1..30), 0..4)
            .prop_map(Resp::StreamedString),
    ];
    scalar.prop_recursive(8, 48, 4, |inner| {
        let items = || prop::collection::vec(inner.clone(), 0..4);
        let pairs = || prop::collection::vec((inner.clone(), inner.clone()), 0..3);
        prop_oneof![
            2 => items().prop_map(Resp::Array),
            1 => items().prop_map(Resp::Set),
            1 => pairs().prop_map(Resp::Map),
            1 => (pairs(), inner.clone())
                .prop_map(|(pairs, value)| Resp::Attributed(pairs, Box::new(value))),
            1 => items().prop_map(Resp::StreamedArray),
            1 => items().prop_map(Resp::StreamedSet),
            1 => pairs().prop_map(Resp::StreamedMap),
        ]
    })
}

fn blob() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..24),
        2 => prop::sample::select(NOISE).prop_map(|text| text.as_bytes().to_vec()),
        1 => (0..3 * HOLD_BYTES_MAX).prop_map(|length| vec![b'x'; length]),
    ]
}
