//! The session that reads nothing.

use crate::protocol::Outbox;
use crate::protocol::Session;
use crate::protocol::Side;
use crate::trace::Timestamp;

/// Passes bytes on and understands none of them.
#[derive(Debug)]
pub(super) struct Blind;

impl Session for Blind {
    fn receive(&mut self, from: Side, bytes: &[u8], _now: Timestamp, out: &mut Outbox) {
        out.sent_by(from).extend_from_slice(bytes);
    }

    fn pass(&mut self, _from: Side, _count: usize) -> bool {
        true
    }

    fn finish(&mut self, _from: Side, _now: Timestamp, _out: &mut Outbox) {}

    /// Where nothing is understood no moment is known to be safe.
    fn part(&mut self, _now: Timestamp, _out: &mut Outbox) -> bool {
        false
    }
}
