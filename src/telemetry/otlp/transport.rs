//! The SDK's exporter, over connections that we make ourselves.
//!
//! Its own would wait for ever for a host that does not answer, trust nobody with
//! `https`, and not say why a connection failed. Nor does it say what it sends: the headers
//! that it finds in the environment cannot be kept from it, so they are put right here.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::io::Write;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzEncoder;
use hyper::HeaderMap;
use hyper::header::CONTENT_ENCODING;
use hyper::header::CONTENT_TYPE;
use hyper::header::USER_AGENT;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::Connect;
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
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use prost::Message;
use tonic::Status;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::transport::Endpoint;
use url::Url;

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

/// What sends metrics; the SDK's exporter takes none but those of its own instruments. It
/// connects when it is first used, on the runtime that this is called in.
pub(super) enum Post {
    Grpc(Box<MetricsServiceClient<InterceptedService<Channel, Headers>>>),
    Http {
        client: Arc<dyn HttpClient>,
        endpoint: Url,
        is_compressed: bool,
    },
}

impl Post {
    pub(super) fn new(
        settings: &Settings,
        last_fault: &LastFault,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let is_compressed = settings.compression.is_some();
        if settings.protocol == OtlpProtocol::HttpProtobuf {
            return Ok(Self::Http {
                client: http_client(settings, last_fault),
                endpoint: settings.endpoint.clone(),
                is_compressed,
            });
        }
        let headers = Headers(MetadataMap::from_headers(settings.headers.clone()));
        let client = MetricsServiceClient::with_interceptor(channel(settings)?, headers);
        Ok(Self::Grpc(Box::new(if is_compressed {
            client.send_compressed(CompressionEncoding::Gzip)
        } else {
            client
        })))
    }

    /// Sends once. The error is in words.
    pub(super) async fn metrics(
        &mut self,
        request: ExportMetricsServiceRequest,
    ) -> Result<(), String> {
        match self {
            Self::Grpc(client) => match client.export(request).await {
                Ok(_) => Ok(()),
                Err(status) => Err(status.to_string()),
            },
            Self::Http {
                client,
                endpoint,
                is_compressed,
            } => {
                let request = post(endpoint, &request.encode_to_vec(), *is_compressed)
                    .map_err(|error| error.to_string())?;
                let answer = client.send_bytes(request).await;
                match answer.map_err(|error| error.to_string())?.status() {
                    status if status.is_success() => Ok(()),
                    status => Err(format!("the collector answered {status}")),
                }
            }
        }
    }
}

fn post(endpoint: &Url, body: &[u8], is_compressed: bool) -> io::Result<Request<Bytes>> {
    let request = Request::post(endpoint.as_str()).header(CONTENT_TYPE, "application/x-protobuf");
    let (request, body) = if is_compressed {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(body)?;
        (request.header(CONTENT_ENCODING, "gzip"), encoder.finish()?)
    } else {
        (request, body.to_vec())
    };
    request.body(body.into()).map_err(io::Error::other)
}

/// Sent along with each request.
#[derive(Clone)]
pub(super) struct Headers(MetadataMap);

impl Interceptor for Headers {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        let mut sent = mem::take(request.metadata_mut()).into_headers();
        sent.extend(self.0.clone().into_headers());
        *request.metadata_mut() = MetadataMap::from_headers(sent);
        Ok(request)
    }
}

fn channel(settings: &Settings) -> Result<Channel, Box<dyn Error + Send + Sync>> {
    let mut endpoint = Endpoint::from_shared(settings.endpoint.to_string())?;
    if let Some(tls) = &settings.tls {
        // A handshake that hangs would else keep the channel from ever trying again.
        endpoint = endpoint.tls_config(tls.tonic().timeout(settings.deadline))?;
    }
    Ok(endpoint.connect_with_connector_lazy(connector(settings)))
}

fn grpc(settings: &Settings) -> Result<SpanExporter, Box<dyn Error + Send + Sync>> {
    let headers = settings.headers.clone();
    let builder = SpanExporter::builder()
        .with_tonic()
        .with_timeout(settings.deadline)
        .with_interceptor(move |mut request: tonic::Request<()>| {
            let mut sent = mem::take(request.metadata_mut()).into_headers();
            put_right(&mut sent, &headers);
            *request.metadata_mut() = MetadataMap::from_headers(sent);
            Ok(request)
        })
        .with_channel(channel(settings)?);
    let builder = match settings.compression {
        Some(compression) => builder.with_compression(compression),
        None => builder,
    };
    Ok(builder.build()?)
}

fn http(settings: &Settings, last_fault: &LastFault) -> Result<SpanExporter, ExporterBuildError> {
    let builder = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(settings.endpoint.as_str())
        .with_timeout(settings.deadline)
        .with_shared_http_client(http_client(settings, last_fault));
    match settings.compression {
        Some(compression) => builder.with_compression(compression),
        None => builder,
    }
    .build()
}

fn http_client(settings: &Settings, last_fault: &LastFault) -> Arc<dyn HttpClient> {
    match &settings.tls {
        Some(tls) => {
            let connector = HttpsConnectorBuilder::new()
                .with_tls_config(tls.rustls())
                .https_only()
                .enable_http1()
                .wrap_connector(connector(settings));
            client(connector, settings, last_fault)
        }
        None => client(connector(settings), settings, last_fault),
    }
}

fn client<C>(connector: C, settings: &Settings, last_fault: &LastFault) -> Arc<dyn HttpClient>
where
    C: Connect + Clone + Send + Sync + 'static,
    HyperClient<C>: HttpClient,
{
    Arc::new(Client {
        hyper: HyperClient::new(connector, UNLIMITED, None),
        headers: settings.headers.clone(),
        last_fault: last_fault.clone(),
    })
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

/// A client that sends what it was told to, and tells what went wrong.
struct Client<C> {
    hyper: C,
    headers: HeaderMap,
    last_fault: LastFault,
}

impl<C> fmt::Debug for Client<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

/// Written out as `async_trait` would, which the trait is made with.
impl<C: HttpClient> HttpClient for Client<C> {
    fn send_bytes<'life, 'future>(
        &'life self,
        mut request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            put_right(request.headers_mut(), &self.headers);
            let answer = self.hyper.send_bytes(request).await;
            if let Err(error) = &answer {
                self.last_fault.set(error.as_ref());
            }
            answer
        })
    }
}

/// Leaves of the SDK's headers those that say what is sent and by whom, and adds `ours`.
fn put_right(headers: &mut HeaderMap, ours: &HeaderMap) {
    let mut sdk = mem::take(headers);
    for name in [CONTENT_TYPE, CONTENT_ENCODING, USER_AGENT] {
        if let Some(value) = sdk.remove(&name) {
            headers.insert(name, value);
        }
    }
    headers.extend(ours.clone());
}

const KEEPALIVE: Duration = Duration::from_secs(60);
/// Whoever exports sets the deadline, for all attempts together.
const UNLIMITED: Duration = Duration::from_secs(86_400);
