//! Which context a message shall carry.

/// Decides.
#[derive(Debug)]
pub struct Injector {}
#[derive(Debug)]
pub struct Decision {}
#[derive(Debug)]
pub struct Stamp {}
#[derive(Debug)]
pub struct StampedState {}
