//! Every key there is. The file, the environment, `check` and the tests go by this list:
//! a new key is one line here, a field, and its place in `proxy.toml`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use rustls::pki_types::ServerName;

use crate::config::Config;
use crate::config::Identity;
use crate::config::InjectOn;
use crate::config::ListenerTls;
use crate::config::LogFormat;
use crate::config::Mode;
use crate::config::MovingAddress;
use crate::config::OnInvalid;
use crate::config::OnMissing;
use crate::config::OnValid;
use crate::config::OtlpProtocol;
use crate::config::Protocol;
use crate::config::Route;
use crate::config::Upstream;
use crate::config::UpstreamTls;
use crate::config::address::Listen;
use crate::config::address::Upstreams;
use crate::config::spelling::Bytes;
use crate::config::spelling::Count;
use crate::config::spelling::Endpoint;
use crate::config::spelling::Fault;
use crate::config::spelling::File;
use crate::config::spelling::Grace;
use crate::config::spelling::Level;
use crate::config::spelling::List;
use crate::config::spelling::Name;
use crate::config::spelling::Optional;
use crate::config::spelling::Pattern;
use crate::config::spelling::SamplerName;
use crate::config::spelling::Share;
use crate::config::spelling::Spelling;
use crate::config::spelling::Text;
use crate::config::spelling::Time;
use crate::config::spelling::TraceUrl;
use crate::config::spelling::Truth;
use crate::config::spelling::Word;

/// One key of a `T`: what it is called and how its value is read and written.
pub(super) struct Key<T> {
    /// `section.name`, or a bare name outside any section.
    pub(super) path: &'static str,
    /// Whether it is an array in the file; its text has commas in between.
    pub(super) is_list: bool,
    pub(super) read: fn(&mut T, &str) -> Result<(), Fault>,
    pub(super) write: fn(&T) -> String,
}

macro_rules! key {
    ($first:ident $(. $next:ident)* : $spelling:ty) => {
        key!(concat!(stringify!($first) $(, ".", stringify!($next))*),
            $first $(. $next)* : $spelling)
    };
    ($path:expr, $first:ident $(. $next:ident)* : $spelling:ty) => {
        Key {
            path: $path,
            is_list: <$spelling>::IS_LIST,
            read: |target, text| {
                target.$first $(. $next)* = <$spelling>::read(text)?;
                Ok(())
            },
            write: |source| <$spelling>::write(&source.$first $(. $next)*),
        }
    };
}

/// The keys outside routes, a section at a time.
pub(super) const KEYS: &[Key<Config>] = &[
    key!(drain_grace: Grace),
    key!(policy.mode: Word<Mode>),
    key!(policy.inject_on: Word<InjectOn>),
    key!(policy.on_missing: Word<OnMissing>),
    key!(policy.on_valid: Word<OnValid>),
    key!(policy.on_invalid: Word<OnInvalid>),
    key!(policy.tracestate: Truth),
    key!(translate.sentry: Truth),
    key!(translate.datadog: Truth),
    key!(translate.b3: Truth),
    key!(translate.jaeger: Truth),
    key!(translate.elastic: Truth),
    key!(translate.xray: Truth),
    key!("rollout.queues_allow", rollout.queues.allow: List<Pattern>),
    key!("rollout.queues_deny", rollout.queues.deny: List<Pattern>),
    key!("rollout.tasks_allow", rollout.tasks.allow: List<Pattern>),
    key!("rollout.tasks_deny", rollout.tasks.deny: List<Pattern>),
    key!(rollout.inject_ratio: Share),
    key!(spans.send: Truth),
    key!(spans.receive: Truth),
    key!(spans.process: Truth),
    key!(limits.connections_max: Count),
    key!(limits.hold_bytes_max: Bytes),
    key!(limits.hold_total_bytes_max: Bytes),
    key!(limits.buffer_bytes_max: Bytes),
    key!(limits.buffer_total_bytes_max: Bytes),
    key!(limits.pending_max: Count),
    key!(limits.connect_timeout: Time),
    key!(limits.handshake_timeout: Time),
    key!(limits.half_closed_max: Time),
    key!(limits.peer_silent_max: Time),
    key!(limits.open_hops_max: Count),
    key!(limits.open_hop_age_max: Time),
    key!(limits.delivery_age_max: Time),
    key!(limits.outcome_wait_max: Time),
    key!(limits.fanout_max: Count),
    key!(limits.memory_max: Count),
    key!(limits.memory_age_max: Time),
    key!(limits.sightings_max: Count),
    key!(limits.label_values_max: Count),
    key!(limits.quality_entries_max: Count),
    key!(limits.recent_traces_max: Count),
    key!(limits.recent_tasks_max: Count),
    key!(telemetry.export: Truth),
    key!(telemetry.protocol: Word<OtlpProtocol>),
    key!(telemetry.endpoint: Optional<Endpoint>),
    key!(telemetry.traces_endpoint: Optional<Endpoint>),
    key!(telemetry.metrics: Truth),
    key!(telemetry.metrics_endpoint: Optional<Endpoint>),
    key!(telemetry.metrics_interval: Time),
    key!(telemetry.service_name: Text),
    key!(telemetry.sampler: SamplerName),
    key!(telemetry.queue_max: Count),
    key!(telemetry.batch_max: Count),
    key!(telemetry.batch_bytes_max: Bytes),
    key!(telemetry.schedule_delay: Time),
    key!(telemetry.export_timeout: Time),
    key!(telemetry.flush_grace: Grace),
    key!(admin.listen: Optional<Listen>),
    key!(admin.token_file: Optional<File>),
    key!(admin.trace_url: Optional<TraceUrl>),
    key!(log.format: Word<LogFormat>),
    key!(log.level: Level),
    key!(log.repeat_interval: Grace),
];

