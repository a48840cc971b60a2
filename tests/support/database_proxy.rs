//! A TCP proxy before a database, which cuts all connections after a chosen number of bytes in one direction, or holds
//! everything back.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
}

#[derive(Default)]
struct State {
    /// After how many more bytes in which direction everything is cut.
    cut: Option<(Way, usize)>,
    /// How often that was done.
    cuts: usize,
    is_frozen: bool,
    ends: Vec<TcpStream>,
}

#[derive(Clone)]
pub struct Proxy {
    state: Arc<Mutex<State>>,
    port: u16,
}

impl Proxy {
    pub fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self { state: Arc::default(), port: listener.local_addr().unwrap().port() };
        let shared = proxy.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                for (way, from, to) in [(Way::ToServer, &client, &server), (Way::ToClient, &server, &client)] {
                    let (proxy, from, to) = (shared.clone(), from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || proxy.carry(way, from, to));
                }
                shared.state.lock().unwrap().ends.extend([client, server]);
            }
        });
        proxy
    }

    /// The address of a database, through this proxy.
    pub fn url(&self, url: &str) -> String {
        let (before, after) = url.split_once("127.0.0.1:").unwrap();
        let (_, database) = after.split_once('/').unwrap();
        format!("{before}127.0.0.1:{}/{database}", self.port)
    }

    /// Cuts everything after so many more bytes.
    pub fn cut_after(&self, way: Way, bytes: usize) {
        self.state.lock().unwrap().cut = Some((way, bytes));
    }

    /// Forgets that, and returns how often something was cut.
    pub fn cuts(&self) -> usize {
        let mut state = self.state.lock().unwrap();
        state.cut = None;
        state.cuts
    }

    /// Carries nothing more, and neither end hears of that.
    pub fn freeze(&self) {
        self.state.lock().unwrap().is_frozen = true;
    }

    /// Carries again what comes from now on. What was held back is lost: both ends of such a connection must be cut.
    pub fn thaw(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_frozen = false;
        for end in state.ends.drain(..) {
            // The other side may have closed it already.
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    fn carry(&self, way: Way, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = [0; 4096];
        while let Ok(count) = from.read(&mut bytes) {
            let mut passed = count;
            {
                let mut state = self.state.lock().unwrap();
                if state.is_frozen && count > 0 {
                    continue;
                }
                if let Some((cut_way, left)) = &mut state.cut
                    && *cut_way == way
                {
                    passed = passed.min(*left);
                    *left -= passed;
                }
            }
            if count == 0 || to.write_all(&bytes[..passed]).is_err() {
                break;
            }
            if passed < count {
                let mut state = self.state.lock().unwrap();
                state.cut = None;
                state.cuts += 1;
                for end in state.ends.drain(..) {
                    // The other side may have closed it already.
                    let _ = end.shutdown(Shutdown::Both);
                }
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }
}
