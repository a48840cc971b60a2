//! The session of a page: a sealed cookie that names a token by its hash, without the token.
//!
//! The hub keeps no list of sessions. A cookie is worth what its token is worth at the moment of each request, so a token
//! that is revoked ends its sessions at once, and a restart of the hub ends none. The key of the seal lies in the data
//! folder beside the store, and in no backup: the hashes in a backup make no session.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::common::fs::atomic_file::write_atomic;
use crate::common::fs::regular_file;
use crate::common::http_host::WebOrigin;
use crate::hub::api_error::ApiError;
use crate::hub::http::credentials::Session;
use crate::hub::http::request::App;
use crate::hub::random;
use crate::hub::state::tokens::{SECRET_BYTES, TokenHash, hex};

/// How long a session lasts, in ms: a week.
const LIFETIME_MS: u64 = 7 * 86_400_000;
/// The file of the key, in the data folder.
const KEY_FILE: &str = "session.key";
/// The header without which a cookie proves nothing. A page of another origin cannot send it: its browser would ask the
/// hub for leave first, and the hub gives none.
const PAGE_HEADER: &str = "agentcom-page";
/// The cookie's name over TLS, which only the host itself can set, and only over TLS.
const SECURE_NAME: &str = "__Host-agentcom-session";
/// The cookie's name without TLS.
const PLAIN_NAME: &str = "agentcom-session";
/// What is sealed begins with this, so that no other use of the key makes a session.
const PURPOSE: &[u8] = b"agentcom-hub session 1\n";

/// Makes and reads session cookies.
pub(in crate::hub::http) struct Sessions {
    file: PathBuf,
    key: Mutex<Option<[u8; SECRET_BYTES]>>,
}

impl Sessions {
    /// Creates the sessions of the hub with this data folder. Its key is read, or made, when it is first needed.
    pub(in crate::hub::http) fn new(data_dir: &Path) -> Arc<Self> {
        Arc::new(Self { file: data_dir.join(KEY_FILE), key: Mutex::default() })
    }

    /// Returns the `Set-Cookie` value of a new session for a token. `headers` are those of the page's request.
    ///
    /// # Errors
    /// 500 if the key cannot be read or made.
    pub(super) fn open(&self, token: &TokenHash, now_ms: u64, headers: &HeaderMap) -> Result<HeaderValue, ApiError> {
        let expires_at = now_ms.saturating_add(LIFETIME_MS);
        let sealed = hex(&self.seal(token, expires_at)?.finalize().into_bytes());
        let value = format!("{expires_at}.{}.{sealed}", hex(token));
        Ok(cookie(&value, LIFETIME_MS / 1_000, headers))
    }

    /// Returns the hash of the token whose session the request's cookie is, whatever the token is worth by now.
    pub(super) fn read(&self, headers: &HeaderMap, now_ms: u64) -> Option<TokenHash> {
        let value = [SECURE_NAME, PLAIN_NAME].into_iter().find_map(|name| cookie_of(headers, name))?;
        let (expires_at, rest) = value.split_once('.')?;
        let (token, sealed) = rest.split_once('.')?;
        let expires_at = expires_at.parse().ok().filter(|at| *at > now_ms)?;
        let token: TokenHash = HEXLOWER.decode(token.as_bytes()).ok()?.try_into().ok()?;
        let sealed = HEXLOWER.decode(sealed.as_bytes()).ok()?;
        // Compared in constant time. A key that cannot be read has made no cookie.
        self.seal(&token, expires_at).ok()?.verify_slice(&sealed).ok()?;
        Some(token)
    }

    fn seal(&self, token: &TokenHash, expires_at: u64) -> Result<Hmac<Sha256>, ApiError> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key()?).map_err(|error| self.unusable(&error.to_string()))?;
        mac.update(PURPOSE);
        mac.update(&expires_at.to_be_bytes());
        mac.update(token);
        Ok(mac)
    }

    fn key(&self) -> Result<[u8; SECRET_BYTES], ApiError> {
        // Held while the file is read or made, so that there is one key.
        let mut known = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = *known {
            return Ok(key);
        }
        let key = match regular_file::read(&self.file, SECRET_BYTES as u64) {
            Ok(bytes) => bytes.try_into().map_err(|_| self.unusable("it has not 32 bytes"))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = random::secret()?;
                write_atomic(&self.file, &key).map_err(|error| self.unusable(&error.to_string()))?;
                key
            }
            Err(error) => return Err(self.unusable(&error.to_string())),
        };
        Ok(*known.insert(key))
    }

    fn unusable(&self, why: &str) -> ApiError {
        tracing::error!(file = %self.file.display(), why, "nobody can log in at the page: the key of its sessions cannot be used");
        let hint = "the key of the page's sessions cannot be used: the hub's log says why (session.key in its data folder; \
                    without the file a new key is made, and everybody logs in again)";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "no_session_key", hint)
    }
}

