//! Serving on DPDK devices. Nothing here touches a frame: it opens the devices and gives each
//! worker a port and a stack for each.

use std::net::{IpAddr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::crew::{Crew, Plan};
use super::watch::{Watch, Watched};
use super::{Part, ServeError, batch_place, idle};
use crate::base::clock::Clock;
use crate::base::secret;
use crate::config::{Config, Huge};
use crate::connection::Connection;
use crate::mailbox::Mailbox;
use crate::net::nic;
use crate::net::several::Several;
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
) -> Result<(), ServeError> {
    let Plan { config, shared, pins, .. } = plan;
    let devices = &config.devices;
    let hold_all = || devices.iter().map(|device| hold(config, device)).collect();
    let _held: Vec<_> = plan.opened.patience.until(hold_all)?;
    let huge = huge(config);
    let request = nic::NicConfig { devices: devices.clone(), workers: pins.len(), huge };
    let mut nics = nic::open(&request, &shared.stats).map_err(ServeError::Device)?;
    for (_, device) in nics.iter().zip(devices).filter(|(nic, _)| !nic.is_link_up()) {
        let text = format_args!("the link of {device} is down; serving when it comes up");
        report::tell(Event::LinkDown.line(text).device(device));
    }
    let mut take = |worker| nics.iter_mut().map(|nic| nic.take_port(worker)).collect();
    let ports: Vec<Vec<_>> = (0..pins.len()).map(&mut take).collect();
    // Without a link no host could answer; what happens once it is up is logged while serving.
    let wires: Vec<Wire> = nics
        .iter()
        .zip(devices)
        .map(|(nic, device)| Wire {
            stack: stack(config, device, &shared.admission),
            asks: nic.is_link_up(),
        })
        .collect();
    let place = place(config);
    let idle = idle(config, IDLE_TURNS);
    let (unfinished, gate) = Default::default();
    let crew = Crew { plan, place: &place, idle, parks: true, unfinished, gate };
    let mailboxes = Mailbox::mesh(pins.len());
    let open = |ports, worker| claimed(ports, &wires, shared, worker);
    let faulty = |ports: Vec<_>, worker| match config.faults {
        Some(faults) => {
            let ports = ports.into_iter().map(|port| FaultyPort::new(port, faults));
            claimed(ports.collect(), &wires, shared, worker)
        }
        None => unreachable!("asked for with faults"),
    };
    let watched = nics.iter().zip(&wires).zip(&shared.devices);
    let watched =
        watched.map(|((nic, wire), stats)| Watched::new(nic.monitor(), &wire.stack.board, stats));
    Watch::new(watched.collect(), shared).beside(|| match config.faults {
        None => crew.run(mailboxes, ports, open, || ()),
        Some(_) => crew.run(mailboxes, ports, faulty, || ()),
    })?;
    match shared.is_unreachable() {
        true => Err(ServeError::DeviceGone { device: devices.join(" and ") }),
        false => Ok(()),
    }
}

/// What the stacks of a device have in common.
struct Wire {
    stack: tcp::StackConfig,
    /// Whether to ask if another host has its addresses.
    asks: bool,
}

/// Where clients reach the server.
fn place(config: &Config) -> String {
    let of = |device: &String| {
        let first = config.addresses_on(device)[0].address;
        format!("{}, {device}", SocketAddr::new(first, config.port))
    };
    let all: Vec<_> = config.devices.iter().map(of).collect();
    format!("{}{}", all.join(" and "), batch_place(config))
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
    tcp::check(&stack(config, device, &admission)).map_err(ServeError::Stack)?;
    hold(config, device).map(|_| ())
}

/// A worker's stacks, once it is known that no other host has their addresses. The first worker
/// asks; an answer may arrive at any of them.
fn claimed<P: Port>(
    ports: Vec<P>,
    wires: &[Wire],
    shared: &Shared,
    worker: usize,
) -> Result<Several<Stack<P, Connection>>, ServeError> {
    let (stats, clock): (_, &Clock) = (&shared.stats[worker], &shared.clock);
    let open = |(port, wire): (P, &Wire)| {
        Stack::new(port, &wire.stack, Arc::clone(stats), clock.read()).map_err(ServeError::Stack)
    };
    let mut stacks = ports.into_iter().zip(wires).map(open).collect::<Result<Vec<_>, _>>()?;
    // All at once: an answer has its time to arrive.
    loop {
        let mut is_clear = true;
        for (stack, _) in stacks.iter_mut().zip(wires).filter(|(_, wire)| wire.asks) {
            is_clear &= stack.claim(worker == 0, clock.read()).map_err(ServeError::Taken)?;
            stack.flush(clock.read());
        }
        if is_clear {
            return Ok(Several::new(stacks));
        }
        thread::sleep(Duration::from_millis(1));
    }
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
    config.addresses_on(device).into_iter().map(|cidr| take(cidr.address)).collect()
}

fn stack(config: &Config, device: &str, admission: &Arc<Admission>) -> tcp::StackConfig {
    tcp::StackConfig {
        addresses: config
            .addresses_on(device)
            .into_iter()
            .map(|cidr| tcp::Cidr { address: cidr.address, prefix_bits: cidr.prefix_bits })
            .collect(),
        gateways: config.gateways_on(device),
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
