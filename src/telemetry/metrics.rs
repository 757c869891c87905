/// The counters of this process.
#[derive(Debug, Default)]
pub struct Metrics {}

impl Metrics {
    /// The counters of one route. Looked up once, when the route is set up.
    #[must_use]
    pub fn route(&self, name: &str) -> RouteMetrics {
        let _ = name;
        RouteMetrics {}
    }
}

/// What is counted about the connections of one route. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RouteMetrics {}

impl RouteMetrics {
    /// A connection was accepted.
    pub fn opened(&self) {}

    /// A connection that had been opened has ended.
    pub fn closed(&self) {}

    /// A connection could not be served, or not to its end; `why` is a fixed word.
    pub fn failed(&self, why: &'static str) {
        let _ = why;
    }

    /// `bytes` came in from the app (`from_client`) or from the broker.
    pub fn received(&self, from_client: bool, bytes: usize) {
        let _ = (from_client, bytes);
    }
}
