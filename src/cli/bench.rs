//! `sunder bench`: everything has a default and a bound, so that no run goes on without end or asks
//! the host for more than it has.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::report::Report;
use super::shared::{answer_bytes, seed};
use super::value::has_twice;
use crate::base::limits::{KEY_BYTES_MAX, TCP_ADDRESSES_MAX};
use crate::config::{self, Cidr, Huge, ValueError, count, number, real, size};
use crate::load::bench::{
    DevicePlan, Lengths, Load, PLACES_MAX, PORTS, Place, Plan, Popularity, SECOND_NS,
    VALUE_BYTES_MAX, Zipf, rates,
};
use crate::load::options::ANSWER_BYTES;
use crate::load::report::Request;
use crate::load::wire::Dialect;

const AFTER: &str = "\
N and R may be 50k, 1.5M or 2G (powers of 1000). SIZES: N, MIN-MAX, lognormal:MEDIAN,SIGMA,MAX,
or N:WEIGHT,N:WEIGHT,..; N may be 4K or 1M (powers of 1024). The lengths of a key never change;
they are spread over the keys.

SIGINT (ctrl-C) and SIGTERM end the measurement early, as a failing server does; what was
measured is reported. A second signal ends the tool at once.

Exit status: 0 every answer was right; 1 a mismatch, an error, or no server; 2 wrong command
line; 130 ended by a signal.

Precision: on kernel sockets the clock is read at each visit to a connection. On a device it is
read once a turn (at most 32 frames): a latency is reported too long by up to one turn, and a
note of the result says how long the turns were.

Examples:
  sunder bench --ratio 1:0 --connections 100
  sunder bench 10.0.0.5 --rate 50k --skew zipf --value-bytes lognormal:200,1,64K --json run.json
  sunder bench unix:/run/cache.sock --protocol meta --sweep auto --json sweep.json
  sunder bench 10.0.0.5 --device net_memif0,socket=/run/wire.sock --address 10.0.0.2/16 \\
      --connections 1000 --depth 16";

/// Measure throughput and latency of a server
///
/// Without --rate and --sweep the loop is closed: each connection sends its next request when it
/// was answered. That finds the highest throughput; it cannot show how a stall would delay clients
/// that do not wait for one another.
#[derive(Args, Debug)]
#[command(after_help = AFTER, disable_help_subcommand = true, subcommand_negates_reqs = true)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Bench {
    #[command(subcommand)]
    command: Option<BenchCommand>,
    #[command(flatten, next_help_heading = "The server")]
    server: Server,
    #[command(flatten, next_help_heading = "When requests are sent")]
    pace: Pace,
    #[command(flatten, next_help_heading = "What is requested")]
    requests: Requests,
    #[command(flatten, next_help_heading = "How it is requested")]
    client: Client,
    #[command(flatten, next_help_heading = "Through a device")]
    device: Device,
    #[command(flatten, next_help_heading = "Results")]
    results: Results,
}

#[derive(Subcommand, Debug)]
enum BenchCommand {
    Report(Report),
}

#[derive(Args, Debug)]
struct Server {
    /// HOST:PORT, HOST or unix:PATH [default: 127.0.0.1:11211]
    #[arg(conflicts_with_all = ["host", "port", "sock_path"])]
    target: Option<String>,
    /// Name or address of the server
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Port of the server
    #[arg(short, long, value_name = "N", value_parser = config::port)]
    port: Option<u16>,
    /// Unix socket of the server
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "port"])]
    sock_path: Option<String>,
}

#[derive(Args, Debug)]
struct Pace {
    /// Open loop: send R requests a second in all, each at its time
    ///
    /// Latency counts from the time that a request was due, so that a stall shows in all requests
    /// that it delayed.
    #[arg(long, value_name = "R", value_parser = rate, conflicts_with = "sweep")]
    rate: Option<f64>,
    /// Open loop at several rates, lowest first, to find the knee
    ///
    /// auto, or FROM-TO[/STEPS] with rates [STEPS: 10]. The knee is the last rate up to which 98 %
    /// of what was due was answered in time and p99 was at most ten times that of the lowest rate.
    /// auto tries 10 % to 110 % of a closed loop's throughput, in steps of 10 %.
    #[arg(long, value_name = "RATES", value_parser = sweep)]
    sweep: Option<Load>,
    /// Seconds to measure, at each rate
    #[arg(long, value_name = "S", value_parser = duration, default_value = "10")]
    duration: u64,
    /// Seconds of warm-up before, at each rate
    #[arg(long, value_name = "S", value_parser = warmup, default_value = "1")]
    warmup: u64,
}

