//! What the hub is shown and checked against, as far as it stands in files of its own: `token_file`, `ca_file` and the
//! client certificate. They are read again for each connection.

use std::path::Path;

use crate::common::fs::regular_file;
use crate::common::http_client::proxy::Proxies;
use crate::common::http_client::route::Transport;
use crate::common::http_client::tls::{ClientCertificate, Roots, SetBy, TlsOptions};
use crate::common::secret::Secret;
use crate::protocol::Limit;
use crate::sidecar::config::Config;

/// The most that is read of `token_file`, bytes.
const MAX_TOKEN_FILE_BYTES: u64 = 16 << 10;

/// The allowed tokens, for error messages.
pub(super) const ALLOWED_TOKEN: &str =
    "the text that the hub gave at registration (1 to 256 characters, no white space around)";

impl Config {
    /// Returns how the hub is reached.
    pub fn transport(&self) -> Transport {
        let pair = self.client_cert_file.clone().zip(self.client_key_file.clone());
        let tls = TlsOptions {
            roots: self.ca_file.clone().map_or(Roots::Native, Roots::File),
            client: pair.map(|(certificate, key)| ClientCertificate { certificate, key }),
            set_by: SetBy::Keys,
        };
        Transport { tls, proxies: Proxies::OfEnvironment }
    }
}

/// Reads a token from its file; white space around it does not count.
///
/// # Errors
/// What was found in place of a token, without quoting it.
pub fn read_token(path: &Path) -> Result<Secret, String> {
    let bytes = regular_file::read(path, MAX_TOKEN_FILE_BYTES)
        .map_err(|error| format!("{}, which cannot be read: {error}", path.display()))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{}, which is not UTF-8", path.display()))?;
    match wrong_token(text.trim()) {
        Some(found) => Err(format!("{} with {found}", path.display())),
        None => Ok(Secret::new(text.trim())),
    }
}

/// Returns what is wrong with a token; `None` if it can be one.
pub(super) fn wrong_token(text: &str) -> Option<String> {
    let length = text.chars().count();
    if length > Limit::Status.chars() {
        Some(format!("a text of {length} characters"))
    } else if text.is_empty() {
        Some("an empty text".to_owned())
    } else if text.trim() != text || text.chars().any(char::is_control) {
        Some("a text with white space or control characters around or in it".to_owned())
    } else if text.contains(char::REPLACEMENT_CHARACTER) {
        Some("bytes that are no UTF-8 text".to_owned())
    } else {
        None
    }
}
