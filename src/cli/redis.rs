//! Questions to a Redis, one at a time, in RESP2.

use bytes::Bytes;
use bytes::BytesMut;
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::encode::extend_encode;
use redis_protocol::resp2::types::BytesFrame;
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::cli::broker::Credentials;
use crate::cli::dial::STEP_TIME_MAX;
use crate::cli::dial::Stream;
use crate::cli::output::shown;

/// A connection to a Redis.
pub(super) struct Redis {
    stream: Stream,
    input: BytesMut,
}

/// Why there is no answer that says something.
#[derive(Debug, Error)]
pub(super) enum NoAnswer {
    /// In its own words, the first of which names the kind.
    #[error("{}", shown(.0))]
    Refused(String),
    #[error("the connection was lost: {0}")]
    Lost(#[from] std::io::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("no answer within {STEP_TIME_MAX:?}")]
    Silent,
    #[error("it does not speak Redis' protocol")]
    Unreadable,
    #[error("its answer is larger than {} MiB", ANSWER_BYTES_MAX >> 20)]
    TooLarge,
}

impl NoAnswer {
    /// Whether it was refused with an error of this kind.
    pub(super) fn is(&self, kind: &str) -> bool {
        matches!(self, Self::Refused(words) if words.starts_with(kind))
    }
}

impl Redis {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
        }
    }

    /// Says who asks.
    pub(super) async fn log_in(&mut self, credentials: &Credentials) -> Result<(), NoAnswer> {
        let password = credentials.password.as_str();
        match &credentials.user {
            Some(user) => self.ask(&["AUTH", user, password]).await,
            None => self.ask(&["AUTH", password]).await,
        }
        .map(drop)
    }

    /// The answer to one command.
    pub(super) async fn ask(&mut self, command: &[&str]) -> Result<BytesFrame, NoAnswer> {
        let words = command
            .iter()
            .map(|word| Bytes::copy_from_slice(word.as_bytes()));
        let words = words.map(BytesFrame::BulkString).collect();
        let mut request = BytesMut::new();
        extend_encode(&mut request, &BytesFrame::Array(words), false)
            .map_err(|_| NoAnswer::Unreadable)?;
        self.stream.write_all(&request).await?;
        let answer = timeout(STEP_TIME_MAX, self.answer()).await;
        match answer.unwrap_or(Err(NoAnswer::Silent))? {
            BytesFrame::Error(words) => Err(NoAnswer::Refused(words.to_string())),
            answer => Ok(answer),
        }
    }

    async fn answer(&mut self) -> Result<BytesFrame, NoAnswer> {
        loop {
            // An error here holds all that was read, in decimal: it is not looked at.
            match decode_bytes_mut(&mut self.input) {
                Ok(Some((answer, ..))) => return Ok(answer),
                Ok(None) if self.input.len() > ANSWER_BYTES_MAX => return Err(NoAnswer::TooLarge),
                Ok(None) => {}
                Err(_) => return Err(NoAnswer::Unreadable),
            }
            // Every attempt begins anew, so a long answer is not looked at for each packet.
            self.input.reserve(self.input.len().max(READ_BYTES));
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(NoAnswer::Closed);
            }
        }
    }
}

/// The elements of an array; none of anything else.
pub(super) fn elements(answer: BytesFrame) -> Vec<BytesFrame> {
    match answer {
        BytesFrame::Array(elements) => elements,
        _ => Vec::new(),
    }
}

pub(super) fn bytes(answer: &BytesFrame) -> Option<&Bytes> {
    match answer {
        BytesFrame::BulkString(bytes) | BytesFrame::SimpleString(bytes) => Some(bytes),
        _ => None,
    }
}

pub(super) fn text(answer: &BytesFrame) -> Option<&str> {
    str::from_utf8(bytes(answer)?).ok()
}

pub(super) fn integer(answer: &BytesFrame) -> Option<i64> {
    match answer {
        BytesFrame::Integer(number) => Some(*number),
        answer => text(answer)?.parse().ok(),
    }
}

const READ_BYTES: usize = 64 << 10;
const ANSWER_BYTES_MAX: usize = 256 << 20;
