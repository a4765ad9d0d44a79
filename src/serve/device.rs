//! Serving on a DPDK device. Nothing here touches a frame: it opens the device and gives each
//! worker its port and stack.

use std::net::SocketAddr;
use std::sync::Arc;

use super::crew::Crew;
use super::{Part, ServeError, idle, place};
use crate::config::{Config, Huge};
use crate::console::complain;
use crate::mailbox::Mailbox;
use crate::net::Admission;
use crate::net::nic;
use crate::net::tcp::fault::FaultyPort;
use crate::net::tcp::{self, Stack};
use crate::orchestrator::Orchestrator;
use crate::secret;
use crate::worker::Shared;

/// Empty turns before a worker that may sleep does: about as long as a sleep takes.
const IDLE_TURNS: u32 = 64;

pub fn serve<O: Orchestrator>(
    config: &Config,
    device: &str,
    shared: &Arc<Shared>,
    pins: &[Option<usize>],
    compose: &(impl Fn(&Part<'_>) -> Result<O, ServeError> + Sync),
) -> Result<(), ServeError> {
    let huge = match config.huge {
        Huge::Auto => nic::Huge::Auto,
        Huge::Off => nic::Huge::Off,
    };
    let request = nic::Config { device: device.to_owned(), workers: pins.len(), huge };
    let mut nic = nic::open(&request, &shared.stats).map_err(ServeError::Device)?;
    if !nic.is_link_up() {
        complain(format_args!("sunder: the link of {device} is down; serving when it comes up"));
    }
    let ports = (0..pins.len()).map(|worker| nic.take_port(worker)).collect();
    let stack = stack(config);
    let address = SocketAddr::new(config.addresses[0].address, config.port);
    let place = place(&format!("{address}, {device}"), config);
    let idle = idle(config, IDLE_TURNS);
    let crew = Crew { config, shared, pins, place: &place, idle, parks: true, compose };
    let mailboxes = Mailbox::mesh(pins.len());
    let open = |worker: usize| (Arc::clone(&shared.stats[worker]), shared.clock.read());
    match config.faults {
        None => crew.run(mailboxes, ports, |port, worker| {
            let (stats, now) = open(worker);
            Stack::new(port, &stack, stats, now).map_err(ServeError::Stack)
        }),
        Some(faults) => crew.run(mailboxes, ports, |port, worker| {
            let (stats, now) = open(worker);
            let port = FaultyPort::new(port, faults);
            Stack::new(port, &stack, stats, now).map_err(ServeError::Stack)
        }),
    }
}

fn stack(config: &Config) -> tcp::Config {
    tcp::Config {
        addresses: config
            .addresses
            .iter()
            .map(|cidr| tcp::Cidr { address: cidr.address, prefix_bits: cidr.prefix_bits })
            .collect(),
        gateways: config.gateways.clone(),
        ports: if config.has_batch_port() {
            vec![config.port, config.batch_port]
        } else {
            vec![config.port]
        },
        connections_max: config.connections_max,
        admission: Arc::new(Admission::new(config.connections_max)),
        // The connections see to it, over either transport.
        idle_timeout_us: 0,
        secret: secret::random(),
    }
}
