//! What the log's I/Os are for.
//!
//! An [`Io`](super::disk::Io) carries a token to its completion: the kind of task, and in its lower
//! 56 bits of what. Nothing here does an I/O.

/// What an I/O is for; the rest of its token says of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Task {
    /// A client's read, by slot.
    Read,
    /// Bytes of an open segment.
    Data,
    /// A segment's seal.
    Seal,
    /// The header that gives a segment up.
    Free,
    /// A superblock.
    Superblock,
    /// A flush.
    Flush,
    /// A discard of a segment.
    Discard,
    /// A summary to be reclaimed.
    Summary,
    /// Records of a segment whose summary is damaged.
    Records,
    /// A record to be moved.
    Move,
}

const TASKS: [Task; 10] = [
    Task::Read,
    Task::Data,
    Task::Seal,
    Task::Free,
    Task::Superblock,
    Task::Flush,
    Task::Discard,
    Task::Summary,
    Task::Records,
    Task::Move,
];

const TASK_SHIFT: u32 = 56;

impl Task {
    /// The token of such a task with `what`, which has 56 bits.
    pub(super) fn token(self, what: u64) -> u64 {
        debug_assert!(what >> TASK_SHIFT == 0);
        (self as u64) << TASK_SHIFT | what
    }

    /// The task that a token is of, and with what.
    pub(super) fn of(token: u64) -> (Task, u64) {
        (TASKS[(token >> TASK_SHIFT) as usize], token & ((1 << TASK_SHIFT) - 1))
    }

    /// Whether it reads.
    pub(super) fn is_read(self) -> bool {
        matches!(self, Task::Read | Task::Summary | Task::Records | Task::Move)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_task_and_what() {
        for (number, task) in TASKS.into_iter().enumerate() {
            assert_eq!(task as usize, number, "the table is in the order of the tasks");
            for what in [0, 7, (1 << TASK_SHIFT) - 1] {
                assert_eq!(Task::of(task.token(what)), (task, what));
            }
        }
    }
}
