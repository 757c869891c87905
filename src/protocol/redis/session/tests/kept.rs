//! Whatever a peer makes a session keep is paid for out of the budget of all sessions; where
//! there is none left, bytes flow on.

use super::*;

/// As many sessions as there are share it.
const BUDGET: usize = 64 << 10;

/// Has the session keep more and more: `more` says what it hears next. What is kept is paid for
/// until the budget is spent; then it is given back, told, and everything still passes.
fn is_paid_for(before: &[(Side, String)], more: &[(Side, &dyn Fn(usize) -> String)]) {
    let mut spoken = Spoken::new();
    spoken.session.setup.budget = HoldBudget::new(BUDGET);
    for (side, text) in before {
        spoken.hears(*side, text);
    }
    let mut held_max = 0;
    for number in 0.. {
        for (side, text) in more {
            spoken.hears(*side, &text(number));
        }
        let held = spoken.session.setup.budget.held();
        assert!(held <= BUDGET);
        held_max = held_max.max(held);
        let seen = spoken.seen();
        if seen
            .iter()
            .any(|seen| seen == "lost sight: over_total_hold_limit")
        {
            break;
        }
        assert!(number < 20_000, "kept and not paid for");
    }
    assert!(held_max > BUDGET / 2, "{held_max}");
    assert_eq!(spoken.session.setup.budget.held(), 0);
    for (side, text) in more {
        spoken.hears(*side, &text(0));
    }
    let now = Timestamp::default();
    for side in [Side::Client, Side::Broker] {
        spoken.session.finish(side, now, &mut spoken.out);
    }
    assert_eq!(spoken.session.setup.budget.held(), 0);
}

impl Spoken {
    /// And passes it on, all of it or what is not held.
    fn hears(&mut self, side: Side, text: &str) {
        let left = match side {
            Side::Client => self.client(text),
            Side::Broker => self.broker(text),
        };
        let is_held = self.session.to_broker.held_bytes() + self.session.to_client.held_bytes();
        assert!(left.len() + is_held >= text.len());
    }
}

fn blocked() -> (Side, String) {
    (Side::Client, command(&["BLPOP", "nope", "5"]))
}

#[test]
fn what_pending_pops_keep_is_paid_for() {
    let pop = |number| command(&["RPOP", &format!("{number:01000}")]);
    is_paid_for(&[blocked()], &[(Side::Client, &pop)]);
}

#[test]
fn what_pending_requests_of_any_kind_keep_is_paid_for() {
    for request in [
        &["EXEC"][..],
        &["LMPOP", "1", "l", "LEFT"],
        &["SUBSCRIBE", "a"],
        &["LPUSH", "celery", &task()],
        &["WATCH", "k"],
        &["HELLO"],
        &["CLUSTER", "SLOTS"],
        &["CLIENT", "REPLY", "ON"],
    ] {
        is_paid_for(&[blocked()], &[(Side::Client, &|_| command(request))]);
    }
}

#[test]
fn what_a_transaction_keeps_is_paid_for() {
    let before = [
        (Side::Client, command(&["MULTI"])),
        (Side::Broker, "+OK\r\n".to_owned()),
    ];
    let push = |_| command(&["LPUSH", "l", "x"]);
    let queued = |_| "+QUEUED\r\n".to_owned();
    is_paid_for(&before, &[(Side::Client, &push), (Side::Broker, &queued)]);
}

#[test]
fn what_settlements_keep_is_paid_for() {
    let before = [(Side::Client, command(&["MULTI"]))];
    let remove = |_| command(&["HDEL", "unacked", ID]);
    is_paid_for(&before, &[(Side::Client, &remove)]);
}

#[test]
fn the_beginning_of_a_line_is_paid_for() {
    for (side, head) in [(Side::Client, "PING "), (Side::Broker, "+")] {
        let mut spoken = Spoken::new();
        spoken.session.setup.budget = HoldBudget::new(BUDGET);
        spoken.hears(side, head);
        spoken.hears(side, &"x".repeat(40 << 10));
        assert!(spoken.session.setup.budget.held() >= 24 << 10);
        spoken.session.setup.budget = HoldBudget::new(0);
        spoken.session.account.close();
        spoken.hears(side, "x");
        assert!(spoken.session.to_broker.is_empty() && spoken.session.to_client.is_empty());
        assert!(
            spoken
                .seen()
                .contains(&"lost sight: over_total_hold_limit".to_owned())
        );
    }
}

#[test]
fn requests_are_read_on_when_there_is_no_room_for_replies() {
    let mut spoken = Spoken::new();
    spoken.session.setup.budget = HoldBudget::new(0);
    spoken.hears(Side::Client, &blocked().1);
    spoken.hears(
        Side::Client,
        &command(&["RPOP", &"x".repeat(1000)]).repeat(20),
    );
    assert_eq!(spoken.seen(), ["lost sight: over_total_hold_limit"]);
    spoken.client(&command(&["LPUSH", "celery", &task()]));
    assert_eq!(spoken.seen(), ["added 0 to celery", "0 unread"]);
}
