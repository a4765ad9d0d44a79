//! A worker that sleeps whenever the log says that there is nothing to do.

use std::cell::RefCell;

use super::super::disk::sim::Faults;
use super::super::disk::{Done, Io};
use super::*;

/// A disk that wakes its worker: what is done lies ready until the next turn.
struct Waking {
    medium: Rc<RefCell<(SimDisk, Vec<Done>)>>,
    pool: Pool,
}

impl Disk for Waking {
    fn size_bytes(&self) -> u64 {
        self.medium.borrow().0.size_bytes()
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn submit(&mut self, io: Io) -> Result<(), Io> {
        self.medium.borrow_mut().0.submit(io)
    }

    fn turn(&mut self, now: Now, done: &mut Vec<Done>) -> usize {
        let (disk, ready) = &mut *self.medium.borrow_mut();
        disk.turn(now, ready);
        done.append(ready);
        done.len()
    }

    fn in_flight(&self) -> usize {
        let (disk, ready) = &*self.medium.borrow();
        disk.in_flight() + ready.len()
    }

    fn wakes(&self) -> bool {
        true
    }
}

/// Sets one item every 200 us for so many microseconds, on a disk with these faults, then none for
/// a tenth of a second. Returns the tier, its counters, and how many turns there were beside those
/// of the sets.
fn run(time_us: u64, faults: Faults) -> (Ssd<Waking>, Arc<WorkerStats>, u64) {
    const TICK_US: u64 = 20;
    let options = options();
    let stats = Arc::clone(&options.stats);
    let disk = SimDisk::from_image(vec![0; part_bytes(SEGMENTS, SEGMENT_BYTES)], pool(), 1);
    let handle = disk.handle();
    let pool = disk.pool().clone();
    let medium = Rc::new(RefCell::new((disk, Vec::new())));
    let waking = Waking { medium: Rc::clone(&medium), pool };
    let ssd = Ssd::open(waking, &options, NOW).expect("opens");
    handle.set_faults(faults);
    let mut turns = 0;
    let mut now = Now { uptime_us: 1_000_000_000, ..NOW };
    let end_us = now.uptime_us + time_us;
    while now.uptime_us < end_us + 100_000 {
        now.uptime_us += TICK_US;
        let is_set = now.uptime_us.is_multiple_of(200) && now.uptime_us < end_us;
        let is_woken = {
            let (disk, ready) = &mut *medium.borrow_mut();
            disk.turn(now, ready);
            !ready.is_empty()
        };
        if !is_set && !is_woken && now.uptime_us < ssd.wake_at_us() {
            continue;
        }
        ssd.turn(now);
        if is_set {
            let store = Store { mode: StoreMode::Set, flags: 0, expiry: Expiry::NEVER, cas: 0 };
            let key = format!("key{}", now.uptime_us);
            let value = Body::Slice(&[1; 1_000]);
            assert!(ssd.try_now(key.as_bytes(), Action::Store(store), value, now).is_some());
        }
        ssd.flush(now);
        turns += u64::from(!is_set);
    }
    assert_eq!(ssd.wake_at_us(), u64::MAX, "it comes to rest");
    (ssd, stats, turns)
}

#[test]
fn reclaiming_goes_on_while_the_worker_sleeps_and_does_not_keep_it_awake() {
    let slow = Faults { delay_us: 1_000..=1_000, ..Faults::default() };
    let (_, stats, turns) = run(2_000_000, slow);
    assert_eq!(stats.get(Counter::SsdNotWritten), 0, "reclaiming keeps ahead");
    let reclaimed = stats.get(Counter::SsdReclaimed);
    assert!(reclaimed > 100, "{reclaimed}");
    // Flushes, superblocks, pieces of data, and a few turns for each segment that is given up.
    println!("{turns} turns, {reclaimed} segments reclaimed");
    assert!(turns < 40 * reclaimed, "{turns} turns for {reclaimed} segments");
}

#[test]
fn a_disk_that_fails_now_and_then_leaves_nothing_undone_that_nobody_wakes_for() {
    for rate in [10_000, 100_000] {
        let faults = Faults { delay_us: 100..=400, ..Faults::failing(rate) };
        let (ssd, stats, turns) = run(2_000_000, faults);
        assert!(stats.get(Counter::SsdWriteErrors) > 0);
        assert!(stats.get(Counter::SsdReclaimed) > 20);
        let log = ssd.log.borrow();
        assert!(!log.is_killing(), "{} of a million fail", rate);
        println!("{turns} turns, {} not written", stats.get(Counter::SsdNotWritten));
    }
}
