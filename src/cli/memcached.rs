//! memcached's command line: its flags do here what they do there, or are taken with a line that
//! says why nothing comes of them, or refused with what to do instead where to ignore them would
//! harm: whoever asks for TLS must not be served without.
//!
//! Where a letter or a name is ours or Rend's too, it is ours or Rend's: this is asked last.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Said, UsageError, once, text, value};
use crate::config::{self, L1, ValueError};

/// Letters and names of memcached 1.6; a letter that means one of our own flags has its name.
const FLAGS: &[(char, &str)] = &[
    ('U', "udp-port"),
    ('s', "unix-socket"),
    ('a', "unix-mask"),
    ('A', "enable-shutdown"),
    ('l', "listen"),
    ('d', "daemon"),
    ('r', "enable-coredumps"),
    ('u', "user"),
    ('m', "memory-limit"),
    ('M', "disable-evictions"),
    ('c', "max-connections"),
    ('k', "lock-memory"),
    ('v', "verbose"),
    ('P', "pidfile"),
    ('f', "slab-growth-factor"),
    ('n', "slab-min-size"),
    ('L', "enable-largepages"),
    ('D', "prefix-delimiter"),
    ('t', "workers"),
    ('R', "max-reqs-per-event"),
    ('C', "disable-cas"),
    ('b', "listen-backlog"),
    ('B', "protocol"),
    ('I', "max-item-size"),
    ('S', "enable-sasl"),
    ('F', "disable-flush-all"),
    ('X', "disable-dumping"),
    ('W', "disable-watch"),
    ('Y', "auth-file"),
    ('e', "memory-file"),
    ('Z', "enable-ssl"),
    ('N', "napi-ids"),
    ('o', "extended"),
];

/// What stands behind the name in a flag that is taken without effect: whether it has a value, and
/// what is said.
const WITHOUT_EFFECT: &[(&str, bool, &str)] = &[
    ("enable-coredumps", false, "-r: not needed, ulimit -c unlimited before the start does it"),
    (
        "lock-memory",
        false,
        "-k: has no effect, memory is not locked; turn swap off instead (swapoff -a)",
    ),
    (
        "verbose",
        false,
        "-v: has no effect, there is one level: what an operator may have to act on",
    ),
    ("pidfile", true, "-P: has no effect, no file is written"),
    ("slab-growth-factor", true, "-f: not needed, there are no slab classes"),
    ("slab-min-size", true, "-n: not needed, there are no slab classes"),
    ("enable-largepages", false, "-L: not needed, L1 takes what the kernel gives of huge pages"),
    ("prefix-delimiter", true, "-D: has no effect, nothing is counted by prefix"),
    ("max-reqs-per-event", true, "-R: not needed, a connection's share of a turn is fixed"),
    ("disable-cas", false, "-C: has no effect, items always have a cas"),
    ("listen-backlog", true, "-b: has no effect, each listener's queue is 1024"),
    ("disable-dumping", false, "-X: not needed, keys are never dumped"),
    ("disable-watch", false, "-W: not needed, there is no watch"),
    ("napi-ids", true, "-N: not needed, queues of a device have a worker each (--device)"),
];

/// What is refused, and why.
const REFUSED: &[(&str, &str)] = &[
    (
        "daemon",
        "-d: sunder stays in the foreground; let a service manager run it, or the shell (&)",
    ),
    ("disable-evictions", "-M: a full L1 always evicts, there is no way to have it fail instead"),
    ("enable-sasl", "-S: there is no SASL; put a proxy in front, or leave -S out"),
    ("auth-file", "-Y: there is no authentication; put a proxy in front, or leave -Y out"),
    ("enable-ssl", "-Z: there is no TLS; put a proxy in front, or leave -Z out"),
    ("memory-file", "-e: memory does not outlive the process; --l2 ssd,path=PATH,size=SIZE does"),
];

/// What is said if `-m` and `--l1` are given, in either order.
pub(super) const TWO_L1: &str = "--l1: -m names an L1 too; give one of them";

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

