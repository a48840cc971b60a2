//! The row that says who leads, as SQL: looking at it, taking over, and renewing.
//!
//! A leader is gone when its lease is over by the database's clock; or when a renewal of it is overdue, and the session that the
//! row names has ended: a process that dies closes its connections. (A session in place of an advisory lock: it is one statement with the row itself, and the
//! row names the session anew with each renewal. Behind a pooler the sessions are the pooler's, and the time alone decides.)

use std::sync::Arc;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use crate::common::steady_clock;
use crate::hub::state::store::database_error::DatabaseError;
use crate::hub::state::store::postgres::connection::Database;
use crate::hub::state::store::postgres::lease::{LEASE_MS, Lease};

/// Whether the leader `l` may be alive: its lease is not over, and a renewal is not overdue or the session that it was last renewed
/// by is there. A lease has 8 s left where it is renewed each 2 s: with 6.5 s left one is overdue, and a leader whose connection
/// broke has had the time to renew by another. One that ends later than any lease can was given by a clock that has been set back.
/// (A role that may not see when another one's session began takes it for the one.)
const MAY_LIVE: &str = "(l.until > clock_timestamp() and l.until < clock_timestamp() + interval '20 s' \
    and (l.until > clock_timestamp() + interval '6.5 s' \
    or exists (select from pg_stat_activity a where a.pid = l.session_pid \
    and (a.backend_start = l.session_start) is not false)))";
/// Ends what holds the leader's row for a leader whose lease is over: a session whose statement its process has half said.
const UNBLOCK: &str = "select pg_terminate_backend(a.pid) from pg_locks k join pg_stat_activity a using (pid), agentcom.leader l \
    where k.relation = 'agentcom.leader'::regclass and k.mode = 'RowExclusiveLock' and k.granted \
    and a.pid <> pg_backend_pid() and a.usename = current_user and a.application_name = 'agentcom-hub' \
    and a.query_start < clock_timestamp() - interval '10 s' and l.until < clock_timestamp()";
/// When the own session began.
const OWN_START: &str =
    "coalesce((select backend_start from pg_stat_activity where pid = pg_backend_pid()), '-infinity')";

/// A process that may lead.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// What it is called in messages: its machine and its address.
    pub node: String,
    /// The address of its cluster listener.
    pub url: String,
    /// What the other nodes prove to that listener.
    pub secret: String,
    /// A name that no other term has: an epoch alone may come twice, after a failover that lost it.
    pub term: String,
}

/// The time in which a process leads: what each of its commits is fenced by.
#[derive(Debug, Clone)]
pub struct Term {
    /// Its number: each is larger than those before, as far as the database remembers them.
    pub epoch: u64,
    /// Its name, which no other has.
    pub(super) name: String,
    /// The number of the last commit at its beginning.
    pub(super) commit_no: i64,
    /// The lease.
    pub lease: Arc<Lease>,
}

impl Term {
    fn epoch_as_sql(&self) -> i64 {
        self.epoch.cast_signed()
    }
}

/// The leader, as the row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incumbent {
    /// The epoch.
    pub epoch: u64,
    /// What it calls itself.
    pub node: String,
    /// The address of its cluster listener.
    pub url: String,
    /// What is proved to that listener.
    pub secret: String,
    /// Whether it may be alive: its lease is not over, and its session is there.
    pub leads: bool,
    pub(super) term: String,
    pub(super) commit_no: i64,
}

impl Incumbent {
    /// Returns whether the term is this one.
    pub(super) fn is(&self, term: &Term) -> bool {
        self.epoch == term.epoch && self.term == term.name
    }
}

