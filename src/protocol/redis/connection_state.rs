//! What Redis takes a connection for: its protocol version, its subscriptions, its
//! transaction, and whether it wants replies.
//!
//! Commands change it when Redis comes to them, which is after it has answered those before,
//! and only where it does not refuse them.

use crate::protocol::redis::command::Kind;
use crate::protocol::redis::pairing::Hops;

#[derive(Debug, Default)]
pub(super) struct ConnectionState {
    pub(super) resp3: bool,
    /// Subscriptions, by kind.
    subscribed: [u64; 3],
    /// The commands that are queued since MULTI; `None` outside a transaction.
    pub(super) queued: Option<Vec<Hops>>,
    /// Keys are watched.
    pub(super) watching: bool,
    /// CLIENT REPLY OFF.
    pub(super) replies_off: bool,
    /// CLIENT REPLY SKIP was the last command.
    pub(super) skips_next: bool,
}

impl ConnectionState {
    /// Whether messages of subscriptions come as arrays, and Redis refuses most commands. In
    /// RESP3 they come as pushes, and it does not.
    pub(super) fn is_in_subscribed_mode(&self) -> bool {
        !self.resp3 && self.subscribed != [0; 3]
    }

    pub(super) const fn is_in_transaction(&self) -> bool {
        self.queued.is_some()
    }

    /// Redis says how many subscriptions there are now. How many are left of that kind.
    pub(super) fn count_subscriptions(&mut self, kind: Kind, total: u64) -> u64 {
        // Channels and patterns are counted together, shard channels on their own.
        let [channels, patterns, shards] = &mut self.subscribed;
        let (count, others) = match kind {
            Kind::Channel => (channels, *patterns),
            Kind::Pattern => (patterns, *channels),
            Kind::Shard => (shards, 0),
        };
        *count = total.saturating_sub(others);
        *count
    }

    /// The transaction ends. What was queued in it.
    pub(super) fn end_transaction(&mut self) -> Vec<Hops> {
        self.watching = false;
        self.queued.take().unwrap_or_default()
    }

    /// RESET makes it a new connection. What was queued.
    pub(super) fn reset(&mut self) -> Vec<Hops> {
        std::mem::take(self).queued.unwrap_or_default()
    }
}
