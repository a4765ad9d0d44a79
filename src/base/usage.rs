//! Resources used by the process, as the kernel counts them. A system call: never call it while a
//! request is executed.

#![allow(unsafe_code, reason = "getrusage(2) writes where a pointer leads")]

use std::mem::MaybeUninit;

/// User and system time of the process, in microseconds.
pub fn cpu_us() -> (u64, u64) {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to one `rusage`, which the call writes; if it wrote nothing, all zeros
    // are a valid one too.
    let usage = unsafe {
        // It only fails for wrong arguments.
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let us = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    (us(usage.ru_utime), us(usage.ru_stime))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_counted() {
        let (user_us, system_us) = cpu_us();
        let mut sum = 0_u64;
        while cpu_us().0 < user_us + 1_000 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(sum > 0 && cpu_us().1 >= system_us);
    }
}
