//! What waits to be written: about as much memory as there are bytes, and a limit on all of it.

use std::collections::VecDeque;
use std::mem::take;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::config::Limits;
use crate::protocol::HoldBudget;
use crate::protocol::Reservation;

/// The limit on what waits to be written on all connections together.
///
/// Half of it is shared out evenly and is nobody else's, so that every connection can always go
/// on. Of the other half, whoever needs more takes a part of what is free: there is always some
/// left for the next one.
#[derive(Debug)]
pub(super) struct WriteBudget {
    waiting: AtomicUsize,
    /// What one peer may have for sure.
    share: usize,
    /// Above this nobody gets more than the share.
    common: usize,
    each_max: usize,
    hold: Arc<HoldBudget>,
}

impl WriteBudget {
    pub(super) fn new(limits: &Limits, hold: Arc<HoldBudget>) -> Arc<Self> {
        let common = limits.buffer_total_bytes_max / 2;
        let peers = limits.connections_max.saturating_mul(2).max(1);
        Arc::new(Self {
            waiting: AtomicUsize::new(0),
            share: (common / peers).max(1),
            common,
            each_max: limits.buffer_bytes_max,
            hold,
        })
    }

    /// The bytes that wait on all connections at this moment.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How much may wait for one peer, as things are.
    fn allowance(&self) -> usize {
        let free = self.common.saturating_sub(self.waiting());
        (self.share + free / PART_OF_FREE).min(self.each_max)
    }
}

/// What waits to be written to one peer.
#[derive(Debug)]
pub(super) struct Waiting {
    budget: Arc<WriteBudget>,
    chunks: VecDeque<Chunk>,
    /// The bytes in the chunks that are not written.
    unwritten: usize,
    /// What was written to TLS and has not left it.
    in_tls: usize,
    /// The room that all of it takes.
    room: usize,
    /// The part of that which is more than may wait: of large messages that were held. It stays
    /// with the budget that they were held with.
    excess: Reservation,
}

#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    written: usize,
}

impl Waiting {
    pub(super) fn new(budget: Arc<WriteBudget>) -> Self {
        Self {
            excess: Reservation::none(&budget.hold),
            budget,
            chunks: VecDeque::new(),
            unwritten: 0,
            in_tls: 0,
            room: 0,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.room == 0
    }

    /// The bytes that neither the socket nor TLS has taken.
    pub(super) const fn unwritten(&self) -> usize {
        self.unwritten
    }

    /// How much more may wait now.
    pub(super) fn vacancy(&self) -> usize {
        self.budget.allowance().saturating_sub(self.room)
    }

    /// What is to be written next, as far as it lies together.
    pub(super) fn next(&self) -> &[u8] {
        let chunk = self.chunks.front();
        chunk.map_or(&[], |chunk| &chunk.bytes[chunk.written..])
    }

    /// So much of what was next is written.
    pub(super) fn advance(&mut self, count: usize) {
        let Some(chunk) = self.chunks.front_mut() else {
            return;
        };
        chunk.written += count;
        self.unwritten -= count;
        if chunk.written >= chunk.bytes.len() {
            let room = chunk.bytes.capacity();
            self.chunks.pop_front();
            self.give_back(room);
        }
    }

    /// Puts `bytes` behind what waits already.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        self.unwritten += bytes.len();
        if let Some(Chunk { bytes: last, .. }) = self.chunks.back_mut() {
            let spare = (last.capacity() - last.len()).min(bytes.len());
            let (fits, rest) = bytes.split_at(spare);
            last.extend_from_slice(fits);
            bytes = rest;
        }
        if bytes.is_empty() {
            return;
        }
        let mut chunk = Vec::with_capacity(bytes.len().max(CHUNK_BYTES_MIN));
        chunk.extend_from_slice(bytes);
        self.charge(chunk.capacity());
        self.chunks.push_back(Chunk {
            bytes: chunk,
            written: 0,
        });
    }

