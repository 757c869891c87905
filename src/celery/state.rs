/// What a worker says of a task that it has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// Its run has begun; everything else ends it.
    Started,
    Succeeded,
    Failed,
    /// It will run again, as another attempt.
    Retried,
    /// It was taken back or had expired, and did not run to its end.
    Revoked,
    /// The worker threw it away.
    Rejected,
}

impl TaskState {
    /// The word for metrics and spans.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Retried => "retried",
            Self::Revoked => "revoked",
            Self::Rejected => "rejected",
        }
    }
}
