//! Text that is kept of every message, and is mostly what it was the last time.

use std::sync::Arc;

/// One piece of memory for all who keep the same text in a row.
#[derive(Debug, Default)]
pub(super) struct Shared(Option<Arc<str>>);

impl Shared {
    pub(super) fn keep(&mut self, text: &str) -> Arc<str> {
        let head = text.floor_char_boundary(TEXT_BYTES_MAX);
        let text = text.get(..head).unwrap_or_default();
        match &self.0 {
            Some(last) if **last == *text => Arc::clone(last),
            _ => Arc::clone(self.0.insert(text.into())),
        }
    }
}

/// Of longer texts the head is kept.
const TEXT_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_text_the_head_is_kept() {
        let text = "é".repeat(TEXT_BYTES_MAX);
        assert_eq!(Shared::default().keep(&text).len(), TEXT_BYTES_MAX);
    }

    #[test]
    fn the_same_text_is_kept_once() {
        let mut shared = Shared::default();
        let (first, second, other) = (shared.keep("a"), shared.keep("a"), shared.keep("b"));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!((&*first, &*other), ("a", "b"));
    }
}
