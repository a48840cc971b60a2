//! Checks whether the local HTTP listener can open at its configured address. Without a running sidecar it opens the
//! port for a moment; else it requests the agent id of the server that answers there.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::common::http_client::route::Transport;
use crate::sidecar::cli::check::Finding;
use crate::sidecar::cli::hub_client::{Question, ask};
use crate::sidecar::config::Config;
use crate::sidecar::exit_code::ExitCode;
use crate::sidecar::journal::state_lock::Holder;

/// The time limit of the listener's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks the listener. Returns `None` if none is configured.
pub(super) async fn check(config: &Config, holder: Option<&Holder>) -> Option<Finding> {
    let address = config.http_listen?;
    Some(match holder {
        None => check_free(address),
        Some(_) => check_running(config, address).await,
    })
}

fn check_free(address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok("http", format!("http://{address} can be opened")),
        Err(error) => cannot_open(address, &error),
    }
}

fn cannot_open(address: SocketAddr, error: &io::Error) -> Finding {
    let finding =
        Finding::problem("http", format!("http://{address} cannot be opened: {error}"), ExitCode::Unavailable);
    if error.kind() == io::ErrorKind::AddrInUse {
        finding.then("give `http_listen` a port that no other process uses: each sidecar needs its own")
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        finding.then("give `http_listen` a port above 1023")
    } else {
        finding.then("correct `http_listen`")
    }
}

/// Checks whether the server at the address is the running sidecar.
async fn check_running(config: &Config, address: SocketAddr) -> Finding {
    let base = format!("http://{address}");
    let (timeout, transport) = (ANSWER_TIMEOUT, &Transport::without_proxies());
    let question = Question { base: &base, path: "/state", token: None, body: None, timeout, transport };
    match ask(question).await {
        Ok(answer) if answer.body["agent_id"] == config.agent_id.as_str() => {
            Finding::ok("http", format!("the running sidecar answers at {base}"))
        }
        Ok(_) => Finding::problem("http", format!("at {base} another program answers"), ExitCode::Unavailable).then(
            "give `http_listen` a port that no other process uses (each sidecar needs its own), then restart the sidecar",
        ),
        Err(error) => Finding::warning("http", error)
            .then("if `http_listen` was changed while it runs: restart the sidecar; else its log says why"),
    }
}
