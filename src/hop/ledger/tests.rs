use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::celery::TaskState;
use crate::hop::Announcement;
use crate::hop::Answer;
use crate::hop::Ends;
use crate::hop::Evidence;
use crate::hop::Finish;
use crate::hop::HopId;
use crate::hop::Receipt;
use crate::hop::Settlement;
use crate::hop::TaskKey;
use crate::hop::fixture::delivery;
use crate::hop::fixture::publication;

fn nanos(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

/// A ledger for up to `max` legs of each kind, open for up to `age` nanoseconds.
fn ledger(max: usize, age: u64, follows_runs: bool) -> Ledger {
    let limits = Limits {
        open_hops_max: max,
        open_hop_age_max: Duration::from_nanos(age),
        delivery_age_max: Duration::from_nanos(age),
        outcome_wait_max: Duration::MAX,
        ..Limits::default()
    };
    Ledger::new(&limits, follows_runs)
}

/// One that waits up to 10 nanoseconds for outcomes, and follows runs.
fn impatient() -> Ledger {
    let limits = Limits {
        delivery_age_max: Duration::from_nanos(1_000),
        outcome_wait_max: Duration::from_nanos(10),
        ..Limits::default()
    };
    Ledger::new(&limits, true)
}

fn answered(number: u64) -> Sighting {
    Sighting::Answered {
        hop: HopId { session: 1, number },
        at: nanos(9),
        answer: Answer::Confirmed,
    }
}

fn delivered(id: &str, receipt: u64, at: u64) -> Sighting {
    Sighting::Delivered(delivery(id, Some(Receipt::numbered(1, receipt)), at).into())
}

fn settled(receipt: u64, at: u64, settlement: Settlement) -> Sighting {
    Sighting::Settled {
        receipt: Receipt::numbered(1, receipt),
        at: nanos(at),
        settlement,
    }
}

fn told(id: &str, at: u64, state: TaskState) -> Sighting {
    Sighting::Told {
        task: TaskKey::of(id),
        at: nanos(at),
        state,
        evidence: Evidence::Result,
        runtime: None,
    }
}

fn event(id: &str, at: u64, state: TaskState) -> Sighting {
    Sighting::Told {
        task: TaskKey::of(id),
        at: nanos(at),
        state,
        evidence: Evidence::Event,
        runtime: None,
    }
}

/// The event of a success after a run of so many nanoseconds.
fn succeeded_after(id: &str, runtime: u64, at: u64) -> Sighting {
    Sighting::Told {
        task: TaskKey::of(id),
        at: nanos(at),
        state: TaskState::Succeeded,
        evidence: Evidence::Event,
        runtime: Some(Duration::from_nanos(runtime)),
    }
}

fn book(ledger: &mut Ledger, sightings: impl IntoIterator<Item = Sighting>) -> Vec<Leg> {
    let mut ended = Vec::new();
    for sighting in sightings {
        ledger.book(sighting, &mut ended);
    }
    ended
}

#[track_caller]
fn sent(leg: &Leg) -> &Sent {
    match leg {
        Leg::Sent(sent) => sent,
        Leg::Taken(_) => panic!("a delivery"),
    }
}

#[track_caller]
fn taken(leg: &Leg) -> &Taken {
    match leg {
        Leg::Taken(taken) => taken,
        Leg::Sent(_) => panic!("a publication"),
    }
}

#[test]
fn a_publication_ends_with_its_answer() {
    let mut ledger = ledger(10, 1_000, false);
    let ended = book(&mut ledger, [Sighting::Published(publication(1, 5).into())]);
    assert_eq!((ledger.sent_count(), ended.len()), (1, 0));
    let ended = book(&mut ledger, [answered(1), answered(1)]);
    assert_eq!((ledger.sent_count(), ended.len()), (0, 1));
    assert_eq!(sent(&ended[0]).answer, Answer::Confirmed);
    assert_eq!(sent(&ended[0]).ended, nanos(9));
}

#[test]
fn a_publication_without_an_answer_ends_when_its_time_is_over() {
    let mut ledger = ledger(10, 3, false);
    let published = [publication(1, 5), publication(2, 6)].map(|it| Sighting::Published(it.into()));
    let mut ended = book(&mut ledger, published);
    ledger.expire(nanos(8), &mut ended);
    assert_eq!(ended.len(), 0);
    ledger.expire(nanos(9), &mut ended);
    assert_eq!(ended.len(), 1);
    assert_eq!(sent(&ended[0]).publication.hop.number, 1);
    assert_eq!(sent(&ended[0]).answer, Answer::Expired);
}

#[test]
fn a_publication_that_may_be_returned_is_not_over_when_it_is_written() {
    const SECOND: u64 = 1_000_000_000;
    let mut ledger = ledger(10, 100 * SECOND, false);
    let answer = |number, at, answer| Sighting::Answered {
        hop: HopId { session: 1, number },
        at: nanos(at),
        answer,
    };
    for number in 1..=3 {
        let mut publication = publication(number, 5);
        publication.mandatory = number < 3;
        book(&mut ledger, [Sighting::Published(publication.into())]);
    }
    let written = [1, 2, 3].map(|number| answer(number, 6, Answer::Unanswered));
    let told = |ended: &[Leg]| {
        let told = ended.iter().map(|leg| {
            let (number, at) = (sent(leg).publication.hop.number, sent(leg).ended);
            (number, at, sent(leg).answer.word())
        });
        told.collect::<Vec<_>>()
    };
    let ended = book(&mut ledger, written);
    assert_eq!(told(&ended), [(3, nanos(6), "unanswered")]);
    let refused = Answer::Refused("312 NO_ROUTE".into());
    let ended = book(&mut ledger, [answer(2, SECOND, refused)]);
    assert_eq!(told(&ended), [(2, nanos(SECOND), "refused")]);
    let mut ended = Vec::new();
    ledger.expire(nanos(2 * SECOND), &mut ended);
    assert_eq!(told(&ended), []);
    ledger.expire(nanos(60 * SECOND), &mut ended);
    assert_eq!(told(&ended), [(1, nanos(6), "unanswered")]);
    assert_eq!(ledger.sent_count(), 0);
}

#[test]
fn a_delivery_ends_with_its_settlement_where_runs_are_not_followed() {
    for settlement in [
        Settlement::Acknowledged,
        Settlement::Rejected,
        Settlement::Requeued,
        Settlement::Abandoned,
    ] {
        let mut ledger = ledger(10, 1_000, false);
        let ended = book(
            &mut ledger,
            [delivered("a", 1, 5), told("a", 6, TaskState::Succeeded)],
        );
        assert_eq!((ledger.taken_count(), ended.len()), (1, 0));
        let ended = book(
            &mut ledger,
            [settled(1, 8, settlement), settled(1, 9, settlement)],
        );
        assert_eq!((ledger.taken_count(), ended.len()), (0, 1));
        assert_eq!(taken(&ended[0]).settled, Some((settlement, nanos(8))));
        assert_eq!(taken(&ended[0]).finished, None);
        assert!(taken(&ended[0]).is_over);
    }
}

#[test]
fn a_delivery_that_nobody_acknowledges_ends_at_once() {
    let unacknowledged = || Sighting::Delivered(delivery("a", None, 5).into());
    let ended = book(&mut ledger(10, 1_000, false), [unacknowledged()]);
    assert_eq!(
        taken(&ended[0]).settled,
        Some((Settlement::Automatic, nanos(5)))
    );
    // Its run has yet to end.
    let mut following = ledger(10, 1_000, true);
    let ended = book(&mut following, [unacknowledged()]);
    assert_eq!(parts(&ended), ["receive"]);
    let ended = book(&mut following, [told("a", 6, TaskState::Failed)]);
    let finish = taken(&ended[0]).finished.unwrap();
    assert_eq!(finish.state, Some(TaskState::Failed));
}

/// Which spans are due of deliveries.
fn parts(ended: &[Leg]) -> Vec<&'static str> {
    let parts = ended.iter().flat_map(|leg| {
        let Ends {
            receive, process, ..
        } = taken(leg).ended;
        [receive.then_some("receive"), process.then_some("process")]
    });
    parts.flatten().collect()
}

