//! Law 1, for any bytes at all.
#![no_main]

#[path = "../../support/edits.rs"]
mod edits;
#[path = "../../support/laws.rs"]
mod laws;
#[path = "../../support/resp.rs"]
mod resp;
mod script;

use libfuzzer_sys::fuzz_target;
use tracehop::config::Protocol;

use laws::Rig;
use script::turns;

fuzz_target!(|input: &[u8]| {
    laws::transparent(Rig::new(Protocol::Redis), &turns(input));
});
