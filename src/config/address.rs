//! Addresses: where the proxy listens, and broker URLs as Celery users write them.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

use crate::config::Upstream;
use crate::config::spelling::Fault;
use crate::config::spelling::Spelling;

/// An IP address and a port. `localhost` stands for `127.0.0.1`, nothing for every address.
pub(super) enum Listen {}

impl Spelling for Listen {
    type Value = SocketAddr;
    const NONE: &'static str = "off";

    fn read(text: &str) -> Result<SocketAddr, Fault> {
        let numeric = match text.rsplit_once(':') {
            Some(("", port)) => format!("{}:{port}", Ipv4Addr::UNSPECIFIED),
            Some(("localhost", port)) => format!("{}:{port}", Ipv4Addr::LOCALHOST),
            _ => text.to_owned(),
        };
        numeric.parse().map_err(|_| {
            Fault::new(
                "not an IP address and a port",
                "write for example \"127.0.0.1:6380\", or \"0.0.0.0:6380\" for every interface; \
                 port 0 takes any free one",
            )
        })
    }

    fn write(value: &SocketAddr) -> String {
        value.to_string()
    }
}

/// Broker URLs, separated by `;`. Credentials and database are the app's business: they
/// pass through the proxy and are not kept here.
pub(super) enum Upstreams {}

impl Spelling for Upstreams {
    type Value = Vec<Upstream>;

    /// Nothing stands for none, which only a transparent route may have.
    fn read(text: &str) -> Result<Vec<Upstream>, Fault> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        text.split(';').map(|url| read_url(url.trim())).collect()
    }

    fn write(value: &Vec<Upstream>) -> String {
        let urls: Vec<String> = value.iter().map(write_url).collect();
        urls.join(";")
    }
}

/// `scheme://[user:password@]host[:port][/database]`.
fn read_url(url: &str) -> Result<Upstream, Fault> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(Fault::new("not a broker URL", EXAMPLE));
    };
    let known = SCHEMES.iter().find(|(known, _)| *known == scheme);
    let Some((scheme, default_port)) = known else {
        let refused = REFUSED.iter().find(|(refused, ..)| *refused == scheme);
        let (_, wrong, remedy) = refused.unwrap_or(&("", "not a kind of broker we know", EXAMPLE));
        return Err(Fault::new(*wrong, *remedy));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let address = match authority.rsplit_once('@') {
        Some((_, address)) => address,
        None if rest.contains('@') => {
            return Err(Fault::new(
                "the password is not spelled as a URL needs it",
                "leave user and password out, the proxy needs none; \
                 in a URL `/`, `?` and `#` are written %2F, %3F and %23",
            ));
        }
        None => authority,
    };
    if let Some((parameter, key)) = tls_parameter(rest) {
        return Err(Fault::new(
            format!("`{parameter}` in a URL is for the app's client alone"),
            format!("leave it out, and set `{key}` of the route"),
        ));
    }
    let (host, port) = split_port(address).ok_or_else(|| Fault::new("no such host", EXAMPLE))?;
    let port = if port.is_empty() { default_port } else { port };
    match port.parse() {
        Ok(port @ 1..) => Ok(Upstream {
            scheme,
            host: host.into(),
            port,
        }),
        _ => Err(Fault::new("no such port", "write a port from 1 to 65535")),
    }
}

/// The first parameter about TLS in the query of a URL, with the key that stands for it.
fn tls_parameter(url: &str) -> Option<(&'static str, &'static str)> {
    let (_, query) = url.rsplit_once('?')?;
    let mut names = query.split('&').filter_map(|it| it.split('=').next());
    names.find_map(|name| {
        let mut known = TLS_PARAMETERS.into_iter();
        known.find(|(parameter, _)| *parameter == name)
    })
}

/// Whether URLs of this kind ask for TLS.
pub(super) fn is_tls(scheme: &str) -> bool {
    TLS_SCHEMES.contains(&scheme)
}

fn write_url(upstream: &Upstream) -> String {
    let Upstream { scheme, host, port } = upstream;
    if host.contains(':') {
        format!("{scheme}://[{host}]:{port}")
    } else {
        format!("{scheme}://{host}:{port}")
    }
}

