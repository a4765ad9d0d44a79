//! What a client may watch, and the lines that it gets: memcached's (logger.c of 1.6.18), and one
//! of our own for slow requests.
//!
//! A line is made of what is known when a request ends. A key is written as a part of a URI, so
//! that no client's bytes can end a line or forge another. Nothing here decides who gets a line.

use std::io::Write;
use std::net::SocketAddr;

use arrayvec::ArrayVec;

use crate::base::clock::Expiry;
use crate::base::latency::{Ending, Level, Verb};
use crate::base::limits::{KEY_BYTES_MAX, WATCH_LINE_BYTES_MAX, WATCH_SLOW_US};
use crate::orchestrator::Action;
use crate::orchestrator::tally::verb_of;
use crate::tier::dump::DumpedItem;
use crate::tier::{Meta, MetaFlags, MetaVerb, Outcome, Store, Value};

/// What can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Items that are looked up.
    Fetchers = 1,
    /// Items that are stored, or not.
    Mutations = 1 << 1,
    /// Items that make room for others.
    Evictions = 1 << 2,
    /// Connections that begin and end.
    ConnEvents = 1 << 3,
    /// Requests that took long.
    Slow = 1 << 4,
}

/// What a client wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    kinds: u8,
    /// A request that took this many microseconds or more is slow.
    pub slow_us: u64,
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted::NOTHING
    }
}

impl Wanted {
    /// Nothing.
    pub const NOTHING: Wanted = Wanted { kinds: 0, slow_us: u64::MAX };

    /// Whether that is wanted.
    #[inline]
    pub fn has(self, kind: Kind) -> bool {
        self.kinds & kind as u8 != 0
    }

    /// Whether it takes a look at every request.
    pub fn is_of_requests(self) -> bool {
        [Kind::Fetchers, Kind::Mutations, Kind::Slow].into_iter().any(|kind| self.has(kind))
    }

    /// What either wants.
    #[must_use]
    pub fn or(self, other: Wanted) -> Wanted {
        let slow_us = self.slow_us.min(other.slow_us);
        Wanted { kinds: self.kinds | other.kinds, slow_us }
    }

    /// The words behind `watch`; None: one of them is unknown. Without any it is what is looked up.
    pub(super) fn parse(words: &[u8]) -> Option<Wanted> {
        let mut wanted = Wanted::NOTHING;
        for word in words.split(|&byte| byte == b' ').filter(|word| !word.is_empty()) {
            let kind = match word {
                b"fetchers" => Kind::Fetchers as u8,
                b"mutations" => Kind::Mutations as u8,
                b"evictions" => Kind::Evictions as u8,
                b"connevents" => Kind::ConnEvents as u8,
                // What they tell of does not exist here.
                b"rawcmds" | b"sysevents" | b"proxyreqs" | b"proxyevents" | b"proxyuser" => 0,
                _ => {
                    wanted.slow_us = wanted.slow_us.min(slow_us(word)?);
                    Kind::Slow as u8
                }
            };
            wanted.kinds |= kind;
        }
        let is_bare = words.is_empty();
        Some(if is_bare { Wanted { kinds: Kind::Fetchers as u8, ..wanted } } else { wanted })
    }
}

/// `slow` or `slow=<microseconds>`.
fn slow_us(word: &[u8]) -> Option<u64> {
    let Some(digits) = word.strip_prefix(b"slow")?.strip_prefix(b"=") else {
        return (word == b"slow").then_some(WATCH_SLOW_US);
    };
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let digits = is_number.then(|| str::from_utf8(digits).ok())??;
    // Longer than any request takes: nothing is slow.
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// Length of a number.
fn digits(number: u64) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// A hit, or an item was there of which nothing was read.
    Found,
    /// There was none.
    NotFound,
    /// The item is stored.
    Stored,
    /// The condition of an add, a replace, an append or a prepend was not met.
    NotStored,
    /// The item has another cas.
    Exists,
    /// It was counted to this.
    Counted {
        /// The number.
        value: u64,
    },
    /// The value is too large.
    TooLarge,
    /// There was no memory for it.
    NoMemory,
    /// A tier failed, or refused.
    Failed,
}

impl Status {
    /// The same for statistics.
    pub fn ending(self) -> Ending {
        match self {
            Status::Found | Status::Stored | Status::Counted { .. } => Ending::Ok,
            Status::NotFound | Status::NotStored | Status::Exists => Ending::Miss,
            Status::TooLarge | Status::NoMemory | Status::Failed => Ending::Error,
        }
    }
}

