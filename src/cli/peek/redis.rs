//! Messages in the lists that kombu makes of a queue. They are read, not taken.

use std::io;

use anyhow::Context;
use anyhow::bail;

use crate::cli::broker::Broker;
use crate::cli::dial;
use crate::cli::peek::Peek;
use crate::cli::peek::Queue;
use crate::cli::peek::message::Waiting;
use crate::cli::redis::NoAnswer;
use crate::cli::redis::Redis;
use crate::cli::redis::bytes;
use crate::cli::redis::elements;
use crate::cli::redis::integer;
use crate::protocol::redis::Envelope;
use crate::telemetry::now;

/// Asks with `LLEN` and `LRANGE` alone.
pub(super) async fn look(broker: &Broker, options: &Peek) -> anyhow::Result<Queue> {
    let mut redis = open(broker, options).await?;
    let mut queue = Queue {
        system: "redis",
        ..Queue::default()
    };
    // In the order in which workers take them: the lowest step first, of each list the end.
    for &step in &options.priority_steps {
        let key = match step {
            0 => options.queue.clone(),
            step => format!("{}{}{step}", options.queue, options.separator),
        };
        let length = asked(&mut redis, &["LLEN", &key]).await?;
        let length = integer(&length).unwrap_or_default();
        queue.waiting += u64::try_from(length).unwrap_or_default();
        let wanted = options.count.saturating_sub(queue.messages.len());
        if wanted == 0 || length == 0 {
            continue;
        }
        let last = asked(&mut redis, &["LRANGE", &key, &format!("-{wanted}"), "-1"]).await?;
        for text in elements(last).iter().rev().filter_map(bytes) {
            queue.messages.push(Waiting {
                step: Some(step),
                bytes: text.len(),
                ..read(text, &options.queue)
            });
        }
    }
    Ok(queue)
}

async fn open(broker: &Broker, options: &Peek) -> anyhow::Result<Redis> {
    let tls = options.tls(broker)?;
    let stream = dial::dial(&broker.host, broker.port, tls.as_ref()).await?;
    let mut redis = Redis::new(stream);
    if let Some(credentials) = &broker.credentials {
        redis.log_in(credentials).await.context("cannot log in")?;
    }
    if let Some(database) = &broker.path {
        redis
            .ask(&["SELECT", database])
            .await
            .context("cannot select the database that the URL ends in")?;
    }
    Ok(redis)
}

async fn asked(
    redis: &mut Redis,
    command: &[&str],
) -> anyhow::Result<redis_protocol::resp2::types::BytesFrame> {
    match redis.ask(command).await {
        Err(refused) if refused.is("NOAUTH") => {
            bail!("it wants a password: give a URL with one, redis://:PASSWORD@host")
        }
        Err(refused) if refused.is("WRONGTYPE") => bail!("that key is no list, so no queue"),
        Err(NoAnswer::TooLarge) => {
            Err(NoAnswer::TooLarge).context("ask for fewer messages with -n")
        }
        Err(error) => Err(io::Error::other(error).into()),
        Ok(answer) => Ok(answer),
    }
}

fn read(text: &[u8], queue: &str) -> Waiting {
    match Envelope::read(text, BODY_BYTES_MAX) {
        Some(envelope) => Waiting {
            redelivered: envelope.redelivered,
            ..Waiting::read(&envelope.task, &envelope.carrier, queue, now())
        },
        None => Waiting::default(),
    }
}

/// What a protocol 1 body may unpack to.
const BODY_BYTES_MAX: usize = 16 << 20;
