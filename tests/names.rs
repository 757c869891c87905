//! Brokers that have a name, and name servers that answer or do not.

mod support;

use std::fs;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use tracehop::config::Limits;
use tracehop::config::Route;
use tracehop::config::Upstream;
use tracehop::net::Parts;
use tracehop::net::Proxy;

use support::TestProxy;
use support::log::Log;
use support::names::NameServer;
use support::parts;
use support::patiently;
use support::peer::AbsentBroker;
use support::peer::Broker;
use support::peer::Peer;
use support::route;
use support::sessions;
use support::until;

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

#[tokio::test]
async fn a_silent_name_server_holds_up_its_own_route_alone() {
    let server = NameServer::start("broker.test.", &[HERE]).await;
    server.fall_silent();
    let routes = [
        named("broker.test", 6379),
        route(&[Broker::echoing().await]),
    ];
    let limits = Limits {
        connect_timeout: Duration::from_secs(3600),
        ..Limits::default()
    };
    let proxy = Proxy::bind(&routes, limits, asking(&server)).unwrap();
    let proxy = proxy.with_sessions(|_, _| sessions::passing());
    let addresses: Vec<_> = proxy.addresses().map(|(_, address)| address).collect();
    let view = proxy.view();
    let _serving = proxy.serve();

    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(Peer::connect(addresses[0]).await);
    }
    until(|| view.connections() == 100 && !server.asked().is_empty()).await;
    let mut app = Peer::connect(addresses[1]).await;
    app.say("hello").await;
    app.expect("hello").await;
    assert_eq!(view.connections(), 101, "all of them still wait");
    // Once, and a few times again, as datagrams may be lost.
    assert!(server.asked().len() < 10, "{:?}", server.asked());
    assert_eq!(blocking_threads(), 0);
}

#[tokio::test]
async fn the_last_answer_is_used_while_the_name_server_is_silent() {
    let broker = Broker::echoing().await;
    let server = NameServer::start("broker.test.", &[HERE]).await;
    let proxy = start("broker.test", broker.port(), &server);
    assert_is_echoed(&proxy).await;
    server.fall_silent();
    // An answer of just now is used without asking again.
    while server.asked().len() < 2 {
        assert_is_echoed(&proxy).await;
    }
    assert_is_echoed(&proxy).await;
}

#[tokio::test]
async fn every_address_of_a_name_is_tried() {
    let mute = AbsentBroker::new().fall_mute().await;
    let port = mute.address.port();
    let beside = Ipv4Addr::new(127, 0, 0, 2);
    let listener = TcpListener::bind((beside, port)).await.unwrap();
    let server = NameServer::start("broker.test.", &[HERE, beside]).await;
    let proxy = start("broker.test", port, &server);
    let mut app = proxy.connect().await;
    let (stream, _) = patiently(listener.accept()).await.unwrap();
    let mut broker = Peer { stream };
    app.say("hello").await;
    broker.expect("hello").await;
}

#[tokio::test]
async fn a_name_is_completed_as_resolv_conf_says() {
    let broker = Broker::echoing().await;
    let server = NameServer::start("my_broker.b.test.", &[HERE]).await;
    server.write_resolv_conf("search a.test b.test\noptions ndots:2\n");
    let proxy = start("my_broker", broker.port(), &server);
    assert_is_echoed(&proxy).await;
    assert_eq!(server.asked(), ["my_broker.a.test.", "my_broker.b.test."]);
}

#[tokio::test]
async fn a_file_that_has_changed_is_read_anew() {
    let broker = Broker::echoing().await;
    let server = NameServer::start("broker.late.test.", &[HERE]).await;
    let proxy = start("broker", broker.port(), &server);
    proxy.connect().await.expect_reset().await;
    server.write_resolv_conf("search late.test\n");
    assert_is_echoed(&proxy).await;
}

#[tokio::test]
async fn the_hosts_file_comes_first_but_not_for_a_name_with_a_dot_at_its_end() {
    let broker = Broker::echoing().await;
    let server = NameServer::start("broker.test.", &[HERE]).await;
    server.write_hosts("127.0.0.1 broker.test # and no other\n");
    let proxy = start("broker.test", broker.port(), &server);
    assert_is_echoed(&proxy).await;
    assert!(server.asked().is_empty());
    let proxy = start("broker.test.", broker.port(), &server);
    assert_is_echoed(&proxy).await;
    assert_eq!(server.asked(), ["broker.test."]);
}

#[tokio::test]
async fn that_a_name_has_no_address_is_logged() {
    let log = Log::capture();
    let server = NameServer::start("broker.test.", &[]).await;
    let proxy = start("broker.test", 6379, &server);
    proxy.connect().await.expect_reset().await;
    let lines = log.lines("broker.test:6379: the name has no address");
    assert_eq!(lines.len(), 1);
}

fn start(host: &str, port: u16, server: &NameServer) -> TestProxy {
    TestProxy::start_route_with(named(host, port), Limits::default(), asking(server))
}

fn named(host: &str, port: u16) -> Route {
    let mut route = route(&[SocketAddr::from((HERE, port))]);
    route.name = "named".into();
    route.upstream = vec![Upstream {
        host: host.into(),
        ..route.upstream[0].clone()
    }];
    route
}

fn asking(server: &NameServer) -> Parts {
    Parts {
        dns: server.config(),
        ..parts()
    }
}

async fn assert_is_echoed(proxy: &TestProxy) {
    let mut app = proxy.connect().await;
    app.say("hello").await;
    app.expect("hello").await;
}

/// How many threads wait on behalf of a runtime.
fn blocking_threads() -> usize {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let comm = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("comm")).ok();
    let names = threads.filter_map(|thread| comm(thread.ok()?));
    names.filter(|name| name.starts_with("tokio")).count()
}
