//! The admin listener, and what it may use.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::admin::Readiness;
use crate::admin::pages;
use crate::admin::pages::Subject;
use crate::config;
use crate::telemetry::Metrics;
use crate::telemetry::Threads;

/// The admin listener, bound.
///
/// It has a thread of its own: traffic does not wait while an answer is written.
#[derive(Debug)]
pub struct Admin {
    threads: Threads,
    listener: TcpListener,
    address: SocketAddr,
    subject: Subject,
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
}

impl Admin {
    /// Binds the listener; `None` where there is to be none.
    pub async fn bind(
        config: &config::Admin,
        metrics: Arc<Metrics>,
        readiness: Readiness,
    ) -> Result<Option<Self>, AdminError> {
        let Some(address) = config.listen else {
            return Ok(None);
        };
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
        Ok(Some(Self {
            threads,
            listener,
            address,
            subject: Subject { metrics, readiness },
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
        let stop = CancellationToken::new();
        let connections = TaskTracker::new();
        let router = pages::router(self.subject);
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
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let next = async {
            let place = Arc::clone(&room).acquire_owned().await;
            let place = place.expect("this semaphore is never closed");
            listener.accept().await.map(|(stream, _)| (stream, place))
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, place)) => {
                connections.spawn(answer(stream, router.clone(), place, stop.clone()));
            }
            Err(error) => {
                warn!("the admin listener cannot accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers one request. A connection has no second one, so that none stays.
async fn answer(
    stream: TcpStream,
    router: Router,
    _place: OwnedSemaphorePermit,
    stop: CancellationToken,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let whole = async {
        tokio::select! {
            ended = &mut connection => return ended,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
    // A client that breaks off, or is too slow, is its own affair.
    let _ = timeout(CONNECTION_TIMEOUT, whole).await;
}

const CONNECTIONS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 << 10;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for a request with its answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
const CLOSE_GRACE: Duration = Duration::from_secs(1);
