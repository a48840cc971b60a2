//! Opens TCP connections to a hub by its URL, and the TLS configuration for them, each failure as a text that says what to
//! do. It has no deadline; the caller limits its time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use tokio::net::TcpStream;

/// The time limit for an address that does not answer, if there is another to try.
const PER_ADDRESS: Duration = Duration::from_secs(3);

/// The certificate authorities that a hub is checked against.
#[derive(Debug, Clone)]
pub enum Roots {
    /// The machine's own, read again for each dial (so that a repaired store counts without a restart); `SSL_CERT_FILE`
    /// and `SSL_CERT_DIR` are honoured.
    Native,
    /// Exactly these.
    Only(Arc<rustls::RootCertStore>),
}

/// Returns the URL's host; an IPv6 address without its brackets.
pub fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

/// Looks up the addresses of a URL's host, each with the URL's port.
///
/// # Errors
/// The system's error.
pub async fn resolve(uri: &Uri) -> io::Result<Vec<SocketAddr>> {
    let tls = matches!(uri.scheme_str(), Some("https" | "wss"));
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    Ok(tokio::net::lookup_host((host(uri), port)).await?.collect())
}

/// Looks up the host and connects to the first of its addresses that answers.
///
/// # Errors
/// The system's error, or what to do about a host without an address.
pub async fn tcp(uri: &Uri) -> io::Result<TcpStream> {
    let addresses = resolve(uri).await.map_err(|e| {
        io::Error::other(format!("cannot look up the host: {e}; check the address and this machine's DNS"))
    })?;
    let mut last = io::Error::other("the host has no address; check how it is spelled");
    for (i, address) in addresses.iter().enumerate() {
        let attempt = TcpStream::connect(address);
        let outcome = if i + 1 == addresses.len() {
            attempt.await
        } else {
            match tokio::time::timeout(PER_ADDRESS, attempt).await {
                Ok(outcome) => outcome,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        };
        match outcome {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Returns the TLS client configuration: the trusted roots and the provider.
///
/// # Errors
/// The trust store is empty or unusable, with what to do.
pub async fn tls(roots: Roots) -> Result<Arc<rustls::ClientConfig>, String> {
    let roots = match roots {
        Roots::Only(roots) => roots,
        // Reads and parses a file of some 200 kB: not on the event loop's thread.
        Roots::Native => tokio::task::spawn_blocking(native_roots)
            .await
            .unwrap_or_else(|e| Err(format!("reading the machine's certificates failed: {e}")))?,
    };
    // The provider is passed explicitly, not installed process-wide: no other part of the process is affected.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn native_roots() -> Result<Arc<rustls::RootCertStore>, String> {
    let found = rustls_native_certs::load_native_certs();
    for e in &found.errors {
        tracing::warn!(error = %e, "some of the machine's certificates cannot be read");
    }
    let mut store = rustls::RootCertStore::empty();
    let (usable, _) = store.add_parsable_certificates(found.certs);
    if usable == 0 {
        return Err("this machine has no certificate authorities to check the hub against; \
                    install its ca-certificates package, or name a PEM file in SSL_CERT_FILE"
            .into());
    }
    Ok(Arc::new(store))
}

/// Returns the URL as it may be logged: without user, password and query, any of which may contain a token.
pub fn loggable_url(uri: &Uri) -> String {
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", uri.scheme_str().unwrap_or("http"), uri.host().unwrap_or_default(), uri.path())
}

/// Describes a failed TCP connect and what to do; `shown` is the peer's address.
pub fn explain_tcp(shown: &str, e: &io::Error) -> String {
    let hint = if e.kind() == io::ErrorKind::ConnectionRefused {
        "; nothing listens there: is the hub running, and is the port right?"
    } else if e.kind() == io::ErrorKind::TimedOut {
        "; no answer: is the host up, and does a firewall stand between?"
    } else {
        ""
    };
    format!("cannot connect to {shown}: {e}{hint}")
}

/// Returns the TLS error that an error wraps, if any.
pub fn tls_error(e: &io::Error) -> Option<&rustls::Error> {
    e.get_ref()?.downcast_ref()
}

/// Describes a failed TLS handshake and what to do; `shown` is the peer's name, and `plain` the scheme without TLS.
pub fn explain_handshake(shown: &str, plain: &str, e: &io::Error) -> String {
    match tls_error(e) {
        Some(tls) => explain_tls(shown, plain, tls),
        None => format!("cannot speak TLS to {shown}: {e}; does that port speak TLS?"),
    }
}

/// Describes a TLS error and what to do, as [`explain_handshake`] does.
pub fn explain_tls(shown: &str, plain: &str, e: &rustls::Error) -> String {
    let hint = if matches!(e, rustls::Error::InvalidCertificate(_)) {
        "its certificate is not one this machine trusts for that name: add its authority to the machine's store \
         or to SSL_CERT_FILE, or use the name the certificate is for"
            .to_owned()
    } else if matches!(e, rustls::Error::InvalidMessage(_)) {
        format!("that port does not speak TLS: write {plain} if this is meant")
    } else {
        "see the hub's TLS settings".to_owned()
    };
    format!("cannot speak TLS to {shown}: {e}; {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_url_keeps_no_secrets() {
        let uri: Uri = "wss://user:s3cret@hub.example:4443/ws?token=s3cret".parse().unwrap();
        assert_eq!(loggable_url(&uri), "wss://hub.example:4443/ws");
    }
}