/// A host, which may be an IPv6 address in brackets, and its port, empty where it has none.
fn split_port(address: &str) -> Option<(&str, &str)> {
    match address.strip_prefix('[') {
        Some(address) => {
            let (host, port) = address.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            let port = match port {
                "" => port,
                port => port.strip_prefix(':')?,
            };
            Some((host, port))
        }
        None => {
            let (host, port) = address.split_once(':').unwrap_or((address, ""));
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            (!host.is_empty() && host.bytes().all(legal)).then_some((host, port))
        }
    }
}

/// Whether what is bound to `a` leaves no room for `b`. Port 0 is a free one each time.
pub(super) fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    // An IPv6 listener on every address takes those of IPv4 too.
    let covers =
        |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    let (ip_a, ip_b) = (a.ip(), b.ip());
    a.port() != 0
        && a.port() == b.port()
        && (ip_a == ip_b || covers(ip_a, ip_b) || covers(ip_b, ip_a))
}

/// Whether a connection to `upstream` would arrive at `listen`, as far as can be told
/// without asking a name server.
pub(super) fn leads_back(listen: SocketAddr, upstream: &Upstream) -> bool {
    let host = match &*upstream.host {
        "localhost" => Ok(IpAddr::from(Ipv4Addr::LOCALHOST)),
        host => host.parse(),
    };
    let Ok(ip) = host else {
        return false;
    };
    // Of the addresses of all interfaces, only loopback is surely one of this machine.
    let reachable = listen.ip() == ip || (listen.ip().is_unspecified() && ip.is_loopback());
    reachable && clash(listen, SocketAddr::new(ip, upstream.port))
}

/// The kinds of broker URLs, each with the port that stands for none.
const SCHEMES: [(&str, &str); 5] = [
    ("redis", "6379"),
    ("rediss", "6379"),
    ("amqp", "5672"),
    ("amqps", "5671"),
    ("pyamqp", "5672"),
];

/// The kinds of which TLS is spoken.
const TLS_SCHEMES: [&str; 2] = ["rediss", "amqps"];

/// What clients take from the query of a URL, each with the key that stands for it here.
const TLS_PARAMETERS: [(&str, &str); 13] = [
    ("ssl_cert_reqs", "upstream_verify"),
    ("ssl_check_hostname", "upstream_verify"),
    ("ssl_ca_certs", "upstream_ca"),
    ("ssl_ca_path", "upstream_ca"),
    ("ssl_ca_data", "upstream_ca"),
    ("ssl_certfile", "upstream_certificate"),
    ("ssl_keyfile", "upstream_key"),
    ("ssl_password", "upstream_key"),
    ("cacertfile", "upstream_ca"),
    ("certfile", "upstream_certificate"),
    ("keyfile", "upstream_key"),
    ("verify", "upstream_verify"),
    ("server_name_indication", "upstream_server_name"),
];

const EXAMPLE: &str = "write for example \"redis://127.0.0.1:6379\" or \
                       \"amqp://127.0.0.1:5672\", several separated by `;`";

const REFUSED: [(&str, &str, &str); 3] = [
    (
        "sentinel",
        "Redis Sentinel is not supported by this version",
        "write the address of the master itself, as redis://host:port",
    ),
    ("redis+socket", NO_SOCKET, SOCKET_REMEDY),
    ("unix", NO_SOCKET, SOCKET_REMEDY),
];

