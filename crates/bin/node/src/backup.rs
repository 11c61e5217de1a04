//! An operator's folder as one encrypted file.
//!
//! In it is what only this operator has and what tells whose it is: keys with their passwords, lock, deposits, settings,
//! `identity.dat`, and of imported validators that they may not sign yet. What was signed is not: such a copy is old from the next vote on. A folder with an identity and
//! without a vote log is one whose memory was lost, and its node asks the members what they have seen of this operator
//! before it signs anything (ADR 7, ADR 10). So a backup can be taken at any time, also of a running node, and a
//! restored folder is safe however old its backup is. Two that run at once are one faulty operator, until one sees the
//! other and stops.
//!
//! ```text
//! magic 8 ‖ version 1 ‖ log2 n 1 ‖ salt 32 ‖ nonce 12 ‖ ChaCha20-Poly1305(scrypt(password, salt), SSZ list of (name, content))
//! ```
//!
//! The 54 bytes in front are authenticated too. scrypt has the cost of a keystore's: n = 2^18, r = 8, p = 1.

use crate::config::{LOCK_FILE, NODE_FILE};
use crate::creation::Draft;
use crate::deposits::DEPOSITS_FILE;
use crate::epochs::past_lock;
use crate::exit::ExitError;
use crate::files;
use crate::keys::{load_lock, read_secret};
use crate::obol::{IMPORTED_FILE, PROTECTION_FILE};
use aequa_types::validator::VALIDATORS_MAX;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _};
use ssz::Encode as _;
use ssz_derive::{Decode, Encode};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use zeroize::{Zeroize as _, Zeroizing};

const MAGIC: [u8; 8] = *b"AEQUABAK";
const VERSION: u8 = 1;
const SALT: std::ops::Range<usize> = 10..42;
const NONCE: std::ops::Range<usize> = 42..54;
const HEADER_BYTES: usize = NONCE.end;
/// Files of the folder itself. All but the first two may be missing.
const FILES: [&str; 6] = [LOCK_FILE, IDENTITY_FILE, NODE_FILE, DEPOSITS_FILE, IMPORTED_FILE, PROTECTION_FILE];
/// Without these a folder is no operator's.
const NEEDED: [&str; 4] = [LOCK_FILE, IDENTITY_FILE, "keys/identity.json", "keys/keystore-sequencer.json"];
const IDENTITY_FILE: &str = "identity.dat";
/// Locks of earlier epochs that are looked for.
const EPOCHS_MAX: u64 = 256;
/// Folder of the keystores.
const KEYS: &str = "keys";
/// Keystores and passwords: those of the operator, and of every validator.
const KEY_FILES_MAX: usize = 2 * (VALIDATORS_MAX + 8);
/// Largest single file: the lock.
const FILE_BYTES_MAX: usize = aequa_types::lock::LOCK_BYTES_MAX;
/// Largest backup: a lock and deposits of a thousand validators, what was imported of them, and their keystores.
const BACKUP_BYTES_MAX: usize = 64 << 20;
/// Base-2 logarithm of the n of scrypt: a quarter of a GiB of memory for every guess.
const LOG2_N: u8 = 18;
/// Most that a file may ask for: four times as much.
const LOG2_N_MAX: u8 = 20;
/// Shortest password: whoever has the file can guess for ever.
const PASSWORD_CHARS_MIN: usize = 12;
/// Longest password file in bytes.
const PASSWORD_BYTES_MAX: usize = 4096;

/// One file of the folder.
#[derive(Encode, Decode)]
struct Entry {
    /// Path below the folder.
    name: Vec<u8>,
    content: Vec<u8>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.content.zeroize();
    }
}

/// What to back up, and where to.
#[derive(Debug)]
pub struct Backup {
    /// The operator's folder.
    pub data_dir: PathBuf,
    /// Its keystores.
    pub keys_dir: PathBuf,
    /// The file to make.
    pub out: PathBuf,
    /// Where the password is.
    pub password_file: PathBuf,
}

/// What to restore, and where to.
#[derive(Debug)]
pub struct Restore {
    /// The backup.
    pub from: PathBuf,
    /// The folder to make; missing or empty.
    pub data_dir: PathBuf,
    /// Where the password is.
    pub password_file: PathBuf,
}

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Name of the cluster.
    pub cluster: String,
    /// Operators of it whose answers a restored node waits for.
    pub quorum: usize,
    /// Operators of the cluster.
    pub operators: usize,
    /// Files.
    pub files: usize,
}

