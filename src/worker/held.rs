//! Where the bytes of a hit are while its reply waits to leave, and what that may take.
//!
//! A worker's own hits stay in its tier. Another worker's hit is copied if it is short. A long one
//! stays with its owner, lent, and is fetched piece by piece once its reply is the connection's
//! next. A piece is as long as there is room for it, and a short one needs none: so a client that
//! requests many values and reads nothing holds one piece, and never prevents another from getting
//! its next.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::base::buffer::{Chain, Gather};
use crate::base::clock::Now;
use crate::base::limits::{
    BLOCK_BYTES, FETCH_SHARE, REMOTE_COPY_BYTES_MAX, REST_NEW_US, REST_PAUSE_US,
};
use crate::connection::slots::{BODY_WEIGHT_SHARE, may_add};
use crate::connection::{Rest, Share};
use crate::mailbox::Carried;
use crate::net::ConnectionId;
use crate::tier::{Hit, Take, Value};

/// The bytes of a hit.
#[derive(Debug)]
pub enum Held<V> {
    /// Kept by this worker's tier.
    Local(V),
    /// Copied by their owner.
    Remote(RefCell<Copied>),
    /// Kept by their owner's tier, but for the piece that was fetched.
    Lent(Lent),
}

impl<V: Value> Value for Held<V> {
    #[inline(always)]
    fn len(&self) -> usize {
        match self {
            Held::Local(value) => value.len(),
            Held::Remote(copied) => {
                let copied = copied.borrow();
                copied.discarded + copied.rest.len()
            }
            Held::Lent(lent) => lent.bytes,
        }
    }

    #[inline(always)]
    fn copy_to(&self, offset: usize, out: &mut [u8]) -> usize {
        match self {
            Held::Local(value) => value.copy_to(offset, out),
            Held::Remote(copied) => copied.borrow_mut().copy_to(offset, out),
            Held::Lent(lent) => lent.piece.borrow_mut().copy_to(offset, out),
        }
    }

    fn show(&self, offset: usize, take: &mut Take<'_>) -> usize {
        // What is lent or copied gives its blocks back as it is read.
        if let Held::Local(value) = self { value.show(offset, take) } else { 0 }
    }

    fn as_chain(&self) -> Option<&Chain> {
        if let Held::Local(value) = self { value.as_chain() } else { None }
    }
}

/// A value, or a piece of one, that another worker copied. It is read front to back: what was read
/// is given back.
#[derive(Debug)]
pub struct Copied {
    rest: Chain,
    /// Bytes of the value before `rest`.
    discarded: usize,
    /// Up to which byte of the value it was read.
    read_to: usize,
}

impl Copied {
    #[inline(never)]
    fn copy_to(&mut self, offset: usize, out: &mut [u8]) -> usize {
        self.discarded += self.rest.discard_before(offset - self.discarded);
        let n = self.rest.copy_to(offset - self.discarded, out);
        self.read_to = offset + n;
        n
    }

    pub(super) fn new(offset: usize, rest: Chain) -> RefCell<Copied> {
        RefCell::new(Copied { rest, discarded: offset, read_to: offset })
    }

    /// Whether it was read to its end.
    fn is_spent(&self) -> bool {
        self.read_to == self.discarded + self.rest.len()
    }
}

/// Bytes reserved of a worker's budget for values; released when dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    bytes: usize,
    taken: Rc<Cell<usize>>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.taken.set(self.taken.get() - self.bytes);
    }
}

/// A worker's budget for values that wait: still arriving, or fetched and not yet read.
///
/// What arrives is counted piece by piece, and no connection has more than its share of what is
/// free. So several connections may each have a part of their value and none enough for all of it:
/// therefore some room is reserved for the rests of values, each reserved as a whole. Half of it is
/// for values that began recently, so that none queues behind all earlier ones. A connection that
/// has such a rest and does not use it loses it, and its value, as soon as another needs it.
#[derive(Debug)]
pub(super) struct Budget {
    fetched: Rc<Cell<usize>>,
    fetched_max: usize,
    shared: usize,
    shared_max: usize,
    /// For all values, and for those that began recently.
    rests: [usize; 2],
    /// Of each.
    rests_max: usize,
    /// Rests, and the time up to which the value of each has made progress.
    holders: Vec<(Rest, u64)>,
    /// The one that has to be returned.
    revoked: Option<ConnectionId>,
}

