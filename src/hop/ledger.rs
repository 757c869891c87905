//! The book of open hops.

use std::time::Duration;

use crate::hop::Answer;
use crate::hop::Publication;
use crate::hop::Sighting;
use crate::trace::Timestamp;

/// A hop that has come to its end.
#[derive(Debug, PartialEq)]
pub struct Hop {
    pub publication: Box<Publication>,
    pub answer: Answer,
    pub ended: Timestamp,
}

/// The open hops, bounded in count and in time. Every hop that was opened ends once.
#[derive(Debug)]
pub struct Ledger {}

impl Ledger {
    /// Keeps at most `open_max` hops open, none longer than `age_max`.
    #[must_use]
    pub fn new(open_max: usize, age_max: Duration) -> Self {
        let _ = (open_max, age_max);
        Self {}
    }

    /// Books one sighting; hops that end by it are added to `ended`.
    pub fn book(&mut self, sighting: Sighting, ended: &mut Vec<Hop>) {
        let _ = (sighting, ended);
    }

    /// Ends the hops that have been open for too long.
    pub fn expire(&mut self, now: Timestamp, ended: &mut Vec<Hop>) {
        let _ = (now, ended);
    }

    /// How many hops are open.
    #[must_use]
    pub fn open(&self) -> usize {
        0
    }
}
