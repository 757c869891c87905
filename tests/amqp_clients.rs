//! A client other than Celery's, amqprs, and a real RabbitMQ with the proxy between them.
//! Without a RabbitMQ on the machine there is nothing to be held; `tests/run.sh` installs it.

mod support;

use amqprs::Ack;
use amqprs::BasicProperties;
use amqprs::Cancel;
use amqprs::CloseChannel;
use amqprs::FieldTable;
use amqprs::FieldValue;
use amqprs::Nack;
use amqprs::Return;
use amqprs::callbacks::ChannelCallback;
use amqprs::channel::BasicAckArguments;
use amqprs::channel::BasicConsumeArguments;
use amqprs::channel::BasicPublishArguments;
use amqprs::channel::Channel;
use amqprs::channel::ConfirmSelectArguments;
use amqprs::channel::ConsumerMessage;
use amqprs::channel::QueueDeclareArguments;
use amqprs::connection::Connection;
use amqprs::connection::OpenConnectionArguments;
use amqprs::error::Error;
use async_trait::async_trait;
use tokio::sync::mpsc;

use support::TestProxy;
use support::patiently;
use support::rabbitmq::RabbitMq;
use support::until;

/// What the broker says of publications.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// All up to this one are confirmed where `multiple` is set.
    Confirmed(u64, bool),
    Refused(u64),
    Returned(u16, Vec<u8>),
}

struct Listener(mpsc::UnboundedSender<Said>);

#[async_trait]
impl ChannelCallback for Listener {
    async fn close(&mut self, _: &Channel, close: CloseChannel) -> Result<(), Error> {
        panic!("RabbitMQ closed the channel: {close}");
    }

    async fn cancel(&mut self, _: &Channel, cancel: Cancel) -> Result<(), Error> {
        panic!("RabbitMQ cancelled {}", cancel.consumer_tag());
    }

    async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool, Error> {
        Ok(active)
    }

    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        let _ = self
            .0
            .send(Said::Confirmed(ack.delivery_tag(), ack.mutiple()));
    }

    async fn publish_nack(&mut self, _: &Channel, nack: Nack) {
        let _ = self.0.send(Said::Refused(nack.delivery_tag()));
    }

    async fn publish_return(
        &mut self,
        _: &Channel,
        returned: Return,
        _: BasicProperties,
        content: Vec<u8>,
    ) {
        let _ = self.0.send(Said::Returned(returned.reply_code(), content));
    }
}

#[tokio::test]
async fn amqprs_publishes_and_consumes_through_the_proxy_with_confirms() {
    let Some(server) = RabbitMq::start().await else {
        eprintln!("skipped: rabbitmq-server is not installed");
        return;
    };
    let proxy = TestProxy::start_amqp(([127, 0, 0, 1], server.port).into());
    let arguments =
        OpenConnectionArguments::new("127.0.0.1", proxy.address.port(), "guest", "guest");
    let connection = Connection::open(&arguments).await.expect("it opens");
    let channel = connection.open_channel(None).await.expect("it opens");
    let (says, mut said) = mpsc::unbounded_channel();
    channel
        .register_callback(Listener(says))
        .await
        .expect("it is taken");
    channel
        .confirm_select(ConfirmSelectArguments::default())
        .await
        .expect("RabbitMQ has confirms");
    let declaration = QueueDeclareArguments::exclusive_server_named();
    let (queue, ..) = channel
        .queue_declare(declaration)
        .await
        .expect("it is declared")
        .expect("its name comes back");

    // Two messages between which the limit of one frame lies, a task's and another's.
    let foreign = BasicProperties::default()
        .with_headers(table(&[("tenant", "Zürich")]))
        .with_message_id("1")
        .finish();
    let task = BasicProperties::default()
        .with_content_type("application/json")
        .with_headers(table(&[("task", "add"), ("id", TASK_ID)]))
        .finish();
    let bodies = [vec![7; 300_000], b"[[1, 2], {}, {}]".to_vec(), Vec::new()];
    let messages = [foreign.clone(), task, foreign.clone()];
    for (properties, body) in messages.iter().zip(&bodies) {
        let route = BasicPublishArguments::new("", &queue);
        channel
            .basic_publish(properties.clone(), body.clone(), route)
            .await
            .expect("it is sent");
    }
    let mut confirmed = 0;
    while confirmed < 3 {
        match patiently(said.recv()).await.expect("the channel is open") {
            Said::Confirmed(tag, true) => confirmed = tag,
            Said::Confirmed(_, false) => confirmed += 1,
            other => panic!("{other:?}"),
        }
    }

    let consumption = BasicConsumeArguments::new(&queue, "consumer");
    let (_, mut deliveries) = channel
        .basic_consume_rx(consumption)
        .await
        .expect("it consumes");
    for (properties, body) in messages.iter().zip(&bodies) {
        let delivery: ConsumerMessage = patiently(deliveries.recv()).await.expect("it arrives");
        assert_eq!(delivery.content.as_ref(), Some(body));
        let received = delivery.basic_properties.expect("it has properties");
        let headers = received.headers().expect("it has headers");
        for (name, value) in properties
            .headers()
            .expect("it was sent with some")
            .as_ref()
        {
            assert_eq!(headers.get(name), Some(value), "{name}");
        }
        let is_task = properties.message_id().is_none();
        assert_eq!(headers.as_ref().len(), if is_task { 4 } else { 1 });
        if is_task {
            let Some(FieldValue::S(context)) = headers.get(&name("traceparent")) else {
                panic!("a long string, not {headers}");
            };
            let trace = TASK_ID.replace('-', "");
            assert!(
                context.as_ref().starts_with(&format!("00-{trace}-")),
                "{context}"
            );
        } else {
            assert_eq!(format!("{received:?}"), format!("{properties:?}"));
        }
        let tag = delivery.deliver.expect("it was delivered").delivery_tag();
        channel
            .basic_ack(BasicAckArguments::new(tag, false))
            .await
            .expect("it is acknowledged");
    }

    let route = BasicPublishArguments::new("", "no-such-queue")
        .mandatory(true)
        .finish();
    channel
        .basic_publish(foreign, b"back".to_vec(), route)
        .await
        .expect("it is sent");
    assert_eq!(
        patiently(said.recv()).await,
        Some(Said::Returned(312, b"back".to_vec()))
    );
    assert!(matches!(
        patiently(said.recv()).await,
        Some(Said::Confirmed(4, _))
    ));

    channel.close().await.expect("it is closed");
    connection.close().await.expect("it is closed");
    until(|| proxy.view.connections() == 0).await;
}

fn name(name: &str) -> amqprs::ShortStr {
    name.try_into().expect("it is short")
}

fn table(fields: &[(&str, &str)]) -> FieldTable {
    let mut table = FieldTable::new();
    for (key, value) in fields {
        let value = FieldValue::S((*value).try_into().expect("it is not that long"));
        table.insert(name(key), value);
    }
    table
}

const TASK_ID: &str = "01234567-89ab-4def-8123-456789abcdef";
