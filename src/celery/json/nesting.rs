use crate::celery::json::Unreadable;

/// How deep objects and arrays may stand in each other.
pub const NESTING_MAX: u8 = 128;

/// The objects and arrays that are open; `depth ≤ NESTING_MAX`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nesting {
    /// One bit for each, the innermost lowest, set for an object.
    objects: u128,
    depth: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    Object,
    Array,
}

impl Nesting {
    pub(super) const NONE: Self = Self {
        objects: 0,
        depth: 0,
    };

    /// That many objects, of which only the number matters.
    pub(super) const fn of_objects(depth: u8) -> Self {
        Self {
            objects: u128::MAX,
            depth,
        }
    }

    pub(super) const fn depth(self) -> u8 {
        self.depth
    }

    pub(super) fn enter(&mut self, container: Container) -> Result<(), Unreadable> {
        if self.depth == NESTING_MAX {
            return Err(Unreadable);
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(container == Container::Object);
        Ok(())
    }

    pub(super) const fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.objects >>= 1;
    }

    /// Only asked where one is open.
    pub(super) const fn innermost(self) -> Container {
        if self.objects & 1 == 1 {
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