#[derive(Args, Debug)]
struct Requests {
    /// text, binary or meta; or --text, --binary, --meta
    #[arg(long, value_name = "NAME", value_parser = dialect, default_value = "text")]
    #[arg(overrides_with_all = ["text", "binary", "meta"])]
    protocol: Dialect,
    /// As --protocol text
    #[arg(short, long, overrides_with_all = ["protocol", "binary", "meta"])]
    text: bool,
    /// As --protocol binary
    #[arg(short, long, overrides_with_all = ["protocol", "text", "meta"])]
    binary: bool,
    /// As --protocol meta
    #[arg(long, overrides_with_all = ["protocol", "text", "binary"])]
    meta: bool,
    /// Gets in proportion to sets
    #[arg(long, value_name = "GETS:SETS", value_parser = ratio, default_value = "9:1")]
    ratio: f64,
    /// Keys of one get, which counts as one request
    #[arg(long, value_name = "N", value_parser = multi_get, default_value = "1")]
    multi_get: u64,
    /// Different keys, stored before the measurement
    #[arg(long, value_name = "N", value_parser = many, default_value = "10000")]
    keys: u64,
    /// Do not store the keys first
    #[arg(long)]
    no_fill: bool,
    /// How often each key is requested: uniform, or zipf[:THETA] [THETA: 0.99]
    #[arg(long, value_name = "NAME", value_parser = skew, default_value = "uniform")]
    skew: (String, Option<f64>),
    /// Lengths of keys
    #[arg(long, value_name = "SIZES", value_parser = key_lengths, default_value = "16")]
    key_bytes: (Lengths, String),
    /// Lengths of values
    #[arg(long, value_name = "SIZES", value_parser = value_lengths, default_value = "100")]
    value_bytes: (Lengths, String),
    /// Seconds until what is stored expires; 0: never
    #[arg(long, value_name = "S", value_parser = ttl, default_value = "0")]
    ttl: u64,
    /// Decides what is drawn
    #[arg(long, value_name = "N", value_parser = seed, default_value = "1")]
    seed: u64,
    /// Compare every byte of each Nth item; key and length of all
    #[arg(long, value_name = "N", value_parser = many, default_value = "64")]
    check: u64,
}

#[derive(Args, Debug)]
struct Client {
    /// Connections
    #[arg(long, value_name = "N", value_parser = connections, default_value = "50")]
    connections: u64,
    /// Requests in flight on each connection
    #[arg(long, value_name = "N", value_parser = depth, default_value = "1")]
    depth: u64,
    /// Threads
    #[arg(long, value_name = "N", value_parser = threads, default_value = "1")]
    threads: u64,
    /// End the run if the server is silent for S seconds
    #[arg(long, value_name = "S", value_parser = timeout, default_value = "10")]
    timeout: u64,
    /// End the run if an item is longer [default: 16M, and the longest of --value-bytes]
    ///
    /// It bounds the memory that a connection may take.
    #[arg(long, value_name = "SIZE", value_parser = answer_bytes)]
    answer_bytes: Option<u64>,
}

#[derive(Args, Debug)]
struct Device {
    /// Use a DPDK device and sunder's own TCP, on one core that spins
    ///
    /// A PCI address, or a vdev as DPDK writes it. The server is an IP address then.
    #[arg(long, value_name = "DEV", requires = "address")]
    device: Option<String>,
    /// Own address on the device; repeat it, up to 8, for 60,000 ports more each
    #[arg(long, value_name = "CIDR", value_parser = config::cidr, requires = "device")]
    address: Vec<Cidr>,
    /// Router to a server on another network; repeat it for IPv4 and IPv6
    #[arg(long, value_name = "IP", value_parser = config::address, requires = "device")]
    gateway: Vec<IpAddr>,
    /// Core to run the device's thread on
    #[arg(long, value_name = "N", value_parser = core, requires = "device")]
    core: Option<u64>,
    /// Huge pages for the device's frames (scripts/hugepages.sh)
    #[arg(long, value_name = "auto|off", value_parser = config::huge, default_value = "auto")]
    #[arg(requires = "device")]
    huge: Huge,
    /// Keep the device up to S seconds longer, until the link is down
    ///
    /// A server on net_memif has to be stopped before its peer leaves.
    #[arg(long, value_name = "S", value_parser = hold, default_value = "0", requires = "device")]
    hold: u64,
}

