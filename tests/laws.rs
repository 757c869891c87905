//! The four laws of every session, held against generated traffic.
//!
//! The cases are the same in every run. `PROPTEST_RNG_SEED` and `PROPTEST_CASES` choose others.

#[path = "support/edits.rs"]
mod edits;
#[path = "support/envelope.rs"]
mod envelope;
#[path = "support/generate/mod.rs"]
mod generate;
#[path = "support/laws.rs"]
mod laws;
#[path = "support/resp.rs"]
mod resp;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use redis_protocol::resp2::decode::decode as resp2_decode;
use redis_protocol::resp3::decode::complete::decode as resp3_decode;

use tracehop::config::OnValid;
use tracehop::config::Policy;
use tracehop::config::Protocol;
use tracehop::hop::Sighting;
use tracehop::protocol::HoldBudget;
use tracehop::protocol::Outbox;
use tracehop::protocol::Side;

use envelope::Envelope;
use envelope::Facts;
use generate::exchange;
use generate::exchange_that_ends_blind;
use generate::hostile;
use generate::hurtful;
use generate::resp2;
use generate::resp3;
use laws::NOW;
use laws::Rig;
use laws::Turn;
use resp::Resp;
use resp::request;

/// The same cases each time, unless somebody asks for others.
fn cases(cases: u32) -> ProptestConfig {
    let mut config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(0x7472_6163_6568_6f70);
    }
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    config
}

const PROTOCOLS: [Protocol; 2] = [Protocol::Redis, Protocol::Auto];

fn protocol() -> impl Strategy<Value = Protocol> {
    prop::sample::select(PROTOCOLS.as_slice())
}

