//! `tracehop tail`: hops as they end, from a running tracehop.

use std::io;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::sleep;
use wildmatch::WildMatch;

use crate::cli::admin_flags::AdminFlags;
use crate::cli::admin_flags::remedy;
use crate::cli::http::Http;
use crate::cli::output::Colour;
use crate::cli::output::Paint;
use crate::cli::output::column;
use crate::cli::output::shown;
use crate::cli::output::spell_millis;

/// Watch hops as they end, from a running tracehop
///
/// One line for each message that was sent (`send`, with the broker's answer) or delivered
/// (`receive`, with the time it waited and what became of it). Comes back by itself when
/// tracehop is restarted; ends with Ctrl-C, or when nobody reads the lines any more. Slow
/// readers miss hops, and are told how many. Colours are for terminals, and off with
/// NO_COLOR.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Tail {
    #[command(flatten)]
    admin: AdminFlags,

    /// Hops of these tasks alone: `*` stands for anything, `?` for one character
    #[arg(long, value_name = "PATTERN")]
    task: Option<String>,

    /// Hops through these queues alone
    #[arg(long, value_name = "PATTERN")]
    queue: Option<String>,

    /// Hops that went wrong alone
    #[arg(long)]
    errors: bool,

    /// Print each hop as JSON, one on a line
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  tracehop tail
  tracehop tail --admin http://10.0.0.7:9464 --task 'shop.*' --errors
  tracehop tail --json | jq 'select(.dwell_ms > 1000)'

Exit codes: 0 told to end, 1 no tracehop answers there, 64 the command line is wrong.";

pub(super) async fn tail(options: Tail) -> anyhow::Result<ExitCode> {
    let http = options.admin.http()?;
    let printer = Printer::new(&options);
    tokio::select! {
        ended = follow(&http, &options, &printer) => ended,
        stopped = tokio::signal::ctrl_c() => Ok(stopped.map(|()| ExitCode::SUCCESS)?),
    }
}

/// Follows one connection after the other. Only the first has to come about.
async fn follow(http: &Http, options: &Tail, printer: &Printer) -> anyhow::Result<ExitCode> {
    let mut stream = connect(http, options).await?;
    printer.begin()?;
    loop {
        let why = match pass_on(&mut stream, printer).await? {
            Some(error) => format!("the connection was lost: {error}"),
            None => "it ended the connection".to_owned(),
        };
        eprintln!("tracehop: {}: {why}; coming back", http.base());
        let mut pause = PAUSE_MIN;
        stream = loop {
            sleep(pause).await;
            match connect(http, options).await {
                Ok(stream) => break stream,
                Err(_) => pause = (2 * pause).min(PAUSE_MAX),
            }
        };
        eprintln!("tracehop: {}: back again", http.base());
    }
}

async fn connect(http: &Http, options: &Tail) -> anyhow::Result<Incoming> {
    let mut query = Vec::new();
    // There, names are compared as they are.
    for (key, pattern) in [("task", &options.task), ("queue", &options.queue)] {
        let name = pattern.as_deref();
        query.extend(
            name.filter(|name| !name.contains(['*', '?']))
                .map(|name| (key, name)),
        );
    }
    if options.errors {
        query.push(("errors", "true"));
    }
    match http.open("/api/live", &query).await? {
        Ok(response) => Ok(response.into_body()),
        Err(refusal) => bail!(
            "{}/api/live: {} {}; {}",
            http.base(),
            refusal.status,
            shown(&refusal.words),
            remedy(&refusal)
        ),
    }
}

/// Prints until the stream ends, and says what ended it. An error is one of printing.
async fn pass_on(stream: &mut Incoming, printer: &Printer) -> io::Result<Option<hyper::Error>> {
    let mut events = Events::default();
    while let Some(frame) = stream.frame().await {
        let data = match frame {
            Ok(frame) => frame.into_data(),
            Err(error) => return Ok(Some(error)),
        };
        let Ok(data) = data else { continue };
        for (name, data) in events.read(&data) {
            printer.print(&name, &data)?;
        }
    }
    Ok(None)
}

/// Server-sent events, out of the pieces that they come in.
#[derive(Default)]
struct Events {
    /// The beginning of a line.
    line: Vec<u8>,
    name: String,
    data: String,
}

impl Events {
    /// The events that end with this piece: name and data.
    fn read(&mut self, piece: &[u8]) -> Vec<(String, String)> {
        let mut events = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() <= LINE_BYTES_MAX {
                self.line.extend_from_slice(part);
            }
            if !part.ends_with(b"\n") {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            match line.trim_end_matches(['\r', '\n']).split_once(':') {
                Some(("event", name)) => self.name = name.trim().to_owned(),
                Some(("data", data)) => self.data.push_str(data.trim_start()),
                Some(_) => {}
                None if self.data.is_empty() => {}
                None => events.push((
                    std::mem::take(&mut self.name),
                    std::mem::take(&mut self.data),
                )),
            }
        }
        events
    }
}

