//! The way to the broker: which addresses it has, in which order they are tried, and the
//! first that answers.
//!
//! ```text
//! connector ──► addresses_of      what an upstream stands for: itself, or what its name says
//!     │              └──► names ──► dns      bounded lookups, and the last good answer
//!     └───────► race              the next is tried while the one before still hangs
//!     └───────► silent            who hung lately is tried last
//! ```

mod dns;
mod names;
mod race;
mod silent;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout_at;

pub use self::dns::DnsConfig;
pub use self::dns::resolve;

use self::names::Names;
use self::race::race;
use self::silent::Silent;
use crate::config::Limits;
use crate::config::Upstream;
use crate::net::connection::Route;
use crate::net::listener::is_out_of_descriptors;
use crate::net::listener::tune;
use crate::net::stream::Stream;
use crate::net::tls;
use crate::net::tls::Failure;

/// Finds a broker for each connection of one route.
#[derive(Debug)]
pub(super) struct Connector {
    names: Names,
    silent_upstreams: Silent<(Arc<str>, u16)>,
    silent_addresses: Silent<SocketAddr>,
}

impl Connector {
    pub(super) fn new(dns: DnsConfig) -> Self {
        Self {
            names: Names::new(dns),
            silent_upstreams: Silent::default(),
            silent_addresses: Silent::default(),
        }
    }

