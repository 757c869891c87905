//! What SIGHUP changes while the proxy runs.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::Complaints;
use crate::config::Config;
use crate::config::Setting;
use crate::config::Sources;
use crate::hop::Choices;
use crate::hop::Injector;
use crate::net::Serving;
use crate::telemetry::Metrics;

/// Reads the configuration anew, as often as it is told to.
pub(super) struct Reload {
    pub(super) sources: Sources,
    /// What holds.
    pub(super) running: Config,
    pub(super) injector: Arc<Injector>,
    pub(super) metrics: Arc<Metrics>,
    /// What the admin page shows of what holds.
    pub(super) settings: Arc<ArcSwap<Vec<Setting>>>,
}

impl Reload {
    /// Takes over what can be changed while connections are open, certificates among it. A bad
    /// configuration is refused as a whole, and the one before stays.
    pub(super) fn run(&mut self, proxy: &Serving) {
        let is_good = match self.sources.load() {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    tracing::warn!("{warning}");
                }
                self.show(&loaded.settings());
                self.take_over(loaded.config);
                proxy.reload_certificates()
            }
            Err(complaints) => {
                refuse(&complaints);
                false
            }
        };
        self.metrics.reloaded(is_good);
    }

    fn show(&self, new: &[Setting]) {
        let taken = |old: &Setting| {
            let mut new = new.iter().filter(|new| is_taken_over(&new.key));
            new.find(|new| new.key == old.key).cloned()
        };
        let shown = self.settings.load();
        let shown = shown
            .iter()
            .map(|old| taken(old).unwrap_or_else(|| old.clone()));
        self.settings.store(Arc::new(shown.collect()));
    }

    fn take_over(&mut self, new: Config) {
        let (taken, left): (Vec<String>, Vec<String>) = self
            .running
            .differences(&new)
            .into_iter()
            .partition(|key| is_taken_over(key));
        self.running.policy = new.policy;
        self.running.translate = new.translate;
        self.running.rollout = new.rollout;
        self.running.telemetry.sampler = new.telemetry.sampler;
        self.injector.choose(choices(&self.running));
        tracing::info!(
            changed = taken.join(", "),
            "the configuration was read anew"
        );
        if self.injector.is_off() {
            tracing::warn!("policy.mode is off: all bytes pass unread, and nothing is reported");
        }
        if !left.is_empty() {
            tracing::warn!(
                keys = left.join(", "),
                "these changes take a restart; until then what was before holds"
            );
        }
    }
}

/// What the configuration chooses about contexts.
pub(super) fn choices(config: &Config) -> Choices {
    Choices {
        policy: config.policy,
        translate: config.translate,
        rollout: config.rollout.clone(),
        sampler: config.telemetry.sampler.clone(),
    }
}

/// Whether this key is one of those that [`choices`] takes.
fn is_taken_over(key: &str) -> bool {
    let sections = ["policy.", "translate.", "rollout."];
    key == "telemetry.sampler" || sections.iter().any(|section| key.starts_with(section))
}

fn refuse(complaints: &Complaints) {
    for complaint in complaints.iter() {
        let place = complaint.place.as_ref().map(ToString::to_string);
        tracing::warn!(place, remedy = complaint.remedy, "{}", complaint.wrong);
    }
    tracing::warn!("the new configuration is refused: the one before stays");
}
