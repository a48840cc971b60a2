//! The hub under load: started here on a data folder of its own, or one that runs already.

use std::fs::File;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::Outcome;
use crate::args::Args;
use crate::http::Client;

/// The longest wait for the hub's start, for a token, and for its end.
const PATIENCE: Duration = Duration::from_secs(20);
/// The pause between two looks at what the hub has done.
const POLL: Duration = Duration::from_millis(5);

/// A hub that can be loaded.
pub struct Hub {
    /// Where it listens.
    pub address: SocketAddr,
    /// An admin's token.
    pub admin: String,
    own: Option<Own>,
}

/// A hub that was started here.
struct Own {
    child: Child,
    log: PathBuf,
    _data: TempDir,
}

impl Hub {
    /// Starts a hub, or takes the one that the arguments name.
    pub fn new(args: &Args) -> Outcome<Self> {
        if let (Some(url), Some(file)) = (&args.hub, &args.admin_token_file) {
            let address = url.trim_start_matches("http://").trim_start_matches("ws://").trim_end_matches('/');
            let address = address.to_socket_addrs().ok().and_then(|mut found| found.next());
            let address = address.ok_or_else(|| format!("--hub {url}: not an address like http://127.0.0.1:4000"))?;
            let token = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
            return Ok(Self { address, admin: token.trim().to_owned(), own: None });
        }
        let binary = args.hub_binary()?;
        let data = match &args.data_parent {
            Some(parent) => tempfile::tempdir_in(parent),
            None => tempfile::Builder::new().prefix("agentcom-load-").tempdir(),
        };
        let data = data.map_err(|error| format!("no folder for the hub's data: {error}"))?;
        let log = data.path().join("hub.log");
        let output = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let mut command = Command::new(&binary);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data.path()).args(&args.hub_arguments);
        let errors = output.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = child.map_err(|error| format!("{} cannot be started: {error}", binary.display()))?;
        let mut own = Own { child, log, _data: data };
        let address = own.wait_for_address()?;
        let admin = admin_token(&binary, own.log.parent().unwrap_or(Path::new(".")))?;
        Ok(Self { address, admin, own: Some(own) })
    }

    /// Returns the process id, if the hub was started here.
    pub fn pid(&self) -> Option<u32> {
        self.own.as_ref().map(|own| own.child.id())
    }

    /// Returns a new HTTP connection with the admin's token.
    pub fn client(&self) -> Client {
        Client::new(self.address, &self.admin)
    }

    /// Returns the number of lines that the hub has logged so far, if it was started here.
    pub fn log_lines(&self) -> Outcome<Option<usize>> {
        let count = |own: &Own| own.read_log().map(|log| log.lines().count());
        self.own.as_ref().map(count).transpose()
    }

    /// Returns the log's lines about errors and warnings, and the count of them.
    pub fn complaints(&self) -> Outcome<Vec<String>> {
        let Some(own) = &self.own else { return Ok(Vec::new()) };
        let is_complaint = |line: &&str| !line.contains(r#""level":"info""#) && !line.contains(r#""level":"INFO""#);
        Ok(own.read_log()?.lines().filter(is_complaint).map(str::to_owned).collect())
    }

    /// Stops the hub, if it was started here, and checks that it ends as one that was told to.
    pub fn stop(mut self) -> Outcome<()> {
        let Some(own) = &mut self.own else { return Ok(()) };
        let pid = i32::try_from(own.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or("the hub has no process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .map_err(|error| format!("the hub cannot be stopped: {error}"))?;
        match wait_for("the hub's end", || own.ended())? {
            status if status.success() => Ok(()),
            status => Err(format!("the hub ended with {status}:\n{}", own.read_log()?)),
        }
    }
}

impl Own {
    fn ended(&mut self) -> Outcome<Option<ExitStatus>> {
        self.child.try_wait().map_err(|error| format!("the hub's process cannot be asked: {error}"))
    }

    fn read_log(&self) -> Outcome<String> {
        std::fs::read_to_string(&self.log).map_err(|error| format!("{}: {error}", self.log.display()))
    }

    /// Waits for the log line that says where the hub listens.
    fn wait_for_address(&mut self) -> Outcome<SocketAddr> {
        wait_for("the hub to listen", || {
            let log = self.read_log()?;
            if let Some(status) = self.ended()? {
                return Err(format!("the hub ended with {status} before it listened:\n{log}"));
            }
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut listening = lines.filter(|line| line["message"] == "listening");
            Ok(listening.find_map(|line| line["address"].as_str()?.parse().ok()))
        })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn admin_token(binary: &Path, data: &Path) -> Outcome<String> {
    let mut command = Command::new(binary);
    let output = command.args(["token", "load", "--admin", "--data"]).arg(data).output();
    let output = output.map_err(|error| format!("{} token: {error}", binary.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.split_whitespace().last() {
        Some(token) if output.status.success() => Ok(token.to_owned()),
        _ => Err(format!("{} token ended with {}: {text}", binary.display(), output.status)),
    }
}

/// Waits until `probe` has a result.
fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("waited {PATIENCE:?} for {what}"));
        }
        std::thread::sleep(POLL);
    }
}
