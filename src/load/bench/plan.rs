//! The settings of a measurement, as plain data, and whether it can be done.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::spread::{Lengths, Popularity, Zipf};
use crate::base::limits::KEY_BYTES_MAX;
use crate::config::{Cidr, Huge};
use crate::load::login::Login;
use crate::load::options::ANSWER_BYTES;
use crate::load::stream::Target;
use crate::load::wire::Dialect;

/// Where a server is, its name looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAddress {
    /// A port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// When requests are sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// As soon as answers come: a closed loop. It finds the highest rate; latencies do not show how
    /// a stall of the server would delay clients that do not wait for one another.
    Closed,
    /// At this rate, in requests a second of all connections together: an open loop. A latency
    /// begins when its request was due.
    Open(f64),
    /// At these rates, one after another: a step of the result each.
    Rates(Vec<f64>),
    /// At 10 % to 110 % of the rate of a closed loop, in steps of 10 %.
    Auto,
}

/// A DPDK device to send through.
#[cfg_attr(not(feature = "dpdk"), allow(dead_code, reason = "read where there are devices"))]
#[derive(Clone, Debug)]
pub struct DevicePlan {
    /// Its name.
    pub device: String,
    /// Own addresses on it.
    pub addresses: Vec<Cidr>,
    /// Routers.
    pub gateways: Vec<IpAddr>,
    /// The core to run on.
    pub core: Option<usize>,
    /// Whether frames live in huge pages.
    pub huge: Huge,
    /// How long it stays open at the end, in seconds.
    pub hold_s: u64,
}

/// What a command line says in its own way, and the result repeats.
#[derive(Clone, Debug)]
pub struct AsGiven {
    /// The server.
    pub target: String,
    /// The lengths of keys and values.
    pub lengths: [String; 2],
}

/// All settings of a measurement. [`Plan::new`] has the defaults of `sunder bench`.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub server: Target,
    /// When requests are sent.
    pub load: Load,
    /// How long requests are sent before each step is measured.
    pub warmup: Duration,
    /// How long each step is measured.
    pub duration: Duration,
    /// The protocol.
    pub dialect: Dialect,
    /// Who each connection logs in as, before anything is measured, if anybody.
    pub login: Option<Login>,
    /// Share of the requests that are gets, from 0 to 1; the others are sets.
    pub get_share: f64,
    /// Keys of one get.
    pub multi_get: usize,
    /// Different keys.
    pub keys: u32,
    /// Whether all keys are stored before the first step.
    pub fills: bool,
    /// The exponent of Zipf's law, by which keys are drawn; None: each key as often.
    pub skew: Option<f64>,
    /// Lengths of keys, in bytes.
    pub key_bytes: Lengths,
    /// Lengths of values, in bytes.
    pub value_bytes: Lengths,
    /// Seconds until what is stored expires, at most 30 days; 0: never.
    pub ttl_s: i32,
    /// Decides what is drawn.
    pub seed: u64,
    /// One item in this many is compared byte by byte; key and length of all are.
    pub check_every: u32,
    /// Connections.
    pub connections: usize,
    /// Requests in flight on each.
    pub depth: u32,
    /// Threads, at most one for each connection.
    pub threads: usize,
    /// A server that is silent for so long ends the run.
    pub timeout: Duration,
    /// An answer that is longer ends the run.
    pub answer_bytes: usize,
    /// The result's name in reports; empty: the server's.
    pub label: String,
    /// The device, if not the host's sockets.
    pub(crate) device: Option<DevicePlan>,
    /// What of it a command line gave in words.
    pub(crate) as_given: Option<AsGiven>,
}

/// Most keys of requests in flight at once: each takes 16 bytes.
const KEYS_IN_FLIGHT_MAX: usize = 1 << 26;

/// Longest value: what a server can be told to take.
pub const VALUE_BYTES_MAX: u64 = 1 << 28;

/// Source ports that a client uses of each own address: those above the well-known ones.
pub const PORTS: std::ops::RangeInclusive<u16> = 1_024..=u16::MAX;

/// Most connections, threads and requests in flight on a connection.
const CONNECTIONS_MAX: usize = 1_000_000;
const THREADS_MAX: usize = 64;
const DEPTH_MAX: u32 = 4_096;

/// Most keys of one get.
const MULTI_GET_MAX: usize = 10_000;

/// Longest step, and longest expiry: beyond 30 days the protocols read a Unix time.
const STEP_MAX: Duration = Duration::from_secs(86_400);
const TTL_S_MAX: i32 = 60 * 60 * 24 * 30;

impl Plan {
    /// A closed loop of 50 connections that get and set 10,000 keys in proportion 9 to 1, for ten
    /// seconds after one of warm-up.
    pub fn new(server: Target) -> Plan {
        Plan {
            server,
            load: Load::Closed,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(10),
            dialect: Dialect::Text,
            login: None,
            get_share: 0.9,
            multi_get: 1,
            keys: 10_000,
            fills: true,
            skew: None,
            key_bytes: Lengths::Fixed(16),
            value_bytes: Lengths::Fixed(100),
            ttl_s: 0,
            seed: 1,
            check_every: 64,
            connections: 50,
            depth: 1,
            threads: 1,
            timeout: Duration::from_secs(10),
            answer_bytes: ANSWER_BYTES,
            label: String::new(),
            device: None,
            as_given: None,
        }
    }

