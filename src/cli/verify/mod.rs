//! `tracehop verify`: whether a trace joins producer and worker, and where it breaks.

mod jaeger;
mod recent;
mod trace;

use std::io;
use std::io::Write;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::cli::Misused;
use crate::cli::admin_flags::AdminFlags;
use crate::cli::admin_flags::remedy;
use crate::cli::http::Http;
use crate::cli::output::Colour;
use crate::cli::output::Paint;
use crate::cli::output::shown;
use crate::cli::verify::trace::Chain;
use crate::cli::verify::trace::chains;
use crate::hop::is_obeyed;
use crate::trace::TraceId;

/// Tell whether a trace joins producer, hop and worker, or where it breaks
///
/// Asks a Jaeger (or whatever answers like its query API), which has the spans of all
/// services; or, without --jaeger, a running tracehop, which knows what it has seen of the
/// message itself and nothing of other services' spans. Follows each message of the trace:
/// from the producer's span to the hop, to the delivery, to the worker's span; and says
/// where that breaks, and what would mend it. Sends nothing.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Verify {
    /// The trace, by its id: 32 hex digits
    #[arg(
        long,
        value_name = "ID",
        required_unless_present = "task",
        conflicts_with = "task"
    )]
    trace: Option<String>,

    /// The task, by its id: whichever trace it is in
    #[arg(long, value_name = "ID")]
    task: Option<String>,

    /// Base URL of a Jaeger query service
    #[arg(long, value_name = "URL")]
    jaeger: Option<String>,

    /// The service name of tracehop's spans, by which Jaeger looks for a task
    #[arg(long, value_name = "NAME", default_value = "tracehop")]
    service: String,

    #[command(flatten)]
    admin: AdminFlags,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  tracehop verify --trace 0af7651916cd43dd8448eb211c80319c --jaeger http://jaeger:16686
  tracehop verify --task 5fabd344-0648-454e-b969-0c3ec6e27aea
  tracehop verify --task \"$TASK_ID\" --json

Exit codes: 0 joined, 1 broken, 2 not found, or nobody to ask can be reached, 64 the command
line is wrong.";

pub(super) async fn verify(options: Verify) -> anyhow::Result<ExitCode> {
    if let Some(id) = &options.trace
        && (id.len() != 32 || TraceId::from_hex(id).is_none())
    {
        return Err(Misused {
            flag: "--trace",
            fault: format!("{:?} is not the id of a trace", shown(id)),
            remedy: "give 32 hex digits, not all of them 0",
        }
        .into());
    }
    let trace_id = options.trace.as_deref().map(str::to_ascii_lowercase);
    let looked_up = match &options.jaeger {
        Some(url) => {
            let http = Http::new("--jaeger", url, None)?;
            in_jaeger(&http, &options, trace_id).await
        }
        None => {
            let http = options.admin.http()?;
            in_recent(&http, &options, trace_id).await
        }
    };
    match looked_up {
        Ok(found) => tell(&found, options.json),
        Err(error) => {
            eprintln!("tracehop: {error:#}");
            Ok(ExitCode::from(NOT_FOUND))
        }
    }
}

/// A trace, and what is to be said of it.
struct Found {
    trace_id: String,
    chains: Vec<Chain>,
    /// What whoever was asked cannot know.
    caveat: Option<&'static str>,
}

async fn in_jaeger(
    http: &Http,
    options: &Verify,
    trace_id: Option<String>,
) -> anyhow::Result<Found> {
    let task = options.task.as_deref();
    let trace_id = match (trace_id, task) {
        (Some(trace_id), _) => trace_id,
        (None, Some(task)) => {
            let tags = json!({ "messaging.message.id": task }).to_string();
            let query = [("service", &*options.service), ("tags", &tags)];
            let answer: jaeger::Answer = ask(http, "/api/traces", &query).await?;
            let found = answer.traces().into_iter().next();
            let Some((trace_id, _)) = found else {
                bail!(
                    "{} has no span of service {} for task {}: its spans have not come there yet, \
                     the service has another name (--service), or the message did not pass tracehop",
                    http.base(),
                    shown(&options.service),
                    shown(task)
                );
            };
            trace_id
        }
        (None, None) => bail!("neither --trace nor --task is given"),
    };
    // Anew, for it may be a large one, of which a search shows a part.
    let answer: jaeger::Answer = ask(http, &format!("/api/traces/{trace_id}"), &[]).await?;
    let Some((_, spans)) = answer.traces().into_iter().next() else {
        bail!("{} does not know trace {trace_id}", http.base());
    };
    let chains = chains(&spans, task);
    if chains.is_empty() {
        bail!(
            "trace {trace_id} has {} spans, and none of tracehop's: its messages did not pass \
             tracehop, or its spans have not come there yet or go elsewhere (`tracehop doctor`)",
            spans.len()
        );
    }
    Ok(Found {
        trace_id,
        chains,
        caveat: None,
    })
}