impl Budget {
    pub fn new(bytes_max: usize) -> Budget {
        Budget {
            fetched: Rc::default(),
            fetched_max: bytes_max / 2,
            shared: 0,
            shared_max: bytes_max / 8 * 3,
            rests: [0; 2],
            rests_max: bytes_max / 16,
            holders: Vec::with_capacity(RESTS_KEPT),
            revoked: None,
        }
    }

    /// Reserves room for the next piece of a lent value of which `left` bytes are left; returns the
    /// piece's length. A piece that is no longer than what any reply may hold needs none.
    pub fn fetch(&self, left: usize) -> usize {
        let free = self.fetched_max.saturating_sub(self.fetched.get());
        let bytes = left.min(REMOTE_COPY_BYTES_MAX.max(free / FETCH_SHARE));
        self.fetched.set(self.fetched.get() + bytes);
        bytes
    }

    /// What [`Budget::fetch`] reserved, from here on released by dropping it.
    pub fn guard(&self, bytes: usize) -> Reserved {
        Reserved { bytes, taken: Rc::clone(&self.fetched) }
    }

    /// Makes the share of connection `id` do for the first `bytes` bytes of a value of
    /// `value_bytes`, of what is kept for rests unless `is_shared`; false if there is no room.
    pub fn grow(
        &mut self,
        id: ConnectionId,
        share: &mut Share,
        (bytes, value_bytes): (usize, usize),
        is_shared: bool,
        now: Now,
    ) -> bool {
        let has_enough = bytes <= share.shared || share.rest.is_some();
        if has_enough || (is_shared && self.grow_shared(share, bytes, value_bytes)) {
            return true;
        }
        let rest_bytes = value_bytes - share.shared;
        for is_for_new in [false, true] {
            let used = &mut self.rests[usize::from(is_for_new)];
            // The longest item may be longer than what is kept for rests; alone it may be.
            let fits = *used == 0 || *used + rest_bytes <= self.rests_max;
            if fits && (!is_for_new || is_new(share, now)) {
                *used += rest_bytes;
                let rest = Rest { id, bytes: rest_bytes, is_for_new };
                share.rest = Some(rest);
                self.holders.push((rest, now.uptime_us));
                return true;
            }
        }
        false
    }

    /// The value that this rest belongs to made progress.
    pub fn note_progress(&mut self, rest: Rest, progress_us: u64, now: Now) {
        if let Some((_, at_us)) = self.holders.iter_mut().find(|(other, _)| *other == rest) {
            *at_us = progress_us;
        }
        if !has_paused(progress_us, now) {
            self.revoked.take_if(|id| *id == rest.id);
        }
    }

    /// Chooses the connection that has to return its rest because there is none for `share`: the
    /// one that has not used it for the longest time, if that is long enough. One at a time.
    pub fn revoke(&mut self, share: &Share, now: Now) -> Option<ConnectionId> {
        if self.revoked.is_some() {
            return None;
        }
        let is_new = is_new(share, now);
        let usable = self.holders.iter().filter(|(rest, _)| is_new || !rest.is_for_new);
        let &(rest, progress_us) = usable.min_by_key(|(_, progress_us)| *progress_us)?;
        self.revoked = has_paused(progress_us, now).then_some(rest.id);
        self.revoked
    }

    /// Whether connection `id` has to return its rest.
    pub fn is_revoked(&self, id: ConnectionId) -> bool {
        self.revoked == Some(id)
    }

    /// As [`Budget::grow`], but not of what is kept for the rests of values.
    fn grow_shared(&mut self, share: &mut Share, bytes: usize, value_bytes: usize) -> bool {
        if bytes <= share.shared || share.rest.is_some() {
            return true;
        }
        let shared = bytes.next_multiple_of(BLOCK_BYTES).min(value_bytes);
        let more = shared - share.shared;
        let free = self.shared_max - self.shared;
        let weight = self.shared_max / BODY_WEIGHT_SHARE;
        let fits = more <= free && may_add(share.shared, self.shared, free, weight);
        if fits {
            self.shared += more;
            share.shared = shared;
        }
        fits
    }

    /// As [`Budget::grow`], for bytes that have not come yet: only while half of the room is free.
    pub fn grow_ahead(&mut self, share: &mut Share, bytes: usize, value_bytes: usize) -> bool {
        let more = bytes.saturating_sub(share.shared);
        self.shared + more <= self.shared_max / 2 && self.grow_shared(share, bytes, value_bytes)
    }

