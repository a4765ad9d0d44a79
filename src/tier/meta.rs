//! What memcached's meta commands ask of an item beyond the other commands (protocol.txt, "Meta
//! Commands").
//!
//! All of them are one operation with one small argument, so that a tier has one function for them.
//! Nothing here knows how requests or replies are written.

use super::StoreMode;
use crate::base::clock::{Expiry, Now};

/// A meta command on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// What is done.
    pub verb: MetaVerb,
    /// The arguments that are there, and switches.
    pub with: MetaFlags,
    /// The client's flags of a new item.
    pub flags: u32,
    /// If [`MetaFlags::TOUCH`]: the item's new expiry. Of a store: that of the new item.
    pub expiry: Expiry,
    /// If [`MetaFlags::VIVIFY`]: the expiry of an item that is made because there is none.
    pub vivify: Expiry,
    /// If [`MetaFlags::RECACHE`]: an item that expires before this is to be fetched again by the
    /// first client that asks.
    pub recache: Expiry,
    /// If [`MetaFlags::CAS`]: only if the item has this cas; 0 is none that an item has.
    pub cas: u64,
    /// If [`MetaFlags::NEW_CAS`]: the cas of the changed item, below 2^62.
    pub new_cas: u64,
    /// What is added or subtracted.
    pub delta: u64,
    /// The number in an item that is made because there is none.
    pub initial: u64,
}

impl Meta {
    /// Does `verb`, without any argument.
    pub const fn new(verb: MetaVerb) -> Meta {
        Meta {
            verb,
            with: MetaFlags::NONE,
            flags: 0,
            expiry: Expiry::NEVER,
            vivify: Expiry::NEVER,
            recache: Expiry::NEVER,
            cas: 0,
            new_cas: 0,
            delta: 1,
            initial: 0,
        }
    }

    /// Whether an argument is there, or a switch set.
    #[inline]
    pub fn has(&self, flag: MetaFlags) -> bool {
        self.with.has(flag)
    }

    /// The cas that a changed item gets, if the client chose one.
    pub fn chosen_cas(&self) -> Option<u64> {
        self.has(MetaFlags::NEW_CAS).then_some(self.new_cas)
    }

    /// Whether a value comes with it.
    pub fn is_store(&self) -> bool {
        matches!(self.verb, MetaVerb::Store(_))
    }

    /// The expiry of an item that is made because there is none: T and N in their order.
    pub fn created_expiry(&self) -> Expiry {
        match (self.has(MetaFlags::TOUCH), self.has(MetaFlags::VIVIFY)) {
            (true, true) if self.has(MetaFlags::VIVIFY_AFTER_TOUCH) => self.vivify,
            (true, _) => self.expiry,
            (false, _) => self.vivify,
        }
    }

    /// What is reported of it: the expiry at the time of t.
    pub fn created_left_s(&self, now: Now) -> u32 {
        let is_after =
            (self.has(MetaFlags::EXPIRY_AFTER_TOUCH), self.has(MetaFlags::EXPIRY_AFTER_VIVIFY));
        let expiry = match is_after {
            (true, true) => self.created_expiry(),
            (true, false) => self.expiry,
            (false, true) => self.vivify,
            (false, false) => Expiry::NEVER,
        };
        left_s(expiry, now)
    }

    /// What is reported of an item's expiry that was `old` before T.
    pub fn reported_left_s(&self, old: Expiry, now: Now) -> u32 {
        let is_new = self.has(MetaFlags::EXPIRY_AFTER_TOUCH);
        left_s(if is_new { self.expiry } else { old }, now)
    }

    /// Whether R asks for an item to be fetched again whose expiry was `old` before T.
    pub fn is_due(&self, old: Expiry) -> bool {
        let is_after_touch = self.has(MetaFlags::RECACHE_AFTER_TOUCH);
        let expiry = if is_after_touch { self.expiry } else { old };
        self.has(MetaFlags::RECACHE)
            && expiry != Expiry::NEVER
            && expiry.unix_s() < self.recache.unix_s()
    }

    /// The same with no other flags than `flags`.
    #[must_use]
    pub fn only(self, flags: MetaFlags) -> Meta {
        Meta { with: self.with.only(flags), ..self }
    }
}

