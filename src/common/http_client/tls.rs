//! What TLS to a hub is checked against and shown: authorities and a client certificate. All files are read again for
//! each connection, so that a renewed one counts without a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::common::certificates::{provider, read_certificates, read_pair};

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
    /// What the two are set by.
    pub set_by: SetBy,
}

/// What the authorities and the client certificate are set by, for messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SetBy {
    /// The environment: there is nothing else.
    #[default]
    Environment,
    /// Config keys.
    Keys,
    /// An option of a command, which has no client certificate.
    Option,
}

impl SetBy {
    /// Returns what a file with authorities is named in.
    pub fn authorities(self) -> &'static str {
        match self {
            Self::Environment => "SSL_CERT_FILE",
            Self::Keys => "`ca_file`",
            Self::Option => "`--ca-file`",
        }
    }
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
        Roots::File(path) => read_authorities(options.set_by.authorities(), path)?.0,
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

/// Reads the authorities of a file, which `named_in` names: for checking, and as they stand there.
///
/// # Errors
/// The file is unusable, with what to do.
pub fn read_authorities(
    named_in: &str,
    path: &Path,
) -> Result<(Arc<RootCertStore>, Vec<CertificateDer<'static>>), String> {
    let certificates = read_certificates(named_in, path)?;
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        let unusable = |e| format!("{named_in}: {} holds a certificate that cannot be used: {e}", path.display());
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
    read_pair(("`client_cert_file`", &files.certificate), ("`client_key_file`", &files.key))
}
