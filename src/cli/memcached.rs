//! memcached's own flags: they do here what they do there, or are taken or refused with a line that
//! says why ([`super::unneeded`]). Those that mean one of our flags are that flag's other name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use clap::{ArgMatches, Args};

use super::unneeded::{self, Row, Takes};
use super::value::{List, place};
use crate::config::{self, Config, L1, ValueError};

/// Of the help.
pub(super) const HEADING: &str = "memcached's flags";

// A comment and not a doc comment: clap would take that for the help of what this is part of.
#[derive(Args, Debug)]
pub(super) struct Memcached {
    /// Size of an L1 in memory, in megabytes
    #[arg(short = 'm', long, value_name = "MB", value_parser = mebibytes, conflicts_with = "l1")]
    pub memory_limit: Option<u64>,
    /// Addresses to listen on, as --bind; * is all of them
    #[arg(short = 'l', long, value_name = "IP[,IP..]", value_parser = listen)]
    pub listen: Vec<List<IpAddr>>,
    /// Listen on a Unix socket, as --use-domain-socket --sock-path
    #[arg(short = 's', long, value_name = "PATH")]
    pub unix_socket: Option<PathBuf>,
    /// Permissions of Unix sockets, in octal [default: 700]
    #[arg(short = 'a', long, value_name = "MODE", value_parser = mode)]
    pub unix_mask: Option<u32>,
    /// UDP port: only 0, there is no UDP
    #[arg(short = 'U', long, value_name = "PORT", value_parser = no_udp)]
    udp_port: Option<u64>,
    /// User to become: not supported for root; start sunder as that user
    #[arg(short = 'u', long, value_name = "USER")]
    user: Option<String>,
    /// Protocol: each connection's first byte decides it
    #[arg(short = 'B', long, value_name = "NAME", value_parser = protocol)]
    protocol: Vec<bool>,
    /// memcached's settings: idle_timeout=S is obeyed, most others are not needed
    #[arg(short = 'o', long, value_name = "WORDS")]
    extended: Vec<String>,
}

/// [`UNNEEDED`], under [`HEADING`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Table;

impl unneeded::Table for Table {
    const HEADING: &'static str = HEADING;
    const ROWS: &'static [Row] = UNNEEDED;
}

pub(super) const UNNEEDED: &[Row] = &[
    row(
        'r',
        "enable-coredumps",
        Takes::Nothing,
        "-r: not needed; ulimit -c unlimited before the start does it",
    ),
    row(
        'k',
        "lock-memory",
        Takes::Nothing,
        "-k: has no effect, memory is not locked; turn swap off instead (swapoff -a)",
    ),
    row('v', "verbose", Takes::Nothing, "-v: has no effect, there is one log level"),
    row('P', "pidfile", Takes::Text, "-P: has no effect, no file is written"),
    row('f', "slab-growth-factor", Takes::Text, "-f: not needed, there are no slab classes"),
    row('n', "slab-min-size", Takes::Text, "-n: not needed, there are no slab classes"),
    row(
        'L',
        "enable-largepages",
        Takes::Nothing,
        "-L: not needed, L1 uses huge pages where the kernel gives them",
    ),
    row(
        'D',
        "prefix-delimiter",
        Takes::Text,
        "-D: has no effect, there are no statistics by prefix",
    ),
    row(
        'R',
        "max-reqs-per-event",
        Takes::Text,
        "-R: not needed, a connection's share of a turn is fixed",
    ),
    row('C', "disable-cas", Takes::Nothing, "-C: has no effect, items always have a cas"),
    row('b', "listen-backlog", Takes::Text, "-b: has no effect, each listener's queue is 1024"),
    row('X', "disable-dumping", Takes::Nothing, "-X: not needed, keys are never dumped"),
    row('W', "disable-watch", Takes::Nothing, "-W: not needed, there is no watch command"),
    row(
        'N',
        "napi-ids",
        Takes::Text,
        "-N: not needed, each queue of a device has a worker (--device)",
    ),
    row(
        'd',
        "daemon",
        Takes::Refused,
        "-d: not supported; let a service manager keep sunder in the background, or the shell (&)",
    ),
    row('M', "disable-evictions", Takes::Refused, "-M: not supported, a full L1 always evicts"),
    row(
        'S',
        "enable-sasl",
        Takes::Refused,
        "-S: there is no SASL; put a proxy in front, or leave -S out",
    ),
    row(
        'Y',
        "auth-file",
        Takes::RefusedText,
        "-Y: there is no authentication; put a proxy in front, or leave -Y out",
    ),
    row(
        'Z',
        "enable-ssl",
        Takes::Refused,
        "-Z: there is no TLS; put a proxy in front, or leave -Z out",
    ),
    row(
        'e',
        "memory-file",
        Takes::RefusedText,
        "-e: not supported, memory does not outlive the process; --l2 ssd,path=PATH,size=SIZE does",
    ),
];

const fn row(letter: char, name: &'static str, takes: Takes, note: &'static str) -> Row {
    Row { letter: Some(letter), name, takes, note }
}

