//! The SDK's exporter, over connections that we make ourselves.
//!
//! Its own would wait for ever for a host that does not answer, trust nobody with
//! `https`, and not say why a connection failed.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_http::HttpClient;
use opentelemetry_http::HttpError;
use opentelemetry_http::Request;
use opentelemetry_http::Response;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_otlp::Protocol;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_otlp::WithHttpConfig;
use opentelemetry_otlp::WithTonicConfig;
use tonic::transport::Endpoint;

use crate::config::OtlpProtocol;
use crate::telemetry::otlp::settings::Settings;

/// An exporter for `settings`. It connects when it is first used, on the runtime that this
/// is called in.
pub(super) fn exporter(
    settings: &Settings,
    last_fault: &LastFault,
) -> Result<SpanExporter, Box<dyn Error + Send + Sync>> {
    match settings.protocol {
        OtlpProtocol::Grpc => grpc(settings),
        OtlpProtocol::HttpProtobuf => Ok(http(settings, last_fault)?),
    }
}

fn grpc(settings: &Settings) -> Result<SpanExporter, Box<dyn Error + Send + Sync>> {
    let mut endpoint = Endpoint::from_shared(settings.endpoint.to_string())?;
    if let Some(tls) = &settings.tls {
        // A handshake that hangs would else keep the channel from ever trying again.
        endpoint = endpoint.tls_config(tls.tonic().timeout(settings.deadline))?;
    }
    let builder = SpanExporter::builder()
        .with_tonic()
        .with_timeout(settings.deadline)
        .with_channel(endpoint.connect_with_connector_lazy(connector(settings)));
    let builder = match settings.compression {
        Some(compression) => builder.with_compression(compression),
        None => builder,
    };
    Ok(builder.build()?)
}

fn http(settings: &Settings, last_fault: &LastFault) -> Result<SpanExporter, ExporterBuildError> {
    let client: Arc<dyn HttpClient> = match &settings.tls {
        Some(tls) => {
            let connector = HttpsConnectorBuilder::new()
                .with_tls_config(tls.rustls())
                .https_only()
                .enable_http1()
                .wrap_connector(connector(settings));
            let client = HyperClient::new(connector, UNLIMITED, None);
            Arc::new(Telling(client, last_fault.clone()))
        }
        None => {
            let client = HyperClient::new(connector(settings), UNLIMITED, None);
            Arc::new(Telling(client, last_fault.clone()))
        }
    };
    let builder = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(settings.endpoint.as_str())
        .with_timeout(settings.deadline)
        .with_shared_http_client(client);
    match settings.compression {
        Some(compression) => builder.with_compression(compression),
        None => builder,
    }
    .build()
}

fn connector(settings: &Settings) -> HttpConnector {
    let mut connector = HttpConnector::new();
    // TLS is put around it, by name of the scheme.
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(settings.deadline));
    // A peer that has gone without a word would else be written to for a quarter of an
    // hour, over the one connection that gRPC keeps.
    connector.set_tcp_user_timeout(Some(settings.deadline));
    connector.set_keepalive(Some(KEEPALIVE));
    connector
}

/// Why the last request did not come through, for the log: the SDK says no more than
/// "network error".
#[derive(Clone, Debug, Default)]
pub(super) struct LastFault(Arc<Mutex<Option<String>>>);

impl LastFault {
    fn set(&self, error: &(dyn Error + 'static)) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(chain(error));
    }

    /// What was set since it was last taken.
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// An error and its causes, in one line.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}

/// A client that tells what went wrong.
struct Telling<C>(C, LastFault);

impl<C> fmt::Debug for Telling<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Telling")
    }
}

/// Written out as `async_trait` would, which the trait is made with.
impl<C: HttpClient> HttpClient for Telling<C> {
    fn send_bytes<'life, 'future>(
        &'life self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            let answer = self.0.send_bytes(request).await;
            if let Err(error) = &answer {
                self.1.set(error.as_ref());
            }
            answer
        })
    }
}

const KEEPALIVE: Duration = Duration::from_secs(60);
/// Whoever exports sets the deadline, for all attempts together.
const UNLIMITED: Duration = Duration::from_secs(86_400);
