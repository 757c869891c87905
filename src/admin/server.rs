//! The admin listener, and what it may use.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
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

use crate::admin::Readiness;
use crate::admin::pages;
use crate::admin::pages::Subject;
use crate::config;
use crate::telemetry::Threads;
use crate::telemetry::Views;

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
        views: Views,
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
            subject: Subject { views, readiness },
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
    let mut places = Places::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let asked = Arc::new(AtomicBool::new(false));
                let answer = answer(stream, router.clone(), Arc::clone(&asked), stop.clone());
                let task = connections.spawn(answer).abort_handle();
                places.give(Place { asked, task });
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
    /// Its request has come.
    asked: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Places {
    /// Gives a place to a newcomer. Where none is free, whoever has waited longest without a
    /// word loses theirs, so that nobody can keep others from being answered by silence.
    fn give(&mut self, newcomer: Place) {
        self.0.retain(|place| !place.task.is_finished());
        if self.0.len() == CONNECTIONS_MAX {
            let is_silent = |place: &Place| !place.asked.load(Ordering::Relaxed);
            let leaving = self.0.iter().position(is_silent).unwrap_or(0);
            if let Some(leaving) = self.0.remove(leaving) {
                leaving.task.abort();
            }
        }
        self.0.push_back(newcomer);
    }
}

/// Answers one request. A connection has no second one, so that none stays.
async fn answer(
    stream: TcpStream,
    router: Router,
    asked: Arc<AtomicBool>,
    stop: CancellationToken,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        asked.store(true, Ordering::Relaxed);
        router.call(request)
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
    // A client that breaks off, or is too slow, is its own affair.
    let _ = timeout(CONNECTION_TIMEOUT, whole).await;
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
            asked: Arc::new(AtomicBool::new(asked)),
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
