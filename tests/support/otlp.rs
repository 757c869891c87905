//! A collector: OTLP's own messages and services, and a mind of its own about the answer.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::VecDeque;
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::Html;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::post;
use axum::serve::Listener;
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::MetricsService;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::MetricsServiceServer;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::TraceService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::TraceServiceServer;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::IsCa;
use rcgen::KeyPair;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::Code;
use tonic::Request;
use tonic::Status;
use tonic::codec::CompressionEncoding;
use tonic::transport::Certificate;
use tonic::transport::Identity;
use tonic::transport::Server;
use tonic::transport::ServerTlsConfig;
use tonic::transport::server::TcpIncoming;
use tonic_types::ErrorDetails;
use tonic_types::StatusExt;

use tracehop::config::OtlpProtocol;

/// A collector that runs until it is dropped, connections and all.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    mind: Arc<Mind>,
    runtime: Option<Runtime>,
}

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Accept,
    /// Accepted but for this number of spans.
    Partial(i64),
    /// Accepted but for this number of spans, in very many words.
    Chatter(i64),
    /// Refused for good.
    Refuse,
    /// Refused where it is larger than this, as gRPC and HTTP servers do it.
    AtMost(usize),
    /// Somebody else's page, with a status of success. Over HTTP only.
    Page,
    /// The connection breaks within the answer. Over HTTP only.
    Break,
    /// Refused for now; over HTTP with a `Retry-After` of no seconds.
    Unavailable,
    /// Refused for this number of seconds.
    Throttle(u64),
    /// Never answered.
    Hang,
}

/// What was received and accepted.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) api_key: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) compression: Option<String>,
    pub(crate) request: ExportTraceServiceRequest,
}

#[derive(Default)]
struct Mind {
    /// The answers to come; when there are none left, [`Answer::Accept`].
    answers: Mutex<VecDeque<Answer>>,
    always: Mutex<Option<Answer>>,
    requests: AtomicUsize,
    received: Mutex<Vec<Received>>,
    reports: Mutex<Vec<Report>>,
}

/// A report of metrics.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) api_key: Option<String>,
    pub(crate) compression: Option<String>,
    pub(crate) request: ExportMetricsServiceRequest,
}

impl Collector {
    /// Listens on a free port.
    pub(crate) fn start(protocol: OtlpProtocol) -> Self {
        Self::start_at(protocol, SocketAddr::from(([127, 0, 0, 1], 0)), None)
    }

    /// Speaks TLS with `papers`, and only with clients that have theirs from the same
    /// authority.
    pub(crate) fn start_with_tls(protocol: OtlpProtocol, papers: &Papers) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_at(protocol, address, Some(papers))
    }

    pub(crate) fn start_at(
        protocol: OtlpProtocol,
        address: SocketAddr,
        papers: Option<&Papers>,
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let mind = Arc::new(Mind::default());
        let inside = runtime.enter();
        let address = match protocol {
            OtlpProtocol::Grpc => serve_grpc(address, papers, Arc::clone(&mind)),
            OtlpProtocol::HttpProtobuf => serve_http(address, papers, Arc::clone(&mind)),
        };
        drop(inside);
        Self {
            address,
            mind,
            runtime: Some(runtime),
        }
    }

    /// Answers the next requests so.
    pub(crate) fn answer(&self, answers: &[Answer]) {
        self.mind.answers.lock().unwrap().extend(answers);
    }

    /// Answers every request so from now on, until told otherwise.
    pub(crate) fn always(&self, answer: Answer) {
        *self.mind.always.lock().unwrap() = Some(answer);
    }

    /// How many requests came in, whatever the answer.
    pub(crate) fn requests(&self) -> usize {
        self.mind.requests.load(Ordering::SeqCst)
    }

    /// What was accepted.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.mind.received.lock().unwrap().clone()
    }

    /// The reports of metrics that came in, all of which are accepted.
    pub(crate) fn reports(&self) -> Vec<Report> {
        self.mind.reports.lock().unwrap().clone()
    }

    /// How large the requests were that were accepted, before compression.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        let received = self.received();
        let sizes = received
            .iter()
            .map(|received| received.request.encoded_len());
        sizes.collect()
    }

    /// The spans that were accepted.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.received()
            .into_iter()
            .flat_map(|received| received.request.resource_spans)
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans)
            .collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Mind {
    async fn decide(&self, received: Received) -> Answer {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let always = *self.always.lock().unwrap();
        let next = self.answers.lock().unwrap().pop_front();
        let answer = always.or(next).unwrap_or(Answer::Accept);
        let is_taken = match answer {
            Answer::Hang => std::future::pending().await,
            Answer::Accept | Answer::Partial(_) | Answer::Chatter(_) => true,
            Answer::AtMost(bytes) => received.request.encoded_len() <= bytes,
            Answer::Page
            | Answer::Break
            | Answer::Refuse
            | Answer::Unavailable
            | Answer::Throttle(_) => false,
        };
        if is_taken {
            self.received.lock().unwrap().push(received);
        }
        match answer {
            Answer::AtMost(_) if is_taken => Answer::Accept,
            answer => answer,
        }
    }
}

