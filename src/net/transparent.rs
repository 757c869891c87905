//! Connections that a firewall has sent here, and whom they were meant for.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::config::Route;
use crate::config::Upstream;

/// The broker that the app connected to. `None`: to us, so nobody has redirected it.
pub(super) fn meant(client: &TcpStream, route: &Route) -> Option<Upstream> {
    let local = canonical(client.local_addr().ok()?);
    let socket = SockRef::from(client);
    let original = match local {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    let original = canonical(original.ok()?.as_socket()?);
    (original != local).then(|| route.upstream_at(original))
}

/// An IPv4 address that a socket of IPv6 has is one of IPv4.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Where our own connections of transparent routes begin: a firewall that redirects them too
/// would have us connect to ourselves without end.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnConnections(Arc<Mutex<HashSet<SocketAddr>>>);

/// One of them, for as long as it lives.
#[derive(Debug)]
pub(super) struct Own {
    all: OwnConnections,
    address: SocketAddr,
}

impl OwnConnections {
    pub(super) fn note(&self, broker: &TcpStream) -> Option<Own> {
        let address = canonical(broker.local_addr().ok()?);
        self.addresses().insert(address);
        Some(Own {
            all: self.clone(),
            address,
        })
    }

    /// Whether a connection that comes from there is one of ours.
    pub(super) fn contain(&self, address: SocketAddr) -> bool {
        self.addresses().contains(&canonical(address))
    }

    fn addresses(&self) -> impl std::ops::DerefMut<Target = HashSet<SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.all.addresses().remove(&self.address);
    }
}
