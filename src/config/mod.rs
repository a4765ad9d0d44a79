//! The configuration of a server, and how its values are written on a command line.
//!
//! A value that is wrong is one line that says what was given and what is expected; the flag's name
//! is put before it by `cli`.

mod bind;
mod binding;
mod changes;
mod device;
mod networks;
mod quantity;
mod rights;
mod tiers;
mod words;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::base::limits::{
    ATTEMPTS_DEFAULT, DRAIN_US, ITEM_BYTES_MAX_DEFAULT, ITEM_BYTES_MAX_FLOOR, ITEM_BYTES_MAX_LIMIT,
    SAMPLE_RATE, WORKERS_MAX,
};
use crate::base::networks::Networks;
use crate::base::rights::Rights;
use crate::net::tcp::fault::Faults;
use crate::orchestrator::PortRole;
use crate::protocol::Binding;
pub use crate::report::{Format as LogFormat, Level as LogLevel, Target as LogTo};
pub use crate::tier::shm::{Name, Place};
pub use bind::Bind;
pub(crate) use bind::bind;
pub(crate) use binding::binding;
pub use changes::{Reread, Setting};
pub use device::{DeviceAddress, device_name};
pub(crate) use device::{check_devices, device_address};
pub(crate) use networks::{all_networks, networks};
pub(crate) use quantity::{count, number, real, size};
pub(crate) use quantity::{counted, readable_size, show_size};
pub(crate) use rights::rights;
pub use tiers::{Address, Admit, L1, L2, Layout, Link, Memcached, MemoryFile, Ssd, l1, l2};
pub(crate) use tiers::{memory_path, name};
use words::{Key, Words};

