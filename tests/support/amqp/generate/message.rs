//! Messages: what they say, and the headers that they come with.

use fastrand::Rng;

use tracehop::celery::TaskState;
use tracehop::hop::Verdict;
use tracehop::trace::SpanId;
use tracehop::trace::TraceId;
use tracehop::trace::w3c::parse_traceparent;

use crate::wire::CONTENT_TYPE;
use crate::wire::CORRELATION_ID;
use crate::wire::Field;
use crate::wire::Header;
use crate::wire::long_string;
use crate::wire::short_string;

/// A message, and what is to be seen in it.
pub(super) struct Message {
    pub(super) header: Header,
    pub(super) body: Vec<u8>,
    pub(super) task: Option<Task>,
    pub(super) saying: Saying,
    /// Nobody can tell without the body.
    pub(super) needs_body: bool,
    /// It has a field of a type that nobody knows, or a body that is not what it is said to be.
    pub(super) is_unreadable: bool,
    /// The content header fills the smallest frame that peers agree on, to the last byte.
    pub(super) is_brimful: bool,
}

/// What a message that is no task's tells of runs when it is published.
pub(super) enum Saying {
    Nothing,
    Result(TaskState),
    Events(Vec<TaskState>),
}

/// What a task message says.
pub(super) struct Task {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) retries: u32,
    pub(super) verdict: Verdict,
    /// Those of the context that it came with, where that is valid.
    pub(super) trace_id: Option<TraceId>,
    pub(super) parent: Option<SpanId>,
}

/// The smallest frame that peers may agree on.
pub(super) const FRAME_BYTES_MIN: usize = 4096;

const JSON: &str = "application/json";

/// Message `number`, of any kind.
pub(super) fn message(random: &mut Rng, number: usize) -> Message {
    match random.u8(..16) {
        0..5 => protocol_2(random, number),
        5 => brimful(random, number),
        6..9 => protocol_1(random, number),
        9 => result(random, number),
        10 => events(random, number),
        11 => {
            let fields = fields(random);
            let size = random.usize(..6000);
            other("application/octet-stream", fields, vec![7; size])
        }
        12 => {
            let body = vec![b'['; random.usize(..6000)];
            Message {
                is_unreadable: !body.is_empty(),
                ..other(JSON, fields(random), body)
            }
        }
        13 => Message {
            header: Header::default(),
            ..other("", vec![], Vec::new())
        },
        14 => {
            let mut message = protocol_2(random, number);
            let unknown = Field::new("unknown", vec![b'?', 0, 0, 0, 0]);
            let headers = message.header.headers.as_mut().expect("there are some");
            headers.insert(random.usize(..=headers.len()), unknown);
            message.is_unreadable = true;
            message.task = None;
            message
        }
        _ => {
            // Without a table of headers.
            let mut message = protocol_1(random, number);
            if let Some(task) = &mut message.task {
                message.header.headers = None;
                (task.verdict, task.trace_id, task.parent) = (Verdict::Added, None, None);
            }
            message
        }
    }
}

fn protocol_2(random: &mut Rng, number: usize) -> Message {
    let retries = random.u32(..3);
    let (id, name) = (id(random, number), "tasks.add".to_owned());
    let integer = |number: u32| match number % 3 {
        0 => [b"I".as_slice(), &number.to_be_bytes()].concat(),
        1 => vec![b'b', u8::try_from(number).unwrap_or_default()],
        _ => [b"d".as_slice(), &f64::from(number).to_be_bytes()].concat(),
    };
    let mut facts = vec![
        Field::text("lang", "py"),
        Field::text("task", &name),
        Field::text("id", &id),
        Field::new("shadow", b"V".to_vec()),
        Field::new("retries", integer(retries)),
        Field::text("root_id", &id),
    ];
    if random.bool() {
        // The last of two counts.
        facts.insert(0, Field::new("task", b"V".to_vec()));
    }
    let task = |(verdict, trace_id, parent)| Task {
        id: id.clone(),
        name: name.clone(),
        retries,
        verdict,
        trace_id,
        parent,
    };
    let (headers, context) = with_context(random, facts);
    let body = match random.u8(..4) {
        0 => Vec::new(),
        1 => vec![b'x'; random.usize(3000..9000)],
        _ => br#"[[1, 2], {}, {"chain": null}]"#.to_vec(),
    };
    Message {
        task: Some(task(context)),
        header: header(random, JSON, &id, headers, body.len()),
        body,
        saying: Saying::Nothing,
        needs_body: false,
        is_unreadable: false,
        is_brimful: false,
    }
}

