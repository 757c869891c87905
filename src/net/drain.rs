//! How the proxy ends: no new connections, a grace for those that are open, then the cut.

use std::future::Future;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::net::relay::Ending;

/// All tasks of a proxy, and the two things they may be told.
#[derive(Debug, Default)]
pub(super) struct Drain {
    begun: CancellationToken,
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
        Signal {
            // Every wake-up of every relay looks at this one: each has its own, so that they
            // do not contend for a lock.
            begun: self.begun.child_token(),
            cut: self.cut.clone(),
        }
    }

    /// Books how a connection ended; only those count that the drain found open.
    pub(super) fn book(&self, ending: Ending) {
        let count = match ending {
            Ending::Cut => &self.cut_count,
            _ if self.begun.is_cancelled() => &self.parted_count,
            _ => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends all tasks: asks them to, and after `grace` tells them to.
    pub(super) async fn run(&self, grace: Duration) -> Drained {
        self.begun.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait())
            .await
            .is_err()
        {
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
    begun: CancellationToken,
    cut: CancellationToken,
}

impl Signal {
    /// The drain has begun: take nothing new, end at the next boundary.
    pub(super) async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// The grace is over: end now.
    pub(super) async fn cut(&self) {
        self.cut.cancelled().await;
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }
}
