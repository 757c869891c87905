//! JSON, scanned.