struct Printer {
    json: bool,
    task: Option<WildMatch>,
    queue: Option<WildMatch>,
    paint: Paint,
}

impl Printer {
    fn new(options: &Tail) -> Self {
        let pattern = |text: &Option<String>| text.as_deref().map(WildMatch::new);
        Self {
            json: options.json,
            task: pattern(&options.task),
            queue: pattern(&options.queue),
            paint: Paint::for_stdout(),
        }
    }

    fn begin(&self) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        let heading = format!(
            "{} {} {} {} {} {} {}",
            column("TIME (UTC)", TIME_WIDTH),
            column("LEG", LEG_WIDTH),
            column("QUEUE", QUEUE_WIDTH),
            column("TASK", TASK_WIDTH),
            column("CONTEXT", CONTEXT_WIDTH),
            column("OUTCOME", OUTCOME_WIDTH),
            "MORE"
        );
        self.put(&self.paint.paint(&heading, Colour::Faint))
    }

    fn print(&self, name: &str, data: &str) -> io::Result<()> {
        let Ok(data) = serde_json::from_str::<Value>(data) else {
            return Ok(());
        };
        match name {
            "hop" if !self.admits(&data) => Ok(()),
            "hop" if self.json => self.put(&data.to_string()),
            "hop" => self.put(&self.line(&data)),
            "missed" => {
                eprintln!(
                    "tracehop: {} hops were missed: too slow a reader",
                    data["count"]
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn admits(&self, hop: &Value) -> bool {
        let fits = |pattern: &Option<WildMatch>, name: &str| {
            let name = hop[name].as_str().unwrap_or_default();
            pattern.as_ref().is_none_or(|pattern| pattern.matches(name))
        };
        fits(&self.task, "task") && fits(&self.queue, "queue")
    }

    fn line(&self, hop: &Value) -> String {
        let text = |name: &str| shown(hop[name].as_str().unwrap_or_default());
        let time = text("at");
        // The date is known.
        let time = time.split_once('T').map_or(&*time, |(_, time)| time);
        let outcome = [text("state"), text("settlement"), text("answer")];
        let outcome = outcome.into_iter().find(|word| !word.is_empty());
        let verdict = match text("verdict").as_str() {
            "" => text("quality"),
            verdict => verdict.to_owned(),
        };
        let colour = match went_wrong(hop) {
            true => Colour::Bad,
            false => Colour::Good,
        };
        let line = format!(
            "{} {} {} {} {} {} {}",
            self.paint.paint(
                &column(time.trim_end_matches('Z'), TIME_WIDTH),
                Colour::Faint
            ),
            column(&text("leg"), LEG_WIDTH),
            column(&text("queue"), QUEUE_WIDTH),
            column(&text("task"), TASK_WIDTH),
            column(&verdict, CONTEXT_WIDTH),
            self.paint
                .paint(&column(&outcome.unwrap_or_default(), OUTCOME_WIDTH), colour),
            more(hop),
        );
        line.trim_end().to_owned()
    }

    /// One line, at once.
    fn put(&self, line: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()
    }
}

fn went_wrong(hop: &Value) -> bool {
    let is =
        |name: &str, words: &[&str]| hop[name].as_str().is_some_and(|word| words.contains(&word));
    !hop["error"].is_null()
        || is("answer", &["refused", "lost"])
        || is("settlement", &["abandoned", "rejected"])
        || is("state", &["failed", "rejected"])
}

fn more(hop: &Value) -> String {
    let text = |name: &str| hop[name].as_str().map(shown);
    let millis = |name: &str| hop[name].as_f64().map(spell_millis);
    let retries = hop["retries"].as_u64().filter(|count| *count > 0);
    let parts = [
        text("error"),
        millis("dwell_ms").map(|dwell| format!("waited {dwell}")),
        millis("run_ms").map(|run| format!("ran {run}")),
        retries.map(|count| format!("retry {count}")),
        text("producer").map(|name| format!("from {name}")),
        text("worker").map(|name| format!("by {name}")),
        text("trace_id").map(|id| format!("trace {id}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

const TIME_WIDTH: usize = 12;
const LEG_WIDTH: usize = 7;
const QUEUE_WIDTH: usize = 16;
const TASK_WIDTH: usize = 28;
const CONTEXT_WIDTH: usize = 9;
const OUTCOME_WIDTH: usize = 12;
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// What is longer is no hop.
const LINE_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_put_together_from_any_pieces() {
        let text = ": still here\n\nevent: hop\ndata: {\"task\":\"é\"}\n\nevent: missed\r\n\
                    data: {\"count\": 3}\r\n\r\nevent: hop\ndata: {";
        let expected = [
            ("hop".to_owned(), "{\"task\":\"é\"}".to_owned()),
            ("missed".to_owned(), "{\"count\": 3}".to_owned()),
        ];
        for size in 1..text.len() {
            let mut events = Events::default();
            let pieces = text.as_bytes().chunks(size);
            let read: Vec<_> = pieces.flat_map(|piece| events.read(piece)).collect();
            assert_eq!(read, expected, "{size}");
        }
    }
}
