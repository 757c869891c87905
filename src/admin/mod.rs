//! What the proxy tells about itself over HTTP.
//!
//! | path | tells |
//! | --- | --- |
//! | `/healthz` | the process lives |
//! | `/readyz` | it takes connections; `503` before that, and while it drains |
//! | `/metrics` | its counters, for Prometheus |
//! | `/api/quality` | who sends which task with which context, as JSON |

mod pages;
mod readiness;
mod server;

pub use readiness::Readiness;
pub use readiness::State;
pub use server::Admin;
pub use server::AdminError;
pub use server::Serving;