/// What a watcher is told of a request that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// How.
    pub status: Status,
    /// Length of the value: of the item that was read, or that a meta command left.
    pub bytes: Option<usize>,
    /// Who answered.
    pub level: Level,
}

impl Ended {
    /// What is known from an outcome; `last`: the last tier that is asked if none has the item.
    pub fn of<V: Value>(outcome: &Outcome<V>, last: Level) -> Ended {
        let mut ended = Ended { status: Status::Failed, bytes: None, level: last };
        ended.status = match outcome {
            Outcome::Hit(hit) => {
                ended.bytes = Some(hit.value.len());
                ended.level = hit.value.level();
                Status::Found
            }
            Outcome::Changed(info) => {
                let is_of_number = info.value_bytes == 0;
                ended.bytes = (!is_of_number).then_some(info.value_bytes as usize);
                if info.is_new {
                    ended.bytes = Some(digits(info.number));
                }
                if info.is_new { Status::NotFound } else { Status::Found }
            }
            Outcome::Deleted | Outcome::Touched { .. } | Outcome::NonNumeric => Status::Found,
            Outcome::Miss => Status::NotFound,
            Outcome::Stored { .. } => Status::Stored,
            Outcome::NotStored => Status::NotStored,
            Outcome::Exists => Status::Exists,
            &Outcome::Number { value, .. } => Status::Counted { value },
            Outcome::TooLarge => Status::TooLarge,
            Outcome::OutOfMemory => Status::NoMemory,
            Outcome::Unsupported
            | Outcome::Flushed
            | Outcome::Dumped(_)
            | Outcome::Throttled
            | Outcome::Failed => Status::Failed,
        };
        ended
    }

    /// The same of a get that L1 has answered; `bytes`: the value's length, of a hit.
    pub fn of_get(bytes: Option<usize>) -> Ended {
        let status = if bytes.is_some() { Status::Found } else { Status::NotFound };
        Ended { status, bytes, level: Level::L1 }
    }
}

/// A request on a key.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The key.
    pub key: ArrayVec<u8, KEY_BYTES_MAX>,
    /// What was asked.
    pub action: Action,
    /// Length of the value that came with it.
    pub bytes: usize,
    /// The connection's number.
    pub connection: u64,
}

impl Asked {
    /// The number that a decr or incr stores if there is no item; None: none.
    fn initial(&self) -> Option<u64> {
        match self.action {
            Action::Arithmetic(arithmetic) => arithmetic.initial.map(|(value, _)| value),
            _ => None,
        }
    }

    fn is_store(&self) -> bool {
        match self.action {
            Action::Store(_) | Action::StoreTooLarge | Action::StoreNoRoom => true,
            Action::Meta(meta) => meta.is_store(),
            _ => false,
        }
    }

    /// Whether an incr or decr made the item.
    fn has_made(&self, ended: &Ended) -> bool {
        match (self.action, ended.status) {
            // As statistics count: see `orchestrator::tally`.
            (Action::Arithmetic(_), Status::Counted { value }) => self.initial() == Some(value),
            (Action::Meta(Meta { verb: MetaVerb::Count { .. }, .. }), status) => {
                status == Status::NotFound && ended.bytes.is_some()
            }
            _ => false,
        }
    }

    /// Seconds until the stored item expires; 0: it does not, or has.
    fn ttl_s(&self, unix_s: u64) -> u64 {
        let expiry = match self.action {
            Action::Store(Store { expiry, .. }) => expiry,
            Action::Meta(meta) if meta.is_store() && meta.has(MetaFlags::TOUCH) => meta.expiry,
            Action::Meta(meta) if !meta.is_store() => meta.created_expiry(),
            Action::Arithmetic(arithmetic) => {
                arithmetic.initial.map(|(_, expiry)| expiry).unwrap_or_default()
            }
            _ => return 0,
        };
        u64::from(expiry.unix_s()).saturating_sub(unix_s)
    }
}

/// When a line is written, and its place among all lines.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// Unix time in microseconds.
    pub unix_us: u64,
    /// Counts the lines of all workers.
    pub gid: u64,
}

/// One line, with its end.
pub type Line = ArrayVec<u8, WATCH_LINE_BYTES_MAX>;

/// Appends to a line.
macro_rules! put {
    ($line:expr, $($text:tt)*) => {
        write!($line, $($text)*).expect("a line has room for its longest parts")
    };
}

