//! One connection between an app and Redis.

use std::mem;
use std::sync::Arc;

use crate::hop::Answer;
use crate::hop::Connection;
use crate::hop::HopId;
use crate::hop::Publication;
use crate::hop::Sighting;
use crate::protocol::Outbox;
use crate::protocol::Session;
use crate::protocol::Setup;
use crate::protocol::Side;
use crate::protocol::hold::Reservation;
use crate::protocol::pieces::Pieces;
use crate::protocol::redis::command;
use crate::protocol::redis::command::Commands;
use crate::protocol::redis::command::Request;
use crate::protocol::redis::envelope::Envelope;
use crate::protocol::redis::frame::Unreadable;
use crate::protocol::redis::pairing::Hops;
use crate::protocol::redis::pairing::Pairing;
use crate::protocol::redis::reply::Replies;
use crate::trace::Timestamp;

/// Reads the requests and the replies of one connection.
///
/// Context is written into the task messages among the values of LPUSH, RPUSH and PUBLISH;
/// replies tell what became of them.
#[derive(Debug)]
pub struct RedisSession {
    to_broker: Pieces,
    commands: Commands,
    to_client: Pieces,
    replies: Replies,
    pairing: Pairing,
    setup: Setup,
    /// What is held at the moment.
    reservation: Option<Reservation>,
    /// When the current request began.
    began: Timestamp,
    /// The messages of the current request.
    hops: Hops,
    next_hop: u64,
}

impl RedisSession {
    /// A session for a new connection.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self {
            to_broker: Pieces::default(),
            commands: Commands::default(),
            to_client: Pieces::default(),
            replies: Replies::default(),
            pairing: Pairing::new(setup.limits.pending_max),
            setup,
            reservation: None,
            began: Timestamp::default(),
            hops: Hops::default(),
            next_hop: 0,
        }
    }

    /// Says that requests are no longer read. Without them there is nothing to pair.
    fn lose_requests(&mut self, why: Unreadable, now: Timestamp, out: &mut Outbox) {
        self.reservation = None;
        self.end_unfinished(&Answer::Unanswered);
        self.lose_replies(why, now, out);
    }

    /// Ends the messages of a request that is not whole. It may still become whole, with
    /// others in it.
    fn end_unfinished(&mut self, answer: &Answer) {
        let following = Hops {
            first: self.next_hop,
            count: 0,
        };
        let unfinished = mem::replace(&mut self.hops, following);
        self.pairing.end_hops(unfinished, answer);
    }

    /// Says that replies are no longer paired.
    fn lose_replies(&mut self, why: Unreadable, now: Timestamp, out: &mut Outbox) {
        self.to_client.turn_blind(&mut out.to_client);
        self.pairing.lose(&Answer::Unanswered);
        self.tell_answers(now, &mut out.sightings);
        out.sightings.push(Sighting::LostSight {
            connection: Arc::clone(&self.setup.connection),
            why,
        });
    }

    fn tell_answers(&mut self, now: Timestamp, sightings: &mut Vec<Sighting>) {
        tell_answers(&mut self.pairing, &self.setup.connection, now, sightings);
    }
}

fn tell_answers(
    pairing: &mut Pairing,
    connection: &Connection,
    now: Timestamp,
    sightings: &mut Vec<Sighting>,
) {
    let session = connection.session;
    for (hops, answer) in pairing.take_answers() {
        for number in hops.first..hops.first + u64::from(hops.count) {
            sightings.push(Sighting::Answered {
                hop: HopId { session, number },
                at: now,
                answer: answer.clone(),
            });
        }
    }
}

