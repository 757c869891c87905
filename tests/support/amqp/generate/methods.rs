//! Methods on which no message depends, with their arguments.

use fastrand::Rng;

use super::message::fields;
use crate::wire::Frame;
use crate::wire::long_string;
use crate::wire::short_string;
use crate::wire::table;

/// The methods of one side: class, id, and the arguments by a letter each. `1248`: a number
/// of so many bytes, `s`: a short string, `S`: a long string, `F`: a table.
type Methods = &'static [(u16, u16, &'static str)];

const OF_CLIENT: Methods = &[
    (20, 20, "1"),
    (20, 21, "1"),
    (30, 10, "s1"),
    (40, 10, "2ss1F"),
    (40, 20, "2s1"),
    (40, 30, "2sss1F"),
    (40, 40, "2sss1F"),
    (50, 10, "2s1F"),
    (50, 20, "2sss1F"),
    (50, 30, "2s1"),
    (50, 40, "2s1"),
    (50, 50, "2sssF"),
    (60, 10, "421"),
    (60, 30, "s1"),
];

const OF_BROKER: Methods = &[
    (20, 20, "1"),
    (20, 21, "1"),
    (30, 11, "2"),
    (40, 11, ""),
    (40, 21, ""),
    (40, 31, ""),
    (40, 51, ""),
    (50, 11, "s44"),
    (50, 21, ""),
    (50, 31, "4"),
    (50, 41, "4"),
    (50, 51, ""),
    (60, 11, ""),
    (60, 30, "s1"),
    (60, 31, "s"),
    (60, 111, ""),
    (85, 11, ""),
    (90, 11, ""),
];

/// On channel 0, once the connection is open.
const OF_CLIENT_AT_LARGE: Methods = &[(10, 70, "Ss")];
const OF_BROKER_AT_LARGE: Methods = &[(10, 60, "s"), (10, 61, ""), (10, 71, "")];

pub(super) fn of_client(random: &mut Rng, channel: u16) -> Frame {
    any_of(random, channel, OF_CLIENT, OF_CLIENT_AT_LARGE)
}

pub(super) fn of_broker(random: &mut Rng, channel: u16) -> Frame {
    any_of(random, channel, OF_BROKER, OF_BROKER_AT_LARGE)
}

fn any_of(random: &mut Rng, channel: u16, methods: Methods, at_large: Methods) -> Frame {
    let methods = if channel == 0 { at_large } else { methods };
    let (class, id, arguments) = methods[random.usize(..methods.len())];
    let arguments = arguments
        .bytes()
        .flat_map(|kind| match kind {
            b's' => short_string(&b"name.".repeat(random.usize(..5))),
            b'S' => long_string(&b"secret".repeat(random.usize(..300))),
            b'F' => table(&fields(random)),
            size => (b'0'..size).map(|_| random.u8(..)).collect(),
        })
        .collect();
    Frame::method(channel, class, id, arguments)
}
