//! Answers that do not come to their end, and commands that are told to stop.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cli::{said, token_file};
use crate::support::{PATIENCE, folder, hub_command};

/// A request, as far as it matters here.
struct Asked {
    line: String,
    key: String,
}

/// Reads one request.
fn asked(stream: &TcpStream) -> Asked {
    let (mut lines, mut length) = (BufReader::new(stream), 0);
    let mut asked = Asked { line: String::new(), key: String::new() };
    lines.read_line(&mut asked.line).unwrap();
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        match line.trim_end().split_once(": ") {
            Some(("content-length", bytes)) => length = bytes.parse().unwrap(),
            Some(("idempotency-key", key)) => asked.key = key.to_owned(),
            Some(_) => {}
            None => break,
        }
    }
    lines.read_exact(&mut vec![0; length]).unwrap();
    asked
}

/// Serves each connection by `answer`, which gets its number and what was asked, and keeps all of them open.
fn served(answer: impl Fn(usize, &Asked, &mut TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let asked = asked(&stream);
            answer(number, &asked, &mut stream);
            open.push(stream);
        }
    });
    url
}

fn reply(stream: &mut TcpStream, status: &str, body: &str) {
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
}

fn started(url: &str, args: &[&str]) -> Child {
    let mut command = hub_command();
    command.args(args).args(["--hub", url]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn stop(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// What the command comes to, which must end soon.
fn ended(mut child: Child) -> Output {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Waits until a file with such a name is in the folder.
fn until_there(dir: &Path, is_it: impl Fn(&str) -> bool) {
    let begun = Instant::now();
    while !names(dir).iter().any(|name| is_it(name)) {
        assert!(begun.elapsed() < PATIENCE, "never there: {:?}", names(dir));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_backup_that_is_stopped_leaves_nothing_behind() {
    let url = served(|_, _, stream| {
        let digest = format!("sha-256=:{}=:", "A".repeat(43));
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\nrepr-digest: {digest}\r\n\r\nabc").unwrap();
    });
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let dir = folder();
        let out = dir.path().join("copy");
        let child = started(&url, &["backup", "--out", out.to_str().unwrap()]);
        until_there(dir.path(), |name| name.starts_with(".copy."));
        stop(&child, signal);
        let output = ended(child);
        assert_eq!((output.status.code(), names(dir.path())), (Some(code), vec![]), "{output:?}");
    }
}

#[test]
fn a_token_file_stays_where_the_hub_may_have_taken_its_token() {
    let url = served(|_, _, _| {});
    let dir = folder();
    let child = started(&url, &["token", "a", "--out", dir.path().join("new").to_str().unwrap()]);
    until_there(dir.path(), |name| name == "new");
    stop(&child, "-TERM");
    let output = ended(child);
    assert_eq!((output.status.code(), names(dir.path())), (Some(143), vec!["new".to_owned()]), "{output:?}");
    let refused = served(|_, _, stream| reply(stream, "403 Forbidden", r#"{"code":"forbidden","detail":"no"}"#));
    let output = ended(started(&refused, &["token", "a", "--out", dir.path().join("other").to_str().unwrap()]));
    assert_eq!((output.status.code(), names(dir.path()).len()), (Some(77), 1), "{output:?}");
    // A proxy that gave up says nothing of what its hub did.
    let lost = served(|_, _, stream| reply(stream, "504 Gateway Timeout", "late"));
    let output = ended(started(&lost, &["token", "a", "--out", dir.path().join("third").to_str().unwrap()]));
    assert_eq!((output.status.code(), names(dir.path()).len()), (Some(69), 2), "{output:?}");
    assert!(said(&output).contains("may do it yet") && said(&output).contains("third stays"), "{output:?}");
}

#[test]
fn a_command_whose_output_nobody_takes_can_be_stopped() {
    let long = json!({"items": [{"id": "x".repeat(1 << 20)}], "next_cursor": null}).to_string();
    let url = served(move |_, _, stream| reply(stream, "200 OK", &long));
    let mut child = started(&url, &["tasks", "--json"]);
    let mut stdout = child.stdout.take().unwrap();
    // It has begun, and a pipe takes no more than 64 KiB.
    stdout.read_exact(&mut [0; 1]).unwrap();
    stop(&child, "-TERM");
    let output = ended(child);
    assert_eq!(output.status.code(), Some(143), "{output:?}");
}

#[test]
fn a_list_without_an_end_is_none_of_a_hub() {
    for items in [json!([]), json!([{}])] {
        let is_empty = items == json!([]);
        let url = served(move |number, _, stream| {
            // One that is empty is refused at once, and one that stays where it is as well.
            let cursor = if is_empty { number.to_string() } else { "same".to_owned() };
            reply(stream, "200 OK", &json!({"items": items, "next_cursor": cursor}).to_string());
        });
        let output = ended(started(&url, &["agents"]));
        assert_eq!(output.status.code(), Some(70), "{output:?}");
        assert!(said(&output).contains("a list that does not go on"), "{output:?}");
    }
}

#[test]
fn what_the_hub_was_too_slow_for_is_asked_again_with_its_key() {
    let keys = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = keys.clone();
    let url = served(move |number, asked, stream| {
        assert!(asked.line.starts_with("POST /api/v1/tasks "), "{}", asked.line);
        seen.lock().unwrap().push(asked.key.clone());
        match number {
            0 => reply(stream, "408 Request Timeout", r#"{"code":"too_slow","detail":"it took too long"}"#),
            _ => reply(stream, "201 Created", r#"{"id":"task-1"}"#),
        }
    });
    let dir = folder();
    let token = token_file(dir.path(), "token", "secret");
    let output = ended(started(&url, &["submit", "d", "--token-file", &token]));
    assert_eq!((output.status.code(), said(&output)), (Some(0), "task-1\n".to_owned()), "{output:?}");
    let keys = keys.lock().unwrap();
    assert_eq!((keys.len(), &keys[0]), (2, &keys[1]));
    assert!(!keys[0].is_empty());
}
