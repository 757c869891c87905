//! How answers are written: to people on a terminal, and to programs.

use std::io;
use std::io::IsTerminal;

use crate::hop::is_obeyed;

/// Whether this failed because nobody reads the answer any more.
pub(super) fn is_closed(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Colours, where they are wanted: on a terminal, unless `NO_COLOR` is set
/// (<https://no-color.org>).
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(bool);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Good,
    Doubtful,
    Bad,
    Faint,
    Plain,
}

impl Paint {
    pub(super) fn for_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        Self(io::stdout().is_terminal() && !refused && !dumb)
    }

    pub(super) fn paint(self, text: &str, colour: Colour) -> String {
        let code = match colour {
            Colour::Good => "32",
            Colour::Doubtful => "33",
            Colour::Bad => "31",
            Colour::Faint => "2",
            Colour::Plain => return text.to_owned(),
        };
        match self {
            Self(true) => format!("\x1b[{code}m{text}\x1b[0m"),
            Self(false) => text.to_owned(),
        }
    }
}

/// A peer's text, fit to be shown: of bounded length, and without anything that a terminal
/// would follow.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN_CHARACTERS_MAX)
        .map(|letter| {
            if is_obeyed(letter) {
                '\u{fffd}'
            } else {
                letter
            }
        })
        .collect();
    if text.chars().nth(SHOWN_CHARACTERS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// The text in exactly so many columns: with blanks, or cut short.
pub(super) fn column(text: &str, width: usize) -> String {
    let length = text.chars().count();
    match width.checked_sub(length) {
        Some(missing) => format!("{text}{}", " ".repeat(missing)),
        None => {
            let head: String = text.chars().take(width.saturating_sub(1)).collect();
            format!("{head}…")
        }
    }
}

/// A number of milliseconds as people say it.
pub(super) fn spell_millis(millis: f64) -> String {
    match millis {
        ..1.0 => format!("{millis:.1}ms"),
        ..1_000.0 => format!("{millis:.0}ms"),
        ..60_000.0 => format!("{:.1}s", millis / 1_000.0),
        ..3_600_000.0 => format!("{:.1}min", millis / 60_000.0),
        ..172_800_000.0 => format!("{:.1}h", millis / 3_600_000.0),
        _ => format!("{:.0}d", millis / 86_400_000.0),
    }
}

const SHOWN_CHARACTERS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_follow_is_not_shown() {
        assert_eq!(shown("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(shown("mail.daily é"), "mail.daily é");
        let long = shown(&"é".repeat(1_000));
        assert_eq!(long.chars().count(), SHOWN_CHARACTERS_MAX + 1);
    }

    #[test]
    fn columns_are_as_wide_as_they_are_told() {
        assert_eq!(column("é", 3), "é  ");
        assert_eq!(column("abc", 3), "abc");
        assert_eq!(column("abcd", 3), "ab…");
    }

    #[test]
    fn times_are_spelled_in_the_unit_that_fits() {
        for (millis, spelled) in [
            (0.25, "0.2ms"),
            (12.0, "12ms"),
            (1_500.0, "1.5s"),
            (90_000.0, "1.5min"),
            (5_400_000.0, "1.5h"),
            (864_000_000.0, "10d"),
        ] {
            assert_eq!(spell_millis(millis), spelled);
        }
    }
}
