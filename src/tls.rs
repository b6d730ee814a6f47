//! One TLS stack: rustls on ring.
//!
//! Several dependencies speak TLS, and rustls picks its cryptography once per process. The binary calls
//! [`install_tls_provider`] first thing in `main`; without it the first HTTPS request would panic, and with two
//! providers compiled in, rustls would refuse to choose.

use std::path::Path;

/// Makes ring the cryptography provider of the process. Calling it again does nothing.
pub fn install_tls_provider() {
    // The error means that a provider is installed already: either ours, from an earlier call, or one that
    // whoever embeds this library chose on purpose.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Certificate authorities of a PEM file, to be trusted besides those of the system.
///
/// # Errors
/// The file cannot be read, or holds no certificate.
pub fn authorities(file: &Path) -> Result<Vec<reqwest::Certificate>, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
    let pem = std::fs::read(file).map_err(|e| wrong(&e))?;
    let authorities = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| wrong(&e))?;
    if authorities.is_empty() { Err(wrong(&"no certificate in it")) } else { Ok(authorities) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn installing_twice_is_harmless_and_leaves_a_provider() {
        super::install_tls_provider();
        super::install_tls_provider();
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}
