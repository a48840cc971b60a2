//! A web server that answers as it is told and understands nothing: for hubs that misbehave. It closes each connection
//! after its answer.
//!
//! ```text
//! let web = Web::start(|path, head| match path { "/health" => (200, r#"{"service":"agent_com"}"#.into()), _ => (404, "{}".into()) });
//! web.url()      // http://127.0.0.1:PORT
//! ```

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// It answers until the test's process ends.
pub struct Web {
    address: SocketAddr,
}

impl Web {
    /// `answer` gets the path and the whole head; a status of 0 is the body alone, without a head.
    pub fn start(answer: impl Fn(&str, &str) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on the loopback");
        let address = listener.local_addr().expect("a bound listener has an address");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A caller that went away is not what is tested.
                let _ = serve(stream, &answer);
            }
        });
        Self { address }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn serve(mut stream: TcpStream, answer: &impl Fn(&str, &str) -> (u16, String)) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    stream.read_exact(&mut vec![0; length.unwrap_or(0)])?;
    let path = head.split(' ').nth(1).unwrap_or_default();
    match answer(path, &head) {
        (0, body) => stream.write_all(body.as_bytes()),
        (status, body) => {
            let length = body.len();
            write!(stream, "HTTP/1.1 {status} Said\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
        }
    }
}
