//! The command line: words into a [`Config`], or one line that says what is wrong with them.

mod l2;
mod memcached;
mod rend;
#[cfg(test)]
mod table_tests;

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use lexopt::prelude::{Long, Short, Value};

use crate::config::{self, Config, ValueError};
use crate::console::VERSION;
use crate::load::{self, Tool};

/// What the words ask for.
#[derive(Debug)]
pub enum Command {
    /// `sunder serve ..`
    Serve(Box<Config>),
    /// A tool, with the words behind its name.
    Tool(&'static Tool, Vec<OsString>),
    /// Print this text.
    Print(Cow<'static, str>),
}

/// Words that make no command. Its text is one line.
#[derive(Debug)]
pub enum UsageError {
    /// A flag that nobody knows, or that lacks its value.
    Word(String),
    /// A flag with a wrong value.
    Value {
        /// The flag.
        flag: &'static str,
        /// What is wrong with its value.
        error: ValueError,
    },
    /// Flags that do not go together.
    Conflict(&'static str),
    /// Of the addresses to listen on, one takes another in.
    Overlap {
        /// All addresses of its kind.
        all: IpAddr,
        /// The other one.
        one: IpAddr,
    },
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UsageError::Word(text) => write!(f, "{text} (see sunder --help)"),
            UsageError::Value { flag, error } => write!(f, "{flag}: {error}"),
            UsageError::Conflict(text) => f.write_str(text),
            UsageError::Overlap { all, one } => {
                write!(f, "--bind: {all} takes {one} in; leave one out")
            }
        }
    }
}

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> UsageError {
        UsageError::Word(error.to_string().replace(['\n', '\r'], " "))
    }
}

/// What `--help` prints, with a place for the tools.
const HELP: &str = "\
sunder: a memcached-compatible cache appliance

Usage: sunder serve [FLAGS]
       sunder TOOL [FLAGS]      TOOL --help says more
{tools}
Where clients come from
  --device DEV        DPDK device: a PCI address (bound with scripts/bind-nic.sh), or a vdev
                      with its arguments, e.g. net_af_packet0,iface=veth0.
                      Without it: kernel sockets.
  --address CIDR      the appliance's own address on the device, e.g. 10.0.0.5/24; repeat it
                      for more, IPv4 and IPv6
  --gateway IP        where packets for other networks go; repeat it for IPv6
  -p, --port N        port [11211]
  --bind IP[,IP..]    addresses of kernel sockets [127.0.0.1]; repeat it for more. :: is all of the
                      host's, those of IPv4 too unless one of them is named
  --use-domain-socket --sock-path PATH
                      a Unix socket at PATH instead of a port; kernel sockets only
  --bp N              batch port [11212], open when there is an L2: for jobs whose reads shall not
                      fill L1 and whose writes only update what L1 has. Beside a Unix socket it is
                      open only if --bp is given, or with
  --bp-sock-path PATH a Unix socket for batch jobs instead
  --max-connections N connections at once, all workers together [1024]
  --idle-timeout S    close a connection after S seconds without a request [0: never]

How it runs
  --workers N         one thread each [one a core]
  --cores LIST        cores that workers run on, e.g. 0,2-3, instead of --workers
  --poll busy|adaptive
                      spin when there is nothing to do, or sleep [busy on a device]
  --huge auto|off     huge pages for the device's frames: auto needs them (scripts/hugepages.sh)
                      [auto]; L1 takes what the kernel gives by itself

