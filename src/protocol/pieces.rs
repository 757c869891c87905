//! Passing bytes piece by piece.
