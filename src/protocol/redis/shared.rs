//! Names that are kept of every message, and are mostly what they were the last time.

use std::sync::Arc;

use crate::hop::clean;

/// One piece of memory for all who keep the same name in a row.
#[derive(Debug, Default)]
pub(super) struct Shared(Option<Arc<str>>);

impl Shared {
    pub(super) fn keep(&mut self, name: &str) -> Arc<str> {
        match &self.0 {
            Some(last) if **last == *name => Arc::clone(last),
            _ => Arc::clone(self.0.insert(clean(name).into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_name_the_head_is_kept() {
        assert_eq!(Shared::default().keep(&"é".repeat(1024)).len(), 256);
    }

    #[test]
    fn the_same_text_is_kept_once() {
        let mut shared = Shared::default();
        let (first, second, other) = (shared.keep("a"), shared.keep("a"), shared.keep("b"));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!((&*first, &*other), ("a", "b"));
    }
}
