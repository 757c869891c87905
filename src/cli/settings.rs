//! The flags that every command takes.

use std::path::PathBuf;

use clap::Args;

use crate::cli::broker::Broker;
use crate::config::CONFIG_VARIABLE;
use crate::config::Environment;
use crate::config::Flag;
use crate::config::Sources;

/// What decides about the configuration, the same for every command. Not for printing: a
/// broker URL may hold a password.
#[derive(Args)]
pub(super) struct Settings {
    /// The configuration file; without one there are the defaults
    #[arg(long, short, value_name = "FILE", env = CONFIG_VARIABLE, hide_env_values = true)]
    config: Option<PathBuf>,

    /// Where apps connect, in place of the routes of the file: 127.0.0.1:6380
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,

    /// The broker behind --listen, several separated by `;`: redis://127.0.0.1:6379
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,

    /// What is spoken there: auto, redis, amqp
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Option<String>,

    /// Whether messages are edited or only reported on: inject, observe
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,

    /// Base URL of the OTLP receiver that gets the spans: http://localhost:4318
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,

    /// Address of /metrics, /healthz and /readyz, or off: 127.0.0.1:9464
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,

    /// How the log is written: text, json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,

    /// What is logged: off, error, warn, info, debug, trace, or a filter as in RUST_LOG
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

pub(super) const AFTER_HELP: &str = "\
Every key of the file has a variable as well: TRACEHOP_LIMITS_HOLD_BYTES_MAX for
limits.hold_bytes_max, TRACEHOP_LISTEN for --listen. OpenTelemetry's own OTEL_ variables
are followed. Flags win over TRACEHOP_ variables, these over OTEL_ variables, these over
the file. `tracehop check` shows what comes of it.";

impl Settings {
    /// These flags, with the file they name and the variables of this process.
    pub(super) fn sources(&self) -> Sources {
        let file = self.config.clone();
        Sources {
            // An empty variable names no file.
            file: file.filter(|path| !path.as_os_str().is_empty()),
            environment: environment(),
            flags: self.flags(),
        }
    }

    /// The brokers whose URLs have user or password in them, wherever they are written. The
    /// proxy has no use for those, and does not keep them.
    pub(super) fn brokers_with_credentials(&self) -> Vec<Broker> {
        let flag = self.upstream.clone();
        let variables = environment().into_iter().filter(|(name, _)| {
            name == "TRACEHOP_UPSTREAM"
                || name.starts_with("TRACEHOP_ROUTES_") && name.ends_with("_UPSTREAM")
        });
        let file = self.config.as_ref().and_then(|path| {
            let text = std::fs::read_to_string(path).ok()?;
            text.parse::<toml::Table>().ok()
        });
        let routes = file
            .as_ref()
            .and_then(|file| file.get("routes")?.as_table());
        let in_file = routes.into_iter().flatten().filter_map(|(_, route)| {
            let upstream = route.get("upstream")?.as_str()?;
            Some(upstream.to_owned())
        });
        flag.into_iter()
            .chain(variables.map(|(_, value)| value))
            .chain(in_file)
            .filter_map(|urls| Broker::read_all("--upstream", &urls).ok())
            .flatten()
            .filter(|broker| broker.credentials.is_some())
            .collect()
    }

    fn flags(&self) -> Vec<Flag> {
        [
            ("--listen", "routes.default.listen", &self.listen),
            ("--upstream", "routes.default.upstream", &self.upstream),
            ("--protocol", "routes.default.protocol", &self.protocol),
            ("--mode", "policy.mode", &self.mode),
            ("--otlp-endpoint", "telemetry.endpoint", &self.otlp_endpoint),
            ("--admin-listen", "admin.listen", &self.admin_listen),
            ("--log-format", "log.format", &self.log_format),
            ("--log-level", "log.level", &self.log_level),
        ]
        .into_iter()
        .filter_map(|(name, path, value)| {
            let value = value.clone()?;
            Some(Flag { name, path, value })
        })
        .collect()
    }
}

fn environment() -> Environment {
    std::env::vars_os()
        .map(|(name, value)| {
            let name = name.to_string_lossy().into_owned();
            (name, value.to_string_lossy().into_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn every_flag_stands_for_a_key() {
        let mut line = vec!["tracehop"];
        for (flag, value) in GIVEN {
            line.extend([flag, value]);
        }
        let flags = Line::parse_from(line).settings.flags();
        assert_eq!(flags.len(), GIVEN.len());
        let sources = Sources {
            flags,
            ..Sources::default()
        };
        let toml = sources.load().unwrap().to_toml();
        for (flag, value) in GIVEN {
            let set = |line: &str| line.contains(value) && line.ends_with(&format!("# {flag}"));
            assert!(toml.lines().any(set), "{flag}: {toml}");
        }
    }

    const GIVEN: [(&str, &str); 8] = [
        ("--listen", "127.0.0.1:1"),
        ("--upstream", "redis://broker:2"),
        ("--protocol", "redis"),
        ("--mode", "observe"),
        ("--otlp-endpoint", "http://collector:3"),
        ("--admin-listen", "127.0.0.1:4"),
        ("--log-format", "json"),
        ("--log-level", "debug"),
    ];
}
