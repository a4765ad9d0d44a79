//! Information that one worker receives and that concerns the flows of all: locations of
//! neighbours, narrow paths, link-up events, the device's MTU.
//!
//! ARP, neighbour discovery and ICMP errors arrive at one worker, whichever worker has the flow.
//! Nothing here waits: information that finds a table locked is dropped, and arrives again with the
//! next retransmission. The tables are bounded, and a remote host cannot choose its entry in them.

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
    /// Incremented with each new item.
    news: AtomicU64,
    readers: AtomicUsize,
    /// 0 while unknown.
    mtu_bytes: AtomicUsize,
    link_ups: AtomicU64,
    reports: Mutex<Reports>,
    neighbors: Mutex<Neighbors>,
}

/// The newest reports of narrow paths, in a ring.
struct Reports {
    ring: [Option<TooBig>; TCP_BOARD_REPORTS],
    next: u64,
}

/// The MAC of an address on this network.
#[derive(Clone, Copy, Debug)]
struct Known {
    address: IpAddr,
    mac: Option<[u8; 6]>,
    noted_us: u64,
    /// When it was last requested, if it was.
    asked_us: Option<u64>,
}

/// The last address seen with a MAC.
#[derive(Clone, Copy)]
struct Spoke {
    mac: [u8; 6],
    address: IpAddr,
}

/// Both tables are direct-mapped: a new entry replaces an older one in its place.
struct Neighbors {
    secrets: RapidSecrets,
    by_address: Box<[Option<Known>]>,
    by_mac: Box<[Option<Spoke>]>,
}

/// Where an address is, or what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// At this MAC.
    At([u8; 6]),
    /// Send a request for it.
    Request,
    /// Nothing: it was requested a moment ago, or no request is allowed.
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

/// The table, unless another thread has locked it. A thread that panicked left it consistent.
fn at_once<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl Board {
    /// Reports that the device's link was down and is up again.
    pub fn link_came_up(&self) {
        self.link_ups.fetch_add(1, Relaxed);
        self.news.fetch_add(1, Relaxed);
    }

    /// Sets the longest IP packet that the device can send now.
    pub fn set_mtu(&self, bytes: usize) {
        if self.mtu_bytes.swap(bytes, Relaxed) != bytes {
            self.news.fetch_add(1, Relaxed);
        }
    }

    /// Adds a reader.
    fn subscribe(&self) {
        self.readers.fetch_add(1, Relaxed);
    }

    /// Changes when there is something new to read.
    #[inline(always)]
    fn news(&self) -> u64 {
        self.news.load(Relaxed)
    }

    /// How often the link came up.
    pub(super) fn link_ups(&self) -> u64 {
        self.link_ups.load(Relaxed)
    }

    /// The device's MTU, if it is known.
    pub(super) fn mtu_bytes(&self) -> Option<usize> {
        Some(self.mtu_bytes.load(Relaxed)).filter(|&bytes| bytes > 0)
    }

    /// Adds a report about a flow that is not the caller's own. Returns whether another stack may
    /// have the flow.
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

    /// Reports from number `seen` on, if not overwritten. Advances `seen`.
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

    /// Notes that `address` is at `mac`. Without `overrides` a known location is kept (RFC 4861,
    /// 7.2.5). Times here are uptimes of the process.
    pub(super) fn note(&self, address: IpAddr, mac: [u8; 6], overrides: bool, now_us: u64) {
        let Some(mut neighbors) = at_once(&self.neighbors) else { return };
        let (place, router) = (neighbors.place(address), neighbors.router_place(mac));
        let known = neighbors.by_address[place].filter(|known| known.address == address);
        let is_other = known.is_some_and(|known| known.mac.is_some_and(|old| old != mac));
        if is_other && !overrides {
            return;
        }
        let asked_us = known.and_then(|known| known.asked_us);
        let noted = Known { address, mac: Some(mac), noted_us: now_us, asked_us };
        neighbors.by_address[place] = Some(noted);
        neighbors.by_mac[router] = Some(Spoke { mac, address });
    }

    /// The location of `address`, if it was noted recently or since `since_us`; else, if `asks`,
    /// whether a request is due.
    pub(super) fn locate(
        &self,
        address: IpAddr,
        since_us: u64,
        asks: bool,
        now_us: u64,
    ) -> Location {
        let Some(neighbors) = at_once(&self.neighbors) else { return Location::Wait };
        let place = neighbors.place(address);
        let known = neighbors.by_address[place].filter(|known| known.address == address);
        if let Some(Known { mac: Some(mac), noted_us, .. }) = known
            && (noted_us >= since_us || now_us.saturating_sub(noted_us) < TCP_NEIGHBOR_FRESH_US)
        {
            return Location::At(mac);
        }
        let asked_us = known.and_then(|known| known.asked_us);
        if !asks || asked_us.is_some_and(|at| now_us.saturating_sub(at) < TCP_NEIGHBOR_RETRY_US) {
            return Location::Wait;
        }
        Location::Request
    }

    /// A request for `address` was sent. One that was not, for lack of credit or of a frame, must
    /// not keep others from being sent.
    pub(super) fn note_asked(&self, address: IpAddr, now_us: u64) {
        let Some(mut neighbors) = at_once(&self.neighbors) else { return };
        let place = neighbors.place(address);
        let known = neighbors.by_address[place].filter(|known| known.address == address);
        let (mac, noted_us) = known.map_or((None, 0), |known| (known.mac, known.noted_us));
        let asked_us = Some(now_us);
        neighbors.by_address[place] = Some(Known { address, mac, noted_us, asked_us });
    }

    /// An address of the same family as `like` that was seen with `mac`: a router's own.
    pub(super) fn address_of(&self, mac: [u8; 6], like: IpAddr) -> Option<IpAddr> {
        let neighbors = at_once(&self.neighbors)?;
        let Spoke { mac: known, address } = neighbors.by_mac[neighbors.router_place(mac)]?;
        (known == mac && address.is_ipv4() == like.is_ipv4()).then_some(address)
    }
}

