//! Messages, and the contexts that they come with.

use proptest::prelude::*;
use proptest::sample::Index;

use tracehop::hop::Verdict;
use tracehop::trace::TraceContext;
use tracehop::trace::derived_ids;
use tracehop::trace::w3c::OurMember;
use tracehop::trace::w3c::format_traceparent;
use tracehop::trace::w3c::parse_traceparent;

use crate::envelope::Envelope;
use crate::envelope::Facts;
use crate::envelope::Json;
use crate::envelope::Layout;
use crate::laws::HOLD_BYTES_MAX;
use crate::laws::NOW;

/// One message, its ties to earlier ones still open.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(super) protocol_1: bool,
    pub(super) name: String,
    pub(super) id: IdShape,
    pub(super) root: Tie,
    pub(super) parent: Tie,
    pub(super) group: bool,
    pub(super) retries: u32,
    pub(super) replaced: u32,
    pub(super) context: Context,
    /// Where among the headers the context stands.
    pub(super) place: Index,
    pub(super) extra: Vec<(String, Json)>,
    pub(super) layout: Layout,
    pub(super) rotation: usize,
    pub(super) padding: Padding,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum IdShape {
    Uuid,
    Word,
    /// Letters that JSON escapes.
    Escaped,
}

#[derive(Clone, Debug)]
pub(super) enum Tie {
    None,
    Own,
    Earlier(Index),
    Stranger,
}

