use std::ops::Deref;

use foldhash::HashMap;
use smallvec::SmallVec;

use crate::hop::TaskKey;
use crate::telemetry::recent::trace::Task;

/// The tasks of one trace, in the order in which they were first seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks {
    list: SmallVec<[Task; 1]>,
    /// Where each one stands, once there are too many to look through: most traces have few.
    places: HashMap<TaskKey, usize>,
}

impl Tasks {
    pub(super) fn place(&self, key: TaskKey) -> Option<usize> {
        if self.list.len() <= FEW {
            return self.list.iter().position(|task| task.key == key);
        }
        self.places.get(&key).copied()
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Task> {
        self.list.get_mut(place)
    }

    /// Adds a task whose key is none of theirs, and says where it stands.
    pub(super) fn push(&mut self, task: Task) -> usize {
        let place = self.list.len();
        match place {
            ..FEW => {}
            FEW => {
                let known = self.list.iter().chain([&task]).map(|task| task.key);
                self.places = known.zip(0..).collect();
            }
            _ => drop(self.places.insert(task.key, place)),
        }
        self.list.push(task);
        place
    }
}

impl Deref for Tasks {
    type Target = [Task];

    fn deref(&self) -> &[Task] {
        &self.list
    }
}

const FEW: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hop::fixture::publication;
    use crate::telemetry::recent::trace::Message;

    #[test]
    fn few_tasks_and_many_are_found_where_they_stand() {
        let key = |number: usize| TaskKey::of(&number.to_string());
        let mut tasks = Tasks::default();
        for number in 0..3 * FEW {
            assert_eq!(tasks.place(key(number)), None);
            let message = Message::Sent(publication(1, 1).into());
            assert_eq!(tasks.push(Task::new(key(number), message)), number);
            let places = (0..=number).map(|number| tasks.place(key(number)));
            assert!(places.eq((0..=number).map(Some)));
        }
    }
}