async fn in_recent(
    http: &Http,
    options: &Verify,
    trace_id: Option<String>,
) -> anyhow::Result<Found> {
    let task = options.task.as_deref();
    let trace_id = match (trace_id, task) {
        (Some(trace_id), _) => trace_id,
        (None, Some(task)) => {
            let list: recent::List = ask(http, "/api/traces", &[("q", task)]).await?;
            let Some(listed) = list.traces.into_iter().next() else {
                bail!(
                    "{} does not know task {} (any more): it did not pass this tracehop, or that \
                     was too long ago",
                    http.base(),
                    shown(task)
                );
            };
            listed.trace_id
        }
        (None, None) => bail!("neither --trace nor --task is given"),
    };
    let trace: recent::Trace = ask(http, &format!("/api/traces/{trace_id}"), &[]).await?;
    Ok(Found {
        trace_id,
        chains: trace.chains(task),
        caveat: Some(
            "this is what tracehop has seen of the messages; whether the spans of producer and \
             worker have come to your backend as well is known to it alone: ask it with --jaeger",
        ),
    })
}

async fn ask<T: DeserializeOwned>(
    http: &Http,
    path: &str,
    query: &[(&str, &str)],
) -> anyhow::Result<T> {
    match http.json(path, query).await? {
        Ok(answer) => Ok(answer),
        Err(refusal) => bail!(
            "{}{path}: {} {}; {}",
            http.base(),
            refusal.status,
            shown(&refusal.words),
            match path.strip_prefix("/api/traces/") {
                Some(_) if refusal.status == 404 => "it does not know that trace (any more)",
                _ => remedy(&refusal),
            }
        ),
    }
}

fn tell(found: &Found, as_json: bool) -> anyhow::Result<ExitCode> {
    let links = || found.chains.iter().flat_map(|chain| &chain.links);
    let is_joined = links().all(|link| link.is_joined);
    let mut out = io::stdout().lock();
    if as_json {
        let messages: Vec<_> = found
            .chains
            .iter()
            .map(|chain| {
                let links: Vec<_> = chain
                    .links
                    .iter()
                    .map(|link| json!({ "joined": link.is_joined, "what": shown_whole(&link.what) }))
                    .collect();
                json!({ "task": shown(&chain.task), "task_id": shown(&chain.task_id), "links": links })
            })
            .collect();
        let document = json!({
            "trace_id": found.trace_id, "joined": is_joined, "messages": messages,
            "caveat": found.caveat,
        });
        writeln!(out, "{document}")?;
    } else {
        let paint = Paint::for_stdout();
        writeln!(out, "trace {}", found.trace_id)?;
        for chain in &found.chains {
            writeln!(out, "{} {}", shown(&chain.task), shown(&chain.task_id))?;
            for link in &chain.links {
                let word = match link.is_joined {
                    true => paint.paint("ok    ", Colour::Good),
                    false => paint.paint("BROKEN", Colour::Bad),
                };
                writeln!(out, "  {word}  {}", shown_whole(&link.what))?;
            }
        }
        if let Some(caveat) = found.caveat {
            writeln!(out, "{}", paint.paint(caveat, Colour::Faint))?;
        }
        let broken = links().filter(|link| !link.is_joined).count();
        match broken {
            0 => writeln!(out, "joined")?,
            count => writeln!(out, "broken in {count} places")?,
        }
    }
    Ok(match is_joined {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(BROKEN),
    })
}

/// Sentences of ours with names of others in them.
fn shown_whole(what: &str) -> String {
    what.chars()
        .map(|letter| {
            if is_obeyed(letter) {
                '\u{fffd}'
            } else {
                letter
            }
        })
        .collect()
}

const BROKEN: u8 = 1;
const NOT_FOUND: u8 = 2;
