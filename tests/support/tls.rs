//! Authorities, what they sign, and peers that speak TLS.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::date_time_ymd;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS12;
use rustls::version::TLS13;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::TlsConnector;
use tokio_rustls::TlsStream;

use tracehop::config::Identity;

use super::patiently;
use super::peer::Peer;

/// A folder of files that is removed with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tracehop-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes a certificate and its key under this name.
    pub fn identity(&self, name: &str, papers: &Papers) -> Identity {
        Identity {
            certificate: self.write(&format!("{name}.pem"), &papers.certificate),
            key: self.write(&format!("{name}.key"), &papers.key),
        }
    }

    pub fn authority(&self, name: &str, authority: &Authority) -> PathBuf {
        self.write(&format!("{name}.pem"), &authority.pem())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub struct Papers {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn sign(&self, name: &str) -> Papers {
        self.sign_until(name, 2999)
    }

    /// Signs a certificate that is valid up to the beginning of that year.
    pub fn sign_until(&self, name: &str, year: i32) -> Papers {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Papers {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let pem = self.pem();
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        roots.add(certificate).unwrap();
        Arc::new(roots)
    }
}

impl Papers {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()]
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

pub type TlsPeer = Peer<TlsStream<TcpStream>>;

impl TlsPeer {
    /// Leaves without a goodbye.
    pub fn reset(self) {
        self.stream.get_ref().0.set_zero_linger().unwrap();
    }

    /// Closes without the word that TLS has for it.
    pub fn hang_up(self) {}

    /// Whom the other side says it is.
    pub fn certificate(&self) -> Vec<u8> {
        let certificates = self.stream.get_ref().1.peer_certificates();
        certificates.expect("it has shown one")[0].to_vec()
    }
}

/// A broker that speaks TLS.
pub struct TlsBroker {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    pub address: SocketAddr,
}

impl TlsBroker {
    pub async fn listen(papers: &Papers) -> Self {
        Self::listen_with(papers, None, &[&TLS12, &TLS13]).await
    }

    /// One that wants a certificate which `authority` has signed, and speaks these versions.
    pub async fn listen_with(
        papers: &Papers,
        authority: Option<&Authority>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let verifier = match authority {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(it) => WebPkiClientVerifier::builder_with_provider(it.roots(), provider())
                .build()
                .unwrap(),
        };
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(papers.chain(), papers.key())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            listener,
            acceptor: Arc::new(config).into(),
            address,
        }
    }

    pub async fn accept(&self) -> TlsPeer {
        self.try_accept().await.expect("a handshake")
    }

    pub async fn try_accept(&self) -> std::io::Result<TlsPeer> {
        let (tcp, _) = patiently(self.listener.accept()).await.unwrap();
        let stream = patiently(self.acceptor.accept(tcp)).await?.into();
        Ok(Peer { stream })
    }
}

/// Connects as an app that trusts `authority`, and shows `papers` if it is asked.
pub async fn connect(
    address: SocketAddr,
    authority: &Authority,
    papers: Option<&Papers>,
) -> std::io::Result<TlsPeer> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots());
    let config = match papers {
        None => config.with_no_client_auth(),
        Some(papers) => config
            .with_client_auth_cert(papers.chain(), papers.key())
            .unwrap(),
    };
    let tcp = Peer::connect(address).await.stream;
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = patiently(connector.connect(name, tcp)).await?.into();
    Ok(Peer { stream })
}

/// What the file holds, as a peer is shown it.
pub fn certificate_in(file: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(file).unwrap().to_vec()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
