//! Who leads: a process that stands by until nobody does, takes over, and renews its lease until it ends. It runs on the
//! database's own threads.
//!
//! | loop | each | ends |
//! |---|---|---|
//! | standing by | [`LOOK_EVERY`]: looks at the leader's row, and takes over where the leader is gone | with a term |
//! | leading | [`RENEW_EVERY`]: renews the lease | when another process leads, or the lease is over |
//!
//! A process leads once: when its term ends, it ends, and the next run stands by.

use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::hub::cluster::{Leader, Role};
use crate::hub::state::store::DatabaseError;
use crate::hub::state::store::postgres::{Candidate, Database, PostgresStore, Session, Term};

/// How often a standby looks at the leader's row.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the leader renews its lease.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// The pause before the leader tries the database again.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest that a standby waits for an answer of the database.
const PATIENCE: Duration = Duration::from_secs(5);

/// A process that stands by or leads.
pub struct Leadership {
    role: watch::Receiver<Role>,
    won: oneshot::Receiver<Result<Term, DatabaseError>>,
}

impl Leadership {
    /// Begins to stand by.
    pub fn start(database: &Database, candidate: Candidate) -> Self {
        let (role, receiver) = watch::channel(Role::Standby(None));
        let (won, winning) = oneshot::channel();
        let own = database.clone();
        database.spawn(async move {
            let candidacy = Candidacy { database: own, candidate, role };
            candidacy.run(won).await;
        });
        Self { role: receiver, won: winning }
    }

    /// Returns what this process is, as it changes.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.role.clone()
    }

    /// Returns the term once this process leads.
    ///
    /// # Errors
    /// [`DatabaseError`] if the database refuses this process: waiting does not help.
    pub async fn won(self) -> Result<Term, DatabaseError> {
        self.won.await.unwrap_or_else(|_| Err(DatabaseError::Address("the database's threads have ended".to_owned())))
    }

    /// Opens the store once this process leads.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn store(self, database: Database) -> Result<PostgresStore, DatabaseError> {
        let term = self.won().await?;
        let opening = tokio::task::spawn_blocking(move || PostgresStore::lead(database, term)).await;
        opening.unwrap_or_else(|error| Err(DatabaseError::Address(error.to_string())))
    }
}

/// Stands by until this process leads, and opens the store.
///
/// # Errors
/// [`DatabaseError`].
pub async fn lead(database: &Database, candidate: Candidate) -> Result<PostgresStore, DatabaseError> {
    Leadership::start(database, candidate).store(database.clone()).await
}

struct Candidacy {
    database: Database,
    candidate: Candidate,
    role: watch::Sender<Role>,
}

impl Candidacy {
    async fn run(self, won: oneshot::Sender<Result<Term, DatabaseError>>) {
        match self.stand_by().await {
            Ok((client, term)) => {
                tracing::info!(epoch = term.epoch, database = self.database.shown(), "this hub leads from now on");
                self.role.send_replace(Role::Leading { epoch: term.epoch });
                // Where nobody waits for it any more, the process ends.
                if won.send(Ok(term.clone())).is_ok() {
                    tokio::select! {
                        // A commit may find it out first.
                        why = term.lease.ended() => tracing::debug!(%why, "the term has ended"),
                        () = self.lead(client, &term) => {}
                    }
                }
            }
            Err(error) => drop(won.send(Err(error))),
        }
    }

    /// Stands by until this process leads.
    async fn stand_by(&self) -> Result<(Session, Term), DatabaseError> {
        let (mut client, mut told) = (None, None);
        loop {
            let looked = timeout(PATIENCE, self.look(&mut client)).await;
            let looked = looked.unwrap_or_else(|_| Err(self.away("no answer")));
            let leader = match looked {
                Ok(Looked::Won(term)) => match client.take() {
                    Some(client) => return Ok((client, term)),
                    None => None,
                },
                Ok(Looked::Led(leader)) => {
                    if told.is_some() {
                        tracing::info!(database = self.database.shown(), "the database is reached");
                        told = None;
                    }
                    Some(leader)
                }
                Err(error) if error.passes() => {
                    client = None;
                    let said = error.to_string();
                    if told.as_ref() != Some(&said) {
                        tracing::warn!(
                            error = said,
                            "the database is not reached: nobody can lead by it; trying again"
                        );
                        told = Some(said);
                    }
                    None
                }
                Err(error) => return Err(error),
            };
            self.role.send_if_modified(|role| {
                let now = Role::Standby(leader);
                let is_new = *role != now;
                *role = now;
                is_new
            });
            sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self, held: &mut Option<Session>) -> Result<Looked, DatabaseError> {
        if held.as_ref().is_none_or(|session| session.is_closed()) {
            let mut client = self.database.connect().await?;
            self.database.prepare(&mut client).await?;
            *held = Some(client);
        }
        let Some(client) = held.as_ref() else { return Err(self.away("no connection")) };
        let found = self.database.look(client).await?;
        if !found.leads {
            // Another node may have been of a newer version.
            self.database.refuse_newer(client).await?;
            self.database.unblock(client).await?;
            if let Some(term) = self.database.take_over(client, &self.candidate).await? {
                tracing::info!(epoch = term.epoch, before = found.node, "nobody led");
                return Ok(Looked::Won(term));
            }
        }
        Ok(Looked::Led(Leader { epoch: found.epoch, url: found.url, secret: found.secret }))
    }

    fn away(&self, detail: &str) -> DatabaseError {
        DatabaseError::Away { place: self.database.shown().to_owned(), detail: detail.to_owned() }
    }

    /// Renews the lease until the term ends.
    async fn lead(&self, client: Session, term: &Term) {
        let (mut held, mut heard) = (Some(client), "no answer".to_owned());
        let mut pause = RENEW_EVERY;
        loop {
            let left = Duration::from_millis(term.lease.left_ms());
            // It may be over because a commit has found so.
            if timeout(left, sleep(pause)).await.is_err() || left.is_zero() {
                return term.lease.end(term.lease.over(&heard));
            }
            let left = Duration::from_millis(term.lease.left_ms());
            pause = match timeout(left, self.renew(&mut held, term)).await {
                Ok(Ok(true)) => RENEW_EVERY,
                Ok(Ok(false)) => {
                    let incumbent = match &held {
                        Some(client) => timeout(PAUSE, self.database.look(client)).await.ok().and_then(Result::ok),
                        None => None,
                    };
                    let (epoch, node) = incumbent.map_or((0, "another node".to_owned()), |it| (it.epoch, it.node));
                    return term.lease.end(DatabaseError::Deposed { epoch, node });
                }
                Ok(Err(error)) => {
                    held = None;
                    heard = error.to_string();
                    tracing::warn!(
                        error = heard,
                        left_ms = term.lease.left_ms(),
                        "the lease was not renewed; trying again"
                    );
                    PAUSE
                }
                Err(_) => Duration::ZERO,
            };
        }
    }

    async fn renew(&self, held: &mut Option<Session>, term: &Term) -> Result<bool, DatabaseError> {
        if held.as_ref().is_none_or(|session| session.is_closed()) {
            *held = Some(self.database.connect().await?);
        }
        match held.as_ref() {
            Some(client) => self.database.renew(client, term).await,
            None => Err(self.away("no connection")),
        }
    }
}

/// What a standby found.
enum Looked {
    /// Another process leads.
    Led(Leader),
    /// This process leads from now on.
    Won(Term),
}
