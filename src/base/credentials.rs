//! Who may use the server: names and passwords from a file, as memcached's `-Y` has them.
//!
//! The file has a line `user:password` for each user. Whether and how long a name or a password
//! differs from those in the file must not be seen in the time that a comparison takes, so all
//! entries are compared, each in full. Nothing here may print a password.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use subtle::{Choice, ConstantTimeEq};

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

struct Entry {
    user: Word,
    password: Word,
}

/// The users of a file. All workers share them.
pub struct Credentials {
    path: PathBuf,
    entries: RwLock<Vec<Entry>>,
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
        let entries = RwLock::new(entries(path)?);
        Ok(Credentials { path: path.to_owned(), entries })
    }

    /// Reads the file once more. Who is logged in stays so.
    ///
    /// # Errors
    /// Why it is not used; then the users are those of before.
    pub fn reread(&self) -> Result<(), CredentialsError> {
        let entries = entries(&self.path)?;
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = entries;
        Ok(())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a user has this password.
    pub fn admits(&self, user: &[u8], password: &[u8]) -> bool {
        let (user, password) = (Word::new(user), Word::new(password));
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let found = entries.iter().fold(Choice::from(0), |found, entry| {
            found | entry.user.equals(&user) & entry.password.equals(&password)
        });
        found.into()
    }
}

fn entries(path: &Path) -> Result<Vec<Entry>, CredentialsError> {
    let file = std::fs::File::open(path).map_err(CredentialsError::Unreadable)?;
    let mut bytes = Vec::new();
    let mut limited = file.take(FILE_BYTES_MAX + 1);
    limited.read_to_end(&mut bytes).map_err(CredentialsError::Unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(CredentialsError::TooLong);
    }
    let mut entries = Vec::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let fault = CredentialsError::Line(index + 1);
        let Some(colon) = memchr::memchr(b':', line) else { return Err(fault) };
        let (user, password) = (&line[..colon], &line[colon + 1..]);
        let is_word = |word: &[u8]| (1..=WORD_BYTES_MAX).contains(&word.len());
        if !is_word(user) || !is_word(password) {
            return Err(fault);
        }
        if entries.len() == USERS_MAX {
            return Err(CredentialsError::TooMany);
        }
        entries.push(Entry { user: Word::new(user), password: Word::new(password) });
    }
    if entries.is_empty() { Err(CredentialsError::Empty) } else { Ok(entries) }
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

    #[test]
    fn only_a_user_with_its_own_password_is_admitted() {
        let long = "p".repeat(WORD_BYTES_MAX);
        let content = format!("alice:secret\n\nbob:other:word\r\nlong:{long}\n");
        let file = Users::new("admitted", content.as_bytes());
        let users = Credentials::read(&file.0).expect("it is right");
        let admitted = [("alice", "secret"), ("bob", "other:word"), ("long", &long)];
        for (user, password) in admitted {
            assert!(users.admits(user.as_bytes(), password.as_bytes()), "{user}");
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
            assert!(!users.admits(user.as_bytes(), password.as_bytes()), "{user} {password}");
        }
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
        assert!(users.admits(b"alice", b"secret"));
        file.write(b"bob:x\n");
        users.reread().expect("it is right");
        assert!(users.admits(b"bob", b"x") && !users.admits(b"alice", b"secret"));
    }
}