fn response(answer: Answer) -> ExportTraceServiceResponse {
    let partial = |rejected_spans, error_message| {
        Some(ExportTracePartialSuccess {
            rejected_spans,
            error_message,
        })
    };
    let partial_success = match answer {
        Answer::Partial(rejected) => partial(rejected, "these are not to my taste".to_owned()),
        Answer::Chatter(rejected) => partial(rejected, "well ".repeat(1 << 18)),
        _ => None,
    };
    ExportTraceServiceResponse { partial_success }
}

fn serve_http(address: SocketAddr, papers: Option<&Papers>, mind: Arc<Mind>) -> SocketAddr {
    let listener = std::net::TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/v1/traces", post(receive_http))
        .route("/v1/metrics", post(report_http))
        .with_state(mind);
    match papers {
        None => tokio::spawn(async { axum::serve(listener, router).await.unwrap() }),
        Some(papers) => {
            let listener = TlsListener(listener, papers.acceptor());
            tokio::spawn(async { axum::serve(listener, router).await.unwrap() })
        }
    };
    address
}

/// A message, the key that came with it, and how it was compressed.
fn read<M: Message + Default>(
    headers: &HeaderMap,
    body: &[u8],
) -> (M, Option<String>, Option<String>) {
    let header = |name| Some(headers.get(name)?.to_str().unwrap().to_owned());
    assert_eq!(
        header("content-type").as_deref(),
        Some("application/x-protobuf")
    );
    let compression = header("content-encoding");
    let mut plain = body.to_vec();
    if compression.as_deref() == Some("gzip") {
        plain.clear();
        GzDecoder::new(body).read_to_end(&mut plain).unwrap();
    }
    (M::decode(&*plain).unwrap(), header("api-key"), compression)
}

async fn report_http(State(mind): State<Arc<Mind>>, headers: HeaderMap, body: Bytes) -> Response {
    let (request, api_key, compression) = read(&headers, &body);
    mind.reports.lock().unwrap().push(Report {
        api_key,
        compression,
        request,
    });
    let answer = ExportMetricsServiceResponse::default().encode_to_vec();
    ([("content-type", "application/x-protobuf")], answer).into_response()
}

