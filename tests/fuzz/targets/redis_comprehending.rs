//! Law 3, for every exchange that the generator can make of the fuzzer's bytes.
#![no_main]

#[path = "../../support/edits.rs"]
mod edits;
#[path = "../../support/envelope.rs"]
mod envelope;
#[path = "../../support/generate/mod.rs"]
mod generate;
#[path = "../../support/laws.rs"]
mod laws;
#[path = "../../support/resp.rs"]
mod resp;

use libfuzzer_sys::fuzz_target;
use proptest::strategy::Strategy;
use proptest::strategy::ValueTree;
use proptest::test_runner::Config;
use proptest::test_runner::RngAlgorithm;
use proptest::test_runner::TestRng;
use proptest::test_runner::TestRunner;
use tracehop::config::Policy;
use tracehop::config::Protocol;

use generate::Step;
use laws::Rig;

fuzz_target!(|input: &[u8]| {
    let (resp3, seeds) = input
        .split_first()
        .map_or((false, input), |(first, rest)| (first % 2 == 0, rest));
    let steps: Vec<Step> = seeds
        .as_chunks::<4>()
        .0
        .iter()
        .take(STEPS_MAX)
        .map(step)
        .collect();
    let exchange = generate::played(Policy::default(), resp3, &steps, seeds.len() as u64);
    laws::comprehending(Rig::new(Protocol::Redis), &exchange);
});

/// Each step grows from four bytes of its own, so that the fuzzer can move, drop and double it.
fn step(seed: &[u8; 4]) -> Step {
    let mut whole = [0; 32];
    whole[..4].copy_from_slice(seed);
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &whole);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let tree = generate::step().new_tree(&mut runner);
    tree.expect("every step can be generated").current()
}

const STEPS_MAX: usize = 40;
