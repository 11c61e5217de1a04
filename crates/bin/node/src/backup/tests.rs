use super::*;
use crate::keys::tests::{cluster, load};
use aequa_storage::{DataDir, Identity};

const PASSWORD: &str = "correct horse battery";

/// A cluster of four whose node 1 has lived, and a password.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        cluster(dir.path(), 4);
        let home = Self { dir };
        files::write_new(&home.password(), PASSWORD.as_bytes(), files::SECRET).unwrap();
        DataDir::open(&home.node(), home.identity()).unwrap().settle().unwrap();
        std::fs::create_dir(home.node().join("wal")).unwrap();
        std::fs::write(home.node().join("wal/votes-1.wal"), "votes").unwrap();
        home
    }

    fn node(&self) -> PathBuf {
        self.dir.path().join("c4/node1")
    }

    fn password(&self) -> PathBuf {
        self.dir.path().join("password")
    }

    fn identity(&self) -> Identity {
        let operator = operator(&self.node());
        let (cluster_id, lock_hash) = (operator.lock.cluster_id(), operator.lock.lock().lock_hash);
        Identity { cluster_id, operator: operator.index, lock_hash, created: 7 }
    }

    fn backup(&self, out: &str) -> Result<Contents, ExitError> {
        backup(&Backup {
            data_dir: self.node(),
            keys_dir: self.node().join("keys"),
            out: self.dir.path().join(out),
            password_file: self.password(),
        })
    }

    fn restore(&self, from: &str, to: &str) -> Result<Contents, ExitError> {
        restore(&Restore {
            from: self.dir.path().join(from),
            data_dir: self.dir.path().join(to),
            password_file: self.password(),
        })
    }
}

fn operator(dir: &Path) -> crate::keys::Operator {
    load(dir, &[]).unwrap()
}

#[test]
fn a_restored_folder_is_the_same_operator_that_has_lost_its_memory() {
    let home = Home::new();
    let backed_up = home.backup("b").unwrap();
    assert_eq!(backed_up, Contents { cluster: "t".into(), quorum: 3, operators: 4, files: 7 });
    assert_eq!(home.restore("b", "r").unwrap(), backed_up);
    let restored = home.dir.path().join("r");
    assert_eq!(operator(&restored).index, operator(&home.node()).index);
    assert!(!restored.join("wal").exists(), "what was signed is not restored");
    let data_dir = DataDir::open(&restored, home.identity()).unwrap();
    assert!(!data_dir.is_new() && data_dir.identity().created == 7, "and was lost, not never there");
    let again = home.backup("b").unwrap_err();
    assert!(again.message.contains("exists"), "{again:?}");
    assert!(home.restore("b", "r").unwrap_err().message.contains("not empty"));
}

#[test]
fn no_secret_of_the_folder_can_be_read_in_the_backup() {
    let home = Home::new();
    home.backup("b").unwrap();
    let sealed = std::fs::read(home.dir.path().join("b")).unwrap();
    let secret = std::fs::read(home.node().join("keys/identity.txt")).unwrap();
    assert!(!sealed.windows(secret.len()).any(|bytes| bytes == secret));
}

#[test]
fn what_does_not_open_or_belongs_elsewhere_is_refused_and_nothing_is_written() {
    let home = Home::new();
    let entry = |name: &str| Entry { name: name.into(), content: b"x".to_vec() };
    let needed = || NEEDED.map(entry).into_iter().collect::<Vec<_>>();
    let with = |name: &str| needed().into_iter().chain([entry(name)]).collect::<Vec<_>>();
    let cases = [
        (
            "keys/identity.json is missing",
            needed().into_iter().filter(|e| e.name != b"keys/identity.json").collect(),
        ),
        ("no file of an operator", with("../outside.json")),
        ("no file of an operator", with("keys/../../outside.json")),
        ("no file of an operator", with("/outside.json")),
        ("no file of an operator", with("keys/.hidden.json")),
        ("no file of an operator", with("wal/votes-1.wal")),
        ("is there twice", with(LOCK_FILE)),
    ];
    for (number, (says, entries)) in cases.into_iter().enumerate() {
        let name = format!("forged-{number}");
        let sealed = seal(&entries.as_ssz_bytes(), PASSWORD, 10).unwrap();
        std::fs::write(home.dir.path().join(&name), sealed).unwrap();
        let error = home.restore(&name, "r").unwrap_err();
        assert!(error.code == 4 && error.message.contains(says), "{says}: {error:?}");
    }

    let sealed = seal(&needed().as_ssz_bytes(), PASSWORD, 10).unwrap();
    for position in [0, 8, 9, 10, 42, 54, sealed.len() - 1] {
        let mut damaged = sealed.clone();
        damaged[position] ^= 1;
        assert!(open(&damaged, PASSWORD).is_err(), "byte {position}");
    }
    assert!(open(&sealed, "another password").is_err());
    assert!(open(&sealed[..40], PASSWORD).is_err());
    let mut costly = sealed;
    costly[9] = LOG2_N_MAX + 1;
    assert!(open(&costly, PASSWORD).unwrap_err().contains("memory"));
    assert!(!home.dir.path().join("r").exists() && !home.dir.path().join("outside.json").exists());
}

#[test]
fn a_short_password_and_one_that_others_can_read_are_refused() {
    let home = Home::new();
    std::fs::remove_file(home.password()).unwrap();
    files::write_new(&home.password(), b"too short\n", files::SECRET).unwrap();
    assert!(home.backup("b").unwrap_err().message.contains("fewer than 12"));
    std::fs::remove_file(home.password()).unwrap();
    files::write_new(&home.password(), PASSWORD.as_bytes(), 0o644).unwrap();
    assert!(home.backup("b").unwrap_err().message.contains("opens it to others"));
    assert!(!home.dir.path().join("b").exists());
}

#[test]
fn that_imported_keys_may_not_sign_goes_with_the_folder() {
    let home = Home::new();
    for name in [IMPORTED_FILE, PROTECTION_FILE] {
        std::fs::write(home.node().join(name), name).unwrap();
    }
    home.backup("b").unwrap();
    home.restore("b", "r").unwrap();
    for name in [IMPORTED_FILE, PROTECTION_FILE] {
        assert_eq!(std::fs::read_to_string(home.dir.path().join("r").join(name)).unwrap(), name);
    }
}
