//! Reads `token` or `token_file`, and the files for TLS. The token is read before anything is reported, so that no message
//! quotes it.

use std::path::{Path, PathBuf};

use crate::common::secret::Secret;
use crate::sidecar::config::Override;
use crate::sidecar::config::check::reader::Reader;
use crate::sidecar::config::credentials::{ALLOWED_TOKEN, read_token, wrong_token};
use crate::sidecar::config::error::WarningKind;

const TOKEN_FILE: &str = "token_file";

/// A token, and the file that it is read from, if it has one. The token is empty while that file cannot be read.
pub(super) struct Token {
    pub(super) secret: Secret,
    pub(super) file: Option<PathBuf>,
}

impl Reader<'_> {
    /// Reads the token: of the override, else of `token_file`, else of `token`.
    pub(super) fn token(&mut self, over: Option<&Override>) -> Option<Token> {
        let written = self.token_as_written(over)?;
        self.redact(written.secret.expose());
        Some(written)
    }

    fn token_as_written(&mut self, over: Option<&Override>) -> Option<Token> {
        let file = self.present_legacy(TOKEN_FILE);
        let inline = self.present_legacy("token");
        // The token as written, with its escapes, occurs in quoted values.
        inline.into_iter().for_each(|node| self.redact(node.raw.trim_matches('"')));
        if let Some(over) = over {
            return self.checked_token(None, over.from, over.value.clone());
        }
        let Some(node) = file else {
            let (node, text) =
                self.required_text("token", &format!("{ALLOWED_TOKEN}; or name a file in `{TOKEN_FILE}`"))?;
            return self.checked_token(Some(node.at), "token", Secret::new(text));
        };
        if inline.is_some() {
            let found = "a file, and the token in `token` besides".to_owned();
            self.report(Some(node.at), TOKEN_FILE, found, "one of the two: take the other out");
            return None;
        }
        let path = self.folder(TOKEN_FILE)?;
        // No matter of the configuration: the file may come later, and commands need no token.
        let secret = read_token(&path).unwrap_or_else(|found| {
            self.warn(Some(node.at), WarningKind::TokenFile { found });
            Secret::new("")
        });
        Some(Token { secret, file: Some(path) })
    }

    fn checked_token(&mut self, at: Option<usize>, key: &'static str, secret: Secret) -> Option<Token> {
        match wrong_token(secret.expose()) {
            None => Some(Token { secret, file: None }),
            Some(found) => {
                self.redact(secret.expose());
                self.report(at, key, found, ALLOWED_TOKEN);
                None
            }
        }
    }

    /// Reports a client certificate without its key, or the reverse.
    pub(super) fn check_client_pair(&mut self) {
        let (certificate, key) = ("client_cert_file", "client_key_file");
        for (one, other) in [(certificate, key), (key, certificate)] {
            if let (Some(node), None) = (self.present_legacy(one), self.present_legacy(other)) {
                self.report(Some(node.at), one, format!("no `{other}` beside it"), "both, or neither");
            }
        }
    }

    /// Warns if other users can read a file that holds a secret.
    pub(super) fn check_permissions(&mut self, token_file: Option<&Path>, client_key: Option<&Path>) {
        // A token from elsewhere leaves nothing in the configuration to protect.
        let config = self.present_legacy("token").map(|_| self.path.to_owned());
        let files = [
            (config, "the agent's token"),
            (token_file.map(Path::to_owned), "the agent's token"),
            (client_key.map(Path::to_owned), "the client certificate's private key"),
        ];
        for (path, secret) in files {
            if let Some((path, mode)) = path.and_then(|path| readable_by_others(&path).map(|mode| (path, mode))) {
                self.warn(None, WarningKind::ReadableByOthers { path, mode, secret });
            }
        }
    }
}

/// Returns the permission bits of a file that others can read.
fn readable_by_others(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}
