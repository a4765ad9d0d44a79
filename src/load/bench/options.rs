//! What a measurement is told: words into a [`Plan`], or one line that says what is wrong.
//!
//! Everything has a default and a bound, so that no run goes on without end or asks the host for
//! more than it has.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use lexopt::prelude::{Long, Short, Value};

use super::kernel::Place;
use super::schedule::SECOND_NS;
use super::spread::{Lengths, Popularity, Zipf};
use super::sweep;
use crate::config::{self, Cidr, Huge, ValueError};
use crate::console::VERSION;
use crate::limits::{KEY_BYTES_MAX, TCP_ADDRESSES_MAX};
use crate::load::number::{count, real};
use crate::load::options::{ANSWER_BYTES, ANSWER_BYTES_BOUNDS};
use crate::load::wire::Dialect;

/// What `--help` prints.
pub const HELP: &str = "\
sunder bench: how fast a memcached-compatible server answers, and how long it takes to

Usage: sunder bench [TARGET] [FLAGS]
       sunder bench report RESULT.json .. -o REPORT.html

  TARGET              HOST:PORT, HOST, or unix:PATH [127.0.0.1:11211]; or, as the other tools have
                      it, --host HOST -p PORT, or --sock-path PATH

When requests are sent
  (without a flag)    closed loop: each connection asks again when it was answered. Finds what a
                      server can do at most; cannot show how a stall would delay those who do not
                      wait for one another
  --rate R            open loop: R requests a second in all, each due at its time. Latency counts
                      from that time, so that a stall shows in everything that it held up
  --sweep auto | FROM-TO[/STEPS]
                      open loop at several rates, lowest first, to find the knee: the last of them
                      up to which 98 % of what was due was answered in time, and p99 was at most ten
                      times that of the lowest. auto tries 10 % to 110 % of what a closed loop comes
                      to, in tenths [STEPS: 10]
  --duration S        seconds that are measured, of each step [10]
  --warmup S          seconds before that do not count, of each step [1]

What is asked
  --protocol text | binary | meta
                      --text, --binary and --meta do too [text]
  --ratio GETS:SETS   [9:1]
  --multi-get N       keys of one get, which counts as one request [1]
  --keys N            different keys [10000]; stored before the measurement
  --no-fill           do not store them
  --skew uniform | zipf[:THETA]
                      which keys are asked for how often [uniform; THETA 0.99]
  --key-bytes SIZES   [16]
  --value-bytes SIZES [100]
                      SIZES: N | MIN-MAX | lognormal:MEDIAN,SIGMA,MAX | N:WEIGHT,N:WEIGHT,..
                      A key's lengths never change; they are spread over the keys. N may be 4K, 1M
  --ttl S             seconds after which what is stored expires; 0 is never [0]
  --seed N            what is drawn [1]
  --check N           compares every byte of each Nth item; key and length of all [64]

How it is asked
  --connections N     [50]
  --depth N           requests under way on each connection [1]
  --threads N         [1]
  --timeout S         a server that is silent so long has failed [10]
  --answer-bytes SIZE an item that is longer ends the run: what a connection may take of this
                      process's memory [16M, and the longest of --value-bytes]
  --device DEV        take the device with DPDK and use sunder's own TCP, on one core that spins: a
                      PCI address, or a vdev as DPDK writes it. TARGET is an IP address then
  --address CIDR      own address on the device (repeat, up to 8: each has some 60,000 ports)
  --gateway IP        router for a TARGET on another network (repeat for IPv4 and IPv6)
  --core N            pin the device's thread to this core
  --huge auto|off     huge pages for the device's frames (scripts/hugepages.sh) [auto]
  --hold S            keep the device up to S seconds longer, until the link is down: a server on
                      net_memif has to be stopped before its peer leaves [0]

