//! When requests are due, and which of them count.
//!
//! In a closed loop the next request is due when an answer came. In an open loop arrival number n
//! is due at start + n / rate, whatever the server does, and goes to connection n modulo their
//! number; its latency begins at that moment, not when the client sent it, so that a server
//! that stalls cannot hide how many it kept waiting. Nothing here reads the clock.

/// Nanoseconds of a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// Which of all arrivals are a thread's: every `threads`-th, beginning with number `thread`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// This thread's number.
    pub thread: usize,
    /// How many threads there are.
    pub threads: usize,
    /// Connections of this thread.
    pub connections: usize,
}

/// How exactly it is known when arrivals were due that were left out, in nanoseconds: little beside
/// the time that they had waited by then.
const LEFT_OUT_NS: u64 = SECOND_NS / 10_000;

/// From when to when a step is measured, in nanoseconds of the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Requests whose intended start lies before are warm-up.
    pub from_ns: u64,
    /// No request begins at or after this time.
    pub end_ns: u64,
}

impl Window {
    /// Whether a request with this intended start counts.
    #[inline(always)]
    pub fn counts(&self, intended_ns: u64) -> bool {
        intended_ns >= self.from_ns
    }
}

/// A thread's arrivals at a fixed rate, dealt to its connections in turn.
#[derive(Clone, Debug)]
pub struct Arrivals {
    share: Share,
    start_ns: u64,
    end_ns: u64,
    period_ns: f64,
    /// How many of this thread's arrivals were dealt, and to whom the next goes.
    dealt: u64,
    next_connection: usize,
    next_ns: u64,
}

impl Arrivals {
    /// All threads together `rate` a second, from `start_ns` until before `end_ns`.
    pub fn new(rate: f64, share: Share, start_ns: u64, end_ns: u64) -> Arrivals {
        let period_ns = SECOND_NS as f64 / rate;
        let mut arrivals = Arrivals {
            share,
            start_ns,
            end_ns,
            period_ns,
            dealt: 0,
            next_connection: 0,
            next_ns: 0,
        };
        arrivals.next_ns = arrivals.due_ns(0);
        arrivals
    }

    /// When this thread's arrival number `n` is due.
    fn due_ns(&self, n: u64) -> u64 {
        let number = n * self.share.threads as u64 + self.share.thread as u64;
        self.start_ns + (number as f64 * self.period_ns) as u64
    }

    /// Arrivals that are due at `end_ns` or later will not come.
    pub fn cut_short(&mut self, end_ns: u64) {
        self.end_ns = self.end_ns.min(end_ns);
    }

    /// When the next arrival is due; never, once all were dealt.
    #[inline(always)]
    pub fn next_ns(&self) -> u64 {
        if self.next_ns < self.end_ns { self.next_ns } else { u64::MAX }
    }

    /// The connection of the next arrival, if that is due at `now_ns`.
    #[inline]
    pub fn deal(&mut self, now_ns: u64) -> Option<usize> {
        if self.next_ns > now_ns || self.next_ns >= self.end_ns {
            return None;
        }
        let connection = self.next_connection;
        self.dealt += 1;
        self.next_connection += 1;
        if self.next_connection == self.share.connections {
            self.next_connection = 0;
        }
        self.next_ns = self.due_ns(self.dealt);
        Some(connection)
    }

    /// Leaves out the arrivals that are due before `at_ns` and were not dealt. Calls `left_out`
    /// with when some of them were due, to within [`LEFT_OUT_NS`], and how many those are.
    pub fn leave_out(&mut self, at_ns: u64, mut left_out: impl FnMut(u64, u64)) {
        let at_ns = at_ns.min(self.end_ns);
        while self.next_ns < at_ns {
            let until_ns = (self.next_ns + LEFT_OUT_NS).min(at_ns);
            let number = (until_ns - self.start_ns) as f64 / self.period_ns;
            let mut next = (number / self.share.threads as f64) as u64;
            // As near as the division's rounding lets it be.
            while self.due_ns(next) < until_ns {
                next += 1;
            }
            while next > self.dealt + 1 && self.due_ns(next - 1) >= until_ns {
                next -= 1;
            }
            left_out(self.next_ns, next - self.dealt);
            self.dealt = next;
            self.next_ns = self.due_ns(next);
        }
    }

