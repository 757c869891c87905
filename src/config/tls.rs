//! TLS on either side of a route: the files that it is made of, and what they come to.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::Error;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::crypto::verify_tls12_signature;
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::pki_types::pem;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::sign::SingleCertAndKey;
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// TLS from apps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    pub identity: Identity,
    /// Who must have signed the certificate that an app shows; `None`: it need not show any.
    pub client_ca: Option<PathBuf>,
}

/// TLS to the brokers whose URL asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Who must have signed the broker's certificate; `None`: whom the system trusts.
    pub ca: Option<PathBuf>,
    /// What is shown to a broker that asks for a certificate.
    pub identity: Option<Identity>,
    /// The name that the broker's certificate must be for; `None`: the host of its URL.
    pub server_name: Option<ServerName<'static>>,
    /// Whether the broker's certificate is looked at at all.
    pub verify: bool,
}

/// A certificate with those that lead to its authority, and its key: two files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What the files of one side come to, as they were when they were read.
#[derive(Clone, Debug)]
pub struct Made<Config> {
    pub config: Arc<Config>,
    /// When the certificate that is shown expires, in seconds since 1970.
    pub expires: Option<u64>,
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {wrong}; {remedy}")]
pub struct Unusable {
    /// The key of the route that names it.
    pub key: &'static str,
    pub wrong: String,
    pub remedy: &'static str,
}

impl ListenerTls {
    /// Reads the files, or says everything that is wrong with them.
    pub fn make(&self) -> Result<Made<ServerConfig>, Vec<Unusable>> {
        let mut faults = Faults::default();
        let identity = self
            .identity
            .read("tls_certificate", "tls_key", &mut faults);
        let verifier = match &self.client_ca {
            None => Some(WebPkiClientVerifier::no_client_auth()),
            Some(path) => {
                let roots = faults.note(authorities("tls_client_ca", path));
                roots.map(|roots| {
                    WebPkiClientVerifier::builder_with_provider(roots.into(), provider())
                        .build()
                        .expect("there is a certificate to verify by")
                })
            }
        };
        let (Some(identity), Some(verifier)) = (identity, verifier) else {
            return Err(faults.0);
        };
        let expires = expiry(&identity);
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("this provider knows TLS 1.2 and 1.3")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        Ok(Made {
            config: Arc::new(config),
            expires,
        })
    }

    /// Every file that there is.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let ca = self.client_ca.as_deref();
        self.identity.files().into_iter().chain(ca)
    }
}

impl UpstreamTls {
    /// Reads the files, or says everything that is wrong with them.
    pub fn make(&self) -> Result<Made<ClientConfig>, Vec<Unusable>> {
        let mut faults = Faults::default();
        let identity = match &self.identity {
            None => Some(None),
            Some(identity) => identity
                .read("upstream_certificate", "upstream_key", &mut faults)
                .map(Some),
        };
        let roots = match &self.ca {
            Some(path) => faults.note(authorities("upstream_ca", path)),
            None if !self.verify => Some(RootCertStore::empty()),
            None => faults.note(system_authorities()),
        };
        let (Some(identity), Some(roots)) = (identity, roots) else {
            return Err(faults.0);
        };
        let expires = identity.as_ref().and_then(expiry);
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("this provider knows TLS 1.2 and 1.3");
        let config = match self.verify {
            true => config.with_root_certificates(roots),
            false => config
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider()))),
        };
        let config = match identity {
            Some(identity) => {
                config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
            }
            None => config.with_no_client_auth(),
        };
        Ok(Made {
            config: Arc::new(config),
            expires,
        })
    }

    /// Every file that there is.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let identity = self.identity.iter().flat_map(Identity::files);
        identity.chain(self.ca.as_deref())
    }
}

/// The system's authorities, and nothing to show.
impl Default for UpstreamTls {
    fn default() -> Self {
        Self {
            ca: None,
            identity: None,
            server_name: None,
            verify: true,
        }
    }
}

impl Identity {
    fn read(
        &self,
        certificate: &'static str,
        key: &'static str,
        faults: &mut Faults,
    ) -> Option<CertifiedKey> {
        let chain = faults.note(certificates(certificate, &self.certificate));
        let secret = faults.note(private_key(key, &self.key));
        let (chain, secret) = (chain?, secret?);
        let identity = CertifiedKey::from_der(chain, secret, &provider());
        faults.note(identity.map_err(|error| match error {
            Error::InvalidCertificate(error) => Unusable {
                key: certificate,
                wrong: format!("its first certificate cannot be read ({error:?})"),
                remedy: CERTIFICATES,
            },
            Error::InconsistentKeys(_) => Unusable {
                key,
                wrong: format!("not the key of the first certificate in `{certificate}`"),
                remedy: "give the two files that belong together",
            },
            error => Unusable {
                key,
                wrong: format!("a key that cannot be used ({error})"),
                remedy: "give an RSA key of at least 2048 bits, or an ECDSA or Ed25519 key",
            },
        }))
    }

    fn files(&self) -> [&Path; 2] {
        [&self.certificate, &self.key]
    }
}

/// What was wrong so far.
#[derive(Default)]
struct Faults(Vec<Unusable>);

impl Faults {
    fn note<T>(&mut self, result: Result<T, Unusable>) -> Option<T> {
        result.map_err(|fault| self.0.push(fault)).ok()
    }
}

fn authorities(key: &'static str, path: &Path) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(key, path)? {
        roots.add(certificate).map_err(|error| Unusable {
            key,
            wrong: format!("a certificate in it cannot be read ({error})"),
            remedy: CERTIFICATES,
        })?;
    }
    Ok(roots)
}

fn system_authorities() -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    match roots.add_parsable_certificates(found.certs) {
        (0, _) => Err(Unusable {
            key: "upstream_ca",
            wrong: "not set, and this system trusts no authority".to_owned(),
            remedy: "set it to the authority of the broker, or install ca-certificates",
        }),
        _ => Ok(roots),
    }
}

/// At least one.
fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let fault = |wrong| Unusable {
        key,
        wrong,
        remedy: CERTIFICATES,
    };
    let text = fs::read(path).map_err(|error| unreadable(key, &error))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| fault(format!("not PEM ({error})")))?;
    match certificates.is_empty() {
        true => Err(fault("no certificate is in it".to_owned())),
        false => Ok(certificates),
    }
}

fn private_key(key: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, Unusable> {
    let text = fs::read(path).map_err(|error| unreadable(key, &error))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| Unusable {
        key,
        wrong: match error {
            pem::Error::NoItemsFound => "no private key is in it".to_owned(),
            // Nothing of what the file says: it is a secret.
            _ => "not PEM".to_owned(),
        },
        remedy: "give a file with a private key in PEM, not encrypted",
    })
}

fn unreadable(key: &'static str, error: &io::Error) -> Unusable {
    Unusable {
        key,
        wrong: format!("cannot be read: {error}"),
        remedy: "give the path of a file that tracehop may read",
    }
}

/// When the first certificate of the chain to expire does.
fn expiry(identity: &CertifiedKey) -> Option<u64> {
    let ends = identity.cert.iter().filter_map(|certificate| {
        let certificate = Certificate::from_der(certificate).ok()?;
        let validity = certificate.tbs_certificate().validity();
        Some(validity.not_after.to_unix_duration().as_secs())
    });
    ends.min()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Takes whoever answers for the broker.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

const CERTIFICATES: &str = "give a file with certificates in PEM";
