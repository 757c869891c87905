//! A hop: the passage of one message through the broker.
//!
//! Sessions tell what they see as [`Sighting`]s; the [`Ledger`] pairs those of one message
//! into its [`Leg`]s, the way in and the way out; a leg that has ended becomes spans. The
//! [`Injector`] decides, for each message on its way, which context it shall carry.

#[cfg(test)]
pub(crate) mod fixture;
mod generations;
mod injector;
mod kept;
mod ledger;
mod lineage;
mod memory;
mod names;
mod reports;
mod scope;
mod sent;
mod sighting;
mod spans;
mod taken;
mod translate;
mod words;

pub use generations::Generations;
pub use injector::Arrival;
pub use injector::Choices;
pub use injector::Decision;
pub use injector::Injector;
pub use injector::Received;
pub use injector::Stamp;
pub use kept::KeptTask;
pub use ledger::Ledger;
pub use ledger::Leg;
pub use names::clean;
pub use names::clean_client_name;
pub use names::is_obeyed;
pub use scope::BrokerPart;
pub use scope::Scope;
pub use sent::Sent;
pub use sighting::Announcement;
pub use sighting::Answer;
pub use sighting::Connection;
pub use sighting::Delivery;
pub use sighting::Evidence;
pub use sighting::HopId;
pub use sighting::Judgement;
pub use sighting::Origin;
pub use sighting::Passage;
pub use sighting::Publication;
pub use sighting::Quality;
pub use sighting::Receipt;
pub use sighting::Settlement;
pub use sighting::Sighting;
pub use sighting::TaskKey;
pub use sighting::Verdict;
pub use spans::Operation;
pub use taken::Ends;
pub use taken::Finish;
pub use taken::Taken;

// What sightings tell of a task.
pub use crate::celery::TaskState;
