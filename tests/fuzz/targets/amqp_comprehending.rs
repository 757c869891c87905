//! Law 3, for every exchange that the generator can make of the fuzzer's bytes.
#![no_main]

#[path = "../../support/amqp/edits.rs"]
mod edits;
#[path = "../../support/amqp/generate/mod.rs"]
mod generate;
#[path = "../../support/laws.rs"]
mod laws;
#[path = "../../support/amqp/wire.rs"]
mod wire;

use libfuzzer_sys::fuzz_target;
use tracehop::config::Protocol;

fuzz_target!(|input: &[u8]| {
    // Each step grows from four bytes of its own, so that the fuzzer can move, drop and double it.
    let (seeds, _) = input.as_chunks::<4>();
    let seeds: Vec<u32> = seeds
        .iter()
        .take(STEPS_MAX)
        .map(|seed| u32::from_le_bytes(*seed))
        .collect();
    laws::comprehending(generate::rig(Protocol::Amqp), &generate::played(&seeds));
});

const STEPS_MAX: usize = 40;
