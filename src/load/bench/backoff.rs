//! When a connection that the server has ended is tried again: at once, and then ever more seldom.

use super::schedule::SECOND_NS;

/// Connections begun in one turn.
pub const BEGUN_PER_TURN: usize = 8;

/// The wait before the second attempt, in nanoseconds; each is twice the one before it, up to the
/// last.
const WAIT_NS_MIN: u64 = SECOND_NS / 100;
const WAIT_NS_MAX: u64 = SECOND_NS;

/// A connection that stayed for so long is tried at once when it is lost, in nanoseconds.
const SETTLED_NS: u64 = SECOND_NS;

/// Of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    wait_ns: u64,
    /// When it was opened again.
    up_ns: u64,
}

impl Backoff {
    /// The connection was lost: when it is to be tried.
    pub fn lost(&mut self, now_ns: u64) -> u64 {
        if now_ns - self.up_ns > SETTLED_NS {
            self.wait_ns = 0;
        }
        self.next_ns(now_ns)
    }

    /// An attempt has failed: when it is to be tried again.
    pub fn next_ns(&mut self, now_ns: u64) -> u64 {
        let at_ns = now_ns + self.wait_ns;
        self.wait_ns = (2 * self.wait_ns).clamp(WAIT_NS_MIN, WAIT_NS_MAX);
        at_ns
    }

    /// The connection is there again.
    pub fn is_up(&mut self, now_ns: u64) {
        self.up_ns = now_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_become_seldom_until_a_connection_stays() {
        let mut backoff = Backoff::default();
        let begin_ns = 10 * SECOND_NS;
        assert_eq!(backoff.lost(begin_ns), begin_ns);
        let waits = [10, 20, 40, 80, 160, 320, 640, 1_000, 1_000].map(|ms| ms * 1_000_000);
        assert_eq!(waits.map(|_| backoff.next_ns(begin_ns) - begin_ns), waits);
        // One that is ended as soon as it is there has gained nothing.
        backoff.is_up(begin_ns);
        assert_eq!(backoff.lost(begin_ns + 1), begin_ns + 1 + WAIT_NS_MAX);
        backoff.is_up(begin_ns);
        let later_ns = begin_ns + SETTLED_NS + 1;
        assert_eq!(backoff.lost(later_ns), later_ns);
    }
}