const NO_SOCKET: &str = "Unix sockets are not supported by this version";
const SOCKET_REMEDY: &str = "let the broker listen on a TCP port and write redis://host:port";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on_may_be_short() {
        for (text, address) in [
            ("127.0.0.1:6380", "127.0.0.1:6380"),
            (":6380", "0.0.0.0:6380"),
            ("localhost:0", "127.0.0.1:0"),
            ("[::]:6380", "[::]:6380"),
        ] {
            assert_eq!(Listen::read(text), Ok(address.parse().unwrap()));
        }
        for text in ["", "6380", "127.0.0.1", "redis:6380", "127.0.0.1:65536"] {
            assert!(Listen::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn broker_urls_are_read_as_celery_users_write_them() {
        for (text, hosts) in [
            ("redis://redis", "redis:6379"),
            ("redis://127.0.0.1:6380/0", "127.0.0.1:6380"),
            ("redis://user:p%40ss@redis.prod_1:1//", "redis.prod_1:1"),
            ("redis://:p@ss@redis/1?socket_timeout=5", "redis:6379"),
            ("redis://[::1]", "::1:6379"),
            ("redis://:secret@[fe80::1]:6380/2", "fe80::1:6380"),
            ("redis://a:1; redis://b:2/3", "a:1 b:2"),
            ("amqp://guest:guest@rabbit//", "rabbit:5672"),
            ("pyamqp://a;amqp://b:5673/vhost", "a:5672 b:5673"),
            ("rediss://:secret@redis/0", "redis:6379"),
            ("amqps://a;amqps://b:5673/", "a:5671 b:5673"),
        ] {
            let upstreams = Upstreams::read(text).unwrap();
            let read: Vec<String> = upstreams
                .iter()
                .map(|upstream| format!("{}:{}", upstream.host, upstream.port))
                .collect();
            assert_eq!(read.join(" "), hosts, "{text}");
            let written = Upstreams::write(&upstreams);
            assert_eq!(Upstreams::read(&written), Ok(upstreams));
        }
    }

    #[test]
    fn what_is_no_broker_url_is_refused_without_repeating_it() {
        for (text, wrong) in [
            ("secret@redis:6379", "not a broker URL"),
            ("redis://", "no such host"),
            ("redis:///0", "no such host"),
            ("redis://:secret@/0", "no such host"),
            ("redis://[secret]", "no such host"),
            ("redis://[::1]6379", "no such host"),
            ("redis://rèdis", "no such host"),
            ("redis://:secret", "no such host"),
            ("redis://user:secret", "no such port"),
            ("redis://redis:0", "no such port"),
            ("redis://redis:65536", "no such port"),
            ("redis://:sec/ret@redis", "the password is not spelled"),
            ("redis://a;", "not a broker URL"),
            ("sentinel://redis", "Sentinel"),
            ("rediss://redis?a=b&ssl_ca_certs=secret", "`ssl_ca_certs`"),
            ("amqps://guest@rabbit//?verify=verify_none", "`verify`"),
            ("redis+socket:///run/redis.sock", "Unix sockets"),
            ("sqs://", "not a kind of broker"),
        ] {
            let fault = Upstreams::read(text).unwrap_err();
            assert!(fault.wrong.contains(wrong), "{text}: {fault:?}");
            assert!(!format!("{fault:?}").contains("secret"), "{fault:?}");
        }
    }

    #[test]
    fn every_scheme_of_a_protocol_is_read() {
        use crate::config::Protocol;

        for (_, _, schemes) in Protocol::ALL {
            for scheme in schemes {
                assert!(Upstreams::read(&format!("{scheme}://host")).is_ok());
            }
        }
    }

    #[test]
    fn listeners_clash_on_one_port_of_one_address() {
        for (a, b, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
        ] {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!((clash(a, b), clash(b, a)), (expected, expected), "{a} {b}");
        }
    }

    #[test]
    fn a_route_to_itself_is_told() {
        for (listen, upstream, expected) in [
            ("127.0.0.1:6379", "redis://127.0.0.1", true),
            ("127.0.0.1:6379", "redis://localhost", true),
            ("0.0.0.0:6379", "redis://localhost", true),
            ("10.0.0.1:6379", "redis://10.0.0.1", true),
            ("0.0.0.0:6379", "redis://10.0.0.1", false),
            ("127.0.0.1:6380", "redis://127.0.0.1", false),
            ("127.0.0.1:6379", "redis://redis", false),
        ] {
            let upstream = &Upstreams::read(upstream).unwrap()[0];
            let listen = listen.parse().unwrap();
            assert_eq!(leads_back(listen, upstream), expected, "{listen}");
        }
    }
}
