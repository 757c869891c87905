//! Traffic for the laws: what clients ask, what a Redis answers, and what is to be seen in it.
//!
//! A generated exchange is a list of steps, played on a [`stage`] that knows what Redis would
//! say: which requests get a reply, in which version of the protocol, and what becomes of the
//! messages among them.
#![allow(dead_code, unused_imports, reason = "each test uses its part")]

mod hostile;
mod message;
mod reply;
mod stage;
mod step;

use proptest::prelude::*;

use tracehop::config::Policy;
use tracehop::protocol::Side;

pub(crate) use hostile::hostile;
pub(crate) use hostile::hurtful;
pub(crate) use reply::resp2;
pub(crate) use reply::resp3;
pub(crate) use step::Step;
pub(crate) use step::step;

use crate::laws::Exchange;
use crate::laws::Turn;
use crate::resp::Resp;
use crate::resp::request;

use stage::Stage;

/// Well-formed traffic of one connection under `policy`.
pub(crate) fn exchange(policy: Policy) -> impl Strategy<Value = Exchange> {
    let resp3 = any::<bool>();
    let steps = prop::collection::vec(step(), 1..14);
    (resp3, steps, any::<u64>())
        .prop_map(move |(resp3, steps, seed)| played(policy, resp3, &steps, seed))
}

/// The exchange that comes of these steps; `seed` decides who speaks when, and how.
pub(crate) fn played(policy: Policy, resp3: bool, steps: &[Step], seed: u64) -> Exchange {
    let mut stage = Stage::new(policy, seed);
    stage.play(&Step::Ping { payload: false });
    if resp3 {
        stage.play(&Step::Hello {
            version: Some(3),
            refused: false,
        });
    }
    steps.iter().for_each(|step| stage.play(step));
    stage.into_exchange()
}

/// Well-formed traffic, and then a command after which the broker says what it wants.
pub(crate) fn exchange_that_ends_blind() -> impl Strategy<Value = Vec<Turn>> {
    let last_words = prop::sample::select(vec!["MONITOR", "SYNC", "PSYNC ? -1"]);
    let after = prop::collection::vec(any::<u8>(), 0..200);
    (exchange(Policy::default()), last_words, after).prop_map(|(exchange, words, after)| {
        let words: Vec<&str> = words.split(' ').collect();
        let mut turns = exchange.turns;
        turns.push(Turn(Side::Client, request(&words)));
        turns.push(Turn(Side::Broker, Resp::ok().bytes()));
        turns.push(Turn(
            Side::Broker,
            b"+1795337600.464670 [0 127.0.0.1:6] \"PING\"\r\n".to_vec(),
        ));
        turns.push(Turn(Side::Broker, after));
        turns
    })
}