#[test]
fn a_delivery_is_told_of_when_it_is_settled_and_its_run_when_that_is_over_in_either_order() {
    let acknowledged = || settled(1, 7, Settlement::Acknowledged);
    let succeeded = || told("a", 8, TaskState::Succeeded);
    for (end, order) in [
        ([acknowledged(), succeeded()], ["receive", "process"]),
        ([succeeded(), acknowledged()], ["process", "receive"]),
    ] {
        let mut ledger = ledger(10, 1_000, true);
        let begin = [delivered("a", 1, 5), told("a", 6, TaskState::Started)];
        assert_eq!(book(&mut ledger, begin).len(), 0);
        let ended = book(&mut ledger, end);
        assert_eq!(parts(&ended), order);
        assert_eq!((ledger.taken_count(), ended.len()), (0, 2));
        assert!(!taken(&ended[0]).is_over && taken(&ended[1]).is_over);
        let taken = taken(&ended[1]);
        assert_eq!(taken.began(), Some((nanos(6), Evidence::Result)));
        assert_eq!(taken.prefetched(), Some(Duration::from_nanos(1)));
        let finish = Finish {
            at: nanos(8),
            state: Some(TaskState::Succeeded),
            evidence: Evidence::Result,
        };
        assert_eq!(taken.finished, Some(finish));
        assert!(!taken.is_expired);
    }
}

