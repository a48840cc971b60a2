//! Describes why a dial failed and what to do about it. It decides nothing.

use std::io;

use tokio_tungstenite::tungstenite::http::{StatusCode, Uri};

use crate::common::http_client::head::HeadError;
use crate::common::http_client::tls_advice::{self, Peer, speaks_of_tls, tls_error};
use crate::common::http_client::{addresses, dial};
use crate::common::text::first_chars;
use crate::sidecar::hub_connection::ConnectionConfig;
use crate::sidecar::hub_connection::dial::{Refusal, UpgradeError, loggable_url, parse};

/// How much of a refused upgrade's body is quoted, characters.
const BODY_EXCERPT_CHARS: usize = 200;

/// What the hub's URL is set by.
const SET_BY: &str = "`hub_url`";

/// Describes a failed TCP connect and what to do.
pub(crate) fn explain_tcp(url: &str, e: &io::Error) -> String {
    dial::explain_tcp(&loggable_url(url), e)
}

/// Describes a failed TLS handshake or upgrade and what to do.
pub(crate) fn explain_upgrade(config: &ConnectionConfig, e: &UpgradeError) -> String {
    let uri = match parse(&config.url) {
        Ok(uri) => uri,
        Err(why) => return format!("cannot connect to the hub: {why}"),
    };
    let shown = dial::loggable_url(&uri);
    let plain = dial::with_scheme(&uri, "ws");
    let peer = Peer { shown: &shown, plain: &plain, set_by: SET_BY, options: &config.transport.tls };
    match e {
        UpgradeError::Url(why) => format!("cannot connect to {shown}: {why}; correct {SET_BY}"),
        UpgradeError::Tls(error) => tls_advice::explain_handshake(peer, error),
        UpgradeError::Head(HeadError::Io(error)) if tls_error(error).is_some() => {
            tls_advice::explain_handshake(peer, error)
        }
        UpgradeError::Head(error) => explain_no_answer(config, &uri, error),
        UpgradeError::Refused(refusal) => explain_refusal(&uri, refusal),
        UpgradeError::Violation(why) => {
            format!(
                "{shown} did not open the WebSocket by the rules (RFC 6455): {why}; look at the proxy before the hub, or correct {SET_BY}"
            )
        }
    }
}

/// Describes an answer that is no HTTP, or none.
fn explain_no_answer(config: &ConnectionConfig, uri: &Uri, e: &HeadError) -> String {
    let shown = dial::loggable_url(uri);
    let speak_tls = format!("write {} into {SET_BY}", dial::with_scheme(uri, "wss"));
    let is_tls = addresses::is_tls(uri);
    let (why, advice) = match e {
        HeadError::Tls => ("that port speaks TLS".to_owned(), speak_tls),
        HeadError::NoAnswer | HeadError::Io(_) if !is_tls => {
            (format!("it was reached, but {}", ended(e)), format!("if that port speaks TLS, {speak_tls}"))
        }
        HeadError::NoAnswer | HeadError::Io(_) if config.transport.tls.client.is_none() => (
            format!("after the TLS handshake {}", ended(e)),
            "it may demand a client certificate (`client_cert_file`, `client_key_file`), or the hub behind it is down"
                .to_owned(),
        ),
        HeadError::NoAnswer | HeadError::Io(_) => (
            format!("after the TLS handshake {}", ended(e)),
            "it may not take the certificate in `client_cert_file`, or the hub behind it is down".to_owned(),
        ),
        HeadError::Cut | HeadError::NoHttp(_) | HeadError::TooLong => {
            (e.to_string(), "is this the hub's address and port, and its /ws path?".to_owned())
        }
    };
    format!("{shown} did not answer as a WebSocket server: {why}; {advice}")
}

fn ended(e: &HeadError) -> String {
    match e {
        HeadError::Io(error) => format!("the connection broke: {error}"),
        HeadError::NoAnswer | HeadError::Cut | HeadError::Tls | HeadError::NoHttp(_) | HeadError::TooLong => {
            e.to_string()
        }
    }
}

