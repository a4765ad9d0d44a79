//! The result of a run. Nothing here prints or writes it.

use std::fs;

use super::crew::Seen;
use super::notes::Notes;
use super::plan::{Load, Plan};
use super::record::{Record, histogram};
use super::schedule::SECOND_NS;
use super::sweep::{self, Observed};
use crate::base::clock::{Now, utc};
use crate::load::result::{
    FORMAT, Interval, Latency, Loop, Machine, Outages, RunResult, Setup, Spectrum, Step,
};
use crate::load::stream::Target;
use crate::load::wire::Dialect;

/// What has been measured so far.
pub struct Outcome {
    started: Now,
    steps: Vec<Step>,
    p99s: Vec<Observed>,
    knee: Option<usize>,
    notes: Notes,
    /// The version that the server told.
    server: Option<String>,
    /// A mismatch, an error, or an answer that never came.
    is_wrong: bool,
}

impl Outcome {
    /// Nothing yet, of a server that told this version.
    pub fn new(started: Now, server: Option<String>) -> Outcome {
        Outcome {
            started,
            steps: Vec::new(),
            p99s: Vec::new(),
            knee: None,
            notes: Notes::default(),
            server,
            is_wrong: false,
        }
    }

    /// Adds a step.
    pub fn add(&mut self, rate: Option<f64>, seen: &Seen) {
        let step = step(rate, &seen.record);
        self.note(rate, seen, &step);
        let due = rate.unwrap_or(step.rate);
        let p99_ns = all(&seen.record).value_at_quantile(0.99);
        self.p99s.push(Observed { due, answered: step.rate, p99_ns });
        self.steps.push(step);
    }

    /// Takes a closed loop for what the server can do at most; answers a second.
    pub fn capacity(&mut self, seen: &Seen) -> f64 {
        let step = step(None, &seen.record);
        self.note(Some(step.rate), seen, &step);
        self.notes.add(format!(
            "a closed loop reached {:.0} requests a second; the sweep's rates are shares of that",
            step.rate
        ));
        step.rate.max(1.0)
    }

    /// Looks for the knee of the steps there are.
    pub fn find_knee(&mut self) {
        self.knee = sweep::knee(&self.p99s);
        if self.knee.is_none() {
            self.notes.add("no knee: the server did not keep up with the lowest rate");
        }
    }

    /// The operator ended it.
    pub fn stopped(&mut self) {
        self.end_early("by the operator");
    }

    /// It could not go on.
    pub fn end_early(&mut self, reason: &str) {
        self.notes.add(format!("ended early: {reason}"));
        if self.steps.last().is_some_and(is_empty) {
            self.steps.pop();
            self.p99s.pop();
        }
    }

    /// What a reader has to know of a step.
    fn note(&mut self, rate: Option<f64>, seen: &Seen, step: &Step) {
        let record = &seen.record;
        let counts = &record.counts;
        let at = rate.map_or(String::new(), |rate| format!("at {rate:.0}/s: "));
        if rate.is_none() {
            self.notes.add(
                "closed loop: a connection asks again only when it was answered, so that a stall \
                 of the server holds back the requests that it would have delayed; latencies \
                 cannot show it (coordinated omission). Measure them with --rate",
            );
        }
        if step.is_all_unsent() {
            let text = format!(
                "{at}none of the {} requests that were due was sent: the server was behind with \
                 those of the warm-up, of which it answered {:.0} a second; choose a --rate that \
                 it can answer",
                counts.overdue, step.rate
            );
            self.notes.weigh("unsent", counts.overdue, text);
        } else if counts.overdue > 0 {
            let text = format!(
                "{at}{} requests that were due were not sent by the step's end: latencies contain \
                 how long they had waited until then, which is less than they would have",
                counts.overdue
            );
            self.notes.weigh("overdue", counts.overdue, text);
        }
        if let Some(mean_ns) = record.late.mean_ns().filter(|_| !step.is_all_unsent()) {
            let text = format!(
                "{at}the client itself was late: it looked {:.0} us after a request was due on \
                 average, {:.0} us at most, and latencies contain that",
                mean_ns as f64 / 1e3,
                record.late.max_ns as f64 / 1e3
            );
            self.notes.weigh("late", mean_ns, text);
        }
        if record.is_spinning && record.turns > 0 {
            let mean_us = step.elapsed_s * 1e6 / record.turns as f64;
            let text = format!(
                "{at}the clock was read once a turn: latencies are up to a turn too long, \
                 {mean_us:.1} us on average, {:.0} us at most; the client had nothing to do for \
                 {:.0} % of the time",
                record.turn_ns_max as f64 / 1e3,
                record.idle_ns as f64 / 1e7 / step.elapsed_s
            );
            self.notes.weigh("turns", record.turn_ns_max, text);
        }
        self.note_outages(&at, step);
        let [error, mismatch] = &seen.firsts;
        if let Some(words) = error {
            let text = format!("{at}{} errors, the first: {words}", counts.errors);
            self.notes.weigh(&format!("errors: {words}"), counts.errors, text);
        }
        if let Some(words) = mismatch {
            let text = format!("{at}{} mismatches, the first: {words}", counts.mismatches);
            self.notes.weigh(&format!("mismatches: {words}"), counts.mismatches, text);
        }
        self.is_wrong |= step.errors > 0 || step.mismatches > 0;
    }

