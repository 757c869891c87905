//! Recorded conversations of real Celery apps with real brokers, and their replay.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use tracehop::config::Limits;
use tracehop::config::Mode;
use tracehop::config::Policy;
use tracehop::config::Protocol;
use tracehop::config::Spans;
use tracehop::hop::Answer;
use tracehop::hop::Delivery;
use tracehop::hop::Judgement;
use tracehop::hop::KeptTask;
use tracehop::hop::Publication;
use tracehop::hop::Sighting;
use tracehop::hop::TaskKey;
use tracehop::hop::Verdict;
use tracehop::protocol::HoldBudget;
use tracehop::protocol::Outbox;
use tracehop::protocol::Session;
use tracehop::protocol::Side;
use tracehop::trace::Timestamp;
use tracehop::trace::w3c::format_traceparent;

use crate::edits::assert_only_readdressed;
use crate::edits::edits;
use crate::laws::Cutting;
use crate::laws::Outcome;
use crate::laws::Rig;
use crate::laws::Thing;
use crate::laws::Turn;
use crate::laws::seen;

/// Every recording with that broker, and every place in it where a session may stand.
fn captures(broker: &str) -> Vec<(Rc<Capture>, Place)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let folder = folder.join(broker);
    let mut captures = Vec::new();
    for capture in Capture::all(&folder).into_iter().map(Rc::new) {
        captures.push((Rc::clone(&capture), Place::Relay));
        if capture.is_edited {
            captures.push((capture, Place::Behind));
        }
    }
    captures
}

