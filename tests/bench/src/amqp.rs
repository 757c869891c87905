//! The frames of AMQP 0-9-1 that a producer, a consumer and their broker exchange.

use super::ID;
use super::body;

/// What a client says to open a connection and channel 1, and what it is told, in turns.
#[must_use]
pub fn opening() -> [(Vec<u8>, Vec<u8>); 4] {
    let login = [
        &long(b"")[..],
        &short("PLAIN"),
        &long(b"\0guest\0guest"),
        &short("en_US"),
    ];
    let tune = [
        &2047_u16.to_be_bytes()[..],
        &u32::try_from(FRAME_BYTES_MAX)
            .expect("128 KiB")
            .to_be_bytes(),
        &0_u16.to_be_bytes(),
    ]
    .concat();
    let start = [&[0, 9][..], &long(b""), &long(b"PLAIN"), &long(b"en_US")];
    [
        (
            b"AMQP\0\0\x09\x01".to_vec(),
            method(0, 10, 10, &start.concat()),
        ),
        (method(0, 10, 11, &login.concat()), method(0, 10, 30, &tune)),
        (
            [
                method(0, 10, 31, &tune),
                method(0, 10, 40, &[&short("/")[..], &[0, 0]].concat()),
            ]
            .concat(),
            method(0, 10, 41, &[0]),
        ),
        (method(1, 20, 10, &[0]), method(1, 20, 11, &long(b""))),
    ]
}

/// The request for confirms and its answer.
#[must_use]
pub fn confirming() -> (Vec<u8>, Vec<u8>) {
    (method(1, 85, 10, &[0]), method(1, 85, 11, &[]))
}

/// A request that is answered when all before it has been read.
#[must_use]
pub fn barrier() -> (Vec<u8>, Vec<u8>) {
    (
        method(1, 60, 10, &[0, 0, 0, 0, 0, 0, 0]),
        method(1, 60, 11, &[]),
    )
}

#[must_use]
pub fn ack(tag: u64, multiple: bool) -> Vec<u8> {
    method(
        1,
        60,
        80,
        &[&tag.to_be_bytes()[..], &[u8::from(multiple)]].concat(),
    )
}

/// A task message, of about `bytes` in all.
#[must_use]
pub fn publish(bytes: usize) -> Vec<u8> {
    let publish = [&[0, 0][..], &short(""), &short("celery"), &[0]].concat();
    let mut frames = method(1, 60, 40, &publish);
    let room = bytes.saturating_sub(frames.len() + task(0).len());
    content(&mut frames, &task(room.max(80)), body(room).as_bytes());
    frames
}

/// The same task on its way to a consumer.
#[must_use]
pub fn delivery(bytes: usize, tag: u64) -> Vec<u8> {
    let deliver = [
        &short("consumer")[..],
        &tag.to_be_bytes(),
        &[0],
        &short(""),
        &short("celery"),
    ]
    .concat();
    let mut frames = method(1, 60, 60, &deliver);
    let room = bytes.saturating_sub(frames.len() + task(0).len());
    content(&mut frames, &task(room.max(80)), body(room).as_bytes());
    frames
}

/// A message that is no task.
#[must_use]
pub fn untouched(bytes: usize) -> Vec<u8> {
    let publish = [&[0, 0][..], &short("files"), &short("file"), &[0]].concat();
    let mut frames = method(1, 60, 40, &publish);
    let properties = [&[0x80, 0][..], &short("application/octet-stream")].concat();
    content(&mut frames, &header(bytes, &properties), &vec![b'x'; bytes]);
    frames
}

/// The beginning of a frame: its kind and the length of its payload.
#[must_use]
pub fn frame_head(bytes: &[u8]) -> Option<(u8, usize)> {
    let (head, _) = bytes.split_first_chunk::<FRAME_HEAD>()?;
    let [kind, _, _, length @ ..] = *head;
    Some((kind, u32::from_be_bytes(length) as usize))
}

/// The class and the number of a method frame.
#[must_use]
pub fn method_of(frame: &[u8]) -> Option<(u16, u16)> {
    let (ids, _) = frame.get(FRAME_HEAD..)?.split_first_chunk::<4>()?;
    let [a, b, c, d] = *ids;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

fn content(frames: &mut Vec<u8>, header: &[u8], body: &[u8]) {
    frames.extend(frame(2, 1, header));
    for part in body.chunks(FRAME_BYTES_MAX - FRAME_HEAD - 1) {
        frames.extend(frame(3, 1, part));
    }
}

/// The content header of a task message.
fn task(body_bytes: usize) -> Vec<u8> {
    let text = |name: &str, value: &str| [&short(name)[..], b"S", &long(value.as_bytes())].concat();
    let nothing = |name: &str| [&short(name)[..], b"V"].concat();
    let number = |name: &str| [&short(name)[..], b"I", &[0; 4]].concat();
    let headers = [
        text("lang", "py"),
        text("task", "tasks.add"),
        text("id", ID),
        nothing("shadow"),
        nothing("eta"),
        nothing("expires"),
        nothing("group"),
        nothing("group_index"),
        number("retries"),
        [&short("timelimit")[..], b"A", &long(b"VV")].concat(),
        text("root_id", ID),
        nothing("parent_id"),
        text("argsrepr", "(1, 1)"),
        text("kwargsrepr", "{}"),
        text("origin", "gen672@host1"),
        [&short("ignore_result")[..], b"t\0"].concat(),
        number("replaced_task_nesting"),
        nothing("stamped_headers"),
        [&short("stamps")[..], b"F", &long(b"")].concat(),
    ]
    .concat();
    let properties = [
        &[0xfe, 0][..],
        &short("application/json"),
        &short("utf-8"),
        &long(&headers),
        &[2, 0],
        &short(ID),
        &short("22e7b02d-e1c0-39e3-88a7-0df44e6cac24"),
    ]
    .concat();
    header(body_bytes, &properties)
}

fn header(body_bytes: usize, properties: &[u8]) -> Vec<u8> {
    [
        &[0, 60, 0, 0][..],
        &(body_bytes as u64).to_be_bytes(),
        properties,
    ]
    .concat()
}

fn method(channel: u16, class: u16, id: u16, arguments: &[u8]) -> Vec<u8> {
    let ids = [class.to_be_bytes(), id.to_be_bytes()].concat();
    frame(1, channel, &[&ids, arguments].concat())
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    [&[kind][..], &channel.to_be_bytes(), &long(payload), &[0xce]].concat()
}

fn short(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("below 4 GiB");
    [&length.to_be_bytes(), bytes].concat()
}

/// A kind, a channel, a length.
pub const FRAME_HEAD: usize = 7;
/// What RabbitMQ proposes.
pub const FRAME_BYTES_MAX: usize = 128 << 10;
