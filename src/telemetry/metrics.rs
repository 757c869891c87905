/// The counters of this process.
#[derive(Debug, Default)]
pub struct Metrics {}

impl Metrics {
    /// A connection was accepted on `route`.
    pub fn connection_opened(&self, route: &str) {
        let _ = route;
    }

    /// A connection that had been opened has ended.
    pub fn connection_closed(&self, route: &str) {
        let _ = route;
    }

    /// A connection could not be served; `why` is a fixed word.
    pub fn connection_failed(&self, route: &str, why: &'static str) {
        let _ = (route, why);
    }

    /// `bytes` came in from the app (`from_client`) or from the broker.
    pub fn bytes_received(&self, route: &str, from_client: bool, bytes: usize) {
        let _ = (route, from_client, bytes);
    }
}
