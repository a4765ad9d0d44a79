//! What the numbers say that an operator looks at, and what becomes of a log whose limits change or
//! end.

use super::format::{INCARNATION_MAX, Superblock, SuperblockRead};
use super::*;
use crate::base::limits::SSD_BLOCK_BYTES;

const BLOCK: usize = SSD_BLOCK_BYTES;

/// A pool whose longest read has so many blocks.
fn pool_of(blocks: usize) -> Pool {
    let classes = [(4096, 32), (16384, 8), (65536, 6), (blocks * BLOCK, 4)];
    Pool::with_buffers(&classes, (32768, 20)).expect("memory")
}

/// Opens what `bench` left with reads of up to so many blocks.
fn reopened(bench: &Bench, blocks: usize) -> Bench {
    let stats = Arc::new(WorkerStats::default());
    let disk = SimDisk::from_image(bench.medium.image(Cut::Lost), pool_of(blocks), 1);
    let medium = disk.handle();
    let now = Now { uptime_us: bench.now.uptime_us + 1_000_000_000, ..bench.now };
    let ssd = Rc::new(Ssd::open(disk, &large_options(&stats), bench.now).expect("opens"));
    Bench { ssd, medium, stats, now, turn_us: 50, cuts: None }
}

fn large_options(stats: &Arc<WorkerStats>) -> Options {
    let stats = Arc::clone(stats);
    Options { segment_bytes: 1 << 20, item_bytes_max: 300_000, stats, ..options() }
}

#[test]
fn how_full_a_log_is_can_be_plotted() {
    let mut bench = Bench::new();
    let all = SEGMENTS as u64;
    assert_eq!(bench.counter(Counter::SsdSegments), all);
    assert_eq!(bench.counter(Counter::SsdSizeBytes), all * SEGMENT_BYTES as u64);
    assert_eq!(bench.counter(Counter::SsdSegmentsFree), all);
    assert_eq!(bench.counter(Counter::SsdUsedBytes), 0);
    let fills = bench.counter(Counter::SsdFillsLeft);
    let mut fewest = all;
    for i in 0..3_000 {
        bench.set(format!("key{i}"), &[7; 1_000], Expiry::NEVER);
        bench.turn();
        let free = bench.counter(Counter::SsdSegmentsFree);
        assert_eq!(bench.counter(Counter::SsdUsedBytes), (all - free) * SEGMENT_BYTES as u64);
        fewest = fewest.min(free);
    }
    assert!(bench.counter(Counter::SsdReclaimed) > all, "the log was filled more than once");
    assert!((1..10).contains(&fewest), "{fewest} were left");
    assert!(bench.counter(Counter::SsdFillsLeft) + 40 < fills);
    let before = bench.counter(Counter::SsdSegmentsFree);
    bench.restart();
    let after = bench.counter(Counter::SsdSegmentsFree);
    assert!(after > 0 && after < before + 10, "{after} are free after a start, {before} before");
}

#[test]
fn a_restart_finds_as_many_items_as_were_counted_at_the_stop() {
    // An index with room for all, and one that is always full: there items find another place, or
    // none, when they are entered in another order.
    for object_bytes in [256, 1_024] {
        let image = vec![0; part_bytes(SEGMENTS, SEGMENT_BYTES)];
        let mut bench = Bench::with(image, Options { object_bytes, ..options() }, 1);
        for i in 0..9_000 {
            bench.set(format!("key{i}"), &[7; 100], Expiry::NEVER);
            if i % 7 == 0 {
                bench.delete(format!("key{}", i / 2));
            }
            bench.turn();
        }
        bench.stop();
        let items = bench.ssd.items();
        let evicted = bench.counter(Counter::SsdEvicted);
        let stats = Arc::clone(&bench.stats);
        let options = Options { object_bytes, stats, ..options() };
        let again = Bench::try_with(bench.medium.image(Cut::Lost), options, 1, bench.now);
        let again = again.expect("opens");
        let evicted = again.counter(Counter::SsdEvicted) - evicted;
        assert_eq!(again.ssd.items() + evicted, items);
        assert_eq!(evicted > 0, object_bytes == 1_024, "{evicted} found no place");
        assert!(evicted < items / 10, "{evicted} of {items}");
    }
}

