//! Which tiers a server has, and how they are written on a command line: `kind[,key=value..]`, as
//! DPDK writes its devices' arguments.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::words::{Key, Words, milliseconds, one_of, split};
use super::{Parsed, ValueError, show_size, size};
use crate::base::limits::{
    CHUNK_BYTES_DEFAULT, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, LINK_TIMEOUT_MS_MAX, LINK_TIMEOUT_US,
    SSD_FLUSH_MS, SSD_FLUSH_MS_MAX, SSD_OBJECT_BYTES, SSD_OBJECT_BYTES_MAX, SSD_OBJECT_BYTES_MIN,
};
pub use crate::tier::link::Address;
use crate::tier::shm::Name;
pub use crate::tier::ssd::Admit;

/// The first tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum L1 {
    /// In this process.
    Memory {
        /// All workers together.
        bytes: u64,
        /// Where it is, so that it is there after a restart.
        file: Option<MemoryFile>,
    },
    /// In a memcached on this host.
    Memcached(Memcached),
    /// In `sunder l1d` on this host, through rings in shared memory.
    Shm(Link),
    /// On an SSD of this host.
    Ssd(Ssd),
}

/// The files of a first tier in memory that outlives the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryFile {
    /// Their path, but for a point and the worker's number.
    pub path: PathBuf,
    /// Huge pages, if the kernel gives some.
    pub is_huge: bool,
    /// Start afresh, whatever is there.
    pub format: bool,
}

/// The second tier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum L2 {
    /// There is none.
    #[default]
    None,
    /// A memcached.
    Memcached(Memcached),
    /// A server that speaks the binary protocol with Rend's GETE.
    Rend(Link),
    /// An SSD of this host.
    Ssd(Ssd),
}

impl L1 {
    /// The server that it is kept in, if it is not in this process.
    pub fn address(&self) -> Option<&Address> {
        match self {
            L1::Memory { .. } | L1::Ssd(_) => None,
            L1::Memcached(memcached) => Some(&memcached.link.address),
            L1::Shm(link) => Some(&link.address),
        }
    }
}

impl L2 {
    /// The server that it is kept in, if there is one.
    pub fn address(&self) -> Option<&Address> {
        match self {
            L2::None | L2::Ssd(_) => None,
            L2::Memcached(memcached) => Some(&memcached.link.address),
            L2::Rend(link) => Some(&link.address),
        }
    }
}

/// A memcached used as a tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memcached {
    /// How it is reached.
    pub link: Link,
    /// How values lie in it.
    pub layout: Layout,
    /// Whether it is emptied at each start. In front of an L2, an operation that kill -9
    /// interrupted may have left an older item in it.
    pub starts_empty: bool,
}

/// A file or block device used as a tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssd {
    /// Where it is.
    pub path: PathBuf,
    /// How much of it to use, in bytes; a file is made so long. None: all there is.
    pub size_bytes: Option<u64>,
    /// What an object is taken to need on it, in bytes, which says how large the index is.
    pub object_bytes: u64,
    /// What is worth a write.
    pub admit: Admit,
    /// What a crash may lose, in milliseconds.
    pub flush_ms: u64,
    /// Start afresh, whatever is there.
    pub format: bool,
    /// Folder on another file system where it is noted that the disk takes no writes. None: the
    /// usual ones.
    pub state: Option<PathBuf>,
}

/// How a server on this host is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where it listens.
    pub address: Address,
    /// How long it may take to answer, in microseconds.
    pub timeout_us: u64,
}

/// How values lie in a memcached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As they are: other clients of the memcached see the same items.
    Plain,
    /// Split into chunks of one size, as Rend does.
    Chunked {
        /// Size of a chunk as Rend counts it: memcached's header and the key included, in bytes.
        chunk_bytes: usize,
    },
}

impl fmt::Display for L1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            L1::Memory { bytes, file } => {
                write!(f, "memory,size={}", show_size(*bytes))?;
                file.as_ref().map_or(Ok(()), |file| file.fmt(f))
            }
            L1::Memcached(memcached) => memcached.fmt(f),
            L1::Shm(link) => write!(f, "shm,{link}"),
            L1::Ssd(ssd) => ssd.fmt(f),
        }
    }
}

impl fmt::Display for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let huge = if self.is_huge { "auto" } else { "off" };
        write!(f, ",path={},huge={huge}", self.path.to_string_lossy().escape_debug())?;
        if self.format { f.write_str(",format") } else { Ok(()) }
    }
}

