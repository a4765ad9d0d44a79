//! `sunder serve`: its flags, and whether they go together.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{ArgAction, ArgMatches, Args};

use super::log::Log;
use super::memcached::{self, Memcached};
use super::rend::{self, Rend};
use super::value::{List, Number, refuse_twice};
use crate::base::limits::ATTEMPTS_MAX;
use crate::base::networks::{Network, Networks};
use crate::base::rights::Rights;
use crate::config::{self, Bind, Config, DeviceAddress, Huge, L1, L2, Parsed, Poll};
use crate::net::tcp::fault::Faults;
use crate::protocol::Binding;
use crate::serve;

/// Serve clients
///
/// Serves memcached's text and binary protocols on kernel sockets, or on DPDK devices.
#[derive(Args, Debug)]
#[command(after_help = include_str!("help/serve.txt"))]
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
}

// Comments on what is flattened are no doc comments: clap would take them for the command's help.
#[derive(Args, Debug)]
struct Listen {
    /// DPDK device to use; without one, kernel sockets
    ///
    /// A PCI address (bind the device with scripts/bind-nic.sh), or a vdev with its arguments, e.g.
    /// net_af_packet0,iface=veth0. Repeat it for more: each worker serves all of them.
    #[arg(long, value_name = "DEV", requires = "address")]
    device: Vec<String>,
    /// Own address on the device, e.g. 10.0.0.5/24; repeat it for more
    ///
    /// With several devices each address says on which it is, by the name, which is all before the
    /// first comma: 10.0.0.5/24,device=0000:05:00.0.
    #[arg(long, value_name = "CIDR[,device=NAME]", value_parser = config::device_address)]
    #[arg(requires = "device")]
    address: Vec<DeviceAddress>,
    /// Router for other networks; repeat it for IPv4 and IPv6
    #[arg(long, value_name = "IP", value_parser = config::address, requires = "device")]
    gateway: Vec<IpAddr>,
    /// Port
    #[arg(short, long, value_name = "N", default_value = "11211")]
    port: Number<0, 65_535>,
    /// Addresses of kernel sockets [default: 127.0.0.1]
    ///
    /// Repeat it, or --listen, for more. :: or * is all addresses of the host, those of IPv4 too
    /// unless one of them is given. localhost is 127.0.0.1; no other name is looked up. An address
    /// may have a port of its own: 127.0.0.1:11212, [::1]:11212.
    #[arg(short = 'l', long, visible_alias = "listen", value_name = "IP[:PORT][,..]")]
    #[arg(value_parser = binds)]
    bind: Vec<List<Bind>>,
    /// Listen on the Unix socket --sock-path instead of a port
    #[arg(long, value_name = "BOOL")]
    use_domain_socket: Option<bool>,
    /// Path of the Unix socket
    #[arg(long, value_name = "PATH", conflicts_with = "device")]
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
    /// Let only these networks and addresses connect [default: everyone]
    ///
    /// Of IPv4 and IPv6; localhost is 127.0.0.0/8 and ::1. Repeat it for more. Others are reset
    /// before anything is kept for them. Unix sockets have permissions instead (-a).
    #[arg(long, value_name = "CIDR[,CIDR..]", value_parser = config::networks)]
    allow: Vec<List<Network>>,
    /// The same for the batch port [default: as --allow]
    #[arg(long, value_name = "CIDR[,CIDR..]", value_parser = config::networks)]
    bp_allow: Vec<List<Network>>,
    /// Load balancers with these addresses send PROXY protocol headers
    ///
    /// Version 2 of it (HAProxy's send-proxy-v2), before anything else on each connection, to say
    /// whose it is: --allow, login attempts and stats conns go by that. Their connections are reset
    /// if there is none within 5 seconds. Others connect directly. For kernel sockets, both ports.
    #[arg(long, value_name = "CIDR[,CIDR..]", value_parser = config::networks)]
    #[arg(conflicts_with = "device")]
    proxy_protocol: Vec<List<Network>>,
    /// Protocol of the main port: auto, ascii or binary [default: auto]
    ///
    /// auto: each connection's first byte decides. ascii includes the meta commands.
    #[arg(short = 'B', long, value_name = "NAME", value_parser = config::binding)]
    protocol: Option<Binding>,
    /// The same for the batch port [default: as --protocol]
    #[arg(long, value_name = "NAME", value_parser = config::binding)]
    bp_protocol: Option<Binding>,
    /// Rights of the main port: all, or read-only, no-flush, no-admin [default: all]
    ///
    /// read-only: clients may not store, change or remove an item. no-flush: they may not use
    /// flush_all. no-admin: they may not use verbosity, shutdown, stats reset, lru_crawler metadump
    /// and mgdump. A refused command gets an error, and the connection goes on.
    #[arg(long, value_name = "WORD[,WORD..]", value_parser = config::rights)]
    rights: Option<Rights>,
    /// The same for the batch port [default: as --rights]
    #[arg(long, value_name = "WORD[,WORD..]", value_parser = config::rights)]
    bp_rights: Option<Rights>,
    /// Maximum number of connections, all workers together
    #[arg(short = 'c', long, alias = "conn-limit", value_name = "N", default_value = "1024")]
    max_connections: Number<1, 10_000_000>,
    /// Close a connection after S seconds without a request; 0: never
    #[arg(long, value_name = "S", value_parser = config::idle_timeout, default_value = "0")]
    idle_timeout: u64,
}

