//! Replacing a small file so that a crash leaves the old one or the new one, never none.
//!
//! ```text
//! write   <name>.tmp-<pid>-<n>, exclusive, 0600, fsync
//! link    <name>      -> <name>.bak.tmp      (copied and fsynced where links are impossible)
//! rename  <name>.bak.tmp -> <name>.bak
//! rename  <name>.tmp-… -> <name>
//! fsync   the directory                      only now it is done
//! ```
//!
//! Reading takes the main file, then `.bak`. What is unreadable is kept as `<name>.corrupt-<time>`;
//! a file of a newer version is refused, with no falling back. `.bak` is older by one write: whoever
//! reads it must take the maximum over everything else it knows before it signs.

use crate::StorageError;
use crate::files::{at, create_exclusive, open_to_read, parent, remove_if_present, sync_dir};
use crate::frame::{Frame, FrameFault, FrameKind};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// What reading a replaced file gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded<T> {
    /// The main file.
    Ok(T),
    /// The backup, older by one write; the main file was missing or unreadable.
    Fallback(T),
    /// There are files, and none can be read.
    Fail,
    /// There is no file.
    Missing,
}

impl<T> Loaded<T> {
    /// The value, from wherever it came.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Ok(value) | Self::Fallback(value) => Some(value),
            Self::Fail | Self::Missing => None,
        }
    }

    /// Name in logs.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Ok(_) => "ok",
            Self::Fallback(_) => "fallback",
            Self::Fail => "fail",
            Self::Missing => "missing",
        }
    }
}

/// Replaces `path` by `bytes`. On `Ok` the new content is durable; on an error the file or its
/// backup is whole, and which of both contents it holds is unknown.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    replace_observed(path, bytes, &mut |_| Ok(()))
}

/// Reads `path`, or its backup when it cannot be used. A payload `decode` gives up on counts as
/// unreadable, like a damaged frame.
pub fn read<T>(
    path: &Path,
    kind: &FrameKind,
    decode: impl Fn(&Frame) -> Option<T>,
) -> Result<Loaded<T>, StorageError> {
    let main = read_one(path, kind, &decode)?;
    if let One::Readable(value) = main {
        return Ok(Loaded::Ok(value));
    }
    let backup = read_one(&with_suffix(path, ".bak"), kind, &decode)?;
    if let One::Unreadable = main {
        keep_corrupt(path)?;
    }
    Ok(match (main, backup) {
        (_, One::Readable(value)) => Loaded::Fallback(value),
        (One::Missing, One::Missing) => Loaded::Missing,
        _ => Loaded::Fail,
    })
}

