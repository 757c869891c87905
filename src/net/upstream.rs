//! The way to the broker.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::config::Upstream;
use crate::net::listener::is_out_of_descriptors;
use crate::net::listener::tune;

/// Connects to the first address that answers: every upstream in its order, its name resolved
/// anew, every address of the name in the resolver's order.
///
/// `limit` bounds each resolution and each attempt.
pub(super) async fn connect(
    upstreams: &[Upstream],
    limit: Duration,
) -> Result<(TcpStream, &Upstream), Unreachable> {
    let mut tried = Vec::new();
    for upstream in upstreams {
        let addresses = match resolve(upstream, limit).await {
            Ok(addresses) => addresses,
            Err(error) => {
                tried.push((format!("{}:{}", upstream.host, upstream.port), error));
                continue;
            }
        };
        for address in addresses {
            match within(limit, TcpStream::connect(address)).await {
                Ok(broker) => {
                    tune(&broker);
                    return Ok((broker, upstream));
                }
                Err(error) => tried.push((address.to_string(), error)),
            }
        }
    }
    Err(Unreachable { tried })
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
    tried: Vec<(String, io::Error)>,
}

impl Unreachable {
    /// The word for metrics.
    pub(super) fn why(&self) -> &'static str {
        if self
            .tried
            .iter()
            .any(|(_, error)| is_out_of_descriptors(error))
        {
            "no_descriptors"
        } else {
            "unreachable"
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (address, error)) in self.tried.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{address}: {error}")?;
        }
        Ok(())
    }
}