What becomes of it
  --json FILE         the whole result, for sunder bench report
  --hgrm FILE         latencies as HdrHistogram's plotter reads them
  --label TEXT        its name in reports [the target]

  -h, --help          print this
  -V, --version       print the version

N and R may be 50k, 1.5M or 2G: thousands, millions, thousands of millions. SIZES are bytes, whose K
is 1024.

Ctrl-C (SIGINT) and SIGTERM end the measurement early, as a server that fails does; what there is by
then is reported. A second one ends the tool at once.
Exit status 0: every answer was right; 1: a mismatch, an error, or no server; 2: wrong flags; 130:
ended by ctrl-C or SIGTERM.

How exact a latency is: on kernel sockets the clock is read at each visit to a connection. On a
device it is read once a turn (at most 32 frames): a latency is told too long by up to one turn, and
a note of the result says how long the turns were.

Examples
  sunder bench --ratio 1:0 --connections 100
  sunder bench 10.0.0.5 --rate 50k --skew zipf --value-bytes lognormal:200,1,64K --json run.json
  sunder bench unix:/run/cache.sock --protocol meta --sweep auto --json sweep.json
  sunder bench 10.0.0.5 --device net_memif0,socket=/run/wire.sock --address 10.0.0.2/16 \\
      --connections 1000 --depth 16
";

