//! Small files: written once, or given by somebody and read with suspicion.

use rustix::fs::OFlags;
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

/// Puts a file in place of one that may be there, as a whole; durable before this returns.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let name = path.file_name().ok_or_else(|| refused("no file name"))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let draft = parent.join(format!(".{}.tmp", name.to_string_lossy()));
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => write_new(&draft, content, mode)?,
    }
    std::fs::rename(&draft, path)?;
    sync_dir(parent)
}

/// Makes a folder only the owner may enter.
pub fn make_private_dir(path: &Path) -> Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Makes the entries of a folder durable.
pub fn sync_dir(path: &Path) -> Result<()> {
    File::open(path)?.sync_all()
}

/// Opens what a node is given: a regular file, so that nobody waits for the other end of a pipe. In `home`, the
/// data directory, no link is followed; elsewhere a file may be named as its owner likes.
pub fn open_input(path: &Path, home: Option<&Path>) -> Result<File> {
    if let Some(home) = home {
        let path = std::path::absolute(path)?;
        // However it is named: the folder that is home, and what is named below it.
        let home = home.canonicalize().ok();
        let is_home = |folder: &&Path| home.is_some() && folder.canonicalize().ok() == home;
        let inside = path.ancestors().skip(1).filter(is_home).last();
        let below = path.ancestors().take_while(|at| inside.is_some_and(|home| *at != home));
        for at in below {
            if at.symlink_metadata()?.is_symlink() {
                return Err(refused("a symbolic link; none is followed in the data directory"));
            }
        }
    }
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(refused("no regular file")) }
}

/// Reads at most `bytes_max` bytes of text that a node is given; see [`open_input`].
pub fn read_input(path: &Path, home: Option<&Path>, bytes_max: usize) -> Result<String> {
    bounded(open_input(path, home)?, bytes_max)
}

/// Reads at most `bytes_max` bytes of text from any kind of file; a longer one is an error.
pub fn read_text(path: &Path, bytes_max: usize) -> Result<String> {
    bounded(File::open(path)?, bytes_max)
}

/// Reads at most `bytes_max` bytes of text; more is an error.
pub fn bounded(file: File, bytes_max: usize) -> Result<String> {
    let mut text = String::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    file.take(limit.saturating_add(1)).read_to_string(&mut text)?;
    if text.len() > bytes_max {
        return Err(Error::new(
            ErrorKind::InvalidData,
            format!("longer than the limit of {bytes_max} bytes"),
        ));
    }
    Ok(text)
}

/// Whether there is something of this name, be it a link to nothing.
pub fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Whether a folder is missing or has no entries. A file in its place is an error.
pub fn is_absent_or_empty(path: &Path) -> Result<bool> {
    match std::fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn refused(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("it is {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A pipe without a writer would make this test wait for ever.
    #[test]
    fn pipes_devices_and_links_inside_the_data_directory_are_no_input() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        std::fs::create_dir_all(home.join("keys")).unwrap();
        let (file, pipe) = (dir.path().join("file"), home.join("pipe"));
        std::fs::write(&file, "text").unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        symlink(&file, home.join("link")).unwrap();
        symlink(home.join("keys"), home.join("folder")).unwrap();
        std::fs::write(home.join("keys/real"), "text").unwrap();
        let read = |path: &Path| read_input(path, Some(&home), 10);
        for refused in
            [pipe.as_path(), Path::new("/dev/zero"), &home.join("link"), &home.join("folder/real"), &home]
        {
            assert!(read(refused).is_err(), "{}", refused.display());
        }
        assert_eq!(read(&home.join("keys/real")).unwrap(), "text");
        // However home is named.
        symlink(&home, dir.path().join("named")).unwrap();
        let named = dir.path().join("named");
        for (path, home) in [
            (home.join("link"), &named),
            (named.join("link"), &home),
            (home.join("keys/../link"), &home),
            (home.join("./keys/../folder/real"), &home),
        ] {
            assert!(read_input(&path, Some(home), 10).is_err(), "{}", path.display());
        }
        assert_eq!(read_input(&named.join("keys/real"), Some(&home), 10).unwrap(), "text");
        // Secret stores hand out links.
        symlink(&file, dir.path().join("outside")).unwrap();
        assert_eq!(read(&dir.path().join("outside")).unwrap(), "text");
        assert!(read_input(&file, None, 3).unwrap_err().to_string().contains("limit of 3 bytes"));
    }
}
