//! YAML, as far as it takes to read the members of a mapping that PyYAML's `safe_dump` or
//! `json` wrote.
//!
//! Only what stands at the margin is read: `key: value` with the value on the same line.
//! What is indented belongs to a value of no interest.

use std::borrow::Cow;

use crate::celery::HeaderValue;
use crate::celery::body::fields::Fields;
use crate::celery::body::json;

/// Reads a mapping; of a list there is nothing to be told.
pub(super) fn read<'a>(body: &'a [u8], fields: &mut Fields<'a>) -> Option<()> {
    if matches!(body.first(), Some(b'{' | b'[')) {
        return json::read(body, fields);
    }
    let text = str::from_utf8(body).ok()?;
    let mut lines = text.lines().peekable();
    lines.next_if_eq(&"---");
    if lines.peek().is_some_and(|line| is_item(line)) {
        return Some(());
    }
    while let Some(line) = lines.next() {
        let (name, value) = line.split_once(':')?;
        let value = match value.strip_prefix(' ') {
            // A scalar, unless it goes on.
            Some(value) if !lines.peek().is_some_and(|line| continues(line)) => {
                scalar(value.trim())
            }
            None if !value.is_empty() => return None,
            _ => HeaderValue::Other,
        };
        while lines.next_if(|line| continues(line)).is_some() {}
        if let HeaderValue::Text(name) = scalar(name) {
            fields.take(&name, value);
        }
    }
    Some(())
}

/// Whether the line belongs to the value of the member before: it is indented, or the items
/// of a list stand at the margin. Empty lines stand within text.
fn continues(line: &str) -> bool {
    line.is_empty() || line.starts_with(' ') || is_item(line)
}

fn is_item(line: &str) -> bool {
    line == "-" || line.starts_with("- ")
}

/// What a scalar says, as far as there is no doubt: text in quotes without escapes, or plain
/// and made of what ids and names are made of.
fn scalar(text: &str) -> HeaderValue<'_> {
    if let Some(text) = quoted(text, '\'') {
        return if text.replace("''", "").contains('\'') {
            HeaderValue::Other
        } else {
            HeaderValue::Text(Cow::Owned(text.replace("''", "'")))
        };
    }
    if let Some(text) = quoted(text, '"') {
        return if text.contains(['"', '\\']) {
            HeaderValue::Other
        } else {
            HeaderValue::Text(Cow::Borrowed(text))
        };
    }
    if matches!(text, "null" | "Null" | "NULL" | "~") {
        return HeaderValue::Null;
    }
    if let Ok(number) = text.parse() {
        return HeaderValue::Integer(number);
    }
    let is_plain =
        |character: char| character.is_ascii_alphanumeric() || "_-./".contains(character);
    if text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && text.chars().all(is_plain)
    {
        HeaderValue::Text(Cow::Borrowed(text))
    } else {
        HeaderValue::Other
    }
}

fn quoted(text: &str, quote: char) -> Option<&str> {
    text.strip_prefix(quote)?.strip_suffix(quote)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::celery::Task;

    fn task(body: &str) -> Option<Task<'_>> {
        let mut fields = Fields::default();
        read(body.as_bytes(), &mut fields)?;
        fields.into_task()
    }

    #[test]
    fn names_are_read_as_they_may_be_written() {
        for (written, name) in [
            ("tasks.add", Some("tasks.add")),
            ("'tasks.add'", Some("tasks.add")),
            ("\"tasks.add\"", Some("tasks.add")),
            ("  tasks.add  ", Some("tasks.add")),
            ("'it''s'", Some("it's")),
            ("'null'", Some("null")),
            ("null", None),
            ("12", None),
            ("'a' # b", None),
            ("a # b", None),
            ("\"\\x41\"", None),
            ("&id001 a", None),
            ("*id001", None),
            ("!!str a", None),
            ("|", None),
            ("[a]", None),
            ("", None),
            ("a\n  b", None),
            ("'a\n\n  b'", None),
            ("\n  a", None),
        ] {
            let body = format!("args: []\nid: b\ntask: {written}\nutc: true\n");
            assert_eq!(
                task(&body).map(|task| task.name),
                name.map(Into::into),
                "{written}"
            );
        }
    }

    #[test]
    fn only_the_margin_counts() {
        let body = "---\nargs:\n- task: c\n  id: d\n-\n  - e\nid: b\nkwargs:\n  task: f\n  text: |\n    id: g\n\n    retries: 3\n'task': a\n";
        let task = task(body).unwrap();
        assert_eq!((&*task.name, &*task.id, task.retries), ("a", "b", 0));
    }

    #[test]
    fn json_is_yaml() {
        let task = task(r#"{"task": "a", "id": "b", "args": []}"#).unwrap();
        assert_eq!(task.name, "a");
    }

    #[test]
    fn what_is_no_mapping_at_the_margin_is_no_task() {
        for body in [
            "- - 2\n- {}\n- callbacks: null\n",
            "task: a\nid: b\nargs: []\n---\ntask: c\n",
            "task: a\nid: b\nargs:[]\n",
            "task: a\nid: b\nargs\n",
            "%YAML 1.1\n---\ntask: a\nid: b\nargs: []\n",
            "{task: a, id: b, args: []}\n",
            " task: a\n id: b\n args: []\n",
        ] {
            assert_eq!(task(body), None, "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_an_end(body in "[a:'\" \n\\-{}\u{e4}]{0,60}") {
            let _ = task(&body);
        }
    }
}
