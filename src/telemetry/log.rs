//! What could not be read, told to the log.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tracing::error;
use tracing::warn;

use crate::hop::Connection;
use crate::hop::Sighting;
use crate::telemetry::metrics::PANIC;
use crate::telemetry::repeats::Repeats;

/// Tells the log what could not be read: once per route, reason and interval.
#[derive(Debug)]
pub(super) struct SightingLog {
    repeats: Repeats<(Arc<str>, &'static str)>,
}

impl SightingLog {
    pub(super) fn new(repeat_interval: Duration) -> Self {
        Self {
            repeats: Repeats::new(repeat_interval),
        }
    }

    pub(super) fn saw(&mut self, sighting: &Sighting) {
        let (connection, why) = match sighting {
            Sighting::LostSight { connection, why }
            | Sighting::LeftAlone { connection, why }
            | Sighting::Redirected { connection, why } => (connection, *why),
            Sighting::Published(_)
            | Sighting::Answered { .. }
            | Sighting::Delivered(_)
            | Sighting::Settled { .. }
            | Sighting::Announced { .. }
            | Sighting::AnnouncementDue { .. }
            | Sighting::Told { .. }
            | Sighting::Redelivered { .. } => return,
        };
        let Some(suppressed) = self.admit(connection, why) else {
            return;
        };
        let Connection {
            session,
            route,
            client_address,
            ..
        } = &**connection;
        match sighting {
            Sighting::LeftAlone { .. } => {
                warn!(%route, reason = why, suppressed, "a message was passed unedited");
            }
            Sighting::Redirected { .. } => warn!(
                %route, session, %client_address, reason = why, suppressed,
                "the broker told a client another address; unless that leads back here, the \
                 client goes past this proxy"
            ),
            // A panic is a bug of ours; everything else is what a peer has sent.
            _ if why == PANIC => error!(
                %route, session, %client_address, reason = why, suppressed,
                "a session panicked and is no longer read; its bytes flow on"
            ),
            _ => warn!(
                %route, session, %client_address, reason = why, suppressed,
                "a session is no longer read; its bytes flow on"
            ),
        }
    }

    fn admit(&mut self, connection: &Connection, why: &'static str) -> Option<u64> {
        let kind = (Arc::clone(&connection.route), why);
        self.repeats.admit(kind, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::LevelFilter;

    use super::*;
    use crate::telemetry::captured::Captured;

    #[test]
    fn what_is_not_read_is_told_once_per_route_and_reason() {
        let connection = |route: &str| {
            Arc::new(Connection {
                session: 7,
                route: route.into(),
                server_address: "broker".into(),
                server_port: 6379,
                client_address: "127.0.0.1:5".into(),
            })
        };
        let lost = |route, why| Sighting::LostSight {
            connection: connection(route),
            why,
        };
        let log = Captured::during(LevelFilter::INFO, || {
            let mut log = SightingLog::new(Duration::from_secs(60));
            for _ in 0..3 {
                log.saw(&lost("a", "monitor"));
                log.saw(&lost("b", "monitor"));
                log.saw(&lost("a", "panic"));
                log.saw(&Sighting::Redirected {
                    connection: connection("a"),
                    why: "moved",
                });
                log.saw(&Sighting::LeftAlone {
                    connection: connection("a"),
                    why: "too_large",
                });
            }
        });
        let monitor = log.lines_with("reason=\"monitor\"");
        assert_eq!(monitor.len(), 2);
        assert!(monitor[0].contains("WARN"), "{}", monitor[0]);
        assert!(
            monitor[0].contains("route=a session=7 client_address=127.0.0.1:5"),
            "{}",
            monitor[0]
        );
        let panic = log.lines_with("panic");
        assert_eq!(panic.len(), 1);
        assert!(panic[0].contains("ERROR"), "{}", panic[0]);
        assert_eq!(log.lines_with("too_large").len(), 1);
        let moved = log.lines_with("reason=\"moved\"");
        assert_eq!(moved.len(), 1);
        assert!(moved[0].contains("goes past this proxy"), "{}", moved[0]);
    }
}
