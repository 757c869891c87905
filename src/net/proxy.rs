//! The proxy as a whole: bound, serving, drained.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::config;
use crate::config::Limits;
use crate::config::Protocol;
use crate::hop::Injector;
use crate::net::certificates::follow_files;
use crate::net::certificates::reload;
use crate::net::connection::Route;
use crate::net::connection::Shared;
use crate::net::drain::Drain;
use crate::net::drain::Drained;
use crate::net::drain::Signal;
use crate::net::listener::BindError;
use crate::net::listener::Listener;
use crate::net::transparent::OwnConnections;
use crate::net::upstream::Connector;
use crate::net::upstream::DnsConfig;
use crate::net::waiting::WriteBudget;
use crate::net::workers::Workers;
use crate::protocol;
use crate::protocol::HoldBudget;
use crate::protocol::Session;
use crate::protocol::Setup;
use crate::telemetry::Metrics;
use crate::telemetry::Sightings;

/// Makes the session of a new connection.
pub(super) type OpenSession = Arc<dyn Fn(Protocol, Setup) -> Box<dyn Session> + Send + Sync>;

/// What the proxy works with besides its configuration.
#[derive(Clone, Debug)]
pub struct Parts {
    pub injector: Arc<Injector>,
    pub sightings: Sightings,
    pub metrics: Arc<Metrics>,
    pub workers: Workers,
    pub dns: DnsConfig,
    /// How long a failure that was logged stays silent.
    pub repeat_interval: Duration,
}

/// A proxy that holds its listen addresses and does not accept yet.
pub struct Proxy {
    listeners: Vec<Listener>,
    shared: Shared,
    metrics: Arc<Metrics>,
}

impl Proxy {
    /// Binds the listen address of every route, or none.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn bind(routes: &[config::Route], limits: Limits, parts: Parts) -> Result<Self, BindError> {
        let _on_its_thread = parts.workers.opener().enter();
        let listeners = routes
            .iter()
            .map(|route| {
                let metrics = parts.metrics.route(&route.name);
                let connector = Connector::new(parts.dns.clone());
                Route::new(route.clone(), connector, metrics, parts.repeat_interval)
                    .map_err(|error| BindError::of_files(route, error))
                    .and_then(|route| Listener::bind(Arc::new(route)))
            })
            .collect::<Result<_, _>>()?;
        let places = limits.connections_max.min(Semaphore::MAX_PERMITS);
        let hold = HoldBudget::new(limits.hold_total_bytes_max);
        let shared = Shared {
            injector: parts.injector,
            sightings: parts.sightings,
            open_session: Arc::new(protocol::session),
            writes: WriteBudget::new(&limits, Arc::clone(&hold)),
            budget: hold,
            places: Arc::new(Semaphore::new(places)),
            sessions: AtomicU64::new(0),
            limits: Arc::new(limits),
            drain: Drain::default(),
            own: OwnConnections::default(),
            workers: parts.workers,
        };
        Ok(Self {
            listeners,
            shared,
            metrics: parts.metrics,
        })
    }

    /// Replaces the sessions that the routes' protocols call for. For tests.
    #[must_use]
    pub fn with_sessions(
        mut self,
        open: impl Fn(Protocol, Setup) -> Box<dyn Session> + Send + Sync + 'static,
    ) -> Self {
        self.shared.open_session = Arc::new(open);
        self
    }

    /// Each route's name, with the address it really listens on: no port is 0.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.listeners
            .iter()
            .map(|listener| (listener.route(), listener.address()))
    }

    /// What may be known about the proxy while it runs.
    #[must_use]
    pub fn view(&self) -> View {
        let routes = self.listeners.iter().map(|listener| config::Route {
            listen: listener.address(),
            ..listener.config().clone()
        });
        View {
            routes: routes.collect(),
            places: Arc::clone(&self.shared.places),
            places_max: self.shared.places.available_permits(),
            budget: Arc::clone(&self.shared.budget),
            writes: Arc::clone(&self.shared.writes),
            signal: self.shared.drain.signal(),
        }
    }

    /// Starts accepting connections.
    #[must_use = "a proxy is stopped by draining it"]
    pub fn serve(self) -> Serving {
        let shared = Arc::new(self.shared);
        let routes: Vec<_> = self.listeners.iter().map(Listener::its_route).collect();
        shared.drain.spawn(follow_files(
            routes.clone(),
            Arc::clone(&shared),
            self.metrics,
        ));
        for listener in self.listeners {
            let opener = shared.workers.opener();
            shared
                .drain
                .spawn_on(opener, listener.accept(Arc::clone(&shared)));
        }
        Serving { shared, routes }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.addresses()).finish()
    }
}

/// A proxy at work.
pub struct Serving {
    shared: Arc<Shared>,
    routes: Vec<Arc<Route>>,
}

impl Serving {
    /// Reads all certificates anew, for the connections to come. Those that cannot be used are
    /// logged, and the ones before stay. Says whether all could.
    pub fn reload_certificates(&self) -> bool {
        reload(&self.routes)
    }

    /// From now on no client is handed another message that it would put away by another
    /// connection; everything else goes on. Returns when those handed out are put away, or
    /// after `limit`.
    pub async fn finish_deliveries(&self, limit: Duration) {
        self.shared.drain.finish_deliveries(limit).await;
    }

    /// Stops accepting, lets each connection come to a boundary with nothing in flight, and
    /// after `grace` closes those that have not. Returns when no connection is left.
    pub async fn drain(self, grace: Duration) -> Drained {
        self.shared.drain.run(grace).await
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").finish_non_exhaustive()
    }
}

/// Reads a proxy's state while it runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct View {
    routes: Arc<[config::Route]>,
    places: Arc<Semaphore>,
    places_max: usize,
    budget: Arc<HoldBudget>,
    writes: Arc<WriteBudget>,
    signal: Signal,
}

impl View {
    /// The routes, each with the address that it really listens on.
    #[must_use]
    pub fn routes(&self) -> &[config::Route] {
        &self.routes
    }

    /// How many connections there are, over all routes.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.places_max - self.places.available_permits()
    }

    /// How many bytes all sessions hold back together.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.budget.held()
    }

    /// How many bytes wait to be written on all connections together.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.writes.waiting()
    }

    /// Whether the proxy has stopped accepting.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.signal.has_begun()
    }
}
