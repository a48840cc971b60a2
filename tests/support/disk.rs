//! A folder on a disk of its own that can be filled and freed. It needs root (a tmpfs is mounted); where that is not to be
//! had, a test that asks for it fails and says so.
//!
//! ```text
//! let disk = Disk::new();                            // a few hundred kilobytes
//! agent.configure("queue_file", json!(disk.path().join("queue.json")));
//! disk.fill(); disk.free();
//! ```

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Unmounted when dropped.
pub struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    pub fn new() -> Self {
        Self::of("256k")
    }

    /// One of this size, as `mount` takes it.
    pub fn of(size: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("disk-").tempdir().expect("a folder to mount on");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "agentcom-test"]).arg(folder.path());
        let done = mount.output().unwrap_or_else(|error| panic!("cannot run mount: {error}"));
        let why = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "a small disk is a tmpfs, and only root may mount one: {why}");
        Self { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Until not one byte more fits.
    pub fn fill(&self) {
        let mut ballast = File::create(self.path().join("ballast")).expect("a file for the ballast");
        for size in [4096, 1] {
            while ballast.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    pub fn free(&self) {
        fs::remove_file(self.path().join("ballast")).expect("the ballast can be removed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there is about to be ended.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
