//! The table on the terminal: microseconds, a line for each rate of a sweep with the knee marked,
//! and at the end several runs against the first.

use super::units::{bytes, grouped, micros, percent, rate, seconds};
use super::{histogram, is_sweep, label, names, notes, plain, server, step_of_note};
use crate::load::result::{RunResult, Setup, Spectrum, Step};

/// The quantiles that have a column.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

/// In place of latencies, where none is one of a request.
const NONE_SENT: &str = "no latencies: of the requests that were due none was sent, because those \
     due before them were not answered yet";

/// All runs, and how they compare. What is no column is wrapped at `columns`, if there are any.
pub fn tables(runs: &[RunResult], columns: Option<usize>) -> String {
    let all = runs.iter().collect::<Vec<_>>();
    let tables = (0..all.len()).map(|n| one(&all, n, columns));
    let mut text = tables.collect::<Vec<_>>().join("\n");
    if runs.len() > 1 {
        text += "\n";
        text += &comparison(runs);
    }
    text
}

/// One run: its setup, figures, knee and notes.
pub fn table(run: &RunResult, columns: Option<usize>) -> String {
    one(&[run], 0, columns)
}

/// Run `n` of some, with the notes that those before it do not have.
fn one(runs: &[&RunResult], n: usize, columns: Option<usize>) -> String {
    let run = runs[n];
    let mut text = wrapped("", label(run), columns);
    for line in setup(&run.setup) {
        text += &wrapped("  ", &line, columns);
    }
    text += &wrapped("  ", &format!("server's version: {}", server(run)), columns);
    let machine = &run.machine;
    let machine = format!("{}, {} cores, Linux {}", machine.cpu, machine.cores, machine.kernel);
    let made = format!("sunder {}, {machine}, {}", run.version, run.started_utc);
    text += &wrapped("  ", &made, columns);
    text += "\n";
    if is_sweep(run) {
        text += &sweep(run, columns);
    } else {
        for step in &run.steps {
            text += &totals(step, columns);
            text += "\n";
            text += &match step.is_all_unsent() {
                true => wrapped("  ", NONE_SENT, columns),
                false => latencies(step),
            };
        }
    }
    let notes = notes(runs, n);
    if !notes.is_empty() {
        text += "\n";
    }
    for note in &notes {
        text += &wrapped("  note: ", note, columns);
    }
    text
}

/// `text` behind `head`, in lines of `columns` at most, those behind the first indented as far as
/// the head; on one line if there are no columns to keep to. A word that is longer than a line
/// stays whole.
fn wrapped(head: &str, text: &str, columns: Option<usize>) -> String {
    let text = plain(text);
    // A terminal that is hardly wider than the head is too narrow for anything.
    let indent = head.chars().count();
    let Some(room) = columns.map(|columns| columns.saturating_sub(indent).max(20)) else {
        return format!("{head}{text}\n");
    };
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines.push(line);
    format!("{head}{}\n", lines.join(&format!("\n{:indent$}", "")))
}

/// What was requested, as a sentence or two.
fn setup(setup: &Setup) -> [String; 2] {
    let plural = |count: u64, one: &str| match count {
        1 => format!("1 {one}"),
        _ => format!("{} {one}s", grouped(count)),
    };
    let gets = match setup.multi_get {
        1 => "gets".to_string(),
        keys => format!("gets of {keys} keys"),
    };
    let ttl = match setup.ttl_s {
        0 => String::new(),
        ttl => format!(" for {ttl} s"),
    };
    [
        format!(
            "{} loop, {} of {} at once, {} over {} to {}",
            setup.loop_,
            plural(setup.connections, "connection"),
            plural(setup.depth, "request"),
            setup.protocol,
            setup.transport,
            setup.target
        ),
        format!(
            "{} ({}) of {} B, values of {} B{ttl}, {} {gets}, {} after {} of warm-up",
            plural(setup.keys, "key"),
            setup.skew,
            setup.key_bytes,
            setup.value_bytes,
            percent(setup.get_share),
            seconds(setup.duration_s),
            seconds(setup.warmup_s)
        ),
    ]
}

fn totals(step: &Step, columns: Option<usize>) -> String {
    let (requests, elapsed) = (grouped(step.requests), seconds(step.elapsed_s));
    let mut rows = match step.rate_target {
        None => {
            vec![("requests/s", rate(step.rate)), ("requests", format!("{requests} in {elapsed}"))]
        }
        Some(target) => {
            let answers = (step.rate * step.elapsed_s).round() as u64;
            // What is due counts whenever it is answered, the rate what is answered in time.
            let late = match answers < step.requests {
                true => format!("; {} answers came in that time, the rest later", grouped(answers)),
                false => String::new(),
            };
            vec![
                ("requests/s", format!("{} answered, {} due", rate(step.rate), rate(target))),
                ("requests", format!("{requests} that were due in {elapsed} were answered{late}")),
            ]
        }
    };
    if step.unsent() > 0 {
        rows.push(("not sent", format!("{} that were due", grouped(step.unsent()))));
    }
    let keys = step.hits.saturating_add(step.misses);
    if keys > 0 {
        let share = percent(step.hits as f64 / keys as f64);
        let (hits, misses) = (grouped(step.hits), grouped(step.misses));
        rows.push(("hits", format!("{hits} ({share}), {misses} misses")));
    }
    rows.push(("errors", grouped(step.errors)));
    rows.push(("mismatches", grouped(step.mismatches)));
    let (sent, received) = (bytes(step.bytes_sent), bytes(step.bytes_received));
    rows.push(("traffic", format!("{sent} sent, {received} received")));
    rows.iter().map(|(name, value)| wrapped(&format!("  {name:<12}"), value, columns)).collect()
}

