use std::io::Seek as _;

use redb::TableDefinition as Definition;

use super::tables::tables_in;
use super::*;
use crate::hub::scheduler::Changes;
use crate::hub::state::audit::{Action, Author, Entry, Filter};
use crate::hub::state::store::{SCHEMA, StateChanges, WithoutStore};

fn setting(value: &str) -> StateChanges {
    let audit = vec![Entry::new(&Author::stranger(), Action::SettingChanged, "k", 1)];
    StateChanges { settings: vec![("k".to_owned(), value.to_owned())], audit, ..StateChanges::default() }
}

fn store_in(folder: &Path) -> Store {
    let store = Store::open(folder, WithoutStore::Make).unwrap();
    store.commit(&Changes::default(), &setting("v")).unwrap();
    store
}

/// What a hub hands over: a file without a name, and what is told of it.
fn handed_over(store: &Store) -> (File, Checksum, Contents) {
    let mut file = tempfile::tempfile().unwrap();
    let contents = store.copy_to(&file).unwrap();
    file.rewind().unwrap();
    let checksum = Checksum::of(&mut file).unwrap();
    file.rewind().unwrap();
    (file, checksum, contents)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_copy_is_a_store_with_everything_as_of_its_beginning() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = store_in(from.path());
    let (mut file, told, held) = handed_over(&store);
    store.commit(&Changes::default(), &setting("later")).unwrap();
    let copy = Store::path_in(to.path());
    assert_eq!(receive(&mut file, told, &copy, false).unwrap(), held);
    assert_eq!((held.schema, held.bytes), (SCHEMA, told.bytes));
    for (table, count) in [("settings", 1), ("audit", 1), ("tasks", 0)] {
        assert_eq!(held.records.iter().find(|(name, _)| name == table), Some(&(table.to_owned(), count)));
    }
    assert_eq!(held, inspect(&copy).unwrap());
    let copy = Store::open(to.path(), WithoutStore::Make).unwrap();
    assert_eq!(copy.load().unwrap().settings, [("k".to_owned(), "v".to_owned())]);
    assert_eq!(copy.audit().page(&Filter::default(), None, 9, usize::MAX).unwrap().items.len(), 1);
}

#[test]
fn every_table_of_a_new_store_is_copied() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(store_in(from.path()));
    let out = to.path().join("copy");
    back_up_stopped(from.path(), &out, false).unwrap();
    let names = |path: &Path| {
        let db = Database::open(path).unwrap();
        tables_in(&db.begin_read().unwrap(), path).unwrap()
    };
    assert_eq!(names(&out), names(&Store::path_in(from.path())));
}

#[test]
fn a_table_that_is_not_known_is_not_left_out_silently() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path());
    let Store::File(file) = &store else { panic!("it is opened in a folder") };
    let write = file.db.begin_write().unwrap();
    write.open_table(Definition::<&str, &str>::new("of_tomorrow")).unwrap();
    write.commit().unwrap();
    let refused = store.copy_to(&tempfile::tempfile().unwrap()).unwrap_err();
    assert!(refused.to_string().contains("of_tomorrow"), "{refused}");
    drop(store);
    let refused = back_up_stopped(folder.path(), &folder.path().join("copy"), false).unwrap_err();
    assert!(refused.to_string().contains("of_tomorrow"), "{refused}");
    assert_eq!(names(folder.path()), ["hub.redb", "hub.redb.made"], "nothing is left over");
}

