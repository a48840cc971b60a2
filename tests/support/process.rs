//! Real processes: start one with its output in files, signal it, see whether it lives, wait for its end. It knows
//! nothing of what it runs.
//!
//! ```text
//! let mut child = Running::start(Command::new(..), &folder, "sidecar"); // output in folder/sidecar.out, .err
//! child.pid(); child.signal(Signal::TERM); child.kill9(); child.wait_exit(); child.output()
//! alive(pid); kill9(pid); tree_of(pid); resident_kb(pid)
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, kill_process};

pub use rustix::process::Signal;

use super::wait;

/// A child of the test; killed when the test lets go of it.
pub struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    /// Starts it with its output appended to `<folder>/<name>.out` and `.err`.
    pub fn start(mut command: Command, folder: &Path, name: &str) -> Self {
        let open = |path: &Path| File::options().create(true).append(true).open(path).expect("a file for the output");
        let (out, err) = (folder.join(format!("{name}.out")), folder.join(format!("{name}.err")));
        let child = command.stdin(Stdio::null()).stdout(open(&out)).stderr(open(&err)).spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { child, out, err }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Its exit, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child can be asked")
    }

    /// Waits for it to end by itself.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let (out, err) = (&self.out, &self.err);
        let probe = || child.try_wait().expect("the child can be asked");
        wait::until_or("the process to end", wait::BOUND, probe, || both(out, err))
    }

    /// All it has printed: stdout, then stderr.
    pub fn output(&self) -> String {
        both(&self.out, &self.err)
    }

    /// All it has printed on stdout.
    pub fn stdout(&self) -> String {
        read(&self.out)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill9();
    }
}

fn both(out: &Path, err: &Path) -> String {
    format!("stdout:\n{}\nstderr:\n{}", read(out), read(err))
}

fn read(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Copies a program (or a script) to where it is to be run, by a process of its own: a file that this one has just written
/// may be open in a child that another test is starting, and then the kernel does not run it ("text file busy").
pub fn install(source: &Path, program: &Path) {
    let status = Command::new("install").args(["-m", "755", "--"]).args([source, program]).status();
    assert!(status.is_ok_and(|status| status.success()), "{} cannot be installed", program.display());
}

/// Runs a command to its end, for at most `bound`; answers its exit and its stdout and stderr.
pub fn run(mut command: Command, bound: Duration) -> (ExitStatus, String) {
    let folder = tempfile::tempdir().expect("a folder for the output");
    command.env("NO_COLOR", "1");
    let shown = format!("{command:?}");
    let mut running = Running::start(command, folder.path(), "command");
    let status = {
        let running = &mut running.child;
        let probe = || running.try_wait().expect("the child can be asked");
        wait::until_or(&shown, bound, probe, || {
            both(&folder.path().join("command.out"), &folder.path().join("command.err"))
        })
    };
    let text = read(&running.out) + &read(&running.err);
    (status, text)
}

/// A process that has ended is reaped or a zombie; neither is alive.
pub fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

pub fn kill9(pid: u32) {
    send(pid, Signal::KILL);
}

/// A signal to a process that is gone already is no failure.
pub fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// The process and everything below it.
pub fn tree_of(root: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .expect("/proc can be listed")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.parent)))
        .collect();
    let mut tree = vec![root];
    let mut at = 0;
    while at < tree.len() {
        let parent = tree[at];
        tree.extend(all.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    tree
}

/// The resident set, kB.
pub fn resident_kb(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

struct Stat {
    state: char,
    parent: u32,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything, parentheses too.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some(Stat { state: fields.next()?.chars().next()?, parent: fields.next()?.parse().ok()? })
}
