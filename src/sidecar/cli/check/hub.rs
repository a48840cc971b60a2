//! Checks the hub step by step: its name, TCP, TLS, the WebSocket, the token. The WebSocket is opened and closed
//! without a frame, and the token is checked over HTTP: an `identify` would displace the connection of a running
//! sidecar.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio_tungstenite::MaybeTlsStream;

use crate::common::http_client::{AskError, HubAddress, exchange};
use crate::sidecar::cli::check::Finding;
use crate::sidecar::cli::check::tls_files::dated;
use crate::sidecar::cli::hub_client::{ask, token};
use crate::sidecar::config::{Config, read_token};
use crate::sidecar::exit_code::ExitCode;
use crate::sidecar::hub_connection::dial::progress::Progress;
use crate::sidecar::hub_connection::{ConnectionConfig, dial};

/// The time limit of the probe connection's closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Whose hub answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HubKind {
    /// The one of this project.
    Ours,
    /// AgentCom's own.
    Legacy,
}

/// Returns a finding for each step, and whose hub it is where that is known. After a failed step, those that depend on it
/// are left out.
pub(super) async fn check(config: &Config) -> (Vec<Finding>, Option<HubKind>) {
    let mut findings = Vec::new();
    let mut hub = None;
    let reached = check_connection(config, &mut findings).await;
    if let Some(found) = config.token_file.as_deref().and_then(|path| read_token(path).err()) {
        let then = "put the token there, readable for the user that runs the sidecar; no restart is needed";
        findings.push(problem("token", format!("`token_file` is {found}")).then(then));
    } else if reached {
        let (finding, kind) = check_token(config).await;
        findings.push(finding);
        hub = kind;
    }
    (findings, hub)
}

fn problem(check: &'static str, why: impl std::fmt::Display) -> Finding {
    Finding::problem(check, why, ExitCode::Unavailable)
}

/// Checks whether a WebSocket can be opened, and adds a finding for each step.
async fn check_connection(config: &Config, findings: &mut Vec<Finding>) -> bool {
    let url = config.hub_url.as_str();
    let shown = dial::loggable_url(url);
    let limit = Duration::from_millis(config.connect_timeout_ms);
    let connection = ConnectionConfig {
        connect_timeout_ms: config.connect_timeout_ms,
        transport: config.transport(),
        ..ConnectionConfig::new(url)
    };
    let late = |what: &str| format!("{shown}: {what} took longer than `connect_timeout_ms`, {} ms", limit.as_millis());
    let again = "is the host up, and does a firewall stand between?";
    match exchange::parse(url).and_then(|uri| connection.transport.proxies.proxy_for(&uri).map_err(AskError::Name)) {
        Ok(Some(proxy)) => {
            findings.push(Finding::ok("hub proxy", format!("{shown} is reached through the proxy {proxy}, from here")));
        }
        Ok(None) => match within(limit, ask::resolve(url)).await {
            Some(Ok(found)) => {
                let list: Vec<_> = found.iter().map(|address| address.ip().to_string()).collect();
                findings.push(Finding::ok("hub name", format!("{shown} is at {}", list.join(", "))));
            }
            Some(Err(error)) => return add(findings, problem("hub name", error).then("correct `hub_url`")),
            None => {
                return add(findings, problem("hub name", late("the name lookup")).then("look at this machine's DNS"));
            }
        },
        Err(why) => return add(findings, problem("hub proxy", why).then("correct that variable, or unset it")),
    }
    let begun = Instant::now();
    let stream = match dial::reach(connection.clone(), Progress::new()).await {
        Ok(stream) => stream,
        Err(error) => {
            let tcp = problem("hub tcp", dial::explain_tcp(url, &error));
            return add(findings, tcp.then("start the hub, or correct `hub_url`"));
        }
    };
    findings.push(Finding::ok("hub tcp", format!("connected in {} ms", begun.elapsed().as_millis())));
    let tls = url.starts_with("wss");
    match within(limit, dial::upgrade(&connection, stream, &Progress::new())).await {
        Some(Ok(mut socket)) => {
            if tls {
                findings.push(trusted(socket.get_ref()));
            }
            findings.push(Finding::ok("hub ws", "a WebSocket opens there (closed again without a word)"));
            // The check does not depend on the hub's answer to the close frame.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, socket.close(None)).await;
            true
        }
        Some(Err(error)) => {
            let check = if error.is_tls() { "hub tls" } else { "hub ws" };
            if tls && !error.is_tls() {
                findings.push(Finding::ok("hub tls", "its certificate is trusted on this machine"));
            }
            add(
                findings,
                problem(check, dial::explain_upgrade(&connection, &error)).then("correct `hub_url`, or mend the hub"),
            )
        }
        None => add(findings, problem("hub ws", late("the handshake")).then(again)),
    }
}