#[test]
fn a_delivery_whose_settlement_takes_long_is_told_of_as_pending_and_its_settlement_once_it_comes() {
    let mut ledger = impatient();
    let mut ended = book(&mut ledger, [delivered("a", 1, 5)]);
    ledger.expire(nanos(15), &mut ended);
    assert_eq!(ended, []);
    ledger.expire(nanos(16), &mut ended);
    assert_eq!(parts(&ended), ["receive"]);
    assert!(!taken(&ended[0]).ended.settlement);
    assert_eq!(taken(&ended[0]).settlement(), "pending");
    // With `acks_late`.
    let ended = book(
        &mut ledger,
        [
            told("a", 60, TaskState::Succeeded),
            settled(1, 61, Settlement::Acknowledged),
        ],
    );
    assert_eq!(parts(&ended), ["process"]);
    assert!(!taken(&ended[0]).ended.settlement && taken(&ended[1]).ended.settlement);
    assert_eq!(taken(&ended[1]).settlement(), "acknowledged");
    assert_eq!(ledger.taken_count(), 0);
}

#[test]
fn a_run_begins_by_what_tells_most_of_its_beginning() {
    let deliver = || delivered("a", 1, 5);
    let acknowledged = |at| settled(1, at, Settlement::Acknowledged);
    let started = || event("a", 50, TaskState::Started);
    let result = |state| told("a", 90, state);
    let succeeded = TaskState::Succeeded;
    for (sightings, expected) in [
        // It says how long it took: until 92, when the event was made.
        (
            vec![
                deliver(),
                acknowledged(40),
                started(),
                succeeded_after("a", 30, 92),
            ],
            Some((62, Evidence::Runtime)),
        ),
        // That is waited for, as a result comes before it.
        (
            vec![
                deliver(),
                started(),
                result(succeeded),
                succeeded_after("a", 30, 92),
                acknowledged(95),
            ],
            Some((62, Evidence::Runtime)),
        ),
        (
            vec![
                deliver(),
                started(),
                acknowledged(60),
                event("a", 92, TaskState::Failed),
            ],
            Some((50, Evidence::Event)),
        ),
        (
            vec![
                deliver(),
                result(TaskState::Started),
                acknowledged(95),
                result(succeeded),
            ],
            Some((90, Evidence::Result)),
        ),
        (
            vec![deliver(), acknowledged(40), result(succeeded)],
            Some((40, Evidence::Acknowledgement)),
        ),
        // The acknowledgement came at the end; when it began nobody has told.
        (vec![deliver(), result(succeeded), acknowledged(95)], None),
    ] {
        let ended = book(&mut ledger(10, 1_000, true), sightings);
        let run = ended.iter().map(taken).find(|taken| taken.ended.process);
        let began = expected.map(|(at, evidence)| (nanos(at), evidence));
        let run = run.unwrap();
        assert_eq!(run.began(), began);
        let end = run.finished.unwrap().at;
        assert_eq!(run.ran(), began.map(|(at, _)| end.since(at)));
    }
}

#[test]
fn an_acknowledgement_at_the_end_that_overtakes_the_result_is_no_beginning() {
    const MILLI: u64 = 1_000_000;
    for (is_answered, acknowledged, expected) in [
        (false, 999, None),
        // So long before, it was not meant for the end.
        (false, 900, Some(100)),
        // Nor is it far from the beginning.
        (false, 1, Some(999)),
        // The worker has to hear of the result before it acknowledges.
        (true, 999, Some(1)),
    ] {
        let mut delivery = delivery("a", Some(Receipt::numbered(1, 1)), 0);
        delivery.answers_acknowledgements = is_answered;
        let ended = book(
            &mut ledger(10, 10_000 * MILLI, true),
            [
                Sighting::Delivered(delivery.into()),
                settled(1, acknowledged * MILLI, Settlement::Acknowledged),
                told("a", 1_000 * MILLI, TaskState::Succeeded),
            ],
        );
        let run = taken(&ended[1]);
        assert_eq!(run.ran(), expected.map(Duration::from_millis));
    }
}