/// The board as one stack sees it: its read position, its credit for reports, and its clock.
pub(super) struct Notices {
    board: Arc<Board>,
    news_seen: u64,
    reports_seen: u64,
    /// Reports of narrow paths that may still be processed in the interval that began at
    /// `credit_since_us`. Nothing is ever sent for one, so that nobody can observe who used it.
    report_credit: u32,
    credit_since_us: u64,
    /// See [`crate::net::Transport::leave_out`].
    left_out_us: u64,
}

impl Notices {
    /// Adds a reader to `board`.
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

    /// The board.
    #[inline]
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Refills the credit for reports, once per interval.
    #[inline]
    pub fn refill(&mut self, now_us: u64) {
        if now_us - self.credit_since_us >= TCP_STRAY_INTERVAL_US {
            self.credit_since_us = now_us;
            self.report_credit = TCP_PATH_REPORTS_MAX;
        }
    }

    /// Whether there is something new to read.
    #[inline(always)]
    pub fn has_news(&self) -> bool {
        self.board.news() != self.news_seen
    }

    /// The reports since the last call.
    pub fn read(&mut self) -> impl Iterator<Item = TooBig> + use<> {
        self.news_seen = self.board.news();
        self.board.reports(&mut self.reports_seen)
    }

    /// Adds a report about a flow that is not the reader's own, while there is credit. Returns
    /// whether another stack may have the flow.
    pub fn post(&mut self, report: TooBig) -> bool {
        let is_posted = self.report_credit > 0 && self.board.post(report);
        self.report_credit -= u32::from(is_posted);
        is_posted
    }

    /// From now on this stack's time is `us` further behind that of the process.
    pub fn leave_out(&mut self, us: u64) {
        self.left_out_us = us;
    }

    /// Converts `us` of this stack to an uptime of the process, which all stacks share.
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
