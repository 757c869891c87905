//! The one loop around a session: read either side, write either side.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::mem::take;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use bytes::BytesMut;
use rustls::AlertDescription;
use tokio::io::ReadBuf;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;
use tokio::time::interval_at;
use tokio::time::sleep;

use crate::hop::Injector;
use crate::net::connection::Shared;
use crate::net::drain::Signal;
use crate::net::silence::Silence;
use crate::net::silence::is_silence;
use crate::net::stream::Stream;
use crate::net::tls;
use crate::net::unwritten::Unwritten;
use crate::net::waiting::Waiting;
use crate::protocol;
use crate::protocol::DeliveryProgress;
use crate::protocol::Outbox;
use crate::protocol::Session;
use crate::protocol::Side;
use crate::telemetry::RouteMetrics;
use crate::telemetry::Sightings;
use crate::telemetry::now;
use crate::trace::Timestamp;

/// Both directions of one connection, with the session between them.
///
/// A side is read only while more may wait for the other, so a slow reader slows its own peer;
/// neither direction ever waits for the other.
pub(super) struct Relay<'a> {
    client: Peer,
    broker: Peer,
    session: Box<dyn Session>,
    /// Empty but for what this round has brought.
    out: Outbox,
    unwritten: Unwritten,
    metrics: &'a RouteMetrics,
    sightings: &'a Sightings,
    injector: &'a Injector,
    /// The session reads what passes.
    reads: bool,
    /// No new delivery begins.
    holding: bool,
    draining: bool,
    /// How long one peer may be silent after the other has ended.
    half_closed_max: Duration,
    /// How long one peer's machine may answer nothing.
    peer_silent_max: Duration,
    /// Whether any byte has moved since this was last asked.
    moved: bool,
    /// Nothing has been read yet of an app that is to speak without TLS.
    awaits_plain_text: bool,
}

/// One of the two sockets.
struct Peer {
    stream: Stream,
    /// What it cannot take yet.
    waiting: Waiting,
    /// It may still send something: neither its end nor an error has been read.
    speaking: bool,
    hearing: Hearing,
    silence: Silence,
    /// It has failed, and not by its own word.
    is_silent: bool,
    /// Why it ended the connection, if TLS had it tell.
    alert: Option<AlertDescription>,
}

/// What a peer can still be told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hearing {
    Open,
    /// It has been told that nothing more comes.
    Finished,
    /// It cannot be reached any more; what was meant for it is dropped.
    Lost,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Both peers came to their end.
    Closed,
    /// The broker reset a connection that was over, and so the app's was reset.
    BrokerLeft,
    /// The broker's connection failed, and so the app's was reset.
    BrokerLost,
    /// One peer's machine is gone without a word.
    Silent(Side),
    /// The same as `BrokerLost`, and TLS told why.
    BrokerRefused(AlertDescription),
    /// The app wants to speak TLS where none is spoken.
    Hello,
    /// At a boundary, because the proxy drains.
    Parted,
    /// One peer had ended, and the other was silent for too long.
    HalfClosed,
    /// The grace of the drain was over.
    Cut,
    /// The session cannot be trusted any more; both connections were reset.
    Panicked,
}

impl Ending {
    const fn is_of_the_broker(self) -> bool {
        matches!(
            self,
            Self::BrokerLeft
                | Self::BrokerLost
                | Self::BrokerRefused(_)
                | Self::Silent(Side::Broker)
        )
    }
}

impl<'a> Relay<'a> {
    pub(super) fn new(
        client: Stream,
        broker: Stream,
        session: Box<dyn Session>,
        refuses_tls: bool,
        metrics: &'a RouteMetrics,
        shared: &'a Shared,
    ) -> Self {
        Self {
            awaits_plain_text: refuses_tls && !client.is_tls(),
            client: Peer::new(client, shared),
            broker: Peer::new(broker, shared),
            session,
            out: Outbox::default(),
            unwritten: Unwritten::default(),
            metrics,
            sightings: &shared.sightings,
            injector: &shared.injector,
            reads: true,
            holding: false,
            draining: false,
            half_closed_max: shared.limits.half_closed_max,
            peer_silent_max: shared.limits.peer_silent_max,
            moved: false,
        }
    }