/// The keys of one route, below `routes.<name>`.
pub(super) const ROUTE_KEYS: &[Key<RouteDraft>] = &[
    key!(protocol: Word<Protocol>),
    key!(listen: Optional<Listen>),
    key!(transparent: Truth),
    key!(tls_certificate: Optional<File>),
    key!(tls_key: Optional<File>),
    key!(tls_client_ca: Optional<File>),
    key!(upstream: Upstreams),
    key!(upstream_ca: Optional<File>),
    key!(upstream_certificate: Optional<File>),
    key!(upstream_key: Optional<File>),
    key!(upstream_server_name: Optional<Name>),
    key!(upstream_verify: Truth),
    key!(moving_address: Word<MovingAddress>),
];

/// A route of which not everything may be known yet.
#[derive(Clone, Debug)]
pub(super) struct RouteDraft {
    pub(super) protocol: Protocol,
    pub(super) listen: Option<SocketAddr>,
    pub(super) transparent: bool,
    pub(super) tls_certificate: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
    pub(super) tls_client_ca: Option<PathBuf>,
    pub(super) upstream: Vec<Upstream>,
    pub(super) upstream_ca: Option<PathBuf>,
    pub(super) upstream_certificate: Option<PathBuf>,
    pub(super) upstream_key: Option<PathBuf>,
    pub(super) upstream_server_name: Option<ServerName<'static>>,
    pub(super) upstream_verify: bool,
    pub(super) moving_address: MovingAddress,
}

impl RouteDraft {
    /// The route called `name`; `None` where something is missing.
    pub(super) fn finish(self, name: String) -> Option<Route> {
        Some(Route {
            name: name.into(),
            protocol: self.protocol,
            listen: self.listen?,
            transparent: self.transparent,
            tls: self.tls(),
            upstream_tls: self.upstream_tls(),
            upstream: self.upstream,
            moving_address: self.moving_address,
        })
    }

    /// TLS from apps, where there is all that it takes.
    pub(super) fn tls(&self) -> Option<ListenerTls> {
        Some(ListenerTls {
            identity: identity(&self.tls_certificate, &self.tls_key)?,
            client_ca: self.tls_client_ca.clone(),
        })
    }

    /// TLS to brokers, should they want it.
    pub(super) fn upstream_tls(&self) -> UpstreamTls {
        UpstreamTls {
            ca: self.upstream_ca.clone(),
            identity: identity(&self.upstream_certificate, &self.upstream_key),
            server_name: self.upstream_server_name.clone(),
            verify: self.upstream_verify,
        }
    }
}

fn identity(certificate: &Option<PathBuf>, key: &Option<PathBuf>) -> Option<Identity> {
    Some(Identity {
        certificate: certificate.clone()?,
        key: key.clone()?,
    })
}

