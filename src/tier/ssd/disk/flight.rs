//! An I/O under way: what its completions say, for every disk alike.
//!
//! Nothing else looks at counts and error numbers. A short count is gone on with, an interruption
//! is tried again, both only so often.

use rustix::io::Errno;

use super::{DiskError, Done, Io, Op};
use crate::base::limits::{SSD_BLOCK_BYTES, SSD_TRIES_MAX};

/// Error numbers are below this (Linux, include/linux/err.h, MAX_ERRNO).
const ERRNO_END: i32 = 4096;

/// An I/O under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) io: Io,
    /// Of a read or write, what is done; whole blocks.
    pub(super) done_bytes: usize,
    /// Completions in a row that brought nothing.
    tries: u32,
}

/// What comes after a completion.
pub(super) enum Next {
    /// The rest has to be submitted.
    Rest(Flight),
    /// It is over.
    Over(Done),
}

impl Flight {
    /// An I/O that is about to be submitted.
    ///
    /// # Panics
    /// If it is not in whole blocks within `size_bytes`.
    pub(super) fn new(io: Io, size_bytes: u64) -> Flight {
        let block = SSD_BLOCK_BYTES as u64;
        let (offset_bytes, len_bytes) = io.op.extent();
        assert!(offset_bytes.is_multiple_of(block) && len_bytes.is_multiple_of(block), "blocks");
        assert!(len_bytes > 0 || matches!(io.op, Op::Flush), "an I/O of nothing");
        let is_within = offset_bytes <= size_bytes && len_bytes <= size_bytes - offset_bytes;
        assert!(is_within, "an I/O beyond its part of the disk");
        if let Op::Read { len_bytes, buffer, .. } = &io.op {
            assert!(*len_bytes <= buffer.len(), "a read longer than its buffer");
            assert!(buffer.frozen_bytes() == 0, "a read into frozen bytes");
        }
        Flight { io, done_bytes: 0, tries: 0 }
    }

    /// What is left of it, as offset and length in bytes.
    pub(super) fn left(&self) -> (u64, u64) {
        let (offset_bytes, len_bytes) = self.io.op.extent();
        let done_bytes = self.done_bytes as u64;
        (offset_bytes + done_bytes, len_bytes - done_bytes)
    }

    /// Decides by what the kernel answered: a count, or an error number with its sign turned.
    pub(super) fn completed(mut self, result: i32) -> Next {
        let count = match usize::try_from(result) {
            Ok(count) => count,
            Err(_) => return self.failed(result),
        };
        if matches!(self.io.op, Op::Flush | Op::Discard { .. }) {
            return self.over(Ok(()));
        }
        let (_, left_bytes) = self.left();
        if count as u64 > left_bytes {
            return self.over(Err(DiskError::Failed { errno: Errno::IO.raw_os_error() }));
        }
        if count as u64 == left_bytes {
            return self.over(Ok(()));
        }
        if count == 0 {
            return self.over(Err(DiskError::Ended));
        }
        // What is not a whole block is read or written once more: direct I/O has to be aligned.
        let whole_bytes = count - count % SSD_BLOCK_BYTES;
        if whole_bytes == 0 {
            return self.again(Errno::IO.raw_os_error());
        }
        self.done_bytes += whole_bytes;
        self.tries = 0;
        Next::Rest(self)
    }

    fn failed(self, result: i32) -> Next {
        let errno = result.saturating_neg();
        if !(1..ERRNO_END).contains(&errno) {
            return self.over(Err(DiskError::Failed { errno: Errno::IO.raw_os_error() }));
        }
        let is_discard = matches!(self.io.op, Op::Discard { .. });
        let error = match Errno::from_raw_os_error(errno) {
            Errno::INTR | Errno::AGAIN => return self.again(errno),
            Errno::NOSPC | Errno::DQUOT => DiskError::NoSpace,
            // What devices and file systems answer that have no such operation.
            Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV | Errno::NOTTY
                if is_discard =>
            {
                DiskError::Unsupported
            }
            _ => DiskError::Failed { errno },
        };
        self.over(Err(error))
    }

    fn again(mut self, errno: i32) -> Next {
        self.tries += 1;
        if self.tries > SSD_TRIES_MAX {
            return self.over(Err(DiskError::Failed { errno }));
        }
        Next::Rest(self)
    }

