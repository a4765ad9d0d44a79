//! `sunder bench`: everything has a default and a bound, so that no run goes on without end or asks
//! the host for more than it has.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgMatches, Args, Subcommand};

use super::Command;
use super::report::Report;
use super::shared::{AnswerLimit, KEY_BYTES, LogIn, Nic, Protocols, Server};
use super::value::{ANY, Count, Number, Seconds, refuse_twice};
use crate::base::limits::TCP_ADDRESSES_MAX;
use crate::config::{Huge, Parsed, ValueError, number, real, size};
use crate::load::bench::{
    AsGiven, DevicePlan, Job, Lengths, Load, PORTS, Plan, VALUE_BYTES_MAX, rates,
};
use crate::load::stream::Target;
use crate::load::wire::Dialect;

/// Measure throughput and latency of a server
///
/// Without --rate and --sweep the loop is closed: each connection sends its next request when it
/// was answered. That finds the highest throughput; it cannot show how a stall would delay clients
/// that do not wait for one another.
#[derive(Args, Debug)]
#[command(after_help = include_str!("help/bench.txt"), disable_help_subcommand = true)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
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

/// What a u32 has room for.
const MANY: u64 = u32::MAX as u64;

/// Lengths within bounds, and how they were given.
#[derive(Clone, Debug)]
struct Spread<const MIN: u64, const MAX: u64>(Lengths, String);

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
    #[arg(long, value_name = "S", default_value = "10")]
    duration: Seconds<100, 86_400_000>,
    /// Seconds of warm-up before, at each rate
    #[arg(long, value_name = "S", default_value = "1")]
    warmup: Seconds<0, 3_600_000>,
}

#[derive(Args, Debug)]
struct Requests {
    /// Protocol; of this flag and the next three the last one counts [default: text]
    #[arg(long, value_enum, overrides_with_all = ["text", "binary", "meta"])]
    protocol: Option<Dialect>,
    #[command(flatten)]
    protocols: Protocols,
    /// Gets in proportion to sets
    #[arg(long, value_name = "GETS:SETS", value_parser = ratio, default_value = "9:1")]
    ratio: f64,
    /// Keys of one get, which counts as one request
    #[arg(long, value_name = "N", default_value = "1")]
    multi_get: Count<1, 10_000>,
    /// Different keys, stored before the measurement
    #[arg(long, value_name = "N", default_value = "10000")]
    keys: Count<1, MANY>,
    /// Do not store the keys first
    #[arg(long)]
    no_fill: bool,
    /// How often each key is requested: uniform, or zipf[:THETA] [THETA: 0.99]
    #[arg(long, value_name = "NAME", value_parser = skew, default_value = "uniform")]
    skew: Skew,
    /// Lengths of keys, at most 250 bytes
    #[arg(long, value_name = "SIZES", default_value = "16")]
    key_bytes: Spread<1, KEY_BYTES>,
    /// Lengths of values, at most 256M
    #[arg(long, value_name = "SIZES", default_value = "100")]
    value_bytes: Spread<0, VALUE_BYTES_MAX>,
    /// Seconds until what is stored expires, at most 30 days; 0: never
    // Beyond, the protocols read a Unix time.
    #[arg(long, value_name = "S", default_value = "0")]
    ttl: Number<0, 2_592_000>,
    /// Decides what is drawn
    #[arg(long, value_name = "N", default_value = "1")]
    seed: Number<0, ANY>,
    /// Compare every byte of each Nth item; key and length of all
    #[arg(long, value_name = "N", default_value = "64")]
    check: Count<1, MANY>,
}

#[derive(Args, Debug)]
struct Client {
    #[command(flatten)]
    login: LogIn,
    /// Connections
    #[arg(long, value_name = "N", default_value = "50")]
    connections: Count<1, 1_000_000>,
    /// Requests in flight on each connection
    #[arg(long, value_name = "N", default_value = "1")]
    depth: Count<1, 4_096>,
    /// Threads
    #[arg(long, value_name = "N", default_value = "1")]
    threads: Number<1, 64>,
    /// End the run if the server is silent for S seconds
    #[arg(long, value_name = "S", default_value = "10")]
    timeout: Seconds<10, 3_600_000>,
    #[command(flatten)]
    answers: AnswerLimit,
}