    /// Relays until there is nothing more to relay, or until `signal` says so.
    pub(super) async fn run(&mut self, signal: &Signal) -> Ending {
        let ending = self.relay(signal).await;
        if ending.is_of_the_broker() {
            // Boxed, so that other connections need no room for it.
            Box::pin(self.hand_over(signal)).await;
        }
        ending
    }

    async fn relay(&mut self, signal: &Signal) -> Ending {
        let mut holding = pin!(signal.holding());
        let mut begun = pin!(signal.begun());
        let mut cut = pin!(signal.cut());
        let mut delivery = Some(signal.delivery());
        let mut asking = None;
        let mut patience = None;
        let pause = self.peer_silent_max / 4;
        let mut listening = interval_at(Instant::now() + pause, pause);
        listening.set_missed_tick_behavior(MissedTickBehavior::Delay);
        poll_fn(|cx| {
            while listening.poll_tick(cx).is_ready() {
                if let Some(side) = self.silent() {
                    return Poll::Ready(Ending::Silent(side));
                }
            }
            if !self.holding && holding.as_mut().poll(cx).is_ready() {
                self.holding = true;
                self.session.hold_pops();
            }
            if self.holding {
                self.draining = self.draining || begun.as_mut().poll(cx).is_ready();
                // A peer that has nothing to say wakes nobody, and is not waited for forever.
                let asking = asking.get_or_insert_with(|| interval(ASKING_INTERVAL));
                while asking.poll_tick(cx).is_ready() {}
            }
            if self.draining && cut.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ending::Cut);
            }
            if let Poll::Ready(ending) = self.poll(cx) {
                return Poll::Ready(ending);
            }
            if self.holding {
                match self.session.delivering(now()) {
                    DeliveryProgress::Nothing => delivery = None,
                    DeliveryProgress::Awaited | DeliveryProgress::Handed => {
                        delivery.get_or_insert_with(|| signal.delivery());
                    }
                }
            }
            if self.client.speaking && self.broker.speaking {
                return Poll::Pending;
            }
            // Half closed, it would keep its place for as long as the other peer likes.
            let patience = patience.get_or_insert_with(|| {
                self.moved = false;
                Box::pin(sleep(self.half_closed_max))
            });
            while patience.as_mut().poll(cx).is_ready() {
                if !take(&mut self.moved) {
                    return Poll::Ready(Ending::HalfClosed);
                }
                patience.set(sleep(self.half_closed_max));
            }
            Poll::Pending
        })
        .await
    }

    /// Lets the app take what the broker has said: the reset that follows would throw it away.
    async fn hand_over(&mut self, signal: &Signal) {
        let client = &mut self.client;
        let mut sent = None;
        let taken = poll_fn(|cx| {
            // An app that is still asking listens when it is done with that.
            if !client.ignore(cx) {
                return Poll::Ready(());
            }
            while client.resume(cx) {}
            if !client.is_flushed() {
                return Poll::Pending;
            }
            let sent = sent.get_or_insert_with(|| Box::pin(client.stream.watch_sent()));
            sent.as_mut().poll(cx)
        });
        tokio::select! {
            biased;
            () = signal.cut() => {}
            () = taken => {}
            () = sleep(self.half_closed_max) => {}
        }
    }

    /// Whose machine has answered nothing for too long.
    fn silent(&mut self) -> Option<Side> {
        let max = self.peer_silent_max;
        let mut sides = [Side::Client, Side::Broker].into_iter();
        sides.find(|side| {
            let peer = self.peer(*side);
            peer.silence.exceeds(max, peer.stream.tcp())
        })
    }

    /// Moves bytes until neither side can go on, but not for ever: others want their turn.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        for _ in 0..ROUNDS_MAX {
            match self.round(cx) {
                Ok(true) => self.moved = true,
                Ok(false) => return Poll::Pending,
                Err(ending) => return Poll::Ready(ending),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// At most one read from and one write to each side. Says whether anything moved.
    fn round(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        if self.reads && !self.holding && self.injector.is_off() {
            self.stop_reading()?;
        }
        // Asked first, so that what the session has to say about it is written below.
        let may_part = self.draining && self.ask(|session, now, out| session.part(now, out))?;

        let mut moved = false;
        for from in [Side::Client, Side::Broker] {
            moved |= self.read(from, cx)?;
            moved |= self.write(from.other(), cx);
        }

        let mut sides = [Side::Client, Side::Broker].into_iter();
        if let Some(side) = sides.find(|side| self.peer(*side).is_silent) {
            return Err(Ending::Silent(side));
        }
        // A broker's failure is the app's, at once. The failure of an app is its end: what it
        // had said still counts, and what the broker answers tells what became of it.
        if self.broker.is_gone() && !self.client.is_gone() {
            return Err(match self.broker.alert {
                // Some brokers end every connection like this.
                _ if !self.client.speaking || self.session.is_over() => Ending::BrokerLeft,
                Some(alert) => Ending::BrokerRefused(alert),
                None => Ending::BrokerLost,
            });
        }
        if !self.client.speaking && self.out.to_broker.is_empty() && self.broker.is_flushed() {
            self.broker.finish(cx);
        }
        if !self.broker.speaking && self.out.to_client.is_empty() && self.client.is_flushed() {
            self.client.finish(cx);
        }
        if !self.is_flushed() {
            return Ok(moved);
        }
        if !self.client.speaking && !self.broker.speaking {
            return Err(Ending::Closed);
        }
        if self.draining && !moved && !self.has_unread() {
            if may_part {
                return Err(Ending::Parted);
            }
            // What it would be handed now it could not put away.
            if self.session.delivering(now()) == DeliveryProgress::Awaited {
                return Err(Ending::Cut);
            }
        }
        Ok(moved)
    }

    /// From here on bytes pass unread, behind what the session still holds.
    fn stop_reading(&mut self) -> Result<(), Ending> {
        self.reads = false;
        self.awaits_plain_text = false;
        self.ask(|session, now, out| session.stop_reading(now, out))?;
        self.session = protocol::unread();
        Ok(())
    }

    /// Reads once from a side that may be read, and has the session act on it.
    fn read(&mut self, from: Side, cx: &mut Context<'_>) -> Result<bool, Ending> {
        let vacancy = self.peer(from.other()).waiting.vacancy();
        if vacancy == 0 || from == Side::Client && self.holds_pop() {
            return Ok(false);
        }
        READ_BUFFER.with_borrow_mut(|buffer| {
            let vacancy = vacancy.min(buffer.len());
            let mut heard = ReadBuf::new(&mut buffer[..vacancy]);
            if self.peer(from).hear(&mut heard, cx).is_pending() {
                return Ok(false);
            }
            match heard.filled() {
                [] => self.ask(|session, now, out| session.finish(from, now, out))?,
                bytes => {
                    if from == Side::Client
                        && take(&mut self.awaits_plain_text)
                        && tls::is_hello(bytes)
                    {
                        return Err(Ending::Hello);
                    }
                    self.metrics.received(from == Side::Client, bytes.len());
                    if bytes.len() >= DIRECT_BYTES_MIN
                        && self.out.sent_by(from).is_empty()
                        && self.ask(|session, _, _| session.pass(from, bytes.len()))?
                    {
                        self.peer(from.other()).pass_on(bytes, cx);
                        return Ok(true);
                    }
                    lend(self.out.sent_by(from));
                    self.ask(|session, now, out| session.receive(from, bytes, now, out))?;
                }
            }
            Ok(true)
        })
    }

    /// Writes once what waits for a side.
    fn write(&mut self, to: Side, cx: &mut Context<'_>) -> bool {
        match to {
            Side::Client => self.client.tell(&mut self.out.to_client, cx),
            Side::Broker => {
                let waiting = self.broker.waiting.unwritten() + self.out.to_broker.len();
                let moved = self.broker.tell(&mut self.out.to_broker, cx);
                let told = &mut self.out.sightings;
                match self.broker.hearing {
                    Hearing::Lost => self.unwritten.lost(now, told),
                    _ => {
                        let written = waiting - self.broker.waiting.unwritten();
                        self.unwritten.written(written, now, told);
                    }
                }
                self.record();
                moved
            }
        }
    }

    const fn peer(&mut self, side: Side) -> &mut Peer {
        match side {
            Side::Client => &mut self.client,
            Side::Broker => &mut self.broker,
        }
    }

    fn is_flushed(&self) -> bool {
        self.out.to_client.is_empty()
            && self.out.to_broker.is_empty()
            && self.client.is_flushed()
            && self.broker.is_flushed()
    }

    fn has_unread(&self) -> bool {
        self.client.has_unread() && !self.holds_pop() || self.broker.has_unread()
    }

    /// Whether nothing that the client sends from here on is wanted any more.
    fn holds_pop(&self) -> bool {
        self.holding && self.session.holds_pop()
    }

    /// Asks the session something, and records what it saw before its bytes can be written:
    /// a delivery must never be booked ahead of its publication.
    fn ask<T>(
        &mut self,
        question: impl FnOnce(&mut dyn Session, Timestamp, &mut Outbox) -> T,
    ) -> Result<T, Ending> {
        // Sessions guard themselves and turn blind; this is for what slips through.
        let answer = catch_unwind(AssertUnwindSafe(|| {
            question(&mut *self.session, now(), &mut self.out)
        }));
        let waiting = self.broker.waiting.unwritten();
        self.unwritten.keep(waiting, &mut self.out);
        self.record();
        answer.map_err(|_| Ending::Panicked)
    }

    fn record(&mut self) {
        if !self.out.sightings.is_empty() {
            self.sightings.record(&mut self.out.sightings);
            self.out.sightings.shrink_to(KEPT_SIGHTINGS_MAX);
        }
    }

    /// Lets the session book what stays open, and closes the sockets as the ending calls for.
    pub(super) fn end(mut self, ending: Ending) {
        for side in [Side::Client, Side::Broker] {
            if self.peer(side).speaking && ending != Ending::Panicked {
                // The connection ends either way.
                let _ = self.ask(|session, now, out| session.finish(side, now, out));
            }
        }
        self.unwritten.lost(now, &mut self.out.sightings);
        self.record();
        match ending {
            Ending::Closed | Ending::HalfClosed | Ending::Parted | Ending::Cut => {
                self.client.close();
                self.broker.close();
            }
            Ending::BrokerLeft
            | Ending::BrokerLost
            | Ending::BrokerRefused(_)
            | Ending::Silent(Side::Broker)
            | Ending::Hello => {
                self.client.stream.reset();
            }
            // Nothing that waits for an app that is gone may be popped for it.
            Ending::Silent(Side::Client) => {
                self.client.stream.reset();
                self.broker.close();
            }
            Ending::Panicked => {
                self.client.stream.reset();
                self.broker.stream.reset();
            }
        }
    }
}