async fn receive_http(State(mind): State<Arc<Mind>>, headers: HeaderMap, body: Bytes) -> Response {
    let (request, api_key, compression) = read(&headers, &body);
    let agent = headers.get("user-agent");
    let received = Received {
        api_key,
        user_agent: agent.map(|agent| agent.to_str().unwrap().to_owned()),
        compression,
        request,
    };
    match mind.decide(received).await {
        Answer::Refuse => StatusCode::BAD_REQUEST.into_response(),
        Answer::AtMost(_) => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Answer::Page => Html("<html>Sign in</html>").into_response(),
        Answer::Break => {
            let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
            let parts = [Ok(Bytes::from_static(b"\x0a")), Err(broken)];
            Body::from_stream(futures_util::stream::iter(parts)).into_response()
        }
        Answer::Unavailable => {
            (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")]).into_response()
        }
        Answer::Throttle(seconds) => {
            let after = [("retry-after", seconds.to_string())];
            (StatusCode::TOO_MANY_REQUESTS, after).into_response()
        }
        answer => (
            [("content-type", "application/x-protobuf")],
            response(answer).encode_to_vec(),
        )
            .into_response(),
    }
}

fn serve_grpc(address: SocketAddr, papers: Option<&Papers>, mind: Arc<Mind>) -> SocketAddr {
    let incoming = TcpIncoming::bind(address).unwrap();
    let address = incoming.local_addr().unwrap();
    let mut server = Server::builder();
    if let Some(papers) = papers {
        server = server.tls_config(papers.tonic()).unwrap();
    }
    // Answers are compressed for whoever takes them so.
    let traces = TraceServiceServer::new(Grpc(Arc::clone(&mind)))
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let metrics = MetricsServiceServer::new(Grpc(mind))
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let server = server.add_service(traces).add_service(metrics);
    tokio::spawn(async { server.serve_with_incoming(incoming).await.unwrap() });
    address
}

struct Grpc(Arc<Mind>);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        let header = |name| Some(request.metadata().get(name)?.to_str().unwrap().to_owned());
        let received = Received {
            api_key: header("api-key"),
            user_agent: header("user-agent"),
            compression: header("grpc-encoding"),
            request: request.get_ref().clone(),
        };
        match self.0.decide(received).await {
            Answer::Refuse => Err(Status::invalid_argument("not this")),
            Answer::AtMost(bytes) => Err(Status::resource_exhausted(format!(
                "grpc: received message larger than max ({bytes})"
            ))),
            Answer::Unavailable => Err(Status::unavailable("not now")),
            Answer::Throttle(seconds) => {
                let after = Some(Duration::from_secs(seconds));
                let details = ErrorDetails::with_retry_info(after);
                Err(Status::with_error_details(
                    Code::ResourceExhausted,
                    "later",
                    details,
                ))
            }
            answer => Ok(tonic::Response::new(response(answer))),
        }
    }
}

#[tonic::async_trait]
impl MetricsService for Grpc {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, Status> {
        let header = |name| Some(request.metadata().get(name)?.to_str().unwrap().to_owned());
        let report = Report {
            api_key: header("api-key"),
            compression: header("grpc-encoding"),
            request: request.get_ref().clone(),
        };
        self.0.reports.lock().unwrap().push(report);
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// An authority, and what it has signed for a collector and for a client; as files.
pub(crate) struct Papers {
    folder: PathBuf,
    server_key: String,
    server_certificate: String,
}

impl Papers {
    /// Written to a folder called `name`, which is removed with them.
    pub(crate) fn issue(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let sign = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &authority).unwrap();
            (certificate.pem(), key.serialize_pem())
        };
        let (server_certificate, server_key) = sign("localhost");
        let (client_certificate, client_key) = sign("client");
        let folder = std::env::temp_dir().join(format!("tracehop-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("authority.pem"), authority.pem()).unwrap();
        fs::write(folder.join("client.pem"), client_certificate).unwrap();
        fs::write(folder.join("client.key"), client_key).unwrap();
        Self {
            folder,
            server_key,
            server_certificate,
        }
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    pub(crate) fn client_certificate(&self) -> PathBuf {
        self.folder.join("client.pem")
    }

    pub(crate) fn client_key(&self) -> PathBuf {
        self.folder.join("client.key")
    }

    fn tonic(&self) -> ServerTlsConfig {
        let authority = fs::read(self.authority()).unwrap();
        ServerTlsConfig::new()
            .identity(Identity::from_pem(
                &self.server_certificate,
                &self.server_key,
            ))
            .client_ca_root(Certificate::from_pem(authority))
    }

    fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&self.authority())).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .unwrap();
        let chain = CertificateDer::from_pem_slice(self.server_certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.server_key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![chain], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Drop for Papers {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

struct TlsListener(TcpListener, TlsAcceptor);

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.0.accept().await.unwrap();
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}
