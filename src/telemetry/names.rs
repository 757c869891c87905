//! Names that belong together, and what is found under them.

use std::borrow::Cow;

use foldhash::HashMap;

use crate::telemetry::labels::printable;

/// What somebody or something is told by, in several parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name<'a, const PARTS: usize>(pub(super) [Option<Cow<'a, str>>; PARTS]);

impl<'a, const PARTS: usize> Name<'a, PARTS> {
    pub(super) fn of(parts: [Option<&'a str>; PARTS]) -> Self {
        Self(parts.map(|part| part.filter(|part| !part.is_empty()).map(printable)))
    }

    pub(super) fn into_owned(self) -> Name<'static, PARTS> {
        Name(
            self.0
                .map(|part| part.map(|part| Cow::Owned(part.into_owned()))),
        )
    }
}

/// What was found under names, so that it need not be looked for again at each message.
#[derive(Debug)]
pub(super) struct Known<const PARTS: usize, T> {
    numbers: HashMap<Name<'static, PARTS>, usize>,
    found: Vec<T>,
}

impl<const PARTS: usize, T> Default for Known<PARTS, T> {
    fn default() -> Self {
        Self {
            numbers: HashMap::default(),
            found: Vec::new(),
        }
    }
}

impl<const PARTS: usize, T> Known<PARTS, T> {
    /// Uses what is known under a name, or else what `find` finds; it is remembered where it
    /// `is_final`.
    pub(super) fn with<U>(
        &mut self,
        name: Name<'_, PARTS>,
        find: impl FnOnce() -> T,
        is_final: impl FnOnce(&T) -> bool,
        act: impl FnOnce(&mut T) -> U,
    ) -> U {
        // Seen so, a name can be looked up as it is.
        let known: &HashMap<Name<'_, PARTS>, usize> = &self.numbers;
        if let Some(number) = known.get(&name) {
            return act(&mut self.found[*number]);
        }
        let mut found = find();
        let outcome = act(&mut found);
        if is_final(&found) {
            // Peers name them, and more of them than are ever used again.
            if self.found.len() >= KNOWN_MAX {
                self.numbers.clear();
                self.found.clear();
            }
            self.numbers.insert(name.into_owned(), self.found.len());
            self.found.push(found);
        }
        outcome
    }
}

pub(super) const KNOWN_MAX: usize = 4_096;