#[derive(Args, Debug)]
struct Results {
    /// Write the whole result, for sunder bench report
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write latencies as HdrHistogram's plotter reads them
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
    /// Name of the result in reports [default: the target]
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
}

impl Bench {
    /// What to show, if that is what the words ask for.
    pub fn report(&self) -> Result<Option<Request>, String> {
        self.command.as_ref().map(|BenchCommand::Report(report)| report.request()).transpose()
    }

    /// What the flags say, if they go together.
    pub fn plan(self) -> Result<Plan, String> {
        let Bench { server, pace, requests, client, device, results, .. } = self;
        let target = server.target();
        let (place, lookup) = place(&target)?;
        let keys = requests.keys as u32;
        let (skew, theta) = requests.skew;
        let ((key_bytes, key_text), (value_bytes, value_text)) =
            (requests.key_bytes, requests.value_bytes);
        let label = results.label.filter(|label| !label.is_empty());
        let mut plan = Plan {
            place,
            lookup,
            device: None,
            load: pace.sweep.or(pace.rate.map(Load::Open)).unwrap_or(Load::Closed),
            warmup_ns: pace.warmup,
            duration_ns: pace.duration,
            dialect: match (requests.text, requests.binary, requests.meta) {
                (true, ..) => Dialect::Text,
                (_, true, _) => Dialect::Binary,
                (.., true) => Dialect::Meta,
                _ => requests.protocol,
            },
            get_share: requests.ratio,
            multi_get: requests.multi_get as usize,
            keys,
            fills: !requests.no_fill,
            popularity: match theta {
                None => Popularity::Uniform { keys },
                Some(theta) => Popularity::Zipf(Zipf::new(keys, theta)),
            },
            skew,
            answer_bytes: client
                .answer_bytes
                .map_or(ANSWER_BYTES + value_bytes.bounds().1 as usize, |bytes| bytes as usize),
            key_bytes,
            value_bytes,
            lengths: [key_text, value_text],
            ttl_s: requests.ttl as i32,
            seed: requests.seed,
            check_every: requests.check as u32,
            connections: client.connections as usize,
            depth: client.depth as u32,
            threads: client.threads as usize,
            timeout_ns: client.timeout,
            hold_s: device.hold,
            json: results.json,
            hgrm: results.hgrm,
            label: label.unwrap_or_else(|| target.clone()),
            target,
        };
        check(&plan)?;
        plan.device = device.plan(&plan)?;
        Ok(plan)
    }
}

/// Whether the flags go together, beyond what their definitions say.
fn check(plan: &Plan) -> Result<(), String> {
    let (shortest, _) = plan.key_bytes.bounds();
    if shortest < 8 && u64::from(plan.keys) > 1 << (4 * shortest) {
        return Err(format!(
            "--key-bytes: keys of {shortest} bytes are too short to tell {} apart",
            plan.keys
        ));
    }
    if plan.threads > plan.connections {
        return Err("--threads: more threads than connections".into());
    }
    if plan.connections * plan.depth as usize * plan.multi_get > PLACES_MAX {
        return Err(format!(
            "--connections, --depth, --multi-get: more than {PLACES_MAX} keys in flight"
        ));
    }
    Ok(())
}

