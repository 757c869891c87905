use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;

/// Whether connections are taken; shared between who knows it and who is asked.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

/// Where the proxy is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Starting,
    /// Connections are taken.
    Ready,
    /// Deliveries under way are finished. Connections are still taken.
    Finishing,
    /// Connections end, and no new ones are taken.
    Draining,
}

impl Readiness {
    pub fn set(&self, state: State) {
        self.0.store(state as u8, Ordering::Relaxed);
    }

    #[must_use]
    pub fn state(&self) -> State {
        let known = [
            State::Starting,
            State::Ready,
            State::Finishing,
            State::Draining,
        ];
        known[usize::from(self.0.load(Ordering::Relaxed))]
    }
}

impl State {
    /// The word that `/readyz` answers with.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Finishing | Self::Draining => "draining",
        }
    }
}
