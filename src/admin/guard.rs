//! Who may see what, and what a browser may make of it.

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;

use axum::extract::Request;
use axum::extract::State as Extract;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::header::CACHE_CONTROL;
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::http::header::HOST;
use axum::http::header::REFERRER_POLICY;
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::header::X_CONTENT_TYPE_OPTIONS;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::admin::assets::is_asset;
use crate::admin::refusal::Refusal;

/// What stands before every page.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    /// `None`: everybody may see everything.
    token: Option<Token>,
    /// `Some` where only programs on this machine can connect.
    loopback: Option<IpAddr>,
}

impl Guard {
    pub(super) fn new(token: Option<Token>, listen: SocketAddr) -> Self {
        let loopback = Some(listen.ip()).filter(|ip| ip.to_canonical().is_loopback());
        Self { token, loopback }
    }

    /// Whether whoever can reach the listener sees what it shows.
    pub(super) const fn is_open(&self) -> bool {
        self.token.is_none() && self.loopback.is_none()
    }

    fn admit(&self, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        if ALWAYS_OPEN.contains(&path) {
            return Ok(());
        }
        // A page of somebody else's, open in a browser on this machine, could have its own
        // name lead here.
        if let (Some(listen), Some(host)) = (self.loopback, headers.get(HOST))
            && !is_local(host.as_bytes(), listen)
        {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "this listener is for programs on its own machine: ask for localhost or \
                 127.0.0.1, or let admin.listen be an address that others may use",
            ));
        }
        match &self.token {
            Some(token) if !is_asset(path) && !token.is_shown_in(headers) => Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "a token is needed: send the header \"Authorization: Bearer …\" with the one in \
                 the file that admin.token_file names",
            )),
            _ => Ok(()),
        }
    }
}

/// Lets a request through, or refuses it; either way the answer says how it may be used.
pub(super) async fn stand_before(
    Extract(guard): Extract<Guard>,
    request: Request,
    next: Next,
) -> Response {
    let admitted = guard.admit(request.uri().path(), request.headers());
    let mut answer = match admitted {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let unauthorized = answer.status() == StatusCode::UNAUTHORIZED;
    let headers = answer.headers_mut();
    if unauthorized {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// Whether a `Host` is one of this machine's own names, whatever the port: it may be
/// forwarded from another one.
fn is_local(host: &[u8], listen: IpAddr) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let address = address.parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.is_loopback() || address == listen)
}

/// What has to be shown.
#[derive(Clone)]
pub(super) struct Token(Vec<u8>);

/// Why there is no token although there is to be one.
#[derive(Debug, Error)]
pub enum TokenError {
    #[error("admin.token_file = {path:?}: cannot be read: {source}; name a file that can, or none")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("admin.token_file = {path:?}: {fault}; write the token on its first line")]
    Unusable { path: PathBuf, fault: &'static str },
}

impl Token {
    /// The first line of the file.
    pub(super) fn read(path: &Path) -> Result<Self, TokenError> {
        let text = fs::read_to_string(path).map_err(|source| TokenError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let token = text.lines().next().unwrap_or_default().trim();
        let unusable = |fault| TokenError::Unusable {
            path: path.to_owned(),
            fault,
        };
        if token.is_empty() {
            return Err(unusable("holds no token"));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable("holds a token that a header cannot carry"));
        }
        Ok(Self(token.as_bytes().to_owned()))
    }

    /// In a time that does not tell how much of it is right.
    fn is_shown_in(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let shown = shown.and_then(|value| value.split_at_checked(SCHEME.len()));
        shown.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case(SCHEME) && bool::from(self.0.ct_eq(token.trim_ascii()))
        })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Whoever looks after the process needs these, and they tell nothing else.
const ALWAYS_OPEN: [&str; 2] = ["/healthz", "/readyz"];
const SCHEME: &[u8] = b"bearer ";
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";
