//! Certificates and private keys in PEM files, and how long a certificate is good. What is named in a message is named as its
//! caller says: a config key, or an option.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};

use crate::common::fs::regular_file;
use crate::common::wall_clock::now_ms;

/// The most that is read of a certificate or key file, bytes: a bundle of all public authorities has some 250 kB.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// A file, and what it is named in.
pub type Named<'a> = (&'a str, &'a Path);

/// Returns the provider of TLS, which is passed explicitly, not installed process-wide: no other part of the process is
/// affected.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Reads a certificate, with those that signed it after it, and its private key, and checks that the two belong together.
///
/// # Errors
/// A file is unusable, with what to do.
pub fn read_pair(
    certificate: Named<'_>,
    key: Named<'_>,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let ((certificate_in, certificate), (key_in, key)) = (certificate, key);
    let chain = read_certificates(certificate_in, certificate)?;
    let text = read_file(key_in, key)?;
    let private = PrivateKeyDer::from_pem_slice(&text).map_err(|e| no_key((key_in, key), &text, &e))?;
    CertifiedKey::from_der(chain.clone(), private.clone_key(), &provider()).map_err(|e| {
        let files = format!("{} and {}", certificate.display(), key.display());
        if matches!(e, rustls::Error::InconsistentKeys(_)) {
            format!("{key_in} is not the key of {certificate_in}: {files} do not belong together")
        } else {
            format!("{certificate_in}, {key_in}: {files} cannot be used: {e}")
        }
    })?;
    Ok((chain, private))
}

/// Says why a file holds no private key.
fn no_key((named_in, path): Named<'_>, text: &[u8], why: &dyn std::fmt::Display) -> String {
    let path = path.display();
    // Both ways in which a key is encrypted in PEM say so in this word.
    if text.windows(ENCRYPTED.len()).any(|word| word == ENCRYPTED) {
        return format!(
            "{named_in}: the key in {path} is encrypted, and nobody is there to type its passphrase: write it without \
             one (openssl pkey -in {path} -out NEW_FILE; chmod 600 NEW_FILE)"
        );
    }
    let begin = "one that begins with -----BEGIN PRIVATE KEY-----, without a passphrase, is expected";
    format!("{named_in}: {path} holds no private key in PEM ({why}); {begin}")
}

const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// Reads all certificates of a file; at least one.
///
/// # Errors
/// The file is unusable, with what to do.
pub fn read_certificates(named_in: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read_file(named_in, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|e| format!("{named_in}: {} is no proper PEM: {e}", path.display()))?;
    if found.is_empty() {
        let begin = "one or more that begin with -----BEGIN CERTIFICATE----- are expected";
        return Err(format!("{named_in}: {} holds no certificate in PEM; {begin}", path.display()));
    }
    Ok(found)
}

fn read_file(named_in: &str, path: &Path) -> Result<Vec<u8>, String> {
    regular_file::read(path, MAX_FILE_BYTES)
        .map_err(|e| format!("{named_in}: {} cannot be read: {e}; correct the path or its permissions", path.display()))
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
    let Some(wrong_at) = dates(certificate) else { return Validity::Good };
    let now = Duration::from_millis(now_ms());
    match wrong_at(now) {
        Some(CertificateError::ExpiredContext { not_after, .. }) => return Validity::ExpiredSince(ms(not_after)),
        Some(CertificateError::NotValidYetContext { not_before, .. }) => return Validity::From(ms(not_before)),
        Some(_) | None => {}
    }
    match wrong_at(now + ahead) {
        Some(CertificateError::ExpiredContext { not_after, .. }) => Validity::Until(ms(not_after)),
        Some(_) | None => Validity::Good,
    }
}

/// Returns when the certificate expires, in ms since the epoch; `None` if it never does or cannot be read.
pub fn expires_at(certificate: &CertificateDer<'_>) -> Option<u64> {
    let why = dates(certificate)?(LAST_DATE)?;
    if let CertificateError::ExpiredContext { not_after, .. } = why { Some(ms(not_after)) } else { None }
}

/// The first moment of the year 10000, since the epoch: no certificate can name a later date.
const LAST_DATE: Duration = Duration::from_secs(253_402_300_800);

fn ms(time: UnixTime) -> u64 {
    time.as_secs().saturating_mul(1_000)
}

/// Returns what says why a certificate is not good at a time since the epoch; `None` if it cannot be read.
fn dates(certificate: &CertificateDer<'_>) -> Option<impl Fn(Duration) -> Option<CertificateError>> {
    let mut store = RootCertStore::empty();
    // Its own anchor: only the dates are of interest, which are checked first.
    store.add(certificate.clone().into_owned()).ok()?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider()).build().ok()?;
    let any_name = ServerName::try_from("localhost").ok()?;
    Some(move |time| {
        let time = UnixTime::since_unix_epoch(time);
        match verifier.verify_server_cert(certificate, &[], &any_name, &[], time) {
            Err(rustls::Error::InvalidCertificate(why)) => Some(why),
            Err(_) | Ok(_) => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_known_before_and_after_it_and_before_its_beginning() {
        for (from, until, expected) in
            [(2020, 2021, 1_609_459_200_000), (2020, 9000, 221_845_392_000_000), (8000, 9000, 221_845_392_000_000)]
        {
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
            let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            assert_eq!(expires_at(made.der()), Some(expected), "{from} to {until}");
        }
    }
}