/// What the words ask for.
#[derive(Debug)]
pub enum Asked {
    /// A measurement.
    Plan(Box<Plan>),
    /// Print this text.
    Print(&'static str),
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
const PLACES_MAX: usize = 1 << 26;

/// Longest value: what a server can be told to take.
const VALUE_BYTES_MAX: u64 = 1 << 28;

/// Beyond this the protocols read a Unix time (30 days).
const TTL_S_MAX: u64 = 60 * 60 * 24 * 30;

/// The words so far.
struct Said {
    target: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    socket: Option<String>,
    plan: Plan,
    device: DevicePlan,
    /// The first flag that only a device has.
    of_device: Option<&'static str>,
    zipf: Option<f64>,
    answer_bytes: Option<usize>,
    has_device: bool,
    has_rate: bool,
}

impl Default for Said {
    fn default() -> Said {
        let plan = Plan {
            target: String::new(),
            place: Place::Tcp(SocketAddr::from(([127, 0, 0, 1], 11211))),
            device: None,
            load: Load::Closed,
            warmup_ns: SECOND_NS,
            duration_ns: 10 * SECOND_NS,
            dialect: Dialect::Text,
            get_share: 0.9,
            multi_get: 1,
            keys: 10_000,
            fills: true,
            popularity: Popularity::Uniform { keys: 10_000 },
            skew: "uniform".into(),
            key_bytes: Lengths::Fixed(16),
            value_bytes: Lengths::Fixed(100),
            lengths: ["16".into(), "100".into()],
            ttl_s: 0,
            seed: 1,
            check_every: 64,
            connections: 50,
            depth: 1,
            threads: 1,
            timeout_ns: 10 * SECOND_NS,
            answer_bytes: ANSWER_BYTES,
            hold_s: 0,
            json: None,
            hgrm: None,
            label: String::new(),
        };
        let device = DevicePlan {
            device: String::new(),
            addresses: Vec::new(),
            gateways: Vec::new(),
            core: None,
            huge: Huge::Auto,
        };
        Said {
            target: None,
            host: None,
            port: None,
            socket: None,
            plan,
            device,
            of_device: None,
            zipf: None,
            answer_bytes: None,
            has_device: false,
            has_rate: false,
        }
    }
}

/// Reads the words behind `sunder bench`.
///
/// # Errors
/// What is wrong with them, in one line.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Asked, String> {
    let mut parser = lexopt::Parser::from_args(words);
    let mut said = Said::default();
    while let Some(word) = parser.next().map_err(|error| error.to_string())? {
        let name = match word {
            Short('h') | Long("help") => return Ok(Asked::Print(HELP)),
            Short('V') | Long("version") => return Ok(Asked::Print(VERSION)),
            Short('p') => "port".to_owned(),
            Short('t') => "text".to_owned(),
            Short('b') => "binary".to_owned(),
            Long(name) => name.to_owned(),
            Value(target) if said.target.is_none() => {
                said.target = Some(utf8(target)?);
                continue;
            }
            word => return Err(word.unexpected().to_string()),
        };
        let is_known = said.take_shared(&name, &mut parser)?
            || said.take_request(&name, &mut parser)?
            || said.take_manner(&name, &mut parser)?
            || said.take_device(&name, &mut parser)?;
        if !is_known {
            return Err(format!("invalid option '--{}'", name.escape_debug()));
        }
    }
    said.finish().map(|plan| Asked::Plan(Box::new(plan)))
}

fn utf8(word: OsString) -> Result<String, String> {
    word.into_string().map_err(|word| format!("'{}' is not UTF-8", word.to_string_lossy()))
}

/// The value of the flag that was just read, by `read`.
fn value<T, E: ToString>(
    name: &str,
    parser: &mut lexopt::Parser,
    read: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, String> {
    let text = utf8(parser.value().map_err(|error| error.to_string())?)?;
    read(&text).map_err(|error| format!("--{name}: {}", error.to_string()))
}

fn whole(min: u64, max: u64) -> impl Fn(&str) -> Result<u64, ValueError> {
    move |text| config::number(text, min, max)
}

/// As [`whole`], of what one counts: `20k` is one, too.
fn many(min: u64, max: u64) -> impl Fn(&str) -> Result<u64, ValueError> {
    move |text| count(text, min, max)
}

impl Said {
    /// Takes a flag that the other tools have, for those who are used to these.
    fn take_shared(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<bool, String> {
        let text = |text: &str| Ok::<_, String>(text.to_owned());
        match name {
            "host" => self.host = Some(value(name, parser, text)?),
            "port" => self.port = Some(value(name, parser, config::port)?),
            "sock-path" => self.socket = Some(value(name, parser, text)?),
            "text" => self.plan.dialect = Dialect::Text,
            "binary" => self.plan.dialect = Dialect::Binary,
            "meta" => self.plan.dialect = Dialect::Meta,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The server, as TARGET or as the other tools' flags have it.
    fn target(&mut self) -> Result<String, String> {
        match (self.target.take(), self.host.take(), self.port, self.socket.take()) {
            (Some(target), None, None, None) => Ok(target),
            (None, None, None, Some(path)) => Ok(format!("unix:{path}")),
            (None, host, port, None) => {
                let host = host.unwrap_or_else(|| "127.0.0.1".into());
                let port = port.unwrap_or(11211);
                let is_bare_ipv6 = host.contains(':') && !host.starts_with('[');
                Ok(if is_bare_ipv6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
            }
            _ => Err("TARGET, --host with --port, and --sock-path: give one of them".into()),
        }
    }

    /// Takes a flag that says what is asked.
    fn take_request(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<bool, String> {
        let plan = &mut self.plan;
        match name {
            "protocol" => plan.dialect = value(name, parser, dialect)?,
            "ratio" => plan.get_share = value(name, parser, ratio)?,
            "multi-get" => plan.multi_get = value(name, parser, many(1, 10_000))? as usize,
            "keys" => plan.keys = value(name, parser, many(1, u32::MAX.into()))? as u32,
            "no-fill" => plan.fills = false,
            "skew" => {
                (plan.skew, self.zipf) = value(name, parser, skew)?;
            }
            "key-bytes" => {
                let bounds = (1, KEY_BYTES_MAX as u64);
                let read = |text: &str| Ok((lengths(text, bounds)?, text.to_owned()));
                (plan.key_bytes, plan.lengths[0]) = value::<_, ValueError>(name, parser, read)?;
            }
            "value-bytes" => {
                let bounds = (0, VALUE_BYTES_MAX);
                let read = |text: &str| Ok((lengths(text, bounds)?, text.to_owned()));
                (plan.value_bytes, plan.lengths[1]) = value::<_, ValueError>(name, parser, read)?;
            }
            "ttl" => plan.ttl_s = value(name, parser, whole(0, TTL_S_MAX))? as i32,
            "seed" => plan.seed = value(name, parser, whole(0, u64::MAX))?,
            "check" => plan.check_every = value(name, parser, many(1, u32::MAX.into()))? as u32,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes a flag that says how and when it is asked, and what becomes of it.
    fn take_manner(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<bool, String> {
        let plan = &mut self.plan;
        match name {
            "rate" | "sweep" if self.has_rate => {
                return Err("--rate and --sweep: give one of the two, once".into());
            }
            "rate" => {
                plan.load = Load::Open(value(name, parser, rate)?);
                self.has_rate = true;
            }
            "sweep" => {
                plan.load = value(name, parser, sweep)?;
                self.has_rate = true;
            }
            "duration" => {
                plan.duration_ns = value(name, parser, |text| seconds(text, 0.1, 86_400.0))?
            }
            "warmup" => plan.warmup_ns = value(name, parser, |text| seconds(text, 0.0, 3_600.0))?,
            "timeout" => {
                plan.timeout_ns = value(name, parser, |text| seconds(text, 0.01, 3_600.0))?
            }
            "connections" => {
                plan.connections = value(name, parser, many(1, 1_000_000))? as usize;
            }
            "depth" => plan.depth = value(name, parser, many(1, 4_096))? as u32,
            "answer-bytes" => {
                let (min, max) = ANSWER_BYTES_BOUNDS;
                let read = |text: &str| config::size(text, min, max);
                self.answer_bytes = Some(value(name, parser, read)? as usize);
            }
            "threads" => plan.threads = value(name, parser, whole(1, 64))? as usize,
            "json" => plan.json = Some(parser.value().map_err(|e| e.to_string())?.into()),
            "hgrm" => plan.hgrm = Some(parser.value().map_err(|e| e.to_string())?.into()),
            "label" => plan.label = value(name, parser, |text| Ok::<_, String>(text.to_owned()))?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes a flag of a device.
    fn take_device(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<bool, String> {
        let device = &mut self.device;
        let flag = match name {
            "device" => {
                device.device = value(name, parser, |text| Ok::<_, String>(text.to_owned()))?;
                self.has_device = true;
                return Ok(true);
            }
            "address" => {
                device.addresses.push(value(name, parser, config::cidr)?);
                "--address"
            }
            "gateway" => {
                device.gateways.push(value(name, parser, config::address)?);
                "--gateway"
            }
            "core" => {
                device.core = Some(value(name, parser, whole(0, 1_023))? as usize);
                "--core"
            }
            "hold" => {
                self.plan.hold_s = value(name, parser, whole(0, 3_600))?;
                "--hold"
            }
            "huge" => {
                device.huge = value(name, parser, config::huge)?;
                "--huge"
            }
            _ => return Ok(false),
        };
        self.of_device.get_or_insert(flag);
        Ok(true)
    }

    fn finish(mut self) -> Result<Plan, String> {
        let target = self.target()?;
        let mut plan = self.plan;
        plan.target = target;
        plan.place = place(&plan.target)?;
        if plan.label.is_empty() {
            plan.label.clone_from(&plan.target);
        }
        plan.popularity = match self.zipf {
            None => Popularity::Uniform { keys: plan.keys },
            Some(theta) => Popularity::Zipf(Zipf::new(plan.keys, theta)),
        };
        let (_, longest) = plan.value_bytes.bounds();
        plan.answer_bytes = self.answer_bytes.unwrap_or(ANSWER_BYTES + longest as usize);
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
                "--connections, --depth, --multi-get: more than {PLACES_MAX} keys under way"
            ));
        }
        if self.has_device {
            plan.device = Some(device(self.device, &plan)?);
        } else if let Some(flag) = self.of_device {
            return Err(format!("{flag}: is a device's; give --device as well"));
        }
        Ok(plan)
    }
}

/// Source ports that a client uses of each own address: those above the well-known ones.
pub const PORTS: std::ops::RangeInclusive<u16> = 1_024..=u16::MAX;

fn device(device: DevicePlan, plan: &Plan) -> Result<DevicePlan, String> {
    let Place::Tcp(server) = &plan.place else {
        return Err("--device: a Unix socket is the host's; give an IP address".into());
    };
    if plan.target.parse::<IpAddr>().is_err() && plan.target.parse::<SocketAddr>().is_err() {
        return Err("--device: give the server's IP address, it has no resolver".into());
    }
    if plan.threads > 1 {
        return Err("--threads: a device has one".into());
    }
    if device.addresses.is_empty() || device.addresses.len() > TCP_ADDRESSES_MAX {
        return Err(format!(
            "--address: give 1 to {TCP_ADDRESSES_MAX}, e.g. --address 10.0.0.2/24"
        ));
    }
    if device.addresses.iter().any(|own| own.address.is_ipv4() != server.is_ipv4()) {
        return Err("--address: is not of the server's kind (IPv4 or IPv6)".into());
    }
    let mut own: Vec<_> = device.addresses.iter().map(|own| own.address).collect();
    own.sort_unstable();
    own.dedup();
    if own.len() < device.addresses.len() {
        return Err("--address: the same address is given twice".into());
    }
    if own.contains(&server.ip()) {
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
    Ok(device)
}

fn place(target: &str) -> Result<Place, String> {
    if let Some(path) = target.strip_prefix("unix:") {
        // sun_path has 108 bytes, the last of them zero (unix(7)).
        return match path.len() {
            1..=107 => Ok(Place::Unix(path.into())),
            _ => Err(format!("'{target}': expected unix: and a path of 1 to 107 bytes")),
        };
    }
    if let Ok(address) = target.parse::<SocketAddr>() {
        return Ok(Place::Tcp(address));
    }
    let bare = target.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(Place::Tcp(SocketAddr::new(address, 11211)));
    }
    let (host, port) = match target.rsplit_once(':') {
        Some((host, port)) => (host, config::port(port).map_err(|e| format!("'{target}': {e}"))?),
        None => (target, 11211),
    };
    let mut found = (host, port)
        .to_socket_addrs()
        .map_err(|_| format!("'{target}': expected HOST:PORT, HOST or unix:PATH; no such host"))?;
    found.next().map(Place::Tcp).ok_or_else(|| format!("'{target}': the host has no address"))
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

/// What a rate may be, in requests a second.
const RATES: (f64, f64) = (0.1, 1e9);

fn rate(text: &str) -> Result<f64, ValueError> {
    let (min, max) = RATES;
    real(text, min, max)
}

fn seconds(text: &str, min: f64, max: f64) -> Result<u64, ValueError> {
    let seconds = real(text, min, max)
        .map_err(|_| ValueError::new(text, format!("seconds from {min} to {max}")))?;
    Ok((seconds * SECOND_NS as f64) as u64)
}

fn sweep(text: &str) -> Result<Load, ValueError> {
    if text == "auto" {
        return Ok(Load::Auto);
    }
    let error = || ValueError::new(text, "auto, or FROM-TO or FROM-TO/STEPS with rates");
    let (range, steps) = match text.split_once('/') {
        Some((range, steps)) => (range, config::number(steps, 2, 100).map_err(|_| error())?),
        None => (text, 10),
    };
    let (from, to) = range.split_once('-').ok_or_else(error)?;
    let rate = |text| rate(text).map_err(|_| error());
    let (from, to) = (rate(from)?, rate(to)?);
    if from >= to {
        return Err(error());
    }
    Ok(Load::Rates(sweep::rates(from, to, steps as usize)))
}

fn lengths(text: &str, (min, max): (u64, u64)) -> Result<Lengths, ValueError> {
    let size = |text: &str| Ok(config::size(text, min, max)? as u32);
    if let Some(rest) = text.strip_prefix("lognormal:") {
        let error = || ValueError::new(text, "lognormal:MEDIAN,SIGMA,MAX");
        let [median, sigma, longest] = rest.split(',').collect::<Vec<_>>()[..] else {
            return Err(error());
        };
        let sigma = real(sigma, 0.0, 10.0).map_err(|_| error())?;
        let (median, max) = (size(median)?, size(longest)?);
        return if median <= max {
            Ok(Lengths::LogNormal { median, sigma, max })
        } else {
            Err(error())
        };
    }
    if text.contains(':') {
        let error = || ValueError::new(text, "N:WEIGHT,N:WEIGHT,..");
        let one = |part: &str| {
            let (bytes, weight) = part.split_once(':').ok_or_else(error)?;
            let weight = real(weight, 0.0, 1e9).map_err(|_| error())?;
            Ok((size(bytes)?, weight))
        };
        let weights = text.split(',').map(one).collect::<Result<Vec<_>, _>>()?;
        let total: f64 = weights.iter().map(|&(_, weight)| weight).sum();
        return if total > 0.0 { Ok(Lengths::Weights(weights)) } else { Err(error()) };
    }
    if let Some((from, to)) = text.split_once('-').filter(|(from, _)| !from.is_empty()) {
        let (from, to) = (size(from)?, size(to)?);
        let expected = "MIN-MAX with MIN not above MAX";
        return match from <= to {
            true => Ok(Lengths::Range(from, to)),
            false => Err(ValueError::new(text, expected)),
        };
    }
    Ok(Lengths::Fixed(size(text)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(words: &str) -> Plan {
        match parse(words.split_whitespace().map(OsString::from)) {
            Ok(Asked::Plan(plan)) => *plan,
            other => panic!("{words}: {other:?}"),
        }
    }

    #[test]
    fn without_flags_it_ends_by_itself() {
        let plan = plan("");
        assert_eq!((plan.duration_ns, plan.load), (10 * SECOND_NS, Load::Closed));
        assert_eq!(plan.place, Place::Tcp("127.0.0.1:11211".parse().unwrap()));
    }

    #[test]
    fn every_flag_is_taken() {
        let plan = plan(
            "10.0.0.5:5 --rate 2.5 --protocol meta --ratio 3:1 --multi-get 4 --keys 99 --no-fill \
             --skew zipf:1.2 --key-bytes 8-20 --value-bytes 1K:1,2K:3 --ttl 9 --seed 7 --check 1 \
             --connections 9 --depth 2 --timeout 1 --warmup 0 --duration 0.5 --label x",
        );
        assert_eq!(
            (plan.load, plan.dialect, plan.get_share),
            (Load::Open(2.5), Dialect::Meta, 0.75)
        );
        assert_eq!((plan.keys, plan.fills, plan.multi_get, plan.ttl_s), (99, false, 4, 9));
        assert_eq!(plan.skew, "zipf 1.2");
        assert_eq!(plan.key_bytes, Lengths::Range(8, 20));
        assert_eq!(plan.value_bytes, Lengths::Weights(vec![(1024, 1.0), (2048, 3.0)]));
        assert_eq!((plan.connections, plan.depth, plan.duration_ns), (9, 2, SECOND_NS / 2));
        let many =
            super::tests::plan("--rate 50k --keys 1.5M --connections 2k --depth 1k --check 1M");
        assert_eq!(
            (many.load, many.keys, many.check_every),
            (Load::Open(5e4), 1_500_000, 1_000_000)
        );
        assert_eq!((many.connections, many.depth), (2_000, 1_000));
        let device = super::tests::plan(
            "10.0.0.5 --device net_memif0 --address 10.0.0.2/16 --address 10.0.0.3/16 --core 1",
        );
        assert_eq!(device.device.expect("a device").addresses.len(), 2);
        assert_eq!(super::tests::plan("unix:/x").place, Place::Unix("/x".into()));
        assert_eq!(
            super::tests::plan("--sweep 100-800/4").load,
            Load::Rates(sweep::rates(100.0, 800.0, 4))
        );
        let lognormal = super::tests::plan("--value-bytes lognormal:200,1.5,64K").value_bytes;
        assert_eq!(lognormal, Lengths::LogNormal { median: 200, sigma: 1.5, max: 65536 });
    }

    #[test]
    fn nonsense_is_one_line_that_names_the_flag() {
        for (words, flag) in [
            ("--rate 0", "--rate"),
            ("--rate -5", "--rate"),
            ("--rate inf", "--rate"),
            ("--rate NaN", "--rate"),
            ("--rate 1e99", "--rate"),
            ("--rate 10 --sweep auto", "--sweep"),
            ("--sweep 5-1", "--sweep"),
            ("--sweep 1-5/1", "--sweep"),
            ("--duration 0", "--duration"),
            ("--duration 1000000", "--duration"),
            ("--warmup x", "--warmup"),
            ("--timeout 0", "--timeout"),
            ("--rate 5T", "--rate"),
            ("--answer-bytes 1", "--answer-bytes"),
            ("--connections 0", "--connections"),
            ("--connections 10000000", "--connections"),
            ("--connections 1000000 --depth 4096", "--depth"),
            ("--depth 0", "--depth"),
            ("--threads 3 --connections 2", "--threads"),
            ("--multi-get 0", "--multi-get"),
            ("--keys 0", "--keys"),
            ("--keys 5000000000", "--keys"),
            ("--keys 257 --key-bytes 2", "--key-bytes"),
            ("--key-bytes 251", "--key-bytes"),
            ("--key-bytes 0", "--key-bytes"),
            ("--value-bytes -1", "--value-bytes"),
            ("--value-bytes 9-3", "--value-bytes"),
            ("--value-bytes 2G", "--value-bytes"),
            ("--value-bytes lognormal:5,1", "--value-bytes"),
            ("--value-bytes lognormal:500,1,100", "--value-bytes"),
            ("--value-bytes 5:0", "--value-bytes"),
            ("--value-bytes 5:x", "--value-bytes"),
            ("--skew pareto", "--skew"),
            ("--skew zipf:0", "--skew"),
            ("--ratio 0:0", "--ratio"),
            ("--ratio 5", "--ratio"),
            ("--protocol http", "--protocol"),
            ("--check 0", "--check"),
            ("--ttl -1", "--ttl"),
            ("--address 10.0.0.2/24", "--address"),
            ("10.0.0.5 --device net_tap0", "--address"),
            ("localhost --device net_tap0 --address 10.0.0.2/24", "--device"),
            ("unix:/x --device net_tap0 --address 10.0.0.2/24", "--device"),
            ("10.0.0.5 --device net_tap0 --address fd00::1/64", "--address"),
            ("10.0.0.5 --device net_tap0 --address 10.0.0.5/24", "--address"),
            ("10.0.0.5 --device d --address 10.0.0.2/24 --connections 70000", "--address"),
            ("10.0.0.5 --device d --address 10.0.0.2/24 --threads 2", "--threads"),
            ("10.0.0.5:0x", "10.0.0.5:0x"),
            ("--no-such-flag", "--no-such-flag"),
            ("a b", "b"),
            ("--rate", "--rate"),
        ] {
            let words = words.split_whitespace().map(OsString::from);
            let error = parse(words.clone()).expect_err(flag);
            assert!(error.contains(flag), "{words:?}: {error}");
            assert!(!error.contains('\n'), "{words:?}: {error}");
        }
    }
}