impl Default for RouteDraft {
    fn default() -> Self {
        Self {
            protocol: Protocol::Auto,
            listen: None,
            transparent: false,
            tls_certificate: None,
            tls_key: None,
            tls_client_ca: None,
            upstream: Vec::new(),
            upstream_ca: None,
            upstream_certificate: None,
            upstream_key: None,
            upstream_server_name: None,
            upstream_verify: true,
            moving_address: MovingAddress::default(),
        }
    }
}

impl From<&Route> for RouteDraft {
    fn from(route: &Route) -> Self {
        let Route {
            tls, upstream_tls, ..
        } = route;
        let certificate = |identity: &Identity| identity.certificate.clone();
        let key = |identity: &Identity| identity.key.clone();
        let listener = tls.as_ref().map(|tls| &tls.identity);
        let client = upstream_tls.identity.as_ref();
        Self {
            protocol: route.protocol,
            listen: Some(route.listen),
            transparent: route.transparent,
            tls_certificate: listener.map(certificate),
            tls_key: listener.map(key),
            tls_client_ca: tls.as_ref().and_then(|tls| tls.client_ca.clone()),
            upstream: route.upstream.clone(),
            upstream_ca: upstream_tls.ca.clone(),
            upstream_certificate: client.map(certificate),
            upstream_key: client.map(key),
            upstream_server_name: upstream_tls.server_name.clone(),
            upstream_verify: upstream_tls.verify,
            moving_address: route.moving_address,
        }
    }
}

/// The keys whose values differ; of a route that only one has, its name.
pub(super) fn differences(old: &Config, new: &Config) -> Vec<String> {
    let differ = |key: &&Key<Config>| (key.write)(old) != (key.write)(new);
    let mut paths: Vec<String> = KEYS
        .iter()
        .filter(differ)
        .map(|key| key.path.to_owned())
        .collect();
    let of = |config: &Config, name: &str| {
        let route = config.routes.iter().find(|route| &*route.name == name);
        route.map(RouteDraft::from)
    };
    let routes = old.routes.iter().chain(&new.routes);
    let names: BTreeSet<&str> = routes.map(|route| &*route.name).collect();
    for name in names {
        let (Some(old), Some(new)) = (of(old, name), of(new, name)) else {
            paths.push(format!("routes.{name}"));
            continue;
        };
        let differing = ROUTE_KEYS
            .iter()
            .filter(|key| (key.write)(&old) != (key.write)(&new));
        paths.extend(differing.map(|key| format!("routes.{name}.{}", key.path)));
    }
    paths
}

/// Takes `routes.<name>.<key>` apart.
pub(super) fn split_route(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix("routes.")?.split_once('.')
}

/// A route's name must be a bare key of TOML and find its way into a variable's name.
pub(super) fn is_route_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.bytes().all(legal)
}

/// Whether `name` is a table at the top of the file.
pub(super) fn is_section(name: &str) -> bool {
    name == "routes" || SECTIONS.contains(&name)
}

/// The keys of a section by name; those outside any for the empty section.
pub(super) fn keys_in(section: &str) -> impl Iterator<Item = (&'static str, &'static Key<Config>)> {
    KEYS.iter().filter_map(move |key| {
        let (home, name) = key.path.split_once('.').unwrap_or(("", key.path));
        (home == section).then_some((name, key))
    })
}

/// Whether the key `path` is an array in the file.
pub(super) fn is_list(path: &str) -> bool {
    KEYS.iter().any(|key| key.is_list && key.path == path)
}

/// What may stand directly in a section, or outside any for the empty one.
pub(super) fn names_in(section: &str) -> Vec<&'static str> {
    if section.starts_with("routes.") {
        return ROUTE_KEYS.iter().map(|key| key.path).collect();
    }
    let sections = ["routes"].into_iter().chain(SECTIONS);
    let sections = sections.filter(|_| section.is_empty());
    keys_in(section)
        .map(|(name, _)| name)
        .chain(sections)
        .collect()
}

/// The section that has a key of this name.
pub(super) fn home_of(name: &str) -> Option<&'static str> {
    let mut sections = SECTIONS.into_iter();
    sections.find(|section| names_in(section).contains(&name))
}

/// The tables besides `routes`, in the order in which they are written.
pub(super) const SECTIONS: [&str; 8] = [
    "policy",
    "translate",
    "rollout",
    "spans",
    "limits",
    "telemetry",
    "admin",
    "log",
];
