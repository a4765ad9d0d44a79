//! The replies to `stats`, in either protocol, with memcached's names (protocol.txt, "Statistics").
//!
//! A worker fills a [`Snapshot`]; this file only prints it. memcached's numbers about features that
//! do not exist here (slab page movers, LRU segments, its log) are left out rather than invented;
//! the memory tier is shown as slab class 1. Nothing here is on the hot path, and nothing here
//! counts.

use super::Binding;
use super::{Fixed, Form, binary, text};
use crate::base::buffer::Gather;
use crate::base::clock::Now;
use crate::base::console::BUILD;
use crate::base::stats::{Counter, WorkerStats};

/// The counters of all workers, summed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    values: [u64; Counter::ALL.len()],
}

impl Default for Totals {
    fn default() -> Totals {
        Totals { values: [0; Counter::ALL.len()] }
    }
}

impl Totals {
    /// Adds one worker's counters.
    pub fn add(&mut self, worker: &WorkerStats) {
        for &counter in Counter::ALL {
            let value = &mut self.values[counter as usize];
            *value = value.wrapping_add(worker.get(counter));
        }
    }

    /// One counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.values[counter as usize]
    }

    /// The counts since `baseline`, the totals at the last `stats reset`. Gauges are not changed.
    pub fn since(&self, baseline: &Totals) -> Totals {
        let mut since = self.clone();
        for &counter in Counter::ALL {
            if !counter.is_gauge() {
                let value = &mut since.values[counter as usize];
                *value = value.saturating_sub(baseline.get(counter));
            }
        }
        since
    }
}

/// One connection, for `stats conns`.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// Unique among open connections.
    pub id: u64,
    /// The peer, e.g. `tcp:192.0.2.1:40000` or `unix:/run/sunder.sock`.
    pub address: String,
    /// The address it connected to; empty for a listener.
    pub listen_address: String,
    /// memcached's name, e.g. `conn_read` or `conn_listening`.
    pub state: &'static str,
    /// Seconds since its last request.
    pub idle_s: u64,
}

impl Connection {
    /// Writes its lines for a text client.
    pub fn write(&self, out: &mut Gather) {
        self.lines(&mut |name, value| text::write_stat(name, value, out));
    }

    fn lines(&self, emit: &mut dyn FnMut(&str, &str)) {
        let Connection { id, address, listen_address, state, idle_s } = self;
        emit(&format!("{id}:addr"), address);
        if !listen_address.is_empty() {
            emit(&format!("{id}:listen_addr"), listen_address);
        }
        emit(&format!("{id}:state"), state);
        emit(&format!("{id}:secs_since_last_cmd"), itoa::Buffer::new().format(*idle_s));
    }
}

/// A key that is requested often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopKey {
    /// The key.
    pub key: Vec<u8>,
    /// About how many requests there are for it a second.
    pub rate: u64,
}

/// The memory tier, which stores items in units of one size.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Maximum size, in bytes.
    pub bytes_max: u64,
    /// One unit, in bytes.
    pub unit_bytes: u64,
    /// Number of units.
    pub units: u64,
    /// Units that hold items.
    pub units_used: u64,
    /// The index has 2 to this power buckets.
    pub index_power: u32,
    /// Age of the least recently used item, in seconds.
    pub oldest_s: u64,
}

/// The data for all kinds of `stats`.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The time of the worker that answers.
    pub now: Now,
    /// Whole seconds since the process started.
    pub uptime_s: u64,
    /// Counters since the start or the last reset: see [`Totals::since`].
    pub totals: Totals,
    /// The process.
    pub pid: u32,
    /// User time of the process, in microseconds.
    pub rusage_user_us: u64,
    /// System time of the process, in microseconds.
    pub rusage_system_us: u64,
    /// Number of workers.
    pub workers: usize,
    /// Maximum number of connections.
    pub connections_max: u64,
    /// Whether connections are being accepted.
    pub accepting: bool,
    /// Port of the first TCP listener; 0 if there is none.
    pub tcp_port: u16,
    /// The first TCP listener's address; empty if it is any.
    pub bind_address: String,
    /// Path of the Unix socket; empty if there is none.
    pub socket_path: String,
    /// `--idle-timeout`, in seconds; 0 if there is none.
    pub idle_timeout_s: u64,
    /// `--max-item-size`, in bytes.
    pub item_bytes_max: usize,
    /// The level of the log.
    pub verbosity: u8,
    /// Whether `shutdown` is allowed.
    pub shutdown: bool,
    /// Whether clients have to log in.
    pub needs_login: bool,
    /// The protocol of the main port.
    pub binding: Binding,
    /// Whether `flush_all` is allowed.
    pub flush: bool,
    /// Whether keys may be listed.
    pub dump: bool,
    /// The memory tiers of all workers, summed.
    pub memory: Memory,
    /// Needed only by [`lists_connections`].
    pub listeners: Vec<Connection>,
    /// Needed only if [`lists_keys`].
    pub top_keys: Vec<TopKey>,
}

