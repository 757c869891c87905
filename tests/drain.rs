//! How connections end when the proxy is stopped.

mod support;

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

use tracehop::config::Limits;
use tracehop::net::Drained;

use support::TestProxy;
use support::patiently;
use support::peer::AbsentBroker;
use support::peer::Broker;
use support::peer::Peer;
use support::sessions;
use support::until;

/// Long enough that a test in which the grace matters fails instead of passing.
const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn an_idle_connection_ends_in_good_order_at_once() {
    let broker = Broker::listen().await;
    let proxy = TestProxy::start_with(&[broker.address], Limits::default(), sessions::lines);
    let (mut app, mut broker) = tokio::join!(proxy.connect(), broker.accept());
    app.say("question\n").await;
    broker.expect("question\n").await;
    broker.say("answer\n").await;
    app.expect("answer\n").await;
    assert_eq!(proxy.drain(NEVER).await, Drained { parted: 1, cut: 0 });
    app.expect_end().await;
    broker.expect_end().await;
}

#[tokio::test]
async fn nothing_new_is_accepted_and_what_is_owed_is_delivered() {
    let broker = Broker::listen().await;
    let proxy = TestProxy::start_with(&[broker.address], Limits::default(), sessions::lines);
    let (address, view) = (proxy.address, proxy.view.clone());
    let (mut app, mut broker) = tokio::join!(proxy.connect(), broker.accept());
    app.say("first\n").await;
    broker.expect("first\n").await;
    let drained = tokio::spawn(proxy.drain(NEVER));
    while !view.is_draining() {
        tokio::task::yield_now().await;
    }
    // Whoever comes for a moment more was not found by the drain, and does not count.
    refused(address).await;
    // The app asks more before it has its answer: that is owed too.
    app.say("second\n").await;
    broker.expect("second\n").await;
    broker.say("one\n").await;
    app.expect("one\n").await;
    broker.say("two\n").await;
    app.expect("two\n").await;
    app.expect_end().await;
    broker.expect_end().await;
    assert_eq!(drained.await.unwrap(), Drained { parted: 1, cut: 0 });
}

#[tokio::test]
async fn a_question_that_waits_unread_is_answered_first() {
    let broker = Broker::listen().await;
    let proxy = TestProxy::start_with(&[broker.address], Limits::default(), sessions::lines);
    let (app, mut broker) = tokio::join!(proxy.connect(), broker.accept());
    // Written without giving the proxy its turn: it learns of the drain before the question.
    app.stream.try_write(b"question\n").unwrap();
    let drained = tokio::spawn(proxy.drain(NEVER));
    broker.expect("question\n").await;
    broker.say("answer\n").await;
    let mut app = app;
    app.expect("answer\n").await;
    app.expect_end().await;
    assert_eq!(drained.await.unwrap(), Drained { parted: 1, cut: 0 });
}

#[tokio::test]
async fn a_session_may_say_goodbye_before_it_parts() {
    let broker = Broker::listen().await;
    let proxy = TestProxy::start_with(&[broker.address], Limits::default(), sessions::polite);
    let (mut app, mut broker) = tokio::join!(proxy.connect(), broker.accept());
    let drained = tokio::spawn(proxy.drain(NEVER));
    app.expect("goodbye\n").await;
    broker.expect("goodbye\n").await;
    broker.say("goodbye\n").await;
    app.expect("goodbye\n").await;
    app.expect_end().await;
    broker.expect_end().await;
    assert_eq!(drained.await.unwrap(), Drained { parted: 1, cut: 0 });
}

#[tokio::test]
async fn a_session_may_lose_its_patience_with_silent_peers() {
    let broker = Broker::listen().await;
    let proxy = TestProxy::start_with(&[broker.address], Limits::default(), sessions::patient);
    let (mut app, mut broker) = tokio::join!(proxy.connect(), broker.accept());
    app.say("question\n").await;
    broker.expect("question\n").await;
    assert_eq!(proxy.drain(NEVER).await, Drained { parted: 1, cut: 0 });
    app.expect_end().await;
    broker.expect_end().await;
}

