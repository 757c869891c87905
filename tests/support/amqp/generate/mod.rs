//! Well-formed conversations of AMQP 0-9-1, and what is to be seen in them; and bytes that
//! hardly anybody would send.
#![allow(dead_code, unused_imports, reason = "each test uses its part")]

mod hostile;
mod message;
mod methods;
mod stage;

use proptest::prelude::*;

use tracehop::config::Protocol;
use tracehop::config::Spans;

use crate::laws::Exchange;
use crate::laws::Rig;

pub(crate) use hostile::hostile;
pub(crate) use hostile::hurtful;

/// What sees all that is foretold of a conversation: what is said of runs, too.
pub(crate) fn rig(protocol: Protocol) -> Rig {
    let spans = Spans {
        process: true,
        ..Spans::default()
    };
    Rig {
        spans,
        ..Rig::new(protocol)
    }
}

/// Any conversation of a client with a broker.
pub(crate) fn exchange() -> impl Strategy<Value = Exchange> {
    prop::collection::vec(any::<u32>(), 0..40).prop_map(|seeds| played(&seeds))
}

/// The conversation that these seeds grow into, a step each.
pub(crate) fn played(seeds: &[u32]) -> Exchange {
    let mut stage = stage::Stage::open(seeds.first().copied().unwrap_or_default());
    for seed in seeds {
        stage.step(*seed);
    }
    stage.close()
}
