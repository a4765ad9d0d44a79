//! What subcommands have in common: where a server is and how to speak to it, for every client, and
//! the flags of the tools blast, setget, sizes, fill and setops.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap::{ArgAction, ArgMatches, Args};

use super::Command;
use super::value::{ANY, Count, Number, Seconds, Size};
use crate::base::limits::KEY_BYTES_MAX;
use crate::config::{self, Cidr, Parsed, ValueError};
use crate::load::login::Login;
use crate::load::options::{ANSWER_BYTES, ANSWER_BYTES_BOUNDS, Options};
use crate::load::stream::Target;
use crate::load::wire::Dialect;

/// Longest value that setget, sizes and fill make, in bytes.
pub(super) const VALUE_BYTES_MAX: u64 = 64 << 20;

/// Longest key.
pub(super) const KEY_BYTES: u64 = KEY_BYTES_MAX as u64;

/// Most workers: each is a connection, and but for blast and setops a thread.
const WORKERS_MAX: u64 = 1024;

// Comments on what is flattened are no doc comments, here and below: clap would take them for the
// command's help. Here that is the tool's own.
#[derive(Args, Debug)]
#[command(after_help = include_str!("help/tools.txt"))]
pub(super) struct Tool<T: Args> {
    #[command(flatten)]
    own: T,
    #[command(flatten, next_help_heading = "Shared by blast, setget, sizes, fill and setops")]
    client: Client,
}

/// Runs a tool.
pub(super) type Main = fn(Options) -> ExitCode;

/// The flags that a tool alone has.
pub(super) trait ToolFlags: Args {
    /// The tool.
    const MAIN: Main;
    /// Most values of its own that one answer has.
    const VALUES_MAX: usize = 1;

    fn apply(self, options: &mut Options);
}

// Where a server is.
#[derive(Args, Debug)]
pub(super) struct Server {
    /// Server [default: 127.0.0.1:11211]; or --host, --port and --sock-path
    #[arg(value_name = "HOST[:PORT]|unix:PATH")]
    #[arg(conflicts_with_all = ["host", "sock_path"])]
    pub target: Option<String>,
    /// Name or address of the server
    #[arg(long, alias = "h", value_parser = NonEmpty::new(), default_value = "127.0.0.1")]
    host: String,
    /// Port of the server [default: 11211]
    #[arg(short, long, value_name = "N", value_parser = config::port)]
    pub port: Option<u16>,
    /// Unix socket of the server
    #[arg(long, value_name = "PATH", value_parser = NonEmpty::new())]
    #[arg(conflicts_with_all = ["host", "port"])]
    sock_path: Option<String>,
}

// How to speak to it; the order of these flags counts.
#[derive(Args, Debug)]
pub(super) struct Protocols {
    /// Speak the text protocol (the default)
    #[arg(short, long, num_args = 0, action = ArgAction::Append, default_missing_value = "true")]
    text: Vec<bool>,
    /// Speak the binary protocol
    #[arg(short, long, num_args = 0, action = ArgAction::Append, default_missing_value = "true")]
    binary: Vec<bool>,
    /// Speak the meta commands (memcached 1.6, and sunder with memory alone)
    #[arg(long, num_args = 0, action = ArgAction::Append, default_missing_value = "true")]
    meta: Vec<bool>,
}

// Who to log in as.
#[derive(Args, Debug)]
pub(super) struct LogIn {
    /// Log in with the first line of FILE, user:password
    ///
    /// As a server's --auth-file, or memcached's -Y: by a set in text and meta, by SASL PLAIN in
    /// binary. In a file, because all users of a host can see its command lines. A server that
    /// nobody has to log in to stores the set, of the key sunder-login.
    #[arg(long = "login", value_name = "FILE")]
    path: Option<PathBuf>,
}

impl LogIn {
    /// Who, if anybody.
    pub fn read(self) -> Result<Option<Login>, String> {
        let login = self.path.map(|path| Login::read(&path)).transpose();
        login.map_err(|error| format!("--login: {error}"))
    }
}

// A DPDK device of a client.
#[derive(Args, Debug)]
pub(super) struct Nic {
    /// DPDK device to use; without it, kernel sockets
    ///
    /// A PCI address (bind the device with scripts/bind-nic.sh), or a vdev with its arguments, e.g.
    /// net_af_packet0,iface=veth0.
    #[arg(long, value_name = "DEV", requires = "address")]
    pub device: Option<String>,
    /// Own address on the device, e.g. 10.0.0.5/24; repeat it for more
    #[arg(long, value_name = "CIDR", value_parser = config::cidr, requires = "device")]
    pub address: Vec<Cidr>,
    /// Router for other networks; repeat it for IPv4 and IPv6
    #[arg(long, value_name = "IP", value_parser = config::address, requires = "device")]
    pub gateway: Vec<IpAddr>,
}

// What an answer may be.
#[derive(Args, Debug)]
pub(super) struct AnswerLimit {
    /// End the run if an answer is longer [default: 16M, and what the run may have stored]
    ///
    /// It bounds the memory that a connection may take.
    #[arg(long, value_name = "SIZE")]
    answer_bytes: Option<Size<{ ANSWER_BYTES_BOUNDS.0 }, { ANSWER_BYTES_BOUNDS.1 }>>,
}

