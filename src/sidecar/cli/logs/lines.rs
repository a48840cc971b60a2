//! The lines of an open log file, which may still grow.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};

use crate::common::fs::rotating_file::Part;

/// The longest line, in bytes: a longer one comes in pieces.
const MAX_LINE: u64 = 16 << 20;

/// A log file that is read line by line.
pub(super) struct Lines {
    file: BufReader<File>,
    /// What names the file, also once it is rotated.
    pub(super) identity: (u64, u64),
    /// How far it was read, in bytes.
    read: u64,
    /// The beginning of a line whose end is not there yet.
    unfinished: Vec<u8>,
}

impl Lines {
    pub(super) fn of(part: Part) -> Self {
        Self { file: BufReader::new(part.file), identity: part.identity, read: 0, unfinished: Vec::new() }
    }

    /// Returns the next whole line without its end; `None` if there is none yet.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let room = MAX_LINE.saturating_sub(self.unfinished.len() as u64);
            let read = (&mut self.file).take(room).read_until(b'\n', &mut self.unfinished)?;
            self.read += read as u64;
            let ends = self.unfinished.last() == Some(&b'\n');
            if !ends && (self.unfinished.len() as u64) < MAX_LINE {
                return Ok(None);
            }
            let mut line = std::mem::take(&mut self.unfinished);
            if ends {
                line.pop();
            }
            // What follows a torn line begins with a line end.
            if !line.is_empty() {
                return Ok(Some(line));
            }
        }
    }

    /// Returns the unfinished line at the end of a file that is not written any more.
    pub(super) fn rest(&mut self) -> Option<Vec<u8>> {
        Some(std::mem::take(&mut self.unfinished)).filter(|rest| !rest.is_empty())
    }

    /// Begins anew where the file was emptied meanwhile, as some programs rotate.
    pub(super) fn begin_anew_if_emptied(&mut self) -> io::Result<()> {
        if self.file.get_ref().metadata()?.len() < self.read {
            self.file.seek(SeekFrom::Start(0))?;
            self.read = 0;
            self.unfinished.clear();
        }
        Ok(())
    }

    /// Returns the open file.
    pub(super) fn file(&self) -> &File {
        self.file.get_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::common::fs::rotating_file::open_all;

    #[test]
    fn a_line_comes_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one\n\ntw").unwrap();
        let mut lines = Lines::of(open_all(&path, 1).unwrap().remove(0));
        assert_eq!(lines.next().unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!(lines.next().unwrap(), None);
        file.write_all(b"o\nthree").unwrap();
        assert_eq!(lines.next().unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(lines.next().unwrap(), None);
        assert_eq!((lines.rest().as_deref(), lines.rest()), (Some(&b"three"[..]), None));
    }

    #[test]
    fn a_file_that_is_emptied_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "one\ntwo\n").unwrap();
        let mut lines = Lines::of(open_all(&path, 1).unwrap().remove(0));
        while lines.next().unwrap().is_some() {}
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        std::fs::write(&path, "new\n").unwrap();
        lines.begin_anew_if_emptied().unwrap();
        assert_eq!(lines.next().unwrap().as_deref(), Some(&b"new"[..]));
    }
}
