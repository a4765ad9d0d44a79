//! Reports of made-up runs: what a page is made of, that nobody's label can do harm in it, and what
//! the command line does. `SUNDER_REPORT_EXAMPLES=FOLDER` keeps the pages, to be looked at.

use std::f64::consts::TAU;

use super::*;
use crate::load::result::examples::{self, histogram as empty, run};
use crate::load::result::{Interval, Latency, RunResult, Spectrum, Step};

/// A generator of numbers that are the same every time (xorshift64).
struct Random(u64);

impl Random {
    /// Above 0, up to 1.
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// A latency around `middle_us` with a long tail, in nanoseconds.
    fn latency_ns(&mut self, middle_us: f64) -> u64 {
        let normal = (-2.0 * self.unit().ln()).sqrt() * (TAU * self.unit()).cos();
        let stall = if self.unit() < 0.0004 { 40.0 } else { 1.0 };
        (middle_us * 1e3 * (0.35 * normal).exp() * stall) as u64
    }
}

/// One step: `asked` requests a second, or as many as possible, of a server that can do `most`.
fn step(random: &mut Random, middle_us: f64, most: f64, asked: Option<f64>, sets: f64) -> Step {
    let offered = asked.unwrap_or(most);
    let rate = offered.min(most);
    // What waiting adds as the load comes near the limit.
    let busy = (offered / most).min(0.985);
    let middle_us = middle_us * (1.0 + 0.4 * busy / (1.0 - busy));
    let (mut get, mut set) = (empty(), empty());
    let mut intervals = Vec::new();
    for tick in 1..=50 {
        let mut here = empty();
        let stalled = if tick == 31 { 12.0 } else { 1.0 };
        for _ in 0..400 {
            let is_set = random.unit() < sets;
            let slower = if is_set { 1.3 } else { 1.0 };
            let ns = random.latency_ns(middle_us * slower * stalled);
            if is_set { &mut set } else { &mut get }.record(ns).expect("fits");
            here.record(ns).expect("fits");
        }
        intervals.push(Interval {
            t_s: f64::from(tick) / 5.0,
            requests: (rate / 5.0) as u64,
            p50_ns: here.value_at_quantile(0.5),
            p99_ns: here.value_at_quantile(0.99),
            max_ns: here.max(),
        });
    }
    examples::step(asked, rate, &get, &set, intervals)
}

fn plain_run() -> RunResult {
    let mut random = Random(7);
    let steps = vec![step(&mut random, 80.0, 240_000.0, None, 0.1)];
    let mut run = run("memcached 1.6.18", steps, None);
    run.notes.push("a closed loop sees a stall only once a connection".into());
    run.steps[0].misses = 12;
    run
}

/// A sweep whose server keeps up until `most`.
fn sweep_run(label: &str, middle_us: f64, most: f64) -> RunResult {
    let mut random = Random(middle_us as u64 + 1);
    let rates = (1..=9).map(|i| most * 0.14 * f64::from(i));
    let steps: Vec<Step> =
        rates.map(|rate| step(&mut random, middle_us, most, Some(rate), 0.1)).collect();
    run(label, steps, Some(6))
}

/// A label with all that hurts a terminal or a page.
const EVIL: &str = "</script><script>document.title='hurt'</script>\"'&<!--\u{1b}[2J\u{2028}";

fn evil_run() -> RunResult {
    let mut run = plain_run();
    let setup = &mut run.setup;
    for text in [
        &mut run.label,
        &mut run.started_utc,
        &mut run.version,
        &mut run.machine.cpu,
        &mut run.machine.kernel,
        &mut run.command,
        &mut setup.transport,
        &mut setup.protocol,
        &mut setup.target,
        &mut setup.skew,
        &mut setup.key_bytes,
        &mut setup.value_bytes,
    ] {
        *text = EVIL.into();
    }
    run.server = Some(EVIL.into());
    run.notes = vec![EVIL.into(), "{{data}}".into()];
    run.steps[0].errors = 3;
    run
}

/// Files that are removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("sunder-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    fn save(&self, name: &str, run: &RunResult) -> PathBuf {
        let path = self.0.join(name);
        run.save(&path).expect("writes");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("ours");
    }
}

fn ask(results: &[&PathBuf], page: Option<&Path>, is_hgrm: bool) -> Result<String, ReportError> {
    let results = results.iter().map(|&path| path.clone()).collect();
    report(&ReportRequest { results, page: page.map(Path::to_path_buf), is_hgrm })
}

