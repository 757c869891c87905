//! Frames for tests, as hex or by their parts.

/// Bytes from hex digits, grouped as one likes; `'…'` stands for its characters.
pub(super) fn hex(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, part) in text.split('\'').enumerate() {
        if index % 2 == 1 {
            bytes.extend_from_slice(part.as_bytes());
            continue;
        }
        let digits: Vec<u8> = part.bytes().filter(u8::is_ascii_hexdigit).collect();
        for pair in digits.chunks(2) {
            let pair = str::from_utf8(pair).unwrap();
            bytes.push(u8::from_str_radix(pair, 16).unwrap());
        }
    }
    bytes
}

pub(super) fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend(channel.to_be_bytes());
    frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend(payload);
    frame.push(0xce);
    frame
}

pub(super) fn method(channel: u16, class: u16, id: u16, arguments: &[u8]) -> Vec<u8> {
    let ids = [class.to_be_bytes(), id.to_be_bytes()].concat();
    frame(1, channel, &[&ids, arguments].concat())
}

pub(super) fn short(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

pub(super) fn long(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
}

pub(super) fn publish(channel: u16, exchange: &str, routing_key: &str, bits: u8) -> Vec<u8> {
    let arguments = [&[0, 0], &*short(exchange), &short(routing_key), &[bits]].concat();
    method(channel, 60, 40, &arguments)
}

/// A table field whose value is a long string.
pub(super) fn text(name: &str, value: &str) -> Vec<u8> {
    [short(name), b"S".to_vec(), long(value.as_bytes())].concat()
}

/// The payload of a content header with these properties.
pub(super) fn header_payload(body_size: u64, flags: u16, properties: &[u8]) -> Vec<u8> {
    [
        &hex("003c 0000")[..],
        &body_size.to_be_bytes(),
        &flags.to_be_bytes(),
        properties,
    ]
    .concat()
}

/// The properties of a Celery message: content type, headers, correlation id.
pub(super) fn properties(content_type: &str, fields: &[Vec<u8>], correlation_id: &str) -> Vec<u8> {
    [
        short(content_type),
        long(&fields.concat()),
        short(correlation_id),
    ]
    .concat()
}

pub(super) const CELERY_FLAGS: u16 = 0b1010_0100 << 8;
