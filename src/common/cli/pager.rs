//! Shows a manual page in a terminal. The reader takes this process's place, so that keys and signals are its own.

use std::io::{self, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

/// Shows a page, which is given as troff source and as plain text: by `man`, else as text by `PAGER`, else by `less`. Returns
/// only where none of them can be run; the text is to be printed then.
pub fn show(page: &[u8], text: &str) {
    if man_formats() {
        replace_by(Command::new("man").args(["-l", "-"]), page);
    }
    if let Some(pager) = std::env::var_os("PAGER").filter(|pager| !pager.is_empty()) {
        replace_by(Command::new("sh").arg("-c").arg(pager), text.as_bytes());
    }
    replace_by(Command::new("less").args(["-F", "-X"]), text.as_bytes());
}

/// Returns whether `man` is man-db's, which formats what it is given. Another one may know no `-l -`, and Ubuntu's small images
/// have a `man` that only says that it is not there.
fn man_formats() -> bool {
    let version = Command::new("man").arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output();
    version.is_ok_and(|output| output.status.success() && output.stdout.starts_with(b"man "))
}

/// Replaces this process by a program whose stdin are these bytes. Returns if that cannot be.
fn replace_by(command: &mut Command, stdin: &[u8]) {
    if let Ok(file) = file_of(stdin) {
        // It returns only with an error: there is no such program.
        let _ = command.stdin(file).exec();
    }
}

/// Returns a file without a name that holds these bytes.
fn file_of(bytes: &[u8]) -> io::Result<std::fs::File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}
