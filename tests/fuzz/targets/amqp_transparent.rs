//! Law 1, for any bytes at all.
#![no_main]

#[path = "../../support/amqp/edits.rs"]
mod edits;
#[path = "../../support/laws.rs"]
mod laws;
mod script;
#[path = "../../support/amqp/wire.rs"]
mod wire;

use libfuzzer_sys::fuzz_target;
use tracehop::config::Protocol;

use laws::Rig;
use script::turns;

fuzz_target!(|input: &[u8]| {
    laws::transparent(Rig::new(Protocol::Amqp), &turns(input));
});