What it keeps
  --l1 memory[,size=SIZE]
                      L1 in this process [memory,size=64M], its index included; each worker has
                      its part of it, and 34 MiB beside it
  --l1 memcached,addr=unix:PATH|127.0.0.1:PORT[,layout=plain|chunked[,chunk=SIZE]][,timeout=MS]
                      L1 in a memcached of this host: values as they are [plain], or split as Rend
                      splits them, into chunks of SIZE [1184]. A memcached that does not answer for
                      MS milliseconds [500] is left alone until it does
  --l1 ssd,path=PATH[,size=SIZE][,object=SIZE][,admit=all|second-touch][,flush=MS][,format]
       [,state=DIR]
                      L1 on a file or block device, read and written directly; what it holds
                      survives a restart and kill -9, but for the last MS milliseconds [100].
                      A file is made so large as size= says. object= is what an object needs on
                      average [1K]: the index takes 11 bytes of memory for each there is room for.
                      format starts afresh, at every start while it is in the flags; needed when
                      --workers or the size has changed. state= is where it is noted that the disk
                      takes no writes, on another file system [/var/lib/sunder, else /var/tmp]
  --l2 none | memcached,addr=..[,layout=..[,chunk=..]][,timeout=MS] | rend,addr=..[,timeout=MS]
       | ssd,path=..[,..]
                      the second level, asked for what L1 has not, first to be written: a memcached,
                      a server that speaks Rend's GETE, or an SSD of this host [none]
  --max-item-size SIZE
                      largest item, key and header counted [1M]

  --wait S            when a tier's server, an SSD or a port is not to be had at the start, try
                      again for S seconds [0]

memcached's flags (-m -t -l -c -I -s -a -o and all others) mean what they mean to memcached, or say
what to do instead. Rend's flags (--l1-inmem --l1-sock --chunked --l1-batched --l2-enabled --l2-sock
--locked --concurrency --multi-reader --batch-*) mean what they mean to Rend, or say why they are no
longer needed; see docs/MIGRATING-FROM-REND.md.

For trials
  --faults LIST       play a bad wire on the device: seed=N,drop=N,reorder=N,duplicate=N,corrupt=N,
                      in a million frames each way

What clients may do
  --enable-shutdown   obey the shutdown command
  --disable-flush-all refuse the flush_all command

  -h, --help          print this
  -V, --version       print the version

What keeps it from starting is one line. Exit status 0: it ended as told, 1: something on the host
has to be mended, 2: these words are wrong, 3: it ended, and a tier could not be closed, 4: its
device was taken away, 75: it may pass by itself, as a port in use or a memcached that is not up
yet. SIGINT and SIGTERM end the server: what is answered is sent first, for 5 s at most. SIGHUP,
SIGUSR1 and SIGUSR2 do nothing.
";

/// What `--help` prints.
fn help() -> Cow<'static, str> {
    let row = |tool: &Tool| format!("  {:19} {}\n", tool.name, tool.summary);
    let tools = load::TOOLS.iter().chain([&l2::TOOL]).map(row);
    HELP.replace("{tools}", &tools.collect::<String>()).into()
}

const NOTE_BATCH_PORT: &str = "--bp: the batch port stays closed, because there is no L2";
const NOTE_BATCH_BESIDE: &str = "--sock-path: there is no batch port beside a Unix socket unless \
     one is asked for; --bp-sock-path PATH is another Unix socket, --bp N a port that every user \
     of this host can reach";

/// Reads a command line, without the program's name.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut words = words.into_iter().peekable();
    let tool = |name: &str| load::tool(name).or((name == l2::TOOL.name).then_some(&l2::TOOL));
    if let Some(tool) = words.peek().and_then(|word| tool(word.to_str()?)) {
        return Ok(Command::Tool(tool, words.skip(1).collect()));
    }
    let words: Vec<OsString> = words.map(rend::normalise).collect();
    let given: Vec<_> =
        words.iter().map(|word| word.to_string_lossy().escape_debug().to_string()).collect();
    let mut parser = lexopt::Parser::from_args(words);
    match parser.next()? {
        Some(Value(word)) if word == "serve" => serve(&mut parser),
        Some(Short('h') | Long("help")) => Ok(Command::Print(help())),
        Some(Short('V') | Long("version")) => Ok(Command::Print(VERSION.into())),
        Some(Value(word)) if word == "help" => match parser.next()? {
            Some(Value(word)) if word != "serve" => match word.to_str().and_then(tool) {
                Some(tool) => Ok(Command::Tool(tool, vec!["--help".into()])),
                None => Err(no_command(&word)),
            },
            _ => Ok(Command::Print(help())),
        },
        Some(Value(word)) => Err(no_command(&word)),
        Some(_) => {
            let given = given.join(" ");
            Err(UsageError::Word(format!("'{given}': give a command first: sunder serve {given}")))
        }
        None => Err(UsageError::Word("give a command, e.g. sunder serve".to_owned())),
    }
}