    /// Whether no arrival is due at `now_ns` or later.
    pub fn is_over(&self, now_ns: u64) -> bool {
        now_ns >= self.end_ns
    }

    /// When number `n` of the arrivals dealt to `connection` was due.
    #[inline]
    pub fn intended_ns(&self, connection: usize, n: u64) -> u64 {
        self.due_ns(n * self.share.connections as u64 + connection as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Share = Share { thread: 0, threads: 1, connections: 3 };

    #[test]
    fn arrivals_come_at_their_times_and_to_each_connection_in_turn() {
        let mut arrivals = Arrivals::new(1_000.0, ALONE, 5_000_000, 9_500_000);
        assert_eq!(arrivals.deal(4_999_999), None);
        assert_eq!(arrivals.deal(5_000_000), Some(0));
        assert_eq!(arrivals.deal(5_999_999), None);
        assert_eq!(arrivals.next_ns(), 6_000_000);
        // Late by three: all that were due come at once, each to its own connection.
        let dealt: Vec<_> = std::iter::from_fn(|| arrivals.deal(8_000_000)).collect();
        assert_eq!(dealt, [1, 2, 0]);
        assert_eq!(arrivals.deal(20_000_000), Some(1), "due before the end");
        assert_eq!(arrivals.deal(20_000_000), None, "nothing begins after the end");
        assert_eq!(arrivals.next_ns(), u64::MAX);
    }

    #[test]
    fn an_arrival_keeps_the_time_it_was_meant_for() {
        let mut arrivals = Arrivals::new(1_000.0, ALONE, 0, SECOND_NS);
        let mut counts = [0; 3];
        let mut n = 0;
        // The client looks only every 70 ms.
        for turn in 1..20 {
            while let Some(connection) = arrivals.deal(turn * 70_000_000) {
                let intended = arrivals.intended_ns(connection, counts[connection]);
                assert_eq!(intended, n * 1_000_000);
                counts[connection] += 1;
                n += 1;
            }
        }
        assert_eq!(n, 1_000);
    }

    #[test]
    fn arrivals_that_are_left_out_are_counted() {
        for (rate, threads) in [(1e9, 1), (3e6, 3), (1_000.0, 2), (7.0, 3)] {
            let mut all = 0;
            for thread in 0..threads {
                let share = Share { thread, threads, connections: 2 };
                let mut arrivals = Arrivals::new(rate, share, 100, 100 + SECOND_NS);
                let dealt = u64::from(arrivals.deal(100 + SECOND_NS / 2).is_some());
                let (mut before, mut after) = (0, 0);
                let middle_ns = 100 + SECOND_NS / 2;
                arrivals.leave_out(middle_ns, |due_ns, n| {
                    assert!(due_ns < middle_ns);
                    before += n;
                });
                arrivals.leave_out(u64::MAX, |due_ns, n| {
                    assert!(due_ns >= middle_ns && due_ns < 100 + SECOND_NS);
                    after += n;
                });
                assert!((dealt + before).abs_diff(after) <= 1, "{before} {after}");
                assert_eq!(arrivals.next_ns(), u64::MAX);
                all += dealt + before + after;
            }
            assert_eq!(all, rate as u64);
        }
    }

    #[test]
    fn threads_share_the_rate() {
        let mut all = Vec::new();
        for thread in 0..3 {
            let share = Share { thread, threads: 3, connections: 2 };
            let mut arrivals = Arrivals::new(3e6, share, 100, 100 + 1_000_000);
            while arrivals.next_ns() < u64::MAX {
                all.push(arrivals.next_ns());
                arrivals.deal(arrivals.next_ns());
            }
        }
        all.sort_unstable();
        assert_eq!(all.len(), 3_000);
        let due = |n: usize| 100 + n as u64 * 1_000 / 3;
        assert!(all.iter().enumerate().all(|(n, at)| at.abs_diff(due(n)) <= 1));
    }

    #[test]
    fn warm_up_does_not_count() {
        let window = Window { from_ns: 10, end_ns: 20 };
        assert!(!window.counts(9) && window.counts(10) && window.counts(19));
    }
}
