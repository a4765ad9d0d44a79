//! memcached's own flags: they do here what they do there, or are taken or refused with a line that
//! says why ([`super::unneeded`]). Those that mean one of our flags are that flag's other name.

use std::path::PathBuf;

use clap::{ArgAction, ArgMatches, Args};

use super::unneeded;
use crate::config::{Config, L1, Parsed, ValueError, idle_timeout, number};
use crate::report;

/// Of the help.
pub(super) const HEADING: &str = "memcached's flags";

// A comment and not a doc comment: clap would take that for the help of what this is part of.
#[derive(Args, Debug)]
pub(super) struct Memcached {
    /// Size of an L1 in memory, in megabytes
    #[arg(short = 'm', long, value_name = "MB", value_parser = mebibytes, conflicts_with = "l1")]
    pub memory_limit: Option<u64>,
    /// Listen on a Unix socket, as --use-domain-socket --sock-path
    #[arg(short = 's', long, value_name = "PATH", conflicts_with = "device")]
    pub unix_socket: Option<PathBuf>,
    /// Permissions of Unix sockets, in octal
    #[arg(short = 'a', long, value_name = "MODE", value_parser = mode, default_value = "700")]
    unix_mask: u32,
    /// UDP port: only 0, there is no UDP
    #[arg(short = 'U', long, value_name = "PORT", value_parser = no_udp)]
    udp_port: Option<u64>,
    /// Tell more; twice: connections, too
    ///
    /// Once: verbosity, flush_all, stats reset and lists of all keys. Twice: each connection that
    /// is opened or closed, by its number in stats conns. Requests are not told. The command
    /// verbosity changes it.
    #[arg(short = 'v', long, action = ArgAction::Count)]
    verbose: u8,
    /// memcached's settings: idle_timeout=S is obeyed, most others are not needed
    #[arg(short = 'o', long, value_name = "WORDS", value_delimiter = ',')]
    extended: Vec<String>,
}

impl Memcached {
    /// Does what the flags say that have no other name, and adds what is to be said of them.
    pub fn apply(&self, config: &mut Config, matches: &ArgMatches) -> Result<(), String> {
        if let Some(mebibytes) = self.memory_limit {
            config.l1 = L1::Memory { bytes: mebibytes << 20, file: None };
        }
        config.socket_mode = self.unix_mask;
        config.verbosity = self.verbose.min(report::CONNECTIONS).into();
        for id in matches.ids() {
            let note = match id.as_str() {
                "extended" => self.extended(config)?,
                id => unneeded::note(id, HEADING)?,
            };
            config.notes.extend(note);
        }
        Ok(())
    }

    /// Obeys the words of `-o`. Returns what is to be said of those that are not needed.
    fn extended(&self, config: &mut Config) -> Result<Option<&'static str>, String> {
        let mut said = None;
        for word in self.extended.iter().filter(|word| !word.is_empty()) {
            let (name, given) = word.split_once('=').unwrap_or((word, ""));
            let name = name.strip_prefix("no_").unwrap_or(name);
            if name == "idle_timeout" {
                let seconds = idle_timeout(given).map_err(|e| format!("-o idle_timeout: {e}"))?;
                config.idle_timeout_s = seconds;
                continue;
            }
            let note = unneeded::note(name, unneeded::WORDS)?;
            said = Some(note.ok_or_else(|| format!("-o: '{}' is not known", word.escape_debug()))?);
        }
        Ok(said)
    }
}

/// `-m`: as memcached, without a unit.
fn mebibytes(text: &str) -> Parsed<u64> {
    let expected = "megabytes without a unit, from 1 to 2097152 (--l1 memory,size=1G takes units)";
    number(text, 1, 1 << 21).map_err(|_| ValueError::new(text, expected))
}

/// `-a`: permission bits.
fn mode(text: &str) -> Parsed<u32> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| ValueError::new(text, "permissions in octal, e.g. 700"))
}

fn no_udp(text: &str) -> Parsed<u64> {
    number(text, 0, 0).map_err(|_| ValueError::new(text, "0, because there is no UDP"))
}
