//! Which messages were sent and have not been delivered yet.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;

use foldhash::HashMap;

use crate::hop::TaskKey;
use crate::trace::Timestamp;

/// The messages that wait, by their tasks. Where there are too many the oldest are forgotten.
#[derive(Debug)]
pub(super) struct Waiting {
    messages: HashMap<TaskKey, Message>,
    /// In the order in which they were sent; those that wait no longer are dropped from it
    /// when they come to its front and room is needed, or when they are most of it.
    order: VecDeque<(TaskKey, Timestamp)>,
    max: usize,
}

/// Small, for there are many.
#[derive(Clone, Copy, Debug)]
struct Message {
    sent: Timestamp,
    /// The number of its queue; `None` as long as the broker has not taken it.
    queue: Option<u32>,
}

impl Waiting {
    pub(super) fn new(max: usize) -> Self {
        Self {
            messages: HashMap::default(),
            order: VecDeque::new(),
            max,
        }
    }

    /// It is on its way to the broker. Says whether another had to be forgotten.
    pub(super) fn sent(&mut self, task: TaskKey, sent: Timestamp) -> bool {
        self.messages.insert(task, Message { sent, queue: None });
        self.order.push_back((task, sent));
        let is_over = self.messages.len() > self.max;
        while self.messages.len() > self.max
            && let Some((oldest, sent)) = self.order.pop_front()
        {
            if let Entry::Occupied(message) = self.messages.entry(oldest)
                && message.get().sent == sent
            {
                message.remove();
            }
        }
        if self.order.len() > 2 * self.messages.len() + ORDER_SLACK {
            let messages = &self.messages;
            self.order.retain(|(task, sent)| {
                let message = messages.get(task);
                message.is_some_and(|message| message.sent == *sent)
            });
        }
        is_over
    }

    /// The broker has put it in that queue. It may have left it already.
    pub(super) fn queued(&mut self, task: TaskKey, queue: usize) {
        if let Some(message) = self.messages.get_mut(&task) {
            message.queue = u32::try_from(queue).ok();
        }
    }

    /// It was delivered, or refused.
    pub(super) fn gone(&mut self, task: TaskKey) {
        self.messages.remove(&task);
    }

    /// For each of so many queues, how many messages wait in it, and since when the oldest.
    pub(super) fn by_queue(&self, queues: usize) -> Vec<(u64, Option<Timestamp>)> {
        let mut by_queue = vec![(0, None); queues];
        for Message { sent, queue } in self.messages.values() {
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

/// Below this it is not worth looking for messages that are gone behind one that is not.
const ORDER_SLACK: usize = 1024;

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
            assert!(!waiting.sent(key(number), at(number)));
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
        let forgotten: Vec<bool> = (1..=4)
            .map(|number| waiting.sent(key(number), at(number)))
            .collect();
        assert_eq!(forgotten, [false, false, true, true]);
        for number in 1..=4 {
            waiting.queued(key(number), 0);
        }
        assert_eq!(waiting.by_queue(1), [(2, Some(at(3)))]);
    }

    #[test]
    fn the_order_does_not_outgrow_what_waits() {
        let mut waiting = Waiting::new(100_000);
        waiting.sent(key(0), at(0));
        for number in 1..10_000 {
            waiting.sent(key(number), at(number));
            assert!(waiting.order.len() <= 2 * waiting.messages.len() + ORDER_SLACK);
            waiting.gone(key(number));
        }
    }
}
