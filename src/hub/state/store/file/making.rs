//! How a store comes into a data folder, and how the folder shows from then on that one was there: a hub that finds it gone
//! must not begin with an empty one, which would refuse every agent. It does not open the store that is there.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use redb::Builder;
use redb::backends::FileBackend;

use crate::common::fs::atomic_file::{folder_of, resolve, sync_folder, temporary_beside, utc_stamp, write_atomic};
use crate::common::fs::regular_file;
use crate::hub::state::store::error::{ELSEWHERE, RESCUED, StoreError};
use crate::hub::state::store::file::place::Place;
use crate::hub::state::store::file::{CACHE_BYTES, FileStore};

/// The name of the file that says that a store was made in its folder. Version 0.1.0 made none: it is written when a store
/// is opened.
const MARK: &str = "hub.redb.made";
/// What the names begin with that only a folder has which held a store: the store's, the mark's, and those of its copies.
const OWN: &str = "hub.redb";
/// The name of the hub's own socket, which is bound once there is a store.
pub const SOCKET: &str = "hub.sock";

/// What is done where a data folder holds no store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutStore {
    /// It is refused: a folder that is named wrongly would seem to be an empty hub.
    Refuse,
    /// One is made where none was before.
    MakeFirst,
    /// One is made, also where one was before: somebody has asked for it.
    Make,
}

/// Creates a folder of mode 0700: it holds the tokens' hashes and every result.
pub fn make_private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Sees to it that there is a store in the folder to be opened.
///
/// # Errors
/// [`StoreError`]: there is none and it is not to be made, or could not be; or what is there cannot be one.
pub(super) fn ensure(data_dir: &Path, absent: WithoutStore) -> Result<(), StoreError> {
    if let Some(place) = elsewhere(data_dir) {
        return Err(StoreError::Elsewhere { folder: absolute(data_dir), place });
    }
    let path = FileStore::path_in(data_dir);
    regular_file::check(&path).map_err(|unfit| StoreError::NoFile { path: path.clone(), unfit })?;
    match fs::metadata(&path) {
        Ok(found) if found.len() == 0 => return Err(StoreError::Empty(path)),
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(StoreError::file(&path, &error)),
    }
    let former = trace_in(data_dir).map_err(|error| StoreError::file(data_dir, &error))?;
    if path.exists() {
        // Another process has made it between the two looks.
        return Ok(());
    }
    match (absent, former) {
        (WithoutStore::Refuse | WithoutStore::MakeFirst, Some(trace)) => {
            Err(StoreError::Lost { folder: absolute(data_dir), trace })
        }
        (WithoutStore::Refuse, None) => Err(StoreError::Missing(absolute(data_dir))),
        (WithoutStore::MakeFirst, None) | (WithoutStore::Make, _) => {
            make(&path).map_err(|error| StoreError::NotMade { path: path.clone(), error })?;
            tracing::warn!(store = %absolute(&path).display(), "a new store is made, with nothing in it: no token, agent or task; where one should be here, stop the hub and name its folder with --data");
            Ok(())
        }
    }
}

/// Returns the database, without its password, in which the store of the folder is; `None` if it is in a file.
pub fn elsewhere(data_dir: &Path) -> Option<String> {
    let text = fs::read_to_string(data_dir.join(ELSEWHERE)).ok()?;
    Some(text.lines().next().unwrap_or_default().to_owned())
}

/// Leaves word that the store of the folder is in this database, and takes the folder: it is this process's for as long as the
/// file is open.
///
/// # Errors
/// [`StoreError::Locked`] if another hub has the folder; [`StoreError::File`] if the file cannot be written.
pub fn take_for_database(data_dir: &Path, place: &str) -> Result<File, StoreError> {
    let path = data_dir.join(ELSEWHERE);
    let failed = |error: io::Error| StoreError::file(&path, &error);
    let mut file =
        regular_file::open_with(&path, File::options().read(true).write(true).create(true)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StoreError::Locked(path)),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let text = format!("{place}\nThe store of this folder is in the database above (agentcom-hub serve --store).\n");
    file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).map_err(failed)?;
    Ok(file)
}

