//! Names that belong together, and what is found under them.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::hash::Hasher;

use foldhash::HashMap;
use foldhash::fast::RandomState;

use crate::telemetry::labels::cut;

/// What somebody or something is told by, in several parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name<'a, const PARTS: usize>(pub(super) [Option<Cow<'a, str>>; PARTS]);

impl<'a, const PARTS: usize> Name<'a, PARTS> {
    pub(super) fn of(parts: [Option<&'a str>; PARTS]) -> Self {
        Self(parts.map(|part| {
            part.filter(|part| !part.is_empty())
                .map(cut)
                .map(Cow::Borrowed)
        }))
    }

    pub(super) fn into_owned(self) -> Name<'static, PARTS> {
        Name(
            self.0
                .map(|part| part.map(|part| Cow::Owned(part.into_owned()))),
        )
    }
}

/// What was found under names, so that it need not be looked for again at each message. Of
/// parts that a name does not have it has empty ones.
#[derive(Debug)]
pub(super) struct Known<const PARTS: usize, T> {
    /// By the hash of the name. Where two of them have the same one, the last is known.
    found: HashMap<u64, Found<PARTS, T>>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Found<const PARTS: usize, T> {
    /// As it is shown.
    name: [Box<str>; PARTS],
    it: T,
}

impl<const PARTS: usize, T> Default for Known<PARTS, T> {
    fn default() -> Self {
        Self {
            found: HashMap::default(),
            hasher: RandomState::default(),
        }
    }
}

impl<const PARTS: usize, T> Known<PARTS, T> {
    /// Uses what is known under a name, or else what `find` finds; it is remembered where it
    /// `is_final`.
    pub(super) fn with<U>(
        &mut self,
        name: [&str; PARTS],
        find: impl FnOnce() -> T,
        is_final: impl FnOnce(&T) -> bool,
        act: impl FnOnce(&mut T) -> U,
    ) -> U {
        // Almost all names are shown as they were said.
        if let Some(it) = self.get_mut(name) {
            return act(it);
        }
        let name = name.map(cut);
        if let Some(it) = self.get_mut(name) {
            return act(it);
        }
        let mut it = find();
        let outcome = act(&mut it);
        if is_final(&it) {
            // Peers name them, and more of them than are ever used again.
            if self.found.len() >= KNOWN_MAX {
                self.found.clear();
            }
            let (hash, name) = (self.hash(name), name.map(Into::into));
            self.found.insert(hash, Found { name, it });
        }
        outcome
    }

    fn get_mut(&mut self, name: [&str; PARTS]) -> Option<&mut T> {
        let found = self.found.get_mut(&self.hash(name))?;
        let mut parts = name.iter().zip(&found.name);
        parts
            .all(|(one, other)| **one == **other)
            .then_some(&mut found.it)
    }

    fn hash(&self, name: [&str; PARTS]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for part in name {
            hasher.write(part.as_bytes());
        }
        hasher.finish()
    }
}

pub(super) const KNOWN_MAX: usize = 4_096;
