//! What a run does, from its command line.

use super::operation::GET_KEYS_MAX;
use super::value::{KEYS_MAX, RECORD_BYTES_MAX, RECORD_HEAD_BYTES};
use std::time::Duration;

/// What `--help` prints.
pub const USAGE: &str = "\
usage: history HOST:PORT|unix:PATH[,..] [--connections 64] [--keys 16] [--operations 1000000]
               [--seed 1] [--value-bytes 10-20000] [--timeout-ms 2000] [--binary 0.25]
               [--no-loss] [--no-flush] [--cas-may-repeat]
";

/// Most connections.
const CONNECTIONS_MAX: u64 = 4096;

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// HOST:PORT or unix:PATH; connections are spread over them.
    pub addresses: Vec<String>,
    pub connections: usize,
    /// Keys with values, and as many as a quarter of them with numbers.
    pub keys: usize,
    pub operations: u64,
    pub seed: u64,
    /// Least and most bytes of a record.
    pub value_bytes: (usize, usize),
    /// An operation without an answer for so long is given up.
    pub timeout: Duration,
    /// An item that was not deleted must be there, and no write may fail.
    pub is_loss_wrong: bool,
    pub has_flush: bool,
    /// The server may give a cas unique twice, as one does whose items live in a process that may
    /// restart alone. Then a cas proves nothing of what it replaced.
    pub may_cas_repeat: bool,
    /// Share of the connections that speak the binary protocol.
    pub binary_share: f64,
    /// A server that cannot be reached for so long ends the run.
    pub patience: Duration,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            addresses: vec![],
            connections: 64,
            keys: 16,
            operations: 1_000_000,
            seed: 1,
            value_bytes: (10, 20_000),
            timeout: Duration::from_millis(2000),
            is_loss_wrong: false,
            has_flush: true,
            may_cas_repeat: false,
            binary_share: 0.25,
            patience: Duration::from_secs(30),
        }
    }
}

impl Plan {
    /// Keys with numbers.
    pub fn number_keys(&self) -> usize {
        (self.keys / 4).max(1)
    }

    /// Reads a command line, without the program's name. None: it asks for help.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Option<Plan>, String> {
        let mut words = words.into_iter();
        let mut plan = Plan::default();
        while let Some(word) = words.next() {
            let mut value =
                || words.next().ok_or_else(|| format!("{word}: expected a value behind it"));
            match &word[..] {
                "-h" | "--help" => return Ok(None),
                "--connections" => {
                    plan.connections = number(&word, &value()?, 1, CONNECTIONS_MAX)? as usize;
                }
                "--keys" => {
                    plan.keys = number(&word, &value()?, 1, KEYS_MAX as u64 / 2)? as usize;
                }
                "--operations" => plan.operations = number(&word, &value()?, 1, u64::MAX)?,
                "--seed" => plan.seed = number(&word, &value()?, 0, u64::MAX)?,
                "--value-bytes" => plan.value_bytes = range(&word, &value()?)?,
                "--timeout-ms" => {
                    let timeout_ms = number(&word, &value()?, 1, 3_600_000)?;
                    plan.timeout = Duration::from_millis(timeout_ms);
                }
                "--binary" => plan.binary_share = share(&word, &value()?)?,
                "--no-loss" => plan.is_loss_wrong = true,
                "--no-flush" => plan.has_flush = false,
                "--cas-may-repeat" => plan.may_cas_repeat = true,
                _ if word.starts_with('-') => return Err(format!("{word}: no such flag")),
                _ if plan.addresses.is_empty() => plan.addresses = addresses(&word)?,
                _ => return Err(format!("{word}: a second list of addresses")),
            }
        }
        if plan.addresses.is_empty() {
            return Err("expected HOST:PORT or unix:PATH".into());
        }
        Ok(Some(plan))
    }
}

const _: () = assert!(GET_KEYS_MAX >= 2);

fn addresses(word: &str) -> Result<Vec<String>, String> {
    let mut addresses = vec![];
    for address in word.split(',') {
        let is_socket = address.strip_prefix("unix:").is_some_and(|path| !path.is_empty());
        let is_port = address.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !is_socket && !is_port {
            return Err(format!("'{address}': expected HOST:PORT or unix:PATH"));
        }
        addresses.push(address.to_owned());
    }
    Ok(addresses)
}

fn number(flag: &str, word: &str, least: u64, most: u64) -> Result<u64, String> {
    let number = word.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("{flag} {word}: expected a number from {least} to {most}"))
}

fn share(flag: &str, word: &str) -> Result<f64, String> {
    let share = word.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{flag} {word}: expected a share from 0 to 1"))
}

fn range(flag: &str, word: &str) -> Result<(usize, usize), String> {
    let range = word.split_once('-').and_then(|(least, most)| {
        let (least, most) = (least.parse().ok()?, most.parse().ok()?);
        let bounds = RECORD_HEAD_BYTES..=RECORD_BYTES_MAX;
        (least <= most && bounds.contains(&least) && bounds.contains(&most))
            .then_some((least, most))
    });
    let bounds = format!("{RECORD_HEAD_BYTES} to {RECORD_BYTES_MAX}");
    range.ok_or_else(|| format!("{flag} {word}: expected MIN-MAX, each {bounds}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Option<Plan>, String> {
        Plan::parse(words.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_whole_command_line() {
        let plan = parse(
            "a:1,unix:/b --connections 3 --keys 2 --operations 7 --seed 9 --value-bytes 20-30 \
             --timeout-ms 5 --no-loss --no-flush --cas-may-repeat --binary 0.5",
        );
        let plan = plan.expect("right").expect("no help");
        assert_eq!(plan.addresses, ["a:1", "unix:/b"]);
        assert_eq!((plan.connections, plan.keys, plan.operations, plan.seed), (3, 2, 7, 9));
        assert_eq!((plan.value_bytes, plan.timeout), ((20, 30), Duration::from_millis(5)));
        assert!(plan.is_loss_wrong && !plan.has_flush && plan.may_cas_repeat);
        assert_eq!(plan.binary_share, 0.5);
    }

    #[test]
    fn wrong_words_are_named() {
        for (words, named) in [
            ("", "HOST:PORT"),
            ("a", "'a'"),
            ("a:0", "'a:0'"),
            ("a:1,", "''"),
            ("a:1 b:1", "b:1"),
            ("a:1 --keys", "--keys"),
            ("a:1 --keys 0", "--keys 0"),
            ("a:1 --value-bytes 9-10", "9-10"),
            ("a:1 --value-bytes 20-10", "20-10"),
            ("a:1 --binary 2", "--binary 2"),
            ("a:1 --what", "--what"),
        ] {
            let error = parse(words).expect_err(words);
            assert!(error.contains(named) && error.lines().count() == 1, "{words}: {error}");
        }
        assert!(parse("--help").expect("help").is_none());
    }
}