fn brimful(random: &mut Rng, number: usize) -> Message {
    let id = id(random, number);
    let fields = |padding: usize| {
        vec![
            Field::text("task", "tasks.wide"),
            Field::text("id", &id),
            Field::text("padding", &"x".repeat(padding)),
        ]
    };
    let mut header = header(random, JSON, &id, fields(0), 0);
    let room = FRAME_BYTES_MIN - header.frame(1).bytes().len();
    header.headers = Some(fields(room));
    let task = Task {
        id,
        name: "tasks.wide".to_owned(),
        retries: 0,
        verdict: Verdict::Added,
        trace_id: None,
        parent: None,
    };
    Message {
        header,
        body: Vec::new(),
        task: Some(task),
        saying: Saying::Nothing,
        needs_body: false,
        is_unreadable: false,
        is_brimful: true,
    }
}

fn protocol_1(random: &mut Rng, number: usize) -> Message {
    let (id, name) = (id(random, number), "tasks.old".to_owned());
    let retries = random.u32(..3);
    let padding = match random.u8(..4) {
        0 => "x".repeat(random.usize(2000..5000)),
        _ => String::new(),
    };
    let body = format!(
        r#"{{"task": "{name}", "id": "{id}", "args": ["{padding}"], "kwargs": {{}}, "retries": {retries}}}"#
    );
    let (headers, (verdict, trace_id, parent)) = with_context(random, Vec::new());
    Message {
        header: header(random, JSON, &id, headers, body.len()),
        body: body.into_bytes(),
        task: Some(Task {
            id,
            name,
            retries,
            verdict,
            trace_id,
            parent,
        }),
        saying: Saying::Nothing,
        needs_body: true,
        is_unreadable: false,
        is_brimful: false,
    }
}

