//! Sessions: one proxied connection each, read without any I/O.
//!
//! A session takes the bytes of both sides and gives back bytes and sightings. It holds no
//! socket, task, channel, clock or randomness of its own: time and ids are handed in.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]

mod account;
pub mod amqp;
mod blind;
mod detect;
mod hold;
mod patch;
pub mod pieces;
pub mod redis;

use std::sync::Arc;

use bytes::BytesMut;

pub use hold::HoldBudget;
pub use hold::Reservation;

use crate::config::Limits;
use crate::config::MovingAddress;
use crate::config::Protocol;
use crate::hop::Connection;
use crate::hop::Injector;
use crate::hop::Sighting;
use crate::trace::IdSource;
use crate::trace::Timestamp;

/// One proxied connection, both directions.
pub trait Session: Send {
    /// Takes what `from` sent. Cannot fail: what it cannot read, it passes on unchanged.
    fn receive(&mut self, from: Side, bytes: &[u8], now: Timestamp, out: &mut Outbox);

    /// Whether the next `count` bytes that `from` sends pass as they are, whatever they say. If
    /// so they are done with: the caller passes them on by itself, behind what has left
    /// before, and spares a copy.
    fn pass(&mut self, _from: Side, _count: usize) -> bool {
        false
    }

    /// `from` will send no more: release whatever is still held.
    fn finish(&mut self, from: Side, now: Timestamp, out: &mut Outbox);

    /// Whether the peers have agreed that the connection is over, so that nothing is broken
    /// however it ends now.
    fn is_over(&self) -> bool {
        false
    }

    /// Nothing is to be read any more: releases whatever is held, in its place, and ends what
    /// is open as unread. From here on [`unread`] takes the place of this session.
    fn stop_reading(&mut self, _now: Timestamp, _out: &mut Outbox) {}

    /// The proxy is about to stop. From here on no request leaves that takes a message and may
    /// wait for one: it is held, and with it all that the client sends behind it.
    fn hold_pops(&mut self) {}

    /// Whether a request is held like that. It will not leave any more.
    fn holds_pop(&self) -> bool {
        false
    }

    /// Whether a delivery is under way on this connection, which takes others to complete.
    fn delivering(&self, _now: Timestamp) -> DeliveryProgress {
        DeliveryProgress::Nothing
    }

    /// The proxy wants to end this connection. Says whether that can be done now without
    /// cutting anything in half, and writes whatever the protocol calls for into `out`
    /// first. Asked again after every exchange, and now and then while there is none, until
    /// the connection is closed: what comes in between may turn a yes into a no.
    fn part(&mut self, now: Timestamp, out: &mut Outbox) -> bool;
}

/// How far a delivery has come that a connection must not be ended in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryProgress {
    /// There is none.
    Nothing,
    /// The client waits for a message, and the broker may hand it one at any time.
    Awaited,
    /// The client has a message, and may not have put it away yet.
    Handed,
}

/// The two peers of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    Client,
    Broker,
}

impl Side {
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Broker,
            Self::Broker => Self::Client,
        }
    }
}

/// What a session gives back. The caller owns the buffers and empties them.
#[derive(Debug, Default)]
pub struct Outbox {
    pub to_client: BytesMut,
    pub to_broker: BytesMut,
    pub sightings: Vec<Sighting>,
}

impl Outbox {
    /// What `from` has sent, as far as it may leave.
    #[must_use]
    pub const fn sent_by(&mut self, from: Side) -> &mut BytesMut {
        match from {
            Side::Client => &mut self.to_broker,
            Side::Broker => &mut self.to_client,
        }
    }
}

/// What the session is made of besides its protocol.
#[derive(Clone, Debug)]
pub struct Setup {
    pub connection: Arc<Connection>,
    pub injector: Arc<Injector>,
    pub limits: Arc<Limits>,
    /// Of the route.
    pub moving_address: MovingAddress,
    pub budget: Arc<HoldBudget>,
    pub ids: IdSource,
}

/// A session that passes everything on and reads nothing.
#[must_use]
pub fn unread() -> Box<dyn Session> {
    Box::new(blind::Blind)
}

/// Why a session is not read where nothing is to be read.
const OFF: &str = "mode_off";

/// A session for a new connection.
#[must_use]
pub fn session(protocol: Protocol, setup: Setup) -> Box<dyn Session> {
    match protocol {
        Protocol::Auto => Box::new(detect::Detecting::new(setup)),
        Protocol::Redis => Box::new(redis::RedisSession::new(setup)),
        Protocol::Amqp => Box::new(amqp::AmqpSession::new(setup)),
    }
}
