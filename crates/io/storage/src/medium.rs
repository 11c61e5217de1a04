//! Where the vote log and the signing database lie: the few calls they make on one flat directory. Replaceable, so that a test can
//! make each of them fail and a simulator can take the power away between any two.

use crate::StorageError;
use crate::files::{self, at};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// A disk as log and signing database see it. What was written is durable once the file is synced; a name that was
/// created, renamed or removed is durable once its directory is.
pub trait Medium: Send + Sync {
    /// Creates `dir` with its parents, durably; that it exists is fine.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Names of the files in `dir`, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates a file that must not exist.
    fn create(&self, path: &Path) -> io::Result<Box<dyn MediumFile>>;

    /// All of a file, without changing anything; none when it is larger than `bytes_max`.
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>>;

    /// Opens a file that must exist, for writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn MediumFile>>;

    /// Gives a file another name in the same directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; that there is none is fine.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes names created, renamed or removed in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file of a [`Medium`].
pub trait MediumFile: Send + Sync {
    /// Its size in bytes.
    fn bytes(&self) -> io::Result<u64>;

    /// Writes some of `bytes` at `offset`; gives how many, which may be fewer than all.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes everything written durable, with what is needed to find it again.
    fn sync(&self) -> io::Result<()>;
}

/// The operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemMedium;

impl Medium for SystemMedium {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        files::create_dir_synced(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn MediumFile>> {
        Ok(Box::new(files::create_exclusive(path)?))
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let file = files::open_to_read(path)?;
        let bytes = file.metadata()?.len();
        if bytes > bytes_max {
            return Ok(None);
        }
        let mut content = Vec::with_capacity(bytes as usize);
        file.take(bytes).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn MediumFile>> {
        Ok(Box::new(files::open_to_write(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        files::remove_if_present(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        files::sync_dir(dir)
    }
}

impl MediumFile for File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Writes all of `bytes`, however few a call takes.
pub(crate) fn write_all(file: &dyn MediumFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
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

/// Makes `bytes`, which were read from `file` at `offset`, durable, and the name of the file. A sync alone is not enough: one that failed in
/// an earlier process may have left bytes that can be read, are on no disk, and are taken for clean.
pub(crate) fn write_again(
    medium: &dyn Medium,
    path: &Path,
    file: &dyn MediumFile,
    bytes: &[u8],
    offset: usize,
) -> Result<(), StorageError> {
    write_all(file, bytes, offset as u64).map_err(at("write", path))?;
    file.sync().map_err(at("sync", path))?;
    let dir = files::parent(path);
    medium.sync_dir(dir).map_err(at("sync directory", dir))
}

#[cfg(test)]
pub(crate) mod testing {
    //! A disk that counts, takes few bytes at a time, and fails when told to.

    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

    #[derive(Default)]
    pub(crate) struct BadDisk {
        pub(crate) writes: AtomicUsize,
        pub(crate) syncs: AtomicUsize,
        /// Most bytes one write takes; 0 for all.
        pub(crate) short: AtomicUsize,
        /// Writes or syncs that still succeed, plus one; 0 for all.
        pub(crate) writes_left: AtomicUsize,
        pub(crate) syncs_left: AtomicUsize,
        /// The same for changes of names: files created, renamed, removed, and directories synced.
        pub(crate) names_left: AtomicUsize,
        /// Syncs are counted and not done: for tests of many writes.
        pub(crate) skips_syncs: AtomicBool,
    }

    impl BadDisk {
        /// The writes or syncs from number `calls` on fail.
        pub(crate) fn fail_from(&self, calls: usize, syncs: bool) {
            let left = if syncs { &self.syncs_left } else { &self.writes_left };
            left.store(calls, SeqCst);
        }

        fn spend(left: &AtomicUsize) -> io::Result<()> {
            match left.load(SeqCst) {
                0 => Ok(()),
                1 => Err(io::Error::from_raw_os_error(5)),
                more => {
                    left.store(more - 1, SeqCst);
                    Ok(())
                }
            }
        }
    }

    struct BadFile {
        disk: Arc<BadDisk>,
        file: Box<dyn MediumFile>,
    }

    impl BadFile {
        fn on(disk: &Arc<BadDisk>, file: Box<dyn MediumFile>) -> Box<dyn MediumFile> {
            Box::new(Self { disk: disk.clone(), file })
        }
    }

    impl Medium for Arc<BadDisk> {
        fn create_dir(&self, dir: &Path) -> io::Result<()> {
            SystemMedium.create_dir(dir)
        }

        fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
            SystemMedium.list(dir)
        }

        fn create(&self, path: &Path) -> io::Result<Box<dyn MediumFile>> {
            BadDisk::spend(&self.names_left)?;
            Ok(BadFile::on(self, SystemMedium.create(path)?))
        }

        fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
            SystemMedium.read(path, bytes_max)
        }

        fn open(&self, path: &Path) -> io::Result<Box<dyn MediumFile>> {
            Ok(BadFile::on(self, SystemMedium.open(path)?))
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            BadDisk::spend(&self.names_left)?;
            SystemMedium.rename(from, to)
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            BadDisk::spend(&self.names_left)?;
            SystemMedium.remove(path)
        }

        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            BadDisk::spend(&self.names_left)?;
            SystemMedium.sync_dir(dir)
        }
    }

    impl MediumFile for BadFile {
        fn bytes(&self) -> io::Result<u64> {
            self.file.bytes()
        }

        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
            self.disk.writes.fetch_add(1, SeqCst);
            BadDisk::spend(&self.disk.writes_left)?;
            let bytes_max = match self.disk.short.load(SeqCst) {
                0 => bytes.len(),
                short => short.min(bytes.len()),
            };
            self.file.write_at(&bytes[..bytes_max], offset)
        }

        fn sync(&self) -> io::Result<()> {
            self.disk.syncs.fetch_add(1, SeqCst);
            BadDisk::spend(&self.disk.syncs_left)?;
            if self.disk.skips_syncs.load(SeqCst) { Ok(()) } else { self.file.sync() }
        }
    }
}
