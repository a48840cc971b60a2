//! A hub that speaks TLS itself: everything that it offers goes over it, its certificate is changed while it runs, and no
//! stranger's handshake keeps an agent out.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::{Connector, client_async_tls_with_config};

use crate::support::{Hub, PATIENCE, Peer, folder, hub_command, run};

/// A certificate for `localhost` that ends with this year, and its key.
fn made(year: i32) -> (String, String) {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// The files of a certificate, which the flags name.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new((certificate, key): &(String, String)) -> Self {
        let files = Self { dir: folder() };
        files.write(certificate, key);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Renames new files over those that are there, as certbot does.
    fn write(&self, certificate: &str, key: &str) {
        for (name, text) in [("cert.pem", certificate), ("key.pem", key)] {
            std::fs::write(self.path("new"), text).unwrap();
            std::fs::set_permissions(self.path("new"), PermissionsExt::from_mode(0o600)).unwrap();
            std::fs::rename(self.path("new"), self.path(name)).unwrap();
        }
    }

    fn flags(&self) -> Vec<String> {
        let shown = |name| self.path(name).display().to_string();
        vec!["--tls-cert".to_owned(), shown("cert.pem"), "--tls-key".to_owned(), shown("key.pem")]
    }
}

fn start(dir: &TempDir, files: &Files, more: &[&str]) -> (Hub, Receiver<Value>) {
    let flags = files.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Hub::start_heard(dir, &flags)
}

