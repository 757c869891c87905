//! What the admin page shows of messages.

use crate::config::Limits;
use crate::telemetry::flow::Flow;
use crate::telemetry::live::Live;
use crate::telemetry::pipeline::now;
use crate::telemetry::recent::RecentTraces;

/// What is remembered of messages, to be looked at. Cheap to clone: all of them are one.
#[derive(Clone, Debug)]
pub struct Watch {
    pub recent: RecentTraces,
    pub flow: Flow,
    pub live: Live,
}

impl Watch {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            recent: RecentTraces::new(limits),
            flow: Flow::new(limits, now()),
            live: Live::new(),
        }
    }
}