/// The text between two marks that occur once.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (before, rest) = text.split_once(start).expect("it starts");
    assert!(!before.contains(end) || !rest.contains(start), "once");
    rest.split_once(end).expect("it ends").0
}

fn data_of(page: &str) -> serde_json::Value {
    let data = between(page, "<script type=\"application/json\" id=\"data\">", "</script>");
    serde_json::from_str(data).expect("JSON")
}

#[test]
fn a_page_holds_all_that_is_drawn() {
    let other = sweep_run("memcached 1.6.18", 60.0, 310_000.0);
    let runs = [plain_run(), sweep_run("sunder, memory", 30.0, 900_000.0), other];
    let page = page::page(&runs);
    keep("runs.html", &page);
    let data = data_of(&page);
    assert_eq!(data.as_array().expect("runs").len(), 3);
    assert_eq!(data[0]["label"], "memcached 1.6.18, closed loop");
    assert_eq!(data[0]["shown"], 0);
    assert_eq!(data[1]["knee"], 6);
    assert_eq!(data[1]["shown"], 6);
    assert_eq!(data[1]["steps"].as_array().expect("steps").len(), 9);
    let drawn = &data[0]["steps"][0];
    assert_eq!(drawn["intervals"].as_array().expect("intervals").len(), 50);
    let points = drawn["all"]["points"].as_array().expect("points");
    assert_eq!(points.len(), runs[0].steps[0].latency.all.percentiles.len());
    assert_eq!(points.last().expect("points")[0], 1.0);
    for id in ["figures", "spectrum", "sweep", "time", "setups", "notes", "legend"] {
        assert_eq!(page.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
    }
}

#[test]
fn a_page_asks_the_network_for_nothing() {
    let page = page::page(&[plain_run()]);
    assert!(page.contains("content=\"default-src 'none'; style-src 'unsafe-inline'; script-src"));
    // The names of SVG's elements are no address that anybody asks.
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for word in ["http:", "https:", "src=", "href=", "@import", "url(", "fetch(", "innerHTML"] {
        assert!(!page.contains(word), "{word}");
    }
}

#[test]
fn a_page_is_well_formed() {
    let page = page::page(&[evil_run(), sweep_run("b", 30.0, 900_000.0)]);
    let (markup, _) = page.split_once("<script type=\"application/json\"").expect("data");
    let (before, rest) = markup.split_once("<style>").expect("a style");
    let (_, after) = rest.split_once("</style>").expect("an end of it");
    let mut open: Vec<&str> = Vec::new();
    for tag in [before, after].concat().split('<').skip(1).collect::<Vec<_>>() {
        let (tag, _) = tag.split_once('>').expect("every tag ends");
        let name = tag.split([' ', '\n']).next().expect("a name");
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop().map(str::to_string), Some(name.to_string())),
            None if ["!doctype", "meta"].contains(&name) || tag.ends_with('/') => {}
            None => open.push(Box::leak(name.to_string().into_boxed_str())),
        }
    }
    // What the data and the script still stand in.
    assert_eq!(open, ["html", "body"]);
}

#[test]
fn no_label_does_harm_in_a_page() {
    let page = page::page(&[evil_run()]);
    keep("hostile.html", &page);
    assert_eq!(data_of(&page)[0]["label"], EVIL);
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script").count(), 2);
    assert!(!page.contains("<!--"));
    let shown = "&lt;/script&gt;&lt;script&gt;document.title=&#39;hurt&#39;&lt;/script&gt;";
    // Title, heading, figures, setups (13 fields, the label as its head), notes (head, one note).
    assert_eq!(page.matches(shown).count(), 1 + 1 + 1 + 13 + 2);
    // What looks like a mark of the template stays what it is.
    assert_eq!(page.matches("<li>{{data}}</li>").count(), 1);
}

