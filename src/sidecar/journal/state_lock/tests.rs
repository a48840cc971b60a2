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

#[test]
fn a_run_that_is_replaced_in_place_leaves_no_gap_for_a_second_copy() {
    let (folder, queue) = queue();
    let lock = StateLock::acquire(&queue, None, Duration::ZERO).unwrap();
    let handed_over = lock.with_folder(File::try_clone).unwrap();
    drop(lock);
    assert!(matches!(StateLock::acquire(&queue, None, Duration::ZERO), Err(LockError::Held { .. })));
    let next = StateLock::acquire_after(Some(handed_over), &queue, None, Duration::ZERO).unwrap();
    // The configuration may name another journal by then.
    let handed_over = next.with_folder(File::try_clone).unwrap();
    drop(next);
    let other = folder.path().join("other.json");
    let _other = StateLock::acquire_after(Some(handed_over), &other, None, Duration::ZERO).unwrap();
    assert!(matches!(StateLock::acquire(&other, None, Duration::ZERO), Err(LockError::Held { .. })));
    StateLock::acquire(&queue, None, Duration::ZERO).unwrap();
}

#[test]
fn what_was_handed_over_of_another_folder_is_let_go() {
    let ((_one, here), (_two, there)) = (queue(), queue());
    let lock = StateLock::acquire(&here, None, Duration::ZERO).unwrap();
    let handed_over = lock.with_folder(File::try_clone).unwrap();
    drop(lock);
    let _there = StateLock::acquire_after(Some(handed_over), &there, None, Duration::ZERO).unwrap();
    StateLock::acquire(&here, None, Duration::ZERO).unwrap();
}

#[test]
fn a_link_that_is_put_in_the_journals_place_takes_the_lock_along() {
    let ((_one, queue), (_two, target), (_three, third)) = (queue(), queue(), queue());
    let lock = StateLock::acquire(&queue, None, Duration::ZERO).unwrap();
    std::os::unix::fs::symlink(&target, &queue).unwrap();
    let path = lock_path(&target).unwrap();
    assert_eq!(lock.renew().unwrap(), Renewed::Elsewhere { path });
    assert!(matches!(StateLock::acquire(&target, None, Duration::ZERO), Err(LockError::Held { .. })));
    assert_eq!(lock.renew().unwrap(), Renewed::Intact);
    // Another has the journal that the link leads to by now: nothing may be written there.
    std::fs::remove_file(&queue).unwrap();
    let _other = StateLock::acquire(&third, None, Duration::ZERO).unwrap();
    std::os::unix::fs::symlink(&third, &queue).unwrap();
    assert!(matches!(lock.renew(), Err(LockError::Held { .. })));
}

#[test]
fn a_mark_without_a_lock_is_not_put_down_to_a_process_that_is_gone() {
    let (_folder, queue) = queue();
    let lock = StateLock::acquire(&queue, Some("gone"), Duration::ZERO).unwrap();
    let _marked = lock.with_folder(File::try_clone).unwrap();
    drop(lock);
    let error = StateLock::acquire(&queue, None, Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("an unknown process"), "{error}");
}
