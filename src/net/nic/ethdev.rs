//! One device: found, given its queues, pool and offloads, started, and finally stopped.
//!
//! This module decides how a device is configured. It moves no frames; see `port`.

use std::ffi::{CString, c_int};
use std::path::Path;
use std::ptr::NonNull;
use std::thread;
use std::time::Duration;

use dpdk_sys as dpdk;

use super::eal::{self, Eal, Log};
use super::error::NicError;
use super::spec::{self, Spec};
use super::{Huge, Statistics};
use crate::base::limits::{
    NIC_LINK_POLLS, NIC_POOL_CACHE_FRAMES, NIC_RX_DESCRIPTORS, NIC_TX_DESCRIPTORS,
    TCP_MTU_MAX_BYTES, nic_pool_frames,
};
use crate::net::tcp::device::Capabilities;

/// Drivers that report a hash over their queues but need more than its configuration: net_tap needs
/// a flow rule, and without one the kernel distributes by what was sent last.
const DRIVERS_WITHOUT_RSS: [&str; 1] = ["net_tap"];

/// An open device. Shared by its ports; the last of them closes it.
pub(super) struct Device {
    port: u16,
    pool: NonNull<dpdk::rte_mempool>,
    queues: usize,
    capabilities: Capabilities,
    /// The kernel's interface under it, if there is one.
    interface: Option<String>,
    /// Number of the kernel's interface under it, if there is one. Names can change.
    interface_index: Option<u32>,
    /// Whether it is net_memif, which has a peer instead of a wire.
    has_peer: bool,
    /// Whether it connects to its peer only when it is started: net_memif's client, which is
    /// rejected permanently by a server that is not ready yet.
    connects_at_start: bool,
}

// SAFETY: the fields never change. DPDK allows the operations on the port number and the pool from
// several threads: statistics and link by any thread (rte_ethdev.h), allocating and freeing by any
// thread (rte_mempool.h). Bursts go through WorkerPort, one for each queue.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

/// The configuration of a device, within its capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    queues: usize,
    /// Flow types to hash; 0 with one queue.
    rss: u64,
    rx_offloads: u64,
    tx_offloads: u64,
}

impl Plan {
    fn new(info: &dpdk::rte_eth_dev_info, driver: &str, workers: usize) -> Plan {
        let wanted = dpdk::SHIM_RSS_IPV4
            | dpdk::SHIM_RSS_IPV6
            | dpdk::SHIM_RSS_TCP_IPV4
            | dpdk::SHIM_RSS_TCP_IPV6;
        let rss = info.flow_type_rss_offloads & wanted;
        let room = usize::from(info.max_rx_queues.min(info.max_tx_queues));
        let spreads = rss != 0 && !DRIVERS_WITHOUT_RSS.contains(&driver) && room >= workers;
        let queues = if spreads { workers } else { 1 };
        // A part of it is useless: software would have to check every frame nevertheless.
        let all = |capable: u64, mask: u64| if capable & mask == mask { mask } else { 0 };
        let rx = dpdk::SHIM_RX_OFFLOAD_IPV4_CKSUM | dpdk::SHIM_RX_OFFLOAD_TCP_CKSUM;
        let tx = dpdk::SHIM_TX_OFFLOAD_IPV4_CKSUM | dpdk::SHIM_TX_OFFLOAD_TCP_CKSUM;
        // All frames come from one pool and have one owner: the driver need not check.
        let fast_free = info.tx_offload_capa & dpdk::SHIM_TX_OFFLOAD_MBUF_FAST_FREE;
        Plan {
            queues,
            rss: if queues > 1 { rss } else { 0 },
            rx_offloads: all(info.rx_offload_capa, rx),
            tx_offloads: all(info.tx_offload_capa, tx) | fast_free,
        }
    }

    fn has_tx_checksum(&self) -> bool {
        self.tx_offloads & dpdk::SHIM_TX_OFFLOAD_TCP_CKSUM != 0
    }
}

/// A device that is being opened: state shared by the steps.
struct Opening<'a> {
    spec: &'a Spec,
    log: &'a mut Log,
    port: u16,
}