#[test]
fn the_server_is_named_and_a_note_that_is_repeated_is_told_once() {
    let mut first = plain_run();
    first.notes = vec!["the same".into(), "twice".into(), "twice".into()];
    let mut second = plain_run();
    second.notes = vec!["the same".into(), "another".into()];
    second.server = None;
    let text = table::tables(&[first.clone(), second.clone()], None);
    for (line, times) in [
        ("  server's version: 1.6.18\n", 1),
        ("  server's version: not told\n", 1),
        ("  note: the same (so too 1 of the results below)\n", 1),
        ("  note: the same", 1),
        ("  note: twice (2 times)\n", 1),
        ("  note: twice", 1),
        ("  note: another\n", 1),
    ] {
        assert_eq!(text.matches(line).count(), times, "{line} in {text}");
    }
    let page = page::page(&[first, second]);
    assert_eq!(page.matches("<li>the same").count(), 1);
    assert!(page.contains(">1.6.18<") && page.contains(">not told<"));
}

#[test]
fn setups_mark_where_runs_differ_and_only_there() {
    let first = plain_run();
    let mut second = plain_run();
    second.setup.connections = 2000;
    second.started_utc = "later".into();
    let page = page::page(&[first.clone(), second]);
    assert_eq!(page.matches("<tr class=\"differ\">").count(), 1);
    let row = between(&page, "<tr class=\"differ\">", "</tr>");
    assert!(row.contains(">connections<") && row.contains(">1,000<") && row.contains(">2,000<"));
    assert_eq!(page::page(&[first.clone(), first]).matches("<tr class=\"differ\">").count(), 0);
}

#[test]
fn a_table_has_every_kind_and_all_that_went_wrong() {
    let mut run = plain_run();
    run.steps[0].mismatches = 4321;
    let text = table::table(&run, None);
    for part in [
        "memcached 1.6.18\n",
        "closed loop, 1,000 connections of 1 request at once, text over tcp to 127.0.0.1:11211\n",
        "100,000 keys (zipf 0.99) of 30 B, values of 100 B, 90 % gets, 10 s after 1 s of warm-up\n",
        "requests/s  240,000\n",
        "mismatches  4,321\n",
        "latency, µs",
        "\n  all ",
        "\n  get ",
        "\n  set ",
        "  note: a closed loop sees a stall only once a connection\n",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    let ends = text.lines().skip_while(|line| !line.contains("latency")).take(4);
    let widths: Vec<usize> = ends.map(|line| line.chars().count()).collect();
    assert!(widths.iter().all(|width| *width == widths[0]), "columns end together\n{text}");
}

#[test]
fn a_table_of_a_sweep_marks_the_knee() {
    let run = sweep_run("sunder", 30.0, 1_000_000.0);
    let text = table::table(&run, None);
    let mut marked = text.lines().filter(|line| line.starts_with("  knee  "));
    let knee = marked.next().expect("a knee");
    assert!(marked.next().is_none() && !text.contains('>'), "{text}");
    assert!(knee.contains(" 980,000 "), "{knee}");
    let told = "\n  knee at 980,000 requests/s: the highest rate up to which the server kept up\n";
    assert!(text.contains(told), "{text}");
    let all = table::table(&RunResult { knee: Some(8), ..run.clone() }, None);
    assert!(all.contains("kept up with every rate that was tried"), "{all}");
    let none = table::table(&RunResult { knee: None, ..run }, None);
    assert!(none.contains("no knee: the server did not even keep up with the lowest"), "{none}");
}

#[test]
fn several_runs_are_compared_with_the_first() {
    let mut runs = vec![plain_run(), plain_run(), sweep_run("sunder", 30.0, 960_000.0)];
    runs[1].steps[0].rate *= 2.0;
    let text = table::tables(&runs, None);
    let (_, compared) = text.split_once("side by side").expect("a comparison");
    let lines: Vec<&str> = compared.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[1].contains(" 240,000     1.00 "), "{}", lines[1]);
    assert!(lines[2].contains(" 480,000     2.00 "), "{}", lines[2]);
    assert!(lines[3].starts_with("  sunder (knee)"), "{}", lines[3]);
    assert!(!table::tables(&runs[..1], None).contains("side by side"));
}

/// What was due counts whenever it was answered; the rate is of the answers that came in time.
#[test]
fn a_table_tells_what_was_due_from_what_was_answered() {
    let mut random = Random(3);
    let mut slow = run("slow", vec![step(&mut random, 80.0, 1e6, Some(2_000.0), 0.1)], None);
    slow.steps[0].rate = 1_260.0;
    let text = table::table(&slow, None);
    assert!(text.contains("requests/s  1,260 answered, 2,000 due\n"), "{text}");
    let told = "requests    20,000 that were due in 10 s were answered; 12,600 answers came in \
                that time, the rest later\n";
    assert!(text.contains(told), "{text}");
    slow.steps[0].rate = 2_000.0;
    let text = table::table(&slow, None);
    assert!(text.contains("requests    20,000 that were due in 10 s were answered\n"), "{text}");
}

