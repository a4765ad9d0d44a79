//! Where the bytes of a hit are while its reply waits to leave, and what that may take.
//!
//! A worker's own hits stay in its tier. Another worker's hit is copied if it is short. A long one
//! stays with its owner, lent, until its reply is the connection's next and the budget for values
//! has room for it: so a client that asks for much and reads nothing takes no memory but its slots.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::buffer::Chain;
use crate::connection::Share;
use crate::connection::slots::{BODY_WEIGHT_SHARE, may_add};
use crate::limits::BLOCK_BYTES;
use crate::tier::{Hit, Take, Value};

/// The bytes of a hit.
#[derive(Debug)]
pub enum Held<V> {
    /// Kept by this worker's tier.
    Local(V),
    /// Copied by their owner.
    Remote(RefCell<Copied>),
    /// Kept by their owner's tier until they are fetched.
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
            Held::Lent(_) => unreachable!("what is lent is fetched before it is written"),
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

/// A value that another worker copied. It is read front to back: what was read is given back.
#[derive(Debug)]
pub struct Copied {
    rest: Chain,
    /// Bytes before `rest`.
    discarded: usize,
    /// Its share of the budget, if it was fetched.
    _reserved: Option<Reserved>,
}

impl Copied {
    #[inline(never)]
    fn copy_to(&mut self, offset: usize, out: &mut [u8]) -> usize {
        self.discarded += self.rest.discard_before(offset - self.discarded);
        self.rest.copy_to(offset - self.discarded, out)
    }

    pub(super) fn new(rest: Chain, reserved: Option<Reserved>) -> RefCell<Copied> {
        RefCell::new(Copied { rest, discarded: 0, _reserved: reserved })
    }
}

/// Bytes set aside of a worker's budget for values; given back when dropped.
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
/// free. So several may each have a part of their value and none enough for all of it: for that
/// there is room for the rest of some, set aside as a whole.
#[derive(Debug)]
pub(super) struct Budget {
    fetched: Rc<Cell<usize>>,
    fetched_max: usize,
    shared: usize,
    shared_max: usize,
    rests: usize,
    rests_max: usize,
}

impl Budget {
    pub fn new(bytes_max: usize) -> Budget {
        Budget {
            fetched: Rc::default(),
            fetched_max: bytes_max / 2,
            shared: 0,
            shared_max: bytes_max / 8 * 3,
            rests: 0,
            rests_max: bytes_max / 8,
        }
    }

    /// Sets `bytes` aside for a value that is fetched; false if there is no room for them.
    pub fn fetch(&self, bytes: usize) -> bool {
        let fits = self.fetched.get() + bytes <= self.fetched_max;
        if fits {
            self.fetched.set(self.fetched.get() + bytes);
        }
        fits
    }

    /// What [`Budget::fetch`] set aside, from here on given back by dropping it.
    pub fn guard(&self, bytes: usize) -> Reserved {
        Reserved { bytes, taken: Rc::clone(&self.fetched) }
    }

    /// Makes `share` do for the first `bytes` bytes of a value of `value_bytes`; false if there is
    /// no room for them.
    pub fn grow(&mut self, share: &mut Share, bytes: usize, value_bytes: usize) -> bool {
        if self.grow_shared(share, bytes, value_bytes) {
            return true;
        }
        let rest = value_bytes - share.shared;
        // The longest item is longer than what is kept for rests; alone it may be.
        let fits = self.rests == 0 || self.rests + rest <= self.rests_max;
        if fits {
            self.rests += rest;
            share.rest = rest;
        }
        fits
    }

    /// As [`Budget::grow`], but not of what is kept for the rests of values.
    fn grow_shared(&mut self, share: &mut Share, bytes: usize, value_bytes: usize) -> bool {
        if bytes <= share.shared || share.rest > 0 {
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

    /// Gives back what [`Budget::grow`] set aside.
    pub fn give(&mut self, share: Share) {
        self.shared -= share.shared;
        self.rests -= share.rest;
    }
}

/// Loans that are to be returned to their owners: (owner, loan).
pub(super) type Returns = Rc<RefCell<Vec<(u8, u32)>>>;

/// A value that its owner keeps for us. Dropping it returns it.
#[derive(Debug)]
pub struct Lent {
    owner: u8,
    /// None once it was taken.
    loan: Option<u32>,
    bytes: usize,
    returns: Returns,
}

impl Lent {
    pub(super) fn new(owner: u8, loan: u32, bytes: usize, returns: &Returns) -> Lent {
        Lent { owner, loan: Some(loan), bytes, returns: Rc::clone(returns) }
    }

    /// Its length, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The owner and its name for the loan, which the caller sees to from here on.
    pub(super) fn take(mut self) -> (u8, u32) {
        (self.owner, self.loan.take().expect("taken once, by value"))
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

impl<V> Loans<V> {
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

    /// The hit of a loan, which ends.
    pub fn end(&mut self, loan: u32) -> Hit<V> {
        self.free.push(loan);
        self.hits[loan as usize].take().expect("a loan ends once")
    }
}
