//! One connection, from its acceptance to its end.

use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::config;
use crate::config::Limits;
use crate::config::ListenerTls;
use crate::config::Upstream;
use crate::config::UpstreamTls;
use crate::hop::Connection;
use crate::hop::Injector;
use crate::net::certificates::BadFiles;
use crate::net::certificates::Certificates;
use crate::net::drain::Drain;
use crate::net::drain::Signal;
use crate::net::listener::Reserved;
use crate::net::listener::reset;
use crate::net::proxy::OpenSession;
use crate::net::relay::Ending;
use crate::net::relay::Relay;
use crate::net::stream::Stream;
use crate::net::tls;
use crate::net::tls::Failure;
use crate::net::transparent;
use crate::net::transparent::Own;
use crate::net::transparent::OwnConnections;
use crate::net::upstream::Connector;
use crate::net::waiting::WriteBudget;
use crate::net::workers::Worker;
use crate::net::workers::Workers;
use crate::protocol::HoldBudget;
use crate::protocol::Session;
use crate::protocol::Setup;
use crate::protocol::Side;
use crate::telemetry::Repeats;
use crate::telemetry::RouteMetrics;
use crate::telemetry::Sightings;
use crate::trace::IdSource;

/// What all connections share.
pub(super) struct Shared {
    pub(super) limits: Arc<Limits>,
    pub(super) injector: Arc<Injector>,
    pub(super) sightings: Sightings,
    pub(super) open_session: OpenSession,
    pub(super) budget: Arc<HoldBudget>,
    pub(super) writes: Arc<WriteBudget>,
    /// One permit per connection.
    pub(super) places: Arc<Semaphore>,
    /// The number of the next session.
    pub(super) sessions: AtomicU64,
    pub(super) drain: Drain,
    pub(super) own: OwnConnections,
    pub(super) workers: Workers,
}

/// A route of the configuration, with what is told about it.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) config: config::Route,
    pub(super) metrics: RouteMetrics,
    repeats: Mutex<Repeats<&'static str>>,
    /// `None`: apps connect without TLS.
    pub(super) client_tls: Option<Certificates<ListenerTls>>,
    /// `None`: no broker's URL asks for it.
    pub(super) broker_tls: Option<Certificates<UpstreamTls>>,
    connector: Connector,
}

impl Route {
    /// Reads what TLS needs of files.
    pub(super) fn new(
        config: config::Route,
        connector: Connector,
        metrics: RouteMetrics,
        repeat_interval: Duration,
    ) -> Result<Self, BadFiles> {
        let client_tls = config.tls.clone();
        let broker_tls = config
            .needs_upstream_tls()
            .then(|| config.upstream_tls.clone());
        if broker_tls.as_ref().is_some_and(|tls| !tls.verify) {
            tracing::warn!(
                route = &*config.name,
                "upstream_verify = false: whoever answers is taken for the broker, and may read \
                 and change everything; set `upstream_ca` instead"
            );
        }
        Ok(Self {
            client_tls: client_tls
                .map(|files| Certificates::load(files, metrics.clone()))
                .transpose()?,
            broker_tls: broker_tls
                .map(|files| Certificates::load(files, metrics.clone()))
                .transpose()?,
            config,
            connector,
            metrics,
            repeats: Mutex::new(Repeats::new(repeat_interval)),
        })
    }

    /// Counts a failure. `Some` when it is to be logged as well, with how often it was not
    /// since it last was.
    pub(super) fn failed(&self, why: &'static str) -> Option<u64> {
        self.metrics.failed(why);
        self.repeats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .admit(why, Instant::now())
    }
}

impl Deref for Route {
    type Target = config::Route;

    fn deref(&self) -> &config::Route {
        &self.config
    }
}

/// An app that has been accepted, and has no broker yet.
pub(super) struct Accepted {
    pub(super) client: TcpStream,
    pub(super) address: SocketAddr,
    /// The file descriptor for its broker.
    pub(super) reserved: Reserved,
    pub(super) open: Open,
    pub(super) shared: Arc<Shared>,
}