/// A result as it is sent by rpc; the state stands in front, whatever follows.
fn result(random: &mut Rng, number: usize) -> Message {
    let (status, state) = RESULTS[random.usize(..RESULTS.len())];
    let (id, padding) = (id(random, number), padding(random));
    let body = format!(r#"{{"status": "{status}", "result": "{padding}", "task_id": "{id}"}}"#);
    let mut message = other(JSON, vec![], body.into_bytes());
    // Without it nobody waits for a result.
    if random.u8(..4) > 0 {
        let correlation_id = (CORRELATION_ID, short_string(id.as_bytes()));
        message.header.properties.push(correlation_id);
        message.saying = state.map_or(Saying::Nothing, Saying::Result);
    }
    message
}

/// One event, or a list of them.
fn events(random: &mut Rng, number: usize) -> Message {
    let count = random.usize(..4);
    let chosen: Vec<_> = (0..count.max(1))
        .map(|_| EVENTS[random.usize(..EVENTS.len())])
        .collect();
    let padding = padding(random);
    let events: Vec<String> = chosen
        .iter()
        .map(|(kind, _)| {
            format!(r#"{{"type": "{kind}", "args": "{padding}", "uuid": "id-{number}"}}"#)
        })
        .collect();
    let body = match count {
        0 => events.concat(),
        _ => format!("[{}]", events.join(", ")),
    };
    let hostname = vec![Field::text("hostname", "w1@host1")];
    Message {
        saying: Saying::Events(chosen.iter().filter_map(|(_, state)| *state).collect()),
        ..other(JSON, hostname, body.into_bytes())
    }
}

fn padding(random: &mut Rng) -> String {
    match random.u8(..3) {
        0 => "x".repeat(random.usize(500..5000)),
        _ => String::new(),
    }
}

/// The statuses of results.
const RESULTS: [(&str, Option<TaskState>); 7] = [
    ("STARTED", Some(TaskState::Started)),
    ("SUCCESS", Some(TaskState::Succeeded)),
    ("FAILURE", Some(TaskState::Failed)),
    ("RETRY", Some(TaskState::Retried)),
    ("REVOKED", Some(TaskState::Revoked)),
    ("REJECTED", Some(TaskState::Rejected)),
    ("PENDING", None),
];

/// The types of events.
const EVENTS: [(&str, Option<TaskState>); 8] = [
    ("task-started", Some(TaskState::Started)),
    ("task-succeeded", Some(TaskState::Succeeded)),
    ("task-failed", Some(TaskState::Failed)),
    ("task-retried", Some(TaskState::Retried)),
    ("task-revoked", Some(TaskState::Revoked)),
    ("task-rejected", Some(TaskState::Rejected)),
    ("task-sent", None),
    ("worker-heartbeat", None),
];

fn other(content_type: &str, headers: Vec<Field>, body: Vec<u8>) -> Message {
    let header = Header {
        body_size: body.len() as u64,
        properties: vec![(CONTENT_TYPE, short_string(content_type.as_bytes()))],
        headers: Some(headers),
    };
    Message {
        header,
        saying: Saying::Nothing,
        needs_body: content_type == JSON && !body.is_empty(),
        body,
        task: None,
        is_unreadable: false,
        is_brimful: false,
    }
}

fn id(random: &mut Rng, number: usize) -> String {
    match random.bool() {
        true => format!("{:08x}-0000-4000-8000-{number:012x}", random.u32(..)),
        false => format!("id-{number}"),
    }
}

fn header(
    random: &mut Rng,
    content_type: &str,
    id: &str,
    headers: Vec<Field>,
    body_size: usize,
) -> Header {
    let mut properties = vec![
        (CONTENT_TYPE, short_string(content_type.as_bytes())),
        (CORRELATION_ID, short_string(id.as_bytes())),
    ];
    for bit in [14, 12, 11, 9, 8, 7, 6, 5, 4, 3, 2] {
        if random.bool() {
            let property = match bit {
                12 | 11 => vec![random.u8(..)],
                6 => random.u64(..).to_be_bytes().to_vec(),
                _ => short_string(b"x".repeat(random.usize(..20)).as_slice()),
            };
            properties.push((bit, property));
        }
    }
    Header {
        body_size: body_size as u64,
        properties,
        headers: Some(headers),
    }
}

/// Puts a context among the headers, or none, and all sorts of fields around it. What is to
/// be made of it: the verdict, and trace and parent where one is valid, in whichever spelling.
fn with_context(
    random: &mut Rng,
    facts: Vec<Field>,
) -> (Vec<Field>, (Verdict, Option<TraceId>, Option<SpanId>)) {
    let valid = format!("00-{:032x}-{:016x}-01", random.u128(1..), random.u64(1..));
    let (context, verdict) = match random.u8(..9) {
        0 => (vec![Field::text("traceparent", &valid)], Verdict::Kept),
        1 => (
            vec![
                Field::text("traceparent", "00-nonsense"),
                Field::text("traceparent", &valid),
                Field::text("tracestate", "a=1,b=2"),
            ],
            Verdict::Kept,
        ),
        2 => (
            vec![
                Field::text("traceparent", &valid.to_uppercase().replace("00-", "0f-")),
                Field::text("tracestate", "a=1"),
            ],
            match valid.bytes().any(|byte| byte.is_ascii_lowercase()) {
                true => Verdict::Replaced,
                false => Verdict::Kept,
            },
        ),
        3 => (
            vec![
                Field::text("traceparent", &valid),
                Field::new("traceparent", value(random, 1, b"tbBsUuIilLfdDTVxFA")),
                Field::new("tracestate", value(random, 1, b"tVxFA")),
            ],
            Verdict::Replaced,
        ),
        4 => (vec![Field::text("Traceparent", &valid)], Verdict::Added),
        5 => (vec![Field::text("tracestate", "a=1")], Verdict::Added),
        _ => (vec![], Verdict::Added),
    };
    let last = context.iter().rfind(|field| field.name == b"traceparent");
    let mut continued = last
        .filter(|_| verdict == Verdict::Kept)
        .and_then(Field::as_text);
    let mut foreign = Vec::new();
    if random.u8(..3) == 0 {
        let (trace_id, span_id) = (random.u128(1 << 64..), random.u64(1..));
        foreign = in_another_spelling(random, trace_id, span_id);
        continued.get_or_insert_with(|| format!("00-{trace_id:032x}-{span_id:016x}-00"));
    }
    let parsed = continued.and_then(|context| parse_traceparent(&context).ok());
    let mut headers = fields(random);
    for field in [facts, context, foreign].concat() {
        headers.push(field);
        if random.u8(..3) == 0 {
            headers.extend(fields(random));
        }
    }
    let trace_id = parsed.map(|context| context.trace_id);
    let parent = parsed.map(|context| context.span_id);
    (headers, (verdict, trace_id, parent))
}

/// The context as other vendors write it.
fn in_another_spelling(random: &mut Rng, trace_id: u128, span_id: u64) -> Vec<Field> {
    let ids = format!("{trace_id:032x}-{span_id:016x}");
    match random.u8(..4) {
        0 => vec![Field::text("sentry-trace", &format!("{ids}-1"))],
        1 => vec![Field::text("b3", &format!("{ids}-0"))],
        2 => {
            let ids = ids.replace('-', ":");
            vec![Field::text("uber-trace-id", &format!("{ids}:0:1"))]
        }
        _ => {
            let lower_half = trace_id & u128::from(u64::MAX);
            let upper_half = trace_id >> 64;
            vec![
                Field::text("x-datadog-trace-id", &lower_half.to_string()),
                Field::text("x-datadog-parent-id", &span_id.to_string()),
                Field::text("x-datadog-tags", &format!("_dd.p.tid={upper_half:016x}")),
            ]
        }
    }
}

/// Fields of any type with names that mean nothing, or are no text at all.
pub(super) fn fields(random: &mut Rng) -> Vec<Field> {
    let names: [&[u8]; 6] = [b"x-a", b"x-b", b"headers", b"\xff\xfe", b"", b"argsrepr"];
    let count = random.usize(..4);
    let field = |_| Field {
        name: names[random.usize(..names.len())].to_vec(),
        value: value(random, 0, b"SSSStbBsUuIilLfdDTVxFA"),
    };
    (0..count).map(field).collect()
}

/// Type and value of a field of one of these types. Never a NaN, which is unlike itself.
fn value(random: &mut Rng, depth: usize, kinds: &[u8]) -> Vec<u8> {
    let kind = *random.choice(kinds).expect("there are some");
    let mut bytes = |count: usize| -> Vec<u8> { (0..count).map(|_| random.u8(..0x70)).collect() };
    let value = match kind {
        b't' => vec![bytes(1)[0] % 2],
        b'b' | b'B' => bytes(1),
        b's' | b'U' | b'u' => bytes(2),
        b'I' | b'i' | b'f' => bytes(4),
        b'l' | b'L' | b'd' | b'T' => bytes(8),
        b'D' => bytes(5),
        b'S' => match bytes(1)[0] % 4 {
            0 => long_string(&[0xff, 0xfe]),
            1 => long_string("déjà vu".as_bytes()),
            _ => long_string(&bytes(9)),
        },
        b'x' => long_string(&bytes(9)),
        b'F' if depth < 3 => {
            let inner: Vec<u8> = (0..random.usize(..3))
                .flat_map(|_| {
                    let value = value(random, depth + 1, b"StbBsUuIilLfdDTVxFA");
                    [b"\x0btraceparent".as_slice(), &value].concat()
                })
                .collect();
            long_string(&inner)
        }
        b'A' if depth < 3 => {
            let inner: Vec<u8> = (0..random.usize(..3))
                .flat_map(|_| value(random, depth + 1, b"StbBsUuIilLfdDTVxFA"))
                .collect();
            long_string(&inner)
        }
        b'F' | b'A' => long_string(&[]),
        _ => vec![],
    };
    [&[kind], &*value].concat()
}
