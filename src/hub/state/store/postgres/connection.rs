//! Connections to the database, and the threads that serve them: they are the store's own, so that neither a commit nor a
//! renewal of the lease waits for the hub's other work.

use std::future::{Future, poll_fn};
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::Severity;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};

use crate::common::http_client::tls::{Roots, TlsOptions, client_config};
use crate::hub::state::store::database_error::DatabaseError;
use crate::hub::state::store::postgres::tls::MakeTls;

/// How long a session with one host may take to begin, where the address does not say (`connect_timeout`): a server that stands
/// still takes a connection and says nothing, and the next host is to be tried within the lease.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long what was sent may be without an acknowledgement, and how long a connection may be silent before it is probed.
const TCP_TIMEOUT: Duration = Duration::from_secs(8);
/// What each session begins with, whatever the role's settings are: a commit is acknowledged when it is durable; a statement sees
/// what was committed while it waited; it waits 2 s for a lock, so that the lease is looked at meanwhile; no timeout of the server
/// cancels it, which would not take back what is committed; and the server notices within 11 s that this machine is gone. (The
/// settings that not each version of the server has are set where they are.)
const SESSION: &str = "set default_transaction_isolation = 'read committed'; \
    set lock_timeout = '2s'; set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 2; set tcp_keepalives_count = 3; \
    select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') in ('off', 'local'); \
    select set_config(name, '0', false) from pg_settings where name in ('statement_timeout', 'transaction_timeout', \
    'idle_session_timeout', 'idle_in_transaction_session_timeout')";

/// A PostgreSQL database, by its address. A copy is the same one.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    config: Config,
    /// One for each host.
    hosts: Vec<Config>,
    /// The host that took writes when it was last asked.
    last_host: AtomicUsize,
    tls: TlsOptions,
    shown: String,
    /// `None` once it is dropped.
    runtime: Option<Runtime>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Dropping it would wait, which is not allowed in asynchronous code.
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.shown)
    }
}