impl Accepted {
    /// Finds its broker, and hands both over to a thread that relays between them.
    pub(super) async fn open(self) {
        let Self {
            client,
            address,
            reserved,
            open,
            shared,
        } = self;
        let route = &*open.route;
        let signal = shared.drain.signal();
        let meant;
        let upstreams = if route.transparent {
            match meant_by(&client, address, route, &shared) {
                Some(upstream) => meant = [upstream],
                None => return reset(client),
            }
            &meant[..]
        } else {
            &route.upstream[..]
        };
        let Some(client) = greet(client, address, route, &shared, &signal).await else {
            return;
        };
        drop(reserved);
        let reached = reach_broker(client, address, upstreams, route, &shared, &signal).await;
        let Some((client, broker, upstream)) = reached else {
            return;
        };
        let own = match route.transparent {
            true => shared.own.note(broker.tcp()),
            false => None,
        };
        let connected = Connected {
            client,
            broker,
            own,
            address,
            upstream: upstream.clone(),
            signal,
            open,
            worker: shared.workers.least_busy(),
            shared: Arc::clone(&shared),
        };
        let worker = connected.worker.handle().clone();
        shared.drain.spawn_on(&worker, connected.relay());
    }
}

/// An app and its broker, ready to be relayed between.
struct Connected {
    client: Stream,
    broker: Stream,
    own: Option<Own>,
    address: SocketAddr,
    upstream: Upstream,
    signal: Signal,
    open: Open,
    worker: Arc<Worker>,
    shared: Arc<Shared>,
}

impl Connected {
    /// Relays until either has left; the place is free again afterwards.
    async fn relay(self) {
        let Self {
            client,
            broker,
            own: _own,
            address,
            upstream,
            signal,
            open,
            worker: _worker,
            shared,
        } = self;
        let route = &*open.route;
        // Their events are told to this thread from now on.
        let (Ok(client), Ok(broker)) = (client.adopt(), broker.adopt()) else {
            route.failed("accept");
            return;
        };
        let session = open_session(address, &upstream, route, &shared);
        // Where an app does not know of us it cannot be told to leave TLS out: it passes unread.
        let refuses_tls = !route.transparent;
        let mut relay = Relay::new(
            client,
            broker,
            session,
            refuses_tls,
            &route.metrics,
            &shared,
        );
        let ending = relay.run(&signal).await;
        relay.end(ending);
        shared.drain.book(ending, &signal);
        tell(ending, address, &upstream, route);
    }
}

/// The broker that an app meant when a firewall sent it here.
fn meant_by(
    client: &TcpStream,
    address: SocketAddr,
    route: &Route,
    shared: &Shared,
) -> Option<Upstream> {
    let (why, what) = if shared.own.contain(address) {
        (
            "redirect_loop",
            "the firewall redirects our own connections to us; exempt the user that tracehop \
             runs as",
        )
    } else {
        match transparent::meant(client, route) {
            Some(upstream) => return Some(upstream),
            None => (
                "not_redirected",
                "an app connected to a transparent route itself; have the firewall redirect its \
                 connections to the broker, or give the route an `upstream` and no `transparent`",
            ),
        }
    };
    if let Some(suppressed) = route.failed(why) {
        tracing::warn!(route = &*route.name, client = %address, suppressed, "{what}");
    }
    None
}

/// Speaks TLS with the app, where the route does; an app that cannot is let go.
async fn greet(
    client: TcpStream,
    address: SocketAddr,
    route: &Route,
    shared: &Shared,
    signal: &Signal,
) -> Option<Stream> {
    let Some(certificates) = &route.client_tls else {
        return Some(Stream::Plain(client));
    };
    let limit = shared.limits.handshake_timeout;
    let greeted = tokio::select! {
        biased;
        () = signal.begun() => return None,
        greeted = Box::pin(tls::accept(client, certificates.current(), limit)) => greeted?,
    };
    match greeted {
        Ok(client) => Some(client),
        Err(failure) => {
            if let Some(suppressed) = route.failed("tls_client") {
                tracing::warn!(
                    route = &*route.name,
                    client = %address,
                    error = %failure,
                    suppressed,
                    "no TLS with an app"
                );
            }
            None
        }
    }
}

