//! `tracehop run`: the proxy.

use anyhow::Context;
use tokio::runtime::Builder;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use crate::cli::logging;
use crate::cli::settings::Settings;
use crate::config::Config;

/// Loads the configuration, then serves until told to stop.
pub(super) fn run(settings: &Settings) -> anyhow::Result<()> {
    let loaded = settings.sources().load()?;
    let _flush = logging::start(&loaded.config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = Builder::new_multi_thread()
        .thread_name("tracehop")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let served = runtime.block_on(serve(loaded.config));
    // A name server that does not answer must not hold up the end.
    runtime.shutdown_background();
    served
}

/// Everything that runs: started in order, stopped in reverse.
async fn serve(config: Config) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    let _ = config;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "tracehop is running");
    stop.await;
    Ok(())
}

/// Completes when the process is told to stop. Signals count from the call on.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping");
    })
}
