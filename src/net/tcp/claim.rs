//! The appliance's own addresses on a network: probed before use (RFC 5227, 2.1; RFC 4862, 5.4),
//! announced, defended, and their groups reported to switches (RFC 3810).
//!
//! All answers here are limited to a fixed rate.

use arrayvec::ArrayVec;

use super::device::{Frame, Port};
use super::ether;
use super::groups::{self, Query};
use super::own::{Own, Taken, mac_text};
use super::segment::{Packet, parse, without_tag};
use super::wire::Wire;
use crate::base::clock::Now;
use crate::base::limits::{
    BURST_FRAMES, TCP_ANNOUNCE_US, TCP_DEFEND_US, TCP_GROUP_REPORT_US, TCP_GROUP_REPORTS_US,
    TCP_PROBE_US, TCP_PROBES,
};
use crate::base::stats::Counter;
use crate::report::{Event, Topic};

/// Pending actions for our addresses, and their times.
#[derive(Debug)]
pub(super) struct Claim {
    probes: u32,
    /// Time of the next probe, or end of the wait for answers.
    probe_us: u64,
    /// Time of the next announcement.
    announce_us: u64,
    /// Time of the next group report, and the query that it answers.
    report: Option<(u64, Query)>,
    /// When queries may be answered again.
    report_us: u64,
    defended_us: Option<u64>,
    link_ups: u64,
    /// The earliest of these times.
    due_us: u64,
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
            due_us: u64::MAX,
        }
    }
}

static CONFLICT: Topic = Topic::new();

impl Claim {
    /// One step of checking whether another host uses our addresses. Returns whether the check is
    /// complete and none does.
    ///
    /// # Errors
    /// [`Taken`], if another host has one.
    pub fn step<P: Port>(
        &mut self,
        wire: &mut Wire<P>,
        own: &Own,
        asks: bool,
        now: Now,
    ) -> Result<bool, Taken> {
        let mut burst = ArrayVec::<P::Frame, BURST_FRAMES>::new();
        wire.port.receive(&mut burst);
        for mut frame in burst {
            without_tag(&mut frame);
            let packet = parse(frame.bytes(), frame.rx_checksum(), own);
            let rival = match packet {
                Ok(Packet::Arp) => ether::arp_rival(own, frame.bytes()),
                Ok(Packet::Icmpv6(bytes)) => ether::nd_rival(own, frame.bytes(), bytes),
                _ => None,
            };
            if let Some((address, mac)) = rival {
                return Err(Taken { address, mac });
            }
        }
        if now.uptime_us < self.probe_us {
            return Ok(false);
        }
        if self.probes == TCP_PROBES {
            return Ok(true);
        }
        self.probe_us = now.uptime_us + TCP_PROBE_US;
        self.probes += 1;
        if asks {
            if self.probes == 1 {
                groups::report(wire, own, Query::JOINED);
            }
            ether::probe(wire, own);
        }
        Ok(false)
    }

    /// Whether [`Claim::keep`] must be called.
    #[inline]
    pub fn is_due(&self, now: Now) -> bool {
        self.due_us <= now.uptime_us
    }

    /// Handles a link-up event since the last call: the other end may be another switch.
    pub fn meet_link<P: Port>(&mut self, wire: &mut Wire<P>, own: &Own, link_ups: u64, now: Now) {
        if self.link_ups != link_ups {
            self.link_ups = link_ups;
            announce(wire, own);
            self.change(|claim| claim.announce_us = now.uptime_us + TCP_ANNOUNCE_US);
        }
    }

    /// Changes pending actions, and computes the earliest again.
    fn change(&mut self, change: impl FnOnce(&mut Claim)) {
        change(self);
        let report_us = self.report.map_or(u64::MAX, |(due_us, _)| due_us);
        self.due_us = self.announce_us.min(report_us);
    }

    /// Executes pending actions for our addresses.
    #[cold]
    pub fn keep<P: Port>(&mut self, wire: &mut Wire<P>, own: &Own, now: Now) {
        if self.announce_us <= now.uptime_us {
            announce(wire, own);
            self.change(|claim| claim.announce_us = u64::MAX);
        }
        if let Some((due_us, query)) = self.report
            && due_us <= now.uptime_us
        {
            groups::report(wire, own, query);
            self.report_us = now.uptime_us + TCP_GROUP_REPORTS_US;
            self.change(|claim| claim.report = None);
        }
    }

    /// Handles a query of a router or switch for our groups. Many queries in a short time get one
    /// answer, whatever delay they allow, because any host on the link can send queries.
    pub fn meet_query(&mut self, query: Query, now: Now) {
        let due_us = now.uptime_us + query.delay_us().min(TCP_GROUP_REPORT_US);
        let due_us = due_us.max(self.report_us);
        let (due_us, query) = match self.report {
            None => (due_us, query),
            Some((before_us, before)) => (before_us.min(due_us), before.with(query)),
        };
        self.change(|claim| claim.report = Some((due_us, query)));
    }

    /// Handles another host's use of `address`, which is ours: reports it, and defends it on the
    /// wire (RFC 5227, 2.4).
    #[cold]
    pub fn defend<P: Port>(
        &mut self,
        wire: &mut Wire<P>,
        own: &Own,
        Taken { address, mac }: Taken,
        now: Now,
    ) {
        wire.stats.add(Counter::AddressConflicts, 1);
        CONFLICT.report(now, || {
            let text = format_args!(
                "{address} is also used by {}: clients of both lose connections; give one of them \
                 another address",
                mac_text(mac)
            );
            Event::AddressConflict.line(text).address(address)
        });
        let is_due = self.defended_us.is_none_or(|at| now.uptime_us - at >= TCP_DEFEND_US);
        if is_due {
            self.defended_us = Some(now.uptime_us);
            ether::announce(wire, &own.only(address));
        }
    }
}

/// Announces our addresses to neighbours and switches.
pub(super) fn announce<P: Port>(wire: &mut Wire<P>, own: &Own) {
    groups::report(wire, own, Query::JOINED);
    ether::announce(wire, own);
}
