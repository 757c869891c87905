use std::sync::Arc;

use crate::celery::Task;
use crate::trace::SpanId;
use crate::trace::SpanKind;
use crate::trace::Timestamp;
use crate::trace::TraceContext;
use crate::trace::w3c::Invalid;

/// One thing seen to happen to a message, or to the seeing itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Sighting {
    /// A task message was read on its way to the broker.
    Published(Box<Publication>),
    /// What became of a publication. Each one is answered once.
    Answered {
        hop: HopId,
        at: Timestamp,
        answer: Answer,
    },
    /// A worker put a message back that it had taken: not a publication.
    Redelivered {
        connection: Arc<Connection>,
        destination: Box<str>,
    },
    /// A message passed unedited although it may have been one of Celery's; `why` is a
    /// fixed word.
    LeftAlone {
        connection: Arc<Connection>,
        why: &'static str,
    },
    /// From here on this session is not read any further; `why` is a fixed word.
    LostSight {
        connection: Arc<Connection>,
        why: &'static str,
    },
}

/// Names a publication within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HopId {
    /// The number of the session that saw it.
    pub session: u64,
    /// Its number among the session's publications.
    pub number: u64,
}

/// The connection on which something was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The session's number, unique within this process.
    pub session: u64,
    /// The name of the route in the configuration.
    pub route: Arc<str>,
    /// The broker's host as configured, and its port.
    pub server_address: Arc<str>,
    pub server_port: u16,
    /// The app's address.
    pub client_address: Box<str>,
}

/// A task message on its way in, with the context that it carries from here.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    pub hop: HopId,
    pub connection: Arc<Connection>,
    /// `messaging.system`: which kind of broker it is.
    pub system: &'static str,
    /// When the first byte of the publication was seen.
    pub at: Timestamp,
    /// The queue, or the topic of a broadcast.
    pub destination: Box<str>,
    pub task: Task<'static>,
    /// The size of the message as it came, in bytes.
    pub size: usize,
    /// The hop's own span.
    pub context: TraceContext,
    pub parent: Option<SpanId>,
    /// The `tracestate` that the message carries from here, empty for none.
    pub tracestate: String,
    pub kind: SpanKind,
    pub verdict: Verdict,
    /// Why the carried `traceparent` was not valid.
    pub invalid: Option<Invalid>,
    pub origin: Origin,
    /// Whether the hop's spans are to be exported.
    pub recorded: bool,
}

/// What was done with the context of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// A valid one was there and stays.
    Kept,
    /// A valid one got the hop's span as its parent-id.
    Restamped,
    /// One of our own, of an earlier attempt, was replaced by this attempt's.
    Renewed,
    /// There was none; one was added.
    Added,
    /// There was an invalid one; it was replaced.
    Replaced,
    /// There was none, and none was added.
    Missing,
    /// There was an invalid one, and it stays.
    Invalid,
}

impl Verdict {
    /// The word for metrics and spans.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Restamped => "restamped",
            Self::Renewed => "renewed",
            Self::Added => "added",
            Self::Replaced => "replaced",
            Self::Missing => "missing",
            Self::Invalid => "invalid",
        }
    }
}

/// Where the context of a hop came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// It was in the message.
    Carried,
    /// It was that of a task seen earlier.
    Inherited,
    /// It follows from the ids in the message.
    Derived,
    /// There was nothing to go by.
    Fresh,
}

impl Origin {
    /// The word for spans.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Carried => "carried",
            Self::Inherited => "inherited",
            Self::Derived => "derived",
            Self::Fresh => "fresh",
        }
    }
}

/// What became of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The broker took it.
    Confirmed,
    /// The broker refused it, in its own words.
    Refused(Box<str>),
    /// It was part of a transaction that was discarded or aborted.
    Discarded,
    /// The protocol gives no answer, or it can no longer be told apart from others.
    Unanswered,
    /// The connection ended before the answer.
    Lost,
    /// It was open for too long, or too many were.
    Expired,
}

impl Answer {
    /// The word for metrics and spans.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Refused(_) => "refused",
            Self::Discarded => "discarded",
            Self::Unanswered => "unanswered",
            Self::Lost => "lost",
            Self::Expired => "expired",
        }
    }
}
