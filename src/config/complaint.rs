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
    /// The bytes `span` of the file `name`, which holds `source`.
    pub(super) fn in_file(name: &str, source: &str, span: Range<usize>) -> Self {
        let offset = span.start.min(source.len());
        let before = source.get(..offset).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = source.get(line_start..).unwrap_or_default();
        let line = line.lines().next().unwrap_or_default();
        let until = |end: usize| line.get(..end).unwrap_or(line);
        let width = |end: usize| mask(until(end)).chars().count();
        let (from, to) = (offset - line_start, span.end.max(offset) - line_start);
        Self {
            origin: Origin::File(name.to_owned()),
            offset,
            position: Some((
                before.matches('\n').count() + 1,
                until(from).chars().count() + 1,
            )),
            text: mask(line),
            marked: width(from)..width(to),
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
            shown(Place::in_file("proxy.toml", source, 15..21)),
            "error: log.level: not a level\n\
             \x20--> proxy.toml:2:10\n\
             \x20 |\n\
             2 | \tlevel = \"loud\"  # änd\n\
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
    fn every_span_can_be_shown() {
        let source = "a = \"ä\"\n\nb = \"redis://u:ü@h\"";
        for start in 0..=source.len() + 1 {
            for end in start..=source.len() + 2 {
                let shown = shown(Place::in_file("f", source, start..end));
                assert!(shown.contains('^') && !shown.contains("u:"), "{shown}");
            }
        }
    }
}
