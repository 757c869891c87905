//! What is wrong with a configuration, shown the way a compiler shows it.

use std::fmt;
use std::ops::Range;

use crate::config::mask::mask;

/// Everything that is wrong, in the order in which it stands in the file, then in the
/// environment, then in the flags, and last what stands nowhere. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaints(Vec<Complaint>);

impl Complaints {
    /// `None` where nothing is wrong.
    pub(super) fn new(mut complaints: Vec<Complaint>) -> Option<Self> {
        complaints.sort_by_key(|Complaint { place, .. }| match place {
            Some(place) => (0, Some((place.origin.clone(), place.offset))),
            None => (1, None),
        });
        (!complaints.is_empty()).then_some(Self(complaints))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Complaint> {
        self.0.iter()
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for complaint in &self.0 {
            writeln!(f, "{complaint}")?;
        }
        match self.0.len() {
            1 => f.write_str("1 mistake in the configuration"),
            count => write!(f, "{count} mistakes in the configuration"),
        }
    }
}

impl std::error::Error for Complaints {}

/// One thing that is wrong, where it stands, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    pub wrong: String,
    /// `None`: nowhere, something is missing altogether.
    pub place: Option<Place>,
    pub remedy: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.wrong)?;
        let gutter = match &self.place {
            Some(place) => place.show(f)?,
            None => 1,
        };
        writeln!(f, "{:gutter$} = help: {}", "", self.remedy)
    }
}

/// Where a value was given, with the piece of text to show. Holds no credentials: those
/// are masked as soon as a place is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    origin: Origin,
    /// The offset in the file.
    offset: usize,
    /// Line and column in the file, counted from 1.
    position: Option<(usize, usize)>,
    /// The line of the file, or the value.
    text: String,
    /// Which characters of `text` are meant.
    marked: Range<usize>,
}

/// Which layer a value comes from. The later ones win.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    File(String),
    Variable(String),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(name) | Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

impl Place {
    /// The value at the bytes `span` of the file `name`, which holds `source`. It is shown
    /// with its key, and without what else stands on its line.
    pub(super) fn of_value(name: &str, source: &str, span: Range<usize>) -> Self {
        Self::in_file(name, source, span, |line, value| {
            let before = |end: usize| line.get(..end).unwrap_or_default();
            let key_end = before(value.start).rfind('=').unwrap_or(0);
            let key_start = before(key_end).rfind(['{', ',']);
            key_start.map_or(0, |separator| separator + 1)..value.end.min(line.len())
        })
    }

    /// The same of what is no value: a key, or a piece of what is not TOML. Its line is shown
    /// up to the `=`, or the `]` of a header: what stands behind them may be a secret, and so
    /// may a line without them.
    pub(super) fn of_key(name: &str, source: &str, span: Range<usize>) -> Self {
        Self::in_file(name, source, span, |line, _| {
            let is_header = line.trim_start().starts_with('[');
            let last = line.find(if is_header { ']' } else { '=' });
            0..last.map_or(0, |last| last + 1)
        })
    }

    /// Shows that part of the line which `part` chooses.
    fn in_file(
        name: &str,
        source: &str,
        span: Range<usize>,
        part: impl FnOnce(&str, Range<usize>) -> Range<usize>,
    ) -> Self {
        let offset = span.start.min(source.len());
        let before = source.get(..offset).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = source.get(line_start..).unwrap_or_default();
        let line = line.lines().next().unwrap_or_default();
        let (from, to) = (offset - line_start, span.end.max(offset) - line_start);
        let part = part(line, from..to);
        let part_start = part.start;
        let shown = line.get(part).unwrap_or_default();
        let until = |end: usize| shown.get(..end.saturating_sub(part_start)).unwrap_or(shown);
        let width = |end: usize| mask(until(end)).chars().count();
        let column = line.get(..from).unwrap_or(line).chars().count() + 1;
        Self {
            origin: Origin::File(name.to_owned()),
            offset,
            position: Some((before.matches('\n').count() + 1, column)),
            text: mask(shown),
            marked: width(from)..width(to),
        }
    }

    /// The same place without any text.
    pub(super) fn without_text(self) -> Self {
        Self {
            text: String::new(),
            marked: 0..0,
            ..self
        }
    }