/// All settings of `sunder serve`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The DPDK devices: each a PCI address, or a vdev with its arguments. None: kernel sockets.
    pub devices: Vec<String>,
    /// The appliance's own addresses on the devices.
    pub addresses: Vec<DeviceAddress>,
    /// Where packets for other networks go.
    pub gateways: Vec<IpAddr>,
    /// The cores that workers run on, one each; empty: not said.
    pub cores: Vec<usize>,
    /// Number of workers, if no cores were named; None: one a core.
    pub workers: Option<usize>,
    /// What a worker does that finds nothing to do; None: busy on a device, else adaptive.
    pub poll: Option<Poll>,
    /// The main port.
    pub port: u16,
    /// The addresses of kernel sockets; see `--bind`.
    pub binds: Vec<Bind>,
    /// Listen on this Unix socket instead of a port.
    pub socket_path: Option<PathBuf>,
    /// Where processes of this host attach through rings in shared memory, beside kernel sockets;
    /// None: nowhere.
    pub attach: Option<Place>,
    /// Permissions of Unix sockets, as memcached's `-a` has them.
    pub socket_mode: u32,
    /// L1.
    pub l1: L1,
    /// L2.
    pub l2: L2,
    /// The batch port, open when there is an L2; None: not said, see [`Config::batch`].
    pub batch_port: Option<u16>,
    /// A Unix socket for batch jobs instead of the batch port.
    pub batch_socket_path: Option<PathBuf>,
    /// Who may connect to the main port.
    pub allow: Networks,
    /// Who may connect to the batch port; None: the same.
    pub batch_allow: Option<Networks>,
    /// Load balancers that say whose connections they pass on, by the PROXY protocol.
    pub proxies: Option<Networks>,
    /// What the clients of the main port may do.
    pub rights: Rights,
    /// What those of the batch port may; None: the same.
    pub batch_rights: Option<Rights>,
    /// Which protocol the main port speaks.
    pub binding: Binding,
    /// Which one the batch port does; None: the same.
    pub batch_binding: Option<Binding>,
    /// What is to be said of flags that were given and are no longer needed, a line each.
    pub notes: Vec<&'static str>,
    /// Largest item, in bytes, header counted.
    pub item_bytes_max: usize,
    /// Most connections, all workers together.
    pub connections_max: usize,
    /// Whether to use huge pages.
    pub huge: Huge,
    /// Seconds after which an idle connection is closed; 0: never.
    pub idle_timeout_s: u64,
    /// Seconds that a start waits for conditions that resolve themselves: a tier's server, a port.
    pub wait_s: u64,
    /// The names and passwords of those who may use the server; None: everybody may.
    pub auth_file: Option<PathBuf>,
    /// Who serves, if not who starts it.
    pub user: Option<String>,
    /// How often an address may fail to log in at once; 0: always.
    pub login_attempts: u32,
    /// How much more is told, from 0 to 2, as memcached's.
    pub verbosity: u32,
    /// How lines are written on standard error.
    pub log_format: LogFormat,
    /// The lowest level of lines that are written.
    pub log_level: LogLevel,
    /// Where lines are written.
    pub log_to: LogTo,
    /// Whether clients may stop the server.
    pub is_shutdown_enabled: bool,
    /// Whether clients may invalidate all items.
    pub is_flush_enabled: bool,
    /// Whether the keys may be listed.
    pub is_dump_enabled: bool,
    /// Whether clients may watch.
    pub is_watch_enabled: bool,
    /// Seconds that a stop waits for clients to read their replies.
    pub drain_s: u64,
    /// Whether the listening sockets of a server that runs are taken, which then ends.
    pub is_takeover: bool,
    /// Where metrics and the live page are; None: nowhere.
    pub admin: Option<SocketAddr>,
    /// One request in this many is measured and its key noted; 0: none.
    pub sample_rate: u32,
    /// Faults to play on the frames of the device, for tests.
    pub faults: Option<Faults>,
    /// How it is read again while the server runs; None: it is not from a file.
    pub reread: Option<Reread>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            devices: Vec::new(),
            addresses: Vec::new(),
            gateways: Vec::new(),
            cores: Vec::new(),
            workers: None,
            poll: None,
            port: 11211,
            binds: vec![IpAddr::from([127, 0, 0, 1]).into()],
            socket_path: None,
            attach: None,
            socket_mode: 0o700,
            l1: L1::Memory { bytes: 64 << 20, file: None },
            l2: L2::None,
            batch_port: None,
            batch_socket_path: None,
            allow: Networks::default(),
            batch_allow: None,
            proxies: None,
            rights: Rights::ALL,
            batch_rights: None,
            binding: Binding::Auto,
            batch_binding: None,
            notes: Vec::new(),
            item_bytes_max: ITEM_BYTES_MAX_DEFAULT,
            connections_max: 1024,
            huge: Huge::Auto,
            idle_timeout_s: 0,
            wait_s: 0,
            auth_file: None,
            user: None,
            login_attempts: ATTEMPTS_DEFAULT,
            verbosity: 0,
            log_format: LogFormat::Text,
            log_level: LogLevel::Info,
            log_to: LogTo::Stderr,
            is_shutdown_enabled: false,
            is_flush_enabled: true,
            is_dump_enabled: true,
            is_watch_enabled: true,
            drain_s: DRAIN_US / 1_000_000,
            is_takeover: false,
            admin: None,
            sample_rate: SAMPLE_RATE,
            faults: None,
            reread: None,
        }
    }
}

impl Config {
    /// Where batch jobs come in. None: there is no L2, and so no difference between the ports; or
    /// the main port is a Unix socket, and a client that may not open it must not get in by a port,
    /// unless the operator configures one.
    pub fn batch(&self) -> Option<Batch<'_>> {
        if self.l2 == L2::None {
            return None;
        }
        match (&self.batch_socket_path, self.batch_port, &self.socket_path) {
            (Some(path), _, _) => Some(Batch::Socket(path)),
            (None, Some(port), _) => Some(Batch::Port(port)),
            (None, None, None) => Some(Batch::Port(BATCH_PORT)),
            (None, None, Some(_)) => None,
        }
    }

    /// The batch port, if it is one.
    pub fn open_batch_port(&self) -> Option<u16> {
        match self.batch() {
            Some(Batch::Port(port)) => Some(port),
            _ => None,
        }
    }

    /// What the clients of a port may do.
    pub fn rights(&self, port: PortRole) -> Rights {
        match port {
            PortRole::Main => self.rights,
            PortRole::Batch => self.batch_rights.unwrap_or(self.rights),
        }
    }

    /// Which protocol a port speaks.
    pub fn binding(&self, port: PortRole) -> Binding {
        match port {
            PortRole::Main => self.binding,
            PortRole::Batch => self.batch_binding.unwrap_or(self.binding),
        }
    }

    /// Who may connect to a port.
    pub fn allow(&self, port: PortRole) -> &Networks {
        match (port, &self.batch_allow) {
            (PortRole::Batch, Some(own)) => own,
            _ => &self.allow,
        }
    }

    /// What the worker does when idle.
    pub fn poll(&self) -> Poll {
        self.poll.unwrap_or(if self.has_devices() { Poll::Busy } else { Poll::Adaptive })
    }
}

