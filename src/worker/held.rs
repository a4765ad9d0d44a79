//! The location of a hit's bytes while its reply waits to be sent, and the memory that may be used
//! for it.
//!
//! A worker's own hits stay in its tier. Another worker's hit is copied if it is short. A long one
//! stays with its owner, lent, and is fetched piece by piece when its reply is the connection's
//! next. The length of a piece depends on the free room, and a short one needs none: so a client
//! that requests many values and reads nothing holds one piece, and never prevents another from
//! getting its next.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::base::buffer::{Chain, Gather};
use crate::base::clock::Now;
use crate::base::latency::Level;
use crate::base::limits::{
    BLOCK_BYTES, FETCH_SHARE, REMOTE_COPY_BYTES_MAX, REST_NEW_PAUSE_US, REST_NEW_US, REST_PAUSE_US,
};
use crate::connection::slots::{BODY_WEIGHT_SHARE, may_add};
use crate::connection::{Rest, Share};
use crate::mailbox::Carried;
use crate::net::ConnectionId;
use crate::tier::{Hit, Take, Value};

/// The bytes of a hit.
#[derive(Debug)]
pub enum Held<V> {
    /// Held by this worker's tier.
    Local(V),
    /// Copied by their owner.
    Remote(RefCell<Copied>),
    /// Held by their owner's tier, except for the fetched piece.
    Lent(Lent),
    /// Of this many bytes, which their owner has lost.
    Lost(usize),
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
            Held::Lost(bytes) => *bytes,
        }
    }

    #[inline(always)]
    fn copy_to(&self, offset: usize, out: &mut [u8]) -> usize {
        match self {
            Held::Local(value) => value.copy_to(offset, out),
            Held::Remote(copied) => copied.borrow_mut().copy_to(offset, out),
            Held::Lent(lent) => lent.piece.borrow_mut().copy_to(offset, out),
            Held::Lost(_) => 0,
        }
    }

    fn show(&self, offset: usize, take: &mut Take<'_>) -> usize {
        // Lent or copied values release their blocks as they are read.
        if let Held::Local(value) = self { value.show(offset, take) } else { 0 }
    }

    fn as_chain(&self) -> Option<&Chain> {
        if let Held::Local(value) = self { value.as_chain() } else { None }
    }

    // Of what is lent the owner notes it, piece by piece.
    fn note_progress(&self, now: Now) {
        if let Held::Local(value) = self {
            value.note_progress(now);
        }
    }

    fn level(&self) -> Level {
        if let Held::Local(value) = self { value.level() } else { Level::L1 }
    }

    fn is_lost(&self) -> bool {
        match self {
            Held::Local(value) => value.is_lost(),
            Held::Remote(_) | Held::Lent(_) => false,
            Held::Lost(_) => true,
        }
    }
}

