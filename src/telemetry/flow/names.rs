//! Numbers for producers, queues and workers: peers name them, so there are only so many.

use std::borrow::Cow;

use foldhash::HashMap;

use crate::telemetry::labels::Standing;
use crate::telemetry::names;

/// A name of a producer, a queue or a worker.
pub(super) type Name<'a> = names::Name<'a, 3>;

/// The names that have a number, the first ones that came. [`OTHER`] is the number of all
/// others.
#[derive(Debug)]
pub(super) struct Names {
    numbers: HashMap<Name<'static>, usize>,
    /// By number.
    names: Vec<Name<'static>>,
    max: usize,
}

impl Names {
    /// At most `max`, besides the one for all others.
    pub(super) fn new(max: usize) -> Self {
        Self {
            numbers: HashMap::default(),
            names: vec![names::Name([Some(Cow::Borrowed("other")), None, None])],
            max,
        }
    }

    pub(super) fn number(&mut self, name: Name<'_>, standing: Standing) -> usize {
        // Seen so, a name can be looked up as it is.
        let known: &HashMap<Name<'_>, usize> = &self.numbers;
        if let Some(number) = known.get(&name) {
            return *number;
        }
        if self.numbers.len() >= standing.room(self.max) {
            return OTHER;
        }
        let (number, name) = (self.names.len(), name.into_owned());
        self.names.push(name.clone());
        self.numbers.insert(name, number);
        number
    }

    /// Every name with its number, that of all others first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Name<'static>)> {
        self.names.iter().enumerate()
    }

    pub(super) fn count(&self) -> usize {
        self.names.len()
    }
}

/// What goes from one to another, bounded in number.
#[derive(Debug)]
pub(super) struct Ways<T> {
    /// The place of each in `ways`.
    places: HashMap<(usize, usize), usize>,
    ways: Vec<T>,
    max: usize,
}

impl<T: Default> Ways<T> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            places: HashMap::default(),
            ways: Vec::new(),
            max,
        }
    }

    /// The place of the way itself; or else, where there is no room for it, of the one to or
    /// from the same queue that stands for all others, which `other` is.
    pub(super) fn place(&mut self, way: (usize, usize), other: (usize, usize)) -> usize {
        let has_room = self.ways.len() < self.max || self.places.contains_key(&way);
        let way = if has_room { way } else { other };
        *self.places.entry(way).or_insert_with(|| {
            self.ways.push(T::default());
            self.ways.len() - 1
        })
    }

    pub(super) fn at(&mut self, place: usize) -> &mut T {
        &mut self.ways[place]
    }

    /// In the order of their numbers.
    pub(super) fn sorted(&self) -> Vec<((usize, usize), &T)> {
        let ways = self.places.iter();
        let mut ways: Vec<_> = ways
            .map(|(way, place)| (*way, &self.ways[*place]))
            .collect();
        ways.sort_by_key(|(way, _)| *way);
        ways
    }
}

pub(super) const OTHER: usize = 0;
