//! Describes why TLS to a hub failed, and what to do about each reason. It decides nothing.

use std::io;

use rustls::{AlertDescription, CertificateError};

use crate::common::http_client::tls::{Roots, SetBy, TlsOptions};
use crate::common::wall_clock::utc;

/// The peer in the words of the person who set it up.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Its URL, as it may be logged.
    pub shown: &'a str,
    /// The same URL without TLS.
    pub plain: &'a str,
    /// What the URL is set by: `hub_url`.
    pub set_by: &'a str,
    /// How TLS is spoken to it.
    pub options: &'a TlsOptions,
}

/// Returns the TLS error that an error wraps, at any depth.
pub fn tls_error(e: &io::Error) -> Option<&rustls::Error> {
    let inner = e.get_ref()?;
    inner.downcast_ref().or_else(|| inner.downcast_ref().and_then(tls_error))
}

/// Describes a failed handshake and what to do.
pub fn explain_handshake(peer: Peer<'_>, e: &io::Error) -> String {
    match tls_error(e) {
        Some(tls) => explain_tls(peer, tls),
        // Of `route::secure`: what is wrong on this machine.
        None if e.kind() == io::ErrorKind::InvalidInput => format!("cannot speak TLS to {}: {e}", peer.shown),
        None => {
            let Peer { shown, plain, set_by, .. } = peer;
            let closed = matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset);
            let hint = if closed {
                format!("a port without TLS closes the connection so: if it has none, write {plain} into {set_by}")
            } else {
                format!("does that port speak TLS? If not, write {plain} into {set_by}")
            };
            format!("cannot speak TLS to {shown}: {e}; {hint}")
        }
    }
}

/// Describes a TLS error and what to do.
pub fn explain_tls(peer: Peer<'_>, e: &rustls::Error) -> String {
    let Peer { shown, plain, set_by, .. } = peer;
    let (why, advice) = if let rustls::Error::InvalidCertificate(why) = e {
        explain_certificate(peer, why)
    } else if let rustls::Error::AlertReceived(alert) = e {
        (alert_in_words(*alert, e), advice_for_alert(peer, *alert))
    } else if let rustls::Error::InvalidMessage(_) = e {
        ("that port does not speak TLS".to_owned(), format!("write {plain} into {set_by}"))
    } else {
        (e.to_string(), "see the hub's TLS settings".to_owned())
    };
    format!("cannot speak TLS to {shown}: {why}; {advice}")
}

/// Returns what is wrong with the hub's certificate, and what to do.
fn explain_certificate(peer: Peer<'_>, why: &CertificateError) -> (String, String) {
    let clock = "if it is good, this machine's clock is wrong: set it (timedatectl)";
    let day = |time: &rustls::pki_types::UnixTime| utc(time.as_secs().saturating_mul(1_000));
    if let CertificateError::ExpiredContext { time, not_after } = why {
        let why =
            format!("its certificate expired at {}, and by this machine's clock it is {}", day(not_after), day(time));
        (why, format!("renew it at the hub; {clock}"))
    } else if let CertificateError::NotValidYetContext { time, not_before } = why {
        let why = format!(
            "its certificate is not valid before {}, and by this machine's clock it is {}",
            day(not_before),
            day(time)
        );
        (why, format!("wait until then, or make another at the hub; {clock}"))
    } else if let CertificateError::NotValidForNameContext { expected, presented } = why {
        let names = match presented.as_slice() {
            [] => "no name at all (no subjectAltName)".to_owned(),
            names => names.iter().map(|name| bare_name(name)).collect::<Vec<_>>().join(", "),
        };
        let expected = expected.to_str();
        let why = format!("its certificate is for {names}, not for {expected}");
        (why, format!("write a name that it is for into {}, or make one with subjectAltName {expected}", peer.set_by))
    } else if *why == CertificateError::UnknownIssuer {
        ("its certificate is signed by an authority that is not trusted here (unknown issuer)".to_owned(), trust(peer))
    } else if *why == CertificateError::BadSignature
        || matches!(why, CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. })
    {
        let why = "its certificate is not signed by the authority of that name that is trusted here, but by another: was \
                   it made anew (bad signature)?";
        (why.to_owned(), trust(peer))
    } else if matches!(why, CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity")) {
        let why = "its certificate is an authority's own (CA:TRUE), as `openssl req -x509` makes them: an authority \
                   signs certificates and is no server's";
        let make = "make the hub one with `-addext basicConstraints=critical,CA:FALSE` and a subjectAltName";
        (why.to_owned(), format!("{make}; then {}", trust(peer)))
    } else {
        (why.to_string(), "make another certificate at the hub".to_owned())
    }
}

/// Returns the name in `DnsName("hub.example")` or `IpAddress(192.0.2.1)`, as the library words them.
fn bare_name(presented: &str) -> &str {
    let inside = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inside.unwrap_or(presented).trim_matches('"')
}

/// Returns how to have an authority trusted.
fn trust(peer: Peer<'_>) -> String {
    let variable = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().find(|name| std::env::var_os(name).is_some());
    let named_in = peer.options.set_by.authorities();
    match &peer.options.roots {
        Roots::File(path) => {
            format!("put its authority's certificate (PEM) into {}, which {named_in} names", path.display())
        }
        Roots::Native | Roots::Only(_) => {
            let now = match variable {
                Some(name) => format!(" ({name} in this process's environment replaces the machine's authorities)"),
                None => String::new(),
            };
            format!("put its authority's certificate (PEM) into a file and name that in {named_in}{now}")
        }
    }
}

/// Returns whether an error page says that the port is one for TLS, as this hub, nginx, Apache and Go word it.
pub fn speaks_of_tls(body: &str) -> bool {
    ["HTTPS server", "HTTPS port", "SSL-enabled"].iter().any(|words| body.contains(words))
}

fn alert_in_words(alert: AlertDescription, e: &rustls::Error) -> String {
    if is_about_certificate(alert) { format!("the peer ended the handshake ({alert:?})") } else { e.to_string() }
}

fn is_about_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    [
        A::NoCertificate,
        A::BadCertificate,
        A::UnsupportedCertificate,
        A::CertificateRevoked,
        A::CertificateExpired,
        A::CertificateUnknown,
        A::UnknownCA,
        A::AccessDenied,
        A::CertificateRequired,
    ]
    .contains(&alert)
}

fn advice_for_alert(peer: Peer<'_>, alert: AlertDescription) -> String {
    match (&peer.options.client, is_about_certificate(alert) || alert == AlertDescription::HandshakeFailure) {
        (None, true) if peer.options.set_by == SetBy::Keys => {
            "it may demand a client certificate: name one in `client_cert_file` and its key in `client_key_file`"
                .to_owned()
        }
        (None, true) => "it demands a client certificate, which this command has none of".to_owned(),
        (Some(client), true) => {
            let file = client.certificate.display();
            format!(
                "it did not take the certificate in {file} (`client_cert_file`): renew it, or have its authority trusted there"
            )
        }
        (_, false) if alert == AlertDescription::UnrecognisedName => {
            format!("it serves no such name: correct {}", peer.set_by)
        }
        (_, false) => "see the hub's TLS settings".to_owned(),
    }
}
