//! Peers that are gone without a word: their machine has stopped, or the way to it.
//!
//! While nothing is on its way the kernel's keepalive finds out. While something is, the kernel
//! only has `TCP_USER_TIMEOUT`, which also ends connections to peers that are there and do not
//! read: a worker that is busy, a broker that is paused. So we ask it for what it knows.

use std::io;
use std::io::Read;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use socket2::Domain;
use socket2::SockRef;
use socket2::Socket;
use socket2::TcpKeepalive;
use socket2::Type;
use tokio::net::TcpStream;

use crate::net::transparent::canonical;

/// Has the kernel find out about a peer that is silent while nothing is on its way to it.
pub(super) fn keep_alive(stream: &TcpStream, silent_max: Duration) {
    let time = (silent_max / 2).max(SECOND);
    let interval = (silent_max / 8).max(SECOND);
    let probes = (silent_max.saturating_sub(time).as_secs() / interval.as_secs()).max(1);
    let keepalive = TcpKeepalive::new()
        .with_time(time)
        .with_interval(interval)
        .with_retries(u32::try_from(probes).unwrap_or(u32::MAX));
    // Fails only on a connection that is dead already, and then the first read tells.
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// Whether a connection has failed for want of any answer.
pub(super) fn is_silence(error: &io::Error) -> bool {
    use io::ErrorKind::HostUnreachable;
    use io::ErrorKind::NetworkUnreachable;
    use io::ErrorKind::TimedOut;
    matches!(
        error.kind(),
        TimedOut | HostUnreachable | NetworkUnreachable
    )
}

/// How long a peer has acknowledged nothing of what was sent to it.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// Something was sent of which nobody knows whether it has arrived.
    in_flight: bool,
    since: Option<Instant>,
}

impl Silence {
    /// Something was sent.
    pub(super) const fn sent(&mut self) {
        self.in_flight = true;
    }

    /// Asks the kernel, if there is anything to ask about, whether the peer has been silent for
    /// `silent_max`.
    pub(super) fn exceeds(&mut self, silent_max: Duration, stream: &TcpStream) -> bool {
        if !self.in_flight {
            return false;
        }
        let last_word = match ask(stream) {
            Ok(Sent::Unanswered { last_word }) => last_word,
            Ok(Sent::OnItsWay) => {
                self.since = None;
                return false;
            }
            Ok(Sent::Arrived) => {
                *self = Self::default();
                return false;
            }
            Err(_) => {
                // It does not tell everywhere. Then it may decide by itself.
                let _ = SockRef::from(stream).set_tcp_user_timeout(Some(silent_max));
                *self = Self::default();
                return false;
            }
        };
        // The last word may be older than what was sent.
        let now = Instant::now();
        let since = self.since.get_or_insert(now);
        if let Some(heard) = now.checked_sub(last_word) {
            *since = heard.max(*since);
        }
        now.duration_since(*since) >= silent_max
    }
}

/// What became of all that was sent on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Arrived,
    /// Or it waits for room at the peer, which says so whenever it is asked.
    OnItsWay,
    /// It was sent again, or the peer was asked for room, and there was no answer. The last one was
    /// so long ago.
    Unanswered {
        last_word: Duration,
    },
}

fn ask(stream: &TcpStream) -> io::Result<Sent> {
    let request = request(stream.local_addr()?, stream.peer_addr()?);
    let kernel = Socket::new(Domain::from(NETLINK), Type::DGRAM, Some(SOCK_DIAG.into()))?;
    kernel.set_nonblocking(true)?;
    kernel.send(&request)?;
    let mut answer = [0; 1024];
    let length = (&kernel).read(&mut answer)?;
    let answer = answer.get(..length).unwrap_or_default();
    read(answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Asks for one socket, and what `TCP_INFO` says of it: `inet_diag_req_v2` behind `nlmsghdr`.
fn request(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let (local, remote) = (canonical(local), canonical(remote));
    let mut message = Vec::with_capacity(REQUEST_BYTES);
    message.extend((REQUEST_BYTES as u32).to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend([0; 8]);

    let family = if local.is_ipv4() { INET } else { INET6 };
    message.extend([family, TCP, 1 << (INET_DIAG_INFO - 1), 0]);
    message.extend(u32::MAX.to_ne_bytes());
    message.extend(local.port().to_be_bytes());
    message.extend(remote.port().to_be_bytes());
    for address in [local, remote] {
        match address.ip() {
            IpAddr::V4(ip) => message.extend(ip.octets().iter().chain(&[0; 12])),
            IpAddr::V6(ip) => message.extend(ip.octets()),
        }
    }
    message.extend([0; 4]);
    message.extend([u8::MAX; 8]);
    message
}

/// Reads an `inet_diag_msg`. `None`: it is something else.
fn read(answer: &[u8]) -> Option<Sent> {
    if u16_at(answer, 4)? != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    if u32_at(answer, UNACKNOWLEDGED_AT)? == 0 {
        return Some(Sent::Arrived);
    }
    if *answer.get(UNANSWERED_AT)? == 0 {
        return Some(Sent::OnItsWay);
    }
    let mut attributes = answer.get(ATTRIBUTES_AT..)?;
    loop {
        let length = usize::from(u16_at(attributes, 0)?).max(4);
        if u16_at(attributes, 2)? == INET_DIAG_INFO {
            let last_word = u32_at(attributes, 4 + LAST_ACK_RECV_AT)?;
            return Some(Sent::Unanswered {
                last_word: Duration::from_millis(last_word.into()),
            });
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

const SECOND: Duration = Duration::from_secs(1);

// Linux' numbers, from linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h.
const NETLINK: i32 = 16;
const SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST: u16 = 1;
const INET: u8 = 2;
const INET6: u8 = 10;
const TCP: u8 = 6;
const INET_DIAG_INFO: u16 = 2;

/// `nlmsghdr` and `inet_diag_req_v2`.
const REQUEST_BYTES: usize = 16 + 56;

/// `nlmsghdr` and, in `inet_diag_msg`, `idiag_retrans`: how often in vain.
const UNANSWERED_AT: usize = 16 + 3;

/// `nlmsghdr` and, in `inet_diag_msg`, `idiag_wqueue`.
const UNACKNOWLEDGED_AT: usize = 16 + 60;

/// `nlmsghdr` and `inet_diag_msg`.
const ATTRIBUTES_AT: usize = 16 + 72;

/// `tcpi_last_ack_recv` in `tcp_info`.
const LAST_ACK_RECV_AT: usize = 56;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_is_acknowledged_is_told_apart_from_what_nobody_takes() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address).await else {
                continue;
            };
            let at = listener.local_addr().unwrap();
            let at = match address {
                "[::]:0" => SocketAddr::from(([127, 0, 0, 1], at.port())),
                _ => at,
            };
            let connected = TcpStream::connect(at).await.unwrap();
            let (mut accepted, _) = listener.accept().await.unwrap();
            let mut reader = connected;
            accepted.write_all(b"hello").await.unwrap();
            reader.read_exact(&mut [0; 5]).await.unwrap();
            assert_eq!(ask(&accepted).unwrap(), Sent::Arrived, "{address}");

            // More than all buffers take.
            while accepted.try_write(&[0; 1 << 16]).is_ok() {}
            assert_ne!(ask(&accepted).unwrap(), Sent::Arrived, "{address}");
        }
    }
}
