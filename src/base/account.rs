//! Users of the host, and becoming one. The kernel changes the user of a single thread, libc that
//! of all: never use the former. What is left afterwards is for the caller to look at.

#![allow(unsafe_code, reason = "libc's calls alone change all threads")]

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// Bytes of an entry of the host's users; more are tried up to the second.
const ENTRY_BYTES: usize = 4 * 1024;
const ENTRY_BYTES_MAX: usize = 1024 * 1024;

/// A user, with its main group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

impl Account {
    /// The user of this name, if there is one.
    ///
    /// # Errors
    /// The host cannot look it up.
    pub fn find(name: &str) -> io::Result<Option<Account>> {
        let Ok(name) = CString::new(name) else { return Ok(None) };
        let mut bytes = ENTRY_BYTES;
        loop {
            let mut text = vec![0; bytes];
            let (mut entry, mut found) = (MaybeUninit::<libc::passwd>::zeroed(), ptr::null_mut());
            // SAFETY: the name ends with a zero byte; the entry and the pointer to it are written,
            // and the text up to its length, all of which live beyond the call.
            let error = unsafe {
                let (entry, text) = (entry.as_mut_ptr(), text.as_mut_ptr());
                libc::getpwnam_r(name.as_ptr(), entry, text, bytes, &raw mut found)
            };
            match error {
                0 if found.is_null() => return Ok(None),
                0 => {
                    // SAFETY: it was found, so all of it was written; its zeros before were valid.
                    let entry = unsafe { entry.assume_init() };
                    return Ok(Some(Account { uid: entry.pw_uid, gid: entry.pw_gid }));
                }
                libc::ERANGE if bytes < ENTRY_BYTES_MAX => bytes *= 2,
                // What some sources of users say of a name that they do not have.
                libc::ENOENT | libc::ESRCH => return Ok(None),
                error => return Err(io::Error::from_raw_os_error(error)),
            }
        }
    }

    /// Makes it the user of all threads of this process, in its main group and no other.
    ///
    /// # Errors
    /// The kernel's; some of it may be done then.
    pub fn become_it(self) -> io::Result<()> {
        let done = |result| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
        // SAFETY: no groups are read where there are none; the others take numbers.
        unsafe {
            done(libc::setgroups(0, ptr::null()))?;
            done(libc::setgid(self.gid))?;
            done(libc::setuid(self.uid))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_the_host_are_found() {
        assert_eq!(Account::find("root").ok(), Some(Some(Account { uid: 0, gid: 0 })));
        for none in ["no-such-user", "", "ro\0ot"] {
            assert_eq!(Account::find(none).ok(), Some(None), "{none:?}");
        }
    }
}