    /// Connections that the server ended.
    fn note_outages(&mut self, at: &str, step: &Step) {
        let seen = &step.outages;
        if seen.reconnects > 0 || seen.requests_lost > 0 || seen.gap_s > 0.0 {
            let text = format!(
                "{at}the server ended connections: {} opened again, {} requests lost (they are \
                 errors); without a connection for {:.3} s at the longest, {:.3} s in all",
                seen.reconnects, seen.requests_lost, seen.longest_gap_s, seen.gap_s
            );
            self.is_wrong = true;
            self.notes.weigh("outages", 1 + (seen.gap_s * 1e9) as u64, text);
        }
    }

    /// What was measured, if anything was, and whether all of it was right.
    pub fn into_result(self, plan: &Plan, command: &str) -> (Option<RunResult>, bool) {
        let (is_right, is_empty) = (!self.is_wrong, self.steps.iter().all(is_empty));
        ((!is_empty).then(|| self.result(plan, command)), is_right)
    }

    fn result(self, plan: &Plan, command: &str) -> RunResult {
        let transport = match (&plan.device, &plan.server) {
            (Some(device), _) => device.device.split(',').next().unwrap_or_default(),
            (None, Target::Tcp(..)) => "tcp",
            (None, Target::Unix(_)) => "unix",
        };
        let protocol = match plan.dialect {
            Dialect::Text => "text",
            Dialect::Binary => "binary",
            Dialect::Meta => "meta",
        };
        let [key_bytes, value_bytes] = plan.lengths();
        let setup = Setup {
            transport: transport.to_owned(),
            protocol: protocol.to_owned(),
            target: plan.target(),
            loop_: if plan.load == Load::Closed { Loop::Closed } else { Loop::Open },
            connections: plan.connections as u64,
            depth: plan.depth.into(),
            multi_get: plan.multi_get as u64,
            get_share: plan.get_share,
            keys: plan.keys.into(),
            skew: plan.skew.map_or("uniform".to_owned(), |theta| format!("zipf {theta}")),
            key_bytes,
            value_bytes,
            ttl_s: plan.ttl_s as u64,
            warmup_s: plan.warmup.as_secs_f64(),
            duration_s: plan.duration.as_secs_f64(),
        };
        RunResult {
            format: FORMAT.to_owned(),
            label: if plan.label.is_empty() { plan.target() } else { plan.label.clone() },
            started_utc: utc(self.started.unix_s.into()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: machine(),
            command: command.to_owned(),
            setup,
            steps: self.steps,
            knee: self.knee,
            notes: self.notes.into_lines(),
            server: self.server,
        }
    }
}

/// Whether nothing was measured. A server that is far behind may have answered none of the requests
/// that were due, and how long they have waited by then is a measurement.
fn is_empty(step: &Step) -> bool {
    step.latency.all.count == 0
}

/// Gets and sets together.
fn all(record: &Record) -> hdrhistogram::Histogram<u64> {
    let mut all = histogram();
    all.add(&record.get).expect("made with the same bounds");
    all.add(&record.set).expect("made with the same bounds");
    all
}

fn step(rate_target: Option<f64>, record: &Record) -> Step {
    let window = record.window();
    let elapsed_ns = window.end_ns.saturating_sub(window.from_ns);
    let elapsed_s = elapsed_ns as f64 / SECOND_NS as f64;
    let counts = &record.counts;
    let intervals = elapsed_ns.div_ceil(record.interval_ns()) as usize;
    let interval = |(n, seen): (usize, &hdrhistogram::Histogram<u64>)| Interval {
        t_s: ((n + 1) as u64 * record.interval_ns()).min(elapsed_ns) as f64 / SECOND_NS as f64,
        requests: seen.len(),
        p50_ns: seen.value_at_quantile(0.5),
        p99_ns: seen.value_at_quantile(0.99),
        max_ns: seen.max(),
    };
    Step {
        rate_target,
        elapsed_s,
        requests: counts.requests,
        hits: counts.hits,
        misses: counts.misses,
        errors: counts.errors + counts.lost,
        mismatches: counts.mismatches,
        bytes_sent: counts.bytes_sent,
        bytes_received: counts.bytes_received,
        rate: if elapsed_s > 0.0 { counts.answered as f64 / elapsed_s } else { 0.0 },
        latency: Latency {
            all: Spectrum::of(&all(record)),
            get: Spectrum::of(&record.get),
            set: Spectrum::of(&record.set),
        },
        intervals: record.intervals.iter().enumerate().take(intervals).map(interval).collect(),
        outages: Outages {
            reconnects: counts.reconnects,
            requests_lost: counts.lost,
            gap_s: record.gap_ns as f64 / SECOND_NS as f64,
            longest_gap_s: record.gap_ns_max as f64 / SECOND_NS as f64,
        },
    }
}

fn machine() -> Machine {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| {
        let (key, name) = line.split_once(':')?;
        (key.trim() == "model name").then(|| name.trim().to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Machine { cpu: name.unwrap_or_default(), cores, kernel: release.trim().to_owned() }
}
