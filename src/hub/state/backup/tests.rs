use redb::TableDefinition as Definition;

use super::*;
use crate::hub::scheduler::Changes;
use crate::hub::state::store::StateChanges;

fn setting(value: &str) -> StateChanges {
    StateChanges { settings: vec![("k".to_owned(), value.to_owned())], ..StateChanges::default() }
}

fn store_in(folder: &Path) -> Store {
    let store = Store::open(folder).unwrap();
    store.commit(&Changes::default(), &setting("v")).unwrap();
    store
}

#[test]
fn a_copy_is_a_store_with_everything_as_of_its_beginning() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = store_in(from.path());
    let copy = Store::path_in(to.path());
    let held = store.back_up(&copy, false).unwrap();
    store.commit(&Changes::default(), &setting("later")).unwrap();
    assert_eq!(held.schema, SCHEMA);
    assert_eq!(held.records.iter().find(|(table, _)| table == "settings"), Some(&("settings".to_owned(), 1)));
    assert_eq!(held, inspect(&copy).unwrap());
    let stored = Store::open(to.path()).unwrap().load().unwrap();
    assert_eq!(stored.settings, [("k".to_owned(), "v".to_owned())]);
}

#[test]
fn every_table_of_a_new_store_is_copied() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = store_in(from.path());
    let out = to.path().join("copy");
    store.back_up(&out, false).unwrap();
    let names = |path: &Path| {
        let db = Database::open(path).unwrap();
        tables_in(&db.begin_read().unwrap(), path).unwrap()
    };
    drop(store);
    assert_eq!(names(&out), names(&Store::path_in(from.path())), "visit_tables in store.rs lacks one");
}

#[test]
fn a_table_that_is_not_known_is_not_left_out_silently() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path());
    let write = store.db.begin_write().unwrap();
    write.open_table(Definition::<&str, &str>::new("of_tomorrow")).unwrap();
    write.commit().unwrap();
    let out = folder.path().join("copy");
    let refused = store.back_up(&out, false).unwrap_err();
    assert!(refused.to_string().contains("of_tomorrow") && !out.exists(), "{refused}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left over");
}

#[test]
fn what_has_the_name_stays_unless_it_may_be_replaced_and_the_store_always_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path());
    let out = folder.path().join("copy");
    std::fs::write(&out, "mine").unwrap();
    assert!(matches!(store.back_up(&out, false), Err(BackupError::Taken(_))));
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "mine");
    store.back_up(&out, true).unwrap();
    assert_eq!(inspect(&out).unwrap().schema, SCHEMA);
    for force in [false, true] {
        assert!(matches!(store.back_up(store.path(), force), Err(BackupError::IsTheStore(_))));
        assert!(matches!(store.back_up(folder.path(), force), Err(BackupError::NoFile { .. })));
    }
    let nowhere = folder.path().join("no/such/folder");
    assert!(matches!(store.back_up(&nowhere, false), Err(BackupError::Write { .. })));
}

#[test]
fn a_stopped_store_is_copied_whether_it_was_closed_or_not_and_one_in_use_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name);
    let store = store_in(folder.path());
    let in_use = back_up_stopped(folder.path(), &out("in-use"), false);
    assert!(matches!(in_use, Err(BackupError::Store(StoreError::Locked(_)))), "{in_use:?}");
    // What a killed process leaves: redb has the file marked as open.
    let killed = std::fs::read(store.path()).unwrap();
    drop(store);
    let path = Store::path_in(folder.path());
    let before = std::fs::read(&path).unwrap();
    let closed = back_up_stopped(folder.path(), &out("closed"), false).unwrap();
    assert!(std::fs::read(&path).unwrap() == before, "the store itself is as it was");
    std::fs::write(&path, killed).unwrap();
    let open = back_up_stopped(folder.path(), &out("open"), false).unwrap();
    assert_eq!((closed.schema, closed.records), (open.schema, open.records));
    let absent = back_up_stopped(&out("nowhere"), &out("absent"), false).unwrap_err();
    assert!(matches!(absent, BackupError::Store(StoreError::File { .. })), "{absent}");
}
