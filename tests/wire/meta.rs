//! Meta commands: what memcached 1.6.45 answered to the requests in `meta.tsv`, sunder must answer,
//! in one piece and split at every byte boundary.
//!
//! The memcached that the rest of the table runs is older, and answers some of them otherwise.

use crate::Score;
use crate::compositions;
use crate::meta_generated;
use crate::meta_listed::is_listed;
use crate::run::{Control, Pace, Target, run};
use crate::support::{self, Server};
use crate::table::{Case, Compare, Protocol};

/// The key that stands for KEY.
const KEY: &str = "meta-0";

/// What follows the answers, normalised.
const SENTINEL_ANSWER: &[u8] = b"VERSION *\r\n";

/// Interval of the tried cuts where another full run covers the code.
const EVERY: usize = 13;

/// The same with other tiers.
const COMPOSITIONS_EVERY: usize = 61;

/// Failing runs of a case after which it is abandoned.
const FAULTS_PER_CASE: usize = 2;

/// Rows with a line of less than two bytes, which memcached 1.6.18 and sunder answer with `ERROR`.
const SHORT_LINES: &[&str] = &["base64 key", "line ms KEY 3"];

/// One row: requests, and the answers with `*` for numbers that may differ.
struct Row {
    case: Case,
    answers: Vec<u8>,
}

/// All rows on every composition, of the rows those whose name has `filter`, of the compositions
/// those whose name has `of`.
pub fn run_all(filter: &str, of: &str, score: &mut Score) -> Result<(), String> {
    let (_memcached, address) = Server::memcached()?;
    let mut oracle = Control::new(Target::Tcp(address));
    let mut rows = rows();
    rows.retain(|row| row.case.name.contains(filter));
    let generated = generated(&mut oracle, filter)?;
    for (workers, every) in [("1", 1), ("2", EVERY)] {
        let name = format!("memory, l1_only, workers {workers}");
        if !name.contains(of) {
            continue;
        }
        let port = support::free_port();
        let args = ["-p", &port.to_string(), "--workers", workers, "--poll", "adaptive"];
        let _sunder = Server::sunder(&args)?;
        let mut control = Control::new(Target::Tcp(([127, 0, 0, 1], port).into()));
        control.every = every;
        on_server(&name, &mut control, &rows, None, score);
        control.every = if every == 1 { 1 } else { COMPOSITIONS_EVERY };
        on_server(&format!("{name}, generated"), &mut control, &generated, None, score);
    }
    let older = answers_of(&mut oracle, &rows)?;
    for composition in compositions::all().into_iter().filter(|it| it.name.contains(of)) {
        let name = &composition.name;
        let running = composition.start().map_err(|error| format!("{name}: {error}"))?;
        let mut control = Control::new(Target::Tcp(([127, 0, 0, 1], running.port).into()));
        control.every = composition.every(COMPOSITIONS_EVERY);
        let older = composition.has_memcached().then_some(older.as_slice());
        on_server(name, &mut control, &rows, older, score);
    }
    Ok(())
}

/// Rows that memcached 1.6.18 answers.
fn generated(oracle: &mut Control, filter: &str) -> Result<Vec<Row>, String> {
    let cases = meta_generated::cases(KEY);
    let cases = cases.into_iter().filter(|case| case.name.contains(filter));
    let mut rows: Vec<Row> = cases.map(|case| Row { case, answers: vec![] }).collect();
    let answers = answers_of(oracle, &rows)?;
    rows.iter_mut().zip(answers).for_each(|(row, answers)| row.answers = answers);
    Ok(rows)
}

/// What memcached 1.6.18 answers to the rows, with `*` for numbers that may differ.
fn answers_of(control: &mut Control, rows: &[Row]) -> Result<Vec<Vec<u8>>, String> {
    let answer = |row: &Row| {
        let answer = run(control, &row.case, None, Pace::Ping);
        answer.map(|answer| without_numbers(&answer)).map_err(|stuck| stuck.to_string())
    };
    rows.iter().map(answer).collect()
}

/// An answer with `*` for a cas and for the time since the last use.
fn without_numbers(answer: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    let mut rest = answer;
    while let Some((&first, behind)) = rest.split_first() {
        out.push(first);
        rest = behind;
        if out.ends_with(b" c") || out.ends_with(b" l") {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits > 0 {
                out.push(b'*');
            }
            rest = &rest[digits..];
        }
    }
    out
}

