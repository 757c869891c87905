//! TLS on either side: the same as without it, and clear words where there can be none.

mod support;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::time::Duration;

use rustls::version::TLS12;
use rustls::version::TLS13;

use tracehop::config::Limits;
use tracehop::config::ListenerTls;
use tracehop::config::MovingAddress;
use tracehop::config::Route;
use tracehop::config::Upstream;
use tracehop::config::UpstreamTls;
use tracehop::net::Drained;
use tracehop::net::Parts;
use tracehop::net::Workers;

use support::TestProxy;
use support::log::Log;
use support::parts;
use support::peer::Broker;
use support::peer::Peer;
use support::route;
use support::tls::Authority;
use support::tls::Folder;
use support::tls::TlsBroker;
use support::tls::TlsPeer;
use support::tls::certificate_in;
use support::tls::connect;
use support::until;

/// An authority, and files signed by it for a route with TLS on both sides.
struct Stage {
    authority: Authority,
    folder: Folder,
}

impl Stage {
    fn new(name: &str) -> Self {
        Self {
            authority: Authority::new(),
            folder: Folder::new(name),
        }
    }

    /// A route to brokers that are `localhost`, which any app may connect to.
    fn route(&self, brokers: &[SocketAddr]) -> Route {
        let papers = self.authority.sign("localhost");
        Route {
            moving_address: MovingAddress::default(),
            tls: Some(ListenerTls {
                identity: self.folder.identity("listener", &papers),
                client_ca: None,
            }),
            ..self.route_without_listener(brokers)
        }
    }

    /// The same for apps without TLS.
    fn route_without_listener(&self, brokers: &[SocketAddr]) -> Route {
        let upstream = brokers.iter().map(|address| Upstream {
            scheme: "rediss",
            host: "localhost".into(),
            port: address.port(),
        });
        Route {
            upstream: upstream.collect(),
            upstream_tls: UpstreamTls {
                ca: Some(self.folder.authority("authority", &self.authority)),
                ..UpstreamTls::default()
            },
            ..route(brokers)
        }
    }

    async fn broker(&self) -> TlsBroker {
        TlsBroker::listen(&self.authority.sign("localhost")).await
    }

    async fn connect(&self, proxy: &TestProxy) -> TlsPeer {
        let app = connect(proxy.address, &self.authority, None).await;
        app.expect("a handshake")
    }

    /// A proxy with one connection through it.
    async fn joined(&self) -> (TestProxy, TlsPeer, TlsPeer) {
        let broker = self.broker().await;
        let proxy = start(self.route(&[broker.address]));
        let (mut app, mut broker) = tokio::join!(self.connect(&proxy), broker.accept());
        broker.say("welcome").await;
        app.expect("welcome").await;
        (proxy, app, broker)
    }
}

fn start(route: Route) -> TestProxy {
    TestProxy::start_route(route, Limits::default())
}

// What passes.

#[tokio::test]
async fn tls_goes_with_a_connection_to_the_thread_that_relays_it() {
    let stage = Stage::new("threads");
    let broker = stage.broker().await;
    let parts = Parts {
        workers: Workers::start().unwrap(),
        ..parts()
    };
    let route = stage.route(&[broker.address]);
    let proxy = TestProxy::start_route_with(route, Limits::default(), parts);
    for _ in 0..5 {
        let (mut app, mut broker) = tokio::join!(stage.connect(&proxy), broker.accept());
        app.say("a question").await;
        broker.expect("a question").await;
        broker.say("an answer").await;
        app.expect("an answer").await;
    }
}

#[tokio::test]
async fn much_passes_both_ways_at_once_and_each_end_is_told_by_itself() {
    let stage = Stage::new("much");
    let (_proxy, mut app, mut broker) = stage.joined().await;
    let much: Vec<u8> = (0..3 << 20).map(|index: u32| (index / 7) as u8).collect();
    for _ in 0..2 {
        let (mut from_app, mut to_broker) = tokio::io::split(app.stream);
        let (mut from_broker, mut to_app) = tokio::io::split(broker.stream);
        use tokio::io::AsyncReadExt;
        use tokio::io::AsyncWriteExt;
        let (mut heard, mut answered) = (vec![0; much.len()], vec![0; much.len()]);
        support::patiently(async {
            let sent = async {
                to_broker.write_all(&much).await.unwrap();
                to_broker.flush().await.unwrap();
            };
            let answer = async {
                to_app.write_all(&much).await.unwrap();
                to_app.flush().await.unwrap();
            };
            let hear = async { from_broker.read_exact(&mut heard).await.unwrap() };
            let get = async { from_app.read_exact(&mut answered).await.unwrap() };
            tokio::join!(sent, answer, hear, get);
        })
        .await;
        assert!(heard == much && answered == much);
        app = Peer {
            stream: from_app.unsplit(to_broker),
        };
        broker = Peer {
            stream: from_broker.unsplit(to_app),
        };
    }
    app.say("last words").await;
    app.finish().await;
    broker.expect("last words").await;
    broker.expect_end().await;
    broker.say("an answer").await;
    broker.finish().await;
    app.expect("an answer").await;
    app.expect_end().await;
}

