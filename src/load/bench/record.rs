//! What one thread saw in one step: counts, and latencies in histograms whose memory is all there
//! before the first request.

use hdrhistogram::Histogram;

use super::schedule::Window;

/// Longest latency that is distinguished from longer ones, in nanoseconds.
const LATENCY_NS_MAX: u64 = 1_000 * super::schedule::SECOND_NS;

/// A histogram of nanoseconds: 0.1 % wide buckets.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("bounds that it can have")
}

/// A small one, 1 % wide, for a stretch of time.
fn small_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 2).expect("bounds that it can have")
}

/// Plain counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests whose intended start lies in the window, answered whenever.
    pub requests: u64,
    /// Answers that came while the window was open.
    pub answered: u64,
    /// Keys found.
    pub hits: u64,
    /// Keys not found.
    pub misses: u64,
    /// Requests that the server answered with an error.
    pub errors: u64,
    /// Items that were not what had been stored.
    pub mismatches: u64,
    /// Bytes written.
    pub bytes_sent: u64,
    /// Bytes read.
    pub bytes_received: u64,
    /// Requests of the window that had not been sent, or not answered, when the step was given up.
    pub overdue: u64,
    /// Requests of the window that were in flight on a connection that the server ended.
    pub lost: u64,
    /// Connections that were opened again.
    pub reconnects: u64,
}

impl Counts {
    /// Adds another thread's.
    pub fn add(&mut self, other: &Counts) {
        self.requests += other.requests;
        self.answered += other.answered;
        self.hits += other.hits;
        self.misses += other.misses;
        self.errors += other.errors;
        self.mismatches += other.mismatches;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.overdue += other.overdue;
        self.lost += other.lost;
        self.reconnects += other.reconnects;
    }
}

/// How late a client was with what was due: its own part in the latencies of an open loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    count: u64,
    sum_ns: u64,
    /// The latest, in nanoseconds.
    pub max_ns: u64,
}

impl Lateness {
    /// One time.
    #[inline]
    pub fn add(&mut self, late_ns: u64) {
        self.join(&Lateness { count: 1, sum_ns: late_ns, max_ns: late_ns });
    }

