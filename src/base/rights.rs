//! What the clients of a port may do: `--rights`.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

/// What is not allowed, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// Everything is allowed.
    pub const ALL: Rights = Rights(0);
    /// Nothing that stores, changes or removes an item.
    pub const READ_ONLY: Rights = Rights(1 | Rights::NO_FLUSH.0);
    /// No flush_all.
    pub const NO_FLUSH: Rights = Rights(1 << 1);
    /// Nothing about the server itself but its version and statistics, and no list of all keys.
    pub const NO_ADMIN: Rights = Rights(1 << 2);

    /// What both allow.
    pub const fn and(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    /// Whether something is not allowed.
    #[inline(always)]
    pub const fn is_limited(self) -> bool {
        self.0 != 0
    }

    /// Whether items may be stored, changed and removed.
    pub const fn may_write(self) -> bool {
        self.0 & 1 == 0
    }

    /// Whether all items may be invalidated.
    pub const fn may_flush(self) -> bool {
        self.0 & Rights::NO_FLUSH.0 == 0
    }

    /// Whether the server may be changed, and keys be listed.
    pub const fn may_administer(self) -> bool {
        self.0 & Rights::NO_ADMIN.0 == 0
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (!self.may_write(), "read-only"),
            (self.may_write() && !self.may_flush(), "no-flush"),
            (!self.may_administer(), "no-admin"),
        ];
        let words: Vec<&str> = words.iter().filter(|(is_so, _)| *is_so).map(|it| it.1).collect();
        f.write_str(if words.is_empty() { "all" } else { "" })?;
        f.write_str(&words.join(","))
    }
}

/// Rights that may change while clients connect.
#[derive(Debug, Default)]
pub struct LiveRights(AtomicU8);

impl LiveRights {
    /// These, at first.
    pub fn new(rights: Rights) -> LiveRights {
        LiveRights(AtomicU8::new(rights.0))
    }

    /// As they are now.
    pub fn get(&self) -> Rights {
        Rights(self.0.load(Ordering::Relaxed))
    }

    /// Changes them, for clients that connect from now on.
    pub fn replace(&self, rights: Rights) {
        self.0.store(rights.0, Ordering::Relaxed);
    }
}
