//! Bytes that hardly anybody would send.

use fastrand::Rng;
use proptest::prelude::*;

use tracehop::config::Policy;
use tracehop::protocol::Side;

use crate::laws::Turn;

use super::exchange;

/// Bytes that hardly anybody would send: noise, traffic with bytes changed, lost and doubled,
/// and what is known to hurt.
pub(crate) fn hostile() -> impl Strategy<Value = Vec<Turn>> {
    prop_oneof![
        2 => prop::collection::vec(turn(noise()), 1..12),
        3 => (exchange(Policy::default()), any::<u64>()).prop_map(|(exchange, seed)| {
            damaged(exchange.turns, seed)
        }),
        1 => prop::collection::vec(turn(prop::sample::select(hurtful())), 1..4),
    ]
}

fn turn(bytes: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Turn> {
    let side = prop_oneof![Just(Side::Client), Just(Side::Broker)];
    (side, bytes).prop_map(|(side, bytes)| Turn(side, bytes))
}

/// Bytes in which those that mean something to RESP are frequent.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => prop::sample::select(NOISE).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

pub(super) const NOISE: &[&str] = &[
    "\r\n",
    "\r\n",
    "\r",
    "\n",
    "*",
    "$",
    "+",
    "-",
    ":",
    "_",
    "#",
    ",",
    "(",
    "!",
    "=",
    "%",
    "~",
    ">",
    "|",
    ";",
    ".",
    "?",
    "0",
    "1",
    "2",
    "3",
    "-1",
    "9223372036854775807",
    "\r\n$5\r\nLPUSH\r\n",
    "*3\r\n",
    ">4\r\n$6\r\nMOVING\r\n:1\r\n:2\r\n",
    "$1\r\na\r\n",
    "*1\r\n",
    "|1\r\n",
    "%1\r\n",
    "MULTI\r\n",
    "EXEC\r\n",
    "SUBSCRIBE a\r\n",
    "+QUEUED\r\n",
    "CLIENT REPLY OFF\r\n",
    "{\"headers\": {\"task\": \"t\", \"id\": \"i\"}}",
    "$31\r\n{\"headers\": {\"task\":1,\"id\":2}}\r\n",
    "*3\r\n$7\r\nmessage\r\n",
    "$?\r\n",
    ";4\r\n",
    ";0\r\n",
    "*?\r\n",
    ".\r\n",
    "\"",
    "'",
    "\\x",
];

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
                3 => bytes.insert(at, *random.choice(b"\r\n*$0>|").expect("some")),
                _ => damaged.push(Turn(side, bytes.clone())),
            }
        }
        damaged.push(Turn(side, bytes));
    }
    damaged
}

/// Inputs that broke other readers of RESP.
pub(crate) fn hurtful() -> Vec<Vec<u8>> {
    let repeated = |text: &str, times: usize| text.repeat(times).into_bytes();
    vec![
        repeated("*1\r\n", 20_000),
        repeated("|1\r\n", 20_000),
        repeated("*?\r\n", 20_000),
        repeated("%1\r\n+k\r\n", 10_000),
        repeated("*1\r\n$4\r\nPING\r\n", 2_000),
        repeated("*0\r\n", 20_000),
        repeated("\r\n", 20_000),
        repeated("PING\n", 5_000),
        repeated(">2\r\n+a\r\n+b\r\n", 2_000),
        repeated("*1\r\n$5\r\nMULTI\r\n", 1_000),
        [b"+".as_slice(), &repeated("a", 100_000)].concat(),
        [b"$".as_slice(), &repeated("9", 100_000)].concat(),
        [b"GET ".as_slice(), &repeated("a", 100_000)].concat(),
        b"*9223372036854775807\r\n$5\r\nLPUSH\r\n".to_vec(),
        b"*99999999999999999999\r\n".to_vec(),
        b"%9223372036854775807\r\n".to_vec(),
        b"|4611686018427387904\r\n".to_vec(),
        b"$9223372036854775807\r\n".to_vec(),
        b"$-2\r\n*-2\r\n$-0\r\n".to_vec(),
        b"*3\r\n$5\r\nLPUSH\r\n$1\r\na\r\n$9223372036854775807\r\n{".to_vec(),
        b"*3\r\n$5\r\nLPUSH\r\n$4294967296\r\na\r\n".to_vec(),
        b"*2\r\n$9\r\nSUBSCRIBE\r\n$9223372036854775807\r\n".to_vec(),
        [
            b"*3\r\n$5\r\nLPUSH\r\n$1\r\na\r\n$20000\r\n".as_slice(),
            &[b'{'; 20_002],
        ]
        .concat(),
        [
            b"*20001\r\n$5\r\nLPUSH\r\n".as_slice(),
            &repeated("$2\r\n{}\r\n", 20_000),
        ]
        .concat(),
        [
            b"*20001\r\n$9\r\nSUBSCRIBE\r\n".as_slice(),
            &repeated("$1\r\na\r\n", 20_000),
        ]
        .concat(),
        b">4\r\n$6\r\nMOVING\r\n:1\r\n:2\r\n*1\r\n+a\r\n".to_vec(),
        [
            b">4\r\n$6\r\nMOVING\r\n:1\r\n:2\r\n$100000\r\n".as_slice(),
            &[b'a'; 100_002],
        ]
        .concat(),
        [
            b">4\r\n$6\r\nMOVING\r\n".as_slice(),
            &repeated("*1\r\n", 1_000),
        ]
        .concat(),
    ]
}