/// The batch port unless another is chosen.
const BATCH_PORT: u16 = 11212;

/// Where batch jobs come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch<'c> {
    /// A port, of the same addresses as the main one.
    Port(u16),
    /// A Unix socket.
    Socket(&'c Path),
}

/// When a worker sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Poll {
    /// Never: it spins when idle.
    Busy,
    /// After some turns in which there was nothing to do.
    Adaptive,
}

/// Whether DPDK gets huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Huge {
    /// They are required (scripts/hugepages.sh).
    Auto,
    /// They are not used.
    Off,
}

/// An address and the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The address.
    pub address: IpAddr,
    /// Bits of the prefix.
    pub prefix_bits: u8,
}

impl Cidr {
    /// Whether `address` is in this one's network.
    pub fn contains(&self, address: &IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_bits)).unwrap_or(0);
                (own.to_bits() ^ other.to_bits()) & mask == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix_bits)).unwrap_or(0);
                (own.to_bits() ^ other.to_bits()) & mask == 0
            }
            _ => false,
        }
    }

    /// Whether it is an IPv4 network's own or its broadcast address.
    fn is_of_the_network(&self) -> bool {
        let IpAddr::V4(own) = self.address else { return false };
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_bits)).unwrap_or(0);
        let host = own.to_bits() & !mask;
        own.is_broadcast() || self.prefix_bits < 31 && (host == 0 || host == !mask)
    }
}

/// A value that is not what its flag takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    given: String,
    expected: String,
}

impl ValueError {
    /// What was given, and what is expected instead.
    pub fn new(given: &str, expected: impl Into<String>) -> ValueError {
        ValueError { given: given.to_owned(), expected: expected.into() }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "got '{}', expected {}", self.given.escape_debug(), self.expected)
    }
}

impl std::error::Error for ValueError {}

pub(crate) type Parsed<T> = Result<T, ValueError>;

/// `--port`, `--bp`.
///
/// # Errors
/// If it is no port.
pub(crate) fn port(text: &str) -> Parsed<u16> {
    Ok(number(text, 1, u64::from(u16::MAX))? as u16)
}

/// `--admin`: an address with a port, or a port of 127.0.0.1.
///
/// # Errors
/// If it is neither.
pub(crate) fn admin(text: &str) -> Parsed<SocketAddr> {
    let expected = "ADDRESS:PORT, such as 127.0.0.1:11299, or a port";
    let bare = text.strip_prefix("localhost").map(|rest| format!("127.0.0.1{rest}"));
    let address = match text.parse::<u16>() {
        Ok(port) => SocketAddr::from(([127, 0, 0, 1], port)),
        Err(_) => {
            bare.as_deref().unwrap_or(text).parse().map_err(|_| ValueError::new(text, expected))?
        }
    };
    if address.port() == 0 { Err(ValueError::new(text, expected)) } else { Ok(address) }
}

/// `--idle-timeout`: seconds, up to a year.
///
/// # Errors
/// If it is not.
pub(crate) fn idle_timeout(text: &str) -> Parsed<u64> {
    number(text, 0, 86_400 * 365)
}

/// `--max-item-size`.
///
/// # Errors
/// If it is no size that memcached's `-I` would take.
pub(crate) fn item_size(text: &str) -> Parsed<usize> {
    Ok(size(text, ITEM_BYTES_MAX_FLOOR as u64, ITEM_BYTES_MAX_LIMIT as u64)? as usize)
}

/// `--workers`.
///
/// # Errors
/// If it is no number of workers.
pub(crate) fn workers(text: &str) -> Parsed<usize> {
    Ok(number(text, 1, WORKERS_MAX as u64)? as usize)
}

/// `--cores`: numbers and ranges, e.g. `0,2-3`.
///
/// # Errors
/// If it is not, or a core is named twice.
pub(crate) fn cores(text: &str) -> Parsed<Vec<usize>> {
    let error = || {
        let expected = format!("up to {WORKERS_MAX} different core numbers, e.g. 0,2-3");
        ValueError::new(text, expected)
    };
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.parse().map_err(|_| error())?;
        let last: usize = last.parse().map_err(|_| error())?;
        if first > last || last - first >= WORKERS_MAX {
            return Err(error());
        }
        cores.extend(first..=last);
    }
    let mut sorted = cores.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() != cores.len() || cores.len() > WORKERS_MAX {
        return Err(error());
    }
    Ok(cores)
}