impl Peer {
    fn new(stream: Stream, shared: &Shared) -> Self {
        Self {
            stream,
            waiting: Waiting::new(Arc::clone(&shared.writes)),
            speaking: true,
            hearing: Hearing::Open,
            silence: Silence::default(),
            is_silent: false,
            alert: None,
        }
    }

    /// Takes what it has sent; nothing means that no more will come. Ready once only with
    /// nothing.
    fn hear(&mut self, bytes: &mut ReadBuf<'_>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.speaking {
            return Poll::Pending;
        }
        let read = ready!(self.stream.poll_read(cx, bytes));
        self.speaking = !bytes.filled().is_empty();
        if let Err(error) = read {
            self.lose(&error);
        }
        Poll::Ready(())
    }

    fn lose(&mut self, error: &io::Error) {
        self.hearing = Hearing::Lost;
        self.is_silent = is_silence(error);
        self.alert = tls::alert(error);
    }

    /// Reads what it sends, for nobody. Says whether it is still there to be told anything.
    fn ignore(&mut self, cx: &mut Context<'_>) -> bool {
        READ_BUFFER.with_borrow_mut(|buffer| {
            for _ in 0..ROUNDS_MAX {
                if self.hear(&mut ReadBuf::new(buffer), cx).is_pending() {
                    return self.hearing == Hearing::Open;
                }
            }
            cx.waker().wake_by_ref();
            self.hearing == Hearing::Open
        })
    }

    /// Sends what waits, and then `bytes`, as far as they will go; the rest waits. Says whether
    /// any went.
    fn tell(&mut self, bytes: &mut BytesMut, cx: &mut Context<'_>) -> bool {
        let mut moved = self.resume(cx);
        if !bytes.is_empty() {
            moved |= self.pass_on(bytes, cx);
            bytes.clear();
        }
        // The session may keep what it was lent this room for.
        release(bytes);
        moved
    }

    /// Sends once of what waits. Says whether that made room.
    fn resume(&mut self, cx: &mut Context<'_>) -> bool {
        if self.hearing != Hearing::Open {
            self.waiting.clear();
            return false;
        }
        let flushed = self.flush(cx);
        if self.waiting.next().is_empty() {
            return flushed;
        }
        let written = self.stream.poll_write(cx, self.waiting.next());
        let sent = self.sent(written, self.waiting.next().len());
        self.waiting.advance(sent);
        self.waiting.wrote_to_tls(sent, self.stream.is_flushed());
        flushed || sent > 0
    }

    /// Sends `bytes` as far as they will go; the rest waits. Says whether any went.
    fn pass_on(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> bool {
        if self.hearing != Hearing::Open {
            return false;
        }
        let sent = if self.waiting.is_empty() {
            let written = self.stream.poll_write(cx, bytes);
            self.sent(written, bytes.len())
        } else {
            0
        };
        self.waiting.wrote_to_tls(sent, self.stream.is_flushed());
        self.waiting.push(bytes.get(sent..).unwrap_or_default());
        sent > 0
    }

    /// How many of `count` bytes are done with: all of them where nobody hears them any more.
    fn sent(&mut self, written: Poll<io::Result<usize>>, count: usize) -> usize {
        match written {
            Poll::Pending => 0,
            Poll::Ready(Ok(written)) => {
                self.silence.sent();
                written
            }
            // Its last words may be there to be read all the same.
            Poll::Ready(Err(error)) => {
                self.lose(&error);
                count
            }
        }
    }

    /// Sends what TLS still has of what it was given. Says whether that is all gone now.
    fn flush(&mut self, cx: &mut Context<'_>) -> bool {
        if self.stream.is_flushed() {
            return false;
        }
        if let Poll::Ready(Err(error)) = self.stream.poll_flush(cx) {
            self.lose(&error);
        }
        self.waiting.wrote_to_tls(0, self.stream.is_flushed());
        self.stream.is_flushed()
    }

    fn is_flushed(&self) -> bool {
        self.hearing != Hearing::Open || (self.waiting.is_empty() && self.stream.is_flushed())
    }

    /// Tells it, once, that no more will come. That waits only where TLS has not sent all yet,
    /// and fails only where the peer is gone, which reading from it tells.
    fn finish(&mut self, cx: &mut Context<'_>) {
        if self.hearing == Hearing::Open && self.stream.poll_shutdown(cx).is_ready() {
            self.hearing = Hearing::Finished;
        }
    }

    fn has_unread(&self) -> bool {
        self.speaking && self.stream.has_unread()
    }

    /// Closes in good order.
    fn close(self) {
        if self.hearing == Hearing::Open {
            self.stream.close();
        }
    }

    fn is_gone(&self) -> bool {
        !self.speaking && self.hearing == Hearing::Lost
    }
}

