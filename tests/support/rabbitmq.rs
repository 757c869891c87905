//! A real RabbitMQ.

use std::net::TcpListener;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use super::until;

/// A RabbitMQ of the test's own; it ends with this.
pub struct RabbitMq {
    place: PathBuf,
    pub port: u16,
    process: Child,
}

impl RabbitMq {
    /// `None`: there is none on this machine.
    pub async fn start() -> Option<Self> {
        let which = Command::new("which").arg("rabbitmq-server").output();
        if !which.is_ok_and(|found| found.status.success()) {
            return None;
        }
        let place = std::env::temp_dir().join(format!("tracehop-rabbitmq-{}", std::process::id()));
        std::fs::create_dir_all(&place).expect("the temporary directory can be written to");
        let port = TcpListener::bind(("127.0.0.1", 0))
            .and_then(|listener| listener.local_addr())
            .expect("there is a free port")
            .port();
        let process = Command::new("deploy/demo/rabbitmq.sh")
            .arg("serve")
            .arg(&place)
            .arg(port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the script is there");
        let mut server = Self {
            place,
            port,
            process,
        };
        until(|| {
            let ended = server.process.try_wait().expect("it is our child");
            assert!(ended.is_none(), "RabbitMQ ended: {ended:?}");
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .await;
        Some(server)
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        let id = self.process.id().to_string();
        // The script ends what it has started, where SIGKILL would leave it alone.
        let _ = Command::new("kill").arg(id).status();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.place);
    }
}