impl Session for RedisSession {
    fn receive(&mut self, from: Side, bytes: &[u8], now: Timestamp, out: &mut Outbox) {
        match from {
            Side::Client => {
                let mut requests = Requests {
                    pairing: &mut self.pairing,
                    setup: &mut self.setup,
                    reservation: &mut self.reservation,
                    began: &mut self.began,
                    hops: &mut self.hops,
                    next_hop: &mut self.next_hop,
                    sightings: &mut out.sightings,
                    now,
                    unpaired: false,
                };
                let read = self
                    .to_broker
                    .receive(bytes, &mut out.to_broker, |input, patch| {
                        self.commands.step(input, patch, &mut requests)
                    });
                if requests.unpaired {
                    self.to_client.turn_blind(&mut out.to_client);
                }
                if let Err(why) = read {
                    self.lose_requests(why, now, out);
                }
            }
            Side::Broker => {
                let read = self
                    .to_client
                    .receive(bytes, &mut out.to_client, |input, patch| {
                        self.replies.step(input, patch, &mut self.pairing)
                    });
                if let Err(why) = read {
                    self.lose_replies(why, now, out);
                }
            }
        }
        self.tell_answers(now, &mut out.sightings);
    }

    fn finish(&mut self, from: Side, now: Timestamp, out: &mut Outbox) {
        match from {
            Side::Client => {
                self.to_broker.finish(&mut out.to_broker);
                self.reservation = None;
                self.end_unfinished(&Answer::Lost);
            }
            Side::Broker => {
                self.to_client.finish(&mut out.to_client);
                self.end_unfinished(&Answer::Lost);
                self.pairing.lose(&Answer::Lost);
            }
        }
        self.tell_answers(now, &mut out.sightings);
    }

    /// Nothing owed, nothing half sent, no transaction open. What is not understood has no
    /// such moment.
    fn part(&mut self, _now: Timestamp, _out: &mut Outbox) -> bool {
        !self.to_broker.is_blind()
            && !self.to_client.is_blind()
            && self.to_broker.is_empty()
            && self.to_client.is_empty()
            && self.commands.is_at_start()
            && self.replies.is_at_start()
            && self.pairing.is_settled()
    }
}

/// The session, as the reader of its requests sees it.
struct Requests<'a> {
    pairing: &'a mut Pairing,
    setup: &'a mut Setup,
    reservation: &'a mut Option<Reservation>,
    began: &'a mut Timestamp,
    hops: &'a mut Hops,
    next_hop: &'a mut u64,
    sightings: &'a mut Vec<Sighting>,
    now: Timestamp,
    /// Whether replies can no longer be paired.
    unpaired: bool,
}

impl Requests<'_> {
    fn leave_alone(&mut self, why: &'static str) {
        self.sightings.push(Sighting::LeftAlone {
            connection: Arc::clone(&self.setup.connection),
            why,
        });
    }
}