#[tokio::test]
async fn tls_on_one_side_says_nothing_about_the_other() {
    let stage = Stage::new("one-side");
    let tls_broker = stage.broker().await;
    let proxy = start(stage.route_without_listener(&[tls_broker.address]));
    let (mut app, mut broker) = tokio::join!(proxy.connect(), tls_broker.accept());
    app.say("question").await;
    broker.expect("question").await;
    broker.say("answer").await;
    app.expect("answer").await;
    drop(app);
    broker.expect_end().await;

    let plain_broker = Broker::listen().await;
    let proxy = start(Route {
        upstream: route(&[plain_broker.address]).upstream,
        ..stage.route(&[])
    });
    let (mut app, mut broker) = tokio::join!(stage.connect(&proxy), plain_broker.accept());
    app.say("question").await;
    broker.expect("question").await;
    broker.say("answer").await;
    app.expect("answer").await;
    broker.finish().await;
    app.expect_end().await;
}

#[tokio::test]
async fn who_just_closes_has_ended_all_the_same() {
    let stage = Stage::new("hang-up");
    let (proxy, mut app, mut broker) = stage.joined().await;
    app.say("last words").await;
    app.hang_up();
    broker.expect("last words").await;
    broker.expect_end().await;
    broker.hang_up();
    until(|| proxy.view.connections() == 0).await;
    assert_eq!(proxy.failures(), Vec::<String>::new());
}

