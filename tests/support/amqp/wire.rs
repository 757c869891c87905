//! AMQP 0-9-1 for tests: written and read without any of the code under test.
#![allow(dead_code, reason = "each test uses its part")]

/// One frame.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) channel: u16,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const METHOD: u8 = 1;
pub(crate) const HEADER: u8 = 2;
pub(crate) const BODY: u8 = 3;
pub(crate) const HEARTBEAT: u8 = 8;

pub(crate) const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";

impl Frame {
    pub(crate) fn method(channel: u16, class: u16, id: u16, arguments: Vec<u8>) -> Self {
        let ids = [class.to_be_bytes(), id.to_be_bytes()].concat();
        Self {
            kind: METHOD,
            channel,
            payload: [ids, arguments].concat(),
        }
    }

    pub(crate) fn body(channel: u16, body: &[u8]) -> Self {
        Self {
            kind: BODY,
            channel,
            payload: body.to_vec(),
        }
    }

    pub(crate) const fn heartbeat() -> Self {
        Self {
            kind: HEARTBEAT,
            channel: 0,
            payload: Vec::new(),
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind];
        bytes.extend(self.channel.to_be_bytes());
        bytes.extend(u32::try_from(self.payload.len()).unwrap().to_be_bytes());
        bytes.extend(&self.payload);
        bytes.push(0xce);
        bytes
    }
}

/// What one side said: its frames, and before them the protocol header, if there is one.
///
/// # Panics
/// Where it is not whole.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    bytes = bytes.strip_prefix(PROTOCOL_HEADER).unwrap_or(bytes);
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let size = u32::from_be_bytes(bytes[3..7].try_into().unwrap()) as usize;
        frames.push(Frame {
            kind: bytes[0],
            channel: u16::from_be_bytes([bytes[1], bytes[2]]),
            payload: bytes[7..7 + size].to_vec(),
        });
        assert_eq!(bytes[7 + size], 0xce, "the end of a frame");
        bytes = &bytes[8 + size..];
    }
    frames
}

pub(crate) fn short_string(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text].concat()
}

pub(crate) fn long_string(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
}

/// An entry of a table: name, and type and value as they stand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

impl Field {
    pub(crate) fn new(name: &str, value: Vec<u8>) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
            value,
        }
    }

    pub(crate) fn text(name: &str, text: &str) -> Self {
        Self::new(name, [b"S", &*long_string(text.as_bytes())].concat())
    }

    fn bytes(&self) -> Vec<u8> {
        [short_string(&self.name), self.value.clone()].concat()
    }

    /// Its value, where it is a long string.
    pub(crate) fn as_text(&self) -> Option<String> {
        let text = self.value.strip_prefix(b"S")?.get(4..)?;
        String::from_utf8(text.to_vec()).ok()
    }
}

pub(crate) fn table(fields: &[Field]) -> Vec<u8> {
    let fields: Vec<u8> = fields.iter().flat_map(Field::bytes).collect();
    long_string(&fields)
}

/// A content header.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Header {
    pub(crate) body_size: u64,
    /// The properties besides the headers by the number of their flag's bit, as they stand.
    pub(crate) properties: Vec<(u8, Vec<u8>)>,
    pub(crate) headers: Option<Vec<Field>>,
}

/// The bits of the flags of some properties.
pub(crate) const CONTENT_TYPE: u8 = 15;
pub(crate) const HEADERS: u8 = 13;
pub(crate) const CORRELATION_ID: u8 = 10;

impl Header {
    pub(crate) fn frame(&self, channel: u16) -> Frame {
        let mut flags = 0_u16;
        let mut properties = Vec::new();
        for bit in (2..16).rev() {
            let found = self.properties.iter().find(|(it, _)| *it == bit);
            let bytes = match (bit, found) {
                (HEADERS, _) => self.headers.as_deref().map(table),
                (_, found) => found.map(|(_, bytes)| bytes.clone()),
            };
            if let Some(bytes) = bytes {
                flags |= 1 << bit;
                properties.extend(bytes);
            }
        }
        let mut payload = vec![0, 60, 0, 0];
        payload.extend(self.body_size.to_be_bytes());
        payload.extend(flags.to_be_bytes());
        payload.extend(properties);
        Frame {
            kind: HEADER,
            channel,
            payload,
        }
    }

    /// # Panics
    /// Where it is none.
    pub(crate) fn read(payload: &[u8]) -> Self {
        let (head, mut rest) = payload.split_at(14);
        let flags = u16::from_be_bytes([head[12], head[13]]);
        let mut header = Self {
            body_size: u64::from_be_bytes(head[4..12].try_into().unwrap()),
            ..Self::default()
        };
        for bit in (2..16).rev().filter(|bit| flags & (1 << bit) != 0) {
            let length = match bit {
                HEADERS => 4 + u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize,
                12 | 11 => 1,
                6 => 8,
                _ => 1 + usize::from(rest[0]),
            };
            let (property, after) = rest.split_at(length);
            rest = after;
            if bit == HEADERS {
                header.headers = Some(read_fields(&property[4..]));
            } else {
                header.properties.push((bit, property.to_vec()));
            }
        }
        assert!(rest.is_empty(), "something stands behind the properties");
        header
    }
}

fn read_fields(mut bytes: &[u8]) -> Vec<Field> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let (name, rest) = bytes[1..].split_at(usize::from(bytes[0]));
        let length = 1 + match rest[0] {
            b't' | b'b' | b'B' => 1,
            b's' | b'U' | b'u' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'l' | b'L' | b'd' | b'T' => 8,
            b'V' => 0,
            b'S' | b'x' | b'A' | b'F' => {
                4 + u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize
            }
            unknown => panic!("a field of type {unknown}"),
        };
        let (value, after) = rest.split_at(length);
        fields.push(Field {
            name: name.to_vec(),
            value: value.to_vec(),
        });
        bytes = after;
    }
    fields
}
