//! `sunder stat`: a line for some seconds, as a table or as JSON, for pipes and logs.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use serde::Serialize;

use super::fail;
use super::figures::time_of_day;
use super::source::Source;
use crate::admin::Second;

/// Lines between two heads on a terminal.
const HEAD_EVERY: u64 = 20;

/// Time between two questions while a second is awaited.
const WAIT: Duration = Duration::from_millis(200);

/// What is to be printed.
#[derive(Debug)]
pub struct StatRequest {
    /// The admin address, HOST:PORT.
    pub address: String,
    /// Seconds of a line.
    pub interval: usize,
    /// Lines; without it there is no end.
    pub count: Option<u64>,
    /// An object of JSON a line.
    pub is_json: bool,
}

/// Some seconds as one.
#[derive(Debug, PartialEq, Serialize)]
struct Line {
    at: u32,
    gets: f64,
    sets: f64,
    hit_ratio: Option<f64>,
    l1_ratio: Option<f64>,
    l2_ratio: Option<f64>,
    get_p50_us: Option<f64>,
    get_p99_us: Option<f64>,
    get_p999_us: Option<f64>,
    connections: u64,
    busy: f64,
    evictions: f64,
    bytes_in: f64,
    bytes_out: f64,
}

const HEAD: &str = "time-UTC    gets/s    sets/s  hit%   l1%   l2%  p50-us  p99-us p99.9us  conns \
                    busy%  evict/s       in-B/s      out-B/s";

impl Line {
    /// `rows` is not empty.
    fn new(rows: &[Second]) -> Line {
        let sum = |value: fn(&Second) -> u64| rows.iter().map(value).sum::<u64>() as f64;
        let length: f64 = rows.iter().map(|row| row.length).sum();
        let rate = |value: fn(&Second) -> u64| sum(value) / length.max(0.001);
        let (l1, l2) = (sum(|row| row.l1_hits), sum(|row| row.l2_hits));
        let all = l1 + l2 + sum(|row| row.misses);
        let ratio = |part: f64| (all > 0.0).then(|| part / all);
        // Those of several seconds cannot be added: the worst one counts.
        let worst = |of: fn(&Second) -> f64| {
            let timed = rows.iter().filter(|row| row.get.count > 0);
            timed.map(of).reduce(f64::max)
        };
        let busy = rows.iter().flat_map(|row| &row.busy);
        let workers = rows.iter().map(|row| row.busy.len()).sum::<usize>().max(1);
        let last = rows.last().expect("one at least");
        Line {
            at: last.at,
            gets: rate(|row| row.gets),
            sets: rate(|row| row.sets),
            hit_ratio: ratio(l1 + l2),
            l1_ratio: ratio(l1),
            l2_ratio: ratio(l2),
            get_p50_us: worst(|row| row.get.p50),
            get_p99_us: worst(|row| row.get.p99),
            get_p999_us: worst(|row| row.get.p999),
            connections: last.connections,
            busy: busy.sum::<f64>() / workers as f64,
            evictions: rate(|row| row.evictions),
            bytes_in: rate(|row| row.bytes_in),
            bytes_out: rate(|row| row.bytes_out),
        }
    }

    fn columns(&self) -> String {
        let part = |ratio: Option<f64>| ratio.map_or("-".into(), |it| format!("{:.1}", it * 100.0));
        let time = |us: Option<f64>| us.map_or("-".into(), |it| format!("{it:.1}"));
        format!(
            "{} {:9.0} {:9.0} {:>5} {:>5} {:>5} {:>7} {:>7} {:>7} {:6} {:5.1} {:8.0} {:12.0} \
             {:12.0}",
            time_of_day(self.at),
            self.gets,
            self.sets,
            part(self.hit_ratio),
            part(self.l1_ratio),
            part(self.l2_ratio),
            time(self.get_p50_us),
            time(self.get_p99_us),
            time(self.get_p999_us),
            self.connections,
            self.busy * 100.0,
            self.evictions,
            self.bytes_in,
            self.bytes_out,
        )
    }
}

/// Prints the seconds from now on, until there are enough or nobody reads them.
pub fn stat(request: &StatRequest) -> ExitCode {
    let mut source = Source::new(request.address.clone());
    // What was before is not asked for.
    let mut pid = match source.ask() {
        Ok(feed) => feed.pid,
        Err(lost) => return fail("stat", lost),
    };
    let heads_every = if io::stdout().is_terminal() { HEAD_EVERY } else { u64::MAX };
    let (mut rows, mut printed) = (Vec::new(), 0);
    while request.count.is_none_or(|count| printed < count) {
        sleep(WAIT);
        let feed = match source.ask() {
            Ok(feed) => feed,
            Err(lost) => return fail("stat", lost),
        };
        if feed.pid != pid {
            pid = feed.pid;
            rows.clear();
        }
        rows.extend(feed.seconds);
        while rows.len() >= request.interval && request.count.is_none_or(|count| printed < count) {
            let some: Vec<Second> = rows.drain(..request.interval).collect();
            let has_head = !request.is_json && printed % heads_every == 0;
            let head = has_head.then_some(HEAD);
            match print(head, &Line::new(&some), request.is_json) {
                Ok(()) => printed += 1,
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
                Err(error) => return fail("stat", format_args!("standard output: {error}")),
            }
        }
    }
    ExitCode::SUCCESS
}

fn print(head: Option<&str>, line: &Line, is_json: bool) -> io::Result<()> {
    let text = if is_json { serde_json::to_string(line)? } else { line.columns() };
    let mut out = io::stdout().lock();
    if let Some(head) = head {
        writeln!(out, "{head}")?;
    }
    writeln!(out, "{text}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Pace;

    fn second(gets: u64, p99: f64) -> Second {
        let get = Pace { count: gets, p50: 10.0, p99, p999: 2.0 * p99, heat: vec![] };
        Second {
            at: 61,
            length: 1.0,
            gets,
            sets: 10,
            l1_hits: gets / 2,
            l2_hits: gets / 4,
            misses: gets / 4,
            connections: 7,
            busy: vec![0.5, 0.25],
            get,
            ..Second::default()
        }
    }

    #[test]
    fn seconds_are_summed_and_the_worst_time_counts() {
        let line = Line::new(&[second(100, 900.0), second(300, 50.0)]);
        assert_eq!((line.gets, line.sets, line.connections), (200.0, 10.0, 7));
        assert_eq!((line.l1_ratio, line.l2_ratio), (Some(0.5), Some(0.25)));
        assert_eq!((line.hit_ratio, line.get_p99_us), (Some(0.75), Some(900.0)));
        assert_eq!(line.busy, 0.375);
    }

    #[test]
    fn columns_stand_below_their_heads() {
        for line in [Line::new(&[second(400, 900.0)]), Line::new(&[second(0, 0.0)])] {
            let text = line.columns();
            assert_eq!(text.len(), HEAD.len(), "{HEAD}\n{text}");
            assert_eq!(text.split_whitespace().count(), HEAD.split_whitespace().count());
        }
        assert!(Line::new(&[second(0, 0.0)]).columns().contains(" - "));
    }
}
