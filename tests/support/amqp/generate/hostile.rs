//! Bytes that hardly anybody would send.

use fastrand::Rng;
use proptest::prelude::*;

use tracehop::protocol::Side;

use super::exchange;
use crate::laws::Turn;
use crate::wire::Field;
use crate::wire::Frame;
use crate::wire::Header;
use crate::wire::PROTOCOL_HEADER;
use crate::wire::short_string;

/// Bytes that hardly anybody would send: noise, traffic with bytes changed, lost and doubled,
/// and what is known to hurt.
pub(crate) fn hostile() -> impl Strategy<Value = Vec<Turn>> {
    prop_oneof![
        2 => prop::collection::vec(turn(noise()), 1..12).prop_map(greeted),
        3 => (exchange(), any::<u64>()).prop_map(|(exchange, seed)| {
            damaged(exchange.turns, seed)
        }),
        1 => prop::collection::vec(turn(prop::sample::select(hurtful())), 1..4).prop_map(greeted),
    ]
}

/// Behind a beginning that makes sense.
pub(crate) fn greeted(turns: Vec<Turn>) -> Vec<Turn> {
    let mut greeted = vec![Turn(Side::Client, PROTOCOL_HEADER.to_vec())];
    greeted.extend(turns);
    greeted
}

fn turn(bytes: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Turn> {
    let side = prop_oneof![Just(Side::Client), Just(Side::Broker)];
    (side, bytes).prop_map(|(side, bytes)| Turn(side, bytes))
}

/// Frames in no order that makes sense, and pieces of frames.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => prop::sample::select(stray()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
        1 => prop::sample::select(NOISE).prop_map(<[u8]>::to_vec),
    ];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

const NOISE: &[&[u8]] = &[
    &[1],
    &[2, 0, 1],
    &[3, 0, 1, 0, 0, 0, 4],
    &[0xce],
    b"AMQP",
    &[1, 0, 0, 0xff, 0xff, 0xff, 0xff],
];

/// Whole frames, each of which makes sense somewhere.
fn stray() -> Vec<Vec<u8>> {
    let publish = [&[0, 0][..], &short_string(b""), &short_string(b"q"), &[1]].concat();
    let task = Header {
        body_size: 4,
        headers: Some(vec![Field::text("task", "t"), Field::text("id", "i")]),
        ..Header::default()
    };
    let untold = Header {
        body_size: 9,
        properties: vec![(15, short_string(b"application/json"))],
        headers: None,
    };
    let reason = [&404_u16.to_be_bytes()[..], &short_string(b"no"), &[0; 4]].concat();
    let tags = |tag: u64, multiple: u8| [&tag.to_be_bytes()[..], &[multiple]].concat();
    let tuning = |frame_max: u32| [&[0, 9][..], &frame_max.to_be_bytes(), &[0; 2]].concat();
    [
        Frame::method(0, 10, 30, tuning(0)),
        Frame::method(0, 10, 31, tuning(4096)),
        Frame::method(0, 10, 41, vec![0]),
        Frame::method(0, 10, 50, reason.clone()),
        Frame::method(0, 10, 51, vec![]),
        Frame::method(1, 20, 10, vec![0]),
        Frame::method(1, 20, 40, reason.clone()),
        Frame::method(1, 20, 41, vec![]),
        Frame::method(1, 60, 40, publish.clone()),
        Frame::method(2, 60, 40, publish),
        Frame::method(1, 60, 50, [&reason[..5], b"\x00\x01q"].concat()),
        Frame::method(1, 60, 60, vec![]),
        Frame::method(1, 60, 70, vec![]),
        Frame::method(1, 60, 80, tags(1, 1)),
        Frame::method(1, 60, 80, tags(u64::MAX, 1)),
        Frame::method(2, 60, 120, tags(2, 0)),
        Frame::method(1, 85, 10, vec![0]),
        Frame::method(2, 90, 10, vec![]),
        Frame::method(2, 90, 20, vec![]),
        Frame::method(2, 90, 21, vec![]),
        task.frame(1),
        task.frame(2),
        untold.frame(1),
        untold.frame(2),
        Frame::body(1, b"{\"a\""),
        Frame::body(2, b": 1}xy"),
        Frame::body(1, b""),
        Frame::heartbeat(),
    ]
    .iter()
    .map(Frame::bytes)
    .collect()
}

