//! What one worker hears that concerns the flows of all: where neighbours are, which paths are
//! narrow, that the link came up, the device's MTU.
//!
//! ARP, neighbour discovery and ICMP errors arrive at one worker, whoever's flow they are about.
//! Nobody ever waits here: what finds a table in use is left out, and comes again with the next
//! retransmission. What is remembered is bounded, and a stranger cannot choose its place.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

use super::too_big::TooBig;
use crate::base::limits::{
    TCP_BOARD_REPORTS, TCP_NEIGHBOR_FRESH_US, TCP_NEIGHBOR_RETRY_US, TCP_NEIGHBORS_KNOWN,
    TCP_PATH_REPORTS_MAX, TCP_ROUTERS_KNOWN, TCP_STRAY_INTERVAL_US,
};
use crate::base::secret;

/// Shared by the stacks of one device.
pub struct Board {
    /// Grows with whatever is put up for all to read.
    news: AtomicU64,
    readers: AtomicUsize,
    /// 0 until somebody says.
    mtu_bytes: AtomicUsize,
    link_ups: AtomicU64,
    reports: Mutex<Reports>,
    neighbors: Mutex<Neighbors>,
}

/// The newest reports of narrow paths, each until it is overwritten.
struct Reports {
    ring: [Option<TooBig>; TCP_BOARD_REPORTS],
    next: u64,
}

/// Where an address is on this network, as far as it was heard.
#[derive(Clone, Copy, Debug)]
struct Known {
    address: IpAddr,
    mac: Option<[u8; 6]>,
    told_us: u64,
    /// When it was asked for last, if it was.
    asked_us: Option<u64>,
}

/// Who spoke from a MAC last.
#[derive(Clone, Copy)]
struct Spoke {
    mac: [u8; 6],
    address: IpAddr,
}

/// Both tables are direct-mapped: what falls into a place that is taken drives the older out.
struct Neighbors {
    secrets: RapidSecrets,
    by_address: Box<[Option<Known>]>,
    by_mac: Box<[Option<Spoke>]>,
}

/// What is to be done about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// It was heard of there.
    At([u8; 6]),
    /// Ask for it.
    Ask,
    /// Nothing: it was asked for a moment ago, or is not to be.
    Wait,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("news", &self.news).finish_non_exhaustive()
    }
}

impl Default for Board {
    fn default() -> Board {
        let secrets = RapidSecrets::seed(u64::from_ne_bytes(secret::random()));
        Board {
            news: AtomicU64::new(0),
            readers: AtomicUsize::new(0),
            mtu_bytes: AtomicUsize::new(0),
            link_ups: AtomicU64::new(0),
            reports: Mutex::new(Reports { ring: [None; TCP_BOARD_REPORTS], next: 0 }),
            neighbors: Mutex::new(Neighbors {
                secrets,
                by_address: vec![None; TCP_NEIGHBORS_KNOWN].into(),
                by_mac: vec![None; TCP_ROUTERS_KNOWN].into(),
            }),
        }
    }
}

