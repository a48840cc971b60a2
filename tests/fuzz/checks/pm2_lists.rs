//! pm2's words: the output of `pm2 jlist` and the answer of its socket, from the same bytes.
//!
//! Asserted: banners before and after a list change nothing; the socket says of a list of objects what `jlist` says of
//! it; an error quotes nothing; a broken list begins inside the output.

use std::future::Future as _;
use std::task::{Context, Poll, Waker};

use agentcom::sidecar::supervisor::pm2::{ListError, Pm2Error, Pm2Process, parse_jlist, read_reply};

/// Checks what becomes of one input.
pub fn check(bytes: &[u8]) {
    // As an answer, whatever it is.
    drop(reply(bytes));
    let said = parse_jlist(bytes);
    match &said {
        Ok(list) => {
            let framed = [b"\n[PM2] Spawning daemon\n", bytes, b"\n>>>> In-memory PM2 is out-of-date\n"].concat();
            assert_eq!(parse_jlist(&framed).as_ref(), Ok(list));
        }
        Err(ListError::Broken { at }) => assert!(*at < bytes.len()),
        Err(ListError::Absent { bytes: length }) => assert_eq!(*length, bytes.len()),
    }
    // Where the whole of it is a list of objects, the socket says the same. (In other lists `jlist` may see an empty one on a
    // line of its own.)
    let whole: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    let objects = |items: &Vec<serde_json::Value>| items.iter().all(serde_json::Value::is_object);
    if let (Ok(list), Some(serde_json::Value::Array(_))) =
        (&said, whole.filter(|it| it.as_array().is_some_and(objects)))
    {
        let json = [br#"j:{"args":["#, bytes, b"]}"].concat();
        let length = u32::try_from(json.len()).expect("a small input").to_be_bytes();
        let by_socket = reply(&[&[0x11], &length[..], &json].concat());
        match by_socket {
            Ok(by_socket) => assert_eq!(by_socket, *list),
            Err(error) => panic!("{error:?} of a list that jlist reads"),
        }
    }
}

/// The bytes are all there, so it never waits.
fn reply(mut bytes: &[u8]) -> Result<Vec<Pm2Process>, Pm2Error> {
    let read = std::pin::pin!(read_reply(&mut bytes));
    match read.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(reply) => reply,
        Poll::Pending => panic!("it waits for more than there is"),
    }
}