    fn over(self, result: Result<(), DiskError>) -> Next {
        Next::Over(Done { io: self.io, result })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tier::ssd::disk::Pool;

    const EIO: i32 = 5;

    fn read(len_bytes: usize) -> Flight {
        let pool = Pool::with_buffers(&[(65536, 1)], (4096, 0)).expect("memory");
        let buffer = pool.read_buffer(len_bytes).expect("free");
        Flight::new(
            Io { token: 1, op: Op::Read { offset_bytes: 8192, len_bytes, buffer } },
            1 << 20,
        )
    }

    fn flight(op: Op) -> Flight {
        Flight::new(Io { token: 2, op }, 1 << 20)
    }

    fn rest(next: Next) -> Flight {
        match next {
            Next::Rest(flight) => flight,
            Next::Over(done) => panic!("over: {:?}", done.result),
        }
    }

    fn result(next: Next) -> Result<(), DiskError> {
        match next {
            Next::Rest(flight) => panic!("goes on: {:?}", flight.left()),
            Next::Over(done) => done.result,
        }
    }

    #[test]
    fn a_short_count_goes_on_behind_its_last_whole_block() {
        assert_eq!(result(read(16384).completed(16384)), Ok(()));
        let flight = rest(read(16384).completed(8192 + 512));
        assert_eq!(flight.left(), (8192 + 8192, 8192));
        let flight = rest(flight.completed(4096));
        assert_eq!(flight.left(), (8192 + 12288, 4096));
        assert_eq!(result(flight.completed(4096)), Ok(()));
    }

    #[test]
    fn a_count_of_nothing_is_the_end_and_too_high_a_one_is_no_success() {
        assert_eq!(result(read(4096).completed(0)), Err(DiskError::Ended));
        let flight = rest(read(8192).completed(4096));
        assert_eq!(result(flight.completed(0)), Err(DiskError::Ended));
        let eio = Err(DiskError::Failed { errno: EIO });
        assert_eq!(result(read(4096).completed(4097)), eio);
        assert_eq!(result(rest(read(8192).completed(4096)).completed(8192)), eio);
    }

    #[test]
    fn an_interruption_is_tried_again_but_not_for_ever() {
        for errno in [Errno::INTR, Errno::AGAIN].map(Errno::raw_os_error) {
            let mut flight = read(8192);
            for _ in 0..SSD_TRIES_MAX {
                flight = rest(flight.completed(-errno));
                assert_eq!(flight.left(), (8192, 8192));
            }
            assert_eq!(result(flight.completed(-errno)), Err(DiskError::Failed { errno }));
        }
        let mut flight = read(8192);
        for _ in 0..SSD_TRIES_MAX {
            flight = rest(flight.completed(512));
        }
        assert!(result(flight.completed(512)).is_err(), "half a block is no progress");
        // What went on in between may be interrupted as often again.
        let mut flight = read(16384);
        for _ in 0..2 {
            for _ in 0..SSD_TRIES_MAX {
                flight = rest(flight.completed(-Errno::INTR.raw_os_error()));
            }
            flight = rest(flight.completed(4096));
        }
        assert_eq!(flight.left(), (8192 + 8192, 8192));
    }

    #[test]
    fn errors_have_their_meaning() {
        let failed = |errno: Errno| Err(DiskError::Failed { errno: errno.raw_os_error() });
        let of_read = |errno: Errno| result(read(4096).completed(-errno.raw_os_error()));
        assert_eq!(of_read(Errno::IO), failed(Errno::IO));
        assert_eq!(of_read(Errno::OPNOTSUPP), failed(Errno::OPNOTSUPP));
        assert_eq!(of_read(Errno::NOSPC), Err(DiskError::NoSpace));
        let of_discard = |errno: Errno| {
            let op = Op::Discard { offset_bytes: 0, len_bytes: 4096 };
            result(flight(op).completed(-errno.raw_os_error()))
        };
        assert_eq!(of_discard(Errno::OPNOTSUPP), Err(DiskError::Unsupported));
        assert_eq!(of_discard(Errno::IO), failed(Errno::IO));
        assert_eq!(result(flight(Op::Flush).completed(0)), Ok(()));
        assert_eq!(result(flight(Op::Flush).completed(-EIO)), failed(Errno::IO));
        assert!(result(read(4096).completed(i32::MIN)).is_err());
    }

    #[test]
    #[should_panic(expected = "beyond its part")]
    fn an_io_beyond_the_part_is_refused() {
        flight(Op::Discard { offset_bytes: 1 << 20, len_bytes: 4096 });
    }

    #[test]
    #[should_panic(expected = "blocks")]
    fn an_io_of_half_a_block_is_refused() {
        flight(Op::Discard { offset_bytes: 512, len_bytes: 4096 });
    }
}
