//! The log file as a sink of lines.

use crate::common::fs::rotating_file::{Limits, RotatingFile};
use crate::common::logging::queue::{LineError, WriteLine};
use crate::common::logging::{MAX_FILE_BYTES, MAX_FILES};

/// The log contains task descriptions; the group may read it, as with other logs.
pub(super) const LIMITS: Limits = Limits { max_bytes: MAX_FILE_BYTES, max_files: MAX_FILES, mode: 0o640 };

impl WriteLine for RotatingFile {
    fn write_line(&mut self, line: &[u8]) -> Result<(), LineError> {
        self.append(line).map_err(LineError::Lost)
    }
}
