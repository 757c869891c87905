//! Numbers for producers, queues and workers: peers name them, so there are only so many.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::telemetry::labels::Standing;
use crate::telemetry::labels::printable;

/// What somebody or something is told by, in up to three parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Name<'a>(pub(super) [Option<Cow<'a, str>>; 3]);

impl<'a> Name<'a> {
    pub(super) fn of(parts: [Option<&'a str>; 3]) -> Self {
        Self(parts.map(|part| part.filter(|part| !part.is_empty()).map(printable)))
    }

    fn into_owned(self) -> Name<'static> {
        Name(
            self.0
                .map(|part| part.map(|part| Cow::Owned(part.into_owned()))),
        )
    }
}

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
            numbers: HashMap::new(),
            names: vec![Name([Some(Cow::Borrowed("other")), None, None])],
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
    ways: HashMap<(usize, usize), T>,
    max: usize,
}

impl<T: Default> Ways<T> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            ways: HashMap::new(),
            max,
        }
    }

    /// The way itself; or else, where there is no room for it, the one to or from the same
    /// queue that stands for all others, which `other` is.
    pub(super) fn way(&mut self, way: (usize, usize), other: (usize, usize)) -> &mut T {
        let has_room = self.ways.len() < self.max || self.ways.contains_key(&way);
        self.ways
            .entry(if has_room { way } else { other })
            .or_default()
    }

    /// In the order of their numbers.
    pub(super) fn sorted(&self) -> Vec<((usize, usize), &T)> {
        let mut ways: Vec<_> = self.ways.iter().map(|(way, value)| (*way, value)).collect();
        ways.sort_by_key(|(way, _)| *way);
        ways
    }
}

pub(super) const OTHER: usize = 0;
