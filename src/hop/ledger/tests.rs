use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::celery::TaskState;
use crate::hop::Answer;
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
        ..Limits::default()
    };
    let spans = Spans {
        process: follows_runs,
        ..Spans::default()
    };
    Ledger::new(&limits, spans)
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
    assert_eq!(book(&mut following, [unacknowledged()]).len(), 0);
    let ended = book(&mut following, [told("a", 6, TaskState::Failed)]);
    let finish = taken(&ended[0]).finished.unwrap();
    assert_eq!(finish.state, Some(TaskState::Failed));
}

#[test]
fn a_followed_delivery_ends_when_it_is_settled_and_its_run_is_over_in_either_order() {
    let acknowledged = || settled(1, 7, Settlement::Acknowledged);
    let succeeded = || told("a", 8, TaskState::Succeeded);
    for end in [[acknowledged(), succeeded()], [succeeded(), acknowledged()]] {
        let mut ledger = ledger(10, 1_000, true);
        let begin = [delivered("a", 1, 5), told("a", 6, TaskState::Started)];
        assert_eq!(book(&mut ledger, begin).len(), 0);
        let ended = book(&mut ledger, end);
        assert_eq!((ledger.taken_count(), ended.len()), (0, 1));
        let taken = taken(&ended[0]);
        assert_eq!(taken.started, Some(nanos(6)));
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
        assert_eq!(taken(&ended[0]).prefetched(), expected);
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
    let seen: Vec<_> = ended
        .iter()
        .map(|leg| (taken(leg).delivery.at, taken(leg).settled.unwrap().0))
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

#[test]
fn where_nobody_tells_of_the_end_the_acknowledgement_has_to_do() {
    let acknowledged = |number| {
        [
            delivered("a", number, 5),
            settled(number, 6, Settlement::Acknowledged),
        ]
    };
    let by_acknowledgement = Finish {
        at: nanos(6),
        state: None,
        evidence: Evidence::Acknowledgement,
    };
    // It is learnt from the first one, which is waited for in vain, and unlearnt.
    let mut following = ledger(10, 1_000, true);
    let mut ended = book(&mut following, acknowledged(1));
    assert_eq!(ended.len(), 0);
    following.expire(nanos(2_000), &mut ended);
    assert!(taken(&ended[0]).is_expired);
    assert_eq!(taken(&ended[0]).finished, Some(by_acknowledgement));
    // One at a time is waited for all the same: perhaps it was its worker that died.
    assert_eq!(book(&mut following, acknowledged(2)).len(), 0);
    let ended = book(&mut following, acknowledged(3));
    assert_eq!(taken(&ended[0]).finished, Some(by_acknowledgement));
    assert!(!taken(&ended[0]).is_expired);
    let ended = book(&mut following, [told("a", 7, TaskState::Succeeded)]);
    let state = taken(&ended[0]).finished.unwrap().state;
    assert_eq!(state, Some(TaskState::Succeeded));
    assert_eq!(book(&mut following, acknowledged(4)).len(), 0);
    assert_eq!(book(&mut following, acknowledged(5)).len(), 0);

    // Nor is it silence that of a broadcast no second result comes.
    let broadcast = |number| {
        let mut delivery = delivery("c", Some(Receipt::numbered(1, number)), 5);
        delivery.passage.broadcast = true;
        [
            Sighting::Delivered(delivery.into()),
            settled(number, 6, Settlement::Acknowledged),
        ]
    };
    let mut following = ledger(10, 1_000, true);
    let mut ended = book(&mut following, broadcast(1));
    following.expire(nanos(2_000), &mut ended);
    assert!(taken(&ended[0]).is_expired);
    assert_eq!(book(&mut following, acknowledged(2)).len(), 0);
    assert_eq!(book(&mut following, acknowledged(3)).len(), 0);

    // A task that writes no result tells only by events.
    let without_result = || {
        let mut delivery = delivery("b", Some(Receipt::numbered(1, 1)), 5);
        delivery.task.ignores_result = true;
        [
            Sighting::Delivered(delivery.into()),
            settled(1, 6, Settlement::Acknowledged),
        ]
    };
    let mut following = ledger(10, 1_000, true);
    assert_eq!(book(&mut following, without_result()).len(), 1);
    let event = Sighting::Told {
        task: TaskKey::of("c"),
        at: nanos(7),
        state: TaskState::Started,
        evidence: Evidence::Event,
    };
    book(&mut following, [event]);
    assert_eq!(book(&mut following, without_result()).len(), 0);
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
    let finishes = ended.iter().map(|leg| taken(leg).finished.unwrap());
    finishes
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
            (nanos(8), Some(TaskState::Retried), Evidence::Result),
            (nanos(7), Some(TaskState::Succeeded), Evidence::Result),
        ]
    );
}

#[test]
fn late_events_of_an_attempt_are_not_taken_for_those_of_the_next_one() {
    let event = |at, state| Sighting::Told {
        task: TaskKey::of("a"),
        at: nanos(at),
        state,
        evidence: Evidence::Event,
    };
    let mut following = ledger(10, 1_000, true);
    let ended = book(
        &mut following,
        [
            delivered_again("a", (1, 0), 8),
            event(6, TaskState::Started),
            event(9, TaskState::Retried),
            settled(2, 10, Settlement::Acknowledged),
            event(11, TaskState::Started),
            event(12, TaskState::Succeeded),
        ],
    );
    assert_eq!(taken(&ended[0]).started, Some(nanos(11)));
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

/// Something that is seen, at random.
#[derive(Clone, Debug)]
enum Chance {
    Published(u64),
    Answered(u64),
    Delivered { task: u8, receipt: Option<u64> },
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
    let chance = prop_oneof![
        (0_u64..40).prop_map(Chance::Published),
        (0_u64..40).prop_map(Chance::Answered),
        (0_u8..10, prop::option::weighted(0.9, 0_u64..12))
            .prop_map(|(task, receipt)| Chance::Delivered { task, receipt }),
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
    ) {
        let mut ledger = ledger(8, 100, follows_runs);
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
                Chance::Delivered { task, receipt } => {
                    deliveries += 1;
                    let receipt = receipt.map(|number| Receipt::numbered(1, number));
                    Sighting::Delivered(delivery(&task.to_string(), receipt, now).into())
                }
                Chance::Settled(receipt, how) => settled(receipt, now, how),
                Chance::Told(task, state, evidence) => Sighting::Told {
                    task: TaskKey::of(&task.to_string()),
                    at: nanos(now),
                    state,
                    evidence,
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
        let mut taken = 0_usize;
        for leg in &ended {
            match leg {
                Leg::Sent(sent) => *ends.entry(sent.publication.hop.number).or_default() += 1,
                Leg::Taken(_) => taken += 1,
            }
        }
        prop_assert!(ends.values().all(|count| *count == 1));
        prop_assert_eq!(ends.len(), published.len());
        prop_assert_eq!(taken, deliveries);
    }
}