/// Makes a backup. The node may run meanwhile: what is copied does not change, but as a whole.
pub fn backup(request: &Backup) -> Result<Contents, ExitError> {
    let password = password(&request.password_file)?;
    let entries = gather(request)?;
    let contents = contents_of(&load_lock(&request.data_dir.join(LOCK_FILE))?, &entries);
    let plain = Zeroizing::new(entries.as_ssz_bytes());
    if plain.len() > BACKUP_BYTES_MAX {
        return Err(ExitError::failure(format!(
            "{} has {} bytes to back up, the limit is {BACKUP_BYTES_MAX}",
            request.data_dir.display(),
            plain.len()
        )));
    }
    let sealed = seal(&plain, &password, LOG2_N)?;
    let out = &request.out;
    if files::is_there(out) {
        return Err(ExitError::failure(format!("{} exists", out.display())).hint("choose another name"));
    }
    files::replace(out, &sealed, 0o600)
        .map_err(|error| ExitError::failure(format!("cannot write {}: {error}", out.display())))?;
    Ok(contents)
}

/// Restores a backup into a new folder, all at once.
pub fn restore(request: &Restore) -> Result<Contents, ExitError> {
    let (from, dir) = (&request.from, &request.data_dir);
    let fail = |error: io::Error| ExitError::failure(format!("cannot restore to {}: {error}", dir.display()));
    if !files::is_absent_or_empty(dir).map_err(fail)? {
        return Err(ExitError::failure(format!("{} exists and is not empty", dir.display()))
            .hint("choose another folder; what an operator has signed is never overwritten"));
    }
    let password = password(&request.password_file)?;
    let sealed = read_bytes(from, BACKUP_BYTES_MAX + 1024)
        .map_err(|error| ExitError::failure(format!("cannot read {}: {error}", from.display())))?;
    let refused = |reason: &str| ExitError::refused(format!("{}: {reason}", from.display()));
    let plain = open(&sealed, &password).map_err(refused)?;
    let entries: Vec<Entry> = aequa_types::decode("backup", &plain, BACKUP_BYTES_MAX)
        .map_err(|error| refused(&error.to_string()))?;
    check(&entries).map_err(|reason| refused(&reason))?;
    let (draft, _) = Draft::begin(dir).map_err(fail)?;
    write(draft.path(), &entries).map_err(fail)?;
    let contents = contents_of(&load_lock(&draft.path().join(LOCK_FILE))?, &entries);
    draft.publish().map_err(fail)?;
    Ok(contents)
}

fn contents_of(lock: &aequa_crypto::lock::VerifiedLock, entries: &[Entry]) -> Contents {
    Contents {
        cluster: lock.lock().name.clone(),
        quorum: lock.quorum().quorum(),
        operators: lock.quorum().operators(),
        files: entries.len(),
    }
}

fn password(path: &Path) -> Result<Zeroizing<String>, ExitError> {
    let unreadable =
        |error: &io::Error| ExitError::usage(format!("cannot read the password {}: {error}", path.display()));
    let text = read_secret(path, None, PASSWORD_BYTES_MAX, &mut Vec::new(), unreadable)?;
    let password = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Err(ExitError::usage(format!(
            "the password in {} has fewer than {PASSWORD_CHARS_MIN} characters",
            path.display()
        )));
    }
    Ok(password)
}