    /// A value given on its own, by a variable or a flag.
    pub(super) fn given(origin: Origin, value: &str) -> Self {
        let text = mask(value.lines().next().unwrap_or_default());
        Self {
            origin,
            offset: 0,
            position: None,
            marked: 0..text.chars().count(),
            text,
        }
    }

    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Line and column in the file, counted from 1.
    #[must_use]
    pub fn position(&self) -> Option<(usize, usize)> {
        self.position
    }

    /// Writes the excerpt; gives the width of its margin.
    fn show(&self, f: &mut fmt::Formatter<'_>) -> Result<usize, fmt::Error> {
        let number = self
            .position
            .map(|(line, _)| line.to_string())
            .unwrap_or_default();
        let gutter = number.len().max(1);
        // Tabs stay tabs, so that the carets stand below what they mark.
        let indent: String = self
            .text
            .chars()
            .take(self.marked.start)
            .map(|character| if character == '\t' { '\t' } else { ' ' })
            .collect();
        let carets = "^".repeat(self.marked.len().max(1));
        writeln!(f, "{:gutter$}--> {self}", "")?;
        writeln!(f, "{:gutter$} |", "")?;
        writeln!(f, "{number:gutter$} | {}", self.text)?;
        writeln!(f, "{:gutter$} | {indent}{carets}", "")?;
        Ok(gutter)
    }
}

/// `proxy.toml:12:10`, the name of the variable, or the flag.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some((line, column)) => write!(f, "{}:{line}:{column}", self.origin),
            None => write!(f, "{}", self.origin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(place: Place) -> String {
        let complaint = Complaint {
            wrong: "log.level: not a level".to_owned(),
            place: Some(place),
            remedy: "write \"info\"".to_owned(),
        };
        complaint.to_string()
    }

    #[test]
    fn a_value_in_a_file_is_underlined() {
        let source = "[log]\n\tlevel = \"loud\"  # änd\n";
        assert_eq!(
            shown(Place::of_value("proxy.toml", source, 15..21)),
            "error: log.level: not a level\n\
             \x20--> proxy.toml:2:10\n\
             \x20 |\n\
             2 | \tlevel = \"loud\"\n\
             \x20 | \t        ^^^^^^\n\
             \x20 = help: write \"info\"\n"
        );
    }

    #[test]
    fn a_value_of_a_variable_is_shown_under_its_name() {
        let origin = Origin::Variable("TRACEHOP_LOG_LEVEL".to_owned());
        assert_eq!(
            shown(Place::given(origin, "loud\nand more")),
            "error: log.level: not a level\n\
             \x20--> TRACEHOP_LOG_LEVEL\n\
             \x20 |\n\
             \x20 | loud\n\
             \x20 | ^^^^\n\
             \x20 = help: write \"info\"\n"
        );
    }

    #[test]
    fn of_a_line_nothing_is_shown_that_is_not_meant() {
        let shown = |place: Place| {
            let shown = shown(place);
            let lines: Vec<&str> = shown.lines().skip(3).take(2).collect();
            lines.join("\n")
        };
        let inline = "a = { b = \"secret\", c = \"ä\", d = \"secret\" } # secret";
        assert_eq!(
            shown(Place::of_value("f", inline, 24..28)),
            "1 |  c = \"ä\"\n  |      ^^^"
        );
        assert_eq!(shown(Place::of_key("f", inline, 6..7)), "1 | a =\n  |    ^");
        for (line, span, expected) in [
            ("key = \"secret\"", 0..3, "1 | key =\n  | ^^^"),
            ("key = secret", 6..12, "1 | key =\n  |      ^"),
            ("key: secret", 5..11, "1 | \n  | ^"),
            ("[header] # secret", 1..7, "1 | [header]\n  |  ^^^^^^"),
            ("[\"secret", 9..9, "1 | \n  | ^"),
        ] {
            assert_eq!(shown(Place::of_key("f", line, span)), expected, "{line}");
        }
    }

    #[test]
    fn every_span_can_be_shown() {
        let source = "a = \"ä\"\n\nb = { c = \"redis://ü@h\", d = 1 }";
        for start in 0..=source.len() + 1 {
            for end in start..=source.len() + 2 {
                for place in [Place::of_value, Place::of_key] {
                    let shown = shown(place("f", source, start..end));
                    assert!(shown.contains('^'), "{shown}");
                }
            }
        }
    }
}