fn no_command(word: &OsString) -> UsageError {
    UsageError::Word(format!("'{}' is not a command", word.to_string_lossy().escape_debug()))
}

fn serve(parser: &mut lexopt::Parser) -> Result<Command, UsageError> {
    let mut said = Said::default();
    while let Some(flag) = parser.next()? {
        let name = match flag {
            Short('p') => "port".to_owned(),
            Short('h') | Long("help") => return Ok(Command::Print(help())),
            Short('V') | Long("version") => return Ok(Command::Print(VERSION.into())),
            Long(name) => memcached::ours(name).to_owned(),
            Short(letter) if let Some(name) = memcached::long(letter) => name.to_owned(),
            flag => return Err(flag.unexpected().into()),
        };
        let is_taken = said.take_place(&name, parser)?
            || said.take_manner(&name, parser)?
            || said.rend.take(&name, parser)?
            || memcached::take(&mut said, &name, parser)?;
        if !is_taken {
            return Err(UsageError::Word(format!("invalid option '--{}'", name.escape_debug())));
        }
    }
    let config = said.finish()?;
    check(&config)?;
    Ok(Command::Serve(Box::new(config)))
}

/// What the flags of `serve` have said so far.
#[derive(Default)]
struct Said {
    config: Config,
    socket_path: Option<PathBuf>,
    uses_socket: bool,
    /// The flag that has named L1.
    l1_flag: Option<&'static str>,
    has_l2: bool,
    has_bind: bool,
    /// What is to be said of memcached's flags.
    notes: Vec<&'static str>,
    rend: rend::Rend,
}

