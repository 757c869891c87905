//! The way to the broker.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::config::Limits;
use crate::config::Upstream;
use crate::net::connection::Route;
use crate::net::listener::is_out_of_descriptors;
use crate::net::listener::tune;
use crate::net::stream::Stream;
use crate::net::tls;
use crate::net::tls::Failure;

/// Connects to the first address that answers: every upstream in its order, its name resolved
/// anew, every address of the name in the resolver's order. Where TLS is asked for, an answer
/// is one only with it.
pub(super) async fn connect<'a>(
    upstreams: &'a [Upstream],
    route: &Route,
    limits: &Limits,
) -> Result<(Stream, &'a Upstream), Unreachable> {
    let mut tried = Vec::new();
    for upstream in upstreams {
        let addresses = match resolve(upstream, limits.connect_timeout).await {
            Ok(addresses) => addresses,
            Err(error) => {
                let place = format!("{}:{}", upstream.host, upstream.port);
                tried.push((place, Trouble::Network(error)));
                continue;
            }
        };
        for address in addresses {
            match reach(address, upstream, route, limits).await {
                Ok(broker) => return Ok((broker, upstream)),
                Err(trouble) => tried.push((address.to_string(), trouble)),
            }
        }
    }
    Err(Unreachable { tried })
}

async fn reach(
    address: SocketAddr,
    upstream: &Upstream,
    route: &Route,
    limits: &Limits,
) -> Result<Stream, Trouble> {
    let broker = within(limits.connect_timeout, TcpStream::connect(address)).await?;
    tune(&broker);
    let certificates = route.broker_tls.as_ref().filter(|_| upstream.is_tls());
    let Some(certificates) = certificates else {
        return Ok(Stream::Plain(broker));
    };
    let name = match &route.upstream_tls.server_name {
        Some(name) => name.clone(),
        None => ServerName::try_from(upstream.host.to_string())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?,
    };
    let limit = limits.handshake_timeout;
    Ok(Box::pin(tls::connect(broker, certificates.current(), name, limit)).await?)
}

async fn resolve(upstream: &Upstream, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    let found = within(limit, lookup_host((&*upstream.host, upstream.port))).await?;
    let addresses: Vec<_> = found.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ));
    }
    Ok(addresses)
}

async fn within<T>(limit: Duration, attempt: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, attempt)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
}

/// No address of any upstream could be connected to.
#[derive(Debug, thiserror::Error)]
pub(super) struct Unreachable {
    /// What was tried, in order, and why it failed.
    tried: Vec<(String, Trouble)>,
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
        let mut why = "unreachable";
        for (_, trouble) in &self.tried {
            match trouble {
                Trouble::Network(error) if is_out_of_descriptors(error) => return "no_descriptors",
                Trouble::Network(_) => {}
                Trouble::Tls(_) => why = "tls_broker",
            }
        }
        why
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (address, trouble)) in self.tried.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{address}: {trouble}")?;
        }
        Ok(())
    }
}
