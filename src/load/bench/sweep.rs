//! Which rates a sweep tries, and where its knee is.

/// The result of one step of a sweep.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// Requests a second that were due.
    pub due: f64,
    /// Requests a second that were answered.
    pub answered: f64,
    /// Latency that 99 of 100 stayed below, from the intended start, in nanoseconds.
    pub p99_ns: u64,
}

/// A server keeps up as long as it answers this share of what is due.
pub const KEEPS_UP: f64 = 0.98;

/// Beyond the knee p99 is more than this many times what it is at the lowest rate.
pub const P99_GROWTH_MAX: f64 = 10.0;

/// Shares of the capacity that a sweep tries if it was not told rates.
pub const SHARES: [f64; 11] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1];

/// Rates from `first` to `last`, in `steps` equal factors.
pub fn rates(first: f64, last: f64, steps: usize) -> Vec<f64> {
    let factor = (last / first).powf(1.0 / (steps.max(2) - 1) as f64);
    (0..steps).map(|n| if n + 1 == steps { last } else { first * factor.powi(n as i32) }).collect()
}

/// The knee: the last of the steps, in the order of their rates, up to which the server kept up and
/// p99 did not explode. None if not even the first did.
pub fn knee(steps: &[Observed]) -> Option<usize> {
    let base_ns = steps.first()?.p99_ns as f64;
    let is_fine = |step: &&Observed| {
        step.answered >= KEEPS_UP * step.due && step.p99_ns as f64 <= P99_GROWTH_MAX * base_ns
    };
    steps.iter().take_while(is_fine).count().checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server of one queue that takes 1 us a request: its p99 by the book (M/M/1).
    fn observe(due: f64) -> Observed {
        let load = due / 1e6;
        let p99_us = if load < 1.0 { 100f64.ln() / (1.0 - load) } else { 1e6 };
        Observed { due, answered: due.min(1e6), p99_ns: (p99_us * 1e3) as u64 }
    }

    #[test]
    fn the_knee_is_where_the_queue_explodes() {
        let steps: Vec<_> = SHARES.iter().map(|share| observe(share * 1e6)).collect();
        // p99 at 0.9 is 9 times that at 0.1, beyond it has no bound.
        assert_eq!(knee(&steps), Some(8));
        assert_eq!(knee(&steps[..5]), Some(4), "all fine: the last");
    }

    #[test]
    fn a_server_that_falls_behind_is_beyond_its_knee_however_fast_it_answers() {
        let step = |due, answered| Observed { due, answered, p99_ns: 1_000 };
        let steps =
            [step(100.0, 100.0), step(200.0, 199.0), step(300.0, 280.0), step(250.0, 250.0)];
        assert_eq!(knee(&steps), Some(1));
        assert_eq!(knee(&steps[2..]), None);
        assert_eq!(knee(&[]), None);
    }

    #[test]
    fn rates_grow_by_one_factor() {
        let rates = rates(1_000.0, 8_000.0, 4);
        assert_eq!(rates.len(), 4);
        assert!(rates.iter().zip([1e3, 2e3, 4e3, 8e3]).all(|(a, b)| (a / b - 1.0).abs() < 1e-9));
        assert_eq!(super::rates(5.0, 9.0, 1), [9.0]);
    }
}
