//! tracehop: a transparent broker proxy that joins Celery traces on the wire.
//!
//! Bytes pass straight through. What is noticed falls off to the side as *sightings*. A
//! *ledger* pairs the sightings of one message into a *hop*. A finished hop becomes *spans*.
//!
//! ```text
//! client ⇄ net ⇄ Session ⇄ net ⇄ broker      bytes, never delayed by what is below
//!                   │ Sighting               bounded queue; full means drop and count
//!                   ▼
//!                Ledger ──Span──► OTLP, metrics, recent traces ──► admin page
//! ```
//!
//! | module | is |
//! | --- | --- |
//! | [`cli`] | the command line, one file per command |
//! | [`config`] | text → `Config`, with every complaint at once |
//! | [`net`] | the only sockets that carry traffic |
//! | [`protocol`] | sessions: bytes in, bytes and sightings out, no I/O |
//! | [`celery`] | what a task message says, whichever broker carries it |
//! | [`trace`] | trace context, its spellings, and spans |
//! | [`hop`] | one message's passage: which context it gets, what became of it |
//! | [`telemetry`] | spans over OTLP, metrics, what is remembered to be looked at |
//! | [`admin`] | the admin page and its JSON, `/metrics`, `/healthz`, `/readyz` |

pub mod admin;
pub mod celery;
pub mod cli;
pub mod config;
pub mod hop;
pub mod net;
pub mod protocol;
pub mod telemetry;
pub mod trace;