/// Lets a session cookie count as the credentials of a request that a page of the hub's own sends.
pub(in crate::hub::http) async fn recognise(
    State((app, sessions)): State<(Arc<App>, Arc<Sessions>)>,
    mut request: Request,
    next: Next,
) -> Response {
    if request.headers().contains_key(PAGE_HEADER)
        && let Some(token) = sessions.read(request.headers(), app.snapshot().now_ms())
    {
        request.extensions_mut().insert(Session(token));
    }
    next.run(request).await
}

/// Returns the `Set-Cookie` value that ends a session.
pub(super) fn ended(headers: &HeaderMap) -> HeaderValue {
    cookie("", 0, headers)
}

/// Returns a `Set-Cookie` value. The page itself says, by its `Origin`, whether it came over TLS, through whatever proxy.
fn cookie(value: &str, max_age_s: u64, headers: &HeaderMap) -> HeaderValue {
    let origin = headers.get(header::ORIGIN).and_then(|origin| WebOrigin::parse(origin.to_str().ok()?));
    let (name, secure) = match origin.is_some_and(|origin| origin.tls) {
        true => (SECURE_NAME, "; Secure"),
        false => (PLAIN_NAME, ""),
    };
    let text = format!("{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}");
    // Digits, hex, dots and the words above: always a valid header.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

fn cookie_of<'headers>(headers: &'headers HeaderMap, name: &str) -> Option<&'headers str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';')).find_map(|pair| {
        let (found, value) = pair.trim().split_once('=')?;
        (found == name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn pair_of(cookie: &HeaderValue) -> String {
        cookie.to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    #[test]
    fn a_session_outlives_the_hub_and_names_its_token() {
        let dir = tempfile::tempdir().unwrap();
        let opened = Sessions::new(dir.path()).open(&[7; 32], NOW, &HeaderMap::new()).unwrap();
        let sent = headers(&[(header::COOKIE, &format!("other=1; {}", pair_of(&opened)))]);
        assert_eq!(Sessions::new(dir.path()).read(&sent, NOW), Some([7; 32]), "by another process on the folder");
        let elsewhere = tempfile::tempdir().unwrap();
        assert_eq!(Sessions::new(elsewhere.path()).read(&sent, NOW), None, "by a hub with another key");
    }

    #[test]
    fn a_cookie_that_was_changed_or_has_expired_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = Sessions::new(dir.path());
        let pair = pair_of(&sessions.open(&[7; 32], NOW, &HeaderMap::new()).unwrap());
        let (name, value) = pair.split_once('=').unwrap();
        let parts: Vec<&str> = value.split('.').collect();
        let past = hex(&sessions.seal(&[7; 32], 5).unwrap().finalize().into_bytes());
        for forged in [
            String::new(),
            "..".to_owned(),
            format!("{}.{}.{}", parts[0], hex(&[8; 32]), parts[2]),
            format!("9{}.{}.{}", parts[0], parts[1], parts[2]),
            format!("{}.{}.{}", parts[0], parts[1], &parts[2][..62]),
            format!("5.{}.{past}", parts[1]),
        ] {
            assert_eq!(
                sessions.read(&headers(&[(header::COOKIE, &format!("{name}={forged}"))]), NOW),
                None,
                "{forged}"
            );
        }
    }

    #[test]
    fn over_tls_the_cookie_is_for_tls_only() {
        let dir = tempfile::tempdir().unwrap();
        let at = |origin: &str| {
            let opened = Sessions::new(dir.path()).open(&[7; 32], NOW, &headers(&[(header::ORIGIN, origin)])).unwrap();
            opened.to_str().unwrap().to_owned()
        };
        let (secure, plain) = (at("https://hub.example"), at("http://127.0.0.1:4000"));
        assert!(secure.starts_with("__Host-agentcom-session=") && secure.ends_with("; Secure"), "{secure}");
        assert!(plain.starts_with("agentcom-session=") && !plain.contains("Secure"), "{plain}");
        for cookie in [secure, plain] {
            assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
            assert!(!cookie.contains("Domain"), "{cookie}");
        }
    }
}
