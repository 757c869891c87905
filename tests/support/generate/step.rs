//! What can happen on a connection.

use proptest::prelude::*;
use proptest::sample::Index;

use crate::resp::Resp;

use super::message::Message;
use super::message::Value;
use super::message::message;
use super::message::value;
use super::reply::resp2;
use super::reply::resp3;

/// What happens next on the connection.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A command that is nothing to us, and its reply in either version.
    Call {
        command: &'static str,
        arguments: Vec<Vec<u8>>,
        resp2: Resp,
        resp3: Resp,
    },
    Publish(Publish),
    Transaction {
        watch: bool,
        inner: Vec<Inner>,
        end: End,
    },
    /// A worker puts back what it had taken.
    Restore {
        message: Message,
        at_head: bool,
    },
    Pop {
        pop: Pop,
        message: Option<Message>,
        redelivered: bool,
    },
    /// A worker acknowledges.
    Settle {
        which: Index,
        how: Settling,
    },
    Subscribe {
        kind: Kind,
        names: Vec<&'static str>,
    },
    Unsubscribe {
        kind: Kind,
        names: Vec<&'static str>,
    },
    /// Some channel the client may not hear of.
    SubscribeForbidden {
        kind: Kind,
        names: Vec<&'static str>,
    },
    /// What Redis refuses whoever asks, for its number of words.
    Refused(&'static [&'static str]),
    /// Something published by another client, if this one is subscribed.
    Message {
        which: Index,
        message: Option<Message>,
    },
    Push(Push),
    Ping {
        payload: bool,
    },
    Hello {
        version: Option<u8>,
        refused: bool,
    },
    Reset,
    Auth {
        refused: bool,
    },
    Select {
        refused: bool,
    },
    /// The broker says where else to connect; a word for how.
    Redirect(&'static [&'static str], Resp, &'static str),
    /// The client asks to be told when the broker moves.
    Maintenance {
        refused: bool,
    },
    Reply(ReplyMode),
    /// What Redis passes over without a reply.
    Nothing(&'static [u8]),
    Quit,
    /// The connection ends before these last replies.
    Vanish {
        replies: usize,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub(super) command: &'static str,
    pub(super) queue: Queue,
    pub(super) values: Vec<Value>,
    pub(super) outcome: PublishOutcome,
}

/// The commands that pop, by what their replies look like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pop {
    /// A list's name and a value.
    Named(&'static str),
    /// A value.
    From,
    /// Values.
    FromMany,
    /// A list's name, and values.
    NamedMany,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Queue {
    Plain,
    Priority,
    OddName,
}

#[derive(Clone, Debug)]
pub(crate) enum PublishOutcome {
    Taken(i64),
    /// With attributes before the number, in version 3.
    TakenWithAttributes(i64),
    Refused,
    /// With a `!` in version 3.
    RefusedInBlob,
}

#[derive(Clone, Debug)]
pub(crate) enum Inner {
    Call {
        arguments: Vec<Vec<u8>>,
        resp2: Resp,
        resp3: Resp,
    },
    Publish(Publish),
    /// What Redis refuses to queue: the transaction will not be executed.
    Unqueued(Option<Publish>),
    /// An error that leaves the transaction as it is.
    Refused(&'static [&'static str]),
}

impl Inner {
    pub(super) fn has_redelivery_mark(&self) -> bool {
        let (Self::Publish(publish) | Self::Unqueued(Some(publish))) = self else {
            return false;
        };
        publish.values.iter().any(|value| match value {
            Value::Task(message) => message.extra.iter().any(|(name, _)| name == "redelivered"),
            Value::Other(_) => false,
        })
    }
}

/// How a worker acknowledges.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Settling {
    /// By one command.
    Alone,
    /// In a transaction.
    Atomic,
    /// In one that comes to nothing, because a key that it watches has changed.
    Aborted,
    /// In one that Redis refuses.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    Exec,
    /// A watched key changed.
    ExecAborted,
    /// EXEC has one word too many.
    ExecRefused,
    Discard,
    Reset,
    Quit,
    /// The connection ends first.
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Channel,
    Pattern,
    Shard,
}

