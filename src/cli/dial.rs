//! Connections that commands make themselves, step by step so that each can be told of.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A connection, with TLS or without.
pub(super) type Stream = Box<dyn Duplex>;

pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The addresses of a name; at least one.
pub(super) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<_> = within(STEP_TIME_MAX, lookup_host((host, port)))
        .await?
        .collect();
    if found.is_empty() {
        return Err(io::Error::other("the name has no address"));
    }
    Ok(found)
}

pub(super) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    within(STEP_TIME_MAX, TcpStream::connect(address)).await
}

pub(super) async fn handshake(
    stream: TcpStream,
    host: &str,
    config: Arc<ClientConfig>,
) -> io::Result<Stream> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connecting = TlsConnector::from(config).connect(name, stream);
    Ok(Box::new(within(STEP_TIME_MAX, connecting).await?))
}

/// All of it, to the first address that answers.
pub(super) async fn dial(
    host: &str,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
) -> io::Result<Stream> {
    let mut fault = io::Error::other("the name has no address");
    for address in resolve(host, port).await? {
        match connect(address).await {
            Ok(stream) => {
                return match tls {
                    Some(config) => handshake(stream, host, config).await,
                    None => Ok(Box::new(stream)),
                };
            }
            Err(error) => fault = error,
        }
    }
    Err(fault)
}

/// Fails where it takes too long.
pub(super) async fn within<T>(
    limit: Duration,
    attempt: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let attempt = timeout(limit, attempt).await;
    attempt.unwrap_or_else(|_| {
        let fault = format!("no answer within {limit:?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, fault))
    })
}

pub(super) const STEP_TIME_MAX: Duration = Duration::from_secs(5);