#[test]
fn how_long_a_run_took_does_not_depend_on_the_clock_of_its_worker() {
    // It is late by 100 nanoseconds: by it, the task ran before it was delivered.
    let ended = book(
        &mut ledger(10, 1_000, true),
        [
            delivered("a", 1, 200),
            settled(1, 210, Settlement::Acknowledged),
            succeeded_after("a", 30, 140),
        ],
    );
    let run = taken(&ended[1]);
    assert_eq!(run.ran(), Some(Duration::from_nanos(30)));
    assert!(run.began().unwrap().0 >= nanos(200));
}

#[test]
fn an_acknowledgement_ahead_of_the_end_tells_when_the_run_began() {
    for (acknowledged, expected) in [(6, Some(Duration::from_nanos(1))), (9, None)] {
        let ended = book(
            &mut ledger(10, 1_000, true),
            [
                delivered("a", 1, 5),
                settled(1, acknowledged, Settlement::Acknowledged),
                told("a", 8, TaskState::Succeeded),
            ],
        );
        let run = ended.iter().map(taken).find(|taken| taken.ended.process);
        assert_eq!(run.unwrap().prefetched(), expected);
    }
}

#[test]
fn of_several_deliveries_the_oldest_is_meant() {
    let mut ledger = ledger(10, 1_000, true);
    let ended = book(
        &mut ledger,
        [
            delivered("a", 1, 5),
            delivered("a", 1, 6),
            settled(1, 7, Settlement::Requeued),
            settled(1, 8, Settlement::Acknowledged),
            told("a", 9, TaskState::Succeeded),
        ],
    );
    let settled = ended
        .iter()
        .map(taken)
        .filter(|taken| taken.ended.settlement);
    let seen: Vec<_> = settled
        .map(|taken| (taken.delivery.at, taken.settled.unwrap().0))
        .collect();
    assert_eq!(
        seen,
        [
            (nanos(5), Settlement::Requeued),
            (nanos(6), Settlement::Acknowledged)
        ]
    );
}

#[test]
fn what_is_open_at_the_end_has_ended_as_far_as_it_was_seen() {
    let mut ledger = ledger(10, 1_000, true);
    let mut ended = book(
        &mut ledger,
        [
            Sighting::Published(publication(1, 5).into()),
            delivered("a", 1, 5),
            settled(1, 6, Settlement::Acknowledged),
            delivered("b", 2, 7),
        ],
    );
    assert_eq!(parts(&ended), ["receive"]);
    ended.clear();
    ledger.close(nanos(8), &mut ended);
    assert_eq!((ledger.sent_count(), ledger.taken_count()), (0, 0));
    let [publication, run, delivery] = &ended[..] else {
        panic!("three legs were open: {ended:?}");
    };
    assert_eq!(sent(publication).answer, Answer::Expired);
    assert_eq!(sent(publication).ended, nanos(8));
    let by_acknowledgement = (nanos(6), Evidence::Acknowledgement);
    let finish = taken(run).finished.unwrap();
    assert_eq!((finish.at, finish.evidence), by_acknowledgement);
    assert_eq!(taken(delivery).settled, None);
    assert!(taken(run).is_expired && taken(delivery).is_expired);
}

#[test]
fn a_delivery_is_not_given_up_before_it_was_due() {
    let mut ledger = ledger(10, 1_000_000_000, false);
    let mut waiting = delivery("a", Some(Receipt::numbered(1, 1)), 0);
    waiting
        .task
        .edit(|it| it.eta = Some("1970-01-01T00:00:10+00:00".into()));
    let mut ended = book(&mut ledger, [Sighting::Delivered(waiting.into())]);
    ledger.expire(nanos(11_000_000_000), &mut ended);
    assert_eq!(ended.len(), 0);
    ledger.expire(nanos(11_000_000_001), &mut ended);
    assert!(taken(&ended[0]).is_expired);
    assert_eq!(taken(&ended[0]).eta_wait(), Duration::from_secs(10));
}

const BY_ACKNOWLEDGEMENT: Finish = Finish {
    at: Timestamp::from_nanos(6),
    state: None,
    evidence: Evidence::Acknowledgement,
};

fn acknowledged(number: u64) -> [Sighting; 2] {
    [
        delivered("a", number, 5),
        settled(number, 6, Settlement::Acknowledged),
    ]
}

