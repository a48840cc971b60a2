//! A TLS front door before anything that speaks in the clear, as a proxy before a hub is, with a certificate made for it.
//! It understands nothing of what passes.
//!
//! ```text
//! let door = TlsDoor::before(hub.address());    // https://localhost:PORT, wss://localhost:PORT/ws
//! std::fs::write("ca.pem", door.pem());         // for SSL_CERT_FILE
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Open until the test's process ends.
pub struct TlsDoor {
    port: u16,
    pem: String,
}

impl TlsDoor {
    pub fn before(inside: SocketAddr) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .expect("a usable certificate");
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port on the loopback");
        listener.set_nonblocking(true).expect("a nonblocking listener");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(serve(listener, TlsAcceptor::from(Arc::new(config)), inside));
        });
        Self { port, pem: made.cert.pem() }
    }

    /// `https://localhost:PORT`
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Whom to trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

async fn serve(listener: std::net::TcpListener, acceptor: TlsAcceptor, inside: SocketAddr) {
    let listener = TcpListener::from_std(listener).expect("a listener for the runtime");
    while let Ok((outer, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // A caller that does not trust us hangs up: nothing to carry then.
            let mut outer = acceptor.accept(outer).await.ok()?;
            let mut inner = TcpStream::connect(inside).await.ok()?;
            tokio::io::copy_bidirectional(&mut outer, &mut inner).await.ok()
        });
    }
}
