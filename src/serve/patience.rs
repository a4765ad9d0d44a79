//! Waits at start, before any client is served, for conditions that resolve themselves: a memcached
//! that is not up yet, a port or a disk that an ending process still holds. It must never wait for
//! what needs an operator's action.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::ServeError;
use crate::base::clock::Clock;
use crate::base::limits::WAIT_RETRY_MS;
use crate::report::{self, Event};

/// How long a start waits in total.
#[derive(Debug)]
pub(super) struct Patience {
    clock: Clock,
    seconds: u64,
    stop: Arc<AtomicBool>,
    is_told: AtomicBool,
}

impl Patience {
    /// Waits for `seconds` from now, or until `stop`.
    pub fn new(seconds: u64, stop: Arc<AtomicBool>) -> Patience {
        Patience { clock: Clock::start(), seconds, stop, is_told: AtomicBool::new(false) }
    }

    /// Tries until it works, fails for a reason that does not pass, or has taken too long.
    ///
    /// # Errors
    /// The last attempt's, or that a stop was requested meanwhile.
    pub fn until<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, ServeError>,
    ) -> Result<T, ServeError> {
        loop {
            let error = match attempt() {
                Err(error) if error.may_pass() => error,
                done => return done,
            };
            if self.clock.read().uptime_us >= self.seconds * 1_000_000 {
                return Err(error);
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(ServeError::Stopped);
            }
            if !self.is_told.swap(true, Ordering::Relaxed) {
                let seconds = self.seconds;
                let text = format_args!("{error}; waiting up to {seconds} s (--wait)");
                report::tell(Event::Waiting.line(text));
            }
            thread::sleep(Duration::from_millis(WAIT_RETRY_MS));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passing() -> ServeError {
        let reason = "no server listens there".to_owned();
        ServeError::Tier { flag: "--l1", reason, fault: super::super::Fault::Passing }
    }

    #[test]
    fn what_passes_is_tried_again_and_what_does_not_is_not() {
        let patience = Patience::new(60, Arc::default());
        let mut tries = 0;
        let done = patience.until(|| {
            tries += 1;
            if tries < 3 { Err(passing()) } else { Ok(tries) }
        });
        assert!(matches!(done, Ok(3)));
        let mut tries = 0;
        let failed = patience.until(|| {
            tries += 1;
            Err::<(), _>(ServeError::Core(99))
        });
        assert!(matches!((failed, tries), (Err(ServeError::Core(99)), 1)));
    }

    #[test]
    fn without_patience_there_is_one_try_and_a_stop_ends_the_waiting() {
        let none = Patience::new(0, Arc::default());
        assert!(matches!(none.until(|| Err::<(), _>(passing())), Err(ServeError::Tier { .. })));
        let stopped = Patience::new(60, Arc::new(AtomicBool::new(true)));
        assert!(matches!(stopped.until(|| Err::<(), _>(passing())), Err(ServeError::Stopped)));
    }
}