/// Deletes what interrupted replacements left in `dir`; gives the number of files.
pub fn remove_strays(dir: &Path) -> Result<usize, StorageError> {
    let mut removed = 0;
    for entry in fs::read_dir(dir).map_err(at("list", dir))? {
        let entry = entry.map_err(at("list", dir))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_file = entry.file_type().map_err(at("inspect", dir))?.is_file();
        if is_file && (name.contains(".tmp-") || name.ends_with(".bak.tmp")) {
            remove_if_present(&entry.path()).map_err(at("remove", &entry.path()))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Checks that an id which came from outside may become part of a file name.
pub fn file_id(id: &str) -> Result<&str, StorageError> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=64).contains(&id.len()) && id.bytes().all(fits) {
        return Ok(id);
    }
    Err(StorageError::BadFileId { name: id.chars().take(64).collect() })
}

/// Called before every system call that changes the disk: tests fail or kill there.
type Observer<'a> = &'a mut dyn FnMut(&'static str) -> io::Result<()>;

fn replace_observed(path: &Path, bytes: &[u8], before: Observer<'_>) -> Result<(), StorageError> {
    let tmp = tmp_path(path);
    let replaced = write_tmp(&tmp, bytes, before)
        .and_then(|()| keep_backup(path, before))
        .and_then(|()| before("rename").and_then(|()| fs::rename(&tmp, path)).map_err(at("rename to", path)))
        .and_then(|()| {
            let dir = parent(path);
            before("sync directory").and_then(|()| sync_dir(dir)).map_err(at("sync directory", dir))
        });
    if replaced.is_err() {
        // Best effort: a stray is removed at the next start anyway.
        let _ = fs::remove_file(&tmp);
    }
    replaced
}

fn write_tmp(tmp: &Path, bytes: &[u8], before: Observer<'_>) -> Result<(), StorageError> {
    before("create").map_err(at("create", tmp))?;
    let mut file = create_exclusive(tmp).map_err(at("create", tmp))?;
    before("write").and_then(|()| file.write_all(bytes)).map_err(at("write", tmp))?;
    // Everything close() could report has been reported by fsync.
    before("sync").and_then(|()| file.sync_all()).map_err(at("sync", tmp))
}

/// Makes `.bak` the current main file without ever taking the main file away.
fn keep_backup(path: &Path, before: Observer<'_>) -> Result<(), StorageError> {
    let (backup, backup_tmp) = (with_suffix(path, ".bak"), with_suffix(path, ".bak.tmp"));
    before("clear backup link")
        .and_then(|()| remove_if_present(&backup_tmp))
        .map_err(at("remove", &backup_tmp))?;
    match before("link").and_then(|()| fs::hard_link(path, &backup_tmp)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if links_are_impossible(&error) => copy_durable(path, &backup_tmp, before)?,
        Err(error) => return Err(at("link", &backup_tmp)(error)),
    }
    before("rename backup")
        .and_then(|()| fs::rename(&backup_tmp, &backup))
        .map_err(at("rename to", &backup))?;
    // Renaming one link of a file over another does nothing and leaves both: this happens after a
    // crash between the two renames.
    before("clear backup link")
        .and_then(|()| remove_if_present(&backup_tmp))
        .map_err(at("remove", &backup_tmp))
}

fn links_are_impossible(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    matches!(error.kind(), CrossesDevices | PermissionDenied | TooManyLinks | Unsupported)
}

fn copy_durable(from: &Path, to: &Path, before: Observer<'_>) -> Result<(), StorageError> {
    let mut bytes = Vec::new();
    open_to_read(from).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(at("read", from))?;
    before("copy").map_err(at("create", to))?;
    let mut file = create_exclusive(to).map_err(at("create", to))?;
    file.write_all(&bytes).map_err(at("write", to))?;
    before("sync copy").and_then(|()| file.sync_all()).map_err(at("sync", to))
}

enum One<T> {
    Readable(T),
    Unreadable,
    Missing,
}

fn read_one<T>(
    path: &Path,
    kind: &FrameKind,
    decode: &impl Fn(&Frame) -> Option<T>,
) -> Result<One<T>, StorageError> {
    let file = match open_to_read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(One::Missing),
        Err(error) => return Err(at("open", path)(error)),
    };
    let file_bytes = file.metadata().map_err(at("inspect", path))?.len();
    match kind.read(file, file_bytes).map_err(at("read", path))? {
        Ok(frame) => Ok(decode(&frame).map_or(One::Unreadable, One::Readable)),
        Err(FrameFault::Unreadable(_)) => Ok(One::Unreadable),
        Err(FrameFault::NewerVersion { found, known }) => {
            Err(StorageError::NewerVersion { path: path.to_path_buf(), found, known })
        }
    }
}

/// Moves an unreadable file aside, for whoever wants to know what happened to it.
fn keep_corrupt(path: &Path) -> Result<(), StorageError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let kept = (now..)
        .map(|time| with_suffix(path, &format!(".corrupt-{time}")))
        .find(|kept| !kept.exists())
        .unwrap_or_else(|| with_suffix(path, ".corrupt"));
    fs::rename(path, &kept).map_err(at("rename to", &kept))?;
    sync_dir(parent(path)).map_err(at("sync directory", parent(path)))
}

