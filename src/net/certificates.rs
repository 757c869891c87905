//! What a route needs for TLS, and how that follows the files that it is made of.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ClientConfig;
use rustls::ServerConfig;
use sha2::Digest;
use sha2::Sha256;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::config::ListenerTls;
use crate::config::Made;
use crate::config::Unusable;
use crate::config::UpstreamTls;
use crate::net::connection::Route;
use crate::net::connection::Shared;
use crate::telemetry::Metrics;
use crate::telemetry::RouteMetrics;

/// What one side of a route needs for TLS, as its files had it last.
#[derive(Debug)]
pub(super) struct Certificates<Files: TlsFiles> {
    files: Files,
    current: ArcSwap<Files::Config>,
    seen: Mutex<Seen>,
    metrics: RouteMetrics,
}

/// Files, and what they come to.
pub(super) trait TlsFiles {
    type Config;
    /// Whom the certificate is shown to, as in metrics.
    const PEER: &'static str;

    fn make(&self) -> Result<Made<Self::Config>, Vec<Unusable>>;
    fn paths(&self) -> impl Iterator<Item = &Path>;
}

impl TlsFiles for ListenerTls {
    type Config = ServerConfig;
    const PEER: &'static str = "client";

    fn make(&self) -> Result<Made<ServerConfig>, Vec<Unusable>> {
        self.make()
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files()
    }
}

impl TlsFiles for UpstreamTls {
    type Config = ClientConfig;
    const PEER: &'static str = "broker";

    fn make(&self) -> Result<Made<ClientConfig>, Vec<Unusable>> {
        self.make()
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files()
    }
}

/// What the files held, by its hash: one of them is a secret.
#[derive(Debug)]
struct Seen {
    /// When they were last tried, for better or worse.
    tried: [u8; 32],
    /// When they were last looked at.
    last: [u8; 32],
}

impl<Files: TlsFiles> Certificates<Files> {
    pub(super) fn load(files: Files, metrics: RouteMetrics) -> Result<Self, BadFiles> {
        // Hashed first: a change in between is seen at the next look.
        let hash = hash(&files);
        let made = files.make().map_err(BadFiles)?;
        metrics.certificate_expires(Files::PEER, made.expires);
        Ok(Self {
            files,
            current: ArcSwap::new(made.config),
            seen: Mutex::new(Seen {
                tried: hash,
                last: hash,
            }),
            metrics,
        })
    }

    pub(super) fn current(&self) -> Arc<Files::Config> {
        self.current.load_full()
    }

    /// Makes it anew if the files have changed, or in any case if `is_told` to. Where they
    /// cannot be used, what they were before stays in use. `None`: nothing was to be done.
    fn follow(&self, is_told: bool) -> Option<Result<(), BadFiles>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = hash(&self.files);
        // Files that belong together need not be written at one moment: what is the same at
        // two looks is complete.
        let is_settled = seen.last == hash;
        seen.last = hash;
        if !is_told && (seen.tried == hash || !is_settled) {
            return None;
        }
        seen.tried = hash;
        Some(match self.files.make() {
            Ok(made) => {
                self.current.store(made.config);
                self.metrics.certificate_expires(Files::PEER, made.expires);
                Ok(())
            }
            Err(faults) => Err(BadFiles(faults)),
        })
    }
}

fn hash(files: &impl TlsFiles) -> [u8; 32] {
    let mut hash = Sha256::new();
    for path in files.paths() {
        // That a file cannot be read is a state of its own.
        let content = fs::read(path).map_or([0; 32], |bytes| Sha256::digest(bytes).into());
        hash.update(content);
    }
    hash.finalize().into()
}

/// Looks after the files of all routes until the drain begins.
pub(super) async fn follow_files(
    routes: Vec<Arc<Route>>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
) {
    let signal = shared.drain.signal();
    let following = async {
        loop {
            sleep(LOOK_INTERVAL).await;
            let routes = routes.clone();
            // A file may lie on a disk that does not answer.
            let looked = spawn_blocking(move || look(&routes, false)).await;
            for outcome in looked.into_iter().flatten() {
                metrics.reloaded(outcome.tell());
            }
        }
    };
    tokio::select! {
        biased;
        () = signal.closed() => {}
        () = following => {}
    }
}

/// Reads all files anew. Says whether all of them can be used.
pub(super) fn reload(routes: &[Arc<Route>]) -> bool {
    let outcomes = look(routes, true);
    outcomes.iter().filter(|outcome| !outcome.tell()).count() == 0
}

/// What came of reading the files of one side anew.
struct Outcome {
    route: Arc<Route>,
    shown_to: &'static str,
    result: Result<(), BadFiles>,
}

fn look(routes: &[Arc<Route>], is_told: bool) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for route in routes {
        let client = route.client_tls.as_ref();
        let client = client.and_then(|it| Some((ListenerTls::PEER, it.follow(is_told)?)));
        let broker = route.broker_tls.as_ref();
        let broker = broker.and_then(|it| Some((UpstreamTls::PEER, it.follow(is_told)?)));
        let both = client.into_iter().chain(broker);
        outcomes.extend(both.map(|(shown_to, result)| Outcome {
            route: Arc::clone(route),
            shown_to,
            result,
        }));
    }
    outcomes
}

impl Outcome {
    /// Logs it, and says whether it is a good one.
    fn tell(&self) -> bool {
        let (route, shown_to) = (&*self.route.name, self.shown_to);
        match &self.result {
            Ok(()) => tracing::info!(route, shown_to, "certificates were read anew"),
            Err(error) => tracing::warn!(
                route,
                shown_to,
                %error,
                "the new certificates are of no use: those from before stay"
            ),
        }
        self.result.is_ok()
    }
}

/// Everything that is wrong with the files of one side.
#[derive(Debug)]
pub(super) struct BadFiles(Vec<Unusable>);

impl fmt::Display for BadFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ". " };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for BadFiles {}

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