    /// Those of another thread too.
    pub fn join(&mut self, other: &Lateness) {
        self.count += other.count;
        self.sum_ns += other.sum_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// In nanoseconds; None if nothing was due.
    pub fn mean_ns(&self) -> Option<u64> {
        self.sum_ns.checked_div(self.count)
    }
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Record {
    /// Latencies of gets.
    pub get: Histogram<u64>,
    /// Latencies of sets.
    pub set: Histogram<u64>,
    /// All latencies by the time of the answer, each of `interval_ns`; what came after the window's
    /// end is in the last.
    pub intervals: Vec<Histogram<u64>>,
    /// Counts.
    pub counts: Counts,
    /// Turns within the window.
    pub turns: u64,
    /// The time of those in which nothing was to be done.
    pub idle_ns: u64,
    /// The thread never sleeps.
    pub is_spinning: bool,
    /// The longest turn, in nanoseconds: how much too long a latency may be told.
    pub turn_ns_max: u64,
    /// How late turns saw that requests were due.
    pub late: Lateness,
    /// Time within the window that connections were missing, of all of them and the longest.
    pub gap_ns: u64,
    pub gap_ns_max: u64,
    window: Window,
    interval_ns: u64,
    interval: usize,
    interval_end_ns: u64,
    is_open: bool,
}

impl Record {
    /// An empty record of `window`, in stretches of `interval_ns`.
    pub fn new(window: Window, interval_ns: u64) -> Record {
        let intervals = (window.end_ns - window.from_ns).div_ceil(interval_ns).max(1) as usize;
        let mut record = Record {
            get: histogram(),
            set: histogram(),
            intervals: vec![small_histogram(); intervals],
            counts: Counts::default(),
            turns: 0,
            idle_ns: 0,
            is_spinning: false,
            turn_ns_max: 0,
            late: Lateness::default(),
            gap_ns: 0,
            gap_ns_max: 0,
            window,
            interval_ns,
            interval: 0,
            interval_end_ns: window.from_ns + interval_ns,
            is_open: false,
        };
        // Zeroed memory is there only when it is first written: not while requests wait.
        record.get.reset();
        record.set.reset();
        record.intervals.iter_mut().for_each(Histogram::reset);
        record
    }

    /// Ends the window at `end_ns`, if that is before its end.
    pub fn cut_short(&mut self, end_ns: u64) {
        self.window.end_ns = self.window.end_ns.min(end_ns);
    }

    /// To be called once a turn, with its time.
    #[inline(always)]
    pub fn tick(&mut self, now_ns: u64) {
        self.is_open = now_ns >= self.window.from_ns && now_ns < self.window.end_ns;
        if now_ns >= self.interval_end_ns {
            self.next_interval(now_ns);
        }
    }

    #[cold]
    fn next_interval(&mut self, now_ns: u64) {
        let passed = (now_ns - self.window.from_ns) / self.interval_ns;
        self.interval = (passed as usize).min(self.intervals.len() - 1);
        self.interval_end_ns = self.window.from_ns + (passed + 1) * self.interval_ns;
    }

    /// Whether the window is open at this turn's time.
    #[inline(always)]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// An answer came at this turn's time to a request that was meant to start at `intended_ns`.
    #[inline(always)]
    pub fn answered(&mut self, is_get: bool, intended_ns: u64, now_ns: u64) {
        self.counts.answered += u64::from(self.is_open);
        if !self.window.counts(intended_ns) {
            return;
        }
        self.counts.requests += 1;
        self.latency(is_get, now_ns.saturating_sub(intended_ns));
    }

    /// So many requests that were meant to start at `intended_ns` get no answer within this step:
    /// they have waited so long.
    pub fn overdue(&mut self, intended_ns: u64, now_ns: u64, requests: u64) {
        if self.window.counts(intended_ns) {
            self.counts.overdue += requests;
            let latency_ns = now_ns.saturating_sub(intended_ns);
            // What was never sent was not drawn either.
            self.get.saturating_record_n(latency_ns, requests);
            self.intervals[self.interval].saturating_record_n(latency_ns, requests);
        }
    }

    /// A request was in flight on a connection that ended: it has waited so long.
    #[cold]
    pub fn lost(&mut self, is_get: bool, intended_ns: u64, now_ns: u64) {
        if self.window.counts(intended_ns) {
            self.counts.lost += 1;
            self.latency(is_get, now_ns.saturating_sub(intended_ns));
        }
    }

    /// A connection was missing for this time.
    #[cold]
    pub fn gap(&mut self, from_ns: u64, to_ns: u64) {
        let (from_ns, to_ns) = (from_ns.max(self.window.from_ns), to_ns.min(self.window.end_ns));
        let gap_ns = to_ns.saturating_sub(from_ns);
        self.gap_ns += gap_ns;
        self.gap_ns_max = self.gap_ns_max.max(gap_ns);
    }

    /// A get that was meant to start at `intended_ns` found this number of keys, and missed others.
    #[inline(always)]
    pub fn found(&mut self, intended_ns: u64, hits: u64, misses: u64) {
        if self.window.counts(intended_ns) {
            self.counts.hits += hits;
            self.counts.misses += misses;
        }
    }

    /// So many bytes were sent.
    #[inline(always)]
    pub fn sent(&mut self, bytes: usize) {
        self.counts.bytes_sent += if self.is_open { bytes as u64 } else { 0 };
    }

    /// So many bytes of answers were taken.
    #[inline(always)]
    pub fn received(&mut self, bytes: usize) {
        self.counts.bytes_received += if self.is_open { bytes as u64 } else { 0 };
    }

    #[inline(always)]
    fn latency(&mut self, is_get: bool, latency_ns: u64) {
        let of = if is_get { &mut self.get } else { &mut self.set };
        of.saturating_record(latency_ns);
        self.intervals[self.interval].saturating_record(latency_ns);
    }

    /// Adds another thread's record of the same window.
    pub fn add(&mut self, other: &Record) {
        let same = "made with the same bounds";
        self.get.add(&other.get).expect(same);
        self.set.add(&other.set).expect(same);
        for (own, other) in self.intervals.iter_mut().zip(&other.intervals) {
            own.add(other).expect(same);
        }
        self.counts.add(&other.counts);
        self.turns += other.turns;
        self.idle_ns += other.idle_ns;
        self.turn_ns_max = self.turn_ns_max.max(other.turn_ns_max);
        self.late.join(&other.late);
        self.gap_ns += other.gap_ns;
        self.gap_ns_max = self.gap_ns_max.max(other.gap_ns_max);
    }

    /// Length of a stretch, in nanoseconds.
    pub fn interval_ns(&self) -> u64 {
        self.interval_ns
    }

    /// The window.
    pub fn window(&self) -> Window {
        self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_begins_when_a_request_was_meant_to() {
        let mut record = Record::new(Window { from_ns: 1_000, end_ns: 5_000 }, 1_000);
        // Warm-up: answered in the window, but not of it.
        record.tick(1_200);
        record.answered(true, 900, 1_200);
        assert_eq!((record.counts.answered, record.counts.requests), (1, 0));
        // Meant for 1100, sent who knows when, answered at 4500.
        record.tick(4_500);
        record.answered(true, 1_100, 4_500);
        assert_eq!((record.get.len(), record.get.max()), (1, 3_401));
        assert_eq!(record.intervals[3].len(), 1);
        // After the end it still counts as a request, not towards the rate.
        record.tick(9_000);
        record.answered(false, 4_999, 9_000);
        assert_eq!((record.counts.answered, record.counts.requests), (2, 2));
        assert_eq!(record.intervals[3].len(), 2);
        record.overdue(4_000, 9_000, 1);
        assert_eq!((record.counts.overdue, record.get.len()), (1, 2));
    }

    #[test]
    fn threads_add_up() {
        let window = Window { from_ns: 0, end_ns: 2_000 };
        let mut all = Record::new(window, 1_000);
        for thread in 1..=3 {
            let mut record = Record::new(window, 1_000);
            record.tick(1_500);
            record.answered(thread % 2 == 0, 0, 1_500);
            record.turn_ns_max = thread;
            record.late.add(10 * thread);
            all.add(&record);
        }
        assert_eq!((all.get.len(), all.set.len(), all.intervals[1].len()), (1, 2, 3));
        assert_eq!((all.counts.requests, all.turn_ns_max), (3, 3));
        assert_eq!((all.late.mean_ns(), all.late.max_ns), (Some(20), 30));
    }
}
