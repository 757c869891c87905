//! `tracehop run`: the proxy.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::runtime::Builder;

use crate::admin::Admin;
use crate::admin::Readiness;
use crate::admin::State;
use crate::admin::Subject;
use crate::cli::logging;
use crate::cli::reload::Reload;
use crate::cli::reload::choices;
use crate::cli::settings::Settings;
use crate::cli::signals::Order;
use crate::cli::signals::Signals;
use crate::config::Config;
use crate::config::Limits;
use crate::config::Loaded;
use crate::config::Route;
use crate::config::Sources;
use crate::hop::Injector;
use crate::net::DnsConfig;
use crate::net::Drained;
use crate::net::Parts;
use crate::net::Proxy;
use crate::net::Workers;
use crate::telemetry::Telemetry;

/// Loads the configuration, then serves until told to stop.
pub(super) fn run(settings: &Settings) -> anyhow::Result<()> {
    let sources = settings.sources();
    let loaded = sources.load()?;
    let _flush = logging::start(&loaded.config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    allow_descriptors(&loaded.config.limits);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let served = runtime.block_on(serve(loaded, sources));
    // A name server of the collector that does not answer must not hold up the end.
    runtime.shutdown_background();
    served
}

/// Takes as many file descriptors as the system gives: shells and container runtimes hand
/// out few unless they are asked.
fn allow_descriptors(limits: &Limits) {
    let wanted = descriptors_wanted(limits);
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(allowed) if allowed < wanted => tracing::warn!(
            allowed,
            wanted,
            "fewer file descriptors than limits.connections_max needs; raise the hard limit \
             (ulimit -Hn, LimitNOFILE=) or lower limits.connections_max"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot raise the limit of file descriptors"),
    }
}

/// Two for each connection, and some besides.
pub(super) fn descriptors_wanted(limits: &Limits) -> u64 {
    2 * limits.connections_max as u64 + DESCRIPTORS_BESIDES
}

/// Everything that runs: started in order, stopped in reverse.
async fn serve(loaded: Loaded, sources: Sources) -> anyhow::Result<()> {
    let settings = Arc::new(ArcSwap::from_pointee(loaded.settings()));
    let config = loaded.config;
    let mut signals = Signals::watch()?;
    let readiness = Readiness::default();

    let telemetry = Telemetry::start(
        &config.telemetry,
        config.spans,
        &config.limits,
        &config.admin,
        &config.log,
    )?;
    let metrics = telemetry.metrics();
    let injector = Injector::choosing(choices(&config), config.spans, &config.limits);
    let injector = Arc::new(injector);
    let parts = Parts {
        injector: Arc::clone(&injector),
        sightings: telemetry.sightings(),
        metrics: Arc::clone(&metrics),
        workers: Workers::start().context("cannot start threads")?,
        dns: DnsConfig::default(),
        repeat_interval: config.log.repeat_interval,
    };
    let proxy = Proxy::bind(&config.routes, config.limits, parts)?;
    let view = proxy.view();
    let subject = Subject {
        views: telemetry.views(),
        proxy: view.clone(),
        readiness: readiness.clone(),
        limits: config.limits,
        settings: Arc::clone(&settings),
    };
    let admin = Admin::bind(&config.admin, subject).await?;
    let buffers = view.clone();
    metrics.watch_held(move || view.held_bytes() as u64);
    metrics.watch_buffered(move || buffers.buffered_bytes() as u64);
    announce(&config, &proxy, admin.as_ref());

    let admin = admin.map(Admin::serve);
    let proxy = proxy.serve();
    readiness.set(State::Ready);
    let mut reload = Reload {
        sources,
        running: config.clone(),
        injector,
        metrics,
        settings,
    };
    let signal = loop {
        match signals.next().await {
            Order::Reload => reload.run(&proxy),
            Order::Stop(signal) => break signal,
        }
    };

    tracing::info!(signal, "stopping");
    let stopped = async {
        let began = Instant::now();
        readiness.set(State::Finishing);
        proxy.finish_deliveries(config.drain_grace / 2).await;
        readiness.set(State::Draining);
        let rest = config.drain_grace.saturating_sub(began.elapsed());
        proxy.drain(rest).await
    };
    tokio::select! {
        Drained { parted, cut } = stopped => {
            tracing::info!(parted, cut, "no connection is left");
        }
        signal = signals.stop() => {
            tracing::warn!(signal, "stopping at once: connections end with the process");
        }
    }
    telemetry.flush(config.telemetry.flush_grace).await;
    // Last, so that "draining" stays visible.
    if let Some(admin) = admin {
        admin.close().await;
    }
    Ok(())
}

/// Tells the real addresses: a port 0 has become one.
fn announce(config: &Config, proxy: &Proxy, admin: Option<&Admin>) {
    for (route, listen) in proxy.addresses() {
        let upstream = config
            .routes
            .iter()
            .find(|known| &*known.name == route)
            .map(Route::upstream_urls)
            .unwrap_or_default();
        tracing::info!(route, %listen, upstream, "route");
    }
    if let Some(admin) = admin {
        tracing::info!(listen = %admin.address(), "admin");
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "tracehop is running");
}

/// What is open besides the two sockets of each connection: listeners, the exporter, the
/// admin listener and its connections.
const DESCRIPTORS_BESIDES: u64 = 128;