#[derive(Args, Debug)]
struct Run {
    /// Read settings from this file, too; flags take precedence over it
    ///
    /// TOML, with a key for each flag, by the flag's long name. A flag that is given replaces its
    /// key and those that cannot be used with it; --enable-shutdown=false turns a switch off.
    /// SIGHUP has the file read again. sunder config check FILE says whether it is right, sunder
    /// config show --config FILE what is in force.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Number of workers, a thread each, at most 64 [default: one a core]
    #[arg(short = 't', long, alias = "threads", value_name = "N", value_parser = config::workers)]
    workers: Option<usize>,
    /// Cores to run workers on, e.g. 0,2-3, instead of --workers
    #[arg(long, value_name = "LIST", value_parser = config::cores)]
    cores: Option<List<usize>>,
    /// When a worker sleeps [default: busy on a device, else adaptive]
    #[arg(long, value_enum)]
    poll: Option<Poll>,
    /// Huge pages for the device's frames
    ///
    /// L1 uses what the kernel gives in either case.
    #[arg(long, value_enum, default_value = "auto")]
    huge: Huge,
    /// Serve as this user, with no capability, once all is open; for root
    ///
    /// What root alone may open is opened before: ports, a device, an SSD. Afterwards SIGHUP reads
    /// only files that the user may read, and no core is dumped.
    #[arg(short = 'u', long, value_name = "NAME")]
    user: Option<String>,
    /// Retry for S seconds at the start, until tiers, an SSD, addresses and ports are available
    #[arg(long, value_name = "S", default_value = "0")]
    wait: Number<0, 86_400>,
    /// At a stop, wait S seconds at most for clients to read their replies
    ///
    /// Nothing is accepted any more. What has arrived is answered, idle connections are closed,
    /// and an SSD is closed in order whatever it takes.
    #[arg(long, value_name = "S", default_value = "5")]
    drain: Number<0, 3_600>,
    /// Take over from the sunder that listens on the same first address, if one does
    ///
    /// On kernel sockets. It gives its listening sockets to this one, answers what has arrived,
    /// and ends. No connection is refused: those of the meantime wait until this one serves. Items
    /// are there if they are in files or on an SSD.
    #[arg(long, conflicts_with = "device")]
    takeover: bool,
    /// Serve metrics and the live page at this address, e.g. 127.0.0.1:11299 [default: nowhere]
    ///
    /// Over HTTP: /metrics for Prometheus, /metrics/rend under Rend's names, / for a browser. It
    /// changes nothing, but shows the hottest keys, and asks for no login.
    #[arg(long, value_name = "ADDRESS", value_parser = config::admin)]
    admin: Option<SocketAddr>,
    /// Measure one request in N, and count its key for the hot keys; 0: none
    ///
    /// Of requests that are answered at once. Of those that wait for a tier all are measured, or
    /// one in eight if there are many and N is 8 or more.
    #[arg(long, value_name = "N", default_value = "128")]
    sample: Number<0, 1_000_000>,
    /// For trials: play a bad wire on the device
    ///
    /// seed=N,drop=N,reorder=N,duplicate=N,corrupt=N: faults in a million frames, each way.
    #[arg(long, value_name = "LIST", value_parser = config::faults, requires = "device")]
    faults: Option<Faults>,
    #[command(flatten)]
    log: Log,
}