#[test]
fn where_nobody_tells_of_the_end_the_acknowledgement_has_to_do_soon() {
    let mut ledger = impatient();
    for number in 1..4 {
        let mut ended = book(&mut ledger, acknowledged(number));
        assert_eq!(parts(&ended), ["receive"]);
        ledger.expire(nanos(16), &mut ended);
        assert_eq!(ended.len(), 1);
        ledger.expire(nanos(17), &mut ended);
        assert_eq!(parts(&ended), ["receive", "process"]);
        assert_eq!(taken(&ended[1]).finished, Some(BY_ACKNOWLEDGEMENT));
        assert!(!taken(&ended[1]).is_expired);
        assert_eq!(ledger.taken_count(), 0);
    }
    // The first one just took longer than that.
    let late = told("a", 18, TaskState::Succeeded);
    assert_eq!(book(&mut ledger, [late]), []);
    let mut ended = book(&mut ledger, acknowledged(4));
    ledger.expire(nanos(1_000), &mut ended);
    assert_eq!(parts(&ended), ["receive"]);
    let ended = book(&mut ledger, [told("a", 1_001, TaskState::Succeeded)]);
    let finish = taken(&ended[0]).finished.unwrap();
    assert_eq!(finish.state, Some(TaskState::Succeeded));
}

#[test]
fn where_ends_are_told_they_are_waited_for_until_the_age_limit() {
    let mut ledger = impatient();
    book(&mut ledger, acknowledged(1));
    book(&mut ledger, [told("a", 7, TaskState::Succeeded)]);
    // The worker of this one crashed.
    let mut ended = book(&mut ledger, acknowledged(2));
    ledger.expire(nanos(1_005), &mut ended);
    assert_eq!(parts(&ended), ["receive"]);
    ledger.expire(nanos(1_006), &mut ended);
    assert_eq!(parts(&ended), ["receive", "process"]);
    assert_eq!(taken(&ended[1]).finished, Some(BY_ACKNOWLEDGEMENT));
    assert!(taken(&ended[1]).is_expired);
}

#[test]
fn of_a_broadcast_no_more_than_one_result_is_waited_for() {
    let mut ledger = impatient();
    let broadcast = |number| {
        let mut delivery = delivery("a", Some(Receipt::numbered(1, number)), 5);
        delivery.passage.broadcast = true;
        [
            Sighting::Delivered(delivery.into()),
            settled(number, 6, Settlement::Acknowledged),
        ]
    };
    book(&mut ledger, broadcast(1));
    book(&mut ledger, broadcast(2));
    let mut ended = book(&mut ledger, [told("a", 7, TaskState::Succeeded)]);
    ledger.expire(nanos(17), &mut ended);
    assert_eq!(parts(&ended), ["process", "process"]);
    assert_eq!(taken(&ended[1]).finished, Some(BY_ACKNOWLEDGEMENT));
    // Nothing follows from it for others of its name.
    book(&mut ledger, acknowledged(3));
    ledger.expire(nanos(100), &mut ended);
    assert_eq!(ledger.taken_count(), 1);
}

#[test]
fn a_task_that_writes_no_result_tells_only_by_events() {
    let without_result = || {
        let mut delivery = delivery("b", Some(Receipt::numbered(1, 1)), 5);
        delivery.task.ignores_result = true;
        [
            Sighting::Delivered(delivery.into()),
            settled(1, 6, Settlement::Acknowledged),
        ]
    };
    let mut ledger = ledger(10, 1_000, true);
    let ended = book(&mut ledger, without_result());
    assert_eq!(parts(&ended), ["receive", "process"]);
    assert_eq!(ended.len(), 1);
    book(&mut ledger, [event("c", 7, TaskState::Started)]);
    let ended = book(&mut ledger, without_result());
    assert_eq!(parts(&ended), ["receive"]);
}

#[test]
fn of_too_many_those_that_wait_longest_for_what_is_next_are_given_up() {
    let mut ledger = ledger(2, 1_000, false);
    let mut due_late = delivery("a", Some(Receipt::numbered(1, 1)), 5);
    due_late
        .task
        .edit(|it| it.eta = Some("1970-01-01T00:00:10Z".into()));
    let ended = book(
        &mut ledger,
        [
            Sighting::Delivered(due_late.into()),
            delivered("b", 2, 6),
            delivered("c", 3, 7),
        ],
    );
    assert_eq!(ended.len(), 1);
    assert_eq!(taken(&ended[0]).delivery.task.id(), "a");
    assert!(taken(&ended[0]).is_expired);
    assert_eq!(taken(&ended[0]).settlement(), "unknown");
}

/// The delivery of a later attempt, of which the publication was seen.
fn delivered_again(id: &'static str, (retries, replaced): (u32, u32), at: u64) -> Sighting {
    let receipt = Receipt::numbered(1, 1 + u64::from(retries + replaced));
    let mut delivery = delivery(id, Some(receipt), at);
    (delivery.task.retries, delivery.task.replaced) = (retries, replaced);
    delivery.is_seen_sent = true;
    Sighting::Delivered(delivery.into())
}

