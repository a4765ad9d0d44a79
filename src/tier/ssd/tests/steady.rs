//! A full log, for long.

use super::*;

/// Fills a log several times over; returns bytes written for each byte set once it was full.
fn amplification(lengths: &[usize], ttl_s: u32, gets: bool) -> f64 {
    let segment_bytes = 1 << 20;
    let options = Options { segment_bytes, object_bytes: 512, flush_ms: 1_000, ..options() };
    let part_bytes = part_bytes(32, segment_bytes);
    let mut bench = Bench::with(vec![0; part_bytes], options, 1);
    let mut before = (0, 0);
    let mut set_bytes = 0;
    let mut i = 0;
    while set_bytes < 6 * part_bytes {
        if before.0 == 0 && set_bytes > 3 * part_bytes {
            before = (bench.counter(Counter::SsdBytesSet), bench.counter(Counter::SsdBytesWritten));
        }
        let len = lengths[i % lengths.len()];
        let expiry = match ttl_s {
            0 => Expiry::NEVER,
            _ => Expiry::from_unix_s(bench.now.unix_s + ttl_s * (1 + i as u32 % 3)),
        };
        bench.set(format!("key{i:08}"), &vec![i as u8; len], expiry);
        set_bytes += len + 11;
        i += 1;
        // A hundredth of all keys is asked for all the time.
        if gets && i > 100 {
            bench.get(format!("key{:08}", i / 100 * 100));
            bench.get(format!("key{:08}", i / 3 / 100 * 100));
        }
        bench.turn();
        if i % 500 == 0 {
            bench.now.unix_s += 1;
        }
    }
    let set = bench.counter(Counter::SsdBytesSet) - before.0;
    let written = bench.counter(Counter::SsdBytesWritten) - before.1;
    assert_eq!(bench.counter(Counter::SsdNotWritten), 0, "reclaiming keeps ahead");
    assert!(bench.counter(Counter::SsdReclaimed) > 32);
    let factor = written as f64 / set as f64;
    // What was set last is there, as much as the disk has room for: of 32 segments 8 are kept free
    // for what comes, or are being filled.
    let kept = (i - i / 6..i).filter(|i| bench.get(format!("key{i:08}")).is_some()).count();
    let used = kept as f64 / (i / 6) as f64 * factor;
    assert!(ttl_s != 0 || used > 0.65, "{kept} of the last {}, {used:.2} of the disk", i / 6);
    factor
}

#[test]
fn a_full_log_writes_little_more_than_what_is_set() {
    let mixed: Vec<usize> = (0..97).map(|i| 100 + i * 37 % 900).collect();
    for (lengths, ttl_s, gets, limit) in [
        (&[4_000][..], 0, false, 1.10),
        (&[4_000], 0, true, 1.15),
        (&[1_000], 0, false, 1.22),
        (&[1_000], 0, true, 1.25),
        (&[2_000], 0, false, 1.20),
        (&mixed, 0, false, 1.35),
        (&mixed, 0, true, 1.35),
        (&mixed, 60, true, 1.35),
    ] {
        let factor = amplification(lengths, ttl_s, gets);
        println!("{} bytes first, ttl {ttl_s}, gets {gets}: {factor:.3}", lengths[0]);
        assert!(factor <= limit, "{factor}");
    }
}
