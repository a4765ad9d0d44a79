//! What a measurement is told, as plain data.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::spread::{Lengths, Popularity};
use crate::config::{Cidr, Huge};
use crate::load::wire::Dialect;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// When requests are sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// As soon as answers come.
    Closed,
    /// At this rate.
    Open(f64),
    /// At these rates, one after another.
    Rates(Vec<f64>),
    /// At shares of what a closed loop comes to.
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
}

/// Everything a measurement is told.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server, as given.
    pub target: String,
    /// Where it is.
    pub place: Place,
    /// A name and a port that `place` is looked up from when the measurement starts.
    pub lookup: Option<(String, u16)>,
    /// The device, if not the host's sockets.
    pub device: Option<DevicePlan>,
    /// When requests are sent.
    pub load: Load,
    /// Length of a step's warm-up.
    pub warmup_ns: u64,
    /// Length of what is measured of a step.
    pub duration_ns: u64,
    /// The protocol.
    pub dialect: Dialect,
    /// Share of the requests that are gets.
    pub get_share: f64,
    /// Keys of one get.
    pub multi_get: usize,
    /// Different keys.
    pub keys: u32,
    /// Whether they are stored first.
    pub fills: bool,
    /// Which are asked for how often.
    pub popularity: Popularity,
    /// The same in words.
    pub skew: String,
    /// Lengths of keys.
    pub key_bytes: Lengths,
    /// Lengths of values.
    pub value_bytes: Lengths,
    /// Both as given.
    pub lengths: [String; 2],
    /// Expiry of what is stored, in seconds.
    pub ttl_s: i32,
    /// What is drawn.
    pub seed: u64,
    /// Every item of so many is compared in full.
    pub check_every: u32,
    /// Connections.
    pub connections: usize,
    /// Requests under way on each.
    pub depth: u32,
    /// Threads.
    pub threads: usize,
    /// Silence of the server that ends the run.
    pub timeout_ns: u64,
    /// An item that is longer ends the run.
    pub answer_bytes: usize,
    /// How long a device stays open at the end, in seconds.
    #[cfg_attr(not(feature = "dpdk"), allow(dead_code, reason = "read where there are devices"))]
    pub hold_s: u64,
    /// Where the result goes.
    pub json: Option<PathBuf>,
    /// Where the latencies go.
    pub hgrm: Option<PathBuf>,
    /// The result's name.
    pub label: String,
}

/// Most keys of requests under way at once: a place of 16 bytes for each.
pub const PLACES_MAX: usize = 1 << 26;

/// Longest value: what a server can be told to take.
pub const VALUE_BYTES_MAX: u64 = 1 << 28;

/// Source ports that a client uses of each own address: those above the well-known ones.
pub const PORTS: std::ops::RangeInclusive<u16> = 1_024..=u16::MAX;
