//! A real pm2, from npm at the version that `package.json` pins, with a `PM2_HOME` of the test's own. At most three
//! tests hold one at a time. It tells what pm2 says and does not judge it.
//!
//! ```text
//! let pm2 = Pm2::start();                       // installs pm2 when missing; AGENTCOM_TEST_PM2 names another one
//! pm2.launch(json!({"name": "x", "script": ..}));   // an app; launch_file(path, &[("VAR", "value")], Some("only this one"))
//! pm2.pid_of("x"); pm2.restarts_of("x"); pm2.status_of("x")     // asked over pm2's socket: under a millisecond
//! pm2.wait_restarts("x", 1)                     // the pid after the first restart, once online
//! pm2.jlist()                                   // `pm2 jlist`, as an operator would
//! pm2.command(&["restart", "x"])                // any other command; panics when it fails
//! pm2.printed(&["show", "x"])                   // the same, with what it prints
//! ```
//! Dropping it kills the daemon and everything under it, and prints the logs first when the test has failed.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::process::Running;
use super::{npm, process, wait};

/// A pm2 command line starts a Node process, and the first one a daemon too.
const COMMAND_BOUND: Duration = Duration::from_secs(60);

/// A pm2 daemon of this test's own.
pub struct Pm2 {
    home: tempfile::TempDir,
    _permit: Permit,
}

impl Pm2 {
    pub fn start() -> Self {
        let permit = Permit::wait();
        // Short: pm2's sockets live in it, and a unix socket's path has 108 bytes.
        let base = Some(std::env::temp_dir()).filter(|dir| dir.as_os_str().len() < 40).unwrap_or_else(|| "/tmp".into());
        let home = tempfile::Builder::new().prefix("p2-").tempdir_in(base).expect("a folder for PM2_HOME");
        Self { home, _permit: permit }
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Starts one app.
    pub fn launch(&self, app: Value) {
        let file = self.home().join("launch.json");
        std::fs::write(&file, json!({"apps": [app]}).to_string()).expect("PM2_HOME can be written");
        self.launch_file(&file, &[], None);
    }

    /// `pm2 start FILE`, with these variables in its environment, and only this app of it if one is named.
    pub fn launch_file(&self, file: &Path, variables: &[(&str, &str)], only: Option<&str>) {
        let mut command = self.prepared(&["start"]);
        command.arg(file).envs(variables.iter().copied());
        if let Some(name) = only {
            command.args(["--only", name]);
        }
        self.succeed(command);
    }

    /// `pm2-runtime` with this app, as a container's command: pm2's daemon and its only command line in one process.
    pub fn runtime(&self, app: &Value) -> Running {
        let file = self.home().join("runtime.json");
        std::fs::write(&file, json!({"apps": [app]}).to_string()).expect("PM2_HOME can be written");
        let mut command = self.environed(Command::new(program().with_file_name("pm2-runtime")));
        command.arg(file);
        Running::start(command, self.home(), "runtime")
    }

    /// Any pm2 command.
    pub fn command(&self, args: &[&str]) -> String {
        self.succeed(self.prepared(args))
    }

    /// A line as an operator types it into a shell; its `pm2` is this one.
    pub fn typed(&self, line: &str) -> String {
        let mut shell = Command::new("sh");
        let pm2 = self.prepared(&[]);
        shell.arg("-c").arg(format!("pm2() {{ \"$AGENTCOM_TEST_PM2\" -s \"$@\"; }}; {line}"));
        for (variable, value) in pm2.get_envs() {
            match value {
                Some(value) => shell.env(variable, value),
                None => shell.env_remove(variable),
            };
        }
        shell.env("AGENTCOM_TEST_PM2", program());
        self.succeed(shell)
    }

    /// The same with all that it prints: `show` and `trigger` say nothing when silenced.
    pub fn printed(&self, args: &[&str]) -> String {
        let mut command = self.environed(Command::new(program()));
        command.args(args);
        self.succeed(command)
    }

    /// The same, not waited for. `name` tells it from others of this pm2.
    pub fn printing(&self, args: &[&str], name: &str) -> Running {
        let mut command = self.environed(Command::new(program()));
        command.args(args);
        Running::start(command, self.home(), name)
    }

    /// `pm2 jlist`: one object an app.
    pub fn jlist(&self) -> Vec<Value> {
        let text = self.command(&["jlist"]);
        // Banners may stand before and after the array.
        let start = text
            .match_indices('[')
            .find_map(|(at, _)| serde_json::Deserializer::from_str(&text[at..]).into_iter::<Vec<Value>>().next()?.ok());
        start.unwrap_or_else(|| panic!("no app list in what pm2 jlist printed:\n{text}"))
    }

    /// The same list over pm2's own socket; empty while no daemon runs.
    pub fn apps(&self) -> Vec<Value> {
        ask(&self.home().join("rpc.sock")).unwrap_or_default()
    }

    pub fn app(&self, name: &str) -> Option<Value> {
        self.apps().into_iter().find(|app| app["name"] == name)
    }

    /// None unless it runs.
    pub fn pid_of(&self, name: &str) -> Option<u32> {
        let pid = self.app(name)?["pid"].as_u64()?;
        u32::try_from(pid).ok().filter(|pid| *pid > 0)
    }

    /// pm2's own count.
    pub fn restarts_of(&self, name: &str) -> u64 {
        self.app(name).and_then(|app| app["pm2_env"]["restart_time"].as_u64()).unwrap_or(0)
    }

    pub fn status_of(&self, name: &str) -> String {
        let app = self.app(name).unwrap_or(Value::Null);
        app["pm2_env"]["status"].as_str().unwrap_or("unknown to pm2").to_owned()
    }

    /// Waits until it is online; answers its pid.
    pub fn wait_online(&self, name: &str) -> u32 {
        let probe = || (self.status_of(name) == "online").then(|| self.pid_of(name)).flatten();
        wait::until_or(&format!("{name} online"), wait::BOUND, probe, || self.story())
    }

    /// Waits until pm2 has restarted it `count` times in all and it is online; answers its pid.
    pub fn wait_restarts(&self, name: &str, count: u64) -> u32 {
        let probe = || {
            let app = self.app(name)?;
            let there = app["pm2_env"]["restart_time"].as_u64()? >= count && app["pm2_env"]["status"] == "online";
            let pid = u32::try_from(app["pid"].as_u64()?).ok()?;
            (there && process::alive(pid)).then_some(pid)
        };
        wait::until_or(&format!("restart {count} of {name}"), wait::BOUND, probe, || self.story())
    }

    pub fn wait_status(&self, name: &str, status: &str) {
        let probe = || (self.status_of(name) == status).then_some(());
        wait::until_or(&format!("{name} to be {status}"), wait::BOUND, probe, || self.story());
    }

    /// All logs, pm2's own too, for the message of a failing test.
    pub fn story(&self) -> String {
        let logs =
            std::fs::read_dir(self.home().join("logs")).into_iter().flatten().flatten().map(|entry| entry.path());
        let all = std::iter::once(self.home().join("pm2.log")).chain(logs);
        let told = all.map(|path| format!("== {}\n{}", path.display(), tail(&path)));
        told.collect::<Vec<_>>().join("\n")
    }

    fn prepared(&self, args: &[&str]) -> Command {
        let mut command = self.environed(Command::new(program()));
        // Silent; first, because what follows a `--` is the app's.
        command.arg("-s").args(args);
        command
    }

    fn environed(&self, mut command: Command) -> Command {
        command.env("PM2_HOME", self.home()).env("PM2_NO_INTERACTION", "1");
        // A pm2 around the test run is none of ours, and what CI tells the tests is for no app.
        let of_pm2 = ["pm_id", "name", "NODE_APP_INSTANCE", "NODE_CHANNEL_FD", "PM2_PROCESS_NAME"];
        for inherited in of_pm2.into_iter().chain(["AGENTCOM_TEST_CHROMIUM", "AGENTCOM_TEST_POSTGRES"]) {
            command.env_remove(inherited);
        }
        command
    }

    fn succeed(&self, command: Command) -> String {
        let shown = format!("{command:?}");
        let (status, text) = process::run(command, COMMAND_BOUND);
        assert!(status.success(), "{shown} ended with {status}:\n{text}\n{}", self.story());
        text
    }
}

impl Drop for Pm2 {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.story());
        }
        let daemon = std::fs::read_to_string(self.home().join("pm2.pid")).ok().and_then(|pid| pid.trim().parse().ok());
        let Some(daemon) = daemon.filter(|pid| process::alive(*pid)) else { return };
        // Stopped, it starts nobody again; `pm2 kill` would be one more Node process for each test.
        process::send(daemon, process::Signal::STOP);
        process::tree_of(daemon).into_iter().for_each(process::kill9);
    }
}

