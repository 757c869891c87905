//! Accepting apps.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::Domain;
use socket2::Protocol;
use socket2::SockRef;
use socket2::Socket;
use socket2::Type;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::config;
use crate::config::Limits;
use crate::net::certificates::BadFiles;
use crate::net::connection::Accepted;
use crate::net::connection::Open;
use crate::net::connection::Route;
use crate::net::connection::Shared;
use crate::net::silence;

/// The listening socket of one route.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    /// Copied to take a file descriptor, and nothing else.
    spare: Arc<Socket>,
    address: SocketAddr,
    route: Arc<Route>,
}

/// A listen address cannot be had, or what is to be listened with.
#[derive(Debug, thiserror::Error)]
#[error("route {route}: cannot listen on {address}: {cause}{}", Remedy(.cause))]
pub struct BindError {
    pub route: Arc<str>,
    pub address: SocketAddr,
    pub cause: io::Error,
}

impl BindError {
    pub(super) fn of_files(route: &config::Route, error: BadFiles) -> Self {
        Self {
            route: Arc::clone(&route.name),
            address: route.listen,
            cause: io::Error::other(error),
        }
    }
}

impl Listener {
    /// Listens on the route's address. From here on the kernel takes connections.
    pub(super) fn bind(route: Arc<Route>) -> Result<Self, BindError> {
        let listen = || {
            let socket = listen(route.listen)?;
            let spare = Socket::new(Domain::for_address(route.listen), Type::STREAM, None)?;
            Ok((socket.local_addr()?, socket, spare))
        };
        match listen() {
            Ok((address, socket, spare)) => Ok(Self {
                socket,
                spare: Arc::new(spare),
                address,
                route,
            }),
            Err(cause) => Err(BindError {
                route: Arc::clone(&route.name),
                address: route.listen,
                cause,
            }),
        }
    }

    pub(super) fn its_route(&self) -> Arc<Route> {
        Arc::clone(&self.route)
    }

    pub(super) fn route(&self) -> &str {
        &self.route.name
    }

    pub(super) fn config(&self) -> &config::Route {
        &self.route.config
    }

    /// The address in fact: the port is never 0.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections until the drain begins. Nothing else ends it.
    pub(super) async fn accept(self, shared: Arc<Shared>) {
        let signal = shared.drain.signal();
        loop {
            let accepted = tokio::select! {
                biased;
                () = signal.closed() => return,
                accepted = self.accept_one() => accepted,
            };
            let pause = match accepted {
                Ok((client, address, reserved)) => {
                    self.admit(client, address, reserved, &shared);
                    continue;
                }
                Err(error) => self.complain(&error),
            };
            if pause {
                tokio::select! {
                    biased;
                    () = signal.closed() => return,
                    () = sleep(PAUSE) => {}
                }
            }
        }
    }

    /// Accepts an app once there is a file descriptor for its broker, too. Until then it waits
    /// in the backlog; accepted, it would have to be reset.
    async fn accept_one(&self) -> io::Result<(TcpStream, SocketAddr, Reserved)> {
        let reserved = Reserved(self.spare.try_clone()?);
        let (client, address) = self.socket.accept().await?;
        Ok((client, address, reserved))
    }

    /// Gives a connection a task of its own, or refuses it when there are too many.
    fn admit(
        &self,
        client: TcpStream,
        address: SocketAddr,
        reserved: Reserved,
        shared: &Arc<Shared>,
    ) {
        let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else {
            reset(client);
            if let Some(suppressed) = self.route.failed("connections_max") {
                tracing::warn!(
                    route = self.route(),
                    client = %address,
                    suppressed,
                    "connection refused: there are as many as limits.connections_max allows"
                );
            }
            return;
        };
        tune(&client, &shared.limits);
        let accepted = Accepted {
            client,
            address,
            reserved,
            open: Open::new(Arc::clone(&self.route), place),
            shared: Arc::clone(shared),
        };
        shared.drain.spawn(accepted.open());
    }

    /// Tells of a failed accept, and says whether to pause before the next one.
    fn complain(&self, error: &io::Error) -> bool {
        let (why, pause) = match Refusal::of(error) {
            Refusal::Connection => ("accept", false),
            Refusal::Descriptors => ("no_descriptors", true),
            Refusal::System => ("accept", true),
        };
        if let Some(suppressed) = self.route.failed(why) {
            tracing::warn!(
                route = self.route(),
                listen = %self.address,
                %error,
                suppressed,
                "a connection could not be accepted"
            );
        }
        pause
    }
}

/// A file descriptor that nobody else can have until this is dropped.
#[derive(Debug)]
pub(super) struct Reserved(#[expect(dead_code, reason = "it is held, not used")] Socket);

/// Whose fault it is that an accept failed.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// This connection's own: it went away before it was accepted. The next may be fine.
    Connection,
    /// No file descriptor is left. The connection waits in the backlog until one is.
    Descriptors,
    /// Something else of the system's. The next accept may fail alike, so not at once.
    System,
}

impl Refusal {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted => Self::Connection,
            _ if is_out_of_descriptors(error) => Self::Descriptors,
            _ => Self::System,
        }
    }
}

/// Whether this process (EMFILE) or the whole system (ENFILE) has no file descriptor left.
pub(super) fn is_out_of_descriptors(error: &io::Error) -> bool {
    // The same numbers on Linux, macOS and the BSDs; the standard library has no stable kind.
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A proxy that is restarted shall not wait for the connections of its predecessor.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Sends small writes at once, finds out about a peer that is gone without a word, and bounds
/// what the kernel keeps for one that does not read.
pub(super) fn tune(stream: &TcpStream, limits: &Limits) {
    let socket = SockRef::from(stream);
    // They fail only on a connection that is dead already, and then the first read tells.
    let _ = stream.set_nodelay(true);
    let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
    silence::keep_alive(stream, limits.peer_silent_max);
}

/// Closes a connection so that the peer sees a reset, not an orderly end.
pub(super) fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
}

/// What can be done about a failed bind.
struct Remedy<'a>(&'a io::Error);

impl fmt::Display for Remedy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.kind() {
            io::ErrorKind::AddrInUse => {
                ": stop the process that listens there, or choose another address"
            }
            io::ErrorKind::PermissionDenied => {
                ": choose a port above 1023, or grant CAP_NET_BIND_SERVICE"
            }
            io::ErrorKind::AddrNotAvailable => {
                ": this machine has no such address; 0.0.0.0 stands for all it has"
            }
            _ => "",
        })
    }
}

/// What the kernel takes for a peer whose window is full. By itself it would take megabytes, for
/// each connection to a broker that has stopped.
const UNSENT_BYTES_MAX: u32 = 128 << 10;

/// How many connections may wait to be accepted. The kernel lowers it to its own limit.
const BACKLOG: i32 = 4096;

/// How long accepting rests when the system has nothing to accept with.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_connection_of_its_own_fault_is_followed_by_the_next_at_once() {
        let cases = [
            (103, Refusal::Connection), // ECONNABORTED
            (104, Refusal::Connection), // ECONNRESET
            (4, Refusal::Connection),   // EINTR
            (24, Refusal::Descriptors), // EMFILE
            (23, Refusal::Descriptors), // ENFILE
            (105, Refusal::System),     // ENOBUFS
            (12, Refusal::System),      // ENOMEM
            (1, Refusal::System),       // EPERM, by a firewall
            (22, Refusal::System),      // EINVAL
        ];
        for (number, refusal) in cases {
            let error = io::Error::from_raw_os_error(number);
            assert_eq!(Refusal::of(&error), refusal, "{error}");
        }
    }
}