fn restamping() -> Policy {
    Policy {
        on_valid: OnValid::Restamp,
        ..Policy::default()
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn turned_off_at_any_moment_it_changes_no_byte(
        protocol in protocol(),
        exchange in exchange(Policy::default()),
        from: usize,
        seed: u64,
    ) {
        let turns = laws::Cutting::Random(seed).of(&exchange.turns);
        laws::unread_from(Rig::new(protocol), &turns, from);
    }

    #[test]
    fn before_a_stop_pops_wait_and_so_does_what_comes_behind_them(
        protocol in protocol(),
        exchange in exchange(Policy::default()),
        seed: u64,
    ) {
        laws::holding_pops(Rig::new(protocol), &exchange.turns, seed);
    }

    #[test]
    fn traffic_leaves_as_it_came(
        protocol in protocol(),
        exchange in exchange(Policy::default()),
    ) {
        laws::transparent(Rig::new(protocol), &exchange.turns);
    }

    #[test]
    fn any_bytes_at_all_leave_as_they_came(protocol in protocol(), turns in hostile()) {
        laws::transparent(Rig::new(protocol), &turns);
    }

    #[test]
    fn traffic_may_be_cut_anywhere(
        protocol in protocol(),
        exchange in exchange(Policy::default()),
        seed in any::<u64>(),
    ) {
        laws::indifferent_to_chunking(Rig::new(protocol), &exchange.turns, seed);
    }

    #[test]
    fn any_bytes_at_all_may_be_cut_anywhere(
        protocol in protocol(),
        turns in hostile(),
        seed in any::<u64>(),
    ) {
        laws::indifferent_to_chunking(Rig::new(protocol), &turns, seed);
    }

    #[test]
    fn traffic_is_understood_and_reads_back(
        protocol in protocol(),
        exchange in exchange(Policy::default()),
    ) {
        laws::comprehending(Rig::new(protocol), &exchange);
    }

    #[test]
    fn restamped_traffic_is_understood_and_reads_back(exchange in exchange(restamping())) {
        laws::comprehending(Rig::new(Protocol::Redis).with(restamping()), &exchange);
    }

    #[test]
    fn hostile_input_is_bounded(protocol in protocol(), turns in hostile()) {
        laws::bounded(Rig::new(protocol), &turns);
    }

    #[test]
    fn generated_replies_are_what_another_reader_takes_them_for(
        resp2 in resp2(),
        resp3 in resp3(),
    ) {
        let bytes = resp2.bytes();
        let (_, length) = resp2_decode(&bytes).expect("RESP2").expect("complete");
        prop_assert_eq!(length, bytes.len());
        if !resp3.any(&is_beyond_redis_protocol) {
            let bytes = resp3.bytes();
            let (_, length) = resp3_decode(&bytes).expect("RESP3").expect("complete");
            prop_assert_eq!(length, bytes.len());
        }
    }

    #[test]
    fn what_cannot_be_paired_flows_on(
        turns in exchange_that_ends_blind(),
        seed in any::<u64>(),
    ) {
        let rig = Rig::new(Protocol::Redis);
        laws::transparent(rig, &turns);
        laws::indifferent_to_chunking(rig, &turns, seed);
        laws::bounded(rig, &turns);
    }
}

/// What the oracle cannot read, although its end is clear.
fn is_beyond_redis_protocol(value: &Resp) -> bool {
    let is_aggregate = |value: &Resp| {
        matches!(
            value,
            Resp::Array(_) | Resp::Set(_) | Resp::Map(_) | Resp::Attributed(..)
        )
    };
    match value {
        Resp::NullBulk | Resp::NullArray => true,
        Resp::StreamedString(_) | Resp::StreamedArray(_) => true,
        Resp::StreamedSet(_) | Resp::StreamedMap(_) => true,
        Resp::Verbatim(format, _) => format != b"txt" && format != b"mkd",
        Resp::Attributed(..) => true,
        Resp::Set(items) => items.iter().any(is_aggregate),
        Resp::Map(pairs) => pairs.iter().any(|(key, _)| is_aggregate(key)),
        _ => false,
    }
}

#[test]
fn a_message_that_finds_no_room_passes_unedited() {
    let mut rig = Rig::new(Protocol::Redis);
    rig.limits.hold_total_bytes_max = 1500;
    let (injector, budget) = (
        rig.injector(),
        HoldBudget::new(rig.limits.hold_total_bytes_max),
    );
    let mut first = rig.session_with(&injector, &budget, 1);
    let mut second = rig.session_with(&injector, &budget, 2);
    let facts = Facts {
        name: "add".to_owned(),
        id: "i".to_owned(),
        ..Facts::default()
    };
    let push = request(&[
        b"LPUSH".as_slice(),
        b"celery",
        &Envelope::protocol_2(&facts).bytes(),
    ]);
    let (head, tail) = push.split_at(push.len() - 10);
    let mut out = Outbox::default();

    // The first holds a message of which the end is not there, and leaves no room.
    first.receive(Side::Client, head, NOW, &mut out);
    assert!(out.to_broker.len() < 100);
    assert!(budget.held() > 750);
    out.to_broker.clear();
    second.receive(Side::Client, head, NOW, &mut out);
    second.receive(Side::Client, tail, NOW, &mut out);
    assert_eq!(&out.to_broker.split()[..], &push[..]);
    assert!(matches!(out.sightings[..], [Sighting::LeftAlone { .. }]));

    // Once it has gone on, there is room again.
    first.receive(Side::Client, tail, NOW, &mut out);
    assert_eq!(budget.held(), 0);
    out.sightings.clear();
    second.receive(Side::Client, head, NOW, &mut out);
    second.receive(Side::Client, tail, NOW, &mut out);
    assert!(matches!(out.sightings[..], [Sighting::Published(_)]));
}

#[test]
fn what_broke_other_readers_is_bounded_on_either_side() {
    let ping = Turn(Side::Client, request(&["PING"]));
    for protocol in PROTOCOLS {
        for bytes in hurtful() {
            for side in [Side::Client, Side::Broker] {
                let mut turns = vec![ping.clone()];
                turns.extend(bytes.chunks(100).map(|piece| Turn(side, piece.to_vec())));
                turns.push(ping.clone());
                let rig = Rig::new(protocol);
                laws::transparent(rig, &turns);
                laws::indifferent_to_chunking(rig, &turns, 1);
                laws::bounded(rig, &turns);
            }
        }
    }
}
