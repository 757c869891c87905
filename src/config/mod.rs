//! The configuration: text in, [`Config`] out, with every complaint at once.
//!
//! Past this module no address is a string and no number needs checking.
//!
//! Layers lie over each other, the later ones winning key by key: defaults, the file,
//! `OTEL_…` variables, `TRACEHOP_…` variables, flags.

mod address;
mod complaint;
mod draft;
mod environment;
mod file;
mod keys;
mod load;
mod mask;
mod otel;
mod rules;
mod spelling;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use complaint::Complaint;
pub use complaint::Complaints;
pub use complaint::Origin;
pub use complaint::Place;
pub use environment::CONFIG_VARIABLE;
pub use load::Environment;
pub use load::Flag;
pub use load::Loaded;
pub use load::Setting;
pub use load::Sources;
pub use tls::Identity;
pub use tls::ListenerTls;
pub use tls::Made;
pub use tls::Unusable;
pub use tls::UpstreamTls;
use wildmatch::WildMatch;

use crate::config::address::Upstreams;
use crate::config::spelling::Spelling;
use crate::trace::Ratio;
use crate::trace::Sampler;

/// Everything that can be set, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// At least one; names and listen addresses are unique. Sorted by name.
    pub routes: Vec<Route>,
    pub policy: Policy,
    pub translate: Translate,
    pub rollout: Rollout,
    pub spans: Spans,
    pub limits: Limits,
    pub telemetry: Telemetry,
    pub admin: Admin,
    pub log: Log,
    /// How long connections may take to come to a boundary when the proxy is stopped.
    pub drain_grace: Duration,
}

impl Config {
    /// These routes, and the defaults for all else.
    #[must_use]
    pub fn new(routes: Vec<Route>) -> Self {
        Self {
            routes,
            policy: Policy::default(),
            translate: Translate::default(),
            rollout: Rollout::default(),
            spans: Spans::default(),
            limits: Limits::default(),
            telemetry: Telemetry::default(),
            admin: Admin::default(),
            log: Log::default(),
            drain_grace: Duration::from_secs(20),
        }
    }

    /// The keys whose values are others in `new`. A route that only one of them has counts as
    /// a key.
    #[must_use]
    pub fn differences(&self, new: &Self) -> Vec<String> {
        keys::differences(self, new)
    }
}

/// One listener and the broker behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    pub name: Arc<str>,
    pub protocol: Protocol,
    pub listen: SocketAddr,
    /// Whether the broker of a connection is the one that the app meant when a firewall sent
    /// it here.
    pub transparent: bool,
    /// `None`: apps connect without TLS.
    pub tls: Option<ListenerTls>,
    /// At least one, in the order in which they are tried; none where it is transparent.
    pub upstream: Vec<Upstream>,
    pub upstream_tls: UpstreamTls,
    pub moving_address: MovingAddress,
}

impl Route {
    /// The URLs of its brokers, separated by `;`.
    #[must_use]
    pub fn upstream_urls(&self) -> String {
        Upstreams::write(&self.upstream)
    }

    /// The broker at this address, which an app meant.
    #[must_use]
    pub fn upstream_at(&self, address: SocketAddr) -> Upstream {
        let mut known = Protocol::ALL.iter();
        let schemes = known
            .find(|(protocol, ..)| *protocol == self.protocol)
            .map_or(&[][..], |(_, _, schemes)| *schemes);
        Upstream {
            scheme: schemes.first().copied().unwrap_or_default(),
            host: address.ip().to_string().into(),
            port: address.port(),
        }
    }

    /// Whether TLS is spoken to any of its brokers.
    #[must_use]
    pub fn needs_upstream_tls(&self) -> bool {
        self.upstream.iter().any(Upstream::is_tls)
    }
}

/// A broker's address, resolved anew for each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The scheme of its URL, one of those in [`Protocol::ALL`].
    pub scheme: &'static str,
    pub host: Arc<str>,
    pub port: u16,
}

impl Upstream {
    /// Whether its URL asks for TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        address::is_tls(self.scheme)
    }

    /// Whether the brokers beside it have the same queues: the nodes of a RabbitMQ do, while
    /// what waits on one Redis is not on another.
    #[must_use]
    pub fn is_one_of_a_cluster(&self) -> bool {
        self.scheme.contains("amqp")
    }
}

/// What is done with the context of task messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub mode: Mode,
    pub inject_on: InjectOn,
    pub on_missing: OnMissing,
    pub on_valid: OnValid,
    pub on_invalid: OnInvalid,
    /// Whether our `tracestate` member is written along with a `traceparent`.
    pub tracestate: bool,
}

/// Whether messages are edited at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Inject,
    Observe,
    /// They are not even read.
    Off,
}

/// What becomes of the address in a `MOVING` push, by which Redis leads its clients elsewhere.
/// Without it they connect anew to the address that they know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MovingAddress {
    /// It is removed where messages are edited.
    #[default]
    Auto,
    Remove,
    Pass,
}

