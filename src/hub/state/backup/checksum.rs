//! The size and the digest of a copy, and copying with both.

use std::io::{self, Read};

use data_encoding::BASE64;
use sha2::{Digest as _, Sha256};

/// The number of bytes that are read at a time.
const PART_BYTES: usize = 256 << 10;
/// What stands before a SHA-256 in base64 in `Repr-Digest`; a colon ends it.
const SHA_256: &str = "sha-256=:";

/// The size and the digest of a copy, by which who receives it sees that it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum {
    /// The size, in bytes.
    pub bytes: u64,
    /// The SHA-256 of all bytes.
    pub sha256: [u8; 32],
}

impl Checksum {
    /// Reads to the end, and returns the size and the digest of what was read.
    ///
    /// # Errors
    /// That of the reader.
    pub fn of(content: &mut impl Read) -> io::Result<Self> {
        copy_summed(content, &mut io::sink()).map_err(|(Side::From(error) | Side::To(error))| error)
    }

    /// Returns the digest as the header `Repr-Digest` has it (RFC 9530).
    pub fn repr_digest(&self) -> String {
        format!("{SHA_256}{}:", BASE64.encode(&self.sha256))
    }

    /// Reads the size and the header `Repr-Digest` of an answer; `None` if that has no SHA-256.
    pub fn of_answer(bytes: u64, repr_digest: &str) -> Option<Self> {
        let digest = repr_digest.split(',').find_map(|one| one.trim().strip_prefix(SHA_256)?.strip_suffix(':'))?;
        let sha256 = BASE64.decode(digest.as_bytes()).ok()?.try_into().ok()?;
        Some(Self { bytes, sha256 })
    }
}

/// The side on which bytes were not passed on.
pub(super) enum Side {
    /// They could not be read.
    From(io::Error),
    /// They could not be written.
    To(io::Error),
}

/// Copies to the end, and returns the size and the digest of what was copied.
pub(super) fn copy_summed(from: &mut impl Read, to: &mut impl io::Write) -> Result<Checksum, Side> {
    let (mut digest, mut bytes, mut part) = (Sha256::new(), 0, vec![0; PART_BYTES]);
    loop {
        let length = match from.read(&mut part) {
            Ok(0) => return Ok(Checksum { bytes, sha256: digest.finalize().into() }),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Side::From(error)),
        };
        let read = part.get(..length).unwrap_or_default();
        digest.update(read);
        to.write_all(read).map_err(Side::To)?;
        bytes += u64::try_from(length).unwrap_or_default();
    }
}