/// What is to be seen stands beside each recording (`expected.txt`, and for recordings in
/// which the relay edited messages `expected-behind-relay.txt`, for a session behind it).
/// `UPDATE_EXPECTED=1` writes these tables anew: read the difference, line by line.
pub(crate) fn what_happened_is_what_is_seen(broker: &str) {
    let mut wrong = Vec::new();
    for (capture, place) in captures(broker) {
        let replay = capture.replay(place, Policy::default(), None);
        let found = format!("{}\n\n{}", capture.shows, replay.table());
        let file = capture.folder.join(match place {
            Place::Relay => "expected.txt",
            Place::Behind => "expected-behind-relay.txt",
        });
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&file, &found).expect("it can be written");
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if found != expected {
            wrong.push(format!(
                "{}\nexpected:\n{expected}\nfound:\n{found}",
                file.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

pub(crate) fn nothing_changes_but_the_context_of_messages(broker: &str) {
    for (capture, place) in captures(broker) {
        let replay = capture.replay(place, Policy::default(), None);
        let seen = seen(&replay.sightings);
        for (number, said) in &replay.connections {
            let edits = edits(&said.by_client, &said.outcome.to_broker);
            assert_only_readdressed(&said.by_broker, &said.outcome.to_client);
            let written: Vec<&Publication> = seen
                .publications()
                .filter(|hop| {
                    hop.connection.session == *number && hop.judgement.verdict != Verdict::Kept
                })
                .collect();
            assert_eq!(
                edits.len(),
                written.len(),
                "{} connection {number}",
                capture.name
            );
            for (edit, hop) in edits.iter().zip(written) {
                let traceparent = format_traceparent(&hop.judgement.context);
                assert_eq!(edit.header("traceparent"), Some(traceparent.into()));
                assert_eq!(
                    edit.header("tracestate"),
                    Some(hop.judgement.tracestate.as_str().into())
                );
            }
        }
    }
}

pub(crate) fn observing_changes_nothing(broker: &str) {
    let policy = Policy {
        mode: Mode::Observe,
        ..Policy::default()
    };
    for (capture, place) in captures(broker) {
        for (number, said) in capture.replay(place, policy, None).connections {
            let same = said.by_client == said.outcome.to_broker
                && said.by_broker == said.outcome.to_client;
            assert!(same, "{} connection {number}", capture.name);
        }
    }
}

pub(crate) fn it_does_not_matter_how_the_bytes_arrive(broker: &str) {
    for (capture, place) in captures(broker) {
        let whole = capture.replay(place, Policy::default(), None);
        let same = |cut: Replay| assert!(whole == cut, "{}", capture.name);
        same(capture.replay(place, Policy::default(), Some(Cutting::Bytes)));
        for seed in 0..3 {
            same(capture.replay(place, Policy::default(), Some(Cutting::Random(seed))));
        }
    }
}

/// One scenario: everything that was said on all of its connections, in order.
pub(crate) struct Capture {
    /// The folder that it stands in.
    broker: String,
    pub(crate) name: String,
    /// What it shows, in a sentence.
    pub(crate) shows: String,
    pub(crate) folder: PathBuf,
    records: Vec<Record>,
    /// Whether the relay that recorded it edited what it forwarded.
    pub(crate) is_edited: bool,
}

struct Record {
    connection: u64,
    at: Timestamp,
    event: Event,
}

enum Event {
    Open,
    /// What came, and what the relay forwarded instead of it.
    Said {
        side: Side,
        sent: Vec<u8>,
        forwarded: Option<Vec<u8>>,
    },
    End(Side),
}

/// Where in the recorded conversation the session stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    /// In place of the relay: it takes what both sides sent.
    Relay,
    /// Behind the relay: it takes what that forwarded.
    Behind,
}

impl Capture {
    /// Every scenario of the folder, by name.
    pub(crate) fn all(folder: &Path) -> Vec<Self> {
        let mut folders: Vec<PathBuf> = fs::read_dir(folder)
            .expect("the captures are there")
            .map(|entry| entry.expect("readable").path())
            .collect();
        folders.sort();
        folders.into_iter().map(Self::read).collect()
    }

    fn read(folder: PathBuf) -> Self {
        let text = |name: &str| fs::read_to_string(folder.join(name)).expect("it is there");
        let meta: Value = serde_json::from_str(&text("meta.json")).expect("JSON");
        let mut records: Vec<Record> = Vec::new();
        let mut is_edited = false;
        for line in text("wire.ndjson").lines() {
            let row: Value = serde_json::from_str(line).expect("JSON");
            let direction = row["dir"].as_str().expect("a direction");
            if direction.ends_with('!') {
                let last = records
                    .last_mut()
                    .expect("it stands below what it replaces");
                let Event::Said { forwarded, .. } = &mut last.event else {
                    panic!("{line} replaces nothing");
                };
                *forwarded = Some(bytes(&row));
                is_edited = true;
                continue;
            }
            let side = if direction == "c2s" {
                Side::Client
            } else {
                Side::Broker
            };
            let event = match row["ev"].as_str() {
                Some("open") => Event::Open,
                Some(_) => Event::End(side),
                None => Event::Said {
                    side,
                    sent: bytes(&row),
                    forwarded: None,
                },
            };
            let seconds = row["t"].as_f64().expect("a time");
            records.push(Record {
                connection: row["conn"].as_u64().expect("a number"),
                at: Timestamp::from_nanos(START_NANOS + (seconds * 1e9) as u64),
                event,
            });
        }
        let name = |folder: &Path| {
            let name = folder.file_name().expect("a folder");
            name.to_string_lossy().into_owned()
        };
        let shows = meta["shows"].as_str().expect("a sentence").to_owned();
        Self {
            broker: name(folder.parent().expect("a folder")),
            name: name(&folder),
            shows,
            folder,
            records,
            is_edited,
        }
    }

    /// Says everything again, to sessions that share one memory.
    pub(crate) fn replay(&self, place: Place, policy: Policy, cutting: Option<Cutting>) -> Replay {
        let protocol = match (self.broker.as_str(), self.name.as_str()) {
            (_, "09a-tls") => Protocol::Auto,
            ("redis", _) => Protocol::Redis,
            _ => Protocol::Amqp,
        };
        let limits = Limits::default();
        let rig = Rig {
            protocol,
            policy,
            // So that everything that can be seen is told.
            spans: Spans {
                process: true,
                ..Spans::default()
            },
            limits,
        };
        let injector = rig.injector();
        let budget = HoldBudget::new(limits.hold_total_bytes_max);
        let mut sessions: BTreeMap<u64, Box<dyn Session>> = BTreeMap::new();
        let mut replay = Replay::default();
        let mut out = Outbox::default();
        for Record {
            connection,
            at,
            event,
        } in &self.records
        {
            if let Event::Open = event {
                let session = rig.session_with(&injector, &budget, *connection);
                sessions.insert(*connection, session);
                continue;
            }
            let session = sessions.get_mut(connection).expect("it was opened");
            let said = replay.connections.entry(*connection).or_default();
            match event {
                Event::Open => {}
                Event::End(side) => session.finish(*side, *at, &mut out),
                Event::Said {
                    side,
                    sent,
                    forwarded,
                } => {
                    let bytes = match (place, forwarded) {
                        (Place::Behind, Some(forwarded)) => forwarded,
                        _ => sent,
                    };
                    let turn = [Turn(*side, bytes.clone())];
                    for Turn(side, piece) in
                        cutting.map_or_else(|| turn.to_vec(), |cutting| cutting.of(&turn))
                    {
                        session.receive(side, &piece, *at, &mut out);
                    }
                    match side {
                        Side::Client => said.by_client.extend_from_slice(bytes),
                        Side::Broker => said.by_broker.extend_from_slice(bytes),
                    }
                }
            }
            replay.sightings.extend_from_slice(&out.sightings);
            said.outcome.take(&mut out);
        }
        // A recording that was cut off ends like a proxy that is.
        let at = self
            .records
            .last()
            .map(|record| record.at)
            .unwrap_or_default();
        for (connection, session) in &mut sessions {
            session.finish(Side::Client, at, &mut out);
            session.finish(Side::Broker, at, &mut out);
            replay.sightings.extend_from_slice(&out.sightings);
            replay
                .connections
                .entry(*connection)
                .or_default()
                .outcome
                .take(&mut out);
        }
        replay
    }
}

/// An arbitrary moment in 2025 at which every recording begins.
const START_NANOS: u64 = 1_760_000_000_000_000_000;

fn bytes(row: &Value) -> Vec<u8> {
    let decode = |text: &Value| {
        STANDARD
            .decode(text.as_str().expect("base64"))
            .expect("base64")
    };
    match &row["parts"] {
        Value::Array(parts) => parts
            .iter()
            .flat_map(|part| match part {
                Value::Array(repeated) => {
                    decode(&repeated[0]).repeat(repeated[1].as_u64().expect("a count") as usize)
                }
                text => decode(text),
            })
            .collect(),
        _ => decode(&row["b64"]),
    }
}

/// What came of a replay.
#[derive(Default, PartialEq)]
pub(crate) struct Replay {
    pub(crate) connections: BTreeMap<u64, Conversation>,
    /// Of all connections, in order.
    pub(crate) sightings: Vec<Sighting>,
}

/// One connection: what was said, and what left.
#[derive(Default, PartialEq)]
pub(crate) struct Conversation {
    pub(crate) by_client: Vec<u8>,
    pub(crate) by_broker: Vec<u8>,
    pub(crate) outcome: Outcome,
}

impl Replay {
    /// What was seen, as a table to be read: a line for each thing, in order.
    ///
    /// `trace` and `parent` name what has been seen before: a trace by a letter, a hop or a
    /// delivery by its line, the run that follows from a delivery by its line and `run`;
    /// `carried` is a span that the message brought with it. `end` is the broker's answer, or
    /// what the worker said of the delivery.
    pub(crate) fn table(&self) -> String {
        let mut rows = vec![HEADINGS.map(str::to_owned).to_vec()];
        let mut names = Names::default();
        for (index, thing) in seen(&self.sightings).things.iter().enumerate() {
            let line = index + 1;
            let mut row = vec![line.to_string()];
            match thing {
                Thing::Published(publication, answer) => {
                    row.extend(published(publication));
                    row.extend(names.of(&publication.judgement));
                    row.push(match answer {
                        Some(Answer::Refused(words)) => format!("refused: {words}"),
                        Some(answer) => answer.word().to_owned(),
                        None => "open".to_owned(),
                    });
                    let span = publication.judgement.context.span_id.to_string();
                    names.spans.push((span, format!("#{line}")));
                }
                Thing::Delivered(delivery, settlement) => {
                    row.extend(delivered(delivery));
                    row.extend(names.of(&delivery.judgement));
                    row.push(match (settlement, delivery.receipt) {
                        (Some(settlement), _) => settlement.word().to_owned(),
                        (None, Some(_)) => "open".to_owned(),
                        (None, None) => "automatic".to_owned(),
                    });
                    let span = delivery.judgement.context.span_id.to_string();
                    names.spans.push((span, format!("#{line}")));
                    names
                        .spans
                        .push((delivery.process.to_string(), format!("#{line} run")));
                    let task = delivery.task.key;
                    names.tasks.push((task, shortened(delivery.task.id())));
                }
                Thing::Settled(settlement) => {
                    row.extend([String::new(), format!("settled: {}", settlement.word())]);
                }
                Thing::Told(task, state, evidence) => {
                    let known = names.tasks.iter().find(|(known, _)| known == task);
                    let task = known.map_or("unknown", |(_, id)| id);
                    let told = format!("told: {} by {}", state.word(), evidence.word());
                    row.extend([String::new(), told, String::new(), task.to_owned()]);
                }
                Thing::Redelivered(connection, destination) => {
                    row.extend([connection.to_string(), "redelivered".to_owned()]);
                    row.extend(["", "", ""].map(str::to_owned));
                    row.push(destination.clone());
                }
                Thing::LeftAlone(connection, why) => {
                    row.extend([connection.to_string(), format!("left alone: {why}")]);
                }
                Thing::Redirected(connection, why) => {
                    row.extend([connection.to_string(), format!("redirected: {why}")]);
                }
                Thing::LostSight(connection, why) => {
                    row.extend([connection.to_string(), format!("lost sight: {why}")]);
                }
            }
            rows.push(row);
        }
        aligned(&rows)
    }
}

const HEADINGS: [&str; 11] = [
    "#",
    "connection",
    "seen",
    "task",
    "id",
    "retries",
    "destination",
    "origin",
    "trace",
    "parent",
    "end",
];

/// What ids are called in a table.
#[derive(Default)]
struct Names {
    traces: Vec<String>,
    spans: Vec<(String, String)>,
    tasks: Vec<(TaskKey, String)>,
}

impl Names {
    /// The trace and the parent.
    fn of(&mut self, judgement: &Judgement) -> [String; 2] {
        let trace = judgement.context.trace_id.to_string();
        let known = self.traces.iter().position(|other| *other == trace);
        let trace = known.unwrap_or_else(|| {
            self.traces.push(trace);
            self.traces.len() - 1
        });
        let parent = match judgement.parent.map(|parent| parent.to_string()) {
            None => "-".to_owned(),
            Some(parent) => match self.spans.iter().find(|(span, _)| *span == parent) {
                Some((_, name)) => name.clone(),
                None => "carried".to_owned(),
            },
        };
        [letter(trace), parent]
    }
}

fn published(publication: &Publication) -> [String; 7] {
    let judgement = &publication.judgement;
    let seen = match judgement.invalid {
        Some(invalid) => format!("{} ({invalid})", judgement.verdict.word()),
        None => judgement.verdict.word().to_owned(),
    };
    let task = &publication.task;
    [
        publication.connection.session.to_string(),
        seen,
        task.name().to_owned(),
        shortened(task.id()),
        attempt(task),
        publication.destination.to_string(),
        judgement.origin.word().to_owned(),
    ]
}

fn delivered(delivery: &Delivery) -> [String; 7] {
    let passage = &delivery.passage;
    let seen = [
        (true, "delivered"),
        (passage.redelivered, "again"),
        (passage.broadcast, "to all"),
        (passage.delayed, "with delay"),
        (passage.dead_letter.is_some(), "as dead letter"),
        (delivery.sent.is_none(), "(sent unknown)"),
    ];
    let seen: Vec<&str> = seen
        .into_iter()
        .filter_map(|(is_so, word)| is_so.then_some(word))
        .collect();
    let task = &delivery.task;
    [
        delivery.connection.session.to_string(),
        seen.join(" "),
        task.name().to_owned(),
        shortened(task.id()),
        attempt(task),
        delivery.destination.to_string(),
        delivery.judgement.origin.word().to_owned(),
    ]
}

fn attempt(task: &KeptTask) -> String {
    match task.replaced {
        0 => task.retries.to_string(),
        replaced => format!("{}, replaced {replaced}", task.retries),
    }
}

/// The first digits of a UUID; any other id whole.
fn shortened(id: &str) -> String {
    let is_uuid = id.len() == 36 && id.bytes().filter(|byte| *byte == b'-').count() == 4;
    id.chars().take(if is_uuid { 8 } else { 40 }).collect()
}

fn letter(index: usize) -> String {
    let letter = char::from(b'A' + u8::try_from(index % 26).expect("less than 26"));
    match index / 26 {
        0 => letter.to_string(),
        round => format!("{letter}{round}"),
    }
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| row.len() > 4 || column < 2);
        cells
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or_default())
        .collect();
    let mut table = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        table.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        table.push('\n');
    }
    table
}
