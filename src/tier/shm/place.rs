//! Where a daemon of a given name listens for attachments.
//!
//! The folder is `$RUNTIME_DIRECTORY`, which a service manager sets, else `/run/sunder` for root,
//! else `$XDG_RUNTIME_DIR/sunder`. A client looks in all of these, in this order, so that it finds
//! a daemon of another service.

use std::env;
use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 32;

const OF_ROOT: &str = "/run/sunder";

/// The name of a daemon: letters, digits, `-`, `_` and `.`, and no `.` at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Reads a name; None if it is not one.
    pub fn parse(text: &str) -> Option<Name> {
        let is_letter = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_name = (1..=NAME_BYTES_MAX).contains(&text.len())
            && text.chars().all(is_letter)
            && !text.starts_with('.');
        is_name.then(|| Name(text.to_owned()))
    }

    /// The socket in `folder` where attachments are made.
    fn rings(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.rings", self.0))
    }

    /// Where a client finds the daemon; if it is in none of the folders, where it would be in the
    /// first of them.
    pub fn find(&self) -> PathBuf {
        let all: Vec<PathBuf> = folders().iter().map(|folder| self.rings(folder)).collect();
        let found = all.iter().find(|path| path.exists()).or(all.first());
        found.cloned().unwrap_or_else(|| self.rings(Path::new(OF_ROOT)))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The sockets of a daemon that is about to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where attachments are made.
    pub rings: PathBuf,
    /// Where memcached clients connect, unless another place is chosen.
    pub clients: PathBuf,
}

impl Place {
    /// Where a daemon of this name listens. None: this user has no such folder.
    pub fn of(name: &Name) -> Option<Place> {
        let folder = if let Some(folder) = of_service() {
            folder
        } else if geteuid().is_root() {
            OF_ROOT.into()
        } else {
            of_user()?
        };
        let clients = folder.join(format!("{name}.sock"));
        Some(Place { rings: name.rings(&folder), clients })
    }

    /// Creates the folder if it is missing, for others to enter but not to write in.
    ///
    /// # Errors
    /// The kernel's.
    pub fn prepare(&self) -> io::Result<()> {
        let Some(folder) = self.rings.parent() else { return Ok(()) };
        DirBuilder::new().recursive(true).mode(0o755).create(folder)
    }
}

fn of_service() -> Option<PathBuf> {
    let folders = env::var("RUNTIME_DIRECTORY").ok()?;
    folders.split(':').next().filter(|first| !first.is_empty()).map(PathBuf::from)
}

fn of_user() -> Option<PathBuf> {
    let folder = env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty())?;
    Some(Path::new(&folder).join("sunder"))
}

fn folders() -> Vec<PathBuf> {
    [of_service(), Some(OF_ROOT.into()), of_user()].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_name_of_a_file_and_of_nothing_else() {
        for name in ["cache0", "a", "A-b_c.d", &"x".repeat(NAME_BYTES_MAX)] {
            assert_eq!(Name::parse(name).map(|it| it.to_string()).as_deref(), Some(name));
        }
        for wrong in ["", ".", "..", ".a", "a/b", "a b", "a,b", "\u{e9}", &"x".repeat(33)] {
            assert_eq!(Name::parse(wrong), None, "{wrong}");
        }
    }
}
