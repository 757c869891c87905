//! Whom to trust, and who we are, when the collector speaks TLS.

use std::fs;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tonic::transport::ClientTlsConfig;
use tonic::transport::Identity;

use crate::telemetry::otlp::settings::Unusable;

/// Whom to trust, and who we are. Made once, of files that were read and understood.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    config: ClientConfig,
    roots: RootCertStore,
    identity: Option<Identity>,
}

/// A variable that names a file.
type FileVariable = (&'static str, String);

impl Tls {
    /// Trusts `authority` alone or, without one, whomever the system trusts; shows
    /// `certificate` where the collector asks for one.
    pub(super) fn load(
        authority: Option<FileVariable>,
        certificate: Option<FileVariable>,
        key: Option<FileVariable>,
    ) -> Result<Self, Unusable> {
        let roots = match &authority {
            Some(file) => own_roots(file)?,
            None => system_roots()?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("this provider knows TLS 1.2 and 1.3")
            .with_root_certificates(roots.clone());
        let (config, identity) = match (certificate, key) {
            (None, None) => (config.with_no_client_auth(), None),
            (Some(certificate), Some(key)) => {
                let certificate_pem = read(&certificate)?;
                let key_pem = read(&key)?;
                let chain = certificates(&certificate, &certificate_pem)?;
                let secret = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| Unusable {
                    fault: error.to_string(),
                    ..unusable(&key, "give a file with a private key in PEM")
                })?;
                let config = config
                    .with_client_auth_cert(chain, secret)
                    .map_err(|error| Unusable {
                        fault: error.to_string(),
                        ..unusable(&key, "give the key that belongs to the certificate")
                    })?;
                (config, Some(Identity::from_pem(certificate_pem, key_pem)))
            }
            (Some(alone), None) => return Err(not_alone(&alone, "set the client key as well")),
            (None, Some(alone)) => {
                return Err(not_alone(&alone, "set the client certificate as well"));
            }
        };
        Ok(Self {
            config,
            roots,
            identity,
        })
    }

    /// For HTTP/1.1.
    pub(super) fn rustls(&self) -> ClientConfig {
        self.config.clone()
    }

    /// For gRPC, which makes a configuration of its own from the same parts.
    pub(super) fn tonic(&self) -> ClientTlsConfig {
        let config = ClientTlsConfig::new().trust_anchors(self.roots.roots.clone());
        match &self.identity {
            Some(identity) => config.identity(identity.clone()),
            None => config,
        }
    }
}

fn own_roots(file: &FileVariable) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, &read(file)?)? {
        roots.add(certificate).map_err(|error| Unusable {
            fault: error.to_string(),
            ..unusable(file, PEM_REMEDY)
        })?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, Unusable> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(Unusable {
            name: "OTEL_EXPORTER_OTLP_CERTIFICATE",
            value: None,
            fault: "is not set, and this system has no certificates that it trusts".to_owned(),
            remedy: "set it to the collector's authority, or install ca-certificates",
        });
    }
    Ok(roots)
}

fn read(file: &FileVariable) -> Result<Vec<u8>, Unusable> {
    fs::read(&file.1).map_err(|error| Unusable {
        fault: error.to_string(),
        ..unusable(file, "give the path of a file in PEM")
    })
}

/// At least one.
fn certificates(file: &FileVariable, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| Unusable {
            fault: error.to_string(),
            ..unusable(file, PEM_REMEDY)
        })?;
    if certificates.is_empty() {
        return Err(Unusable {
            fault: "has no certificate in it".to_owned(),
            ..unusable(file, PEM_REMEDY)
        });
    }
    Ok(certificates)
}

fn not_alone(file: &FileVariable, remedy: &'static str) -> Unusable {
    Unusable {
        fault: "is of no use without its counterpart".to_owned(),
        ..unusable(file, remedy)
    }
}

fn unusable((name, path): &FileVariable, remedy: &'static str) -> Unusable {
    Unusable {
        name,
        value: Some(path.clone()),
        fault: String::new(),
        remedy,
    }
}

const PEM_REMEDY: &str = "give a file with certificates in PEM";