#[derive(Args, Debug)]
struct Store {
    /// First tier [default: memory,size=64M]
    ///
    /// memory[,size=SIZE]: in this process, index included. Each worker has an equal part of it, of
    /// at most 32 GiB, and needs 35 MiB beside it.
    ///
    /// memory,path=PATH, and behind commas size=SIZE, huge=auto|off, format: the same in files
    /// PATH.0, PATH.1 and so on, one a worker, in /dev/shm, on hugetlbfs or on a disk. Items are
    /// there after a restart, and after kill -9. format starts afresh, at every start while it is
    /// given; it is needed when --workers or the size changes. Behind it can be an SSD, and no
    /// other L2.
    ///
    /// memcached,addr=unix:PATH (or addr=127.0.0.1:PORT), and behind commas layout=plain|chunked,
    /// chunk=SIZE, timeout=MS: in a memcached of this host. Values are stored as they are [plain],
    /// or in Rend's chunks of SIZE [1184]. A memcached that does not answer for MS milliseconds
    /// [500] is not asked until it does. With start=empty [kept] all that is in it is removed at
    /// each start, ten seconds later, and it is not used before: in front of an L2, kill -9 between
    /// the two may have left old items.
    ///
    /// shm,name=NAME[,timeout=MS]: in sunder l1d on this host, through rings in shared memory. In
    /// front of an L2 it is emptied at each start: kill -9 between the two may have left old items.
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
    /// Let only users in whom this file names, a line user:password for each
    ///
    /// Instead of the password a line may have its hash, as sunder password prints it. At most 64
    /// users. Text clients log in by a set of any key with the value "user password",
    /// binary clients by SASL PLAIN. The file is read again on SIGHUP.
    #[arg(short = 'Y', long, value_name = "FILE")]
    auth_file: Option<PathBuf>,
    /// Failed logins that one address may have at once; 0: no limit [default: 10]
    ///
    /// It has one more each second. Until then all its logins are refused as a wrong password is,
    /// whether they are right or not, and their connections are closed. The addresses of an IPv6
    /// /64 are one. Unix sockets have no limit.
    #[arg(long, value_name = "N", requires = "auth_file")]
    login_attempts: Option<Number<0, { ATTEMPTS_MAX as u64 }>>,
    /// Obey the shutdown command
    #[arg(short = 'A', long, value_name = "BOOL", action = ArgAction::Set)]
    #[arg(default_value = "false", hide_default_value = true)]
    enable_shutdown: bool,
    /// Refuse the flush_all command
    #[arg(short = 'F', long, value_name = "BOOL", action = ArgAction::Set)]
    #[arg(default_value = "false", hide_default_value = true)]
    disable_flush_all: bool,
    /// Refuse lru_crawler metadump and mgdump, which list all keys
    #[arg(short = 'X', long, value_name = "BOOL", action = ArgAction::Set)]
    #[arg(default_value = "false", hide_default_value = true)]
    disable_dumping: bool,
    /// Refuse watch, which shows what other clients do
    #[arg(short = 'W', long, value_name = "BOOL", action = ArgAction::Set)]
    #[arg(default_value = "false", hide_default_value = true)]
    disable_watch: bool,
}

const NOTE_BATCH_PORT: &str = "--bp: the batch port stays closed, because there is no L2";
const NOTE_BATCH_SOCKET: &str =
    "--bp-sock-path: the socket for batch jobs is not opened, because there is no L2";
