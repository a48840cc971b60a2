//! The hub link over `wss://` with certificates made for the test.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::sync::Arc;
use std::time::Duration;

use agentcom::sidecar::hub_connection::{
    Closed, ConnectionConfig, ConnectionEvent, ConnectionEventKind, HubConnection, Roots,
};
use futures_util::StreamExt;
use rcgen::CertifiedKey;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;

const BOUND: Duration = Duration::from_secs(30);

/// Set only in the copy of this test binary that a test starts with `SSL_CERT_FILE`.
const CHILD: &str = "AGENTCOM_TEST_WSS_URL";

struct TlsHub {
    url: String,
    certificate: rustls::pki_types::CertificateDer<'static>,
    pem: String,
}

/// A hub that takes one connection, tells the first message it got, and answers the close.
async fn tls_hub(name: &str) -> (TlsHub, tokio::task::JoinHandle<Option<Message>>) {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let certificate = cert.der().clone();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://localhost:{}/ws", listener.local_addr().unwrap().port());
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.ok()?;
        let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.ok()?;
        let mut peer = tokio_tungstenite::accept_async(stream).await.ok()?;
        let first = peer.next().await?.ok();
        while let Some(Ok(_)) = peer.next().await {}
        first
    });
    (TlsHub { url, certificate, pem: cert.pem() }, task)
}

fn link(url: &str, roots: Roots) -> (HubConnection, mpsc::Receiver<ConnectionEvent>) {
    let (tx, events) = mpsc::channel(16);
    let mut config = ConnectionConfig::new(url);
    config.transport.tls.roots = roots;
    (HubConnection::new(config, tx), events)
}

async fn next(events: &mut mpsc::Receiver<ConnectionEvent>) -> ConnectionEventKind {
    timeout(BOUND, events.recv()).await.expect("no event in time").expect("the link ended its events").what
}

async fn error_of_the_dial(url: &str, roots: Roots) -> String {
    let (mut link, mut events) = link(url, roots);
    link.dial();
    closed(&mut events).await.error.unwrap()
}

async fn closed(events: &mut mpsc::Receiver<ConnectionEvent>) -> Closed {
    let what = next(events).await;
    let ConnectionEventKind::Closed(closed) = what else { panic!("expected Closed, got {what:?}") };
    closed
}

async fn talk(url: &str, roots: Roots) {
    let (mut link, mut events) = link(url, roots);
    link.dial();
    assert_eq!(next(&mut events).await, ConnectionEventKind::Opened);
    timeout(BOUND, link.send("over tls".into())).await.unwrap().unwrap();
    link.close(1000, "done");
    let closed = closed(&mut events).await;
    assert!(closed.clean, "{closed:?}");
}

#[tokio::test]
async fn a_trusted_hub_is_talked_to() {
    let (hub, served) = tls_hub("localhost").await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(hub.certificate).unwrap();
    talk(&hub.url, Roots::Only(Arc::new(roots))).await;
    assert_eq!(timeout(BOUND, served).await.unwrap().unwrap(), Some(Message::text("over tls")));
}

#[tokio::test]
async fn ssl_cert_file_adds_an_authority() {
    let (hub, served) = tls_hub("localhost").await;
    let dir = tempfile::tempdir().unwrap();
    let pem = dir.path().join("hub.pem");
    std::fs::write(&pem, &hub.pem).unwrap();
    // The variable is read once at a dial by the process; a process of its own keeps it from other tests.
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child
        .args(["--ignored", "--exact", "hub_link_tls::inner_dial_with_native_roots"])
        .env("SSL_CERT_FILE", &pem)
        .env(CHILD, &hub.url);
    let output = timeout(BOUND, child.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(timeout(BOUND, served).await.unwrap().unwrap(), Some(Message::text("over tls")));
}

/// The half of `ssl_cert_file_adds_an_authority` that runs in its child.
#[tokio::test]
#[ignore = "run by ssl_cert_file_adds_an_authority"]
async fn inner_dial_with_native_roots() {
    let url = std::env::var(CHILD).expect("only ssl_cert_file_adds_an_authority can run this");
    talk(&url, Roots::Native).await;
}

#[tokio::test]
async fn an_untrusted_hub_is_refused_with_advice() {
    let (hub, _served) = tls_hub("localhost").await;
    let (other, _) = tls_hub("localhost").await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(other.certificate).unwrap();
    let error = error_of_the_dial(&hub.url, Roots::Only(Arc::new(roots))).await;
    assert!(error.contains("SSL_CERT_FILE"), "{error}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let (hub, _served) = tls_hub("elsewhere.example").await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(hub.certificate).unwrap();
    let error = error_of_the_dial(&hub.url, Roots::Only(Arc::new(roots))).await;
    assert!(error.contains("elsewhere.example"), "{error}");
}

#[tokio::test]
async fn a_plain_port_behind_wss_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://{}/ws", listener.local_addr().unwrap());
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_u8().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    });
    let error = error_of_the_dial(&url, Roots::Only(Arc::new(rustls::RootCertStore::empty()))).await;
    assert!(error.contains("does not speak TLS"), "{error}");
}
