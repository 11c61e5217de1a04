//! Secrets at rest: EIP-2335 keystores, version 4.
//!
//! ```text
//! password ──NFKD, control characters stripped──► pbkdf2 | scrypt ──► key (32 bytes)
//! key[0..16]  aes-128-ctr  secret ──► cipher.message
//! sha256(key[16..32] ‖ cipher.message) ──► checksum, compared in constant time
//! ```
//!
//! A keystore that does not open is an error and nothing else: there is no fallback to plain text.
//! Parameters come from a file and are capped before any work is done. This module deals in text;
//! files, their modes and their passwords are the node's.

use aes::Aes128;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use unicode_normalization::UnicodeNormalization as _;
use zeroize::{Zeroize as _, Zeroizing};

/// Largest keystore text in bytes: real ones have about a thousand.
pub const KEYSTORE_BYTES_MAX: usize = 64 * 1024;
/// Largest secret in bytes; keys have 32, the rest is room for other containers.
pub const SECRET_BYTES_MAX: usize = 1024;
/// Most pbkdf2 rounds when reading: sixty-four times the default, some ten seconds.
pub const PBKDF2_ROUNDS_MAX: u32 = 1 << 24;
/// Most memory scrypt may take when reading.
pub const SCRYPT_MEMORY_BYTES_MAX: u64 = 1 << 30;
/// Most scrypt passes when reading: the memory cap alone does not bound the time.
pub const SCRYPT_PARALLELISM_MAX: u32 = 16;

/// Why a keystore cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeystoreError {
    /// The text is no keystore of version 4.
    #[error("malformed keystore: {0}")]
    Malformed(String),
    /// A function or version this module does not know.
    #[error("unsupported keystore {what}: {found}")]
    Unsupported {
        /// Which part.
        what: &'static str,
        /// What the file asks for.
        found: String,
    },
    /// The parameters ask for more work than a file may demand.
    #[error("keystore asks for {what} of {value}, the limit is {limit}")]
    TooCostly {
        /// Which parameter.
        what: &'static str,
        /// What the file asks for.
        value: u64,
        /// The cap.
        limit: u64,
    },
    /// The password does not open it, or the content was altered.
    #[error("wrong password or altered keystore")]
    WrongPassword,
    /// The operating system gave no randomness.
    #[error("no randomness: {0}")]
    Randomness(String),
}

/// How much work a guess at the password costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// pbkdf2 with 2^18 rounds.
    Standard,
    /// scrypt with n = 2^18, r = 8 and p = 1: a quarter of a GiB of memory for every guess, and for opening it.
    Scrypt,
    /// pbkdf2 with 2^4 rounds: for development clusters, never for a key worth anything.
    Insecure,
}

impl Cost {
    fn function(self, salt: Vec<u8>) -> Function {
        let pbkdf2 = |c, salt| Function::Pbkdf2 { dklen: 32, c, prf: "hmac-sha256".into(), salt };
        match self {
            Cost::Standard => pbkdf2(STANDARD_ROUNDS, salt),
            Cost::Scrypt => Function::Scrypt { dklen: 32, n: 1 << 18, r: 8, p: 1, salt },
            Cost::Insecure => pbkdf2(1 << 4, salt),
        }
    }
}

/// pbkdf2 rounds of [`Cost::Standard`], as the standard's own vector has them.
const STANDARD_ROUNDS: u32 = 1 << 18;

/// What a keystore says about its secret in clear.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Label {
    /// Hex of the public key, without 0x; for a share the public share.
    pub pubkey: String,
    /// Derivation path; empty for keys that were not derived.
    pub path: String,
    /// What the key is for, e.g. the operator's identity.
    pub description: String,
}

/// An encrypted secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keystore {
    crypto: Crypto,
    // Other tools write null where they have nothing to say.
    description: Option<String>,
    pubkey: Option<String>,
    path: Option<String>,
    uuid: Option<String>,
    version: u64,
}

impl Keystore {
    /// Encrypts `secret` under `password`.
    pub fn encrypt(secret: &[u8], password: &str, label: Label, cost: Cost) -> Result<Self, KeystoreError> {
        let (salt, iv, uuid) = (random::<32>()?, random::<16>()?, random::<16>()?);
        Self::encrypt_with(secret, password, label, cost.function(salt.to_vec()), iv, uuid_v4(uuid))
    }

