//! The four laws of every session, held against generated AMQP.
//!
//! The cases are the same in every run. `PROPTEST_RNG_SEED` and `PROPTEST_CASES` choose others.

#[path = "support/amqp/edits.rs"]
mod edits;
#[path = "support/amqp/generate/mod.rs"]
mod generate;
#[path = "support/laws.rs"]
mod laws;
#[path = "support/amqp/wire.rs"]
mod wire;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use tracehop::config::Protocol;
use tracehop::protocol::Side;

use generate::exchange;
use generate::hostile;
use generate::hurtful;
use generate::rig;
use laws::Rig;
use laws::Turn;
use wire::Frame;
use wire::PROTOCOL_HEADER;

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

const PROTOCOLS: [Protocol; 2] = [Protocol::Amqp, Protocol::Auto];

fn protocol() -> impl Strategy<Value = Protocol> {
    prop::sample::select(PROTOCOLS.as_slice())
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn traffic_leaves_as_it_came(protocol in protocol(), exchange in exchange()) {
        laws::transparent(rig(protocol), &exchange.turns);
    }

    #[test]
    fn any_bytes_at_all_leave_as_they_came(protocol in protocol(), turns in hostile()) {
        laws::transparent(Rig::new(protocol), &turns);
    }

    #[test]
    fn turned_off_at_any_moment_it_changes_no_byte(
        protocol in protocol(),
        exchange in exchange(),
        from in any::<usize>(),
        seed in any::<u64>(),
    ) {
        let turns = laws::Cutting::Random(seed).of(&exchange.turns);
        laws::unread_from(rig(protocol), &turns, from);
    }

    #[test]
    fn traffic_may_be_cut_anywhere(
        protocol in protocol(),
        exchange in exchange(),
        seed in any::<u64>(),
    ) {
        laws::indifferent_to_chunking(rig(protocol), &exchange.turns, seed);
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
    fn traffic_is_understood_and_reads_back(protocol in protocol(), exchange in exchange()) {
        laws::comprehending(rig(protocol), &exchange);
    }

    #[test]
    fn hostile_input_is_bounded(protocol in protocol(), turns in hostile()) {
        laws::bounded(Rig::new(protocol), &turns);
    }
}

#[test]
fn what_is_made_to_hurt_is_bounded_on_either_side() {
    let heartbeat = Turn(Side::Client, Frame::heartbeat().bytes());
    for bytes in hurtful() {
        for side in [Side::Client, Side::Broker] {
            let mut turns = vec![Turn(Side::Client, PROTOCOL_HEADER.to_vec())];
            turns.extend(bytes.chunks(100).map(|piece| Turn(side, piece.to_vec())));
            turns.push(heartbeat.clone());
            let rig = Rig::new(Protocol::Amqp);
            laws::transparent(rig, &turns);
            laws::indifferent_to_chunking(rig, &turns, 1);
            laws::bounded(rig, &turns);
        }
    }
}
