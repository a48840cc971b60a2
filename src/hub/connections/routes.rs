//! The routes that a port or a socket serves at the moment. A node of a cluster begins with those of a standby and goes on
//! with the hub's, on the same sockets and the same connections.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

/// The routes at the moment. Copies share them.
#[derive(Clone)]
pub struct Routes(Arc<RwLock<TowerToHyperService<Router>>>);

impl Routes {
    /// Creates them.
    pub fn new(router: Router) -> Self {
        Self(Arc::new(RwLock::new(TowerToHyperService::new(router))))
    }

    /// Serves other routes from the next request of each connection on. Requests that are being answered go on.
    pub fn replace(&self, router: Router) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = TowerToHyperService::new(router);
    }

    /// Answers a request.
    pub(super) fn answer(
        &self,
        request: Request<hyper::body::Incoming>,
    ) -> impl Future<Output = Result<Response, Infallible>> + use<> {
        let router = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        router.call(request.map(Body::new))
    }
}