/// The end of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// After the statistics, if any.
    End,
    /// After the statistics, without an end (memcached omits it there).
    Bare,
    /// The counters must be reset.
    Reset,
    /// Done; no statistics.
    Ok,
    /// There are no such statistics.
    Unknown,
    /// Wrong arguments; the line describes the usage.
    Usage(&'static str),
}

/// The end of a report to a text client.
pub const END: Fixed = Fixed::new(b"END\r\n");

/// Whether a report on `words` lists connections: [`report`] then writes the listeners only, and
/// the caller the connections of each worker ([`Connection::write`]) and [`END`]. Binary clients
/// cannot ask for it.
pub fn lists_connections(words: &[u8], form: Form) -> bool {
    matches!(form, Form::Text(_)) && split(words).next() == Some(b"conns")
}

/// Whether a report on `words` needs [`Snapshot::top_keys`].
pub fn lists_keys(words: &[u8]) -> bool {
    split(words).next() == Some(b"topkeys")
}

fn split(words: &[u8]) -> impl Iterator<Item = &[u8]> {
    words.split(|&byte| byte == b' ').filter(|word| !word.is_empty())
}

/// Calls `emit` with the name and value of each statistic that is requested by `words`, the words
/// after `stats`.
pub fn report(words: &[u8], snapshot: &Snapshot, emit: &mut dyn FnMut(&str, &str)) -> Answer {
    let mut words = split(words);
    let mut lines = Lines { snapshot, emit };
    match words.next().unwrap_or(b"") {
        b"" => lines.general(),
        b"settings" => lines.settings(),
        b"items" => lines.items(),
        b"slabs" => lines.slabs(),
        b"conns" => {
            let Lines { snapshot, emit } = &mut lines;
            snapshot.listeners.iter().for_each(|listener| listener.lines(emit));
            return Answer::Bare;
        }
        b"sizes" => lines.text("sizes_status", "disabled"),
        b"sizes_enable" | b"sizes_disable" => {
            lines.text("sizes_status", "disabled");
            return Answer::Bare;
        }
        b"topkeys" => {
            for TopKey { key, rate } in &snapshot.top_keys {
                // A space would end the key.
                let key = key.escape_ascii().to_string().replace(' ', r"\x20");
                lines.number(&key, *rate);
            }
        }
        b"extstore" => {}
        b"reset" => return Answer::Reset,
        b"detail" => {
            return match words.next() {
                Some(b"on" | b"off") => Answer::Ok,
                Some(b"dump") => Answer::End,
                _ => Answer::Usage("CLIENT_ERROR usage: stats detail on|off|dump\r\n"),
            };
        }
        b"cachedump" => return Answer::Usage("CLIENT_ERROR stats cachedump not allowed\r\n"),
        _ => return Answer::Unknown,
    }
    Answer::End
}

/// Writes the whole reply to a stats request to `out`. [`Answer::Reset`] must be executed by the
/// caller.
pub fn write(words: &[u8], form: Form, snapshot: &Snapshot, out: &mut Gather) -> Answer {
    match form {
        Form::Text(_) => write_text(words, snapshot, out),
        Form::Binary(form) => write_binary(words, form, snapshot, out),
    }
}

fn write_text(words: &[u8], snapshot: &Snapshot, out: &mut Gather) -> Answer {
    let answer = report(words, snapshot, &mut |name, value| text::write_stat(name, value, out));
    out.extend(match answer {
        Answer::End => b"END\r\n",
        Answer::Bare => b"",
        Answer::Reset => b"RESET\r\n",
        Answer::Ok => b"OK\r\n",
        Answer::Unknown => b"ERROR\r\n",
        Answer::Usage(line) => line.as_bytes(),
    });
    answer
}

