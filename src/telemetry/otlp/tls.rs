//! Whom to trust, and who we are, when the collector speaks TLS.

use std::fs;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::ConfigBuilder;
use rustls::RootCertStore;
use rustls::client::WantsClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::telemetry::otlp::settings::Unusable;

/// A variable that names a file.
type FileVariable = (&'static str, String);

/// Trusts `authority` alone or, without one, whomever the system trusts; shows `certificate`
/// where the collector asks for one.
pub(super) fn load(
    authority: Option<FileVariable>,
    certificate: Option<FileVariable>,
    key: Option<FileVariable>,
) -> Result<ClientConfig, Unusable> {
    let config = trusting(match &authority {
        Some(file) => own_roots(file)?,
        None => system_roots()?,
    });
    match (certificate, key) {
        (None, None) => Ok(config.with_no_client_auth()),
        (Some(certificate), Some(key)) => {
            let chain = certificates(&certificate, &read(&certificate)?)?;
            let secret = PrivateKeyDer::from_pem_slice(&read(&key)?).map_err(|error| Unusable {
                fault: error.to_string(),
                ..unusable(&key, "give a file with a private key in PEM")
            })?;
            config
                .with_client_auth_cert(chain, secret)
                .map_err(|error| Unusable {
                    fault: error.to_string(),
                    ..unusable(&key, "give the key that belongs to the certificate")
                })
        }
        (Some(alone), None) => Err(not_alone(&alone, "set the client key as well")),
        (None, Some(alone)) => Err(not_alone(&alone, "set the client certificate as well")),
    }
}

/// Trusts nobody: for a collector that does not speak TLS.
pub(super) fn none() -> ClientConfig {
    trusting(RootCertStore::empty()).with_no_client_auth()
}

fn trusting(roots: RootCertStore) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("this provider knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
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
