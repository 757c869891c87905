//! What one side of a connection sees of the other: the same as without the proxy.

mod support;

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::tcp::OwnedWriteHalf;

use tracehop::config::Limits;
use tracehop::config::Route;
use tracehop::hop::Answer;
use tracehop::hop::Sighting;
use tracehop::net::Parts;
use tracehop::protocol::Side;
use tracehop::telemetry::Queue;
use tracehop::telemetry::Sightings;
use tracehop::telemetry::now;
use tracehop::trace::Timestamp;

use support::TestProxy;
use support::log::Log;
use support::parts;
use support::patiently;
use support::peer::AbsentBroker;
use support::peer::Broker;
use support::peer::Peer;
use support::redis::Redis;
use support::route;
use support::sessions;
use support::until;

/// A proxy with one connection through it.
async fn joined() -> (TestProxy, Peer, Peer) {
    joined_with(Limits::default(), sessions::passing).await
}

async fn joined_with(
    limits: Limits,
    open: impl Fn() -> Box<dyn tracehop::protocol::Session> + Send + Sync + 'static,
) -> (TestProxy, Peer, Peer) {
    let broker = Broker::listen().await;
    let proxy = TestProxy::start_with(&[broker.address], limits, open);
    let (mut app, mut broker) = tokio::join!(proxy.connect(), broker.accept());
    // The kernel may have accepted what the proxy has not noticed yet.
    broker.say("welcome").await;
    app.expect("welcome").await;
    (proxy, app, broker)
}