const NOTE_PROTOCOL: &str = "-B: has no effect, each connection's first byte says its protocol";
const NOTE_EXTENDED: &str = "-o: what it says of memcached's own workings is not needed";

/// Words of `-o` that say how memcached works inside, without `no_`.
const EXTENDED: &[&str] = &[
    "maxconns_fast",
    "hashpower",
    "tail_repair_time",
    "hash_algorithm",
    "lru_crawler",
    "lru_crawler_sleep",
    "lru_crawler_tocrawl",
    "read_buf_mem_limit",
    "resp_obj_mem_limit",
    "lru_maintainer",
    "hot_lru_pct",
    "warm_lru_pct",
    "hot_max_factor",
    "warm_max_factor",
    "temporary_ttl",
    "slab_chunk_max",
    "slab_reassign",
    "slab_automove",
    "slab_automove_ratio",
    "slab_automove_window",
    "slab_automove_freeratio",
    "watcher_logbuf_size",
    "worker_logbuf_size",
    "track_sizes",
    "hashexpand",
    "modern",
    "sock_cookie_id",
    "inline_ascii_resp",
    "drop_privileges",
];

impl Memcached {
    /// Does what the flags say that have no other name; `notes` gets what is to be said of them.
    pub fn apply(
        &self,
        config: &mut Config,
        matches: &ArgMatches,
        notes: &mut Vec<(usize, &'static str)>,
    ) -> Result<(), String> {
        if let Some(mebibytes) = self.memory_limit {
            config.l1 = L1::Memory { bytes: mebibytes << 20 };
        }
        if let Some(mode) = self.unix_mask {
            config.socket_mode = mode;
        }
        // As memcached, to which it means something for root alone.
        if self.user.is_some() && rustix::process::geteuid().is_root() {
            return Err(
                "-u, --user: sunder does not change its user; start it as that user (User= \
                        of a service, or setpriv --reuid USER)"
                    .to_owned(),
            );
        }
        let places = matches.indices_of("protocol").into_iter().flatten();
        let named = places.zip(&self.protocol).filter(|(_, is_named)| **is_named);
        notes.extend(named.map(|(place, _)| (place, NOTE_PROTOCOL)));
        let words = self.extended.iter().flat_map(|words| words.split(','));
        for word in words.filter(|word| !word.is_empty()) {
            if extended(config, word)? {
                notes.push((place(matches, "extended"), NOTE_EXTENDED));
            }
        }
        Ok(())
    }
}

/// A word of `-o`. Returns whether it is not needed.
fn extended(config: &mut Config, word: &str) -> Result<bool, String> {
    let (name, given) = word.split_once('=').unwrap_or((word, ""));
    match name.strip_prefix("no_").unwrap_or(name) {
        "idle_timeout" => {
            let seconds = config::idle_timeout(given);
            config.idle_timeout_s = seconds.map_err(|error| format!("-o idle_timeout: {error}"))?;
            Ok(false)
        }
        "ext_path" => Err("-o ext_path: name the disk with --l2 ssd,path=PATH,size=SIZE".into()),
        name if name.starts_with("ssl_") => {
            Err("-o ssl_..: there is no TLS; put a proxy in front".into())
        }
        name if name.starts_with("ext_") || EXTENDED.contains(&name) => Ok(true),
        _ => Err(format!("-o: '{}' is not known", word.escape_debug())),
    }
}

/// `-m`: as memcached, without a unit.
fn mebibytes(text: &str) -> Result<u64, ValueError> {
    config::number(text, 1, 1 << 21).map_err(|_| {
        let expected = "megabytes without a unit, from 1 to 2097152 (--l1 memory,size=1G takes \
                        units)";
        ValueError::new(text, expected)
    })
}

/// `-a`: permission bits.
fn mode(text: &str) -> Result<u32, ValueError> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| ValueError::new(text, "permissions in octal, e.g. 700"))
}

fn no_udp(text: &str) -> Result<u64, ValueError> {
    config::number(text, 0, 0).map_err(|_| ValueError::new(text, "0, because there is no UDP"))
}

/// Whether it is more than memcached's default.
fn protocol(text: &str) -> Result<bool, ValueError> {
    match text {
        "auto" => Ok(false),
        "ascii" | "binary" => Ok(true),
        _ => Err(ValueError::new(text, "auto, ascii or binary")),
    }
}

/// `-l`: as `--bind`, with memcached's words for all addresses and for this host's own.
fn listen(text: &str) -> Result<List<IpAddr>, ValueError> {
    let address = |word: &str| match word {
        "*" | "INADDR_ANY" => Ok(IpAddr::from(Ipv6Addr::UNSPECIFIED)),
        "localhost" => Ok(IpAddr::from(Ipv4Addr::LOCALHOST)),
        word => {
            let bare = word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let expected = "IPv4 or IPv6 addresses without a port (-p), a comma between two";
            bare.unwrap_or(word).parse().map_err(|_| ValueError::new(word, expected))
        }
    };
    text.split(',').map(address).collect()
}
