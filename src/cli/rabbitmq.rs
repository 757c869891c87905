//! Connections to a RabbitMQ.

use std::sync::Arc;
use std::time::Duration;

use amqprs::connection::Connection;
use amqprs::connection::OpenConnectionArguments;
use amqprs::security::SecurityCredentials;
use amqprs::tls::TlsAdaptor;
use anyhow::Context;
use anyhow::anyhow;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::cli::Misused;
use crate::cli::broker::Credentials;
use crate::cli::dial::Tls;
use crate::cli::output::shown;

/// Where to log in, and as whom.
pub(super) struct Door<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) tls: Option<&'a Tls>,
    pub(super) credentials: &'a Credentials,
    pub(super) virtual_host: &'a str,
}

impl Door<'_> {
    /// Connects and logs in.
    pub(super) async fn open(&self) -> anyhow::Result<Connection> {
        fits("--upstream", "the virtual host", self.virtual_host)?;
        let user = self.credentials.user.as_deref().unwrap_or("guest");
        let password = &self.credentials.password;
        let mut arguments = OpenConnectionArguments::default();
        // What is connected to is this text with the port behind it.
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.to_owned(),
        };
        arguments
            .host(&host)
            .port(self.port)
            .virtual_host(self.virtual_host)
            .connection_name("tracehop")
            .credentials(SecurityCredentials::new_plain(user, password));
        if let Some(tls) = self.tls {
            let connector = TlsConnector::from(Arc::clone(&tls.config));
            let name = tls.name.to_str().into_owned();
            arguments.tls_adaptor(TlsAdaptor::new(connector, name));
        }
        // Of a refusal nothing but the end of the connection is told.
        in_time(Connection::open(&arguments))
            .await
            .context("cannot log in, with this user, password and virtual host")
    }
}

/// What the broker answers, unless that takes too long. Its refusals are told in its words.
pub(super) async fn in_time<T>(
    answer: impl Future<Output = Result<T, amqprs::error::Error>>,
) -> anyhow::Result<T> {
    timeout(ANSWER_TIME_MAX, answer)
        .await
        .with_context(|| format!("no answer within {ANSWER_TIME_MAX:?}"))?
        .map_err(|error| anyhow!("{}", shown(&error.to_string())))
}

/// AMQP has names of no more than 255 bytes.
pub(super) fn fits(flag: &'static str, what: &str, name: &str) -> Result<(), Misused> {
    match name.len() {
        ..=255 => Ok(()),
        length => Err(Misused {
            flag,
            fault: format!("{what} has {length} bytes"),
            remedy: "RabbitMQ has names of at most 255",
        }),
    }
}

const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
