//! Answers commands about the server itself. Off the hot path: it may allocate.

use std::sync::atomic::Ordering;

use super::Shared;
use super::shared::Cause;
use crate::base::buffer::Gather;
use crate::base::clock::Now;
use crate::base::stats::Counter;
use crate::base::usage::cpu_us;
use crate::protocol::stats::{self, Answer, Connection, Snapshot, Totals};
use crate::protocol::{Control, Form, Head, binary, text};
use crate::report::{self, Event};
use crate::tier::memory;

/// Writes the reply to `control` to `reply`.
pub fn answer(shared: &Shared, control: Control<'_>, form: Form, now: Now, reply: &mut Gather) {
    match control {
        Control::Shutdown { .. } => shared.stop_for(Cause::Shutdown),
        Control::Stats(words) => return answer_stats(shared, words, form, now, reply),
        Control::Verbosity(level) => set_verbosity(level, now),
        Control::Noop | Control::Version => {}
    }
    let mut head = Head::new();
    match form {
        Form::Text(form) => text::encode_control(control, form, &mut head),
        Form::Binary(form) => binary::encode_control(control, form, &mut head),
    }
    reply.extend(&head);
}

/// Changes how much is told.
fn set_verbosity(verbosity: u32, now: Now) {
    let old = report::set_verbosity(verbosity);
    report::tell_verbosity(old, report::verbosity(), now);
}

fn answer_stats(shared: &Shared, words: &[u8], form: Form, now: Now, reply: &mut Gather) {
    let totals = totals(shared);
    let snapshot = snapshot(shared, &totals, words, form, now);
    if stats::write(words, form, &snapshot, reply) == Answer::Reset {
        *shared.baseline.lock().expect("no thread panics holding it") = totals;
        report::tell_at(report::COMMANDS, || {
            Event::Command.line("a client has reset the statistics")
        });
    }
}

fn totals(shared: &Shared) -> Totals {
    let mut totals = Totals::default();
    for worker in &shared.stats {
        totals.add(worker);
    }
    totals
}

fn snapshot(shared: &Shared, totals: &Totals, words: &[u8], form: Form, now: Now) -> Snapshot {
    let (rusage_user_us, rusage_system_us) = cpu_us();
    let settings = &shared.settings;
    let baseline = shared.baseline.lock().expect("no thread panics holding it");
    Snapshot {
        now,
        uptime_s: shared.clock.seconds_up(now),
        totals: totals.since(&baseline),
        pid: std::process::id(),
        rusage_user_us,
        rusage_system_us,
        workers: shared.stats.len(),
        connections_max: shared.admission.max() as u64,
        accepting: true,
        tcp_port: if settings.socket_path.is_empty() { settings.port } else { 0 },
        bind_address: settings.bind.clone(),
        socket_path: settings.socket_path.clone(),
        idle_timeout_s: shared.idle_timeout_s.load(Ordering::Relaxed),
        item_bytes_max: shared.limits.item_bytes_max,
        verbosity: report::verbosity(),
        shutdown: shared.limits.shutdown,
        needs_login: shared.logins.is_some(),
        binding: shared.bindings[0],
        flush: shared.limits.flush,
        dump: shared.limits.dump,
        memory: memory(shared, totals),
        top_keys: if stats::lists_keys(words) { shared.top_keys() } else { Vec::new() },
        listeners: if stats::lists_connections(words, form) {
            listeners(shared)
        } else {
            Vec::new()
        },
    }
}

fn memory(shared: &Shared, totals: &Totals) -> stats::Memory {
    let unit_bytes = memory::UNIT_BYTES as u64;
    let bytes_max = shared.memory_bytes.load(Ordering::Relaxed);
    let index_bytes = totals.get(Counter::IndexBytes);
    let oldest = shared.stats.iter().map(|worker| worker.get(Counter::OldestItemAge)).max();
    stats::Memory {
        bytes_max,
        unit_bytes,
        units: bytes_max.saturating_sub(index_bytes) / unit_bytes,
        units_used: totals.get(Counter::Bytes) / unit_bytes,
        index_power: (index_bytes / size_of::<u64>() as u64).max(1).ilog2(),
        oldest_s: oldest.unwrap_or(0),
    }
}

/// The listeners.
fn listeners(shared: &Shared) -> Vec<Connection> {
    let settings = &shared.settings;
    let listening = |(id, address): (usize, &String)| Connection {
        id: id as u64,
        address: address.clone(),
        state: "conn_listening",
        ..Connection::default()
    };
    settings.listeners.iter().enumerate().map(listening).collect()
}