fn damaged(turns: Vec<Turn>, seed: u64) -> Vec<Turn> {
    let mut random = Rng::with_seed(seed);
    let mut damaged: Vec<Turn> = Vec::new();
    for Turn(side, mut bytes) in turns {
        if !bytes.is_empty() && random.u8(..4) == 0 {
            let at = random.usize(..bytes.len());
            match random.u8(..5) {
                0 => bytes[at] = random.u8(..),
                1 => drop(bytes.drain(at..(at + random.usize(1..9)).min(bytes.len()))),
                2 => bytes.truncate(at),
                3 => bytes.insert(at, *random.choice(&[0, 1, 2, 3, 8, 0xce]).expect("some")),
                _ => damaged.push(Turn(side, bytes.clone())),
            }
        }
        damaged.push(Turn(side, bytes));
    }
    damaged
}

/// Inputs made to hurt: by their depth, their number, their length, or what they promise.
pub(crate) fn hurtful() -> Vec<Vec<u8>> {
    let publish = Frame::method(1, 60, 40, b"\x00\x00\x00\x01q\x01".to_vec()).bytes();
    let header = |header: &Header| [&publish[..], &header.frame(1).bytes()].concat();
    let promising = |body_size: u64| {
        header(&Header {
            body_size,
            properties: vec![(15, short_string(b"application/json"))],
            headers: Some(vec![]),
        })
    };
    let mut nested: Vec<u8> = Vec::new();
    for _ in 0..500 {
        let inner = u32::try_from(nested.len()).expect("it is short");
        nested = [b"\x01nF".as_slice(), &inner.to_be_bytes(), &nested].concat();
    }
    let nested = Header {
        headers: Some(vec![Field::new("n", {
            let inner = u32::try_from(nested.len()).expect("it is short");
            [b"F".as_slice(), &inner.to_be_bytes(), &nested].concat()
        })]),
        ..Header::default()
    };
    let many = Header {
        headers: Some(vec![Field::text("", ""); 600]),
        ..Header::default()
    };
    let on_each_channel = |class, id, arguments: &[u8]| {
        let frames = (0..2047_u16).map(|channel| {
            let frame = Frame::method(channel, class, id, arguments.to_vec());
            frame.bytes()
        });
        frames.collect::<Vec<_>>().concat()
    };
    vec![
        header(&nested),
        header(&many),
        promising(u64::MAX),
        promising(4000),
        [promising(1), Frame::heartbeat().bytes().repeat(1000)].concat(),
        [promising(3000), Frame::body(1, b"").bytes().repeat(1000)].concat(),
        [promising(3000), Frame::body(1, b"{").bytes().repeat(2000)].concat(),
        publish.repeat(2000),
        on_each_channel(60, 40, b"\x00\x00\x00\x01q\x00"),
        on_each_channel(85, 10, b"\x00"),
        [
            Frame::method(1, 85, 10, vec![0]).bytes(),
            [publish, Header::default().frame(1).bytes()]
                .concat()
                .repeat(1000),
        ]
        .concat(),
        [
            Frame::method(1, 90, 10, vec![]).bytes(),
            Frame::method(1, 90, 20, vec![]).bytes().repeat(1000),
        ]
        .concat(),
        Frame::method(1, 60, 20, b"\x00\x00\x00\x00\x02\x00\x00\x00\x00".to_vec())
            .bytes()
            .repeat(3000),
        Frame::method(1, 60, 70, vec![]).bytes().repeat(3000),
        Frame::method(1, 60, 60, vec![]).bytes().repeat(3000),
        vec![1, 0, 0, 0xff, 0xff, 0xff, 0xff],
        vec![2, 0, 1, 0, 1, 0xff, 0xf8],
        [&[3, 0, 1, 0, 1, 0xff, 0xf8][..], &[0; 200_000]].concat(),
    ]
}
