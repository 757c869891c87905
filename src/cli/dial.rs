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
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::UpstreamTls;
use crate::net;
use crate::net::TlsFailure;

/// A connection, with TLS or without.
pub(super) type Stream = Box<dyn Duplex>;

pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The addresses of a name; at least one.
pub(super) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    within(STEP_TIME_MAX, net::resolve(host, port)).await
}

pub(super) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    within(STEP_TIME_MAX, TcpStream::connect(address)).await
}

/// What is needed to speak TLS with a broker.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    /// What its certificate must be for.
    pub(super) name: ServerName<'static>,
}

impl Tls {
    /// For the broker at `host`.
    pub(super) fn new(files: &UpstreamTls, host: &str) -> Result<Self, String> {
        let made = files.make().map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            faults.join(". ")
        })?;
        let named = files.server_name.clone().map_or_else(
            || ServerName::try_from(host.to_owned()).map_err(|error| error.to_string()),
            Ok,
        );
        Ok(Self {
            config: made.config,
            name: named?,
        })
    }
}

pub(super) async fn handshake(stream: TcpStream, tls: &Tls) -> Result<Stream, TlsFailure> {
    let connector = TlsConnector::from(Arc::clone(&tls.config));
    let shaken = within(STEP_TIME_MAX, connector.connect(tls.name.clone(), stream)).await;
    let has_certificate = tls.config.client_auth_cert_resolver.has_certs();
    match shaken {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(TlsFailure::of_broker(&error, &tls.name, has_certificate)),
    }
}

/// All of it, to the first address that answers.
pub(super) async fn dial(host: &str, port: u16, tls: Option<&Tls>) -> io::Result<Stream> {
    let mut fault = io::Error::other("the name has no address");
    for address in resolve(host, port).await? {
        match connect(address).await {
            Ok(stream) => {
                return match tls {
                    Some(tls) => handshake(stream, tls).await.map_err(io::Error::other),
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