/// A client that trusts exactly these certificates.
fn trusting(pems: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for pem in pems {
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    Arc::new(builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth())
}

async fn secured(hub: &Hub, config: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(&hub.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let handshake = TlsConnector::from(Arc::clone(config)).connect(name, stream);
    tokio::time::timeout(PATIENCE, handshake).await.expect("no handshake in time")
}

fn request(method: &str, path: &str, token: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost:4443\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// One request over TLS; the whole answer, whose stream must end as TLS does.
async fn ask(hub: &Hub, config: &Arc<ClientConfig>, request: &str) -> String {
    let mut stream = secured(hub, config).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("no answer").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn peer(hub: &Hub, config: &Arc<ClientConfig>) -> Peer {
    let stream = TcpStream::connect(&hub.address).await.unwrap();
    let connector = Connector::Rustls(Arc::clone(config));
    let upgraded = client_async_tls_with_config("wss://localhost/ws", stream, None, Some(connector));
    Peer::on(tokio::time::timeout(PATIENCE, upgraded).await.expect("no socket in time").unwrap().0)
}

/// Waits until the hub logs a line with these words, at this level.
fn heard(lines: &Receiver<Value>, level: &str, words: &str) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let line = lines.recv_timeout(left).unwrap_or_else(|why| panic!("{words:?} was not logged: {why}"));
        if line["level"] == level && line.to_string().contains(words) {
            return line;
        }
    }
}

#[tokio::test]
async fn everything_that_a_hub_offers_goes_over_tls() {
    let (dir, pair) = (folder(), made(3000));
    let files = Files::new(&pair);
    // The token of an admin is made over its own socket, which is without TLS.
    let (hub, _lines) = start(&dir, &files, &[]);
    let trust = trusting(&[&pair.0]);
    let registered = ask(&hub, &trust, &request("POST", "/api/onboard/register", "", r#"{"agent_id": "a"}"#)).await;
    assert!(registered.contains(r#""hub_ws_url":"wss://localhost:4443/ws""#), "{registered}");
    assert!(registered.contains(r#""hub_api_url":"https://localhost:4443""#), "{registered}");
    let token = registered.split(r#""token":""#).nth(1).unwrap().split('"').next().unwrap().to_owned();

    let mut events = secured(&hub, &trust).await.unwrap();
    events.write_all(request("GET", "/api/v1/events", &hub.admin, "").as_bytes()).await.unwrap();
    let mut agent = peer(&hub, &trust).await.identified("a", &token, run("boot-1")).await;
    let task = json!({"description": "d", "metadata": {"large": "x".repeat(200_000)}}).to_string();
    let submitted = ask(&hub, &trust, &request("POST", "/api/tasks", &hub.admin, &task)).await;
    assert!(submitted.starts_with("HTTP/1.1 201"), "{submitted}");
    let task = agent.expect("task_assign").await;
    agent.accept(task["task_id"].as_str().unwrap()).await;
    let verdict = agent.complete(task["task_id"].as_str().unwrap(), task["generation"].as_u64().unwrap()).await;
    assert_eq!(verdict["status"], "complete", "{verdict}");
    let seen = tokio::time::timeout(PATIENCE, async {
        let mut seen = String::new();
        while !seen.contains("completed") {
            let mut part = vec![0; 4096];
            let length = events.read(&mut part).await.unwrap();
            assert!(length > 0, "the events ended: {seen}");
            seen.push_str(&String::from_utf8_lossy(&part[..length]));
        }
    });
    seen.await.expect("no event of the task");
    let metrics = ask(&hub, &trust, &request("GET", "/metrics", &hub.admin, "")).await;
    assert!(metrics.contains("agentcom_hub_tls_certificate_expires_timestamp_seconds 32503680000\n"), "{metrics}");
    assert!(metrics.contains("agentcom_hub_connections{state=\"identified\"} 1\n"), "{metrics}");
    agent.close().await;

    // The commands of the hub, with its authority and without.
    let (file, out) = (files.path("token"), files.path("backup"));
    std::fs::write(&file, &hub.admin).unwrap();
    let command = |scheme: &str, args: &[&str], trusted: &Path| {
        let port = hub.address.rsplit(':').next().unwrap();
        let mut command = hub_command();
        command.args(args).args(["--hub", &format!("{scheme}://localhost:{port}"), "--token-file"]).arg(&file);
        command.arg("--ca-file").arg(trusted).output().unwrap()
    };
    let backup = command("https", &["backup", "--out", out.to_str().unwrap()], &files.path("cert.pem"));
    assert!(backup.status.success() && out.metadata().unwrap().len() > 100_000, "{backup:?}");
    for (scheme, trusted, why) in [
        ("http", "cert.pem", "speaks TLS: write https://"),
        ("https", "key.pem", "`--ca-file`: "),
        ("https", "other.pem", "which `--ca-file` names"),
    ] {
        std::fs::write(files.path("other.pem"), made(3000).0).unwrap();
        let refused = command(scheme, &["agents"], &files.path(trusted));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(69) && said.contains(why), "{said}");
    }
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_a_bad_one_changes_nothing() {
    let (dir, old, new) = (folder(), made(2999), made(3000));
    let files = Files::new(&old);
    let (hub, lines) = start(&dir, &files, &[]);
    let (both, only_new) = (trusting(&[&old.0, &new.0]), trusting(&[&new.0]));
    let token = hub_token(&dir, "a");
    let mut agent = peer(&hub, &both).await.identified("a", &token, run("boot-1")).await;
    for (certificate, key, why) in [
        (&new.0, &old.1, "do not belong together"),
        (&String::new(), &new.1, "holds no certificate in PEM"),
        (&new.0, &"-----BEGIN ENCRYPTED PRIVATE KEY-----\n".to_owned(), "is encrypted"),
    ] {
        files.write(certificate, key);
        hub.send("HUP");
        let line = heard(&lines, "ERROR", why);
        assert!(line["message"].as_str().unwrap().contains("the one that is in use stays"), "{line}");
        assert!(secured(&hub, &only_new).await.is_err() && secured(&hub, &both).await.is_ok());
    }
    files.write(&new.0, &new.1);
    hub.send("HUP");
    heard(&lines, "INFO", "the certificate is in use");
    assert!(secured(&hub, &only_new).await.is_ok());
    let metrics = ask(&hub, &only_new, &request("GET", "/metrics", &hub.admin, "")).await;
    assert!(metrics.contains("agentcom_hub_tls_certificate_expires_timestamp_seconds 32503680000\n"), "{metrics}");
    agent.drain().await;
    // One that has expired is used, since a hub without TLS would help nobody, and told of.
    let expired = made(2020);
    files.write(&expired.0, &expired.1);
    hub.send("HUP");
    heard(&lines, "WARN", "the certificate has expired");
    agent.close().await;
}

fn hub_token(dir: &TempDir, name: &str) -> String {
    crate::support::token(dir.path(), name, false)
}

#[test]
fn files_that_cannot_be_used_are_told_of_at_the_start() {
    let (dir, pair, other) = (folder(), made(3000), made(3000));
    let files = Files::new(&pair);
    let write = |name: &str, text: &str| std::fs::write(files.path(name), text).unwrap();
    write("other.pem", &other.1);
    write(
        "encrypted.pem",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAA==\n-----END RSA PRIVATE KEY-----\n",
    );
    write("empty.pem", "");
    write("text.pem", "not a certificate\n");
    write("bundle.pem", &pair.0.repeat(11));
    write("wrong.pem", "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n");
    write("nonsense.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    std::fs::File::create(files.path("huge.pem")).unwrap().set_len(1 << 40).unwrap();
    mknodat(CWD, files.path("pipe.pem"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for (certificate, key, code, why) in [
        (Some("missing.pem"), Some("key.pem"), 78, "--tls-cert: "),
        (Some("cert.pem"), Some("missing.pem"), 78, "correct the path or its permissions"),
        (Some("text.pem"), Some("key.pem"), 78, "holds no certificate in PEM"),
        (Some("empty.pem"), Some("key.pem"), 78, "holds no certificate in PEM"),
        (Some("key.pem"), Some("key.pem"), 78, "holds no certificate in PEM"),
        (Some("wrong.pem"), Some("key.pem"), 78, "is no proper PEM"),
        (Some("bundle.pem"), Some("key.pem"), 78, "holds 11 certificates"),
        (Some("nonsense.pem"), Some("key.pem"), 78, "cannot be used"),
        (Some("cert.pem"), Some("cert.pem"), 78, "holds no private key in PEM"),
        (Some("cert.pem"), Some("other.pem"), 78, "do not belong together"),
        (Some("cert.pem"), Some("encrypted.pem"), 78, "openssl pkey -in"),
        (Some("pipe.pem"), Some("key.pem"), 78, "a named pipe stands where the file should be"),
        (Some("huge.pem"), Some("key.pem"), 78, "more than the 4194304 that it may have"),
        (Some("cert.pem"), None, 2, "--tls-key"),
        (None, Some("key.pem"), 2, "--tls-cert"),
    ] {
        let mut command = hub_command();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir.path());
        for (flag, name) in [("--tls-cert", certificate), ("--tls-key", key)] {
            if let Some(name) = name {
                command.arg(flag).arg(files.path(name));
            }
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(code) && said.contains(why), "{certificate:?} {key:?}: {output:?}");
    }
}

#[tokio::test]
async fn a_key_that_others_may_read_is_warned_of() {
    let (dir, pair) = (folder(), made(3000));
    let files = Files::new(&pair);
    let (hub, lines) = start(&dir, &files, &[]);
    std::fs::set_permissions(files.path("key.pem"), PermissionsExt::from_mode(0o644)).unwrap();
    hub.send("HUP");
    heard(&lines, "WARN", "other users may read the private key");
}

#[tokio::test]
async fn http_without_tls_is_told_where_to_go() {
    let (dir, pair) = (folder(), made(3000));
    let files = Files::new(&pair);
    let (hub, _lines) = start(&dir, &files, &[]);
    let body = "x".repeat(100_000);
    for request in [request("GET", "/health", "", ""), request("POST", "/api/tasks", "", &body)] {
        let mut stream = TcpStream::connect(&hub.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("no answer").unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("this port speaks TLS: use https://"),
            "{answer}"
        );
    }
}

/// The greeting of a client of TLS.
fn greeting() -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = rustls::ClientConnection::new(trusting(&[]), name).unwrap();
    let mut greeting = Vec::new();
    client.write_tls(&mut greeting).unwrap();
    greeting
}

#[tokio::test]
async fn handshakes_that_do_not_end_keep_no_agent_out() {
    let (dir, pair) = (folder(), made(3000));
    let files = Files::new(&pair);
    let (hub, _lines) = start(&dir, &files, &["--max-unidentified", "8", "--request-timeout-ms", "2000"]);
    let (trust, token, greeting) = (trusting(&[&pair.0]), hub_token(&dir, "a"), greeting());
    let begun = Instant::now();
    let mut strangers = Vec::new();
    for begin in
        [&[][..], &greeting[..1], &greeting[..greeting.len() - 1], &greeting, b"\x80garbage", b"\x16\x03\x01\xff\xff"]
    {
        for _ in 0..4 {
            let mut stranger = TcpStream::connect(&hub.address).await.unwrap();
            stranger.write_all(begin).await.unwrap();
            strangers.push(stranger);
        }
    }
    let mut agent = peer(&hub, &trust).await.identified("a", &token, run("boot-1")).await;
    // Too much is not waited for: a greeting is no place to put things.
    let mut flood = TcpStream::connect(&hub.address).await.unwrap();
    let record = [&[0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0][..], &[0; 0x4000 - 4]].concat();
    flood.write_all(&record.repeat(5)).await.unwrap();
    strangers.push(flood);
    for mut stranger in strangers {
        let ended = async { while stranger.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) {} };
        tokio::time::timeout(PATIENCE, ended).await.expect("a stranger stayed");
    }
    assert!(begun.elapsed() < Duration::from_secs(8), "they end with the request timeout: {:?}", begun.elapsed());
    agent.drain().await;
    agent.close().await;
}