#[tokio::test]
async fn who_is_not_redirected_to_a_transparent_route_is_refused() {
    let log = Log::capture();
    let proxy = TestProxy::start_route(
        Route {
            transparent: true,
            upstream: Vec::new(),
            ..route(&[])
        },
        Limits::default(),
    );
    let mut app = proxy.connect().await;
    app.expect_reset().await;
    assert_eq!(
        proxy.failures(),
        [r#"{route="test",reason="not_redirected"} 1"#]
    );
    assert_eq!(log.lines("have the firewall redirect").len(), 1);
}

// Ends and resets.

#[tokio::test]
async fn an_app_that_has_finished_still_hears_the_broker() {
    let (_proxy, mut app, mut broker) = joined().await;
    app.say("last words").await;
    app.finish().await;
    broker.expect("last words").await;
    broker.expect_end().await;
    broker.say("an answer").await;
    app.expect("an answer").await;
    broker.finish().await;
    app.expect_end().await;
}

#[tokio::test]
async fn a_broker_that_has_finished_still_hears_the_app() {
    let (proxy, mut app, mut broker) = joined().await;
    broker.say("last words").await;
    broker.finish().await;
    app.expect("last words").await;
    app.expect_end().await;
    app.say("still here").await;
    broker.expect("still here").await;
    app.finish().await;
    broker.expect_end().await;
    until(|| proxy.view.connections() == 0).await;
}

#[tokio::test]
async fn a_connection_whose_app_has_left_does_not_stay_for_ever() {
    let limits = Limits {
        half_closed_max: Duration::from_millis(20),
        ..Limits::default()
    };
    let (proxy, mut app, mut hung) = joined_with(limits, sessions::passing).await;
    app.say("a question").await;
    drop(app);
    hung.expect("a question").await;
    until(|| proxy.view.connections() == 0).await;
    assert_eq!(
        proxy.failures(),
        [r#"{route="test",reason="half_closed"} 1"#]
    );
}

#[tokio::test]
async fn a_reset_by_the_broker_resets_the_app() {
    let (proxy, mut app, broker) = joined().await;
    broker.reset();
    app.expect_reset().await;
    until(|| proxy.view.connections() == 0).await;
    let failures = [r#"{route="test",reason="broker_lost"} 1"#];
    assert_eq!(proxy.failures(), failures);
}

#[tokio::test]
async fn a_reset_behind_the_agreed_end_of_a_connection_is_no_fault() {
    let header = b"AMQP\x00\x00\x09\x01";
    let close = b"\x01\x00\x00\x00\x00\x00\x0b\x00\x0a\x00\x32\x00\xc8\x00\x00\x00\x00\x00\xce";
    let close_ok = b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x33\xce";
    for is_asked_by_app in [true, false] {
        let broker = Broker::listen().await;
        let proxy = TestProxy::start_amqp(broker.address);
        let (mut app, mut broker) = tokio::join!(proxy.connect(), broker.accept());
        app.say(header).await;
        broker.expect(header).await;
        let (asks, agrees) = match is_asked_by_app {
            true => (&mut app, &mut broker),
            false => (&mut broker, &mut app),
        };
        asks.say(close).await;
        agrees.expect(close).await;
        agrees.say(close_ok).await;
        asks.expect(close_ok).await;
        broker.reset();
        app.expect_reset().await;
        until(|| proxy.view.connections() == 0).await;
        assert_eq!(proxy.failures(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_reset_of_a_connection_that_its_app_has_ended_is_no_fault() {
    let (proxy, mut app, mut broker) = joined().await;
    app.finish().await;
    broker.expect_end().await;
    broker.reset();
    app.expect_reset().await;
    until(|| proxy.view.connections() == 0).await;
    assert_eq!(proxy.failures(), Vec::<String>::new());
}

#[tokio::test]
async fn whoever_looks_only_whether_somebody_listens_is_no_fault() {
    let leave: [fn(Peer); 2] = [drop, |probe| probe.reset()];
    for start in [TestProxy::start_redis, TestProxy::start_amqp] {
        for leave in leave {
            let broker = Broker::listen().await;
            let proxy = start(broker.address);
            let (probe, mut broker) = tokio::join!(proxy.connect(), broker.accept());
            leave(probe);
            broker.expect_end().await;
            broker.reset();
            until(|| proxy.view.connections() == 0).await;
            assert_eq!(proxy.failures(), Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn what_the_broker_said_before_its_reset_is_heard() {
    let (_proxy, mut app, mut broker) = joined().await;
    broker.say("-ERR max number of clients reached\r\n").await;
    broker.reset();
    app.expect("-ERR max number of clients reached\r\n").await;
    app.expect_reset().await;
}

#[tokio::test]
async fn what_the_broker_said_is_heard_though_it_listens_no_more() {
    let (_proxy, mut app, mut broker) = joined().await;
    app.say("never read by the broker").await;
    patiently(broker.stream.peek(&mut [0])).await.unwrap();
    broker.say("-ERR go away\r\n").await;
    // To close with bytes unread is to reset.
    drop(broker);
    app.expect("-ERR go away\r\n").await;
    app.expect_reset().await;
}

#[tokio::test]
async fn an_app_hears_as_much_of_a_broker_that_resets_as_it_would_without_the_proxy() {
    let broker = Broker::listen().await;
    let proxy = TestProxy::start(&[broker.address]);
    for is_late in [false, true] {
        for count in [1, 100 << 10, 2 << 20] {
            let (app, far) = tokio::join!(Peer::connect(broker.address), broker.accept());
            let direct = heard_of_a_reset(app, far, count, is_late).await;
            let (app, far) = tokio::join!(proxy.connect(), broker.accept());
            let through = heard_of_a_reset(app, far, count, is_late).await;
            let case = format!("{count} bytes, late: {is_late}");
            assert!(through >= direct, "{through} instead of {direct} of {case}");
        }
    }
    // In each case it heard of the reset, too.
    until(|| proxy.view.connections() == 0).await;
    let failures = [r#"{route="test",reason="broker_lost"} 6"#];
    assert_eq!(proxy.failures(), failures);
}

/// How much of `count` bytes an app hears before the reset that follows them. A late one begins
/// to read after that.
async fn heard_of_a_reset(mut app: Peer, mut broker: Peer, count: usize, is_late: bool) -> usize {
    broker.say("welcome").await;
    app.expect("welcome").await;
    let said = async move {
        let bytes = vec![7; count];
        let mut said = 0;
        // As far as the kernel takes them.
        while said < count
            && let Ok(more) = broker.stream.try_write(&bytes[said..])
        {
            said += more;
        }
        broker.reset();
    };
    let hearing = async {
        let mut heard = 0;
        loop {
            match app.next().await {
                Ok(bytes) if bytes.is_empty() => panic!("an end, not a reset"),
                Ok(bytes) => heard += bytes.len(),
                Err(_) => return heard,
            }
        }
    };
    if is_late {
        said.await;
        return hearing.await;
    }
    tokio::join!(hearing, said).0
}

#[tokio::test]
async fn an_app_that_talks_to_a_broker_that_has_left_is_reset() {
    let (_proxy, mut app, broker) = joined().await;
    drop(broker);
    app.expect_end().await;
    let error = patiently(async {
        loop {
            if let Err(error) = app.stream.write_all(b"is anybody there?").await {
                break error;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(matches!(
        error.kind(),
        std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset
    ));
}

#[tokio::test]
async fn all_that_an_app_said_before_its_reset_reaches_the_broker() {
    let (proxy, mut app, mut broker) = joined().await;
    app.say("a whole message").await;
    app.reset();
    broker.expect("a whole message").await;
    broker.expect_end().await;
    // What the broker still answers is read for what it tells, and goes nowhere.
    broker.say("an answer to nobody").await;
    drop(broker);
    until(|| proxy.view.connections() == 0).await;
}

#[tokio::test]
async fn what_a_session_holds_is_let_go_before_the_end() {
    let broker = Broker::listen().await;
    let proxy = TestProxy::start_with(&[broker.address], Limits::default(), sessions::holding);
    let (mut app, mut broker) = tokio::join!(proxy.connect(), broker.accept());
    app.say("an unfinished mess").await;
    app.finish().await;
    broker.expect("an unfinished mess").await;
    broker.expect_end().await;
    broker.say("half an ans").await;
    broker.finish().await;
    app.expect("half an ans").await;
    app.expect_end().await;
}

#[tokio::test]
async fn a_panic_resets_its_own_connection_and_no_other() {
    let broker = Broker::listen().await;
    let proxy = TestProxy::start_with(&[broker.address], Limits::default(), sessions::fragile);
    let (mut app, mut its_broker) = tokio::join!(proxy.connect(), broker.accept());
    let (mut other, mut others_broker) = tokio::join!(proxy.connect(), broker.accept());
    app.say("boom").await;
    app.expect_reset().await;
    its_broker.expect_reset().await;
    other.say("fine").await;
    others_broker.expect("fine").await;
    assert_eq!(proxy.failures(), [r#"{route="test",reason="panic"} 1"#]);
}

// What a session is told, and what it tells.

#[tokio::test]
async fn however_a_connection_ends_its_session_is_told_of_both_ends_once() {
    let ways: [fn(Peer, Peer); 4] = [
        |app, _broker| drop(app),
        |app, _broker| app.reset(),
        |_app, broker| drop(broker),
        |_app, broker| broker.reset(),
    ];
    for end in ways {
        let (proxy, app, broker, ends) = joined_finishing().await;
        end(app, broker);
        until(|| proxy.view.connections() == 0).await;
        assert_told_of_both(ends);
    }
    let (proxy, app, broker, ends) = joined_finishing().await;
    proxy.drain(Duration::ZERO).await;
    assert_told_of_both(ends);
    drop((app, broker));
}

async fn joined_finishing() -> (TestProxy, Peer, Peer, mpsc::Receiver<Side>) {
    let (told, ends) = mpsc::channel();
    let (proxy, app, broker) = joined_with(Limits::default(), move || {
        let told = told.clone();
        sessions::finishing(move |side| told.send(side).unwrap())
    })
    .await;
    (proxy, app, broker, ends)
}

fn assert_told_of_both(ends: mpsc::Receiver<Side>) {
    let ends: Vec<_> = ends.try_iter().collect();
    assert_eq!(ends.len(), 2, "{ends:?}");
    assert!(
        ends.contains(&Side::Client) && ends.contains(&Side::Broker),
        "{ends:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sighting_is_recorded_before_its_bytes_arrive() {
    let parts = parts();
    let (sightings, recorded) = Sightings::queue(1, Arc::clone(&parts.metrics));
    let parts = Parts { sightings, ..parts };
    let broker = Broker::listen().await;
    let brokers = [broker.address];
    let proxy = TestProxy::start_seeing(&brokers, Limits::default(), parts, sessions::sighting);
    let (mut app, mut broker) = tokio::join!(proxy.connect(), broker.accept());
    for _ in 0..1_000 {
        app.say("x").await;
        broker.expect("x").await;
        assert!(recorded.try_take(&mut Vec::new()), "it is there already");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_that_nobody_answers_ends_when_the_brokers_socket_has_taken_it() {
    let (_proxy, mut app, broker, recorded) = joined_unanswered().await;
    assert!(ends(&recorded).is_empty(), "it is with us");
    let unread = now();
    let (broker_hears, _broker_says) = broker.stream.into_split();
    let drunk = tokio::spawn(drink(broker_hears, vec![0; STALLED_BYTES].into()));
    let mut ends_told = Vec::new();
    until(|| {
        ends_told.extend(ends(&recorded));
        !ends_told.is_empty()
    })
    .await;
    let [(at, Answer::Unanswered)] = &*ends_told else {
        panic!("{ends_told:?}");
    };
    assert!(*at > unread);
    app.finish().await;
    drunk.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_that_the_broker_never_took_is_lost() {
    let (proxy, _app, broker, recorded) = joined_unanswered().await;
    broker.reset();
    until(|| proxy.view.connections() == 0).await;
    let told = ends(&recorded);
    assert!(matches!(&*told, [(_, Answer::Lost)]), "{told:?}");
}

/// An app that has said more than the sockets on the way to its broker can take, which reads
/// nothing: the rest waits in the proxy.
async fn joined_unanswered() -> (TestProxy, Peer, Peer, Queue) {
    let limits = Limits {
        buffer_bytes_max: STALLED_BYTES,
        buffer_total_bytes_max: 20 * STALLED_BYTES,
        ..Limits::default()
    };
    let parts = parts();
    let (sightings, recorded) = Sightings::queue(1 << 20, Arc::clone(&parts.metrics));
    let parts = Parts { sightings, ..parts };
    let broker = Broker::listen().await;
    let brokers = [broker.address];
    let proxy = TestProxy::start_seeing(&brokers, limits, parts, sessions::unanswered);
    let (mut app, broker) = tokio::join!(proxy.connect(), broker.accept());
    SockRef::from(&broker.stream)
        .set_recv_buffer_size(64 << 10)
        .unwrap();
    app.say(vec![0; STALLED_BYTES]).await;
    let received = "tracehop_received_bytes_total{route=\"test\",peer=\"client\"}";
    until(|| proxy.metric(received) == Some(STALLED_BYTES as f64)).await;
    (proxy, app, broker, recorded)
}

/// How the last publication has ended, and when.
fn ends(recorded: &Queue) -> Vec<(Timestamp, Answer)> {
    let mut seen = Vec::new();
    recorded.try_take(&mut seen);
    let ends = seen.into_iter().filter_map(|sighting| match sighting {
        Sighting::Answered { hop, at, answer } => {
            (hop.number == STALLED_BYTES as u64).then_some((at, answer))
        }
        _ => None,
    });
    ends.collect()
}

/// More than the kernel takes for a broker that does not read.
const STALLED_BYTES: usize = 12 << 20;

// The way to the broker.

#[tokio::test]
async fn a_broker_that_refuses_resets_the_app() {
    let broker = AbsentBroker::new();
    let proxy = TestProxy::start(&[broker.address]);
    proxy.connect().await.expect_reset().await;
}

#[tokio::test]
async fn that_no_broker_can_be_reached_is_logged_once_with_all_addresses() {
    let log = Log::capture();
    let brokers = [AbsentBroker::new(), AbsentBroker::new()];
    let proxy = TestProxy::start(&[brokers[0].address, brokers[1].address]);
    let mut app = proxy.connect().await;
    let address = app.stream.local_addr().unwrap();
    app.expect_reset().await;
    proxy.connect().await.expect_reset().await;
    let failures = [r#"{route="test",reason="unreachable"} 2"#];
    assert_eq!(proxy.failures(), failures);
    let lines = log.lines("no broker could be reached");
    let [line] = &*lines else {
        panic!("one line, not {lines:?}");
    };
    for address in [address, brokers[0].address, brokers[1].address] {
        assert!(line.contains(&address.to_string()), "{line}");
    }
}

#[tokio::test]
async fn the_next_upstream_is_tried_when_one_refuses() {
    let absent = AbsentBroker::new();
    let proxy = TestProxy::start(&[absent.address, Broker::echoing().await]);
    let mut app = proxy.connect().await;
    app.say("hello").await;
    app.expect("hello").await;
}

#[tokio::test]
async fn the_next_upstream_is_tried_when_one_does_not_answer() {
    let mute = AbsentBroker::new().fall_mute().await;
    let proxy = TestProxy::start(&[mute.address, Broker::echoing().await]);
    let mut app = proxy.connect().await;
    app.say("hello").await;
    app.expect("hello").await;
}

#[tokio::test]
async fn a_silent_node_of_a_cluster_is_overtaken_by_the_next() {
    let mute = AbsentBroker::new().fall_mute().await;
    let mut route = route(&[mute.address, mute.address, Broker::echoing().await]);
    for upstream in &mut route.upstream {
        upstream.scheme = "amqp";
    }
    // Too little for the pause that there is between brokers that have not the same queues.
    let limits = Limits {
        connect_timeout: Duration::from_millis(2_500),
        ..Limits::default()
    };
    let proxy = TestProxy::start_route(route, limits);
    let mut app = proxy.connect().await;
    app.say("hello").await;
    app.expect("hello").await;
}

#[tokio::test]
async fn an_upstream_that_was_silent_is_tried_last_by_the_next_connection() {
    let mute = AbsentBroker::new().fall_mute().await;
    // Too little for one connection to try both.
    let limits = Limits {
        connect_timeout: Duration::from_millis(1_200),
        ..Limits::default()
    };
    let brokers = [mute.address, Broker::echoing().await];
    let proxy = TestProxy::start_with(&brokers, limits, sessions::passing);
    proxy.connect().await.expect_reset().await;
    assert_is_echoed_in_the_end(&proxy).await;
}

/// Connects until a broker answers: on a busy machine one may come too late.
async fn assert_is_echoed_in_the_end(proxy: &TestProxy) {
    patiently(async {
        loop {
            let mut app = proxy.connect().await;
            app.say("hello").await;
            if app.next().await.is_ok_and(|heard| heard == b"hello") {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_comes_back_is_found_again() {
    let broker = AbsentBroker::new();
    let proxy = TestProxy::start(&[broker.address]);
    proxy.connect().await.expect_reset().await;
    let broker = broker.listen();
    let (mut app, mut broker) = tokio::join!(proxy.connect(), broker.accept());
    app.say("hello").await;
    broker.expect("hello").await;
}

#[tokio::test]
async fn an_app_that_leaves_is_not_kept_waiting_for() {
    let mute = AbsentBroker::new().fall_mute().await;
    let limits = Limits {
        connect_timeout: Duration::from_secs(3600),
        ..Limits::default()
    };
    let proxy = TestProxy::start_with(&[mute.address], limits, sessions::passing);
    let silent = proxy.connect().await;
    let mut talking = proxy.connect().await;
    talking.say("PING\r\n").await;
    let mut hasty = proxy.connect().await;
    hasty.say("PING\r\n").await;
    until(|| proxy.view.connections() == 3).await;
    drop(silent);
    talking.reset();
    hasty.finish().await;
    until(|| proxy.view.connections() == 0).await;
}

// Slow readers.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_does_not_read_stops_its_broker_and_nothing_else() {
    let (proxy, app, broker) = joined_watched().await;
    one_side_does_not_read(&proxy, broker, app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_does_not_read_stops_its_app_and_nothing_else() {
    let (proxy, app, broker) = joined_watched().await;
    one_side_does_not_read(&proxy, app, broker).await;
}

const BUFFER_BYTES_MAX: usize = 64 << 10;

/// A connection whose session sees to it that no more waits than may.
async fn joined_watched() -> (TestProxy, Peer, Peer) {
    let limits = Limits {
        buffer_bytes_max: BUFFER_BYTES_MAX,
        ..Limits::default()
    };
    joined_with(limits, move || {
        sessions::watching(move |_: Side, waiting| assert!(waiting < limits.buffer_bytes_max))
    })
    .await
}

/// `sender` has far more to say than all buffers on the way can take. `reader` reads none of
/// it, yet everything it says itself is heard at once. Then it reads, and nothing is missing.
async fn one_side_does_not_read(proxy: &TestProxy, sender: Peer, reader: Peer) {
    // Otherwise the kernel alone may take all of it.
    let small = 256 << 10;
    SockRef::from(&sender.stream)
        .set_send_buffer_size(small)
        .unwrap();
    SockRef::from(&reader.stream)
        .set_recv_buffer_size(small)
        .unwrap();

    let bulk = bulk();
    let (mut sender_hears, sender_says) = sender.stream.into_split();
    let (reader_hears, mut reader_says) = reader.stream.into_split();
    let all_said = tokio::spawn(pour(sender_says, Arc::clone(&bulk)));
    for number in 0..2_000_u32 {
        patiently(reader_says.write_all(&number.to_be_bytes()))
            .await
            .unwrap();
        assert_eq!(patiently(sender_hears.read_u32()).await.unwrap(), number);
        // As much as may wait for the one that does not read, and a word for the other.
        assert!(proxy.view.buffered_bytes() <= BUFFER_BYTES_MAX + 1024);
    }
    assert!(!all_said.is_finished(), "all of it went into buffers");
    patiently(drink(reader_hears, bulk)).await;
    all_said.await.unwrap();
}

// Bulk.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_goes_both_ways_at_once_and_arrives_as_it_was_sent() {
    let (proxy, app, broker) = joined_watched().await;
    let bulk = bulk();
    let (app_hears, app_says) = app.stream.into_split();
    let (broker_hears, broker_says) = broker.stream.into_split();
    let flows = [
        tokio::spawn(pour(app_says, Arc::clone(&bulk))),
        tokio::spawn(drink(broker_hears, Arc::clone(&bulk))),
        tokio::spawn(pour(broker_says, Arc::clone(&bulk))),
        tokio::spawn(drink(app_hears, bulk)),
    ];
    for flow in flows {
        patiently(flow).await.unwrap();
    }
    until(|| proxy.view.connections() == 0).await;
}

/// 64 MiB in which no part is like another.
fn bulk() -> Arc<[u8]> {
    let mut bytes = vec![0; 64 << 20];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    bytes.into()
}

/// Says all of it in pieces of odd sizes, then the end.
async fn pour(mut to: OwnedWriteHalf, bulk: Arc<[u8]>) {
    let mut random = fastrand::Rng::with_seed(2);
    let mut left = &*bulk;
    while !left.is_empty() {
        let (piece, rest) = left.split_at(random.usize(1..256 << 10).min(left.len()));
        to.write_all(piece).await.unwrap();
        left = rest;
    }
    to.shutdown().await.unwrap();
}

/// Reads to the end, and expects to find all of it.
async fn drink(mut from: OwnedReadHalf, bulk: Arc<[u8]>) {
    let mut piece = vec![0; 128 << 10];
    let mut left = &*bulk;
    loop {
        let count = from.read(&mut piece).await.unwrap();
        if count == 0 {
            break assert!(left.is_empty(), "{} bytes are missing", left.len());
        }
        let (expected, rest) = left.split_at(count);
        assert!(piece[..count] == *expected, "other bytes than were sent");
        left = rest;
    }
}

// With a real broker.

#[tokio::test]
async fn a_redis_that_is_killed_looks_as_it_does_without_the_proxy() {
    let mut redis = Redis::start().await;
    let proxy = TestProxy::start_redis(redis.address);
    let mut direct = Peer::connect(redis.address).await;
    let mut through = proxy.connect().await;
    for app in [&mut direct, &mut through] {
        app.say("PING\r\n").await;
        app.expect("+PONG\r\n").await;
        app.say("BRPOP celery 0\r\n").await;
    }
    // What it has not read yet when it dies is answered by a reset.
    let mut watcher = Peer::connect(redis.address).await;
    patiently(async {
        loop {
            watcher.say("INFO clients\r\n").await;
            let clients = watcher.next().await.unwrap();
            if String::from_utf8_lossy(&clients).contains("blocked_clients:2") {
                return;
            }
        }
    })
    .await;
    redis.kill();
    assert_eq!(
        through.next().await.map_err(|error| error.kind()),
        direct.next().await.map_err(|error| error.kind())
    );
    proxy.connect().await.expect_reset().await;

    let redis = Redis::start_on(redis.address).await;
    assert!(redis.is_some(), "the address is still free");
    let mut app = proxy.connect().await;
    app.say("PING\r\n").await;
    app.expect("+PONG\r\n").await;
}

#[tokio::test]
async fn a_value_of_64_mib_goes_to_redis_and_comes_back() {
    let redis = Redis::start().await;
    let proxy = TestProxy::start_redis(redis.address);
    let value = bulk();
    let mut app = proxy.connect().await;
    app.say("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$67108864\r\n").await;
    app.say(&value).await;
    app.say("\r\n").await;
    app.expect("+OK\r\n").await;
    app.say("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n").await;
    app.expect("$67108864\r\n").await;
    app.expect(&value).await;
    app.expect("\r\n").await;
}
