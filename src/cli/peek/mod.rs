//! `tracehop peek`: the messages that wait in a queue, and the context that each carries.

mod message;
mod rabbitmq;
mod redis;

use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use clap::builder::TypedValueParser as _;
use clap::value_parser;
use serde::Serialize;

use crate::cli::Misused;
use crate::cli::broker::Broker;
use crate::cli::broker::Kind;
use crate::cli::dial::Tls;
use crate::cli::output::Colour;
use crate::cli::output::Paint;
use crate::cli::output::column;
use crate::cli::output::shown;
use crate::cli::output::spell_millis;
use crate::cli::peek::message::Waiting;
use crate::config::UpstreamTls;
use crate::protocol::redis::PRIORITY_SEPARATOR;

/// Look at the messages that wait in a queue, and the trace context that each carries
///
/// Shows of each message its task, id, retries, ETA, how long ago it was sent (where a
/// tracehop has noted that), and whether its trace context is valid, missing, invalid (and
/// why), stale, or another vendor's. Never its arguments. The message that is taken next
/// comes first; messages that a worker has taken already are not shown.
///
/// On Redis nothing changes: LLEN and LRANGE are all that is sent.
///
/// RabbitMQ shows no message without handing it over. Without --yes only their number is
/// told. With --yes messages are taken (basic.get) and put back at once (basic.nack with
/// requeue): they return to their place on a classic queue, are marked as redelivered, and
/// workers do not get them in between. A quorum queue counts that as a delivery: with a
/// delivery limit a message that is looked at too often is dropped or dead-lettered.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Peek {
    /// The name of the queue; with `global_keyprefix`, that in front of it
    queue: String,

    /// The broker, with user and password where it wants them
    #[arg(
        long,
        value_name = "URL",
        env = "CELERY_BROKER_URL",
        default_value = "redis://127.0.0.1:6379",
        hide_env_values = true
    )]
    upstream: String,

    /// With TLS: the authority that signed the broker's certificate, in PEM; without it
    /// whoever the system trusts
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// How many messages are shown
    #[arg(
        short = 'n',
        long,
        default_value_t = 20,
        value_parser = value_parser!(u32).range(1..=10_000).map(|count| count as usize)
    )]
    count: usize,

    /// Agree to messages being taken and put back, where there is no other way
    #[arg(long)]
    yes: bool,

    /// The priority steps of the queue (Redis: `priority_steps`)
    #[arg(
        long,
        value_name = "STEPS",
        value_delimiter = ',',
        default_value = "0,3,6,9"
    )]
    priority_steps: Vec<u8>,

    /// What stands between queue and step in a key (Redis: `sep`), \x06\x16 unless told
    #[arg(long, value_name = "TEXT", default_value = PRIORITY_SEPARATOR, hide_default_value = true)]
    separator: String,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  tracehop peek celery
  tracehop peek mail --upstream redis://:PASSWORD@redis:6379/1 -n 100
  tracehop peek celery --upstream amqp://user:PASSWORD@rabbit/vhost --yes --json

Exit codes: 0 looked at, 1 it could not be looked at, 64 the command line is wrong.";

impl Peek {
    /// `None`: the broker's URL does not ask for it.
    fn tls(&self, broker: &Broker) -> anyhow::Result<Option<Tls>> {
        if !broker.tls {
            return Ok(None);
        }
        let files = UpstreamTls {
            ca: self.ca.clone(),
            ..UpstreamTls::default()
        };
        let tls = Tls::new(&files, &broker.host).map_err(|fault| Misused {
            flag: "--ca",
            fault,
            remedy: "name a file with the certificates of authorities",
        })?;
        Ok(Some(tls))
    }
}

/// What is seen of a queue.
#[derive(Debug, Default, Serialize)]
struct Queue {
    /// `messaging.system`.
    system: &'static str,
    waiting: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumers: Option<u32>,
    messages: Vec<Waiting>,
}

pub(super) async fn peek(options: Peek) -> anyhow::Result<ExitCode> {
    let brokers = Broker::read_all("--upstream", &options.upstream)?;
    let mut seen = None;
    for broker in &brokers {
        let looked = match broker.kind {
            Kind::Redis => redis::look(broker, &options).await,
            Kind::RabbitMq => rabbitmq::look(broker, &options).await,
        };
        let looked = looked.with_context(|| broker.to_string());
        let is_seen = looked.is_ok();
        seen = Some(looked);
        if is_seen {
            break;
        }
    }
    let queue = seen.context("--upstream names no broker")??;
    let mut out = io::stdout().lock();
    if options.json {
        serde_json::to_writer(&mut out, &queue).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&queue, &options, Paint::for_stdout(), &mut out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(queue: &Queue, options: &Peek, paint: Paint, out: &mut impl Write) -> io::Result<()> {
    let count = queue.messages.len();
    let consumers = queue.consumers.map(|count| format!(", consumers: {count}"));
    writeln!(
        out,
        "{}: {} waiting, {count} shown{}",
        shown(&options.queue),
        queue.waiting,
        consumers.unwrap_or_default()
    )?;
    if queue.system == "rabbitmq" {
        let note = match options.yes {
            true => "what is shown was taken and put back, and is marked as redelivered now",
            false => {
                "RabbitMQ shows messages only by handing them over: with --yes they are taken, \
                 shown and put back, marked as redelivered"
            }
        };
        writeln!(out, "{}", paint.paint(note, Colour::Faint))?;
    }
    if count == 0 {
        return Ok(());
    }
    let heading = format!(
        "{} {} {} {} {} {}",
        column("CONTEXT", CONTEXT_WIDTH),
        column("AGE", AGE_WIDTH),
        column("TASK", TASK_WIDTH),
        column("ID", ID_WIDTH),
        column("RETRIES", RETRIES_WIDTH),
        "MORE"
    );
    writeln!(out, "{}", paint.paint(&heading, Colour::Faint))?;
    for message in &queue.messages {
        let (context, colour) = context(message);
        let age = message.age_ms.map(|age| spell_millis(age as f64));
        let retries = match message.retries {
            0 => String::new(),
            count => count.to_string(),
        };
        let line = format!(
            "{} {} {} {} {} {}",
            paint.paint(&column(&context, CONTEXT_WIDTH), colour),
            column(age.as_deref().unwrap_or("-"), AGE_WIDTH),
            column(message.task.as_deref().unwrap_or("-"), TASK_WIDTH),
            column(message.task_id.as_deref().unwrap_or("-"), ID_WIDTH),
            column(&retries, RETRIES_WIDTH),
            more(message),
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn context(message: &Waiting) -> (String, Colour) {
    let Some(quality) = message.context else {
        return ("not a task".to_owned(), Colour::Faint);
    };
    let colour = match quality {
        "valid" => Colour::Good,
        "foreign" => Colour::Plain,
        "invalid" => Colour::Bad,
        _ => Colour::Doubtful,
    };
    match &message.reason {
        Some(reason) => (format!("{quality}: {reason}"), colour),
        None => (quality.to_owned(), colour),
    }
}

fn more(message: &Waiting) -> String {
    let step = message.step.filter(|step| *step > 0);
    let parts = [
        step.map(|step| format!("priority {step}")),
        message.eta.as_ref().map(|eta| format!("ETA {eta}")),
        message.redelivered.then(|| "redelivered".to_owned()),
        message.trace_id.as_ref().map(|id| format!("trace {id}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

const CONTEXT_WIDTH: usize = 22;
const AGE_WIDTH: usize = 8;
const TASK_WIDTH: usize = 28;
const ID_WIDTH: usize = 36;
const RETRIES_WIDTH: usize = 7;
