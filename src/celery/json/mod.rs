//! JSON, scanned in place: where its values stand, so that text can be spliced beside them.
//!
//! A [`Scan`] walks the members of objects one by one and steps over every value that it is
//! not asked to enter. It looks at each byte once, allocates nothing and does not recurse. A
//! [`Layout`] spares most of the walk where one text is written like those before.
//!
//! It is as strict as Python's `json`, by which Celery reads: RFC 8259, and `NaN`,
//! `Infinity` and `-Infinity`, which Python writes and reads as well. Text is decoded only
//! where it is asked for, so a string that holds bytes other than UTF-8 or half a surrogate
//! pair can be stepped over, and has no text.

mod layout;
mod nesting;
mod scan;
mod value;

use thiserror::Error;

pub use layout::Draft;
pub use layout::Layout;
pub use nesting::NESTING_MAX;
pub use scan::Scan;
pub use value::Key;
pub use value::Kind;
pub use value::Value;

/// The bytes are not JSON, not all of it, or nested too deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not readable as JSON")]
pub struct Unreadable;