/// memcached reads the key of a binary Stat differently from the words of a text one: it compares
/// only the start of `reset`, `settings` and `detail`, and the whole of all others.
fn write_binary(key: &[u8], form: binary::Form, snapshot: &Snapshot, out: &mut Gather) -> Answer {
    let words: &[u8] = match key {
        _ if key.starts_with(b"reset") => b"reset",
        _ if key.starts_with(b"settings") => b"settings",
        _ if key.starts_with(b"detail dump") => b"detail dump",
        _ if key.starts_with(b"detail on") || key.starts_with(b"detail off") => b"detail on",
        b"" | b"items" | b"slabs" | b"sizes" | b"sizes_enable" | b"sizes_disable" | b"topkeys" => {
            key
        }
        _ => {
            binary::write_stat_unknown(form, out);
            return Answer::Unknown;
        }
    };
    if words == b"detail dump" {
        binary::write_stat(form, "detailed", "END\r\n", out);
    }
    let answer =
        report(words, snapshot, &mut |name, value| binary::write_stat(form, name, value, out));
    if answer != Answer::Bare {
        binary::write_stat(form, "", "", out);
    }
    answer
}

/// Counters in memcached's order, up to those about the process.
const COMMANDS: &[Counter] = &[
    Counter::CmdGet,
    Counter::CmdSet,
    Counter::CmdFlush,
    Counter::CmdTouch,
    Counter::CmdMeta,
    Counter::GetHits,
    Counter::GetMisses,
    Counter::GetExpired,
    Counter::GetFlushed,
    Counter::DeleteMisses,
    Counter::DeleteHits,
    Counter::IncrMisses,
    Counter::IncrHits,
    Counter::DecrMisses,
    Counter::DecrHits,
    Counter::CasMisses,
    Counter::CasHits,
    Counter::CasBadval,
    Counter::TouchHits,
    Counter::TouchMisses,
    Counter::StoreTooLarge,
    Counter::StoreNoMemory,
    Counter::AuthCmds,
    Counter::AuthErrors,
    Counter::BytesRead,
    Counter::BytesWritten,
];

/// Printed among memcached's own lines, each in its place.
const SINGLES: &[Counter] = &[Counter::ConnYields, Counter::ListenDisabled, Counter::IndexBytes];

const ITEMS: &[Counter] = &[
    Counter::LogWorkerDropped,
    Counter::LogWorkerWritten,
    Counter::LogWatcherSkipped,
    Counter::LogWatcherSent,
    Counter::LogWatchers,
    Counter::Bytes,
    Counter::CurrItems,
    Counter::TotalItems,
    Counter::ExpiredUnfetched,
    Counter::EvictedUnfetched,
    Counter::Evictions,
    Counter::Reclaimed,
];

/// Printed among the connection statistics.
const CONNECTIONS: &[Counter] =
    &[Counter::CurrConnections, Counter::TotalConnections, Counter::RejectedConnections];

fn or_null(text: &str) -> &str {
    if text.is_empty() { "NULL" } else { text }
}

struct Lines<'a> {
    snapshot: &'a Snapshot,
    emit: &'a mut dyn FnMut(&str, &str),
}

