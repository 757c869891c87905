//! What workers say of messages that they have taken.
//!
//! kombu keeps what was delivered in a hash, by delivery tag. A worker that removes a tag has
//! acknowledged the message, or rejected it. To put a message back it removes the tag and
//! pushes the message in one transaction, watching the hash: what it finds gone by then,
//! another worker has dealt with (`kombu/transport/redis.py`, `Channel.restore_by_tag`).

use crate::hop::Receipt;
use crate::hop::Settlement;
use crate::protocol::redis::command::Request;

/// The settlements among the requests of one connection.
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

    /// A field of a hash is removed that may be a delivery tag.
    pub(super) fn remove(&mut self, field: &[u8]) {
        let Some(tag) = as_tag(field) else {
            return;
        };
        if self.open.len() < self.open_max {
            self.open
                .push((Receipt::tag(tag), Settlement::Acknowledged));
        }
    }

    /// A message is pushed that was delivered before under this tag.
    pub(super) fn put_back(&mut self, tag: &str) {
        let tag = Receipt::tag(tag);
        let removed = self.open.iter_mut().find(|(receipt, _)| *receipt == tag);
        if let Some((_, settlement)) = removed {
            *settlement = Settlement::Requeued;
        }
    }

    /// A message is pushed that was too large to be read. In a transaction that puts
    /// messages back it is one of them.
    pub(super) fn put_back_unread(&mut self) {
        if self.is_putting_back()
            && let Some((_, settlement)) = self.open.last_mut()
        {
            *settlement = Settlement::Requeued;
        }
    }

    /// A request was sent: what is settled by it.
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

    const fn is_putting_back(&self) -> bool {
        self.in_transaction && self.watches
    }
}

/// The field as text, if it looks like a UUID.
fn as_tag(field: &[u8]) -> Option<&str> {
    let looks_like_it = |(index, byte): (usize, &u8)| match index {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    let is_uuid = field.len() == 36 && field.iter().enumerate().all(looks_like_it);
    str::from_utf8(field).ok().filter(|_| is_uuid)
}
