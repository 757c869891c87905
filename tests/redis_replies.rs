//! Replies of a real Redis to whatever a client may ask, in whatever order: each is paired with
//! what it answers.
//!
//! The requests are the same in every run. `REQUESTS_SEED` chooses others.

#[path = "support/edits.rs"]
mod edits;
#[path = "support/envelope.rs"]
mod envelope;
#[path = "support/laws.rs"]
mod laws;
#[path = "support/resp.rs"]
mod resp;
mod support;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;

use fastrand::Rng;

use tracehop::config::Protocol;
use tracehop::hop::Answer;
use tracehop::hop::Sighting;
use tracehop::protocol::Outbox;
use tracehop::protocol::Side;

use envelope::Envelope;
use envelope::Facts;
use laws::NOW;
use laws::Rig;
use laws::Turn;
use laws::play;
use resp::request;
use support::redis::Redis;

const CONVERSATIONS: u64 = 400;
const REQUESTS: usize = 24;

/// Short of what makes a Redis close the connection or send a stream of its own.
const COMMANDS: &[&str] = &[
    "PING",
    "PING",
    "PING x",
    "ECHO message",
    "GET",
    "FOO bar",
    "LRANGE l 0 2",
    "RPOP l",
    "LPOP l 2",
    "BLPOP l 1",
    "LMPOP 1 l LEFT",
    "CLIENT GETNAME",
    "CLIENT REPLY",
    "CLIENT REPLY ON",
    "CLIENT REPLY ON",
    "CLIENT REPLY ON",
    "CLIENT REPLY ON x",
    "CLIENT REPLY OFF",
    "CLIENT REPLY OFF x",
    "CLIENT REPLY SKIP",
    "CLIENT REPLY SKIP",
    "CLIENT REPLY SKIP x",
    "CLIENT REPLY MAYBE",
    "MULTI",
    "MULTI",
    "MULTI x",
    "EXEC",
    "EXEC",
    "EXEC x",
    "DISCARD",
    "DISCARD x",
    "WATCH",
    "WATCH k",
    "UNWATCH",
    "UNWATCH x",
    "SUBSCRIBE",
    "SUBSCRIBE a",
    "SUBSCRIBE secret",
    "PSUBSCRIBE a* b*",
    "SSUBSCRIBE a",
    "UNSUBSCRIBE",
    "UNSUBSCRIBE",
    "UNSUBSCRIBE a b",
    "PUNSUBSCRIBE",
    "SUNSUBSCRIBE",
    "HELLO",
    "HELLO 2",
    "HELLO 3",
    "HELLO 3",
    "HELLO 4",
    "HELLO 3 AUTH user wrong",
    "AUTH limited x",
    "RESET",
    "RESET x",
    "MONITOR x",
    "SYNC x",
    "PSYNC ?",
    "*0",
    "",
];

/// What cannot be followed any further, and is told.
const KNOWN_ENDS: &[&str] = &[
    "client_reply_in_transaction",
    "hello_in_transaction",
    "subscribe_in_transaction",
    "unheard_switch",
];

/// One request, and what had come when Redis was done with it.
struct Exchange {
    request: Vec<u8>,
    replies: Vec<u8>,
    /// The task that it pushes.
    task: Option<String>,
}

/// A connection that is spoken on, and one that tells when Redis is done.
struct Conversation<'a> {
    stream: TcpStream,
    witness: &'a mut TcpStream,
}

impl Conversation<'_> {
    fn ask(&mut self, request: Vec<u8>, task: Option<String>) -> Exchange {
        self.stream.write_all(&request).unwrap();
        // By the second of its replies those to what was sent before the first are written.
        for _ in 0..2 {
            call(self.witness, "PING");
        }
        let mut replies = Vec::new();
        let mut buffer = [0; 64 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => panic!("closed behind {}", request.escape_ascii()),
                Ok(count) => replies.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        Exchange {
            request,
            replies,
            task,
        }
    }
}

/// The reply, which is one line.
fn call(stream: &mut TcpStream, words: &str) -> Vec<u8> {
    let words: Vec<&str> = words.split(' ').collect();
    stream.write_all(&request(&words)).unwrap();
    let mut reply = Vec::new();
    while !reply.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        reply.push(byte[0]);
    }
    reply
}

