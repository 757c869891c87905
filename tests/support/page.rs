//! An admin listener that answers, and what it answers.
#![allow(
    dead_code,
    reason = "every test file is a crate of its own and uses a part of this"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio::time::timeout;

use tracehop::admin::Admin;
use tracehop::admin::Readiness;
use tracehop::admin::Serving;
use tracehop::admin::Subject;
use tracehop::config;
use tracehop::config::Environment;
use tracehop::config::Sources;
use tracehop::hop::Injector;
use tracehop::net::DnsConfig;
use tracehop::net::Parts;
use tracehop::net::Proxy;
use tracehop::net::Workers;
use tracehop::telemetry::Metrics;
use tracehop::telemetry::Telemetry;

/// Counts, and sends nothing anywhere.
pub(crate) fn telemetry(limits: &config::Limits, admin: &config::Admin) -> Telemetry {
    let config = config::Telemetry {
        export: false,
        ..config::Telemetry::default()
    };
    let (spans, log) = (config::Spans::default(), config::Log::default());
    Telemetry::start(&config, spans, limits, admin, &log).unwrap()
}

/// What is shown of a proxy with one route that nobody uses.
pub(crate) fn subject(telemetry: &Telemetry, readiness: Readiness) -> Subject {
    let environment = [
        ("TRACEHOP_LISTEN", "127.0.0.1:0"),
        ("TRACEHOP_UPSTREAM", "redis://user:secret@broker:6379/0"),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let sources = Sources {
        environment: Environment::from(environment),
        ..Sources::default()
    };
    let loaded = sources.load().unwrap();
    let config = &loaded.config;
    let injector = Injector::new(
        config.policy,
        config.telemetry.sampler.clone(),
        &config.limits,
    );
    let parts = Parts {
        injector: Arc::new(injector),
        sightings: telemetry.sightings(),
        metrics: telemetry.metrics(),
        workers: Workers::here(),
        dns: DnsConfig::default(),
        repeat_interval: Duration::from_secs(60),
    };
    let proxy = Proxy::bind(&config.routes, config.limits, parts).unwrap();
    Subject {
        views: telemetry.views(),
        proxy: proxy.view(),
        readiness,
        limits: config.limits,
        settings: Arc::new(ArcSwap::from_pointee(loaded.settings())),
    }
}

/// The names of all fields, however deep they are.
pub(crate) fn names(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(fields) => {
            let own = fields.keys().map(String::as_str);
            own.chain(fields.values().flat_map(names)).collect()
        }
        Value::Array(elements) => elements.iter().flat_map(names).collect(),
        _ => Vec::new(),
    }
}

/// An admin listener that answers.
pub(crate) struct Page {
    pub(crate) telemetry: Telemetry,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) readiness: Readiness,
    pub(crate) address: SocketAddr,
    pub(crate) serving: Serving,
}

#[derive(Default)]
pub(crate) struct Answer {
    /// 0: the connection was cut off without an answer.
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Page {
    pub(crate) async fn open() -> Self {
        Self::open_with(config::Limits::default(), |_| {}).await
    }

    /// The same with these limits, and what `adapt` makes of the listener's configuration.
    pub(crate) async fn open_with(
        limits: config::Limits,
        adapt: impl FnOnce(&mut config::Admin),
    ) -> Self {
        let mut config = config::Admin {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            ..config::Admin::default()
        };
        adapt(&mut config);
        // The hops of these tests were sent long ago.
        let limits = config::Limits {
            open_hop_age_max: Duration::MAX,
            delivery_age_max: Duration::MAX,
            outcome_wait_max: Duration::MAX,
            ..limits
        };
        let telemetry = telemetry(&limits, &config);
        let readiness = Readiness::default();
        let subject = subject(&telemetry, readiness.clone());
        let admin = Admin::bind(&config, subject).await.unwrap().unwrap();
        Self {
            metrics: telemetry.metrics(),
            telemetry,
            readiness,
            address: admin.address(),
            serving: admin.serve(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
            .await
    }

    pub(crate) async fn quality(&self) -> Value {
        let answer = self.get("/api/quality").await;
        assert_eq!(answer.status, 200);
        let json = "content-type: application/json";
        assert!(answer.head.contains(json), "{}", answer.head);
        serde_json::from_str(&answer.body).unwrap()
    }

    /// The report once it tells of so many messages.
    pub(crate) async fn quality_of(&self, messages: u64) -> Value {
        let told = |report: &Value| -> u64 {
            let entries = report["entries"].as_array().unwrap();
            let entries = entries.iter().chain([&report["other"]]);
            entries
                .map(|entry| entry["messages"].as_u64().unwrap())
                .sum()
        };
        let whole = async {
            loop {
                let report = self.quality().await;
                if told(&report) >= messages {
                    return report;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(60), whole).await.unwrap()
    }

    /// Sends a request as it is, and reads until the connection ends.
    pub(crate) async fn ask(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // It may have heard enough before it has heard everything.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let Some((head, body)) = answer.split_once("\r\n\r\n") else {
            return Answer::default();
        };
        Answer {
            status: head[9..12].parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }
}
