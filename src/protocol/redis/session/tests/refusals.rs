//! What Redis refuses or does not answer, and what is understood behind it. Each conversation
//! was held with a Redis 7.0.

use super::*;

const ARITY: &str = "-ERR wrong number of arguments\r\n";
const RESTRICTED: &str = "-ERR Can't execute 'x': only (P|S)SUBSCRIBE / … are allowed\r\n";

/// Plays the conversation, a request and what comes back at a time, in both orders: each reply
/// when its request is sent, and all of them after all requests. Behind it the reply to a
/// publication is still told from others.
fn is_understood(conversation: &[(&[&str], &str)]) {
    for is_pipelined in [false, true] {
        let mut spoken = Spoken::new();
        let mut replies = String::new();
        for (words, reply) in conversation {
            let request = match words {
                [nothing] if nothing.ends_with('\n') => (*nothing).to_owned(),
                words => command(words),
            };
            assert_eq!(spoken.client(&request), request);
            replies.push_str(reply);
            if !is_pipelined {
                let reply = mem::take(&mut replies);
                assert_eq!(spoken.broker(&reply), reply);
            }
        }
        spoken.client(&command(&["LPUSH", "celery", &task()]));
        replies.push_str(":1\r\n");
        assert_eq!(spoken.broker(&replies), replies);
        assert_eq!(
            spoken.seen(),
            ["added 0 to celery", "0 confirmed"],
            "{conversation:?}, pipelined: {is_pipelined}"
        );
    }
}

const OFF: (&[&str], &str) = (&["CLIENT", "REPLY", "OFF"], "");
const ON: (&[&str], &str) = (&["CLIENT", "REPLY", "ON"], "+OK\r\n");
const SKIP: (&[&str], &str) = (&["CLIENT", "REPLY", "SKIP"], "");
const UNHEARD: (&[&str], &str) = (&["PING"], "");
const HEARD: (&[&str], &str) = (&["PING"], "+PONG\r\n");

#[test]
fn an_empty_request_is_the_one_that_client_reply_skip_skips() {
    for nothing in ["*0\r\n", "*-1\r\n", "\r\n", "\n", "  \r\n"] {
        is_understood(&[SKIP, (&[nothing], ""), HEARD]);
        is_understood(&[HEARD, SKIP, (&[nothing], ""), (&[nothing], ""), HEARD]);
        is_understood(&[SKIP, UNHEARD, (&[nothing], ""), HEARD]);
    }
}

#[test]
fn a_subscription_that_fails_unheard_is_not_waited_for() {
    let refused: [(&[&str], &str); 3] = [
        (&["SUBSCRIBE"], ""),
        (&["SUBSCRIBE", "secret"], ""),
        (&["PSUBSCRIBE", "a", "b"], ""),
    ];
    for subscribe in refused {
        is_understood(&[SKIP, subscribe, HEARD]);
        is_understood(&[SKIP, subscribe]);
        is_understood(&[OFF, subscribe, UNHEARD, ON]);
        is_understood(&[OFF, subscribe, subscribe, UNHEARD, ON, HEARD]);
    }
    let confirmed = "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
    let ended = "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n";
    let subscribed = (&["SUBSCRIBE", "a"][..], confirmed);
    let left = (&["UNSUBSCRIBE"][..], ended);
    is_understood(&[SKIP, subscribed, left, HEARD]);
    // In RESP2 a client that is subscribed cannot ask for replies.
    let refused_on = (ON.0, "");
    is_understood(&[OFF, subscribed, refused_on, UNHEARD, left, UNHEARD, ON]);
}

#[test]
fn a_delivery_behind_a_subscription_that_failed_unheard_is_seen() {
    for (pop, wrapped) in [
        (&["RPOP", "celery"][..], task_as("")),
        (&["BRPOP", "celery", "1"], task_as("*2\r\n$6\r\ncelery\r\n")),
        (&["BRPOP", "a queue with a long name", "1"], {
            task_as("*2\r\n$24\r\na queue with a long name\r\n")
        }),
    ] {
        let mut spoken = Spoken::new();
        spoken.client(&command(SKIP.0));
        spoken.client(&command(&["SUBSCRIBE", "secret"]));
        spoken.client(&command(pop));
        spoken.broker(&wrapped);
        assert_eq!(spoken.seen(), [format!("delivered {}", pop[1])]);
    }
}