#[tokio::test]
async fn a_reset_of_the_broker_is_one_of_the_app() {
    let stage = Stage::new("reset");
    let (proxy, mut app, mut broker) = stage.joined().await;
    broker.say("-ERR max number of clients reached\r\n").await;
    broker.reset();
    app.expect("-ERR max number of clients reached\r\n").await;
    app.expect_reset().await;
    until(|| proxy.failures() == [r#"{route="test",reason="broker_lost"} 1"#]).await;
}

#[tokio::test]
async fn an_idle_connection_parts_in_good_order() {
    let stage = Stage::new("drain");
    let (proxy, mut app, mut broker) = stage.joined().await;
    let drained = proxy.drain(Duration::from_secs(3600)).await;
    assert_eq!(drained, Drained { parted: 1, cut: 0 });
    app.expect_end().await;
    broker.expect_end().await;
}

// What apps may do wrong.

#[tokio::test]
async fn an_app_that_does_not_speak_tls_is_let_go() {
    let stage = Stage::new("plain-app");
    let log = Log::capture();
    let proxy = start(stage.route(&[]));
    let mut app = proxy.connect().await;
    app.say("*1\r\n$4\r\nPING\r\n").await;
    app.expect_reset().await;
    assert_failure(&proxy, &log, "tls_client", "it does not speak TLS; put TLS").await;
}

#[tokio::test]
async fn an_app_that_speaks_tls_where_none_is_spoken_is_let_go() {
    let stage = Stage::new("tls-app");
    let log = Log::capture();
    let broker = Broker::listen().await;
    let proxy = TestProxy::start(&[broker.address]);
    let app = connect(proxy.address, &stage.authority, None);
    let (app, mut broker) = tokio::join!(app, broker.accept());
    assert!(app.is_err());
    broker.expect_end().await;
    assert_failure(&proxy, &log, "tls_unexpected", "set `tls_certificate` and").await;
}

#[tokio::test]
async fn an_app_shows_a_certificate_where_one_is_asked_for() {
    let stage = Stage::new("client-ca");
    let broker = stage.broker().await;
    let mut route = stage.route(&[broker.address]);
    let listener = route.tls.as_mut().unwrap();
    listener.client_ca = Some(stage.folder.path("authority.pem"));
    let own = stage.authority.sign("app");
    {
        let proxy = start(route.clone());
        let app = connect(proxy.address, &stage.authority, Some(&own));
        let (app, mut broker) = tokio::join!(app, broker.accept());
        app.unwrap().say("it is me").await;
        broker.expect("it is me").await;
    }
    let stranger = Authority::new().sign("app");
    let outdated = stage.authority.sign_until("app", 2001);
    for (papers, words) in [
        (None, "it shows no certificate of its own"),
        (Some(&stranger), "is signed by nobody we trust"),
        (Some(&outdated), "its certificate has expired"),
    ] {
        let log = Log::capture();
        let proxy = start(route.clone());
        // To the app of TLS 1.3 the handshake is over before its certificate is looked at.
        if let Ok(mut app) = connect(proxy.address, &stage.authority, papers).await {
            app.next().await.expect_err("it is told");
        }
        assert_failure(&proxy, &log, "tls_client", words).await;
    }
}

#[tokio::test]
async fn an_app_that_does_not_trust_us_is_told_of() {
    let stage = Stage::new("distrust");
    let log = Log::capture();
    let proxy = start(stage.route(&[]));
    assert!(
        connect(proxy.address, &Authority::new(), None)
            .await
            .is_err()
    );
    assert_failure(&proxy, &log, "tls_client", "have the app trust").await;
}

#[tokio::test]
async fn who_says_nothing_is_no_failure_until_it_takes_too_long() {
    let stage = Stage::new("silent");
    let limits = Limits {
        handshake_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let log = Log::capture();
    let proxy = TestProxy::start_route(stage.route(&[]), limits);
    // As a probe does.
    drop(proxy.connect().await);
    until(|| proxy.metric(r#"tracehop_connections_opened_total{route="test"}"#) == Some(1.0)).await;
    until(|| proxy.view.connections() == 0).await;
    assert_eq!(proxy.failures(), Vec::<String>::new());

    let mut app = proxy.connect().await;
    app.expect_end().await;
    assert_failure(&proxy, &log, "tls_client", "it took too long").await;
}

// What brokers may do wrong.

#[tokio::test]
async fn a_broker_that_cannot_be_trusted_is_not_talked_to() {
    let stage = Stage::new("distrusted");
    let stranger = Authority::new().sign("localhost");
    let outdated = stage.authority.sign_until("localhost", 2001);
    let misnamed = stage.authority.sign("elsewhere.example");
    for (papers, words) in [
        (&stranger, "signed by nobody we trust; set `upstream_ca`"),
        (&outdated, "its certificate has expired; renew"),
        (&misnamed, "its certificate is not for localhost; address"),
    ] {
        let log = Log::capture();
        let broker = TlsBroker::listen(papers).await;
        let proxy = start(stage.route_without_listener(&[broker.address]));
        let (mut app, refused) = tokio::join!(proxy.connect(), broker.try_accept());
        assert!(refused.is_err());
        app.expect_reset().await;
        assert_failure(&proxy, &log, "tls_broker", words).await;
    }
}

#[tokio::test]
async fn a_broker_that_does_not_speak_tls_is_told_of() {
    let stage = Stage::new("plain-broker");
    let limits = Limits {
        handshake_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    for (says, words) in [
        (
            Some("AMQP\0\0\x09\x01"),
            "its answer is not TLS; name a port",
        ),
        (Some(""), "it ended the connection in the middle"),
        (None, "it took too long over the handshake"),
    ] {
        let log = Log::capture();
        let broker = Broker::listen().await;
        let route = stage.route_without_listener(&[broker.address]);
        let proxy = TestProxy::start_route(route, limits);
        let (mut app, mut broker) = tokio::join!(proxy.connect(), broker.accept());
        if let Some(says) = says {
            broker.say(says).await;
            broker.finish().await;
        }
        app.expect_reset().await;
        assert_failure(&proxy, &log, "tls_broker", words).await;
    }
}

#[tokio::test]
async fn a_broker_that_wants_a_certificate_gets_it_or_tells_why_not() {
    let stage = Stage::new("mutual");
    let papers = stage.authority.sign("localhost");
    let own = stage.folder.identity("own", &stage.authority.sign("proxy"));
    let strange = stage
        .folder
        .identity("strange", &Authority::new().sign("proxy"));
    for version in [&TLS12, &TLS13] {
        let broker = TlsBroker::listen_with(&papers, Some(&stage.authority), &[version]).await;
        let route = stage.route_without_listener(&[broker.address]);
        for (identity, words) in [
            (Some(&own), None),
            (None, Some("set `upstream_certificate` and `upstream_key`")),
            (
                Some(&strange),
                Some("set `upstream_certificate` to one that"),
            ),
        ] {
            let log = Log::capture();
            let mut route = route.clone();
            route.upstream_tls.identity = identity.cloned();
            let proxy = start(route);
            let mut app = proxy.connect().await;
            app.say("question").await;
            match (broker.try_accept().await, words) {
                (Ok(mut broker), None) => broker.expect("question").await,
                (Err(_), Some(words)) => {
                    app.expect_reset().await;
                    assert_failure(&proxy, &log, "tls_broker", words).await;
                }
                (accepted, _) => panic!("accepted: {}", accepted.is_ok()),
            }
        }
    }
}

#[tokio::test]
async fn the_next_broker_is_tried_where_there_is_no_tls_with_one() {
    let stage = Stage::new("next");
    let bad = TlsBroker::listen(&Authority::new().sign("localhost")).await;
    let good = stage.broker().await;
    let proxy = start(stage.route_without_listener(&[bad.address, good.address]));
    let (mut app, refused, mut broker) =
        tokio::join!(proxy.connect(), bad.try_accept(), good.accept());
    assert!(refused.is_err());
    app.say("question").await;
    broker.expect("question").await;
}

#[tokio::test]
async fn a_name_may_be_given_and_verification_given_up() {
    let stage = Stage::new("choices");
    let named = TlsBroker::listen(&stage.authority.sign("broker.example")).await;
    let mut route = stage.route_without_listener(&[named.address]);
    route.upstream_tls.server_name = Some("broker.example".try_into().unwrap());
    let unknown = TlsBroker::listen(&Authority::new().sign("elsewhere")).await;
    let unverified = UpstreamTls {
        verify: false,
        ..UpstreamTls::default()
    };
    let log = Log::capture();
    for (broker, upstream_tls) in [(named, route.upstream_tls), (unknown, unverified)] {
        let proxy = start(Route {
            upstream_tls,
            ..stage.route_without_listener(&[broker.address])
        });
        let (mut app, mut broker) = tokio::join!(proxy.connect(), broker.accept());
        app.say("question").await;
        broker.expect("question").await;
    }
    assert_eq!(log.lines("upstream_verify = false").len(), 1);
}

// How certificates change.

#[tokio::test]
async fn new_certificates_are_for_new_connections() {
    let stage = Stage::new("rotated");
    let broker = stage.broker().await;
    let route = stage.route(&[broker.address]);
    let file = route.tls.as_ref().unwrap().identity.certificate.clone();
    let first = certificate_in(&file);
    let proxy = start(route);
    let (mut old_app, mut old_broker) = tokio::join!(stage.connect(&proxy), broker.accept());
    assert_eq!(old_app.certificate(), first);

    let renewed = stage.authority.sign_until("localhost", 2998);
    stage.folder.identity("listener", &renewed);
    assert!(proxy.reload_certificates());
    let (app, _broker) = tokio::join!(stage.connect(&proxy), broker.accept());
    assert_eq!(app.certificate(), certificate_in(&file));
    assert_ne!(app.certificate(), first);
    old_app.say("still here").await;
    old_broker.expect("still here").await;

    let expiry = r#"tracehop_certificate_expiry_timestamp_seconds{route="test",peer="client"}"#;
    assert_eq!(proxy.metric(expiry), Some(32_440_608_000.0));
}

#[tokio::test]
async fn a_changed_file_is_noticed_and_a_bad_one_is_refused() {
    let stage = Stage::new("followed");
    let broker = stage.broker().await;
    // As Kubernetes does it: a link to a folder, changed for one to the next.
    let [first, second] = ["first", "second"].map(|name| {
        let folder = Folder::new(&format!("followed-{name}"));
        let papers = stage.authority.sign("localhost");
        let identity = folder.identity("tls", &papers);
        (folder, identity)
    });
    let link = |folder: &Folder| {
        let (link, made) = (stage.folder.path("current"), stage.folder.path("made"));
        symlink(folder.path(""), &made).unwrap();
        fs::rename(&made, &link).unwrap();
    };
    link(&first.0);
    let mut route = stage.route(&[broker.address]);
    let identity = &mut route.tls.as_mut().unwrap().identity;
    identity.certificate = stage.folder.path("current/tls.pem");
    identity.key = stage.folder.path("current/tls.key");
    let log = Log::capture();
    let proxy = start(route);

    link(&second.0);
    let reloads = |result| {
        proxy.metric(&format!(
            "tracehop_config_reloads_total{{result=\"{result}\"}}"
        ))
    };
    until(|| reloads("success") == Some(1.0)).await;
    let (app, _broker) = tokio::join!(stage.connect(&proxy), broker.accept());
    assert_eq!(app.certificate(), certificate_in(&second.1.certificate));

    fs::write(&second.1.key, "none").unwrap();
    until(|| reloads("failure") == Some(1.0)).await;
    let told = log.lines("those from before stay");
    assert!(
        told.len() == 1 && told[0].contains("`tls_key`: no private key is in it"),
        "{told:?}"
    );
    let (app, _broker) = tokio::join!(stage.connect(&proxy), broker.accept());
    assert_eq!(app.certificate(), certificate_in(&second.1.certificate));
}

/// Waits for the failure, and expects one line about it, with these words.
async fn assert_failure(proxy: &TestProxy, log: &Log, why: &str, words: &str) {
    let expected = [format!(r#"{{route="test",reason="{why}"}} 1"#)];
    until(|| proxy.failures() == expected).await;
    let lines = log.lines("WARN");
    assert!(
        lines.len() == 1 && lines[0].contains(words),
        "{words}: {lines:?}"
    );
}