    /// Connects to the first that answers: every upstream in its order, every address of its
    /// name in the order of the answer. Where TLS is asked for, an answer is one only with it.
    /// All of it together takes at most `limits.connect_timeout`.
    pub(super) async fn connect<'a>(
        &self,
        upstreams: &'a [Upstream],
        route: &Route,
        limits: &Limits,
    ) -> Result<(Stream, &'a Upstream), Unreachable> {
        let attempt = Attempt {
            connector: self,
            route,
            limits,
            deadline: Instant::now() + limits.connect_timeout,
        };
        loop {
            match attempt.any_upstream(upstreams).await {
                // Whoever has one too many gives it back soon; the app keeps its connection.
                Err(error) if error.is_out_of_descriptors() && !attempt.is_over() => {
                    sleep(DESCRIPTORS_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Every address that an upstream has. What else than its name may say so one day, a
    /// Sentinel for one, is asked here.
    async fn addresses_of(
        &self,
        upstream: &Upstream,
        deadline: Instant,
    ) -> io::Result<Vec<SocketAddr>> {
        let addresses = match upstream.host.parse::<IpAddr>() {
            Ok(address) => [address].into(),
            Err(_) => self.names.addresses(&upstream.host, deadline).await?,
        };
        let with_port = addresses
            .iter()
            .map(|address| SocketAddr::new(*address, upstream.port));
        Ok(with_port.collect())
    }
}

/// One connection's search for a broker.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    connector: &'a Connector,
    route: &'a Route,
    limits: &'a Limits,
    deadline: Instant,
}

impl Attempt<'_> {
    fn is_over(self) -> bool {
        Instant::now() >= self.deadline
    }

    async fn any_upstream(self, all: &[Upstream]) -> Result<(Stream, &Upstream), Unreachable> {
        let mut upstreams: Vec<_> = all.iter().collect();
        let silent = &self.connector.silent_upstreams;
        silent.sort_last(&mut upstreams, |upstream| upstream_key(upstream));
        let are_alike = all.iter().all(Upstream::is_one_of_a_cluster);
        let stagger = if are_alike {
            ADDRESS_STAGGER
        } else {
            UPSTREAM_STAGGER
        };
        let attempts = upstreams
            .into_iter()
            .map(|upstream| self.upstream(upstream, stagger));
        race(attempts, stagger).await.map_err(|tried| Unreachable {
            tried: tried.into_iter().flatten().collect(),
        })
    }

    async fn upstream(
        self,
        upstream: &Upstream,
        stagger: Duration,
    ) -> Result<(Stream, &Upstream), Vec<Tried>> {
        let patience = stagger.min(PATIENCE_MAX).min(self.limits.connect_timeout);
        let silent = &self.connector.silent_upstreams;
        let wait = silent.wait(upstream_key(upstream), patience);
        let reached = self.any_address(upstream).await;
        wait.end(reached.is_ok());
        Ok((reached?, upstream))
    }

    async fn any_address(self, upstream: &Upstream) -> Result<Stream, Vec<Tried>> {
        let addresses = self.connector.addresses_of(upstream, self.deadline).await;
        let mut addresses = addresses.map_err(|error| {
            let place = format!("{}:{}", upstream.host, upstream.port);
            vec![Tried {
                place,
                trouble: Trouble::Network(error),
            }]
        })?;
        self.connector
            .silent_addresses
            .sort_last(&mut addresses, |address| *address);
        let attempts = addresses
            .into_iter()
            .map(|address| self.address(address, upstream));
        race(attempts, ADDRESS_STAGGER).await
    }

    async fn address(self, address: SocketAddr, upstream: &Upstream) -> Result<Stream, Tried> {
        let patience = ADDRESS_STAGGER.min(self.limits.connect_timeout);
        let wait = self.connector.silent_addresses.wait(address, patience);
        let reached = timeout_at(self.deadline, self.reach(address, upstream));
        let reached = reached.await.unwrap_or_else(|_| Err(no_answer().into()));
        wait.end(reached.is_ok());
        reached.map_err(|trouble| Tried {
            place: address.to_string(),
            trouble,
        })
    }

    async fn reach(self, address: SocketAddr, upstream: &Upstream) -> Result<Stream, Trouble> {
        let broker = TcpStream::connect(address).await?;
        tune(&broker, self.limits);
        let certificates = self.route.broker_tls.as_ref().filter(|_| upstream.is_tls());
        let Some(certificates) = certificates else {
            return Ok(Stream::Plain(broker));
        };
        let name = match &self.route.upstream_tls.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(upstream.host.to_string())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?,
        };
        let limit = self.limits.handshake_timeout;
        Ok(Box::pin(tls::connect(broker, certificates.current(), name, limit)).await?)
    }
}

fn upstream_key(upstream: &Upstream) -> (Arc<str>, u16) {
    (Arc::clone(&upstream.host), upstream.port)
}

fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

/// No address of any upstream could be connected to.
#[derive(Debug, thiserror::Error)]
pub(super) struct Unreachable {
    /// What was tried, in the order of the failures.
    tried: Vec<Tried>,
}

/// An address or a name, and why it is of no use.
#[derive(Debug)]
struct Tried {
    place: String,
    trouble: Trouble,
}

/// Why one address of a broker is of no use.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Network(#[from] io::Error),
    #[error(transparent)]
    Tls(#[from] Failure),
}

impl Unreachable {
    /// The word for metrics.
    pub(super) fn why(&self) -> &'static str {
        let is_tls = |tried: &Tried| matches!(tried.trouble, Trouble::Tls(_));
        if self.is_out_of_descriptors() {
            "no_descriptors"
        } else if self.tried.iter().any(is_tls) {
            "tls_broker"
        } else {
            "unreachable"
        }
    }

    fn is_out_of_descriptors(&self) -> bool {
        self.tried.iter().any(|tried| match &tried.trouble {
            Trouble::Network(error) => is_out_of_descriptors(error),
            Trouble::Tls(_) => false,
        })
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Tried { place, trouble }) in self.tried.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{place}: {trouble}")?;
        }
        Ok(())
    }
}

/// How long one address may hang before the next of the same name is tried besides, and one
/// node of a cluster before the next (RFC 8305, section 5, says 250 ms).
const ADDRESS_STAGGER: Duration = Duration::from_millis(300);

/// The same for a broker before another one that does not have its queues. A lost SYN is sent
/// again after a second, and that alone must not lead tasks to where no worker waits.
const UPSTREAM_STAGGER: Duration = Duration::from_millis(1500);

/// From here on an upstream counts as silent, even if the app itself waited no longer.
const PATIENCE_MAX: Duration = Duration::from_secs(1);

/// How long to wait for a file descriptor before asking for one again.
const DESCRIPTORS_PAUSE: Duration = Duration::from_millis(100);