impl Server {
    /// The server, as TARGET or as the other tools' flags have it.
    fn target(self) -> String {
        if let Some(target) = self.target {
            return target;
        }
        if let Some(path) = self.sock_path {
            return format!("unix:{path}");
        }
        let host = self.host.unwrap_or_else(|| "127.0.0.1".into());
        let port = self.port.unwrap_or(11211);
        let is_bare_ipv6 = host.contains(':') && !host.starts_with('[');
        if is_bare_ipv6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl Device {
    fn plan(self, plan: &Plan) -> Result<Option<DevicePlan>, String> {
        let Some(device) = self.device else { return Ok(None) };
        let (Place::Tcp(server), None) = (&plan.place, &plan.lookup) else {
            return Err("--device: give the server's IP address; there is no resolver".into());
        };
        if plan.threads > 1 {
            return Err("--threads: a device has one".into());
        }
        let own = self.address;
        if own.len() > TCP_ADDRESSES_MAX {
            return Err(format!("--address: give at most {TCP_ADDRESSES_MAX}"));
        }
        if own.iter().any(|own| own.address.is_ipv4() != server.is_ipv4()) {
            return Err("--address: is not of the server's kind (IPv4 or IPv6)".into());
        }
        if has_twice(own.iter().map(|own| own.address)) {
            return Err("--address: the same address is given twice".into());
        }
        if own.iter().any(|own| own.address == server.ip()) {
            return Err("--address: is the server's".into());
        }
        if plan.connections > own.len() * PORTS.len() {
            let needed = plan.connections.div_ceil(PORTS.len());
            return Err(format!(
                "--connections: {} need {needed} addresses (--address), which have {} ports each",
                plan.connections,
                PORTS.len()
            ));
        }
        let core = self.core.map(|core| core as usize);
        let (addresses, gateways, huge) = (own, self.gateway, self.huge);
        Ok(Some(DevicePlan { device, addresses, gateways, core, huge }))
    }
}

/// Where TARGET is, or the name and port to look up when the measurement starts.
fn place(target: &str) -> Result<(Place, Option<(String, u16)>), String> {
    if let Some(path) = target.strip_prefix("unix:") {
        // sun_path has 108 bytes, the last of them zero (unix(7)).
        return match path.len() {
            1..=107 => Ok((Place::Unix(path.into()), None)),
            _ => Err(format!("'{target}': expected unix: and a path of 1 to 107 bytes")),
        };
    }
    if let Ok(address) = target.parse::<SocketAddr>() {
        return Ok((Place::Tcp(address), None));
    }
    let bare = target.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok((Place::Tcp(SocketAddr::new(address, 11211)), None));
    }
    let (host, port) = match target.rsplit_once(':') {
        Some((host, port)) => (host, config::port(port).map_err(|e| format!("'{target}': {e}"))?),
        None => (target, 11211),
    };
    let unknown = Place::Tcp(SocketAddr::from(([0, 0, 0, 0], port)));
    Ok((unknown, Some((host.to_owned(), port))))
}

fn dialect(text: &str) -> Result<Dialect, ValueError> {
    match text {
        "text" => Ok(Dialect::Text),
        "binary" => Ok(Dialect::Binary),
        "meta" => Ok(Dialect::Meta),
        _ => Err(ValueError::new(text, "text, binary or meta")),
    }
}

fn ratio(text: &str) -> Result<f64, ValueError> {
    let error = || ValueError::new(text, "GETS:SETS, e.g. 9:1 or 1:0");
    let (gets, sets) = text.split_once(':').ok_or_else(error)?;
    let part = |text: &str| real(text, 0.0, 1e9).map_err(|_| error());
    let (gets, sets) = (part(gets)?, part(sets)?);
    if gets + sets > 0.0 { Ok(gets / (gets + sets)) } else { Err(error()) }
}

fn skew(text: &str) -> Result<(String, Option<f64>), ValueError> {
    let error = || ValueError::new(text, "uniform, zipf, or zipf:THETA with 0.01 to 5");
    if text == "uniform" {
        return Ok((text.to_owned(), None));
    }
    let theta = match text.strip_prefix("zipf").ok_or_else(error)? {
        "" => 0.99,
        rest => {
            let theta = rest.strip_prefix(':').ok_or_else(error)?;
            real(theta, 0.01, 5.0).map_err(|_| error())?
        }
    };
    Ok((format!("zipf {theta}"), Some(theta)))
}

fn rate(text: &str) -> Result<f64, ValueError> {
    real(text, 0.1, 1e9)
}

fn sweep(text: &str) -> Result<Load, ValueError> {
    if text == "auto" {
        return Ok(Load::Auto);
    }
    let error = || ValueError::new(text, "auto, or FROM-TO or FROM-TO/STEPS with rates");
    let (range, steps) = match text.split_once('/') {
        Some((range, steps)) => (range, number(steps, 2, 100).map_err(|_| error())?),
        None => (text, 10),
    };
    let (from, to) = range.split_once('-').ok_or_else(error)?;
    let rate = |text| rate(text).map_err(|_| error());
    let (from, to) = (rate(from)?, rate(to)?);
    if from >= to {
        return Err(error());
    }
    Ok(Load::Rates(rates(from, to, steps as usize)))
}

fn seconds(text: &str, min: f64, max: f64) -> Result<u64, ValueError> {
    let seconds = real(text, min, max)
        .map_err(|_| ValueError::new(text, format!("seconds from {min} to {max}")))?;
    Ok((seconds * SECOND_NS as f64) as u64)
}

fn duration(text: &str) -> Result<u64, ValueError> {
    seconds(text, 0.1, 86_400.0)
}

fn warmup(text: &str) -> Result<u64, ValueError> {
    seconds(text, 0.0, 3_600.0)
}

fn timeout(text: &str) -> Result<u64, ValueError> {
    seconds(text, 0.01, 3_600.0)
}

fn many(text: &str) -> Result<u64, ValueError> {
    count(text, 1, u32::MAX.into())
}

fn multi_get(text: &str) -> Result<u64, ValueError> {
    count(text, 1, 10_000)
}

fn connections(text: &str) -> Result<u64, ValueError> {
    count(text, 1, 1_000_000)
}

fn depth(text: &str) -> Result<u64, ValueError> {
    count(text, 1, 4_096)
}

fn threads(text: &str) -> Result<u64, ValueError> {
    number(text, 1, 64)
}

/// Beyond 30 days the protocols read a Unix time.
fn ttl(text: &str) -> Result<u64, ValueError> {
    number(text, 0, 60 * 60 * 24 * 30)
}

fn core(text: &str) -> Result<u64, ValueError> {
    number(text, 0, 1_023)
}

fn hold(text: &str) -> Result<u64, ValueError> {
    number(text, 0, 3_600)
}

fn key_lengths(text: &str) -> Result<(Lengths, String), ValueError> {
    Ok((lengths(text, (1, KEY_BYTES_MAX as u64))?, text.to_owned()))
}

fn value_lengths(text: &str) -> Result<(Lengths, String), ValueError> {
    Ok((lengths(text, (0, VALUE_BYTES_MAX))?, text.to_owned()))
}

fn lengths(text: &str, (min, max): (u64, u64)) -> Result<Lengths, ValueError> {
    let bytes = |text: &str| Ok(size(text, min, max)? as u32);
    if let Some(rest) = text.strip_prefix("lognormal:") {
        let error = || ValueError::new(text, "lognormal:MEDIAN,SIGMA,MAX");
        let [median, sigma, longest] = rest.split(',').collect::<Vec<_>>()[..] else {
            return Err(error());
        };
        let sigma = real(sigma, 0.0, 10.0).map_err(|_| error())?;
        let (median, max) = (bytes(median)?, bytes(longest)?);
        return if median <= max {
            Ok(Lengths::LogNormal { median, sigma, max })
        } else {
            Err(error())
        };
    }
    if text.contains(':') {
        let error = || ValueError::new(text, "N:WEIGHT,N:WEIGHT,..");
        let one = |part: &str| {
            let (length, weight) = part.split_once(':').ok_or_else(error)?;
            let weight = real(weight, 0.0, 1e9).map_err(|_| error())?;
            Ok((bytes(length)?, weight))
        };
        let weights = text.split(',').map(one).collect::<Result<Vec<_>, _>>()?;
        let total: f64 = weights.iter().map(|&(_, weight)| weight).sum();
        return if total > 0.0 { Ok(Lengths::Weights(weights)) } else { Err(error()) };
    }
    if let Some((from, to)) = text.split_once('-').filter(|(from, _)| !from.is_empty()) {
        let (from, to) = (bytes(from)?, bytes(to)?);
        let expected = "MIN-MAX with MIN not above MAX";
        return match from <= to {
            true => Ok(Lengths::Range(from, to)),
            false => Err(ValueError::new(text, expected)),
        };
    }
    Ok(Lengths::Fixed(bytes(text)?))
}
