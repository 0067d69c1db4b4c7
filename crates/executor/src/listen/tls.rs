//! TLS of the listener: a certificate and its key from files, read again when they change.
//!
//! In flow two paths, out flow settings for the next handshake. Files that cannot be used any more leave those in force
//! that were read last, with a loud log line; at the start they are an error.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::ExecutorError;

/// The one protocol that is spoken inside, for ALPN.
const HTTP_1: &[u8] = b"http/1.1";

/// See the module.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// Of both files when they were last read, whether or not they could be used.
    stamps: [Option<Stamp>; 2],
}

/// What changes when a file does.
type Stamp = (u64, u64, i64, i64);

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// They cannot be read, or do not hold a certificate and its key.
    pub fn load(certificate: PathBuf, key: PathBuf) -> Result<Self, ExecutorError> {
        let stamps = [stamp(&certificate), stamp(&key)];
        let config = read(&certificate, &key).map_err(ExecutorError::Tls)?;
        Ok(Self { certificate, key, current: Mutex::new(Current { config, stamps }) })
    }

    /// The settings for the next handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = self.stamps();
        if stamps != current.stamps {
            self.renew(&mut current, stamps);
        }
        Arc::clone(&current.config)
    }

    /// Reads both files again, whether or not they have changed. What cannot be used is told in the log, and not taken.
    pub fn reload(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = self.stamps();
        self.renew(&mut current, stamps);
    }

    fn stamps(&self) -> [Option<Stamp>; 2] {
        [stamp(&self.certificate), stamp(&self.key)]
    }

    fn renew(&self, current: &mut Current, stamps: [Option<Stamp>; 2]) {
        match read(&self.certificate, &self.key) {
            Ok(config) => {
                tracing::info!("the certificate was read again");
                current.config = config;
            }
            Err(text) => tracing::error!("the new certificate cannot be used, the old one stays: {text}"),
        }
        current.stamps = stamps;
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let of = |metadata: Metadata| (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec());
    std::fs::metadata(path).ok().map(of)
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let failed = |path: &Path, text: String| format!("{}: {text}", path.display());
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(certificate).and_then(|certificates| certificates.collect());
    let chain = chain.map_err(|error| failed(certificate, unread(&error, "certificate")))?;
    if chain.is_empty() {
        return Err(failed(certificate, "there is no certificate in it".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, unread(&error, "private key")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.with_no_client_auth();
    // It also checks that the key is that of the certificate.
    let mut config = builder.with_single_cert(chain, private).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            let of = certificate.display();
            failed(key, format!("it is not the key of the certificate in {of}, of which the first counts"))
        }
        rustls::Error::InvalidCertificate(why) => failed(certificate, format!("the certificate cannot be read: {why}")),
        other => failed(key, format!("the private key cannot be used: {other}")),
    })?;
    config.alpn_protocols = vec![HTTP_1.to_vec()];
    Ok(Arc::new(config))
}

/// Why there is no `what` in a file.
fn unread(error: &pem::Error, what: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("there is no {what} in it that is not encrypted"),
        pem::Error::MissingSectionEnd { .. } => format!("the {what} in it has no end"),
        pem::Error::Base64Decode(_) => format!("the {what} in it is no base64"),
        pem::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../link/tests/fixtures").join(name)
    }

    #[test]
    fn files_that_change_are_read_again_and_bad_ones_are_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("cert"), dir.path().join("key"));
        std::fs::copy(fixture("localhost.cert.pem"), &certificate).unwrap();
        std::fs::copy(fixture("localhost.key.pem"), &key).unwrap();
        let tls = Tls::load(certificate.clone(), key.clone()).unwrap();
        let first = tls.config();
        assert!(Arc::ptr_eq(&first, &tls.config()));
        std::fs::write(&certificate, "nonsense").unwrap();
        assert!(Arc::ptr_eq(&first, &tls.config()));
        std::fs::copy(fixture("localhost.cert.pem"), &certificate).unwrap();
        assert!(!Arc::ptr_eq(&first, &tls.config()));
        for (certificate, key) in [(&key, &key), (&certificate, &certificate), (&certificate, &dir.path().join("no"))] {
            let refused = Tls::load(certificate.clone(), key.clone()).unwrap_err().to_string();
            assert!(refused.contains(&*dir.path().to_string_lossy()), "{refused}");
        }
    }
}
