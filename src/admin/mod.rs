//! What the proxy tells about itself over HTTP.
//!
//! | path | tells |
//! | --- | --- |
//! | `/healthz` | the process lives |
//! | `/readyz` | it takes connections; `503` before that, and while it drains |
//! | `/metrics` | its counters, for Prometheus |
//! | `/` | a page for people |
//! | `/api/…` | what it shows, as JSON |

mod api;
mod assets;
mod guard;
mod pages;
mod query;
mod readiness;
mod refusal;
mod server;
mod status;

pub use guard::TokenError;
pub use pages::Subject;
pub use readiness::Readiness;
pub use readiness::State;
pub use server::Admin;
pub use server::AdminError;
pub use server::Serving;
