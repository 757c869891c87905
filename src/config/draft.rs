//! A configuration in the making: layer is laid over layer, complaints are collected.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::config::Complaint;
use crate::config::Complaints;
use crate::config::Config;
use crate::config::Loaded;
use crate::config::Place;
use crate::config::keys::KEYS;
use crate::config::keys::ROUTE_KEYS;
use crate::config::keys::RouteDraft;
use crate::config::keys::split_route;
use crate::config::rules::RULES;
use crate::config::spelling::Fault;

/// What has been read so far. Starts out as the defaults.
pub(super) struct Draft {
    /// All but the routes.
    pub(super) config: Config,
    pub(super) routes: BTreeMap<String, RouteDraft>,
    /// Where each key was last set, and where each route was first named.
    places: BTreeMap<String, Place>,
    /// The keys last set to something that is no value.
    failed: BTreeSet<String>,
    /// Whether some text could not be read at all.
    incomplete: bool,
    complaints: Vec<Complaint>,
    warnings: Vec<String>,
}

impl Draft {
    pub(super) fn new() -> Self {
        Self {
            config: Config::new(Vec::new()),
            routes: BTreeMap::new(),
            places: BTreeMap::new(),
            failed: BTreeSet::new(),
            incomplete: false,
            complaints: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Sets a key. Says whether there is such a key; a bad value is a complaint.
    pub(super) fn set(&mut self, path: &str, text: &str, place: Place) -> bool {
        match self.try_set(path, text, place.clone()) {
            None => return false,
            Some(Ok(())) => {}
            Some(Err(fault)) => {
                self.failed.insert(path.to_owned());
                let wrong = format!("`{path}`: {}", fault.wrong);
                self.complain(wrong, place, fault.remedy);
            }
        }
        true
    }

    /// Sets a key, or leaves it as it was where the text is no value. `None`: no such key.
    pub(super) fn try_set(
        &mut self,
        path: &str,
        text: &str,
        place: Place,
    ) -> Option<Result<(), Fault>> {
        let read = if let Some((name, key)) = split_route(path) {
            let key = ROUTE_KEYS.iter().find(|candidate| candidate.path == key)?;
            (key.read)(self.name_route(name, place.clone()), text)
        } else {
            let key = KEYS.iter().find(|candidate| candidate.path == path)?;
            (key.read)(&mut self.config, text)
        };
        if read.is_ok() {
            self.failed.remove(path);
            self.places.insert(path.to_owned(), place);
            if path == "telemetry.endpoint" {
                // Else the more specific ones of a lower layer would win over it.
                self.config.telemetry.traces_endpoint = None;
                self.config.telemetry.metrics_endpoint = None;
                self.places.remove("telemetry.traces_endpoint");
                self.places.remove("telemetry.metrics_endpoint");
            }
        }
        Some(read)
    }

    /// There is a route of this name, whatever else is known of it.
    pub(super) fn name_route(&mut self, name: &str, place: Place) -> &mut RouteDraft {
        self.places.entry(format!("routes.{name}")).or_insert(place);
        self.routes.entry(name.to_owned()).or_default()
    }

    /// Forgets the routes so far: others take their place.
    pub(super) fn replace_routes(&mut self) {
        self.routes.clear();
        self.places.retain(|path, _| !path.starts_with("routes."));
        self.failed.retain(|path| !path.starts_with("routes."));
    }

    pub(super) fn complain(
        &mut self,
        wrong: impl Into<String>,
        place: impl Into<Option<Place>>,
        remedy: impl Into<String>,
    ) {
        self.complaints.push(Complaint {
            wrong: wrong.into(),
            place: place.into(),
            remedy: remedy.into(),
        });
    }

    /// Some text could not be read at all, so what is missing may stand in it.
    pub(super) fn mark_incomplete(&mut self) {
        self.incomplete = true;
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Where a key was set, or a route was named; `None` where the default holds.
    pub(super) fn place(&self, path: &str) -> Option<Place> {
        self.places.get(path).cloned()
    }

    /// Whether the value of a key is the one that was meant.
    pub(super) fn is_sound(&self, path: &str) -> bool {
        !self.failed.contains(path)
    }

    /// The finished configuration, if nothing at all is wrong.
    pub(super) fn finish(mut self) -> Result<Loaded, Complaints> {
        if !self.incomplete {
            let broken = RULES.iter().flat_map(|rule| rule(&self));
            let broken: Vec<Complaint> = broken.collect();
            self.complaints.extend(broken);
        }
        self.fit_batch();
        if let Some(complaints) = Complaints::new(self.complaints) {
            return Err(complaints);
        }
        let routes = self.routes.into_iter();
        self.config.routes = routes
            .filter_map(|(name, draft)| draft.finish(name))
            .collect();
        let places = self.places.iter();
        Ok(Loaded {
            config: self.config,
            warnings: self.warnings,
            origins: places
                .map(|(path, place)| (path.clone(), place.origin().clone()))
                .collect(),
        })
    }

    /// A batch is taken from the queue. OpenTelemetry lowers it to fit, so that setting
    /// the queue alone is enough; so do we.
    fn fit_batch(&mut self) {
        let telemetry = &mut self.config.telemetry;
        if telemetry.batch_max > telemetry.queue_max {
            telemetry.batch_max = telemetry.queue_max;
            self.warnings.push(format!(
                "telemetry.batch_max is lowered to {}, what the queue can hold",
                telemetry.queue_max
            ));
        }
    }
}