impl Opening<'_> {
    fn failed(&mut self, step: &'static str, code: c_int) -> NicError {
        let detail = self.log.explain(code.abs());
        let device = self.spec.name().to_string();
        eal::failure(self.spec, code.abs(), detail, |detail| NicError::Configure {
            device,
            step,
            detail,
        })
    }

    fn check(&mut self, step: &'static str, code: c_int) -> Result<(), NicError> {
        if code < 0 { Err(self.failed(step, code)) } else { Ok(()) }
    }

    fn configure(
        &mut self,
        plan: &Plan,
        info: &dpdk::rte_eth_dev_info,
        pool: NonNull<dpdk::rte_mempool>,
    ) -> Result<(), NicError> {
        let port = self.port;
        let queues = plan.queues as u16;
        let mut conf = dpdk::rte_eth_conf::default();
        conf.rxmode.offloads = plan.rx_offloads;
        conf.rxmode.mtu = TCP_MTU_MAX_BYTES as u32;
        if info.max_mtu != 0 {
            conf.rxmode.mtu = conf.rxmode.mtu.min(u32::from(info.max_mtu));
        }
        conf.txmode.offloads = plan.tx_offloads;
        if plan.rss != 0 {
            conf.rxmode.mq_mode = dpdk::RTE_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf = plan.rss;
        }
        // SAFETY: the port exists and is stopped; conf is complete and read during the call only.
        let code = unsafe { dpdk::rte_eth_dev_configure(port, queues, queues, &conf) };
        self.check("configuring it", code)?;

        let (mut rx, mut tx) = (NIC_RX_DESCRIPTORS as u16, NIC_TX_DESCRIPTORS as u16);
        // SAFETY: as above; the two numbers are ours.
        let code = unsafe { dpdk::rte_eth_dev_adjust_nb_rx_tx_desc(port, &mut rx, &mut tx) };
        self.check("sizing its queues", code)?;
        // SAFETY: any port number is valid.
        let node = unsafe { dpdk::rte_eth_dev_socket_id(port) } as u32;
        let (mut rx_conf, mut tx_conf) = (info.default_rxconf, info.default_txconf);
        rx_conf.offloads = plan.rx_offloads;
        tx_conf.offloads = plan.tx_offloads;
        for queue in 0..queues {
            let pool = pool.as_ptr();
            // SAFETY: a stopped port and a queue below the configured number; the pool stays
            // until the process ends.
            let code =
                unsafe { dpdk::rte_eth_rx_queue_setup(port, queue, rx, node, &rx_conf, pool) };
            self.check("setting up a receive queue", code)?;
            // SAFETY: as above.
            let code = unsafe { dpdk::rte_eth_tx_queue_setup(port, queue, tx, node, &tx_conf) };
            self.check("setting up a transmit queue", code)?;
        }
        Ok(())
    }

    /// Starts the port and enables reception of IPv6's multicast addresses (RFC 4291, section
    /// 2.7.1).
    fn start(&mut self, plan: &Plan, info: &dpdk::rte_eth_dev_info) -> Result<(), NicError> {
        // SAFETY: a configured port.
        let code = unsafe { dpdk::rte_eth_dev_start(self.port) };
        self.check("starting it", code)?;
        if plan.queues > 1 {
            self.spread(plan, info)?;
        }
        // SAFETY: a started port. A device that supports neither has no filter.
        unsafe {
            if dpdk::rte_eth_allmulticast_enable(self.port) != 0 {
                dpdk::rte_eth_promiscuous_enable(self.port);
            }
        }
        Ok(())
    }

    /// Ensures that the table behind the hash reaches every queue. Drivers fill it for all queues;
    /// where one did not, frames would arrive at queues that no worker reads.
    fn spread(&mut self, plan: &Plan, info: &dpdk::rte_eth_dev_info) -> Result<(), NicError> {
        let group = dpdk::RTE_ETH_RETA_GROUP_SIZE as usize;
        let size = usize::from(info.reta_size);
        if size == 0 {
            return Ok(());
        }
        let mut table = vec![dpdk::rte_eth_rss_reta_entry64::default(); size.div_ceil(group)];
        table.iter_mut().for_each(|part| part.mask = u64::MAX);
        // SAFETY: the table has a group for each 64 entries of the device's.
        let code = unsafe {
            dpdk::rte_eth_dev_rss_reta_query(self.port, table.as_mut_ptr(), info.reta_size)
        };
        let entry = |n: usize| (n / group, n % group);
        let counts = |queue: usize| {
            let of = |n: usize| table[entry(n).0].reta[entry(n).1];
            (0..size).filter(|&n| usize::from(of(n)) == queue).count()
        };
        let is_even = (0..plan.queues).all(|queue| counts(queue) >= size / plan.queues);
        // A driver that does not return the table cannot change it either.
        if code != 0 || is_even {
            return Ok(());
        }
        for n in 0..size {
            let (part, at) = entry(n);
            table[part].reta[at] = (n % plan.queues) as u16;
        }
        // SAFETY: as above.
        let code = unsafe {
            dpdk::rte_eth_dev_rss_reta_update(self.port, table.as_mut_ptr(), info.reta_size)
        };
        self.check("spreading flows over its queues", code)
    }

    fn capabilities(&mut self, plan: &Plan, sysfs: &Path) -> Result<Capabilities, NicError> {
        let mut address = dpdk::rte_ether_addr::default();
        // SAFETY: an existing port; the address is ours.
        let code = unsafe { dpdk::rte_eth_macaddr_get(self.port, &mut address) };
        self.check("reading its address", code)?;
        let mtu_bytes = mtu_bytes(self.port, self.spec.interface(), sysfs);
        let mtu_bytes = mtu_bytes.map_err(|code| self.failed("reading its MTU", code))?;
        let tx_checksum = plan.has_tx_checksum();
        Ok(Capabilities { mac: address.addr_bytes, mtu_bytes, tx_checksum })
    }
}