#[derive(Clone, Debug)]
pub(crate) enum Push {
    Invalidate,
    Migrating,
    Moving(Resp),
    Unknown(Resp),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ReplyMode {
    On,
    Off,
    Skip,
    /// Redis refuses it.
    Wrong(&'static [&'static str]),
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let names = || prop::collection::vec(prop::sample::select(CHANNELS), 1..4);
    let kind = || {
        prop::sample::select(vec![
            Kind::Channel,
            Kind::Channel,
            Kind::Pattern,
            Kind::Shard,
        ])
    };
    let version = prop::sample::select(vec![Some(2), Some(3), Some(3), None]);
    let end = prop::sample::select(vec![
        End::Exec,
        End::Exec,
        End::Exec,
        End::ExecAborted,
        End::ExecRefused,
        End::Discard,
        End::Reset,
        End::Quit,
        End::Open,
    ]);
    let mode = prop::sample::select(vec![
        ReplyMode::On,
        ReplyMode::On,
        ReplyMode::Off,
        ReplyMode::Skip,
        ReplyMode::Skip,
        ReplyMode::Wrong(&["CLIENT", "REPLY"]),
        ReplyMode::Wrong(&["CLIENT", "REPLY", "MAYBE"]),
        ReplyMode::Wrong(&["CLIENT", "REPLY", "ON", "x"]),
        ReplyMode::Wrong(&["CLIENT", "REPLY", "OFF", "x"]),
        ReplyMode::Wrong(&["CLIENT", "REPLY", "SKIP", "x"]),
    ]);
    let pop = prop::sample::select(vec![
        Pop::Named("BRPOP"),
        Pop::Named("BRPOP"),
        Pop::Named("BLPOP"),
        Pop::From,
        Pop::FromMany,
        Pop::NamedMany,
    ]);
    let settling = prop::sample::select(vec![
        Settling::Alone,
        Settling::Atomic,
        Settling::Atomic,
        Settling::Aborted,
        Settling::Refused,
    ]);
    let nothing: Vec<&'static [u8]> = vec![b"\r\n", b"\n", b"  \r\n", b"*0\r\n", b"*-1\r\n"];
    prop_oneof![
        8 => call(),
        10 => publish().prop_map(Step::Publish),
        5 => (any::<bool>(), prop::collection::vec(inner(), 0..5), end)
            .prop_map(|(watch, inner, end)| Step::Transaction { watch, inner, end }),
        2 => (message(), any::<bool>())
            .prop_map(|(message, at_head)| Step::Restore { message, at_head }),
        4 => (pop, prop::option::weighted(0.8, message()), prop::bool::weighted(0.2))
            .prop_map(|(pop, message, redelivered)| Step::Pop { pop, message, redelivered }),
        2 => (any::<Index>(), settling).prop_map(|(which, how)| Step::Settle { which, how }),
        2 => (kind(), names()).prop_map(|(kind, names)| Step::Subscribe { kind, names }),
        2 => (kind(), prop_oneof![Just(Vec::new()), names()])
            .prop_map(|(kind, names)| Step::Unsubscribe { kind, names }),
        1 => (kind(), names()).prop_map(|(kind, names)| Step::SubscribeForbidden { kind, names }),
        3 => prop::sample::select(REFUSED).prop_map(Step::Refused),
        3 => (any::<Index>(), prop::option::of(message()))
            .prop_map(|(which, message)| Step::Message { which, message }),
        2 => push().prop_map(Step::Push),
        1 => any::<bool>().prop_map(|payload| Step::Ping { payload }),
        2 => (version, prop::bool::weighted(0.2))
            .prop_map(|(version, refused)| Step::Hello { version, refused }),
        1 => Just(Step::Reset),
        1 => any::<bool>().prop_map(|refused| Step::Auth { refused }),
        1 => any::<bool>().prop_map(|refused| Step::Select { refused }),
        1 => any::<bool>().prop_map(|refused| Step::Maintenance { refused }),
        1 => redirect(),
        3 => mode.prop_map(Step::Reply),
        1 => prop::sample::select(nothing).prop_map(Step::Nothing),
        1 => Just(Step::Quit),
        1 => (0..4_usize).prop_map(|replies| Step::Vanish { replies }),
    ]
}

/// Outside a transaction.
const REFUSED: &[&[&str]] = &[
    &["MULTI", "x"],
    &["MULTI", "x"],
    &["EXEC"],
    &["EXEC", "x"],
    &["DISCARD"],
    &["WATCH"],
    &["UNWATCH", "x"],
    &["SUBSCRIBE"],
    &["PSUBSCRIBE"],
    &["RESET", "x"],
    &["HELLO", "4"],
    &["HELLO", "03"],
    &["MONITOR", "x"],
    &["SYNC", "x"],
    &["PSYNC", "?"],
];

/// Inside a transaction, which they leave as it is.
const REFUSED_IN_TRANSACTION: &[&[&str]] = &[&["MULTI"], &["WATCH", "k"]];

/// Inside a transaction, which will not be executed for them.
pub(super) const REFUSED_FOR_TRANSACTION: &[&[&str]] = &[
    &["GET"],
    &["MULTI", "x"],
    &["DISCARD", "x"],
    &["RESET", "x"],
    &["SUBSCRIBE"],
    &["CLIENT", "REPLY"],
    &["SYNC"],
];

