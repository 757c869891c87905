//! Whatever a peer makes a session keep is paid for out of the budget of all sessions; where
//! there is none left, bytes flow on.

use super::*;

/// As many sessions as there are share it.
const BUDGET: usize = 64 << 10;

fn spoken() -> Spoken {
    let limits = Limits {
        pending_max: 1 << 16,
        ..Limits::default()
    };
    let mut spoken = Spoken::tuned(limits, 1 << 17);
    spoken.session.setup.budget = HoldBudget::new(BUDGET);
    spoken
}

/// Has the session keep more and more: `more` says what it hears next. What is kept is paid for
/// until the budget is spent; then it is given back, told, and everything still passes.
fn is_paid_for(before: &[Vec<u8>], side: Side, more: &dyn Fn(u16) -> Vec<u8>) {
    let mut spoken = spoken();
    for bytes in before {
        spoken.client(bytes);
    }
    let hears = |spoken: &mut Spoken, bytes: &[u8]| match side {
        Side::Client => spoken.client(bytes),
        Side::Broker => spoken.broker(bytes),
    };
    let mut held_max = 0;
    for number in 0.. {
        hears(&mut spoken, &more(number));
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
        assert!(number < 10_000, "kept and not paid for");
    }
    assert!(held_max > BUDGET / 2, "{held_max}");
    assert_eq!(spoken.session.setup.budget.held(), 0);
    let again = more(1);
    assert_eq!(hears(&mut spoken, &again), again);
    for side in [Side::Client, Side::Broker] {
        spoken.finish(side);
    }
    assert_eq!(spoken.session.setup.budget.held(), 0);
}

#[test]
fn what_channels_keep_is_paid_for() {
    is_paid_for(&[], Side::Client, &|number| get(number % 2000, "q", 0));
}

#[test]
fn what_waits_for_its_confirm_is_paid_for() {
    is_paid_for(&[confirm_select(1)], Side::Client, &|_| event(1));
}

#[test]
fn what_a_transaction_keeps_is_paid_for() {
    let select = method(1, 90, 10, &[]);
    is_paid_for(std::slice::from_ref(&select), Side::Client, &|_| event(1));
    let commit = method(1, 90, 20, &[]);
    is_paid_for(&[select], Side::Client, &|_| commit.clone());
}

#[test]
fn what_consumers_keep_is_paid_for() {
    is_paid_for(&[], Side::Client, &|number| {
        consume(1, &format!("{number:0200}"), 0)
    });
    let nowait = 8;
    is_paid_for(&[], Side::Client, &|number| {
        consume(1, &format!("{number:0200}"), nowait)
    });
}

#[test]
fn what_is_known_of_exchanges_is_paid_for() {
    is_paid_for(&[], Side::Client, &|number| {
        let name = short(&format!("{number:0200}"));
        let arguments = [&[0, 0], &*name, &short("fanout"), &[0], &long(&[])].concat();
        method(1, 40, 10, &arguments)
    });
}

#[test]
fn what_deliveries_keep_that_are_not_settled_is_paid_for() {
    let fields = task_fields();
    is_paid_for(&[consume(1, "c", 0)], Side::Broker, &|number| {
        let tag = u64::from(number) + 1;
        [
            deliver_as(1, "c", tag, false, ["", "q"]),
            header(1, 1, &fields),
            body(1, b"x"),
        ]
        .concat()
    });
}