fn explain_refusal(uri: &Uri, refusal: &Refusal) -> String {
    let Refusal { status, location, body } = refusal;
    let shown = dial::loggable_url(uri);
    let hint = if status.is_redirection() {
        explain_redirect(uri, location.as_deref())
    } else if *status == StatusCode::BAD_REQUEST && !addresses::is_tls(uri) && speaks_of_tls(body) {
        format!("that port speaks TLS: write {} into {SET_BY}", dial::with_scheme(uri, "wss"))
    } else if *status == StatusCode::NOT_FOUND {
        "check hub_url's path (the hub listens at /ws)".to_owned()
    } else if status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS {
        "the hub, or a proxy before it, is not ready; it is worth another try later".to_owned()
    } else {
        "check hub_url, and any proxy between".to_owned()
    };
    let body = if body.trim().is_empty() {
        String::new()
    } else {
        format!(" ({:?})", first_chars(body.trim(), BODY_EXCERPT_CHARS))
    };
    format!("{shown} refused the WebSocket upgrade with HTTP {status}{body}; {hint}")
}

/// Describes a redirect. It is not followed: the token would go wherever it points to.
fn explain_redirect(uri: &Uri, location: Option<&str>) -> String {
    let target = location.and_then(|location| redirect_target(uri, location));
    match (target, location) {
        (Some(target), _) => format!(
            "it redirects to {}, which is not followed; if that is the hub, write {} into {SET_BY}",
            dial::loggable_url(&target),
            dial::with_scheme(&target, if addresses::is_tls(&target) { "wss" } else { "ws" })
        ),
        (None, Some(location)) => {
            let shown = first_chars(without_secrets(location), BODY_EXCERPT_CHARS);
            format!("it redirects to {shown:?}, which is no address of a hub")
        }
        (None, None) => "it redirects without saying where to; check hub_url".to_owned(),
    }
}

/// Returns the part of a text that is no URL in which a URL would have no secret: what follows its user, without its query.
fn without_secrets(location: &str) -> &str {
    let end = location.find(['?', '#']).unwrap_or(location.len());
    location[..end].rsplit('@').next().unwrap_or_default()
}

/// Returns the absolute URL that a `Location` means.
fn redirect_target(uri: &Uri, location: &str) -> Option<Uri> {
    let absolute = if location.starts_with("//") {
        format!("{}:{location}", uri.scheme_str()?)
    } else if location.starts_with('/') {
        format!("{}://{}{location}", uri.scheme_str()?, uri.authority()?)
    } else {
        location.to_owned()
    };
    let target: Uri = absolute.parse().ok()?;
    matches!(target.scheme_str(), Some("http" | "https" | "ws" | "wss")).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str, status: u16, location: Option<&str>, body: &str) -> String {
        let refusal = Refusal {
            status: StatusCode::from_u16(status).unwrap(),
            location: location.map(str::to_owned),
            body: body.to_owned(),
        };
        let e = UpgradeError::Refused(Box::new(refusal));
        explain_upgrade(&ConnectionConfig::new(url), &e)
    }

    #[test]
    fn a_redirect_names_its_target_and_what_to_write() {
        for (location, expected) in [
            ("https://hub.example/ws", "write wss://hub.example/ws into `hub_url`"),
            ("http://h:80/other?token=s3cret", "write ws://h:80/other into `hub_url`"),
            ("/socket", "write ws://hub.example:4000/socket into `hub_url`"),
            ("//new.example/ws", "write ws://new.example/ws into `hub_url`"),
            ("mailto:admin", "\"mailto:admin\", which is no address of a hub"),
            ("http://me:s3cret@h/w s?token=s3cret", "\"h/w s\", which is no address of a hub"),
        ] {
            let text = refused("ws://hub.example:4000/ws", 301, Some(location), "");
            assert!(text.contains(expected) && !text.contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn a_tls_port_that_says_so_in_http_is_understood() {
        let body = "<html>The plain HTTP request was sent to HTTPS port</html>";
        let text = refused("ws://hub.example:443/ws", 400, None, body);
        assert!(text.contains("that port speaks TLS: write wss://hub.example:443/ws into `hub_url`"), "{text}");
    }
}
