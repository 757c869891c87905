//! Whether routes will work: their brokers, and the ports that they listen on.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::time::Instant;

use tokio::net::TcpStream;

use crate::cli::broker::Broker;
use crate::cli::broker::Kind;
use crate::cli::dial;
use crate::cli::dial::Stream;
use crate::cli::dial::Tls;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::finding::Report;
use crate::cli::doctor::finding::State;
use crate::cli::doctor::finding::millis;
use crate::cli::doctor::rabbitmq;
use crate::cli::doctor::redis;
use crate::cli::http::Http;
use crate::cli::rabbitmq::Door;
use crate::config::Mode;
use crate::config::Route;
use crate::config::Upstream;
use crate::net::TlsFailure;
use crate::telemetry::now;

/// Looks at every broker of a route. One that fails is no failure where another is well.
pub(super) async fn examine_brokers(
    route: &Route,
    mode: Mode,
    known: &[Broker],
    report: &mut Report,
) -> io::Result<()> {
    let mut found = Vec::new();
    for upstream in &route.upstream {
        found.push(examine_broker(route, mode, upstream, known).await);
    }
    let is_well =
        |findings: &Vec<Finding>| findings.iter().all(|finding| finding.state < State::Fail);
    let is_any_well = found.iter().any(is_well);
    let about = format!("route {}", route.name);
    for mut finding in found.into_iter().flatten() {
        if is_any_well && finding.state == State::Fail {
            finding.state = State::Warn;
        }
        report.tell(&about, finding)?;
    }
    Ok(())
}

async fn examine_broker(
    route: &Route,
    mode: Mode,
    upstream: &Upstream,
    known: &[Broker],
) -> Vec<Finding> {
    let Upstream { host, port, .. } = upstream;
    let name = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    let key = format!("routes.{}.upstream", route.name);
    let addresses = match dial::resolve(host, *port).await {
        Ok(addresses) => addresses,
        Err(error) => {
            return vec![Finding::fail(
                format!("{name}: the name cannot be resolved: {error}"),
                format!("correct {key}, or the name service of this machine"),
            )];
        }
    };
    let named = |address: SocketAddr| match address.to_string() == name {
        true => name.clone(),
        false => format!("{name} at {}", address.ip()),
    };
    let (mut reached, mut unreached) = (Vec::new(), Vec::new());
    for address in addresses {
        let place = named(address);
        let asked = Instant::now();
        let connected = dial::connect(address).await;
        let took = asked.elapsed();
        match connected {
            Ok(stream) => {
                let mut findings = examine_peer(stream, &place, route, mode, upstream, known).await;
                if let Some(first) = findings.first_mut() {
                    first.figures.push(("connect_ms", millis(took).into()));
                }
                reached.extend(findings);
            }
            Err(error) => unreached.push(Finding::fail(
                format!("{place} cannot be reached: {error}"),
                format!("start the broker, open the way to it, or correct {key}"),
            )),
        }
    }
    if !reached.is_empty() {
        // Of several addresses the next one is tried.
        for finding in &mut unreached {
            finding.state = State::Warn;
        }
    }
    reached.extend(unreached);
    reached
}

