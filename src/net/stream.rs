//! A connection, with or without TLS.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::task::ready;

use socket2::SockRef;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// One of two kinds and not a trait object, so that without TLS nothing is added to a read or
/// write but a look at which one it is.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Has the thread that this is called on told of its events from now on.
    pub(super) fn adopt(self) -> io::Result<Self> {
        match self {
            Self::Plain(tcp) => Ok(Self::Plain(TcpStream::from_std(tcp.into_std()?)?)),
            Self::Tls(mut tls) => {
                // TLS does not give its socket away: a second handle takes the place of the
                // first. Without a descriptor for it all goes on as it was, only slower.
                let tcp = tls.get_mut().0;
                if let Ok(same) = tcp.as_fd().try_clone_to_owned() {
                    *tcp = TcpStream::from_std(same.into())?;
                }
                Ok(Self::Tls(tls))
            }
        }
    }

    pub(super) const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Ready with nothing at the peer's end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, bytes).map(|read| match read {
                // Many a client just closes, without the word that TLS has for it. What is
                // spoken inside tells by itself whether it is complete.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
                read => read,
            }),
        }
    }

    /// What was taken may not all be on its way yet; see [`is_flushed`](Self::is_flushed).
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => {
                // It would take more than the socket does.
                ready!(Pin::new(&mut *tls).poll_flush(cx))?;
                Pin::new(tls).poll_write(cx, bytes)
            }
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    /// Whether nothing that was written waits in here.
    pub(super) fn is_flushed(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(tls) => !tls.get_ref().1.wants_write(),
        }
    }

    /// Waits until the kernel has sent all that was written, or cannot any more.
    pub(super) fn watch_sent(&self) -> impl Future<Output = ()> + use<> {
        let socket = SockRef::from(self.tcp());
        // From here on it can be written to when nothing waits to be sent, and only then. As
        // tokio would not look again, it is given a socket that it does not know.
        let again = socket
            .set_tcp_notsent_lowat(1)
            .and_then(|()| TcpStream::from_std(socket.try_clone()?.into()));
        async move {
            if let Ok(again) = again {
                let _ = again.writable().await;
            }
        }
    }

    /// Ends our half.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }

    /// Whether bytes have come that were not read yet. Asks the kernel: it may know of some
    /// that no wake-up has told of.
    pub(super) fn has_unread(&self) -> bool {
        let has_plaintext = match self {
            Self::Plain(_) => false,
            // Once a handshake is over TLS wants more, unless there is something to take.
            Self::Tls(tls) => !tls.get_ref().1.wants_read(),
        };
        let peeked = SockRef::from(self.tcp()).peek(&mut [MaybeUninit::uninit()]);
        has_plaintext || matches!(peeked, Ok(1..))
    }

    /// Closes in good order: where TLS has a word for it, that is said if it can be said at
    /// once.
    pub(super) fn close(mut self) {
        if self.is_tls() {
            let _ = self.poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// Closes so that the peer sees a reset, not an orderly end.
    pub(super) fn reset(self) {
        let _ = self.tcp().set_zero_linger();
    }
}
