use proptest::prelude::*;

use super::*;
use crate::sidecar::admin::pm2_channel::line::check;

fn table(text: &str) -> Message {
    Message::Axm(Axm::Table { human_info: vec![("State", text.to_owned())] })
}

fn reply(name: &str, message: &str) -> Message {
    let answer = CommandResult::accepted(message);
    Message::Axm(Axm::Reply { action_name: name.to_owned(), returned: Returned::CommandResult(answer) })
}

/// Everything that goes out as long as pm2 reads.
fn all(voice: &ChannelWriter) -> String {
    let mut out = Vec::new();
    while voice.step(|bytes| take(bytes, bytes.len(), &mut out)).unwrap() == WriteStep::Wrote {}
    String::from_utf8(out).unwrap()
}

fn take(bytes: &[u8], at_most: usize, out: &mut Vec<u8>) -> io::Result<usize> {
    let taken = at_most.min(bytes.len());
    out.extend_from_slice(&bytes[..taken]);
    Ok(taken)
}

fn finish(voice: &ChannelWriter) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(voice.finish(Duration::ZERO))
}

#[derive(Debug, Clone)]
enum Turn {
    Say(Message),
    /// pm2 takes so many bytes.
    Takes(usize),
    /// It takes none.
    Blocked,
    Interrupted,
    Breaks,
    Finish,
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        4 => any::<String>().prop_map(|text| Turn::Say(table(&text))),
        4 => any::<(String, String)>().prop_map(|(name, text)| Turn::Say(reply(&name, &text))),
        1 => Just(Turn::Say(Message::Ready)),
        1 => (1..400_000_usize).prop_map(|length| Turn::Say(reply("long", &"x".repeat(length)))),
        12 => (1..200_usize).prop_map(Turn::Takes),
        2 => Just(Turn::Takes(usize::MAX)),
        2 => Just(Turn::Blocked),
        1 => Just(Turn::Interrupted),
        1 => Just(Turn::Breaks),
        1 => Just(Turn::Finish),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever is said, and however little pm2 takes of it at a time: whole lines, of which at most the last is cut
    /// off, and nothing behind that.
    #[test]
    fn only_whole_lines_and_nothing_after_the_last(turns in proptest::collection::vec(turn(), 1..120)) {
        let voice = ChannelWriter::new();
        let mut out = Vec::new();
        let mut ended = None;
        for turn in turns {
            let before = out.len();
            let stepped = match turn {
                Turn::Say(message) => { voice.send(message); continue }
                Turn::Takes(at_most) => voice.step(|bytes| take(bytes, at_most, &mut out)),
                Turn::Blocked => voice.step(|_| Err(io::ErrorKind::WouldBlock.into())),
                Turn::Interrupted => voice.step(|_| Err(io::ErrorKind::Interrupted.into())),
                Turn::Breaks => voice.step(|_| Err(io::ErrorKind::BrokenPipe.into())),
                Turn::Finish => {
                    let between_lines = finish(&voice);
                    prop_assert_eq!(between_lines, out.is_empty() || out.ends_with(b"\n"));
                    ended.get_or_insert(out.len());
                    continue;
                }
            };
            if stepped.is_err() {
                ended.get_or_insert(out.len());
            }
            prop_assert!(ended.is_none() || out.len() == before, "nothing is written after the end");
        }
        let text = String::from_utf8_lossy(&out).into_owned();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            prop_assert_eq!(check(line), Ok(()));
        }
        prop_assert!(voice.queue().messages.len() <= QUEUE_CAP);
    }
}

#[test]
fn without_a_channel_nothing_is_kept() {
    let voice = ChannelWriter::disconnected();
    voice.send(Message::Ready);
    assert!(voice.queue().messages.is_empty());
    assert_eq!(all(&voice), "");
}

#[test]
fn of_figures_only_the_latest_are_said() {
    let voice = ChannelWriter::new();
    ["a", "b", "c"].iter().for_each(|text| voice.send(table(text)));
    assert_eq!(all(&voice).lines().count(), 1);
}

#[test]
fn what_pm2_does_not_read_is_left_out_message_by_message() {
    let voice = ChannelWriter::new();
    for n in 0..QUEUE_CAP + 10 {
        voice.send(reply(&n.to_string(), ""));
    }
    let said = all(&voice);
    assert_eq!(said.lines().count(), QUEUE_CAP);
    assert!(said.contains("\"63\"") && !said.contains("\"64\""));
    voice.send(Message::Ready);
    assert_eq!(all(&voice), "\"ready\"\n", "and it goes on");
}

#[test]
fn an_answer_too_long_is_still_an_answer() {
    let voice = ChannelWriter::new();
    voice.send(reply(&"n".repeat(100_000), &"x".repeat(400_000)));
    let said = all(&voice);
    assert!(said.len() < 300 && said.contains("too long to be shown"), "{said}");
}

#[test]
fn half_a_line_is_nobodys_to_go_on_with() {
    let voice = ChannelWriter::new();
    voice.send(Message::Ready);
    let mut out = Vec::new();
    assert_eq!(voice.step(|bytes| take(bytes, 3, &mut out)).unwrap(), WriteStep::Wrote);
    assert!(!finish(&voice));
    assert_eq!(voice.step(|bytes| take(bytes, 9, &mut out)).unwrap(), WriteStep::Closed);
    assert_eq!(out, b"\"re");
}

#[tokio::test]
async fn it_waits_for_answers_that_are_being_found() {
    let voice = ChannelWriter::new();
    let (answering, speaker) = (voice.answering(), voice.clone());
    let written = Arc::new(Mutex::new(Vec::new()));
    let out = written.clone();
    let writer = tokio::spawn(async move {
        loop {
            match speaker.step(|bytes| take(bytes, usize::MAX, &mut out.lock().unwrap())).unwrap() {
                WriteStep::Wrote => {}
                WriteStep::Quiet | WriteStep::Full => speaker.wait().await,
                WriteStep::Closed => return,
            }
        }
    });
    let slow = voice.clone();
    let answer = tokio::spawn(async move {
        tokio::task::yield_now().await;
        slow.send(reply("drain", "yes"));
        drop(answering);
    });
    assert!(voice.finish(Duration::from_secs(10)).await);
    answer.await.unwrap();
    writer.await.unwrap();
    assert!(String::from_utf8_lossy(&written.lock().unwrap()).contains("drain"));
}
