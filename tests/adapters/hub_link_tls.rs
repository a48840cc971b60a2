//! The hub link over `wss://` with certificates made for the test.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::sync::Arc;
use std::time::Duration;

use agentcom::sidecar::hub_connection::{
    ClientCertificate, Closed, ConnectionConfig, ConnectionEvent, ConnectionEventKind, HubConnection, Roots, SetBy,
    TlsOptions,
};
use futures_util::StreamExt;
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
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

/// A key and the certificate for it that `change` makes of a usual one, signed by itself.
fn certificate_for(name: &str, change: impl FnOnce(&mut CertificateParams)) -> (Certificate, KeyPair) {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap(), key)
}

/// A hub that takes one connection, tells the first message it got, and answers the close.
async fn tls_hub(name: &str) -> (TlsHub, tokio::task::JoinHandle<Option<Message>>) {
    tls_hub_with(certificate_for(name, |_| {}), None).await
}

/// The same with this certificate, which demands one signed by `clients`, if there are any.
async fn tls_hub_with(
    (certificate, key): (Certificate, KeyPair),
    clients: Option<rustls::RootCertStore>,
) -> (TlsHub, tokio::task::JoinHandle<Option<Message>>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = match clients {
        Some(roots) => WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap(),
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://localhost:{}/ws", listener.local_addr().unwrap().port());
    let task = tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        loop {
            let (stream, _) = listener.accept().await.ok()?;
            // A caller that does not trust us hangs up; the next one may.
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let Ok(mut peer) = tokio_tungstenite::accept_async(stream).await else { continue };
            let first = peer.next().await?.ok();
            while let Some(Ok(_)) = peer.next().await {}
            return first;
        }
    });
    (TlsHub { url, certificate: certificate.der().clone(), pem: certificate.pem() }, task)
}

fn trusting(certificate: &rustls::pki_types::CertificateDer<'static>) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    roots
}

fn link(url: &str, roots: Roots) -> (HubConnection, mpsc::Receiver<ConnectionEvent>) {
    let (tx, events) = mpsc::channel(16);
    let mut config = ConnectionConfig::new(url);
    if let Roots::File(_) = roots {
        config.transport.tls.set_by = SetBy::Keys;
    }
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
    talk(&hub.url, Roots::Only(Arc::new(trusting(&hub.certificate)))).await;
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

/// What a dial ends with at a hub that shows this certificate, which is trusted if `trusted`.
async fn refusal_of(name: &str, trusted: bool, change: impl FnOnce(&mut CertificateParams)) -> String {
    let (hub, _served) = tls_hub_with(certificate_for(name, change), None).await;
    let other = certificate_for("localhost", under_another_name).0;
    let anchor = if trusted { &hub.certificate } else { other.der() };
    error_of_the_dial(&hub.url, Roots::Only(Arc::new(trusting(anchor)))).await
}

fn under_another_name(params: &mut CertificateParams) {
    params.distinguished_name.push(DnType::CommonName, "another authority");
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} in: {text}");
    }
}

#[tokio::test]
async fn each_certificate_that_is_refused_has_its_own_advice() {
    says(&refusal_of("localhost", false, |_| {}).await, &["unknown issuer", "SSL_CERT_FILE"]);
    says(
        &refusal_of("elsewhere.example", true, |_| {}).await,
        &["is for elsewhere.example, not for localhost", "`hub_url`", "subjectAltName"],
    );
    let expired = |params: &mut CertificateParams| {
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 2, 3));
    };
    says(
        &refusal_of("localhost", true, expired).await,
        &["expired at 2002-02-03", "renew it at the hub", "timedatectl"],
    );
    let early = |params: &mut CertificateParams| params.not_before = date_time_ymd(2999, 1, 1);
    says(
        &refusal_of("localhost", true, early).await,
        &["not valid before 2999-01-01", "wait until then", "timedatectl"],
    );
    let authority = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    says(&refusal_of("localhost", true, authority).await, &["an authority's own (CA:TRUE)", "CA:FALSE"]);
}

#[tokio::test]
async fn ca_file_is_read_again_for_each_dial() {
    let (hub, served) = tls_hub("localhost").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let (mut link, mut events) = link(&hub.url, Roots::File(file.clone()));
    let mut refused = async |text: &str| {
        std::fs::write(&file, text).unwrap();
        link.dial();
        closed(&mut events).await.error.unwrap()
    };
    let other = certificate_for("localhost", under_another_name).0.pem();
    says(&refused(&other).await, &["unknown issuer", "which `ca_file` names"]);
    let older = certificate_for("localhost", |_| {}).0.pem();
    says(&refused(&older).await, &["bad signature", "was it made anew", "which `ca_file` names"]);
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let key_of_another_kind = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let older = params.self_signed(&key_of_another_kind).unwrap().pem();
    says(&refused(&older).await, &["bad signature", "was it made anew", "which `ca_file` names"]);
    says(&refused("no PEM").await, &["`ca_file`: ", "holds no certificate in PEM"]);
    std::fs::write(&file, &hub.pem).unwrap();
    link.dial();
    assert_eq!(next(&mut events).await, ConnectionEventKind::Opened);
    timeout(BOUND, link.send("over tls".into())).await.unwrap().unwrap();
    link.close(1000, "done");
    assert_eq!(timeout(BOUND, served).await.unwrap().unwrap(), Some(Message::text("over tls")));
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_a_hub_that_demands_one() {
    let (ours, our_key) = certificate_for("alice", |_| {});
    let (hub, served) = tls_hub_with(certificate_for("localhost", |_| {}), Some(trusting(ours.der()))).await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    };
    let certificate = write("cert.pem", &ours.pem());
    let key = write("key.pem", &our_key.serialize_pem());
    let roots = || Roots::Only(Arc::new(trusting(&hub.certificate)));
    let with = |client: Option<ClientCertificate>| {
        let (tx, events) = mpsc::channel(16);
        let mut config = ConnectionConfig::new(&hub.url);
        config.transport.tls = TlsOptions { roots: roots(), client, set_by: SetBy::Keys };
        (HubConnection::new(config, tx), events)
    };
    let (mut link, mut events) = with(None);
    link.dial();
    says(&closed(&mut events).await.error.unwrap(), &["client certificate", "`client_cert_file`", "`client_key_file`"]);

    let others = write("other.pem", &KeyPair::generate().unwrap().serialize_pem());
    let (mut link, mut events) = with(Some(ClientCertificate { certificate: certificate.clone(), key: others }));
    link.dial();
    says(&closed(&mut events).await.error.unwrap(), &["`client_key_file` is not the key of `client_cert_file`"]);

    let (mut link, mut events) = with(Some(ClientCertificate { certificate, key }));
    link.dial();
    assert_eq!(next(&mut events).await, ConnectionEventKind::Opened);
    timeout(BOUND, link.send("it is me".into())).await.unwrap().unwrap();
    link.close(1000, "done");
    assert_eq!(timeout(BOUND, served).await.unwrap().unwrap(), Some(Message::text("it is me")));
}

#[tokio::test]
async fn a_tls_port_behind_ws_is_named() {
    let (hub, _served) = tls_hub("localhost").await;
    let plain = hub.url.replacen("wss", "ws", 1);
    let error = error_of_the_dial(&plain, Roots::Native).await;
    says(&error, &["that port speaks TLS", &format!("write {} into `hub_url`", hub.url)]);
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
    says(&error, &["does not speak TLS", &format!("write {} into `hub_url`", url.replacen("wss", "ws", 1))]);
}