/// The start of a line. memcached writes the microseconds without leading zeros.
fn begin(stamp: Stamp, kind: &str) -> Line {
    let mut line = Line::new();
    let Stamp { unix_us, gid } = stamp;
    put!(line, "ts={}.{} gid={gid} type={kind}", unix_us / 1_000_000, unix_us % 1_000_000);
    line
}

/// Appends a key; as memcached's uriencode.
fn put_key(line: &mut Line, key: &[u8]) {
    put!(line, " key=");
    for &byte in key {
        match byte {
            b'-' | b'.' | b'_' | b'~' => line.push(byte),
            byte if byte.is_ascii_alphanumeric() => line.push(byte),
            byte => put!(line, "%{byte:02X}"),
        }
    }
}

/// Whether a request has looked an item up. A store does not, in sunder.
pub fn has_fetched(asked: &Asked, ended: &Ended) -> bool {
    let is_debug = matches!(asked.action, Action::Meta(Meta { verb: MetaVerb::Debug, .. }));
    let is_of_item = is_debug || verb_of(asked.action) != Verb::Other;
    is_of_item && !asked.is_store() && ended.status != Status::Failed
}

/// The line of a request that [`has_fetched`].
pub fn fetched(stamp: Stamp, asked: &Asked, ended: &Ended) -> Line {
    let is_found = match ended.status {
        Status::NotFound => false,
        Status::Counted { .. } => !asked.has_made(ended),
        _ => true,
    };
    let mut line = begin(stamp, "item_get");
    put_key(&mut line, &asked.key);
    let bytes = if is_found { ended.bytes.unwrap_or(0) } else { 0 };
    let status = if is_found { "found" } else { "not_found" };
    let (class, connection) = (u8::from(is_found), asked.connection);
    put!(line, " status={status} clsid={class} cfd={connection} size={bytes}\n");
    line
}

/// Whether a request stores an item, or would.
pub fn is_mutation(asked: &Asked, ended: &Ended) -> bool {
    asked.is_store() || asked.has_made(ended)
}

/// The line of a request that [`is_mutation`].
pub fn stored(stamp: Stamp, asked: &Asked, ended: &Ended) -> Line {
    let has_made = asked.has_made(ended);
    let (mut status, mut cmd) = (name(ended.status), verb_of(asked.action).name());
    if has_made {
        (status, cmd) = ("stored", Verb::Add.name());
    } else if ended.status == Status::Found {
        // What a meta command changed.
        status = "stored";
    }
    let made_bytes = match ended.status {
        Status::Counted { value } => Some(digits(value)),
        _ => None,
    };
    let bytes = made_bytes.or(ended.bytes).unwrap_or(asked.bytes);
    let mut line = begin(stamp, "item_store");
    put_key(&mut line, &asked.key);
    let (ttl_s, connection) = (asked.ttl_s(stamp.unix_us / 1_000_000), asked.connection);
    put!(line, " status={status} cmd={cmd} ttl={ttl_s} clsid=1 cfd={connection} size={bytes}\n");
    line
}

/// The line of an item that was evicted.
pub fn evicted(stamp: Stamp, item: &DumpedItem) -> Line {
    let mut line = begin(stamp, "eviction");
    put_key(&mut line, item.key.as_bytes());
    let unix_s = stamp.unix_us / 1_000_000;
    let fetch = if item.is_fetched { "yes" } else { "no" };
    put!(line, " fetch={fetch} ttl=");
    match item.expiry {
        Expiry::NEVER => put!(line, "-1"),
        expiry => put!(line, "{}", u64::from(expiry.unix_s()).saturating_sub(unix_s)),
    }
    let idle_s = unix_s.saturating_sub(u64::from(item.used_s));
    put!(line, " la={idle_s} clsid=1 size={}\n", item.value_bytes);
    line
}

/// Where the time of a request went, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// In sunder, all of it.
    pub us: u64,
    /// It waited for a tier, for another worker, or behind another request for its key.
    pub waited_us: u64,
    /// Of that, until its operation began: for the worker that owns the key, or behind another
    /// request for it.
    pub queue_us: u64,
    /// Of that, for the first tier.
    pub l1_us: u64,
    /// Of that, for the second.
    pub l2_us: u64,
    /// From its end until its reply was handed to the transport.
    pub reply_us: u64,
}