const CHANNELS: &[&str] = &["a", "/0.celeryev/worker.#", "celery-task-meta-x", "message"];

fn call() -> impl Strategy<Value = Step> {
    let command = prop::sample::select(vec![
        "GET", "SET", "HGETALL", "LRANGE", "ZRANGE", "EVALSHA", "INFO", "XADD", "LPUSHX", "RPOP",
        "CONFIG", "OBJECT", "ACL", "WAIT", "LINDEX", "SPUBLISH",
    ]);
    (command, arguments(), resp2(), resp3()).prop_map(|(command, arguments, resp2, resp3)| {
        Step::Call {
            command,
            arguments,
            resp2,
            resp3,
        }
    })
}

fn inner() -> impl Strategy<Value = Inner> {
    prop_oneof![
        4 => (arguments(), resp2(), resp3())
            .prop_map(|(arguments, resp2, resp3)| Inner::Call { arguments, resp2, resp3 }),
        8 => publish().prop_map(Inner::Publish),
        1 => prop::option::of(publish()).prop_map(Inner::Unqueued),
        1 => prop::sample::select(REFUSED_IN_TRANSACTION).prop_map(Inner::Refused),
    ]
}

fn publish() -> impl Strategy<Value = Publish> {
    let command = prop::sample::select(vec!["LPUSH", "LPUSH", "RPUSH", "PUBLISH"]);
    let queue = prop::sample::select(vec![
        Queue::Plain,
        Queue::Plain,
        Queue::Priority,
        Queue::OddName,
    ]);
    let outcome = prop_oneof![
        4 => (0..9_i64).prop_map(PublishOutcome::Taken),
        1 => (0..9_i64).prop_map(PublishOutcome::TakenWithAttributes),
        1 => Just(PublishOutcome::Refused),
        1 => Just(PublishOutcome::RefusedInBlob),
    ];
    let values = prop_oneof![
        3 => prop::collection::vec(value(), 1),
        1 => prop::collection::vec(value(), 2..5),
    ];
    (command, queue, values, outcome).prop_map(|(command, queue, mut values, outcome)| {
        if command == "PUBLISH" {
            values.truncate(1);
        }
        Publish {
            command,
            queue,
            values,
            outcome,
        }
    })
}

fn arguments() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let argument = prop_oneof![
        4 => "[a-z0-9:._-]{1,12}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..20),
        1 => prop::sample::select(vec!["", "LPUSH", "OFF", "REPLY", "*1\r\n", "\r\n", "\"'\\"])
            .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop::collection::vec(argument, 1..4)
}

fn redirect() -> impl Strategy<Value = Step> {
    let (ip, port) = (Resp::bulk("10.0.0.7"), Resp::bulk("6379"));
    let node = Resp::Array(vec![ip.clone(), Resp::Integer(6379), Resp::bulk("id")]);
    let slots = Resp::Array(vec![Resp::Integer(0), Resp::Integer(16383), node]);
    let moved = |word: &str| Resp::Error(format!("{word} 3999 10.0.0.7:6379"));
    let nobody = Resp::Array(Vec::new());
    let kinds: [(&'static [&'static str], Resp, &'static str); 7] = [
        (
            &["CLUSTER", "SLOTS"],
            Resp::Array(vec![slots]),
            "cluster_slots",
        ),
        (
            &["CLUSTER", "SHARDS"],
            Resp::Array(vec![nobody.clone()]),
            "cluster_shards",
        ),
        (
            &["CLUSTER", "NODES"],
            Resp::bulk("id 10.0.0.7:6379@16379 myself"),
            "cluster_nodes",
        ),
        (
            &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "m"],
            Resp::Array(vec![ip, port]),
            "sentinel",
        ),
        (
            &["SENTINEL", "masters"],
            Resp::Array(vec![nobody]),
            "sentinel",
        ),
        (&["GET", "k"], moved("MOVED"), "moved"),
        (&["GET", "k"], moved("ASK"), "ask"),
    ];
    let kind = prop::sample::select(kinds.to_vec());
    kind.prop_map(|(words, reply, why)| Step::Redirect(words, reply, why))
}

fn push() -> impl Strategy<Value = Push> {
    let address = prop::sample::select(vec![
        Resp::bulk("10.0.0.7:6379"),
        Resp::Simple("10.0.0.7:6379".to_owned()),
        Resp::bulk("[2001:db8::1]:6379"),
        Resp::bulk(""),
        Resp::Null,
        Resp::NullBulk,
    ]);
    prop_oneof![
        1 => Just(Push::Invalidate),
        1 => Just(Push::Migrating),
        3 => address.prop_map(Push::Moving),
        1 => resp3().prop_map(Push::Unknown),
    ]
}
