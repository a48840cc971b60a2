//! A stand-in for pm2's daemon, as far as a sidecar asks it: `rpc.sock` in a folder of its own, where it answers
//! `getMonitorData` with a list in which whoever asks is an app (its process is the kernel's word). It starts nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Manner {
    /// With a list that has whoever asks as its app 0, which it would start again.
    Lists,
    /// With a list that has another process as its app 0.
    ListsAnother,
    /// With something that is no list.
    TalksRubbish,
    /// It takes the question and never answers.
    SaysNothing,
}

/// The daemon, for as long as the value lives.
#[derive(Debug)]
pub struct Pm2Double {
    home: PathBuf,
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Debug)]
struct Shared {
    manner: AtomicU8,
    asked: AtomicUsize,
}

impl Pm2Double {
    /// One that lists whoever asks, in `home`, which it makes.
    pub fn in_home(home: PathBuf) -> Self {
        std::fs::create_dir_all(&home).expect("a home for the double");
        // The sidecar's parent is this process.
        std::fs::write(home.join("pm2.pid"), std::process::id().to_string()).expect("pm2.pid");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime for the double");
        let shared = Arc::new(Shared { manner: AtomicU8::new(Manner::Lists as u8), asked: AtomicUsize::new(0) });
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(home.join("rpc.sock")).expect("a socket for the double")
        };
        runtime.spawn(serve(listener, shared.clone()));
        Self { home, shared, _runtime: runtime }
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    /// From here on it answers so.
    pub fn turn(&self, manner: Manner) {
        self.shared.manner.store(manner as u8, Ordering::SeqCst);
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }
}

async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    // What is never answered stays open.
    let mut unanswered = Vec::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).unwrap_or_default();
        let mut question = [0; 64];
        if stream.read(&mut question).await.unwrap_or_default() == 0 {
            continue;
        }
        shared.asked.fetch_add(1, Ordering::SeqCst);
        let manner = shared.manner.load(Ordering::SeqCst);
        if manner == Manner::SaysNothing as u8 {
            unanswered.push(stream);
        } else if manner == Manner::TalksRubbish as u8 {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        } else {
            let listed = if manner == Manner::Lists as u8 { pid } else { 1 };
            answer(&mut stream, listed).await;
        }
    }
}

/// The frames are AMP, as in the sidecar's `pm2/rpc.rs`.
async fn answer(stream: &mut UnixStream, pid: i32) {
    let env = json!({"status": "online", "autorestart": true, "restart_time": 0});
    let list = json!({"args": [[{"pid": pid, "pm_id": 0, "name": "double", "pm2_env": env, "monit": {}}]]});
    let mut bytes = vec![0x12];
    for argument in [format!("j:{list}"), "s:agentcom:0".to_owned()] {
        bytes.extend(u32::try_from(argument.len()).expect("a short list").to_be_bytes());
        bytes.extend(argument.as_bytes());
    }
    // Who asked may have left.
    let _ = stream.write_all(&bytes).await;
}