#[test]
fn what_has_the_name_stays_unless_it_may_be_replaced_and_a_store_in_use_always_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path());
    let receive_at = |out: &Path, replace| {
        let (mut file, told, _) = handed_over(&store);
        receive(&mut file, told, out, replace)
    };
    let out = folder.path().join("copy");
    std::fs::write(&out, "mine").unwrap();
    assert!(matches!(receive_at(&out, false), Err(BackupError::Taken(_))));
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "mine");
    receive_at(&out, true).unwrap();
    assert_eq!(inspect(&out).unwrap().schema, SCHEMA);
    let (path, other_name) = (Store::path_in(folder.path()), folder.path().join("other-name"));
    std::fs::hard_link(&path, &other_name).unwrap();
    for replace in [false, true] {
        assert!(matches!(receive_at(&path, replace), Err(BackupError::IsAStore(_))));
        assert!(matches!(receive_at(&other_name, replace), Err(BackupError::IsAStore(_))));
        assert!(matches!(receive_at(folder.path(), replace), Err(BackupError::NoFile { .. })));
    }
    let nowhere = folder.path().join("no/such/folder");
    assert!(matches!(receive_at(&nowhere, false), Err(BackupError::Write { .. })));
}

#[test]
fn a_copy_that_came_damaged_or_in_part_gets_no_name() {
    let folder = tempfile::tempdir().unwrap();
    let from = tempfile::tempdir().unwrap();
    let (mut file, told, _) = handed_over(&store_in(from.path()));
    let mut whole = Vec::new();
    file.read_to_end(&mut whole).unwrap();
    let out = folder.path().join("copy");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (what, mut content) in [("in part", &whole[..whole.len() - 1]), ("damaged", &flipped[..]), ("empty", &[])] {
        let refused = receive(&mut content, told, &out, false);
        assert!(matches!(refused, Err(BackupError::Differs { .. })), "{what}: {refused:?}");
    }
    // As told, and no store all the same.
    let text = b"no store";
    let refused = receive(&mut &text[..], Checksum::of(&mut &text[..]).unwrap(), &out, false);
    assert!(matches!(refused, Err(BackupError::Differs { .. })), "{refused:?}");
    struct Breaks;
    impl Read for Breaks {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let refused = receive(&mut (&whole[..9]).chain(Breaks), told, &out, false);
    assert!(matches!(refused, Err(BackupError::BrokeOff { .. })), "{refused:?}");
    assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));
}

#[test]
fn the_digest_is_told_as_it_is_read() {
    let sum = Checksum::of(&mut &b"abc"[..]).unwrap();
    assert_eq!(sum.repr_digest(), "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:");
    assert_eq!(Checksum::of_answer(3, &sum.repr_digest()), Some(sum));
    assert_eq!(Checksum::of_answer(3, &format!("md5=:AA==:, {}", sum.repr_digest())), Some(sum));
    for other in ["", "sha-256=:AA==:", "sha-256=:!:", "sha-512=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:"] {
        assert_eq!(Checksum::of_answer(3, other), None, "{other}");
    }
}

#[test]
fn a_stopped_store_is_copied_whether_it_was_closed_or_not_and_one_in_use_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name);
    let store = store_in(folder.path());
    let in_use = back_up_stopped(folder.path(), &out("in-use"), false);
    assert!(matches!(in_use, Err(BackupError::Store(StoreError::Locked(_)))), "{in_use:?}");
    // What a killed process leaves: redb has the file marked as open.
    let path = Store::path_in(folder.path());
    let killed = std::fs::read(&path).unwrap();
    drop(store);
    let before = std::fs::read(&path).unwrap();
    let closed = back_up_stopped(folder.path(), &out("closed"), false).unwrap();
    for replace in [false, true] {
        let own = back_up_stopped(folder.path(), &path, replace);
        assert!(matches!(own, Err(BackupError::IsAStore(_))), "{own:?}");
    }
    assert!(std::fs::read(&path).unwrap() == before, "the store itself is as it was");
    std::fs::write(&path, killed).unwrap();
    let open = back_up_stopped(folder.path(), &out("open"), false).unwrap();
    assert_eq!((closed.schema, closed.records), (open.schema, open.records));
    let absent = back_up_stopped(&out("nowhere"), &out("absent"), false).unwrap_err();
    assert!(matches!(absent, BackupError::Store(StoreError::File { .. })), "{absent}");
}
