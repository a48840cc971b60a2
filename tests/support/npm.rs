//! What the tests take from npm, at the versions that `package.json` pins.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use super::process;

/// The folder of the packages, installed first if need be: `npm ci` unless all of the pinned versions are there.
pub fn packages() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let top = Path::new(env!("CARGO_MANIFEST_DIR"));
        // One process at a time.
        let lock = Path::new(env!("CARGO_TARGET_TMPDIR")).join("npm.lock");
        let lock = std::fs::File::create(lock).expect("a lock file under target/");
        lock.lock().expect("the lock on the npm install");
        if !are_there(top) {
            let mut npm = Command::new("npm");
            npm.arg("ci").current_dir(top);
            let (status, text) = process::run(npm, Duration::from_secs(300));
            assert!(status.success(), "npm ci in {} failed; the tests need its packages:\n{text}", top.display());
        }
        top.join("node_modules")
    })
}

fn are_there(top: &Path) -> bool {
    let json = |file: PathBuf| -> Option<Value> { serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok() };
    let package = json(top.join("package.json")).expect("package.json can be read");
    let pinned = package["devDependencies"].as_object().expect("package.json pins packages");
    pinned.iter().all(|(name, version)| {
        json(top.join("node_modules").join(name).join("package.json"))
            .is_some_and(|installed| installed["version"] == *version)
    })
}
