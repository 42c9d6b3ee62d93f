//! TLS of the client of model servers.

pub(super) use imp::{configure, is_certificate_error};

/// rustls with graviola's cryptography and the system's certificates.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod imp {
    use std::{error::Error, sync::Arc};

    use rustls::{ClientConfig, RootCertStore};
    use rustls_platform_verifier::BuilderVerifierExt as _;

    /// Gives a client its TLS. Without it (`wanted` is `false`), the client trusts no certificate.
    ///
    /// # Errors
    /// A sentence that says what this machine lacks for TLS.
    pub(in super::super) fn configure(
        builder: reqwest::ClientBuilder,
        wanted: bool,
    ) -> Result<reqwest::ClientBuilder, String> {
        if wanted && !graviola::util::is_cpu_supported() {
            return Err(
                "this processor is too old for the built-in TLS (it needs AES and, on x86-64, AVX2 and ADX \
                 instructions); give provider.base_url an http:// address, for example of a proxy on this \
                 machine"
                    .into(),
            );
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("cannot set up TLS: {error}"))?;
        let config = if wanted {
            config.with_platform_verifier().map_err(|error| {
                format!(
                    "cannot read the certificates that this system trusts: {error}; install them \
                     (ca-certificates) or give provider.base_url an http:// address"
                )
            })?
        } else {
            config.with_root_certificates(RootCertStore::empty())
        };
        Ok(builder.tls_backend_preconfigured(config.with_no_client_auth()))
    }

    /// Whether an error is about a certificate that is not trusted.
    pub(in super::super) fn is_certificate_error(error: &(dyn Error + 'static)) -> bool {
        matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
    }
}

/// No TLS: no cryptography for this architecture builds without a C compiler.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod imp {
    use std::error::Error;

    pub(in super::super) fn configure(
        builder: reqwest::ClientBuilder,
        wanted: bool,
    ) -> Result<reqwest::ClientBuilder, String> {
        if wanted {
            return Err(
                "this build has no TLS for this processor's architecture; give provider.base_url an \
                        http:// address, for example of a proxy on this machine"
                    .into(),
            );
        }
        Ok(builder)
    }

    pub(in super::super) fn is_certificate_error(_: &(dyn Error + 'static)) -> bool {
        false
    }
}
