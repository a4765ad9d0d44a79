//! Made-up results, for tests.

use super::*;

/// An empty histogram of nanoseconds, up to a minute.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("sane bounds")
}

/// A step of ten seconds in which nothing went wrong, with these latencies of gets and sets.
pub fn step(
    rate_target: Option<f64>,
    rate: f64,
    get: &Histogram<u64>,
    set: &Histogram<u64>,
    intervals: Vec<Interval>,
) -> Step {
    let mut all = get.clone();
    all.add(set).expect("the same bounds");
    Step {
        rate_target,
        elapsed_s: 10.0,
        requests: all.len(),
        hits: get.len(),
        misses: 0,
        errors: 0,
        mismatches: 0,
        bytes_sent: all.len() * 40,
        bytes_received: all.len() * 140,
        rate,
        latency: Latency {
            all: Spectrum::of(&all),
            get: Spectrum::of(get),
            set: Spectrum::of(set),
        },
        intervals,
        outages: Outages::default(),
    }
}

/// A run of these steps.
pub fn run(label: &str, steps: Vec<Step>, knee: Option<usize>) -> RunResult {
    RunResult {
        format: FORMAT.into(),
        label: label.into(),
        started_utc: "2026-11-23T05:40:00Z".into(),
        version: "0.1.0".into(),
        machine: Machine { cpu: "Example CPU @ 2.10GHz".into(), cores: 2, kernel: "6.1.0".into() },
        command: format!("sunder bench --label '{label}' -c 1000 127.0.0.1:11211"),
        setup: Setup {
            transport: "tcp".into(),
            protocol: "text".into(),
            target: "127.0.0.1:11211".into(),
            loop_: if steps[0].rate_target.is_some() { Loop::Open } else { Loop::Closed },
            connections: 1000,
            depth: 1,
            multi_get: 1,
            get_share: 0.9,
            keys: 100_000,
            skew: "zipf 0.99".into(),
            key_bytes: "30".into(),
            value_bytes: "100".into(),
            ttl_s: 0,
            warmup_s: 1.0,
            duration_s: 10.0,
        },
        steps,
        knee,
        notes: Vec::new(),
        server: Some("1.6.18".into()),
    }
}