impl Device {
    /// Finds, configures and starts the device for `workers` workers.
    pub(super) fn open(
        spec: &Spec,
        _eal: &Eal,
        workers: usize,
        huge: Huge,
        log: &mut Log,
    ) -> Result<Device, NicError> {
        let port = find(spec, log)?;
        let mut info = dpdk::rte_eth_dev_info::default();
        let mut opening = Opening { spec, log, port };
        // SAFETY: an existing port; info is ours.
        let code = unsafe { dpdk::rte_eth_dev_info_get(port, &mut info) };
        opening.check("reading what it can do", code)?;
        let driver = driver_name(&info);
        let plan = Plan::new(&info, &driver, workers);
        let pool_frames = nic_pool_frames(workers, plan.queues);
        let pool = make_pool(pool_frames, port, huge, opening.log)?;
        opening.configure(&plan, &info, pool)?;
        opening.start(&plan, &info)?;
        let capabilities = opening.capabilities(&plan, Path::new(spec::SYSFS))?;
        let has_peer = driver == "net_memif";
        let connects_at_start = has_peer && !spec.is_memif_server();
        let queues = plan.queues;
        let interface = spec.interface().map(str::to_owned);
        // The interface of a tap exists only now.
        let index_of = interface.as_deref().or_else(|| spec.argument("iface"));
        let interface_index = index_of.and_then(spec::interface_index);
        Ok(Device {
            port,
            pool,
            queues,
            capabilities,
            interface,
            interface_index,
            has_peer,
            connects_at_start,
        })
    }

    /// The port's number, for bursts.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The pool of empty frames.
    pub(super) fn pool(&self) -> NonNull<dpdk::rte_mempool> {
        self.pool
    }

    /// Queue pairs over which the device distributes flows.
    pub(super) fn queues(&self) -> usize {
        self.queues
    }

    /// The capabilities of every port of the device.
    pub(super) fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Whether the link is up now, and the kernel's interface under it has a carrier.
    pub(super) fn has_carrier(&self) -> bool {
        let below = |name: &String| spec::interface_has_carrier(name, Path::new(spec::SYSFS));
        self.link_is_up() && self.interface.as_ref().and_then(below).unwrap_or(true)
    }

