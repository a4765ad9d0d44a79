//! Who may use the server: names and passwords from a file, as memcached's `-Y` has them.
//!
//! The file has a line `user:password` for each user, or `user:HASH` with a hash of [`password`].
//! Whether and how long a name or a password differs from those in the file must not be seen in the
//! time that a comparison takes, so all entries are compared, each in full, and every name that has
//! no password that can be compared costs one hash. Nothing here may print a password.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use siphasher::sip::SipHasher13;
use subtle::{Choice, ConstantTimeEq};

use super::files;
use super::password::{self, Hash, HashError, Memory};
use super::secret;

/// Most users in a file.
pub const USERS_MAX: usize = 64;

/// Longest name and longest password, in bytes.
pub const WORD_BYTES_MAX: usize = 255;

/// Most bytes that are read of a file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why a file is not used.
#[derive(Debug)]
pub enum CredentialsError {
    /// The kernel's reason.
    Unreadable(io::Error),
    /// It is longer than a file of [`USERS_MAX`] users can be.
    TooLong,
    /// This line is not `user:password`, or one of both is empty or longer than
    /// [`WORD_BYTES_MAX`].
    Line(usize),
    /// This line is meant as a comment.
    Comment(usize),
    /// The hash on this line is none that is used.
    Hash(usize, HashError),
    /// The user of this line is one of a line before, and one of the two has a hash: verifying both
    /// would take longer than another user's.
    Again(usize),
    /// There are more than [`USERS_MAX`] users.
    TooMany,
    /// There is no user.
    Empty,
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CredentialsError::Unreadable(error) => write!(f, "it cannot be read: {error}"),
            CredentialsError::TooLong => write!(f, "it is longer than {FILE_BYTES_MAX} bytes"),
            CredentialsError::Line(number) => write!(
                f,
                "line {number} is not user:password, of at most {WORD_BYTES_MAX} bytes each"
            ),
            CredentialsError::Comment(number) => {
                write!(f, "line {number} begins with #: there are no comments in this file")
            }
            CredentialsError::Hash(number, error) => write!(f, "line {number}: {error}"),
            CredentialsError::Again(number) => {
                write!(f, "line {number} has a user once more, which one with a hash must not be")
            }
            CredentialsError::TooMany => write!(f, "it has more than {USERS_MAX} users"),
            CredentialsError::Empty => f.write_str("it names no user"),
        }
    }
}

impl std::error::Error for CredentialsError {}

/// A name or a password at a fixed length, so that comparing two takes the same time whatever they
/// are.
struct Word {
    bytes: [u8; WORD_BYTES_MAX],
    len: u8,
    is_whole: Choice,
}

impl Word {
    /// One that is too long equals none.
    fn new(word: &[u8]) -> Word {
        let kept = word.len().min(WORD_BYTES_MAX);
        let mut bytes = [0; WORD_BYTES_MAX];
        bytes[..kept].copy_from_slice(&word[..kept]);
        Word { bytes, len: kept as u8, is_whole: Choice::from(u8::from(kept == word.len())) }
    }

    fn equals(&self, other: &Word) -> Choice {
        self.bytes.ct_eq(&other.bytes) & self.len.ct_eq(&other.len) & self.is_whole & other.is_whole
    }
}

enum Password {
    Plain(Word),
    Hashed(Hash),
}

struct Entry {
    user: Word,
    password: Password,
}

/// What a look at the file tells of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// It is a user with its password.
    Admitted,
    /// It is none.
    Refused,
    /// Only [`Credentials::verify`] tells.
    Hashed,
}

/// The users of a file. All workers share them.
pub struct Credentials {
    path: PathBuf,
    users: RwLock<Arc<[Entry]>>,
    /// Chooses the hash that an unknown user costs.
    hasher: SipHasher13,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.path.display())
    }
}

impl Credentials {
    /// Reads a file.
    ///
    /// # Errors
    /// Why it is not used.
    pub fn read(path: &Path) -> Result<Credentials, CredentialsError> {
        let users = RwLock::new(entries(path)?.into());
        let hasher = SipHasher13::new_with_key(&secret::random());
        Ok(Credentials { path: path.to_owned(), users, hasher })
    }

