//! The only sockets that carry traffic.
//!
//! ```text
//! listener ──► connection ──► upstream          accept an app, find its broker
//!                  └────────► tls               with TLS on either side
//!                  └────────► relay             client ⇄ Session ⇄ broker
//! proxy ─────► drain                            until both are done, or told to part
//! ```
//!
//! Connections are opened on a thread apart. Then each is one task on one of the workers, and
//! what it waits for is only its own two sockets.

mod certificates;
mod connection;
mod drain;
mod listener;
mod proxy;
mod relay;
mod silence;
mod stream;
mod tls;
mod transparent;
mod unwritten;
mod upstream;
mod waiting;
mod workers;

pub use drain::Drained;
pub use listener::BindError;
pub use proxy::Parts;
pub use proxy::Proxy;
pub use proxy::Serving;
pub use proxy::View;
pub use tls::Failure as TlsFailure;
pub use upstream::DnsConfig;
pub use upstream::resolve;
pub use workers::Workers;