fn published_again(id: &'static str, (retries, replaced): (u32, u32), at: u64) -> Sighting {
    let mut publication = publication(u64::from(retries + replaced), at);
    publication.task.edit(|it| it.id = id.into());
    (publication.task.retries, publication.task.replaced) = (retries, replaced);
    Sighting::Published(publication.into())
}

fn finishes(ended: &[Leg]) -> Vec<(Timestamp, Option<TaskState>, Evidence)> {
    let runs = ended.iter().map(taken).filter(|taken| taken.ended.process);
    runs.map(|taken| taken.finished.unwrap())
        .map(|finish| (finish.at, finish.state, finish.evidence))
        .collect()
}

#[test]
fn a_run_has_ended_when_the_next_attempt_is_sent() {
    for next in [(1, 0), (0, 1)] {
        for slow in [false, true] {
            let mut following = ledger(10, 1_000, true);
            let mut sightings = vec![
                delivered("a", 1, 5),
                settled(1, 6, Settlement::Acknowledged),
                published_again("a", next, 7),
                delivered_again("a", next, 8),
                settled(2, 10, Settlement::Acknowledged),
                told("a", 11, TaskState::Succeeded),
            ];
            if slow {
                // What the result says of it comes when that attempt is over already.
                sightings.insert(4, told("a", 9, TaskState::Retried));
            }
            let ended = book(&mut following, sightings);
            assert_eq!(
                finishes(&ended),
                [
                    (nanos(7), Some(TaskState::Retried), Evidence::Publication),
                    (nanos(11), Some(TaskState::Succeeded), Evidence::Result),
                ]
            );
        }
    }
}

#[test]
fn where_it_was_sent_unseen_results_tell_of_the_oldest_retry_and_of_the_last_end() {
    let mut following = ledger(10, 1_000, true);
    let mut again = delivery("a", Some(Receipt::numbered(1, 2)), 6);
    again.task.retries = 1;
    let begin = [delivered("a", 1, 5), Sighting::Delivered(again.into())];
    assert_eq!(book(&mut following, begin).len(), 0);
    let ended = book(
        &mut following,
        [
            told("a", 7, TaskState::Succeeded),
            told("a", 8, TaskState::Retried),
            settled(1, 9, Settlement::Acknowledged),
            settled(2, 9, Settlement::Acknowledged),
        ],
    );
    assert_eq!(
        finishes(&ended),
        [
            (nanos(7), Some(TaskState::Succeeded), Evidence::Result),
            (nanos(8), Some(TaskState::Retried), Evidence::Result),
        ]
    );
}

#[test]
fn late_events_of_an_attempt_are_not_taken_for_those_of_the_next_one() {
    let mut following = ledger(10, 1_000, true);
    let ended = book(
        &mut following,
        [
            delivered_again("a", (1, 0), 8),
            event("a", 6, TaskState::Started),
            event("a", 9, TaskState::Retried),
            settled(2, 10, Settlement::Acknowledged),
            event("a", 11, TaskState::Started),
            event("a", 12, TaskState::Succeeded),
        ],
    );
    assert_eq!(taken(&ended[1]).began(), Some((nanos(11), Evidence::Event)));
    assert_eq!(
        finishes(&ended),
        [(nanos(12), Some(TaskState::Succeeded), Evidence::Event)]
    );
}

#[test]
fn waiting_and_delay_are_told_apart() {
    let leg = |sent: Option<u64>, eta: Option<&'static str>, delayed| {
        let mut delivery = delivery("a", None, 8_000_000_000);
        delivery.sent = sent.map(|seconds| nanos(seconds * 1_000_000_000));
        delivery.task.edit(|it| it.eta = eta.map(Into::into));
        delivery.passage.delayed = delayed;
        book(
            &mut ledger(1, 1, false),
            [Sighting::Delivered(delivery.into())],
        )
        .remove(0)
    };
    let due = Some("1970-01-01T00:00:06Z");
    for (sent, eta, delayed, dwell, delay) in [
        (None, None, false, None, 0),
        (Some(1), None, false, Some(7), 0),
        // It lay in the queue all the time, its eta notwithstanding.
        (Some(1), due, false, Some(7), 0),
        (Some(1), due, true, Some(2), 5),
        (None, due, true, None, 0),
        // The sender's clock is ahead.
        (Some(9), None, false, None, 0),
    ] {
        let leg = leg(sent, eta, delayed);
        let seconds = Duration::from_secs;
        assert_eq!(
            taken(&leg).delivery.dwell(),
            dwell.map(seconds),
            "{sent:?} {eta:?}"
        );
        assert_eq!(
            taken(&leg).delivery.delay(),
            seconds(delay),
            "{sent:?} {eta:?}"
        );
        let ahead = (sent == Some(9)).then_some(seconds(1));
        assert_eq!(taken(&leg).delivery.sent_ahead(), ahead);
    }
}