impl Lines<'_> {
    fn text(&mut self, name: &str, value: &str) {
        (self.emit)(name, value);
    }

    fn number(&mut self, name: &str, value: u64) {
        (self.emit)(name, itoa::Buffer::new().format(value));
    }

    fn counter(&mut self, counter: Counter) {
        self.number(counter.name(), self.snapshot.totals.get(counter));
    }

    fn yes_or_no(&mut self, name: &str, value: bool) {
        self.text(name, if value { "yes" } else { "no" });
    }

    /// Microseconds as seconds with six places.
    fn seconds(&mut self, name: &str, us: u64) {
        self.text(name, &format!("{}.{:06}", us / 1_000_000, us % 1_000_000));
    }

    fn general(&mut self) {
        let snapshot = self.snapshot;
        self.number("pid", snapshot.pid.into());
        self.number("uptime", snapshot.uptime_s);
        self.number("time", snapshot.now.unix_s.into());
        self.text("version", super::VERSION);
        self.number("pointer_size", usize::BITS.into());
        self.seconds("rusage_user", snapshot.rusage_user_us);
        self.seconds("rusage_system", snapshot.rusage_system_us);
        self.number("max_connections", snapshot.connections_max);
        CONNECTIONS.iter().for_each(|&counter| self.counter(counter));
        self.number("connection_structures", snapshot.totals.get(Counter::CurrConnections));
        COMMANDS.iter().for_each(|&counter| self.counter(counter));
        self.number("limit_maxbytes", snapshot.memory.bytes_max);
        self.number("accepting_conns", snapshot.accepting.into());
        self.counter(Counter::ListenDisabled);
        self.number("threads", snapshot.workers as u64);
        self.counter(Counter::ConnYields);
        self.number("hash_power_level", snapshot.memory.index_power.into());
        self.counter(Counter::IndexBytes);
        self.number("hash_is_expanding", 0);
        ITEMS.iter().for_each(|&counter| self.counter(counter));
        let is_printed = |counter: &Counter| {
            [COMMANDS, ITEMS, CONNECTIONS, SINGLES].iter().any(|printed| printed.contains(counter))
        };
        // Our own statistics come last, for readers that stop at the ones they know.
        self.text("sunder_version", env!("CARGO_PKG_VERSION"));
        BUILD.iter().for_each(|(name, value)| self.text(name, value));
        for &counter in Counter::ALL.iter().filter(|counter| !is_printed(counter)) {
            self.counter(counter);
        }
    }

    fn settings(&mut self) {
        let snapshot = self.snapshot;
        self.number("maxbytes", snapshot.memory.bytes_max);
        self.number("maxconns", snapshot.connections_max);
        self.number("tcpport", snapshot.tcp_port.into());
        self.number("udpport", 0);
        self.text("inter", or_null(&snapshot.bind_address));
        self.number("verbosity", snapshot.verbosity.into());
        self.number("oldest", snapshot.memory.oldest_s);
        self.text("evictions", "on");
        self.text("domain_socket", or_null(&snapshot.socket_path));
        self.yes_or_no("shutdown_command", snapshot.shutdown);
        self.number("chunk_size", snapshot.memory.unit_bytes);
        self.number("num_threads", snapshot.workers as u64);
        self.text("stat_key_prefix", ":");
        self.yes_or_no("detail_enabled", false);
        self.number("reqs_per_event", crate::base::limits::REQUESTS_PER_VISIT as u64);
        self.yes_or_no("cas_enabled", true);
        let binding = snapshot.binding;
        self.text("binding_protocol", binding.name());
        let needs_login_unless = |other| snapshot.needs_login && binding != other;
        self.yes_or_no("auth_enabled_sasl", needs_login_unless(Binding::Ascii));
        self.yes_or_no("auth_enabled_ascii", needs_login_unless(Binding::Binary));
        self.number("item_size_max", snapshot.item_bytes_max as u64);
        self.yes_or_no("maxconns_fast", true);
        self.yes_or_no("slab_reassign", false);
        self.number("slab_automove", 0);
        self.yes_or_no("lru_crawler", false);
        self.yes_or_no("flush_enabled", snapshot.flush);
        self.yes_or_no("dump_enabled", snapshot.dump);
        self.text("hash_algorithm", "rapidhash");
        self.yes_or_no("lru_maintainer_thread", false);
        self.yes_or_no("lru_segmented", false);
        self.number("idle_timeout", snapshot.idle_timeout_s);
        self.yes_or_no("track_sizes", false);
        self.yes_or_no("ssl_enabled", false);
    }

    fn items(&mut self) {
        let totals = &self.snapshot.totals;
        let items = totals.get(Counter::CurrItems);
        // memcached shows no class without items.
        if items == 0 {
            return;
        }
        let of = |counter| totals.get(counter);
        let age_s = self.snapshot.memory.oldest_s;
        // In memcached's terms all items of a single list are cold: the item at its end is evicted.
        for (name, value) in [
            ("number", items),
            ("number_hot", 0),
            ("number_warm", 0),
            ("number_cold", items),
            ("age_hot", 0),
            ("age_warm", 0),
            ("age", age_s),
            ("mem_requested", of(Counter::Bytes)),
            ("evicted", of(Counter::Evictions)),
            ("outofmemory", of(Counter::StoreNoMemory)),
            ("tailrepairs", 0),
            ("reclaimed", of(Counter::Reclaimed)),
            ("expired_unfetched", of(Counter::ExpiredUnfetched)),
            ("evicted_unfetched", of(Counter::EvictedUnfetched)),
            ("crawler_reclaimed", 0),
            ("crawler_items_checked", 0),
            ("lrutail_reflocked", 0),
            ("moves_to_cold", 0),
            ("moves_to_warm", 0),
            ("moves_within_lru", 0),
            ("direct_reclaims", 0),
            ("hits_to_hot", 0),
            ("hits_to_warm", 0),
            ("hits_to_cold", of(Counter::GetHits)),
            ("hits_to_temp", 0),
        ] {
            self.number(&format!("items:1:{name}"), value);
        }
    }

    fn slabs(&mut self) {
        let Snapshot { memory, totals, .. } = self.snapshot;
        // An item is one chunk, however long: readers of this count expect that. Free memory is
        // counted in the smallest possible chunks.
        let used = totals.get(Counter::CurrItems);
        let free = memory.units.saturating_sub(memory.units_used);
        self.number("1:chunk_size", memory.unit_bytes);
        self.number("1:chunks_per_page", used + free);
        self.number("1:total_pages", 1);
        self.number("1:total_chunks", used + free);
        self.number("1:used_chunks", used);
        self.number("1:free_chunks", free);
        self.number("1:free_chunks_end", 0);
        self.number("1:get_hits", totals.get(Counter::GetHits));
        self.number("1:cmd_set", totals.get(Counter::CmdSet));
        self.number("1:delete_hits", totals.get(Counter::DeleteHits));
        self.number("1:incr_hits", totals.get(Counter::IncrHits));
        self.number("1:decr_hits", totals.get(Counter::DecrHits));
        self.number("1:cas_hits", totals.get(Counter::CasHits));
        self.number("1:cas_badval", totals.get(Counter::CasBadval));
        self.number("1:touch_hits", totals.get(Counter::TouchHits));
        self.number("active_slabs", 1);
        self.number("total_malloced", memory.bytes_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: Form = Form::Text(text::Form::Line);
    const BINARY: Form = Form::Binary(binary::Form { opcode: 0x10, opaque: 7 });

    fn snapshot() -> Snapshot {
        let worker = WorkerStats::default();
        worker.add(Counter::CmdGet, 5);
        worker.add(Counter::CurrItems, 2);
        worker.add(Counter::Bytes, 126);
        let mut totals = Totals::default();
        totals.add(&worker);
        totals.add(&worker);
        let connection = Connection {
            id: 3,
            address: "tcp:192.0.2.1:40000".into(),
            listen_address: "tcp:192.0.2.2:11211".into(),
            state: "conn_read",
            idle_s: 9,
        };
        let listeners = vec![connection];
        Snapshot { pid: 42, totals, rusage_user_us: 1_000_002, listeners, ..Default::default() }
    }

    fn reply(words: &str, form: Form) -> (Answer, String) {
        let mut out = Gather::new();
        let answer = write(words.as_bytes(), form, &snapshot(), &mut out);
        (answer, String::from_utf8_lossy(&out.finish().to_vec()).into_owned())
    }

    #[test]
    fn general_statistics_have_memcacheds_names() {
        let (answer, text) = reply("", TEXT);
        assert_eq!(answer, Answer::End);
        assert!(text.starts_with("STAT pid 42\r\nSTAT uptime 0\r\n"), "{text}");
        assert!(text.contains("\r\nSTAT rusage_user 1.000002\r\n"), "{text}");
        assert!(text.contains("\r\nSTAT cmd_get 10\r\n"), "{text}");
        assert!(text.contains("\r\nSTAT curr_items 4\r\n"), "{text}");
        assert!(text.ends_with("\r\nEND\r\n"), "{text}");
    }

    #[test]
    fn every_counter_is_shown_once() {
        let (_, text) = reply("", TEXT);
        for counter in Counter::ALL {
            let line = format!("STAT {} ", counter.name());
            assert_eq!(text.matches(&line).count(), 1, "{line}");
        }
    }

    #[test]
    fn a_reset_does_not_change_gauges() {
        let before = snapshot().totals;
        let mut after = before.clone();
        let worker = WorkerStats::default();
        worker.add(Counter::CmdGet, 1);
        worker.add(Counter::CurrItems, 1);
        after.add(&worker);
        let since = after.since(&before);
        assert_eq!(since.get(Counter::CmdGet), 1);
        assert_eq!(since.get(Counter::CurrItems), 5);
    }

    #[test]
    fn a_reset_does_not_change_the_gauges_of_an_ssd() {
        let worker = WorkerStats::default();
        for counter in [
            Counter::SsdItems,
            Counter::SsdSizeBytes,
            Counter::SsdUsedBytes,
            Counter::SsdSegments,
            Counter::SsdSegmentsFree,
            Counter::SsdFillsLeft,
        ] {
            worker.set(counter, 3);
            let mut totals = Totals::default();
            totals.add(&worker);
            assert_eq!(totals.since(&totals).get(counter), 3, "{}", counter.name());
        }
    }

    #[test]
    fn unusual_words_get_memcacheds_answers() {
        for (words, expected) in [
            ("reset", "RESET\r\n"),
            ("reset x", "RESET\r\n"),
            ("detail on", "OK\r\n"),
            ("detail off", "OK\r\n"),
            ("detail dump", "END\r\n"),
            ("detail", "CLIENT_ERROR usage: stats detail on|off|dump\r\n"),
            ("detail x", "CLIENT_ERROR usage: stats detail on|off|dump\r\n"),
            ("sizes", "STAT sizes_status disabled\r\nEND\r\n"),
            ("sizes_enable", "STAT sizes_status disabled\r\n"),
            ("extstore", "END\r\n"),
            ("proxy", "ERROR\r\n"),
            ("foo", "ERROR\r\n"),
            ("noreply", "ERROR\r\n"),
        ] {
            assert_eq!(reply(words, TEXT).1, expected, "stats {words}");
        }
        assert_eq!(reply("reset", TEXT).0, Answer::Reset);
    }

    #[test]
    fn connections_are_listed_as_memcached_lists_them() {
        assert!(lists_connections(b"conns x", TEXT) && !lists_connections(b"items", TEXT));
        assert!(!lists_connections(b"conns", BINARY));
        let expected = "STAT 3:addr tcp:192.0.2.1:40000\r\n\
                        STAT 3:listen_addr tcp:192.0.2.2:11211\r\n\
                        STAT 3:state conn_read\r\n\
                        STAT 3:secs_since_last_cmd 9\r\n";
        assert_eq!(reply("conns", TEXT).1, expected);
        let mut out = Gather::new();
        snapshot().listeners[0].write(&mut out);
        assert_eq!(out.finish().to_vec(), expected.as_bytes());
    }

    #[test]
    fn class_1_is_the_memory_tier() {
        assert!(reply("items", TEXT).1.contains("STAT items:1:mem_requested 252\r\n"));
        assert!(reply("slabs", TEXT).1.contains("STAT active_slabs 1\r\n"));
        assert!(reply("settings x", TEXT).1.contains("STAT inter NULL\r\n"));
        let mut out = Gather::new();
        write(b"items", TEXT, &Snapshot::default(), &mut out);
        assert_eq!(out.finish().to_vec(), b"END\r\n");
    }

    #[test]
    fn an_item_is_one_chunk_and_all_chunks_are_used_or_free() {
        let memory = Memory { unit_bytes: 32, units: 1000, units_used: 900, ..Memory::default() };
        let snapshot = Snapshot { memory, idle_timeout_s: 17, ..snapshot() };
        let shown = |words: &str| {
            let mut out = Gather::new();
            write(words.as_bytes(), TEXT, &snapshot, &mut out);
            String::from_utf8_lossy(&out.finish().to_vec()).into_owned()
        };
        let slabs = shown("slabs");
        for line in ["used_chunks 4", "free_chunks 100", "total_chunks 104", "free_chunks_end 0"] {
            assert!(slabs.contains(&format!("STAT 1:{line}\r\n")), "{line} in {slabs}");
        }
        let items = shown("items");
        for line in ["number 4", "number_cold 4", "tailrepairs 0", "crawler_items_checked 0"] {
            assert!(items.contains(&format!("STAT items:1:{line}\r\n")), "{line} in {items}");
        }
        assert!(shown("settings").contains("STAT idle_timeout 17\r\n"));
    }

    #[test]
    fn binary_statistics_end_with_an_empty_packet() {
        let mut out = Gather::new();
        let answer = write(b"sizes", BINARY, &snapshot(), &mut out);
        assert_eq!(answer, Answer::End);
        let mut expected: Vec<u8> = Vec::new();
        expected.extend(b"\x81\x10\0\x0c\0\0\0\0\0\0\0\x14\0\0\0\x07\0\0\0\0\0\0\0\0");
        expected.extend(b"sizes_statusdisabled");
        expected.extend(b"\x81\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\0");
        assert_eq!(out.finish().to_vec(), expected);
    }

    #[test]
    fn binary_keys_are_read_as_memcached_reads_them() {
        for (key, expected) in [
            ("resetx", Answer::Reset),
            ("detail on", Answer::Ok),
            ("detail dump", Answer::End),
            ("detail", Answer::Unknown),
            ("conns", Answer::Unknown),
            ("cachedump", Answer::Unknown),
            ("foo", Answer::Unknown),
            ("items ", Answer::Unknown),
        ] {
            let (answer, text) = reply(key, BINARY);
            assert_eq!(answer, expected, "{key}");
            assert_eq!(text.ends_with("Not found"), expected == Answer::Unknown, "{key}");
        }
    }
}