/// The context that a message comes with.
#[derive(Clone, Debug)]
pub(super) enum Context {
    Missing,
    Valid {
        version: u8,
        flags: u8,
        tracestate: Option<Json>,
    },
    Invalid {
        traceparent: Json,
        tracestate: Option<Json>,
    },
    /// Of our making, for the attempt before this one.
    OursBefore,
    /// Of our making, for this attempt.
    OursNow,
    /// Of our making, for another task, whose headers were copied.
    OursCopied,
    /// A `tracestate` and no `traceparent`.
    StateAlone,
    /// Names that no worker reads.
    Elsewhere,
    /// An invalid one and, under the same name, a valid one: the last one wins.
    Twice,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Padding {
    None,
    /// As large as may be held.
    ToLimit,
    /// One byte more.
    BeyondLimit,
    FarBeyond,
}

pub(super) fn message() -> impl Strategy<Value = Message> {
    let name = prop::sample::select(vec![
        "tasks.add",
        "celery.chord_unlock",
        "päckchen \"x\"\n",
        "t",
    ]);
    let id = prop::sample::select(vec![
        IdShape::Uuid,
        IdShape::Uuid,
        IdShape::Word,
        IdShape::Escaped,
    ]);
    let tie = || {
        prop_oneof![
            Just(Tie::None),
            Just(Tie::Own),
            any::<Index>().prop_map(Tie::Earlier),
            Just(Tie::Stranger),
        ]
    };
    let retries = prop_oneof![3 => Just(0_u32), 1 => 1..4_u32];
    let layout = prop::sample::select(vec![
        Layout::Kombu,
        Layout::Kombu,
        Layout::Kombu,
        Layout::Compact,
        Layout::Airy,
        Layout::EscapedKeys,
    ]);
    let padding = prop_oneof![
        12 => Just(Padding::None),
        1 => Just(Padding::ToLimit),
        1 => Just(Padding::BeyondLimit),
        1 => Just(Padding::FarBeyond),
    ];
    (
        (
            prop::bool::weighted(0.2),
            name,
            id,
            tie(),
            tie(),
            prop::bool::weighted(0.2),
        ),
        (
            retries,
            prop::bool::weighted(0.1),
            context(),
            any::<Index>(),
        ),
        (
            prop::collection::vec(extra_header(), 0..3),
            layout,
            0..5_usize,
            padding,
        ),
    )
        .prop_map(|(facts, context, shape)| {
            let (protocol_1, name, id, root, parent, group) = facts;
            let (retries, replaced, context, place) = context;
            let (extra, layout, rotation, padding) = shape;
            Message {
                protocol_1,
                name: name.to_owned(),
                id,
                root,
                parent,
                group,
                retries,
                replaced: u32::from(replaced),
                context,
                place,
                extra,
                layout,
                rotation,
                padding,
            }
        })
}

fn extra_header() -> impl Strategy<Value = (String, Json)> {
    let nested = Json::Object(vec![
        ("traceparent".to_owned(), Json::text(FOREIGN)),
        ("x-datadog-trace-id".to_owned(), Json::text("7")),
        ("x-datadog-parent-id".to_owned(), Json::text("8")),
    ]);
    let nested = (NESTED.to_owned(), nested);
    let other = prop::sample::select(vec![
        ("flat".to_owned(), Json::text("f")),
        ("X-Tenant".to_owned(), Json::raw(-1.5e-3)),
        (
            SENTRY_TRACE.to_owned(),
            Json::text(format!("{}-1", &SENTRY[3..52])),
        ),
        ("baggage".to_owned(), Json::text("a=b,c=\u{4e16}\u{1f600}")),
        ("ratio".to_owned(), Json::raw("NaN")),
        (
            "properties".to_owned(),
            Json::List(vec![Json::Object(Vec::new()), Json::raw("true")]),
        ),
        ("redelivered".to_owned(), Json::raw(true)),
        ("\"\\".to_owned(), Json::text("{\"traceparent\": [")),
    ]);
    prop_oneof![1 => Just(nested), 2 => other]
}

fn context() -> impl Strategy<Value = Context> {
    let tracestate = || {
        prop::option::of(prop::sample::select(vec![
            Json::text("vendor=x,ot=rv:0123456789abcd"),
            Json::text(""),
            Json::text("not a tracestate"),
            Json::text("tracehop=0123456789abcdef-19a00000000,foo=1"),
            Json::null(),
            Json::List(vec![Json::raw(1)]),
        ]))
    };
    let version = prop::sample::select(vec![0, 0, 0, 1, 0xcc]);
    let valid = (version, any::<u8>(), tracestate()).prop_map(|(version, flags, tracestate)| {
        Context::Valid {
            version,
            flags,
            tracestate,
        }
    });
    let invalid = prop::sample::select(vec![
        Json::null(),
        Json::raw(7),
        Json::raw(false),
        Json::List(vec![Json::text(FOREIGN)]),
        Json::Object(vec![("traceparent".to_owned(), Json::text(FOREIGN))]),
        Json::text(""),
        Json::text(FOREIGN.to_uppercase()),
        Json::text(&FOREIGN[1..]),
        Json::text(format!("{FOREIGN}-")),
        Json::text("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        Json::text("00-00000000000000000000000000000000-b7ad6b7169203331-01"),
        Json::text("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"),
        Json::text("\u{1f600}".repeat(20)),
    ]);
    let invalid = (invalid, tracestate()).prop_map(|(traceparent, tracestate)| Context::Invalid {
        traceparent,
        tracestate,
    });
    prop_oneof![
        5 => Just(Context::Missing),
        3 => valid,
        2 => invalid,
        2 => Just(Context::OursBefore),
        2 => Just(Context::OursNow),
        2 => Just(Context::OursCopied),
        1 => Just(Context::StateAlone),
        1 => Just(Context::Elsewhere),
        1 => Just(Context::Twice),
    ]
}

pub(super) const FOREIGN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Of another trace, in Sentry's spelling.
const SENTRY: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The header in which Datadog nests [`FOREIGN`].
const NESTED: &str = "headers";
const SENTRY_TRACE: &str = "sentry-trace";

impl Message {
    /// The context that it carries in another vendor's spelling: a `traceparent` that is
    /// nested counts before Sentry's.
    fn translated(&self) -> Option<TraceContext> {
        let has = |name| self.extra.iter().any(|(other, _)| other == name);
        let text = match (has(NESTED), has(SENTRY_TRACE)) {
            (true, _) => FOREIGN,
            (false, true) => SENTRY,
            (false, false) => return None,
        };
        Some(parse_traceparent(text).expect("it is valid"))
    }

    /// The span that it continues, where one of its contexts says so. `carried` is what its
    /// `traceparent` says.
    pub(super) fn continued(
        &self,
        carried: Option<TraceContext>,
        facts: &Facts,
    ) -> Option<TraceContext> {
        let (Some(carried), Some(translated)) = (carried, self.translated()) else {
            return carried.or_else(|| self.translated());
        };
        let is_retry =
            facts.retries > 0 || facts.replaced > 0 && facts.parent_id.as_ref() == Some(&facts.id);
        let is_newer = match self.context {
            // Our mark says that nothing stood beside it then.
            Context::OursCopied => true,
            Context::OursBefore if facts.retries > 0 => true,
            Context::OursBefore | Context::OursNow => false,
            // On a retry Datadog's worker makes what was nested flat, and nests what is new.
            _ => is_retry && translated.trace_id == carried.trace_id,
        };
        Some(if is_newer { translated } else { carried })
    }
}

impl Context {
    /// The headers that carry it, what is made of it, and what it says where it is valid.
    pub(super) fn written(
        &self,
        facts: &Facts,
        restamps: bool,
    ) -> (Vec<(&'static str, Json)>, Verdict, Option<TraceContext>) {
        let foreign = parse_traceparent(FOREIGN).expect("it is valid");
        let valid = match restamps {
            true => Verdict::Restamped,
            false => Verdict::Kept,
        };
        let ours = |id: &str, attempt| {
            let (span_id, message) = derived_ids("send", id, attempt, facts.replaced);
            let mark = OurMember {
                span_id,
                sent: Some(NOW),
                message: Some(message),
                beside: None,
            };
            let headers = vec![
                (
                    "traceparent",
                    Json::text(format_traceparent(&TraceContext { span_id, ..foreign })),
                ),
                ("tracestate", Json::text(mark.lead("vendor=x"))),
            ];
            (headers, Some(TraceContext { span_id, ..foreign }))
        };
        match self {
            Self::Missing => (Vec::new(), Verdict::Added, None),
            Self::Valid {
                version,
                flags,
                tracestate,
            } => {
                let text = format!("{version:02x}{}{flags:02x}", &FOREIGN[2..53]);
                (both(Json::text(text), tracestate), valid, Some(foreign))
            }
            Self::Invalid {
                traceparent,
                tracestate,
            } => {
                let headers = both(traceparent.clone(), tracestate);
                (headers, Verdict::Replaced, None)
            }
            Self::OursBefore if facts.retries > 0 => {
                let (headers, before) = ours(&facts.id, facts.retries - 1);
                (headers, Verdict::Renewed, before)
            }
            Self::OursBefore | Self::OursNow => {
                let (headers, now) = ours(&facts.id, facts.retries);
                (headers, Verdict::Kept, now)
            }
            Self::OursCopied => {
                let (headers, of_another) = ours("another", 0);
                (headers, Verdict::Renewed, of_another)
            }
            Self::StateAlone => {
                let headers = vec![("tracestate", Json::text("vendor=x"))];
                (headers, Verdict::Added, None)
            }
            Self::Elsewhere => {
                let names = ["Traceparent", "TRACEPARENT", "trace-parent"];
                let headers = names.map(|name| (name, Json::text(FOREIGN)));
                (headers.to_vec(), Verdict::Added, None)
            }
            Self::Twice => {
                let values = [Json::raw(7), Json::text(FOREIGN)];
                let headers = values.map(|value| ("traceparent", value));
                (headers.to_vec(), valid, Some(foreign))
            }
        }
    }
}

fn both(traceparent: Json, tracestate: &Option<Json>) -> Vec<(&'static str, Json)> {
    let mut headers = vec![("traceparent", traceparent)];
    headers.extend(
        tracestate
            .clone()
            .map(|tracestate| ("tracestate", tracestate)),
    );
    headers
}

/// What is pushed or published beside tasks.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Task(Box<Message>),
    Other(Vec<u8>),
}

pub(super) fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => message().prop_map(|message| Value::Task(Box::new(message))),
        1 => other().prop_map(Value::Other),
    ]
}

