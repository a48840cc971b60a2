//! One bad input, what it is given to, and what must be said of it. It judges; which inputs there are stands in the tables.

use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use crate::support::process;
use crate::support::sidecar::SIDECAR;
use crate::support::wait;
use crate::support::web::Web;

pub const TOKEN: &str = "t0ken-that-nobody-may-see";

/// One bad input. In `args`, file texts and expectations `{dir}` is the row's own folder, `{web}` a web server that
/// misbehaves by the first part of its path, `{gone}` an address where nobody listens; in `args`, `%20` is a space and
/// `%00` an empty word. What comes before the name's first `/` is made a folder.
pub struct Row {
    pub args: &'static str,
    /// `name` and text. A text `<dir>` makes a folder, `<pipe>` a named pipe, `<socket>` a socket, `<huge>` a file of a
    /// terabyte (of holes), `<link> x` a symbolic link to x.
    pub files: &'static [(&'static str, &'static str)],
    pub env: &'static [(&'static str, &'static str)],
    pub code: i32,
    /// What is wrong, where, and what to do.
    pub says: [&'static str; 3],
}

pub const RUN: &str = "run --config {dir}/config.json";
pub const GOOD: &str =
    r#"{"agent_id": "a", "token": "t0ken-that-nobody-may-see", "hub_url": "ws://{gone}/ws", "wake_command": "true"}"#;

/// `run` with this text as configuration.
macro_rules! config {
    ($text:expr, $says:expr) => {
        Row { args: RUN, files: &[("config.json", $text)], env: &[], code: 78, says: $says }
    };
}

/// `run` with these members on top of a good configuration, on line 2.
macro_rules! with {
    ($members:expr, $says:expr) => {
        config!(
            concat!(
                r#"{"agent_id": "a", "token": "t0ken-that-nobody-may-see", "hub_url": "ws://h/ws", "wake_command": "true","#,
                "\n",
                $members,
                "}"
            ),
            $says
        )
    };
}

/// The command line alone, beside a good configuration.
macro_rules! line {
    ($args:expr, $code:expr, $says:expr) => {
        Row { args: $args, files: &[("config.json", GOOD)], env: &[], code: $code, says: $says }
    };
}

static WEB: LazyLock<Web> = LazyLock::new(|| {
    Web::start(|path, _| {
        let health = r#"{"status":"ok","service":"agent_com"}"#.to_owned();
        match path.trim_start_matches('/').split_once('/').unwrap_or((path, "")) {
            ("ssh", _) => (0, "SSH-2.0-OpenSSH_9.2\r\n".into()),
            ("shop", _) => (200, "<html>Welcome to our shop</html>".into()),
            ("moved", _) => (301, String::new()),
            ("tls", _) => (400, "A plain HTTP request was sent to an HTTPS port.".into()),
            // A hub that does not go by this name takes a token all the same.
            ("unknown-host", "api/admin/agents/a/restarts") => (403, "{}".into()),
            ("unknown-host", _) => (421, r#"{"error":"unknown_host","hint":"the host is `web`"}"#.into()),
            (_, "health") => (200, health),
            ("guarded", _) => (401, r#"{"error":"unauthorized","hint":"an admin registers agents here"}"#.into()),
            ("odd-name", _) => {
                (422, r#"{"error":"validation_failed","errors":[{"detail":"no hyphens, please"}]}"#.into())
            }
            ("broken", _) => (500, r#"{"error":"the disk is full"}"#.into()),
            ("mute", _) => (201, "{}".into()),
            _ => (404, r#"{"error":"not_found"}"#.into()),
        }
    })
});

/// An address that was free a moment ago.
pub static GONE: LazyLock<String> =
    LazyLock::new(|| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string());

impl Row {
    /// What is not as it should be; `None` when all is.
    fn complaint(&self) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().display().to_string();
        let filled = |text: &str| text.replace("{dir}", &dir).replace("{web}", &WEB.url()).replace("{gone}", &GONE);
        for (name, text) in self.files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match (*text, text.strip_prefix("<link> ")) {
                ("<dir>", _) => fs::create_dir_all(path).unwrap(),
                ("<pipe>", _) => named_pipe(&path),
                ("<socket>", _) => drop(UnixListener::bind(path).unwrap()),
                ("<huge>", _) => File::create(path).unwrap().set_len(1 << 40).unwrap(),
                (_, Some(target)) => std::os::unix::fs::symlink(filled(target), path).unwrap(),
                (text, None) => fs::write(path, filled(text)).unwrap(),
            }
        }
        let words: Vec<String> =
            self.args.split(' ').map(|word| filled(word).replace("%20", " ").replace("%00", "")).collect();
        let mut command = Command::new(SIDECAR);
        command.args(&words).current_dir(folder.path()).env("PM2_HOME", folder.path().join("no-pm2"));
        for inherited in
            ["pm_id", "name", "PM2_PROCESS_NAME", "AGENTCOM_CONFIG", "AGENTCOM_TOKEN", "AGENTCOM_ADMIN_TOKEN"]
        {
            command.env_remove(inherited);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, filled(value))));
        let (status, text) = process::run(command, wait::BOUND);
        let missing = self.says.iter().map(|words| filled(words)).find(|words| !text.contains(words.as_str()));
        let mut wrong = Vec::new();
        wrong.extend(missing.map(|words| format!("does not say {words:?}")));
        wrong
            .extend((status.code() != Some(self.code)).then(|| format!("ended with {status}, expected {}", self.code)));
        wrong.extend(text.contains(TOKEN).then(|| "shows the token".to_owned()));
        wrong.extend(text.contains("panicked").then(|| "panicked".to_owned()));
        (!wrong.is_empty()).then(|| format!("{words:?} with {:?}: {}\n{text}", self.files, wrong.join("; ")))
    }
}

pub fn judge(rows: &[Row]) {
    let complaints: Vec<_> = rows.iter().filter_map(Row::complaint).collect();
    assert!(complaints.is_empty(), "{} of {} rows:\n\n{}", complaints.len(), rows.len(), complaints.join("\n"));
}

/// Nobody stands at its other end.
fn named_pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}