impl command::Listener for Requests<'_> {
    fn begin(&mut self) {
        *self.began = self.now;
        *self.hops = Hops {
            first: *self.next_hop,
            count: 0,
        };
    }

    fn may_read(&mut self, length: usize, held: usize) -> bool {
        if length > self.setup.limits.hold_bytes_max {
            self.leave_alone("over_hold_limit");
            return false;
        }
        let reserved = match self.reservation {
            _ if held == 0 => true,
            Some(reservation) => reservation.grow(held),
            None => {
                *self.reservation = self.setup.budget.reserve(held);
                self.reservation.is_some()
            }
        };
        if !reserved {
            *self.reservation = None;
            self.leave_alone("over_total_hold_limit");
        }
        reserved
    }

    fn value(&mut self, key: &str, value: &[u8], patch: &mut Vec<u8>) -> bool {
        *self.reservation = None;
        let Some(envelope) = Envelope::read(value, self.setup.limits.hold_bytes_max) else {
            return false;
        };
        let destination = envelope.queue(key);
        let connection = Arc::clone(&self.setup.connection);
        if envelope.redelivered {
            self.sightings.push(Sighting::Redelivered {
                connection,
                destination: destination.into(),
            });
            return false;
        }
        let decision = self.setup.injector.publish(
            &envelope.task,
            &envelope.headers,
            destination,
            self.now,
            &mut self.setup.ids,
        );
        if let Some(stamp) = &decision.stamp {
            envelope.write_stamped(value, stamp, patch);
        }
        let hop = HopId {
            session: connection.session,
            number: *self.next_hop,
        };
        *self.next_hop += 1;
        self.hops.count += 1;
        self.sightings
            .push(Sighting::Published(Box::new(Publication {
                hop,
                connection,
                system: "redis",
                at: *self.began,
                destination: destination.into(),
                task: envelope.task.into_owned(),
                client_name: None,
                size: value.len(),
                judgement: decision.judgement,
            })));
        decision.stamp.is_some()
    }

    fn end(&mut self, request: Request) {
        let hops = mem::take(self.hops);
        let paired = self.pairing.requested(request, hops);
        // Told at once: what is seen, and in which order, does not depend on how much came
        // together with it.
        let connection = &self.setup.connection;
        tell_answers(self.pairing, connection, self.now, self.sightings);
        if let Err(why) = paired {
            // Requests are still understood; only the way back is not.
            self.unpaired = true;
            self.sightings.push(Sighting::LostSight {
                connection: Arc::clone(connection),
                why,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::config::Policy;
    use crate::hop::Injector;
    use crate::hop::fixture::told;
    use crate::protocol::HoldBudget;
    use crate::trace::IdSource;
    use crate::trace::Sampler;

    const ID: &str = "50fbde83-f755-40e9-a1de-76192c8eca74";

    /// A connection and everything that came of it.
    struct Spoken {
        session: RedisSession,
        out: Outbox,
    }

    impl Spoken {
        fn new() -> Self {
            let limits = Limits {
                hold_bytes_max: 4096,
                ..Limits::default()
            };
            Self {
                session: RedisSession::new(Setup {
                    connection: Arc::new(Connection {
                        session: 7,
                        route: "redis".into(),
                        server_address: "broker".into(),
                        server_port: 6379,
                        client_address: "127.0.0.1:1".into(),
                    }),
                    injector: Arc::new(Injector::new(
                        Policy::default(),
                        Sampler::default(),
                        &limits,
                    )),
                    limits,
                    budget: HoldBudget::new(1 << 20),
                    ids: IdSource::seeded(1),
                }),
                out: Outbox::default(),
            }
        }

        fn client(&mut self, text: &str) -> String {
            self.session.receive(
                Side::Client,
                text.as_bytes(),
                Timestamp::default(),
                &mut self.out,
            );
            String::from_utf8(self.out.to_broker.split().to_vec()).unwrap()
        }

        fn broker(&mut self, text: &str) -> String {
            self.session.receive(
                Side::Broker,
                text.as_bytes(),
                Timestamp::default(),
                &mut self.out,
            );
            String::from_utf8(self.out.to_client.split().to_vec()).unwrap()
        }

        /// What was seen, a word each.
        fn seen(&mut self) -> Vec<String> {
            let sightings = self.out.sightings.drain(..);
            sightings.map(|sighting| told(&sighting)).collect()
        }
    }

    fn command(words: &[&str]) -> String {
        let words: String = words
            .iter()
            .map(|word| format!("${}\r\n{word}\r\n", word.len()))
            .collect();
        format!("*{}\r\n{words}", words.matches('$').count())
    }

    fn envelope(headers: &str, delivery_info: &str) -> String {
        format!(
            r#"{{"body": "W10=", "content-encoding": "utf-8", "content-type": "application/json", "headers": {headers}, "properties": {{"delivery_info": {{"exchange": "", "routing_key": "celery"{delivery_info}}}, "body_encoding": "base64"}}}}"#
        )
    }

    fn task() -> String {
        envelope(
            &format!(r#"{{"task": "add", "id": "{ID}", "root_id": "{ID}", "retries": 0}}"#),
            "",
        )
    }

    #[test]
    fn a_published_task_gets_a_context_and_nothing_else_changes() {
        let mut spoken = Spoken::new();
        let sent = command(&["LPUSH", "celery", &task()]);
        let arrived = spoken.client(&sent);
        let added = format!(
            r#""traceparent": "00-{}-7833af78daa79777-03", "tracestate": "tracehop=7833af78daa79777-0", "#,
            ID.replace('-', "")
        );
        let expected = task().replace(r#"{"task""#, &format!(r#"{{{added}"task""#));
        assert_eq!(arrived, command(&["LPUSH", "celery", &expected]));
        assert_eq!(spoken.broker(":1\r\n"), ":1\r\n");
        assert_eq!(spoken.seen(), ["added 0 to celery", "0 confirmed"]);
    }

    #[test]
    fn each_value_of_a_push_is_a_message_of_its_own() {
        let mut spoken = Spoken::new();
        spoken.client(&command(&[
            "RPUSH",
            "celery\u{6}\u{16}3",
            &task(),
            "{}",
            &task(),
        ]));
        spoken.broker("-OOM command not allowed\r\n");
        assert_eq!(
            spoken.seen(),
            [
                "added 0 to celery",
                "added 1 to celery",
                "0 refused: OOM command not allowed",
                "1 refused: OOM command not allowed",
            ]
        );
    }

    #[test]
    fn a_refusal_does_not_repeat_what_was_sent() {
        let mut spoken = Spoken::new();
        spoken.client(&command(&["LPUSH", "celery", &task()]));
        spoken
            .broker("-ERR unknown command 'LPUSH', with args beginning with: 'celery' '{\"bo\r\n");
        assert_eq!(
            spoken.seen(),
            [
                "added 0 to celery",
                "0 refused: ERR unknown command 'LPUSH'"
            ]
        );
    }

    #[test]
    fn a_length_alone_costs_nothing_of_the_budget() {
        let mut spoken = Spoken::new();
        spoken.session.setup.limits.hold_bytes_max = 1 << 20;
        let large = format!("{}{}", task(), " ".repeat(500_000));
        let sent = command(&["LPUSH", "celery", &large]);
        spoken.client(&sent[..100]);
        let held = spoken.session.setup.budget.held();
        assert!((60..50_000).contains(&held), "{held}");
        spoken.client(&sent[100..400_000]);
        let held = spoken.session.setup.budget.held();
        assert!((399_000..=1 << 20).contains(&held), "{held}");
        spoken.client(&sent[400_000..]);
        assert_eq!(spoken.session.setup.budget.held(), 0);
        assert_eq!(spoken.seen(), ["added 0 to celery"]);
    }

    #[test]
    fn a_message_beyond_the_budget_passes_unedited() {
        let mut spoken = Spoken::new();
        spoken.session.setup.budget = HoldBudget::new(20_000);
        spoken.session.setup.limits.hold_bytes_max = 1 << 20;
        let large = format!("{}{}", task(), " ".repeat(100_000));
        let sent = command(&["LPUSH", "celery", &large]);
        let (first, rest) = sent.split_at(50_000);
        let arrived = spoken.client(first) + &spoken.client(rest);
        assert_eq!(arrived, sent);
        assert_eq!(spoken.seen(), ["left alone: over_total_hold_limit"]);
        assert_eq!(spoken.session.setup.budget.held(), 0);
    }

    #[test]
    fn a_transaction_answers_for_its_messages_one_by_one() {
        let mut spoken = Spoken::new();
        spoken.client(&command(&["MULTI"]));
        spoken.client(&command(&["LPUSH", "celery", &task()]));
        spoken.client(&command(&["PEXPIRE", "celery", "1000"]));
        spoken.client(&command(&["LPUSH", "celery", &task()]));
        spoken.client(&command(&["EXEC"]));
        assert!(
            !spoken
                .session
                .part(Timestamp::default(), &mut Outbox::default())
        );
        spoken.broker("+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n");
        spoken.broker("*3\r\n:1\r\n:1\r\n-WRONGTYPE no list\r\n");
        assert_eq!(
            spoken.seen(),
            [
                "added 0 to celery",
                "added 1 to celery",
                "0 confirmed",
                "1 refused: WRONGTYPE no list",
            ]
        );
        assert!(
            spoken
                .session
                .part(Timestamp::default(), &mut Outbox::default())
        );
    }

    #[test]
    fn an_aborted_transaction_discards_its_messages() {
        for (exec, ending) in [
            ("*-1\r\n", "0 discarded"),
            ("_\r\n", "0 discarded"),
            ("-EXECABORT no\r\n", "0 refused: EXECABORT no"),
        ] {
            let mut spoken = Spoken::new();
            spoken.client(&command(&["MULTI"]));
            spoken.client(&command(&["LPUSH", "celery", &task()]));
            spoken.client(&command(&["EXEC"]));
            spoken.broker(&format!("+OK\r\n+QUEUED\r\n{exec}"));
            assert_eq!(spoken.seen(), ["added 0 to celery", ending]);
        }
    }

    #[test]
    fn a_restored_message_is_no_publication() {
        let mut spoken = Spoken::new();
        let restored = command(&[
            "RPUSH",
            "celery",
            &envelope(
                &format!(r#"{{"task": "add", "id": "{ID}", "redelivered": true}}"#),
                r#", "redelivered": true"#,
            ),
        ]);
        assert_eq!(spoken.client(&restored), restored);
        assert_eq!(spoken.seen(), ["redelivered celery"]);
    }

    #[test]
    fn headers_are_made_where_there_are_none() {
        let body = "eyJ0YXNrIjogImFkZCIsICJpZCI6ICJ4IiwgImFyZ3MiOiBbXSwgImt3YXJncyI6IHt9fQ==";
        for (headers, expected) in [
            (r#", "headers": {}"#, r#", "headers": {ADDED}"#),
            (r#", "headers": null"#, r#", "headers": {ADDED}"#),
        ] {
            let text = |headers: &str| {
                format!(
                    r#"{{"body": "{body}", "content-type": "application/json"{headers}, "properties": {{"body_encoding": "base64"}}}}"#
                )
            };
            let mut spoken = Spoken::new();
            let arrived = spoken.client(&command(&["LPUSH", "celery", &text(headers)]));
            let seen = spoken.seen();
            assert_eq!(seen, ["added 0 to celery"]);
            let start = arrived.find("\"traceparent\"").unwrap();
            let end = arrived[start..].find('}').unwrap() + start;
            let added = &arrived[start..end];
            assert_eq!(
                arrived,
                command(&["LPUSH", "celery", &text(&expected.replace("ADDED", added))])
            );
        }
    }

    #[test]
    fn messages_and_confirmations_are_told_from_replies() {
        let mut spoken = Spoken::new();
        spoken.client(&command(&["SUBSCRIBE", "a", "b"]));
        spoken.client(&command(&["PING"]));
        spoken.broker("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
        spoken.broker("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n");
        spoken.broker("*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n");
        spoken.client(&command(&["UNSUBSCRIBE"]));
        spoken.client(&command(&["HELLO", "3"]));
        spoken.client(&command(&["PUBLISH", "t", &task()]));
        spoken.broker("*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n");
        spoken.broker("*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n");
        spoken.broker("%1\r\n+proto\r\n:3\r\n>2\r\n+invalidate\r\n_\r\n|1\r\n+ttl\r\n:3\r\n:0\r\n");
        assert_eq!(spoken.seen(), ["added 0 to t", "0 confirmed"]);
        assert!(
            spoken
                .session
                .part(Timestamp::default(), &mut Outbox::default())
        );
    }

    #[test]
    fn switched_off_replies_are_not_waited_for() {
        let mut spoken = Spoken::new();
        spoken.client(&command(&["CLIENT", "REPLY", "SKIP"]));
        spoken.client(&command(&["LPUSH", "celery", &task()]));
        spoken.client(&command(&["CLIENT", "REPLY", "off"]));
        spoken.client(&command(&["GET", "x"]));
        spoken.client(&command(&["CLIENT", "REPLY", "ON"]));
        spoken.broker("+OK\r\n");
        assert_eq!(spoken.seen(), ["added 0 to celery", "0 unanswered"]);
        assert!(
            spoken
                .session
                .part(Timestamp::default(), &mut Outbox::default())
        );
    }

    #[test]
    fn clients_are_not_led_around_the_proxy() {
        let mut spoken = Spoken::new();
        for endpoint in ["$14\r\n10.0.0.7:12345\r\n", "+10.0.0.7:12345\r\n", "_\r\n"] {
            let head = ">4\r\n$6\r\nMOVING\r\n:15\r\n:30\r\n";
            assert_eq!(
                spoken.broker(&format!("{head}{endpoint}")),
                format!("{head}_\r\n")
            );
        }
        assert_eq!(spoken.seen(), Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_paired_is_still_injected() {
        let mut spoken = Spoken::new();
        spoken.client(&command(&["MONITOR"]));
        spoken.broker("+OK\r\n+1339518083.107412 [0 127.0.0.1:60866] \"keys\" \"*\"\r\n");
        spoken.client(&command(&["LPUSH", "celery", &task()]));
        assert_eq!(
            spoken.seen(),
            ["lost sight: monitor", "added 0 to celery", "0 unanswered"]
        );
    }

    #[test]
    fn a_message_over_the_limit_passes_in_parts() {
        let mut spoken = Spoken::new();
        let large = command(&["LPUSH", "celery", &format!("{{{}", "x".repeat(5000))]);
        assert_eq!(spoken.client(&large[..1000]), large[..1000]);
        assert_eq!(spoken.client(&large[1000..]), large[1000..]);
        assert_eq!(spoken.seen(), ["left alone: over_hold_limit"]);
    }

    #[test]
    fn a_lost_connection_ends_what_was_not_answered() {
        let mut spoken = Spoken::new();
        spoken.client(&command(&["LPUSH", "celery", &task()]));
        spoken
            .session
            .finish(Side::Broker, Timestamp::default(), &mut spoken.out);
        assert_eq!(spoken.seen(), ["added 0 to celery", "0 lost"]);
    }

    #[test]
    fn each_hop_ends_once_though_the_broker_ends_in_between() {
        let mut spoken = Spoken::new();
        let sent = command(&["RPUSH", "celery", &task(), &task()]);
        let (first, rest) = sent.split_at(sent.len() / 2 + 20);
        spoken.client(first);
        spoken
            .session
            .finish(Side::Broker, Timestamp::default(), &mut spoken.out);
        spoken.client(rest);
        assert_eq!(
            spoken.seen(),
            [
                "added 0 to celery",
                "0 lost",
                "added 1 to celery",
                "1 unanswered"
            ]
        );
    }

    #[test]
    fn of_two_properties_the_last_counts() {
        let mut spoken = Spoken::new();
        let restored = r#""properties": {"delivery_info": {"redelivered": true}}, "properties""#;
        spoken.client(&command(&[
            "LPUSH",
            "celery",
            &task().replace(r#""properties""#, restored),
        ]));
        let none = task().replace("}}", "}}, \"properties\": null");
        spoken.client(&command(&["LPUSH", "celery", &none]));
        assert_eq!(spoken.seen(), ["added 0 to celery"]);
    }

    #[test]
    fn headers_that_no_worker_can_read_are_not_mended() {
        let body = "eyJ0YXNrIjogImFkZCIsICJpZCI6ICJ4IiwgImFyZ3MiOiBbXSwgImt3YXJncyI6IHt9fQ==";
        for headers in [r#""abc""#, r#"[["k", "v"]]"#, "5"] {
            let mut spoken = Spoken::new();
            let sent = command(&[
                "LPUSH",
                "celery",
                &format!(
                    r#"{{"body": "{body}", "content-type": "application/json", "headers": {headers}, "properties": {{"body_encoding": "base64"}}}}"#
                ),
            ]);
            assert_eq!(spoken.client(&sent), sent);
            assert_eq!(spoken.seen(), Vec::<String>::new());
        }
    }

    #[test]
    fn nonsense_passes_and_is_told() {
        for (nonsense, why) in [
            ("*1\r\n$9223372036854775807\r\n", "length_out_of_range"),
            ("*1\r\n:1\r\n", "argument_is_no_bulk_string"),
            ("*1\r\n$1\r\nxyz\r\n", "no_line_end"),
            ("SET \"x\r\n", "unbalanced_quotes"),
        ] {
            let mut spoken = Spoken::new();
            assert_eq!(spoken.client(nonsense), nonsense);
            assert_eq!(spoken.client("more"), "more");
            assert_eq!(spoken.seen(), [format!("lost sight: {why}")]);
        }
    }
}
