//! An app or a broker, as far as a socket can tell.

use std::io;
use std::net::SocketAddr;

use socket2::Domain;
use socket2::Socket;
use socket2::Type;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use super::patiently;

/// One end of a connection.
pub struct Peer<Stream = TcpStream> {
    pub stream: Stream,
}

impl Peer {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = patiently(TcpStream::connect(address)).await.unwrap();
        Self { stream }
    }

    /// Leaves without a goodbye.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }
}

impl<Stream: AsyncRead + AsyncWrite + Unpin> Peer<Stream> {
    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        patiently(self.stream.write_all(bytes.as_ref()))
            .await
            .unwrap();
    }

    /// Expects exactly these bytes next.
    pub async fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let mut heard = vec![0; bytes.as_ref().len()];
        patiently(self.stream.read_exact(&mut heard)).await.unwrap();
        assert!(
            heard == bytes.as_ref(),
            "{} instead of {}",
            heard.escape_ascii(),
            bytes.as_ref().escape_ascii()
        );
    }

    /// Says that no more will come, and goes on listening.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Expects that the other side ends in good order, with nothing more to say.
    pub async fn expect_end(&mut self) {
        assert_eq!(self.next().await.expect("an end, not a reset"), b"");
    }

    /// Expects that the connection is reset, with nothing more to hear.
    pub async fn expect_reset(&mut self) {
        let error = self.next().await.expect_err("a reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    /// What comes next: bytes, nothing at the end, or the error.
    pub async fn next(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 4096];
        let count = patiently(self.stream.read(&mut bytes)).await?;
        bytes.truncate(count);
        Ok(bytes)
    }
}

/// A broker that does what the test tells it to.
pub struct Broker {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl Broker {
    pub async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    pub async fn accept(&self) -> Peer {
        let (stream, _) = patiently(self.listener.accept()).await.unwrap();
        Peer { stream }
    }

    /// A broker that sends back whatever it gets, on any number of connections.
    pub async fn echoing() -> SocketAddr {
        let broker = Self::listen().await;
        let address = broker.address;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = broker.listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }
}

/// A broker that is not there: its address refuses connections, and is nobody else's.
pub struct AbsentBroker {
    socket: Socket,
    pub address: SocketAddr,
}

impl AbsentBroker {
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { socket, address }
    }

    /// From now on it is there.
    pub fn listen(self) -> Broker {
        self.socket.listen(128).unwrap();
        self.socket.set_nonblocking(true).unwrap();
        Broker {
            listener: TcpListener::from_std(self.socket.into()).unwrap(),
            address: self.address,
        }
    }

    /// From now on nobody answers: the queue of connections is full.
    pub async fn fall_mute(self) -> MuteBroker {
        // A queue of 0 still takes one.
        self.socket.listen(0).unwrap();
        MuteBroker {
            address: self.address,
            _first: Peer::connect(self.address).await,
            _socket: self.socket,
        }
    }
}

/// A broker that neither takes nor refuses a connection.
pub struct MuteBroker {
    pub address: SocketAddr,
    _first: Peer,
    _socket: Socket,
}
