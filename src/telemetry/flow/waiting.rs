//! Which messages were sent and have not been delivered yet.

use crate::hop::Generations;
use crate::hop::TaskKey;
use crate::trace::Timestamp;

/// The messages that wait, by their tasks. Where there are too many the oldest are forgotten, the
/// last `max` never.
#[derive(Debug)]
pub(super) struct Waiting(Generations<TaskKey, Message>);

/// Small, for there are many.
#[derive(Clone, Copy, Debug)]
struct Message {
    sent: Timestamp,
    /// The number of its queue; `None` as long as the broker has not taken it.
    queue: Option<u32>,
}

impl Waiting {
    pub(super) fn new(max: usize) -> Self {
        Self(Generations::new(max))
    }

    /// Whether any was forgotten so far.
    pub(super) const fn has_forgotten(&self) -> bool {
        self.0.has_forgotten()
    }

    /// It is on its way to the broker.
    pub(super) fn sent(&mut self, task: TaskKey, sent: Timestamp) {
        self.0.insert(task, Message { sent, queue: None });
    }

    /// The broker has put it in that queue. It may have left it already.
    pub(super) fn queued(&mut self, task: TaskKey, queue: usize) {
        let queue = u32::try_from(queue).ok();
        self.0.with(task, |message| message.queue = queue);
    }

    /// It was delivered, or refused.
    pub(super) fn gone(&mut self, task: TaskKey) {
        self.0.remove(task);
    }

    /// For each of so many queues, how many messages wait in it, and since when the oldest.
    pub(super) fn by_queue(&self, queues: usize) -> Vec<(u64, Option<Timestamp>)> {
        let mut by_queue = vec![(0, None); queues];
        for Message { sent, queue } in self.0.values() {
            if let Some(queue) = queue
                && let Some((count, oldest)) = by_queue.get_mut(*queue as usize)
            {
                *count += 1;
                let older: Timestamp = oldest.unwrap_or(*sent);
                *oldest = Some(older.min(*sent));
            }
        }
        by_queue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> TaskKey {
        TaskKey::of(&number.to_string())
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn a_message_waits_from_its_confirmation_to_its_delivery() {
        let mut waiting = Waiting::new(10);
        for number in 1..=3 {
            waiting.sent(key(number), at(number));
        }
        assert_eq!(waiting.by_queue(1), [(0, None)]);
        for number in 1..=3 {
            waiting.queued(key(number), 0);
        }
        assert_eq!(waiting.by_queue(2), [(3, Some(at(1))), (0, None)]);
        waiting.gone(key(1));
        assert_eq!(waiting.by_queue(1), [(2, Some(at(2)))]);
        // The next attempt of the same task.
        waiting.sent(key(2), at(9));
        waiting.queued(key(2), 0);
        assert_eq!(waiting.by_queue(1), [(2, Some(at(3)))]);
        // Delivered before the broker has answered.
        waiting.sent(key(4), at(10));
        waiting.gone(key(4));
        waiting.queued(key(4), 0);
        assert_eq!(waiting.by_queue(1), [(2, Some(at(3)))]);
    }

    #[test]
    fn of_too_many_the_oldest_are_forgotten() {
        let mut waiting = Waiting::new(2);
        for number in 1..=5 {
            waiting.sent(key(number), at(number));
            waiting.queued(key(number), 0);
            assert_eq!(waiting.has_forgotten(), number == 5);
        }
        assert_eq!(waiting.by_queue(1), [(3, Some(at(3)))]);
    }
}
