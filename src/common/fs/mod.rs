//! Files: written so that a crash leaves the old one or the new one, and read though others may have put them there.

pub mod atomic_file;
pub mod regular_file;