fn latencies(step: &Step) -> String {
    let mut columns = Columns::new(&["latency, µs", "count", "mean"]);
    columns.head.extend(QUANTILES.map(|(name, _)| name.to_string()));
    columns.head.push("max".into());
    let kinds =
        [("all", &step.latency.all), ("get", &step.latency.get), ("set", &step.latency.set)];
    for (name, spectrum) in kinds {
        // A run of gets alone says so in its setup.
        if spectrum.count == 0 && name != "all" {
            continue;
        }
        // What was never sent was not drawn either, and counts as a get.
        let has_waits = step.unsent() > 0 && name != "set";
        let name = if has_waits { format!("{name}, not sent") } else { name.to_owned() };
        let mut row = vec![name, grouped(spectrum.count)];
        row.push(micros(spectrum.mean_ns.round() as u64));
        row.extend(figures(Some(spectrum)));
        columns.rows.push(row);
    }
    columns.text()
}

/// The quantiles and the longest, if anything was measured.
fn figures(spectrum: Option<&Spectrum>) -> Vec<String> {
    let Some(spectrum) = spectrum.filter(|spectrum| spectrum.count > 0) else {
        return vec!["-".into(); QUANTILES.len() + 1];
    };
    let histogram = histogram(spectrum);
    let mut figures: Vec<String> =
        QUANTILES.iter().map(|(_, q)| micros(histogram.value_at_quantile(*q))).collect();
    figures.push(micros(spectrum.max_ns));
    figures
}

fn sweep(run: &RunResult, width: Option<usize>) -> String {
    let mut columns = Columns::new(&["latency, µs", "due/s", "answered/s"]);
    columns.head.extend(QUANTILES.map(|(name, _)| name.to_string()));
    columns.head.extend(["max".into(), "errors".into(), "mismatches".into()]);
    let has_unsent = run.steps.iter().any(|step| step.unsent() > 0);
    columns.head.extend(has_unsent.then(|| "not sent".into()));
    for (number, step) in run.steps.iter().enumerate() {
        let mark = if run.knee == Some(number) { "knee" } else { "" };
        let mut row = vec![mark.to_string(), step.rate_target.map_or("-".into(), rate)];
        row.push(rate(step.rate));
        let is_measured = !step.is_all_unsent();
        row.extend(figures(Some(&step.latency.all).filter(|_| is_measured)));
        row.extend([grouped(step.errors), grouped(step.mismatches)]);
        row.extend(has_unsent.then(|| grouped(step.unsent())));
        columns.rows.push(row);
    }
    let mut text = columns.text();
    text.push('\n');
    text + &wrapped("  ", &knee(run), width)
}

/// What a sweep says of the server, in words.
fn knee(run: &RunResult) -> String {
    let Some((number, step)) = run.knee.and_then(|knee| Some((knee, run.steps.get(knee)?))) else {
        return "no knee: the server did not even keep up with the lowest rate".into();
    };
    let answered = rate(step.rate);
    if number + 1 == run.steps.len() {
        return format!(
            "knee above {answered} requests/s: the server kept up with every rate that was tried"
        );
    }
    format!("knee at {answered} requests/s: the highest rate up to which the server kept up")
}

/// Each run's figures, and how many times those of the first they are.
fn comparison(runs: &[RunResult]) -> String {
    let mut columns = Columns::new(&["side by side", "requests/s", "x first"]);
    for (name, _) in QUANTILES {
        columns.head.extend([format!("{name} µs"), "x first".into()]);
    }
    let mut first: Option<Vec<f64>> = None;
    for (run, name) in runs.iter().zip(names(runs)) {
        let Some(step) = step_of_note(run).and_then(|step| run.steps.get(step)) else { continue };
        if step.is_all_unsent() {
            continue;
        }
        let latency = histogram(&step.latency.all);
        let mut values = vec![step.rate];
        values.extend(QUANTILES.map(|(_, q)| latency.value_at_quantile(q) as f64));
        let first = first.get_or_insert_with(|| values.clone());
        let mut row = vec![plain(&name)];
        if is_sweep(run) {
            row[0] += if run.knee.is_some() { " (knee)" } else { " (last)" };
        }
        for (i, value) in values.iter().enumerate() {
            row.push(if i == 0 { rate(*value) } else { micros(*value as u64) });
            row.push(match first[i] {
                0.0 => "-".into(),
                first => format!("{:.2}", value / first),
            });
        }
        columns.rows.push(row);
    }
    columns.text()
}

/// Columns as wide as their widest cell, the first to the left, figures to the right.
struct Columns {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Columns {
    fn new(head: &[&str]) -> Columns {
        Columns { head: head.iter().map(|name| name.to_string()).collect(), rows: Vec::new() }
    }

    fn text(&self) -> String {
        let rows = || std::iter::once(&self.head).chain(&self.rows);
        let width = |i: usize| rows().map(|row| row[i].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut text = String::new();
        for row in rows() {
            let mut line = String::from(" ");
            for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
                line += &match i {
                    0 => format!(" {cell:<width$}"),
                    _ => format!("  {cell:>width$}"),
                };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}