    /// What is drawn by chance given: the same arguments make the same keystore.
    fn encrypt_with(
        secret: &[u8],
        password: &str,
        label: Label,
        function: Function,
        iv: [u8; 16],
        uuid: String,
    ) -> Result<Self, KeystoreError> {
        if secret.is_empty() || secret.len() > SECRET_BYTES_MAX {
            return Err(KeystoreError::Malformed(format!(
                "secret has {} bytes, must have 1 to {SECRET_BYTES_MAX}",
                secret.len()
            )));
        }
        let key = function.derive(password)?;
        let mut message = secret.to_vec();
        key.apply_keystream(&iv, &mut message);
        let checksum = key.checksum(&message);
        Ok(Self {
            crypto: Crypto {
                kdf: Kdf { function, message: Some(String::new()) },
                checksum: Checksum { function: "sha256".into(), params: Some(Empty {}), message: checksum },
                cipher: Cipher { function: "aes-128-ctr".into(), params: CipherParams { iv }, message },
            },
            description: Some(label.description),
            pubkey: Some(label.pubkey),
            path: Some(label.path),
            uuid: Some(uuid),
            version: 4,
        })
    }

    /// Parses a keystore and checks its form and the cost it asks for; nothing is derived yet.
    pub fn from_json(text: &str) -> Result<Self, KeystoreError> {
        if text.len() > KEYSTORE_BYTES_MAX {
            return Err(KeystoreError::Malformed(format!(
                "{} bytes, the limit is {KEYSTORE_BYTES_MAX}",
                text.len()
            )));
        }
        let keystore: Self =
            serde_json::from_str(text).map_err(|error| KeystoreError::Malformed(error.to_string()))?;
        keystore.check()?;
        Ok(keystore)
    }

    /// The text of the file.
    pub fn to_json(&self) -> String {
        // Strings, numbers and maps with string keys: there is no failing case.
        let mut text = serde_json::to_string_pretty(self).expect("a keystore is plain data");
        text.push('\n');
        text
    }