/// A value, or a piece of one, that another worker copied. It is read from front to back: blocks
/// that were read are released.
#[derive(Debug)]
pub struct Copied {
    rest: Chain,
    /// Bytes of the value before `rest`.
    discarded: usize,
    /// Position up to which the value was read.
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

/// Bytes reserved in a worker's budget for values; released when dropped.
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
/// has such a rest and does not use it loses it, and its value, when another needs it: soon where
/// it is of the half for recent values, elsewhere not before a lost segment was sent again.
#[derive(Debug)]
pub(super) struct Budget {
    fetched: Rc<Cell<usize>>,
    fetched_max: usize,
    shared: usize,
    shared_max: usize,
    /// Used by all values, and by those that began recently.
    rests: [usize; 2],
    /// The maximum of each.
    rests_max: usize,
    /// Who has a rest, each in the place that its [`Rest`] names.
    holders: Vec<Option<Holder>>,
    free_places: Vec<u32>,
    /// Up to when nobody can have paused for long enough to lose a rest, for all and for new
    /// values.
    quiet_until_us: [u64; 2],
    /// The connection that must return its rest.
    revoked: Option<ConnectionId>,
}

/// Who has a rest.
#[derive(Debug)]
struct Holder {
    rest: Rest,
    /// The time up to which its value has made progress.
    progress_us: u64,
    /// All of its value is here, and only what ends it is not.
    is_whole: bool,
}

/// For how long the sender of a value may pause before it can lose its rest: of the part for all
/// values, and of that for new ones.
const PAUSES_US: [u64; 2] = [REST_PAUSE_US, REST_NEW_PAUSE_US];

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
            free_places: Vec::with_capacity(RESTS_KEPT),
            quiet_until_us: [u64::MAX; 2],
            revoked: None,
        }
    }

    /// Reserves room for the next piece of a lent value with `left` bytes left; returns the piece's
    /// length. A piece that is no longer than what any reply may hold needs none.
    pub fn fetch(&self, left: usize) -> usize {
        let free = self.fetched_max.saturating_sub(self.fetched.get());
        let bytes = left.min(REMOTE_COPY_BYTES_MAX.max(free / FETCH_SHARE));
        self.fetched.set(self.fetched.get() + bytes);
        bytes
    }

    /// Releases the reservation of [`Budget::fetch`] when dropped.
    pub fn guard(&self, bytes: usize) -> Reserved {
        Reserved { bytes, taken: Rc::clone(&self.fetched) }
    }

    /// Extends the share of connection `id` to the first `bytes` bytes of a value of `value_bytes`,
    /// from the reserve for rests unless `is_shared`; false if there is no room.
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
            let used = self.rests[usize::from(is_for_new)];
            // The longest item may exceed the reserve for rests; alone it may.
            let fits = used == 0 || used + rest_bytes <= self.rests_max;
            if fits && (!is_for_new || is_new(share, now)) {
                share.rest = Some(self.hold(id, rest_bytes, is_for_new, now));
                return true;
            }
        }
        false
    }

    /// Reserves a rest.
    fn hold(&mut self, id: ConnectionId, bytes: usize, is_for_new: bool, now: Now) -> Rest {
        let place = self.free_places.pop().unwrap_or_else(|| {
            self.holders.push(None);
            self.holders.len() as u32 - 1
        });
        let rest = Rest { id, bytes, is_for_new, place };
        let holder = Holder { rest, progress_us: now.uptime_us, is_whole: false };
        self.holders[place as usize] = Some(holder);
        let part = usize::from(is_for_new);
        self.rests[part] += bytes;
        let until_us = now.uptime_us + PAUSES_US[part];
        self.quiet_until_us[part] = self.quiet_until_us[part].min(until_us);
        rest
    }

    /// The value that this rest belongs to made progress, and is all here if `is_whole`.
    pub fn note_progress(&mut self, rest: Rest, progress_us: u64, is_whole: bool, now: Now) {
        self.holders[rest.place as usize] = Some(Holder { rest, progress_us, is_whole });
        if now.uptime_us < progress_us + PAUSES_US[usize::from(rest.is_for_new)] {
            self.revoked.take_if(|id| *id == rest.id);
        }
    }

    /// Chooses the connection that has to return its rest because there is none for `share`: the
    /// one that has not used it for the longest time, if that is long enough, and of those whose
    /// value is whole only one where there is no other. One at a time. As long as nobody can have
    /// paused, asking costs nothing, however many ask.
    pub fn revoke(&mut self, share: &Share, now: Now) -> Option<ConnectionId> {
        let parts = if is_new(share, now) { 2 } else { 1 };
        let is_due = self.quiet_until_us[..parts].iter().any(|&until_us| until_us <= now.uptime_us);
        if self.revoked.is_some() || !is_due {
            return None;
        }
        self.quiet_until_us = [u64::MAX; 2];
        let mut chosen = None;
        for &Holder { rest, progress_us, is_whole } in self.holders.iter().flatten() {
            let part = usize::from(rest.is_for_new);
            let until_us = progress_us + PAUSES_US[part];
            self.quiet_until_us[part] = self.quiet_until_us[part].min(until_us);
            let rank = (is_whole, progress_us);
            let is_first = chosen.is_none_or(|(best, _)| rank < best);
            if part < parts && until_us <= now.uptime_us && is_first {
                chosen = Some((rank, rest.id));
            }
        }
        self.revoked = chosen.map(|(_, id)| id);
        self.revoked
    }

    /// Whether connection `id` must return its rest.
    pub fn is_revoked(&self, id: ConnectionId) -> bool {
        self.revoked == Some(id)
    }

    /// Like [`Budget::grow`], but not from the reserve for rests.
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

    /// Like [`Budget::grow`], for bytes that have not arrived yet: only while half of the room is
    /// free.
    pub fn grow_ahead(&mut self, share: &mut Share, bytes: usize, value_bytes: usize) -> bool {
        let more = bytes.saturating_sub(share.shared);
        self.shared + more <= self.shared_max / 2 && self.grow_shared(share, bytes, value_bytes)
    }

    /// Releases the reservations of [`Budget::grow`].
    pub fn give(&mut self, share: Share) {
        self.shared -= share.shared;
        let Some(rest) = share.rest else { return };
        self.rests[usize::from(rest.is_for_new)] -= rest.bytes;
        self.holders[rest.place as usize] = None;
        self.free_places.push(rest.place);
        self.revoked.take_if(|id| *id == rest.id);
    }
}

