//! The log: lines to standard error that traffic never waits for.

use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::panic;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::Log;
use crate::config::LogFormat;

/// Starts the log of this process, and has panics written to it.
pub(super) fn start(config: &Log) -> anyhow::Result<Flush> {
    let lines = Lines::start(io::stderr())?;
    let flush = Flush(lines.clone());
    let wanted = EnvFilter::builder().parse(&config.level)?;
    let layer = fmt::layer()
        .with_ansi(io::stderr().is_terminal())
        .with_writer(move || lines.clone());
    let layer = match config.format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(wanted))
        .try_init()?;
    panic::set_hook(Box::new(log_panic));
    Ok(flush)
}

/// A panic is told by its place alone: its message may hold what a peer has sent.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    tracing::error!(place, "a bug: the code panicked");
}

/// Writes what was logged before the process ends, unless that takes too long.
#[must_use]
pub(super) struct Flush(Lines);

impl Drop for Flush {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Takes lines for a thread that writes them, so that nobody waits for whoever reads the
/// log. A line that finds the queue full is dropped and counted.
#[derive(Clone)]
struct Lines {
    queue: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

enum Entry {
    Line(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

impl Lines {
    fn start(to: impl Write + Send + 'static) -> anyhow::Result<Self> {
        let (queue, entries) = mpsc::sync_channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let lines = Self {
            queue,
            dropped: Arc::clone(&dropped),
        };
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write(&entries, to, &dropped))
            .context("cannot start the log")?;
        Ok(lines)
    }

    fn flush(&self) {
        let (done, written) = mpsc::sync_channel(1);
        if self.queue.try_send(Entry::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_TIME_MAX);
        }
    }
}

/// Each call holds one whole line.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Entry::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(entries: &Receiver<Entry>, mut to: impl Write, dropped: &AtomicU64) {
    for entry in entries {
        match entry {
            Entry::Line(line) => _ = to.write_all(&line),
            Entry::Flush(done) => _ = done.send(()),
        }
        let lines = dropped.swap(0, Ordering::Relaxed);
        if lines > 0 {
            tracing::warn!(lines, "log lines were dropped");
        }
    }
}

const LINES_MAX: usize = 1_024;
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that does not read until it is told to.
    struct Hung {
        wake: Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Hung {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.wake.recv();
            let _ = self.written.send(line.to_vec());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whoever_logs_does_not_wait_for_whoever_reads() {
        let (waker, wake) = mpsc::channel();
        let (written, lines_written) = mpsc::channel();
        let mut lines = Lines::start(Hung { wake, written }).unwrap();
        for number in 0..LINES_MAX + 10 {
            write!(lines, "{number}").unwrap();
        }
        // One line may be with the writer already, the queue holds the others.
        assert!(lines.dropped.load(Ordering::Relaxed) >= 9);
        drop(waker);
        for number in 0..LINES_MAX {
            assert_eq!(lines_written.recv().unwrap(), number.to_string().as_bytes());
        }
    }

    #[test]
    fn what_was_logged_is_written_when_the_flush_returns() {
        let (waker, wake) = mpsc::channel();
        let (written, lines_written) = mpsc::channel();
        drop(waker);
        let mut lines = Lines::start(Hung { wake, written }).unwrap();
        lines.write_all(b"last words").unwrap();
        Lines::flush(&lines);
        assert_eq!(lines_written.try_recv().unwrap(), b"last words");
    }
}
