//! What Prometheus usually wants to know about a process.

use std::fs;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use prometheus_client::registry::Unit;

/// Read from `/proc` at each scrape; nothing where there is none.
#[derive(Debug, Default)]
pub(super) struct ProcessMetrics {
    cpu: Counter<f64, AtomicU64>,
    resident_memory: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
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
            "process_cpu",
            "Time on the processors, in user and system mode",
            Unit::Seconds,
            metrics.cpu.clone(),
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
        registry.register(
            "process_max_fds",
            "File descriptors that may be open",
            metrics.max_fds.clone(),
        );
        metrics
    }

    pub(super) fn read(&self) {
        if let Some(seconds) = cpu_seconds() {
            self.cpu.inner().store(seconds.to_bits(), Ordering::Relaxed);
        }
        if let Ok((allowed, _)) = rlimit::Resource::NOFILE.get() {
            self.max_fds.set(i64::try_from(allowed).unwrap_or(i64::MAX));
        }
        if let Some(bytes) = resident_bytes() {
            self.resident_memory.set(bytes);
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // One of them is the directory itself.
            self.open_fds.set(entries.count().cast_signed() as i64 - 1);
        }
    }
}

/// Of all threads, those that have ended included.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program stands in brackets and may hold blanks.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// In which Linux counts for everyone, whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;