impl Database {
    /// Reads an address: `postgres://USER:PASSWORD@HOST:PORT/DATABASE?KEY=VALUE&...`, with several hosts if there are replicas.
    /// The keys are those of libpq that `tokio_postgres` knows, and `sslrootcert` (a PEM file). Without `sslmode`, TLS is spoken
    /// to hosts that are not this machine; a certificate is always checked.
    ///
    /// # Errors
    /// [`DatabaseError::Address`] says what is wrong, and does not quote the password.
    pub fn parse(address: &str) -> Result<Self, DatabaseError> {
        let wrong = |why: String| {
            DatabaseError::Address(format!(
                "--store (or AGENTCOM_HUB_STORE): {why}; it is postgres://USER:PASSWORD@HOST:PORT/DATABASE"
            ))
        };
        if !address.starts_with("postgres://") && !address.starts_with("postgresql://") {
            return Err(wrong("it does not begin with postgres://".to_owned()));
        }
        let (base, query) = address.split_once('?').unwrap_or((address, ""));
        let (mut tls, mut pairs, mut says_mode) = (TlsOptions::default(), Vec::new(), false);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslrootcert", path)) => tls.roots = Roots::File(PathBuf::from(path)),
                Some(("sslmode", "verify-full" | "verify-ca")) => {
                    says_mode = true;
                    pairs.push("sslmode=require");
                }
                Some((key, _)) => {
                    says_mode |= key == "sslmode";
                    pairs.push(pair);
                }
                None => pairs.push(pair),
            }
        }
        // The library's errors name keys and ports, and no value.
        let parsed = format!("{base}?{}", pairs.join("&")).parse::<Config>();
        let mut config = parsed.map_err(|error| wrong(with_cause(&error)))?;
        if config.get_hosts().is_empty() {
            return Err(wrong("it names no host".to_owned()));
        }
        if config.get_dbname().is_none() {
            return Err(wrong("it names no database".to_owned()));
        }
        if !says_mode {
            let is_near = config.get_hosts().iter().all(is_this_machine);
            config.ssl_mode(if is_near { SslMode::Disable } else { SslMode::Require });
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config
            .application_name("agentcom-hub")
            // Of several hosts, the one that takes writes.
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .keepalives_idle(TCP_TIMEOUT)
            .tcp_user_timeout(TCP_TIMEOUT);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("database")
            .enable_all()
            .build()
            .map_err(|error| DatabaseError::Address(format!("no threads for the database: {error}")))?;
        let (shown, hosts) = (shown(&config), each_host(&config));
        let last_host = AtomicUsize::new(0);
        Ok(Self(Arc::new(Inner { config, hosts, last_host, tls, shown, runtime: Some(runtime) })))
    }

    /// Returns what the database is called in messages: without its password.
    pub fn shown(&self) -> &str {
        &self.0.shown
    }

    /// Connects to the host that takes writes: the one that did when it was last asked, and then the others.
    ///
    /// # Errors
    /// [`DatabaseError::Refused`] or [`DatabaseError::Away`]; of several hosts, the first one that may pass counts.
    pub async fn connect(&self) -> Result<Session, DatabaseError> {
        let Inner { config, hosts, last_host, .. } = &*self.0;
        let limit = config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        let (last, mut failure) = (last_host.load(Ordering::Relaxed), None::<DatabaseError>);
        for n in (0..hosts.len()).map(|n| (last + n) % hosts.len()) {
            let begun = timeout(limit, self.connect_to(&hosts[n])).await;
            let error = match begun {
                Ok(Ok(session)) => {
                    last_host.store(n, Ordering::Relaxed);
                    return Ok(session);
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    let detail = format!("no session within {} ms", limit.as_millis());
                    DatabaseError::Away { place: shown(&hosts[n]), detail }
                }
            };
            if failure.as_ref().is_none_or(|known| !known.passes() && error.passes()) {
                failure = Some(error);
            }
        }
        let none = || DatabaseError::Address("the address names no host".to_owned());
        Err(failure.unwrap_or_else(none))
    }

    async fn connect_to(&self, config: &Config) -> Result<Session, DatabaseError> {
        let tls = &self.0.tls;
        let failed = |error| self.error(&error);
        let (client, warnings) = if config.get_ssl_mode() == SslMode::Disable {
            let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
            (client, self.serve(connection))
        } else {
            let tls = client_config(tls).await.map_err(|detail| {
                let place = self.shown().to_owned();
                DatabaseError::Refused { place, detail, advice: "name the server's authority with ?sslrootcert=FILE" }
            })?;
            let (client, connection) = config.connect(MakeTls(tls)).await.map_err(failed)?;
            (client, self.serve(connection))
        };
        client.batch_execute(SESSION).await.map_err(failed)?;
        Ok(Session { client, warnings })
    }

    /// Serves a connection until it ends. Returns the number of warnings that came over it.
    fn serve<S, T>(&self, mut connection: Connection<S, T>) -> Arc<AtomicU64>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let warnings = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&warnings);
        self.spawn(async move {
            loop {
                match poll_fn(|cx| connection.poll_message(cx)).await {
                    Some(Ok(AsyncMessage::Notice(notice))) => {
                        if notice.parsed_severity() == Some(Severity::Warning) {
                            counted.fetch_add(1, Ordering::SeqCst);
                            tracing::warn!(%notice, "the database warns");
                        }
                    }
                    // Nothing else is asked for.
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        tracing::debug!(error = with_cause(&error), "a connection to the database ended");
                        return;
                    }
                    None => return,
                }
            }
        });
        warnings
    }

    /// Runs a future on the database's own threads.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0.runtime {
            runtime.spawn(work);
        }
    }

    /// Runs a future on the database's own threads, and waits for it: this blocks the calling thread, as a write to a disk does.
    ///
    /// # Errors
    /// Those of the future.
    pub fn wait<T: Send + 'static, E: From<DatabaseError> + Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E> {
        let (done, result) = std::sync::mpsc::sync_channel(1);
        self.spawn(async move {
            // The receiver waits below.
            let _ = done.send(work.await);
        });
        result.recv().unwrap_or_else(|_| {
            let place = self.shown().to_owned();
            Err(DatabaseError::Failed { place, detail: "a bug: the work on it ended early".to_owned() }.into())
        })
    }

    /// Returns what an error of the library means.
    pub(in crate::hub) fn error(&self, error: &tokio_postgres::Error) -> DatabaseError {
        let (place, detail) = (self.shown().to_owned(), with_cause(error));
        let Some(code) = error.as_db_error().map(tokio_postgres::error::DbError::code) else {
            // Another failure of the handshake is one of the connection.
            if detail.starts_with("error performing TLS handshake") && detail.contains("certificate") {
                let advice =
                    "name the server's authority with ?sslrootcert=FILE, or speak plainly with ?sslmode=disable";
                return DatabaseError::Refused { place, detail, advice };
            }
            return DatabaseError::Away { place, detail };
        };
        let advice = match code.code() {
            code if code.starts_with("28") => "check the user and the password, and pg_hba.conf of the server",
            "3D000" => "create the database, or correct its name",
            "42501" | "3F000" => "let the role create the schema agentcom: make it the owner of the database",
            code if may_pass(code) => return DatabaseError::Away { place, detail },
            _ => return DatabaseError::Failed { place, detail },
        };
        DatabaseError::Refused { place, detail, advice }
    }
}

