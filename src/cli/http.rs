//! Questions over HTTP: to a running tracehop, and to a Jaeger.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use anyhow::bail;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Empty;
use http_body_util::Limited;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::ACCEPT;
use hyper::header::AUTHORIZATION;
use hyper::header::HeaderValue;
use hyper_rustls::HttpsConnector;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use url::Url;

use crate::cli::Misused;

/// Whom to ask, below which URL, and as whom.
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    /// Without credentials, and without a slash at its end.
    base: Url,
    authorization: Option<HeaderValue>,
}

/// What came instead of an answer.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// What whoever refused says of it, if anything.
    pub(super) words: String,
}

impl Http {
    /// `flag` gives the URL; user and password in it are sent along, a token goes before.
    pub(super) fn new(
        flag: &'static str,
        base: &str,
        token: Option<&str>,
    ) -> Result<Self, Misused> {
        let wrong = |fault: String| Misused {
            flag,
            fault,
            remedy: "write for example http://127.0.0.1:9464",
        };
        let mut base = Url::parse(base).map_err(|error| wrong(format!("not a URL ({error})")))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(wrong("neither http nor https".to_owned()));
        }
        let authorization = match (token, base.username(), base.password()) {
            (Some(token), ..) => Some(format!("Bearer {token}")),
            (None, "", None) => None,
            (None, user, password) => {
                let both = format!("{user}:{}", password.unwrap_or_default());
                let both = percent_encoding::percent_decode_str(&both).collect::<Vec<u8>>();
                Some(format!("Basic {}", BASE64_STANDARD.encode(both)))
            }
        };
        let authorization = authorization
            .map(HeaderValue::try_from)
            .transpose()
            .map_err(|_| wrong("the token has characters that HTTP does not allow".to_owned()))?;
        // Neither fails for http and https.
        let _ = (base.set_username(""), base.set_password(None));
        base.set_query(None);
        base.set_fragment(None);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector(trusting_system())),
            base,
            authorization,
        })
    }

    /// The URL that is asked below.
    pub(super) fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Asks for `path`; the answer may take its time to come whole.
    pub(super) async fn open(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> anyhow::Result<Result<Response<Incoming>, Refusal>> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = Request::get(url.as_str()).header(ACCEPT, "*/*");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new())?;
        let response = timeout(HEAD_TIME_MAX, self.client.request(request))
            .await
            .with_context(|| format!("{}: no answer within {HEAD_TIME_MAX:?}", self.base()))?
            .with_context(|| format!("{} cannot be reached", self.base()))?;
        if response.status().is_success() {
            return Ok(Ok(response));
        }
        let status = response.status();
        let body = self.whole(response).await.unwrap_or_default();
        Ok(Err(Refusal {
            status,
            words: words(&body),
        }))
    }

    /// Asks for a JSON document.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> anyhow::Result<Result<T, Refusal>> {
        let response = match self.open(path, query).await? {
            Ok(response) => response,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let body = self.whole(response).await?;
        match serde_json::from_slice(&body) {
            Ok(answer) => Ok(Ok(answer)),
            Err(error) => bail!("{}{path} does not answer as expected: {error}", self.base()),
        }
    }

    async fn whole(&self, response: Response<Incoming>) -> anyhow::Result<Bytes> {
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        match timeout(BODY_TIME_MAX, body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) => bail!("{} broke off its answer: {error}", self.base()),
            Err(_) => bail!("{}: no whole answer within {BODY_TIME_MAX:?}", self.base()),
        }
    }
}

/// Whoever the system trusts. Where it trusts nobody, `https` fails with that.
fn trusting_system() -> ClientConfig {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let _ = roots.add_parsable_certificates(found.certs);
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("this provider knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn connector(tls: ClientConfig) -> HttpsConnector<HttpConnector> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(HEAD_TIME_MAX));
    HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector)
}

/// The sentence in a refusal: ours in `error`, Jaeger's in `errors`.
fn words(body: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let ours = json["error"].as_str();
    let jaegers = json["errors"][0]["msg"].as_str();
    ours.or(jaegers).unwrap_or_default().to_owned()
}

const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
const BODY_TIME_MAX: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 64 << 20;
