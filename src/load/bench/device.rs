//! Connections over a DPDK device and our own TCP stack, on one core that spins.
//!
//! The clock is read once a turn, and a turn takes one burst, so that a latency is reported too
//! long by at most a turn: what a request waited from its start to its end, when frames leave. At
//! the end all connections are reset before the device goes; the peer of a net_memif is to be
//! stopped first (see `net::nic`), for which [`Wired::hold`] gives it time.

mod reopen;
mod version;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::thread::CpuSet;

use super::drive::Carrier;
use super::engine::{Conn, Engine};
use super::plan::{DevicePlan, PORTS, Plan};
use super::schedule::SECOND_NS;
use crate::base::clock::{Clock, Now};
use crate::base::limits::BENCH_HALF_OPEN_MAX;
use crate::base::secret;
use crate::base::stats::WorkerStats;
use crate::config::Huge;
use crate::net::Admission;
use crate::net::ConnectionId;
use crate::net::Remedies;
use crate::net::Transport;
use crate::net::nic::{self, NicMonitor, WorkerPort};
use crate::net::tcp::{self, ConnectError, Stack};
use crate::remedies;
use reopen::Reopening;

/// The connections of a device.
pub struct Wired {
    clock: Clock,
    now: Now,
    stack: Stack<WorkerPort, Conn>,
    monitor: NicMonitor,
    reopening: Reopening,
    /// The version that the server told.
    pub server: Option<String>,
}

/// The local address and port of the connection that is begun as `number`: all addresses in turn,
/// then the next port, and from the first again after the last.
fn local(device: &DevicePlan, number: usize) -> SocketAddr {
    let addresses = device.addresses.len();
    let address = device.addresses[number % addresses].address;
    let port = PORTS.end()
        - u16::try_from(number / addresses % PORTS.len()).expect("fewer than there are ports");
    SocketAddr::new(address, port)
}

impl Wired {
    /// Opens the device and all connections to `server`, a bounded number of them at a time.
    ///
    /// # Errors
    /// One line that says why not.
    pub fn open(
        plan: &Plan,
        device: &DevicePlan,
        server: SocketAddr,
        engine: &mut Engine,
        clock: Clock,
        stop: &AtomicBool,
    ) -> Result<Wired, String> {
        if let Some(core) = device.core {
            let mut set = CpuSet::new();
            set.set(core);
            rustix::thread::sched_setaffinity(None, &set)
                .map_err(|_| format!("--core {core}: this process may not run there"))?;
        }
        let stats = Arc::new(WorkerStats::default());
        let huge = match device.huge {
            Huge::Auto => nic::Huge::Auto,
            Huge::Off => nic::Huge::Off,
        };
        let request = nic::NicConfig { devices: vec![device.device.clone()], workers: 1, huge };
        let opened = nic::open(&request, std::slice::from_ref(&stats));
        let mut opened = opened.map_err(|error| remedies::of_device(&error))?;
        let mut nic = opened.remove(0);
        if !nic.is_link_up() {
            return Err(format!("--device {}: the link is down", device.device));
        }
        let cidr = |own: &crate::config::Cidr| tcp::Cidr {
            address: own.address,
            prefix_bits: own.prefix_bits,
        };
        let config = tcp::StackConfig {
            addresses: device.addresses.iter().map(cidr).collect(),
            gateways: device.gateways.clone(),
            ports: Vec::new(),
            allow: Vec::new(),
            connections_max: plan.connections,
            admission: Arc::new(Admission::new(plan.connections, Remedies::default())),
            board: Arc::default(),
            idle_timeout_us: 0,
            secret: secret::random(),
        };
        let (port, now) = (nic.take_port(0), clock.read());
        let stack = Stack::new(port, &config, stats, now).map_err(|error| error.to_string())?;
        let reopening = Reopening::new(device, server, plan.connections);
        let monitor = nic.monitor();
        let mut wired = Wired { clock, now, stack, monitor, reopening, server: None };
        wired.fetch_version(plan, stop);
        wired.connect(plan, device, server, engine, stop)?;
        engine.carried.is_reopening = true;
        Ok(wired)
    }

    /// Opens the connections.
    fn connect(
        &mut self,
        plan: &Plan,
        device: &DevicePlan,
        server: SocketAddr,
        engine: &mut Engine,
        stop: &AtomicBool,
    ) -> Result<(), String> {
        let mut half_open: Vec<ConnectionId> = Vec::with_capacity(BENCH_HALF_OPEN_MAX);
        let (mut begun, mut since_ns) = (0, self.clock.read_ns());
        while engine.carried.ids.len() < plan.connections {
            self.begin_turn(engine, 0);
            let opened = engine.carried.ids.len();
            let failed = |why: &str| format!("{why}, {opened} of {} connected", plan.connections);
            if let Some(reason) = engine.failure() {
                return Err(failed(reason));
            }
            half_open.retain(|&id| self.stack.is_connecting(id));
            if half_open.len() + opened < begun {
                return Err(failed("the server refused a connection, or did not answer"));
            }
            while begun < plan.connections && half_open.len() < BENCH_HALF_OPEN_MAX {
                let local = local(device, begun);
                match self.stack.connect_from(local, server, self.now, engine) {
                    Ok(id) => half_open.push(id),
                    Err(ConnectError::NoRoute) => {
                        return Err(format!("no way from {} to {server}", local.ip()));
                    }
                    Err(error) => return Err(failed(&format!("cannot connect ({error:?})"))),
                }
                begun += 1;
                since_ns = engine.now_ns();
            }
            self.end_turn();
            if engine.now_ns() - since_ns > plan.timeout_ns() + 10 * SECOND_NS {
                return Err(failed("the server does not answer"));
            }
            if stop.load(Relaxed) {
                return Err(failed("stopped while connecting"));
            }
        }
        Ok(())
    }

    /// Keeps the device open without touching it until its peer has gone, for at most `seconds`.
    pub fn hold(&self, seconds: u64, stop: &AtomicBool) {
        for _ in 0..seconds * 20 {
            if !self.monitor.is_link_up() || stop.load(Relaxed) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Carrier for Wired {
    #[inline]
    fn begin_turn(&mut self, engine: &mut Engine, _until_ns: u64) {
        let now_ns = self.clock.read_ns();
        self.now = self.clock.at(now_ns);
        engine.tick(now_ns);
        self.stack.poll(self.now, engine);
        if self.reopening.is_due(engine) {
            self.reopen(engine);
        }
    }

    #[inline]
    fn visit(&mut self, engine: &mut Engine, number: usize) {
        if engine.is_down(number) {
            return engine.visit_lost(&Conn::new(number));
        }
        let id = engine.carried.ids[number];
        self.stack.resume(id, self.now, engine);
    }

    #[inline]
    fn end_turn(&mut self) {
        self.stack.flush(self.now);
    }

    fn close(&mut self, engine: &mut Engine) {
        engine.end();
        self.stack.close_all(self.now, engine);
        self.stack.flush(self.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn every_connection_has_an_address_and_port_of_its_own() {
        let device = DevicePlan {
            device: String::new(),
            addresses: ["10.0.0.2/16", "10.0.0.3/16"].map(|a| config::cidr(a).unwrap()).to_vec(),
            gateways: Vec::new(),
            core: None,
            huge: Huge::Off,
            hold_s: 0,
        };
        let all = 2 * PORTS.len();
        assert_eq!(local(&device, all), local(&device, 0));
        let mut seen: Vec<_> = (0..all).map(|number| local(&device, number)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all);
        assert!(seen.iter().all(|local| PORTS.contains(&local.port())));
    }
}