/// A connection to the database.
pub struct Session {
    client: Client,
    warnings: Arc<AtomicU64>,
}

impl Session {
    /// Returns how many warnings came with what was asked over it. A commit is reported as done, with a warning, if it is
    /// cancelled while it waits for a replica (PostgreSQL's `syncrep.c`): the replica may lack it.
    pub fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::SeqCst)
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// Returns whether what a server refuses with this code (PostgreSQL's appendix A) may succeed in a moment: its connections are
/// broken (08), it lacks room (53), it was cancelled or is shut down or starting (57), the system failed it (58), another
/// transaction is in the way (40, 55P03), or it takes no writes (25006).
fn may_pass(code: &str) -> bool {
    ["08", "40", "53", "57", "58", "55P03", "25006"].iter().any(|class| code.starts_with(class))
}

/// Returns the same for each of its hosts alone, so that each has its own time.
fn each_host(config: &Config) -> Vec<Config> {
    let count = config.get_hosts().len();
    let of_host = |n: usize| {
        let mut one = Config::new();
        match &config.get_hosts()[n] {
            Host::Tcp(name) => one.host(name),
            Host::Unix(path) => one.host_path(path),
        };
        config.get_hostaddrs().get(n).map(|address| one.hostaddr(*address));
        config.get_ports().get(n).or(config.get_ports().first()).map(|port| one.port(*port));
        config.get_user().map(|user| one.user(user));
        config.get_password().map(|password| one.password(password));
        config.get_dbname().map(|name| one.dbname(name));
        config.get_options().map(|options| one.options(options));
        config.get_application_name().map(|name| one.application_name(name));
        config.get_connect_timeout().map(|limit| one.connect_timeout(*limit));
        config.get_tcp_user_timeout().map(|limit| one.tcp_user_timeout(*limit));
        one.ssl_mode(config.get_ssl_mode())
            .ssl_negotiation(config.get_ssl_negotiation())
            .channel_binding(config.get_channel_binding())
            .target_session_attrs(config.get_target_session_attrs())
            .keepalives(config.get_keepalives())
            .keepalives_idle(config.get_keepalives_idle());
        one
    };
    (0..count).map(of_host).collect()
}

fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
    }
}

fn shown(config: &Config) -> String {
    let user = config.get_user().map_or_else(String::new, |user| format!("{user}@"));
    let port = |n: usize| config.get_ports().get(n).or(config.get_ports().first()).copied().unwrap_or(5432);
    let host = |(n, host): (usize, &Host)| match host {
        Host::Tcp(name) => format!("{name}:{}", port(n)),
        Host::Unix(path) => path.display().to_string(),
    };
    let hosts: Vec<String> = config.get_hosts().iter().enumerate().map(host).collect();
    format!("postgres://{user}{}/{}", hosts.join(","), config.get_dbname().unwrap_or_default())
}

/// Returns an error with what caused it: the library's own text leaves that out.
pub(super) fn with_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        let database = Database::parse("postgres://u:secret@a:1,b:2/d?target_session_attrs=any").unwrap();
        assert_eq!(database.shown(), "postgres://u@a:1,b:2/d");
        assert_eq!(database.0.config.get_ssl_mode(), SslMode::Require);
        assert_eq!(database.0.config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        for near in ["postgres://u@127.0.0.1/d", "postgresql://u@localhost/d", "postgres://u@%2Frun/d"] {
            assert_eq!(Database::parse(near).unwrap().0.config.get_ssl_mode(), SslMode::Disable, "{near}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said_without_its_password() {
        for (address, why) in [
            ("mysql://u:secret@h/d", "does not begin with postgres://"),
            ("postgres://u:secret@/d", "names no host"),
            ("postgres://u:secret@h", "names no database"),
            ("postgres://u:secret@h/d?sslmode=perhaps", "sslmode"),
            ("postgres://u:secret@h:port/d", "port"),
        ] {
            let said = Database::parse(address).unwrap_err().to_string();
            assert!(said.contains(why) && said.contains("AGENTCOM_HUB_STORE"), "{address}: {said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