    /// Reads the file once more. Who is logged in stays so.
    ///
    /// # Errors
    /// Why it is not used; then the users stay as they were.
    pub fn reread(&self) -> Result<(), CredentialsError> {
        let users = entries(&self.path)?.into();
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = users;
        Ok(())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a user has a hash.
    pub fn has_hashes(&self) -> bool {
        self.users().iter().any(|entry| matches!(entry.password, Password::Hashed(_)))
    }

    /// Compares with what can be compared at once.
    pub fn check(&self, user: &[u8], password: &[u8]) -> Check {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        let is_hashed = |entry: &Entry| matches!(entry.password, Password::Hashed(_));
        if compare(&users, user, password) {
            Check::Admitted
        } else if users.iter().any(is_hashed) {
            Check::Hashed
        } else {
            Check::Refused
        }
    }

    /// Whether a user has this password. Takes milliseconds: the time of one hash, whoever it is. A
    /// user without a hash, known or not, costs that of another, which is the same each time.
    pub fn verify(&self, user: &[u8], password: &[u8], memory: &mut Memory) -> bool {
        // The lock is not held meanwhile: workers must not wait for it.
        let users = self.users();
        let name = Word::new(user);
        let hashes = users.iter().filter_map(|entry| match &entry.password {
            Password::Hashed(hash) => Some((entry.user.equals(&name), hash)),
            Password::Plain(_) => None,
        });
        let hashes: Vec<_> = hashes.collect();
        if hashes.is_empty() {
            return compare(&users, user, password);
        }
        let stand_in = self.hasher.hash(user) as usize % hashes.len();
        let own = hashes.iter().position(|(is_own, _)| (*is_own).into());
        let (is_own, hash) = hashes[own.unwrap_or(stand_in)];
        (is_own & hash.is_of(password, memory)).into()
    }

    fn users(&self) -> Arc<[Entry]> {
        Arc::clone(&self.users.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether one of these has this name and, in plain, this password.
fn compare(users: &[Entry], user: &[u8], password: &[u8]) -> bool {
    let (user, password) = (Word::new(user), Word::new(password));
    let found = users.iter().fold(Choice::from(0), |found, entry| match &entry.password {
        Password::Plain(own) => found | entry.user.equals(&user) & own.equals(&password),
        Password::Hashed(_) => found,
    });
    found.into()
}

fn entries(path: &Path) -> Result<Vec<Entry>, CredentialsError> {
    let file = files::open(path).map_err(CredentialsError::Unreadable)?;
    let mut bytes = Vec::new();
    let mut limited = file.take(FILE_BYTES_MAX + 1);
    limited.read_to_end(&mut bytes).map_err(CredentialsError::Unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(CredentialsError::TooLong);
    }
    let mut entries: Vec<Entry> = Vec::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        // Taken for a user, a line that is commented out would be one who may log in.
        if line.starts_with(b"#") {
            return Err(CredentialsError::Comment(index + 1));
        }
        let entry = entry(line, index + 1)?;
        if entries.len() == USERS_MAX {
            return Err(CredentialsError::TooMany);
        }
        let is_again = entries.iter().any(|other| {
            let has_hash = [other, &entry].map(|it| matches!(it.password, Password::Hashed(_)));
            has_hash.contains(&true) && other.user.equals(&entry.user).into()
        });
        if is_again {
            return Err(CredentialsError::Again(index + 1));
        }
        entries.push(entry);
    }
    if entries.is_empty() { Err(CredentialsError::Empty) } else { Ok(entries) }
}

fn entry(line: &[u8], number: usize) -> Result<Entry, CredentialsError> {
    let fault = CredentialsError::Line(number);
    let Some(colon) = memchr::memchr(b':', line) else { return Err(fault) };
    let (user, password) = (&line[..colon], &line[colon + 1..]);
    let is_word = |word: &[u8]| (1..=WORD_BYTES_MAX).contains(&word.len());
    if !is_word(user) || !is_word(password) {
        return Err(fault);
    }
    let password = if password.starts_with(password::PREFIX.as_bytes()) {
        let hash = Hash::parse(password).map_err(|error| CredentialsError::Hash(number, error))?;
        Password::Hashed(hash)
    } else {
        Password::Plain(Word::new(password))
    };
    Ok(Entry { user: Word::new(user), password })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of this test's own.
    struct Users(PathBuf);

    impl Users {
        fn new(name: &str, content: &[u8]) -> Users {
            let name = format!("sunder-users-{}-{name}", std::process::id());
            let users = Users(std::env::temp_dir().join(name));
            users.write(content);
            users
        }

        fn write(&self, content: &[u8]) {
            std::fs::write(&self.0, content).expect("written");
        }
    }

    impl Drop for Users {
        fn drop(&mut self) {
            std::fs::remove_file(&self.0).expect("it was made");
        }
    }

    /// What the first look and, if it needs one, the second tell.
    fn admits(users: &Credentials, user: &str, password: &str) -> bool {
        let (user, password) = (user.as_bytes(), password.as_bytes());
        match users.check(user, password) {
            Check::Admitted => true,
            Check::Refused => false,
            Check::Hashed => users.verify(user, password, &mut Memory::default()),
        }
    }

    #[test]
    fn only_a_user_with_its_own_password_is_admitted() {
        let long = "p".repeat(WORD_BYTES_MAX);
        let content = format!("alice:secret\n\nbob:other:word\r\nlong:{long}\n");
        let file = Users::new("admitted", content.as_bytes());
        let users = Credentials::read(&file.0).expect("it is right");
        let admitted = [("alice", "secret"), ("bob", "other:word"), ("long", &long)];
        for (user, password) in admitted {
            assert!(admits(&users, user, password), "{user}");
        }
        let longer = format!("{long}p");
        let refused = [
            ("alice", "secre"),
            ("alice", "secret\0"),
            ("alice", ""),
            ("Alice", "secret"),
            ("", "secret"),
            ("", ""),
            ("bob", "secret"),
            ("bob", "other"),
            ("long", &longer),
            ("alice:secret", ""),
        ];
        for (user, password) in refused {
            assert!(!admits(&users, user, password), "{user} {password}");
        }
    }

    /// "password" with the salt "somesalt", in 256 KiB.
    const HASH: &str =
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    #[test]
    fn hashes_and_plain_passwords_may_be_mixed() {
        let content = format!("alice:secret\nbob:{HASH}\ncarol:$6$plain\n");
        let file = Users::new("mixed", content.as_bytes());
        let users = Credentials::read(&file.0).expect("it is right");
        assert!(users.has_hashes());
        for (user, password) in [("alice", "secret"), ("bob", "password"), ("carol", "$6$plain")] {
            assert!(admits(&users, user, password), "{user}");
        }
        // Who is known in plain need not wait.
        assert_eq!(users.check(b"alice", b"secret"), Check::Admitted);
        for (user, password) in [
            ("alice", "password"),
            ("bob", "secret"),
            ("bob", HASH),
            ("nobody", "password"),
            ("", ""),
            ("bob\0", "password"),
        ] {
            assert_eq!(users.check(user.as_bytes(), password.as_bytes()), Check::Hashed);
            assert!(!admits(&users, user, password), "{user}");
        }
    }

    #[test]
    fn a_user_without_a_hash_costs_that_of_another_and_always_the_same() {
        let other = Hash::make(b"x", 64, 1).expect("cheap");
        let content = format!("alice:secret\nbob:{HASH}\ncarol:{other}\n");
        let file = Users::new("cost", content.as_bytes());
        let users = Credentials::read(&file.0).expect("it is right");
        let cost = |user: &str, password: &[u8]| {
            let mut memory = Memory::default();
            assert!(!users.verify(user.as_bytes(), password, &mut memory));
            memory.kib()
        };
        assert_eq!((cost("bob", b"y"), cost("carol", b"y")), (256, 64));
        assert_eq!(cost("alice", b"y"), cost("alice", b""));
        let costs: Vec<_> = (0..64).map(|n| cost(&format!("user{n}"), b"password")).collect();
        let again: Vec<_> = (0..64).map(|n| cost(&format!("user{n}"), b"other")).collect();
        assert_eq!(costs, again);
        assert!(costs.contains(&64) && costs.contains(&256), "either user could be one");
    }

    #[test]
    fn a_file_that_lost_its_hashes_meanwhile_is_asked_again() {
        let file = Users::new("lost", format!("bob:{HASH}\n").as_bytes());
        let users = Credentials::read(&file.0).expect("it is right");
        file.write(b"bob:plain\n");
        users.reread().expect("it is right");
        assert!(!users.has_hashes());
        assert!(users.verify(b"bob", b"plain", &mut Memory::default()));
        assert!(!users.verify(b"bob", b"password", &mut Memory::default()));
    }

    #[test]
    fn a_wrong_hash_is_refused_with_its_line() {
        let costly = HASH.replace("m=256", "m=1048576");
        let cases = [
            (
                "a:b\nc:$argon2i$v=19$m=8,t=1,p=1$x$y\n".to_owned(),
                "line 2: its hash is not $argon2",
            ),
            (
                format!("a:{costly}\n"),
                "line 1: its hash has to have m= from 8 times p= to 65536, t=",
            ),
            (format!("a:{HASH}\n\na:{HASH}\n"), "line 3 has a user once more"),
            (format!("a:{HASH}\na:b\n"), "line 2 has a user once more"),
            (format!("a:b\na:{HASH}\n"), "line 2 has a user once more"),
        ];
        for (content, expected) in cases {
            let file = Users::new("hash", content.as_bytes());
            let error = Credentials::read(&file.0).map(|_| ()).expect_err(expected);
            assert!(error.to_string().starts_with(expected), "{error}");
        }
        let file = Users::new("twice", b"a:b\na:c\n");
        let users = Credentials::read(&file.0).expect("plain ones may be twice");
        assert!(admits(&users, "a", "b") && admits(&users, "a", "c"));
    }

    #[test]
    fn a_wrong_file_is_refused_with_its_line() {
        let many: String = (0..=USERS_MAX).map(|n| format!("user{n}:x\n")).collect();
        let long = format!("a:{}\n", "p".repeat(WORD_BYTES_MAX + 1));
        let cases: [(&[u8], &str); 8] = [
            (b"", "it names no user"),
            (b"\n\r\n", "it names no user"),
            (b"a:b\nnocolon\n", "line 2 is not user:password, of at most 255 bytes each"),
            (b":b\n", "line 1 is not user:password, of at most 255 bytes each"),
            (b"a:\n", "line 1 is not user:password, of at most 255 bytes each"),
            (long.as_bytes(), "line 1 is not user:password, of at most 255 bytes each"),
            (many.as_bytes(), "it has more than 64 users"),
            (&[b'x'; 70_000], "it is longer than 65536 bytes"),
        ];
        for (content, expected) in cases {
            let file = Users::new("wrong", content);
            let error = Credentials::read(&file.0).map(|_| ()).expect_err(expected);
            assert_eq!(error.to_string(), expected);
        }
        let error = Credentials::read(Path::new("/nonexistent/users")).map(|_| ());
        assert!(matches!(error, Err(CredentialsError::Unreadable(_))));
    }

    #[test]
    fn a_file_that_became_wrong_leaves_the_users_as_they_were() {
        let file = Users::new("reread", b"alice:secret\n");
        let users = Credentials::read(&file.0).expect("it is right");
        file.write(b"alice\n");
        assert!(users.reread().is_err());
        assert!(admits(&users, "alice", "secret"));
        file.write(b"bob:x\n");
        users.reread().expect("it is right");
        assert!(admits(&users, "bob", "x") && !admits(&users, "alice", "secret"));
    }
}
