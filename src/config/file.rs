//! The layer of the file.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;
use toml::de::Error;

use crate::config::Place;
use crate::config::draft::Draft;
use crate::config::keys::home_of;
use crate::config::keys::is_list;
use crate::config::keys::is_route_name;
use crate::config::keys::is_section;
use crate::config::keys::names_in;
use crate::config::spelling::nearest;

/// Lays the text of the file `name` over the draft. What cannot be read is complained
/// about, and the rest is taken all the same.
pub(super) fn apply(draft: &mut Draft, name: &str, text: &str) {
    let mut file = File {
        draft,
        name,
        text,
        broken_lines: BTreeSet::new(),
    };
    let legible = file.blank_where_parsing_ends();
    let (table, errors) = DeTable::parse_recoverable(&legible);
    for error in &errors {
        file.mark_broken(error);
    }
    for error in &errors {
        file.complain_of_syntax(error);
    }
    let unclosed = |error: &Error| error.message().starts_with("unclosed");
    // What follows an open bracket may belong to it or not.
    if !errors.iter().any(unclosed) {
        file.read("", table.get_ref());
    }
}

struct File<'a> {
    draft: &'a mut Draft,
    name: &'a str,
    text: &'a str,
    /// The lines that are complained about already.
    broken_lines: BTreeSet<usize>,
}

impl File<'_> {
    /// At a key without a value the parser leaves out all the rest. Complains about each
    /// and gives the text without its line, everything else in its place.
    fn blank_where_parsing_ends(&mut self) -> String {
        let mut text = self.text.to_owned();
        for _ in self.text.lines() {
            let (_, errors) = DeTable::parse_recoverable(&text);
            let end = |error: &&Error| error.message().starts_with("key with no value");
            let Some(error) = errors.iter().find(end) else {
                break;
            };
            self.mark_broken(error);
            self.complain_of_syntax(error);
            let at = error.span().map_or(0, |span| span.start);
            let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
            let end = text[at..]
                .find('\n')
                .map_or(text.len(), |newline| at + newline);
            text.replace_range(start..end, &" ".repeat(end - start));
        }
        text
    }

    fn mark_broken(&mut self, error: &Error) {
        let place = error.span().map(|span| self.key_place(span));
        self.broken_lines.extend(place.as_ref().and_then(line));
    }

    fn complain_of_syntax(&mut self, error: &Error) {
        self.draft.mark_incomplete();
        let mut place = error.span().map(|span| self.key_place(span));
        let number = place.as_ref().and_then(line).unwrap_or_default();
        if self.broken_lines.iter().any(|line| line + 1 == number) {
            // It may be the rest of a value that began on the broken line before.
            place = place.map(Place::without_text);
        }
        let (wrong, remedy) = match error.message() {
            "duplicate key" => (
                "given twice",
                "write each key and each table once, and call every route differently",
            ),
            // The parser guesses from the first letter what was meant.
            message if UNQUOTED.iter().any(|guess| message.starts_with(guess)) => {
                ("a value without quotes", QUOTES)
            }
            message => (message, QUOTES),
        };
        let wrong = format!("not TOML: {wrong}");
        self.draft.complain(wrong, place, remedy);
    }

    fn read(&mut self, section: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let (name, place) = (key.get_ref().as_ref(), self.key_place(key.span()));
            let broken = line(&place).is_some_and(|line| self.broken_lines.contains(&line));
            let path = join(section, name);
            match value.get_ref() {
                DeValue::Table(table) if section == "routes" => {
                    self.read_route(name, place, table);
                }
                DeValue::Table(table) if is_section(&path) => self.read(&path, table),
                _ if broken => {}
                _ if section == "routes" || is_section(&path) => {
                    let header = match path.as_str() {
                        "routes" => "routes.redis",
                        header => header,
                    };
                    self.draft.complain(
                        format!("`{path}`: not a table"),
                        place,
                        format!("write [{header}] on a line of its own, and its keys below"),
                    );
                }
                _ if names_in(section).contains(&name) => {
                    let text = match is_list(&path) {
                        true => self.list(&path, value),
                        false => self.single(&path, value),
                    };
                    if let Some(text) = text {
                        let place = self.value_place(value.span());
                        self.draft.set(&path, &text, place);
                    }
                }
                found => {
                    let what = if found.is_table() { "table" } else { "key" };
                    let remedy = remedy_for_unknown(section, name);
                    self.draft
                        .complain(format!("unknown {what} `{path}`"), place, remedy);
                }
            }
        }
    }

    fn read_route(&mut self, name: &str, place: Place, table: &DeTable<'_>) {
        if is_route_name(name) {
            self.draft.name_route(name, place);
            self.read(&join("routes", name), table);
        } else {
            self.draft.complain(
                format!("`{name}` cannot be the name of a route"),
                place,
                "use lower-case letters, digits and `-`",
            );
        }
    }

    /// The text of a value that is neither an array nor a table; else complains.
    fn single(&mut self, path: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let text = scalar(value.get_ref());
        if text.is_none() {
            self.draft.complain(
                format!("`{path}`: not a single value"),
                self.value_place(value.span()),
                "write one value; several broker URLs are separated by `;`",
            );
        }
        text
    }

    /// The texts of an array, as a variable would have them; else complains, about each
    /// element that is none.
    fn list(&mut self, path: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let DeValue::Array(elements) = value.get_ref() else {
            self.draft.complain(
                format!("`{path}`: not an array"),
                self.value_place(value.span()),
                ARRAY,
            );
            return None;
        };
        let mut texts = Vec::new();
        for element in elements.iter() {
            let (wrong, remedy) = match element.get_ref() {
                DeValue::String(text) if text.trim().is_empty() => {
                    ("an empty text", "leave it out")
                }
                DeValue::String(text) if text.contains(',') => (
                    "a text with a comma in it",
                    "write each name as a text of its own",
                ),
                DeValue::String(text) => {
                    texts.push(text.trim());
                    continue;
                }
                _ => ("not a text", ARRAY),
            };
            let place = self.value_place(element.span());
            self.draft
                .complain(format!("`{path}`: {wrong}"), place, remedy);
        }
        (texts.len() == elements.len()).then(|| texts.join(","))
    }

    fn value_place(&self, span: Range<usize>) -> Place {
        Place::of_value(self.name, self.text, span)
    }

    fn key_place(&self, span: Range<usize>) -> Place {
        Place::of_key(self.name, self.text, span)
    }
}

fn join(section: &str, name: &str) -> String {
    match section {
        "" => name.to_owned(),
        section => format!("{section}.{name}"),
    }
}

fn line(place: &Place) -> Option<usize> {
    place.position().map(|(line, _)| line)
}

/// The text of a value that is neither an array nor a table.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Datetime(date) => Some(date.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn remedy_for_unknown(section: &str, name: &str) -> String {
    let known = names_in(section);
    if let Some(near) = nearest(name, known.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    if let Some(home) = home_of(name) {
        return format!("it belongs to [{home}]");
    }
    let known = known.join(", ");
    match section {
        "" => format!("outside any table there are {known}"),
        section => format!("[{section}] knows {known}"),
    }
}

const UNQUOTED: [&str; 3] = [
    "string values must be quoted",
    "invalid boolean",
    "invalid float",
];

const ARRAY: &str = "write texts in brackets, such as [\"celery\", \"mail.*\"]";

const QUOTES: &str = "write `key = \"value\"`; only numbers, true and false go without quotes";
