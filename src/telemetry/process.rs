//! What Prometheus usually wants to know about a process.

use std::fs;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use prometheus_client::registry::Unit;

/// Read from `/proc` at each scrape; nothing where there is none.
#[derive(Debug, Default)]
pub(super) struct ProcessMetrics {
    resident_memory: Gauge,
    open_fds: Gauge,
}

impl ProcessMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let start_time = Gauge::<i64>::default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        start_time.set(now.map_or(0, |since| since.as_secs().cast_signed()));
        registry.register_with_unit(
            "process_start_time",
            "When the process started, since the Unix epoch",
            Unit::Seconds,
            start_time,
        );
        registry.register_with_unit(
            "process_resident_memory",
            "Memory that is in RAM",
            Unit::Bytes,
            metrics.resident_memory.clone(),
        );
        registry.register(
            "process_open_fds",
            "File descriptors that are open",
            metrics.open_fds.clone(),
        );
        metrics
    }

    pub(super) fn read(&self) {
        if let Some(bytes) = resident_bytes() {
            self.resident_memory.set(bytes);
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // One of them is the directory itself.
            self.open_fds.set(entries.count().cast_signed() as i64 - 1);
        }
    }
}

fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
