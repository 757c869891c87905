//! The signals that `run` follows.

use anyhow::Context;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

/// SIGTERM, SIGINT, SIGQUIT and SIGHUP, none of which ends the process by itself from here on.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
}

/// What the process is told to do.
pub(super) enum Order {
    /// By the signal of this name.
    Stop(&'static str),
    Reload,
}

impl Signals {
    pub(super) fn watch() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?,
            quit: signal(SignalKind::quit()).context("cannot watch for SIGQUIT")?,
            hangup: signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?,
        })
    }

    /// Completes each time the process is told something.
    pub(super) async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.terminate.recv() => Order::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Order::Stop("SIGINT"),
            _ = self.quit.recv() => Order::Stop("SIGQUIT"),
            _ = self.hangup.recv() => Order::Reload,
        }
    }

    /// Completes each time the process is told to stop, with what told it.
    pub(super) async fn stop(&mut self) -> &'static str {
        loop {
            if let Order::Stop(signal) = self.next().await {
                return signal;
            }
        }
    }
}
