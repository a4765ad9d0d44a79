//! The command lines of blast, setget, sizes, fill and setops: Rend's flags, and those that its
//! users missed.
//!
//! Rend is written in Go, whose flags may begin with one dash or two and have their value behind a
//! space or a `=`. Its `-h` is the host; without a value it asks for help here.

use super::history::plan::Mix;
use super::history::record::{KEYS_MAX, RECORD_BYTES_MAX, RECORD_HEAD_BYTES};
use super::number::count;
use super::stream::Target;
use super::wire::Dialect;
use crate::config::{ValueError, number, port, size};
use crate::console::VERSION;
use lexopt::prelude::{Long, Short, Value};
use std::ffi::{OsStr, OsString};
use std::time::Duration;

/// Longest value that setget, sizes and fill make, in bytes.
const VALUE_BYTES_MAX: u64 = 64 << 20;

/// Most workers: each is a connection, and but for blast and setops a thread.
const WORKERS_MAX: u64 = 1024;

/// Answers longer than this are taken only if `--answer-bytes` says so, or the tool's own values
/// may be as long: a server that sends what nobody stored shall not fill the client's memory.
pub const ANSWER_BYTES: usize = 16 << 20;

/// Bounds of `--answer-bytes`.
pub const ANSWER_BYTES_BOUNDS: (u64, u64) = (1 << 10, 4 << 30);

/// Most keys of one get of blast.
pub const KEYS_PER_GET_MAX: usize = 25;

/// Longest key, prefix and letters, in bytes: the protocols' own limit.
const KEY_BYTES_MAX: usize = 250;

/// What a tool is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the server is.
    pub target: Target,
    /// How to speak; the connections take turns.
    pub dialects: Vec<Dialect>,
    /// How many operations.
    pub operations: u64,
    /// Connections.
    pub workers: usize,
    /// Letters of a key behind the prefix.
    pub key_letters: usize,
    /// What keys begin with.
    pub prefix: String,
    /// Different keys of blast and setops.
    pub keys: usize,
    /// Decides keys, values and order.
    pub seed: u64,
    /// Least and most bytes of a value.
    pub value_bytes: (usize, usize),
    /// Bytes between two of sizes' values.
    pub step_bytes: usize,
    /// An answer that takes longer ends the run.
    pub timeout: Duration,
    /// An answer that is longer ends the run.
    pub answer_bytes: usize,
    /// The run ends after so long, done or not.
    pub duration: Duration,
    /// An item that is gone though nobody deleted it is wrong.
    pub is_loss_wrong: bool,
    /// What blast is made of.
    pub mix: Mix,
    /// Blast goes on when connections fail.
    pub survives: bool,
    /// See [`super::history::plan::Plan::may_cas_repeat`].
    pub may_cas_repeat: bool,
    /// Whether [`Mix::Everything`] has flush_all.
    pub has_flush: bool,
    /// What to tell the user before the start: flags that are not needed.
    pub notes: Vec<&'static str>,
}

/// What makes a tool's command line its own.
#[derive(Debug)]
pub struct Spec {
    /// Its name.
    pub name: &'static str,
    /// What `--help` prints before the shared flags.
    pub help: &'static str,
    /// The long flags that not all tools have.
    pub flags: &'static [&'static str],
    /// What holds unless the flags say otherwise.
    pub operations: u64,
    /// The same.
    pub value_bytes: (usize, usize),
    /// Whether values are records, which have bounds of their own.
    pub has_records: bool,
}

/// What the words ask for.
#[derive(Debug)]
pub enum Asked {
    /// To run.
    Run(Box<Options>),
    /// To print this.
    Print(String),
}