/// What a meta command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaVerb {
    /// `mg`.
    Get,
    /// `ms`.
    Store(StoreMode),
    /// `md`.
    Delete,
    /// `ma`.
    Count {
        /// Subtract.
        decrement: bool,
    },
    /// `me`: look at an item without using it.
    Debug,
}

/// A set of arguments and switches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetaFlags(u16);

impl MetaFlags {
    /// None.
    pub const NONE: MetaFlags = MetaFlags(0);
    /// T.
    pub const TOUCH: MetaFlags = MetaFlags(1);
    /// N.
    pub const VIVIFY: MetaFlags = MetaFlags(1 << 1);
    /// R.
    pub const RECACHE: MetaFlags = MetaFlags(1 << 2);
    /// C.
    pub const CAS: MetaFlags = MetaFlags(1 << 3);
    /// E.
    pub const NEW_CAS: MetaFlags = MetaFlags(1 << 4);
    /// I: a delete marks the item as stale; a store with an older cas stores a stale item.
    pub const INVALIDATE: MetaFlags = MetaFlags(1 << 5);
    /// x: the value is removed and the item stays.
    pub const EMPTY: MetaFlags = MetaFlags(1 << 6);
    /// u: this is not a use of the item.
    pub const NO_USE: MetaFlags = MetaFlags(1 << 7);
    /// The reported expiry is that after T: memcached carries out flags in their order.
    pub const EXPIRY_AFTER_TOUCH: MetaFlags = MetaFlags(1 << 8);
    /// The reported expiry is that after N.
    pub const EXPIRY_AFTER_VIVIFY: MetaFlags = MetaFlags(1 << 9);
    /// R looks at the expiry after T.
    pub const RECACHE_AFTER_TOUCH: MetaFlags = MetaFlags(1 << 10);
    /// N comes after T: its expiry stays.
    pub const VIVIFY_AFTER_TOUCH: MetaFlags = MetaFlags(1 << 11);
    /// v, or s of a get: the value, or its length, is reported.
    pub const VALUE: MetaFlags = MetaFlags(1 << 12);
    /// t: the expiry is reported.
    pub const LEFT: MetaFlags = MetaFlags(1 << 13);

    /// All.
    #[cfg(test)]
    pub const ALL: MetaFlags = MetaFlags(u16::MAX);

    /// Whether all of `other` are in it.
    #[inline]
    pub const fn has(self, other: MetaFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those that are in `other`, too.
    #[must_use]
    pub const fn only(self, other: MetaFlags) -> MetaFlags {
        MetaFlags(self.0 & other.0)
    }

    /// Without those of `other`.
    #[must_use]
    pub const fn without(self, other: MetaFlags) -> MetaFlags {
        MetaFlags(self.0 & !other.0)
    }

    /// With those of `other`.
    #[must_use]
    pub const fn and(self, other: MetaFlags) -> MetaFlags {
        MetaFlags(self.0 | other.0)
    }
}

/// What a tier knows of a found item that only meta commands report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ItemState {
    /// It was marked as stale.
    pub is_stale: bool,
    /// A client was told before to fetch it again.
    pub is_token_sent: bool,
    /// This client is the one to fetch it again.
    pub is_won: bool,
    /// It was read before.
    pub is_fetched: bool,
    /// Seconds since its last use, or more.
    pub idle_s: u32,
    /// Seconds until it expires, or `LEFT_FOR_EVER`.
    pub left_s: u32,
}

/// Of an item that does not expire.
pub const LEFT_FOR_EVER: u32 = u32::MAX;

/// Seconds until `expiry`.
pub fn left_s(expiry: Expiry, now: Now) -> u32 {
    match expiry {
        Expiry::NEVER => LEFT_FOR_EVER,
        expiry => expiry.unix_s().saturating_sub(now.unix_s),
    }
}

/// What a meta command made of an item whose value is not reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemInfo {
    /// The item's cas.
    pub cas: u64,
    /// The number that it has now; 0 for other commands than `ma`.
    pub number: u64,
    /// Length of its value in bytes.
    pub value_bytes: u32,
    /// Seconds until it expires, as in [`ItemState`].
    pub left_s: u32,
    /// It was made by an `ma`, since there was none.
    pub is_new: bool,
}