    /// Opens the keystore.
    pub fn decrypt(&self, password: &str) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
        let Crypto { kdf, checksum, cipher } = &self.crypto;
        let key = kdf.function.derive(password)?;
        if !bool::from(key.checksum(&cipher.message).ct_eq(&checksum.message)) {
            return Err(KeystoreError::WrongPassword);
        }
        let mut secret = Zeroizing::new(cipher.message.clone());
        key.apply_keystream(&cipher.params.iv, &mut secret);
        Ok(secret)
    }

    /// What the keystore says in clear. Nothing vouches for it: compare with the key inside.
    pub fn label(&self) -> Label {
        let [pubkey, path, description] =
            [&self.pubkey, &self.path, &self.description].map(|text| text.clone().unwrap_or_default());
        Label { pubkey, path, description }
    }

    /// Whether guessing the password is cheap: such a keystore is not loaded on mainnet.
    pub fn is_insecure(&self) -> bool {
        match &self.crypto.kdf.function {
            Function::Pbkdf2 { c, .. } => *c < STANDARD_ROUNDS,
            // 2^14 · r 8 is the least anybody writes for interactive use.
            Function::Scrypt { n, r, .. } => memory_bytes(*n, *r) < 128 * 8 * (1 << 14),
        }
    }

    fn check(&self) -> Result<(), KeystoreError> {
        let Crypto { kdf, checksum, cipher } = &self.crypto;
        if self.version != 4 {
            return Err(unsupported("version", self.version));
        }
        kdf.function.check()?;
        if checksum.function != "sha256" {
            return Err(unsupported("checksum", &checksum.function));
        }
        if cipher.function != "aes-128-ctr" {
            return Err(unsupported("cipher", &cipher.function));
        }
        let secret = cipher.message.len();
        if secret == 0 || secret > SECRET_BYTES_MAX {
            return Err(KeystoreError::Malformed(format!("cipher message has {secret} bytes")));
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Crypto {
    kdf: Kdf,
    checksum: Checksum,
    cipher: Cipher,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kdf {
    #[serde(flatten)]
    function: Function,
    message: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "function", content = "params", rename_all = "lowercase")]
enum Function {
    Pbkdf2 {
        dklen: u32,
        c: u32,
        prf: String,
        #[serde(with = "hex::serde")]
        salt: Vec<u8>,
    },
    Scrypt {
        dklen: u32,
        n: u64,
        r: u32,
        p: u32,
        #[serde(with = "hex::serde")]
        salt: Vec<u8>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Checksum {
    function: String,
    params: Option<Empty>,
    #[serde(with = "hex::serde")]
    message: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Cipher {
    function: String,
    params: CipherParams,
    #[serde(with = "hex::serde")]
    message: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct CipherParams {
    #[serde(with = "hex::serde")]
    iv: [u8; 16],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Empty {}

impl Function {
    fn check(&self) -> Result<(), KeystoreError> {
        let dklen = match self {
            Function::Pbkdf2 { dklen, c, prf, .. } => {
                if prf != "hmac-sha256" {
                    return Err(unsupported("prf", prf));
                }
                if *c == 0 {
                    return Err(KeystoreError::Malformed("c must be greater than 0".into()));
                }
                within("c", (*c).into(), PBKDF2_ROUNDS_MAX.into())?;
                dklen
            }
            Function::Scrypt { dklen, n, r, p, .. } => {
                if *n < 2 || !n.is_power_of_two() || *r == 0 || *p == 0 {
                    return Err(no_such_scrypt());
                }
                within("scrypt memory", memory_bytes(*n, *r), SCRYPT_MEMORY_BYTES_MAX)?;
                within("p", (*p).into(), SCRYPT_PARALLELISM_MAX.into())?;
                within("scrypt memory", memory_bytes((*p).into(), *r), SCRYPT_MEMORY_BYTES_MAX)?;
                dklen
            }
        };
        if *dklen == 32 { Ok(()) } else { Err(unsupported("dklen", dklen)) }
    }

    /// Also checks: a keystore made in memory obeys the same caps as one that was read.
    fn derive(&self, password: &str) -> Result<DerivedKey, KeystoreError> {
        self.check()?;
        let password = normalise(password);
        let mut key = DerivedKey(Zeroizing::new([0u8; 32]));
        let out = key.0.as_mut_slice();
        match self {
            Function::Pbkdf2 { c, salt, .. } => {
                pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), salt, *c, out);
            }
            Function::Scrypt { n, r, p, salt, .. } => {
                let params = scrypt::Params::new(n.trailing_zeros() as u8, *r, *p);
                let params = params.map_err(|_| no_such_scrypt())?;
                scrypt::scrypt(password.as_bytes(), salt, &params, out).map_err(|_| no_such_scrypt())?;
            }
        }
        Ok(key)
    }
}

fn no_such_scrypt() -> KeystoreError {
    KeystoreError::Malformed("no such scrypt parameters".into())
}

/// What scrypt takes for `n` blocks of its parameter `r`.
fn memory_bytes(n: u64, r: u32) -> u64 {
    n.saturating_mul(u64::from(r)).saturating_mul(128)
}

struct DerivedKey(Zeroizing<[u8; 32]>);

impl DerivedKey {
    /// Counter mode: the same for both directions.
    fn apply_keystream(&self, iv: &[u8; 16], bytes: &mut [u8]) {
        let mut key = Zeroizing::new([0u8; 16]);
        key.copy_from_slice(&self.0[..16]);
        Ctr128BE::<Aes128>::new((&*key).into(), iv.into()).apply_keystream(bytes);
    }

    fn checksum(&self, message: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(&self.0[16..]).chain_update(message).finalize().into()
    }
}

/// NFKD, then without C0, C1 and DEL: what is typed on two keyboards opens the same keystore.
fn normalise(password: &str) -> Zeroizing<String> {
    // Reserved once: a string that grew would leave pieces of the password behind.
    let mut normal = Zeroizing::new(String::with_capacity(password.len() * 4 + 64));
    for character in password.nfkd().filter(|character| !character.is_control()) {
        if normal.len() + character.len_utf8() > normal.capacity() {
            let mut larger = Zeroizing::new(String::with_capacity(normal.capacity() * 2));
            larger.push_str(&normal);
            normal.zeroize();
            normal = larger;
        }
        normal.push(character);
    }
    normal
}

fn random<const N: usize>() -> Result<[u8; N], KeystoreError> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).map_err(|error| KeystoreError::Randomness(error.to_string()))?;
    Ok(bytes)
}

fn uuid_v4(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex::encode(bytes);
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

fn unsupported(what: &'static str, found: impl ToString) -> KeystoreError {
    KeystoreError::Unsupported { what, found: found.to_string() }
}

fn within(what: &'static str, value: u64, limit: u64) -> Result<(), KeystoreError> {
    if value > limit { Err(KeystoreError::TooCostly { what, value, limit }) } else { Ok(()) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCRYPT: &str = include_str!("../tests/vectors/eip2335/scrypt.json");
    const PBKDF2: &str = include_str!("../tests/vectors/eip2335/pbkdf2.json");
    /// The password of both vectors of EIP-2335; NFKD makes it "testpassword" and a key symbol.
    pub(crate) const PASSWORD: &str = "𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑";

    impl Keystore {
        /// The keystore that the same salt and initial value make of a secret.
        pub(crate) fn made_again(&self, secret: &[u8], password: &str) -> Self {
            let Crypto { kdf, cipher, .. } = &self.crypto;
            let uuid = self.uuid.clone().unwrap_or_default();
            let (function, iv) = (kdf.function.clone(), cipher.params.iv);
            Self::encrypt_with(secret, password, self.label(), function, iv, uuid).unwrap()
        }
    }

    fn cheap(secret: &[u8], password: &str) -> Keystore {
        Keystore::encrypt(secret, password, Label::default(), Cost::Insecure).unwrap()
    }

    #[test]
    fn null_in_an_optional_field_counts_as_absent() {
        let text = Keystore::encrypt(&[7; 32], "pass", Label::default(), Cost::Insecure).unwrap().to_json();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        for field in
            ["/description", "/pubkey", "/path", "/uuid", "/crypto/kdf/message", "/crypto/checksum/params"]
        {
            *json.pointer_mut(field).unwrap() = serde_json::Value::Null;
            let opened = Keystore::from_json(&json.to_string()).unwrap();
            assert_eq!(*opened.decrypt("pass").unwrap(), [7; 32], "{field}");
        }
        assert_eq!(Keystore::from_json(&json.to_string()).unwrap().label(), Label::default());
        for field in
            ["/version", "/crypto/cipher/message", "/crypto/kdf/params/c", "/crypto/checksum/message"]
        {
            let mut without = json.clone();
            *without.pointer_mut(field).unwrap() = serde_json::Value::Null;
            assert!(Keystore::from_json(&without.to_string()).is_err(), "{field}");
        }
    }

    #[test]
    fn the_password_is_normalised_and_stripped_of_control_characters() {
        assert_eq!(normalise(PASSWORD).as_bytes(), "testpassword🔑".as_bytes());
        assert_eq!(hex::encode(normalise(PASSWORD).as_bytes()), "7465737470617373776f7264f09f9491");
        assert_eq!(normalise("a\u{0}b\u{1f}c\u{7f}d\u{80}e\u{9f}f\n").as_str(), "abcdef");
        assert_eq!(normalise("\u{fdfa}".repeat(40).as_str()).chars().count(), 18 * 40, "grows eighteenfold");
        let keystore = cheap(&[7; 32], "Ångström");
        assert_eq!(*keystore.decrypt("A\u{30a}ngstro\u{308}m\n").unwrap(), [7; 32]);
    }

    #[test]
    fn a_wrong_password_is_an_error_of_its_own_and_opens_nothing() {
        let keystore = cheap(&[7; 32], "right");
        for password in ["wrong", "", "Right", "right "] {
            assert_eq!(keystore.decrypt(password), Err(KeystoreError::WrongPassword), "{password:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_and_differs_each_time() {
        let label = Label {
            pubkey: "ab".repeat(32),
            path: String::new(),
            description: "aequa operator identity".into(),
        };
        let keystore = Keystore::encrypt(&[9; 32], "pw", label.clone(), Cost::Standard).unwrap();
        assert!(!keystore.is_insecure());
        let read = Keystore::from_json(&keystore.to_json()).unwrap();
        assert_eq!(read, keystore);
        assert_eq!(read.label(), label);
        assert_eq!(*read.decrypt("pw").unwrap(), [9; 32]);

        let (first, second) = (cheap(&[9; 32], "pw"), cheap(&[9; 32], "pw"));
        assert!(first.is_insecure());
        assert_ne!(first.crypto.cipher.message, second.crypto.cipher.message);
        assert_ne!(first.uuid, second.uuid);
    }

    #[test]
    fn what_is_written_with_scrypt_is_read() {
        let keystore = Keystore::encrypt(&[9; 32], "pw", Label::default(), Cost::Scrypt).unwrap();
        assert!(!keystore.is_insecure());
        let read = Keystore::from_json(&keystore.to_json()).unwrap();
        assert_eq!(*read.decrypt("pw").unwrap(), [9; 32]);
        assert_eq!(read.decrypt("wp"), Err(KeystoreError::WrongPassword));
    }

    #[test]
    fn the_uuid_is_of_version_4() {
        assert_eq!(uuid_v4([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid_v4([0; 16]), "00000000-0000-4000-8000-000000000000");
    }

    #[test]
    fn an_altered_cipher_or_checksum_does_not_open() {
        let mut keystore = cheap(&[7; 32], "pw");
        keystore.crypto.cipher.message[0] ^= 1;
        assert_eq!(keystore.decrypt("pw"), Err(KeystoreError::WrongPassword));
        let mut keystore = cheap(&[7; 32], "pw");
        keystore.crypto.checksum.message[31] ^= 1;
        assert_eq!(keystore.decrypt("pw"), Err(KeystoreError::WrongPassword));
    }

    #[test]
    fn parameters_above_the_caps_are_refused_before_any_work() {
        let refused = |text: &str, from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            Keystore::from_json(&text.replace(from, to)).unwrap_err()
        };
        let costly = |error| matches!(error, KeystoreError::TooCostly { .. });
        assert!(costly(refused(PBKDF2, "262144", "16777217")));
        assert!(costly(refused(SCRYPT, "\"n\": 262144", "\"n\": 2097152")));
        assert!(costly(refused(SCRYPT, "\"n\": 262144", "\"n\": 9223372036854775808")));
        assert!(costly(refused(SCRYPT, "\"r\": 8", "\"r\": 4294967295")));
        assert!(costly(refused(SCRYPT, "\"p\": 1", "\"p\": 17")));
        let malformed = |error| matches!(error, KeystoreError::Malformed(_));
        assert!(malformed(refused(PBKDF2, "262144", "0")));
        assert!(malformed(refused(SCRYPT, "\"n\": 262144", "\"n\": 262143")));
        assert!(malformed(refused(SCRYPT, "\"n\": 262144", "\"n\": 0")));
        assert!(malformed(refused(SCRYPT, "\"r\": 8", "\"r\": 0")));
        let at_the_limit = PBKDF2.replace("262144", "16777216");
        assert!(Keystore::from_json(&at_the_limit).is_ok());
    }

    #[test]
    fn unknown_functions_and_versions_are_named() {
        for (from, to, what) in [
            ("\"version\": 4", "\"version\": 3", "version"),
            ("aes-128-ctr", "aes-128-cbc", "cipher"),
            ("\"sha256\"", "\"sha512\"", "checksum"),
            ("hmac-sha256", "hmac-sha512", "prf"),
            ("\"dklen\": 32", "\"dklen\": 16", "dklen"),
        ] {
            assert!(PBKDF2.contains(from), "{from}");
            let error = Keystore::from_json(&PBKDF2.replace(from, to)).unwrap_err();
            assert!(
                matches!(&error, KeystoreError::Unsupported { what: named, .. } if *named == what),
                "{error}"
            );
        }
    }

    #[test]
    fn a_text_that_is_no_keystore_is_refused() {
        for text in ["", "{}", "null", "[1]", &"{".repeat(10_000), &" ".repeat(KEYSTORE_BYTES_MAX + 1)] {
            assert!(matches!(Keystore::from_json(text), Err(KeystoreError::Malformed(_))));
        }
        let short_iv = PBKDF2.replace("264daa3f303d7259501c93d997d84fe6", "264d");
        assert!(matches!(Keystore::from_json(&short_iv), Err(KeystoreError::Malformed(_))));
    }

    #[test]
    fn an_empty_or_oversized_secret_is_not_written() {
        for secret in [vec![], vec![1; SECRET_BYTES_MAX + 1]] {
            assert!(Keystore::encrypt(&secret, "pw", Label::default(), Cost::Insecure).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_secret_under_any_password_comes_back(
            secret in proptest::collection::vec(any::<u8>(), 1..200),
            password in "\\PC{0,40}",
        ) {
            let keystore = Keystore::from_json(&cheap(&secret, &password).to_json()).unwrap();
            prop_assert_eq!(&*keystore.decrypt(&password).unwrap(), &secret);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,200}", position in 0..900usize, byte in any::<u8>()) {
            let _ = Keystore::from_json(&text);
            let mut damaged = PBKDF2.as_bytes().to_vec();
            let length = damaged.len();
            damaged[position % length] = byte;
            let _ = Keystore::from_json(&String::from_utf8_lossy(&damaged));
        }
    }
}