/// The line of a slow request.
pub fn slow(stamp: Stamp, asked: &Asked, ended: &Ended, spent: &Spent) -> Line {
    let mut line = begin(stamp, "slow");
    put!(line, " cmd={}", verb_of(asked.action).name());
    put_key(&mut line, &asked.key);
    let &Spent { us, waited_us, queue_us, l1_us, l2_us, reply_us } = spent;
    let (status, tier) = (name(ended.status), ended.level.name());
    put!(line, " status={status} tier={tier} us={us} waited_us={waited_us}");
    put!(line, " queue_us={queue_us} l1_us={l1_us} l2_us={l2_us} reply_us={reply_us}");
    let bytes = ended.bytes.unwrap_or(asked.bytes);
    put!(line, " cfd={} size={bytes}\n", asked.connection);
    line
}

/// The line of a connection that begins. `end`: its peer's address and port; None: it has none of
/// TCP, and `kind` is what it is instead.
pub fn begun(stamp: Stamp, end: Option<SocketAddr>, kind: &str, connection: u64) -> Line {
    let mut line = begin(stamp, "conn_new");
    put_end(&mut line, end, kind);
    put!(line, " cfd={connection}\n");
    line
}

/// The line of one that has ended, and why.
pub fn over(
    stamp: Stamp,
    end: Option<SocketAddr>,
    kind: &str,
    reason: &str,
    connection: u64,
) -> Line {
    let mut line = begin(stamp, "conn_close");
    put_end(&mut line, end, kind);
    put!(line, " reason={reason} cfd={connection}\n");
    line
}

fn put_end(line: &mut Line, end: Option<SocketAddr>, kind: &str) {
    match end {
        Some(end) => {
            put!(line, " rip={} rport={} transport=tcp", end.ip().to_canonical(), end.port());
        }
        None => {
            let transport = if kind == UNKNOWN_END { "tcp" } else { "local" };
            put!(line, " rip={kind} rport=0 transport={transport}");
        }
    }
}

/// The peer of a connection that began before anybody watched, and is not known any more.
pub const UNKNOWN_END: &str = "?";