/// Values that are no task messages, among them Celery's own.
fn other() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<Vec<u8>> = [
        "",
        "{}",
        "[]",
        "{",
        "{\"body\": ",
        "{\"headers\": null}",
        "{\"headers\": {\"task\": \"t\"}}",
        "{\"status\": \"SUCCESS\", \"result\": {\"headers\": {\"task\": \"t\", \"id\": \"i\"}}, \"task_id\": \"i\"}",
        "{\"body\": \"W10=\", \"headers\": {\"hostname\": \"h\"}, \"properties\": {\"body_encoding\": \"base64\"}}",
        "{\"body\": \"e30=\", \"headers\": {\"ticket\": \"t\", \"clock\": 1}, \"properties\": {\"body_encoding\": \"base64\"}}",
        "[1, \"id\", \"SUCCESS\", 2]",
        "{\"headers\": {\"task\": \"t\", \"id\": \"i\"}} trailing",
        "{\"headers\": {\"task\": \"t\", \"id\": \"i\"}",
        "\r\n*3\r\n$5\r\nLPUSH\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    let nested = [b"{\"headers\": ".as_slice(), &[b'['; 2000]].concat();
    prop_oneof![
        prop::sample::select(known),
        prop::collection::vec(any::<u8>(), 0..40),
        Just(nested),
    ]
}

/// Makes an envelope as long as asked for, by a header that says nothing.
pub(super) fn pad(envelope: &mut Envelope, padding: Padding) {
    let length = match padding {
        Padding::None => return,
        Padding::ToLimit => HOLD_BYTES_MAX,
        Padding::BeyondLimit => HOLD_BYTES_MAX + 1,
        Padding::FarBeyond => 3 * HOLD_BYTES_MAX,
    };
    envelope
        .headers
        .push(("padding".to_owned(), Json::text("")));
    let missing = length.saturating_sub(envelope.bytes().len());
    envelope.headers.pop();
    envelope
        .headers
        .push(("padding".to_owned(), Json::text("p".repeat(missing))));
}
