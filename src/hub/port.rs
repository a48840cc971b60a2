//! A port of the hub: bound first, so that what keeps it from being served is known at once, and served then.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::hub::connections::accept;
use crate::hub::connections::listener::{self, Bounds, Connections, Service};
use crate::hub::connections::routes::Routes;
use crate::hub::connections::tls::certificate::{self, Certificate};
use crate::hub::connections::tls::handshake::Handshakes;
use crate::hub::http::entrance::Entrance;
use crate::hub::options::{Options, ServeError};
use crate::hub::scheduler::policy::Policy;

/// What those who work behind a port must know of it.
#[derive(Clone)]
pub(in crate::hub) struct Front {
    /// Where it listens.
    pub(in crate::hub) address: SocketAddr,
    /// The same, for those who judge what comes in.
    pub(in crate::hub) entrance: Entrance,
    /// What comes in.
    pub(in crate::hub) connections: Connections,
    /// The certificate, if it speaks TLS.
    pub(in crate::hub) certificate: Option<Arc<Certificate>>,
}

impl Front {
    /// Reads the certificate again whenever it is to be, until `stop`.
    pub(in crate::hub) fn watch_certificate(&self, options: &Options, tasks: &TaskTracker, stop: &CancellationToken) {
        if let Some((files, certificate)) = options.tls.clone().zip(self.certificate.clone()) {
            tasks.spawn(certificate::watch(files, certificate, stop.clone()));
        }
    }
}

/// A port that is bound and not served yet.
pub(in crate::hub) struct Port {
    /// What is known of it.
    pub(in crate::hub) front: Front,
    listener: TcpListener,
    request_timeout: Duration,
}

impl Port {
    /// Binds the port, which speaks TLS where there is a certificate, and for which so many files may be open.
    pub(in crate::hub) async fn bind(
        listen: &str,
        options: &Options,
        certificate: Option<Arc<Certificate>>,
        max_open_files: usize,
    ) -> Result<Self, ServeError> {
        let listener = bind(listen).await?;
        let address =
            listener.local_addr().map_err(|error| ServeError::Listen { address: listen.to_owned(), error })?;
        let bounds = bounds(&options.policy, max_open_files);
        let entrance = Entrance::new(address, certificate.is_some(), options.public_url.clone());
        let front = Front { address, entrance, connections: Connections::new(&bounds), certificate };
        Ok(Self { front, listener, request_timeout: bounds.request })
    }

    /// Starts to serve.
    pub(in crate::hub) fn serve(self, routes: Routes, stop: &CancellationToken) -> Result<JoinHandle<()>, ServeError> {
        let Self { front: Front { address, connections, certificate, entrance: _ }, listener, request_timeout } = self;
        let service = Service { request_timeout, tls: certificate.map(Handshakes::new) };
        listener::start(listener, routes, connections, service, stop.clone())
            .map_err(|error| ServeError::Listen { address: address.to_string(), error })
    }
}

/// Reads the certificate, if the port speaks TLS.
pub(in crate::hub) fn read_certificate(options: &Options) -> Result<Option<Arc<Certificate>>, ServeError> {
    let read = options.tls.as_ref().map(Certificate::read).transpose();
    Ok(read.map_err(ServeError::Certificate)?.map(Arc::new))
}

/// Returns the limits on connections where this many files may be open. Half of them are for connections that no agent has
/// identified on: of those, half at most are served, and the rest wait.
fn bounds(policy: &Policy, max_open_files: usize) -> Bounds {
    let all = max_open_files / 2;
    let unidentified = policy.max_unidentified.min(all / 2).max(1);
    // Two are on their way: out of the kernel's queue, and out of the line.
    let waiting = all.saturating_sub(unidentified + 2).max(1);
    Bounds { request: Duration::from_millis(policy.request_timeout_ms), unidentified, waiting }
}

async fn bind(listen: &str) -> Result<TcpListener, ServeError> {
    let listening = async { accept::listen(tokio::net::lookup_host(listen).await?) };
    listening.await.map_err(|error| {
        if error.kind() == io::ErrorKind::AddrInUse {
            return ServeError::AddressInUse(listen.to_owned());
        }
        ServeError::Listen { address: listen.to_owned(), error }
    })
}