impl Said {
    /// Takes the long flag `name` if it says where clients come from, or where items are. False: it
    /// does not.
    fn take_place(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<bool, UsageError> {
        let config = &mut self.config;
        match name {
            "device" => config.device = Some(text(parser)?),
            "address" => config.addresses.push(value(parser, "--address", config::cidr)?),
            "gateway" => config.gateways.push(value(parser, "--gateway", config::address)?),
            // As memcached has it beside a Unix socket; anywhere else it is refused in the end.
            "port" => {
                let number = |text: &str| if text == "0" { Ok(0) } else { config::port(text) };
                config.port = value(parser, "--port", number)?;
            }
            "bp" => {
                config.batch_port = Some(value(parser, "--bp", config::port)?);
            }
            "bp-sock-path" => config.batch_socket_path = Some(parser.value()?.into()),
            "bind" => {
                let binds = value(parser, "--bind", config::binds)?;
                self.bind(binds);
            }
            "use-domain-socket" => {
                self.uses_socket = rend::switch("--use-domain-socket", parser)?;
            }
            "sock-path" => self.socket_path = Some(parser.value()?.into()),
            "l1" => {
                once(memcached::TWO_L1, self.l1_flag == Some("-m"))?;
                once("--l1: is given twice; there is one first tier", self.l1_flag.is_some())?;
                config.l1 = value(parser, "--l1", config::l1)?;
                self.l1_flag = Some("--l1");
            }
            "l2" => {
                once("--l2: is given twice; there is one second tier", self.has_l2)?;
                config.l2 = value(parser, "--l2", config::l2)?;
                self.has_l2 = true;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes the long flag `name` if it says how the server runs, or what it allows. False: it does
    /// not.
    fn take_manner(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<bool, UsageError> {
        let config = &mut self.config;
        match name {
            "workers" => config.workers = Some(value(parser, "--workers", config::workers)?),
            "cores" => config.cores = value(parser, "--cores", config::cores)?,
            "poll" => config.poll = Some(value(parser, "--poll", config::poll)?),
            "max-item-size" => {
                config.item_bytes_max = value(parser, "--max-item-size", config::item_size)?;
            }
            "max-connections" => {
                let number = |text: &str| config::number(text, 1, 10_000_000);
                config.connections_max = value(parser, "--max-connections", number)? as usize;
            }
            "idle-timeout" => {
                let number = |text: &str| config::number(text, 0, 86_400 * 365);
                config.idle_timeout_s = value(parser, "--idle-timeout", number)?;
            }
            "wait" => {
                let number = |text: &str| config::number(text, 0, 86_400);
                config.wait_s = value(parser, "--wait", number)?;
            }
            "huge" => config.huge = value(parser, "--huge", config::huge)?,
            "enable-shutdown" => config.is_shutdown_enabled = true,
            "disable-flush-all" => config.is_flush_enabled = false,
            "faults" => config.faults = Some(value(parser, "--faults", config::faults)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Listens on these addresses too, instead of the one that is not said.
    fn bind(&mut self, binds: Vec<IpAddr>) {
        if !std::mem::replace(&mut self.has_bind, true) {
            self.config.binds.clear();
        }
        self.config.binds.extend(binds);
    }

    fn finish(self) -> Result<Config, UsageError> {
        let Said { mut config, socket_path, uses_socket, l1_flag, has_l2, has_bind, .. } = self;
        self.rend.apply(&mut config, l1_flag, has_l2, has_bind)?;
        config.notes.extend(self.notes);
        let is_batch_said = config.batch_port.is_some() || config.batch_socket_path.is_some();
        if is_batch_said && config.l2 == config::L2::None {
            config.notes.push(NOTE_BATCH_PORT);
        }
        config.socket_path = match (uses_socket, socket_path) {
            (true, None) => {
                return Err(UsageError::Conflict("--use-domain-socket: give --sock-path as well"));
            }
            (true, path) => path,
            (false, Some(_)) => {
                return Err(UsageError::Conflict("--sock-path: give --use-domain-socket as well"));
            }
            (false, None) => None,
        };
        if config.socket_path.is_none() {
            let wrong = |error| UsageError::Value { flag: "--port", error };
            config::port(&config.port.to_string()).map_err(wrong)?;
        }
        if config.l2 != config::L2::None && config.batch().is_none() {
            config.notes.push(NOTE_BATCH_BESIDE);
        }
        Ok(config)
    }
}

/// Whether the flags go together.
fn check(config: &Config) -> Result<(), UsageError> {
    let conflict = |text| Err(UsageError::Conflict(text));
    if !config.cores.is_empty() && config.workers.is_some_and(|n| n != config.cores.len()) {
        return conflict("--workers: --cores names another number of cores; give one of the two");
    }
    if config.socket_path.is_none() && config.open_batch_port() == Some(config.port) {
        return conflict("--bp: is the same port as --port; give it another");
    }
    if config.batch_port.is_some() && config.batch_socket_path.is_some() {
        return conflict(
            "--bp: --bp-sock-path says where batch jobs come in too; give one of them",
        );
    }
    if config.batch_socket_path.is_some() && config.batch_socket_path == config.socket_path {
        return conflict("--bp-sock-path: is the same as --sock-path; give it another");
    }
    check_binds(&config.binds)?;
    if config.l1.address().is_some() && config.l1.address() == config.l2.address() {
        return conflict("--l2: is the same server as L1; each tier needs a server of its own");
    }
    if let (config::L1::Ssd(_), config::L2::Ssd(_)) = (&config.l1, &config.l2) {
        return conflict("--l2: L1 is an SSD already; give it all of the space, and no L2");
    }
    if config.device.is_some() {
        if config.addresses.is_empty() {
            return conflict("--device: give its own address too, e.g. --address 10.0.0.5/24");
        }
        if config.socket_path.is_some() || config.batch_socket_path.is_some() {
            return conflict("--sock-path: a Unix socket needs kernel sockets, without --device");
        }
        if config.binds != Config::default().binds {
            return conflict("--bind: is for kernel sockets; a device has --address");
        }
        let has =
            |is_ipv4: bool| config.addresses.iter().any(|cidr| cidr.address.is_ipv4() == is_ipv4);
        let is_near = |gateway: &IpAddr| config.addresses.iter().any(|own| own.contains(gateway));
        if config.gateways.iter().any(|gateway: &IpAddr| !has(gateway.is_ipv4())) {
            return conflict("--gateway: there is no --address of its kind (IPv4 or IPv6)");
        }
        if !config.gateways.iter().all(is_near) {
            return conflict("--gateway: is in the network of no --address");
        }
        let mut own: Vec<_> = config.addresses.iter().map(|cidr| cidr.address).collect();
        own.sort_unstable();
        own.dedup();
        if own.len() < config.addresses.len() {
            return conflict("--address: the same address is given twice");
        }
    } else {
        if !config.addresses.is_empty() {
            return conflict("--address: is a device's; kernel sockets have --bind");
        }
        if !config.gateways.is_empty() {
            return conflict("--gateway: is a device's; give --device as well");
        }
        if config.faults.is_some() {
            return conflict("--faults: are a device's; give --device as well");
        }
    }
    Ok(())
}

/// Whether each of these addresses can have a listener beside the others'.
fn check_binds(binds: &[IpAddr]) -> Result<(), UsageError> {
    if (1..binds.len()).any(|at| binds[..at].contains(&binds[at])) {
        return Err(UsageError::Conflict("--bind: the same address is given twice"));
    }
    for &all in binds.iter().filter(|bind| bind.is_unspecified()) {
        let is_in_it = |one: &&IpAddr| **one != all && one.is_ipv4() == all.is_ipv4();
        if let Some(&one) = binds.iter().find(is_in_it) {
            return Err(UsageError::Overlap { all, one });
        }
    }
    Ok(())
}

fn once(complaint: &'static str, is_given: bool) -> Result<(), UsageError> {
    if is_given { Err(UsageError::Conflict(complaint)) } else { Ok(()) }
}

fn text(parser: &mut lexopt::Parser) -> Result<String, UsageError> {
    let word = parser.value()?;
    word.into_string().map_err(|word| {
        let word = word.to_string_lossy().into_owned();
        UsageError::Word(format!("'{}' is not UTF-8", word.escape_debug()))
    })
}

fn value<T>(
    parser: &mut lexopt::Parser,
    flag: &'static str,
    read: impl Fn(&str) -> Result<T, ValueError>,
) -> Result<T, UsageError> {
    let text = text(parser)?;
    read(&text).map_err(|error| UsageError::Value { flag, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<Command, UsageError> {
        parse(words.split_whitespace().map(OsString::from))
    }

    fn config(words: &str) -> Config {
        match parse_words(words) {
            Ok(Command::Serve(config)) => *config,
            other => panic!("{words}: {other:?}"),
        }
    }

    #[test]
    fn without_flags_it_is_memcached_on_loopback() {
        let config = config("serve");
        assert_eq!(config.port, 11211);
        assert!(config.binds.iter().all(IpAddr::is_loopback));
        assert_eq!(config.l1, config::L1::Memory { bytes: 64 << 20 });
        assert_eq!(config.poll(), config::Poll::Adaptive);
    }

    #[test]
    fn a_device_has_an_address_and_spins() {
        let config =
            config("serve --device net_af_packet0,iface=veth0 --address 10.0.0.5/24 --workers 2");
        assert_eq!(config.device.as_deref(), Some("net_af_packet0,iface=veth0"));
        assert_eq!(config.workers, Some(2));
        assert_eq!(config.poll(), config::Poll::Busy);
    }

    #[test]
    fn a_batch_port_without_an_l2_is_told_of() {
        assert_eq!(config("serve --bp 4000").notes, [NOTE_BATCH_PORT]);
        assert!(config("serve --bp 4000 --l2 rend,addr=unix:/x").notes.is_empty());
        assert!(config("serve").notes.is_empty());
    }

    #[test]
    fn beside_a_unix_socket_the_batch_port_has_to_be_asked_for() {
        let socket = "serve --use-domain-socket --sock-path /s --l2 rend,addr=unix:/x";
        let silent = config(socket);
        assert_eq!((silent.batch(), &silent.notes[..]), (None, &[NOTE_BATCH_BESIDE][..]));
        for more in [" --bp 4000", " --bp-sock-path /b"] {
            let asked = config(&format!("{socket}{more}"));
            assert!(asked.batch().is_some() && asked.notes.is_empty(), "{more}");
        }
    }

    #[test]
    fn addresses_to_listen_on_add_up() {
        let config = config("serve --bind 127.0.0.1,::1 --bind 10.0.0.1");
        let all: Vec<_> = config.binds.iter().map(IpAddr::to_string).collect();
        assert_eq!(all, ["127.0.0.1", "::1", "10.0.0.1"]);
        assert!(parse_words("serve --bind 0.0.0.0,::").is_ok(), "of either family all");
        assert!(parse_words("serve --bind ::,127.0.0.1").is_ok(), "that one of IPv4 alone");
    }

    #[test]
    fn help_for_a_tool_is_the_tools_own() {
        for tool in ["bench", "blast", "l2"] {
            match parse_words(&format!("help {tool}")) {
                Ok(Command::Tool(found, words)) => {
                    assert_eq!((found.name, &words[..]), (tool, &["--help".into()][..]));
                }
                other => panic!("{tool}: {other:?}"),
            }
        }
        assert!(matches!(parse_words("help"), Ok(Command::Print(_))));
        assert!(matches!(parse_words("help serve"), Ok(Command::Print(_))));
        assert!(parse_words("help dance").is_err());
    }

    #[test]
    fn what_is_wrong_is_one_line_that_names_the_flag() {
        for (words, flag) in [
            ("serve --workers 0", "--workers"),
            ("serve --port 99999", "--port"),
            ("serve --device net_tap0", "--address"),
            ("serve --address 10.0.0.5/24", "--address"),
            ("serve --l1 disk", "--l1"),
            ("serve --poll never", "--poll"),
            ("serve --sock-path /tmp/x", "--use-domain-socket"),
            ("serve --no-such-flag", "--no-such-flag"),
            ("serve --workers", "--workers"),
            ("serve --cores 0 --workers 2", "--cores"),
            ("serve --l1 memcached,addr=unix:/x --l2 memcached,addr=unix:/x", "--l2"),
            ("serve --l1-sock /x --l2-enabled --l2-sock /x", "--l2"),
            ("serve --l1 memory --l1 memory,size=1G", "--l1"),
            ("serve --l2 none --l2 none", "--l2"),
            ("serve --bind ::1 --bind ::1", "--bind: the same address is given twice"),
            ("serve --bind 127.0.0.1,0.0.0.0", "--bind: 0.0.0.0 takes 127.0.0.1 in; leave one"),
            ("serve --bind :: --bind ::1", "--bind: :: takes ::1 in"),
            ("serve -p 0", "--port: got '0'"),
            ("serve -m 64 --l1 memory", "-m names an L1 too"),
            ("serve --l1 memory -m 64", "-m names an L1 too"),
            ("serve -m 64 --l1-inmem", "--l1-inmem and -m"),
            ("serve --l1-inmem --l1 memory", "--l1-inmem and --l1"),
            ("-p 25000 -m 64", "give a command first: sunder serve -p 25000 -m 64"),
            ("", "give a command"),
            ("serve --bp 1 --bp-sock-path /x", "--bp-sock-path"),
            ("dance", "dance"),
        ] {
            let error = parse_words(words).expect_err(words).to_string();
            assert!(error.contains(flag), "{words}: {error}");
            assert!(!error.contains('\n'), "{words}: {error}");
        }
    }
}
