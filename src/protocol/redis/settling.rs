//! What workers say of messages that they have taken.
//!
//! kombu keeps what was delivered in a hash, by delivery tag. A worker that removes a tag has
//! acknowledged the message, or rejected it. To put a message back it removes the tag and
//! pushes the message in one transaction, watching the hash: what it finds gone by then,
//! another worker has dealt with (`kombu/transport/redis.py`, `Channel.restore_by_tag`).

use crate::hop::Receipt;
use crate::hop::Settlement;
use crate::protocol::redis::command::Request;

/// The settlements among the requests of one connection. They count once Redis has answered
/// that it carried them out.
#[derive(Debug)]
pub(super) struct Settling {
    /// Those that are not yet sent to be executed.
    open: Vec<(Receipt, Settlement)>,
    open_max: usize,
    /// MULTI was sent, and nothing that ends it.
    in_transaction: bool,
    /// WATCH was sent, and nothing that ends it.
    watches: bool,
}

impl Settling {
    /// Of one transaction, no more than `open_max` are told.
    pub(super) const fn new(open_max: usize) -> Self {
        Self {
            open: Vec::new(),
            open_max,
            in_transaction: false,
            watches: false,
        }
    }

    /// The memory that it takes.
    pub(super) const fn kept_bytes(&self) -> usize {
        self.open.capacity() * size_of::<(Receipt, Settlement)>()
    }

    /// A field of a hash is removed that may be a delivery tag.
    pub(super) fn remove(&mut self, field: &[u8]) {
        if let Some(receipt) = receipt(field)
            && self.open.len() < self.open_max
        {
            self.open.push((receipt, Settlement::Acknowledged));
        }
    }

    /// A message with this tag is pushed. Says whether it is one that was removed in the same
    /// transaction, and so put back.
    pub(super) fn push(&mut self, tag: &str) -> bool {
        if self.open.is_empty() {
            return false;
        }
        let pushed = receipt(tag.as_bytes());
        let removed = self
            .open
            .iter_mut()
            .find(|(removed, _)| Some(*removed) == pushed);
        removed
            .map(|(_, settlement)| *settlement = Settlement::Requeued)
            .is_some()
    }

    /// A message is pushed that was too large to be read. In a transaction that puts
    /// messages back it is one of them.
    pub(super) fn push_unread(&mut self) {
        if self.is_putting_back()
            && let Some((_, settlement)) = self.open.last_mut()
        {
            *settlement = Settlement::Requeued;
        }
    }

    /// A request was sent: what it settles where Redis carries it out.
    pub(super) fn requested(&mut self, request: Request<'_>) -> Vec<(Receipt, Settlement)> {
        let is_putting_back = self.is_putting_back();
        match request {
            Request::Multi => self.in_transaction = true,
            Request::Watch => self.watches = true,
            Request::Unwatch => self.watches &= self.in_transaction,
            Request::Exec => {
                self.in_transaction = false;
                self.watches = false;
            }
            Request::Discard | Request::Reset => {
                self.in_transaction = false;
                self.watches = false;
                self.open = Vec::new();
            }
            _ => {}
        }
        if self.in_transaction {
            return Vec::new();
        }
        let mut settled = std::mem::take(&mut self.open);
        if is_putting_back {
            settled.retain(|(_, settlement)| *settlement == Settlement::Requeued);
        }
        settled
    }

    /// Whether MULTI was sent, and nothing that ends it.
    pub(super) const fn is_in_transaction(&self) -> bool {
        self.in_transaction
    }

    const fn is_putting_back(&self) -> bool {
        self.in_transaction && self.watches
    }
}

/// What the settlement of a message with this tag is told by. `None`: the tag is no UUID, as
/// kombu's are, and could not be told from other fields.
pub(super) fn receipt(tag: &[u8]) -> Option<Receipt> {
    let looks_like_it = |(index, byte): (usize, &u8)| match index {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    let is_uuid = tag.len() == TAG_BYTES && tag.iter().enumerate().all(looks_like_it);
    let tag = str::from_utf8(tag).ok().filter(|_| is_uuid)?;
    Some(Receipt::tag(tag))
}

/// The length of a UUID.
pub(super) const TAG_BYTES: usize = 36;
