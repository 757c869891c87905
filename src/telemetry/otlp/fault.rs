//! What can go wrong on the way to a collector, and what OTLP says is worth another attempt.

use std::error::Error as StdError;
use std::iter;
use std::time::Duration;
use std::time::SystemTime;

use hyper::HeaderMap;
use hyper::StatusCode;
use hyper::header::RETRY_AFTER;
use jiff::fmt::rfc2822;
use thiserror::Error;
use tonic::Code;
use tonic::Status;
use tonic_types::StatusExt;

use crate::hop::clean;

/// Why a request was not taken, in words.
#[derive(Debug, Error)]
pub(super) enum Fault {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("{words}")]
    Failed {
        words: String,
        /// How long the collector is to be left alone before it is asked again; `None`: it
        /// would say the same.
        again_after: Option<Duration>,
    },
    /// The request is larger than the collector takes; a part of it may be taken.
    #[error("{0}; is telemetry.batch_bytes_max more than the collector takes?")]
    TooLarge(String),
}

impl Fault {
    /// It may not have reached the collector.
    pub(super) fn on_the_way(error: &(dyn StdError + 'static)) -> Self {
        Self::Failed {
            words: chain(error),
            again_after: Some(Duration::ZERO),
        }
    }

    /// Whoever answered is no collector, whatever the status says.
    pub(super) fn not_otlp(answer: &str) -> Self {
        Self::Failed {
            words: format!("the answer is {answer}, not a collector's; check the endpoint"),
            again_after: None,
        }
    }

    /// Which answers of HTTP are worth another attempt.
    pub(super) fn of_answer(status: StatusCode, headers: &HeaderMap) -> Self {
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::TooLarge(format!("the collector answered {status}"));
        }
        let may_pass = matches!(status.as_u16(), 429 | 502 | 503 | 504);
        let asked = || wait(headers.get(RETRY_AFTER)?.to_str().ok()?);
        Self::Failed {
            words: format!("the collector answered {status}"),
            again_after: may_pass.then(|| asked().unwrap_or_default()),
        }
    }

    /// Which answers of gRPC are worth another attempt.
    pub(super) fn of_status(status: &Status) -> Self {
        if let Some(source) = status.source() {
            // It was made here, of what became of the connection.
            return Self::on_the_way(source);
        }
        let asked = || status.get_details_retry_info()?.retry_delay;
        let words = format!(
            "the collector answered {:?}: {}",
            status.code(),
            clean(status.message())
        );
        if status.code() == Code::ResourceExhausted && asked().is_none() {
            return Self::TooLarge(words);
        }
        Self::Failed {
            words,
            again_after: match status.code() {
                Code::Cancelled
                | Code::DeadlineExceeded
                | Code::Aborted
                | Code::OutOfRange
                | Code::Unavailable
                | Code::DataLoss => Some(asked().unwrap_or_default()),
                Code::ResourceExhausted => asked(),
                _ => None,
            },
        }
    }

    pub(super) fn again_after(&self) -> Option<Duration> {
        match self {
            Self::Timeout(_) | Self::TooLarge(_) => None,
            Self::Failed { again_after, .. } => *again_after,
        }
    }
}

/// What a `Retry-After` asks for: seconds, or a date.
fn wait(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = SystemTime::from(rfc2822::parse(value).ok()?.timestamp());
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// An error and its causes, in one line.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let causes = iter::successors(Some(error), |error| (*error).source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}

#[cfg(test)]
mod tests {
    use std::io;

    use hyper::header::HeaderValue;
    use tonic_types::ErrorDetails;

    use super::*;

    fn answered(status: u16, retry_after: Option<&'static str>) -> Fault {
        let value = retry_after.map(|value| (RETRY_AFTER, HeaderValue::from_static(value)));
        Fault::of_answer(
            StatusCode::from_u16(status).unwrap(),
            &HeaderMap::from_iter(value),
        )
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (status, retry_after, again_after) in [
            (400, None, None),
            (400, Some("3"), None),
            (401, None, None),
            (404, None, None),
            (413, Some("3"), None),
            (429, Some("3"), seconds(3)),
            (500, None, None),
            (502, None, seconds(0)),
            (503, None, seconds(0)),
            (503, Some("soon"), seconds(0)),
            (503, Some("120"), seconds(120)),
            (503, Some("Sun, 06 Nov 1994 08:49:37 GMT"), seconds(0)),
            (504, None, seconds(0)),
        ] {
            let fault = answered(status, retry_after);
            assert_eq!(fault.again_after(), again_after, "{status} {retry_after:?}");
        }
        let fault = answered(503, Some("Tue, 31 Dec 2199 23:59:59 GMT"));
        assert!(fault.again_after() > seconds(3600));
    }

    #[test]
    fn what_grpc_says_may_pass_is_tried_again() {
        let zero = Some(Duration::ZERO);
        for (code, again_after) in [
            (Code::Cancelled, zero),
            (Code::Unknown, None),
            (Code::InvalidArgument, None),
            (Code::DeadlineExceeded, zero),
            (Code::NotFound, None),
            (Code::PermissionDenied, None),
            (Code::ResourceExhausted, None),
            (Code::Aborted, zero),
            (Code::OutOfRange, zero),
            (Code::Unimplemented, None),
            (Code::Internal, None),
            (Code::Unavailable, zero),
            (Code::DataLoss, zero),
            (Code::Unauthenticated, None),
        ] {
            let fault = Fault::of_status(&Status::new(code, "no"));
            assert_eq!(fault.again_after(), again_after, "{code:?}");
        }
        let asked = Some(Duration::from_secs(7));
        let details = ErrorDetails::with_retry_info(asked);
        for code in [Code::ResourceExhausted, Code::Unavailable] {
            let status = Status::with_error_details(code, "later", details.clone());
            assert_eq!(Fault::of_status(&status).again_after(), asked, "{code:?}");
        }
        let broken = Status::from_error(io::Error::from(io::ErrorKind::BrokenPipe).into());
        let fault = Fault::of_status(&broken);
        assert_eq!(fault.again_after(), zero);
        assert_eq!(fault.to_string(), "broken pipe");
    }
}
