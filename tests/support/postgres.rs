//! A PostgreSQL server of the test's own, in a temporary folder: real, with replicas, to be stopped and killed. Where none is
//! installed (Debian: `apt-get install postgresql`), a test says so and ends.
//!
//! ```text
//! let Some(server) = Postgres::start() else { return };
//! let url = server.new_database();
//! server.kill_9();                 // the server's processes are gone, as after a crash
//! server.start_again();
//! let replica = server.replica();  // follows it, and takes no writes
//! replica.promote();               // it takes writes from now on
//! ```

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The longest that a server may take to start or to stop, on a slow and busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The role that owns everything.
const ROLE: &str = "agentcom";
/// Runs the server until stdin ends: with the test's process, whatever ends that.
const KEEPER: &str = r#""$@" & pid=$!; read -r _; kill -QUIT "$pid" 2>/dev/null; wait "$pid""#;

pub struct Postgres {
    folder: TempDir,
    bin: PathBuf,
    port: u16,
    keeper: std::sync::Mutex<Option<Child>>,
}

/// The folder of the server's programs, which Debian does not put on PATH.
fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    let on_path =
        std::env::var_os("PATH").and_then(|path| std::env::split_paths(&path).find(|it| it.join("initdb").exists()));
    found.pop().or(on_path)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command as the user that may run a server: it refuses root.
fn command(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}

fn done(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

impl Postgres {
    /// Starts a server; `None`, with a word, where none is installed.
    pub fn start() -> Option<Self> {
        let server = Self::empty()?;
        let data = server.data();
        // What a test does to it is no power cut.
        done(
            command(&server.bin.join("initdb"))
                .args(["-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-U", ROLE, "-D"])
                .arg(&data),
        );
        server.start_again();
        Some(server)
    }

    /// The same for all tests of this process: it is started once, and ends with the process.
    pub fn shared() -> Option<&'static Self> {
        static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
        SERVER.get_or_init(Self::start).as_ref()
    }

    fn empty() -> Option<Self> {
        let Some(bin) = programs() else {
            let is_needed = std::env::var_os("AGENTCOM_TEST_POSTGRES").is_some_and(|value| value == "1");
            assert!(!is_needed, "AGENTCOM_TEST_POSTGRES=1, and no PostgreSQL is installed here");
            eprintln!("NOT TESTED: no PostgreSQL is installed here (apt-get install postgresql)");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("agentcom-postgres-").tempdir().expect("a folder");
        if is_root() {
            done(Command::new("chown").arg("postgres").arg(folder.path()));
        }
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        Some(Self { folder, bin, port, keeper: std::sync::Mutex::default() })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{ROLE}@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes a database, and returns its address.
    pub fn new_database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("hub_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("create database {name}"));
        self.url(&name)
    }

    /// Runs SQL and returns what it prints: a line for each row, its columns with `|` between them.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let port = self.port.to_string();
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", &port, "-U", ROLE]);
        let output = done(psql.args(["-d", database, "-c", sql]));
        String::from_utf8(output.stdout).expect("UTF-8").trim_end().to_owned()
    }

    /// The same in the database of an address.
    pub fn sql_at(&self, url: &str, sql: &str) -> String {
        self.sql(url.rsplit('/').next().expect("a database"), sql)
    }

    /// Starts it on what it left, and waits until it answers.
    pub fn start_again(&self) {
        let begun = Instant::now();
        let port = self.port.to_string();
        loop {
            let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log"));
            let log = log.expect("its log");
            let keeper = command(Path::new("/bin/sh"))
                .args(["-c", KEEPER, "sh"])
                .arg(self.bin.join("postgres"))
                .args(["-D".as_ref(), self.data().as_os_str()])
                .args(["-p", &port, "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=300"])
                .args(["-c", "fsync=off", "-c", "wal_level=replica", "-c", "shared_buffers=32MB"])
                .args(["-c".into(), format!("unix_socket_directories={}", self.folder.path().display())])
                .stdin(Stdio::piped())
                .stdout(log.try_clone().expect("a handle"))
                .stderr(log)
                .spawn()
                .expect("the server's keeper");
            *self.keeper.lock().expect("no panic") = Some(keeper);
            while begun.elapsed() < PATIENCE {
                if self.answers() {
                    return;
                }
                // One that was killed may leave processes that end a moment later: it is tried again.
                let postmaster = self.data().join("postmaster.pid");
                if begun.elapsed() > Duration::from_secs(2) && !postmaster.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            self.stop();
            assert!(begun.elapsed() < PATIENCE, "the server does not start:\n{}", self.log());
        }
    }

    fn answers(&self) -> bool {
        let port = self.port.to_string();
        let mut asked = Command::new(self.bin.join("pg_isready"));
        asked.args(["-q", "-h", "127.0.0.1", "-p", &port]).status().is_ok_and(|status| status.success())
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Stops it: its connections break.
    pub fn stop(&self) {
        if let Some(mut keeper) = self.keeper.lock().expect("no panic").take() {
            drop(keeper.stdin.take());
            keeper.wait().expect("the server's end");
        }
    }

    /// Kills it, as a crash of its machine would end it.
    pub fn kill_9(&self) {
        let pid = std::fs::read_to_string(self.data().join("postmaster.pid")).expect("a server that runs");
        let pid: i32 = pid.lines().next().and_then(|pid| pid.parse().ok()).expect("its process id");
        let children = Command::new("pgrep").args(["-P", &pid.to_string()]).output().expect("pgrep");
        let children = String::from_utf8_lossy(&children.stdout).into_owned();
        done(Command::new("kill").arg("-9").arg(pid.to_string()));
        for child in children.lines() {
            // It may have ended by itself, since its parent has.
            let _ = Command::new("kill").args(["-9", child]).stderr(Stdio::null()).status();
        }
        self.stop();
        let _ = std::fs::remove_file(self.data().join("postmaster.pid"));
    }

    /// Starts a replica that follows this server.
    pub fn replica(&self) -> Self {
        let replica = Self::empty().expect("it is installed");
        let port = self.port.to_string();
        done(
            command(&self.bin.join("pg_basebackup"))
                .args([
                    "-R",
                    "-X",
                    "stream",
                    "-c",
                    "fast",
                    "--no-sync",
                    "-h",
                    "127.0.0.1",
                    "-p",
                    &port,
                    "-U",
                    ROLE,
                    "-D",
                ])
                .arg(replica.data()),
        );
        replica.start_again();
        replica
    }

    /// Waits until a replica has everything that this server has committed.
    pub fn wait_for(&self, replica: &Self) {
        let begun = Instant::now();
        let at = self.sql("postgres", "select pg_current_wal_lsn()");
        while replica.sql("postgres", &format!("select pg_last_wal_replay_lsn() >= '{at}'")) != "t" {
            assert!(begun.elapsed() < PATIENCE, "the replica does not follow:\n{}", replica.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Makes a replica the server that takes writes.
    pub fn promote(&self) {
        assert_eq!(self.sql("postgres", "select pg_promote()"), "t", "{}", self.log());
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}
