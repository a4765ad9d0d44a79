//! `sunder serve`: its flags, and whether they go together.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgMatches, Args};

use super::memcached::{self, Memcached};
use super::rend::{self, Rend};
use super::unneeded::Unneeded;
use super::value::{List, boolean, has_twice, in_order};
use crate::config::{self, Cidr, Config, Huge, L1, L2, Poll, ValueError};
use crate::net::tcp::fault::Faults;

const AFTER: &str = "\
Exit status: 0 ended as told, 1 something on the host must be fixed, 2 wrong command line, 3
a tier could not be closed at the stop, 4 the device went away, 75 it may pass by itself (a port
in use, a memcached that is not up yet).

SIGINT and SIGTERM end the server; answers that are under way are sent first, for at most 5 s.
SIGHUP, SIGUSR1 and SIGUSR2 do nothing.";

/// Serve clients
///
/// Serves memcached's text and binary protocols on kernel sockets, or on a DPDK device.
#[derive(Args, Debug)]
#[command(after_help = AFTER)]
pub(super) struct Serve {
    #[command(flatten, next_help_heading = "Where clients come from")]
    listen: Listen,
    #[command(flatten, next_help_heading = "How it runs")]
    run: Run,
    #[command(flatten, next_help_heading = "What it stores")]
    store: Store,
    #[command(flatten, next_help_heading = "What clients may do")]
    allow: Allow,
    #[command(flatten, next_help_heading = memcached::HEADING)]
    memcached: Memcached,
    #[command(flatten, next_help_heading = rend::HEADING)]
    rend: Rend,
    #[command(flatten)]
    of_memcached: Unneeded<memcached::Table>,
    #[command(flatten)]
    of_rend: Unneeded<rend::Table>,
}

// Comments on what is flattened are no doc comments: clap would take them for the command's help.
#[derive(Args, Debug)]
struct Listen {
    /// DPDK device to serve on; without it, kernel sockets
    ///
    /// A PCI address (bind the device with scripts/bind-nic.sh), or a vdev with its arguments, e.g.
    /// net_af_packet0,iface=veth0.
    #[arg(long, value_name = "DEV", requires = "address")]
    device: Option<String>,
    /// Own address on the device, e.g. 10.0.0.5/24; repeat it for more
    #[arg(long, value_name = "CIDR", value_parser = config::cidr, requires = "device")]
    address: Vec<Cidr>,
    /// Router for other networks; repeat it for IPv4 and IPv6
    #[arg(long, value_name = "IP", value_parser = config::address, requires = "device")]
    gateway: Vec<IpAddr>,
    /// Port
    #[arg(short, long, value_name = "N", value_parser = port, default_value = "11211")]
    port: u16,
    /// Addresses of kernel sockets [default: 127.0.0.1]
    ///
    /// Repeat it for more. :: is all addresses of the host, those of IPv4 too unless one of them is
    /// named.
    #[arg(long, value_name = "IP[,IP..]", value_parser = config::binds)]
    bind: Vec<List<IpAddr>>,
    /// Listen on the Unix socket --sock-path instead of a port
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", value_parser = boolean)]
    use_domain_socket: Option<bool>,
    /// Path of the Unix socket
    #[arg(long, value_name = "PATH")]
    sock_path: Option<PathBuf>,
    /// Batch port [default: 11212], open when there is an L2
    ///
    /// For batch jobs: what they read does not fill L1, what they write only updates it. Beside a
    /// Unix socket it is open only if it is given.
    #[arg(long, value_name = "N", value_parser = config::port, conflicts_with = "bp_sock_path")]
    bp: Option<u16>,
    /// Unix socket for batch jobs, instead of the batch port
    #[arg(long, value_name = "PATH", conflicts_with = "device")]
    bp_sock_path: Option<PathBuf>,
    /// Most connections at once, all workers together
    #[arg(short = 'c', long, alias = "conn-limit", value_name = "N", value_parser = connections)]
    #[arg(default_value = "1024")]
    max_connections: u64,
    /// Close a connection after S seconds without a request; 0: never
    #[arg(long, value_name = "S", value_parser = config::idle_timeout, default_value = "0")]
    idle_timeout: u64,
}

#[derive(Args, Debug)]
struct Run {
    /// Number of workers, a thread each [default: one a core]
    #[arg(short = 't', long, alias = "threads", value_name = "N", value_parser = config::workers)]
    workers: Option<usize>,
    /// Cores to run workers on, e.g. 0,2-3, instead of --workers
    #[arg(long, value_name = "LIST", value_parser = config::cores)]
    cores: Option<List<usize>>,
    /// busy: spin when idle; adaptive: sleep [default: busy on a device, else adaptive]
    #[arg(long, value_name = "busy|adaptive", value_parser = config::poll)]
    poll: Option<Poll>,
    /// Huge pages for the device's frames
    ///
    /// auto requires them (scripts/hugepages.sh). L1 uses what the kernel gives in either case.
    #[arg(long, value_name = "auto|off", value_parser = config::huge, default_value = "auto")]
    huge: Huge,
    /// Retry for S seconds when a tier's server, an SSD or a port is not available at the start
    #[arg(long, value_name = "S", value_parser = wait, default_value = "0")]
    wait: u64,
    /// For trials: play a bad wire on the device
    ///
    /// seed=N,drop=N,reorder=N,duplicate=N,corrupt=N: faults in a million frames, each way.
    #[arg(long, value_name = "LIST", value_parser = config::faults, requires = "device")]
    faults: Option<Faults>,
}