/// `--address`: an address of a host with the length of its network's prefix.
///
/// # Errors
/// If it is not.
pub fn cidr(text: &str) -> Parsed<Cidr> {
    let expected = "a host's address with its prefix, e.g. 10.0.0.5/24; not loopback or multicast";
    let error = || ValueError::new(text, expected);
    let (address, prefix) = text.split_once('/').ok_or_else(error)?;
    let address: IpAddr = address.parse().map_err(|_| error())?;
    let prefix_bits: u8 = prefix.parse().map_err(|_| error())?;
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    let cidr = Cidr { address, prefix_bits };
    let is_no_host = address.is_unspecified() || address.is_multicast() || address.is_loopback();
    if prefix_bits > bits_max || is_no_host || cidr.is_of_the_network() {
        return Err(error());
    }
    Ok(cidr)
}

/// An IP address.
///
/// # Errors
/// If it is not.
pub(crate) fn address(text: &str) -> Parsed<IpAddr> {
    text.parse().map_err(|_| ValueError::new(text, "an IPv4 or IPv6 address"))
}

const FAULT_WORDS: &[Key] = &[
    ("seed", Some("N")),
    ("drop", Some("N")),
    ("reorder", Some("N")),
    ("duplicate", Some("N")),
    ("corrupt", Some("N")),
];

/// `--faults`: `seed=N,drop=N,reorder=N,duplicate=N,corrupt=N`, faults in a million frames.
///
/// # Errors
/// If it is not.
pub(crate) fn faults(text: &str) -> Parsed<Faults> {
    let words = Words::read("", Some(text), FAULT_WORDS)?;
    let ppm = |key| words.get(key, 0, |value| number(value, 0, 1_000_000).map(|ppm| ppm as u32));
    Ok(Faults {
        seed: words.get("seed", 0, |value| number(value, 0, u64::MAX))?,
        drop_ppm: ppm("drop")?,
        reorder_ppm: ppm("reorder")?,
        duplicate_ppm: ppm("duplicate")?,
        corrupt_ppm: ppm("corrupt")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_socket_has_no_tcp_port_beside_it_unless_one_is_asked_for() {
        let path = || Some(PathBuf::from("/run/s"));
        let l2 = l2("rend,addr=unix:/x").expect("a tier");
        let tcp = Config { l2, ..Config::default() };
        assert_eq!(tcp.batch(), Some(Batch::Port(BATCH_PORT)));
        let unix = Config { socket_path: path(), ..tcp.clone() };
        assert_eq!(unix.batch(), None);
        let asked = Config { batch_port: Some(BATCH_PORT), ..unix.clone() };
        assert_eq!(asked.batch(), Some(Batch::Port(BATCH_PORT)));
        let batch_socket_path = Some(PathBuf::from("/run/b"));
        let beside = Config { batch_socket_path, ..unix };
        assert_eq!(beside.batch(), Some(Batch::Socket(Path::new("/run/b"))));
        assert_eq!(Config { l2: L2::None, ..tcp }.batch(), None);
    }

    #[test]
    fn cores_are_numbers_and_ranges() {
        assert_eq!(cores("0,2-4"), Ok(vec![0, 2, 3, 4]));
        for wrong in ["", "a", "1,", "3-2", "1,1", "0-64", "0-99999999999"] {
            assert!(cores(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_needs_its_prefix() {
        assert_eq!(
            cidr("10.0.0.5/24"),
            Ok(Cidr { address: IpAddr::from([10, 0, 0, 5]), prefix_bits: 24 })
        );
        assert!(cidr("fd00::5/64").is_ok());
        for wrong in [
            "127.0.0.1/8",
            "10.0.0.0/24",
            "10.0.0.255/24",
            "10.0.0.5",
            "10.0.0.5/33",
            "0.0.0.0/0",
            "224.0.0.1/4",
            "x/24",
            "fd00::5/129",
        ] {
            assert!(cidr(wrong).is_err(), "{wrong}");
        }
    }
}