#[derive(Args, Debug)]
struct Device {
    #[command(flatten)]
    nic: Nic,
    /// Core to run the device's thread on
    #[arg(long, value_name = "N", requires = "device")]
    core: Option<Number<0, 1_023>>,
    /// Huge pages for the device's frames
    #[arg(long, value_enum, default_value = "auto", requires = "device")]
    huge: Huge,
    /// Keep the device up to S seconds longer, until the link is down
    ///
    /// A server on net_memif has to be stopped before its peer leaves.
    #[arg(long, value_name = "S", default_value = "0", requires = "device")]
    hold: Number<0, 3_600>,
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
    /// What the flags say, if they go together. `words` is the whole command line.
    pub fn command(self, matches: &ArgMatches, words: &[OsString]) -> Result<Command, String> {
        if let Some(BenchCommand::Report(report)) = self.command {
            return report.request().map(Command::Report);
        }
        let Bench { server, pace, requests, client, device, results, .. } = self;
        let given = server.target.clone().filter(|_| server.port.is_none());
        let server = server.target()?;
        check_path(&server)?;
        let target = given.unwrap_or_else(|| server.to_string());
        let Spread(key_bytes, key_text) = requests.key_bytes;
        let Spread(value_bytes, value_text) = requests.value_bytes;
        let mut plan = Plan {
            server,
            device: None,
            load: pace.sweep.or(pace.rate.map(Load::Open)).unwrap_or(Load::Closed),
            warmup: pace.warmup.0,
            duration: pace.duration.0,
            dialect: requests.protocol.or(Protocols::given(matches).pop()).unwrap_or(Dialect::Text),
            login: client.login.read()?,
            get_share: requests.ratio,
            multi_get: requests.multi_get.0 as usize,
            keys: requests.keys.0 as u32,
            fills: !requests.no_fill,
            skew: requests.skew.0,
            answer_bytes: client.answers.bytes(value_bytes.bounds().1 as usize),
            key_bytes,
            value_bytes,
            ttl_s: requests.ttl.0 as i32,
            seed: requests.seed.0,
            check_every: requests.check.0 as u32,
            connections: client.connections.0 as usize,
            depth: client.depth.0 as u32,
            threads: client.threads.0 as usize,
            timeout: client.timeout.0,
            label: results.label.unwrap_or_default(),
            as_given: Some(AsGiven { target, lengths: [key_text, value_text] }),
        };
        plan.check().map_err(|line| format!("--{line}"))?;
        plan.device = device.plan(&plan)?;
        let words = words.iter().map(|word| word.to_string_lossy());
        let command = words.fold("sunder".to_owned(), |line, word| line + " " + &*word);
        let Results { json, hgrm, .. } = results;
        Ok(Command::Bench(Box::new(Job { plan, command, json, hgrm })))
    }
}

impl Device {
    fn plan(self, plan: &Plan) -> Result<Option<DevicePlan>, String> {
        let Nic { device, address: own, gateway } = self.nic;
        let Some(device) = device else { return Ok(None) };
        let server: Option<IpAddr> = match &plan.server {
            Target::Tcp(host, _) => host.parse().ok(),
            Target::Unix(_) => None,
        };
        let Some(server) = server else {
            return Err("--device: give the server's IP address; there is no resolver".into());
        };
        if plan.threads > 1 {
            return Err("--threads: a device has one".into());
        }
        if own.len() > TCP_ADDRESSES_MAX {
            return Err(format!("--address: give at most {TCP_ADDRESSES_MAX}"));
        }
        if own.iter().any(|own| own.address.is_ipv4() != server.is_ipv4()) {
            return Err("--address: is not of the server's kind (IPv4 or IPv6)".into());
        }
        let all = own.iter().map(|own| own.address);
        if all.clone().any(|own| own == server) {
            return Err("--address: is the server's".into());
        }
        refuse_twice("--address", all)?;
        if plan.connections > own.len() * PORTS.len() {
            let needed = plan.connections.div_ceil(PORTS.len());
            return Err(format!(
                "--connections: {} need {needed} addresses (--address), which have {} ports each",
                plan.connections,
                PORTS.len()
            ));
        }
        let (addresses, gateways, huge) = (own, gateway, self.huge);
        let (core, hold_s) = (self.core.map(|core| core.0 as usize), self.hold.0);
        Ok(Some(DevicePlan { device, addresses, gateways, core, huge, hold_s }))
    }
}

