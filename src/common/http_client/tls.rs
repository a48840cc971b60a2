//! What TLS to a hub is checked against and shown: authorities and a client certificate. All files are read again for
//! each connection, so that a renewed one counts without a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, RootCertStore};

use crate::common::fs::regular_file;
use crate::common::wall_clock::now_ms;

/// The most that is read of a certificate or key file, bytes: a bundle of all public authorities has some 250 kB.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The certificate authorities that a hub is checked against.
#[derive(Debug, Clone, Default)]
pub enum Roots {
    /// The machine's own, read again for each dial (so that a repaired store counts without a restart); `SSL_CERT_FILE`
    /// and `SSL_CERT_DIR` are honoured.
    #[default]
    Native,
    /// Those of a PEM file (`ca_file`), in place of the machine's.
    File(PathBuf),
    /// Exactly these.
    Only(Arc<RootCertStore>),
}

/// The PEM files of a client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, with the intermediate ones after it (`client_cert_file`).
    pub certificate: PathBuf,
    /// Its private key (`client_key_file`).
    pub key: PathBuf,
}

/// How to speak TLS to a hub.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// The authorities that its certificate is checked against.
    pub roots: Roots,
    /// The certificate that is shown to a hub that asks for one.
    pub client: Option<ClientCertificate>,
    /// Whether the two are config keys (`ca_file`), which advice may name.
    pub has_keys: bool,
}

/// Returns the TLS configuration of a connection.
///
/// # Errors
/// A file or the machine's trust store is unusable, with what to do.
pub async fn client_config(options: &TlsOptions) -> Result<Arc<ClientConfig>, String> {
    let options = options.clone();
    // Reads and parses files of some 200 kB: not on the event loop's thread.
    tokio::task::spawn_blocking(move || build(&options))
        .await
        .unwrap_or_else(|e| Err(format!("reading the certificates failed: {e}")))
}

fn build(options: &TlsOptions) -> Result<Arc<ClientConfig>, String> {
    let roots = match &options.roots {
        Roots::Only(roots) => Arc::clone(roots),
        Roots::File(path) => read_authorities(path)?.0,
        Roots::Native => native_roots()?,
    };
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots);
    let config = match &options.client {
        None => config.with_no_client_auth(),
        Some(client) => {
            let (chain, key) = read_client(client)?;
            config.with_client_auth_cert(chain, key).map_err(|e| format!("the client certificate: {e}"))?
        }
    };
    Ok(Arc::new(config))
}

/// Returns the provider of TLS, which is passed explicitly, not installed process-wide: no other part of the process is
/// affected.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn native_roots() -> Result<Arc<RootCertStore>, String> {
    let found = rustls_native_certs::load_native_certs();
    for e in &found.errors {
        tracing::warn!(error = %e, "some of the machine's certificates cannot be read");
    }
    let mut store = RootCertStore::empty();
    let (usable, _) = store.add_parsable_certificates(found.certs);
    if usable == 0 {
        return Err("this machine has no certificate authorities to check the hub against; \
                    install its ca-certificates package, or name a PEM file in SSL_CERT_FILE"
            .into());
    }
    Ok(Arc::new(store))
}

/// Reads the authorities of `ca_file`: for checking, and as they stand there.
///
/// # Errors
/// The file is unusable, with what to do.
pub fn read_authorities(path: &Path) -> Result<(Arc<RootCertStore>, Vec<CertificateDer<'static>>), String> {
    let certificates = read_certificates("ca_file", path)?;
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        let unusable = |e| format!("`ca_file`: {} holds a certificate that cannot be used: {e}", path.display());
        store.add(certificate.clone()).map_err(unusable)?;
    }
    Ok((Arc::new(store), certificates))
}

/// Reads a client certificate and its key, and checks that they belong together.
///
/// # Errors
/// A file is unusable, with what to do.
pub fn read_client(
    files: &ClientCertificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let ClientCertificate { certificate, key } = files;
    let chain = read_certificates("client_cert_file", certificate)?;
    let text = read_file("client_key_file", key)?;
    let private = PrivateKeyDer::from_pem_slice(&text).map_err(|e| {
        let begin = "one that begins with -----BEGIN PRIVATE KEY-----, without a passphrase, is expected";
        format!("`client_key_file`: {} holds no private key in PEM ({e}); {begin}", key.display())
    })?;
    CertifiedKey::from_der(chain.clone(), private.clone_key(), &provider()).map_err(|e| {
        let files = format!("{} and {}", certificate.display(), key.display());
        if matches!(e, rustls::Error::InconsistentKeys(_)) {
            format!("`client_key_file` is not the key of `client_cert_file`: {files} do not belong together")
        } else {
            format!("`client_cert_file`, `client_key_file`: {files} cannot be used: {e}")
        }
    })?;
    Ok((chain, private))
}

fn read_certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read_file(key, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|e| format!("`{key}`: {} is no proper PEM: {e}", path.display()))?;
    if found.is_empty() {
        let begin = "one or more that begin with -----BEGIN CERTIFICATE----- are expected";
        return Err(format!("`{key}`: {} holds no certificate in PEM; {begin}", path.display()));
    }
    Ok(found)
}

fn read_file(key: &str, path: &Path) -> Result<Vec<u8>, String> {
    regular_file::read(path, MAX_FILE_BYTES)
        .map_err(|e| format!("`{key}`: {} cannot be read: {e}; correct the path or its permissions", path.display()))
}

/// How long a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Beyond the time that was asked about.
    Good,
    /// Until a time, ms since the epoch, within the time that was asked about.
    Until(u64),
    /// No more since a time, ms since the epoch.
    ExpiredSince(u64),
    /// Only from a time on, ms since the epoch.
    From(u64),
}

/// Returns whether the certificate is good now and `ahead` of now. One that cannot be read counts as good: other checks
/// report it.
pub fn validity(certificate: &CertificateDer<'_>, ahead: Duration) -> Validity {
    let mut store = RootCertStore::empty();
    // Its own anchor: only the dates are of interest, which are checked first.
    let Ok(()) = store.add(certificate.clone().into_owned()) else { return Validity::Good };
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider()).build() else {
        return Validity::Good;
    };
    let Ok(any_name) = ServerName::try_from("localhost") else { return Validity::Good };
    let now = Duration::from_millis(now_ms());
    let at = |time| {
        let outcome = verifier.verify_server_cert(certificate, &[], &any_name, &[], UnixTime::since_unix_epoch(time));
        outcome.err()
    };
    let ms = |time: UnixTime| time.as_secs().saturating_mul(1_000);
    match at(now) {
        Some(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            return Validity::ExpiredSince(ms(not_after));
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
            return Validity::From(ms(not_before));
        }
        Some(_) | None => {}
    }
    match at(now + ahead) {
        Some(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Validity::Until(ms(not_after))
        }
        Some(_) | None => Validity::Good,
    }
}
