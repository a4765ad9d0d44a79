//! The time of one request in the parsers and encoders alone.
//!
//! `cargo bench --bench parser [-- FILTER]`; its instructions are counted by `parts`.

#[path = "cases/parser.rs"]
mod cases;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("parser");
    for (name, mut run) in cases::cases() {
        group.bench_function(name, |bencher| bencher.iter(&mut run));
    }
    group.finish();
    criterion.final_summary();
}
