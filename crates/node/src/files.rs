//! Small files written once: keys, locks, configuration.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Mode of secrets: the owner reads, nobody writes.
pub const SECRET: u32 = 0o400;
/// Mode of everything else.
pub const PUBLIC: u32 = 0o644;

/// Makes a file that must not exist, durable before this returns.
pub fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Makes a folder only the owner may enter.
pub fn make_private_dir(path: &Path) -> Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Makes the entries of a folder durable.
pub fn sync_dir(path: &Path) -> Result<()> {
    File::open(path)?.sync_all()
}

/// Reads at most `bytes_max` bytes of text; a longer file is an error.
pub fn read_text(path: &Path, bytes_max: usize) -> Result<String> {
    let mut text = String::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    File::open(path)?.take(limit.saturating_add(1)).read_to_string(&mut text)?;
    if text.len() > bytes_max {
        return Err(Error::new(ErrorKind::InvalidData, format!("longer than {bytes_max} bytes")));
    }
    Ok(text)
}

/// Whether a folder is missing or has no entries. A file in its place is an error.
pub fn is_absent_or_empty(path: &Path) -> Result<bool> {
    match std::fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}