/// Whether the value that a share is for began recently.
fn is_new(share: &Share, now: Now) -> bool {
    now.uptime_us.saturating_sub(share.began_us) < REST_NEW_US
}

/// Initial capacity for rests; more, of short values, call the allocator once.
const RESTS_KEPT: usize = 1024;

/// Loans to return to their owners: (owner, loan).
pub(super) type Returns = Rc<RefCell<Vec<(u8, u32)>>>;

/// A value that its owner holds for us, and the fetched piece. Dropping it returns the loan.
#[derive(Debug)]
pub struct Lent {
    owner: u8,
    /// None after it was taken, or the owner has sent everything.
    loan: Option<u32>,
    bytes: usize,
    piece: RefCell<Copied>,
    /// The piece's part of the budget.
    _reserved: Reserved,
    returns: Returns,
}

impl Lent {
    /// The value of `bytes` bytes that `owner` lends as `loan`, with its first `piece`.
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

    /// The owner and its number for the loan, for which the caller is responsible from now on; the
    /// start of the next piece; and how many bytes are left from there.
    pub(super) fn take(mut self) -> (u8, u32, usize, usize) {
        let loan = self.loan.take().expect("the loan is not taken");
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

    /// Holds a hit; returns its number.
    pub fn lend(&mut self, hit: Hit<V>, now: Now) -> u32 {
        hit.value.note_progress(now);
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
    /// `offset` on. The last piece ends the loan, and so does the loss of the
    /// value.
    pub fn piece(&mut self, loan: u32, offset: usize, bytes: usize, now: Now) -> Hit<Carried> {
        let hit = self.hits[loan as usize].as_ref().expect("lent");
        let &Hit { flags, expiry, cas, state, ref value } = hit;
        if value.is_lost() {
            let value = Carried::Lost { bytes: value.len(), requested_bytes: bytes };
            drop(self.end(loan));
            return Hit { flags, expiry, cas, state, value };
        }
        value.note_progress(now);
        let mut piece = Gather::new();
        piece.fill(bytes, |at, out| value.copy_to(offset + at, out));
        let length = value.len();
        let is_last = offset + bytes == length;
        if is_last {
            drop(self.end(loan));
        }
        let loan = (!is_last).then_some(loan);
        let value = Carried::Lent { loan, bytes: length, offset, piece: piece.finish() };
        Hit { flags, expiry, cas, state, value }
    }

    /// The hit of a loan, which ends.
    pub fn end(&mut self, loan: u32) -> Hit<V> {
        self.free.push(loan);
        self.hits[loan as usize].take().expect("a loan ends once")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1_000_000;

    fn at(uptime_us: u64) -> Now {
        Now { uptime_us, ..Now::default() }
    }

    /// Asks for the rest of a value of a megabyte that began at `began_us`.
    fn rest_for(budget: &mut Budget, index: u32, began_us: u64, now: Now) -> Option<Share> {
        let mut share = Share { began_us, ..Share::default() };
        let id = ConnectionId { index, generation: 0 };
        budget.grow(id, &mut share, (MB, MB), false, now).then_some(share)
    }

    /// A budget whose rests are all taken at `now`: four of the part for all values by connections
    /// 0 to 3, four of that for new ones by 4 to 7.
    fn taken(now: Now) -> (Budget, Vec<Share>) {
        let mut budget = Budget::new(64 << 20);
        let shares = (0..8).map(|n| rest_for(&mut budget, n, now.uptime_us, now).expect("room"));
        let shares: Vec<Share> = shares.collect();
        let of_new = shares.iter().map(|share| share.rest.expect("a rest").is_for_new);
        assert!(of_new.eq([false, false, false, false, true, true, true, true]));
        assert!(rest_for(&mut budget, 8, now.uptime_us, now).is_none());
        (budget, shares)
    }

    fn revoked_by(budget: &mut Budget, began_us: u64, now: Now) -> Option<u32> {
        let share = Share { began_us, ..Share::default() };
        budget.revoke(&share, now).map(|id| id.index)
    }

    #[test]
    fn a_rest_is_lost_by_a_pause_and_one_for_new_values_by_a_short_one() {
        let now = at(10_000_000);
        let (mut budget, shares) = taken(now);
        // Each but the last of its part is sent a little of later on.
        for (n, share) in shares.iter().enumerate().filter(|(n, _)| n % 4 != 3) {
            let progress_us = now.uptime_us + 1 + n as u64;
            budget.note_progress(share.rest.unwrap(), progress_us, false, at(progress_us));
        }
        let old_us = 1;
        for (after_us, by_new, by_old) in [
            (REST_NEW_PAUSE_US - 1, None, None),
            (REST_NEW_PAUSE_US, Some(7), None),
            (REST_PAUSE_US - 1, Some(7), None),
            (REST_PAUSE_US, Some(3), Some(3)),
        ] {
            let later = at(now.uptime_us + after_us);
            assert_eq!(revoked_by(&mut budget, old_us, later), by_old, "{after_us}");
            let by_new = by_new.filter(|_| by_old.is_none());
            assert_eq!(revoked_by(&mut budget, later.uptime_us, later), by_new, "{after_us}");
            // Its sender goes on, and was as late as before when it is asked next.
            for n in [3, 7] {
                let rest = shares[n].rest.unwrap();
                budget.note_progress(rest, later.uptime_us, false, later);
                budget.note_progress(rest, now.uptime_us, false, now);
            }
        }
        // What is given back is what another gets.
        let late = at(now.uptime_us + 900_000);
        for share in shares {
            budget.give(share);
        }
        assert!(rest_for(&mut budget, 8, late.uptime_us, late).is_some());
        assert_eq!(revoked_by(&mut budget, late.uptime_us, late), None);
    }

    #[test]
    fn what_is_given_back_is_there_again() {
        let mut now = at(10_000_000);
        let mut budget = Budget::new(64 << 20);
        let mut taken_first = None;
        for round in 0..5 {
            let mut shares = Vec::new();
            for index in 0..200 {
                let mut share = Share { began_us: now.uptime_us, ..Share::default() };
                let id = ConnectionId { index, generation: 0 };
                let mut bytes = 0;
                while bytes < MB && budget.grow(id, &mut share, (bytes + MB / 8, MB), true, now) {
                    bytes += MB / 8;
                }
                shares.push((id, share));
            }
            let taken = shares.iter().map(|(_, share)| {
                (share.shared, share.rest.map(|rest| (rest.bytes, rest.is_for_new)))
            });
            let taken: Vec<_> = taken.collect();
            assert!(taken.iter().filter(|(_, rest)| rest.is_some()).count() >= 8);
            let first = taken_first.get_or_insert_with(|| taken.clone());
            assert!(*first == taken, "round {round} finds as much as the first");
            assert!(budget.holders.len() <= 200, "places are used again");
            // Who has to go is gone: others that hold something are not asked for more because of
            // it, and the next one is chosen when there is need.
            now.uptime_us += REST_PAUSE_US;
            let revoked = revoked_by(&mut budget, now.uptime_us, now).expect("all have paused");
            let at = shares.iter().position(|(id, _)| id.index == revoked).expect("it has one");
            let (id, share) = shares.swap_remove(at);
            assert!(budget.is_revoked(id));
            budget.give(share);
            assert!(!budget.is_revoked(id));
            let next = revoked_by(&mut budget, now.uptime_us, now);
            assert!(next.is_some_and(|next| next != revoked));
            shares.into_iter().for_each(|(_, share)| budget.give(share));
            assert_eq!((budget.shared, budget.rests), (0, [0; 2]));
            assert_eq!(budget.revoked, None);
            assert_eq!(budget.holders.len(), budget.free_places.len());
            now.uptime_us += 10_000_000;
        }
    }

    #[test]
    fn a_value_that_is_whole_is_given_up_last() {
        let now = at(10_000_000);
        let (mut budget, shares) = taken(now);
        for share in &shares[..6] {
            budget.note_progress(share.rest.unwrap(), now.uptime_us, true, now);
        }
        let progress_us = now.uptime_us + 5;
        budget.note_progress(shares[6].rest.unwrap(), progress_us, false, at(progress_us));
        let late = at(now.uptime_us + REST_PAUSE_US + 5);
        for (nth, expected) in [7, 6].into_iter().enumerate() {
            assert_eq!(revoked_by(&mut budget, late.uptime_us, late), Some(expected));
            assert_eq!(revoked_by(&mut budget, late.uptime_us, late), None, "one at a time");
            let share = Share { rest: shares[7 - nth].rest, ..Share::default() };
            budget.give(share);
        }
        assert!(revoked_by(&mut budget, late.uptime_us, late).is_some_and(|index| index < 6));
    }
}
