//! A TCP proxy in front of a hub, like nginx with a plain `proxy_pass`: it can be taken away and come back, cut what goes
//! through it, or stop carrying without a word. It carries bytes and knows no frame.
//!
//! ```text
//! let proxy = Proxy::before(hub.address());
//! Agent::new("alice", &proxy.url(), &token);
//! proxy.away(|| ..);      // closes what goes through it and refuses the rest until the closure has run
//! proxy.cut();            // closes what goes through it; a new connection is taken at once
//! proxy.freeze();         // what goes through it now is carried no further, and neither end hears of that
//! ```

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// One connection through it: both ends, and whether it carries.
struct Through {
    ends: [TcpStream; 2],
    carries: Arc<AtomicBool>,
}

#[derive(Default)]
struct State {
    through: Mutex<Vec<Through>>,
    away: AtomicBool,
}

pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

impl Proxy {
    pub fn before(hub: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port for the proxy");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if !shared.away.load(Ordering::SeqCst) {
                    carry(&shared, client, hub);
                }
            }
        });
        Self { address, state }
    }

    /// What `hub_url` in a sidecar's config should say.
    pub fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    pub fn cut(&self) {
        for Through { ends, .. } in self.state.through.lock().expect("no panic").drain(..) {
            for end in ends {
                // The other side may have closed it already.
                let _ = end.shutdown(Shutdown::Both);
            }
        }
    }

    pub fn away(&self, meanwhile: impl FnOnce()) {
        self.state.away.store(true, Ordering::SeqCst);
        self.cut();
        meanwhile();
        self.state.away.store(false, Ordering::SeqCst);
    }

    pub fn freeze(&self) {
        for through in self.state.through.lock().expect("no panic").iter() {
            through.carries.store(false, Ordering::SeqCst);
        }
    }
}

fn carry(state: &State, client: TcpStream, hub: SocketAddr) {
    let Ok(server) = TcpStream::connect(hub) else { return };
    let carries = Arc::new(AtomicBool::new(true));
    let clone = |stream: &TcpStream| stream.try_clone().expect("a handle");
    for (mut from, mut to) in [(clone(&client), clone(&server)), (clone(&server), clone(&client))] {
        let carries = Arc::clone(&carries);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = from.read(&mut bytes) {
                let frozen = !carries.load(Ordering::SeqCst);
                if frozen && count > 0 {
                    continue;
                }
                if frozen || count == 0 || to.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            if carries.load(Ordering::SeqCst) {
                // The other side may have closed it already.
                let _ = to.shutdown(Shutdown::Both);
            }
        });
    }
    state.through.lock().expect("no panic").push(Through { ends: [client, server], carries });
}
