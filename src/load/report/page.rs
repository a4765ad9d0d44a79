//! One page that is complete in itself: tables made here, plots drawn by its own script from the
//! data within it. It asks the network for nothing, and forbids itself to.
//!
//! Everything that came with a result is escaped: as text by [`escape`], as data by [`embed`]. The
//! template alone is searched for its marks, never what was put into it.

use serde::Serialize;

use super::units::{grouped, latency, percent, rate, seconds};
use super::{histogram, is_sweep, names, server, step_of_note};
use crate::load::result::{Interval, RunResult, Spectrum, Step};

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Colours there are in `page.css`; runs beyond them differ by their dashes.
const COLOURS: usize = 8;

/// Quantiles with a column in the table of figures.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// The page that shows these runs over one another.
pub fn page(runs: &[RunResult]) -> String {
    let runs: &[Named<'_>] = &names(runs)
        .into_iter()
        .zip(runs)
        .enumerate()
        .map(|(number, (name, run))| Named { number, name, run })
        .collect::<Vec<_>>();
    let mut page = String::new();
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (mark, after) = after.split_once("}}").expect("marks are closed");
        page += before;
        match mark {
            "title" => page += &escape(&title(runs)),
            "style" => page += STYLE,
            "figures" => page += &figures(runs),
            "setups" => page += &setups(runs),
            "notes" => page += &notes(runs),
            "data" => page += &data(runs),
            "script" => page += SCRIPT,
            other => unreachable!("no part of the page is called {other}"),
        }
        rest = after;
    }
    page + rest
}

/// A run with its place and its name among those of the page.
struct Named<'a> {
    number: usize,
    name: String,
    run: &'a RunResult,
}

fn title(runs: &[Named<'_>]) -> String {
    runs.iter().map(|named| &named.name[..]).collect::<Vec<_>>().join(" · ")
}

/// Text within an element or a quoted attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            c => escaped.push(c),
        }
    }
    escaped
}

/// JSON within a script element, where the parser of HTML looks for `</script` and `<!--`. Outside
/// of strings JSON has none of these characters.
fn embed(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// What the script draws: no more than that, so that the page stays small.
#[derive(Serialize)]
struct Drawn<'a> {
    label: &'a str,
    steps: Vec<DrawnStep<'a>>,
    /// A sweep's knee.
    knee: Option<usize>,
    /// The step shown first.
    shown: Option<usize>,
}

#[derive(Serialize)]
struct DrawnStep<'a> {
    target: Option<f64>,
    rate: f64,
    all: DrawnSpectrum<'a>,
    get: DrawnSpectrum<'a>,
    set: DrawnSpectrum<'a>,
    intervals: &'a [Interval],
}

#[derive(Serialize)]
struct DrawnSpectrum<'a> {
    count: u64,
    max_ns: u64,
    p50_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    points: &'a [(f64, u64, u64)],
}

fn drawn(spectrum: &Spectrum) -> DrawnSpectrum<'_> {
    let histogram = histogram(spectrum);
    DrawnSpectrum {
        count: spectrum.count,
        max_ns: spectrum.max_ns,
        p50_ns: histogram.value_at_quantile(0.5),
        p99_ns: histogram.value_at_quantile(0.99),
        p999_ns: histogram.value_at_quantile(0.999),
        points: &spectrum.percentiles,
    }
}

fn drawn_step(step: &Step) -> DrawnStep<'_> {
    DrawnStep {
        target: step.rate_target,
        rate: step.rate,
        all: drawn(&step.latency.all),
        get: drawn(&step.latency.get),
        set: drawn(&step.latency.set),
        intervals: &step.intervals,
    }
}

