//! `tracehop check`: the configuration as it would be used.

use std::io::Write;

use crate::admin::Admin;
use crate::cli::settings::Settings;
use crate::telemetry::Telemetry;

/// Prints the configuration as a file that loads to the same.
pub(super) fn check(settings: &Settings) -> anyhow::Result<()> {
    let loaded = settings.sources().load()?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    for warning in Telemetry::check(&loaded.config.telemetry)? {
        eprintln!("warning: {warning}");
    }
    Admin::check(&loaded.config.admin)?;
    // A reader that has seen enough, such as `head`, is no failure.
    let _ = std::io::stdout().write_all(loaded.to_toml().as_bytes());
    Ok(())
}