const SHARED_HELP: &str = "
Shared flags (also with one dash, and with = or a space before the value)
  --host HOST         the server's name or address; -h HOST does too [127.0.0.1]
  -p, --port N        its port [11211]
  --sock-path PATH    its Unix socket, in place of host and port
  HOST:PORT, unix:PATH
                      as a word of its own, in place of these flags
  -t, --text          speak the text protocol (this is the default)
  -b, --binary        speak the binary protocol
  --meta              speak memcached's meta commands (memcached 1.6 and later);
                      with several of these the connections take turns
  -w, --workers N     connections, each with one request at a time [10]
  -k, --key-length N  letters of a key; -kl N does too [4]
  --prefix TEXT       what keys begin with, so that two runs at once do not meet []
  --seed N            decides keys, values and order [1]
  --value-bytes MIN-MAX
                      lengths of values; 1K is 1024
  --duration S        ends the run after so many seconds, done or not [3600]
  --timeout S         an answer that takes longer ends the run, in seconds [10]
  --answer-bytes SIZE an answer that is longer ends the run: what a connection may take of this
                      process's memory [16M, and what the tool itself may have stored]
  --no-loss           an item that is gone though nobody deleted it is wrong; a cache may evict
  --pprof             accepted and not needed: perf profiles this program from outside
  --help, --version   print this, or the version

N may be 50k, 1.5M or 2G: thousands, millions, thousands of millions. A SIZE in bytes may be 4K, 1M:
there K is 1024.

Nobody else may write these keys meanwhile. Ctrl-C (SIGINT) and SIGTERM print what was measured so
far; a second one ends the tool at once.
Exit status: 0 all was right, also where --duration ended it; 1 something was not (the first such
key is named), or the server could not be reached, closed, was too slow or made no sense; 2 wrong
flags; 130 ended by ctrl-C or SIGTERM.
";

const NOTE_PPROF: &str = "--pprof: not needed, perf profiles this program from outside";

/// Long flags that may have one dash only, as Go has them.
const GO_NAMES: &[&str] = &[
    "host",
    "port",
    "sock-path",
    "text",
    "binary",
    "meta",
    "workers",
    "key-length",
    "kl",
    "prefix",
    "seed",
    "value-bytes",
    "timeout",
    "answer-bytes",
    "duration",
    "no-loss",
    "pprof",
    "num-ops",
    "keys",
    "all",
    "survive",
    "cas-may-repeat",
    "no-flush",
    "step",
    "help",
    "version",
];

fn normalise(word: OsString) -> OsString {
    let Some(text) = word.to_str() else { return word };
    let Some(flag) = text.strip_prefix('-').filter(|flag| !flag.starts_with('-')) else {
        return word;
    };
    let name = flag.split_once('=').map_or(flag, |(name, _)| name);
    if GO_NAMES.contains(&name) { format!("--{flag}").into() } else { word }
}

/// Reads a tool's words.
///
/// # Errors
/// What is wrong with them, in one line.
pub fn parse(spec: &Spec, words: Vec<OsString>) -> Result<Asked, String> {
    let mut parser = lexopt::Parser::from_args(words.into_iter().map(normalise));
    let mut said = Said::new(spec);
    while let Some(flag) = parser.next().map_err(one_line)? {
        if let Value(word) = &flag
            && said.take_target(word)?
        {
            continue;
        }
        let name = match name_of(flag)? {
            "help" => return Ok(help(spec)),
            "version" => return Ok(Asked::Print(VERSION.into())),
            "h" if !has_value(&mut parser) => return Ok(help(spec)),
            "h" => "host",
            name => name,
        };
        said.take(name, &mut parser)?;
    }
    said.finish().map(|options| Asked::Run(Box::new(options)))
}

fn help(spec: &Spec) -> Asked {
    Asked::Print(format!("{}{SHARED_HELP}", spec.help))
}

fn one_line(error: lexopt::Error) -> String {
    error.to_string().replace(['\n', '\r'], " ")
}

/// Whether a value follows, and not another flag or nothing.
fn has_value(parser: &mut lexopt::Parser) -> bool {
    let Some(words) = parser.try_raw_args() else { return true };
    let next = words.peek().map(|word| word.to_string_lossy().into_owned());
    next.is_some_and(|word| !word.starts_with('-'))
}

