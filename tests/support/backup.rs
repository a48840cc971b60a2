//! Fetches a backup from a running hub, over a connection of its own.

use std::io::{BufRead as _, BufReader, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use agentcom::hub::state::backup::{Checksum, Contents, receive};

/// The longest silence of the hub.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer whose body has not been read yet.
pub struct Answer {
    pub status: u16,
    head: Vec<String>,
    pub body: BufReader<TcpStream>,
}

impl Answer {
    /// The value of a header; its name is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// What the answer tells of the copy in it.
    pub fn told(&self) -> Checksum {
        let length = self.header("content-length").and_then(|length| length.parse().ok());
        let digest = self.header("repr-digest").expect("a digest");
        Checksum::of_answer(length.expect("a length"), digest).expect("a SHA-256")
    }
}

/// Asks for a backup, and reads the head of the answer.
pub fn ask(address: impl ToSocketAddrs, method: &str, token: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let request = format!(
        "{method} /api/v1/backup HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    std::io::Write::write_all(&mut stream, request.as_bytes()).expect("a request");
    let mut body = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        body.read_line(&mut line).expect("the head of an answer");
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let status = head.first().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("an HTTP answer");
    Answer { status, head, body }
}

/// Fetches a backup, and writes it to a file as a client does.
pub fn fetch(address: impl ToSocketAddrs, token: &str, out: &Path) -> Contents {
    let mut answer = ask(address, "GET", token);
    if answer.status != 200 {
        let mut text = String::new();
        answer.body.read_to_string(&mut text).expect("a text");
        panic!("{}: {text}", answer.status);
    }
    let told = answer.told();
    receive(&mut answer.body, told, out, false).expect("a whole copy")
}
