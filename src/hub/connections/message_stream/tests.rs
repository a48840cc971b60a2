use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

/// A frame as a client writes it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => frame.push(MASKED | short),
        (_, Ok(middle)) => {
            frame.push(MASKED | 126);
            frame.extend(middle.to_be_bytes());
        }
        (_, Err(_)) => {
            frame.push(MASKED | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    let mask = [0x5a, 0xc3, 0x17, 0x88];
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// All messages of these bytes, which arrive in pieces of this size, and how it ends.
async fn read_all(bytes: Vec<u8>, piece: usize, max: usize) -> (Vec<Message>, Option<String>) {
    let (mut client, server) = tokio::io::duplex(piece);
    let mut messages = MessageStream::new(server, &[], max);
    let writing = tokio::spawn(async move {
        // A server that has seen enough may close.
        let _ = client.write_all(&bytes).await;
    });
    let mut read = Vec::new();
    let end = loop {
        match messages.recv().await {
            Ok(Some(message)) => read.push(message),
            Ok(None) => break None,
            Err(error) => break Some(error.to_string()),
        }
    };
    drop(messages);
    writing.await.unwrap();
    (read, end)
}

#[tokio::test]
async fn messages_arrive_whole_however_they_are_cut() {
    let long = "ü".repeat(40_000);
    let bytes = [
        frame(FINAL | TEXT, b"{}"),
        frame(TEXT, "gr\u{fc}".as_bytes().split_at(3).0),
        frame(FINAL | PING, b"now"),
        frame(CONTINUATION, "\u{fc}".as_bytes().split_at(1).1),
        frame(FINAL | CONTINUATION, b"n"),
        frame(FINAL | PONG, b""),
        frame(FINAL | TEXT, long.as_bytes()),
        frame(FINAL | TEXT, "x".repeat(200).as_bytes()),
        frame(FINAL | BINARY, &[0xff]),
        frame(FINAL | CLOSE, &[3, 232]),
    ]
    .concat();
    for piece in [1, 2, 7, 1_000, 1 << 20] {
        let (read, end) = read_all(bytes.clone(), piece, 1 << 20).await;
        let expected = vec![
            Message::Text("{}".to_owned()),
            Message::Ping(b"now".to_vec()),
            Message::Text("grün".to_owned()),
            Message::Pong,
            Message::Text(long.clone()),
            Message::Text("x".repeat(200)),
            Message::Binary,
            Message::Close { code: Some(1000), reason: String::new() },
        ];
        assert_eq!((read, end), (expected, None), "in pieces of {piece}");
    }
}

#[tokio::test]
async fn what_no_client_may_send_is_refused() {
    let cases = [
        (vec![FINAL | TEXT, 0], "a frame that is not masked"),
        (frame(FINAL | 0x40 | TEXT, b""), "a frame with reserved flags"),
        (frame(FINAL | 0x3, b""), "a frame that cannot come here"),
        (frame(FINAL | CONTINUATION, b""), "a frame that cannot come here"),
        ([frame(TEXT, b"a"), frame(FINAL | TEXT, b"b")].concat(), "a frame that cannot come here"),
        (frame(PING, b""), "a control frame that is too long or in parts"),
        (frame(FINAL | PING, &[0; 126]), "a control frame that is too long or in parts"),
        (frame(FINAL | TEXT, &[0xff]), "a text is not UTF-8"),
        (frame(FINAL | TEXT, &[b'a'; 101]), "a message is too long"),
        ([frame(TEXT, &[b'a'; 60]), frame(FINAL, &[b'a'; 41])].concat(), "a message is too long"),
        ([vec![FINAL | TEXT, MASKED | 127], vec![0xff; 8]].concat(), "a message is too long"),
    ];
    for (bytes, why) in cases {
        let shown = format!("{bytes:?}");
        assert_eq!(read_all(bytes, 64, 100).await, (Vec::new(), Some(why.to_owned())), "{shown}");
    }
}

#[tokio::test]
async fn nothing_is_kept_after_a_large_message() {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let mut messages = MessageStream::new(server, &[], 1 << 20);
    client.write_all(&frame(FINAL | TEXT, &[b'a'; 300_000])).await.unwrap();
    assert!(matches!(messages.recv().await, Ok(Some(Message::Text(text))) if text.len() == 300_000));
    assert_eq!(messages.arrived.capacity(), 0);
}

#[tokio::test]
async fn what_was_read_with_the_upgrade_counts() {
    let (mut client, server) = tokio::io::duplex(64);
    let bytes = frame(FINAL | TEXT, b"early");
    let mut messages = MessageStream::new(server, &bytes[..4], 100);
    client.write_all(&bytes[4..]).await.unwrap();
    assert!(matches!(messages.recv().await, Ok(Some(Message::Text(text))) if text == "early"));
}

#[tokio::test]
async fn frames_are_written_in_the_shortest_form() {
    let (client, server) = tokio::io::duplex(1 << 20);
    let mut messages = MessageStream::new(server, &[], 100);
    messages.send_text("hi", PATIENCE).await.unwrap();
    messages.send_text(&"x".repeat(126), PATIENCE).await.unwrap();
    messages.send_text(&"x".repeat(65_536), PATIENCE).await.unwrap();
    messages.send_pong(b"now", PATIENCE).await.unwrap();
    messages.send_close(1_001, &"ü".repeat(100), PATIENCE).await.unwrap();
    drop(messages);
    let mut written = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut { client }, &mut written).await.unwrap();
    let expected = [
        b"\x81\x02hi".to_vec(),
        [b"\x81\x7e\x00\x7e".to_vec(), vec![b'x'; 126]].concat(),
        [b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00".to_vec(), vec![b'x'; 65_536]].concat(),
        b"\x8a\x03now".to_vec(),
        [b"\x88\x7c\x03\xe9".to_vec(), "ü".repeat(61).into_bytes()].concat(),
    ];
    assert!(written == expected.concat(), "{:?}", &written[written.len() - 140..]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_holds_a_write_up_only_for_so_long() {
    let (_client, server) = tokio::io::duplex(16);
    let mut messages = MessageStream::new(server, &[], 100);
    let error = messages.send_text(&"x".repeat(100), PATIENCE).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}
