//! TLS handshakes, and what to do about those that fail.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::AlertDescription;
use rustls::CertificateError;
use rustls::ClientConfig;
use rustls::Error;
use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::TlsConnector;

use crate::net::stream::Stream;

/// Speaks TLS with an app that has connected. `None`: it left before it said anything.
pub(super) async fn accept(
    client: TcpStream,
    config: Arc<ServerConfig>,
    limit: Duration,
) -> Option<Result<Stream, Failure>> {
    let handshake = async {
        let mut first = [0];
        match client.peek(&mut first).await {
            Ok(1..) if !is_hello(&first) => Some(Err(Failure::plain_text())),
            Ok(1..) => Some(match TlsAcceptor::from(config).accept(client).await {
                Ok(tls) => Ok(Stream::Tls(Box::new(tls.into()))),
                Err(error) => Err(Failure::of_client(&error)),
            }),
            _ => None,
        }
    };
    let in_time = timeout(limit, handshake).await;
    in_time.unwrap_or_else(|_| Some(Err(Failure::of_client(&io::ErrorKind::TimedOut.into()))))
}

/// Speaks TLS to a broker that has accepted a connection; it must be `name`.
pub(super) async fn connect(
    broker: TcpStream,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    limit: Duration,
) -> Result<Stream, Failure> {
    let has_certificate = config.client_auth_cert_resolver.has_certs();
    let handshake = TlsConnector::from(config).connect(name.clone(), broker);
    let shaken = match timeout(limit, handshake).await {
        Ok(shaken) => shaken,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    match shaken {
        Ok(tls) => Ok(Stream::Tls(Box::new(tls.into()))),
        Err(error) => Err(Failure::of_broker(&error, &name, has_certificate)),
    }
}

/// Whether a client that begins like this wants to speak TLS: with the record of a handshake
/// (RFC 8446, section 5.1).
pub(super) fn is_hello(bytes: &[u8]) -> bool {
    matches!(bytes, [0x16] | [0x16, 0x03, ..])
}

/// What the peer of an established connection gave as the reason to end it.
pub(super) fn alert(error: &io::Error) -> Option<AlertDescription> {
    match cause(error) {
        Some(Error::AlertReceived(alert)) => Some(*alert),
        _ => None,
    }
}

/// Why there is no TLS with a peer, and what helps.
#[derive(Debug, thiserror::Error)]
#[error("{wrong}; {remedy}")]
pub struct Failure {
    pub wrong: String,
    /// Names the keys of the route that can be set otherwise.
    pub remedy: &'static str,
}

impl Failure {
    fn new(wrong: impl Into<String>, remedy: &'static str) -> Self {
        Self {
            wrong: wrong.into(),
            remedy,
        }
    }

    fn plain_text() -> Self {
        Self::new(
            "it does not speak TLS",
            "put TLS into its broker URL, or let it connect to a route without `tls_certificate`",
        )
    }

    fn of_client(error: &io::Error) -> Self {
        const AUTHORITY: &str =
            "the app must show a certificate that an authority in `tls_client_ca` has signed";
        match cause(error) {
            Some(Error::NoCertificatesPresented) => {
                Self::new("it shows no certificate of its own", AUTHORITY)
            }
            Some(Error::InvalidCertificate(why)) => Self::new(wrong_with(why), AUTHORITY),
            Some(Error::AlertReceived(alert)) if is_about_certificates(*alert) => Self::new(
                format!("it does not take our certificate ({alert:?})"),
                "have the app trust the authority that signed `tls_certificate`, and see that \
                 this is for the name that the app connects to, and has not expired",
            ),
            Some(Error::InvalidMessage(_)) => Self::plain_text(),
            Some(error) => Self::new(
                error.to_string(),
                "see which versions of TLS and which ciphers the app offers; here it is 1.2 and \
                 1.3",
            ),
            None => Self::new(
                not_in_words(error),
                "see in the app's own log what it has against it",
            ),
        }
    }

    /// Why a handshake with a broker failed, which had to be `name`.
    #[must_use]
    pub fn of_broker(error: &io::Error, name: &ServerName<'_>, has_certificate: bool) -> Self {
        const NOT_TLS: &str =
            "name a port where the broker speaks TLS, or write its URL without TLS";
        match cause(error) {
            Some(Error::InvalidCertificate(why)) => match why {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::new(
                    wrong_with(why),
                    "set `upstream_ca` to the authority that signed it",
                ),
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Self::new(
                    format!("its certificate is not for {}", name.to_str()),
                    "address the broker by a name that it is for, or set `upstream_server_name` \
                     to one",
                ),
                _ => Self::new(wrong_with(why), "renew the certificate of the broker"),
            },
            Some(Error::AlertReceived(alert)) => Self::of_broker_alert(*alert, has_certificate),
            Some(Error::InvalidMessage(_)) => Self::new("its answer is not TLS", NOT_TLS),
            Some(error) => Self::new(
                error.to_string(),
                "see which versions of TLS and which ciphers the broker takes; here it is 1.2 \
                 and 1.3",
            ),
            None => Self::new(not_in_words(error), NOT_TLS),
        }
    }

    /// The broker says itself why it does not want to go on.
    pub(super) fn of_broker_alert(alert: AlertDescription, has_certificate: bool) -> Self {
        if is_about_certificates(alert) && has_certificate {
            return Self::new(
                format!("it does not take our certificate ({alert:?})"),
                "set `upstream_certificate` to one that an authority the broker trusts has \
                 signed, and that has not expired",
            );
        }
        let remedy = if has_certificate {
            "see in the broker's log what it has against it"
        } else {
            "where the broker wants a certificate, set `upstream_certificate` and `upstream_key`"
        };
        Self::new(format!("it ended the handshake ({alert:?})"), remedy)
    }
}

/// What rustls has to say about a failed read or handshake.
fn cause(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn is_about_certificates(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
    )
}

fn wrong_with(certificate: &CertificateError) -> String {
    match certificate {
        // The latter where an authority has the name of another.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is signed by nobody we trust".into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet".into()
        }
        other => format!("its certificate cannot be taken ({other})"),
    }
}

/// What went wrong where nothing of TLS was said about it.
fn not_in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "it took too long over the handshake".to_owned(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            "it ended the connection in the middle of the handshake".to_owned()
        }
        _ => error.to_string(),
    }
}
