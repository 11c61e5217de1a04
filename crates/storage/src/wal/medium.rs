//! The two calls that make bytes durable, replaceable so that tests can make them fail.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// How the log reaches the disk.
pub trait Medium: Send + Sync {
    /// Writes some of `bytes` at `offset`; gives how many, which may be fewer than all.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes everything written to `file` durable, with what is needed to find it again.
    fn sync(&self, file: &File) -> io::Result<()>;
}

/// The operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemMedium;

impl Medium for SystemMedium {
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        file.write_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// Writes all of `bytes`, however few a call takes.
pub(super) fn write_all(
    medium: &dyn Medium,
    file: &File,
    mut bytes: &[u8],
    mut offset: u64,
) -> io::Result<()> {
    while !bytes.is_empty() {
        match medium.write_at(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
