//! The schema number of the store's file.

use super::*;

/// Does something with the number of a store that is not open.
fn in_meta<T>(data_dir: &Path, act: impl FnOnce(&mut redb::Table<'_, &'static str, u64>) -> T) -> T {
    let db = Database::open(FileStore::path_in(data_dir)).unwrap();
    let write = db.begin_write().unwrap();
    let answer = act(&mut write.open_table(META).unwrap());
    write.commit().unwrap();
    answer
}

fn schema_in(data_dir: &Path) -> Option<u64> {
    in_meta(data_dir, |meta| meta.get("schema").unwrap().map(|found| found.value()))
}

fn setting(value: &str) -> StateChanges {
    StateChanges { settings: vec![("k".to_owned(), value.to_owned())], ..StateChanges::default() }
}

#[test]
fn a_new_store_has_the_number_of_this_hub() {
    let folder = tempfile::tempdir().unwrap();
    drop(FileStore::open(folder.path(), WithoutStore::Make).unwrap());
    assert_eq!(schema_in(folder.path()), Some(3));
}

#[test]
fn an_older_store_opens_and_has_the_number_of_this_hub_from_then_on() {
    // The one before, version 0.1.0's, one below any that a hub wrote, and none.
    for before in [Some(2), Some(1), Some(0), None] {
        let folder = tempfile::tempdir().unwrap();
        FileStore::open(folder.path(), WithoutStore::Make).unwrap().commit(&Changes::default(), &setting("v")).unwrap();
        in_meta(folder.path(), |meta| match before {
            Some(before) => meta.insert("schema", before).map(drop).unwrap(),
            None => meta.remove("schema").map(drop).unwrap(),
        });
        let stored = FileStore::open(folder.path(), WithoutStore::Make).unwrap().load().unwrap();
        assert_eq!(stored.settings, [("k".to_owned(), "v".to_owned())], "{before:?}");
        assert_eq!(schema_in(folder.path()), Some(SCHEMA), "{before:?}");
    }
}

#[test]
fn a_newer_hubs_store_is_refused_and_no_byte_of_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    drop(FileStore::open(folder.path(), WithoutStore::Make).unwrap());
    in_meta(folder.path(), |meta| meta.insert("schema", SCHEMA + 1).map(drop).unwrap());
    let path = FileStore::path_in(folder.path());
    let before = std::fs::read(&path).unwrap();
    for _ in 0..2 {
        let refused = FileStore::open(folder.path(), WithoutStore::Make).err().unwrap();
        assert!(matches!(refused, StoreError::Newer { found: 4, .. }), "{refused}");
        let said = format!("{} has schema 4, this hub knows 3: run the newer hub that wrote it", path.display());
        assert_eq!(refused.to_string(), said);
    }
    assert!(std::fs::read(&path).unwrap() == before);
}

#[test]
fn a_newer_hubs_store_that_was_not_closed_is_refused_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = FileStore::path_in(folder.path());
    drop(FileStore::open(folder.path(), WithoutStore::Make).unwrap());
    let killed = {
        let store = FileStore::open(folder.path(), WithoutStore::Make).unwrap();
        let write = store.db.begin_write().unwrap();
        write.open_table(META).unwrap().insert("schema", SCHEMA + 1).unwrap();
        write.commit().unwrap();
        // What a killed process leaves: redb has the file marked as open.
        std::fs::read(&path).unwrap()
    };
    std::fs::write(&path, killed).unwrap();
    assert_eq!(look_at_schema(&path), None);
    assert!(matches!(FileStore::open(folder.path(), WithoutStore::Make), Err(StoreError::Newer { found: 4, .. })));
}

#[test]
fn a_commit_writes_nothing_into_a_file_that_was_cut_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path(), WithoutStore::Make).unwrap();
    store.commit(&Changes::default(), &setting("v")).unwrap();
    let write = store.db.begin_write().unwrap();
    write.open_table(META).unwrap().insert("schema", SCHEMA).unwrap();
    let file = std::fs::File::options().write(true).open(store.path()).unwrap();
    let half = file.metadata().unwrap().len() / 2;
    file.set_len(half).unwrap();
    assert!(write.commit().is_err() && store.place.is_spoilt());
    let refused = store.commit(&Changes::default(), &setting("w")).unwrap_err();
    assert!(matches!(refused, StoreError::TakenAway { how: StoreLoss::Written, .. }), "{refused}");
    assert_eq!(file.metadata().unwrap().len(), half);
}
