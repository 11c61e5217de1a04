//! Small file-system helpers shared by the modules.

use crate::StorageError;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Everything a node writes is its own business.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// Adds operation and path to a system error.
pub(crate) fn at<'a>(op: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StorageError + 'a {
    move |source| StorageError::Io { op, path: path.to_path_buf(), source }
}

/// Creates a file that must not exist, readable by its owner only.
pub(crate) fn create_exclusive(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path)
}

/// Opens a file for reading and writing, creating it for its owner only.
pub(crate) fn open_or_create(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE))
}

/// Opens a file for reading.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true))
}

/// Opens a file that must exist for writing.
pub(crate) fn open_to_write(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true).write(true))
}

/// Opens regular files only. A link in the data directory could make the node write to any file of its user,
/// and a pipe would make it wait for ever.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = options.custom_flags(flags.bits() as i32).open(path).map_err(|error| {
        let is_link = error.raw_os_error() == Some(Errno::LOOP.raw_os_error());
        if is_link { refused("it is a symbolic link; none is followed here") } else { error }
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(refused("it is no regular file")) }
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// Makes names created, renamed or removed in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates `dir` with its parents for the owner only, and makes its name durable.
pub(crate) fn create_dir_durable(dir: &Path) -> Result<(), StorageError> {
    create_dir_synced(dir).map_err(at("create directory", dir))
}

/// The same, with the bare system error.
pub(crate) fn create_dir_synced(dir: &Path) -> io::Result<()> {
    match fs::symlink_metadata(dir) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => return Err(refused("it is there and no folder; links are not followed")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)?;
    sync_dir(parent(dir))
}

/// Removes a file; that there is none is fine.
pub(crate) fn remove_if_present(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The directory `path` is in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Waiting for a writer would hang this test.
    #[test]
    fn links_pipes_and_folders_are_opened_neither_for_reading_nor_for_writing() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("victim"), b"precious").unwrap();
        symlink(at("victim"), at("link")).unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for name in ["link", "dangling", "pipe", "folder"] {
            for open in [open_or_create, open_to_read, open_to_write] {
                assert!(open(&at(name)).is_err(), "{name}");
            }
        }
        assert!(open_to_read(&at("link")).unwrap_err().to_string().contains("symbolic link"));
        assert!(open_to_read(&at("pipe")).unwrap_err().to_string().contains("regular file"));
        assert_eq!(fs::read(at("victim")).unwrap(), b"precious");
        assert!(!at("nowhere").exists());
        open_or_create(&at("fresh")).unwrap();
    }

    #[test]
    fn a_link_to_a_folder_is_no_folder_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("elsewhere")).unwrap();
        symlink(dir.path().join("elsewhere"), dir.path().join("wal")).unwrap();
        assert!(create_dir_synced(&dir.path().join("wal")).is_err());
        create_dir_synced(&dir.path().join("elsewhere")).unwrap();
        create_dir_synced(&dir.path().join("a/b")).unwrap();
    }
}