/// What was never sent has no latency; its wait is named as one.
#[test]
fn a_table_tells_what_was_sent_from_what_was_not() {
    let mut random = Random(3);
    let step = step(&mut random, 80.0, 1e6, Some(2_000.0), 0.1);
    let mut slow = run("slow", vec![step], None);
    let all = slow.steps[0].latency.all.count;
    slow.steps[0].requests = all - 50;
    let text = table::table(&slow, None);
    assert!(text.contains("not sent    50 that were due\n"), "{text}");
    assert!(text.contains("\n  all, not sent ") && text.contains("\n  set "), "{text}");
    let mut sweep = sweep_run("slow", 30.0, 1_000_000.0);
    sweep.steps.iter_mut().for_each(|step| step.requests = step.latency.all.count);
    assert!(!table::table(&sweep, None).contains("not sent"));
    sweep.steps[8].requests = 0;
    let text = table::table(&sweep, None);
    let last = text.lines().find(|line| line.contains(" 1,260,000 ")).expect("the last rate");
    assert!(last.contains(" - ") && last.ends_with(&format!(" {}", units::grouped(all))), "{text}");
    slow.steps[0].requests = 0;
    let text = table::table(&slow, None);
    assert!(
        text.contains("\n  no latencies: of the requests that were due none was sent"),
        "{text}"
    );
    assert!(!text.contains("latency, µs"), "{text}");
}

#[test]
fn a_table_is_no_wider_than_its_terminal() {
    let mut run = plain_run();
    run.notes = vec!["a note of several words that does not fit ".repeat(5), "x".repeat(99)];
    let narrow = table::table(&run, Some(60));
    let is_long = |line: &&str| line.chars().count() > 60;
    // Columns of figures stay as they are, and so does a word that is too long for any line.
    let long: Vec<&str> = narrow.lines().filter(is_long).collect();
    assert!(
        long.iter().all(|line| line.contains("  p50") || line.contains(".") || line.contains("xx"))
    );
    assert!(narrow.contains(
        "\n  note: a note of several words that does not fit a note of\n        several"
    ));
    let wide = table::table(&run, None);
    assert!(narrow.split_whitespace().eq(wide.split_whitespace()), "the same words");
    assert!(table::table(&run, Some(1)).contains("note: "));
}

#[test]
fn runs_with_one_label_are_told_apart() {
    let (mut many, mut binary) = (plain_run(), plain_run());
    many.setup.connections = 2000;
    binary.setup.protocol = "binary".into();
    let other = sweep_run("other", 30.0, 960_000.0);
    let runs = [plain_run(), many, binary, other, plain_run()];
    let expected = [
        "memcached 1.6.18, text, 1,000 connections (1)",
        "memcached 1.6.18, text, 2,000 connections",
        "memcached 1.6.18, binary, 1,000 connections",
        "other",
        "memcached 1.6.18, text, 1,000 connections (2)",
    ];
    assert_eq!(names(&runs), expected);
    let page = page::page(&runs);
    assert!(page.contains(&format!("<title>{}", expected[0])), "{page}");
    let data = data_of(&page);
    let drawn: Vec<&str> = (0..5).map(|n| data[n]["label"].as_str().expect("a name")).collect();
    assert_eq!(drawn, expected);
    let tables = table::tables(&runs, None);
    let (_, compared) = tables.split_once("side by side").expect("a comparison");
    assert!(expected.iter().all(|name| compared.contains(name)), "{compared}");
    assert_eq!(names(&runs[..1]), ["memcached 1.6.18"]);
}

#[test]
fn a_terminal_gets_no_control_characters() {
    let runs = [evil_run(), evil_run()];
    let text = table::tables(&runs, None);
    assert!(text.contains("\u{fffd}[2J"));
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
}

