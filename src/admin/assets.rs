//! The admin page's own files, built in.

use axum::Router;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::http::header::CONTENT_TYPE;
use axum::http::header::ETAG;
use axum::http::header::IF_NONE_MATCH;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use sha2::Digest;
use sha2::Sha256;

/// Where a file is served, what it is, and what is in it.
type Asset = (&'static str, &'static str, &'static [u8]);

const ASSETS: [Asset; 15] = [
    ("/", HTML, include_bytes!("page/index.html")),
    ("/api.js", SCRIPT, include_bytes!("page/api.js")),
    ("/app.js", SCRIPT, include_bytes!("page/app.js")),
    ("/dom.js", SCRIPT, include_bytes!("page/dom.js")),
    ("/flow.js", SCRIPT, include_bytes!("page/flow.js")),
    ("/health.js", SCRIPT, include_bytes!("page/health.js")),
    ("/icon.svg", IMAGE, include_bytes!("page/icon.svg")),
    ("/parts.js", SCRIPT, include_bytes!("page/parts.js")),
    ("/picture.js", SCRIPT, include_bytes!("page/picture.js")),
    ("/quality.js", SCRIPT, include_bytes!("page/quality.js")),
    ("/style.css", STYLE, include_bytes!("page/style.css")),
    ("/units.js", SCRIPT, include_bytes!("page/units.js")),
    ("/words.js", SCRIPT, include_bytes!("page/words.js")),
    ("/workflow.js", SCRIPT, include_bytes!("page/workflow.js")),
    ("/workflows.js", SCRIPT, include_bytes!("page/workflows.js")),
];

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// Serves them all.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    ASSETS
        .into_iter()
        .fold(router, |router, (path, kind, bytes)| {
            router.route(
                path,
                get(async move |asked: HeaderMap| answer(&asked, kind, bytes)),
            )
        })
}

/// Whether a path is one of theirs: the page has to be there to ask for a token.
pub(super) fn is_asset(path: &str) -> bool {
    ASSETS.iter().any(|(asset, ..)| *asset == path)
}

fn answer(asked: &HeaderMap, kind: &'static str, bytes: &'static [u8]) -> Response {
    let tag = tag(bytes);
    let known = asked.get(IF_NONE_MATCH).map(|tags| tags.as_bytes());
    let headers = [
        (CONTENT_TYPE, kind.to_owned()),
        (CACHE_CONTROL, "no-cache".to_owned()),
        (ETAG, tag.clone()),
    ];
    if known == Some(tag.as_bytes()) {
        (StatusCode::NOT_MODIFIED, headers).into_response()
    } else {
        (headers, bytes).into_response()
    }
}

/// Changes with what is in the file.
fn tag(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let head = digest.iter().take(8).map(|byte| format!("{byte:02x}"));
    format!("\"{}\"", head.collect::<String>())
}