/// The long name of a flag; `h` may be the host or ask for help.
fn name_of(flag: lexopt::Arg<'_>) -> Result<&'static str, String> {
    let known = match &flag {
        Short('h') | Long("h") => Some("h"),
        Short('n') | Long("n") => Some("num-ops"),
        Short('p') | Long("p") => Some("port"),
        Short('t') | Long("t") => Some("text"),
        Short('b') | Long("b") => Some("binary"),
        Short('w') | Long("w") => Some("workers"),
        Short('k') | Long("k" | "kl") => Some("key-length"),
        Short('V') => Some("version"),
        Long(name) => GO_NAMES.iter().find(|known| *known == name).copied(),
        _ => None,
    };
    known.ok_or_else(|| one_line(flag.unexpected()))
}

struct Said<'a> {
    spec: &'a Spec,
    host: Option<String>,
    port: Option<u16>,
    socket: Option<String>,
    /// Whether the place came as one word.
    has_target: bool,
    answer_bytes: Option<usize>,
    options: Options,
}

impl<'a> Said<'a> {
    fn new(spec: &'a Spec) -> Said<'a> {
        let options = Options {
            target: Target::Tcp("127.0.0.1".into(), 11211),
            dialects: vec![],
            operations: spec.operations,
            workers: 10,
            key_letters: 4,
            prefix: String::new(),
            keys: 1000,
            seed: 1,
            value_bytes: spec.value_bytes,
            step_bytes: 100,
            timeout: Duration::from_secs(10),
            answer_bytes: ANSWER_BYTES,
            duration: Duration::from_secs(3_600),
            is_loss_wrong: false,
            mix: Mix::Blast,
            survives: false,
            may_cas_repeat: false,
            has_flush: true,
            notes: vec![],
        };
        Said {
            spec,
            host: None,
            port: None,
            socket: None,
            has_target: false,
            answer_bytes: None,
            options,
        }
    }

    /// Takes `HOST:PORT` or `unix:PATH`, as bench has it. Returns whether the word is one.
    fn take_target(&mut self, word: &OsStr) -> Result<bool, String> {
        let Some((host, port_word)) = word.to_str().and_then(|word| word.rsplit_once(':')) else {
            return Ok(false);
        };
        if self.host.is_some() || self.port.is_some() || self.socket.is_some() {
            return Err("HOST:PORT, --host with --port, and --sock-path: give one of them".into());
        }
        if let Some(path) = word.to_str().and_then(|word| word.strip_prefix("unix:")) {
            self.socket = Some(path.to_owned());
        } else {
            let tell = |error| format!("'{}': {error}", word.to_string_lossy().escape_debug());
            self.port = Some(port(port_word).map_err(tell)?);
            self.host = Some(host.trim_matches(['[', ']']).to_owned());
        }
        self.has_target = true;
        Ok(true)
    }

    fn take(&mut self, name: &'static str, parser: &mut lexopt::Parser) -> Result<(), String> {
        let is_own = ["num-ops", "keys", "all", "survive", "cas-may-repeat", "no-flush", "step"];
        if is_own.contains(&name) && !self.spec.flags.contains(&name) {
            return Err(format!("--{name}: {} has no such flag", self.spec.name));
        }
        let options = &mut self.options;
        match name {
            "text" => on(name, parser, || options.dialects.push(Dialect::Text))?,
            "binary" => on(name, parser, || options.dialects.push(Dialect::Binary))?,
            "meta" => on(name, parser, || options.dialects.push(Dialect::Meta))?,
            "no-loss" => on(name, parser, || options.is_loss_wrong = true)?,
            "all" => on(name, parser, || options.mix = Mix::Everything)?,
            "survive" => on(name, parser, || options.survives = true)?,
            "cas-may-repeat" => on(name, parser, || options.may_cas_repeat = true)?,
            "no-flush" => on(name, parser, || options.has_flush = false)?,
            "pprof" => {
                // In Rend an address to listen on; whatever it is, it is not needed.
                let _ = parser.optional_value();
                options.notes.push(NOTE_PPROF);
            }
            _ => {
                let word = parser.value().map_err(one_line)?;
                let word = word.into_string().map_err(|_| format!("--{name}: is not UTF-8"))?;
                self.take_value(name, &word).map_err(|error| format!("--{name}: {error}"))?;
            }
        }
        Ok(())
    }

    fn take_value(&mut self, name: &str, word: &str) -> Result<(), ValueError> {
        if self.has_target && ["host", "port", "sock-path"].contains(&name) {
            return Err(ValueError::new(word, "one way to name the server"));
        }
        let options = &mut self.options;
        let own = |expected: &str| ValueError::new(word, expected);
        match name {
            "host" if word.is_empty() => return Err(own("a host")),
            "host" => self.host = Some(word.trim_matches(['[', ']']).to_owned()),
            "port" => self.port = Some(port(word)?),
            "sock-path" if word.is_empty() => return Err(own("a path")),
            "sock-path" => self.socket = Some(word.to_owned()),
            "num-ops" => options.operations = count(word, 1, u64::MAX)?,
            "workers" => options.workers = count(word, 1, WORKERS_MAX)? as usize,
            "keys" => options.keys = count(word, 1, (KEYS_MAX / 2) as u64)? as usize,
            "key-length" => options.key_letters = number(word, 1, 250)? as usize,
            "seed" => options.seed = number(word, 0, u64::MAX)?,
            "step" => options.step_bytes = size(word, 1, VALUE_BYTES_MAX)? as usize,
            "prefix" => {
                if !word.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(own("visible ASCII characters without spaces"));
                }
                options.prefix = word.to_owned();
            }
            "timeout" => options.timeout = seconds(word, 86_400.0)?,
            "duration" => options.duration = seconds(word, 31_536_000.0)?,
            "answer-bytes" => {
                let (min, max) = ANSWER_BYTES_BOUNDS;
                self.answer_bytes = Some(size(word, min, max)? as usize);
            }
            _ => options.value_bytes = range(word, self.spec.has_records)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<Options, String> {
        let Said { host, port, socket, mut options, .. } = self;
        options.target = match (host, port, socket) {
            (None, None, Some(path)) => Target::Unix(path.into()),
            (_, _, Some(_)) => {
                return Err("--sock-path: takes the place of --host and --port".into());
            }
            (host, port, None) => {
                Target::Tcp(host.unwrap_or_else(|| "127.0.0.1".into()), port.unwrap_or(11211))
            }
        };
        if options.dialects.is_empty() {
            options.dialects.push(Dialect::Text);
        }
        let keys_per_get = if self.spec.has_records { KEYS_PER_GET_MAX } else { 1 };
        let own_bytes = keys_per_get * options.value_bytes.1;
        options.answer_bytes = self.answer_bytes.unwrap_or(ANSWER_BYTES + own_bytes);
        if options.prefix.len() + options.key_letters > KEY_BYTES_MAX {
            return Err(format!("--prefix: keys of more than {KEY_BYTES_MAX} bytes"));
        }
        Ok(options)
    }
}

/// A switch, with or without `=true` or `=false`, as Go reads them.
fn on(name: &str, parser: &mut lexopt::Parser, set: impl FnOnce()) -> Result<(), String> {
    let Some(value) = parser.optional_value() else {
        set();
        return Ok(());
    };
    match value.to_str() {
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => set(),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => {}
        _ => {
            let error = ValueError::new(&value.to_string_lossy(), "true or false");
            return Err(format!("--{name}: {error}"));
        }
    }
    Ok(())
}

/// Seconds, a thousandth at least.
fn seconds(word: &str, most: f64) -> Result<Duration, ValueError> {
    let seconds = word.parse().ok().filter(|s| (0.001..=most).contains(s));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| ValueError::new(word, format!("seconds, from 0.001 to {most}")))
}

/// `MIN-MAX`, or one length.
fn range(word: &str, has_records: bool) -> Result<(usize, usize), ValueError> {
    let (least, most) = if has_records {
        (RECORD_HEAD_BYTES as u64, RECORD_BYTES_MAX as u64)
    } else {
        (0, VALUE_BYTES_MAX)
    };
    let wrong = || {
        let expected = format!("MIN-MAX in bytes, from {least} to {most}");
        ValueError::new(word, expected)
    };
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let bound = |word: &str| size(word, least, most).map_err(|_| wrong());
    let (first, last) = (bound(first)?, bound(last)?);
    if first > last { Err(wrong()) } else { Ok((first as usize, last as usize)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: Spec = Spec {
        name: "blast",
        help: "blast\n",
        flags: &["num-ops", "keys"],
        operations: 7,
        value_bytes: (10, 20),
        has_records: true,
    };

    fn parse_words(words: &str) -> Result<Asked, String> {
        parse(&SPEC, words.split_whitespace().map(OsString::from).collect())
    }

    fn options(words: &str) -> Options {
        match parse_words(words) {
            Ok(Asked::Run(options)) => *options,
            other => panic!("{words}: {other:?}"),
        }
    }

    #[test]
    fn rends_spellings() {
        for words in [
            "-b -n 100 -w 3 -p 12000 -h otherhost -key-length 5 -pprof",
            "--binary --num-ops=100 --workers 3 --port=12000 --host otherhost --kl 5 --pprof",
            "-binary -num-ops 100 -workers=3 -port 12000 -host=otherhost -kl=5 -pprof=x",
            "--b=true --n 100 --w 3 --p 12000 --h otherhost --kl 5",
        ] {
            let options = options(words);
            assert_eq!(options.target, Target::Tcp("otherhost".into(), 12000), "{words}");
            assert_eq!(options.dialects, [Dialect::Binary], "{words}");
            assert_eq!((options.operations, options.workers, options.key_letters), (100, 3, 5));
            assert_eq!(options.notes.len(), usize::from(words.contains("pprof")));
        }
    }

    #[test]
    fn defaults_are_memcacheds() {
        let options = options("");
        assert_eq!(options.target, Target::Tcp("127.0.0.1".into(), 11211));
        assert_eq!(options.dialects, [Dialect::Text]);
        assert_eq!((options.operations, options.value_bytes), (7, (10, 20)));
        let printed = |words| match parse_words(words) {
            Ok(Asked::Print(text)) => text,
            other => panic!("{words}: {other:?}"),
        };
        assert!(printed("-h").contains("Exit status") && printed("--help").contains("--host"));
        assert_eq!([printed("--version"), printed("-V"), printed("-version")], [VERSION; 3]);
    }

    #[test]
    fn counts_may_be_thousands_and_millions() {
        let options = options("-n 1.5M -w 1k --keys 2k --duration 90 --value-bytes 4K");
        assert_eq!((options.operations, options.workers, options.keys), (1_500_000, 1000, 2_000));
        assert_eq!((options.value_bytes, options.duration.as_secs()), ((4096, 4096), 90));
    }

    #[test]
    fn answers_are_bounded_by_what_the_tool_may_have_stored() {
        assert_eq!(options("").answer_bytes, ANSWER_BYTES + KEYS_PER_GET_MAX * 20);
        assert_eq!(options("--value-bytes 8M").answer_bytes, (16 + 25 * 8) << 20);
        assert_eq!(options("--answer-bytes 64K").answer_bytes, 64 << 10);
    }

    #[test]
    fn what_is_wrong_is_one_line_that_names_the_flag() {
        for (words, flag) in [
            ("--num-ops 0", "--num-ops"),
            ("-n many", "--num-ops"),
            ("-w 0", "--workers"),
            ("-p 70000", "--port"),
            ("--value-bytes 20-10", "--value-bytes"),
            ("--value-bytes 1-10", "--value-bytes"),
            ("--value-bytes 99999999999", "--value-bytes"),
            ("--timeout 0", "--timeout"),
            ("--timeout nan", "--timeout"),
            ("--duration 0", "--duration"),
            ("--duration 1y", "--duration"),
            ("--answer-bytes 1", "--answer-bytes"),
            ("-n 1T", "--num-ops"),
            ("--prefix \u{e9}", "--prefix"),
            ("-kl 250 --prefix a", "--prefix"),
            ("--sock-path /x --port 1", "--sock-path"),
            ("--step 10", "--step"),
            ("--no-such", "--no-such"),
            ("--workers", "--workers"),
            ("--binary=maybe", "--binary"),
            ("stray", "stray"),
        ] {
            let error = parse_words(words).expect_err(words);
            assert!(error.contains(flag) && !error.contains('\n'), "{words}: {error}");
        }
    }
}