fn tmp_path(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    with_suffix(path, &format!(".tmp-{}-{n}", std::process::id()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    const KIND: FrameKind =
        FrameKind { name: "test file", magic: *b"TEST", version: 1, flags_known: 0, payload_bytes_max: 64 };

    fn framed(text: &str) -> Vec<u8> {
        KIND.encode(0, text.as_bytes()).unwrap()
    }

    fn load(path: &Path) -> Result<Loaded<String>, StorageError> {
        read(path, &KIND, |frame| String::from_utf8(frame.payload.clone()).ok())
    }

    fn ok(text: &str) -> Loaded<String> {
        Loaded::Ok(text.into())
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_replaced_file_is_private_and_leaves_the_one_before_as_backup() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        for text in ["one", "two", "three"] {
            replace(&path, &framed(text)).unwrap();
        }
        assert_eq!(load(&path).unwrap(), ok("three"));
        assert_eq!(load(&dir.path().join("state.bak")).unwrap(), ok("two"));
        assert_eq!(names(dir.path()), ["state", "state.bak"]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    /// Runs a replacement that ends before its `n`-th system call; `None` when it has fewer.
    fn replace_until(path: &Path, text: &str, n: usize, kill: bool) -> Option<Result<(), StorageError>> {
        let mut calls = 0;
        let mut reached = false;
        let result = catch_unwind(AssertUnwindSafe(|| {
            replace_observed(path, &framed(text), &mut |_| {
                calls += 1;
                if calls - 1 != n {
                    return Ok(());
                }
                reached = true;
                if kill {
                    // Unwinding runs none of the clean-up, as a kill would not.
                    std::panic::resume_unwind(Box::new("killed"));
                }
                Err(io::Error::from_raw_os_error(5))
            })
        }));
        reached.then(|| result.unwrap_or(Ok(())))
    }

    #[test]
    fn killed_between_any_two_system_calls_the_old_or_the_new_file_loads() {
        for n in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("state");
            replace(&path, &framed("one")).unwrap();
            replace(&path, &framed("two")).unwrap();
            let Some(_) = replace_until(&path, "three", n, true) else {
                assert_eq!(n, 9, "system calls of one replacement");
                break;
            };
            let loaded = load(&path).unwrap();
            assert!(loaded == ok("two") || loaded == ok("three"), "before call {n}: {loaded:?}");

            remove_strays(dir.path()).unwrap();
            assert_eq!(names(dir.path()), ["state", "state.bak"], "before call {n}");
            replace(&path, &framed("four")).unwrap();
            assert_eq!(load(&path).unwrap(), ok("four"), "before call {n}");
            assert_eq!(names(dir.path()), ["state", "state.bak"], "before call {n}");
        }
    }

    #[test]
    fn a_failing_system_call_is_always_reported_and_loses_nothing() {
        for n in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("state");
            replace(&path, &framed("one")).unwrap();
            let Some(result) = replace_until(&path, "two", n, false) else { break };
            let error = result.unwrap_err();
            assert!(matches!(error, StorageError::Io { .. }), "{error}");
            let loaded = load(&path).unwrap();
            assert!(loaded == ok("one") || loaded == ok("two"), "call {n}: {loaded:?}");
            assert!(names(dir.path()).iter().all(|name| !name.contains(".tmp-")), "call {n}");
        }
    }

    #[test]
    fn where_links_are_impossible_the_backup_is_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        replace(&path, &framed("one")).unwrap();
        let mut calls = Vec::new();
        replace_observed(&path, &framed("two"), &mut |call| {
            calls.push(call);
            if call == "link" { Err(io::ErrorKind::Unsupported.into()) } else { Ok(()) }
        })
        .unwrap();
        assert!(calls.contains(&"sync copy"));
        assert_eq!(load(&path).unwrap(), ok("two"));
        assert_eq!(load(&dir.path().join("state.bak")).unwrap(), ok("one"));
    }

    #[test]
    fn an_unreadable_main_file_is_kept_and_the_backup_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        replace(&path, &framed("one")).unwrap();
        replace(&path, &framed("two")).unwrap();
        fs::write(&path, b"garbage").unwrap();
        assert_eq!(load(&path).unwrap(), Loaded::Fallback("one".into()));
        assert!(names(dir.path()).iter().any(|name| name.starts_with("state.corrupt-")));
        assert!(!path.exists());

        // The good backup survives the next write, which finds no main file to back up.
        replace(&path, &framed("three")).unwrap();
        assert_eq!(load(&dir.path().join("state.bak")).unwrap(), ok("one"));
        assert_eq!(load(&path).unwrap(), ok("three"));
    }

    #[test]
    fn nothing_readable_is_a_failure_and_nothing_at_all_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        assert_eq!(load(&path).unwrap().outcome(), "missing");
        fs::write(dir.path().join("state.bak"), b"garbage").unwrap();
        assert_eq!(load(&path).unwrap().outcome(), "fail");
        fs::write(&path, b"garbage").unwrap();
        assert_eq!(load(&path).unwrap().outcome(), "fail");
    }

    #[test]
    fn a_newer_version_is_refused_and_the_backup_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        replace(&path, &framed("one")).unwrap();
        let mut newer = framed("two");
        newer[5] = 9;
        replace(&path, &newer).unwrap();
        let error = load(&path).unwrap_err();
        assert!(matches!(error, StorageError::NewerVersion { found: 9, known: 1, .. }));
        assert!(error.is_safety_refusal());
        assert!(path.exists(), "a newer file is not moved aside");
    }

    #[test]
    fn ids_from_outside_cannot_leave_the_directory() {
        assert_eq!(file_id("session-01").unwrap(), "session-01");
        assert_eq!(file_id(&"a".repeat(64)).unwrap().len(), 64);
        let too_long = "a".repeat(65);
        for bad in ["", "../x", "a/b", "A", "a.b", "a b", "ä", "a\0", too_long.as_str()] {
            assert!(matches!(file_id(bad), Err(StorageError::BadFileId { .. })), "{bad:?}");
        }
    }
}
