//! The book of open hops.

use crate::config::Limits;
use crate::hop::Sent;
use crate::hop::Sighting;
use crate::hop::Taken;
use crate::hop::sent::OpenSent;
use crate::hop::taken::OpenTaken;
use crate::trace::Timestamp;

/// A leg of a hop that has come to its end. A way out does so part by part.
#[derive(Debug, PartialEq)]
pub enum Leg {
    Sent(Sent),
    Taken(Taken),
}

/// The open legs, bounded in count and in time. Every leg that was opened ends once, and so
/// does each part of a way out.
#[derive(Debug)]
pub struct Ledger {
    sent: OpenSent,
    taken: OpenTaken,
}

impl Ledger {
    /// Keeps as much open as `limits` allow, and deliveries until their tasks have run where
    /// it `follows_runs`.
    #[must_use]
    pub fn new(limits: &Limits, follows_runs: bool) -> Self {
        Self {
            sent: OpenSent::new(limits),
            taken: OpenTaken::new(limits, follows_runs),
        }
    }

    /// Books one sighting; legs that end by it are added to `ended`.
    pub fn book(&mut self, sighting: Sighting, ended: &mut Vec<Leg>) {
        match sighting {
            Sighting::Published(publication) => {
                self.taken.follow_up(&publication, ended);
                self.sent.open(publication, ended);
            }
            Sighting::Answered { hop, at, answer } => self.sent.answer(hop, at, answer, ended),
            Sighting::Delivered(delivery) => self.taken.open(delivery, ended),
            Sighting::Settled {
                receipt,
                at,
                settlement,
            } => self.taken.settle(receipt, at, settlement, ended),
            Sighting::Announced { receipt } => self.taken.announce(receipt),
            Sighting::AnnouncementDue { receipt, at } => {
                self.taken.miss_announcement(receipt, at, ended);
            }
            Sighting::Told {
                task,
                at,
                state,
                evidence,
                runtime,
            } => self.taken.tell(task, at, state, evidence, runtime, ended),
            Sighting::Redelivered { .. }
            | Sighting::LeftAlone { .. }
            | Sighting::Redirected { .. }
            | Sighting::LostSight { .. } => {}
        }
    }

    /// Ends the legs that have been open for too long.
    pub fn expire(&mut self, now: Timestamp, ended: &mut Vec<Leg>) {
        self.sent.expire(now, ended);
        self.taken.expire(now, ended);
    }

    /// Ends all of them: nobody will see any longer what becomes of them.
    pub fn close(&mut self, now: Timestamp, ended: &mut Vec<Leg>) {
        self.sent.close(now, ended);
        self.taken.close(now, ended);
    }

    /// How many publications wait for their answer.
    #[must_use]
    pub fn sent_count(&self) -> usize {
        self.sent.count()
    }

    /// How many deliveries wait for their end.
    #[must_use]
    pub fn taken_count(&self) -> usize {
        self.taken.count()
    }

    #[cfg(test)]
    fn is_consistent(&self) -> bool {
        self.sent.is_consistent() && self.taken.is_consistent()
    }
}

#[cfg(test)]
mod tests;
