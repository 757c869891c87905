//! How the proxy ends, in two phases.
//!
//! What a client takes by one connection it puts away by another: an app's delivery spans
//! several, and none of them may end before it is complete. So at first no new delivery
//! begins, while everything else goes on, until those under way are done. Then each connection
//! ends where nothing of its own is in flight; and as a worker that loses its connections puts
//! back by a new one what it still has, new ones are accepted for a moment more. What has not
//! ended when the grace is over is cut.

use std::future::Future;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::net::relay::Ending;

/// All tasks of a proxy, and what they may be told.
#[derive(Debug, Default)]
pub(super) struct Drain {
    holding: CancellationToken,
    /// A token for each connection on which a delivery may be under way.
    deliveries: TaskTracker,
    begun: CancellationToken,
    /// No connection is accepted any more, and those that came since it has begun end, too.
    closed: CancellationToken,
    cut: CancellationToken,
    tasks: TaskTracker,
    parted_count: AtomicUsize,
    cut_count: AtomicUsize,
}

/// What became of the connections that were open when the drain began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Ended within the grace, with nothing in flight or of their own accord.
    pub parted: usize,
    /// Closed when the grace was over.
    pub cut: usize,
}

impl Drain {
    /// Starts a task that the drain will wait for.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// The same for one that runs elsewhere.
    pub(super) fn spawn_on(
        &self,
        runtime: &Handle,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.tasks.spawn_on(task, runtime);
    }

    /// What one task watches.
    pub(super) fn signal(&self) -> Signal {
        let is_late = self.begun.is_cancelled();
        Signal {
            // Every wake-up of every relay looks at this one: each has its own, so that they
            // do not contend for a lock.
            holding: self.holding.child_token(),
            deliveries: self.deliveries.clone(),
            begun: match is_late {
                true => self.closed.clone(),
                false => self.begun.clone(),
            },
            is_late,
            closed: self.closed.clone(),
            cut: self.cut.clone(),
        }
    }

    /// Books how a connection ended; only those count that the drain found open.
    pub(super) fn book(&self, ending: Ending, signal: &Signal) {
        let count = match ending {
            _ if signal.is_late => return,
            Ending::Cut => &self.cut_count,
            _ if self.begun.is_cancelled() => &self.parted_count,
            _ => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// The first phase: waits until no delivery is under way, for `limit` at most.
    pub(super) async fn finish_deliveries(&self, limit: Duration) {
        self.holding.cancel();
        self.deliveries.close();
        let had_connections = !self.deliveries.is_empty();
        if timeout(limit, self.deliveries.wait()).await.is_err() {
            tracing::warn!(
                connections = self.deliveries.len(),
                "stopping although deliveries are under way: connections that wait for a message \
                 are cut"
            );
        }
        if had_connections {
            // kombu 5.7 puts back what it has not acknowledged, an ETA task for one, when its
            // connections end; where it cannot connect for that, the worker dies of it.
            self.begun.cancel();
            sleep(PUT_BACK_TIME.min(limit)).await;
        }
    }

    /// The second phase: asks all tasks to end, and after `grace` tells them to.
    pub(super) async fn run(&self, grace: Duration) -> Drained {
        self.holding.cancel();
        self.begun.cancel();
        self.closed.cancel();
        self.tasks.close();
        if timeout(grace, self.tasks.wait()).await.is_err() {
            self.cut.cancel();
            self.tasks.wait().await;
        }
        Drained {
            parted: self.parted_count.load(Ordering::Relaxed),
            cut: self.cut_count.load(Ordering::Relaxed),
        }
    }
}

/// Tells a task when to end.
#[derive(Clone, Debug)]
pub(super) struct Signal {
    holding: CancellationToken,
    deliveries: TaskTracker,
    begun: CancellationToken,
    /// The connection was made after the drain had begun.
    is_late: bool,
    closed: CancellationToken,
    cut: CancellationToken,
}

impl Signal {
    /// The proxy is about to stop: begin no new delivery.
    pub(super) async fn holding(&self) {
        self.holding.cancelled().await;
    }

    /// As long as this lives the drain waits for a delivery, if only for half of its grace.
    pub(super) fn delivery(&self) -> TaskTrackerToken {
        self.deliveries.token()
    }

    /// The drain has begun: end at the next boundary.
    pub(super) async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Accept no more.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// The grace is over: end now.
    pub(super) async fn cut(&self) {
        self.cut.cancelled().await;
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }
}

/// How long a worker that has lost its connections may connect again to put messages back.
const PUT_BACK_TIME: Duration = Duration::from_millis(500);