    /// Releases what [`Budget::grow`] reserved.
    pub fn give(&mut self, share: Share) {
        self.shared -= share.shared;
        let Some(rest) = share.rest else { return };
        self.rests[usize::from(rest.is_for_new)] -= rest.bytes;
        self.holders.retain(|(other, _)| *other != rest);
        self.revoked.take_if(|id| *id == rest.id);
    }
}

/// Whether a sender's last progress is so long ago that its rest may be taken.
fn has_paused(progress_us: u64, now: Now) -> bool {
    now.uptime_us.saturating_sub(progress_us) >= REST_PAUSE_US
}

/// Whether the value that a share is for began recently.
fn is_new(share: &Share, now: Now) -> bool {
    now.uptime_us.saturating_sub(share.began_us) < REST_NEW_US
}

/// Rests that have places from the start; more, of short values, ask the allocator once.
const RESTS_KEPT: usize = 1024;

/// Loans that are to be returned to their owners: (owner, loan).
pub(super) type Returns = Rc<RefCell<Vec<(u8, u32)>>>;

/// A value that its owner keeps for us, and the piece of it that is here. Dropping it returns it.
#[derive(Debug)]
pub struct Lent {
    owner: u8,
    /// None once it was taken, or the owner has given all of it.
    loan: Option<u32>,
    bytes: usize,
    piece: RefCell<Copied>,
    /// What the piece takes of the budget.
    _reserved: Reserved,
    returns: Returns,
}

impl Lent {
    /// The value of `bytes` bytes that `owner` lends as `loan`, of which `piece` is here.
    pub(super) fn new(
        (owner, loan): (u8, Option<u32>),
        bytes: usize,
        piece: RefCell<Copied>,
        reserved: Reserved,
        returns: &Returns,
    ) -> Lent {
        Lent { owner, loan, bytes, piece, _reserved: reserved, returns: Rc::clone(returns) }
    }

    /// Whether nothing more of it can be read before it is fetched.
    pub(super) fn is_wanted(&self) -> bool {
        self.loan.is_some() && self.piece.borrow().is_spent()
    }

    /// The owner and its number for the loan, for which the caller is responsible from here on;
    /// where the next piece begins; and how many bytes are left from there.
    pub(super) fn take(mut self) -> (u8, u32, usize, usize) {
        let loan = self.loan.take().expect("it is wanted");
        let offset = self.piece.borrow().read_to;
        (self.owner, loan, offset, self.bytes - offset)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(loan) = self.loan {
            self.returns.borrow_mut().push((self.owner, loan));
        }
    }
}

/// The hits that this worker lends to others. Bounded by the slots of the others.
#[derive(Debug)]
pub(super) struct Loans<V> {
    hits: Vec<Option<Hit<V>>>,
    free: Vec<u32>,
}

impl<V: Value> Loans<V> {
    pub fn new() -> Loans<V> {
        Loans { hits: Vec::new(), free: Vec::new() }
    }

    /// Keeps a hit; returns its number.
    pub fn lend(&mut self, hit: Hit<V>) -> u32 {
        match self.free.pop() {
            Some(loan) => {
                self.hits[loan as usize] = Some(hit);
                loan
            }
            None => {
                self.hits.push(Some(hit));
                self.hits.len() as u32 - 1
            }
        }
    }

    /// What there is of a hit for [`Carried::Lent`](crate::mailbox::Carried): `bytes` bytes from
    /// `offset` on. The last piece ends the loan.
    pub fn piece(&mut self, loan: u32, offset: usize, bytes: usize) -> Hit<Carried> {
        let hit = self.hits[loan as usize].as_ref().expect("lent");
        let &Hit { flags, expiry, cas, ref value } = hit;
        let mut piece = Gather::new();
        piece.fill(bytes, |at, out| value.copy_to(offset + at, out));
        let length = value.len();
        let is_last = offset + bytes == length;
        if is_last {
            drop(self.end(loan));
        }
        let loan = (!is_last).then_some(loan);
        let value = Carried::Lent { loan, bytes: length, offset, piece: piece.finish() };
        Hit { flags, expiry, cas, value }
    }

    /// The hit of a loan, which ends.
    pub fn end(&mut self, loan: u32) -> Hit<V> {
        self.free.push(loan);
        self.hits[loan as usize].take().expect("a loan ends once")
    }
}
