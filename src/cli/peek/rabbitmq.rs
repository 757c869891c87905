//! Messages in a queue of RabbitMQ, which shows none without handing it over.

use amqprs::BasicProperties;
use amqprs::FieldTable;
use amqprs::FieldValue;
use amqprs::channel::BasicGetArguments;
use amqprs::channel::BasicNackArguments;
use amqprs::channel::Channel;
use amqprs::channel::QueueDeclareArguments;
use amqprs::connection::Connection;
use anyhow::Context;

use crate::celery::HeaderValue;
use crate::celery::Headers;
use crate::celery::body::read_protocol1;
use crate::celery::foreign::Place;
use crate::cli::broker::Broker;
use crate::cli::broker::Credentials;
use crate::cli::peek::Peek;
use crate::cli::peek::Queue;
use crate::cli::peek::message::Waiting;
use crate::cli::rabbitmq::Door;
use crate::cli::rabbitmq::fits;
use crate::cli::rabbitmq::in_time;
use crate::telemetry::now;

/// Counts what waits and, where that is agreed to, takes messages and puts them back.
pub(super) async fn look(broker: &Broker, options: &Peek) -> anyhow::Result<Queue> {
    fits("QUEUE", "the name of the queue", &options.queue)?;
    let guest = Credentials {
        user: Some("guest".to_owned()),
        password: "guest".to_owned(),
    };
    let tls = options.tls(broker)?;
    let door = Door {
        host: &broker.host,
        port: broker.port,
        tls: tls.as_ref(),
        credentials: broker.credentials.as_ref().unwrap_or(&guest),
        virtual_host: broker.path.as_deref().unwrap_or("/"),
    };
    let connection = door.open().await?;
    let channel = in_time(connection.open_channel(None)).await?;
    let asked = QueueDeclareArguments::default()
        .queue(options.queue.clone())
        .passive(true)
        .finish();
    let declared = in_time(channel.queue_declare(asked))
        .await
        .context("there is no such queue, or it may not be looked at")?;
    let (_, waiting, consumers) = declared.unwrap_or_default();
    let mut queue = Queue {
        system: "rabbitmq",
        waiting: waiting.into(),
        consumers: Some(consumers),
        ..Queue::default()
    };
    if options.yes {
        // Whatever goes wrong: what was handed over is put back when the connection ends.
        queue.messages = take(&channel, options).await?;
    }
    close(connection, channel).await;
    Ok(queue)
}

/// Takes messages, all before one is put back: it would else be handed over again.
async fn take(channel: &Channel, options: &Peek) -> anyhow::Result<Vec<Waiting>> {
    let mut messages = Vec::new();
    let mut last = None;
    while messages.len() < options.count {
        let get = BasicGetArguments::new(&options.queue);
        let Some((get_ok, properties, body)) = in_time(channel.basic_get(get)).await? else {
            break;
        };
        last = Some(get_ok.delivery_tag());
        messages.push(Waiting {
            redelivered: get_ok.redelivered(),
            bytes: body.len(),
            ..read(&properties, &body, &options.queue)
        });
    }
    if let Some(tag) = last {
        in_time(channel.basic_nack(BasicNackArguments::new(tag, true, true))).await?;
    }
    Ok(messages)
}

async fn close(connection: Connection, channel: Channel) {
    // There is nothing left to be lost.
    let _ = in_time(channel.close()).await;
    let _ = in_time(connection.close()).await;
}

fn read(properties: &BasicProperties, body: &[u8], queue: &str) -> Waiting {
    let mut headers = Headers::default();
    for (name, value) in properties.headers().into_iter().flat_map(fields) {
        match (Place::within(name.as_bytes()), value) {
            (Some(place), FieldValue::F(nested)) => {
                for (name, value) in fields(nested) {
                    headers.take_within(place, name, header(value));
                }
            }
            _ => headers.take(name, header(value)),
        }
    }
    if !headers.names_a_task()
        && let Some(content_type) = properties.content_type()
        && let compression = headers.compression.as_deref()
        && let Ok(Some(task)) = read_protocol1(body, content_type, compression, BODY_BYTES_MAX)
    {
        headers.describe(task);
    }
    match headers.task() {
        Some(task) => Waiting::read(task, &headers.carrier, queue, now()),
        None => Waiting::default(),
    }
}

fn fields(table: &FieldTable) -> impl Iterator<Item = (&str, &FieldValue)> {
    let fields = table.as_ref().iter();
    fields.map(|(name, value)| (name.as_ref().as_str(), value))
}

fn header(value: &FieldValue) -> HeaderValue<'_> {
    match value {
        FieldValue::S(text) => HeaderValue::Text(text.as_ref().as_str().into()),
        FieldValue::t(truth) => HeaderValue::Truth(*truth),
        FieldValue::b(number) => HeaderValue::Integer((*number).into()),
        FieldValue::B(number) => HeaderValue::Integer((*number).into()),
        FieldValue::s(number) => HeaderValue::Integer((*number).into()),
        FieldValue::u(number) => HeaderValue::Integer((*number).into()),
        FieldValue::I(number) => HeaderValue::Integer((*number).into()),
        FieldValue::i(number) => HeaderValue::Integer((*number).into()),
        FieldValue::l(number) => HeaderValue::Integer(*number),
        FieldValue::f(number) => f64::from(*number).into(),
        FieldValue::d(number) => (*number).into(),
        FieldValue::V => HeaderValue::Null,
        FieldValue::D(_)
        | FieldValue::A(_)
        | FieldValue::T(_)
        | FieldValue::F(_)
        | FieldValue::x(_) => HeaderValue::Other,
    }
}

/// What a protocol 1 body may unpack to.
const BODY_BYTES_MAX: usize = 16 << 20;