fn connect(redis: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(redis).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Pushes a task: to a list, or to what is none.
fn push(number: usize, is_list: bool) -> (Vec<u8>, String) {
    let id = format!("{number}-{is_list}");
    let facts = Facts {
        name: "add".to_owned(),
        id: id.clone(),
        ..Facts::default()
    };
    let list: &[u8] = if is_list { b"l" } else { b"text" };
    let envelope = Envelope::protocol_2(&facts).bytes();
    (request(&[b"LPUSH".as_slice(), list, &envelope]), id)
}

fn converse(conversation: &mut Conversation<'_>, random: &mut Rng) -> Vec<Exchange> {
    let mut exchanges = Vec::new();
    for number in 0..REQUESTS {
        let exchange = if random.u8(..4) == 0 {
            let (push, id) = push(number, random.u8(..4) > 0);
            conversation.ask(push, Some(id))
        } else {
            let command = COMMANDS[random.usize(..COMMANDS.len())];
            let words: Vec<&str> = command.split(' ').collect();
            let is_inline = command.len() < 3 || random.u8(..6) == 0;
            conversation.ask(
                match is_inline {
                    true => format!("{command}\r\n").into_bytes(),
                    false => request(&words),
                },
                None,
            )
        };
        exchanges.push(exchange);
    }
    // Heard, unless it is the one that is skipped.
    for _ in 0..2 {
        exchanges.push(conversation.ask(request(&["RESET"]), None));
    }
    let (last, id) = push(REQUESTS, true);
    exchanges.push(conversation.ask(last, Some(id)));
    exchanges
}

/// What became of each task.
fn answers(sightings: &[Sighting]) -> BTreeMap<String, Answer> {
    let mut hops = BTreeMap::new();
    let mut answers = BTreeMap::new();
    for sighting in sightings {
        match sighting {
            Sighting::Published(publication) => {
                hops.insert(publication.hop.number, publication.task.id().to_owned());
            }
            Sighting::Answered { hop, answer, .. } => {
                answers.insert(hops[&hop.number].clone(), answer.clone());
            }
            _ => {}
        }
    }
    answers
}

/// Holds what a session says against what Redis has said. Whether it understood to the end.
fn is_understood(exchanges: &[Exchange], turns: &[Turn]) -> bool {
    let rig = Rig::new(Protocol::Redis);
    let outcome = play(&mut *rig.session(), turns);
    let lost = outcome
        .sightings
        .iter()
        .find_map(|sighting| match sighting {
            Sighting::LostSight { why, .. } => Some(*why),
            _ => None,
        });
    if let Some(why) = lost {
        assert!(KNOWN_ENDS.contains(&why), "lost sight: {why}");
        return false;
    }
    let answers = answers(&outcome.sightings);
    for exchange in exchanges {
        let Some(id) = &exchange.task else { continue };
        let is_right = match (&exchange.replies[..], &answers[id]) {
            ([], answer) => *answer == Answer::Unread,
            ([b':', ..], answer) => *answer == Answer::Confirmed,
            ([b'-', error @ ..], Answer::Refused(words)) => error.starts_with(words.as_bytes()),
            // What EXEC said of it, and of nothing else.
            ([b'+', ..], Answer::Confirmed) => id.ends_with("true"),
            ([b'+', ..], Answer::Refused(words)) => {
                words.starts_with("EXECABORT") || id.ends_with("false")
            }
            ([b'+', ..], answer) => *answer == Answer::Discarded,
            _ => false,
        };
        let replies = exchange.replies.escape_ascii();
        assert!(is_right, "{id} got {replies}: {:?}", answers[id]);
    }
    let mut session = rig.session();
    let mut out = Outbox::default();
    for Turn(side, bytes) in turns {
        session.receive(*side, bytes, NOW, &mut out);
    }
    assert!(session.part(NOW, &mut out), "nothing is owed");
    true
}

#[tokio::test]
async fn replies_of_a_real_redis_are_paired_with_what_they_answer() {
    let redis = Redis::start().await;
    let mut witness = connect(redis.address);
    call(&mut witness, "SET text x");
    for command in [
        "ACL SETUSER limited on >x ~* +@all resetchannels &a*",
        "RPUSH l 0 1 2 3 4 5 6 7 8 9",
    ] {
        call(&mut witness, command);
    }
    let seed = std::env::var("REQUESTS_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let mut understood = 0;
    for number in 0..CONVERSATIONS {
        let mut random = Rng::with_seed(seed * CONVERSATIONS + number);
        call(&mut witness, "RPUSH l 0 1 2 3 4 5 6 7 8 9");
        let stream = connect(redis.address);
        stream.set_nonblocking(true).unwrap();
        let mut conversation = Conversation {
            stream,
            witness: &mut witness,
        };
        let exchanges = converse(&mut conversation, &mut random);
        let one_by_one: Vec<Turn> = exchanges
            .iter()
            .flat_map(|exchange| {
                [
                    Turn(Side::Client, exchange.request.clone()),
                    Turn(Side::Broker, exchange.replies.clone()),
                ]
            })
            .collect();
        // The first request tells that it is Redis that is spoken.
        let pipelined =
            [Side::Client, Side::Broker].map(|side| Turn(side, laws::said(&one_by_one, side)));
        let shown: Vec<String> = one_by_one.iter().map(|turn| format!("{turn:?}")).collect();
        let check = || {
            let is_understood_one_by_one = is_understood(&exchanges, &one_by_one);
            let is_understood_pipelined = is_understood(&exchanges, &pipelined);
            assert_eq!(is_understood_one_by_one, is_understood_pipelined);
            is_understood_one_by_one
        };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
        understood += u64::from(
            result.unwrap_or_else(|_| panic!("conversation {number}:\n{}", shown.join("\n"))),
        );
    }
    assert!(
        understood > CONVERSATIONS / 4,
        "{understood} conversations were understood to their end"
    );
}
