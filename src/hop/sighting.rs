use std::sync::Arc;
use std::time::Duration;

use crate::celery::TaskState;
use crate::hop::KeptTask;
use crate::trace::SpanId;
use crate::trace::SpanKind;
use crate::trace::Timestamp;
use crate::trace::TraceContext;
use crate::trace::key_of;
use crate::trace::w3c::Invalid;

/// One thing seen to happen to a message, or to the seeing itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Sighting {
    /// A task message was read on its way to the broker.
    Published(Arc<Publication>),
    /// What became of a publication. Each one is answered once; of those that are mandatory
    /// and unanswered, one that the broker returns afterwards is refused as well.
    Answered {
        hop: HopId,
        at: Timestamp,
        answer: Answer,
    },
    /// A task message was read on its way from the broker.
    Delivered(Arc<Delivery>),
    /// What a consumer said of deliveries that bear this receipt. One saying stands for one
    /// delivery.
    Settled {
        receipt: Receipt,
        at: Timestamp,
        settlement: Settlement,
    },
    /// A client has put away what it took, to acknowledge it later.
    Announced { receipt: Receipt },
    /// A client goes on with something else: had it meant to acknowledge what it took, that
    /// would have been announced by now.
    AnnouncementDue { receipt: Receipt, at: Timestamp },
    /// What a worker said of the run of a task.
    Told {
        task: TaskKey,
        at: Timestamp,
        state: TaskState,
        evidence: Evidence,
        /// How long the run took, where the worker says.
        runtime: Option<Duration>,
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
    /// The broker has told a client where else to connect, which may be past the proxy; `why` is
    /// a fixed word for how.
    Redirected {
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
    pub client_address: Arc<str>,
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
    pub destination: Arc<str>,
    pub task: KeptTask,
    /// What the client calls itself on this connection; `None` where it has no name.
    pub client_name: Option<Arc<str>>,
    /// The size of the message as it came, in bytes.
    pub size: usize,
    /// The broker returns it where no queue takes it.
    pub mandatory: bool,
    pub judgement: Judgement,
}

/// A task message on its way out.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// What its settlement will be told by. `None`: it counts as acknowledged once it is
    /// sent.
    pub receipt: Option<Receipt>,
    pub announcement: Announcement,
    pub connection: Arc<Connection>,
    pub system: &'static str,
    /// When the last byte that was needed to read it was seen.
    pub at: Timestamp,
    /// The queue, or the topic of a broadcast.
    pub destination: Arc<str>,
    pub task: KeptTask,
    /// What the client calls itself on this connection; `None` where it has no name.
    pub client_name: Option<Arc<str>>,
    /// The size of the message as it came, in bytes.
    pub size: usize,
    pub passage: Passage,
    /// When it was published, where that is known.
    pub sent: Option<Timestamp>,
    /// Whether this proxy has seen it published.
    pub is_seen_sent: bool,
    /// Whether the broker answers acknowledgements, so that what a worker says after one on another
    /// connection cannot come first.
    pub answers_acknowledgements: bool,
    /// How far the clock that tells `sent` is known to be ahead of this proxy's, at least.
    pub clock_skew: Option<Duration>,
    /// The span of the task's run.
    pub process: SpanId,
    pub judgement: Judgement,
}

impl Delivery {
    /// When the task is to run, if not at once.
    #[must_use]
    pub fn eta(&self) -> Option<Timestamp> {
        self.task.eta().and_then(Timestamp::parse)
    }

    /// How long the message waited for somebody to take it; `None` where it is not known
    /// when it was sent, or that cannot be. What the broker held it back on purpose is not part of it.
    #[must_use]
    pub fn dwell(&self) -> Option<Duration> {
        let sent = self.sent.filter(|_| self.sent_ahead().is_none())?;
        Some(self.at.since(sent.max(self.held_back_until())))
    }

    /// How long the broker held it back on purpose.
    #[must_use]
    pub fn delay(&self) -> Duration {
        let sent = self.sent.unwrap_or(self.at);
        self.held_back_until().min(self.at).since(sent)
    }

    /// How much later it was sent than it came, which proves that a clock is wrong.
    #[must_use]
    pub fn sent_ahead(&self) -> Option<Duration> {
        let ahead = self.sent?.since(self.at);
        (ahead >= CLOCK_PRECISION).then_some(ahead)
    }

    /// Until when the broker held it back on purpose; the beginning of time where it did not.
    fn held_back_until(&self) -> Timestamp {
        if self.passage.delayed {
            self.eta().unwrap_or_default()
        } else {
            Timestamp::default()
        }
    }
}

/// To which clocks that are kept by NTP agree.
const CLOCK_PRECISION: Duration = Duration::from_millis(1);

/// How a message came to be delivered, as far as the broker tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// It was delivered before, and not settled.
    pub redelivered: bool,
    /// How often it was delivered before, where the broker counts that.
    pub deliveries_before: Option<u32>,
    /// Everybody who listens gets one of these.
    pub broadcast: bool,
    /// The broker held it back until its `eta`.
    pub delayed: bool,
    /// Why it was moved here from the queue that it was sent to.
    pub dead_letter: Option<Box<str>>,
}

/// What the settlement of a delivery is told by. Several deliveries can have the same one:
/// what kombu broadcasts can bear one tag for all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt([u8; 16]);

impl Receipt {
    /// Of a tag that the message itself bears.
    #[must_use]
    pub fn tag(tag: &str) -> Self {
        Self(key_of(tag))
    }

