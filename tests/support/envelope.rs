//! Messages as kombu writes them, and as others might.
#![allow(dead_code, reason = "each test uses its part")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// JSON as it stands in a text: order, doubles and odd numbers included.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Text(String),
    /// Whatever is to stand there as it is: `null`, `7`, `NaN`.
    Raw(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Json {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn raw(raw: impl ToString) -> Self {
        Self::Raw(raw.to_string())
    }

    pub(crate) fn null() -> Self {
        Self::raw("null")
    }

    fn optional(text: Option<&String>) -> Self {
        text.map_or_else(Self::null, Self::text)
    }

    pub(crate) fn write(&self, layout: Layout) -> String {
        let mut out = String::new();
        self.write_into(&mut out, layout);
        out
    }

    fn write_into(&self, out: &mut String, layout: Layout) {
        let (comma, colon, pad) = match layout {
            Layout::Kombu => (", ", ": ", ""),
            Layout::Compact | Layout::EscapedKeys => (",", ":", ""),
            Layout::Airy => ("\n\t, ", " :\r\n", " \n"),
        };
        let separate = |out: &mut String, index: usize| {
            out.push_str(if index > 0 { comma } else { pad });
        };
        match self {
            Self::Text(text) => write_text(out, text, false),
            Self::Raw(raw) => out.push_str(raw),
            Self::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    separate(out, index);
                    item.write_into(out, layout);
                }
                out.push_str(pad);
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    separate(out, index);
                    write_text(out, key, layout == Layout::EscapedKeys);
                    out.push_str(colon);
                    value.write_into(out, layout);
                }
                out.push_str(pad);
                out.push('}');
            }
        }
    }
}

/// Writes a string as Python's `json.dumps` does; with `all`, every letter as its number.
fn write_text(out: &mut String, text: &str, all: bool) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' if !all => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
}

/// How the text of an envelope is laid out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Layout {
    Kombu,
    Compact,
    /// White space wherever it may stand.
    Airy,
    /// Compact, and every letter of every key written as its number.
    EscapedKeys,
}

/// A message as it is pushed to a queue or published to a topic.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    /// The body before it is encoded as base64.
    pub(crate) body: Vec<u8>,
    pub(crate) headers: Vec<(String, Json)>,
    pub(crate) delivery_tag: String,
    pub(crate) redelivered: bool,
    pub(crate) layout: Layout,
    /// How far the top-level keys are rotated.
    pub(crate) rotation: usize,
}

/// The facts of a task, under the names that Celery gives them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) root_id: Option<String>,
    pub(crate) parent_id: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) retries: u32,
    pub(crate) replaced: u32,
}

impl Envelope {
    /// A message of protocol 2: the facts in the headers.
    pub(crate) fn protocol_2(facts: &Facts) -> Self {
        let headers = [
            ("lang", Json::text("py")),
            ("task", Json::text(&facts.name)),
            ("id", Json::text(&facts.id)),
            ("shadow", Json::null()),
            ("eta", Json::null()),
            ("expires", Json::null()),
            ("group", Json::optional(facts.group.as_ref())),
            ("group_index", Json::null()),
            ("retries", Json::raw(facts.retries)),
            ("timelimit", Json::List(vec![Json::null(), Json::null()])),
            ("root_id", Json::optional(facts.root_id.as_ref())),
            ("parent_id", Json::optional(facts.parent_id.as_ref())),
            (
                "argsrepr",
                Json::text("('\"headers\": {\"traceparent\": 1', 3)"),
            ),
            ("kwargsrepr", Json::text("{}")),
            ("origin", Json::text("gen7@host1")),
            ("ignore_result", Json::raw(false)),
            ("replaced_task_nesting", Json::raw(facts.replaced)),
            ("stamped_headers", Json::null()),
            ("stamps", Json::Object(Vec::new())),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value));
        let body =
            br#"[[2, 3], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#;
        Self {
            body: body.to_vec(),
            headers: headers.to_vec(),
            delivery_tag: format!("tag-of-{}", facts.retries),
            redelivered: false,
            layout: Layout::Kombu,
            rotation: 0,
        }
    }

    /// A message of protocol 1: the facts in the body.
    pub(crate) fn protocol_1(facts: &Facts) -> Self {
        let body = Json::Object(
            [
                ("task", Json::text(&facts.name)),
                ("id", Json::text(&facts.id)),
                ("args", Json::List(vec![Json::raw(2)])),
                ("kwargs", Json::Object(Vec::new())),
                ("group", Json::optional(facts.group.as_ref())),
                ("retries", Json::raw(facts.retries)),
                ("eta", Json::null()),
                ("taskset", Json::null()),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec(),
        );
        Self {
            body: body.write(Layout::Kombu).into_bytes(),
            headers: Vec::new(),
            ..Self::protocol_2(facts)
        }
    }

    pub(crate) fn with_header(mut self, name: &str, value: Json) -> Self {
        self.headers.push((name.to_owned(), value));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut delivery_info = vec![
            ("exchange".to_owned(), Json::text("")),
            ("routing_key".to_owned(), Json::text("celery")),
        ];
        let mut headers = self.headers.clone();
        if self.redelivered {
            headers.push(("redelivered".to_owned(), Json::raw(true)));
            delivery_info.push(("redelivered".to_owned(), Json::raw(true)));
        }
        let properties = [
            ("correlation_id", Json::text("c")),
            ("reply_to", Json::text("r")),
            ("delivery_mode", Json::raw(2)),
            ("delivery_info", Json::Object(delivery_info)),
            ("priority", Json::raw(0)),
            ("body_encoding", Json::text("base64")),
            ("delivery_tag", Json::text(&self.delivery_tag)),
        ];
        let mut members = [
            ("body", Json::text(STANDARD.encode(&self.body))),
            ("content-encoding", Json::text("utf-8")),
            ("content-type", Json::text("application/json")),
            ("headers", Json::Object(headers)),
            (
                "properties",
                Json::Object(
                    properties
                        .map(|(name, value)| (name.to_owned(), value))
                        .to_vec(),
                ),
            ),
        ];
        members.rotate_left(self.rotation % 5);
        let members = members
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec();
        Json::Object(members).write(self.layout).into_bytes()
    }
}