/// A message that was popped from a list, on this session.
fn popped(session: u64, receipt: u64, announcement: Announcement) -> Sighting {
    let mut delivery = delivery("a", Some(Receipt::numbered(1, receipt)), 5);
    let connection = Arc::make_mut(&mut delivery.connection);
    connection.session = session;
    delivery.announcement = announcement;
    Sighting::Delivered(delivery.into())
}

fn announced(receipt: u64) -> Sighting {
    Sighting::Announced {
        receipt: Receipt::numbered(1, receipt),
    }
}

fn due(receipt: u64) -> Sighting {
    Sighting::AnnouncementDue {
        receipt: Receipt::numbered(1, receipt),
        at: nanos(8),
    }
}

#[test]
fn what_nobody_announces_to_acknowledge_is_settled_by_taking() {
    let mut ledger = ledger(10, 1_000, false);
    let ended = book(&mut ledger, [popped(1, 1, Announcement::Possible), due(1)]);
    let taken = taken(&ended[0]);
    assert_eq!(taken.settled, Some((Settlement::Automatic, nanos(5))));
    assert!(taken.is_over && taken.ended.receive);
    assert_eq!(ledger.taken_count(), 0);
}

#[test]
fn of_a_client_that_announces_elsewhere_the_settlement_is_unknown() {
    for sightings in [
        // It looks like kombu.
        vec![popped(1, 1, Announcement::Expected), due(1)],
        // It has announced another one here.
        vec![
            popped(1, 2, Announcement::Possible),
            announced(2),
            popped(1, 1, Announcement::Possible),
            due(1),
        ],
    ] {
        let mut ledger = ledger(10, 1_000, false);
        let ended = book(&mut ledger, sightings);
        let taken = taken(&ended[0]);
        assert_eq!(taken.settlement(), "unknown");
        assert!(taken.is_over && taken.ended.settlement);
        assert_eq!(taken.settled_at(), None);
    }
    // Of one client nothing follows for another.
    let mut ledger = ledger(10, 1_000, false);
    let ended = book(
        &mut ledger,
        [
            popped(1, 1, Announcement::Possible),
            announced(1),
            popped(2, 2, Announcement::Possible),
            due(2),
        ],
    );
    assert_eq!(taken(&ended[0]).settlement(), "automatic");
}

#[test]
fn what_is_announced_waits_for_its_settlement() {
    for announcement in [Announcement::Expected, Announcement::Possible] {
        let mut ledger = impatient();
        let begin = [popped(1, 1, announcement), announced(1), due(1), due(1)];
        let mut ended = book(&mut ledger, begin);
        assert_eq!(ended, []);
        ledger.expire(nanos(16), &mut ended);
        assert_eq!(taken(&ended[0]).settlement(), "pending");
        let ended = book(&mut ledger, [settled(1, 20, Settlement::Acknowledged)]);
        assert_eq!(taken(&ended[0]).settlement(), "acknowledged");
    }
}

#[test]
fn an_announcement_has_time_until_a_delivery_is_told_of() {
    // The messages of subscriptions come without a request that might follow.
    for (announcement, settlement) in [
        (Announcement::Expected, "unknown"),
        (Announcement::Possible, "automatic"),
    ] {
        let mut ledger = impatient();
        let mut ended = book(&mut ledger, [popped(1, 1, announcement)]);
        ledger.expire(nanos(16), &mut ended);
        assert_eq!(taken(&ended[0]).settlement(), settlement);
        assert!(taken(&ended[0]).ended.settlement);
    }
}

#[test]
fn of_several_with_one_receipt_each_is_announced() {
    let mut ledger = ledger(10, 1_000, false);
    let ended = book(
        &mut ledger,
        [
            popped(1, 1, Announcement::Possible),
            popped(2, 1, Announcement::Possible),
            announced(1),
            announced(1),
            due(1),
            settled(1, 9, Settlement::Acknowledged),
            settled(1, 9, Settlement::Acknowledged),
        ],
    );
    let settlements: Vec<_> = ended.iter().map(|leg| taken(leg).settlement()).collect();
    assert_eq!(settlements, ["acknowledged", "acknowledged"]);
}

/// Something that is seen, at random.
#[derive(Clone, Debug)]
enum Chance {
    Published(u64),
    Answered(u64),
    Delivered {
        task: u8,
        receipt: Option<u64>,
        by: Announcement,
    },
    Announced(u64),
    AnnouncementDue(u64),
    Settled(u64, Settlement),
    Told(u8, TaskState, Evidence),
    TimePasses(u64),
}