impl Database {
    /// Returns the leader, whether or not it is alive.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn look(&self, client: &Client) -> Result<Incumbent, DatabaseError> {
        let asked = format!("select epoch, node, url, secret, {MAY_LIVE}, term, commit_no from agentcom.leader l");
        let row = client.query_typed_one(&asked, &[]).await.map_err(|error| self.error(&error))?;
        Ok(Incumbent {
            epoch: row.get::<_, i64>(0).cast_unsigned(),
            node: row.get(1),
            url: row.get(2),
            secret: row.get(3),
            leads: row.get(4),
            term: row.get(5),
            commit_no: row.get(6),
        })
    }

    /// Takes over, if nobody leads. The term begins with a lease.
    ///
    /// # Errors
    /// [`DatabaseError`]; the term may have begun all the same, and ends with its session or its lease.
    pub async fn take_over(&self, client: &Client, candidate: &Candidate) -> Result<Option<Term>, DatabaseError> {
        let sent_at_ms = steady_clock::with_suspend_ms();
        let asked = format!(
            "update agentcom.leader l set epoch = epoch + 1, term = $1, node = $2, url = $3, secret = $4, \
             commit_no = commit_no + 1, until = clock_timestamp() + make_interval(secs => $5), \
             session_pid = pg_backend_pid(), session_start = {OWN_START} \
             where not {MAY_LIVE} returning epoch, commit_no"
        );
        let Candidate { node, url, secret, term } = candidate;
        let parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] = &[
            (term, Type::TEXT),
            (node, Type::TEXT),
            (url, Type::TEXT),
            (secret, Type::TEXT),
            (&LEASE_S, Type::FLOAT8),
        ];
        let row = client.query_typed_opt(&asked, parameters).await.map_err(|error| self.error(&error))?;
        let begun = |row: Row| Term {
            epoch: row.get::<_, i64>(0).cast_unsigned(),
            name: term.clone(),
            commit_no: row.get(1),
            lease: Arc::new(Lease::new(sent_at_ms, self.shown())),
        };
        Ok(row.map(begun))
    }

    /// Ends a term, in the name of its leader.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn release(&self, client: &Client, term: &Term) -> Result<(), DatabaseError> {
        let ended = "update agentcom.leader set until = '-infinity' where epoch = $1 and term = $2";
        let parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
            &[(&term.epoch_as_sql(), Type::INT8), (&term.name, Type::TEXT)];
        client.query_typed(ended, parameters).await.map(drop).map_err(|error| self.error(&error))
    }

    /// Ends the sessions of a leader whose lease is over that keep others from taking over.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn unblock(&self, client: &Client) -> Result<(), DatabaseError> {
        client.query_typed(UNBLOCK, &[]).await.map(drop).map_err(|error| self.error(&error))
    }

    /// Renews the lease, and names this session as the leader's. Returns whether the process still leads.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn renew(&self, client: &Client, term: &Term) -> Result<bool, DatabaseError> {
        let sent_at_ms = steady_clock::with_suspend_ms();
        let asked = format!(
            "update agentcom.leader set until = clock_timestamp() + make_interval(secs => $3), \
             session_pid = pg_backend_pid(), session_start = {OWN_START} where epoch = $1 and term = $2 returning epoch"
        );
        let epoch = term.epoch_as_sql();
        let parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
            &[(&epoch, Type::INT8), (&term.name, Type::TEXT), (&LEASE_S, Type::FLOAT8)];
        let row = client.query_typed_opt(&asked, parameters).await.map_err(|error| self.error(&error))?;
        if row.is_some() {
            term.lease.renewed(sent_at_ms);
        }
        Ok(row.is_some())
    }
}

/// The length of a lease, in s.
pub(super) const LEASE_S: f64 = LEASE_MS as f64 / 1_000.0;

/// The beginning of each commit: `$1` to `$4` are the epoch, the name of the term, the number of the commit before, and the
/// length of a lease in s. It gives one row, or none where this process does not lead any more.
pub(super) const FENCE: &str = "update agentcom.leader set commit_no = commit_no + 1, \
    until = clock_timestamp() + make_interval(secs => $4) where epoch = $1 and term = $2 and commit_no = $3 returning epoch";

/// Returns the values of [`FENCE`].
pub(super) fn fence_values(term: &Term) -> (i64, &str) {
    (term.epoch_as_sql(), &term.name)
}

/// Returns the error of a process that does not lead any more.
pub(super) fn deposed_by(incumbent: &Incumbent) -> DatabaseError {
    DatabaseError::Deposed { epoch: incumbent.epoch, node: incumbent.node.clone() }
}
