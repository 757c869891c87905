//! A real Redis.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::TcpStream;

use super::peer::AbsentBroker;

/// A `redis-server` of its own, which keeps nothing and ends with the test.
pub struct Redis {
    pub address: SocketAddr,
    process: Child,
}

impl Redis {
    pub async fn start() -> Self {
        // The port is free until the absent one is dropped; should anybody else get hold of
        // it before Redis does, there are others.
        loop {
            let address = AbsentBroker::new().address;
            if let Some(redis) = Self::start_on(address).await {
                return redis;
            }
        }
    }

    /// Speaks TLS alone, to clients that need not show a certificate.
    pub async fn start_with_tls(certificate: &Path, key: &Path) -> Self {
        loop {
            let address = AbsentBroker::new().address;
            let mut command = Command::new("redis-server");
            command
                .args(["--port", "0", "--tls-auth-clients", "no"])
                .args(["--tls-port", &address.port().to_string()])
                .args(["--tls-cert-file".as_ref(), certificate])
                .args(["--tls-key-file".as_ref(), key]);
            if let Some(redis) = Self::run(command, address).await {
                return redis;
            }
        }
    }

    /// `None` when the address is taken.
    pub async fn start_on(address: SocketAddr) -> Option<Self> {
        let mut command = Command::new("redis-server");
        command.args(["--port", &address.port().to_string()]);
        Self::run(command, address).await
    }

    async fn run(mut command: Command, address: SocketAddr) -> Option<Self> {
        let process = command
            .args(["--bind", &address.ip().to_string()])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let mut redis = Self { address, process };
        loop {
            if redis.process.try_wait().unwrap().is_some() {
                return None;
            }
            if TcpStream::connect(address).await.is_ok() {
                return Some(redis);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        // It may have been killed before.
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