#[derive(Args, Debug)]
struct Store {
    /// First tier [default: memory,size=64M]
    ///
    /// memory[,size=SIZE]: in this process, index included. Each worker has an equal part, and
    /// needs 34 MiB beside it.
    ///
    /// memcached,addr=unix:PATH|127.0.0.1:PORT[,layout=plain|chunked[,chunk=SIZE]][,timeout=MS]: in
    /// a memcached of this host. Values are stored as they are [plain], or in Rend's chunks of SIZE
    /// [1184]. A memcached that does not answer for MS milliseconds [500] is not asked until it
    /// does.
    ///
    /// ssd,path=PATH, and behind commas size=SIZE, object=SIZE, admit=all|second-touch, flush=MS,
    /// format, state=DIR: on a file or block device. Data survives restarts and kill -9; at most
    /// the last MS milliseconds [100] of writes are lost. size= is the length that a file is given.
    /// object= is what an object needs on average [1K]: the index takes 11 bytes of memory for each
    /// that there is room for. format erases the log, at every start while it is given; it is
    /// needed when --workers or the size changes. state= is a directory on another file system
    /// [/var/lib/sunder, else /var/tmp], where a file says that the disk takes no writes.
    #[arg(long, value_name = "TIER", value_parser = config::l1)]
    l1: Option<L1>,
    /// Second tier, read on a miss in L1 and written first [default: none]
    ///
    /// none, memcached,addr=.. and ssd,path=.. as for --l1, or rend,addr=..[,timeout=MS]: a server
    /// that speaks Rend's GETE.
    #[arg(long, value_name = "TIER", value_parser = config::l2)]
    l2: Option<L2>,
    /// Largest item, key and header included
    #[arg(short = 'I', long, value_name = "SIZE", value_parser = config::item_size)]
    #[arg(default_value = "1M")]
    max_item_size: usize,
}

#[derive(Args, Debug)]
struct Allow {
    /// Obey the shutdown command
    #[arg(short = 'A', long)]
    enable_shutdown: bool,
    /// Refuse the flush_all command
    #[arg(short = 'F', long)]
    disable_flush_all: bool,
}

const NOTE_BATCH_PORT: &str = "--bp: the batch port stays closed, because there is no L2";
const NOTE_BATCH_BESIDE: &str = "--sock-path: there is no batch port beside a Unix socket unless \
     one is asked for; --bp-sock-path PATH is another Unix socket, --bp N a port that every user \
     of this host can reach";

/// As memcached has 0 beside a Unix socket; without one it is refused in the end.
fn port(text: &str) -> Result<u16, ValueError> {
    if text == "0" { Ok(0) } else { config::port(text) }
}

fn connections(text: &str) -> Result<u64, ValueError> {
    config::number(text, 1, 10_000_000)
}

fn wait(text: &str) -> Result<u64, ValueError> {
    config::number(text, 0, 86_400)
}

impl Serve {
    /// What the flags say, if they go together.
    pub fn config(self, matches: &ArgMatches) -> Result<Config, String> {
        let Serve { listen, run, store, allow, mut memcached, rend, .. } = self;
        let l1_flag = match (&store.l1, memcached.memory_limit) {
            (Some(_), _) => Some("--l1"),
            (None, Some(_)) => Some("-m"),
            (None, None) => None,
        };
        let has_l2 = store.l2.is_some();
        let binds = binds(matches, listen.bind, std::mem::take(&mut memcached.listen));
        let socket_path = socket(
            matches,
            listen.use_domain_socket.unwrap_or(memcached.unix_socket.is_some()),
            [("sock_path", listen.sock_path), ("unix_socket", memcached.unix_socket.take())],
        )?;
        let default = Config::default();
        let mut config = Config {
            device: listen.device,
            addresses: listen.address,
            gateways: listen.gateway,
            cores: run.cores.unwrap_or_default(),
            workers: run.workers,
            poll: run.poll,
            port: listen.port,
            socket_path,
            l1: store.l1.unwrap_or(default.l1),
            l2: store.l2.unwrap_or(default.l2),
            batch_port: listen.bp,
            batch_socket_path: listen.bp_sock_path,
            item_bytes_max: store.max_item_size,
            connections_max: listen.max_connections as usize,
            huge: run.huge,
            idle_timeout_s: listen.idle_timeout,
            wait_s: run.wait,
            is_shutdown_enabled: allow.enable_shutdown,
            is_flush_enabled: !allow.disable_flush_all,
            faults: run.faults,
            ..Config::default()
        };
        rend.apply(&mut config, l1_flag, has_l2, binds.is_some(), in_order(self.of_rend.notes))?;
        config.binds = binds.unwrap_or(default.binds);
        let mut notes = self.of_memcached.notes;
        memcached.apply(&mut config, matches, &mut notes)?;
        config.notes.extend(in_order(notes));
        check(&config)?;
        check_binds(&config.binds)?;
        note_batch(&mut config);
        Ok(config)
    }
}