async fn examine_peer(
    stream: TcpStream,
    place: &str,
    route: &Route,
    mode: Mode,
    upstream: &Upstream,
    known: &[Broker],
) -> Vec<Finding> {
    let broker = known.iter().find(|broker| {
        broker.credentials.is_some()
            && broker.host == *upstream.host
            && broker.port == upstream.port
    });
    let credentials = broker.and_then(|broker| broker.credentials.as_ref());
    let tls = match upstream
        .is_tls()
        .then(|| Tls::new(&route.upstream_tls, &upstream.host))
    {
        None => None,
        Some(Ok(tls)) => Some(tls),
        Some(Err(fault)) => {
            let what = format!("no TLS with {place}: {fault}");
            return vec![Finding::fail(what, format!("correct route {}", route.name))];
        }
    };
    let stream: Stream = match &tls {
        None => Box::new(stream),
        Some(tls) => match dial::handshake(stream, tls).await {
            Ok(stream) => stream,
            Err(TlsFailure { wrong, remedy }) => {
                return vec![Finding::fail(
                    format!("no TLS with {place}: {wrong}"),
                    remedy,
                )];
            }
        },
    };
    let mut findings = if let Some((Kind::RabbitMq, _)) = Kind::of(upstream.scheme) {
        let virtual_host = broker.and_then(|broker| broker.path.as_deref());
        let door = credentials.map(|credentials| Door {
            host: &upstream.host,
            port: upstream.port,
            tls: tls.as_ref(),
            credentials,
            virtual_host: virtual_host.unwrap_or("/"),
        });
        rabbitmq::examine(stream, place, door).await
    } else {
        let passes_moving = !route.moving_address.is_removed(mode);
        redis::examine(stream, place, credentials, passes_moving).await
    };
    if let (Some(tls), Some(first)) = (tls, findings.first_mut()) {
        let name = tls.name.to_str().into_owned();
        first.figures.push(("tls_name", name.into()));
    }
    findings
}

/// The certificates that the route shows, to apps and to brokers.
pub(super) fn examine_certificates(route: &Route) -> Vec<Finding> {
    let to_apps = route.tls.as_ref().map(|tls| {
        let made = tls.make().map(|made| made.expires);
        ("tls_certificate", made)
    });
    let to_brokers = route.upstream_tls.identity.as_ref().map(|_| {
        let made = route.upstream_tls.make().map(|made| made.expires);
        ("upstream_certificate", made)
    });
    let mut findings = Vec::new();
    for (key, made) in [to_apps, to_brokers].into_iter().flatten() {
        match made {
            Ok(expires) => findings.extend(expires.map(|at| expiry(key, at))),
            Err(faults) => findings.extend(faults.into_iter().map(|fault| {
                Finding::fail(format!("`{}`: {}", fault.key, fault.wrong), fault.remedy)
            })),
        }
    }
    findings
}

fn expiry(key: &str, at: u64) -> Finding {
    let now = now().as_millis() / 1_000;
    let left = at.saturating_sub(now);
    let what = format!("the certificate of `{key}` can be used");
    let finding = match left {
        0 => Finding::fail(
            format!("the certificate of `{key}` has expired"),
            "renew it",
        ),
        1..=EXPIRY_NEAR_SECONDS => Finding::warn(what, "renew it soon"),
        _ => Finding::ok(what),
    };
    finding.figure("days_left", left / 86_400)
}

/// Whether this address can be listened on. `admin` is where a tracehop that has it already
/// would tell of itself.
pub(super) async fn examine_listener(
    key: &str,
    address: SocketAddr,
    admin: Option<SocketAddr>,
) -> Finding {
    let Err(error) = TcpListener::bind(address) else {
        return Finding::ok(format!("{address} can be listened on"));
    };
    if error.kind() == io::ErrorKind::AddrInUse
        && let Some(admin) = admin
        && let Some(at) = tracehop_at(admin).await
    {
        return Finding::ok(format!(
            "{address} is taken, and a tracehop answers at {at} already"
        ));
    }
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => format!("somebody else listens there: choose another {key}"),
        io::ErrorKind::PermissionDenied => {
            format!("choose a port above 1023 for {key}, or grant CAP_NET_BIND_SERVICE")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine has no such address: correct {key}")
        }
        _ => format!("correct {key}"),
    };
    Finding::fail(format!("{address} cannot be listened on: {error}"), remedy)
}

/// Where a tracehop tells that it lives.
async fn tracehop_at(admin: SocketAddr) -> Option<String> {
    let reachable = match admin.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let url = format!("http://{}", SocketAddr::new(reachable, admin.port()));
    let http = Http::new("admin.listen", &url, None).ok()?;
    let answer = http.open("/healthz", &[]).await.ok()?;
    answer.is_ok().then_some(url)
}

/// Two weeks.
const EXPIRY_NEAR_SECONDS: u64 = 14 * 86_400;
