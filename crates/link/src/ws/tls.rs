//! TLS for whoever dials out: rustls on ring, with the certificates that the platform trusts, or those of a file.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

/// Made once per process.
static CONFIG: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();

/// TLS settings with the certificates of [`trust_only`], or without such a call the platform's.
///
/// # Errors
/// The TLS library's text.
pub fn client_tls() -> Result<Arc<ClientConfig>, String> {
    CONFIG.get_or_init(build).clone()
}

/// From now on this process trusts the certificates in the PEM file `authorities`, and no others. To be called before
/// anything is dialled.
///
/// # Errors
/// The file cannot be read, or what is in it cannot be trusted; the text names the file.
pub fn trust_only(authorities: &Path) -> Result<(), String> {
    let text = std::fs::read(authorities).map_err(|error| error.to_string());
    let config = text.and_then(|text| tls_trusting(&text));
    let config = config.map_err(|text| format!("{}: {text}", authorities.display()))?;
    CONFIG.set(Ok(config)).map_err(|_| "it was decided before whom to trust".to_owned())
}

fn build() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_platform_verifier())
        .map_err(|error| error.to_string())?
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// TLS settings with the certificates in `authorities`, the text of a PEM file, and no others, whatever the process trusts.
///
/// # Errors
/// What is in it cannot be trusted.
pub fn tls_trusting(authorities: &[u8]) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}
