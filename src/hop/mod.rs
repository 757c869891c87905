//! A hop: the passage of one message through the broker.
//!
//! Sessions tell what they see as [`Sighting`]s; the [`Ledger`] pairs those of one message
//! into a [`Hop`]; a finished hop becomes spans. The [`Injector`] decides, for each message
//! on its way, which context it shall carry.

#[cfg(test)]
pub(crate) mod fixture;
mod injector;
mod ledger;
mod memory;
mod sighting;
mod spans;

pub use injector::Decision;
pub use injector::Injector;
pub use injector::Stamp;
pub use ledger::Hop;
pub use ledger::Ledger;
pub use sighting::Answer;
pub use sighting::Connection;
pub use sighting::HopId;
pub use sighting::Origin;
pub use sighting::Publication;
pub use sighting::Sighting;
pub use sighting::Verdict;
pub use spans::send_span;
