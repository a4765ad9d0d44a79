//! The user that serves, if not the one that starts the server. It must never serve with a
//! privilege that was to be given up: where one is left, the start fails.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use super::{Fault, ServeError};
use crate::base::account::Account;

/// A user that is not the one of this process.
#[derive(Debug)]
pub(super) struct User {
    name: String,
    account: Account,
}

impl User {
    /// The user of this name; None: this process has it already.
    ///
    /// # Errors
    /// There is none, or this process cannot become it.
    pub fn find(name: &str) -> Result<Option<User>, ServeError> {
        let failed =
            |reason: String, fault| Err(ServeError::User { name: name.to_owned(), reason, fault });
        let own = rustix::process::geteuid();
        match Account::find(name) {
            Err(error) => failed(format!("cannot be looked up: {error}"), Fault::Host),
            Ok(None) => failed("there is no such user on this host".into(), Fault::Words),
            Ok(Some(found)) if found.uid == own.as_raw() => Ok(None),
            Ok(Some(_)) if !own.is_root() => {
                let reason = "only root can become another user; start sunder as root, or leave \
                              this out";
                failed(reason.into(), Fault::Words)
            }
            Ok(Some(account)) => Ok(Some(User { name: name.to_owned(), account })),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes it the owner of a file.
    pub fn give(&self, path: &Path) -> Result<(), ServeError> {
        let given = chown(path, Some(self.account.uid), Some(self.account.gid));
        given.map_err(|error| self.failed(format!("cannot own {}: {error}", path.display())))
    }

    /// Makes it the user of all threads of this process, with no other group and no capability. The
    /// kernel allows no core dump of it from then on, so that the memory that root filled stays
    /// unreadable: nothing here changes that.
    pub fn become_it(&self) -> Result<(), ServeError> {
        self.account.become_it().map_err(|error| self.failed(error.to_string()))?;
        // Securebits, which whoever started this may have set, let capabilities outlive that.
        match left() {
            Ok(None) => Ok(()),
            Ok(Some(line)) => Err(self.failed(format!("capabilities would be left: {line}"))),
            Err(error) => Err(self.failed(format!("capabilities are not known: {error}"))),
        }
    }

    fn failed(&self, reason: String) -> ServeError {
        ServeError::User { name: self.name.clone(), reason, fault: Fault::Host }
    }
}

/// The kernel's own threads for io_uring, which run no code of a program: each request has the
/// privileges of the thread that submits it.
const KERNELS: &str = "Name:\tiou-";

/// A line of the kernel about a capability that a thread of this process has or may pass on.
fn left() -> std::io::Result<Option<String>> {
    for task in fs::read_dir("/proc/self/task")? {
        // A thread may have ended meanwhile.
        let Ok(status) = fs::read_to_string(task?.path().join("status")) else { continue };
        if status.starts_with(KERNELS) {
            continue;
        }
        let is_set = |line: &&str| {
            let set = ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"];
            let value = set.iter().find_map(|name| line.strip_prefix(name));
            value.is_some_and(|value| value.contains(|c: char| c.is_alphanumeric() && c != '0'))
        };
        if let Some(line) = status.lines().find(is_set) {
            return Ok(Some(line.replace('\t', " ")));
        }
    }
    Ok(None)
}