impl fmt::Display for L2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            L2::None => f.write_str("none"),
            L2::Memcached(memcached) => memcached.fmt(f),
            L2::Rend(link) => write!(f, "rend,{link}"),
            L2::Ssd(ssd) => ssd.fmt(f),
        }
    }
}

impl fmt::Display for Memcached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memcached,{}", self.link)?;
        if let Layout::Chunked { chunk_bytes } = self.layout {
            write!(f, ",layout=chunked,chunk={chunk_bytes}")?;
        }
        if self.starts_empty { f.write_str(",start=empty") } else { Ok(()) }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = match &self.address {
            // The path may have anything in it, and this is for a line.
            Address::Unix(path) => format!("unix:{}", path.to_string_lossy().escape_debug()),
            Address::Tcp(address) => address.to_string(),
            Address::Shm(name) => {
                return write!(f, "name={name},timeout={}", self.timeout_us / 1_000);
            }
        };
        write!(f, "addr={address},timeout={}", self.timeout_us / 1_000)
    }
}

impl fmt::Display for Ssd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ssd,path={}", self.path.to_string_lossy().escape_debug())?;
        if let Some(bytes) = self.size_bytes {
            write!(f, ",size={}", show_size(bytes))?;
        }
        let admit = match self.admit {
            Admit::All => "all",
            Admit::SecondTouch => "second-touch",
        };
        let object = show_size(self.object_bytes);
        write!(f, ",object={object},admit={admit},flush={}", self.flush_ms)?;
        if let Some(folder) = &self.state {
            write!(f, ",state={}", folder.to_string_lossy().escape_debug())?;
        }
        if self.format { f.write_str(",format") } else { Ok(()) }
    }
}

/// Smallest and largest L1 in memory, in bytes; a worker's part has limits of its own.
const MEMORY_BYTES: (u64, u64) = (1 << 20, 1 << 41);

/// Smallest and largest SSD, in bytes; a worker's part has limits of its own.
const SSD_BYTES: (u64, u64) = (1 << 20, 1 << 50);

/// Longest path of a Unix socket: unix(7), sun_path without its final zero.
const UNIX_PATH_BYTES_MAX: usize = 107;

const MEMORY_WORDS: &[Key] =
    &[("size", Some("SIZE")), ("path", Some("PATH")), ("huge", Some("auto|off")), (FORMAT, None)];

const MEMCACHED_WORDS: &[Key] = &[
    ("addr", Some("unix:PATH|IP:PORT")),
    ("layout", Some("plain|chunked")),
    ("chunk", Some("SIZE")),
    ("timeout", Some("MS")),
];

/// The same for a first tier.
const MEMCACHED_L1_WORDS: &[Key] = &[
    ("addr", Some("unix:PATH|IP:PORT")),
    ("layout", Some("plain|chunked")),
    ("chunk", Some("SIZE")),
    ("timeout", Some("MS")),
    (START, Some("kept|empty")),
];

const SHM_WORDS: &[Key] = &[("name", Some("NAME")), ("timeout", Some("MS"))];

const REND_WORDS: &[Key] = &[("addr", Some("unix:PATH|IP:PORT")), ("timeout", Some("MS"))];

/// What a first tier in a memcached has at the start.
const START: &str = "start";

/// The one word that has no value.
const FORMAT: &str = "format";

const SSD_WORDS: &[Key] = &[
    ("path", Some("PATH")),
    ("size", Some("SIZE")),
    ("object", Some("SIZE")),
    ("admit", Some("all|second-touch")),
    ("flush", Some("MS")),
    ("state", Some("DIR")),
    (FORMAT, None),
];

/// `--l1`.
///
/// # Errors
/// If it names no first tier.
pub fn l1(text: &str) -> Parsed<L1> {
    let (kind, words) = split(text);
    Ok(match kind {
        "memory" => {
            let words = Words::read(kind, words, MEMORY_WORDS)?;
            let bytes = |value: &str| size(value, MEMORY_BYTES.0, MEMORY_BYTES.1);
            let bytes = words.get("size", 64 << 20, bytes)?;
            L1::Memory { bytes, file: memory_file(&words)? }
        }
        "memcached" => L1::Memcached(memcached(&Words::read(kind, words, MEMCACHED_L1_WORDS)?)?),
        "shm" => L1::Shm(link_at("name", daemon, &Words::read(kind, words, SHM_WORDS)?)?),
        "ssd" => L1::Ssd(ssd(&Words::read(kind, words, SSD_WORDS)?)?),
        _ => {
            return Err(ValueError::new(
                kind,
                "memory, memcached,addr=.., shm,name=.. or ssd,path=..",
            ));
        }
    })
}