    /// So much was written to TLS. It waits there, behind what already does, unless `is_flushed`.
    pub(super) fn wrote_to_tls(&mut self, count: usize, is_flushed: bool) {
        if is_flushed {
            let left = take(&mut self.in_tls);
            self.give_back(left);
        } else {
            self.in_tls += count;
            self.charge(count);
        }
    }

    /// Nobody will take any of it.
    pub(super) fn clear(&mut self) {
        self.chunks = VecDeque::new();
        self.unwritten = 0;
        self.in_tls = 0;
        self.give_back(self.room);
    }

    fn charge(&mut self, bytes: usize) {
        let fits = bytes.min(self.vacancy());
        self.room += bytes;
        self.excess.set(self.excess.bytes() + bytes - fits);
        self.budget.waiting.fetch_add(fits, Ordering::Relaxed);
    }

    fn give_back(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let excess = bytes.min(self.excess.bytes());
        self.room -= bytes;
        self.excess.set(self.excess.bytes() - excess);
        let bytes = bytes - excess;
        self.budget.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.clear();
    }
}

/// One connection may take this part of what is free.
const PART_OF_FREE: usize = 8;

/// Small pieces are put together until there are so many bytes.
const CHUNK_BYTES_MIN: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten connections and 16,000 bytes: 400 for each peer for sure, and 8,000 for all.
    fn budget() -> Arc<WriteBudget> {
        let limits = Limits {
            connections_max: 10,
            buffer_bytes_max: 900,
            buffer_total_bytes_max: 16_000,
            ..Limits::default()
        };
        WriteBudget::new(&limits, HoldBudget::new(10_000))
    }

    #[test]
    fn bytes_leave_in_their_order_and_their_room_is_given_back() {
        let budget = budget();
        let mut waiting = Waiting::new(Arc::clone(&budget));
        waiting.push(&[1; 100]);
        waiting.push(&[2; 500]);
        let room = budget.waiting() + budget.hold.held();
        assert_eq!(room, 2 * CHUNK_BYTES_MIN);
        let mut left = Vec::new();
        while !waiting.is_empty() {
            let count = waiting.next().len().min(70);
            left.extend_from_slice(&waiting.next()[..count]);
            waiting.advance(count);
        }
        assert_eq!(left, [[1; 100].as_slice(), &[2; 500]].concat());
        assert_eq!(budget.waiting(), 0);
        waiting.push(b"nobody takes it");
        drop(waiting);
        assert_eq!(budget.waiting(), 0);
    }

    #[test]
    fn whoever_takes_what_there_is_leaves_some_and_nobody_takes_a_share() {
        let budget = budget();
        let mut all: Vec<_> = (0..20).map(|_| Waiting::new(Arc::clone(&budget))).collect();
        assert_eq!(all[0].vacancy(), 900);
        // Greedy ones come first, and come again.
        for _ in 0..10 {
            for waiting in &mut all[..19] {
                let vacancy = waiting.vacancy();
                waiting.push(&vec![0; vacancy]);
            }
        }
        assert!(budget.waiting() <= 16_000, "{}", budget.waiting());
        assert!(all[19].vacancy() >= 400);
    }

    #[test]
    fn what_is_more_than_may_wait_stays_with_what_is_held() {
        let budget = budget();
        let mut waiting = Waiting::new(Arc::clone(&budget));
        waiting.push(&[0; 9_900]);
        assert_eq!((budget.waiting(), budget.hold.held()), (900, 9_000));
        assert_eq!(waiting.vacancy(), 0);
        assert!(budget.hold.reserve(1_001).is_none());
        waiting.advance(9_900);
        assert_eq!((budget.waiting(), budget.hold.held()), (0, 0));
    }

    #[test]
    fn what_tls_has_not_sent_waits_too() {
        let budget = budget();
        let mut waiting = Waiting::new(Arc::clone(&budget));
        waiting.wrote_to_tls(300, false);
        waiting.wrote_to_tls(200, false);
        assert_eq!(waiting.vacancy(), 400);
        assert!(!waiting.is_empty() && waiting.next().is_empty());
        waiting.wrote_to_tls(0, true);
        assert!(waiting.is_empty());
    }
}