/// The table, unless somebody else is at it. One who panicked left it whole.
fn at_once<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl Board {
    /// The device's link was down and is up.
    pub fn link_came_up(&self) {
        self.link_ups.fetch_add(1, Relaxed);
        self.news.fetch_add(1, Relaxed);
    }

    /// The longest IP packet that the device sends is now `bytes`.
    pub fn set_mtu(&self, bytes: usize) {
        if self.mtu_bytes.swap(bytes, Relaxed) != bytes {
            self.news.fetch_add(1, Relaxed);
        }
    }

    /// One more stack reads this.
    fn subscribe(&self) {
        self.readers.fetch_add(1, Relaxed);
    }

    /// Changes when there is something to read.
    #[inline(always)]
    fn news(&self) -> u64 {
        self.news.load(Relaxed)
    }

    /// How often the link came up.
    pub(super) fn link_ups(&self) -> u64 {
        self.link_ups.load(Relaxed)
    }

    /// The device's MTU, if anybody said.
    pub(super) fn mtu_bytes(&self) -> Option<usize> {
        Some(self.mtu_bytes.load(Relaxed)).filter(|&bytes| bytes > 0)
    }

    /// Puts up a report about a flow that is not the reader's own. Returns whether another stack
    /// may have it.
    fn post(&self, report: TooBig) -> bool {
        if self.readers.load(Relaxed) < 2 {
            return false;
        }
        if let Some(mut reports) = at_once(&self.reports) {
            let place = (reports.next % TCP_BOARD_REPORTS as u64) as usize;
            reports.ring[place] = Some(report);
            reports.next += 1;
            drop(reports);
            self.news.fetch_add(1, Relaxed);
        }
        true
    }

    /// Reports number `seen` and up, as far as they are still there. Advances `seen`.
    fn reports(&self, seen: &mut u64) -> impl Iterator<Item = TooBig> + use<> {
        let mut found = [None; TCP_BOARD_REPORTS];
        if let Some(reports) = at_once(&self.reports) {
            let first = (*seen).max(reports.next.saturating_sub(TCP_BOARD_REPORTS as u64));
            for (number, found) in (first..reports.next).zip(&mut found) {
                *found = reports.ring[(number % TCP_BOARD_REPORTS as u64) as usize];
            }
            *seen = reports.next;
        }
        found.into_iter().flatten()
    }

    /// Somebody says that `address` is at `mac`. One who does not override what is known (RFC 4861,
    /// 7.2.5) only tells what is not. Times here are uptimes of the process.
    pub(super) fn tell(&self, address: IpAddr, mac: [u8; 6], overrides: bool, now_us: u64) {
        let Some(mut neighbors) = at_once(&self.neighbors) else { return };
        let (place, router) = (neighbors.place(address), neighbors.router_place(mac));
        let known = neighbors.by_address[place].filter(|known| known.address == address);
        let is_other = known.is_some_and(|known| known.mac.is_some_and(|old| old != mac));
        if is_other && !overrides {
            return;
        }
        let asked_us = known.and_then(|known| known.asked_us);
        let told = Known { address, mac: Some(mac), told_us: now_us, asked_us };
        neighbors.by_address[place] = Some(told);
        neighbors.by_mac[router] = Some(Spoke { mac, address });
    }

    /// Where `address` is, if that was told a moment ago or since `since_us`; else, if `asks`,
    /// whether it is time to ask, which counts as asked then.
    pub(super) fn whereabouts(
        &self,
        address: IpAddr,
        since_us: u64,
        asks: bool,
        now_us: u64,
    ) -> Whereabouts {
        let Some(mut neighbors) = at_once(&self.neighbors) else { return Whereabouts::Wait };
        let place = neighbors.place(address);
        let known = neighbors.by_address[place].filter(|known| known.address == address);
        if let Some(Known { mac: Some(mac), told_us, .. }) = known
            && (told_us >= since_us || now_us.saturating_sub(told_us) < TCP_NEIGHBOR_FRESH_US)
        {
            return Whereabouts::At(mac);
        }
        let asked_us = known.and_then(|known| known.asked_us);
        if !asks || asked_us.is_some_and(|at| now_us.saturating_sub(at) < TCP_NEIGHBOR_RETRY_US) {
            return Whereabouts::Wait;
        }
        let (mac, told_us) = known.map_or((None, 0), |known| (known.mac, known.told_us));
        let asked_us = Some(now_us);
        neighbors.by_address[place] = Some(Known { address, mac, told_us, asked_us });
        Whereabouts::Ask
    }

    /// An address of the same family as `like` that was heard of at `mac`: a router's own.
    pub(super) fn address_of(&self, mac: [u8; 6], like: IpAddr) -> Option<IpAddr> {
        let neighbors = at_once(&self.neighbors)?;
        let Spoke { mac: known, address } = neighbors.by_mac[neighbors.router_place(mac)]?;
        (known == mac && address.is_ipv4() == like.is_ipv4()).then_some(address)
    }
}

/// The board as one stack sees it: what it has read, what it may put up, and its time.
pub(super) struct Notices {
    board: Arc<Board>,
    news_seen: u64,
    reports_seen: u64,
    /// Reports of narrow paths that may still be looked at in the interval that began at
    /// `credit_since_us`. Nothing is ever sent for one, so that nobody learns who used it.
    report_credit: u32,
    credit_since_us: u64,
    /// See [`crate::net::Transport::leave_out`].
    left_out_us: u64,
}

impl Notices {
    /// One more stack reads `board`.
    pub fn new(board: &Arc<Board>, now_us: u64) -> Notices {
        board.subscribe();
        Notices {
            board: Arc::clone(board),
            news_seen: 0,
            reports_seen: 0,
            report_credit: TCP_PATH_REPORTS_MAX,
            credit_since_us: now_us,
            left_out_us: 0,
        }
    }

    /// Where the notices are.
    #[inline]
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Fills up the credit for reports, once an interval.
    #[inline]
    pub fn refill(&mut self, now_us: u64) {
        if now_us - self.credit_since_us >= TCP_STRAY_INTERVAL_US {
            self.credit_since_us = now_us;
            self.report_credit = TCP_PATH_REPORTS_MAX;
        }
    }

    /// Whether there is something to read.
    #[inline(always)]
    pub fn has_news(&self) -> bool {
        self.board.news() != self.news_seen
    }

    /// What was reported since this was called last.
    pub fn read(&mut self) -> impl Iterator<Item = TooBig> + use<> {
        self.news_seen = self.board.news();
        self.board.reports(&mut self.reports_seen)
    }

    /// Puts up a report about a flow that is not the reader's own, while there is credit. Returns
    /// whether another stack may have it.
    pub fn post(&mut self, report: TooBig) -> bool {
        let is_posted = self.report_credit > 0 && self.board.post(report);
        self.report_credit -= u32::from(is_posted);
        is_posted
    }

    /// From now on this stack's time is `us` behind that of the process.
    pub fn leave_out(&mut self, us: u64) {
        self.left_out_us = us;
    }

    /// `us` of this stack as an uptime of the process, which all stacks share.
    pub fn shared_us(&self, us: u64) -> u64 {
        us + self.left_out_us
    }
}

impl Neighbors {
    fn place(&self, address: IpAddr) -> usize {
        let hash = match address {
            IpAddr::V4(address) => self.hash(&address.octets()),
            IpAddr::V6(address) => self.hash(&address.octets()),
        };
        hash % self.by_address.len()
    }

    fn router_place(&self, mac: [u8; 6]) -> usize {
        self.hash(&mac) % self.by_mac.len()
    }

    fn hash(&self, bytes: &[u8]) -> usize {
        rapidhash_v3_seeded(bytes, &self.secrets) as usize
    }
}
