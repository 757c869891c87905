//! A name server, and the files of a system that asks it.

use std::fs;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::Record;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::proto::rr::rdata::A;
use tokio::net::UdpSocket;

use tracehop::net::DnsConfig;

/// A name server that knows one name.
pub struct NameServer {
    address: SocketAddr,
    known: Arc<Known>,
    folder: PathBuf,
}

struct Known {
    name: &'static str,
    addresses: Vec<Ipv4Addr>,
    is_silent: AtomicBool,
    /// The names that IPv4 addresses were asked for.
    asked: Mutex<Vec<String>>,
}

impl NameServer {
    /// That `name`, with a dot at its end, has these addresses; that there is no other.
    pub async fn start(name: &'static str, addresses: &[Ipv4Addr]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = format!("tracehop-names-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        fs::create_dir_all(&folder).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: socket.local_addr().unwrap(),
            known: Arc::new(Known {
                name,
                addresses: addresses.to_vec(),
                is_silent: AtomicBool::new(false),
                asked: Mutex::default(),
            }),
            folder,
        };
        server.write_resolv_conf("");
        tokio::spawn(Arc::clone(&server.known).answer(socket));
        server
    }

    pub fn write_resolv_conf(&self, more: &str) {
        let text = format!("nameserver {}\n{more}", self.address.ip());
        fs::write(self.folder.join("resolv.conf"), text).unwrap();
    }

    pub fn write_hosts(&self, text: &str) {
        fs::write(self.folder.join("hosts"), text).unwrap();
    }

    /// From now on it hears and does not answer.
    pub fn fall_silent(&self) {
        self.known.is_silent.store(true, Ordering::Relaxed);
    }

    /// The names that IPv4 addresses were asked for, each time they were.
    pub fn asked(&self) -> Vec<String> {
        self.known.asked.lock().unwrap().clone()
    }

    pub fn config(&self) -> DnsConfig {
        DnsConfig {
            resolv_conf: self.folder.join("resolv.conf"),
            hosts: self.folder.join("hosts"),
            server_port: self.address.port(),
        }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Known {
    async fn answer(self: Arc<Self>, socket: UdpSocket) {
        let mut bytes = [0; 4096];
        while let Ok((count, from)) = socket.recv_from(&mut bytes).await {
            let request = Message::from_vec(&bytes[..count]).unwrap();
            let query = request.queries[0].clone();
            let name = query.name().to_ascii();
            let is_about_ipv4 = query.query_type() == RecordType::A;
            if is_about_ipv4 {
                self.asked.lock().unwrap().push(name.clone());
            }
            if self.is_silent.load(Ordering::Relaxed) {
                continue;
            }
            let is_known = name == self.name && !self.addresses.is_empty();
            let mut response = request.into_response();
            if !is_known {
                response.metadata.response_code = ResponseCode::NXDomain;
            } else if is_about_ipv4 {
                response.add_answers(self.addresses.iter().map(|address| {
                    Record::from_rdata(query.name().clone(), 0, RData::A(A(*address)))
                }));
            }
            let _ = socket.send_to(&response.to_vec().unwrap(), from).await;
        }
    }
}