const NOTE_ALLOW: &str =
    "--allow: has no effect on a Unix socket, which has permissions instead (-a)";
const NOTE_BATCH_RIGHTS: &str = "--bp-rights: has no effect, because there is no batch port";
const NOTE_PROXIES: &str = "--proxy-protocol: has no effect on a Unix socket";
const NOTE_BATCH_PROTOCOL: &str = "--bp-protocol: has no effect, because there is no batch port";
const NOTE_BATCH_ALLOW: &str = "--bp-allow: has no effect, because there is no batch port";
const NOTE_HUGE: &str = "--huge: has no effect without --device";
const NOTE_BATCH_BESIDE: &str = "--sock-path: there is no batch port beside a Unix socket unless \
     one is asked for; --bp-sock-path PATH is another Unix socket, --bp N a port that every user \
     of this host can reach";

impl Serve {
    /// What the flags say, if they go together.
    pub fn config(self, matches: &ArgMatches) -> Result<Config, String> {
        let Serve { listen, run, store, allow, memcached, rend } = self;
        let socket_path = listen.socket(&memcached, matches)?;
        let default = Config::default();
        let binds: Vec<Bind> = listen.bind.into_iter().flatten().collect();
        let mut config = Config {
            devices: listen.device,
            addresses: listen.address,
            gateways: listen.gateway,
            cores: run.cores.unwrap_or_default(),
            workers: run.workers,
            poll: run.poll,
            port: listen.port.0 as u16,
            binds: if binds.is_empty() { default.binds } else { binds },
            socket_path,
            l1: store.l1.unwrap_or(default.l1),
            l2: store.l2.unwrap_or(default.l2),
            batch_port: listen.bp,
            batch_socket_path: listen.bp_sock_path,
            allow: config::all_networks("--allow", listen.allow)?,
            batch_allow: some_networks("--bp-allow", listen.bp_allow)?,
            proxies: some_networks("--proxy-protocol", listen.proxy_protocol)?,
            rights: listen.rights.unwrap_or_default(),
            batch_rights: listen.bp_rights,
            binding: listen.protocol.unwrap_or_default(),
            batch_binding: listen.bp_protocol,
            item_bytes_max: store.max_item_size,
            connections_max: listen.max_connections.0 as usize,
            huge: run.huge,
            idle_timeout_s: listen.idle_timeout,
            wait_s: run.wait.0,
            user: run.user,
            auth_file: allow.auth_file,
            login_attempts: allow.login_attempts.map_or(default.login_attempts, |n| n.0 as u32),
            is_shutdown_enabled: allow.enable_shutdown,
            is_flush_enabled: !allow.disable_flush_all,
            is_dump_enabled: !allow.disable_dumping,
            is_watch_enabled: !allow.disable_watch,
            drain_s: run.drain.0,
            is_takeover: run.takeover,
            admin: run.admin,
            sample_rate: run.sample.0 as u32,
            faults: run.faults,
            ..Config::default()
        };
        run.log.apply(&mut config);
        rend.apply(&mut config, matches)?;
        memcached.apply(&mut config, matches)?;
        check(&config)?;
        note(&mut config);
        Ok(config)
    }
}

impl Listen {
    /// The Unix socket to listen on: of `--sock-path` and `-s` the last one.
    fn socket(
        &self,
        memcached: &Memcached,
        matches: &ArgMatches,
    ) -> Result<Option<PathBuf>, String> {
        let place = |id| matches.indices_of(id).and_then(Iterator::last);
        let is_memcached = place("unix_socket") > place("sock_path");
        let path = if is_memcached { &memcached.unix_socket } else { &self.sock_path };
        match self.use_domain_socket.unwrap_or(memcached.unix_socket.is_some()) {
            true if path.is_none() => Err("--use-domain-socket: give --sock-path as well".into()),
            false if path.is_some() => Err("--sock-path: give --use-domain-socket as well".into()),
            _ => Ok(path.clone()),
        }
    }
}

