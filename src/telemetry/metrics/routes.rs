//! Connections and bytes, by route.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use prometheus_client::registry::Unit;

use crate::telemetry::metrics::RouteReasonLabels;
use crate::telemetry::metrics::signed;

/// The counters of one route: cheap to clone, and to count with at every read.
#[derive(Clone, Debug)]
pub struct RouteMetrics {
    route: Arc<str>,
    open: Gauge,
    opened: Counter,
    failed: Family<RouteReasonLabels, Counter>,
    from_client: Counter,
    from_broker: Counter,
    expiry: Family<PeerLabels, Gauge>,
}

/// The counters of all routes.
#[derive(Debug, Default)]
pub(super) struct RouteFamilies {
    open: Family<RouteLabels, Gauge>,
    opened: Family<RouteLabels, Counter>,
    failed: Family<RouteReasonLabels, Counter>,
    received: Family<PeerLabels, Counter>,
    expiry: Family<PeerLabels, Gauge>,
}

impl RouteMetrics {
    /// A connection was accepted.
    pub fn opened(&self) {
        self.opened.inc();
        self.open.inc();
    }

    /// A connection that had been opened has ended.
    pub fn closed(&self) {
        self.open.dec();
    }

    /// A connection was refused, or ended by a fault; `why` is one of [`FAILURES`].
    pub fn failed(&self, why: &'static str) {
        debug_assert!(FAILURES.contains(&why), "{why} is not among the failures");
        let labels = RouteReasonLabels {
            route: Arc::clone(&self.route),
            reason: why,
        };
        self.failed.get_or_create(&labels).inc();
    }

    /// The certificate shown to `peer` (`client` or `broker`) expires then, in seconds since
    /// 1970.
    pub fn certificate_expires(&self, peer: &'static str, at: Option<u64>) {
        let Some(at) = at else {
            return;
        };
        let labels = PeerLabels {
            route: Arc::clone(&self.route),
            peer,
        };
        self.expiry.get_or_create(&labels).set(signed(at));
    }

    #[must_use]
    pub fn counts(&self) -> RouteCounts {
        let failed = FAILURES.into_iter().filter_map(|reason| {
            let route = Arc::clone(&self.route);
            let count = self.failed.get(&RouteReasonLabels { route, reason })?.get();
            (count > 0).then_some((reason, count))
        });
        RouteCounts {
            open: u64::try_from(self.open.get()).unwrap_or(0),
            opened: self.opened.get(),
            failed: failed.collect(),
            bytes_from_clients: self.from_client.get(),
            bytes_from_brokers: self.from_broker.get(),
        }
    }

    /// `bytes` came in from the app (`from_client`) or from the broker.
    pub fn received(&self, from_client: bool, bytes: usize) {
        let received = if from_client {
            &self.from_client
        } else {
            &self.from_broker
        };
        received.inc_by(bytes as u64);
    }
}

/// What was counted on a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteCounts {
    pub open: u64,
    pub opened: u64,
    /// By reason, without those that have not occurred.
    pub failed: Vec<(&'static str, u64)>,
    pub bytes_from_clients: u64,
    pub bytes_from_brokers: u64,
}

impl RouteFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let families = Self::default();
        registry.register(
            "connections",
            "Connections that are open",
            families.open.clone(),
        );
        // OpenMetrics wants one name per family, and the gauge above has this one already.
        registry.register(
            "connections_opened",
            "Connections accepted",
            families.opened.clone(),
        );
        registry.register(
            "connections_failed",
            "Connections that were refused, or ended by a fault, by reason",
            families.failed.clone(),
        );
        registry.register_with_unit(
            "received",
            "Bytes read from each side",
            Unit::Bytes,
            families.received.clone(),
        );
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "When the certificate that is shown to each side expires, in seconds since 1970",
            Unit::Seconds,
            families.expiry.clone(),
        );
        families
    }

    /// The counters of the route called `route`.
    pub(super) fn route(&self, route: &str) -> RouteMetrics {
        let route: Arc<str> = Arc::from(route);
        let labels = RouteLabels {
            route: Arc::clone(&route),
        };
        let received = |peer| {
            let labels = PeerLabels {
                route: Arc::clone(&route),
                peer,
            };
            self.received.get_or_create_owned(&labels)
        };
        // A counter that appears with its first count hides that count from `rate()`.
        for reason in FAILURES {
            let labels = RouteReasonLabels {
                route: Arc::clone(&route),
                reason,
            };
            drop(self.failed.get_or_create(&labels));
        }
        RouteMetrics {
            open: self.open.get_or_create_owned(&labels),
            opened: self.opened.get_or_create_owned(&labels),
            failed: self.failed.clone(),
            from_client: received("client"),
            from_broker: received("broker"),
            expiry: self.expiry.clone(),
            route,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabels {
    route: Arc<str>,
    peer: &'static str,
}

/// Why connections fail.
pub(super) const FAILURES: [&str; 13] = [
    "accept",
    "broker_lost",
    "connections_max",
    "half_closed",
    "peer_silent",
    "no_descriptors",
    "not_redirected",
    "panic",
    "redirect_loop",
    "tls_broker",
    "tls_client",
    "tls_unexpected",
    "unreachable",
];

#[cfg(test)]
mod tests {
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::metrics::tests::assert_tells;

    #[test]
    fn a_route_counts_its_connections_and_bytes() {
        let metrics = Metrics::default();
        let route = metrics.route("main");
        route.opened();
        metrics.route("main").opened();
        route.closed();
        route.failed("unreachable");
        route.received(true, 5);
        route.received(false, 7);
        assert_tells(
            &metrics,
            &[
                "tracehop_connections{route=\"main\"} 1",
                "tracehop_connections_opened_total{route=\"main\"} 2",
                "tracehop_connections_failed_total{route=\"main\",reason=\"unreachable\"} 1",
                "tracehop_connections_failed_total{route=\"main\",reason=\"broker_lost\"} 0",
                "tracehop_received_bytes_total{route=\"main\",peer=\"client\"} 5",
                "tracehop_received_bytes_total{route=\"main\",peer=\"broker\"} 7",
            ],
        );
    }
}