/// Connects to the route's broker; without one, ends the app's connection as it would have
/// ended without us.
async fn reach_broker<'a>(
    client: Stream,
    address: SocketAddr,
    upstreams: &'a [Upstream],
    route: &Route,
    shared: &Shared,
    signal: &Signal,
) -> Option<(Stream, Stream, &'a Upstream)> {
    let reached = tokio::select! {
        biased;
        () = signal.begun() => {
            client.reset();
            return None;
        }
        () = left(client.tcp()) => return None,
        reached = route.connector.connect(upstreams, route, &shared.limits) => reached,
    };
    match reached {
        Ok((broker, upstream)) => Some((client, broker, upstream)),
        Err(unreachable) => {
            client.reset();
            if let Some(suppressed) = route.failed(unreachable.why()) {
                tracing::warn!(
                    route = &*route.name,
                    client = %address,
                    broker = %unreachable,
                    suppressed,
                    "no broker could be reached"
                );
            }
            None
        }
    }
}

/// Waits until the app has left: without a word, by a reset, or some time ago.
///
/// An app that has spoken and then sent its end may still wait for the answer, but what it said
/// must not reach a broker long after it has given up.
async fn left(client: &TcpStream) {
    // The kernel may know already what no event has told yet.
    let ended = SockRef::from(client).peek(&mut [MaybeUninit::uninit()]);
    if matches!(ended, Ok(0)) || !matches!(client.peek(&mut [0]).await, Ok(1..)) {
        return;
    }
    let ended = client.ready(Interest::PRIORITY | Interest::ERROR).await;
    if ended.is_ok_and(|ready| !ready.is_error()) {
        let _ = timeout(ENDED_PATIENCE, client.ready(Interest::ERROR)).await;
    }
}

fn open_session(
    client: SocketAddr,
    upstream: &Upstream,
    route: &Route,
    shared: &Shared,
) -> Box<dyn Session> {
    let connection = Connection {
        session: shared.sessions.fetch_add(1, Ordering::Relaxed),
        route: Arc::clone(&route.name),
        server_address: Arc::clone(&upstream.host),
        server_port: upstream.port,
        client_address: client.to_string().into(),
    };
    let setup = Setup {
        connection: Arc::new(connection),
        injector: Arc::clone(&shared.injector),
        limits: Arc::clone(&shared.limits),
        moving_address: route.moving_address,
        budget: Arc::clone(&shared.budget),
        ids: IdSource::from_entropy(),
    };
    (shared.open_session)(route.protocol, setup)
}

/// Counts and logs an ending that is not the peers' own.
fn tell(ending: Ending, client: SocketAddr, broker: &Upstream, route: &Route) {
    let has_certificate = route.upstream_tls.identity.is_some();
    let refusal;
    let (why, what) = match ending {
        Ending::Closed | Ending::BrokerLeft | Ending::Parted | Ending::Cut => return,
        Ending::HalfClosed => (
            "half_closed",
            "one peer had ended, and the other was silent for limits.half_closed_max",
        ),
        Ending::Silent(Side::Client) => (
            "peer_silent",
            "the app's machine answered nothing for limits.peer_silent_max: it has stopped, or the way to it is cut",
        ),
        Ending::Silent(Side::Broker) => (
            "peer_silent",
            "the broker's machine answered nothing for limits.peer_silent_max: it has stopped, or the way to it is cut",
        ),
        Ending::BrokerLost => ("broker_lost", "the broker reset the connection"),
        Ending::BrokerRefused(alert) => {
            let failure = Failure::of_broker_alert(alert, has_certificate);
            refusal = format!("the broker ended the connection: {failure}");
            ("tls_broker", &*refusal)
        }
        Ending::Hello => (
            "tls_unexpected",
            "an app speaks TLS where none is spoken; set `tls_certificate` and `tls_key` of the \
             route, or take TLS out of the app's broker URL",
        ),
        Ending::Panicked => ("panic", "a session panicked: its connection was reset"),
    };
    if let Some(suppressed) = route.failed(why) {
        tracing::warn!(
            route = &*route.name,
            %client,
            broker = %format_args!("{}:{}", broker.host, broker.port),
            suppressed,
            "{what}"
        );
    }
}

/// A connection, which counts as open for as long as this lives, and has its place.
pub(super) struct Open {
    route: Arc<Route>,
    _place: OwnedSemaphorePermit,
}

impl Open {
    pub(super) fn new(route: Arc<Route>, place: OwnedSemaphorePermit) -> Self {
        route.metrics.opened();
        Self {
            route,
            _place: place,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.route.metrics.closed();
    }
}

/// How long a broker is still looked for when the app will say no more.
const ENDED_PATIENCE: Duration = Duration::from_secs(1);