    /// The longest IP packet that the device accepts now, in bytes, if it reports one.
    pub(super) fn mtu_bytes(&self) -> Option<usize> {
        mtu_bytes(self.port, self.interface.as_deref(), Path::new(spec::SYSFS)).ok()
    }

    /// Whether the link is up now.
    pub(super) fn link_is_up(&self) -> bool {
        let mut link = dpdk::rte_eth_link::default();
        // SAFETY: an existing port; the structure is ours.
        let code = unsafe { dpdk::rte_eth_link_get_nowait(self.port, &mut link) };
        code == 0 && u32::from(link.link_status()) == dpdk::RTE_ETH_LINK_UP
    }

    /// Whether the device was removed.
    pub(super) fn is_gone(&self) -> bool {
        // SAFETY: an existing port.
        let is_removed = unsafe { dpdk::rte_eth_dev_is_removed(self.port) } == 1;
        is_removed || self.interface_index.is_some_and(spec::interface_is_gone)
    }

    /// Waits for the link, for a bounded time; returns whether it is up. Only before the first
    /// burst.
    pub(super) fn wait_for_link(&self) -> bool {
        for poll in 1..=NIC_LINK_POLLS {
            if self.link_is_up() {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
            // Never a server: it waits for clients by itself, and could disconnect one that has
            // just connected and is sending.
            if self.connects_at_start && poll.is_multiple_of(NIC_LINK_POLLS / 10) {
                // SAFETY: no port was created yet, so that no thread is in a burst.
                unsafe {
                    dpdk::shim_stop_in_turn(self.port, false);
                    dpdk::rte_eth_dev_start(self.port);
                }
            }
        }
        self.link_is_up()
    }

    /// The device's own counters.
    pub(super) fn statistics(&self) -> Statistics {
        let mut stats = dpdk::rte_eth_stats::default();
        // SAFETY: an existing port; the structure is ours. A device without counters leaves zeros.
        unsafe { dpdk::rte_eth_stats_get(self.port, &mut stats) };
        Statistics {
            frames_received: stats.ipackets,
            frames_sent: stats.opackets,
            bytes_received: stats.ibytes,
            bytes_sent: stats.obytes,
            receive_missed: stats.imissed,
            receive_errors: stats.ierrors,
            receive_no_buffer: stats.rx_nombuf,
            send_errors: stats.oerrors,
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: the last owner of the device drops it, so that no port is in a burst. The pool
        // stays until the process ends: frames of it may be in use, here or in a driver
        // (net_af_xdp's fill ring).
        unsafe {
            if self.has_peer {
                // The peer may disconnect at this moment, and the driver would then free twice.
                dpdk::shim_stop_in_turn(self.port, true);
            } else {
                dpdk::rte_eth_dev_stop(self.port);
                dpdk::rte_eth_dev_close(self.port);
            }
        }
    }
}

/// The longest IP packet that a port sends, in bytes.
fn mtu_bytes(port: u16, interface: Option<&str>, sysfs: &Path) -> Result<usize, c_int> {
    let mut mtu = 0;
    // SAFETY: an existing port; the number is ours.
    let code = unsafe { dpdk::rte_eth_dev_get_mtu(port, &mut mtu) };
    if code < 0 {
        return Err(code);
    }
    // A driver over an interface of the kernel's may not know that its MTU is lower.
    let below = interface.and_then(|name| spec::interface_mtu(name, sysfs)).unwrap_or(usize::MAX);
    Ok(usize::from(mtu).min(TCP_MTU_MAX_BYTES).min(below))
}

fn find(spec: &Spec, log: &mut Log) -> Result<u16, NicError> {
    if let Spec::Vdev { devargs, .. } = spec {
        let devargs = CString::new(devargs.as_str()).expect("a device's name contains no NUL");
        // SAFETY: a string in C's shape, read during the call only.
        let code = unsafe { dpdk::rte_dev_probe(devargs.as_ptr()) };
        if code < 0 {
            return Err(refused(spec, code, log));
        }
    }
    let name = CString::new(spec.name()).expect("a device's name contains no NUL");
    let mut port = 0;
    // SAFETY: a string in C's shape, and a number of ours.
    let code = unsafe { dpdk::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut port) };
    if code < 0 { Err(refused(spec, code, log)) } else { Ok(port) }
}

fn refused(spec: &Spec, code: c_int, log: &mut Log) -> NicError {
    let detail = log.explain(code.abs());
    let device = spec.name().to_string();
    // VFIO maps memory for the device, which counts as locked: ENOMEM is 12.
    let is_limit = detail.contains("error 12") || detail.contains("Cannot allocate memory");
    eal::failure(spec, code.abs(), detail, |detail| match is_limit {
        true => NicError::LockedMemory { device, detail },
        false => NicError::Probe { device, detail },
    })
}

fn driver_name(info: &dpdk::rte_eth_dev_info) -> String {
    if info.driver_name.is_null() {
        return String::new();
    }
    // SAFETY: the driver's own name, a constant in its library, which stays loaded.
    unsafe { std::ffi::CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned()
}

fn make_pool(
    frames: usize,
    port: u16,
    huge: Huge,
    log: &mut Log,
) -> Result<NonNull<dpdk::rte_mempool>, NicError> {
    let name = CString::new(format!("sunder_frames{port}")).expect("it contains no NUL");
    // SAFETY: numbers and a string, which is copied; the device's node, or -1 for any.
    let pool = unsafe {
        dpdk::rte_pktmbuf_pool_create(
            name.as_ptr(),
            frames as u32,
            NIC_POOL_CACHE_FRAMES as u32,
            0,
            dpdk::RTE_MBUF_DEFAULT_BUF_SIZE as u16,
            dpdk::rte_eth_dev_socket_id(port),
        )
    };
    NonNull::new(pool).ok_or_else(|| NicError::Pool {
        needed_mib: super::pool_bytes(frames, huge).div_ceil(1024 * 1024),
        huge: huge == Huge::Auto,
        detail: log.explain(eal::errno()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(queues: u16, rss: u64, rx: u64, tx: u64) -> dpdk::rte_eth_dev_info {
        dpdk::rte_eth_dev_info {
            max_rx_queues: queues,
            max_tx_queues: queues,
            flow_type_rss_offloads: rss,
            rx_offload_capa: rx,
            tx_offload_capa: tx,
            ..Default::default()
        }
    }

    #[test]
    fn each_worker_has_a_queue_only_if_the_device_can_hash() {
        let rss = dpdk::SHIM_RSS_TCP_IPV4 | 1 << 40;
        let plan = |info, driver, workers| Plan::new(&info, driver, workers);
        let four = plan(info(16, rss, 0, 0), "net_ice", 4);
        assert_eq!((four.queues, four.rss), (4, dpdk::SHIM_RSS_TCP_IPV4));
        assert_eq!(plan(info(2, rss, 0, 0), "net_ice", 4).queues, 1);
        assert_eq!(plan(info(16, 0, 0, 0), "net_memif", 4).queues, 1);
        assert_eq!(plan(info(16, rss, 0, 0), "net_tap", 4).queues, 1);
        let one = plan(info(16, rss, 0, 0), "net_ice", 1);
        assert_eq!((one.queues, one.rss), (1, 0));
    }

    #[test]
    fn checksums_are_offloaded_only_in_both_directions() {
        let (ip, tcp) = (dpdk::SHIM_TX_OFFLOAD_IPV4_CKSUM, dpdk::SHIM_TX_OFFLOAD_TCP_CKSUM);
        assert!(!Plan::new(&info(1, 0, 0, tcp), "", 1).has_tx_checksum());
        assert!(Plan::new(&info(1, 0, 0, ip | tcp), "", 1).has_tx_checksum());
        let rx = dpdk::SHIM_RX_OFFLOAD_IPV4_CKSUM;
        assert_eq!(Plan::new(&info(1, 0, rx, 0), "", 1).rx_offloads, 0);
    }
}