/// All rows on one server. `older` are the answers of the memcached that may be behind it.
fn on_server(
    name: &str,
    control: &mut Control,
    rows: &[Row],
    older: Option<&[Vec<u8>]>,
    score: &mut Score,
) {
    let before = (score.passed, score.failed);
    let mut listed = 0;
    for (at, row) in rows.iter().enumerate() {
        let mut allowed = vec![row.answers.as_slice()];
        allowed.extend(older.map(|older| older[at].as_slice()));
        if is_listed(name, &row.case.name) {
            let result = match whole(control, row, &allowed) {
                Ok(()) => Err("it is listed, and no longer different".into()),
                Err(_) => Ok(()),
            };
            score.check(&format!("meta, {name}: {}", row.case.name), result);
            listed += 1;
            continue;
        }
        let mut result = at_all_cuts(control, row, &allowed);
        // A second may end between a request and the next.
        if result.is_err() {
            result = at_all_cuts(control, row, &allowed);
        }
        score.check(&format!("meta, {name}: {}", row.case.name), result);
    }
    let (passed, failed) = (score.passed - before.0 - listed, score.failed - before.1);
    println!("wire: meta, {name}: {passed} cases as memcached, {failed} not, {listed} as listed");
}

/// One row in one piece.
fn whole(control: &mut Control, row: &Row, allowed: &[&[u8]]) -> Result<(), String> {
    let answer = run(control, &row.case, None, Pace::Prefix).map_err(|stuck| stuck.to_string())?;
    match allowed.iter().any(|expected| is_as_expected(expected, &answer)) {
        true => Ok(()),
        false => Err(answer.escape_ascii().to_string()),
    }
}

fn at_all_cuts(control: &mut Control, row: &Row, allowed: &[&[u8]]) -> Result<(), String> {
    let mut faults = vec![];
    let cuts = row.case.cuts().into_iter().step_by(control.every).map(Some);
    for cut in std::iter::once(None).chain(cuts) {
        let answer = match run(control, &row.case, cut, Pace::Prefix) {
            Ok(answer) => answer,
            Err(stuck) => {
                control.stuck += 1;
                return Err(stuck.to_string());
            }
        };
        if allowed.iter().any(|expected| is_as_expected(expected, &answer)) {
            continue;
        }
        let (asked, expected, got) =
            (row.case.input.escape_ascii(), row.answers.escape_ascii(), answer.escape_ascii());
        faults
            .push(format!("cut {cut:?}: {asked}\n      expected {expected}\n      got      {got}"));
        if faults.len() == FAULTS_PER_CASE {
            break;
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n    ")) }
}

/// Whether an answer is the expected one, in which `*` is any number.
fn is_as_expected(mut expected: &[u8], mut answer: &[u8]) -> bool {
    while let Some((&first, rest)) = expected.split_first() {
        expected = rest;
        let digits = answer.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let length = match first {
            b'*' if digits > 0 => digits,
            _ if answer.first() == Some(&first) => 1,
            _ => return false,
        };
        answer = &answer[length..];
    }
    answer.is_empty()
}

fn rows() -> Vec<Row> {
    let lines = include_str!("meta.tsv").lines().filter(|line| !line.starts_with('#'));
    let rows: Vec<Row> = lines.enumerate().map(|(at, line)| row(at, line)).collect();
    assert!(rows.len() >= 570, "memcached 1.6.45 was asked that many");
    rows
}

fn row(at: usize, line: &str) -> Row {
    let mut columns = line.split('\t');
    let mut next = || columns.next().expect("three columns");
    let (name, requests, answers) = (next(), unescape(next()), unescape(next()));
    let case = Case {
        name: format!("{at} {name}"),
        protocol: Protocol::Text,
        setup: vec![],
        input: requests,
        with_sentinel: true,
        compare: Compare::Exact,
    };
    let mut answers = String::from_utf8(answers).expect("answers are text");
    if SHORT_LINES.contains(&name) {
        let end = answers.rfind("CLIENT_ERROR bad command line format").expect("the last answer");
        answers.replace_range(end.., "ERROR\r\nMN\r\n");
    }
    Row { case, answers: [answers.as_bytes(), SENTINEL_ANSWER].concat() }
}

/// The bytes of a column.
fn unescape(column: &str) -> Vec<u8> {
    let mut bytes = vec![];
    let column = column.replace("KEY", KEY);
    let mut chars = column.bytes();
    while let Some(byte) = chars.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match chars.next() {
            Some(b'r') => bytes.push(b'\r'),
            Some(b'n') => bytes.push(b'\n'),
            Some(b't') => bytes.push(b'\t'),
            Some(b'x') => {
                let digits = [chars.next(), chars.next()].map(|digit| digit.expect("two digits"));
                let digits = std::str::from_utf8(&digits).expect("digits");
                bytes.push(u8::from_str_radix(digits, 16).expect("digits"));
            }
            other => bytes.push(other.expect("an escape")),
        }
    }
    bytes
}
