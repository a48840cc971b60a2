//! Reads `token_file` again for each dial, so that a renewed token counts without a restart.

use std::sync::Arc;

use crate::common::logging;
use crate::sidecar::config::{Config, read_token};
use crate::sidecar::shell::event_loop::Sidecar;

impl Sidecar {
    /// Reads the token of the next `identify`, if it has a file. One that cannot be read is reported; the last token is
    /// used then, which the hub may still know.
    ///
    /// # Errors
    /// Why there is no token, not even an older one.
    pub(super) async fn renew_token(&mut self) -> Result<(), String> {
        let Some(path) = self.config.token_file.clone() else { return Ok(()) };
        let found = match self.on_a_thread(move || read_token(&path)).await {
            Ok(found) => found,
            Err(error) => Err(format!("a file whose reader died: {error}")),
        };
        let trouble = found.as_ref().err().map(|found| format!("`token_file` is {found}"));
        match found {
            Ok(token) if token != self.identity.token => {
                tracing::info!("`token_file` holds another token, which is used from now on");
                logging::learn_secret(&token);
                self.identity.token = token.clone();
                self.config = Arc::new(Config { token, ..(*self.config).clone() });
            }
            Ok(_) => {}
            Err(_) => tracing::warn!(error = trouble, "the token was not read again"),
        }
        let has_token = !self.identity.token.expose().is_empty();
        let told = trouble.clone().filter(|_| has_token).map(|why| format!("{why}; the token read before is used"));
        self.snapshot.send_if_modified(|snapshot| {
            let changed = snapshot.token_trouble != told;
            snapshot.token_trouble = told;
            changed
        });
        match trouble {
            Some(why) if !has_token => {
                Err(format!("{why}: without a token the hub knows nobody; it is read again for each try"))
            }
            Some(_) | None => Ok(()),
        }
    }
}
