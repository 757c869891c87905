//! Text that is kept of every message, and is mostly what it was the last time.

use std::sync::Arc;

/// One piece of memory for all who keep the same text in a row.
#[derive(Debug, Default)]
pub(super) struct Shared(Option<Arc<str>>);

impl Shared {
    pub(super) fn keep(&mut self, text: &str) -> Arc<str> {
        match &self.0 {
            Some(last) if **last == *text => Arc::clone(last),
            _ => Arc::clone(self.0.insert(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_kept_once() {
        let mut shared = Shared::default();
        let (first, second, other) = (shared.keep("a"), shared.keep("a"), shared.keep("b"));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!((&*first, &*other), ("a", "b"));
    }
}
