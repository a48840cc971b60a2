use std::process::{Command, Stdio};

use super::*;

const SOON: Duration = Duration::from_secs(20);

fn queue() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let queue = folder.path().join("queue.json");
    (folder, queue)
}

#[test]
fn a_second_copy_learns_who_holds_it() {
    let (_folder, queue) = queue();
    let _lock = StateLock::acquire(&queue, Some("agent one"), Duration::ZERO).unwrap();
    let error = StateLock::acquire(&queue, None, Duration::ZERO).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("\"agent one\"") && said.contains(&std::process::id().to_string()), "{said}");
}

#[test]
fn who_holds_it_can_be_asked_without_taking_it() {
    let (folder, queue) = queue();
    assert_eq!(StateLock::holder(&queue).unwrap(), None);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "asking made a file");
    let lock = StateLock::acquire(&queue, Some("agent one"), Duration::ZERO).unwrap();
    assert_eq!(StateLock::holder(&queue).unwrap().and_then(|holder| holder.name), Some("agent one".to_owned()));
    drop(lock);
    assert_eq!(StateLock::holder(&queue).unwrap(), None);
    StateLock::acquire(&queue, None, Duration::ZERO).unwrap();
}

#[test]
fn it_is_free_again_when_its_holder_lets_go() {
    let (_folder, queue) = queue();
    drop(StateLock::acquire(&queue, None, Duration::ZERO).unwrap());
    StateLock::acquire(&queue, None, Duration::ZERO).unwrap();
}

#[test]
fn a_predecessor_that_is_leaving_is_waited_for() {
    let (_folder, queue) = queue();
    let lock = StateLock::acquire(&queue, None, Duration::ZERO).unwrap();
    let successor = std::thread::spawn({
        let queue = queue.clone();
        move || StateLock::acquire(&queue, None, SOON).map(drop)
    });
    drop(lock);
    successor.join().unwrap().unwrap();
}

#[test]
fn two_links_to_one_journal_share_one_lock() {
    let (folder, queue) = queue();
    let link = folder.path().join("link.json");
    std::os::unix::fs::symlink(&queue, &link).unwrap();
    let _lock = StateLock::acquire(&queue, None, Duration::ZERO).unwrap();
    assert!(matches!(StateLock::acquire(&link, None, Duration::ZERO), Err(LockError::Held { .. })));
}

#[test]
fn a_child_does_not_keep_it() {
    let (_folder, queue) = queue();
    let lock = StateLock::acquire(&queue, None, Duration::ZERO).unwrap();
    let mut child = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
    drop(lock);
    // `spawn` may return a moment before the kernel closes the child's copy of the descriptor.
    let again = StateLock::acquire(&queue, None, SOON);
    child.kill().unwrap();
    child.wait().unwrap();
    again.unwrap();
}

#[test]
fn a_lock_file_full_of_rubbish_is_no_obstacle() {
    let (folder, queue) = queue();
    std::fs::write(folder.path().join("queue.json.lock"), [0xff; 9_000]).unwrap();
    StateLock::acquire(&queue, None, Duration::ZERO).unwrap();
}

#[test]
fn a_file_where_the_folder_should_be_is_named() {
    let (folder, _) = queue();
    std::fs::write(folder.path().join("state"), "").unwrap();
    let error = StateLock::acquire(&folder.path().join("state/queue.json"), None, Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("queue.json"), "{error}");
}
