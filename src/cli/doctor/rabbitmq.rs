//! Whether a RabbitMQ is fit to stand behind the proxy.

use std::io;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use crate::cli::dial::STEP_TIME_MAX;
use crate::cli::dial::Stream;
use crate::cli::dial::within;
use crate::cli::doctor::finding::Finding;
use crate::cli::output::shown;
use crate::cli::rabbitmq::Door;
use crate::protocol::amqp::Greeting;

/// Lets it introduce itself and, where there are credentials, logs in.
pub(super) async fn examine(stream: Stream, place: &str, door: Option<Door<'_>>) -> Vec<Finding> {
    let greeting = match within(STEP_TIME_MAX, greet(stream)).await {
        Ok(greeting) => greeting,
        Err(error) => {
            return vec![Finding::fail(
                format!("{place} does not speak AMQP 0-9-1: {error}"),
                "is it a RabbitMQ? a port with TLS is written amqps://",
            )];
        }
    };
    let Greeting {
        product,
        version,
        mechanisms,
        ..
    } = &greeting;
    let mut about = Finding::ok(format!(
        "{place} answers as {} {}",
        shown(product),
        shown(version)
    ))
    .figure("mechanisms", shown(mechanisms).replace(' ', " or "));
    let Some(door) = door else {
        return vec![about];
    };
    let refused = match door.open().await {
        Ok(connection) => {
            about = about
                .figure("frame_max", connection.frame_max())
                .figure("channel_max", connection.channel_max())
                .figure("heartbeat_s", connection.heartbeat());
            // It may go without a word: nothing was begun.
            let _ = connection.close().await;
            None
        }
        Err(error) => Some(Finding::fail(
            format!("{place}: {error:#}"),
            "check user, password and virtual host; without any this is not asked",
        )),
    };
    [Some(about), refused].into_iter().flatten().collect()
}

async fn greet(mut stream: Stream) -> io::Result<Greeting> {
    stream.write_all(Greeting::REQUEST).await?;
    let mut input = Vec::new();
    loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Err(io::Error::other("it closed the connection"));
        }
        if let Some(greeting) = Greeting::read(&input).map_err(io::Error::other)? {
            return Ok(greeting);
        }
    }
}