/// Gives a buffer without room that of this thread.
fn lend(bytes: &mut BytesMut) {
    if bytes.capacity() == 0 {
        *bytes = SPARE.take();
    }
}

/// Takes the room of an empty buffer back, for whichever connection needs it next.
fn release(bytes: &mut BytesMut) {
    let room = take(bytes);
    if (1..=SPARE_BYTES_MAX).contains(&room.capacity()) {
        SPARE.set(room);
    }
}

thread_local! {
    /// Where the bytes of one read stay until the session has acted on them, which it does
    /// without waiting. One per thread and not per connection, so that idle ones hold none.
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES_MAX]);

    /// Room for what is written at once, most of the time: idle connections hold none of
    /// that, either.
    static SPARE: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Enough to make the cost of a system call small against that of copying.
const READ_BYTES_MAX: usize = 64 << 10;

/// From here on it pays to ask whether a copy can be spared.
const DIRECT_BYTES_MIN: usize = 16 << 10;

/// The room that each thread may keep for what is to be written.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// The room that a connection may keep for its next sightings.
const KEPT_SIGHTINGS_MAX: usize = 16;

/// How often a session is asked whether it may part while nothing moves.
const ASKING_INTERVAL: Duration = Duration::from_millis(200);

/// How often one connection may move bytes before it is another's turn.
const ROUNDS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_an_empty_buffer_is_lent_to_the_next_unless_it_is_large() {
        for (length, lent) in [
            (10, true),
            (READ_BYTES_MAX, true),
            (SPARE_BYTES_MAX + 1, false),
        ] {
            let mut bytes = BytesMut::from(&vec![0; length][..]);
            bytes.clear();
            release(&mut bytes);
            assert_eq!(bytes.capacity(), 0);
            lend(&mut bytes);
            assert_eq!(bytes.capacity() >= length, lent);
        }
    }
}