impl MovingAddress {
    #[must_use]
    pub const fn is_removed(self, mode: Mode) -> bool {
        match self {
            Self::Auto => matches!(mode, Mode::Inject),
            Self::Remove => true,
            Self::Pass => false,
        }
    }
}

/// On which way messages are edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectOn {
    /// To the broker.
    Publish,
    /// From the broker.
    Delivery,
    Both,
}

/// Which other vendors' contexts are translated into a `traceparent` where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translate {
    pub sentry: bool,
    pub datadog: bool,
    /// Zipkin's, in one header or in several.
    pub b3: bool,
    pub jaeger: bool,
    /// Elastic APM's.
    pub elastic: bool,
    /// AWS X-Ray's.
    pub xray: bool,
}

/// Which messages are edited while tracehop is being rolled out; the others are only
/// observed.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    pub queues: Filter,
    pub tasks: Filter,
    /// The share of traces, told by their ids.
    pub inject_ratio: Ratio,
}

/// Which names are meant: those that an `allow` pattern matches and no `deny` pattern does.
/// In a pattern `*` stands for anything and `?` for one character.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Empty: all.
    pub allow: Vec<WildMatch>,
    pub deny: Vec<WildMatch>,
}

impl Filter {
    #[must_use]
    pub fn admits(&self, name: &str) -> bool {
        let any = |patterns: &[WildMatch]| patterns.iter().any(|pattern| pattern.matches(name));
        (self.allow.is_empty() || any(&self.allow)) && !any(&self.deny)
    }
}

/// Which spans a message is told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spans {
    pub send: bool,
    pub receive: bool,
    /// For workers without any instrumentation.
    pub process: bool,
}

/// What to do with a message without a `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMissing {
    Add,
    Pass,
}

/// What to do with somebody else's valid `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnValid {
    Keep,
    Restamp,
}

/// What to do with an invalid `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnInvalid {
    Replace,
    Pass,
}

/// What the proxy may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub connections_max: usize,
    /// The largest message that is held to be read.
    pub hold_bytes_max: usize,
    /// The sum of what all sessions hold, and keep of what waits for an answer.
    pub hold_total_bytes_max: usize,
    /// Bytes waiting to be written to one peer before the other is no longer read.
    pub buffer_bytes_max: usize,
    /// The sum of what waits on all connections.
    pub buffer_total_bytes_max: usize,
    /// Requests of one session that may wait for their reply and still be paired with it.
    pub pending_max: usize,
    /// How long it may take to connect to a broker, with all its names, addresses and TLS.
    pub connect_timeout: Duration,
    /// How long a TLS handshake with an app or a broker may take.
    pub handshake_timeout: Duration,
    /// How long one peer may be silent after the other has ended its half of a connection.
    pub half_closed_max: Duration,
    /// How long a peer may leave unacknowledged what was sent to it.
    pub peer_silent_max: Duration,
    /// Publications that may wait for their answer at once, and how long each; as many
    /// deliveries may wait for their end.
    pub open_hops_max: usize,
    pub open_hop_age_max: Duration,
    /// How long a delivery may wait for its end, from its `eta` on where it has one.
    pub delivery_age_max: Duration,
    /// How long a delivery waits to be told of: for its settlement; and its run, from then on,
    /// for its end, unless workers are known to tell of those of its name.
    pub outcome_wait_max: Duration,
    /// Members of one group that share its trace; each one beyond has a trace of its own.
    pub fanout_max: usize,
    /// Contexts remembered by task id, at most; half of them for sure. And how long.
    pub memory_max: usize,
    pub memory_age_max: Duration,
    /// Sightings that may wait to be counted.
    pub sightings_max: usize,
    /// Distinct values of one metric label before the rest is counted as `other`.
    pub label_values_max: usize,
    /// Combinations of task, producer and queue in the report on contexts before the rest is
    /// counted as one.
    pub quality_entries_max: usize,
    /// Traces kept in memory to be looked at.
    pub recent_traces_max: usize,
    /// Tasks in all of them together; each further attempt and delivery of one counts too.
    pub recent_tasks_max: usize,
}

