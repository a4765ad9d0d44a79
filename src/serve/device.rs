//! Serving on a DPDK device. Nothing here touches a frame: it opens the device and gives each
//! worker its port and stack.

use std::net::{IpAddr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::crew::{Crew, Plan};
use super::watch::Watch;
use super::{Part, ServeError, batch_place, idle};
use crate::base::clock::Clock;
use crate::base::secret;
use crate::config::{Config, Huge};
use crate::connection::Connection;
use crate::mailbox::Mailbox;
use crate::net::nic;
use crate::net::tcp::device::Port;
use crate::net::tcp::fault::FaultyPort;
use crate::net::tcp::{self, Stack};
use crate::net::{Admission, Transport};
use crate::orchestrator::{Orchestrator, PortRole};
use crate::remedies;
use crate::report::{self, Event};
use crate::worker::Shared;

/// Empty turns before a worker that may sleep does: about as long as a sleep takes.
const IDLE_TURNS: u32 = 64;

pub fn serve<O: Orchestrator>(
    plan: &Plan<'_, impl Fn(&Part<'_>) -> Result<O, ServeError> + Sync>,
    device: &str,
) -> Result<(), ServeError> {
    let Plan { config, shared, pins, .. } = plan;
    let huge = huge(config);
    let _held = plan.opened.patience.until(|| hold(config, device))?;
    let request = nic::NicConfig { device: device.to_owned(), workers: pins.len(), huge };
    let mut nic = nic::open(&request, &shared.stats).map_err(ServeError::Device)?;
    if !nic.is_link_up() {
        let text = format_args!("the link of {device} is down; serving when it comes up");
        report::tell(Event::LinkDown.line(text).device(device));
    }
    let ports = (0..pins.len()).map(|worker| nic.take_port(worker)).collect();
    let stack = stack(config, &plan.shared.admission);
    let address = SocketAddr::new(config.addresses[0].address, config.port);
    let place = format!("{address}, {device}{}", batch_place(config));
    let idle = idle(config, IDLE_TURNS);
    let (unfinished, gate) = Default::default();
    let crew = Crew { plan, place: &place, idle, parks: true, unfinished, gate };
    let mailboxes = Mailbox::mesh(pins.len());
    // Without a link no host could answer; what happens once it is up is logged while serving.
    let asks = nic.is_link_up();
    let open = |port, worker| claimed(port, &stack, shared, worker, asks);
    let faulty = |port, worker| match config.faults {
        Some(faults) => claimed(FaultyPort::new(port, faults), &stack, shared, worker, asks),
        None => unreachable!("asked for with faults"),
    };
    let monitor = nic.monitor();
    let watch = Watch::new(&monitor, device, shared, &stack.board);
    watch.beside(|| match config.faults {
        None => crew.run(mailboxes, ports, open, || ()),
        Some(_) => crew.run(mailboxes, ports, faulty, || ()),
    })?;
    match shared.is_unreachable() {
        true => Err(ServeError::DeviceGone { device: device.to_owned() }),
        false => Ok(()),
    }
}

pub(super) fn huge(config: &Config) -> nic::Huge {
    match config.huge {
        Huge::Auto => nic::Huge::Auto,
        Huge::Off => nic::Huge::Off,
    }
}

/// Finds what [`serve`] would refuse of the addresses, but for other hosts'.
pub(super) fn check(config: &Config, device: &str) -> Result<(), ServeError> {
    let admission = Arc::new(Admission::new(config.connections_max, remedies::OF_CONNECTIONS));
    tcp::check(&stack(config, &admission)).map_err(ServeError::Stack)?;
    hold(config, device).map(|_| ())
}

/// A worker's stack, once it is known that no other host has its addresses. The first worker asks;
/// an answer may arrive at any of them.
fn claimed<P: Port>(
    port: P,
    config: &tcp::StackConfig,
    shared: &Shared,
    worker: usize,
    asks: bool,
) -> Result<Stack<P, Connection>, ServeError> {
    let (stats, clock): (_, &Clock) = (Arc::clone(&shared.stats[worker]), &shared.clock);
    let mut stack = Stack::new(port, config, stats, clock.read()).map_err(ServeError::Stack)?;
    while asks && !stack.claim(worker == 0, clock.read()).map_err(ServeError::Taken)? {
        stack.flush(clock.read());
        thread::sleep(Duration::from_millis(1));
    }
    Ok(stack)
}

/// Makes sure that no other process has our addresses on an interface of the kernel's: it would
/// have the same MAC, and nothing on the wire could tell the two apart. A name in the network
/// namespace, which goes with the process.
fn hold(config: &Config, device: &str) -> Result<Vec<UnixDatagram>, ServeError> {
    let argument = |part: &str| part.strip_prefix("iface=").map(str::to_owned);
    let Some(interface) = device.split(',').find_map(argument) else { return Ok(Vec::new()) };
    let take = |address: IpAddr| {
        let name = format!("sunder/{interface}/{address}");
        let name = UnixAddr::from_abstract_name(name).map_err(ServeError::Host)?;
        UnixDatagram::bind_addr(&name).map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                ServeError::Held { address, interface: interface.clone() }
            }
            _ => ServeError::Host(error),
        })
    };
    config.addresses.iter().map(|cidr| take(cidr.address)).collect()
}

fn stack(config: &Config, admission: &Arc<Admission>) -> tcp::StackConfig {
    tcp::StackConfig {
        addresses: config
            .addresses
            .iter()
            .map(|cidr| tcp::Cidr { address: cidr.address, prefix_bits: cidr.prefix_bits })
            .collect(),
        gateways: config.gateways.clone(),
        ports: [Some(config.port), config.open_batch_port()].into_iter().flatten().collect(),
        allow: [PortRole::Main, PortRole::Batch].map(|port| config.allow(port).clone()).to_vec(),
        connections_max: config.connections_max,
        admission: Arc::clone(admission),
        board: Arc::default(),
        // The connections see to it, over either transport.
        idle_timeout_us: 0,
        secret: secret::random(),
    }
}
