//! TLS of the listener: a certificate and its key from files, read again when they change.
//!
//! In flow two paths, out flow settings for the next handshake. Files that cannot be used any more leave those in force
//! that were read last, with a loud log line; at the start they are an error. So does a certificate whose time is over, or
//! has not come, as long as the one in force is good; the start is not refused for it, since it may be the clock that is wrong.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use exedra_link::certificate::Validity;
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
    read: Read,
    /// Of both files when they were last read, whether or not they could be used.
    stamps: [Option<Stamp>; 2],
    /// Of the certificate in the files, where the one in force is kept for the sake of its time.
    waits: Option<Validity>,
}

/// What the files say.
#[derive(Debug)]
struct Read {
    config: Arc<ServerConfig>,
    /// None where it cannot be told.
    validity: Option<Validity>,
}

impl Read {
    /// Whether it is good at `now`, as far as it can be told.
    fn holds(&self, now: SystemTime) -> bool {
        self.validity.is_none_or(|validity| validity.holds(now))
    }
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
        let read = read(&certificate, &key).map_err(ExecutorError::Tls)?;
        if !read.holds(SystemTime::now()) {
            tracing::error!(path = %certificate.display(), "the certificate has expired, or its time has not come: nobody will trust it");
        }
        Ok(Self { certificate, key, current: Mutex::new(Current { read, stamps, waits: None }) })
    }

    /// The settings for the next handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = self.stamps();
        if stamps != current.stamps || current.waits.is_some_and(|validity| validity.holds(SystemTime::now())) {
            self.renew(&mut current, stamps);
        }
        Arc::clone(&current.read.config)
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
        current.waits = None;
        let now = SystemTime::now();
        match read(&self.certificate, &self.key) {
            Ok(read) if !read.holds(now) && current.read.holds(now) => {
                current.waits = read.validity;
                tracing::error!(
                    path = %self.certificate.display(),
                    "the new certificate has expired, or its time has not come; the old one stays as long"
                );
            }
            Ok(read) => {
                tracing::info!("the certificate was read again");
                current.read = read;
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

fn read(certificate: &Path, key: &Path) -> Result<Read, String> {
    let failed = |path: &Path, text: String| format!("{}: {text}", path.display());
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(certificate).and_then(|certificates| certificates.collect());
    let chain = chain.map_err(|error| failed(certificate, unread(&error, "certificate")))?;
    let Some(first) = chain.first() else {
        return Err(failed(certificate, "there is no certificate in it".to_owned()));
    };
    let validity = Validity::of(first);
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
    Ok(Read { config: Arc::new(config), validity })
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
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

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
    #[test]
    fn a_certificate_out_of_its_time_does_not_replace_a_good_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let put = |begin: i32, end: i32| {
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            (params.not_before, params.not_after) = (date_time_ymd(begin, 1, 1), date_time_ymd(end, 1, 1));
            let key = KeyPair::generate().unwrap();
            std::fs::write(path("key"), key.serialize_pem()).unwrap();
            std::fs::write(path("cert"), params.self_signed(&key).unwrap().pem()).unwrap();
        };
        let bad = [(2000, 2001), (4000, 4001)];
        put(2000, 4000);
        let tls = Tls::load(path("cert"), path("key")).unwrap();
        let mut good = tls.config();
        for (begin, end) in bad {
            put(begin, end);
            for _ in 0..2 {
                assert!(Arc::ptr_eq(&good, &tls.config()), "{begin}");
            }
            tls.reload();
            assert!(Arc::ptr_eq(&good, &tls.config()), "{begin}");
            put(2001, 4000);
            let next = tls.config();
            assert!(!Arc::ptr_eq(&good, &next));
            good = next;
        }
        for (begin, end) in bad {
            put(begin, end);
            let tls = Tls::load(path("cert"), path("key")).unwrap();
            let first = tls.config();
            put(2001, 2002);
            assert!(!Arc::ptr_eq(&first, &tls.config()), "neither is good, so what is in the files counts");
        }
    }

    #[test]
    fn a_certificate_whose_time_comes_is_taken_then() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("cert"), dir.path().join("key"));
        std::fs::copy(fixture("localhost.cert.pem"), &certificate).unwrap();
        std::fs::copy(fixture("localhost.key.pem"), &key).unwrap();
        let tls = Tls::load(certificate, key).unwrap();
        let first = tls.config();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let waits = |not_before| tls.current.lock().unwrap().waits = Some(Validity { not_before, not_after: u64::MAX });
        waits(now + 1_000_000);
        assert!(Arc::ptr_eq(&first, &tls.config()));
        waits(now);
        assert!(!Arc::ptr_eq(&first, &tls.config()));
    }
}
