//! Checks the files that TLS to the hub needs: whether they can be read, belong together, and are good for a while yet.

use std::time::Duration;

use rustls::pki_types::CertificateDer;

use crate::common::certificates::{Validity, validity};
use crate::common::http_client::tls::{ClientCertificate, SetBy, read_authorities, read_client};
use crate::common::wall_clock::utc;
use crate::sidecar::cli::check::Finding;
use crate::sidecar::config::Config;
use crate::sidecar::exit_code::ExitCode;

const CHECK: &str = "tls files";

/// How long before its end a certificate is warned about.
const AHEAD: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Returns a finding for `ca_file` and one for the client certificate, as far as they are configured.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(path) = &config.ca_file {
        let shown = format!("`ca_file`: {}", path.display());
        let found = read_authorities(SetBy::Keys.authorities(), path).map(|(_, certificates)| certificates);
        findings.push(finding(&shown, found, "correct it, or take it out to trust the machine's authorities"));
    }
    if let Some((certificate, key)) = config.client_cert_file.clone().zip(config.client_key_file.clone()) {
        let shown = format!("`client_cert_file`: {}", certificate.display());
        let found = read_client(&ClientCertificate { certificate, key }).map(|(chain, _)| chain);
        findings.push(finding(&shown, found, "have the certificate and its key made anew, or correct the paths"));
    }
    if !findings.is_empty() && config.hub_url.starts_with("ws:") {
        let found = format!("{} is without TLS: `ca_file` and the client certificate are not used", config.hub_url);
        findings.push(Finding::warning(CHECK, found).then("write wss:// into `hub_url`, if the hub speaks TLS"));
    }
    findings
}

fn finding(shown: &str, found: Result<Vec<CertificateDer<'static>>, String>, remedy: &str) -> Finding {
    let problem = |why: String| Finding::problem(CHECK, why, ExitCode::Unavailable);
    match found {
        Err(why) => problem(why).then(remedy),
        Ok(certificates) => dated(CHECK, shown, &certificates).unwrap_or_else(|| {
            Finding::ok(CHECK, format!("{shown} (of {}), good for 30 days at least", certificates.len()))
        }),
    }
}

/// Returns the finding for the first certificate that is not good, or not for long; `None` if all are.
pub(super) fn dated(check: &'static str, shown: &str, certificates: &[CertificateDer<'_>]) -> Option<Finding> {
    certificates.iter().find_map(|certificate| {
        let (is_over, found) = match validity(certificate, AHEAD) {
            Validity::Good => return None,
            Validity::Until(at) => (false, format!("{shown} expires at {}", utc(at))),
            Validity::ExpiredSince(at) => (true, format!("{shown} expired at {}", utc(at))),
            Validity::From(at) => (true, format!("{shown} is not valid before {}", utc(at))),
        };
        let finding = if is_over {
            Finding::problem(check, found, ExitCode::Unavailable)
        } else {
            Finding::warning(check, found)
        };
        Some(finding.then("renew it; the files are read again for each dial, without a restart"))
    })
}
