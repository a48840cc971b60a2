//! What a node does while it does not lead. It says of itself that it stands by, and passes everything else on to the leader:
//! requests with their bodies, answers as they come, and after the leader's 101 the bytes of a WebSocket. It decides nothing
//! and keeps nothing, so its own death is a broken connection and nothing else; and so is, for its clients, the end of the
//! leadership.
//!
//! It judges no request by its `Host` or `Origin` but those that it answers itself: the leader does, by what this node says
//! of its port.

mod answers;
mod forward;
mod headers;
mod tunnel;

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::routing::get;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::common::http_client::route::Transport;
use crate::hub::cluster::{Leader, Role};
use crate::hub::connections::listener::Connections;
use crate::hub::http::entrance::Entrance;

/// A node that stands by.
pub struct Standby {
    role: watch::Receiver<Role>,
    /// The leader that is being passed on to, and what ends everything that was passed on to it. (By its secret, since a failover
    /// of the database may lose an epoch, and bring it a second time.)
    present: Mutex<Option<(Leader, CancellationToken)>>,
    entrance: Entrance,
    connections: Connections,
    transport: Transport,
    stop: CancellationToken,
    tunnels: TaskTracker,
}

/// The leader, for one request.
struct Forwarding {
    leader: Leader,
    /// Cancelled when its leadership is over.
    ended: CancellationToken,
}

/// Why nothing can be passed on at the moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum NoLeader {
    #[error("no node of the cluster leads at present, or none that this node knows of")]
    Unknown,
    #[error("this node is taking over from a leader that is gone")]
    TakingOver,
    #[error("the leader of epoch {0} cannot be reached from this node")]
    Unreachable(u64),
}

impl Standby {
    /// Creates a node that follows `role` and is asked at `entrance` by these connections; until `stop`. `tunnels` has the
    /// task of each WebSocket that goes through it.
    pub fn new(
        role: watch::Receiver<Role>,
        entrance: Entrance,
        connections: Connections,
        transport: Transport,
        stop: CancellationToken,
        tunnels: TaskTracker,
    ) -> Arc<Self> {
        Arc::new(Self { role, present: Mutex::default(), entrance, connections, transport, stop, tunnels })
    }

    /// Returns its routes.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/health", get(answers::health).fallback(forward::forward))
            .route("/ready", get(answers::ready).fallback(forward::forward))
            .route("/metrics", get(answers::metrics).fallback(forward::forward))
            .fallback(forward::forward)
            .with_state(self)
    }

    /// Breaks what was passed on in each leadership that is over, until `stop`.
    pub async fn follow(self: Arc<Self>) {
        let mut role = self.role.clone();
        loop {
            // What it returns is for requests.
            let _ = self.forwarding();
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = role.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Returns the leader, and ends what was passed on to another one.
    ///
    /// # Errors
    /// There is none that is known. What was passed on goes on then: a leader that this node loses sight of may live.
    fn forwarding(&self) -> Result<Forwarding, NoLeader> {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let leader = match &*self.role.borrow() {
            Role::Standby(Some(leader)) => leader.clone(),
            Role::Standby(None) => return Err(NoLeader::Unknown),
            Role::Leading { .. } => {
                if let Some((_, ended)) = present.take() {
                    ended.cancel();
                }
                return Err(NoLeader::TakingOver);
            }
        };
        if let Some((known, ended)) = &*present {
            if *known == leader {
                return Ok(Forwarding { leader, ended: ended.clone() });
            }
            ended.cancel();
        }
        let ended = self.stop.child_token();
        *present = Some((leader.clone(), ended.clone()));
        Ok(Forwarding { leader, ended })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::connections::listener::Bounds;

    fn standby(role: Role) -> (watch::Sender<Role>, Arc<Standby>) {
        let (sender, role) = watch::channel(role);
        let connections = Connections::new(&Bounds { request: std::time::Duration::ZERO, unidentified: 1, waiting: 1 });
        let transport = Transport::without_proxies();
        let (stop, tunnels) = (CancellationToken::new(), TaskTracker::new());
        (sender, Standby::new(role, Entrance::default(), connections, transport, stop, tunnels))
    }

    fn led(epoch: u64) -> Role {
        Role::Standby(Some(Leader { epoch, url: "http://10.0.0.1:4001".to_owned(), secret: "s3cret".to_owned() }))
    }

    #[test]
    fn a_link_ends_with_its_epoch_and_not_before() {
        let (role, standby) = standby(led(1));
        let first = standby.forwarding().unwrap();
        role.send_replace(Role::Standby(None));
        assert_eq!(standby.forwarding().err(), Some(NoLeader::Unknown));
        role.send_replace(led(1));
        standby.forwarding().unwrap();
        assert!(!first.ended.is_cancelled(), "the same leader is seen again");
        role.send_replace(led(2));
        let second = standby.forwarding().unwrap();
        assert!(first.ended.is_cancelled() && !second.ended.is_cancelled());
        role.send_replace(Role::Leading { epoch: 3 });
        assert_eq!(standby.forwarding().err(), Some(NoLeader::TakingOver));
        assert!(second.ended.is_cancelled());
    }

    #[test]
    fn the_secret_is_not_printed() {
        let text = format!("{:?}", led(1));
        assert!(text.contains("10.0.0.1") && !text.contains("s3cret"), "{text}");
    }
}