fn chances() -> impl Strategy<Value = Vec<Chance>> {
    let settlement = prop::sample::select(vec![
        Settlement::Acknowledged,
        Settlement::Rejected,
        Settlement::Requeued,
        Settlement::Abandoned,
    ]);
    let state = prop::sample::select(vec![
        TaskState::Started,
        TaskState::Succeeded,
        TaskState::Retried,
    ]);
    let evidence = prop::sample::select(vec![Evidence::Result, Evidence::Event]);
    let announcement = prop::sample::select(vec![
        Announcement::Implied,
        Announcement::Expected,
        Announcement::Possible,
    ]);
    let chance = prop_oneof![
        (0_u64..40).prop_map(Chance::Published),
        (0_u64..40).prop_map(Chance::Answered),
        (
            0_u8..10,
            prop::option::weighted(0.9, 0_u64..12),
            announcement
        )
            .prop_map(|(task, receipt, by)| Chance::Delivered { task, receipt, by }),
        (0_u64..12).prop_map(Chance::Announced),
        (0_u64..12).prop_map(Chance::AnnouncementDue),
        (0_u64..12, settlement).prop_map(|(receipt, how)| Chance::Settled(receipt, how)),
        (0_u8..10, state, evidence).prop_map(|(task, state, by)| Chance::Told(task, state, by)),
        (0_u64..30).prop_map(Chance::TimePasses),
    ];
    prop::collection::vec(chance, 0..300)
}

proptest! {
    #[test]
    fn every_leg_ends_once_and_what_is_kept_is_bounded(
        chances in chances(),
        follows_runs in any::<bool>(),
        wait in prop::sample::select(vec![0_u64, 10, 200]),
    ) {
        let limits = Limits {
            open_hops_max: 8,
            open_hop_age_max: Duration::from_nanos(100),
            delivery_age_max: Duration::from_nanos(100),
            outcome_wait_max: Duration::from_nanos(wait),
            ..Limits::default()
        };
        let mut ledger = Ledger::new(&limits, follows_runs);
        let mut ended = Vec::new();
        let mut now = 1;
        let mut published = HashSet::new();
        let mut deliveries = 0_usize;
        for chance in chances {
            let sighting = match chance {
                Chance::Published(number) if published.insert(number) => {
                    Sighting::Published(publication(number, now).into())
                }
                Chance::Published(_) => continue,
                Chance::Answered(number) => answered(number),
                Chance::Delivered { task, receipt, by } => {
                    deliveries += 1;
                    let receipt = receipt.map(|number| Receipt::numbered(1, number));
                    let mut delivery = delivery(&task.to_string(), receipt, now);
                    delivery.announcement = by;
                    Sighting::Delivered(delivery.into())
                }
                Chance::Announced(receipt) => announced(receipt),
                Chance::AnnouncementDue(receipt) => due(receipt),
                Chance::Settled(receipt, how) => settled(receipt, now, how),
                Chance::Told(task, state, evidence) => Sighting::Told {
                    task: TaskKey::of(&task.to_string()),
                    at: nanos(now),
                    state,
                    evidence,
                    runtime: (evidence == Evidence::Event).then_some(Duration::from_nanos(20)),
                },
                Chance::TimePasses(nanos_passed) => {
                    now += nanos_passed;
                    ledger.expire(nanos(now), &mut ended);
                    continue;
                }
            };
            ledger.book(sighting, &mut ended);
            prop_assert!(ledger.sent_count() <= 8);
            prop_assert!(ledger.taken_count() <= 8);
            prop_assert!(ledger.is_consistent());
        }
        ledger.expire(nanos(u64::MAX), &mut ended);
        prop_assert_eq!(ledger.sent_count() + ledger.taken_count(), 0);
        prop_assert!(ledger.is_consistent());

        let mut ends: HashMap<u64, usize> = HashMap::new();
        let mut parts = [0_usize; 4];
        for leg in &ended {
            match leg {
                Leg::Sent(sent) => *ends.entry(sent.publication.hop.number).or_default() += 1,
                Leg::Taken(taken) => {
                    let Ends { receive, settlement, process } = taken.ended;
                    let over = [taken.is_over, receive, settlement, process];
                    for (count, is_over) in parts.iter_mut().zip(over) {
                        *count += usize::from(is_over);
                    }
                }
            }
        }
        prop_assert!(ends.values().all(|count| *count == 1));
        prop_assert_eq!(ends.len(), published.len());
        let runs = if follows_runs { deliveries } else { 0 };
        prop_assert_eq!(parts, [deliveries, deliveries, deliveries, runs]);
    }
}