fn data(runs: &[Named<'_>]) -> String {
    let runs: Vec<Drawn<'_>> = runs
        .iter()
        .map(|Named { name, run, .. }| Drawn {
            label: name,
            steps: run.steps.iter().map(drawn_step).collect(),
            knee: run.knee,
            shown: step_of_note(run),
        })
        .collect();
    embed(&serde_json::to_string(&runs).expect("names are strings, numbers finite"))
}

/// A run's name with the colour and dashes it has in the plots.
fn key(Named { number, name, .. }: &Named<'_>) -> String {
    let (colour, dashes) = (number % COLOURS, number / COLOURS % 3);
    format!(
        "<svg class=\"key c{colour}\" viewBox=\"0 0 22 10\" aria-hidden=\"true\">\
         <path class=\"line d{dashes}\" d=\"M1 5H21\"/></svg><bdi>{}</bdi>",
        escape(name)
    )
}

fn figures(runs: &[Named<'_>]) -> String {
    let mut html = String::from("<table class=\"figures\"><thead><tr>");
    let mut names = vec!["run, requests/s due", "answered/s"];
    names.extend(QUANTILES.map(|(name, _)| name));
    names.extend(["max", "mean", "hits", "errors", "mismatches"]);
    for name in &names {
        html += &format!("<th scope=\"col\">{name}</th>");
    }
    html += "</tr></thead>";
    for named in runs {
        let Named { number, run, .. } = named;
        html += &format!("<tbody data-run=\"{number}\">");
        if is_sweep(run) {
            let columns = names.len();
            html += &format!("<tr><th colspan=\"{columns}\">{}</th></tr>", key(named));
        }
        for (i, step) in run.steps.iter().enumerate() {
            let is_knee = run.knee == Some(i);
            html += if is_knee { "<tr class=\"knee\">" } else { "<tr>" };
            html += "<th scope=\"row\">";
            if !is_sweep(run) {
                html += &key(named);
            }
            if let Some(target) = step.rate_target {
                html += &format!(" <span class=\"asked\">{}/s</span>", rate(target));
            }
            html += &badges(step, is_knee);
            html += "</th>";
            html += &cells(step);
            html += "</tr>";
        }
        html += "</tbody>";
    }
    html + "</table>"
}

/// What is to be seen even where the table is cut off.
fn badges(step: &Step, is_knee: bool) -> String {
    let mut html = String::new();
    if is_knee {
        html += " <span class=\"badge\">knee</span>";
    }
    for (count, what) in [(step.errors, "errors"), (step.mismatches, "mismatches")] {
        if count > 0 {
            html += &format!(" <span class=\"badge bad\">{} {what}</span>", grouped(count));
        }
    }
    html
}

fn cells(step: &Step) -> String {
    let all = &step.latency.all;
    let mut cells = vec![rate(step.rate)];
    if all.count == 0 || step.is_all_unsent() {
        cells.extend(vec!["–".to_string(); QUANTILES.len() + 2]);
    } else {
        let histogram = histogram(all);
        cells.extend(QUANTILES.map(|(_, q)| latency(histogram.value_at_quantile(q))));
        cells.extend([latency(all.max_ns), latency(all.mean_ns.round() as u64)]);
    }
    let keys = step.hits.saturating_add(step.misses);
    cells.push(match keys {
        0 => "–".into(),
        _ => percent(step.hits as f64 / keys as f64),
    });
    let mut html: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
    for count in [step.errors, step.mismatches] {
        let class = if count > 0 { " class=\"bad\"" } else { "" };
        html += &format!("<td{class}>{}</td>", grouped(count));
    }
    html
}

/// A row of the setups: its name, whether runs ought to agree in it, and what a run has.
type Fact = (&'static str, bool, fn(&RunResult) -> String);

const FACTS: &[Fact] = &[
    ("started", false, |r| r.started_utc.clone()),
    ("sunder", true, |r| r.version.clone()),
    ("processor", true, |r| r.machine.cpu.clone()),
    ("cores", true, |r| r.machine.cores.to_string()),
    ("kernel", true, |r| r.machine.kernel.clone()),
    ("server", true, |r| r.setup.target.clone()),
    ("its version", true, |r| server(r).to_owned()),
    ("transport", true, |r| r.setup.transport.clone()),
    ("protocol", true, |r| r.setup.protocol.clone()),
    ("loop", true, |r| r.setup.loop_.to_string()),
    ("connections", true, |r| grouped(r.setup.connections)),
    ("requests at once on each", true, |r| grouped(r.setup.depth)),
    ("keys of a get", true, |r| grouped(r.setup.multi_get)),
    ("gets", true, |r| percent(r.setup.get_share)),
    ("keys", true, |r| grouped(r.setup.keys)),
    ("drawn", true, |r| r.setup.skew.clone()),
    ("key, bytes", true, |r| r.setup.key_bytes.clone()),
    ("value, bytes", true, |r| r.setup.value_bytes.clone()),
    ("expiry", true, |r| match r.setup.ttl_s {
        0 => "never".into(),
        ttl_s => format!("{} s", grouped(ttl_s)),
    }),
    ("warm-up", true, |r| seconds(r.setup.warmup_s)),
    ("duration", true, |r| seconds(r.setup.duration_s)),
    ("rates", true, |r| match is_sweep(r) {
        true => format!("sweep of {}", r.steps.len()),
        false => r.steps[0]
            .rate_target
            .map_or("as fast as answers come".into(), |target| format!("{}/s", rate(target))),
    }),
    ("command", false, |r| r.command.clone()),
];

fn setups(runs: &[Named<'_>]) -> String {
    let mut html = String::from("<table class=\"setups\"><thead><tr><th scope=\"col\"></th>");
    for named in runs {
        let (number, key) = (named.number, key(named));
        html += &format!("<th scope=\"col\" data-run=\"{number}\">{key}</th>");
    }
    html += "</tr></thead><tbody>";
    for (name, is_compared, of) in FACTS {
        let facts: Vec<String> = runs.iter().map(|named| of(named.run)).collect();
        let differ = *is_compared && facts.iter().any(|fact| *fact != facts[0]);
        html += if differ { "<tr class=\"differ\">" } else { "<tr>" };
        html += &format!("<th scope=\"row\">{name}</th>");
        for (number, fact) in facts.iter().enumerate() {
            let class = if *name == "command" { " class=\"command\"" } else { "" };
            html += &format!("<td{class} data-run=\"{number}\">{}</td>", escape(fact));
        }
        html += "</tr>";
    }
    html + "</tbody></table>"
}

fn notes(runs: &[Named<'_>]) -> String {
    let mut html = String::new();
    let all = runs.iter().map(|named| named.run).collect::<Vec<_>>();
    for (n, named) in runs.iter().enumerate() {
        let notes = super::notes(&all, n);
        if notes.is_empty() {
            continue;
        }
        html += &format!("<h3>{}</h3><ul>", key(named));
        for note in &notes {
            html += &format!("<li>{}</li>", escape(note));
        }
        html += "</ul>";
    }
    match html.is_empty() {
        true => html,
        false => format!("<section class=\"card\" id=\"notes\"><h2>Notes</h2>{html}</section>"),
    }
}
