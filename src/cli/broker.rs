//! A broker that a command talks to itself, as a URL like Celery's names it.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::Host;
use url::Url;

use crate::cli::Misused;

/// Where a broker is, and who asks.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Broker {
    pub(super) kind: Kind,
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) credentials: Option<Credentials>,
    /// The database, or the virtual host.
    pub(super) path: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Redis,
    RabbitMq,
}

impl Kind {
    /// What the scheme of a URL stands for, and whether it asks for TLS.
    pub(super) fn of(scheme: &str) -> Option<(Self, bool)> {
        match scheme {
            "redis" => Some((Self::Redis, false)),
            "rediss" => Some((Self::Redis, true)),
            "amqp" | "pyamqp" => Some((Self::RabbitMq, false)),
            "amqps" => Some((Self::RabbitMq, true)),
            _ => None,
        }
    }
}

/// Not for printing.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    /// Redis can do without a name.
    pub(super) user: Option<String>,
    pub(super) password: String,
}

impl Broker {
    /// Reads what `flag` says. Of several, separated by `;`, each one.
    pub(super) fn read_all(flag: &'static str, text: &str) -> Result<Vec<Self>, Misused> {
        text.split(';').map(|url| read(flag, url.trim())).collect()
    }
}

fn read(flag: &'static str, text: &str) -> Result<Broker, Misused> {
    let wrong = |fault: &str| Misused {
        flag,
        fault: fault.to_owned(),
        remedy: EXAMPLE,
    };
    let url = Url::parse(text).map_err(|error| wrong(&format!("not a broker URL ({error})")))?;
    let (kind, tls) =
        Kind::of(url.scheme()).ok_or_else(|| wrong("not a kind of broker we know"))?;
    let default_port = match (kind, tls) {
        (Kind::Redis, _) => 6379,
        (Kind::RabbitMq, false) => 5672,
        (Kind::RabbitMq, true) => 5671,
    };
    if url.fragment().is_some() {
        return Err(wrong("a `#` in a password is written %23"));
    }
    let host = match url.host() {
        // Of these schemes the host is opaque: an address is not told from a name.
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(host) => host.to_string(),
        None => return Err(wrong("it names no host")),
    };
    let decoded = |text: &str| {
        let text = percent_decode_str(text).decode_utf8();
        text.map(|text| text.into_owned())
            .map_err(|_| wrong("what is written with % in it is no text"))
    };
    let user = match url.username() {
        "" => None,
        user => Some(decoded(user)?),
    };
    let password = url.password().map(decoded).transpose()?;
    let path = url.path().strip_prefix('/').filter(|path| !path.is_empty());
    Ok(Broker {
        kind,
        tls,
        host,
        port: url.port().unwrap_or(default_port),
        credentials: match (user, password) {
            (None, None) => None,
            // redis-py takes a lone name for a name without a password.
            (user, password) => Some(Credentials {
                user,
                password: password.unwrap_or_default(),
            }),
        },
        path: path.map(decoded).transpose()?,
    })
}

/// Without credentials.
impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.kind, self.tls) {
            (Kind::Redis, false) => "redis",
            (Kind::Redis, true) => "rediss",
            (Kind::RabbitMq, false) => "amqp",
            (Kind::RabbitMq, true) => "amqps",
        };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

const EXAMPLE: &str = "write for example redis://127.0.0.1:6379/0 or \
                       amqp://user:password@127.0.0.1:5672/vhost";

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(text: &str) -> Result<Broker, Misused> {
        Broker::read_all("--upstream", text).map(|mut brokers| brokers.remove(0))
    }

    #[test]
    fn urls_are_read_as_celery_users_write_them() {
        for (text, address, credentials, path) in [
            ("redis://redis", "redis://redis:6379", None, None),
            (
                "redis://:p%40ss@[::1]:6380/2",
                "redis://[::1]:6380",
                Some((None, "p@ss")),
                Some("2"),
            ),
            (
                "rediss://app:secret@redis/0?ssl_cert_reqs=none",
                "rediss://redis:6379",
                Some((Some("app"), "secret")),
                Some("0"),
            ),
            (
                "pyamqp://guest:guest@rabbit//",
                "amqp://rabbit:5672",
                Some((Some("guest"), "guest")),
                Some("/"),
            ),
            ("amqps://rabbit/%2F", "amqps://rabbit:5671", None, Some("/")),
        ] {
            let broker = read_one(text).unwrap();
            assert_eq!(broker.to_string(), address);
            let read = broker
                .credentials
                .as_ref()
                .map(|credentials| (credentials.user.as_deref(), credentials.password.as_str()));
            assert_eq!(read, credentials, "{text}");
            assert_eq!(broker.path.as_deref(), path, "{text}");
        }
        let several = Broker::read_all("--upstream", "redis://a; redis://b:1").unwrap();
        let several: Vec<String> = several.iter().map(ToString::to_string).collect();
        assert_eq!(several, ["redis://a:6379", "redis://b:1"]);
    }

    #[test]
    fn what_is_no_broker_url_is_refused_without_repeating_it() {
        for text in [
            "",
            "secret@redis",
            "redis://",
            "redis://u:secret",
            "redis://u:secret@host:port",
            "redis://u:sec#ret@host",
            "sqs://secret@host",
            "redis://u:secret%ff@host",
        ] {
            let fault = read_one(text).err().unwrap().to_string();
            assert!(fault.starts_with("--upstream: "), "{text}: {fault}");
            assert!(!fault.contains("secret"), "{text}: {fault}");
        }
    }
}