fn name(status: Status) -> &'static str {
    match status {
        Status::Found | Status::Counted { .. } => "found",
        Status::NotFound => "not_found",
        Status::Stored => "stored",
        Status::NotStored => "not_stored",
        Status::Exists => "exists",
        Status::TooLarge => "too_large",
        Status::NoMemory => "no_memory",
        Status::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Expiry;
    use crate::tier::StoreMode;

    const STAMP: Stamp = Stamp { unix_us: 1_700_000_000_000_045, gid: 7 };

    fn asked(key: &[u8], action: Action) -> Asked {
        let key = ArrayVec::try_from(key).expect("short");
        Asked { key, action, bytes: 3, connection: 26 }
    }

    fn ended(status: Status, bytes: Option<usize>) -> Ended {
        Ended { status, bytes, level: Level::L2 }
    }

    fn set(mode: StoreMode, ttl_s: u32, cas: u64) -> Action {
        let expiry = match ttl_s {
            0 => Expiry::NEVER,
            ttl_s => Expiry::from_unix_s(1_700_000_000 + ttl_s),
        };
        Action::Store(Store { mode, flags: 0, expiry, cas })
    }

    fn text(line: &Line) -> &str {
        str::from_utf8(line).expect("text")
    }

    #[test]
    fn what_is_wanted_is_said_with_memcacheds_words_and_one_of_our_own() {
        let kinds = |words: &str| {
            Wanted::parse(words.as_bytes()).map(|wanted| (wanted.kinds, wanted.slow_us))
        };
        for (words, expected) in [
            ("", Some((1, u64::MAX))),
            ("fetchers", Some((1, u64::MAX))),
            ("mutations  evictions connevents", Some((14, u64::MAX))),
            ("rawcmds sysevents proxyreqs proxyevents proxyuser", Some((0, u64::MAX))),
            ("slow", Some((16, 1_000))),
            ("slow=0 fetchers", Some((17, 0))),
            ("slow=500 slow", Some((16, 500))),
            ("slow=99999999999999999999999", Some((16, u64::MAX))),
            ("deletions", None),
            ("fetchers noreply", None),
            ("Fetchers", None),
            ("slow=", None),
            ("slow=-1", None),
            ("slow=+1", None),
            ("slow=1ms", None),
            ("slower", None),
            ("fetchers\t", None),
        ] {
            assert_eq!(kinds(words), expected, "{words:?}");
        }
    }

    #[test]
    fn lines_are_memcacheds() {
        let found = ended(Status::Found, Some(3));
        let line = fetched(STAMP, &asked(b"a", Action::Get), &found);
        let head = "ts=1700000000.45 gid=7 type=";
        let expected = "item_get key=a status=found clsid=1 cfd=26 size=3\n";
        assert_eq!(text(&line), [head, expected].concat());
        let missed = ended(Status::NotFound, None);
        let line = fetched(STAMP, &asked(b"a", Action::Get), &missed);
        let expected = "item_get key=a status=not_found clsid=0 cfd=26 size=0\n";
        assert_eq!(text(&line), [head, expected].concat());
        for (action, status, expected) in [
            (set(StoreMode::Set, 100, 0), Status::Stored, "stored cmd=set ttl=100"),
            (set(StoreMode::Add, 0, 0), Status::NotStored, "not_stored cmd=add ttl=0"),
            (set(StoreMode::Set, 0, 9), Status::Exists, "exists cmd=cas ttl=0"),
            (set(StoreMode::Set, 0, 9), Status::NotFound, "not_found cmd=cas ttl=0"),
            (Action::StoreTooLarge, Status::TooLarge, "too_large cmd=set ttl=0"),
            (set(StoreMode::Append, 0, 0), Status::NoMemory, "no_memory cmd=append ttl=0"),
        ] {
            let (asked, ended) = (asked(b"a", action), ended(status, None));
            assert!(is_mutation(&asked, &ended) && !has_fetched(&asked, &ended));
            let line = stored(STAMP, &asked, &ended);
            let tail = format!("item_store key=a status={expected} clsid=1 cfd=26 size=3\n");
            assert_eq!(text(&line), [head, &tail].concat());
        }
        let (us, waited_us, queue_us, l1_us, l2_us, reply_us) = (1_500, 1_400, 50, 300, 1_000, 100);
        let spent = Spent { us, waited_us, queue_us, l1_us, l2_us, reply_us };
        let line = slow(STAMP, &asked(b"a", Action::Get), &found, &spent);
        let expected = "slow cmd=get key=a status=found tier=l2 us=1500 waited_us=1400 \
                        queue_us=50 l1_us=300 l2_us=1000 reply_us=100 cfd=26 size=3\n";
        assert_eq!(text(&line), [head, expected].concat());
    }

    #[test]
    fn no_key_ends_a_line_and_the_longest_fits() {
        let mut every = [0; 250];
        every.iter_mut().enumerate().for_each(|(n, byte)| *byte = n as u8 + 6);
        for key in [&every[..], &[0xff; 250], b" \r\n\0%"] {
            let mut asked = asked(key, set(StoreMode::Replace, 1_000_000, 1));
            (asked.connection, asked.bytes) = (u64::MAX, usize::MAX);
            let stamp = Stamp { unix_us: u64::MAX, gid: u64::MAX };
            let ended = ended(Status::NotStored, Some(usize::MAX));
            let longest = u64::MAX;
            let spent = Spent {
                us: longest,
                waited_us: longest,
                queue_us: longest,
                l1_us: longest,
                l2_us: longest,
                reply_us: longest,
            };
            for line in [
                fetched(stamp, &asked, &ended),
                stored(stamp, &asked, &ended),
                slow(stamp, &asked, &ended, &spent),
            ] {
                let (end, rest) = line.split_last().expect("it is not empty");
                assert_eq!(*end, b'\n');
                assert!(rest.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' '));
            }
        }
        let end = Some("[2001:db8::1]:65535".parse().expect("an address"));
        let line = over(STAMP, end, "", "idle_timeout", 26);
        let expected = "ts=1700000000.45 gid=7 type=conn_close rip=2001:db8::1 rport=65535 \
                        transport=tcp reason=idle_timeout cfd=26\n";
        assert_eq!(text(&line), expected);
        let line = begun(STAMP, None, "unix", 26);
        let expected = "conn_new rip=unix rport=0 transport=local cfd=26\n";
        assert_eq!(text(&line), ["ts=1700000000.45 gid=7 type=", expected].concat());
        let mut line = Line::new();
        put_key(&mut line, b"k%20y\x01\x7f\xff~-_.!*'();");
        assert_eq!(text(&line), " key=k%2520y%01%7F%FF~-_.%21%2A%27%28%29%3B");
    }
}
