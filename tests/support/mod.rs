//! What the tests on real sockets share: a proxy of one route, and the peers around it.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test file is a crate of its own and uses a part of this"
)]

pub mod log;
pub mod names;
pub mod peer;
pub mod program;
pub mod rabbitmq;
pub mod redis;
pub mod sessions;
pub mod tls;

use std::future::Future;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use tracehop::config::Limits;
use tracehop::config::MovingAddress;
use tracehop::config::Policy;
use tracehop::config::Protocol;
use tracehop::config::Route;
use tracehop::config::Upstream;
use tracehop::config::UpstreamTls;
use tracehop::hop::Injector;
use tracehop::net::DnsConfig;
use tracehop::net::Drained;
use tracehop::net::Parts;
use tracehop::net::Proxy;
use tracehop::net::Serving;
use tracehop::net::View;
use tracehop::net::Workers;
use tracehop::protocol::Session;
use tracehop::protocol::Setup;
use tracehop::telemetry::Metrics;
use tracehop::telemetry::Sightings;
use tracehop::trace::Sampler;

use peer::Peer;

/// A proxy of one route on a free port, with sessions that pass everything on.
pub struct TestProxy {
    pub address: SocketAddr,
    pub view: View,
    metrics: Arc<Metrics>,
    serving: Serving,
}

impl TestProxy {
    /// In front of `brokers`, in the order in which they are tried.
    pub fn start(brokers: &[SocketAddr]) -> Self {
        Self::start_with(brokers, Limits::default(), sessions::passing)
    }

    pub fn start_with(
        brokers: &[SocketAddr],
        limits: Limits,
        open: impl Fn() -> Box<dyn Session> + Send + Sync + 'static,
    ) -> Self {
        Self::start_seeing(brokers, limits, parts(), move |_| open())
    }

    /// With parts of the test's own, and sessions that need what a session is made of.
    pub fn start_seeing(
        brokers: &[SocketAddr],
        limits: Limits,
        parts: Parts,
        open: impl Fn(Setup) -> Box<dyn Session> + Send + Sync + 'static,
    ) -> Self {
        Self::bind_and_serve(brokers, limits, parts, |proxy| {
            proxy.with_sessions(move |_, setup| open(setup))
        })
    }

    /// With the sessions that the route's protocol calls for.
    pub fn start_redis(broker: SocketAddr) -> Self {
        Self::bind_and_serve(&[broker], Limits::default(), parts(), |proxy| proxy)
    }

    /// The same in front of a RabbitMQ.
    pub fn start_amqp(broker: SocketAddr) -> Self {
        let route = Route {
            protocol: Protocol::Amqp,
            ..route(&[broker])
        };
        Self::bind_and_serve_route(route, Limits::default(), parts(), |proxy| proxy)
    }

    /// On this route, with sessions that pass everything on.
    pub fn start_route(route: Route, limits: Limits) -> Self {
        Self::start_route_with(route, limits, parts())
    }

    /// The same with parts of the test's own.
    pub fn start_route_with(route: Route, limits: Limits, parts: Parts) -> Self {
        Self::bind_and_serve_route(route, limits, parts, |proxy| {
            proxy.with_sessions(|_, _| sessions::passing())
        })
    }

    fn bind_and_serve(
        brokers: &[SocketAddr],
        limits: Limits,
        parts: Parts,
        adapt: impl FnOnce(Proxy) -> Proxy,
    ) -> Self {
        Self::bind_and_serve_route(route(brokers), limits, parts, adapt)
    }

    fn bind_and_serve_route(
        route: Route,
        limits: Limits,
        parts: Parts,
        adapt: impl FnOnce(Proxy) -> Proxy,
    ) -> Self {
        let metrics = Arc::clone(&parts.metrics);
        let proxy = Proxy::bind(&[route], limits, parts).expect("port 0 is always free");
        let proxy = adapt(proxy);
        let (_, address) = proxy.addresses().next().expect("there is one route");
        Self {
            address,
            view: proxy.view(),
            metrics,
            serving: proxy.serve(),
        }
    }

    /// The counters of failed connections, as far as there are any: labels and value.
    pub fn failures(&self) -> Vec<String> {
        self.metrics
            .encode()
            .lines()
            .filter_map(|line| line.strip_prefix("tracehop_connections_failed_total"))
            .filter(|series| !series.ends_with(" 0"))
            .map(str::to_owned)
            .collect()
    }

    pub async fn connect(&self) -> Peer {
        Peer::connect(self.address).await
    }

    /// The value of a series, given with its labels.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.metrics.encode();
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    pub fn reload_certificates(&self) -> bool {
        self.serving.reload_certificates()
    }

    pub async fn drain(self, grace: Duration) -> Drained {
        self.drain_after(grace / 2, grace).await
    }

    /// The same with a grace of its own for deliveries.
    pub async fn drain_after(self, deliveries: Duration, grace: Duration) -> Drained {
        patiently(async {
            self.serving.finish_deliveries(deliveries).await;
            self.serving.drain(grace).await
        })
        .await
    }
}

pub fn route(brokers: &[SocketAddr]) -> Route {
    Route {
        name: "test".into(),
        protocol: Protocol::Redis,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        transparent: false,
        moving_address: MovingAddress::default(),
        tls: None,
        upstream_tls: UpstreamTls::default(),
        upstream: brokers
            .iter()
            .map(|address| Upstream {
                scheme: "redis",
                host: address.ip().to_string().into(),
                port: address.port(),
            })
            .collect(),
    }
}

pub fn parts() -> Parts {
    let limits = Limits::default();
    let metrics = Arc::new(Metrics::new(limits.label_values_max));
    // Nobody reads them; what finds no reader is dropped.
    let (sightings, _) = Sightings::queue(limits.sightings_max, Arc::clone(&metrics));
    Parts {
        injector: Arc::new(Injector::new(
            Policy::default(),
            Sampler::default(),
            &limits,
        )),
        sightings,
        metrics,
        workers: Workers::here(),
        dns: DnsConfig::default(),
        repeat_interval: Duration::from_secs(60),
    }
}

/// Sets how many file descriptors this process may have open.
pub fn allow_descriptors(count: usize) {
    let status = Command::new("prlimit")
        .args(["--pid", &std::process::id().to_string()])
        .arg(format!("--nofile={count}:"))
        .status()
        .expect("prlimit is installed");
    assert!(status.success());
}

/// Waits for something that will come. What never comes fails the test instead of hanging it;
/// no test says anything about how long.
pub async fn patiently<T>(awaited: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(120), awaited)
        .await
        .expect("what was waited for never came")
}

/// Waits until something is so.
pub async fn until(mut fact: impl FnMut() -> bool) {
    patiently(async {
        while !fact() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}
