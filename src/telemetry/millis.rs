use std::time::Duration;

use serde::Serialize;
use serde::Serializer;

/// A length of time as JSON has it: a number of milliseconds, to the microsecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Millis(pub(super) Duration);

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let micros = self.0.as_micros() as f64;
        serializer.serialize_f64(micros / 1_000.0)
    }
}