/// The addresses of `--bind` and `-l`, which add up, in their order on the command line.
fn binds(
    matches: &ArgMatches,
    bind: Vec<List<IpAddr>>,
    listen: Vec<List<IpAddr>>,
) -> Option<Vec<IpAddr>> {
    let places = |id| matches.indices_of(id).into_iter().flatten();
    let mut all: Vec<_> = places("bind").zip(bind).collect();
    all.extend(places("listen").zip(listen));
    all.sort_unstable();
    (!all.is_empty()).then(|| all.into_iter().flat_map(|(_, binds)| binds).collect())
}

/// The Unix socket to listen on: of `--sock-path` and `-s` the last one.
fn socket(
    matches: &ArgMatches,
    is_used: bool,
    paths: [(&str, Option<PathBuf>); 2],
) -> Result<Option<PathBuf>, String> {
    let place = |id: &str| matches.indices_of(id).and_then(Iterator::last);
    let given = paths.into_iter().filter_map(|(id, path)| Some((place(id), path?)));
    match (is_used, given.max()) {
        (true, Some((_, path))) => Ok(Some(path)),
        (true, None) => Err("--use-domain-socket: give --sock-path as well".into()),
        (false, Some(_)) => Err("--sock-path: give --use-domain-socket as well".into()),
        (false, None) => Ok(None),
    }
}

/// What has to be said of the batch port.
fn note_batch(config: &mut Config) {
    let is_given = config.batch_port.is_some() || config.batch_socket_path.is_some();
    if is_given && config.l2 == L2::None {
        config.notes.push(NOTE_BATCH_PORT);
    }
    if config.l2 != L2::None && config.batch().is_none() {
        config.notes.push(NOTE_BATCH_BESIDE);
    }
}

/// Whether the flags go together, beyond what their definitions say.
fn check(config: &Config) -> Result<(), String> {
    let conflict = |text: &str| Err(text.to_owned());
    if config.socket_path.is_none() {
        config::port(&config.port.to_string()).map_err(|error| format!("-p, --port: {error}"))?;
    }
    if !config.cores.is_empty() && config.workers.is_some_and(|n| n != config.cores.len()) {
        return conflict("--workers: --cores names another number of cores; give one of the two");
    }
    if config.socket_path.is_none() && config.open_batch_port() == Some(config.port) {
        return conflict("--bp: is the same port as --port; give it another");
    }
    if config.batch_socket_path.is_some() && config.batch_socket_path == config.socket_path {
        return conflict("--bp-sock-path: is the same as --sock-path; give it another");
    }
    if config.l1.address().is_some() && config.l1.address() == config.l2.address() {
        return conflict("--l2: is the same server as L1; each tier needs a server of its own");
    }
    if let (L1::Ssd(_), L2::Ssd(_)) = (&config.l1, &config.l2) {
        return conflict("--l2: L1 is an SSD already; give it all of the space, and no L2");
    }
    if config.device.is_none() {
        return Ok(());
    }
    if config.socket_path.is_some() {
        return conflict("--sock-path: a Unix socket needs kernel sockets, without --device");
    }
    if config.binds != Config::default().binds {
        return conflict("--bind: is for kernel sockets; a device has --address");
    }
    let has = |is_ipv4: bool| config.addresses.iter().any(|own| own.address.is_ipv4() == is_ipv4);
    let is_near = |gateway: &IpAddr| config.addresses.iter().any(|own| own.contains(gateway));
    if config.gateways.iter().any(|gateway: &IpAddr| !has(gateway.is_ipv4())) {
        return conflict("--gateway: there is no --address of its kind (IPv4 or IPv6)");
    }
    if !config.gateways.iter().all(is_near) {
        return conflict("--gateway: is in the network of no --address");
    }
    if has_twice(config.addresses.iter().map(|own| own.address)) {
        return conflict("--address: the same address is given twice");
    }
    Ok(())
}

/// Whether each of these addresses can have a listener beside the others'.
fn check_binds(binds: &[IpAddr]) -> Result<(), String> {
    if has_twice(binds.iter().copied()) {
        return Err("--bind: the same address is given twice".into());
    }
    for &all in binds.iter().filter(|bind| bind.is_unspecified()) {
        let is_in_it = |one: &&IpAddr| **one != all && one.is_ipv4() == all.is_ipv4();
        if let Some(one) = binds.iter().find(is_in_it) {
            return Err(format!("--bind: {all} includes {one}; leave one out"));
        }
    }
    Ok(())
}