/// Returns the finding for a hub's certificate that was trusted.
fn trusted<S>(stream: &MaybeTlsStream<S>) -> Finding {
    let soon = if let MaybeTlsStream::Rustls(stream) = stream {
        stream.get_ref().1.peer_certificates().and_then(|chain| dated("hub tls", "its certificate", chain))
    } else {
        None
    };
    soon.unwrap_or_else(|| Finding::ok("hub tls", "its certificate is trusted on this machine"))
}

fn add(findings: &mut Vec<Finding>, problem: Finding) -> bool {
    findings.push(problem);
    false
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}

/// Returns the address of the hub's HTTP interface.
///
/// # Errors
/// Returns why it cannot be told from `hub_url`.
pub(super) fn api_base(config: &Config) -> Result<String, String> {
    match &config.hub_api_url {
        Some(url) => Ok(url.trim_end_matches('/').to_owned()),
        None => HubAddress::parse(&config.hub_url).map(|hub| hub.http).map_err(|why| why.to_string()),
    }
}

/// Checks whether the hub accepts the agent's token. Only the hub of this project tells whose it is.
async fn check_token(config: &Config) -> (Finding, Option<HubKind>) {
    use token::TokenStatus;
    let base = match api_base(config) {
        Ok(base) => base,
        Err(why) => {
            return (Finding::warning("token", format!("the hub's HTTP address cannot be told: {why}")), None);
        }
    };
    let limit = Duration::from_millis(config.connect_timeout_ms);
    let agent = &config.agent_id;
    let renew = format!(
        "put its own token into {} (agentcom-hub token {agent} --replace --out FILE makes another), then restart the \
         sidecar",
        config.path.display()
    );
    let status = token::token_status(&base, agent, &config.token, limit, &config.transport()).await;
    let hub = match &status {
        Ok(TokenStatus::Ours) => Some(HubKind::Ours),
        Ok(TokenStatus::Known) => Some(HubKind::Legacy),
        Ok(TokenStatus::Anothers | TokenStatus::Unknown | TokenStatus::Unclear { .. }) | Err(_) => None,
    };
    let finding = match status {
        Ok(TokenStatus::Ours) => {
            Finding::ok("token", format!("{base} takes it as {agent:?}'s (asked over HTTP, without an identify)"))
        }
        Ok(TokenStatus::Known) => Finding::ok(
            "token",
            format!("{base} knows it, and does not tell whose it is (asked over HTTP, without an identify)"),
        ),
        Ok(TokenStatus::Anothers) => {
            problem("token", format!("{base} knows it as another agent's, not {agent:?}'s")).then(renew)
        }
        Ok(TokenStatus::Unknown) => problem("token", format!("{base} does not know it")).then(renew),
        Ok(TokenStatus::Unclear { why }) => {
            Finding::warning("token", format!("whether {base} knows it is unclear: {why}"))
                .then("the sidecar's log says `identified` when the hub takes it")
        }
        Err(error) => Finding::warning("token", format!("cannot be asked about: {error}"))
            .then("set `hub_api_url` to the hub's HTTP address, if it is not where its WebSocket is"),
    };
    (finding, hub)
}