    /// Of delivery `number` of a session.
    #[must_use]
    pub fn numbered(session: u64, number: u64) -> Self {
        Self((u128::from(session) << 64 | u128::from(number)).to_be_bytes())
    }
}

/// A task's id, in a form of fixed length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey([u8; 16]);

impl TaskKey {
    #[must_use]
    pub fn of(id: &str) -> Self {
        Self(key_of(id))
    }
}

/// Whether a client says beforehand that it is going to acknowledge a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// The protocol says so: every delivery with a receipt is acknowledged.
    Implied,
    /// To the broker a message is gone once it is popped. kombu, which this client looks like,
    /// puts it away until it is acknowledged; other clients do not.
    Expected,
    /// The same, of a client that shows nothing of kombu.
    Possible,
}

/// What a consumer said of a delivery, or what its end said for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settlement {
    Acknowledged,
    /// It counted as acknowledged when it was sent.
    Automatic,
    /// Not to be delivered again.
    Rejected,
    /// To be delivered again: put back, or restored for a worker that is gone.
    Requeued,
    /// It is acknowledged by another way, if at all: perhaps through another proxy.
    Unknown,
    /// The connection or the channel was closed in good order before the consumer said
    /// anything: it went back to its queue.
    Returned,
    /// The connection broke before the consumer said anything.
    Abandoned,
}

impl Settlement {
    /// The word for metrics and spans.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Automatic => "automatic",
            Self::Rejected => "rejected",
            Self::Requeued => "requeued",
            Self::Returned => "returned",
            Self::Unknown => "unknown",
            Self::Abandoned => "abandoned",
        }
    }
}

/// What the beginning or the end of a run is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// The worker wrote it to the result backend.
    Result,
    /// The worker sent an event.
    Event,
    /// The worker published the next attempt, or what takes the place of the task.
    Publication,
    /// The worker acknowledged the message, and said no more. Ahead of the end that is the
    /// beginning.
    Acknowledgement,
    /// The worker said at the end how long it took.
    Runtime,
}

impl Evidence {
    /// The word for spans.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Result => "result",
            Self::Event => "event",
            Self::Publication => "publication",
            Self::Acknowledgement => "acknowledgement",
            Self::Runtime => "runtime",
        }
    }
}

/// What was found of the context of a message, and the span that follows from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The span itself. It is exported where its trace is sampled.
    pub context: TraceContext,
    pub parent: Option<SpanId>,
    /// The trace that this one was split off from.
    pub link: Option<TraceContext>,
    /// The `tracestate` that the message carries from here, empty where there is none, where
    /// it is longer than a span should keep, or where the span is not exported.
    pub tracestate: String,
    pub kind: SpanKind,
    pub verdict: Verdict,
    /// Why the carried `traceparent` was not valid.
    pub invalid: Option<Invalid>,
    pub quality: Quality,
    pub origin: Origin,
}

/// How good the context is that a message came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Quality {
    Valid,
    Missing,
    Invalid,
    /// It was written for another message: an earlier attempt, or a task whose headers were
    /// copied.
    Stale,
    /// There is another vendor's and no `traceparent`.
    Foreign,
    /// There are several, and they name different traces.
    Mixed,
}

impl Quality {
    /// The word for metrics and reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Stale => "stale",
            Self::Foreign => "foreign",
            Self::Mixed => "mixed",
        }
    }
}

/// What was done with the context of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// A valid one was there and stays.
    Kept,
    /// A valid one got the hop's span as its parent-id.
    Restamped,
    /// One of our own, written for another message, was replaced by this one's.
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
    /// Whether anything was written into the message.
    #[must_use]
    pub const fn is_written(self) -> bool {
        matches!(
            self,
            Self::Restamped | Self::Renewed | Self::Added | Self::Replaced
        )
    }

    /// The same where it `is_written`, else that of the same message left as it came.
    #[must_use]
    pub const fn if_written(self, is_written: bool) -> Self {
        match self {
            _ if is_written => self,
            Self::Added | Self::Missing => Self::Missing,
            Self::Replaced | Self::Invalid => Self::Invalid,
            Self::Kept | Self::Restamped | Self::Renewed => Self::Kept,
        }
    }

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
    /// It was in the message, in another vendor's spelling.
    Translated,
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
            Self::Translated => "translated",
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
    /// The protocol gives no answer. It ends when the broker's socket has taken it.
    Unanswered,
    /// There may have been an answer; it could not be read, or not be told from others.
    Unread,
    /// The connection ended before the answer.
    Lost,
    /// It was open for too long, or too many were.
    Expired,
}

impl Answer {
    /// Whether it says that nothing will be heard of a publication that may not have been
    /// written yet.
    #[must_use]
    pub const fn comes_with_writing(&self) -> bool {
        matches!(self, Self::Unanswered | Self::Unread)
    }

    /// What went wrong, if anything did: its kind, a word of few values, and the words for it.
    #[must_use]
    pub fn error(&self) -> Option<(&str, &str)> {
        match self {
            Self::Refused(words) => {
                let kind = words.split(' ').next().unwrap_or_default();
                Some((kind, words))
            }
            Self::Lost => Some((
                "connection_lost",
                "the connection ended before the broker answered",
            )),
            Self::Confirmed | Self::Discarded | Self::Unanswered | Self::Unread | Self::Expired => {
                None
            }
        }
    }

    /// The word for metrics and spans.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Refused(_) => "refused",
            Self::Discarded => "discarded",
            Self::Unanswered => "unanswered",
            Self::Unread => "unread",
            Self::Lost => "lost",
            Self::Expired => "expired",
        }
    }
}