fn memory_file(words: &Words<'_>) -> Parsed<Option<MemoryFile>> {
    if !words.has("path") {
        let alone = ["huge", FORMAT].into_iter().find(|word| words.has(word));
        return alone.map_or(Ok(None), |word| Err(ValueError::new(word, "path=PATH beside it")));
    }
    let is_huge = |value: &str| one_of(value, &[("auto", true), ("off", false)]);
    Ok(Some(MemoryFile {
        path: words.need("path", memory_path)?,
        is_huge: words.get("huge", true, is_huge)?,
        format: words.has(FORMAT),
    }))
}

/// The path of a first tier in memory that outlives the process.
///
/// # Errors
/// If it is relative, or cannot be shown.
pub(crate) fn memory_path(text: &str) -> Parsed<PathBuf> {
    match text.starts_with('/') {
        true => path(text),
        false => Err(ValueError::new(text, "an absolute path, e.g. /dev/shm/cache")),
    }
}

/// `--l2`.
///
/// # Errors
/// If it names no second tier.
pub fn l2(text: &str) -> Parsed<L2> {
    let (kind, words) = split(text);
    Ok(match kind {
        "none" => Words::read(kind, words, &[]).map(|_| L2::None)?,
        "memcached" => L2::Memcached(memcached(&Words::read(kind, words, MEMCACHED_WORDS)?)?),
        "rend" => L2::Rend(link(&Words::read(kind, words, REND_WORDS)?)?),
        "ssd" => L2::Ssd(ssd(&Words::read(kind, words, SSD_WORDS)?)?),
        _ => {
            let expected = "none, memcached,addr=.., rend,addr=.. or ssd,path=..";
            return Err(ValueError::new(kind, expected));
        }
    })
}

fn link(words: &Words<'_>) -> Parsed<Link> {
    link_at("addr", address, words)
}

fn link_at(
    key: &'static str,
    address: impl Fn(&str) -> Parsed<Address>,
    words: &Words<'_>,
) -> Parsed<Link> {
    let micros = |value: &str| milliseconds(value, LINK_TIMEOUT_MS_MAX).map(|ms| 1_000 * ms);
    Ok(Link {
        address: words.need(key, address)?,
        timeout_us: words.get("timeout", LINK_TIMEOUT_US, micros)?,
    })
}

fn memcached(words: &Words<'_>) -> Parsed<Memcached> {
    let link = link(words)?;
    let is_chunked = |value: &str| one_of(value, &[("plain", false), ("chunked", true)]);
    let is_chunked = words.get("layout", false, is_chunked)?;
    let chunk_bytes = words.get("chunk", CHUNK_BYTES_DEFAULT as u64, |value| match is_chunked {
        true => size(value, CHUNK_BYTES_MIN as u64, CHUNK_BYTES_MAX as u64),
        false => Err(ValueError::new(value, "layout=chunked beside it")),
    })?;
    let chunked = Layout::Chunked { chunk_bytes: chunk_bytes as usize };
    let layout = if is_chunked { chunked } else { Layout::Plain };
    let starts_empty = |value: &str| one_of(value, &[("kept", false), ("empty", true)]);
    let starts_empty = words.get(START, false, starts_empty)?;
    Ok(Memcached { link, layout, starts_empty })
}

fn ssd(words: &Words<'_>) -> Parsed<Ssd> {
    let bytes = |value: &str| size(value, SSD_BYTES.0, SSD_BYTES.1).map(Some);
    let object = |value: &str| size(value, SSD_OBJECT_BYTES_MIN, SSD_OBJECT_BYTES_MAX);
    let admit =
        |value: &str| one_of(value, &[("all", Admit::All), ("second-touch", Admit::SecondTouch)]);
    Ok(Ssd {
        path: words.need("path", path)?,
        size_bytes: words.get("size", None, bytes)?,
        object_bytes: words.get("object", SSD_OBJECT_BYTES, object)?,
        admit: words.get("admit", Admit::All, admit)?,
        flush_ms: words
            .get("flush", SSD_FLUSH_MS, |value| milliseconds(value, SSD_FLUSH_MS_MAX))?,
        format: words.has(FORMAT),
        state: words.get("state", None, |folder| match folder.starts_with('/') {
            true => path(folder).map(Some),
            false => Err(ValueError::new(folder, "an absolute path, e.g. state=/var/lib/sunder")),
        })?,
    })
}

/// A path that can be shown.
fn path(text: &str) -> Parsed<PathBuf> {
    match text.contains(char::is_control) {
        false => Ok(text.into()),
        true => Err(ValueError::new(text, "a path without control characters")),
    }
}

