//! The time to split a value into chunks and to assemble it again.
//!
//! `cargo bench --bench layout [-- FILTER]`; its instructions are counted by `parts`.

#[path = "cases/layout.rs"]
mod cases;

use criterion::{Criterion, Throughput};

fn main() {
    sunder::base::buffer::prepare_thread();
    let mut criterion = Criterion::default().configure_from_args();
    for bytes in [1_000, 10_000, 1_000_000] {
        let mut group = criterion.benchmark_group(format!("layout, {bytes} B"));
        group.throughput(Throughput::Bytes(bytes as u64));
        for (name, mut run) in cases::cases(bytes) {
            group.bench_function(name, |bencher| bencher.iter(&mut run));
        }
        group.finish();
    }
    criterion.final_summary();
}