fn task_as(head: &str) -> String {
    let task = envelope(&format!(r#"{{"task": "add", "id": "{ID}"}}"#), "");
    let task = task.replace(r#""exchange": """#, r#""exchange": "x""#);
    format!("{head}${}\r\n{task}\r\n", task.len())
}

#[test]
fn client_reply_with_another_number_of_words_changes_nothing() {
    for words in [
        &["CLIENT", "REPLY"][..],
        &["CLIENT", "REPLY", "OFF", "x"],
        &["CLIENT", "REPLY", "SKIP", "x"],
        &["CLIENT", "REPLY", "ON", "x"],
        &["CLIENT", "REPLY", "MAYBE"],
    ] {
        is_understood(&[(words, ARITY), HEARD]);
        is_understood(&[OFF, (words, ""), UNHEARD, ON, HEARD]);
        is_understood(&[SKIP, (words, ""), HEARD]);
    }
}

#[test]
fn client_reply_is_refused_to_a_client_that_is_subscribed_in_resp2() {
    let confirmed = "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
    let ended = "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n";
    for refused in [OFF.0, SKIP.0, ON.0, &["SYNC"], &["MONITOR"], &["MULTI"]] {
        is_understood(&[
            (&["SUBSCRIBE", "a"], confirmed),
            (refused, RESTRICTED),
            (&["PING"], "*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
            (&["UNSUBSCRIBE"], ended),
            HEARD,
        ]);
    }
}

#[test]
fn a_transaction_that_was_refused_is_none() {
    let confirmed = "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
    let ended = "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n";
    for (refused, why) in [
        (&["MULTI", "x"][..], ARITY),
        (&["MULTI"], "-NOAUTH Authentication required.\r\n"),
    ] {
        is_understood(&[(refused, why), HEARD]);
        is_understood(&[
            (refused, why),
            (&["SUBSCRIBE", "a"], confirmed),
            (&["UNSUBSCRIBE", "a"], ended),
        ]);
        is_understood(&[(refused, why), (&["HELLO", "3"], "%0\r\n")]);
        is_understood(&[(refused, why), OFF, UNHEARD, ON]);
        let mut spoken = Spoken::new();
        spoken.client(&command(refused));
        spoken.broker(why);
        assert!(spoken.session.part(Timestamp::default(), &mut spoken.out));
    }
}

#[test]
fn what_ends_a_transaction_ends_it_only_where_it_is_not_refused() {
    let queued = "+QUEUED\r\n";
    for refused in [&["DISCARD", "x"][..], &["RESET", "x"], &["UNWATCH", "x"]] {
        is_understood(&[
            (&["MULTI"], "+OK\r\n"),
            (refused, ARITY),
            (&["PING"], queued),
            (&["EXEC"], "-EXECABORT Transaction discarded\r\n"),
            HEARD,
        ]);
    }
    is_understood(&[
        (&["MULTI"], "+OK\r\n"),
        (&["PING"], queued),
        (&["EXEC", "x"], "-EXECABORT Transaction discarded\r\n"),
        (&["SUBSCRIBE"], ARITY),
        OFF,
        (&["RESET"], "+RESET\r\n"),
    ]);
}

#[test]
fn reset_is_known_though_it_is_not_heard() {
    let confirmed = ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
    is_understood(&[
        (&["HELLO", "3"], "%0\r\n"),
        (&["SUBSCRIBE", "a"], confirmed),
        SKIP,
        (&["RESET"], ""),
        (
            &["LRANGE", "l", "0", "1"],
            "*2\r\n$7\r\nmessage\r\n$1\r\nb\r\n",
        ),
    ]);
    is_understood(&[OFF, (&["RESET", "x"], ""), UNHEARD, ON]);
}

#[test]
fn what_takes_a_connection_over_takes_none_over_where_it_is_refused() {
    for refused in [&["MONITOR", "x"][..], &["SYNC", "x"], &["PSYNC", "?"]] {
        is_understood(&[(refused, ARITY), HEARD]);
        is_understood(&[OFF, (refused, ""), ON]);
    }
    is_understood(&[
        (&["MULTI"], "+OK\r\n"),
        (
            &["SYNC"],
            "-ERR Command not allowed inside a transaction\r\n",
        ),
        (&["EXEC"], "-EXECABORT Transaction discarded\r\n"),
    ]);
}
