//! Contexts remembered by the ids of the tasks that carried them.

/// Bounded in count and time.
#[derive(Debug)]
pub struct Memory {}
