//! blast and setops: many concurrent connections on the same keys, and the history checker behind
//! them.

use super::history::names::Names;
use super::history::plan::{Mix, Plan};
use super::history::report::Report;
use super::history::run::run_watched;
use super::marks::Wrong;
use super::marks::plan::{Done, Storm};
use super::options::{KEYS_PER_GET_MAX, Options};
use super::progress::Progress;
use super::threads::{End, Finding, conclude};
use crate::base::console::{complain, print};
use std::process::ExitCode;

/// Runs blast.
pub fn main(options: &Options) -> ExitCode {
    start("blast", options, options.mix)
}

/// Runs setops.
pub fn setops(options: &Options) -> ExitCode {
    start("setops", options, Mix::Stores)
}

fn start(tool: &'static str, options: &Options, mix: Mix) -> ExitCode {
    for note in &options.notes {
        complain(format_args!("sunder {tool}: {note}"));
    }
    let plan = plan(options, mix);
    let storm = options.asks_for_marks.then(|| storm(options));
    let more = storm.as_ref().map_or(0, |storm| storm.operations);
    let mut progress = Progress::start(tool, plan.operations + more);
    let result = run_watched(&plan, &mut |done| progress.tell(done));
    let mut marks = None;
    if let (Some(storm), Ok(report)) = (storm, &result)
        && report.violation_count == 0
        && !progress.is_stopped()
    {
        marks = Some(storm.run(&mut |done| progress.tell(plan.operations + done)));
    }
    let is_interrupted = progress.is_stopped();
    progress.end();
    match result {
        Ok(report) => {
            let end = match (is_interrupted, report.is_time_over) {
                (true, _) => End::Interrupted,
                (false, true) => End::Over(plan.duration),
                (false, false) => End::Done,
            };
            say(tool, &report, marks, options, end)
        }
        Err(text) => {
            let trouble = Finding::Trouble(text);
            conclude(tool, Some(trouble), 0, End::Done, ExitCode::FAILURE)
        }
    }
}

/// What is asked when all else is done.
fn storm(options: &Options) -> Storm {
    let operations = options.operations.div_ceil(4);
    let mut storm = Storm::new(vec![options.target.clone()], operations, options.seed);
    storm.login = options.login.clone();
    storm.prefix = format!("{}marks-", options.prefix);
    storm.clients = options.workers as u64;
    (storm.timeout, storm.answer_bytes) = (options.timeout, options.answer_bytes);
    storm.survives = options.survives;
    storm.duration = options.duration;
    storm
}

fn plan(options: &Options, mix: Mix) -> Plan {
    let mut plan = Plan {
        targets: vec![options.target.clone()],
        dialects: options.dialects.clone(),
        login: options.login.clone(),
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

fn say(
    tool: &str,
    report: &Report,
    marks: Option<Result<Done, Wrong>>,
    options: &Options,
    end: End,
) -> ExitCode {
    let mut text =
        if options.draws_histograms { format!("{report:#}") } else { report.to_string() };
    let wrong = match marks {
        Some(Ok(done)) => {
            text += &format!("\n{done}");
            None
        }
        Some(Err(wrong)) => Some(wrong),
        None => None,
    };
    let told = print(&format!("{text}\n"), ExitCode::SUCCESS);
    let finding = match (report.violations.first(), &report.trouble) {
        (Some(violation), _) => {
            let all = report.violation_count;
            let what = format!("{}; {all} answers were wrong", violation.what);
            Some(Finding::Wrong { key: violation.key.clone(), what })
        }
        (None, Some(trouble)) => Some(Finding::Trouble(trouble.clone())),
        (None, None) => match report.failures.iter().next() {
            Some((text, _)) if report.errors > 0 && !options.survives => {
                let text = format!("{} operations failed, such as: {text}", report.errors);
                Some(Finding::Trouble(text))
            }
            _ => None,
        },
    };
    let finding = finding.or(wrong.map(|Wrong { key, what }| Finding::Wrong { key, what }));
    conclude(tool, finding, report.operations, end, told)
}
