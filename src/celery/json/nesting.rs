use crate::celery::json::Unreadable;

/// How deep objects and arrays may stand in each other: deeper than any Python reads, which is
/// 1,000 deep up to version 3.11 and some 10,000 deep since.
pub const NESTING_MAX: u32 = 1 << 16;

/// The objects and arrays that are open; `depth ≤ NESTING_MAX`.
#[derive(Clone, Debug)]
pub(super) struct Nesting {
    /// One bit for each of the innermost, up to as many as fit. The lowest is the innermost
    /// one; a bit is set for an object.
    inner: u128,
    /// Those further out, which are full. Hardly a text has any.
    outer: Vec<u128>,
    depth: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    Object,
    Array,
}

impl Nesting {
    pub(super) const NONE: Self = Self {
        inner: 0,
        outer: Vec::new(),
        depth: 0,
    };

    /// That many objects, of which only the number matters.
    pub(super) const fn of_objects(depth: u32) -> Self {
        Self {
            inner: u128::MAX,
            outer: Vec::new(),
            depth,
        }
    }

    pub(super) const fn depth(&self) -> u32 {
        self.depth
    }

    pub(super) fn enter(&mut self, container: Container) -> Result<(), Unreadable> {
        if self.depth == NESTING_MAX {
            return Err(Unreadable);
        }
        if self.is_inner_full_or_empty() && self.depth > 0 {
            self.outer.push(self.inner);
        }
        self.depth += 1;
        self.inner = self.inner << 1 | u128::from(container == Container::Object);
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.inner >>= 1;
        if self.is_inner_full_or_empty()
            && let Some(outer) = self.outer.pop()
        {
            self.inner = outer;
        }
    }

    const fn is_inner_full_or_empty(&self) -> bool {
        self.depth.is_multiple_of(u128::BITS)
    }

    /// Only asked where one is open.
    pub(super) const fn innermost(&self) -> Container {
        if self.inner & 1 == 1 {
            Container::Object
        } else {
            Container::Array
        }
    }
}

impl Container {
    pub(super) const fn closing(self) -> u8 {
        match self {
            Self::Object => b'}',
            Self::Array => b']',
        }
    }
}