/// Makes an empty store under another name, which it has lost before it can be opened: one that is not whole is never there.
fn make(path: &Path) -> io::Result<()> {
    let target = resolve(path).map_err(|failed| failed.source)?;
    let temporary = temporary_beside(&target)?;
    let of_redb = |error: redb::Error| {
        if let redb::Error::Io(error) = error { error } else { io::Error::other(error) }
    };
    let backend = FileBackend::new(temporary.as_file().try_clone()?).map_err(|error| of_redb(error.into()))?;
    let db = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend);
    let db = Arc::new(db.map_err(|error| of_redb(error.into()))?);
    let place = Arc::new(Place::of(temporary.as_file())?);
    FileStore { db, path: target.clone(), place }.prepare().map_err(io::Error::other)?;
    temporary.as_file().sync_all()?;
    match temporary.persist_noclobber(&target) {
        Ok(_) => sync_folder(folder_of(&target)),
        // Another process was faster; it removes what it takes for a killed one's leftover.
        Err(_) if target.exists() => Ok(()),
        Err(error) => Err(error.error),
    }
}

/// Returns the name of a file that says that the folder held a store: first that of a copy of it, the newest.
fn trace_in(data_dir: &Path) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(data_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    names.retain(|name| name.starts_with(OWN) || name == SOCKET);
    let newest = names.iter().filter(|name| name.starts_with(RESCUED)).max();
    Ok(newest.or_else(|| names.iter().find(|name| *name == MARK)).or_else(|| names.first()).map(PathBuf::from))
}

/// Leaves word that there is a store in the folder. To be called by who has opened it.
pub(super) fn mark(data_dir: &Path) {
    if data_dir.join(MARK).exists() {
        return;
    }
    let text = "There is a store beside this file: hub.redb, all that an agentcom-hub knows. Where it is gone, no hub \
                starts here with an empty one. Put it back, or restore a backup (agentcom-hub restore FILE); agentcom-hub \
                token NAME --init begins anew.\n";
    write_mark(data_dir, text);
}

fn write_mark(data_dir: &Path, text: &str) {
    if let Err(error) = write_atomic(&data_dir.join(MARK), text.as_bytes()) {
        tracing::warn!(file = MARK, error = %error.source, "the file that tells a lost store from a new folder cannot be written");
    }
}

impl FileStore {
    /// Leaves word in the folder of a store that was taken away from under a hub, so that the next start refuses the folder;
    /// and a copy of what it held, where the file has no name any more and is gone with this process.
    pub fn leave_word(&self, data_dir: &Path, why: &StoreError) {
        if let Err(error) = make_private_dir(data_dir) {
            tracing::error!(folder = %data_dir.display(), %error, "no word of the lost store can be left there");
            return;
        }
        if self.place.has_no_name() {
            match self.rescue(data_dir) {
                Ok(copy) => {
                    tracing::error!(copy = %copy.display(), "all that the store held was copied; agentcom-hub restore makes it the store again")
                }
                Err(error) => tracing::error!(%error, "what the store held could not be copied"),
            }
        }
        if !self.path.exists() {
            write_mark(data_dir, &format!("{why}\nagentcom-hub token NAME --init begins anew.\n"));
        }
    }

    fn rescue(&self, data_dir: &Path) -> io::Result<PathBuf> {
        let path = data_dir.join(format!("{RESCUED}{}", utc_stamp(SystemTime::now())));
        let copy = temporary_beside(&path)?;
        self.copy_to(copy.as_file()).map_err(io::Error::other)?;
        copy.as_file().sync_all()?;
        copy.persist_noclobber(&path).map_err(|error| error.error)?;
        sync_folder(data_dir)?;
        Ok(absolute(&path))
    }
}

/// Returns the whole path: a relative one says little in a message.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Opens a store's file for reading and writing.
pub(super) fn open_file(path: &Path) -> Result<File, StoreError> {
    let file = regular_file::open_with(path, File::options().read(true).write(true));
    file.map_err(|error| StoreError::file(path, &error))
}