/// The name of the flag with this letter.
pub(super) fn long(letter: char) -> Option<&'static str> {
    FLAGS.iter().find(|(it, _)| *it == letter).map(|(_, name)| *name)
}

/// Our name of one of memcached's long flags that mean the same; any other as it is.
pub(super) fn ours(name: &str) -> &str {
    match name {
        "conn-limit" => "max-connections",
        "threads" => "workers",
        "napi_ids" => "napi-ids",
        name => name,
    }
}

/// Takes the long flag `name` if it is one of memcached's. False: it is not.
pub(super) fn take(
    said: &mut Said,
    name: &str,
    parser: &mut lexopt::Parser,
) -> Result<bool, UsageError> {
    if let Some((_, why)) = REFUSED.iter().find(|(it, _)| *it == name) {
        return Err(UsageError::Conflict(why));
    }
    if let Some((_, has_value, note)) = WITHOUT_EFFECT.iter().find(|(it, ..)| *it == name) {
        if *has_value {
            text(parser)?;
        }
        said.note(note);
        return Ok(true);
    }
    match name {
        "unix-socket" => {
            said.socket_path = Some(parser.value()?.into());
            said.uses_socket = true;
        }
        "unix-mask" => said.config.socket_mode = value(parser, "-a", mode)?,
        "listen" => {
            let binds = value(parser, "-l", listen)?;
            said.bind(binds);
        }
        "memory-limit" => {
            once(TWO_L1, said.l1_flag == Some("--l1"))?;
            let mebibytes = value(parser, "-m", mebibytes)?;
            said.config.l1 = L1::Memory { bytes: mebibytes << 20 };
            said.l1_flag = Some("-m");
        }
        "udp-port" => {
            if value(parser, "-U", |text| config::number(text, 0, 65_535))? != 0 {
                return Err(UsageError::Conflict("-U: there is no UDP; leave it out, or say -U 0"));
            }
        }
        "user" => {
            text(parser)?;
            // As memcached, to which it means something for root alone.
            if rustix::process::geteuid().is_root() {
                return Err(UsageError::Conflict(
                    "-u: sunder does not change its user; start it as that one (User= of a \
                     service, or setpriv --reuid USER)",
                ));
            }
        }
        "protocol" => match &text(parser)?[..] {
            "auto" => {}
            "ascii" | "binary" => {
                said.note("-B: has no effect, each connection's first byte says its protocol");
            }
            other => {
                let error = ValueError::new(other, "auto, ascii or binary");
                return Err(UsageError::Value { flag: "-B", error });
            }
        },
        "extended" => {
            for word in text(parser)?.split(',').filter(|word| !word.is_empty()) {
                extended(said, word)?;
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// A word of `-o`.
fn extended(said: &mut Said, word: &str) -> Result<(), UsageError> {
    let (name, given) = word.split_once('=').unwrap_or((word, ""));
    match name.strip_prefix("no_").unwrap_or(name) {
        "idle_timeout" => {
            let seconds = config::number(given, 0, 86_400 * 365);
            let wrong = |error| UsageError::Value { flag: "-o idle_timeout", error };
            said.config.idle_timeout_s = seconds.map_err(wrong)?;
        }
        "ext_path" => {
            return Err(UsageError::Conflict(
                "-o ext_path: name the disk with --l2 ssd,path=PATH,size=SIZE instead",
            ));
        }
        name if name.starts_with("ssl_") => {
            return Err(UsageError::Conflict("-o ssl_..: there is no TLS; put a proxy in front"));
        }
        name if name.starts_with("ext_") || EXTENDED.contains(&name) => said.note(NOTE_EXTENDED),
        _ => {
            return Err(UsageError::Word(format!("-o: '{}' is not known", word.escape_debug())));
        }
    }
    Ok(())
}

/// `-m`: as memcached, without a unit.
fn mebibytes(text: &str) -> Result<u64, ValueError> {
    config::number(text, 1, 1 << 21).map_err(|_| {
        let expected = "megabytes without a unit, from 1 to 2097152 (--l1 memory,size=1G takes \
                        units)";
        ValueError::new(text, expected)
    })
}

/// `-a`: permission bits in octal.
fn mode(text: &str) -> Result<u32, ValueError> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| ValueError::new(text, "permissions in octal, e.g. 700"))
}

/// `-l`: as `--bind`, with memcached's words for all addresses and for this host's own.
fn listen(text: &str) -> Result<Vec<IpAddr>, ValueError> {
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

impl Said {
    fn note(&mut self, note: &'static str) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::{Command, parse};
    use crate::config::Config;

    fn config(words: &str) -> Config {
        match parse(words.split_whitespace().map(OsString::from)) {
            Ok(Command::Serve(config)) => *config,
            other => panic!("{words}: {other:?}"),
        }
    }

    #[test]
    fn a_memcached_is_replaced_by_changing_its_name() {
        let debian = "serve -m 2048 -p 11311 -l 127.0.0.1,::1 -c 4096 -t 2 -I 2m -U 0";
        let config = config(debian);
        assert_eq!(config.l1, L1::Memory { bytes: 2 << 30 });
        assert_eq!((config.port, config.connections_max, config.workers), (11311, 4096, Some(2)));
        assert_eq!(config.item_bytes_max, 2 << 20);
        assert_eq!(config.binds.len(), 2);
        assert!(config.notes.is_empty(), "{:?}", config.notes);
    }

    #[test]
    fn flags_that_change_nothing_are_taken_with_a_line_each() {
        let config = config(
            "serve -vv -v -k -L -f 1.1 -n 96 -R 20 -b 2048 -C -r -X -B ascii -P /run/x.pid \
             -o modern,no_hashexpand,ext_threads=2 -o lru_crawler,hashpower=20",
        );
        let said = config.notes.join("\n");
        for flag in ["-v", "-k", "-L", "-f", "-n", "-R", "-b", "-C", "-r", "-X", "-B", "-P", "-o"] {
            let lines = said.lines().filter(|line| line.starts_with(&format!("{flag}:"))).count();
            assert_eq!(lines, 1, "{flag}: {said}");
        }
        assert_eq!(config.notes.len(), 13, "{said}");
        let queue = format!("queue is {}", crate::limits::LISTEN_BACKLOG);
        assert!(said.contains(&queue), "{said}");
    }

    #[test]
    fn a_socket_and_the_switches_are_memcacheds() {
        let config =
            config("serve -s /run/s -p 0 -U 0 -a 770 -A -F -o idle_timeout=30 --conn-limit=7");
        assert_eq!(config.socket_path, Some("/run/s".into()));
        assert_eq!((config.socket_mode, config.idle_timeout_s), (0o770, 30));
        assert!(config.is_shutdown_enabled && !config.is_flush_enabled);
        assert_eq!(config.connections_max, 7);
    }

    #[test]
    fn everything_in_memcacheds_help_is_known() {
        for (letter, name) in FLAGS {
            let word = format!("-{letter}");
            let said = match parse(["serve".into(), word.clone().into(), "1".into()]) {
                Ok(_) => continue,
                Err(error) => error.to_string(),
            };
            assert!(!said.contains("invalid option"), "{word} --{name}: {said}");
        }
    }

    #[test]
    fn what_would_harm_if_it_were_ignored_is_refused_with_the_way_out() {
        for (words, cure) in [
            ("-d", "service manager"),
            ("-S", "proxy"),
            ("-Z", "proxy"),
            ("-Y /x", "proxy"),
            ("-M", "evicts"),
            ("-e /x", "--l2 ssd"),
            ("-o ext_path=/x:1G", "--l2 ssd"),
            ("-o ssl_key=/x", "proxy"),
            ("-o nonsense", "nonsense"),
            ("-U 11211", "UDP"),
            ("-m 64 --l1 memory", "--l1"),
            ("-m 64m", "megabytes"),
            ("-l 127.0.0.1:11211", "-p"),
            ("-a 999", "octal"),
        ] {
            let words = format!("serve {words}");
            let error = parse(words.split_whitespace().map(OsString::from)).expect_err(&words);
            let line = error.to_string();
            assert!(line.contains(cure) && !line.contains('\n'), "{words}: {line}");
        }
    }
}