/// Whether the path of a Unix socket fits: sun_path has 108 bytes, the last of them zero (unix(7)).
fn check_path(target: &Target) -> Result<(), String> {
    match target {
        Target::Unix(path) if !(1..=107).contains(&path.as_os_str().len()) => {
            Err(format!("'{target}': expected unix: and a path of 1 to 107 bytes"))
        }
        _ => Ok(()),
    }
}

fn rate(text: &str) -> Parsed<f64> {
    real(text, 0.1, 1e9)
}

fn sweep(text: &str) -> Parsed<Load> {
    let read = || {
        if text == "auto" {
            return Some(Load::Auto);
        }
        let (range, steps) = text.split_once('/').unwrap_or((text, "10"));
        let (from, to) = range.split_once('-')?;
        let (from, to) = (rate(from).ok()?, rate(to).ok()?);
        let steps = number(steps, 2, 100).ok()? as usize;
        (from < to).then(|| Load::Rates(rates(from, to, steps)))
    };
    read().ok_or_else(|| ValueError::new(text, "auto, or FROM-TO or FROM-TO/STEPS with rates"))
}

/// The share of gets.
fn ratio(text: &str) -> Parsed<f64> {
    let read = || {
        let (gets, sets) = text.split_once(':')?;
        let (gets, sets) = (real(gets, 0.0, 1e9).ok()?, real(sets, 0.0, 1e9).ok()?);
        (gets + sets > 0.0).then(|| gets / (gets + sets))
    };
    read().ok_or_else(|| ValueError::new(text, "GETS:SETS, e.g. 9:1 or 1:0"))
}

/// The THETA of Zipf's law; None: uniform.
#[derive(Clone, Copy, Debug)]
struct Skew(Option<f64>);

fn skew(text: &str) -> Parsed<Skew> {
    let theta = match text.split_once(':').unwrap_or((text, "0.99")) {
        ("uniform", _) if text == "uniform" => return Ok(Skew(None)),
        ("zipf", theta) => real(theta, 0.01, 5.0).ok(),
        _ => None,
    };
    let expected = "uniform, zipf, or zipf:THETA with 0.01 to 5";
    let theta = theta.ok_or_else(|| ValueError::new(text, expected))?;
    Ok(Skew(Some(theta)))
}

impl<const MIN: u64, const MAX: u64> FromStr for Spread<MIN, MAX> {
    type Err = ValueError;

    fn from_str(text: &str) -> Parsed<Self> {
        let bytes = |text: &str| size(text, MIN, MAX).map(|bytes| bytes as u32);
        let wrong = |expected| Err(ValueError::new(text, expected));
        let lengths = if let Some(rest) = text.strip_prefix("lognormal:") {
            let [median, sigma, max] = rest.split(',').collect::<Vec<_>>()[..] else {
                return wrong("lognormal:MEDIAN,SIGMA,MAX");
            };
            let (median, sigma, max) = (bytes(median)?, real(sigma, 0.0, 10.0)?, bytes(max)?);
            if median > max {
                return wrong("lognormal:MEDIAN,SIGMA,MAX with MEDIAN not above MAX");
            }
            Lengths::LogNormal { median, sigma, max }
        } else if text.contains(':') {
            let pairs = text.split(',').map(|part| part.split_once(':').unwrap_or((part, "")));
            let one = |(length, weight)| Ok((bytes(length)?, real(weight, 0.0, 1e9)?));
            let weights = pairs.map(one).collect::<Parsed<Vec<_>>>()?;
            if weights.iter().map(|&(_, weight)| weight).sum::<f64>() == 0.0 {
                return wrong("N:WEIGHT,N:WEIGHT,.. with a weight above 0");
            }
            Lengths::Weights(weights)
        } else if let Some((from, to)) = text.split_once('-').filter(|(from, _)| !from.is_empty()) {
            let (from, to) = (bytes(from)?, bytes(to)?);
            if from > to {
                return wrong("MIN-MAX with MIN not above MAX");
            }
            Lengths::Range(from, to)
        } else {
            Lengths::Fixed(bytes(text)?)
        };
        Ok(Spread(lengths, text.to_owned()))
    }
}
