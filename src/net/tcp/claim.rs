//! Having an address of our own on a network: asked for before it is used (RFC 5227, 2.1; RFC 4862,
//! 5.4), announced, defended, and its groups reported to switches (RFC 3810).
//!
//! Nothing that is heard here is ever answered at more than a fixed rate.

use std::net::IpAddr;

use arrayvec::ArrayVec;

use super::device::{Frame, Port};
use super::ether::{self, Heard};
use super::groups::{self, Query};
use super::segment::{Own, Packet, parse, without_tag};
use super::stack::Stack;
use crate::clock::Now;
use crate::limits::{
    BURST_FRAMES, TCP_ANNOUNCE_US, TCP_DEFEND_US, TCP_GROUP_REPORT_US, TCP_GROUP_REPORTS_US,
    TCP_PROBE_US, TCP_PROBES,
};
use crate::report::Topic;
use crate::stats::Counter;

/// An address of ours that another host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The address.
    pub address: IpAddr,
    /// Who has it, or asked for it at the same time.
    pub mac: [u8; 6],
}

/// What is due for our addresses, and when.
#[derive(Debug)]
pub(super) struct Claim {
    probes: u32,
    /// When the next probe is due, or the wait for answers is over.
    probe_us: u64,
    /// Announced again then.
    announce_us: u64,
    /// Groups are reported then, to whom.
    report: Option<(u64, Query)>,
    /// When queries may be answered again.
    report_us: u64,
    defended_us: Option<u64>,
    link_ups: u64,
}

impl Default for Claim {
    fn default() -> Claim {
        Claim {
            probes: 0,
            probe_us: 0,
            announce_us: u64::MAX,
            report: None,
            report_us: 0,
            defended_us: None,
            link_ups: 0,
        }
    }
}

static CONFLICT: Topic = Topic::new();

impl<P: Port, C> Stack<P, C> {
    /// One step of finding out whether anybody has our addresses, to be taken again and again
    /// before the first turn; `asks` unless another stack of the device does. Returns whether
    /// nobody has, and it is over. What arrives meanwhile for anybody else is dropped.
    ///
    /// # Errors
    /// [`Taken`], if somebody has one.
    pub fn claim(&mut self, asks: bool, now: Now) -> Result<bool, Taken> {
        let mut burst = ArrayVec::<P::Frame, BURST_FRAMES>::new();
        self.wire.port.receive(&mut burst);
        for mut frame in burst {
            without_tag(&mut frame);
            let packet = parse(frame.bytes(), frame.rx_checksum(), &self.own);
            let rival = match packet {
                Ok(Packet::Arp) => ether::arp_rival(&self.own, frame.bytes()),
                Ok(Packet::Icmpv6(bytes)) => ether::nd_rival(&self.own, frame.bytes(), bytes),
                _ => None,
            };
            if let Some((address, mac)) = rival {
                return Err(Taken { address, mac });
            }
        }
        if now.uptime_us < self.claim.probe_us {
            return Ok(false);
        }
        if self.claim.probes == TCP_PROBES {
            return Ok(true);
        }
        self.claim.probe_us = now.uptime_us + TCP_PROBE_US;
        self.claim.probes += 1;
        if asks {
            if self.claim.probes == 1 {
                groups::report(&mut self.wire, &self.own, Query::JOINED);
            }
            ether::probe(&mut self.wire, &self.own);
        }
        Ok(false)
    }

    /// Tells the neighbours and switches of our addresses.
    pub(super) fn announce(&mut self) {
        groups::report(&mut self.wire, &self.own, Query::JOINED);
        ether::announce(&mut self.wire, &self.own);
    }

    /// Whether the link came up since this was asked last: the other end may be another switch.
    pub(super) fn meet_link(&mut self, link_ups: u64, now: Now) {
        if self.claim.link_ups != link_ups {
            self.claim.link_ups = link_ups;
            self.announce();
            self.claim_at(|claim| claim.announce_us = now.uptime_us + TCP_ANNOUNCE_US);
        }
    }

    /// Changes what is due, and looks when that is first.
    fn claim_at(&mut self, change: impl FnOnce(&mut Claim)) {
        change(&mut self.claim);
        let report_us = self.claim.report.map_or(u64::MAX, |(due_us, _)| due_us);
        self.claim_us = self.claim.announce_us.min(report_us);
    }

    /// Does what is due for our addresses.
    #[cold]
    pub(super) fn keep_claim(&mut self, now: Now) {
        if self.claim.announce_us <= now.uptime_us {
            self.announce();
            self.claim_at(|claim| claim.announce_us = u64::MAX);
        }
        if let Some((due_us, query)) = self.claim.report
            && due_us <= now.uptime_us
        {
            groups::report(&mut self.wire, &self.own, query);
            self.claim.report_us = now.uptime_us + TCP_GROUP_REPORTS_US;
            self.claim_at(|claim| claim.report = None);
        }
    }

    /// A router or switch asks which groups we are in. Many questions in a short time get one
    /// answer, whatever delay they allow: whoever is on the link can ask.
    pub(super) fn meet_query(&mut self, query: Query, now: Now) {
        let due_us = now.uptime_us + query.delay_us().min(TCP_GROUP_REPORT_US);
        let due_us = due_us.max(self.claim.report_us);
        let (due_us, query) = match self.claim.report {
            None => (due_us, query),
            Some((before_us, before)) => (before_us.min(due_us), before.with(query)),
        };
        self.claim_at(|claim| claim.report = Some((due_us, query)));
    }

    /// Somebody else uses `address`, which is ours: said here, and on the wire (RFC 5227, 2.4).
    #[cold]
    pub(super) fn defend(&mut self, Taken { address, mac }: Taken, now: Now) {
        self.wire.stats.add(Counter::AddressConflicts, 1);
        CONFLICT.report(now, || {
            format!(
                "{address} is also used by {}: clients of both lose connections; give one of them \
                 another address",
                mac_text(mac)
            )
        });
        let is_due = self.claim.defended_us.is_none_or(|at| now.uptime_us - at >= TCP_DEFEND_US);
        if is_due {
            self.claim.defended_us = Some(now.uptime_us);
            ether::announce(&mut self.wire, &only(&self.own, address));
        }
    }

    /// What was heard of neighbours and routers goes where it belongs.
    pub(super) fn meet_report(&mut self, heard: &Heard, now: Now) {
        match *heard {
            Heard::Nothing | Heard::At { .. } => (),
            Heard::Rival(taken) => self.defend(taken, now),
            Heard::Query(query) => self.meet_query(query, now),
            Heard::TooBig(report) => {
                if self.meet_too_big(&report, now) {
                    return;
                }
                // Of another worker's flow, or of none: of those everybody can send any number,
                // and they must not stand in the way of the others.
                if self.report_credit == 0 || !self.board.post(report) {
                    return self.dropped(Counter::FramesNotForUs);
                }
                self.report_credit -= 1;
            }
        }
    }
}

/// `own` with one of its addresses.
fn only(own: &Own, address: IpAddr) -> Own {
    let mut one = own.clone();
    one.v4.retain(|&mut (own, _)| IpAddr::V4(own.into()) == address);
    one.v6.retain(|&mut (own, _)| IpAddr::V6(own.into()) == address);
    one
}

/// A MAC as it is written.
pub fn mac_text([a, b, c, d, e, f]: [u8; 6]) -> String {
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}
