//! Requests to a collector, over gRPC or HTTP/1.1, and again where OTLP says so.

use std::io::Write;
use std::time::Duration;

use bytes::Buf;
use bytes::BufMut;
use bytes::Bytes;
use flate2::write::GzEncoder;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::HeaderMap;
use hyper::Request;
use hyper::Uri;
use hyper::header::CONTENT_ENCODING;
use hyper::header::CONTENT_TYPE;
use hyper::header::HeaderValue;
use hyper::header::USER_AGENT;
use hyper_rustls::HttpsConnector;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::Instant;
use tokio::time::sleep_until;
use tokio::time::timeout;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::Codec;
use tonic::codec::CompressionEncoding;
use tonic::codec::DecodeBuf;
use tonic::codec::Decoder;
use tonic::codec::EncodeBuf;
use tonic::codec::Encoder;
use tonic::metadata::MetadataMap;

use crate::config::OtlpProtocol;
use crate::telemetry::otlp::answer::Answer;
use crate::telemetry::otlp::fault::Fault;
use crate::telemetry::otlp::settings::Settings;
use crate::telemetry::otlp::settings::Signal;

/// What takes encoded requests to a collector. It connects when it is first used, and keeps
/// the connection.
#[derive(Debug)]
pub(super) struct Post {
    wire: Wire,
    /// For one request with all its attempts.
    deadline: Duration,
}

impl Post {
    pub(super) fn new(signal: Signal, settings: &Settings) -> Self {
        Self {
            wire: Wire::new(signal, settings),
            deadline: settings.deadline,
        }
    }

    /// Sends once.
    pub(super) async fn send(&mut self, request: Bytes) -> Result<Answer, Fault> {
        let request = self.wire.packed(request);
        let answer = timeout(self.deadline, self.wire.send(request)).await;
        answer.unwrap_or(Err(Fault::Timeout(self.deadline)))
    }

    /// Sends until the collector takes it, refuses it for good, or was asked often enough.
    /// Once there is a `stop` it is asked without a pause.
    pub(super) async fn insist(
        &mut self,
        request: Bytes,
        stop: &CancellationToken,
    ) -> Result<Answer, Fault> {
        let request = self.wire.packed(request);
        let until = Instant::now() + self.deadline;
        let mut last = Fault::Timeout(self.deadline);
        let mut pause = PAUSE_FIRST;
        for attempts_left in (0..=RETRIES_MAX).rev() {
            match timeout_at(until, self.wire.send(request.clone())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(fault)) => last = fault,
                // What it said before tells more than that it then said nothing.
                Err(_) => break,
            }
            let Some(asked) = last.again_after() else {
                break;
            };
            pause = pause.max(asked.min(PAUSE_ASKED_MAX));
            // Not all that were refused at once are to come back at once.
            let next = Instant::now() + pause + PAUSE_JITTER_MAX.mul_f64(fastrand::f64());
            if attempts_left == 0 || next >= until {
                break;
            }
            tokio::select! {
                () = sleep_until(next) => {}
                () = stop.cancelled() => {}
            }
            pause *= 2;
        }
        Err(last)
    }
}

#[derive(Debug)]
enum Wire {
    Grpc {
        client: Grpc<HttpClient>,
        method: &'static str,
        headers: HeaderMap,
    },
    Http {
        client: HttpClient,
        endpoint: Uri,
        headers: HeaderMap,
        gzip: bool,
    },
}

type HttpClient = Client<HttpsConnector<HttpConnector>, Body>;

impl Wire {
    fn new(signal: Signal, settings: &Settings) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let endpoint = settings.uri();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(settings.tls.clone())
            .https_or_http();
        let mut client = Client::builder(TokioExecutor::new());
        match settings.protocol {
            OtlpProtocol::Grpc => {
                let connector = connector.enable_http2().wrap_connector(tcp(settings));
                let client = client.http2_only(true).build(connector);
                // Go's servers answer in the encoding of the request, so it is said that the answer
                // may come in it, too.
                let mut client = Grpc::with_origin(client, endpoint)
                    .accept_compressed(CompressionEncoding::Gzip);
                if settings.gzip {
                    client = client.send_compressed(CompressionEncoding::Gzip);
                }
                headers.extend(settings.headers.clone());
                Self::Grpc {
                    client,
                    method: match signal {
                        Signal::Spans => TRACES_EXPORT,
                        Signal::Metrics => METRICS_EXPORT,
                    },
                    headers,
                }
            }
            OtlpProtocol::HttpProtobuf => {
                let connector = connector.enable_http1().wrap_connector(tcp(settings));
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
                if settings.gzip {
                    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                }
                headers.extend(settings.headers.clone());
                Self::Http {
                    client: client.build(connector),
                    endpoint,
                    headers,
                    gzip: settings.gzip,
                }
            }
        }
    }

    /// The request as it is sent, however often that is.
    fn packed(&self, request: Bytes) -> Bytes {
        match self {
            Self::Http { gzip: true, .. } => {
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder
                    .write_all(&request)
                    .and_then(|()| encoder.finish())
                    .expect("memory takes every byte")
                    .into()
            }
            // tonic does it itself.
            _ => request,
        }
    }

    async fn send(&mut self, request: Bytes) -> Result<Answer, Fault> {
        match self {
            Self::Grpc {
                client,
                method,
                headers,
            } => {
                let mut request = tonic::Request::new(request);
                *request.metadata_mut() = MetadataMap::from_headers(headers.clone());
                let path = method.parse().expect("it is the path of a method");
                let answer = client.unary(request, path, Raw).await;
                match answer {
                    Ok(answer) => Answer::of_protobuf(&answer.into_inner()),
                    Err(status) => Err(Fault::of_status(&status)),
                }
            }
            Self::Http {
                client,
                endpoint,
                headers,
                ..
            } => {
                let mut request = Request::post(&*endpoint)
                    .body(Body::new(Full::new(request)))
                    .expect("the endpoint is a URI");
                request.headers_mut().extend(headers.clone());
                let answer = client.request(request).await;
                let (answer, body) = answer
                    .map_err(|error| Fault::on_the_way(&error))?
                    .into_parts();
                // Read in any case, so that the connection can be used again.
                let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
                if !answer.status.is_success() {
                    return Err(Fault::of_answer(answer.status, &answer.headers));
                }
                let body = body.map_err(|error| Fault::on_the_way(&*error))?;
                Answer::of_http(&answer.headers, &body.to_bytes())
            }
        }
    }
}

fn tcp(settings: &Settings) -> HttpConnector {
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

/// Messages that are encoded already, and answers that are not decoded yet.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(message.len());
        out.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}

const AGENT: &str = concat!("OTel-OTLP-Exporter-tracehop/", env!("CARGO_PKG_VERSION"));
const PROTOBUF: &str = "application/x-protobuf";
const TRACES_EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS_EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// As tonic has it for gRPC.
const ANSWER_BYTES_MAX: usize = 4 << 20;
const KEEPALIVE: Duration = Duration::from_secs(60);

/// As OpenTelemetry's own exporters do it: each pause is twice the one before.
const RETRIES_MAX: usize = 3;
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_JITTER_MAX: Duration = Duration::from_millis(100);
/// However long a collector asks for.
const PAUSE_ASKED_MAX: Duration = Duration::from_secs(30);