/// The last lines of a log.
fn tail(path: &Path) -> String {
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(80)..].join("\n")
}

/// One call to pm2's daemon: two length-prefixed arguments each way. Undocumented and unchanged since pm2 3.5.
fn ask(socket: &Path) -> Option<Vec<Value>> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut request = vec![0x12];
    for part in [r#"j:{"type":"call","method":"getMonitorData","args":[{}]}"#, "s:q:0"] {
        request.extend(u32::try_from(part.len()).ok()?.to_be_bytes());
        request.extend(part.as_bytes());
    }
    stream.write_all(&request).ok()?;
    let mut head = [0; 5];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes(head[1..].try_into().ok()?);
    let mut body = vec![0; usize::try_from(length).ok()?];
    stream.read_exact(&mut body).ok()?;
    let reply: Value = serde_json::from_slice(body.strip_prefix(b"j:")?).ok()?;
    reply["args"][0].as_array().cloned()
}

/// The pm2 to run, installed first if need be.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(named) = std::env::var_os("AGENTCOM_TEST_PM2") {
            return named.into();
        }
        npm::packages().join(".bin/pm2")
    })
}

/// Three at a time: a Node daemon and its apps are heavy on two cores.
struct Permit;

static IN_USE: Mutex<u32> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Permit {
    fn wait() -> Self {
        let in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut in_use = FREED.wait_while(in_use, |count| *count >= 3).unwrap_or_else(PoisonError::into_inner);
        *in_use += 1;
        Self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *IN_USE.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}