    /// Whether it can be done.
    ///
    /// # Errors
    /// What is wrong with it, in one line that begins with the name that its flag has.
    pub(crate) fn check(&self) -> Result<(), String> {
        let rates = match &self.load {
            Load::Closed | Load::Auto => &[][..],
            Load::Open(rate) => std::slice::from_ref(rate),
            Load::Rates(rates) => rates,
        };
        let no_rate = matches!(&self.load, Load::Rates(rates) if rates.is_empty());
        let (shortest, longest) = self.key_bytes.bounds();
        let in_flight =
            self.connections.saturating_mul(self.depth as usize).saturating_mul(self.multi_get);
        let is_wrong = [
            ("rate", no_rate || rates.iter().any(|rate| !(0.1..=1e9).contains(rate))),
            ("duration", self.duration.is_zero() || self.duration > STEP_MAX),
            ("warmup", self.warmup > STEP_MAX),
            ("timeout", self.timeout.is_zero() || self.timeout > STEP_MAX),
            ("ratio", !(0.0..=1.0).contains(&self.get_share)),
            ("multi-get", !(1..=MULTI_GET_MAX).contains(&self.multi_get)),
            ("keys", self.keys == 0),
            ("skew", self.skew.is_some_and(|theta| !(0.01..=5.0).contains(&theta))),
            ("key-bytes", shortest == 0 || longest as usize > KEY_BYTES_MAX || shortest > longest),
            ("value-bytes", u64::from(self.value_bytes.bounds().1) > VALUE_BYTES_MAX),
            ("ttl", !(0..=TTL_S_MAX).contains(&self.ttl_s)),
            ("check", self.check_every == 0),
            ("connections", !(1..=CONNECTIONS_MAX).contains(&self.connections)),
            ("depth", !(1..=DEPTH_MAX).contains(&self.depth)),
            ("threads", !(1..=THREADS_MAX).contains(&self.threads)),
        ];
        if let Some((flag, _)) = is_wrong.iter().find(|(_, is_wrong)| *is_wrong) {
            return Err(format!("{flag}: outside of what a plan can have"));
        }
        if self.threads > self.connections {
            return Err("threads: more than connections".into());
        }
        if shortest < 8 && u64::from(self.keys) > 1 << (4 * shortest) {
            return Err(format!(
                "key-bytes: keys of {shortest} bytes are too short to tell {} apart",
                self.keys
            ));
        }
        if in_flight > KEYS_IN_FLIGHT_MAX {
            return Err(format!(
                "connections: with depth and multi-get, more than {KEYS_IN_FLIGHT_MAX} keys in \
                 flight"
            ));
        }
        Ok(())
    }

    /// The server, as it was given.
    pub(super) fn target(&self) -> String {
        self.as_given.as_ref().map_or_else(|| self.server.to_string(), |it| it.target.clone())
    }

    /// The lengths of keys and values in words.
    pub(super) fn lengths(&self) -> [String; 2] {
        let spelt = || [self.key_bytes.to_string(), self.value_bytes.to_string()];
        self.as_given.as_ref().map_or_else(spelt, |it| it.lengths.clone())
    }

    /// By what keys are drawn.
    pub(super) fn popularity(&self) -> Popularity {
        match self.skew {
            None => Popularity::Uniform { keys: self.keys },
            Some(theta) => Popularity::Zipf(Zipf::new(self.keys, theta)),
        }
    }

    /// The silence that ends a run, in nanoseconds.
    pub(super) fn timeout_ns(&self) -> u64 {
        self.timeout.as_nanos() as u64
    }

    /// What is measured of a step, in nanoseconds.
    pub(super) fn duration_ns(&self) -> u64 {
        self.duration.as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut Plan);

    #[test]
    fn a_plan_that_cannot_be_done_says_which_of_its_fields_is_wrong() {
        let plan = || Plan::new(Target::Tcp("127.0.0.1".to_owned(), 11211));
        assert_eq!(plan().check(), Ok(()));
        let rows: [(&str, Change); 12] = [
            ("rate", |plan| plan.load = Load::Open(f64::NAN)),
            ("rate", |plan| plan.load = Load::Rates(vec![])),
            ("duration", |plan| plan.duration = Duration::ZERO),
            ("ratio", |plan| plan.get_share = 1.5),
            ("keys", |plan| plan.keys = 0),
            ("key-bytes", |plan| plan.key_bytes = Lengths::Range(1, 251)),
            ("key-bytes", |plan| plan.key_bytes = Lengths::Fixed(2)),
            ("check", |plan| plan.check_every = 0),
            ("connections", |plan| plan.connections = 0),
            ("depth", |plan| plan.depth = 0),
            ("threads", |plan| plan.threads = 51),
            ("threads", |plan| plan.threads = 0),
        ];
        for (field, change) in rows {
            let mut plan = plan();
            change(&mut plan);
            let line = plan.check().expect_err(field);
            assert!(line.starts_with(field), "{line}");
        }
    }
}