/// What is wrong with a file quotes it, and so does a command line that makes no sense.
#[test]
fn what_is_said_of_a_file_has_no_control_characters_either() {
    let folder = Folder::new("escapes");
    let path = folder.0.join("evil.json");
    let json = plain_run().to_json();
    let quoting = [
        json.replacen("\"loop\":\"closed\"", "\"loop\":\"\\u001b[2Jx\"", 1),
        json.replacen("\"label\":", "\"\\u001b]0;x\\u0007\":0,\"label\":7,\"was\":", 1),
        json.replacen("\"requests\":", "\"requests\":\"\\u009b31m\",\"were\":", 1),
    ];
    for text in quoting {
        assert_ne!(text, json);
        fs::write(&path, text).expect("a file");
        let error = ask(&[&path], None, false).expect_err("it is damaged").to_string();
        assert!(error.contains("damaged") && !error.chars().any(char::is_control), "{error:?}");
    }
}

#[test]
fn counts_that_no_run_can_have_are_shown_without_a_panic() {
    let mut run = plain_run();
    let step = &mut run.steps[0];
    let most = u64::MAX;
    (step.hits, step.misses, step.errors, step.mismatches) = (most, most, most, most);
    (step.requests, step.bytes_sent, step.bytes_received) = (most, most, most);
    (step.rate, step.elapsed_s) = (f64::MAX, f64::MAX);
    step.latency.all.max_ns = most;
    step.latency.all.mean_ns = f64::MAX;
    for interval in &mut step.intervals {
        (interval.requests, interval.max_ns, interval.p99_ns) = (most, most, most);
    }
    run.setup.connections = most;
    run.setup.keys = most;
    let text = table::tables(&[run.clone(), run.clone()], Some(80));
    assert!(text.contains("18,446,744,073,709,551,615"), "{text}");
    assert!(page::page(&[run.clone()]).contains("18,446,744,073,709,551,615"));
    assert!(!hgrm::hgrm(&run.steps[0].latency.all).is_empty());
}

#[test]
fn a_run_without_a_single_request_is_reported_too() {
    let mut run = plain_run();
    let nothing = Spectrum::of(&empty());
    run.steps[0].latency =
        Latency { all: nothing.clone(), get: nothing.clone(), set: nothing.clone() };
    run.steps[0].intervals.clear();
    (run.steps[0].hits, run.steps[0].misses) = (0, 0);
    assert!(table::tables(&[run.clone(), run.clone()], None).contains("  all"));
    let page = page::page(&[run]);
    assert_eq!(data_of(&page)[0]["steps"][0]["all"]["count"], 0);
    keep("nothing.html", &page);
}

#[test]
fn the_command_writes_what_it_is_asked_for() {
    let folder = Folder::new("report");
    let a = folder.save("a.json", &plain_run());
    let b = folder.save("b.json", &sweep_run("sunder", 30.0, 900_000.0));
    let page = folder.0.join("page.html");
    let printed = ask(&[&a, &b], Some(&page), true).expect("a report");
    assert_eq!(printed.lines().count(), 1 + 9 + 1, "{printed}");
    assert!(fs::read_to_string(&page).expect("written").contains("<!doctype html>"));
    for name in ["a.hgrm", "b-1.hgrm", "b-9.hgrm"] {
        let text = fs::read_to_string(folder.0.join(name)).expect("written");
        assert!(text.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n\n"));
    }
    let printed = ask(&[&a], None, false).expect("a report");
    assert!(printed.starts_with("memcached 1.6.18\n"), "{printed}");
}

/// Writes a page where somebody wants to look at it.
fn keep(name: &str, page: &str) {
    if let Some(folder) = std::env::var_os("SUNDER_REPORT_EXAMPLES") {
        fs::write(Path::new(&folder).join(name), page).expect("a folder that is there");
    }
}

#[test]
fn a_bad_result_is_named_and_nothing_is_written() {
    let folder = Folder::new("report-bad");
    let good = folder.save("good.json", &plain_run());
    let bad = folder.0.join("bad.json");
    fs::write(&bad, &plain_run().to_json()[..500]).expect("writes");
    let page = folder.0.join("page.html");
    let error = ask(&[&good, &bad], Some(&page), true).expect_err("refused");
    assert_eq!(
        error.to_string(),
        format!("{}: ends in the middle: was it written to its end?", bad.display())
    );
    assert!(!page.exists() && !folder.0.join("good.hgrm").exists());
    let error = ask(&[&good], Some(&folder.0.join("none/page.html")), false).expect_err("refused");
    assert!(matches!(error, ReportError::Write(..)), "{error}");
}
