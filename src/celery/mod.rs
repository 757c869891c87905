//! What a Celery message says, whichever broker carries it.
//!
//! The readers here work on borrowed bytes and never recurse. What they cannot read is not
//! an error but an answer: the message is then not known to be a task, and stays untouched.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]

pub mod body;
pub mod foreign;
pub mod headers;
pub mod json;
mod state;
mod task;
mod told;

pub use foreign::Foreign;
pub use headers::Carried;
pub use headers::Carrier;
pub use headers::HeaderValue;
pub use headers::Headers;
pub use state::TaskState;
pub use task::Task;
pub use task::TaskProtocol;
pub use told::Told;
pub use told::read_events;
pub use told::read_result;
