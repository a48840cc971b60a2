//! What can be wrong with a disk, made to order in one folder, and undone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Full,
    ReadOnly,
    FileSync,
    FolderSync,
}

impl Fault {
    /// What the log must say: what happened, and what to do where there is something to do.
    pub(crate) fn said(self) -> &'static str {
        match self {
            Self::Full => "free some space on the disk",
            Self::ReadOnly => "is read-only: remount it",
            Self::FileSync | Self::FolderSync => "Input/output error",
        }
    }
}

/// A folder with a disk of its own, where the fault needs one. Unmounted with the value.
pub(crate) struct Disk {
    pub(crate) fault: Fault,
    pub(crate) folder: PathBuf,
    /// While it exists, fsync fails.
    pub(crate) order: PathBuf,
    mounts: u32,
}

impl Disk {
    /// Makes the folder; none where the fault takes a right that this user does not have.
    pub(crate) fn new(fault: Fault, folder: PathBuf) -> Option<Self> {
        fs::create_dir(&folder).unwrap();
        let order = folder.with_extension("eio");
        let mut disk = Self { fault, folder, order, mounts: 0 };
        let mounted = match fault {
            Fault::Full => disk.mount(&["-t", "tmpfs", "-o", "size=64k,mode=700", "none"]),
            Fault::ReadOnly => disk.mount(&["-t", "tmpfs", "-o", "size=1m,mode=700", "none"]),
            Fault::FileSync | Fault::FolderSync => true,
        };
        if !mounted {
            eprintln!("SKIPPED: {fault:?} takes the right to mount a tmpfs");
        }
        mounted.then_some(disk)
    }

    pub(crate) fn begin(&mut self) {
        match self.fault {
            Fault::Full => {
                let error = fs::write(self.folder.join("filling"), vec![b'x'; 128 * 1024]).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
            }
            Fault::ReadOnly => {
                // A view of the same folder, laid over it: a remount would wait for the open lock file for ever.
                let folder = self.folder.clone();
                assert!(self.mount(&["--bind", folder.to_str().unwrap()]), "a folder can be bound to itself");
                assert!(mount(&["-o", "remount,bind,ro"], &self.folder), "a view can be made read-only");
            }
            Fault::FileSync => fs::write(&self.order, "f").unwrap(),
            Fault::FolderSync => fs::write(&self.order, "d").unwrap(),
        }
    }

    pub(crate) fn end(&mut self) {
        match self.fault {
            Fault::Full => fs::remove_file(self.folder.join("filling")).unwrap(),
            Fault::ReadOnly => self.unmount(),
            Fault::FileSync | Fault::FolderSync => fs::remove_file(&self.order).unwrap(),
        }
    }

    fn mount(&mut self, args: &[&str]) -> bool {
        let mounted = mount(args, &self.folder);
        self.mounts += u32::from(mounted);
        mounted
    }

    fn unmount(&mut self) {
        // Lazily: a sidecar that is about to be killed may still have a file open there.
        let status = Command::new("umount").arg("-l").arg(&self.folder).status();
        assert!(status.is_ok_and(|status| status.success()), "{} stays mounted", self.folder.display());
        self.mounts -= 1;
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        while self.mounts > 0 {
            self.unmount();
        }
    }
}

fn mount(args: &[&str], at: &Path) -> bool {
    let output = Command::new("mount").args(args).arg(at).output();
    output.is_ok_and(|output| output.status.success())
}

/// The library that makes fsync fail, made by the C compiler that links every Rust program here.
pub(crate) fn failing_fsync(folder: &Path) -> PathBuf {
    let (source, library) =
        (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sidecar/disk_faults/fsync.c"), folder.join("fsync.so"));
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
    let output = cc.output().unwrap_or_else(|error| panic!("{cc:?}: {error}"));
    assert!(output.status.success(), "{cc:?}: {}", String::from_utf8_lossy(&output.stderr));
    library
}