#[test]
fn a_log_without_names_for_records_stores_nothing_and_brings_nothing_back() {
    let mut bench = Bench::new();
    bench.set("first", b"kept", Expiry::NEVER);
    bench.stop();
    let mut image = bench.medium.image(Cut::Lost);
    for block in image[..2 * BLOCK].chunks_mut(BLOCK) {
        let SuperblockRead::Found(mut superblock) = Superblock::decode(block) else {
            panic!("a superblock")
        };
        superblock.next_incarnation = INCARNATION_MAX - 600;
        superblock.encode(block);
    }
    let mut bench = Bench::with(image, options(), 1);
    assert!((1..600).contains(&bench.counter(Counter::SsdFillsLeft)));
    assert_eq!(bench.get("first").as_deref(), Some(&b"kept"[..]));
    let mut versions = vec![0; 2_503];
    for i in 0..60_000 {
        let key = i * 7 % versions.len();
        if i % 5 == 0 {
            bench.delete(format!("key{key}"));
            versions[key] = 0;
        } else {
            let value = [&(i as u32).to_le_bytes()[..], &[9; 100]].concat();
            bench.set(format!("key{key}"), &value, Expiry::NEVER);
            versions[key] = i as u32;
        }
        bench.turn();
        let key = i * 3 % versions.len();
        if let Some(value) = bench.get(format!("key{key}")) {
            assert_eq!(value[..4], versions[key].to_le_bytes(), "{i}");
        }
    }
    assert_eq!(bench.counter(Counter::SsdFillsLeft), 0);
    assert!(bench.counter(Counter::SsdNotWritten) > 1_000);
    // More was deleted than there were names for tombstones.
    let drops = bench.counter(Counter::SsdDrops);
    assert!((1..100).contains(&drops), "{drops}");
    bench.restart();
    for (key, version) in versions.iter().enumerate() {
        if let Some(value) = bench.get(format!("key{key}")) {
            assert_eq!(value[..4], version.to_le_bytes());
        }
    }
    assert_eq!(bench.counter(Counter::SsdFillsLeft), 0);
    bench.set("again", b"lost", Expiry::NEVER);
    assert_eq!(bench.get("again"), None);
    bench.restart();
}

#[test]
fn items_above_a_lowered_limit_are_not_counted_and_there_again_when_it_is_raised() {
    let [small, edge, large] = [1_000, 70_000, 200_000].map(|len| vec![len as u8; len]);
    let image = vec![0; part_bytes(SEGMENTS, 1 << 20)];
    let disk = SimDisk::from_image(image, pool_of(80), 1);
    let (medium, stats) = (disk.handle(), Arc::new(WorkerStats::default()));
    let ssd = Rc::new(Ssd::open(disk, &large_options(&stats), NOW).expect("opens"));
    let mut bench = Bench { ssd, medium, stats, now: NOW, turn_us: 50, cuts: None };
    let all = [("small", &small), ("edge", &edge), ("large", &large)];
    for (key, value) in all.into_iter().chain([("replaced", &large), ("deleted", &large)]) {
        bench.set(key, value, Expiry::NEVER);
        bench.settle();
    }
    bench.stop();

    let mut lowered = reopened(&bench, 17);
    // One with fewer blocks more than are read than its span tells is found out when it is asked
    // for.
    assert_eq!((lowered.ssd.items(), lowered.ssd.items_too_large()), (2, 3));
    assert_eq!(lowered.counter(Counter::SsdItems), 2);
    assert_eq!(lowered.get("small"), Some(small.clone()));
    assert_eq!(lowered.get("edge"), None);
    assert_eq!(lowered.get("large"), None);
    assert_eq!(lowered.counter(Counter::SsdTooLarge), 2);
    assert_eq!(lowered.counter(Counter::SsdCorrupt), 0);
    lowered.set("replaced", b"new", Expiry::NEVER);
    assert!(!lowered.delete("deleted"));
    assert_eq!((lowered.ssd.items(), lowered.ssd.items_too_large()), (3, 1));
    lowered.stop();

    let mut raised = reopened(&lowered, 80);
    assert_eq!((raised.ssd.items(), raised.ssd.items_too_large()), (4, 0));
    assert_eq!(raised.get("small"), Some(small));
    assert_eq!(raised.get("edge"), Some(edge));
    assert_eq!(raised.get("large"), Some(large));
    assert_eq!(raised.get("replaced").as_deref(), Some(&b"new"[..]));
    assert_eq!(raised.get("deleted"), None);
}

#[test]
fn a_log_counts_its_starts_and_a_new_one_has_another_name() {
    let mut bench = Bench::new();
    let (name, starts) = bench.ssd.name_and_starts();
    assert_eq!(starts, 1);
    bench.restart();
    bench.stop();
    bench.restart();
    assert_eq!(bench.ssd.name_and_starts(), (name, 3));
    assert_ne!(Bench::new().ssd.name_and_starts().0, name);
}
