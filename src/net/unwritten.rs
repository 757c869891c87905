//! Publications that nobody answers: they end when the broker's socket has taken them.

use std::collections::VecDeque;

use crate::hop::Answer;
use crate::hop::Sighting;
use crate::protocol::Outbox;
use crate::trace::Timestamp;

/// What is told of publications once they have been written.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    /// How many bytes of those that waited for the broker's socket it has taken.
    taken: u64,
    /// What is told, each once so many were taken.
    waiting: VecDeque<(u64, Sighting)>,
}

impl Unwritten {
    /// Keeps back what is to be told once all that waits has been written: `waiting` bytes, and
    /// those in `out`.
    pub(super) fn keep(&mut self, waiting: usize, out: &mut Outbox) {
        let taken = self.taken + waiting as u64 + out.to_broker.len() as u64;
        let ends = out.sightings.extract_if(.., |sighting| {
            matches!(sighting, Sighting::Answered { answer, .. } if answer.comes_with_writing())
        });
        self.waiting.extend(ends.map(|sighting| (taken, sighting)));
    }

    /// The broker's socket has taken so many bytes more: what is told by that.
    pub(super) fn written(
        &mut self,
        count: usize,
        now: impl FnOnce() -> Timestamp,
        told: &mut Vec<Sighting>,
    ) {
        self.taken += count as u64;
        let count = self
            .waiting
            .partition_point(|(taken, _)| *taken <= self.taken);
        if count > 0 {
            self.tell(count, now(), None, told);
        }
    }

    /// It takes no more.
    pub(super) fn lost(&mut self, now: impl FnOnce() -> Timestamp, told: &mut Vec<Sighting>) {
        if !self.waiting.is_empty() {
            self.tell(self.waiting.len(), now(), Some(&Answer::Lost), told);
        }
    }

    /// Tells of the first of them, that they ended now, and otherwise than they were to if
    /// `otherwise` says so.
    fn tell(
        &mut self,
        count: usize,
        now: Timestamp,
        otherwise: Option<&Answer>,
        told: &mut Vec<Sighting>,
    ) {
        for (_, mut sighting) in self.waiting.drain(..count) {
            if let Sighting::Answered { at, answer, .. } = &mut sighting {
                *at = now;
                if let Some(otherwise) = otherwise {
                    answer.clone_from(otherwise);
                }
            }
            told.push(sighting);
        }
        if self.waiting.is_empty() {
            self.waiting.shrink_to(KEPT_MAX);
        }
    }
}

/// The room that a connection may keep for its next publications.
const KEPT_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hop::HopId;

    fn answered(number: u64, answer: Answer) -> Sighting {
        Sighting::Answered {
            hop: HopId { session: 1, number },
            at: Timestamp::default(),
            answer,
        }
    }

    /// Number, time and answer of each.
    fn told(sightings: &mut Vec<Sighting>) -> Vec<(u64, u64, &'static str)> {
        let told = sightings.drain(..).map(|sighting| match sighting {
            Sighting::Answered { hop, at, answer } => (hop.number, at.as_nanos(), answer.word()),
            other => panic!("{other:?}"),
        });
        told.collect()
    }

    #[test]
    fn what_nobody_answers_ends_when_its_last_byte_is_taken() {
        let (mut unwritten, mut out) = (Unwritten::default(), Outbox::default());
        let mut says = |unwritten: &mut Unwritten, bytes: usize, sightings: &[Sighting]| {
            out.to_broker.extend_from_slice(&vec![0; bytes]);
            out.sightings.extend_from_slice(sightings);
            unwritten.keep(0, &mut out);
            told(&mut out.sightings)
        };
        let confirmed = answered(9, Answer::Confirmed);
        let first = [answered(0, Answer::Unanswered), confirmed];
        assert_eq!(says(&mut unwritten, 10, &first), [(9, 0, "confirmed")]);
        let second = [answered(1, Answer::Unread), answered(2, Answer::Unanswered)];
        assert_eq!(says(&mut unwritten, 5, &second), []);

        let mut seen = Vec::new();
        let mut takes = |unwritten: &mut Unwritten, count: usize, at: u64| {
            unwritten.written(count, || Timestamp::from_nanos(at), &mut seen);
            told(&mut seen)
        };
        assert_eq!(takes(&mut unwritten, 9, 1), []);
        assert_eq!(takes(&mut unwritten, 1, 2), [(0, 2, "unanswered")]);
        assert_eq!(takes(&mut unwritten, 0, 3), []);
        let rest = [(1, 4, "unread"), (2, 4, "unanswered")];
        assert_eq!(takes(&mut unwritten, 5, 4), rest);
    }

    #[test]
    fn what_the_broker_never_took_is_lost() {
        let (mut unwritten, mut out) = (Unwritten::default(), Outbox::default());
        out.to_broker.extend_from_slice(b"some");
        out.sightings.push(answered(0, Answer::Unanswered));
        unwritten.keep(0, &mut out);
        unwritten.lost(|| Timestamp::from_nanos(7), &mut out.sightings);
        assert_eq!(told(&mut out.sightings), [(0, 7, "lost")]);
        unwritten.lost(|| panic!("nothing is left"), &mut out.sightings);
    }
}
