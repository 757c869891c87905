//! RESP as the tests speak it: values that can be written, and a splitter of its own.
//!
//! Nothing here is shared with `src/`: what is held against the sessions has to be written
//! by somebody else.
#![allow(dead_code, reason = "each test uses its part")]

/// A value of RESP2 or RESP3.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Resp {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    /// `$-1`
    NullBulk,
    Array(Vec<Self>),
    /// `*-1`
    NullArray,
    /// `_`
    Null,
    Boolean(bool),
    /// `,` with the digits as they stand on the wire
    Double(String),
    BigNumber(String),
    BlobError(Vec<u8>),
    Verbatim([u8; 3], Vec<u8>),
    Map(Vec<(Self, Self)>),
    Set(Vec<Self>),
    Push(Vec<Self>),
    /// `|`: attributes, and the value they belong to
    Attributed(Vec<(Self, Self)>, Box<Self>),
    /// `$?`: a string in chunks, none of them empty
    StreamedString(Vec<Vec<u8>>),
    /// `*?`
    StreamedArray(Vec<Self>),
    /// `~?`
    StreamedSet(Vec<Self>),
    /// `%?`
    StreamedMap(Vec<(Self, Self)>),
}

impl Resp {
    pub(crate) fn bulk(bytes: impl AsRef<[u8]>) -> Self {
        Self::Bulk(bytes.as_ref().to_vec())
    }

    pub(crate) fn ok() -> Self {
        Self::Simple("OK".to_owned())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Simple(text) => line(out, '+', text),
            Self::Error(text) => line(out, '-', text),
            Self::Integer(number) => line(out, ':', number),
            Self::Bulk(bytes) => blob(out, '$', bytes),
            Self::NullBulk => line(out, '$', -1),
            Self::Array(items) => aggregate(out, '*', items),
            Self::NullArray => line(out, '*', -1),
            Self::Null => line(out, '_', ""),
            Self::Boolean(truth) => line(out, '#', if *truth { 't' } else { 'f' }),
            Self::Double(digits) => line(out, ',', digits),
            Self::BigNumber(digits) => line(out, '(', digits),
            Self::BlobError(bytes) => blob(out, '!', bytes),
            Self::Verbatim(format, bytes) => {
                blob(out, '=', &[format, b":".as_slice(), bytes].concat());
            }
            Self::Map(pairs) => map(out, '%', pairs),
            Self::Set(items) => aggregate(out, '~', items),
            Self::Push(items) => aggregate(out, '>', items),
            Self::Attributed(attributes, value) => {
                map(out, '|', attributes);
                value.write(out);
            }
            Self::StreamedString(chunks) => {
                line(out, '$', '?');
                for chunk in chunks {
                    blob(out, ';', chunk);
                }
                line(out, ';', 0);
            }
            Self::StreamedArray(items) => streamed(out, '*', items),
            Self::StreamedSet(items) => streamed(out, '~', items),
            Self::StreamedMap(pairs) => {
                line(out, '%', '?');
                for (key, value) in pairs {
                    key.write(out);
                    value.write(out);
                }
                out.extend_from_slice(b".\r\n");
            }
        }
    }

    /// Whether any part of this value satisfies `holds`.
    pub(crate) fn any(&self, holds: &dyn Fn(&Self) -> bool) -> bool {
        let in_pairs = |pairs: &[(Self, Self)]| {
            pairs
                .iter()
                .any(|(key, value)| key.any(holds) || value.any(holds))
        };
        holds(self)
            || match self {
                Self::Array(items)
                | Self::Set(items)
                | Self::Push(items)
                | Self::StreamedArray(items)
                | Self::StreamedSet(items) => items.iter().any(|item| item.any(holds)),
                Self::Map(pairs) | Self::StreamedMap(pairs) => in_pairs(pairs),
                Self::Attributed(pairs, value) => in_pairs(pairs) || value.any(holds),
                _ => false,
            }
    }
}

/// A request as clients send it: an array of bulk strings.
pub(crate) fn request<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<u8> {
    Resp::Array(arguments.iter().map(Resp::bulk).collect()).bytes()
}

fn line(out: &mut Vec<u8>, kind: char, rest: impl std::fmt::Display) {
    out.extend_from_slice(format!("{kind}{rest}\r\n").as_bytes());
}

fn blob(out: &mut Vec<u8>, kind: char, bytes: &[u8]) {
    line(out, kind, bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn aggregate(out: &mut Vec<u8>, kind: char, items: &[Resp]) {
    line(out, kind, items.len());
    items.iter().for_each(|item| item.write(out));
}

fn streamed(out: &mut Vec<u8>, kind: char, items: &[Resp]) {
    line(out, kind, '?');
    items.iter().for_each(|item| item.write(out));
    out.extend_from_slice(b".\r\n");
}

fn map(out: &mut Vec<u8>, kind: char, pairs: &[(Resp, Resp)]) {
    line(out, kind, pairs.len());
    for (key, value) in pairs {
        key.write(out);
        value.write(out);
    }
}

/// The pieces of a stream: each line that is no blob, and each blob without its length.
///
/// What an edit may change is a blob's bytes and length, so two streams that differ only by
/// edits have the same tokens up to the edited blobs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token<'a> {
    Line(&'a [u8]),
    Blob(u8, &'a [u8]),
    /// What is left where the stream ends within a token, or a blob has no end.
    Rest(&'a [u8]),
}

pub(crate) fn tokens(mut stream: &[u8]) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    while !stream.is_empty() {
        let Some(end) = stream.iter().position(|byte| *byte == b'\n') else {
            tokens.push(Token::Rest(stream));
            break;
        };
        let (head, rest) = stream.split_at(end + 1);
        let length = match head {
            [b'$' | b'=' | b'!' | b';', digits @ .., b'\r', b'\n']
                if digits != b"0" || head[0] != b';' =>
            {
                std::str::from_utf8(digits)
                    .ok()
                    .and_then(|digits| digits.parse::<usize>().ok())
            }
            _ => None,
        };
        let Some(length) = length else {
            tokens.push(Token::Line(head));
            stream = rest;
            continue;
        };
        match rest
            .get(length..)
            .and_then(|rest| rest.strip_prefix(b"\r\n"))
        {
            Some(after) => {
                tokens.push(Token::Blob(head[0], &rest[..length]));
                stream = after;
            }
            None => {
                tokens.push(Token::Rest(stream));
                break;
            }
        }
    }
    tokens
}
