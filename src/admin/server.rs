//! The admin listener, and what it may use.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::task::JoinHandle;
use tokio::task::yield_now;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::admin::guard::Guard;
use crate::admin::guard::Token;
use crate::admin::guard::TokenError;
use crate::admin::pages;
use crate::admin::pages::Desk;
use crate::admin::pages::Subject;
use crate::config;
use crate::telemetry::Threads;
use crate::telemetry::now;

/// The admin listener, bound.
///
/// It has a thread of its own: traffic does not wait while an answer is written.
#[derive(Debug)]
pub struct Admin {
    threads: Threads,
    listener: TcpListener,
    address: SocketAddr,
    desk: Desk,
    guard: Guard,
}

/// The admin listener, answering until it is closed or dropped.
#[derive(Debug)]
pub struct Serving {
    stop: CancellationToken,
    accepting: JoinHandle<()>,
    connections: TaskTracker,
    _threads: Threads,
}

/// Why the admin listener cannot be bound.
#[derive(Debug, Error)]
pub enum AdminError {
    #[error("admin.listen = \"{0}\": somebody listens there already; choose another port, or off")]
    AddressInUse(SocketAddr),
    #[error("admin.listen = \"{address}\": {source}")]
    Bind {
        address: SocketAddr,
        source: io::Error,
    },
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl Admin {
    /// Whether it could be bound as far as files are concerned. Binds nothing.
    pub fn check(config: &config::Admin) -> Result<(), TokenError> {
        token(config).map(drop)
    }

    /// Binds the listener; `None` where there is to be none.
    pub async fn bind(
        config: &config::Admin,
        subject: Subject,
    ) -> Result<Option<Self>, AdminError> {
        let Some(address) = config.listen else {
            return Ok(None);
        };
        let token = token(config)?;
        let bound = async {
            let threads = Threads::start("admin", 1)?;
            let listener = threads.handle().spawn(TcpListener::bind(address)).await??;
            let address = listener.local_addr()?;
            Ok((threads, listener, address))
        };
        let (threads, listener, address) = bound.await.map_err(|source: io::Error| {
            if source.kind() == io::ErrorKind::AddrInUse {
                AdminError::AddressInUse(address)
            } else {
                AdminError::Bind { address, source }
            }
        })?;
        let guard = Guard::new(token, address);
        if guard.is_open() {
            warn!(
                %address,
                "whoever can reach the admin listener sees the names of tasks, queues and \
                 hosts; set admin.token_file, or listen on 127.0.0.1"
            );
        }
        Ok(Some(Self {
            threads,
            listener,
            address,
            desk: Desk {
                subject,
                trace_url: config.trace_url.as_deref().map(Arc::from),
                started: now(),
                stop: CancellationToken::new(),
            },
            guard,
        }))
    }

    /// Where it listens, with the port that the system has chosen where that was left to it.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers from now on.
    #[must_use]
    pub fn serve(self) -> Serving {
        let stop = self.desk.stop.clone();
        let connections = TaskTracker::new();
        let router = pages::router(self.desk, self.guard);
        let accepting = accept(self.listener, router, connections.clone(), stop.clone());
        Serving {
            stop,
            accepting: self.threads.handle().spawn(accepting),
            connections,
            _threads: self.threads,
        }
    }
}

impl Serving {
    /// Takes no more connections, and lets the answers that are under way end.
    pub async fn close(self) {
        self.stop.cancel();
        // Nothing that it could tell of its end matters any more.
        let _ = self.accepting.await;
        self.connections.close();
        let _ = timeout(CLOSE_GRACE, self.connections.wait()).await;
    }
}

async fn accept(
    listener: TcpListener,
    router: Router,
    connections: TaskTracker,
    stop: CancellationToken,
) {
    let mut places = Places::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let stage = Arc::new(Stage::default());
                let answer = answer(stream, router.clone(), Arc::clone(&stage), stop.clone());
                let task = connections.spawn(answer).abort_handle();
                places.give(Place { stage, task });
                // Let it ask before the next one may push it out.
                yield_now().await;
            }
            Err(error) => {
                warn!("the admin listener cannot accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The connections there are, the oldest first; at most [`CONNECTIONS_MAX`].
#[derive(Debug, Default)]
struct Places(VecDeque<Place>);

#[derive(Debug)]
struct Place {
    stage: Arc<Stage>,
    task: AbortHandle,
}

/// How far a connection has come.
#[derive(Debug, Default)]
struct Stage {
    /// Its request has come.
    asked: AtomicBool,
    /// Its answer has no end of its own.
    live: AtomicBool,
}

impl Stage {
    fn is_live(&self) -> bool {
        self.live.load(Ordering::Relaxed)
    }
}

impl Places {
    /// Gives a place to a newcomer. Where none is free, whoever has waited longest without a
    /// word loses theirs, so that nobody can keep others from being answered by silence.
    fn give(&mut self, newcomer: Place) {
        self.0.retain(|place| !place.task.is_finished());
        if self.0.len() == CONNECTIONS_MAX {
            let is_silent = |place: &Place| !place.stage.asked.load(Ordering::Relaxed);
            let is_short = |place: &Place| !place.stage.is_live();
            let silent = self.0.iter().position(is_silent);
            let leaving = silent.or_else(|| self.0.iter().position(is_short));
            let leaving = leaving.unwrap_or(0);
            if let Some(leaving) = self.0.remove(leaving) {
                leaving.task.abort();
            }
        }
        self.0.push_back(newcomer);
    }
}

/// Answers one request. A connection has no second one, so that none stays.
async fn answer(stream: TcpStream, router: Router, stage: Arc<Stage>, stop: CancellationToken) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        stage.asked.store(true, Ordering::Relaxed);
        let answer = router.call(request);
        async {
            let answer = answer.await?;
            let kind = answer.headers().get(CONTENT_TYPE);
            let is_live = kind.is_some_and(|kind| kind == "text/event-stream");
            stage.live.store(is_live, Ordering::Relaxed);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let whole = async {
        tokio::select! {
            ended = &mut connection => return ended,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
    let mut whole = std::pin::pin!(whole);
    // A client that breaks off, or is too slow, is its own affair.
    while timeout(CONNECTION_TIMEOUT, &mut whole).await.is_err() && stage.is_live() {}
}

/// What has to be shown to see anything, if that is wanted.
fn token(config: &config::Admin) -> Result<Option<Token>, TokenError> {
    config.token_file.as_deref().map(Token::read).transpose()
}

const CONNECTIONS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 << 10;
const HEADER_TIMEOUT: Duration = Duration::from_secs(1);
/// The time for a request with its answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
const CLOSE_GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    /// A connection that stays; whether it was pushed out is seen at its task.
    fn connect(places: &mut Places, asked: bool) -> JoinHandle<()> {
        let stays = tokio::spawn(pending());
        places.give(Place {
            stage: Arc::new(Stage {
                asked: asked.into(),
                live: false.into(),
            }),
            task: stays.abort_handle(),
        });
        stays
    }

    #[tokio::test]
    async fn whoever_is_silent_makes_room_for_a_newcomer_the_oldest_first() {
        let mut places = Places::default();
        let scrape = connect(&mut places, true);
        let mut silent = VecDeque::new();
        for _ in 1..CONNECTIONS_MAX {
            silent.push_back(connect(&mut places, false));
        }
        for _ in 0..3 * CONNECTIONS_MAX {
            silent.push_back(connect(&mut places, false));
            let oldest = silent.pop_front().unwrap();
            assert!(oldest.await.unwrap_err().is_cancelled());
        }
        assert!(!scrape.is_finished());
    }

    #[tokio::test]
    async fn where_all_have_asked_the_oldest_goes() {
        let mut places = Places::default();
        let mut asked = VecDeque::new();
        for _ in 0..CONNECTIONS_MAX {
            asked.push_back(connect(&mut places, true));
        }
        connect(&mut places, false);
        assert!(asked.pop_front().unwrap().await.unwrap_err().is_cancelled());
        assert!(asked.iter().all(|task| !task.is_finished()));
    }

    #[tokio::test]
    async fn a_connection_that_has_ended_makes_room_by_itself() {
        let mut places = Places::default();
        let first = connect(&mut places, false);
        for _ in 1..CONNECTIONS_MAX {
            connect(&mut places, false).abort();
        }
        yield_now().await;
        connect(&mut places, false);
        yield_now().await;
        assert!(!first.is_finished());
    }
}
