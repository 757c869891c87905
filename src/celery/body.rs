//! Task bodies.