/// Every file that is backed up, in a fixed order.
fn gather(request: &Backup) -> Result<Vec<Entry>, ExitError> {
    let dir = &request.data_dir;
    let fail = |path: &Path, error: io::Error| {
        ExitError::failure(format!("cannot read {}: {error}", path.display()))
    };
    let mut entries = Vec::new();
    for name in FILES {
        let path = dir.join(name);
        if files::is_there(&path) {
            let content = read_inside(&path, dir).map_err(|error| fail(&path, error))?;
            entries.push(Entry { name: name.into(), content });
        }
    }
    for epoch in 0..EPOCHS_MAX {
        let path = past_lock(dir, epoch);
        if files::is_there(&path) {
            let content = read_inside(&path, dir).map_err(|error| fail(&path, error))?;
            entries.push(Entry {
                name: past_lock(Path::new(""), epoch).to_string_lossy().into_owned().into(),
                content,
            });
        }
    }
    let mut keys = Vec::new();
    let listed = std::fs::read_dir(&request.keys_dir).map_err(|error| fail(&request.keys_dir, error))?;
    for entry in listed {
        let path = entry.map_err(|error| fail(&request.keys_dir, error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_key_file(&name) {
            keys.push((name, path));
        }
    }
    keys.sort();
    for (name, path) in keys {
        let content = read_inside(&path, dir).map_err(|error| fail(&path, error))?;
        entries.push(Entry { name: format!("{KEYS}/{name}").into_bytes(), content });
    }
    check(&entries).map_err(|reason| {
        ExitError::failure(format!("{} is no operator's folder: {reason}", dir.display()))
            .hint("name it with --data-dir, and its keystores with --keys-dir if they are elsewhere")
    })?;
    Ok(entries)
}

/// Names that a keys folder may have: plain ones that end as keystores and passwords do.
fn is_key_file(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    !name.starts_with('.') && name.chars().all(plain) && (name.ends_with(".json") || name.ends_with(".txt"))
}

/// Whether these are the files of an operator, each once, and nothing else.
fn check(entries: &[Entry]) -> Result<(), String> {
    let mut names: Vec<&str> = Vec::with_capacity(entries.len());
    for entry in entries {
        let name = std::str::from_utf8(&entry.name).map_err(|_| "a name that is no text".to_owned())?;
        let known = FILES.contains(&name)
            || (0..EPOCHS_MAX).any(|epoch| Path::new(name) == past_lock(Path::new(""), epoch))
            || name.strip_prefix(KEYS).and_then(|rest| rest.strip_prefix('/')).is_some_and(is_key_file);
        if !known || names.contains(&name) {
            return Err(format!("{name:?} is no file of an operator, or is there twice"));
        }
        names.push(name);
    }
    let files_max = FILES.len() + EPOCHS_MAX as usize + KEY_FILES_MAX;
    if names.len() > files_max {
        return Err(format!("{} files, the limit is {files_max}", names.len()));
    }
    match NEEDED.iter().find(|needed| !names.contains(needed)) {
        Some(missing) => Err(format!("{missing} is missing")),
        None => Ok(()),
    }
}

fn read_inside(path: &Path, home: &Path) -> io::Result<Vec<u8>> {
    read_from(files::open_input(path, Some(home))?, FILE_BYTES_MAX)
}

fn read_bytes(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    read_from(files::open_input(path, None)?, bytes_max)
}

fn read_from(file: std::fs::File, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut content)?;
    if content.len() > bytes_max {
        return Err(io::Error::other(format!("longer than the limit of {bytes_max} bytes")));
    }
    Ok(content)
}

fn write(dir: &Path, entries: &[Entry]) -> io::Result<()> {
    for entry in entries {
        // Checked before.
        let name = String::from_utf8_lossy(&entry.name);
        let mode = if name.starts_with(KEYS) { files::SECRET } else { files::PUBLIC };
        for folder in Path::new(&*name).ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            if !dir.join(folder).is_dir() {
                files::make_private_dir(&dir.join(folder))?;
            }
        }
        files::write_new(&dir.join(&*name), &entry.content, mode)?;
    }
    files::sync_dir(&dir.join(KEYS))
}

fn seal(plain: &[u8], password: &str, log2_n: u8) -> Result<Vec<u8>, ExitError> {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    (header[8], header[9]) = (VERSION, log2_n);
    getrandom::fill(&mut header[SALT.start..])
        .map_err(|error| ExitError::failure(format!("no randomness: {error}")))?;
    let cipher = cipher(&header, password).map_err(ExitError::failure)?;
    // A plain text of 64 MiB is far below what the cipher takes.
    let sealed = cipher
        .encrypt(header[NONCE].into(), Payload { msg: plain, aad: &header })
        .map_err(|_| ExitError::failure("the backup is too large to be encrypted"))?;
    Ok([&header[..], &sealed].concat())
}

fn open(sealed: &[u8], password: &str) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    if sealed.len() < HEADER_BYTES || sealed[..8] != MAGIC {
        return Err("this is no backup of an operator");
    }
    if sealed[8] != VERSION {
        return Err("it was made by a later version of this program");
    }
    let (header, msg) = sealed.split_at(HEADER_BYTES);
    cipher(header, password)?
        .decrypt(header[NONCE].into(), Payload { msg, aad: header })
        .map(Zeroizing::new)
        .map_err(|_| "the password does not open it, or it was damaged")
}

fn cipher(header: &[u8], password: &str) -> Result<ChaCha20Poly1305, &'static str> {
    const COSTLY: &str = "opening it would take more memory than any backup does";
    let params = Some(header[9]).filter(|log2_n| *log2_n <= LOG2_N_MAX);
    let params = params.and_then(|log2_n| scrypt::Params::new(log2_n, 8, 1).ok()).ok_or(COSTLY)?;
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(password.as_bytes(), &header[SALT], &params, key.as_mut_slice()).map_err(|_| COSTLY)?;
    Ok(ChaCha20Poly1305::new(key.as_slice().into()))
}

#[cfg(test)]
mod tests;
