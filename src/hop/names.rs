//! Names that peers choose, made fit to be shown.

use std::borrow::Cow;
use std::sync::Arc;

/// A name as it is kept: no longer than 256 bytes, and with a question mark for each character
/// that a terminal, a log or a page would obey instead of show.
///
/// Whoever reads a name off the wire cleans it before it leaves the session, so that nobody
/// who shows it has to. Keys and derived ids are made of names as they came.
#[must_use]
pub fn clean(name: &str) -> Cow<'_, str> {
    // Almost all are.
    let is_plain = |all, byte| all & matches!(byte, b' '..=b'~');
    if name.len() <= NAME_BYTES_MAX && name.bytes().fold(true, is_plain) {
        return Cow::Borrowed(name);
    }
    let end = name.floor_char_boundary(NAME_BYTES_MAX);
    let name = name.get(..end).unwrap_or_default();
    if name.contains(is_obeyed) {
        Cow::Owned(name.replace(is_obeyed, "?"))
    } else {
        Cow::Borrowed(name)
    }
}

/// What a client calls itself on its connection, cleaned; no more than 128 bytes of it.
#[must_use]
pub fn clean_client_name(name: &str) -> Option<Arc<str>> {
    let end = name.floor_char_boundary(CLIENT_NAME_BYTES_MAX);
    let name = name.get(..end).filter(|name| !name.is_empty())?;
    Some(clean(name).into())
}

/// Whether a character moves the cursor, breaks the line or turns the direction of the text
/// around it (the control characters and Unicode's `Bidi_Control`).
#[must_use]
pub fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

const NAME_BYTES_MAX: usize = 256;
const CLIENT_NAME_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_obeyed_is_replaced_and_what_is_long_is_cut() {
        for (name, cleaned) in [
            ("tasks.add", "tasks.add"),
            ("größe", "größe"),
            ("celery\u{6}\u{16}3\n", "celery??3?"),
            ("\u{1b}[31mred\u{7}", "?[31mred?"),
            ("\u{9b}31m\u{7f}", "?31m?"),
            ("a\u{202e}b\u{2066}c\u{2028}", "a?b?c?"),
        ] {
            assert_eq!(clean(name), cleaned);
        }
        assert_eq!(clean(&"x".repeat(300)), "x".repeat(256));
        assert_eq!(clean(&"€".repeat(300)), "€".repeat(85));
    }
}
