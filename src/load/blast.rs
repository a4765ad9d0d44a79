//! blast and setops: many connections on the same keys at once, and the history checker behind
//! them.

use super::history::names::Names;
use super::history::plan::{Mix, Plan};
use super::history::report::Report;
use super::history::run::run_watched;
use super::options::{Asked, KEYS_PER_GET_MAX, Options, Spec, parse};
use super::progress::Progress;
use super::threads::{End, Finding, conclude};
use crate::console::complain;
use std::ffi::OsString;
use std::process::ExitCode;

pub(crate) const BLAST: Spec = Spec {
    name: "blast",
    help: "\
sunder blast: ask a server everything from many connections at once, and prove every answer possible

Usage: sunder blast [FLAGS]

get, multi-get, gat, set, add, replace, append, prepend, touch and delete, evenly, on keys drawn at
random. Every value says which writes made it, and every answer is held against what the
acknowledged and the possible writes of all connections allow. At the end each key is read once.

  -n, --num-ops N     operations of all connections [1000000]; values have 1K-10K bytes
  --keys N            different keys: the fewer, the more they are fought over [1000]
  --all               everything the protocols have: gets, gats, cas, incr, decr, flush_all, and
                      items that expire, too
  --no-flush          of these, no flush_all
  --survive           open connections that fail again and go on; wrong answers stay wrong
  --cas-may-repeat    the server keeps items in a process that may restart alone, after which
                      unique numbers come again; a cas proves nothing then
",
    flags: &["num-ops", "keys", "all", "no-flush", "survive", "cas-may-repeat"],
    operations: 1_000_000,
    value_bytes: (1024, 10 * 1024),
    has_records: true,
};

pub(crate) const SETOPS: Spec = Spec {
    name: "setops",
    help: "\
sunder setops: store in all five ways from many connections at once, and check the answers

Usage: sunder setops [FLAGS]

set, add, replace, append and prepend, evenly, on keys drawn at random. At the end each key is read,
and its value must be one that the acknowledged and the possible stores allow.

  -n, --num-ops N     operations of all connections [1000000]; values have 1K-10K bytes
  --keys N            different keys: the fewer, the more they are fought over [1000]
  --survive           open connections that fail again and go on; wrong answers stay wrong
",
    flags: &["num-ops", "keys", "survive"],
    operations: 1_000_000,
    value_bytes: (1024, 10 * 1024),
    has_records: true,
};

/// Runs blast.
pub fn main(words: Vec<OsString>) -> ExitCode {
    start(&BLAST, words, None)
}

/// Runs setops.
pub fn setops(words: Vec<OsString>) -> ExitCode {
    start(&SETOPS, words, Some(Mix::Stores))
}

fn start(spec: &Spec, words: Vec<OsString>, mix: Option<Mix>) -> ExitCode {
    let options = match parse(spec, words) {
        Ok(Asked::Run(options)) => options,
        other => return super::answer_words(spec.name, other),
    };
    for note in &options.notes {
        complain(format_args!("sunder {}: {note}", spec.name));
    }
    let plan = plan(&options, mix.unwrap_or(options.mix));
    let mut progress = Progress::start(spec.name, plan.operations);
    let result = run_watched(&plan, &mut |done| progress.tell(done));
    let is_interrupted = progress.is_stopped();
    progress.end();
    match result {
        Ok(report) => {
            let end = match (is_interrupted, report.is_time_over) {
                (true, _) => End::Interrupted,
                (false, true) => End::Over(plan.duration),
                (false, false) => End::Done,
            };
            say(spec.name, &report, plan.survives, end)
        }
        Err(text) => {
            let trouble = Finding::Trouble(text);
            conclude(spec.name, Some(trouble), 0, End::Done, ExitCode::FAILURE)
        }
    }
}

fn plan(options: &Options, mix: Mix) -> Plan {
    let mut plan = Plan {
        targets: vec![options.target.clone()],
        dialects: options.dialects.clone(),
        connections: options.workers,
        keys: options.keys,
        operations: options.operations,
        mix,
        multi_get: (2, KEYS_PER_GET_MAX),
        reads_back: true,
        seed: options.seed,
        value_bytes: options.value_bytes,
        timeout: options.timeout,
        answer_bytes: options.answer_bytes,
        duration: options.duration,
        is_loss_wrong: options.is_loss_wrong,
        has_flush: options.has_flush,
        may_cas_repeat: options.may_cas_repeat,
        survives: options.survives,
        ..Plan::default()
    };
    let wanted = plan.keys + plan.number_keys();
    let names = Names::letters(wanted, options.key_letters, &options.prefix, options.seed);
    // Short names are soon all used up; numbers then have their quarter of what there is.
    if names.count() < wanted {
        let numbers = if mix == Mix::Everything { (names.count() / 5).max(1) } else { 0 };
        plan.keys = names.count() - numbers;
    }
    let count = plan.keys + plan.number_keys();
    plan.names = Some(names.first(count));
    plan
}

fn say(tool: &str, report: &Report, survives: bool, end: End) -> ExitCode {
    let text = format!("{report}\n{}", report.latencies.pictures());
    let told = super::print(&text, ExitCode::SUCCESS);
    let finding = match (report.violations.first(), &report.trouble) {
        (Some(violation), _) => {
            let all = report.violation_count;
            let what = format!("{}; {all} answers were wrong", violation.what);
            Some(Finding::Wrong { key: violation.key.clone(), what })
        }
        (None, Some(trouble)) => Some(Finding::Trouble(trouble.clone())),
        (None, None) => match report.failures.iter().next() {
            Some((text, _)) if report.errors > 0 && !survives => {
                let text = format!("{} operations failed, such as: {text}", report.errors);
                Some(Finding::Trouble(text))
            }
            _ => None,
        },
    };
    conclude(tool, finding, report.operations, end, told)
}
