//! One TLS stack: rustls on ring.
//!
//! Several dependencies speak TLS, and rustls picks its cryptography once per process. The binary calls
//! [`install_tls_provider`] first thing in `main`; without it the first HTTPS request would panic, and with two
//! providers compiled in, rustls would refuse to choose.

/// Makes ring the cryptography provider of the process. Calling it again does nothing.
pub fn install_tls_provider() {
    // The error means that a provider is installed already: either ours, from an earlier call, or one that
    // whoever embeds this library chose on purpose.
    let _ = rustls::crypto::ring::default_provider().install_default();
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