/// Where a server on this host listens: `unix:PATH` or `IP:PORT` of the loopback.
///
/// # Errors
/// If it is neither.
fn address(text: &str) -> Parsed<Address> {
    let expected = "unix:PATH, or an address of this host with its port, e.g. 127.0.0.1:11213";
    let error = || ValueError::new(text, expected);
    if let Some(path) = text.strip_prefix("unix:") {
        return match path.len() {
            0 => Err(error()),
            1..=UNIX_PATH_BYTES_MAX => Ok(Address::Unix(path.into())),
            _ => Err(ValueError::new(text, "unix:PATH of at most 107 bytes, as the system has it")),
        };
    }
    let text = text.replace("localhost:", "127.0.0.1:");
    let address: SocketAddr = text.parse().map_err(|_| error())?;
    let is_local = match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    };
    if is_local && address.port() != 0 { Ok(Address::Tcp(address)) } else { Err(error()) }
}

/// The name of a daemon, as `sunder l1d` has it.
///
/// # Errors
/// If it is none.
pub(crate) fn name(text: &str) -> Parsed<Name> {
    let expected = "1 to 32 letters, digits, '-', '_' or '.', and no '.' first";
    Name::parse(text).ok_or_else(|| ValueError::new(text, expected))
}

fn daemon(text: &str) -> Parsed<Address> {
    name(text).map(Address::Shm)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(path: &str) -> Link {
        Link { address: Address::Unix(path.into()), timeout_us: LINK_TIMEOUT_US }
    }

    #[test]
    fn l1_is_memory_or_a_memcached() {
        assert_eq!(l1("memory"), Ok(L1::Memory { bytes: 64 << 20, file: None }));
        assert_eq!(l1("memory,size=1G"), Ok(L1::Memory { bytes: 1 << 30, file: None }));
        let file = MemoryFile { path: "/dev/shm/c".into(), is_huge: false, format: true };
        let kept = L1::Memory { bytes: 1 << 30, file: Some(file) };
        let text = "memory,size=1G,path=/dev/shm/c,huge=off,format";
        assert_eq!((l1(text), kept.to_string()), (Ok(kept.clone()), text.to_owned()));
        for text in ["memory,huge=off", "memory,format", "memory,path=c", "memory,path="] {
            assert!(l1(text).is_err(), "{text}");
        }
        let plain =
            Memcached { link: unix("/run/m.sock"), layout: Layout::Plain, starts_empty: false };
        assert_eq!(l1("memcached,addr=unix:/run/m.sock"), Ok(L1::Memcached(plain.clone())));
        assert_eq!(l1("memcached,layout=plain,addr=unix:/run/m.sock"), Ok(L1::Memcached(plain)));
        let Ok(L1::Memcached(chunked)) =
            l1("memcached,addr=127.0.0.1:11213,layout=chunked,chunk=16K,timeout=20")
        else {
            panic!("refused");
        };
        assert_eq!(chunked.layout, Layout::Chunked { chunk_bytes: 16 << 10 });
        assert_eq!(chunked.link.address.to_string(), "127.0.0.1:11213");
        assert_eq!(chunked.link.timeout_us, 20_000);
        let shm = l1("shm,name=cache0,timeout=20").expect("a name");
        assert_eq!(shm.to_string(), "shm,name=cache0,timeout=20");
        for wrong in [
            "",
            "disk",
            "memory,size",
            "memory,size=0",
            "memory,colour=red",
            "memcached",
            "memcached,addr=",
            "memcached,addr=unix:",
            "memcached,addr=10.0.0.1:11211",
            "memcached,addr=127.0.0.1",
            "memcached,addr=127.0.0.1:0",
            "memcached,addr=unix:/x,addr=unix:/y",
            "memcached,addr=unix:/x,chunk=16K",
            "memcached,addr=unix:/x,layout=round",
            "memcached,addr=unix:/x,layout=chunked,chunk=1",
            "memcached,addr=unix:/x,timeout=0",
            &format!("memcached,addr=unix:/{}", "x".repeat(107)),
            "none",
            "rend,addr=unix:/x",
            "shm",
            "shm,name=",
            "shm,name=../x",
            "shm,name=a,addr=unix:/x",
            "shm,name=a,timeout=0",
        ] {
            assert!(l1(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn l2_is_none_a_memcached_or_a_rend() {
        assert_eq!(l2("none"), Ok(L2::None));
        assert_eq!(l2("rend,addr=unix:/run/l2.sock"), Ok(L2::Rend(unix("/run/l2.sock"))));
        let memcached = Memcached { link: unix("/x"), layout: Layout::Plain, starts_empty: false };
        assert_eq!(l2("memcached,addr=unix:/x"), Ok(L2::Memcached(memcached)));
        for wrong in ["", "none,addr=unix:/x", "rend", "rend,addr=unix:/x,layout=plain", "memory"] {
            assert!(l2(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn either_tier_is_an_ssd() {
        let plain = Ssd {
            path: "/dev/x".into(),
            size_bytes: None,
            object_bytes: SSD_OBJECT_BYTES,
            admit: Admit::All,
            flush_ms: SSD_FLUSH_MS,
            format: false,
            state: None,
        };
        assert_eq!(l1("ssd,path=/dev/x"), Ok(L1::Ssd(plain.clone())));
        assert_eq!(l2("ssd,path=/dev/x,admit=all"), Ok(L2::Ssd(plain.clone())));
        let all = "ssd,path=/dev/x,size=1G,object=300,admit=second-touch,flush=20,state=/s,format";
        let told = Ssd {
            size_bytes: Some(1 << 30),
            object_bytes: 300,
            admit: Admit::SecondTouch,
            flush_ms: 20,
            format: true,
            state: Some("/s".into()),
            ..plain
        };
        assert_eq!(told.to_string(), all);
        assert_eq!(l2(all), Ok(L2::Ssd(told)));
        for wrong in [
            "ssd",
            "ssd,path=",
            "ssd,size=1G",
            "ssd,path=/x\ny",
            "ssd,path=/x,size=0",
            "ssd,path=/x,object=1",
            "ssd,path=/x,admit=none",
            "ssd,path=/x,flush=0",
            "ssd,path=/x,flush=1s",
            "ssd,path=/x,state=",
            "ssd,path=/x,state=here",
            "ssd,path=/x,format,format",
            "ssd,path=/x,format=yes",
            "ssd,path=/x,addr=unix:/y",
            "memory,format",
        ] {
            assert!(l1(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_tier_says_what_is_expected() {
        let error = l1("memcached,addr=8.8.8.8:11211").expect_err("not this host").to_string();
        assert!(error.contains("addr=8.8.8.8") && error.contains("unix:PATH"), "{error}");
        for (wrong, given, expected) in [
            ("memory,size=1K", "size=1K", "64M"),
            ("memcached,addr=unix:/x,timeout=60ms", "timeout=60ms", "milliseconds"),
            ("memcached,addr=unix:/x,layout=chunked,chunk=2M", "chunk=2M", "512K, e.g. 16K"),
            ("memcached,addr=unix:/x,chunk=16K", "chunk=16K", "layout=chunked"),
            ("memcached,addr=unix:/x,layout=round", "layout=round", "plain or chunked"),
        ] {
            let error = l1(wrong).expect_err(wrong).to_string();
            assert!(error.contains(given) && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_wrong_word_is_named_with_those_that_there_are() {
        let all = "path=PATH, size=SIZE, object=SIZE, admit=all|second-touch, flush=MS, state=DIR \
             or format behind ssd";
        for (wrong, expected) in [
            ("ssd,path=/x,siez=1G", format!("got 'siez=1G', expected {all}")),
            ("ssd,path=/x,", format!("got '', expected {all}")),
            ("ssd,path=/x,size", "got 'size', expected size=SIZE".into()),
            ("ssd,path=/x,format=yes", "got 'format=yes', expected format".into()),
            ("ssd,path=/x,path=/y", "got 'path=/y', expected path only once".into()),
            ("ssd,size=1G", "got 'ssd', expected path=PATH behind it".into()),
            ("ssd,path=", "got 'ssd', expected path=PATH behind it".into()),
            (
                "memory,siez=1G",
                "got 'siez=1G', expected size=SIZE, path=PATH, huge=auto|off or format behind \
                 memory"
                    .into(),
            ),
        ] {
            assert_eq!(l1(wrong).expect_err(wrong).to_string(), expected);
        }
        let error = l1("rend,addr=unix:/x").expect_err("an L2").to_string();
        assert_eq!(
            error,
            "got 'rend', expected memory, memcached,addr=.., shm,name=.. or ssd,path=.."
        );
        let error = l2("none,size=1G").expect_err("there is none").to_string();
        assert_eq!(error, "got 'size=1G', expected nothing behind none");
        let error = l2("rend,layout=plain,addr=unix:/x").expect_err("a rend").to_string();
        assert!(error.starts_with("got 'layout=plain', expected addr=unix:PATH"), "{error}");
    }
}