/// Where spans go. What OpenTelemetry has a variable for is set by that variable; these
/// are the values that hold where it is not set.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// `OTEL_TRACES_EXPORTER` (`otlp` or `none`) and `OTEL_SDK_DISABLED`.
    pub export: bool,
    /// `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL`, `OTEL_EXPORTER_OTLP_PROTOCOL`.
    pub protocol: OtlpProtocol,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, as a base URL; `None`: what OpenTelemetry says.
    pub endpoint: Option<String>,
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, used as it is and before `endpoint`.
    pub traces_endpoint: Option<String>,
    /// Whether metrics are exported as well; they are always to be had from the admin
    /// listener. `OTEL_METRICS_EXPORTER`.
    pub metrics: bool,
    /// `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT`, used as it is and before `endpoint`.
    pub metrics_endpoint: Option<String>,
    /// `OTEL_METRIC_EXPORT_INTERVAL`.
    pub metrics_interval: Duration,
    /// `OTEL_SERVICE_NAME`.
    pub service_name: String,
    /// `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.
    pub sampler: Sampler,
    /// `OTEL_BSP_MAX_QUEUE_SIZE`.
    pub queue_max: usize,
    /// `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`.
    pub batch_max: usize,
    /// The largest request, before it is compressed.
    pub batch_bytes_max: usize,
    /// `OTEL_BSP_SCHEDULE_DELAY`.
    pub schedule_delay: Duration,
    /// How long one export may take, with all its attempts. `OTEL_BSP_EXPORT_TIMEOUT`,
    /// `OTEL_EXPORTER_OTLP_TIMEOUT`, `OTEL_EXPORTER_OTLP_TRACES_TIMEOUT`.
    pub export_timeout: Duration,
    /// How long the last spans may take when the proxy stops.
    pub flush_grace: Duration,
}

/// The two transports of OTLP that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpProtocol {
    Grpc,
    HttpProtobuf,
}

impl OtlpProtocol {
    /// The word that OpenTelemetry has for it.
    #[must_use]
    pub fn word(self) -> String {
        spelling::Word::write(&self)
    }
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// `None`: no admin listener.
    pub listen: Option<SocketAddr>,
    /// The file with the token that has to be shown; `None`: none has to be.
    pub token_file: Option<PathBuf>,
    /// Where traces can be looked at: a URL with `{trace_id}` in it.
    pub trace_url: Option<String>,
}

/// How the log is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub format: LogFormat,
    /// A level, or a filter in the syntax of `RUST_LOG`.
    pub level: String,
    /// How long a reason that was logged stays silent.
    pub repeat_interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// The protocols a route may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Told by the first bytes of each connection.
    Auto,
    Redis,
    Amqp,
}

impl Protocol {
    /// The word that names it.
    #[must_use]
    pub fn word(self) -> &'static str {
        let known = Self::ALL.into_iter().find(|(known, ..)| *known == self);
        known.map_or("", |(_, word, _)| word)
    }

    /// Every protocol, with the word that names it and the schemes of its broker URLs.
    pub const ALL: [(Self, &'static str, &'static [&'static str]); 3] = [
        (
            Self::Auto,
            "auto",
            &["redis", "rediss", "amqp", "amqps", "pyamqp"],
        ),
        (Self::Redis, "redis", &["redis", "rediss"]),
        (Self::Amqp, "amqp", &["amqp", "amqps", "pyamqp"]),
    ];
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::Inject,
            inject_on: InjectOn::Publish,
            on_missing: OnMissing::Add,
            on_valid: OnValid::Keep,
            on_invalid: OnInvalid::Replace,
            tracestate: true,
        }
    }
}

impl Default for Translate {
    fn default() -> Self {
        Self {
            sentry: true,
            datadog: true,
            b3: true,
            jaeger: true,
            elastic: true,
            xray: true,
        }
    }
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            queues: Filter::default(),
            tasks: Filter::default(),
            inject_ratio: Ratio::ALL,
        }
    }
}

impl Default for Spans {
    fn default() -> Self {
        Self {
            send: true,
            receive: true,
            process: false,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            hold_bytes_max: 16 << 20,
            hold_total_bytes_max: 256 << 20,
            buffer_bytes_max: 256 << 10,
            buffer_total_bytes_max: 128 << 20,
            pending_max: 1 << 16,
            connect_timeout: Duration::from_millis(3500),
            handshake_timeout: Duration::from_secs(10),
            half_closed_max: Duration::from_secs(120),
            peer_silent_max: Duration::from_secs(60),
            open_hops_max: 100_000,
            open_hop_age_max: Duration::from_secs(600),
            delivery_age_max: Duration::from_secs(3_600),
            outcome_wait_max: Duration::from_secs(10),
            fanout_max: 1_000,
            memory_max: 100_000,
            memory_age_max: Duration::from_secs(3_600),
            sightings_max: 65_536,
            label_values_max: 200,
            quality_entries_max: 1_000,
            recent_traces_max: 1_000,
            recent_tasks_max: 20_000,
        }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            export: true,
            protocol: OtlpProtocol::HttpProtobuf,
            endpoint: None,
            traces_endpoint: None,
            metrics: false,
            metrics_endpoint: None,
            metrics_interval: Duration::from_secs(60),
            service_name: "tracehop".to_owned(),
            sampler: Sampler::default(),
            queue_max: 16_384,
            batch_max: 512,
            batch_bytes_max: 4 << 20,
            schedule_delay: Duration::from_secs(5),
            export_timeout: Duration::from_secs(10),
            flush_grace: Duration::from_secs(5),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 9464))),
            token_file: None,
            trace_url: None,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
            repeat_interval: Duration::from_secs(60),
        }
    }
}
