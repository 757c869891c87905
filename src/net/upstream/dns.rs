//! Asking for the addresses of a name, as the files of the system say where.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use hickory_resolver::Hosts;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::config::NameServerConfig;
use hickory_resolver::config::ResolveHosts;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::system_conf::parse_resolv_conf;
use tokio::time::timeout;

/// Which files say where names are looked up. Nobody but tests has a reason to change them.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    pub resolv_conf: PathBuf,
    pub hosts: PathBuf,
    pub server_port: u16,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            server_port: 53,
        }
    }
}

/// The addresses of a host, once. A route keeps [`Names`](super::names::Names) instead.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses = match host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => Dns::read(&DnsConfig::default())?.look_up(host).await?,
    };
    let with_port = addresses
        .into_iter()
        .map(|address| SocketAddr::new(address, port));
    Ok(with_port.collect())
}

/// A resolver made of the files as they were.
#[derive(Clone, Debug)]
pub(super) struct Dns {
    resolver: TokioResolver,
    /// The same without the hosts file.
    servers_only: TokioResolver,
    versions: [Option<Version>; 2],
}

/// Tells one version of a file from the next.
type Version = (SystemTime, u64);

/// Why a name has no address.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum NoAddress {
    #[error("the name has no address")]
    Known,
    #[error("name lookup failed: {0}")]
    Unknown(Arc<str>),
}

impl From<NoAddress> for io::Error {
    fn from(error: NoAddress) -> Self {
        let kind = match error {
            NoAddress::Known => io::ErrorKind::NotFound,
            NoAddress::Unknown(_) => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl Dns {
    pub(super) fn read(config: &DnsConfig) -> io::Result<Self> {
        let versions = versions(config);
        let text = fs::read(&config.resolv_conf).unwrap_or_default();
        // Without a name server the one on this machine is meant: resolv.conf(5).
        let (found, mut options) = parse_resolv_conf(&text)
            .or_else(|_| parse_resolv_conf([&text[..], b"\nnameserver 127.0.0.1\n"].concat()))
            .map_err(io::Error::other)?;
        let servers = found
            .name_servers
            .into_iter()
            .take(SERVERS_MAX)
            .map(|mut server| {
                for connection in &mut server.connections {
                    connection.port = config.server_port;
                }
                server
            });
        let servers: Vec<NameServerConfig> = servers.collect();
        // All at once, as musl does, for the next one's turn may come too late.
        options.num_concurrent_reqs = servers.len();
        options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
        // The names remember, and answers come in a new order each time.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        // `search` says it all; a domain beside it would be the host's own.
        let found = ResolverConfig::from_parts(None, found.search, servers);
        let provider = TokioRuntimeProvider::default();
        let servers_only = TokioResolver::builder_with_config(found, provider)
            .with_options(options)
            .build()
            .map_err(io::Error::other)?;
        let mut resolver = servers_only.clone();
        resolver.set_hosts(Arc::new(read_hosts(&config.hosts)));
        Ok(Self {
            resolver,
            servers_only,
            versions,
        })
    }

    /// Whether the files are as they were when this was read.
    pub(super) fn is_current(&self, config: &DnsConfig) -> bool {
        self.versions == versions(config)
    }

    /// All addresses, in the order of the answer; at least one. As with `getaddrinfo`, a name
    /// that ends with a dot is not looked for in the hosts file.
    pub(super) async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, NoAddress> {
        let unknown = |error: NetError| match error.is_no_records_found() {
            true => NoAddress::Known,
            false => NoAddress::Unknown(error.to_string().into()),
        };
        let resolver = match host.ends_with('.') {
            true => &self.servers_only,
            false => &self.resolver,
        };
        let name = Name::from_ascii(host)
            .or_else(|_| Name::from_utf8(host))
            .map_err(|error| NoAddress::Unknown(error.to_string().into()))?;
        let answer = timeout(LOOKUP_TIME_MAX, resolver.lookup_ip(name)).await;
        let answer = answer.unwrap_or(Err(NetError::Timeout)).map_err(unknown)?;
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in answer.iter() {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        match addresses.is_empty() {
            true => Err(NoAddress::Known),
            false => Ok(addresses),
        }
    }
}

fn versions(config: &DnsConfig) -> [Option<Version>; 2] {
    [&config.resolv_conf, &config.hosts].map(|path| {
        let file = fs::metadata(path).ok()?;
        Some((file.modified().ok()?, file.len()))
    })
}

fn read_hosts(path: &Path) -> Hosts {
    let mut hosts = Hosts::default();
    if let Ok(text) = fs::read(path) {
        // What is no UTF-8 may stand in a comment, and only ends the reading.
        let _ = hosts.read_hosts_conf(&*text);
    }
    hosts
}

/// As many as resolv.conf(5) knows.
const SERVERS_MAX: usize = 3;

/// Nobody waits that long, but the answer is kept for those who come then.
pub(super) const LOOKUP_TIME_MAX: Duration = Duration::from_secs(10);