#[tokio::test]
async fn what_is_still_owed_when_the_grace_is_over_is_cut() {
    let broker = Broker::listen().await;
    let proxy = TestProxy::start_with(&[broker.address], Limits::default(), sessions::lines);
    let view = proxy.view.clone();
    let (mut idle, mut idle_broker) = tokio::join!(proxy.connect(), broker.accept());
    let (mut app, mut broker) = tokio::join!(proxy.connect(), broker.accept());
    app.say("question\n").await;
    broker.expect("question\n").await;
    // However short: on one thread, all that are asked to part have their turn before it is over.
    let grace = Duration::from_millis(10);
    assert_eq!(proxy.drain(grace).await, Drained { parted: 1, cut: 1 });
    assert_eq!(view.connections(), 0);
    idle.expect_end().await;
    idle_broker.expect_end().await;
    app.expect_end().await;
    broker.expect_end().await;
}

#[tokio::test]
async fn an_app_whose_broker_has_not_answered_yet_is_sent_away() {
    let mute = AbsentBroker::new().fall_mute().await;
    let limits = Limits {
        connect_timeout: NEVER,
        ..Limits::default()
    };
    let proxy = TestProxy::start_with(&[mute.address], limits, sessions::passing);
    let mut app = proxy.connect().await;
    app.say("PING\r\n").await;
    until(|| proxy.view.connections() == 1).await;
    assert_eq!(proxy.drain(NEVER).await, Drained { parted: 0, cut: 0 });
    app.expect_reset().await;
}

#[tokio::test]
async fn pops_wait_while_a_delivery_is_under_way_and_everything_else_works() {
    let broker = Broker::listen().await;
    let proxy = TestProxy::start_redis(broker.address);
    let (address, view) = (proxy.address, proxy.view.clone());
    let (mut consumer, mut popped) = tokio::join!(proxy.connect(), broker.accept());
    let (mut other, mut commands) = tokio::join!(proxy.connect(), broker.accept());
    consumer.say(POP).await;
    popped.expect(POP).await;

    let drained = tokio::spawn(proxy.drain(NEVER));
    // Accepted while the pop is at the broker, and until what it brings is put away.
    let (mut late, mut pushed) = tokio::join!(Peer::connect(address), broker.accept());
    late.say("PING\r\n").await;
    pushed.expect("PING\r\n").await;
    pushed.say("+PONG\r\n").await;
    late.expect("+PONG\r\n").await;
    late.say(POP).await;
    popped.say("*2\r\n$1\r\nq\r\n$4\r\ntask\r\n").await;
    consumer.expect("*2\r\n$1\r\nq\r\n$4\r\ntask\r\n").await;
    other.say("HSET unacked tag task\r\n").await;
    commands.expect("HSET unacked tag task\r\n").await;
    commands.say(":1\r\n").await;
    other.expect(":1\r\n").await;
    assert!(!view.is_draining());

    // The client goes on with a pop, which no longer leaves.
    consumer.say(POP).await;
    for mut ended in [consumer, popped, other, commands, late, pushed] {
        ended.expect_end().await;
    }
    assert_eq!(drained.await.unwrap(), Drained { parted: 3, cut: 0 });
}

#[tokio::test]
async fn pops_that_are_at_the_broker_after_half_of_the_grace_are_cut() {
    let broker = Broker::listen().await;
    let proxy = TestProxy::start_redis(broker.address);
    let (mut consumer, mut popped) = tokio::join!(proxy.connect(), broker.accept());
    let (mut idle, mut idle_broker) = tokio::join!(proxy.connect(), broker.accept());
    consumer.say(POP).await;
    popped.expect(POP).await;
    let drained = proxy.drain_after(Duration::from_millis(10), NEVER).await;
    assert_eq!(drained, Drained { parted: 1, cut: 1 });
    for ended in [&mut consumer, &mut popped, &mut idle, &mut idle_broker] {
        ended.expect_end().await;
    }
}

/// As kombu takes a message.
const POP: &str = "*3\r\n$5\r\nBRPOP\r\n$1\r\nq\r\n$1\r\n1\r\n";

/// Waits until nobody listens at `address`.
async fn refused(address: std::net::SocketAddr) {
    patiently(async {
        loop {
            match TcpStream::connect(address).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => break,
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await;
}
