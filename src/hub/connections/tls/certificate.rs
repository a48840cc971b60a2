//! The hub's certificate: read at the start, and again when the hub is told to. Files that cannot be used are told of, and the
//! certificate that is in use stays.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::common::certificates::{Validity, expires_at, provider, read_pair, validity};
use crate::common::wall_clock::utc;

/// What is spoken over TLS here.
const HTTP_1_1: &[u8] = b"http/1.1";
/// How long before its end a certificate is warned of. It is renewed a month before it, as is usual.
const AHEAD: std::time::Duration = std::time::Duration::from_secs(14 * 24 * 3_600);

/// The most certificates in the file: a client refuses a greeting that is much longer.
const MAX_CHAIN: usize = 10;

/// The files of the certificate, and when to read them again.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, with those that signed it after it (`--tls-cert`).
    pub certificate: PathBuf,
    /// Its private key (`--tls-key`).
    pub key: PathBuf,
    /// Notified when they are to be read.
    pub reload: Arc<Notify>,
}

/// The certificate in use.
#[derive(Debug)]
pub struct Certificate(RwLock<InUse>);

#[derive(Debug, Clone)]
struct InUse {
    config: Arc<ServerConfig>,
    expires_at_ms: Option<u64>,
    /// As of when it was read.
    validity: Validity,
}

/// The reason why the files cannot be used, as a text for people that names the file.
pub type Unusable = String;

impl Certificate {
    /// Reads the files for a hub that starts.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn read(files: &TlsFiles) -> Result<Self, Unusable> {
        let read = read(files)?;
        read.tell(files);
        Ok(Self(RwLock::new(read)))
    }

    /// Returns how TLS is spoken to a connection that begins now.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.in_use().config
    }

    /// Returns when it expires, in ms since the epoch.
    pub fn expires_at_ms(&self) -> Option<u64> {
        self.in_use().expires_at_ms
    }

    fn in_use(&self) -> InUse {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, new: InUse) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
    }
}

/// Reads the files whenever they are to be read, until `stop`. Connections that are open go on as they are.
pub async fn watch(files: TlsFiles, certificate: Arc<Certificate>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = files.reload.notified() => {}
        }
        let reading = files.clone();
        let read = tokio::task::spawn_blocking(move || read(&reading)).await;
        match read.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(new) => {
                certificate.replace(new.clone());
                new.tell(&files);
            }
            Err(error) => tracing::error!(
                error,
                "the certificate cannot be read again: the one that is in use stays, for new connections too; correct \
                 the files and send SIGHUP again"
            ),
        }
    }
}

impl InUse {
    /// Logs what is worth knowing of it.
    fn tell(&self, TlsFiles { certificate, key, reload: _ }: &TlsFiles) {
        if is_open(key) {
            let key = key.display();
            tracing::warn!("other users may read the private key in {key} (--tls-key): chmod go= {key}");
        }
        let file = certificate.display().to_string();
        let expires = self.expires_at_ms.map_or_else(|| "never".to_owned(), utc);
        let renew = "renew it and send the hub SIGHUP";
        match self.validity {
            Validity::Good => tracing::info!(file, expires, "the certificate is in use"),
            Validity::Until(_) => tracing::warn!(file, expires, "the certificate is in use and expires soon: {renew}"),
            Validity::ExpiredSince(_) => tracing::warn!(
                file,
                expires,
                "the certificate has expired, and no sidecar will accept it: {renew}; if it is good, this machine's clock is wrong"
            ),
            Validity::From(from) => tracing::warn!(
                file,
                from = utc(from),
                "the certificate is not valid yet, and no sidecar will accept it before: is this machine's clock right?"
            ),
        }
    }
}

fn read(files: &TlsFiles) -> Result<InUse, Unusable> {
    let TlsFiles { certificate, key, reload: _ } = files;
    let (chain, private) = read_pair(("--tls-cert", certificate), ("--tls-key", key))?;
    if chain.len() > MAX_CHAIN {
        let (file, found) = (certificate.display(), chain.len());
        return Err(format!(
            "--tls-cert: {file} holds {found} certificates, of at most {MAX_CHAIN}: one, and those that signed it after it, are expected"
        ));
    }
    let leaf = chain.first().map(|leaf| (expires_at(leaf), validity(leaf, AHEAD)));
    let (expires_at_ms, validity) = leaf.unwrap_or((None, Validity::Good));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| format!("--tls-cert: {} cannot be used: {error}", certificate.display()))?;
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    // A sidecar begins each connection anew, and a session that is taken up again would outlive its certificate.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(InUse { config: Arc::new(config), expires_at_ms, validity })
}

/// Returns whether others than those who are meant to may read a key: others than its owner, or, where the hub reads it as a
/// member of its group, others than that group.
fn is_open(key: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    std::fs::metadata(key).is_ok_and(|found| {
        let closed_to = if found.uid() == own { 0o077 } else { 0o007 };
        found.mode() & closed_to != 0
    })
}
