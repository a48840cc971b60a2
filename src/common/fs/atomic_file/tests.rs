use std::time::Duration;

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_write_replaces_the_whole_file_and_leaves_nothing_else() {
    let folder = folder();
    let path = folder.path().join("queue.json");
    write_atomic(&path, b"a longer first version").unwrap();
    write_atomic(&path, b"second").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"second");
    assert_eq!(names(folder.path()), ["queue.json"]);
}

#[test]
fn a_missing_folder_is_created() {
    let folder = folder();
    let path = folder.path().join("state/deeper/queue.json");
    write_atomic(&path, b"{}").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"{}");
}

#[test]
fn only_the_owner_can_read_what_was_written() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let path = folder.path().join("queue.json");
    fs::write(&path, "{}").unwrap();
    write_atomic(&path, b"{}").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_link_is_written_through_to_its_target() {
    let (here, shared) = (folder(), folder());
    let link = here.path().join("queue.json");
    let target = shared.path().join("real.json");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    write_atomic(&link, b"through").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&target).unwrap(), b"through");
}

#[test]
fn what_is_no_file_is_not_replaced() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let folder = folder();
    let (link, pipe) = (folder.path().join("queue.json"), folder.path().join("pipe"));
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    std::os::unix::fs::symlink(&pipe, &link).unwrap();
    for path in [&pipe, &link] {
        let error = write_atomic(path, b"{}").unwrap_err();
        let said = error.to_string();
        assert!(said.contains("cannot replace") && said.contains("a named pipe stands where"), "{said}");
        assert!(said.contains("move it away"), "{said}");
    }
    assert_eq!(names(folder.path()), ["pipe", "queue.json"]);
}

#[test]
fn a_relative_link_is_relative_to_its_own_folder() {
    let folder = folder();
    let link = folder.path().join("queue.json");
    std::os::unix::fs::symlink("real.json", &link).unwrap();
    write_atomic(&link, b"through").unwrap();
    assert_eq!(fs::read(folder.path().join("real.json")).unwrap(), b"through");
}

#[test]
fn a_loop_of_links_is_an_error_that_says_so() {
    let folder = folder();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    std::os::unix::fs::symlink(&a, &b).unwrap();
    std::os::unix::fs::symlink(&b, &a).unwrap();
    let error = write_atomic(&a, b"").unwrap_err();
    assert_eq!(error.operation, Operation::Resolve);
    assert!(error.to_string().contains("symbolic links"), "{error}");
}

#[test]
fn a_folder_in_the_way_is_an_error_and_leaves_no_temporary_file() {
    let folder = folder();
    let path = folder.path().join("queue.json");
    fs::create_dir_all(path.join("inside")).unwrap();
    let error = write_atomic(&path, b"{}").unwrap_err();
    assert_eq!(error.operation, Operation::Replace);
    assert_eq!(names(folder.path()), ["queue.json"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_with_its_folder() {
    let error = DurableError {
        path: "/state/queue.json".into(),
        operation: Operation::Write,
        source: fs::write("/dev/full", "x").unwrap_err(),
    };
    assert!(error.to_string().contains("free some space on the disk of /state"), "{error}");
}

#[test]
fn leftovers_of_this_file_are_removed_and_nothing_else() {
    let folder = folder();
    let path = folder.path().join("queue.json");
    for name in [".queue.json.AbC.tmp", ".queue.json.x.tmp", ".other.json.x.tmp", "queue.json", "queue.json.tmp"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    assert_eq!(remove_leftovers(&path).unwrap(), 2);
    assert_eq!(names(folder.path()), [".other.json.x.tmp", "queue.json", "queue.json.tmp"]);
}

#[test]
fn a_missing_file_is_not_an_error() {
    let folder = folder();
    let outcome = read_or_quarantine(&folder.path().join("queue.json"), 1_000, |_| Ok::<_, String>(())).unwrap();
    assert_eq!(outcome, ReadOutcome::Missing);
}

#[test]
fn a_good_file_is_parsed_and_stays() {
    let folder = folder();
    let path = folder.path().join("queue.json");
    fs::write(&path, "[1]").unwrap();
    let outcome = read_or_quarantine(&path, 1_000, |bytes| serde_json::from_slice::<Vec<u8>>(bytes)).unwrap();
    assert_eq!(outcome, ReadOutcome::Parsed(vec![1]));
    assert!(path.exists());
}

#[test]
fn bad_files_are_moved_aside_untouched_each_under_a_name_of_its_own() {
    let folder = folder();
    let path = folder.path().join("queue.json");
    let mut kept = Vec::new();
    for content in ["{half", "", "{again"] {
        fs::write(&path, content).unwrap();
        let outcome = read_or_quarantine(&path, 1_000, |bytes| serde_json::from_slice::<Vec<u8>>(bytes)).unwrap();
        let ReadOutcome::Quarantined { moved_to, why } = outcome else { panic!("{outcome:?}") };
        assert!(!path.exists());
        assert!(!why.is_empty());
        kept.push((moved_to, content));
    }
    for (moved_to, content) in kept {
        assert_eq!(fs::read_to_string(&moved_to).unwrap(), content);
        assert!(moved_to.to_string_lossy().contains("queue.json.corrupt-2"));
    }
}

#[test]
fn a_file_that_is_too_large_is_moved_aside_unread() {
    let folder = folder();
    let path = folder.path().join("queue.json");
    fs::File::create(&path).unwrap().set_len(1 << 42).unwrap();
    let outcome = read_or_quarantine(&path, 1_000, |_| Ok::<_, String>(())).unwrap();
    let ReadOutcome::Quarantined { moved_to, why } = outcome else { panic!("{outcome:?}") };
    assert!(why.contains("4398046511104 bytes, more than the 1000"), "{why}");
    assert_eq!((path.exists(), fs::metadata(moved_to).unwrap().len()), (false, 1 << 42));
}

#[test]
fn what_is_no_file_stays_where_it_stands() {
    let folder = folder();
    let path = folder.path().join("queue.json");
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let error = read_or_quarantine(&path, 1_000, |_| Ok::<_, String>(())).unwrap_err();
    assert!(error.to_string().contains("a socket stands where the file should be; move it away"), "{error}");
    assert!(path.exists());
}

#[test]
fn nothing_is_written_that_would_not_be_read_again() {
    let folder = folder();
    let path = folder.path().join("queue.json");
    write_atomic_up_to(3, &path, b"old").unwrap();
    let error = write_atomic_up_to(3, &path, b"more").unwrap_err();
    assert!(error.to_string().contains("4 bytes, more than the 3"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn the_time_in_the_name_is_utc() {
    let at = |seconds| utc_stamp(UNIX_EPOCH + Duration::from_secs(seconds));
    assert_eq!(at(0), "19700101T000000Z");
    assert_eq!(at(951_782_399), "20000228T235959Z");
    assert_eq!(at(951_782_400), "20000229T000000Z");
    assert_eq!(at(1_795_499_879), "20261124T055759Z");
    assert_eq!(at(4_107_542_400), "21000301T000000Z");
}