impl AnswerLimit {
    /// The longest answer to a client that may have stored `own_bytes` of what is in one.
    pub fn bytes(&self, own_bytes: usize) -> usize {
        self.answer_bytes.map_or(ANSWER_BYTES + own_bytes, |given| given.0 as usize)
    }
}

#[derive(Args, Debug)]
struct Client {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    protocols: Protocols,
    #[command(flatten)]
    login: LogIn,
    /// Connections, with one request in flight each
    #[arg(short, long, value_name = "N", default_value = "10")]
    workers: Count<1, WORKERS_MAX>,
    /// Letters of a key behind the prefix; --kl too
    #[arg(short, long, visible_alias = "kl", value_name = "N", default_value = "4")]
    key_length: Number<1, KEY_BYTES>,
    /// Prefix of all keys, so that two runs at once do not meet
    #[arg(long, value_name = "TEXT", value_parser = prefix)]
    prefix: Option<String>,
    /// Decides keys, values and order
    #[arg(long, value_name = "N", default_value = "1")]
    seed: Number<0, ANY>,
    /// End the run after S seconds, done or not
    #[arg(long, value_name = "S", default_value = "3600")]
    duration: Seconds<1, 31_536_000_000>,
    /// End the run if an answer takes longer, in seconds
    #[arg(long, value_name = "S", default_value = "10")]
    timeout: Seconds<1, 86_400_000>,
    #[command(flatten)]
    answers: AnswerLimit,
    /// Count an item that is gone without a delete as wrong; a cache may evict
    #[arg(long)]
    no_loss: bool,
    /// Draw a histogram of the latencies of each operation
    #[arg(long)]
    histograms: bool,
    /// Not needed: perf profiles this program from outside
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "")]
    #[arg(value_name = "X", hide_short_help = true)]
    pprof: Option<OsString>,
}

const NOTE_PPROF: &str = "--pprof: not needed, perf profiles this program from outside";

impl<T: ToolFlags> Tool<T> {
    /// What the flags say, if they go together.
    pub fn command(self, matches: &ArgMatches) -> Result<Command, String> {
        let client = self.client;
        let prefix = client.prefix.unwrap_or_default();
        let key_letters = client.key_length.0 as usize;
        if prefix.len() + key_letters > KEY_BYTES_MAX {
            return Err(format!("--prefix: keys of more than {KEY_BYTES_MAX} bytes"));
        }
        let dialects = Protocols::given(matches);
        let mut options = Options {
            dialects: if dialects.is_empty() { vec![Dialect::Text] } else { dialects },
            login: client.login.read()?,
            workers: client.workers.0 as usize,
            key_letters,
            prefix,
            seed: client.seed.0,
            timeout: client.timeout.0,
            duration: client.duration.0,
            is_loss_wrong: client.no_loss,
            draws_histograms: client.histograms,
            notes: client.pprof.map(|_| NOTE_PPROF).into_iter().collect(),
            ..Options::new(client.server.target()?)
        };
        self.own.apply(&mut options);
        options.answer_bytes = client.answers.bytes(T::VALUES_MAX * options.value_bytes.1);
        Ok(Command::Tool(T::MAIN, Box::new(options)))
    }
}

impl Protocols {
    /// The protocols in the order of their flags.
    pub fn given(matches: &ArgMatches) -> Vec<Dialect> {
        let mut given = BTreeMap::new();
        for (id, dialect) in
            [("text", Dialect::Text), ("binary", Dialect::Binary), ("meta", Dialect::Meta)]
        {
            let places = matches.indices_of(id).into_iter().flatten();
            given.extend(places.map(|place| (place, dialect)));
        }
        given.into_values().collect()
    }
}

/// Port of a server unless another is given.
const PORT: u16 = 11211;

impl Server {
    /// Where the server is.
    pub fn target(self) -> Result<Target, String> {
        let bare = |host: &str| host.trim_matches(['[', ']']).to_owned();
        if let Some(path) = self.sock_path {
            return Ok(Target::Unix(path.into()));
        }
        let text = self.target.unwrap_or(self.host);
        let twice = || format!("--port: '{text}' says where the server is; leave one out");
        if let Some(path) = text.strip_prefix("unix:") {
            let target = Target::Unix(path.into());
            return if self.port.is_none() { Ok(target) } else { Err(twice()) };
        }
        let is_address = bare(&text).parse::<IpAddr>().is_ok();
        let host_port = if is_address { None } else { text.rsplit_once(':') };
        match (host_port, self.port) {
            (Some(_), Some(_)) => Err(twice()),
            (None, port) => Ok(Target::Tcp(bare(&text), port.unwrap_or(PORT))),
            (Some((host, port)), None) => {
                let wrong = |_| ValueError::new(&text, "HOST, HOST:PORT or unix:PATH").to_string();
                Ok(Target::Tcp(bare(host), config::port(port).map_err(wrong)?))
            }
        }
    }
}

fn prefix(text: &str) -> Parsed<String> {
    match text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(ValueError::new(text, "visible ASCII characters without spaces")),
    }
}