/// The networks of a flag that was given.
fn some_networks(flag: &str, lists: Vec<Vec<Network>>) -> Result<Option<Networks>, String> {
    let is_given = !lists.is_empty();
    is_given.then(|| config::all_networks(flag, lists)).transpose()
}

/// `--bind`.
fn binds(text: &str) -> Parsed<List<Bind>> {
    text.split(',').map(config::bind).collect()
}

/// What has to be said of flags that have no effect, and of the batch port.
fn note(config: &mut Config) {
    let has_l2 = config.l2 != L2::None;
    let has_port = config.socket_path.is_none() || config.open_batch_port().is_some();
    let is_closed = has_l2 && config.batch().is_none();
    let notes = [
        (!has_l2 && config.batch_port.is_some(), NOTE_BATCH_PORT),
        (!has_l2 && config.batch_socket_path.is_some(), NOTE_BATCH_SOCKET),
        (is_closed, NOTE_BATCH_BESIDE),
        (!config.allow.is_everyone() && !has_port, NOTE_ALLOW),
        (config.batch_allow.is_some() && config.open_batch_port().is_none(), NOTE_BATCH_ALLOW),
        (config.proxies.is_some() && !has_port, NOTE_PROXIES),
        (config.batch_rights.is_some() && config.batch().is_none(), NOTE_BATCH_RIGHTS),
        (config.batch_binding.is_some() && config.batch().is_none(), NOTE_BATCH_PROTOCOL),
        (!config.has_devices() && config.huge == Huge::Off, NOTE_HUGE),
    ];
    config.notes.extend(notes.iter().filter(|(holds, _)| *holds).map(|(_, note)| note));
}

/// Whether the flags go together, beyond what their definitions say.
fn check(config: &Config) -> Result<(), String> {
    let conflict = |text: &str| Err(text.to_owned());
    if config.socket_path.is_none() && config.port == 0 {
        return conflict("-p, --port: got '0', which is for a Unix socket; expected 1 to 65535");
    }
    if !config.cores.is_empty() && config.workers.is_some_and(|n| n != config.cores.len()) {
        return conflict("--workers: --cores names another number of cores; give one of the two");
    }
    let is_open = |port| config.binds.iter().any(|bind| bind.address(config.port).port() == port);
    if config.socket_path.is_none() && config.open_batch_port().is_some_and(is_open) {
        return conflict("--bp: is the same port as --port; give it another");
    }
    if config.batch_socket_path.is_some() && config.batch_socket_path == config.socket_path {
        return conflict("--bp-sock-path: is the same as --sock-path; give it another");
    }
    if !config.has_devices() && config.admin.is_some_and(|at| serve::listens_at(config, at)) {
        return conflict("--admin: is an address and port of the cache's own; give it another");
    }
    if config.l1.address().is_some() && config.l1.address() == config.l2.address() {
        return conflict("--l2: is the same server as L1; each tier needs a server of its own");
    }
    if let (L1::Ssd(_), L2::Ssd(_)) = (&config.l1, &config.l2) {
        return conflict("--l2: L1 is an SSD already; give it all of the space, and no L2");
    }
    if config.has_devices() && config.binds != Config::default().binds {
        return conflict("--bind: is for kernel sockets; a device has --address");
    }
    config::check_devices(config)?;
    refuse_twice("--address", config.addresses.iter().map(|own| own.cidr.address))?;
    let binds: Vec<SocketAddr> =
        config.binds.iter().map(|bind| bind.address(config.port)).collect();
    refuse_twice("--bind", binds.iter().copied())?;
    for all in binds.iter().filter(|bind| bind.ip().is_unspecified()) {
        let is_in_it = |one: &&SocketAddr| {
            *one != all && one.is_ipv4() == all.is_ipv4() && one.port() == all.port()
        };
        if let Some(one) = binds.iter().find(is_in_it) {
            let (all, one) = (all.ip(), one.ip());
            return Err(format!("--bind: {all} includes {one}; leave one out"));
        }
    }
    Ok(())
}
