//! The metrics of a server under the names and in the format of Rend's `/metrics`, so that what
//! watches a Rend goes on.
//!
//! A line is `rend_NAME|TAG*VALUE|.. NUMBER`. Rend counts per tier what it asks of each; what
//! sunder does not count it leaves out rather than invents. Times are in nanoseconds, since the
//! start: Rend's percentiles are of its last 32,768 requests, and begin anew at each scrape.

use std::fmt::Write;

use super::history::{tier_times, times};
use super::view::View;
use crate::base::latency::{Ending, Kind, Level, Times, Verb, upper_ns};
use crate::base::stats::Counter;

/// Rend's name of a counter, and those here that make it up.
const COUNTERS: &[(&str, &[Counter])] = &[
    ("bytes_read_remote", &[Counter::BytesRead]),
    ("bytes_written_remote", &[Counter::BytesWritten]),
    ("cmd_get", &[Counter::CmdGet]),
    ("cmd_get_keys", &[Counter::CmdGet]),
    ("cmd_get_hits", &[Counter::GetHits]),
    ("cmd_get_misses", &[Counter::GetMisses]),
    ("cmd_get_hits_l2", &[Counter::GetHitsL2]),
    ("cmd_get_misses_l2", &[Counter::GetMisses]),
    ("cmd_touch", &[Counter::CmdTouch]),
    ("cmd_touch_hits", &[Counter::TouchHits]),
    ("cmd_touch_misses", &[Counter::TouchMisses]),
    ("cmd_delete", &[Counter::DeleteHits, Counter::DeleteMisses]),
    ("cmd_delete_hits", &[Counter::DeleteHits]),
    ("cmd_delete_misses", &[Counter::DeleteMisses]),
    ("conn_established_ext", &[Counter::TotalConnections]),
    ("err_app_err", &[Counter::LinkFailures]),
    ("inconsistency_detected", &[Counter::InconsistencyDetected]),
];

/// Rend's names of commands.
const COMMANDS: &[(&str, Verb)] = &[
    ("get", Verb::Get),
    ("gat", Verb::GetAndTouch),
    ("touch", Verb::Touch),
    ("set", Verb::Set),
    ("add", Verb::Add),
    ("replace", Verb::Replace),
    ("append", Verb::Append),
    ("prepend", Verb::Prepend),
    ("delete", Verb::Delete),
];

/// The ends of Rend's 276 buckets, which are those of Atlas: each nanosecond up to 3, then steps of
/// a third of each power of four. A bucket has the times below its end and not below the last
/// one's.
fn atlas_limits() -> Vec<u64> {
    let mut limits = vec![1, 2, 3];
    let mut power = 2_u32;
    // Its signed numbers have no steps above 2^62.
    while power < 62 {
        let base = 1_u64 << power;
        let step = base / 3;
        limits.extend((base..base * 4 - step).step_by(step as usize));
        power += 2;
    }
    limits.push(i64::MAX as u64);
    limits
}

fn counter(out: &mut String, name: &str, value: u64) {
    let _ = writeln!(out, "rend_{name}|type*counter|dataType*uint64 {value}");
}

fn gauge(out: &mut String, name: &str, value: u64) {
    let _ = writeln!(out, "rend_{name}|type*gauge|dataType*uint64 {value}");
}

fn histogram(out: &mut String, name: &str, limits: &[u64], times: &Times) {
    let count = times.count();
    let line = |out: &mut String, statistic: &str, value: f64| {
        let _ = writeln!(
            out,
            "rend_hist_{name}|type*gauge|dataType*float64|statistic*{statistic} {value:.6}"
        );
    };
    let percents = (0..=20).map(|n| f64::from(n * 5)).chain([99.0, 99.9]);
    for percent in percents {
        line(out, &format!("percentile{percent}"), times.quantile_ns(percent / 100.0) as f64);
    }
    let average = if count == 0 { 0.0 } else { times.sum_ns as f64 / count as f64 };
    line(out, "average", average);
    for statistic in ["count", "kept"] {
        let _ = writeln!(
            out,
            "rend_hist_{name}|type*counter|dataType*uint64|statistic*{statistic} {count}"
        );
    }
    let mut counts = vec![0_u64; limits.len()];
    for (bucket, entries) in times.buckets.iter().enumerate().filter(|(_, n)| **n > 0) {
        let ns = upper_ns(bucket);
        counts[limits.partition_point(|limit| *limit <= ns).min(limits.len() - 1)] += entries;
    }
    for (n, count) in counts.iter().enumerate() {
        let _ = writeln!(
            out,
            "rend_bhist_{name}|type*counter|dataType*uint64|statistic*percentile|\
             percentile*T{n:04X} {count}"
        );
    }
}

/// All of them.
pub fn text(view: &View) -> String {
    let totals = view.totals();
    let all = times(view);
    let mut out = String::with_capacity(256 * 1024);
    for (name, counters) in COUNTERS {
        counter(&mut out, name, counters.iter().map(|&counter| totals.get(counter)).sum());
    }
    let in_l1 = totals.get(Counter::GetHits).saturating_sub(totals.get(Counter::GetHitsL2));
    counter(&mut out, "cmd_get_hits_l1", in_l1);
    counter(&mut out, "cmd_get_misses_l1", totals.get(Counter::CmdGet).saturating_sub(in_l1));
    gauge(&mut out, "conn_open_ext", totals.get(Counter::CurrConnections));
    let limits = atlas_limits();
    for &(name, verb) in COMMANDS {
        let sum = |is_it: &dyn Fn(&Kind) -> bool| {
            let mut sum = Times::default();
            let those = all.iter().filter(|(kind, _)| kind.verb == verb && is_it(kind));
            those.for_each(|(_, times)| sum.merge(times));
            sum
        };
        let every = sum(&|_| true);
        if every.count() == 0 {
            continue;
        }
        if !matches!(verb, Verb::Get | Verb::Touch | Verb::Delete) {
            counter(&mut out, &format!("cmd_{name}"), every.count());
            for (ending, word) in
                [(Ending::Ok, "stored"), (Ending::Miss, "not_stored"), (Ending::Error, "errors")]
            {
                let word = match (verb, ending) {
                    (Verb::GetAndTouch, Ending::Ok) => "hits",
                    (Verb::GetAndTouch, Ending::Miss) => "misses",
                    _ => word,
                };
                let count = sum(&|kind| kind.ending == ending).count();
                counter(&mut out, &format!("cmd_{name}_{word}"), count);
            }
        }
        histogram(&mut out, name, &limits, &every);
    }
    for &level in Level::ALL {
        let times = tier_times(view, level);
        if times.count() > 0 {
            histogram(&mut out, &format!("tier_{}", level.name()), &limits, &times);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_atlas() {
        let limits = atlas_limits();
        assert_eq!(limits.len(), 276, "T0000 to T0113");
        assert!(limits.windows(2).all(|two| two[0] < two[1]), "{limits:?}");
        // From its table of percentile buckets.
        assert_eq!(limits[..16], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 21]);
        assert_eq!(limits[275], i64::MAX as u64);
    }
}
